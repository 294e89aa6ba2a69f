/* A call in a thread of its own that stops at a sync point of the core, so that a test can run past
 * it on purpose.
 */
#ifndef ACTORS_H
#define ACTORS_H

#include <pthread.h>

#include "support.h"

/* One thread waits for what another does. */
typedef struct gate {
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    bool is_open;
} gate;

/* A call in a thread of its own that stops at a sync point. */
typedef struct actor {
    void (*call)(struct actor *self);
    party *party;
    lc_status status; /* what the call returned */
    lc_rows *rows;
    const char *point; /* where to stop; NULL once it has */
    atomic_bool has_ended;
    gate stopped, may_go;
    pthread_t thread;
} actor;

/* Starts the call, and returns once it is stopped at the point. Without one returns at once. */
void start(actor *actor, void (*call)(struct actor *self), party *party, const char *point);

/* Lets it go on. */
void let_go(actor *actor);

/* Returns: what the call returned, when it has. */
lc_status end_of(actor *actor);

/* Both. */
lc_status go_on(actor *actor);

/* Calls. */
void do_submit(actor *self);
void do_release(actor *self);
void do_cancel(actor *self);
void do_time_out(actor *self);
void do_transfer(actor *self);
void do_break_deadlock(actor *self);

/* Ends every grant. Returns: how many there were. */
size_t clear(void);

#endif
