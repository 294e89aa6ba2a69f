/* Requests of the stress: made, waited for, and freed. */
#include <errno.h>
#include <time.h>

#include "stress.h"

lc_table *stress_table;
atomic_long n_requests;
stress_counts counts;

/* A sleeping place. Belongs to a request, and goes with it. */
typedef struct parker {
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    bool is_posted;
} parker;

void
dispose(lc_request *request)
{
    if (request->waiter != NULL) {
        parker *parker = request->waiter->parker;
        pthread_mutex_destroy(&parker->mutex);
        pthread_cond_destroy(&parker->changed);
        free(parker);
    }
    lc_request_free(request, NULL);
    atomic_fetch_sub(&n_requests, 1);
}

void
drop(lc_request *request)
{
    if (lc_request_drop(request)) {
        dispose(request);
    }
}

lc_request *
counted(lc_request *request)
{
    REQUIRE(request != NULL);
    atomic_fetch_add(&n_requests, 1);
    return request;
}

bool is_guarded;
static pthread_mutex_t guard = PTHREAD_MUTEX_INITIALIZER;
static _Thread_local bool has_guard, is_unguarded;
static _Thread_local uint64_t calls;

void
enter_table(void)
{
    if (is_guarded) {
        pthread_mutex_lock(&guard);
        has_guard = true;
        is_unguarded = chance(&calls, 10);
        if (is_unguarded) {
            lc_table_unguard(stress_table);
            has_guard = false;
            pthread_mutex_unlock(&guard);
        }
    }
}

void
leave_table(void)
{
    if (is_guarded) {
        if (is_unguarded) {
            pthread_mutex_lock(&guard);
            lc_table_guard(stress_table);
        }
        has_guard = false;
        pthread_mutex_unlock(&guard);
    }
}

/* Lets others in, in the middle of a call. */
static void
open_guard(void)
{
    if (has_guard && chance(&calls, 50)) {
        pthread_mutex_unlock(&guard);
        lc_yield_thread();
        pthread_mutex_lock(&guard);
    }
}

static void
post(parker *parker)
{
    pthread_mutex_lock(&parker->mutex);
    parker->is_posted = true;
    pthread_cond_signal(&parker->changed);
    pthread_mutex_unlock(&parker->mutex);
}

static void
wake(lc_request *request)
{
    post(request->waiter->parker);
    drop(request);
    open_guard();
}

static lc_waiter *
new_waiter(void)
{
    lc_waiter *waiter = calloc(1, sizeof(*waiter));
    parker *parker = calloc(1, sizeof(*parker));
    REQUIRE(waiter != NULL && parker != NULL);
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
#ifdef __linux__
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
#endif
    pthread_cond_init(&parker->changed, &attributes);
    pthread_mutex_init(&parker->mutex, NULL);
    waiter->wake = wake;
    waiter->parker = parker;
    return waiter;
}

/* Sleeps until posted, or for so long at most. Returns: whether it was posted. */
static bool
sleep_in(parker *parker, int64_t nanoseconds)
{
    struct timespec until;
#ifdef __linux__
    clock_gettime(CLOCK_MONOTONIC, &until);
#else
    clock_gettime(CLOCK_REALTIME, &until);
#endif
    int64_t at = (nanoseconds > 0 ? nanoseconds : 0) + until.tv_nsec;
    until.tv_sec += at / 1000000000;
    until.tv_nsec = at % 1000000000;
    pthread_mutex_lock(&parker->mutex);
    int error = 0;
    while (!parker->is_posted && error != ETIMEDOUT) {
        error = pthread_cond_timedwait(&parker->changed, &parker->mutex, &until);
    }
    bool was_posted = parker->is_posted;
    parker->is_posted = false;
    pthread_mutex_unlock(&parker->mutex);
    return was_posted;
}

static void
set_waiting(worker *worker, lc_request *request)
{
    pthread_mutex_lock(&worker->mutex);
    worker->waiting = request;
    pthread_mutex_unlock(&worker->mutex);
}

/* Waits for a queued request. Returns: LC_OK, or why it is not granted. */
static lc_status
park(worker *worker, lc_request *request, int64_t timeout)
{
    int64_t began = lc_now(), look = began + 1000000, deadline = began + timeout;
    lc_status status = LC_QUEUED;
    lc_rows rows = {0};
    set_waiting(worker, request);
    while (status == LC_QUEUED) {
        int64_t now = lc_now();
        bool was_posted =
            sleep_in(request->waiter->parker, (look < deadline ? look : deadline) - now);
        now = lc_now();
        lc_state state = lc_request_state(request);
        if (state != LC_WAITING) {
            status = LC_OK;
        } else if (was_posted || now >= look) {
            look = INT64_MAX;
            status = INSIDE(lc_break_deadlock(stress_table, request, &rows));
        }
        if (status == LC_QUEUED && now >= deadline) {
            bool lists = now & 1;
            status = INSIDE(lc_cancel(stress_table, request, true, lists ? &rows : NULL));
            REQUIRE(!lists || status != LC_CONFLICT || rows.n > 0);
            atomic_fetch_add(&counts.timed_out, status == LC_CONFLICT);
        }
        REQUIRE(lc_now() - began < PATIENCE_NS);
    }
    set_waiting(worker, NULL);
    if (status == LC_OK && lc_request_state(request) != LC_HELD) {
        status = LC_CONFLICT; /* meanwhile cancelled by another, or granted and force-released */
    }
    lc_rows_clear(&rows, dispose);
    int64_t waited = lc_now() - began, longest = atomic_load(&counts.longest_wait);
    while (waited > longest
           && !atomic_compare_exchange_weak(&counts.longest_wait, &longest, waited)) {
    }
    atomic_fetch_add(&counts.deadlocks, status == LC_DEADLOCK);
    return status;
}

bool
acquire(worker *worker, lc_request *request, bool may_wait_for_ever)
{
    uint64_t *random = &worker->random;
    lc_rows blockers = {0};
    lc_status status;
    if (chance(random, 30)) {
        status = INSIDE(lc_try_acquire(stress_table, request));
    } else if (chance(random, 10)) {
        status = INSIDE(lc_acquire(stress_table, request, NULL, &blockers));
        REQUIRE((status == LC_CONFLICT) == (blockers.n > 0));
        lc_rows_clear(&blockers, dispose);
    } else {
        lc_waiter *waiter = new_waiter();
        status = INSIDE(lc_acquire(stress_table, request, waiter, NULL));
        if (request->waiter != waiter) {
            pthread_mutex_destroy(&((parker *)waiter->parker)->mutex);
            pthread_cond_destroy(&((parker *)waiter->parker)->changed);
            free(waiter->parker);
            free(waiter);
        }
        if (status == LC_QUEUED) {
            bool for_ever = may_wait_for_ever && chance(random, 40);
            status = park(worker, request, for_ever ? INT64_MAX / 4 : below(random, 1000000));
        }
    }
    atomic_fetch_add(&counts.grants, status == LC_OK);
    return status == LC_OK;
}

void
cancel(lc_request *request)
{
    if (INSIDE(lc_cancel(stress_table, request, false, NULL)) == LC_CONFLICT) {
        atomic_fetch_add(&counts.cancelled, 1);
        post(request->waiter->parker);
    }
}
