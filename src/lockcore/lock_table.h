/* The lock table: which requests hold or wait for which keys.
 *
 * Plain C, no Python. Every function may be called from any thread, without any
 * outer lock, unless lc_table_guard() has promised one. None blocks: waiting is the caller's, who
 * parks when told LC_QUEUED and is called back through lc_waiter.wake.
 *
 * README.md in this folder has the structures, the invariants and the order in
 * which mutexes are taken.
 */
#ifndef LC_LOCK_TABLE_H
#define LC_LOCK_TABLE_H

#include "platform.h"

typedef enum lc_mode { LC_SHARED = 0, LC_EXCLUSIVE = 1 } lc_mode;

/* How the bytes of a key's id are to be read. STR1, STR2 and STR4 are text with
 * that many bytes for a character, always the fewest that do. */
typedef enum lc_kind {
    LC_STR1 = 1,
    LC_STR2 = 2,
    LC_STR4 = 4,
    LC_BYTES = 5,
    LC_INT = 6,      /* little-endian two's complement, always as long for one value */
    LC_UUID = 7,     /* 16 bytes, big-endian */
    LC_UNIQUE = 8,   /* an owner nobody can name: made by lc_transfer() */
} lc_kind;

typedef enum lc_state {
    LC_NEW = 0,
    LC_WAITING = 1,
    LC_HELD = 2,
    LC_ENDED = 3,        /* released, cancelled, or given up */
    LC_SHUT_OUT = 4,     /* the table was closed while it waited */
} lc_state;

typedef enum lc_status {
    LC_OK = 0,
    LC_CONFLICT = 1,     /* and it may not wait */
    LC_QUEUED = 2,
    LC_NOT_HELD = 3,
    LC_CLOSED = 4,
    LC_DEADLOCK = 5,
    LC_NO_MEMORY = 6,
    LC_BUSY = 7,         /* an upgrade of it is under way */
} lc_status;

/* A key or an owner as a caller names it: borrowed bytes. `hash` must depend on
 * all the rest and be well mixed in its top bits. */
typedef struct lc_name {
    const void *group;      /* NULL for a plain id and for an owner */
    const void *id;
    uint64_t hash;
    uint32_t group_size;    /* bytes, below 1 << 24 */
    uint32_t id_size;       /* bytes */
    uint8_t group_kind;     /* 0 without a group, else LC_STR1, LC_STR2, LC_STR4 */
    uint8_t id_kind;        /* lc_kind */
    uint8_t mode;           /* lc_mode; unused for an owner */
    uint32_t position;      /* set by lc_request_new() */
} lc_name;

/* The same, copied: the bytes of group and id lie one after the other. */
typedef struct lc_key {
    uint64_t hash;
    const unsigned char *bytes;
    uint32_t size;          /* of group and id together */
    uint32_t shape;         /* group_size << 8 | group_kind << 4 | id_kind */
} lc_key;

typedef struct lc_table lc_table;
typedef struct lc_link lc_link;
typedef struct lc_request lc_request;
typedef struct lc_waiter lc_waiter;

typedef enum lc_place { LC_NOWHERE = 0, LC_HOLDING = 1, LC_IN_QUEUE = 2 } lc_place;

/* One key of one request. In the list of the key's holders, in the key's queue,
 * or nowhere. The four pointers and `place` belong to the key's bucket. */
struct lc_link {
    lc_key key;
    lc_link *next;          /* holders: NULL after the last; queue: circular */
    lc_link *prev;          /* holders: NULL before the first */
    lc_link *chain;         /* a head's: the next head in an overfull bucket */
    lc_link *queue;         /* a head's: the first waiter, or NULL */
    uint32_t index;         /* of this link in its request */
    uint8_t mode;           /* lc_mode */
    uint8_t place;          /* lc_place */
    uint8_t had_queue : 1;  /* scratch of one operation under the wait mutex */
    uint8_t is_blocked : 1;
    uint8_t is_open : 1;    /* in a queue, and something changed there */
};

/* A request, its links, and behind them the bytes of keys and owner: one
 * allocation. `state`, `token`, `since` and `owner` change only under the mutexes
 * of all its buckets, and while it waits only under the wait mutex too. */
struct lc_request {
    atomic_uint references; /* the table's while it holds or waits, and handles' */
    uint32_t n_links;
    atomic_uchar state;     /* lc_state */
    uint8_t owner_is_boxed; /* `owner` was allocated apart: lc_transfer() */
    uint8_t n_upgrades;     /* under way; `owner` stays as it is meanwhile */
    uint8_t is_upgrade;     /* part of another's grant: lc_request_upgrade() */
    uint32_t size;          /* bytes it was allocated with */
    uint64_t token;         /* of the grant; grows over the whole table */
    int64_t since;          /* ns, lc_now(): granted, or arrived if it waits */
    void *payload;          /* the caller's; never looked at */
    lc_key *owner;          /* NULL: the request is its own owner */
    lc_waiter *waiter;      /* NULL if it never waited */
    lc_request *below;      /* the caller's, for lists of requests */
    lc_link links[];        /* in the order of the keys' hashes */
};

/* Memory of small requests, kept for the next ones: much quicker than malloc(). The caller
 * guards it, as by a lock that it has anyway; whatever takes one also takes NULL. */
#define LC_SPARE_LINKS 16
#define LC_SPARE_SIZE 2048  /* bytes */
#define LC_MANY_SPARES 32
typedef struct lc_spares {
    struct {
        lc_request *first;  /* the others through `below` */
        uint32_t n;
    } of[LC_SPARE_LINKS + 1]; /* by the number of links */
} lc_spares;

/* What a request needs to wait, from malloc; the request frees it at its end. */
struct lc_waiter {
    /* Called holding no mutex when the request has left WAITING by somebody
     * else's hand; or, `state` still WAITING, to ask that it look for a deadlock
     * with lc_break_deadlock(). Comes with a reference of its own, which it must
     * drop: the request may end at any time. */
    void (*wake)(lc_request *request);
    void *parker;           /* the caller's */
    lc_table *table;        /* the caller's */
    atomic_uchar has_resumed; /* the caller's */
    uint64_t arrival;       /* its place in every queue */
    lc_request *next;       /* waiting requests whose owners' hashes are alike */
    lc_request *prev;
    lc_request *next_woken;
    lc_request *next_called;
    lc_request *next_candidate;
    lc_request *next_look;
    lc_request *next_visit; /* while looking for a deadlock */
    lc_link *parent;        /* what waits for us there */
    const lc_link *blocker; /* and for what: our owner's hold, or our place */
    uint64_t visit;
    uint64_t changed;       /* when it last began to wait for more, as arrivals */
    uint8_t is_next;        /* nobody else waited where it was queued at first */
    uint8_t must_look;      /* in the table's list of those */
    uint8_t is_candidate;   /* in the table's list of those to try */
    uint8_t is_victim;      /* chosen to end a deadlock */
    atomic_uchar is_called; /* in somebody's list of those to ask to look */
};

/* One holder or waiter of one key, copied out. Keeps `request` alive. */
typedef struct lc_row {
    lc_request *request;
    const lc_key *owner;
    uint32_t link;
    uint8_t mode;
    uint8_t is_waiter;
    uint64_t token;
    int64_t since;
} lc_row;

/* A growing array of rows; start with all zero, end with lc_rows_clear(). */
typedef struct lc_rows {
    lc_row *rows;
    size_t n;
    size_t capacity;
} lc_rows;

#define LC_N_WAIT_BINS 9

typedef struct lc_statistics {
    uint64_t acquired, refused, waits, timeouts, deadlocks, wakes;
    /* Bin i counts waits below 10 us * 10^i; the last has no bound. */
    uint64_t wait_bins[LC_N_WAIT_BINS];
} lc_statistics;

/* ---- tables ---------------------------------------------------------------- */

/* Returns: an empty table, or NULL without memory. */
lc_table *lc_table_new(void);

/* A table is new with its own mutexes in use. Callers who have a mutex of their own, as the GIL,
 * and are inside only with that, guard it: then the table's need not be taken, which is most of
 * what a short operation costs. They open their mutex at most in `wake` and in what
 * lc_call_after_waking() has set. Whoever goes inside without it, or lets somebody, calls
 * lc_table_unguard() before and lc_table_guard() after.
 * Both require the callers' mutex or, before the table is shared, nothing. */
void lc_table_guard(lc_table *table);
void lc_table_unguard(lc_table *table);

/* Frees the table. Nobody else may be using it or waiting in it.
 * Returns: what it still held, now ENDED, one reference each for
 * lc_request_drop(); go on with lc_next_ended(). */
lc_request *lc_table_free(lc_table *table);
lc_request *lc_next_ended(const lc_request *request);

/* Who keeps a table: its maker until lc_table_leave(), and handles. Threads that make and
 * drop handles write to different cache lines.
 *
 * Makes a handle. Requires: another, or that the maker has not left. */
void lc_table_keep(lc_table *table);

/* Drops one. Returns: whether the caller must call lc_table_free(). */
bool lc_table_drop(lc_table *table);

/* For the maker, once. Returns: as lc_table_drop(). */
bool lc_table_leave(lc_table *table);

/* Refuses all that comes later and shuts out all who wait. Holders stay. */
void lc_table_close(lc_table *table);
bool lc_table_is_closed(lc_table *table);

/* From now on each call of a function below that has called waiters back calls this, too,
 * in the end and once, holding no mutex. For once in a process, before any waits. */
void lc_call_after_waking(void (*call)(void));

/* From now on fork() finds every table whole, and leaves it so in both processes. For
 * once in a process. Returns: false without memory. */
bool lc_handle_forks(void);

/* Ends whatever the table holds or has waiting: for a child process, where it is the
 * parent's. Nobody else may be using it. Returns: as lc_table_free(). */
lc_request *lc_table_empty(lc_table *table);

/* The same for every table there is. */
lc_request *lc_tables_empty(void);

/* ---- requests -------------------------------------------------------------- */

/* Copies `names`, sorted and without duplicates (exclusive wins), and `owner`
 * (may be NULL) into a new request with one reference.
 * *n is set to the number of links, and names[i].position to the index of the name
 * that became links[i].
 * Returns: NULL without memory. */
lc_request *lc_request_new(lc_name *names, uint32_t *n, const lc_name *owner, lc_spares *spares);

/* Returns: a new request for the same keys, modes and owner, or NULL. Two copies share
 * no cache line. */
lc_request *lc_request_copy(const lc_request *request, void *payload);

/* Takes a reference. Requires: that somebody has one. */
static inline lc_request *
lc_request_keep(lc_request *request)
{
    atomic_fetch_add_explicit(&request->references, 1, memory_order_relaxed);
    return request;
}

/* Frees the request, or keeps its memory among the spares. */
void lc_request_free(lc_request *request, lc_spares *spares);

/* Returns: whether nobody else has a reference, so that it may be acquired again. */
static inline bool
lc_request_is_ours(const lc_request *request)
{
    return atomic_load_explicit(&request->references, memory_order_acquire) == 1;
}

/* Gives one reference back. Returns: true when it was the last: the caller then
 * disposes of `payload` and calls lc_request_free(). */
static inline bool
lc_request_drop(lc_request *request)
{
    /* A request outside the table with one reference is ours alone: nobody can find
     * it to take another. So the common case needs no read-modify-write. */
    if (lc_request_is_ours(request)) {
        return true;
    }
    /* Acquire and release: what each holder of a reference did to the request happens
     * before the last one frees it. */
    return atomic_fetch_sub_explicit(&request->references, 1, memory_order_acq_rel) == 1;
}

static inline lc_state
lc_request_state(const lc_request *request)
{
    return (lc_state)atomic_load_explicit(&request->state, memory_order_acquire);
}

/* ---- holding --------------------------------------------------------------- */

/* Grants all keys of a new (or ended) request at once, or none. Fair: it does
 * not overtake a conflicting waiter.
 * Returns: LC_OK, LC_CONFLICT or LC_CLOSED. */
lc_status lc_try_acquire(lc_table *table, lc_request *request);

/* For a caller who is about to acquire, and has a request to make first: has the count of tokens
 * fetched meanwhile from the processor that granted last. Changes nothing. */
void lc_expect_grant(lc_table *table);

/* As lc_try_acquire(), and on conflict either queues the request (`waiter` given,
 * which it then owns) or lists who is in the way (`blockers` given).
 * Returns: also LC_QUEUED, LC_NO_MEMORY. */
lc_status lc_acquire(lc_table *table, lc_request *request, lc_waiter *waiter, lc_rows *blockers);

/* The second half of lc_acquire(), for a request with keys that has just been refused: queues
 * it, or grants it if by now nobody is in the way.
 * Returns: LC_QUEUED, LC_OK or LC_CLOSED. */
lc_status lc_queue(lc_table *table, lc_request *request, lc_waiter *waiter);

/* Ends a wait. `blockers` (may be NULL) gets who is in the way.
 * Returns: LC_OK when the request had been granted already, and stays so;
 * LC_CONFLICT when it was waiting and no longer is; LC_CLOSED when it was shut out.
 * On LC_NO_MEMORY it has left, too, and `blockers` is incomplete. */
lc_status lc_cancel(lc_table *table, lc_request *request, bool timed_out, lc_rows *blockers);

/* Looks for a cycle of owners who wait for each other through this request, and
 * ends the wait of the request that closed it: this one, or another that is woken to
 * look for itself. `cycle` gets two rows for each step, from this
 * request on: what waits, and what holds or came earlier at the same key, which is
 * the next step's owner's; the last step's is this request's.
 * Returns: LC_DEADLOCK when it was this one; LC_QUEUED when it still waits; LC_OK when it
 * has been granted; LC_CLOSED; or LC_NO_MEMORY, still waiting. */
lc_status lc_break_deadlock(lc_table *table, lc_request *request, lc_rows *cycle);

/* Gives back every key and grants what can now run.
 * Returns: LC_OK or LC_NOT_HELD, which changed nothing. */
lc_status lc_release(lc_table *table, lc_request *request);

/* Releases every request that `rows` lists as holding, all of them before anybody who
 * waits is granted. `of_owner`: the rows were listed for an owner, and what it has
 * transferred since then stays. Reorders the rows.
 * Returns: how many were held, but for upgrades, which are part of a grant. */
size_t lc_release_rows(lc_table *table, lc_rows *rows, bool of_owner);

/* ---- changing what is held ------------------------------------------------- */

/* Makes every exclusive hold shared, and grants what can now run.
 * Returns: LC_OK or LC_NOT_HELD. */
lc_status lc_downgrade(lc_table *table, lc_request *request);

/* Gives the holds to another owner; NULL: to one that nobody can name.
 * Returns: LC_OK; LC_NOT_HELD; LC_BUSY; LC_CONFLICT when another request of the
 * old owner holds a key in a conflicting mode, with it in `blockers`; LC_NO_MEMORY.
 * But for LC_OK nothing has changed. */
lc_status lc_transfer(lc_table *table, lc_request *request, const lc_name *owner,
                      lc_rows *blockers);

/* An upgrade: lc_begin_upgrade(); acquire what lc_request_upgrade() returns, in any
 * way; lc_end_upgrade() with it, or with NULL when it was not granted.
 *
 * Begins. A nameless request gets an owner that nobody can name, so that it and its
 * upgrade do not conflict. Returns: LC_OK, LC_NOT_HELD, LC_BUSY or LC_NO_MEMORY. */
lc_status lc_begin_upgrade(lc_table *table, lc_request *request);

/* Returns: a new request for the shared keys of `request`, exclusive, with the same
 * owner, or NULL. */
lc_request *lc_request_upgrade(lc_table *table, const lc_request *request, void *payload);

/* Moves the exclusive holds of `upgrade`, and its token, to `request`, in one step.
 * Returns: LC_OK; LC_NOT_HELD when either has ended meanwhile: release the other. */
lc_status lc_end_upgrade(lc_table *table, lc_request *request, lc_request *upgrade);

/* ---- seeing ---------------------------------------------------------------- */

/* Each: appends to `rows`. Returns: LC_OK or LC_NO_MEMORY. */
lc_status lc_list_key(lc_table *table, const lc_name *key, lc_rows *rows);
/* A consistent cut through the whole table, holders only. With `owner` just its. */
lc_status lc_list_holders(lc_table *table, const lc_name *owner, lc_rows *rows);
void lc_rows_clear(lc_rows *rows, void (*dispose)(lc_request *request));

/* Reads what another thread may be changing: the owner, which stays readable as long as
 * the request, the token and, unless `modes` is NULL, the mode of each link. All of one
 * instant. */
void lc_look_at(lc_table *table, const lc_request *request, const lc_key **owner, uint64_t *token,
                uint8_t *modes);

size_t lc_count_held(lc_table *table);
void lc_read_statistics(lc_table *table, lc_statistics *statistics);

/* Counts one refusal: what the caller refused after lc_acquire() said so. */
void lc_count_refusal(lc_table *table);

#endif
