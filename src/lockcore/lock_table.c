/* Buckets' mutexes, and the path of requests that need not wait. */
#include "lock_internal.h"

/* ---- mutexes of several buckets -------------------------------------------- */

static inline lc_bucket *
lock_bucket(lc_table *table, uint64_t hash)
{
    for (;;) {
        /* Acquire: pairs with the publication in lc_resize(). */
        lc_array *array = atomic_load_explicit(&table->array, memory_order_acquire);
        lc_bucket *bucket = lc_bucket_of(array, hash);
        LC_SYNC("bucket-chosen");
        lc_lock(table, bucket);
        /* A resize holds every mutex of the array it replaces, so an array that is
         * current under one of its mutexes stays so. */
        if (LC_LIKELY(array == atomic_load_explicit(&table->array, memory_order_acquire))) {
            return bucket;
        }
        lc_unlock(table, bucket);
    }
}

lc_bucket *
lc_lock_bucket(lc_table *table, uint64_t hash)
{
    return lock_bucket(table, hash);
}

lc_array *
lc_lock_buckets(lc_table *table, const lc_request *request)
{
    if (LC_UNLIKELY(request->n_links == 0) || lc_is_guarded(table)) {
        return atomic_load_explicit(&table->array, memory_order_acquire);
    }
    lc_bucket *bucket = lock_bucket(table, request->links[0].key.hash);
    lc_array *array = atomic_load_explicit(&table->array, memory_order_relaxed);
    for (uint32_t i = 1; i < request->n_links; i++) {
        lc_bucket *next = lc_bucket_of(array, request->links[i].key.hash);
        if (next != bucket) {
            bucket = next;
            lc_mutex_lock(&bucket->mutex);
        }
    }
    return array;
}

void
lc_unlock_buckets(const lc_table *table, lc_array *array, const lc_request *request)
{
    if (lc_is_guarded(table)) {
        return;
    }
    lc_bucket *bucket = NULL;
    for (uint32_t i = 0; i < request->n_links; i++) {
        lc_bucket *next = lc_bucket_of(array, request->links[i].key.hash);
        if (next != bucket) {
            bucket = next;
            lc_mutex_unlock(&bucket->mutex);
        }
    }
}

lc_array *
lc_lock_table(lc_table *table)
{
    lc_bucket *bucket = lock_bucket(table, 0);
    lc_array *array = atomic_load_explicit(&table->array, memory_order_relaxed);
    lc_bucket *end = array->buckets + ((size_t)1 << array->bits);
    while (++bucket < end) {
        lc_lock(table, bucket);
    }
    return array;
}

void
lc_unlock_table(const lc_table *table, lc_array *array)
{
    for (size_t i = 0; i < (size_t)1 << array->bits; i++) {
        lc_unlock(table, &array->buckets[i]);
    }
}

/* ---- granting and releasing ------------------------------------------------ */

static inline uint64_t
next_token(lc_table *table)
{
    if (!lc_is_guarded(table)) {
        return atomic_fetch_add_explicit(&table->grants, 1, memory_order_relaxed) + 1;
    }
    uint64_t token = atomic_load_explicit(&table->grants, memory_order_relaxed) + 1;
    atomic_store_explicit(&table->grants, token, memory_order_relaxed);
    return token;
}

/* Requires: the mutexes of its buckets, if it has keys. Keeps: tokens of one key
 * grow in the order of its grants. */
static inline void
mark_granted(lc_table *table, lc_request *request, int64_t now)
{
    request->token = next_token(table);
    request->since = now;
    atomic_store_explicit(&request->state, LC_HELD, memory_order_release);
}

void
lc_expect_grant(lc_table *table)
{
    LC_PREFETCH_TO_WRITE(&table->grants);
}

/* Makes the link the only one at its key. */
static inline void
hold_free_key(lc_table *table, lc_bucket *bucket, lc_link *link)
{
    link->place = LC_HOLDING;
    link->next = link->prev = link->queue = NULL;
    lc_add_head(table, bucket, link);
    lc_check_bucket(bucket);
}

/* Returns: where the bucket keeps the link, if it holds the key and nobody else holds
 * or wants it; or NULL. Does not look into overfull buckets' chains. */
static inline lc_link **
find_lone_link(lc_bucket *bucket, const lc_link *link)
{
    for (unsigned i = 0; i < bucket->n; i++) {
        /* A waiter that is a head has a queue: itself. */
        if (bucket->heads[i] == link && link->next == NULL && link->queue == NULL) {
            return &bucket->heads[i];
        }
    }
    return NULL;
}

static inline void
drop_lone_link(lc_table *table, lc_bucket *bucket, lc_link **where, lc_link *link)
{
    lc_drop_head(table, bucket, where);
    link->place = LC_NOWHERE;
    lc_check_bucket(bucket);
}

void
lc_grant(lc_table *table, lc_array *array, lc_request *request, int64_t now)
{
    for (uint32_t i = 0; i < request->n_links; i++) {
        lc_link *link = &request->links[i];
        lc_bucket *bucket = lc_bucket_of(array, link->key.hash);
        lc_hold(table, bucket, lc_find(bucket, &link->key), link);
    }
    mark_granted(table, request, now);
}

void
lc_withdraw(lc_table *table, lc_array *array, lc_request *request)
{
    for (uint32_t i = 0; i < request->n_links; i++) {
        lc_link *link = &request->links[i];
        lc_bucket *bucket = lc_bucket_of(array, link->key.hash);
        lc_link **where = lc_find(bucket, &link->key);
        bool had_queue = (*where)->queue != NULL;
        if (link->had_queue != had_queue) {
            /* Never without the wait mutex: then no key has a queue, and whoever has that
             * mutex and reads this has written the same. */
            link->had_queue = had_queue;
        }
        lc_unhold(table, bucket, where, link);
    }
    atomic_store_explicit(&request->state, LC_ENDED, memory_order_release);
}

/* Gives the table's own reference to a request that ended back. */
static inline void
drop_table_reference(lc_request *request)
{
    /* Only the table's and the handle's are left, and nobody can find the request
     * any more to take another: a plain store does. */
    if (LC_LIKELY(atomic_load_explicit(&request->references, memory_order_acquire) == 2)) {
        atomic_store_explicit(&request->references, 1, memory_order_relaxed);
    } else {
        atomic_fetch_sub_explicit(&request->references, 1, memory_order_acq_rel);
    }
}

/* ---- the common shape: a few keys, with nobody else at them -----------------
 *
 * `n` is the request's n_links, passed so that the compiler makes versions for 1 and 2.
 */

/* Locks the buckets of a request of at most LC_FEW keys, in order. */
static LC_ALWAYS_INLINE void
lock_few(lc_table *table, const lc_request *request, uint32_t n, lc_bucket **buckets)
{
    if (n > 1) {
        /* A hint only, should the array change; then the lines come one by one. */
        const lc_array *array = atomic_load_explicit(&table->array, memory_order_acquire);
        for (uint32_t i = 0; i < n; i++) {
            LC_PREFETCH_TO_WRITE(lc_bucket_of(array, request->links[i].key.hash));
        }
    }
    buckets[0] = lock_bucket(table, request->links[0].key.hash);
    if (n > 1) {
        const lc_array *array = atomic_load_explicit(&table->array, memory_order_relaxed);
        for (uint32_t i = 1; i < n; i++) {
            buckets[i] = lc_bucket_of(array, request->links[i].key.hash);
            if (LC_LIKELY(buckets[i] != buckets[i - 1])) {
                lc_lock(table, buckets[i]);
            }
        }
    }
}

static LC_ALWAYS_INLINE void
unlock_few(const lc_table *table, uint32_t n, lc_bucket **buckets)
{
    for (uint32_t i = 0; i < n; i++) {
        if (LC_LIKELY(i == 0 || buckets[i] != buckets[i - 1])) {
            lc_unlock(table, buckets[i]);
        }
    }
}

/* Returns: false when some key is held or wanted; nothing has changed. */
static LC_ALWAYS_INLINE bool
acquire_free_keys(lc_table *table, lc_request *request, uint32_t n, int64_t now)
{
    lc_bucket *buckets[LC_FEW];
    bool are_free = true;
    lock_few(table, request, n, buckets);
    for (uint32_t i = 0; i < n && are_free; i++) {
        are_free = lc_find(buckets[i], &request->links[i].key) == NULL;
    }
    if (LC_LIKELY(are_free)) {
        for (uint32_t i = 0; i < n; i++) {
            hold_free_key(table, buckets[i], &request->links[i]);
        }
        mark_granted(table, request, now);
    }
    unlock_few(table, n, buckets);
    return are_free;
}

/* Returns: false when somebody else holds or wants some key, or the request does not
 * hold it; nothing has changed. */
static LC_ALWAYS_INLINE bool
release_lone_keys(lc_table *table, lc_request *request, uint32_t n)
{
    lc_bucket *buckets[LC_FEW];
    lc_link **wheres[LC_FEW];
    bool are_alone = true;
    lock_few(table, request, n, buckets);
    for (uint32_t i = 0; i < n && are_alone; i++) {
        wheres[i] = find_lone_link(buckets[i], &request->links[i]);
        are_alone = wheres[i] != NULL;
    }
    if (LC_LIKELY(are_alone)) {
        for (uint32_t i = 0; i < n; i++) {
            lc_link *link = &request->links[i];
            if (LC_UNLIKELY(i > 0 && buckets[i] == buckets[i - 1])) {
                wheres[i] = find_lone_link(buckets[i], link); /* it may have moved */
            }
            drop_lone_link(table, buckets[i], wheres[i], link);
        }
        atomic_store_explicit(&request->state, LC_ENDED, memory_order_release);
    }
    unlock_few(table, n, buckets);
    return are_alone;
}

/* ---- any shape -------------------------------------------------------------- */

/* Returns: LC_OK with everything held; LC_CONFLICT; or LC_QUEUED with nothing
 * changed when it could be granted, but past somebody's queue: the slow path's. */
static lc_status
acquire_keys(lc_table *table, lc_request *request, int64_t now)
{
    lc_status status = LC_OK;
    lc_array *array = lc_lock_buckets(table, request);
    for (uint32_t i = 0; i < request->n_links; i++) {
        const lc_link *link = &request->links[i];
        lc_link **where = lc_find(lc_bucket_of(array, link->key.hash), &link->key);
        if (where == NULL) {
            continue;
        }
        if (lc_blocked_by_holder(*where, link)
            || lc_blocked_by_waiter(*where, link, UINT64_MAX) != NULL) {
            status = LC_CONFLICT;
            break;
        }
        if ((*where)->queue != NULL) {
            status = LC_QUEUED;
        }
    }
    if (status == LC_OK) {
        lc_grant(table, array, request, now);
    }
    lc_unlock_buckets(table, array, request);
    return status;
}

static lc_status
try_acquire(lc_table *table, lc_request *request)
{
    if (LC_UNLIKELY(atomic_load_explicit(&table->closed, memory_order_relaxed))) {
        return LC_CLOSED;
    }
    int64_t now = lc_now_coarse();
    if (LC_UNLIKELY(request->n_links == 0)) {
        mark_granted(table, request, now);
        return LC_OK;
    }
    /* The table's reference. Nobody else knows the request yet. */
    atomic_store_explicit(&request->references, 2, memory_order_relaxed);
    uint32_t n = request->n_links;
    if (n == 1       ? acquire_free_keys(table, request, 1, now)
            : n == 2 ? acquire_free_keys(table, request, 2, now)
                     : n <= LC_FEW && acquire_free_keys(table, request, n, now)) {
        return LC_OK;
    }
    lc_status status = acquire_keys(table, request, now);
    if (status != LC_OK) {
        atomic_store_explicit(&request->references, 1, memory_order_relaxed);
    }
    return status;
}

lc_status
lc_try_acquire(lc_table *table, lc_request *request)
{
    lc_status status = try_acquire(table, request);
    if (LC_UNLIKELY(status == LC_QUEUED)) {
        status = lc_acquire_slow(table, request, NULL, NULL);
    }
    if (LC_UNLIKELY(status == LC_CONFLICT)) {
        lc_count_refusal(table);
    }
    lc_resize_if_due(table);
    return status;
}

lc_status
lc_acquire(lc_table *table, lc_request *request, lc_waiter *waiter, lc_rows *blockers)
{
    lc_status status = try_acquire(table, request);
    if (LC_UNLIKELY(status == LC_QUEUED || status == LC_CONFLICT)) {
        LC_SYNC("acquire-refused");
        if (status == LC_QUEUED || waiter != NULL || blockers != NULL) {
            status = lc_acquire_slow(table, request, waiter, blockers);
        }
    }
    lc_resize_if_due(table);
    return status;
}

lc_status
lc_queue(lc_table *table, lc_request *request, lc_waiter *waiter)
{
    lc_status status = lc_acquire_slow(table, request, waiter, NULL);
    lc_resize_if_due(table);
    return status;
}

static lc_status
release_no_keys(lc_request *request)
{
    unsigned char held = LC_HELD;
    return atomic_compare_exchange_strong_explicit(&request->state, &held, LC_ENDED,
                                                   memory_order_acq_rel, memory_order_relaxed)
        ? LC_OK
        : LC_NOT_HELD;
}

/* Returns: LC_OK; LC_NOT_HELD; or LC_QUEUED with nothing changed when somebody waits:
 * the slow path's. */
static lc_status
release_keys(lc_table *table, lc_request *request)
{
    lc_status status = LC_OK;
    lc_array *array = lc_lock_buckets(table, request);
    if (LC_UNLIKELY(atomic_load_explicit(&request->state, memory_order_relaxed) != LC_HELD)) {
        status = LC_NOT_HELD;
    }
    for (uint32_t i = 0; i < request->n_links && status == LC_OK; i++) {
        const lc_key *key = &request->links[i].key;
        if ((*lc_find(lc_bucket_of(array, key->hash), key))->queue != NULL) {
            status = LC_QUEUED;
        }
    }
    if (status == LC_OK) {
        lc_withdraw(table, array, request);
    }
    lc_unlock_buckets(table, array, request);
    return status;
}

lc_status
lc_release(lc_table *table, lc_request *request)
{
    if (LC_UNLIKELY(request->n_links == 0)) {
        return release_no_keys(request);
    }
    uint32_t n = request->n_links;
    if (n == 1       ? release_lone_keys(table, request, 1)
            : n == 2 ? release_lone_keys(table, request, 2)
                     : n <= LC_FEW && release_lone_keys(table, request, n)) {
        drop_table_reference(request);
        lc_resize_if_due(table);
        return LC_OK;
    }
    lc_status status = release_keys(table, request);
    if (LC_UNLIKELY(status == LC_QUEUED)) {
        LC_SYNC("release-slow");
        status = lc_release_slow(table, request);
    }
    if (LC_LIKELY(status == LC_OK)) {
        drop_table_reference(request);
    }
    lc_resize_if_due(table);
    return status;
}
