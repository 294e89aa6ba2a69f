/* Every allocation of every operation fails once: nothing is lost, leaked or left half done. */
#include "support.h"

static long failing;    /* the how-many-th allocation from now on fails */
static long allocations;

static void *
failing_malloc(size_t size)
{
    return ++allocations == failing ? NULL : malloc(size);
}

static lc_waiter *
make_waiter(void)
{
    /* The caller's to allocate, so it is not in the count. */
    lc_waiter *waiter = calloc(1, sizeof(*waiter));
    CHECK(waiter != NULL);
    return waiter;
}

static int wakes;

static void
wake(lc_request *request)
{
    wakes++;
    CHECK(!lc_request_drop(request));
}

static lc_request *
request_of(const char *owner, const char *id, lc_mode mode)
{
    lc_name name = name_of(id), owner_name = name_of(owner);
    name.mode = (uint8_t)mode;
    uint32_t n = 1;
    return lc_request_new(&name, &n, &owner_name, NULL);
}

static void
end(lc_request *request)
{
    if (request == NULL) {
        return;
    }
    if (lc_request_state(request) == LC_WAITING) {
        CHECK_INT(lc_cancel(table, request, false, NULL), LC_CONFLICT);
    }
    if (lc_request_state(request) == LC_HELD) {
        CHECK_INT(lc_release(table, request), LC_OK);
    }
    CHECK_INT(atomic_load(&request->references), 1);
    CHECK(lc_request_drop(request));
    lc_request_free(request, NULL);
}

static lc_request *
hold(const char *owner, const char *id, lc_mode mode)
{
    lc_request *request = request_of(owner, id, mode);
    if (request != NULL) {
        CHECK_INT(lc_try_acquire(table, request), LC_OK);
    }
    return request;
}

/* The request, waiting; NULL without memory for it. */
static lc_request *
wait_for(const char *owner, const char *id, lc_mode mode)
{
    lc_request *request = request_of(owner, id, mode);
    if (request == NULL) {
        return NULL;
    }
    lc_waiter *waiter = make_waiter();
    waiter->wake = wake;
    lc_status status = lc_acquire(table, request, waiter, NULL);
    CHECK(status == LC_OK || status == LC_QUEUED);
    if (status == LC_OK) {
        free(waiter);
    }
    return request;
}

static void
refuse_with_blockers(void)
{
    lc_request *request = request_of("z", "a", LC_EXCLUSIVE);
    if (request == NULL) {
        return;
    }
    lc_rows rows = {0};
    lc_status status = lc_acquire(table, request, NULL, &rows);
    CHECK(status == LC_CONFLICT || status == LC_NO_MEMORY || status == LC_OK);
    if (status == LC_NO_MEMORY) {
        CHECK_INT(rows.n, 0);
    }
    lc_rows_clear(&rows, dispose);
    end(request);
}

static void
cancel_with_blockers(void)
{
    lc_request *request = wait_for("z", "a", LC_EXCLUSIVE);
    if (request != NULL && lc_request_state(request) == LC_WAITING) {
        lc_rows rows = {0};
        lc_status status = lc_cancel(table, request, true, &rows);
        CHECK(status == LC_CONFLICT || status == LC_NO_MEMORY);
        CHECK_INT(lc_request_state(request), LC_ENDED); /* it has left in any case */
        lc_rows_clear(&rows, dispose);
    }
    end(request);
}

static void
list_everything(void)
{
    char long_key[300];
    memset(long_key, 'k', sizeof(long_key) - 1);
    long_key[sizeof(long_key) - 1] = '\0';
    const char *keys[] = {"a", long_key};
    for (int i = 0; i < 2; i++) {
        lc_name key = name_of(keys[i]);
        lc_rows rows = {0};
        lc_status status = lc_list_key(table, &key, &rows);
        CHECK(status == LC_OK || (status == LC_NO_MEMORY && rows.n == 0));
        lc_rows_clear(&rows, dispose);
        status = lc_list_holders(table, &key, &rows);
        CHECK(status == LC_OK || (status == LC_NO_MEMORY && rows.n == 0));
        lc_rows_clear(&rows, dispose);
    }
    lc_rows rows = {0};
    lc_status status = lc_list_holders(table, NULL, &rows);
    CHECK(status == LC_OK || (status == LC_NO_MEMORY && rows.n == 0));
    if (status == LC_OK) {
        lc_release_rows(table, &rows, false);
    }
    lc_rows_clear(&rows, dispose);
}

static void
transfer_around(lc_request *request)
{
    lc_name names[] = {name_of("t"), name_of("x")};
    for (int i = 0; i < 3 && request != NULL; i++) {
        lc_rows rows = {0};
        lc_key *before = request->owner;
        lc_status status = lc_transfer(table, request, i < 2 ? &names[i] : NULL, &rows);
        CHECK(status == LC_OK || status == LC_NO_MEMORY || status == LC_CONFLICT);
        CHECK_INT(request->owner != before, status == LC_OK);
        CHECK_INT(lc_request_state(request), LC_HELD);
        lc_rows_clear(&rows, dispose);
    }
}

static void
upgrade(lc_request *request)
{
    if (request == NULL) {
        return;
    }
    lc_status status = lc_begin_upgrade(table, request);
    CHECK(status == LC_OK || status == LC_NO_MEMORY);
    if (status == LC_NO_MEMORY) {
        CHECK_INT(request->n_upgrades, 0);
        return;
    }
    lc_request *more = lc_request_upgrade(table, request, NULL);
    if (more == NULL || lc_try_acquire(table, more) != LC_OK) {
        lc_end_upgrade(table, request, NULL);
    } else {
        CHECK_INT(lc_end_upgrade(table, request, more), LC_OK);
        CHECK_INT(request->links[0].mode, LC_EXCLUSIVE);
    }
    CHECK_INT(request->n_upgrades, 0);
    end(more);
}

static void
deadlock(void)
{
    lc_request *held[] = {hold("x", "c", LC_EXCLUSIVE), hold("y", "d", LC_EXCLUSIVE)};
    lc_request *waiting[] = {wait_for("x", "d", LC_EXCLUSIVE), wait_for("y", "c", LC_EXCLUSIVE)};
    if (held[0] != NULL && held[1] != NULL && waiting[0] != NULL && waiting[1] != NULL) {
        lc_rows cycle = {0};
        lc_status status = lc_break_deadlock(table, waiting[1], &cycle);
        CHECK(status == LC_DEADLOCK || status == LC_NO_MEMORY);
        CHECK_INT(lc_request_state(waiting[1]), status == LC_DEADLOCK ? LC_ENDED : LC_WAITING);
        CHECK_INT(cycle.n, status == LC_DEADLOCK ? 4 : 0);
        lc_rows_clear(&cycle, dispose);
    }
    for (int i = 0; i < 2; i++) {
        end(waiting[i]);
        end(held[i]);
    }
}

static void
do_everything(void)
{
    lc_request *a = hold("x", "a", LC_SHARED), *b = hold("y", "a", LC_SHARED);
    lc_request *copy = a == NULL ? NULL : lc_request_copy(a, NULL);
    refuse_with_blockers();
    cancel_with_blockers();
    transfer_around(b);
    end(b);
    upgrade(a);
    deadlock();
    list_everything();
    end(a);
    end(copy);
}

TEST(table_without_memory_is_not_made)
{
    lc_malloc_hook = failing_malloc;
    failing = 1;
    CHECK(lc_table_new() == NULL);
}

TEST(every_allocation_may_fail)
{
    lc_malloc_hook = failing_malloc;
    failing = 0;
    begin();
    allocations = 0;
    do_everything();
    finish();
    long needed = allocations;
    CHECK(needed > 20);
    begin();
    for (failing = 1; failing <= needed; failing++) {
        allocations = 0;
        do_everything();
        CHECK(allocations >= failing);
        CHECK_INT(lc_count_held(table), 0);
        CHECK_INT(table->n_waiting, 0);
    }
    finish();
}
