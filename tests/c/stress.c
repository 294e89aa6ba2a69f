/* Stress: threads that acquire random sets in all ways there are.
 *
 *     stress [SECONDS] [SEED] [THREADS]
 *
 * Each key has an atomic counter and a plain value. Whoever holds the key exclusive adds one to
 * both; whoever holds it shared, or exclusive, finds them equal. In some rounds the table is
 * cleared, too, and then nobody touches the values. In some a mutex of ours guards the table, but
 * for calls now and then that are made without it. A round ends with an empty table and no
 * request left. A thread that makes no progress is reported with the state of the table.
 * The seed decides what each thread does, not how the threads interleave.
 */
#include <time.h>

#include "stress.h"

#define MAX_THREADS 16
#define MAX_KEYS 64
#define MAX_SET 24
#define N_SHARED_OWNERS 3
#define MAILBOX 8
#define N_BALLAST 12000

static uint64_t seed;
static unsigned round_number;

typedef struct cell {
    atomic_long counter;
    long value;
} cell;

static cell cells[MAX_KEYS];
static worker workers[MAX_THREADS];
static unsigned n_threads, n_keys;
static bool is_clearing;            /* in this round values are not touched */
static bool has_ballast;
static atomic_bool is_over;
static _Atomic(lc_request *) mailbox[MAILBOX];

/* ---- what a holder does ---------------------------------------------------- */

static unsigned
key_of(const lc_link *link)
{
    uint32_t key;
    memcpy(&key, link->key.bytes, sizeof(key));
    return key;
}

static void
touch(const lc_request *request)
{
    for (uint32_t i = 0; i < request->n_links; i++) {
        const lc_link *link = &request->links[i];
        cell *cell = &cells[key_of(link)];
        long counter = atomic_load_explicit(&cell->counter, memory_order_relaxed);
        REQUIRE(counter == cell->value);
        if (link->mode == LC_EXCLUSIVE) {
            atomic_store_explicit(&cell->counter, counter + 1, memory_order_relaxed);
            cell->value++;
            atomic_fetch_add_explicit(&counts.writes, 1, memory_order_relaxed);
        } else {
            atomic_fetch_add_explicit(&counts.reads, 1, memory_order_relaxed);
        }
    }
}

static void
give_back(lc_request *request)
{
    lc_status status = INSIDE(lc_release(stress_table, request));
    REQUIRE(status == LC_OK || (status == LC_NOT_HELD && is_clearing));
    drop(request);
}

static lc_name
owner_name(const uint32_t *owner)
{
    return (lc_name){.id = owner,
                     .id_size = sizeof(*owner),
                     .id_kind = LC_INT,
                     .hash = (*owner + 1) * UINT64_C(0x9E3779B97F4A7C15)};
}

static lc_request *
new_request(uint64_t *random, const uint32_t *owner)
{
    lc_name names[MAX_SET], its;
    uint32_t keys[MAX_SET], n = 1 + (chance(random, 60) ? 0 : below(random, 4));
    n = chance(random, 2) ? MAX_SET : n;
    bool reads = chance(random, 30);
    for (uint32_t i = 0; i < n; i++) {
        /* Some keys are wanted more than others. */
        keys[i] = chance(random, 20) ? below(random, 2) : below(random, n_keys);
        names[i] = (lc_name){.id = &keys[i],
                             .id_size = sizeof(keys[i]),
                             .id_kind = LC_INT,
                             .position = i,
                             .mode = reads || chance(random, 50) ? LC_SHARED : LC_EXCLUSIVE,
                             .hash = (keys[i] + 1) * UINT64_C(0xD1B54A32D192ED03)};
    }
    if (owner != NULL) {
        its = owner_name(owner);
    }
    return counted(lc_request_new(names, &n, owner == NULL ? NULL : &its, NULL));
}

/* Returns: whether the request is held exclusive at all its keys now. */
static bool
upgrade(worker *worker, lc_request *request)
{
    if (INSIDE(lc_begin_upgrade(stress_table, request)) != LC_OK) {
        REQUIRE(is_clearing);
        return false;
    }
    lc_request *more = counted(INSIDE(lc_request_upgrade(stress_table, request, NULL)));
    bool is_granted = more->n_links > 0 && acquire(worker, more, true);
    lc_status status = INSIDE(lc_end_upgrade(stress_table, request, is_granted ? more : NULL));
    REQUIRE(!is_granted || status == LC_OK || is_clearing);
    if (is_granted && status != LC_OK) {
        INSIDE(lc_release(stress_table, more));
    }
    drop(more);
    atomic_fetch_add(&counts.upgrades, status == LC_OK);
    return status == LC_OK;
}

/* Puts the request where anybody may find it to release it. */
static void
mail(lc_request *request, unsigned place)
{
    lc_request *former = atomic_exchange(&mailbox[place % MAILBOX], request);
    if (former != NULL) {
        give_back(former);
    }
}

static void
transfer(worker *worker, lc_request *request)
{
    uint32_t to = below(&worker->random, N_SHARED_OWNERS + n_threads);
    lc_name name = owner_name(&to);
    const lc_name *other = chance(&worker->random, 30) ? NULL : &name;
    lc_rows blockers = {0};
    lc_status status = INSIDE(lc_transfer(stress_table, request, other, &blockers));
    REQUIRE(status == LC_OK || status == LC_CONFLICT || is_clearing);
    atomic_fetch_add(&counts.transfers, status == LC_OK);
    lc_rows_clear(&blockers, dispose);
}

/* With one request held: changes it, nests, and gives it back in some way. */
static void
use(worker *worker, lc_request *request, const uint32_t *owner, bool is_mine)
{
    uint64_t *random = &worker->random;
    bool touches = is_mine && !is_clearing;
    if (touches) {
        touch(request);
    }
    if (owner != NULL && chance(random, 30)) {
        lc_request *more = new_request(random, owner);
        if (acquire(worker, more, true)) {
            if (touches) {
                touch(more);
            }
            give_back(more);
        } else {
            drop(more);
        }
    }
    if (chance(random, 10)) {
        lc_status status = INSIDE(lc_downgrade(stress_table, request));
        REQUIRE(status == LC_OK || is_clearing);
        atomic_fetch_add(&counts.downgrades, status == LC_OK);
    }
    if (chance(random, 10)) {
        upgrade(worker, request);
    }
    if (touches) {
        touch(request);
    }
    if (chance(random, 5)) {
        transfer(worker, request);
    }
    mail(NULL, below(random, MAILBOX));
    if (chance(random, 10)) {
        mail(request, below(random, MAILBOX));
    } else {
        give_back(request);
    }
}

static void *
work(void *argument)
{
    worker *worker = argument;
    uint64_t *random = &worker->random;
    while (!atomic_load_explicit(&is_over, memory_order_relaxed)) {
        /* Nobody's, its own, or one that several threads share; what several share excludes
         * nobody among them. */
        unsigned kind = below(random, 10);
        uint32_t mine = N_SHARED_OWNERS + worker->number, shared = below(random, N_SHARED_OWNERS);
        const uint32_t *owner = kind < 5 ? NULL : kind < 9 ? &mine : &shared;
        lc_request *request = new_request(random, owner);
        if (acquire(worker, request, true)) {
            use(worker, request, owner, owner != &shared);
        } else {
            drop(request);
        }
        atomic_fetch_add_explicit(&worker->n_done, 1, memory_order_relaxed);
    }
    atomic_store(&worker->has_ended, true);
    return NULL;
}

/* ---- those who meddle ------------------------------------------------------ */

static void
cancel_somebody(uint64_t *random)
{
    worker *worker = &workers[below(random, n_threads)];
    pthread_mutex_lock(&worker->mutex);
    lc_request *request = worker->waiting != NULL ? lc_request_keep(worker->waiting) : NULL;
    pthread_mutex_unlock(&worker->mutex);
    if (request != NULL) {
        cancel(request);
        drop(request);
    }
}

static void
look_around(uint64_t *random)
{
    lc_rows rows = {0};
    uint32_t number = below(random, n_keys);
    lc_name name = owner_name(&number);
    bool lists_key = chance(random, 50), of_owner = !lists_key && chance(random, 50);
    name.hash = lists_key ? (number + 1) * UINT64_C(0xD1B54A32D192ED03) : name.hash;
    if (lists_key) {
        REQUIRE(INSIDE(lc_list_key(stress_table, &name, &rows)) == LC_OK);
    } else {
        REQUIRE(INSIDE(lc_list_holders(stress_table, of_owner ? &name : NULL, &rows)) == LC_OK);
    }
    if (is_clearing) {
        size_t n = INSIDE(lc_release_rows(stress_table, &rows, of_owner));
        atomic_fetch_add(&counts.force_released, n);
    }
    lc_rows_clear(&rows, dispose);
}

static void *
meddle(void *argument)
{
    uint64_t random = *(uint64_t *)argument;
    struct timespec pause = {0, 200000};
    while (!atomic_load_explicit(&is_over, memory_order_relaxed)) {
        mail(NULL, below(&random, MAILBOX));
        if (chance(&random, 20)) {
            cancel_somebody(&random);
        }
        if (chance(&random, 10)) {
            look_around(&random);
        }
        nanosleep(&pause, NULL); /* it would else hold everybody up */
    }
    return NULL;
}

/* Makes the stress_table grow and shrink beneath the others. */
static void *
carry_ballast(void *argument)
{
    static lc_request *requests[N_BALLAST];
    (void)argument;
    while (has_ballast && !atomic_load_explicit(&is_over, memory_order_relaxed)) {
        for (uint32_t i = 0; i < N_BALLAST; i++) {
            uint32_t key = 1000 + i, n = 1;
            lc_name name = {.id = &key,
                            .id_size = sizeof(key),
                            .id_kind = LC_INT,
                            .mode = LC_EXCLUSIVE,
                            .hash = (key + 1) * UINT64_C(0xD1B54A32D192ED03)};
            requests[i] = counted(lc_request_new(&name, &n, NULL, NULL));
            REQUIRE(INSIDE(lc_try_acquire(stress_table, requests[i])) == LC_OK);
        }
        for (uint32_t i = 0; i < N_BALLAST; i++) {
            give_back(requests[i]);
        }
    }
    return NULL;
}

/* ---- rounds ---------------------------------------------------------------- */

static void
dump(void)
{
    for (unsigned i = 0; i < n_threads; i++) {
        const lc_request *request = workers[i].waiting;
        fprintf(stderr, "  thread %u: %llu done%s", i,
                (unsigned long long)atomic_load(&workers[i].n_done),
                request == NULL ? "\n" : ", waits in state ");
        if (request != NULL) {
            fprintf(stderr, "%d for", (int)lc_request_state(request));
            for (uint32_t j = 0; j < request->n_links; j++) {
                fprintf(stderr, " %u%s%s", key_of(&request->links[j]),
                        request->links[j].mode == LC_EXCLUSIVE ? "!" : "",
                        request->links[j].place == LC_IN_QUEUE ? " (queued)" : "");
            }
            fprintf(stderr, "\n");
        }
    }
    fprintf(stderr, "  waiting: %zu, wait mutex %s, counters:\n", stress_table->n_waiting,
            atomic_load(&stress_table->wait_mutex.taken) ? "taken" : "open");
    for (unsigned i = 0; i < n_keys; i++) {
        fprintf(stderr, "  key %u: counter %ld, value %ld\n", i, atomic_load(&cells[i].counter),
                cells[i].value);
    }
}

_Noreturn void
stress_fail(const char *what)
{
    fprintf(stderr, "stress: %s (seed %llu, round %u)\n", what, (unsigned long long)seed,
            round_number);
    dump();
    abort();
}

static unsigned long long
total_done(void)
{
    unsigned long long done = 0;
    for (unsigned i = 0; i < MAX_THREADS; i++) {
        done += atomic_load(&workers[i].n_done);
    }
    return done;
}

static void
watch(int64_t until)
{
    struct timespec pause = {0, 20000000};
    unsigned long long last = 0;
    int64_t since = lc_now();
    while (lc_now() < until) {
        nanosleep(&pause, NULL);
        if (total_done() != last) {
            last = total_done();
            since = lc_now();
        }
        if (lc_now() - since > PATIENCE_NS / 2) {
            stress_fail("no thread makes progress");
        }
    }
}

static void
check_end(void)
{
    for (unsigned i = 0; i < MAILBOX; i++) {
        mail(NULL, i);
    }
    REQUIRE(lc_count_held(stress_table) == 0);
    REQUIRE(stress_table->n_waiting == 0 && stress_table->n_named_waiting == 0);
    REQUIRE(stress_table->candidates == NULL && stress_table->must_look == NULL);
    REQUIRE(atomic_load(&n_requests) == 0);
    for (unsigned i = 0; i < n_keys; i++) {
        REQUIRE(atomic_load(&cells[i].counter) == cells[i].value);
    }
}

static void
run_round(uint64_t *random, unsigned threads, int64_t nanoseconds)
{
    static const unsigned sizes[] = {3, 8, 16, 32, MAX_KEYS};
    pthread_t meddler, carrier;
    uint64_t meddling = next_random(random);
    n_threads = threads != 0 ? threads : 2 + below(random, 7);
    n_keys = sizes[below(random, 5)];
    is_clearing = chance(random, 25);
    has_ballast = chance(random, 40);
    atomic_store(&is_over, false);
    REQUIRE((stress_table = lc_table_new()) != NULL);
    is_guarded = chance(random, 50);
    if (is_guarded) {
        lc_table_guard(stress_table);
    }
    for (unsigned i = 0; i < n_threads; i++) {
        workers[i].number = i;
        workers[i].random = next_random(random);
        workers[i].waiting = NULL;
        atomic_store(&workers[i].has_ended, false);
        pthread_mutex_init(&workers[i].mutex, NULL);
    }
    for (unsigned i = 0; i < n_threads; i++) {
        REQUIRE(pthread_create(&workers[i].thread, NULL, work, &workers[i]) == 0);
    }
    REQUIRE(pthread_create(&meddler, NULL, meddle, &meddling) == 0);
    REQUIRE(pthread_create(&carrier, NULL, carry_ballast, NULL) == 0);
    watch(lc_now() + nanoseconds);
    atomic_store(&is_over, true);
    int64_t began = lc_now();
    for (unsigned i = 0; i < n_threads; i++) {
        /* Mail may be what the others wait for. One that does not wait may begin to. */
        for (unsigned place = 0; !atomic_load(&workers[i].has_ended); place++) {
            if (lc_now() - began > PATIENCE_NS / 2) {
                stress_fail("a thread waits for ever");
            }
            mail(NULL, place);
            struct timespec pause = {0, 1000000};
            nanosleep(&pause, NULL);
        }
        pthread_join(workers[i].thread, NULL);
    }
    pthread_join(meddler, NULL);
    pthread_join(carrier, NULL);
    check_end();
    REQUIRE(lc_table_free(stress_table) == NULL);
}

int
main(int argc, char **argv)
{
    double seconds = argc > 1 ? atof(argv[1]) : 3;
    seed = argc > 2 ? strtoull(argv[2], NULL, 0) : (uint64_t)lc_now();
    unsigned threads = argc > 3 ? (unsigned)atoi(argv[3]) : 0;
    if (threads > MAX_THREADS) {
        fprintf(stderr, "stress: at most %d threads\n", MAX_THREADS);
        return 2;
    }
    printf("stress: seed %llu\n", (unsigned long long)seed);
    fflush(stdout);
    uint64_t random = seed;
    int64_t end = lc_now() + (int64_t)(seconds * 1e9);
    for (; lc_now() < end; round_number++) {
        int64_t left = end - lc_now(), length = 500000000;
        run_round(&random, threads, left < length ? left : length);
    }
    printf("stress: %u rounds, %llu requests, %llu grants, %llu writes, %llu reads, %llu upgrades, "
           "%llu downgrades, %llu transfers, %llu timeouts, %llu cancelled, %llu deadlocks, "
           "%llu force-released; longest wait %.0f ms\n",
           round_number, total_done(), (unsigned long long)counts.grants,
           (unsigned long long)counts.writes, (unsigned long long)counts.reads,
           (unsigned long long)counts.upgrades, (unsigned long long)counts.downgrades,
           (unsigned long long)counts.transfers, (unsigned long long)counts.timed_out,
           (unsigned long long)counts.cancelled, (unsigned long long)counts.deadlocks,
           (unsigned long long)counts.force_released, (double)counts.longest_wait / 1e6);
    return 0;
}
