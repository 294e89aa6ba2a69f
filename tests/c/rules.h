/* The rules of the lock table, as plain as they can be put: what the explorer holds the core to.
 *
 * At a key, a request is blocked by a hold of another owner in a conflicting mode, and, unless its
 * own owner holds the key, by a waiter queued there that arrived earlier, is of another owner and
 * conflicts. A request blocked nowhere is granted whole; else it is queued where it is blocked.
 * When a key loses a holder or a waiter, or an owner gains a key, those whose places are not
 * blocked any more are tried, in order of arrival.
 */
#ifndef RULES_H
#define RULES_H

#include "script.h"

#define RULES_REQUESTS (2 * MAX_SLOTS)      /* the second half: upgrades of the first */

enum rules_state { R_NEW, R_WAITING, R_HELD, R_ENDED, R_SHUT_OUT };

typedef struct rules_request {
    int owner;                              /* above 0 a named one; all others are unique */
    uint8_t state;
    uint8_t queued;                         /* a bit for each key */
    uint8_t modes[MAX_SCRIPT_KEYS];
    uint8_t n_upgrades;
    int arrival;                            /* 0: none yet, which is later than any */
} rules_request;

typedef struct rules {
    rules_request requests[RULES_REQUESTS];
    int arrivals;
    int uniques;
    bool is_closed;
} rules;

/* Each returns what the core must: an lc_status. */
int rules_submit(rules *rules, int request, bool may_wait);
int rules_release(rules *rules, int request);
int rules_cancel(rules *rules, int request);
int rules_downgrade(rules *rules, int request);
int rules_transfer(rules *rules, int request, int owner);
int rules_begin_upgrade(rules *rules, int request);
void rules_build_upgrade(rules *rules, int request, int upgrade);
int rules_end_upgrade(rules *rules, int request, int upgrade, bool was_granted);
int rules_release_all(rules *rules,
                      uint32_t requests); /* a bit for each: how many grants were held */
void rules_close(rules *rules);

/* Returns: a number that is nobody's. */
int rules_new_owner(rules *rules);

bool rules_is_blocked(const rules *rules, int request, int key);

/* Returns: whether the waiting request waits, over others, for itself: for a hold of its own
 * owner, or for itself in a queue. An owner who holds waits through all its waiting requests. */
bool rules_is_deadlocked(const rules *rules, int request);

#endif
