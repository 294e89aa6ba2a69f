/* Explores how the steps inside the table's operations interleave: the real core runs, and at each
 * of its mutexes, and before it wakes somebody, any other thread may go on.
 *
 *     interleave [LIMIT] [SCRIPT]
 *
 * Runs each script below, or the one given, in every order, giving up at LIMIT states. What is
 * checked: nobody holds in conflict, nobody waits for ever, nothing is left in the table, no
 * reference is lost or left over, every wait ends as it may.
 */
#include "interleave.h"

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

interleaving now;

static struct {
    _Alignas(16) char bytes[MAX_WAITERS * 1024];
    size_t used;
} request_arena;

static void *
request_malloc(size_t size)
{
    if (fibers_self() >= 0 && !now.makes_request[fibers_self()]) {
        return fibers_malloc(size);
    }
    void *memory = request_arena.bytes + request_arena.used;
    request_arena.used += (size + 15) & ~(size_t)15;
    return request_arena.used <= sizeof(request_arena.bytes) ? memory : NULL;
}

_Noreturn void
explorer_fail(const char *what)
{
    fprintf(stderr, "interleave: %s\n  script: %s\n  choices:", what, now.text);
    fibers_print_run();
    abort();
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
            names[n] = key_name(key);
            names[n].mode = op->modes[key] == EXCLUSIVE ? LC_EXCLUSIVE : LC_SHARED;
            names[n].position = n;
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
    return &now.table->arrays[bits].buckets[number >> (64 - bits)];
}

static void
watch(unsigned bits)
{
    fibers_watch(&bucket_at(bits, UINT64_C(1) << 60)->mutex, true);
    fibers_watch(&bucket_at(bits, UINT64_C(2) << 60)->mutex, true);
    if (now.has_resize) {
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
    memset(now.waiters, 0, sizeof(now.waiters));
    memset(now.upgrades, 0, sizeof(now.upgrades));
    memset(now.shadow, 0, sizeof(now.shadow));
    memset(request_arena.bytes, 0, request_arena.used);
    now.n_waiters = 0;
    request_arena.used = 0;
    memset(now.makes_request, 0, sizeof(now.makes_request));
    lc_malloc_hook = table_malloc;
    now.table = lc_table_new();
    lc_malloc_hook = request_malloc;
    REQUIRE(now.table != NULL);
    lc_unregister_table(now.table); /* the next run's will be at the same place */
    fibers_watch_nothing();
    fibers_watch(&now.table->wait_mutex, false);
    watch(LC_MIN_BITS);
    if (now.has_resize) {
        resize(true);
        resize(false);
        watch(LC_MIN_BITS + 1);
    }
    for (int i = 0; i < now.script.n_actors; i++) {
        for (int j = 0; j < now.script.actors[i].n_ops; j++) {
            const op *op = &now.script.actors[i].ops[j];
            if (op->verb <= TRY) {
                now.requests[op->slot] = new_request(now.script.actors[i].owner, op);
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
        hash = hash_request(hash, now.requests[i]);
        hash = hash_request(hash, now.upgrades[i]);
    }
    for (int i = 0; i < now.n_waiters; i++) {
        const lc_waiter *waiter = &now.waiters[i];
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
    for (unsigned bits = LC_MIN_BITS; bits <= LC_MIN_BITS + (unsigned)now.has_resize; bits++) {
        hash = hash_bucket(hash, bucket_at(bits, UINT64_C(1) << 60));
        hash = hash_bucket(hash, bucket_at(bits, UINT64_C(2) << 60));
    }
    uint64_t fields[] = {(uint64_t)(uintptr_t)atomic_load(&now.table->array),
                         atomic_load(&now.table->closed),
                         atomic_load(&now.table->wait_mutex.taken),
                         now.table->arrivals,
                         now.table->n_waiting,
                         now.table->n_named_waiting,
                         (uint64_t)(uintptr_t)now.table->candidates,
                         (uint64_t)(uintptr_t)now.table->must_look};
    hash = fibers_hash(hash, fields, sizeof(fields));
    hash = fibers_hash(hash, now.table->waiting, sizeof(now.table->waiting));
    hash = fibers_hash(hash, now.shadow, sizeof(now.shadow));
    hash = fibers_hash(hash, now.shadow_owner, sizeof(now.shadow_owner));
    return fibers_hash(hash, now.upgrades, sizeof(now.upgrades));
}

static void
end_request(lc_request *request)
{
    if (request != NULL) {
        lc_release(now.table, request);
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
        end_request(now.upgrades[i]);
        end_request(now.requests[i]);
    }
    REQUIRE(now.table->n_waiting == 0 && now.table->n_named_waiting == 0);
    REQUIRE(now.table->candidates == NULL && now.table->must_look == NULL);
    for (int half = 1; half <= MAX_SCRIPT_KEYS / 2; half++) {
        const lc_bucket *bucket =
            bucket_at(atomic_load(&now.table->array)->bits, (uint64_t)half << 60);
        REQUIRE(bucket->n == 0 && bucket->more == NULL);
    }
}

static void
look_at_script(void)
{
    uint8_t maker[MAX_SLOTS] = {0};
    now.has_shadow = true;
    now.has_resize = false;
    for (int i = 0; i < now.script.n_actors; i++) {
        for (int j = 0; j < now.script.actors[i].n_ops; j++) {
            const op *op = &now.script.actors[i].ops[j];
            if (op->verb <= TRY) {
                maker[op->slot] = (uint8_t)i;
            }
        }
    }
    for (int i = 0; i < now.script.n_actors; i++) {
        for (int j = 0; j < now.script.actors[i].n_ops; j++) {
            const op *op = &now.script.actors[i].ops[j];
            now.has_shadow &= op->verb < GIVE && maker[op->slot] == i;
            now.has_resize |= op->verb == GROW || op->verb == SHRINK;
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
    now.text = text;
    now.may_deadlock = text[0] == '!';
    REQUIRE(script_parse(&now.script, text + now.may_deadlock));
    look_at_script();
    memset(now.requests, 0, sizeof(now.requests));
    exploration what = {now.script.n_actors, begin_run, run_actor, end_run, hash_all, limit};
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
           (unsigned long long)all.ends, (unsigned long long)now.n_waits,
           (unsigned long long)now.n_deadlocks, (unsigned long long)now.n_timeouts);
    return 0;
}
