/* Changing what is held: downgrade, upgrade, transfer. All under the wait mutex:
 * each can let waiters in or change who waits for whom.
 */
#include "lock_internal.h"

static bool
is_held(const lc_request *request)
{
    return atomic_load_explicit(&request->state, memory_order_relaxed) == LC_HELD;
}

/* Requires: the buckets locked, and something that holds `link`. */
static void
change_mode(lc_table *table, lc_array *array, lc_link *link, lc_mode mode)
{
    lc_bucket *bucket = lc_bucket_of(array, link->key.hash);
    lc_unhold(table, bucket, lc_find(bucket, &link->key), link);
    link->mode = mode;
    lc_hold(table, bucket, lc_find(bucket, &link->key), link);
}

static void
mark_queues(lc_array *array, lc_request *request)
{
    for (uint32_t i = 0; i < request->n_links; i++) {
        lc_link *link = &request->links[i];
        lc_link **where = lc_find(lc_bucket_of(array, link->key.hash), &link->key);
        link->had_queue = (*where)->queue != NULL;
    }
}

lc_status
lc_downgrade(lc_table *table, lc_request *request)
{
    if (request->n_links == 0) {
        return is_held(request) ? LC_OK : LC_NOT_HELD;
    }
    lc_woken woken = {0};
    lc_mutex_lock(&table->wait_mutex);
    lc_array *array = lc_lock_buckets(table, request);
    bool held = is_held(request);
    if (held) {
        for (uint32_t i = 0; i < request->n_links; i++) {
            if (request->links[i].mode == LC_EXCLUSIVE) {
                change_mode(table, array, &request->links[i], LC_SHARED);
            }
        }
        mark_queues(array, request);
    }
    lc_unlock_buckets(table, array, request);
    if (held) {
        lc_open_keys(table, request);
    }
    lc_finish(table, &woken);
    return held ? LC_OK : LC_NOT_HELD;
}

/* ---- owners ---------------------------------------------------------------- */

static lc_owner_box *
new_box(const lc_name *owner)
{
    size_t size = owner == NULL ? sizeof(uint64_t) : owner->id_size;
    lc_owner_box *box = lc_malloc(sizeof(*box) + size);
    if (box != NULL && owner != NULL) {
        lc_copy_name(&box->key, owner, box->bytes);
    }
    return box;
}

/* Requires: the wait mutex. */
static void
make_unique(lc_table *table, lc_owner_box *box)
{
    uint64_t number = ++table->arrivals;
    memcpy(box->bytes, &number, sizeof(number));
    /* Fibonacci hashing: numbers in a row differ in the top bits. */
    box->key = (lc_key){.hash = number * UINT64_C(0x9E3779B97F4A7C15),
                        .bytes = box->bytes,
                        .size = sizeof(number),
                        .shape = LC_UNIQUE};
}

static void
set_owner(lc_request *request, lc_owner_box *box)
{
    box->older = request->owner_is_boxed ? (lc_owner_box *)request->owner : NULL;
    request->owner = &box->key;
    request->owner_is_boxed = true;
}

/* Returns: whether the request may hold what it holds as one of its new owner. */
static bool
fits_among_holders(lc_array *array, const lc_request *request)
{
    for (uint32_t i = 0; i < request->n_links; i++) {
        const lc_link *link = &request->links[i];
        lc_link **where = lc_find(lc_bucket_of(array, link->key.hash), &link->key);
        if (lc_blocked_by_holder(*where, link)) {
            return false;
        }
    }
    return true;
}

/* Requires: the buckets locked. Returns: LC_OK; LC_CONFLICT with nothing changed;
 * LC_NO_MEMORY when `blockers` has no room. */
static lc_status
change_owner(lc_table *table, lc_array *array, lc_request *request, lc_owner_box *box,
             lc_rows *blockers)
{
    lc_key *owner = request->owner;
    request->owner = &box->key;
    lc_status status = LC_OK;
    if (!fits_among_holders(array, request)) {
        status = lc_list_blockers(array, request, 0, blockers) ? LC_CONFLICT : LC_NO_MEMORY;
    }
    request->owner = owner;
    if (status == LC_OK) {
        lc_siblings_must_look(table, request);
        set_owner(request, box);
        mark_queues(array, request);
    }
    return status;
}

static lc_status
transfer_once(lc_table *table, lc_request *request, lc_owner_box *box, bool is_unique,
              lc_rows *blockers)
{
    lc_woken woken = {0};
    lc_status status = LC_NOT_HELD;
    lc_mutex_lock(&table->wait_mutex);
    if (is_unique) {
        make_unique(table, box);
    }
    LC_SYNC("transfer");
    lc_array *array = lc_lock_buckets(table, request);
    if (is_held(request)) {
        status =
            request->n_upgrades > 0 ? LC_BUSY : change_owner(table, array, request, box, blockers);
    }
    lc_unlock_buckets(table, array, request);
    if (status == LC_OK) {
        lc_open_keys(table, request);
        lc_open_siblings(table, request);
    }
    lc_finish(table, &woken);
    return status;
}

/* For a request without keys: nobody but its handle knows it. */
static lc_status
transfer_nothing(lc_table *table, lc_request *request, lc_owner_box *box, bool is_unique)
{
    lc_mutex_lock(&table->wait_mutex);
    lc_status status = is_held(request) ? LC_OK : LC_NOT_HELD;
    if (status == LC_OK) {
        if (is_unique) {
            make_unique(table, box);
        }
        set_owner(request, box);
    }
    lc_mutex_unlock(&table->wait_mutex);
    return status;
}

lc_status
lc_transfer(lc_table *table, lc_request *request, const lc_name *owner, lc_rows *blockers)
{
    lc_owner_box *box = new_box(owner);
    if (box == NULL) {
        return LC_NO_MEMORY;
    }
    lc_status status;
    if (request->n_links == 0) {
        status = transfer_nothing(table, request, box, owner == NULL);
    } else {
        do {
            status = transfer_once(table, request, box, owner == NULL, blockers);
        } while (status == LC_NO_MEMORY && lc_rows_make_room(blockers) == LC_OK);
    }
    if (status != LC_OK) {
        free(box);
    }
    return status;
}

/* ---- upgrades -------------------------------------------------------------- */

lc_status
lc_begin_upgrade(lc_table *table, lc_request *request)
{
    lc_owner_box *box = new_box(NULL);
    if (box == NULL) {
        return LC_NO_MEMORY;
    }
    lc_mutex_lock(&table->wait_mutex);
    lc_array *array = lc_lock_buckets(table, request);
    lc_status status = !is_held(request)   ? LC_NOT_HELD
        : request->n_upgrades == UINT8_MAX ? LC_BUSY
                                           : LC_OK;
    if (status == LC_OK) {
        request->n_upgrades++;
        if (request->owner == NULL) {
            make_unique(table, box);
            set_owner(request, box);
            box = NULL;
        }
    }
    lc_unlock_buckets(table, array, request);
    lc_mutex_unlock(&table->wait_mutex);
    free(box);
    return status;
}

lc_request *
lc_request_upgrade(lc_table *table, const lc_request *request, void *payload)
{
    /* A downgrade may change modes meanwhile. */
    lc_mutex_lock(&table->wait_mutex);
    lc_request *upgrade = lc_copy_shared(request, payload);
    lc_mutex_unlock(&table->wait_mutex);
    return upgrade;
}

static void
move_holds(lc_table *table, lc_array *array, lc_request *request, lc_request *upgrade)
{
    lc_withdraw(table, array, upgrade);
    uint32_t i = 0;
    for (uint32_t j = 0; j < upgrade->n_links; j++) {
        while (!lc_keys_match(&request->links[i].key, &upgrade->links[j].key)) {
            i++; /* both are sorted, and every key of the upgrade is in the request */
        }
        change_mode(table, array, &request->links[i], LC_EXCLUSIVE);
    }
    request->token = upgrade->token;
}

lc_status
lc_end_upgrade(lc_table *table, lc_request *request, lc_request *upgrade)
{
    lc_status status = LC_NOT_HELD;
    lc_mutex_lock(&table->wait_mutex);
    lc_array *array = lc_lock_buckets(table, request);
    request->n_upgrades--;
    LC_SYNC("end-upgrade");
    if (upgrade != NULL && is_held(request) && is_held(upgrade)) {
        move_holds(table, array, request, upgrade);
        if (upgrade->n_links > 0) {
            /* The table's reference. The caller's is the one it was made with. */
            atomic_fetch_sub_explicit(&upgrade->references, 1, memory_order_acq_rel);
        }
        status = LC_OK;
    }
    lc_unlock_buckets(table, array, request);
    lc_mutex_unlock(&table->wait_mutex);
    return status;
}
