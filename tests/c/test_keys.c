/* What is one key and what are two; how a request sorts and copies its keys. */
#include "support.h"

static lc_name
id_of(uint8_t kind, const void *bytes, uint32_t size)
{
    /* One hash for all: they must be told apart by everything else. */
    return (lc_name){.id = bytes, .id_size = size, .id_kind = kind, .hash = 7};
}

static lc_name
grouped(const char *group, const char *id)
{
    lc_name name = id_of(LC_STR1, id, (uint32_t)strlen(id));
    name.group = group;
    name.group_size = (uint32_t)strlen(group);
    name.group_kind = LC_STR1;
    return name;
}

static lc_request *
request_of(lc_name *names, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        names[i].position = i;
    }
    lc_request *request = lc_request_new(names, &n, NULL, NULL);
    CHECK(request != NULL);
    CHECK_INT(request->n_links, n);
    return request;
}

static void
check_keys(lc_name *names, uint32_t n, uint32_t expected)
{
    lc_request *request = request_of(names, n);
    CHECK_INT(request->n_links, expected);
    for (uint32_t i = 1; i < request->n_links; i++) {
        CHECK(!lc_keys_match(&request->links[i - 1].key, &request->links[i].key));
        CHECK(request->links[i - 1].key.hash <= request->links[i].key.hash);
    }
    lc_request_free(request, NULL);
}

TEST(kinds_of_ids_are_apart)
{
    lc_name names[] = {id_of(LC_STR1, "1", 1),
                       id_of(LC_BYTES, "1", 1),
                       id_of(LC_INT, "1", 1),
                       id_of(LC_STR2, "1\0", 2),
                       id_of(LC_STR4, "1\0\0\0", 4),
                       id_of(LC_UUID, "0123456789abcdef", 16),
                       id_of(LC_BYTES, "0123456789abcdef", 16)};
    check_keys(names, 7, 7);
}

TEST(group_and_id_are_not_run_together)
{
    lc_name names[] = {grouped("VM", "1"), grouped("V", "M1"), grouped("VM1", ""),
                       grouped("", "VM1"), id_of(LC_STR1, "VM1", 3)};
    check_keys(names, 5, 5);
}

TEST(equal_keys_are_one)
{
    char first[] = "key", second[] = "key";
    lc_name names[] = {id_of(LC_STR1, first, 3), grouped("g", "key"), id_of(LC_STR1, second, 3),
                       grouped("g", "key")};
    check_keys(names, 4, 2);
}

TEST(empty_ids_are_keys)
{
    lc_name names[] = {id_of(LC_STR1, NULL, 0), id_of(LC_BYTES, NULL, 0), grouped("", "")};
    check_keys(names, 3, 3);
}

TEST(exclusive_wins_over_shared_and_the_first_name_is_the_origin)
{
    for (int order = 0; order < 2; order++) {
        lc_name names[LC_FEW + 1];
        for (uint32_t i = 0; i <= LC_FEW; i++) {
            names[i] = id_of(LC_STR1, "k", 1);
            names[i].mode = (i >= 6) == (order == 0) ? LC_EXCLUSIVE : LC_SHARED;
        }
        /* Few and many keys go different ways. */
        for (uint32_t n = LC_FEW; n <= LC_FEW + 1; n++) {
            lc_name copy[LC_FEW + 1];
            memcpy(copy, names, sizeof(names));
            lc_request *request = request_of(copy, n);
            CHECK_INT(request->n_links, 1);
            CHECK_INT(request->links[0].mode, LC_EXCLUSIVE);
            CHECK_INT(copy[0].position, order == 0 ? 6 : 0);
            lc_request_free(request, NULL);
        }
    }
}

TEST(request_copies_the_bytes_of_its_keys_and_owner)
{
    char group[] = "group", id[] = "id", owner_id[] = "owner";
    lc_name name = grouped(group, id), owner = id_of(LC_STR1, owner_id, 5);
    uint32_t n = 1;
    lc_request *request = lc_request_new(&name, &n, &owner, NULL);
    memset(group, 'x', 5);
    memset(id, 'x', 2);
    memset(owner_id, 'x', 5);
    CHECK(memcmp(request->links[0].key.bytes, "groupid", 7) == 0);
    CHECK(memcmp(request->owner->bytes, "owner", 5) == 0);
    CHECK_INT(request->links[0].key.shape, 5 << 8 | LC_STR1 << 4 | LC_STR1);
    lc_request_free(request, NULL);
}

TEST(copy_of_a_request_is_complete)
{
    int payload;
    lc_request *request = new_request("owner", "a b! g:c");
    lc_request *copy = lc_request_copy(request, &payload);
    CHECK_INT(copy->n_links, 3);
    for (uint32_t i = 0; i < 3; i++) {
        CHECK(lc_keys_match(&copy->links[i].key, &request->links[i].key));
        CHECK(copy->links[i].key.bytes != request->links[i].key.bytes);
        CHECK_INT(copy->links[i].mode, request->links[i].mode);
    }
    CHECK(lc_keys_match(copy->owner, request->owner));
    CHECK(copy->payload == &payload);
    lc_request_free(request, NULL);
    CHECK(memcmp(copy->owner->bytes, "owner", 5) == 0);
    lc_request_free(copy, NULL);
}

TABLE_TEST(upgrade_of_a_request_has_its_shared_keys_exclusive)
{
    lc_request *request = new_request("owner", "a b! g:c");
    lc_request *upgrade = lc_copy_shared(request, NULL);
    CHECK_INT(upgrade->n_links, 2);
    for (uint32_t i = 0; i < 2; i++) {
        CHECK_INT(upgrade->links[i].mode, LC_EXCLUSIVE);
        CHECK_INT(upgrade->links[i].index, i);
    }
    CHECK(lc_keys_match(upgrade->owner, request->owner));
    lc_request_free(upgrade, NULL);
    lc_request_free(request, NULL);
}

TEST(sort_of_many_keys_is_by_hash_and_keeps_all)
{
    enum { N = 3000 };
    static lc_name names[N];
    static uint32_t ids[N];
    static const uint32_t sizes[] = {2, LC_FEW, LC_FEW + 2, 100, 1024, N};
    static const uint32_t hashes[] = {97, 1024, UINT32_MAX}; /* so many different ones */
    for (unsigned round = 0; round < 18; round++) {
        uint32_t n = sizes[round % 6], n_hashes = hashes[round / 6];
        for (uint32_t i = 0; i < n; i++) {
            ids[i] = i % (n / 2);
            names[i] = id_of(LC_INT, &ids[i], sizeof(ids[i]));
            names[i].hash = (ids[i] % n_hashes) * UINT64_C(0x9E3779B97F4A7C15);
            names[i].mode = i % 7 == 0 ? LC_EXCLUSIVE : LC_SHARED;
        }
        check_keys(names, n, n / 2);
        for (uint32_t i = 0; i < n / 2; i++) {
            uint32_t first = names[i].position % (n / 2), second = first + n / 2;
            bool takes_second =
                names[first].mode == LC_SHARED && names[second].mode == LC_EXCLUSIVE;
            CHECK_INT(names[i].position, takes_second ? second : first);
        }
    }
}

TABLE_TEST(keys_with_one_hash_do_not_meet)
{
    lc_name names[] = {id_of(LC_STR1, "1", 1), id_of(LC_BYTES, "1", 1), id_of(LC_INT, "1", 1),
                       grouped("", "1"),       grouped("1", ""),        id_of(LC_STR1, "", 0)};
    lc_request *requests[6];
    for (int i = 0; i < 6; i++) {
        names[i].mode = LC_EXCLUSIVE;
        requests[i] = request_of(&names[i], 1);
        CHECK_INT(lc_try_acquire(table, requests[i]), LC_OK);
    }
    CHECK_INT(lc_count_held(table), 6);
    for (int i = 0; i < 6; i++) {
        CHECK_INT(lc_release(table, requests[i]), LC_OK);
        lc_request_free(requests[i], NULL);
    }
}
