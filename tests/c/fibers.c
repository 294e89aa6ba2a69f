#include "fibers.h"

#include <stdio.h>
#include <stdlib.h>
#include <ucontext.h>

#include "scheduled.h"

#ifndef __has_feature
#define __has_feature(feature) 0
#endif

#if defined(__SANITIZE_ADDRESS__) || __has_feature(address_sanitizer)
#include <sanitizer/common_interface_defs.h>
#else
static void
__sanitizer_start_switch_fiber(void **fake, const void *bottom, size_t size)
{
    (void)fake, (void)bottom, (void)size;
}

static void
__sanitizer_finish_switch_fiber(void *fake, const void **bottom, size_t *size)
{
    (void)fake, (void)bottom, (void)size;
}
#endif

#define STACK_BYTES (256 * 1024)
#define MAX_CHOICES 4096
#define MAX_WATCHED 16

enum state { RUNS, BLOCKED, PARKED, DONE };

typedef struct fiber {
    ucontext_t context;
    char *stack;
    void *fake_stack;           /* AddressSanitizer's */
    enum state state;
    const lc_mutex *wants;      /* BLOCKED */
    bool is_woken, may_look, may_time_out;
    enum event event;
} fiber;

typedef struct option {
    uint8_t fiber;
    uint8_t event;
} option;

typedef struct choice {
    option options[3 * MAX_FIBERS];
    uint8_t n, chosen;
} choice;

uint64_t fibers_points, fibers_choices;

static fiber fibers[MAX_FIBERS];
static int n_fibers;
static int self = -1;           /* -1: the explorer itself */
static ucontext_t explorer;
static void *explorer_fake_stack;
static const void *explorer_bottom;
static size_t explorer_size;
static void (*run_fiber)(int fiber);

static choice choices[MAX_CHOICES];
static int n_choices, at_choice;
static unsigned preemptions_left;

static const lc_mutex *watched[MAX_WATCHED];
static int n_watched;

/* ---- switching ------------------------------------------------------------- */

/* AddressSanitizer wants to know whose stack this is. */
static void
arrive(int at)
{
    const void *bottom = NULL;
    size_t size = 0;
    __sanitizer_finish_switch_fiber(at < 0 ? explorer_fake_stack : fibers[at].fake_stack, &bottom,
                                    &size);
    if (explorer_bottom == NULL) {
        explorer_bottom = bottom; /* the first to arrive came from the explorer */
        explorer_size = size;
    }
}

static void
switch_to(int to)
{
    int from = self;
    void **fake = from < 0 ? &explorer_fake_stack : &fibers[from].fake_stack;
    bool is_over = from >= 0 && fibers[from].state == DONE;
    self = to;
    __sanitizer_start_switch_fiber(is_over ? NULL : fake,
                                   to < 0 ? explorer_bottom : fibers[to].stack,
                                   to < 0 ? explorer_size : STACK_BYTES);
    swapcontext(from < 0 ? &explorer : &fibers[from].context,
                to < 0 ? &explorer : &fibers[to].context);
    arrive(from);
}

/* ---- choosing -------------------------------------------------------------- */

static void
add_option(choice *choice, int fiber, enum event event)
{
    choice->options[choice->n++] = (option){(uint8_t)fiber, (uint8_t)event};
}

static void
add_options_of(choice *choice, int number)
{
    const fiber *fiber = &fibers[number];
    if (fiber->state == RUNS
        || (fiber->state == BLOCKED && atomic_load(&fiber->wants->taken) == 0)
        || (fiber->state == PARKED && fiber->is_woken)) {
        add_option(choice, number, WOKEN);
    }
    if (fiber->state == PARKED && !fiber->is_woken && fiber->may_look) {
        add_option(choice, number, LOOKS);
    }
    if (fiber->state == PARKED && fiber->may_time_out) {
        add_option(choice, number, TIMES_OUT);
    }
}

/* Lists who may go on: the running fiber first, if it may; others only if that is no
 * preemption, or there is one left. */
static void
list_options(choice *choice)
{
    choice->n = choice->chosen = 0;
    bool goes_on = self >= 0 && fibers[self].state == RUNS;
    if (goes_on) {
        add_option(choice, self, WOKEN);
    }
    for (int i = 0; i < n_fibers && (!goes_on || preemptions_left > 0); i++) {
        if (i != self || !goes_on) {
            add_options_of(choice, i);
        }
    }
}

/* Decides who goes on, and lets it. */
static void
schedule(void)
{
    choice now;
    list_options(&now);
    fibers_points++;
    if (now.n == 0) {
        switch_to(-1); /* all are done, or stuck */
        return;
    }
    option option = now.options[0];
    if (now.n > 1) {
        if (at_choice == n_choices) {
            if (n_choices == MAX_CHOICES) {
                explorer_fail("too many choices in one run");
            }
            choices[n_choices++] = now;
            fibers_choices++;
        } else if (choices[at_choice].n != now.n) {
            explorer_fail("a run does not repeat");
        }
        option = now.options[choices[at_choice++].chosen];
    }
    if (self >= 0 && fibers[self].state == RUNS && option.fiber != self) {
        preemptions_left--;
    }
    fiber *next = &fibers[option.fiber];
    next->event = (enum event)option.event;
    next->state = RUNS;
    if (option.fiber != self) {
        switch_to(option.fiber);
    }
}

/* ---- for fibers ------------------------------------------------------------ */

int
fibers_self(void)
{
    return self;
}

void
fibers_point(void)
{
    if (self >= 0) {
        schedule();
    }
}

enum event
fibers_park(bool may_look, bool may_time_out)
{
    fiber *fiber = &fibers[self];
    fiber->state = PARKED;
    fiber->may_look = may_look;
    fiber->may_time_out = may_time_out;
    schedule();
    if (fiber->event == WOKEN) {
        fiber->is_woken = false;
    }
    return fiber->event;
}

void
fibers_wake(int fiber)
{
    fibers[fiber].is_woken = true;
}

void
fibers_watch(const lc_mutex *mutex)
{
    watched[n_watched++] = mutex;
    if (n_watched == MAX_WATCHED) {
        explorer_fail("too many mutexes");
    }
}

void
fibers_watch_nothing(void)
{
    n_watched = 0;
}

static bool
is_watched(const lc_mutex *mutex)
{
    for (int i = 0; i < n_watched; i++) {
        if (watched[i] == mutex) {
            return self >= 0;
        }
    }
    return false;
}

void
lc_mutex_lock(lc_mutex *mutex)
{
    if (is_watched(mutex)) {
        schedule();
        while (atomic_load(&mutex->taken) != 0) {
            fibers[self].state = BLOCKED;
            fibers[self].wants = mutex;
            schedule();
        }
    } else if (atomic_load(&mutex->taken) != 0) {
        explorer_fail("a mutex that nobody watches is taken");
    }
    atomic_store(&mutex->taken, 1);
}

void
lc_mutex_unlock(lc_mutex *mutex)
{
    if (atomic_load(&mutex->taken) == 0) {
        explorer_fail("an open mutex is opened");
    }
    atomic_store(&mutex->taken, 0);
    if (is_watched(mutex)) {
        schedule();
    }
}

/* ---- runs ------------------------------------------------------------------ */

static void
run_in_fiber(void)
{
    arrive(self);
    run_fiber(self);
    fibers[self].state = DONE;
    schedule();
    abort();
}

static void
make_fiber(int number)
{
    fiber *fiber = &fibers[number];
    if (fiber->stack == NULL) {
        fiber->stack = malloc(STACK_BYTES);
    }
    fiber->state = RUNS;
    fiber->is_woken = false;
    fiber->fake_stack = NULL;
    getcontext(&fiber->context);
    fiber->context.uc_stack.ss_sp = fiber->stack;
    fiber->context.uc_stack.ss_size = STACK_BYTES;
    fiber->context.uc_link = NULL;
    makecontext(&fiber->context, run_in_fiber, 0);
}

static bool
next_run(void)
{
    while (n_choices > 0 && choices[n_choices - 1].chosen + 1 == choices[n_choices - 1].n) {
        n_choices--;
    }
    if (n_choices == 0) {
        return false;
    }
    choices[n_choices - 1].chosen++;
    return true;
}

uint64_t
fibers_explore(int n, void (*run)(int fiber), void (*begin)(void), void (*end)(uint32_t stuck),
               unsigned preemptions)
{
    uint64_t runs = 0;
    n_fibers = n;
    run_fiber = run;
    n_choices = 0;
    do {
        uint32_t stuck = 0;
        begin();
        for (int i = 0; i < n; i++) {
            make_fiber(i);
        }
        at_choice = 0;
        preemptions_left = preemptions;
        schedule();
        for (int i = 0; i < n; i++) {
            stuck |= (uint32_t)(fibers[i].state != DONE) << i;
        }
        end(stuck);
        runs++;
    } while (next_run());
    return runs;
}

void
fibers_print_run(void)
{
    for (int i = 0; i < at_choice; i++) {
        const option *option = &choices[i].options[choices[i].chosen];
        fprintf(stderr, " %d%s", option->fiber,
                option->event == LOOKS          ? "?"
                    : option->event == TIMES_OUT ? "!"
                                                 : "");
    }
    fprintf(stderr, "\n");
}
