/* Threads that take turns: one runs until it comes to a point where another could, and the
 * explorer says who goes on. All choices of a run are remembered, and the next run makes the next
 * ones, until there are no others with so many preemptions.
 */
#ifndef FIBERS_H
#define FIBERS_H

#include <stdbool.h>
#include <stdint.h>

#include "platform.h"

#define MAX_FIBERS 4

/* Why a parked fiber goes on. */
enum event { WOKEN, LOOKS, TIMES_OUT };

/* Runs the fibers' calls in every order there is with at most so many preemptions: changes to
 * another fiber where the running one could have gone on. A fiber that is parked may look once for
 * each time it parks, and time out if it said so.
 * `begin` and `end` enclose each run; `end` hears which fibers are parked for ever.
 * Returns: how many runs there were. */
uint64_t fibers_explore(int n, void (*run)(int fiber), void (*begin)(void),
                        void (*end)(uint32_t stuck), unsigned preemptions);

/* For the running fiber. */
int fibers_self(void);
enum event fibers_park(bool may_look, bool may_time_out);
void fibers_wake(int fiber);

/* A point where another may go on. */
void fibers_point(void);

/* Only these mutexes matter: at others there is no point. */
void fibers_watch(const lc_mutex *mutex);
void fibers_watch_nothing(void);

/* How many points and choices there have been. */
extern uint64_t fibers_points, fibers_choices;

/* The choices of this run so far, for messages. */
void fibers_print_run(void);

/* Given by the program: ends it. */
_Noreturn void explorer_fail(const char *what);

#endif
