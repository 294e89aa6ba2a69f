/* Spare requests: memory that is used again, and never by two. */
#include "support.h"

static lc_request *
request_of(const char *id, uint32_t n, const char *owner, lc_spares *spares)
{
    lc_name names[LC_SPARE_LINKS + 1] = {0};
    for (uint32_t i = 0; i < n; i++) {
        names[i] = (lc_name){.id = id,
                             .id_size = (uint32_t)strlen(id),
                             .id_kind = LC_STR1,
                             .hash = (uint64_t)(n - i) << 40,
                             .mode = LC_EXCLUSIVE};
    }
    lc_name name_of_owner = {0};
    if (owner != NULL) {
        name_of_owner = (lc_name){
            .id = owner, .id_size = (uint32_t)strlen(owner), .id_kind = LC_STR1, .hash = 9};
    }
    lc_request *request = lc_request_new(names, &n, owner != NULL ? &name_of_owner : NULL, spares);
    CHECK(request != NULL);
    CHECK_INT(request->n_links, n);
    for (uint32_t i = 0; i < n; i++) {
        CHECK_INT(request->links[i].key.size, strlen(id));
        CHECK(memcmp(request->links[i].key.bytes, id, strlen(id)) == 0);
    }
    CHECK((request->owner != NULL) == (owner != NULL));
    CHECK_INT(request->token, 0);
    CHECK_INT(lc_request_state(request), LC_NEW);
    return request;
}

static void
drain(lc_spares *spares)
{
    for (uint32_t n = 0; n <= LC_SPARE_LINKS; n++) {
        for (lc_request *request = spares->of[n].first, *next; request != NULL; request = next) {
            next = request->below;
            spares->of[n].n--;
            free(request);
        }
        CHECK_INT(spares->of[n].n, 0);
    }
}

TEST(freed_request_is_the_next_new_one_of_as_many_keys)
{
    lc_spares spares = {0};
    lc_request *one = request_of("vm-1", 1, NULL, &spares);
    lc_request *two = request_of("vm-1", 2, NULL, &spares);
    lc_request_free(one, &spares);
    lc_request_free(two, &spares);
    CHECK(request_of("vm-2", 2, NULL, &spares) == two);
    CHECK(request_of("vm-2", 1, NULL, &spares) == one);
    lc_request *third = request_of("vm-2", 1, NULL, &spares);
    CHECK(third != one);
    lc_request_free(one, &spares);
    lc_request_free(two, &spares);
    lc_request_free(third, &spares);
    drain(&spares);
}

TEST(spare_request_forgets_what_it_was)
{
    lc_table *own = lc_table_new();
    lc_spares spares = {0};
    lc_request *request = request_of("a-very-long-name-of-a-key", 1, "me", &spares);
    CHECK_INT(lc_try_acquire(own, request), LC_OK);
    CHECK_INT(lc_release(own, request), LC_OK);
    CHECK(lc_request_drop(request));
    lc_request_free(request, &spares);
    CHECK(request_of("k", 1, NULL, &spares) == request);
    lc_request_free(request, NULL);
    CHECK(lc_table_free(own) == NULL);
}

TEST(spare_request_that_is_too_small_makes_way)
{
    lc_spares spares = {0};
    lc_request_free(request_of("k", 1, NULL, &spares), &spares);
    lc_request *large = request_of("a-name-much-longer-than-the-first-was", 1, NULL, &spares);
    CHECK_INT(spares.of[1].n, 0);
    lc_request_free(large, &spares);
    CHECK(request_of("k", 1, NULL, &spares) == large);
    lc_request_free(large, NULL);
}

TEST(spares_are_few_and_small)
{
    enum { MANY = LC_MANY_SPARES + 10 };
    static lc_request *requests[MANY];
    static char long_id[LC_SPARE_SIZE + 1];
    lc_spares spares = {0};
    for (int i = 0; i < MANY; i++) {
        requests[i] = request_of("vm", 1, NULL, &spares);
    }
    for (int i = 0; i < MANY; i++) {
        lc_request_free(requests[i], &spares);
    }
    CHECK_INT(spares.of[1].n, LC_MANY_SPARES);
    memset(long_id, 'x', LC_SPARE_SIZE);
    lc_request_free(request_of(long_id, 2, NULL, &spares), &spares);
    CHECK_INT(spares.of[2].n, 0);
    lc_request_free(request_of("vm", LC_SPARE_LINKS, NULL, &spares), &spares);
    CHECK_INT(spares.of[LC_SPARE_LINKS].n, 1);
    drain(&spares);
}
