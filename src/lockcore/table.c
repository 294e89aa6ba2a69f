/* Tables: made, resized, guarded, emptied, freed. */
#include "lock_internal.h"

/* ---- the array of buckets -------------------------------------------------- */

static size_t
array_bytes(const lc_array *array)
{
    return sizeof(lc_bucket) << array->bits;
}

/* Returns: the array for so many bits with empty, open buckets, or NULL. */
static lc_array *
get_array(lc_table *table, unsigned bits)
{
    lc_array *array = &table->arrays[bits];
    if (array->buckets == NULL) {
        array->bits = bits; /* only now: who was late still reads a retired array's */
        array->buckets = lc_pages_new(array_bytes(array));
    }
    return array->buckets != NULL ? array : NULL;
}

/* Opens every mutex of an array that is no longer current, and gives its memory
 * back. A thread that still waits for one of them gets it, sees that the array
 * is not current, and leaves; so the addresses must stay valid. */
static void
retire(lc_array *array)
{
    /* Discarding is unlocking: the pages read as zero, and zero is an open mutex
     * of an empty bucket. We hold all of them, so nobody's lock is lost. */
    if (lc_pages_discard(array->buckets, array_bytes(array))) {
        return;
    }
    for (size_t i = 0; i < (size_t)1 << array->bits; i++) {
        lc_bucket *bucket = &array->buckets[i];
        bucket->n = 0;
        bucket->more = NULL;
        lc_mutex_unlock(&bucket->mutex);
    }
}

void
lc_resize(lc_table *table)
{
    lc_mutex_lock(&table->wait_mutex);
    atomic_store_explicit(&table->resize_is_due, false, memory_order_relaxed);
    lc_array *old = atomic_load_explicit(&table->array, memory_order_relaxed);
    long sampled = atomic_load_explicit(&table->sampled_keys, memory_order_relaxed);
    /* At most two keys a bucket: room to grow and to shrink until the next time. */
    unsigned bits = LC_MIN_BITS;
    while (bits < LC_MAX_BITS && (2L << bits) < sampled * LC_SAMPLING) {
        bits++;
    }
    lc_array *array = bits != old->bits ? get_array(table, bits) : NULL;
    if (array != NULL) {
        lc_lock_table(table);
        atomic_store_explicit(&table->sampled_keys, 0, memory_order_relaxed);
        for (size_t i = 0; i < (size_t)1 << old->bits; i++) {
            lc_bucket *bucket = &old->buckets[i];
            for (unsigned j = 0; j < bucket->n; j++) {
                lc_link *head = bucket->heads[j];
                lc_add_head(table, lc_bucket_of(array, head->key.hash), head);
            }
            for (lc_link *head = bucket->more, *next; head != NULL; head = next) {
                next = head->chain;
                lc_add_head(table, lc_bucket_of(array, head->key.hash), head);
            }
        }
        /* Release: the new buckets are complete before anyone can find them. */
        atomic_store_explicit(&table->array, array, memory_order_release);
        retire(old);
        atomic_store_explicit(&table->resize_is_due, false, memory_order_relaxed);
    }
    lc_mutex_unlock(&table->wait_mutex);
    if (array != NULL && bits < old->bits && old->bits >= LC_TRIM_BITS) {
        /* Hundreds of thousands of requests are gone; let their memory go, too. */
        lc_trim_memory();
    }
}

/* ---- the table ------------------------------------------------------------- */

lc_table *
lc_table_new(void)
{
    lc_table *table = lc_malloc(sizeof(*table));
    if (table == NULL) {
        return NULL;
    }
    memset(table, 0, sizeof(*table));
    lc_array *array = get_array(table, LC_MIN_BITS);
    if (array == NULL) {
        free(table);
        return NULL;
    }
    atomic_init(&table->array, array);
    atomic_init(&table->n_unguarded, 1);
    lc_register_table(table);
    return table;
}

static void
change_unguarded(lc_table *table, unsigned change)
{
    /* No read-modify-write: the callers' mutex is held. */
    unsigned n = atomic_load_explicit(&table->n_unguarded, memory_order_relaxed);
    atomic_store_explicit(&table->n_unguarded, n + change, memory_order_relaxed);
}

void
lc_table_guard(lc_table *table)
{
    change_unguarded(table, -1u);
}

void
lc_table_unguard(lc_table *table)
{
    change_unguarded(table, 1);
}

static void
add_ended(lc_request **ended, lc_request *request)
{
    /* SAFETY: its links are nowhere now, so this one's chain is ours. */
    request->links[0].chain = *ended == NULL ? NULL : &(*ended)->links[0];
    *ended = request;
}

lc_request *
lc_table_empty(lc_table *table)
{
    lc_request *ended = NULL;
    lc_woken waited = {0};
    lc_end_waits(table, LC_ENDED, &waited);
    for (lc_request *request = waited.first; request != NULL;
         request = request->waiter->next_woken) {
        add_ended(&ended, request);
    }
    lc_array *array = atomic_load_explicit(&table->array, memory_order_relaxed);
    for (size_t i = 0; i < (size_t)1 << array->bits; i++) {
        lc_bucket *bucket = &array->buckets[i];
        while (bucket->n > 0) {
            lc_link *head = bucket->heads[0];
            lc_request *request = lc_request_of(head);
            lc_unhold(table, bucket, &bucket->heads[0], head);
            atomic_store_explicit(&request->state, LC_ENDED, memory_order_relaxed);
            if (head->index == 0) {
                add_ended(&ended, request);
            }
        }
    }
    for (unsigned bits = 0; bits <= LC_MAX_BITS; bits++) {
        lc_array *other = &table->arrays[bits];
        if (other != array && other->buckets != NULL) {
            /* A thread of the parent may have been about to leave it, with a mutex. */
            retire(other);
        }
    }
    return ended;
}

lc_request *
lc_next_ended(const lc_request *request)
{
    const lc_link *next = request->links[0].chain;
    return next == NULL ? NULL : lc_request_of(next);
}

lc_request *
lc_table_free(lc_table *table)
{
    lc_unregister_table(table);
    lc_request *ended = lc_table_empty(table);
    for (unsigned bits = 0; bits <= LC_MAX_BITS; bits++) {
        if (table->arrays[bits].buckets != NULL) {
            lc_pages_free(table->arrays[bits].buckets, array_bytes(&table->arrays[bits]));
        }
    }
    free(table);
    return ended;
}

bool
lc_table_is_closed(lc_table *table)
{
    return atomic_load_explicit(&table->closed, memory_order_acquire);
}
