/* What the files of the lock table share. See README.md for the mutex order. */
#ifndef LC_LOCK_INTERNAL_H
#define LC_LOCK_INTERNAL_H

#include <string.h>

#include "lock_table.h"

#define LC_INLINE_KEYS 4
#define LC_BUCKET_BYTES LC_CACHE_LINE
#define LC_FEW 16              /* keys of a request that takes the short path */
#define LC_SAMPLING 64          /* one bucket in so many counts its keys */
#define LC_MIN_BITS 10          /* buckets of an empty table, as a power of two */
#define LC_MAX_BITS 30
#define LC_TRIM_BITS 16        /* shrinking from here is worth a look at the heap */
#define LC_OWNER_LISTS 64
#define LC_STRIPES 32

/* One cache line, so that threads on different keys do not share one. */
typedef struct lc_bucket {
    lc_mutex mutex;
    uint8_t n;                              /* of heads[] in use */
    lc_link *more;                          /* further heads, when heads[] is full */
    uint32_t tags[LC_INLINE_KEYS];          /* low bits of the heads' hashes */
    lc_link *heads[LC_INLINE_KEYS];         /* first holder, else first waiter */
} lc_bucket;

_Static_assert(sizeof(lc_bucket) == LC_BUCKET_BYTES, "a bucket is one cache line");

typedef struct lc_array {
    lc_bucket *buckets;                     /* page-aligned */
    unsigned bits;                          /* 1 << bits buckets */
} lc_array;

/* The handles that some threads have made, less those they have dropped; it wraps. Eight bytes, so
 * that they are in one cache line wherever malloc() puts the table. */
typedef struct lc_stripe {
    lc_mutex mutex;
    uint32_t n_handles;
    char apart[LC_CACHE_LINE - 2 * sizeof(uint32_t)];
} lc_stripe;

_Static_assert(sizeof(lc_stripe) == LC_CACHE_LINE, "stripes are a cache line apart");

struct lc_table {
    /* Read by every operation, written by a resize and in the end. */
    _Atomic(lc_array *) array;
    atomic_uint n_unguarded;                /* who may be inside without the callers' mutex */
    atomic_uchar closed;
    atomic_uchar resize_is_due;
    bool is_left;                           /* by its maker: under all stripes' mutexes */
    char apart_1[LC_BUCKET_BYTES - 3 - sizeof(atomic_uint) - sizeof(void *)];

    /* Written by every grant. */
    atomic_uint_fast64_t grants;            /* tokens given out */
    char apart_2[LC_BUCKET_BYTES - sizeof(uint64_t)];

    atomic_uint_fast64_t refusals;
    atomic_long sampled_keys;
    atomic_long left_handles;               /* once is_left, and then no stripe counts */
    lc_table *next_table, **where_table;    /* among all tables: fork.c */
    char apart_3[LC_CACHE_LINE];

    lc_stripe stripes[LC_STRIPES];

    /* Everything below belongs to the wait mutex. */
    lc_mutex wait_mutex;
    bool is_locked;                         /* for a fork: its buckets, too */
    uint64_t arrivals;
    size_t n_waiting;
    size_t n_named_waiting;                 /* those whose owner has a name */
    lc_request *waiting[LC_OWNER_LISTS];    /* by the owner's hash */
    lc_request *candidates, *last_candidate; /* to try, in order of arrival */
    lc_request *must_look;                  /* for a deadlock, before we are done */
    uint64_t visits;                        /* searches for one so far */
    lc_statistics statistics;               /* all but acquired and refused */
    lc_array arrays[LC_MAX_BITS + 1];       /* each size's pages, once used */
};

_Static_assert(offsetof(struct lc_table, stripes) % 8 == 0, "no stripe is in two cache lines");

/* An owner that came by transfer. Rows may point at an owner for as long as they
 * keep the request, so its former owners stay until it is freed. */
typedef struct lc_owner_box {
    lc_key key;                             /* first: an owner is seen as its key */
    struct lc_owner_box *older;
    unsigned char bytes[];
} lc_owner_box;

/* Requests to call back once the wait mutex is open again: those that have left their
 * queues, and those that still wait and are to look for a deadlock. The latter may be
 * granted, or called again, before we come to them; so they have a list of their own,
 * and `is_called` while they are in one. */
typedef struct lc_woken {
    lc_request *first, *last;
    lc_request *called;
} lc_woken;

static inline lc_request *
lc_request_of(const lc_link *link)
{
    /* SAFETY: links[index] of a request is the only place a link can be. */
    const char *links = (const char *)(link - link->index);
    return (lc_request *)(links - offsetof(lc_request, links));
}

static inline bool
lc_keys_match(const lc_key *a, const lc_key *b)
{
    return a->hash == b->hash && a->size == b->size && a->shape == b->shape
        && (a->bytes == b->bytes || memcmp(a->bytes, b->bytes, a->size) == 0);
}

static inline bool
lc_conflict(uint8_t mode, uint8_t other)
{
    return (mode | other) == LC_EXCLUSIVE;
}

static inline bool
lc_same_owner(const lc_request *a, const lc_request *b)
{
    return a == b || (a->owner != NULL && b->owner != NULL && lc_keys_match(a->owner, b->owner));
}

static inline lc_bucket *
lc_bucket_of(const lc_array *array, uint64_t hash)
{
    /* The top bits, so that links sorted by hash are sorted by bucket. */
    return &array->buckets[hash >> (64 - array->bits)];
}

/* ---- keys in a bucket. All require the bucket's mutex; those marked (wait) the wait
 * mutex too. The first few are here, for the paths where every instruction counts. ---- */

/* Counts in or out a key of a sampled bucket, and asks for a resize if that is due. */
void lc_count_sampled(lc_table *table, long change);

static inline bool
lc_is_sampled(const lc_bucket *bucket)
{
    /* Arrays are page-aligned, so this is the first bucket in so many. */
    return ((uintptr_t)bucket & (LC_SAMPLING * LC_BUCKET_BYTES - 1)) == 0;
}

/* Returns: where the bucket keeps the key's head, or NULL. Valid until the bucket
 * changes. */
static inline lc_link **
lc_find(lc_bucket *bucket, const lc_key *key)
{
    uint32_t tag = (uint32_t)key->hash;
    for (unsigned i = 0; i < bucket->n; i++) {
        if (bucket->tags[i] == tag && lc_keys_match(&bucket->heads[i]->key, key)) {
            return &bucket->heads[i];
        }
    }
    for (lc_link **where = &bucket->more; *where != NULL; where = &(*where)->chain) {
        if (lc_keys_match(&(*where)->key, key)) {
            return where;
        }
    }
    return NULL;
}

/* Makes the link stand for a key the bucket does not have. */
static inline void
lc_add_head(lc_table *table, lc_bucket *bucket, lc_link *head)
{
    if (LC_LIKELY(bucket->n < LC_INLINE_KEYS)) {
        bucket->tags[bucket->n] = (uint32_t)head->key.hash;
        bucket->heads[bucket->n++] = head;
        head->chain = NULL;
    } else {
        head->chain = bucket->more;
        bucket->more = head;
    }
    if (LC_UNLIKELY(lc_is_sampled(bucket))) {
        lc_count_sampled(table, 1);
    }
}

/* Takes a key's head away, and the key with it. */
static inline void
lc_drop_head(lc_table *table, lc_bucket *bucket, lc_link **where)
{
    if (where >= bucket->heads && where < bucket->heads + LC_INLINE_KEYS) {
        unsigned last = --bucket->n;
        bucket->tags[where - bucket->heads] = bucket->tags[last];
        *where = bucket->heads[last];
        lc_link *head = bucket->more;
        if (LC_UNLIKELY(head != NULL)) {
            bucket->more = head->chain;
            bucket->tags[last] = (uint32_t)head->key.hash;
            bucket->heads[last] = head;
            bucket->n++;
        }
    } else {
        *where = (*where)->chain;
    }
    if (LC_UNLIKELY(lc_is_sampled(bucket))) {
        lc_count_sampled(table, -1);
    }
}

/* Puts the link among the key's holders; `where` as lc_find() says. */
void lc_hold(lc_table *table, lc_bucket *bucket, lc_link **where, lc_link *link);
void lc_unhold(lc_table *table, lc_bucket *bucket, lc_link **where, lc_link *link);

/* (wait) Puts the link into the key's queue, by arrival. The key has a head. */
void lc_enqueue(lc_link **where, lc_link *link);
void lc_dequeue(lc_table *table, lc_bucket *bucket, lc_link **where, lc_link *link);

/* Returns: whether another owner's hold conflicts with the link. */
bool lc_blocked_by_holder(const lc_link *head, const lc_link *link);

/* Returns: whether the link's owner, or its request, already holds the key. */
bool lc_owner_holds(const lc_link *head, const lc_request *request);

/* Returns: the first waiter before `arrival`, of another owner and in conflict,
 * that the link must not overtake, or NULL. */
const lc_link *lc_blocked_by_waiter(const lc_link *head, const lc_link *link, uint64_t arrival);

#ifdef LC_DEBUG
/* Aborts with a message when the bucket breaks an invariant of README.md. */
void lc_check_bucket(const lc_bucket *bucket);
#else
#define lc_check_bucket(bucket) ((void)0)
#endif

/* ---- lock_table.c ---- */

/* Returns: whether the callers let in one thread at a time. */
static inline bool
lc_is_guarded(const lc_table *table)
{
    /* Relaxed: it changes under the callers' mutex only. Who is inside without that is counted
     * himself, and so reads something else than 0 whatever others do. */
    return atomic_load_explicit(&table->n_unguarded, memory_order_relaxed) == 0;
}

/* Takes a bucket's mutex. Where one thread at a time is inside there is nobody to keep out, and to
 * take it would cost more than all that is done under it. */
static inline void
lc_lock(const lc_table *table, lc_bucket *bucket)
{
    if (!lc_is_guarded(table)) {
        lc_mutex_lock(&bucket->mutex);
    }
}

static inline void
lc_unlock(const lc_table *table, lc_bucket *bucket)
{
    if (!lc_is_guarded(table)) {
        lc_mutex_unlock(&bucket->mutex);
    }
}

/* Locks the buckets of the request, in order; none if it has no keys.
 * Returns: the array they are in, which cannot change before they are unlocked. */
lc_array *lc_lock_buckets(lc_table *table, const lc_request *request);
void lc_unlock_buckets(const lc_table *table, lc_array *array, const lc_request *request);
lc_bucket *lc_lock_bucket(lc_table *table, uint64_t hash);
lc_array *lc_lock_table(lc_table *table);
void lc_unlock_table(const lc_table *table, lc_array *array);

/* Makes the request a holder of all its keys. Requires: its buckets locked,
 * nothing of it blocked or queued. */
void lc_grant(lc_table *table, lc_array *array, lc_request *request, int64_t now);

/* Takes the request from all its keys' holders and marks the links whose keys
 * have a queue. Requires: its buckets locked, and the wait mutex if there is a
 * queue. */
void lc_withdraw(lc_table *table, lc_array *array, lc_request *request);

/* table.c: resizes the array if that is due. Requires: no mutex held. */
void lc_resize(lc_table *table);

static inline void
lc_resize_if_due(lc_table *table)
{
    if (LC_UNLIKELY(atomic_load_explicit(&table->resize_is_due, memory_order_relaxed))) {
        lc_resize(table);
    }
}

/* ---- keepers.c ---- */

void lc_lock_stripes(lc_table *table);
void lc_unlock_stripes(lc_table *table);

/* ---- fork.c ---- */

void lc_register_table(lc_table *table);
void lc_unregister_table(lc_table *table);

/* Takes every mutex of the table; opens them all again, in parent and child. */
void lc_before_fork(lc_table *table);
void lc_after_fork(lc_table *table);

/* ---- request.c ---- */

/* Returns: where the next key's bytes go. */
unsigned char *lc_copy_name(lc_key *key, const lc_name *name, unsigned char *bytes);

/* Returns: a request for the shared keys, exclusive, or NULL. Requires: that no mode
 * changes. */
lc_request *lc_copy_shared(const lc_request *request, void *payload);

/* ---- inspect.c ---- */

/* Lists who blocks the request. Requires: its buckets locked, and the wait mutex.
 * Returns: false when there is no room; make some with lc_rows_make_room(). */
bool lc_list_blockers(lc_array *array, const lc_request *request, uint64_t arrival, lc_rows *rows);
lc_status lc_rows_reserve(lc_rows *rows, size_t capacity);
lc_status lc_rows_make_room(lc_rows *rows);
/* Requires: the mutex of the link's bucket. */
void lc_set_row(lc_row *row, const lc_link *link);

/* ---- wait_queue.c and deadlock.c: all require the wait mutex unless said
 * otherwise. ---- */

/* Returns: the head of a key that has waiters, or NULL. The head and its lists
 * stay as they are until we change them. */
lc_link *lc_find_queued(lc_table *table, const lc_key *key);

/* Returns: the next waiting request of the same owner as `owner`, or NULL. */
lc_request *lc_next_waiting(lc_table *table, const lc_request *owner, lc_request *after);

/* Opens the places of waiters at each key whose link had a queue, where they are not
 * blocked any more. They are tried before the wait mutex opens: lc_finish(). */
void lc_open_keys(lc_table *table, const lc_request *request);

/* Opens the places of the owner's other requests at keys it has just gained: it may
 * pass others there now. */
void lc_open_siblings(lc_table *table, const lc_request *granted);

/* Has the owner's waiting requests look for a deadlock: where it holds a key no more,
 * they wait behind others now. */
void lc_siblings_must_look(lc_table *table, const lc_request *losing);

/* Takes a waiting request out of all queues, and opens the places behind it. */
void lc_stop_waiting(lc_table *table, lc_request *request, lc_state state);

/* Ends every wait. Those woken have a reference each that is not called back yet. */
void lc_end_waits(lc_table *table, lc_state state, lc_woken *woken);

/* Adds requests that are in a cycle, among those that must look. */
void lc_wake_deadlocked(lc_table *table, lc_woken *woken);
void lc_add_woken(lc_table *table, lc_woken *woken, lc_request *request);
void lc_add_called(lc_table *table, lc_woken *woken, lc_request *request);

/* Tries whose places are open, opens the wait mutex, and calls the woken back. */
void lc_finish(lc_table *table, lc_woken *woken);

/* Neither requires a mutex. */
lc_status lc_release_slow(lc_table *table, lc_request *request);
lc_status lc_acquire_slow(lc_table *table, lc_request *request, lc_waiter *waiter,
                          lc_rows *blockers);

#endif
