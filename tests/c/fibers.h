/* Threads that take turns, on one processor: one runs until it comes to a point where another
 * could, and the explorer says who goes on. It tries all of them, depth first, and turns back at
 * states it has seen: states are told apart by a hash of all memory, the stacks included.
 */
#ifndef FIBERS_H
#define FIBERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "scheduled.h"

#define MAX_FIBERS 4

/* Why a parked fiber goes on. */
enum event { WOKEN, LOOKS, TIMES_OUT };

typedef struct exploration {
    int n;                          /* fibers */
    void (*begin)(void);            /* before each run */
    void (*run)(int fiber);
    void (*end)(uint32_t stuck); /* after a whole one; hears which fibers are parked for ever */
    uint64_t (*hash)(uint64_t hash); /* adds what is neither on a stack nor from fibers_malloc() */
    uint64_t limit; /* of states: gives up there */
} exploration;

typedef struct explored {
    uint64_t states, runs, ends, points;
    bool is_complete;
} explored;

/* A parked fiber may look once for each time it parks, and time out if it said so. */
explored fibers_explore(const exploration *what);

/* For the running fiber. */
int fibers_self(void);
void fibers_ready(void); /* what is to be done first is done */
enum event fibers_park(bool may_look, bool may_time_out);
void fibers_wake(int fiber);
void fibers_point(void); /* another may go on here */

/* Memory until the end of the run, zeroed; freed memory is not used again. */
void *fibers_malloc(size_t size);

uint64_t fibers_hash(uint64_t hash, const void *memory, size_t size);

/* Only at these mutexes another may go on; `after`: also when it was opened. */
void fibers_watch(const lc_mutex *mutex, bool after);
void fibers_watch_nothing(void);

/* The choices of this run so far, for messages. */
void fibers_print_run(void);

/* Given by the program: ends it. */
_Noreturn void explorer_fail(const char *what);

#endif
