/* A table and, beside it, the rules: each step of a script is made in both, and both must agree. */
#ifndef WORLD_H
#define WORLD_H

#include "lock_internal.h"
#include "rules.h"

enum step_kind {
    STEP, /* the actor's next operation, or what follows when its request is granted */
    LOOK, /* it looks for a deadlock: it was woken, or has waited a little */
    TIME_OUT, /* it has waited too long */
};

typedef struct step {
    uint8_t actor, kind;
} step;

typedef struct actor_state {
    uint8_t pc, phase; /* phase: of an operation of several steps */
    bool is_parked, has_failed, has_looked;
    uint8_t request; /* that it waits for */
    uint32_t listed; /* for clear */
    lc_rows rows;
} actor_state;

typedef struct world {
    const script *script;
    lc_table *table;
    lc_request *requests[RULES_REQUESTS];
    bool is_woken[RULES_REQUESTS];
    bool was_submitted[RULES_REQUESTS];
    uint64_t last_token;
    rules rules;
    actor_state actors[MAX_ACTORS];
    uint64_t deadlocks, timeouts;
} world;

/* Begins with an empty table. The world is all zero, or one that has ended. */
void world_begin(world *world, const script *script);
void world_end(world *world);

/* Returns: how many steps are possible now. Zero is the end. */
int world_options(const world *world, step *options);
void world_step(world *world, step step);

/* Checks what must be so between steps. */
void world_check(const world *world);
/* Checks what must be so at the end. */
void world_check_end(const world *world);

/* Returns: a hash of all that decides what can come. */
uint64_t world_fingerprint(const world *world);

/* Says what is wrong and ends the process. The explorer prints how it came to it. */
_Noreturn void explorer_fail(const char *what);

#define REQUIRE(claim)                                                                             \
    do {                                                                                           \
        if (!(claim)) {                                                                            \
            explorer_fail(#claim);                                                                 \
        }                                                                                          \
    } while (0)

#endif
