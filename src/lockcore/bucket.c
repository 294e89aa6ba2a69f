/* Keys in a bucket: their heads, holders and queues. */
#include "lock_internal.h"

void
lc_count_sampled(lc_table *table, long change)
{
    long keys = atomic_fetch_add_explicit(&table->sampled_keys, change, memory_order_relaxed);
    keys += change;
    /* Relaxed: a hint; lc_resize() decides anew under every mutex. */
    const lc_array *array = atomic_load_explicit(&table->array, memory_order_relaxed);
    long buckets = (1L << array->bits) / LC_SAMPLING;
    if (keys > 3 * buckets || (array->bits > LC_MIN_BITS && keys < buckets / 4)) {
        atomic_store_explicit(&table->resize_is_due, true, memory_order_relaxed);
    }
}

/* Lets `successor` stand for the key from now on. */
static inline void
replace_head(lc_link **where, lc_link *successor, lc_link *queue)
{
    successor->chain = (*where)->chain;
    successor->queue = queue;
    *where = successor;
}

void
lc_hold(lc_table *table, lc_bucket *bucket, lc_link **where, lc_link *link)
{
    link->place = LC_HOLDING;
    if (LC_LIKELY(where == NULL)) {
        link->next = link->prev = link->queue = NULL;
        lc_add_head(table, bucket, link);
    } else {
        lc_link *head = *where;
        lc_link *first = head->place == LC_HOLDING ? head : NULL;
        if (first != NULL && link->mode == LC_SHARED) {
            /* Exclusive holds stay in front: the head tells whether there is one. */
            lc_link *before = first;
            while (before->next != NULL && before->next->mode == LC_EXCLUSIVE) {
                before = before->next;
            }
            link->prev = before;
            link->next = before->next;
            if (link->next != NULL) {
                link->next->prev = link;
            }
            before->next = link;
        } else {
            link->prev = NULL;
            link->next = first;
            if (first != NULL) {
                first->prev = link;
            }
            replace_head(where, link, head->queue);
        }
    }
    lc_check_bucket(bucket);
}

void
lc_unhold(lc_table *table, lc_bucket *bucket, lc_link **where, lc_link *link)
{
    lc_link *head = *where;
    if (link->next != NULL) {
        link->next->prev = link->prev;
    }
    if (link != head) {
        link->prev->next = link->next;
    } else if (link->next != NULL) {
        replace_head(where, link->next, head->queue);
    } else if (head->queue != NULL) {
        replace_head(where, head->queue, head->queue);
    } else {
        lc_drop_head(table, bucket, where);
    }
    link->place = LC_NOWHERE;
    lc_check_bucket(bucket);
}

static inline uint64_t
arrival_of(const lc_link *link)
{
    return lc_request_of(link)->waiter->arrival;
}

void
lc_enqueue(lc_link **where, lc_link *link)
{
    lc_link *head = *where;
    lc_link *first = head->queue;
    link->place = LC_IN_QUEUE;
    if (first == NULL) {
        link->next = link->prev = link;
        head->queue = link;
        return;
    }
    uint64_t arrival = arrival_of(link);
    lc_link *before = first->prev;
    while (arrival_of(before) > arrival && before != first) {
        before = before->prev;
    }
    bool leads = before == first && arrival_of(first) > arrival;
    if (leads) {
        before = first->prev;
    }
    link->prev = before;
    link->next = before->next;
    before->next->prev = link;
    before->next = link;
    if (leads) {
        if (head == first) {
            replace_head(where, link, link);
        } else {
            head->queue = link;
        }
    }
}

void
lc_dequeue(lc_table *table, lc_bucket *bucket, lc_link **where, lc_link *link)
{
    lc_link *head = *where;
    lc_link *next = link->next == link ? NULL : link->next;
    link->prev->next = link->next;
    link->next->prev = link->prev;
    link->place = LC_NOWHERE;
    if (head->queue == link) {
        if (head != link) {
            head->queue = next;
        } else if (next != NULL) {
            replace_head(where, next, next);
        } else {
            lc_drop_head(table, bucket, where);
        }
    }
    lc_check_bucket(bucket);
}

bool
lc_blocked_by_holder(const lc_link *head, const lc_link *link)
{
    if (head->place != LC_HOLDING) {
        return false;
    }
    const lc_request *request = lc_request_of(link);
    for (const lc_link *holder = head; holder != NULL; holder = holder->next) {
        if (!lc_conflict(holder->mode, link->mode)) {
            return false; /* shared, and so are all behind it */
        }
        if (!lc_same_owner(lc_request_of(holder), request)) {
            return true;
        }
    }
    return false;
}

bool
lc_owner_holds(const lc_link *head, const lc_request *request)
{
    if (request->owner == NULL || head->place != LC_HOLDING) {
        return false;
    }
    for (const lc_link *holder = head; holder != NULL; holder = holder->next) {
        if (lc_same_owner(lc_request_of(holder), request)) {
            return true;
        }
    }
    return false;
}

const lc_link *
lc_blocked_by_waiter(const lc_link *head, const lc_link *link, uint64_t arrival)
{
    const lc_link *first = head->queue;
    if (first == NULL) {
        return NULL;
    }
    const lc_request *request = lc_request_of(link);
    const lc_link *waiter = first;
    do {
        if (arrival_of(waiter) >= arrival) {
            return NULL;
        }
        if (lc_conflict(waiter->mode, link->mode)
            && !lc_same_owner(lc_request_of(waiter), request)) {
            return lc_owner_holds(head, request) ? NULL : waiter;
        }
        waiter = waiter->next;
    } while (waiter != first);
    return NULL;
}

#ifdef LC_DEBUG

#include <stdio.h>

#define CHECK(claim)                                                                               \
    do {                                                                                           \
        if (!(claim)) {                                                                            \
            fprintf(stderr, "lockcore: broken invariant: %s (%s:%d)\n", #claim, __FILE__,          \
                    __LINE__);                                                                     \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

static void
check_key(const lc_link *head)
{
    CHECK(head->place != LC_NOWHERE);
    CHECK(head->place == LC_HOLDING || head->queue == head);
    if (head->place == LC_HOLDING) {
        CHECK(head->prev == NULL);
        for (const lc_link *holder = head; holder != NULL; holder = holder->next) {
            CHECK(holder->place == LC_HOLDING);
            CHECK(lc_keys_match(&holder->key, &head->key));
            CHECK(holder->next == NULL || holder->next->prev == holder);
            CHECK(holder->next == NULL || holder->mode >= holder->next->mode);
            CHECK(head->mode == LC_SHARED
                  || lc_same_owner(lc_request_of(head), lc_request_of(holder)));
        }
    }
    const lc_link *waiter = head->queue;
    if (waiter != NULL) {
        do {
            CHECK(waiter->place == LC_IN_QUEUE);
            CHECK(lc_keys_match(&waiter->key, &head->key));
            CHECK(waiter->next->prev == waiter);
            CHECK(waiter->next == head->queue || arrival_of(waiter) < arrival_of(waiter->next));
            waiter = waiter->next;
        } while (waiter != head->queue);
    }
}

void
lc_check_bucket(const lc_bucket *bucket)
{
    CHECK(bucket->n == LC_INLINE_KEYS || bucket->more == NULL);
    for (unsigned i = 0; i < bucket->n; i++) {
        CHECK(bucket->tags[i] == (uint32_t)bucket->heads[i]->key.hash);
        check_key(bucket->heads[i]);
    }
    for (const lc_link *head = bucket->more; head != NULL; head = head->chain) {
        check_key(head);
    }
}

#endif
