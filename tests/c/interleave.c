/* Explores how the steps inside the table's operations interleave: the real core runs, and at each
 * of its mutexes, and before it wakes somebody, any other thread may go on.
 *
 *     interleave [LIMIT] [SCRIPT]
 *
 * Runs each script below, or the one given, in every order, giving up at LIMIT states. What is
 * checked: nobody holds in conflict, nobody waits for ever, nothing is left in the table, no
 * reference is lost or left over, every wait ends as it may.
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
    "!x: get 0 a!; get 1 c!; put 1; put 0 | y: get 2 c!; get 3 a!; put 3; put 2 | z: get 4 a; put "
    "4",
    "!x: get 0 a!; get 1 c!; put 1; put 0 | y: get 2 c!; hope 3 a!; put 3; put 2",
    "!x: get 0 a; get 1 a!; put 1; put 0 | y: get 2 a; get 3 a!; put 3; put 2",
    "!x: get 0 a!; get 1 c!; put 1; put 0 | y: get 2 c!; get 3 a!; put 3; put 2 | -: clear",
    "!x: get 0 a b; put 0; get 1 a!; put 1 | y: get 2 a! b!; put 2 | z: get 3 a; put 3",
    /* Who is asked to look is granted meanwhile. */
    "!x: get 0 a! b! / put 0 | y: get 2 c! / get 3 a!; put 3; put 2 | x: get 1 c! / put 1"
    " | z: / get 4 b!; put 4",
    "!x: get 0 a! / put 0 | y: get 2 c! / get 3 a!; put 3; put 2 | x: get 1 c! / put 1 | -: / "
    "clear",
    /* A grant that lets several in; waiters found blocked further on. */
    "x: get 0 a! b! c! / put 0 | y: get 1 a b! / put 1 | z: get 2 a c! / put 2 | w: hope 3 b c; "
    "put 3",
    "x: get 0 c! / put 0 | y: get 1 a! c! / put 1 | z: get 2 a!; put 2 | w: get 3 a!; put 3",
    "x: get 0 c! / put 0 | y: hope 1 a! c! / put 1 | z: get 2 a! / put 2 | w: get 3 a! / put 3",
    "x: get 0 a / put 0 | y: get 1 a / put 1 | z: get 2 a! / put 2 | x: get 3 a!; put 3",
    "!x: get 0 a; get 1 d! / put 0 | w: get 2 a / put 2 | y: get 3 a! d! / put 3"
    " | x: get 4 a! / put 4; put 1",
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

/* Requests and waiters are not from fibers_malloc(): they hold more than is state. */
#define MAX_WAITERS (2 * MAX_SLOTS)
static lc_waiter waiters[MAX_WAITERS];
static int n_waiters;

static struct {
    _Alignas(16) char bytes[MAX_WAITERS * 1024];
    size_t used;
} request_arena;

static bool makes_request[MAX_FIBERS];

static void *
request_malloc(size_t size)
{
    if (fibers_self() >= 0 && !makes_request[fibers_self()]) {
        return fibers_malloc(size);
    }
    void *memory = request_arena.bytes + request_arena.used;
    request_arena.used += (size + 15) & ~(size_t)15;
    return request_arena.used <= sizeof(request_arena.bytes) ? memory : NULL;
}

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
    REQUIRE(n_waiters < MAX_WAITERS);
    lc_waiter *waiter = &waiters[n_waiters++];
    waiter->wake = wake;
    waiter->parker = (void *)(intptr_t)fibers_self();
    lc_status status = lc_acquire(table, request, waiter, NULL);
    return status == LC_QUEUED ? park(request, verb == HOPE || verb == HOPE_UP) : status;
}

static bool
upgrade(const op *op)
{
    lc_request *request = requests[op->slot];
    if (lc_begin_upgrade(table, request) != LC_OK) {
        return false;
    }
    makes_request[fibers_self()] = true;
    lc_request *more = upgrades[op->slot] = lc_request_upgrade(table, request, NULL);
    makes_request[fibers_self()] = false;
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
        if (i == actor->n_first) {
            fibers_ready();
        }
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
            names[n] = (lc_name){.id = &script_key_names[key],
                                 .id_size = 1,
                                 .id_kind = LC_STR1,
                                 .mode = op->modes[key] == EXCLUSIVE ? LC_EXCLUSIVE : LC_SHARED,
                                 .position = n,
                                 .hash = (uint64_t)(key / 2 + 1) << 60
                                     | (uint64_t)(MAX_SCRIPT_KEYS - key)};
            n++;
        }
    }
    return lc_request_new(names, &n, owner == 0 ? NULL : &its, NULL);
}

/* ---- the table's memory, as new for each run ------------------------------- */

#define MAX_PAGES (64 * 1024 * 2)

static struct {
    _Alignas(4096) char bytes[MAX_PAGES];
    bool is_used;
} pages[4];

void *
lc_pages_new(size_t size)
{
    REQUIRE(size <= MAX_PAGES);
    for (int i = 0; i < 4; i++) {
        if (!pages[i].is_used) {
            pages[i].is_used = true;
            return pages[i].bytes;
        }
    }
    return NULL;
}

/* As where the system cannot do it in one step. */
bool
lc_pages_discard(void *memory, size_t size)
{
    (void)memory, (void)size;
    return false;
}

void
lc_pages_free(void *memory, size_t size)
{
    (void)memory, (void)size;
}

/* Not from fibers_malloc() either. */
static void *
table_malloc(size_t size)
{
    static lc_table memory;
    REQUIRE(size == sizeof(memory));
    return &memory;
}

static lc_bucket *
bucket_at(unsigned bits, uint64_t number)
{
    return &table->arrays[bits].buckets[number >> (64 - bits)];
}

static void
watch(unsigned bits)
{
    fibers_watch(&bucket_at(bits, UINT64_C(1) << 60)->mutex, true);
    fibers_watch(&bucket_at(bits, UINT64_C(2) << 60)->mutex, true);
    if (has_resize) {
        fibers_watch(&bucket_at(bits, 0)->mutex, false); /* the first that a resize takes */
    }
}

static void
begin_run(void)
{
    for (int i = 0; i < 4; i++) {
        if (pages[i].is_used) {
            memset(pages[i].bytes, 0, MAX_PAGES);
        }
        pages[i].is_used = false;
    }
    memset(waiters, 0, sizeof(waiters));
    memset(upgrades, 0, sizeof(upgrades));
    memset(shadow, 0, sizeof(shadow));
    memset(request_arena.bytes, 0, request_arena.used);
    n_waiters = 0;
    request_arena.used = 0;
    memset(makes_request, 0, sizeof(makes_request));
    lc_malloc_hook = table_malloc;
    table = lc_table_new();
    lc_malloc_hook = request_malloc;
    REQUIRE(table != NULL);
    lc_unregister_table(table); /* the next run's will be at the same place */
    fibers_watch_nothing();
    fibers_watch(&table->wait_mutex, false);
    watch(LC_MIN_BITS);
    if (has_resize) {
        resize(40);
        resize(0);
        watch(LC_MIN_BITS + 1);
    }
    for (int i = 0; i < current.n_actors; i++) {
        for (int j = 0; j < current.actors[i].n_ops; j++) {
            const op *op = &current.actors[i].ops[j];
            if (op->verb <= TRY) {
                requests[op->slot] = new_request(current.actors[i].owner, op);
            }
        }
    }
}

static uint64_t
hash_request(uint64_t hash, const lc_request *request)
{
    if (request == NULL) {
        return hash;
    }
    uint64_t fields[] = {atomic_load(&request->references), atomic_load(&request->state),
                         request->n_upgrades, (uint64_t)(uintptr_t)request->owner,
                         (uint64_t)(uintptr_t)request->waiter};
    hash = fibers_hash(hash, fields, sizeof(fields));
    if (request->owner != NULL) {
        hash = fibers_hash(hash, request->owner->bytes, request->owner->size);
    }
    for (uint32_t i = 0; i < request->n_links; i++) {
        const lc_link *link = &request->links[i];
        /* Of a link that is nowhere, the rest is left over; of one that is no head, two. */
        uint64_t its[] = {link->place, link->mode,
                          link->had_queue | link->is_blocked << 1 | link->is_open << 2,
                          link->place == LC_NOWHERE ? 0 : (uint64_t)(uintptr_t)link->next,
                          link->place == LC_NOWHERE ? 0 : (uint64_t)(uintptr_t)link->prev};
        hash = fibers_hash(hash, its, sizeof(its));
    }
    return hash;
}

static uint64_t
hash_bucket(uint64_t hash, const lc_bucket *bucket)
{
    uint64_t fields[] = {atomic_load(&bucket->mutex.taken), bucket->n,
                         (uint64_t)(uintptr_t)bucket->more};
    hash = fibers_hash(hash, fields, sizeof(fields));
    for (unsigned i = 0; i < bucket->n; i++) {
        const lc_link *head = bucket->heads[i];
        hash = fibers_hash(hash, &head, sizeof(head));
        hash = fibers_hash(hash, &head->queue, sizeof(head->queue));
    }
    return hash;
}

static uint64_t
hash_all(uint64_t hash)
{
    for (int i = 0; i < MAX_SLOTS; i++) {
        hash = hash_request(hash, requests[i]);
        hash = hash_request(hash, upgrades[i]);
    }
    for (int i = 0; i < n_waiters; i++) {
        const lc_waiter *waiter = &waiters[i];
        uint64_t fields[] = {waiter->arrival,
                             waiter->changed,
                             (uint64_t)(uintptr_t)waiter->next,
                             (uint64_t)(uintptr_t)waiter->prev,
                             (uint64_t)(uintptr_t)waiter->next_woken,
                             (uint64_t)(uintptr_t)waiter->next_candidate,
                             (uint64_t)(uintptr_t)waiter->next_look,
                             waiter->must_look | waiter->is_candidate << 1
                                 | waiter->is_victim << 2};
        hash = fibers_hash(hash, fields, sizeof(fields));
    }
    for (unsigned bits = LC_MIN_BITS; bits <= LC_MIN_BITS + (unsigned)has_resize; bits++) {
        hash = hash_bucket(hash, bucket_at(bits, UINT64_C(1) << 60));
        hash = hash_bucket(hash, bucket_at(bits, UINT64_C(2) << 60));
    }
    uint64_t fields[] = {(uint64_t)(uintptr_t)atomic_load(&table->array),
                         atomic_load(&table->closed),
                         atomic_load(&table->wait_mutex.taken),
                         table->arrivals,
                         table->n_waiting,
                         table->n_named_waiting,
                         (uint64_t)(uintptr_t)table->candidates,
                         (uint64_t)(uintptr_t)table->must_look};
    hash = fibers_hash(hash, fields, sizeof(fields));
    hash = fibers_hash(hash, table->waiting, sizeof(table->waiting));
    hash = fibers_hash(hash, shadow, sizeof(shadow));
    hash = fibers_hash(hash, shadow_owner, sizeof(shadow_owner));
    return fibers_hash(hash, upgrades, sizeof(upgrades));
}

static void
end_request(lc_request *request)
{
    if (request != NULL) {
        lc_release(table, request);
        REQUIRE(atomic_load(&request->references) == 1);
    }
}

static void
end_run(uint32_t stuck)
{
    if (stuck != 0) {
        explorer_fail("an actor waits for ever");
    }
    for (int i = 0; i < MAX_SLOTS; i++) {
        end_request(upgrades[i]);
        end_request(requests[i]);
    }
    REQUIRE(table->n_waiting == 0 && table->n_named_waiting == 0);
    REQUIRE(table->candidates == NULL && table->must_look == NULL);
    for (int half = 1; half <= MAX_SCRIPT_KEYS / 2; half++) {
        const lc_bucket *bucket = bucket_at(atomic_load(&table->array)->bits, (uint64_t)half << 60);
        REQUIRE(bucket->n == 0 && bucket->more == NULL);
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

/* The other points are at mutexes. */
static void
at_sync_point(const char *point)
{
    if (strcmp(point, "before-wake") == 0) {
        fibers_point();
    }
}

static explored
interleave(const char *text, uint64_t limit)
{
    current_text = text;
    may_deadlock = text[0] == '!';
    REQUIRE(script_parse(&current, text + may_deadlock));
    look_at_script();
    memset(requests, 0, sizeof(requests));
    exploration what = {current.n_actors, begin_run, run_actor, end_run, hash_all, limit};
    return fibers_explore(&what);
}

int
main(int argc, char **argv)
{
    uint64_t limit = argc > 1 ? strtoull(argv[1], NULL, 10) : 4000;
    unsigned n_scripts = argc > 2 ? 1 : sizeof(scripts) / sizeof(scripts[0]), n_complete = 0;
    explored all = {0};
    lc_sync_hook = at_sync_point;
    for (unsigned i = 0; i < n_scripts; i++) {
        const char *text = argc > 2 ? argv[2] : scripts[i];
        explored its = interleave(text, limit);
        n_complete += its.is_complete;
        all.states += its.states;
        all.runs += its.runs;
        all.ends += its.ends;
        if (limit > 10000) {
            printf("%8s %9llu states %9llu runs %7llu ends  %s\n", its.is_complete ? "all" : "part",
                   (unsigned long long)its.states, (unsigned long long)its.runs,
                   (unsigned long long)its.ends, text);
            fflush(stdout);
        }
    }
    printf("interleaved %u scripts, %u of them in all orders: %llu states, %llu runs, %llu ends; "
           "%llu waits, %llu deadlocks, %llu timeouts\n",
           n_scripts, n_complete, (unsigned long long)all.states, (unsigned long long)all.runs,
           (unsigned long long)all.ends, (unsigned long long)n_waits,
           (unsigned long long)n_deadlocks, (unsigned long long)n_timeouts);
    return 0;
}
