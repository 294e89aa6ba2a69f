/* Copying out who holds and who waits. */
#include "lock_internal.h"

lc_status
lc_rows_reserve(lc_rows *rows, size_t capacity)
{
    if (capacity <= rows->capacity) {
        return LC_OK;
    }
    lc_row *grown = lc_malloc(capacity * sizeof(lc_row));
    if (grown == NULL) {
        return LC_NO_MEMORY;
    }
    if (rows->n > 0) {
        memcpy(grown, rows->rows, rows->n * sizeof(lc_row));
    }
    free(rows->rows);
    rows->rows = grown;
    rows->capacity = capacity;
    return LC_OK;
}

lc_status
lc_rows_make_room(lc_rows *rows)
{
    size_t needed = rows->n;
    rows->n = 0;
    return lc_rows_reserve(rows, needed + needed / 4);
}

void
lc_rows_clear(lc_rows *rows, void (*dispose)(lc_request *request))
{
    for (size_t i = 0; i < rows->n; i++) {
        if (lc_request_drop(rows->rows[i].request)) {
            dispose(rows->rows[i].request);
        }
    }
    free(rows->rows);
    rows->rows = NULL;
    rows->n = rows->capacity = 0;
}

void
lc_set_row(lc_row *row, const lc_link *link)
{
    lc_request *request = lc_request_of(link);
    /* Relaxed: the table's reference keeps it alive while we take ours. */
    atomic_fetch_add_explicit(&request->references, 1, memory_order_relaxed);
    row->request = request;
    row->owner = request->owner;
    row->link = link->index;
    row->mode = link->mode;
    row->is_waiter = link->place == LC_IN_QUEUE;
    row->token = request->token;
    row->since = request->since;
}

/* Appends while there is room, and counts on: see all_fitted(). */
static void
append(lc_rows *rows, const lc_link *link)
{
    if (rows->n < rows->capacity) {
        lc_set_row(&rows->rows[rows->n], link);
    }
    rows->n++;
}

/* Returns: whether there was room for all; if not, none is left, and n is what is
 * needed. Requires: the buckets of all rows still locked. */
static bool
all_fitted(lc_rows *rows)
{
    if (rows->n <= rows->capacity) {
        return true;
    }
    for (size_t i = 0; i < rows->capacity; i++) {
        /* SAFETY: not the last reference; its bucket is still locked. */
        atomic_fetch_sub_explicit(&rows->rows[i].request->references, 1, memory_order_relaxed);
    }
    return false;
}

static void
append_holders(const lc_link *head, const lc_key *owner, lc_rows *rows)
{
    if (head->place != LC_HOLDING) {
        return;
    }
    for (const lc_link *link = head; link != NULL; link = link->next) {
        const lc_key *its = lc_request_of(link)->owner;
        if (owner == NULL || (its != NULL && lc_keys_match(its, owner))) {
            append(rows, link);
        }
    }
}

static void
append_waiters(const lc_link *head, lc_rows *rows)
{
    const lc_link *link = head->queue;
    if (link != NULL) {
        do {
            append(rows, link);
            link = link->next;
        } while (link != head->queue);
    }
}

bool
lc_list_blockers(lc_array *array, const lc_request *request, uint64_t arrival, lc_rows *rows)
{
    rows->n = 0;
    for (uint32_t i = 0; i < request->n_links; i++) {
        const lc_link *link = &request->links[i];
        lc_link **where = lc_find(lc_bucket_of(array, link->key.hash), &link->key);
        if (where == NULL) {
            continue;
        }
        const lc_link *head = *where;
        if (lc_blocked_by_holder(head, link)) {
            for (const lc_link *holder = head; holder != NULL; holder = holder->next) {
                if (lc_conflict(holder->mode, link->mode)
                    && !lc_same_owner(lc_request_of(holder), request)) {
                    append(rows, holder);
                }
            }
        }
        if (lc_blocked_by_waiter(head, link, arrival) == NULL) {
            continue;
        }
        const lc_link *waiter = head->queue;
        do {
            const lc_request *other = lc_request_of(waiter);
            if (other->waiter->arrival >= arrival) {
                break;
            }
            if (lc_conflict(waiter->mode, link->mode) && !lc_same_owner(other, request)) {
                append(rows, waiter);
            }
            waiter = waiter->next;
        } while (waiter != head->queue);
    }
    return all_fitted(rows);
}

/* A name's key, without a copy of its bytes, for look-ups. */
typedef struct lc_borrowed_key {
    lc_key key;
    unsigned char *bytes;
    unsigned char small[128];
} lc_borrowed_key;

static bool
borrow(lc_borrowed_key *borrowed, const lc_name *name)
{
    size_t size = (size_t)name->group_size + name->id_size;
    borrowed->bytes = size <= sizeof(borrowed->small) ? borrowed->small : lc_malloc(size);
    if (borrowed->bytes == NULL) {
        return false;
    }
    lc_copy_name(&borrowed->key, name, borrowed->bytes);
    return true;
}

static void
give_back(lc_borrowed_key *borrowed)
{
    if (borrowed->bytes != borrowed->small) {
        free(borrowed->bytes);
    }
}

lc_status
lc_list_key(lc_table *table, const lc_name *name, lc_rows *rows)
{
    lc_borrowed_key borrowed;
    if (!borrow(&borrowed, name)) {
        return LC_NO_MEMORY;
    }
    lc_status status = LC_OK;
    bool is_complete = false;
    while (status == LC_OK && !is_complete) {
        rows->n = 0;
        lc_bucket *bucket = lc_lock_bucket(table, borrowed.key.hash);
        lc_link **where = lc_find(bucket, &borrowed.key);
        if (where != NULL) {
            append_holders(*where, NULL, rows);
            append_waiters(*where, rows);
        }
        is_complete = all_fitted(rows);
        lc_unlock(table, bucket);
        if (!is_complete) {
            status = lc_rows_make_room(rows);
        }
    }
    give_back(&borrowed);
    return status;
}

lc_status
lc_list_holders(lc_table *table, const lc_name *owner, lc_rows *rows)
{
    lc_borrowed_key borrowed;
    if (owner != NULL && !borrow(&borrowed, owner)) {
        return LC_NO_MEMORY;
    }
    lc_status status = LC_OK;
    bool is_complete = false;
    while (status == LC_OK && !is_complete) {
        rows->n = 0;
        lc_array *array = lc_lock_table(table);
        for (size_t i = 0; i < (size_t)1 << array->bits; i++) {
            const lc_bucket *bucket = &array->buckets[i];
            const lc_key *key = owner != NULL ? &borrowed.key : NULL;
            for (unsigned j = 0; j < bucket->n; j++) {
                append_holders(bucket->heads[j], key, rows);
            }
            for (const lc_link *head = bucket->more; head != NULL; head = head->chain) {
                append_holders(head, key, rows);
            }
        }
        is_complete = all_fitted(rows);
        lc_unlock_table(table, array);
        if (!is_complete) {
            status = lc_rows_make_room(rows);
        }
    }
    if (owner != NULL) {
        give_back(&borrowed);
    }
    return status;
}

void
lc_look_at(lc_table *table, const lc_request *request, const lc_key **owner, uint64_t *token,
           uint8_t *modes)
{
    /* What is held changes under the mutexes of all its buckets, so one is enough. */
    lc_bucket *bucket = NULL;
    if (request->n_links == 0) {
        lc_mutex_lock(&table->wait_mutex);
    } else {
        bucket = lc_lock_bucket(table, request->links[0].key.hash);
    }
    *owner = request->owner;
    *token = request->token;
    for (uint32_t i = 0; modes != NULL && i < request->n_links; i++) {
        modes[i] = request->links[i].mode;
    }
    if (bucket == NULL) {
        lc_mutex_unlock(&table->wait_mutex);
    } else {
        lc_unlock(table, bucket);
    }
}

size_t
lc_count_held(lc_table *table)
{
    size_t held = 0;
    lc_array *array = lc_lock_table(table);
    for (size_t i = 0; i < (size_t)1 << array->bits; i++) {
        const lc_bucket *bucket = &array->buckets[i];
        for (unsigned j = 0; j < bucket->n; j++) {
            held += bucket->heads[j]->place == LC_HOLDING;
        }
        for (const lc_link *head = bucket->more; head != NULL; head = head->chain) {
            held += head->place == LC_HOLDING;
        }
    }
    lc_unlock_table(table, array);
    return held;
}

void
lc_read_statistics(lc_table *table, lc_statistics *statistics)
{
    lc_mutex_lock(&table->wait_mutex);
    *statistics = table->statistics;
    lc_mutex_unlock(&table->wait_mutex);
    statistics->acquired = atomic_load_explicit(&table->grants, memory_order_relaxed);
    statistics->refused = atomic_load_explicit(&table->refusals, memory_order_relaxed);
}

void
lc_count_refusal(lc_table *table)
{
    atomic_fetch_add_explicit(&table->refusals, 1, memory_order_relaxed);
}
