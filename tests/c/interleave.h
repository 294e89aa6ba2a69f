/* What the parts of interleave share: one script, its table and its requests. */
#ifndef INTERLEAVE_H
#define INTERLEAVE_H

#include "scheduled.h"

#include "fibers.h"
#include "lock_internal.h"
#include "script.h"

#define MAX_WAITERS (2 * MAX_SLOTS)

typedef struct interleaving {
    const char *text;
    script script;
    bool may_deadlock;
    bool has_shadow;            /* nobody ends or changes what another made */
    bool has_resize;
    lc_table *table;
    lc_request *requests[MAX_SLOTS], *upgrades[MAX_SLOTS];
    /* Requests and waiters are not from fibers_malloc(): they hold more than is state. */
    lc_waiter waiters[MAX_WAITERS];
    int n_waiters;
    bool makes_request[MAX_FIBERS];
    /* Who should hold what, by what the calls returned. */
    uint8_t shadow[MAX_SLOTS][MAX_SCRIPT_KEYS];
    int shadow_owner[MAX_SLOTS];
    uint64_t n_deadlocks, n_timeouts, n_waits;
} interleaving;

extern interleaving now;

#define REQUIRE(claim)                                                                             \
    do {                                                                                           \
        if (!(claim)) {                                                                            \
            explorer_fail(#claim);                                                                 \
        }                                                                                          \
    } while (0)

/* Does what the script says of one actor. */
void run_actor(int number);

/* The name of a key: two keys are in one bucket. */
lc_name key_name(int key);

/* Makes the table grow to twice its size, or shrink again. */
void resize(bool grows);

#endif
