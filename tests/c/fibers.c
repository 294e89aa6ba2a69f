#include "fibers.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>

#ifndef __has_feature
#define __has_feature(feature) 0
#endif

#if defined(__SANITIZE_ADDRESS__) || __has_feature(address_sanitizer)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#else
#define ASAN_POISON_MEMORY_REGION(memory, size) ((void)(memory), (void)(size))
#define ASAN_UNPOISON_MEMORY_REGION(memory, size) ((void)(memory), (void)(size))
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

#define STACK_BYTES (64 * 1024)
#define ARENA_BYTES (64 * 1024)
#define MAX_CHOICES 4096
#define MAX_WATCHED 16
#define SEEN_BITS 24

enum state { RUNS, READY, LOCKS, PARKED, DONE };

typedef struct arena {
    size_t used;
    _Alignas(16) char bytes[ARENA_BYTES];
} arena;

typedef struct fiber {
    ucontext_t context;
    void *fake_stack;           /* AddressSanitizer's */
    enum state state;
    const lc_mutex *wants;      /* LOCKS */
    bool is_woken, may_look, may_time_out;
    enum event event;
    uint64_t stack_hash;        /* since it last ran */
    arena arena;
    _Alignas(16) char stack[STACK_BYTES];
} fiber;

typedef struct option {
    uint8_t fiber;
    uint8_t event;
} option;

typedef struct choice {
    option options[3 * MAX_FIBERS];
    uint8_t n, chosen;
} choice;

static fiber fibers[MAX_FIBERS];
static arena first_arena;       /* of what is made before the fibers run */
static int self = -1;           /* -1: the explorer itself */
static ucontext_t explorer;
static void *explorer_fake_stack;
static const void *explorer_bottom;
static size_t explorer_size;

static const exploration *current;
static explored result;
static int setting_up;          /* the fiber that does what is to be done first; n: over */
static bool is_known;           /* this run has come to a state seen before */

static choice choices[MAX_CHOICES];
static int n_choices, at_choice;

static struct {
    const lc_mutex *mutex;
    bool after;
} watched[MAX_WATCHED];
static int n_watched;

/* ---- memory ---------------------------------------------------------------- */

void *
fibers_malloc(size_t size)
{
    arena *arena = self < 0 ? &first_arena : &fibers[self].arena;
    size = (size + 15) & ~(size_t)15;
    if (arena->used + size > ARENA_BYTES) {
        explorer_fail("a run needs too much memory");
    }
    void *memory = arena->bytes + arena->used;
    arena->used += size;
    return memory;
}

/* Sizes are not kept: only the first bytes say that this is freed. */
void
fibers_free(void *memory)
{
    if (memory != NULL) {
        memset(memory, 0xDD, 16);
        ASAN_POISON_MEMORY_REGION(memory, 16);
    }
}

static void
empty(arena *arena)
{
    ASAN_UNPOISON_MEMORY_REGION(arena->bytes, arena->used);
    memset(arena->bytes, 0, arena->used);
    arena->used = 0;
}

/* ---- states ---------------------------------------------------------------- */

__attribute__((no_sanitize("address"))) uint64_t
fibers_hash(uint64_t hash, const void *memory, size_t size)
{
    const char *bytes = memory;
    for (; size >= sizeof(uint64_t); size -= sizeof(uint64_t), bytes += sizeof(uint64_t)) {
        uint64_t word;
        __builtin_memcpy(&word, bytes, sizeof(word));
        hash = (hash ^ word) * UINT64_C(0x9E3779B97F4A7C15);
        hash ^= hash >> 32;
    }
    for (; size > 0; size--) {
        hash = (hash ^ (unsigned char)*bytes++) * UINT64_C(0x9E3779B97F4A7C15);
    }
    return hash ^ hash >> 29;
}

/* Called with all registers that must be kept on the stack already. */
__attribute__((noinline)) static void
note_stack(fiber *fiber)
{
    const char *low = __builtin_frame_address(0);
    fiber->stack_hash = fibers_hash(1, low, (size_t)(fiber->stack + STACK_BYTES - low));
}

static uint64_t
fingerprint(void)
{
    uint64_t hash = fibers_hash((uint64_t)self, first_arena.bytes, first_arena.used);
    for (int i = 0; i < current->n; i++) {
        const fiber *fiber = &fibers[i];
        uint64_t all[] = {fiber->state,
                          (uint64_t)(uintptr_t)fiber->wants,
                          fiber->is_woken,
                          fiber->may_look,
                          fiber->event,
                          fiber->may_time_out,
                          fiber->state == DONE ? 0 : fiber->stack_hash};
        hash = fibers_hash(hash, all, sizeof(all));
        hash = fibers_hash(hash, fiber->arena.bytes, fiber->arena.used);
    }
    return current->hash(hash);
}

static uint64_t *seen;

/* Returns: whether it is new. Zero stands for an empty place. */
static bool
see(uint64_t hash)
{
    uint64_t mask = (UINT64_C(1) << SEEN_BITS) - 1, i = hash & mask;
    hash |= 1;
    while (seen[i] != 0) {
        if (seen[i] == hash) {
            return false;
        }
        i = (i + 1) & mask;
    }
    seen[i] = hash;
    result.states++;
    return true;
}

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
    self = to;
    __sanitizer_start_switch_fiber(fake, to < 0 ? explorer_bottom : fibers[to].stack,
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
list_options(choice *choice)
{
    choice->n = choice->chosen = 0;
    while (setting_up < current->n && fibers[setting_up].state != RUNS
           && fibers[setting_up].state != LOCKS) {
        setting_up++;
    }
    if (setting_up < current->n) {
        add_option(choice, setting_up, WOKEN);
        return;
    }
    for (int i = 0; i < current->n; i++) {
        const fiber *fiber = &fibers[i];
        if (fiber->state == RUNS || fiber->state == READY
            || (fiber->state == LOCKS && atomic_load(&fiber->wants->taken) == 0)
            || (fiber->state == PARKED && fiber->is_woken)) {
            add_option(choice, i, WOKEN);
        }
        if (fiber->state == PARKED && !fiber->is_woken && fiber->may_look) {
            add_option(choice, i, LOOKS);
        }
        if (fiber->state == PARKED && fiber->may_time_out) {
            add_option(choice, i, TIMES_OUT);
        }
    }
}

/* Decides who goes on, and lets it. */
__attribute__((noinline)) static void
schedule(void)
{
    static choice now; /* not on the stack, where it would tell states apart */
    if (self >= 0) {
        __builtin_unwind_init();
        note_stack(&fibers[self]);
    }
    list_options(&now);
    result.points++;
    if (now.n == 0) {
        switch_to(-1); /* all are done, or stuck */
        return;
    }
    option option = now.options[0];
    if (now.n > 1) {
        if (at_choice == n_choices) {
            if (!see(fingerprint())) {
                is_known = true;
                switch_to(-1);
            }
            if (n_choices == MAX_CHOICES) {
                explorer_fail("too many choices in one run");
            }
            choices[n_choices++] = now;
        } else if (choices[at_choice].n != now.n) {
            explorer_fail("a run does not repeat");
        }
        option = now.options[choices[at_choice++].chosen];
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
fibers_ready(void)
{
    fibers[self].state = READY;
    schedule();
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
    fiber->may_look = fiber->may_time_out = false;
    fiber->is_woken &= fiber->event != WOKEN;
    return fiber->event;
}

void
fibers_wake(int fiber)
{
    fibers[fiber].is_woken = true;
}

void
fibers_watch(const lc_mutex *mutex, bool after)
{
    if (n_watched == MAX_WATCHED) {
        explorer_fail("too many mutexes");
    }
    watched[n_watched].mutex = mutex;
    watched[n_watched++].after = after;
}

void
fibers_watch_nothing(void)
{
    n_watched = 0;
}

/* Returns: its place among the watched, or -1. */
static int
find_watched(const lc_mutex *mutex)
{
    int i = self < 0 ? -1 : n_watched - 1;
    while (i >= 0 && watched[i].mutex != mutex) {
        i--;
    }
    return i;
}

void
lc_mutex_lock(lc_mutex *mutex)
{
    if (find_watched(mutex) >= 0) {
        fibers[self].state = LOCKS;
        fibers[self].wants = mutex;
        schedule();
        fibers[self].wants = NULL;
    }
    if (atomic_load(&mutex->taken) != 0) {
        explorer_fail("a mutex that is taken is taken");
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
    int i = find_watched(mutex);
    if (i >= 0 && watched[i].after) {
        schedule();
    }
}

/* ---- what platform.c gives elsewhere --------------------------------------- */

void *(*lc_malloc_hook)(size_t size) = fibers_malloc;
void (*lc_sync_hook)(const char *point);

void
lc_mutex_lock_slow(lc_mutex *mutex)
{
    (void)mutex;
    explorer_fail("the platform's mutex is used");
}

int64_t
lc_now(void)
{
    return 0; /* time stands still: it is no state */
}

int64_t
lc_now_coarse(void)
{
    return 0;
}

void
lc_yield_thread(void)
{
}

void
lc_trim_memory(void)
{
}

/* ---- runs ------------------------------------------------------------------ */

static void
run_in_fiber(void)
{
    arrive(self);
    current->run(self);
    fibers[self].state = DONE;
    schedule();
    abort();
}

static void
make_fiber(fiber *fiber)
{
    fiber->state = RUNS;
    fiber->is_woken = fiber->may_look = fiber->may_time_out = false;
    fiber->fake_stack = NULL;
    fiber->wants = NULL;
    fiber->event = WOKEN;
    fiber->stack_hash = 0;
    empty(&fiber->arena);
    ASAN_UNPOISON_MEMORY_REGION(fiber->stack, STACK_BYTES);
    /* What a former run left on the stack would make equal states look different. */
    memset(fiber->stack + STACK_BYTES - 4096, 0, 4096);
    getcontext(&fiber->context);
    fiber->context.uc_stack.ss_sp = fiber->stack;
    fiber->context.uc_stack.ss_size = STACK_BYTES;
    fiber->context.uc_link = NULL;
    makecontext(&fiber->context, run_in_fiber, 0);
}

static void
run_once(void)
{
    uint32_t stuck = 0;
    empty(&first_arena);
    current->begin();
    for (int i = 0; i < current->n; i++) {
        make_fiber(&fibers[i]);
    }
    at_choice = setting_up = 0;
    is_known = false;
    result.runs++;
    schedule();
    if (is_known) {
        return;
    }
    for (int i = 0; i < current->n; i++) {
        stuck |= (uint32_t)(fibers[i].state != DONE) << i;
    }
    result.ends++;
    current->end(stuck);
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

explored
fibers_explore(const exploration *what)
{
    current = what;
    memset(&result, 0, sizeof(result));
    n_choices = 0;
    seen = calloc((size_t)1 << SEEN_BITS, sizeof(uint64_t));
    if (seen == NULL || what->limit >= (UINT64_C(1) << SEEN_BITS) / 2) {
        explorer_fail("there is no memory for so many states");
    }
    bool more = true;
    while (more && result.states < what->limit) {
        run_once();
        more = next_run();
    }
    result.is_complete = !more;
#undef free
    free(seen);
    return result;
}

void
fibers_print_run(void)
{
    for (int i = 0; i < at_choice; i++) {
        const option *option = &choices[i].options[choices[i].chosen];
        fprintf(stderr, " %d%s", option->fiber,
                option->event == LOOKS           ? "?"
                    : option->event == TIMES_OUT ? "!"
                                                 : "");
    }
    fprintf(stderr, "\n");
}
