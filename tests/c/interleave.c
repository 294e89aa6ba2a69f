/* Explores how the steps inside the table's operations interleave: the real core runs, and at each
 * of its mutexes and sync points any other thread may go on.
 *
 *     interleave [PREEMPTIONS] [SCRIPT]
 *
 * Runs each script below, or the one given, in every order with at most so many preemptions
 * (2 unless said). What is checked: nobody holds in conflict, nobody waits for ever, nothing is
 * left in the table, no reference is lost or left over, every wait ends as it may.
 */
#include "scheduled.h"

#include "fibers.h"
#include "lock_internal.h"
#include "script.h"

/* A script that begins with ! may come to a deadlock; all others must not report one. */
static const char *const scripts[] = {
    /* Release and enqueue, release and release. */
    "x: get 0 a!; put 0 | y: get 1 a!; put 1",
    "x: get 0 a!; put 0 | y: get 1 a!; put 1 | z: get 2 a!; put 2",
    "x: get 0 a; put 0 | y: get 1 a; put 1 | z: get 2 a!; put 2",
    "x: get 0 a! b!; put 0 | y: get 1 b! c; put 1 | z: get 2 c! a; put 2",
    "x: get 0 a! c!; put 0 | y: get 1 a!; put 1 | z: get 2 c!; put 2",
    "x: get 0 a c!; put 0 | y: get 1 a c!; put 1",
    "x: try 0 a!; put 0 | y: get 1 a; put 1 | z: try 2 a b; put 2",
    "-: get 0 a!; put 0 | -: get 1 a!; put 1 | -: get 2 a; put 2",
    /* Cancel, time out and grant. */
    "x: get 0 a!; put 0 | y: hope 1 a!; put 1",
    "x: get 0 a!; put 0 | y: hope 1 a!; put 1 | z: get 2 a!; put 2",
    "x: get 0 a c; put 0 | y: hope 1 a! c!; put 1 | z: get 2 c; put 2",
    "x: hope 0 a!; put 0 | y: hope 1 a!; put 1 | z: hope 2 a!; put 2",
    /* Release by another, clear, close. */
    "x: get 0 a!; put 0 | y: put 0; get 1 a!; put 1",
    "x: get 0 a!; put 0 | -: clear | y: get 1 a!; put 1",
    "x: get 0 a! c; put 0 | y: get 1 c!; put 1 | -: clear; clear",
    "x: get 0 a!; put 0 | y: hope 1 a!; put 1 | -: clear",
    "x: get 0 a!; put 0 | y: get 1 a!; put 1 | -: close",
    "x: get 0 a!; put 0 | y: hope 1 a!; put 1 | -: close",
    /* Listing takes references while others give theirs up. */
    "x: get 0 a!; put 0 | -: list a; list a | y: get 1 a!; put 1",
    "x: get 0 a; put 0; try 1 a; put 1 | -: list a | -: clear",
    /* Down, transfer. */
    "x: get 0 a!; down 0; put 0 | y: get 1 a; put 1 | z: get 2 a!; put 2",
    "x: get 0 a!; give 0 y; put 0 | y: get 1 a!; put 1",
    "x: get 0 a!; put 0 | -: give 0 y | y: get 1 a!; put 1",
    "x: get 0 a; put 0 | -: give 0 - | y: get 1 a!; put 1",
    "x: get 0 a!; put 0 | -: give 0 y; give 0 z | -: down 0",
    /* Upgrades. */
    "x: get 0 a; up 0; put 0 | y: get 1 a; put 1",
    "x: get 0 a; up 0; put 0 | y: get 1 a!; put 1",
    "x: get 0 a; hopeup 0; put 0 | y: get 1 a; put 1 | -: put 0",
    "x: get 0 a; up 0; put 0 | -: clear",
    "x: get 0 a c; up 0; put 0 | -: down 0 | y: get 1 c; put 1",
    "-: get 0 a; up 0; put 0 | -: get 1 a; put 1 | -: give 0 z",
    "!x: get 0 a; up 0; put 0 | y: get 1 a; up 1; put 1",
    "!x: get 0 a; up 0; put 0 | y: get 1 a; hopeup 1; put 1 | z: get 2 a; put 2",
    /* Deadlocks: found, by one of them, whoever looks when. */
    "!x: get 0 a!; get 1 c!; put 1; put 0 | y: get 2 c!; get 3 a!; put 3; put 2",
    "!x: get 0 a!; get 1 c!; put 1; put 0 | y: get 2 c!; get 3 a!; put 3; put 2 | z: get 4 a; put 4",
    "!x: get 0 a!; get 1 c!; put 1; put 0 | y: get 2 c!; hope 3 a!; put 3; put 2",
    "!x: get 0 a; get 1 a!; put 1; put 0 | y: get 2 a; get 3 a!; put 3; put 2",
    "!x: get 0 a!; get 1 c!; put 1; put 0 | y: get 2 c!; get 3 a!; put 3; put 2 | -: clear",
    "!x: get 0 a! b!; put 0 | x: get 1 c!; put 1 | y: get 2 c!; get 3 a!; put 3; put 2 | z: get 4 b!; put 4",
    "!x: get 0 a b; put 0; get 1 a!; put 1 | y: get 2 a! b!; put 2 | z: get 3 a; put 3",
    /* The array of buckets is resized. */
    "x: get 0 a!; put 0 | -: grow",
    "x: get 0 a! c; put 0 | y: get 1 a!; put 1 | -: grow",
    "x: get 0 a! c!; put 0 | -: grow; shrink",
    "x: get 0 a!; put 0 | y: hope 1 a!; put 1 | -: grow; shrink",
    "x: get 0 a; up 0; put 0 | -: grow; list a",
};

static const char *current_text;
static script current;
static bool may_deadlock, has_shadow, has_resize;
static lc_table *table;
static lc_request *requests[MAX_SLOTS], *upgrades[MAX_SLOTS];
static uint64_t n_deadlocks, n_timeouts, n_waits;

_Noreturn void
explorer_fail(const char *what)
{
    fprintf(stderr, "interleave: %s\n  script: %s\n  choices:", what, current_text);
    fibers_print_run();
    abort();
}

#define REQUIRE(claim)                                                                             \
    do {                                                                                           \
        if (!(claim)) {                                                                            \
            explorer_fail(#claim);                                                                 \
        }                                                                                          \
    } while (0)

/* ---- who should hold what, by what the calls returned ---------------------- */

static uint8_t shadow[MAX_SLOTS][MAX_SCRIPT_KEYS];
static int shadow_owner[MAX_SLOTS];

/* Without modes: what the slot has, exclusive. */
static void
shadow_take(int slot, const uint8_t *modes)
{
    for (int key = 0; has_shadow && key < MAX_SCRIPT_KEYS; key++) {
        uint8_t mode = modes != NULL ? modes[key] : shadow[slot][key] ? EXCLUSIVE : ABSENT;
        for (int other = 0; other < MAX_SLOTS; other++) {
            if (mode != ABSENT && shadow[other][key] != ABSENT
                && shadow_owner[other] != shadow_owner[slot]
                && (mode == EXCLUSIVE || shadow[other][key] == EXCLUSIVE)) {
                explorer_fail("two hold in conflict");
            }
        }
        shadow[slot][key] = mode;
    }
}

static void
shadow_give(int slot, bool all)
{
    for (int key = 0; key < MAX_SCRIPT_KEYS; key++) {
        shadow[slot][key] = all || shadow[slot][key] == ABSENT ? ABSENT : SHARED;
    }
}

/* ---- actors ---------------------------------------------------------------- */

static void
wake(lc_request *request)
{
    fibers_wake((int)(intptr_t)request->waiter->parker);
    REQUIRE(!lc_request_drop(request));
}

static void
dispose(lc_request *request)
{
    (void)request;
    explorer_fail("a request lost our reference");
}

/* As a thread would that parks. Returns: LC_OK, or why it is not granted. */
static lc_status
park(lc_request *request, bool may_time_out)
{
    lc_status status = LC_QUEUED;
    bool has_looked = false;
    n_waits++;
    while (status == LC_QUEUED) {
        enum event event = fibers_park(!has_looked, may_time_out);
        if (lc_request_state(request) == LC_HELD) {
            return LC_OK;
        }
        if (event == TIMES_OUT) {
            lc_rows blockers = {0};
            status = lc_cancel(table, request, true, &blockers);
            REQUIRE((blockers.n > 0) == (status == LC_CONFLICT));
            lc_rows_clear(&blockers, dispose);
            n_timeouts += status == LC_CONFLICT;
        } else {
            lc_rows cycle = {0};
            has_looked = true;
            status = lc_break_deadlock(table, request, &cycle);
            REQUIRE(status != LC_DEADLOCK || (may_deadlock && cycle.n >= 2));
            lc_rows_clear(&cycle, dispose);
            n_deadlocks += status == LC_DEADLOCK;
        }
    }
    return status;
}

static lc_status
acquire(lc_request *request, uint8_t verb)
{
    if (verb == TRY) {
        return lc_try_acquire(table, request);
    }
    lc_waiter *waiter = calloc(1, sizeof(*waiter));
    REQUIRE(waiter != NULL);
    waiter->wake = wake;
    waiter->parker = (void *)(intptr_t)fibers_self();
    lc_status status = lc_acquire(table, request, waiter, NULL);
    if (request->waiter != waiter) {
        free(waiter);
    }
    return status == LC_QUEUED ? park(request, verb == HOPE || verb == HOPE_UP) : status;
}

static bool
upgrade(const op *op)
{
    lc_request *request = requests[op->slot];
    if (lc_begin_upgrade(table, request) != LC_OK) {
        return false;
    }
    lc_request *more = upgrades[op->slot] = lc_request_upgrade(request, NULL);
    lc_status status = more->n_links > 0 ? acquire(more, op->verb) : LC_CONFLICT;
    if (lc_end_upgrade(table, request, status == LC_OK ? more : NULL) == LC_OK) {
        shadow_take(op->slot, NULL);
        return true;
    }
    lc_release(table, more);
    return false;
}

static void
list(const op *op, bool releases)
{
    lc_rows rows = {0};
    lc_name name = {.id_size = 1, .id_kind = LC_STR1};
    for (int key = 0; key < MAX_SCRIPT_KEYS; key++) {
        if (op->modes[key] != ABSENT) {
            name.id = &script_key_names[key];
            name.hash = (uint64_t)(key / 2 + 1) << 60 | (uint64_t)(MAX_SCRIPT_KEYS - key);
            REQUIRE(lc_list_key(table, &name, &rows) == LC_OK);
        }
    }
    if (releases) {
        REQUIRE(lc_list_holders(table, NULL, &rows) == LC_OK);
        lc_release_rows(table, &rows);
    }
    lc_rows_clear(&rows, dispose);
}

static void
resize(long sampled)
{
    atomic_store(&table->sampled_keys, sampled);
    lc_resize(table);
    atomic_store(&table->sampled_keys, 0);
}

static bool
do_op(const op *op, uint8_t owner)
{
    lc_request *request = requests[op->slot];
    lc_name to = {.id = &op->to, .id_size = 1, .id_kind = LC_STR1, .hash = op->to};
    lc_rows blockers = {0};
    switch ((enum verb)op->verb) {
    case GET:
    case HOPE:
    case TRY:
        if (acquire(request, op->verb) != LC_OK) {
            return false;
        }
        shadow_owner[op->slot] = owner != 0 ? owner : -1 - op->slot;
        shadow_take(op->slot, op->modes);
        return true;
    case PUT:
        shadow_give(op->slot, true);
        lc_release(table, request);
        return true;
    case UP:
    case HOPE_UP:
        return upgrade(op);
    case DOWN:
        shadow_give(op->slot, false);
        lc_downgrade(table, request);
        return true;
    case GIVE:
        lc_transfer(table, request, op->to == 0 ? NULL : &to, &blockers);
        lc_rows_clear(&blockers, dispose);
        return true;
    case CLEAR:
        list(op, true);
        return true;
    case CLOSE:
        lc_table_close(table);
        return true;
    case LIST:
        list(op, false);
        return true;
    case GROW:
        resize(40);
        return true;
    default:
        resize(0);
        return true;
    }
}

static void
run_actor(int number)
{
    const actor_script *actor = &current.actors[number];
    bool has_failed = false;
    for (int i = 0; i < actor->n_ops; i++) {
        const op *op = &actor->ops[i];
        if (!has_failed || op->verb == PUT) {
            has_failed |= !do_op(op, actor->owner);
        }
    }
}

/* ---- runs ------------------------------------------------------------------ */

static lc_request *
new_request(uint8_t owner, const op *op)
{
    lc_name names[MAX_SCRIPT_KEYS];
    lc_name its = {.id = &owner, .id_size = 1, .id_kind = LC_STR1, .hash = owner};
    uint32_t n = 0;
    for (int key = 0; key < MAX_SCRIPT_KEYS; key++) {
        if (op->modes[key] != ABSENT) {
            names[n] = (lc_name){
                .id = &script_key_names[key],
                .id_size = 1,
                .id_kind = LC_STR1,
                .mode = op->modes[key] == EXCLUSIVE ? LC_EXCLUSIVE : LC_SHARED,
                .position = n,
                .hash = (uint64_t)(key / 2 + 1) << 60 | (uint64_t)(MAX_SCRIPT_KEYS - key)};
            n++;
        }
    }
    return lc_request_new(names, &n, owner == 0 ? NULL : &its, NULL);
}

static void
watch_array(unsigned bits)
{
    for (int half = 0; half < MAX_SCRIPT_KEYS / 2; half++) {
        uint64_t hash = (uint64_t)(half + 1) << 60;
        fibers_watch(&table->arrays[bits].buckets[hash >> (64 - bits)].mutex);
    }
    if (has_resize) {
        fibers_watch(&table->arrays[bits].buckets[0].mutex); /* the first that a resize takes */
    }
}

static void
begin_run(void)
{
    if (table == NULL) {
        table = lc_table_new();
        REQUIRE(table != NULL);
        if (has_resize) {
            resize(40);
            resize(0);
        }
        fibers_watch_nothing();
        fibers_watch(&table->wait_mutex);
        watch_array(LC_MIN_BITS);
        if (has_resize) {
            watch_array(LC_MIN_BITS + 1);
        }
    }
    table->arrivals = table->visits = 0; /* as new: so that runs repeat */
    for (int i = 0; i < current.n_actors; i++) {
        for (int j = 0; j < current.actors[i].n_ops; j++) {
            const op *op = &current.actors[i].ops[j];
            if (op->verb <= TRY) {
                requests[op->slot] = new_request(current.actors[i].owner, op);
            }
        }
    }
}

static void
end_request(lc_request **request)
{
    if (*request != NULL) {
        lc_release(table, *request);
        REQUIRE(atomic_load(&(*request)->references) == 1);
        REQUIRE(lc_request_drop(*request));
        lc_request_free(*request);
        *request = NULL;
    }
}

static void
end_run(uint32_t stuck)
{
    if (stuck != 0) {
        explorer_fail("an actor waits for ever");
    }
    for (int i = 0; i < MAX_SLOTS; i++) {
        end_request(&upgrades[i]);
        end_request(&requests[i]);
        shadow_give(i, true);
    }
    REQUIRE(table->n_waiting == 0 && table->n_named_waiting == 0);
    REQUIRE(table->candidates == NULL && table->must_look == NULL);
    REQUIRE(lc_count_held(table) == 0);
    if (lc_table_is_closed(table) || has_resize) {
        REQUIRE(lc_table_free(table) == NULL);
        table = NULL;
    }
}

static void
look_at_script(void)
{
    uint8_t maker[MAX_SLOTS] = {0};
    has_shadow = true;
    has_resize = false;
    for (int i = 0; i < current.n_actors; i++) {
        for (int j = 0; j < current.actors[i].n_ops; j++) {
            const op *op = &current.actors[i].ops[j];
            if (op->verb <= TRY) {
                maker[op->slot] = (uint8_t)i;
            }
        }
    }
    for (int i = 0; i < current.n_actors; i++) {
        for (int j = 0; j < current.actors[i].n_ops; j++) {
            const op *op = &current.actors[i].ops[j];
            has_shadow &= op->verb < GIVE && maker[op->slot] == i;
            has_resize |= op->verb == GROW || op->verb == SHRINK;
        }
    }
}

static void
at_sync_point(const char *point)
{
    (void)point;
    fibers_point();
}

static uint64_t
interleave(const char *text, unsigned preemptions)
{
    current_text = text;
    may_deadlock = text[0] == '!';
    REQUIRE(script_parse(&current, text + may_deadlock));
    look_at_script();
    if (table != NULL) {
        REQUIRE(lc_table_free(table) == NULL);
        table = NULL;
    }
    return fibers_explore(current.n_actors, run_actor, begin_run, end_run, preemptions);
}

int
main(int argc, char **argv)
{
    unsigned preemptions = argc > 1 ? (unsigned)atoi(argv[1]) : 2;
    unsigned n_scripts = sizeof(scripts) / sizeof(scripts[0]);
    uint64_t runs = 0;
    lc_sync_hook = at_sync_point;
    if (argc > 2) {
        n_scripts = 1;
        runs = interleave(argv[2], preemptions);
    }
    for (unsigned i = 0; i < n_scripts && argc <= 2; i++) {
        uint64_t its = interleave(scripts[i], preemptions);
        runs += its;
        if (argc > 1) {
            printf("%9llu runs  %s\n", (unsigned long long)its, scripts[i]);
            fflush(stdout);
        }
    }
    printf("interleaved %u scripts with up to %u preemptions: %llu runs, %llu points, %llu choices; "
           "%llu waits, %llu deadlocks, %llu timeouts\n",
           n_scripts, preemptions, (unsigned long long)runs, (unsigned long long)fibers_points,
           (unsigned long long)fibers_choices, (unsigned long long)n_waits,
           (unsigned long long)n_deadlocks, (unsigned long long)n_timeouts);
    return 0;
}
