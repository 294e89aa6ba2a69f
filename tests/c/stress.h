/* What the parts of the stress share. */
#ifndef STRESS_H
#define STRESS_H

#include <pthread.h>
#include <stdio.h>

#include "lock_internal.h"

#define PATIENCE_NS INT64_C(20000000000)

/* Says what is wrong, with the seed and the state of the table, and ends the process. */
_Noreturn void stress_fail(const char *what);

#define REQUIRE(claim)                                                                             \
    do {                                                                                           \
        if (!(claim)) {                                                                            \
            stress_fail(#claim);                                                                   \
        }                                                                                          \
    } while (0)

/* ---- random numbers -------------------------------------------------------- */

/* splitmix64: Steele, Lea, Flood, "Fast splittable pseudorandom number generators". */
static inline uint64_t
next_random(uint64_t *state)
{
    uint64_t z = *state += UINT64_C(0x9E3779B97F4A7C15);
    z = (z ^ z >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ z >> 27) * UINT64_C(0x94D049BB133111EB);
    return z ^ z >> 31;
}

static inline unsigned
below(uint64_t *state, unsigned bound)
{
    return (unsigned)(next_random(state) % bound);
}

static inline bool
chance(uint64_t *state, unsigned percent)
{
    return below(state, 100) < percent;
}

/* ---- threads and their requests -------------------------------------------- */

typedef struct worker {
    pthread_t thread;
    unsigned number;
    uint64_t random;
    atomic_ullong n_done;
    atomic_bool has_ended;
    /* The request it waits for now, for whoever wants to cancel it. */
    pthread_mutex_t mutex;
    lc_request *waiting;
} worker;

extern lc_table *stress_table;
extern atomic_long n_requests;      /* alive */

typedef struct stress_counts {
    atomic_ullong grants, writes, reads, upgrades, downgrades, transfers, cancelled, timed_out,
        deadlocks, force_released;
    _Atomic int64_t longest_wait;
} stress_counts;

extern stress_counts counts;

/* Whether a mutex guards the table in this round: lc_table_guard(). */
extern bool is_guarded;

/* Around each call of the table. Between them the mutex is held or, by chance, the table knows that
 * somebody comes without it. */
void enter_table(void);
void leave_table(void);

#define INSIDE(call)                                                                               \
    ({                                                                                             \
        enter_table();                                                                             \
        __typeof__(call) result_ = (call);                                                         \
        leave_table();                                                                             \
        result_;                                                                                   \
    })

/* Counts a request that was made. */
lc_request *counted(lc_request *request);
void drop(lc_request *request);
void dispose(lc_request *request);

/* Acquires in a random way. Returns: whether it is held. */
bool acquire(worker *worker, lc_request *request, bool may_wait_for_ever);

/* Ends a wait, and wakes who waits. */
void cancel(lc_request *request);

#endif
