/* Each race of two threads, played on purpose: one thread is stopped at a sync point of the core,
 * the other runs past it, and the first goes on.
 */
#include <pthread.h>

#include "support.h"

/* One thread waits for what another does. */
typedef struct gate {
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    bool is_open;
} gate;

static void
shut(gate *gate)
{
    pthread_mutex_init(&gate->mutex, NULL);
    pthread_cond_init(&gate->changed, NULL);
    gate->is_open = false;
}

static void
open_gate(gate *gate)
{
    pthread_mutex_lock(&gate->mutex);
    gate->is_open = true;
    pthread_cond_signal(&gate->changed);
    pthread_mutex_unlock(&gate->mutex);
}

static void
pass_gate(gate *gate)
{
    pthread_mutex_lock(&gate->mutex);
    while (!gate->is_open) {
        pthread_cond_wait(&gate->changed, &gate->mutex);
    }
    pthread_mutex_unlock(&gate->mutex);
}

/* A call in a thread of its own that stops at a sync point. */
typedef struct actor {
    void (*call)(struct actor *self);
    party *party;
    lc_status status;       /* what the call returned */
    lc_rows *rows;
    const char *point;      /* where to stop; NULL once it has */
    atomic_bool has_ended;
    gate stopped, may_go;
    pthread_t thread;
} actor;

static _Thread_local actor *self;

static void
stop_here(const char *point)
{
    if (self != NULL && self->point != NULL && strcmp(self->point, point) == 0) {
        self->point = NULL;
        open_gate(&self->stopped);
        pass_gate(&self->may_go);
    }
}

static void *
run_actor(void *argument)
{
    self = argument;
    self->call(self);
    atomic_store(&self->has_ended, true);
    open_gate(&self->stopped);
    return NULL;
}

/* Starts the call, and returns once it is stopped at the point. */
static void
start(actor *actor, void (*call)(struct actor *self), party *party, const char *point)
{
    lc_sync_hook = stop_here;
    actor->call = call;
    actor->party = party;
    actor->point = point;
    atomic_init(&actor->has_ended, false);
    shut(&actor->stopped);
    shut(&actor->may_go);
    CHECK(pthread_create(&actor->thread, NULL, run_actor, actor) == 0);
    if (point != NULL) {
        pass_gate(&actor->stopped);
        CHECK(!atomic_load(&actor->has_ended));
    }
}

static lc_status
go_on(actor *actor)
{
    open_gate(&actor->may_go);
    CHECK(pthread_join(actor->thread, NULL) == 0);
    return actor->status;
}

static void
do_submit(actor *self)
{
    submit(self->party);
    self->status = self->party->status;
}

static void
do_release(actor *self)
{
    self->status = release(self->party);
}

static void
do_cancel(actor *self)
{
    self->status = cancel(self->party);
}

static void
do_time_out(actor *self)
{
    self->status = lc_cancel(table, self->party->request, true, self->rows);
}

static void
do_transfer(actor *self)
{
    self->status = transfer(self->party, "new");
}

static void
do_break_deadlock(actor *self)
{
    self->status = break_deadlock(self->party);
}

static size_t
clear(void)
{
    lc_rows rows = {0};
    CHECK_INT(lc_list_holders(table, NULL, &rows), LC_OK);
    size_t n = lc_release_rows(table, &rows);
    lc_rows_clear(&rows, dispose);
    return n;
}

/* ---- cancel x grant, timeout x grant --------------------------------------- */

TABLE_TEST(cancel_that_comes_after_the_grant_leaves_it)
{
    party *x = ask("x", "a!"), *y = ask("y", "a!"), *z = ask("z", "a!");
    actor canceller;
    start(&canceller, do_cancel, y, "before-cancel");
    release(x);
    CHECK(holds(y));
    CHECK_INT(go_on(&canceller), LC_OK);
    CHECK_TEXT(at("a"), "y! | z!");
    CHECK_INT(release(y), LC_OK);
    CHECK(holds(z));
}

TABLE_TEST(cancel_that_comes_before_the_grant_passes_it_on)
{
    party *x = ask("x", "a!"), *y = ask("y", "a!"), *z = ask("z", "a!");
    actor releaser;
    start(&releaser, do_release, x, "release-slow");
    CHECK_INT(cancel(y), LC_CONFLICT);
    CHECK_INT(go_on(&releaser), LC_OK);
    CHECK_TEXT(at("a"), "z!");
    CHECK_INT(y->wakes, 0);
    CHECK_INT(z->wakes, 1);
}

TABLE_TEST(timeout_that_comes_after_the_grant_is_none)
{
    party *x = ask("x", "a!"), *y = ask("y", "a! b!");
    lc_rows rows = {0};
    actor sleeper = {.rows = &rows};
    start(&sleeper, do_time_out, y, "before-cancel");
    release(x);
    CHECK_INT(go_on(&sleeper), LC_OK);
    CHECK(holds(y));
    CHECK_INT(rows.n, 0);
    CHECK_INT(statistics().timeouts, 0);
}

TABLE_TEST(timeout_that_comes_after_the_grant_and_its_end_does_nothing)
{
    party *x = ask("x", "a!"), *y = ask("y", "a!"), *z = ask("z", "a!");
    actor sleeper = {0};
    start(&sleeper, do_time_out, y, "before-cancel");
    CHECK_INT(release(x), LC_OK);
    CHECK_INT(release(y), LC_OK);
    CHECK_INT(go_on(&sleeper), LC_OK);
    CHECK(!holds(y) && holds(z));
    CHECK_INT(statistics().timeouts, 0);
}

TABLE_TEST(timeout_while_room_for_its_blockers_is_made_sees_the_grant)
{
    /* Twenty blockers do not fit at first: the wait mutex opens to make room. */
    for (int i = 0; i < 20; i++) {
        ask(NULL, "a");
    }
    party *y = ask("y", "a!");
    lc_rows rows = {0};
    actor sleeper = {.rows = &rows};
    start(&sleeper, do_time_out, y, "before-cancel");
    CHECK_INT(clear(), 20);
    CHECK_INT(go_on(&sleeper), LC_OK);
    CHECK_INT(rows.n, 0);
    CHECK(holds(y));
    lc_rows_clear(&rows, dispose);
}

/* ---- release x enqueue ----------------------------------------------------- */

TABLE_TEST(release_between_refusal_and_queue_grants_at_once)
{
    party *x = ask("x", "a! b"), *y = prepare("y", "a!");
    actor newcomer;
    start(&newcomer, do_submit, y, "acquire-refused");
    CHECK_INT(release(x), LC_OK);
    CHECK_INT(go_on(&newcomer), LC_OK);
    CHECK_TEXT(at("a"), "y!");
    CHECK_INT(y->wakes, 0);
    CHECK_INT(statistics().waits, 0);
}

TABLE_TEST(release_beside_a_newcomer_with_the_wait_mutex_is_seen)
{
    party *x = ask("x", "a!"), *y = prepare("y", "a!");
    actor newcomer;
    start(&newcomer, do_submit, y, "acquire-slow");
    CHECK_INT(release(x), LC_OK); /* nobody is queued yet: the fast path */
    CHECK_INT(go_on(&newcomer), LC_OK);
    CHECK_TEXT(at("a"), "y!");
}

TABLE_TEST(release_whose_only_waiter_has_left_still_releases)
{
    party *x = ask("x", "a!"), *y = ask("y", "a!");
    actor releaser;
    start(&releaser, do_release, x, "release-slow");
    cancel(y);
    CHECK_TEXT(at("a"), "x!");
    CHECK_INT(go_on(&releaser), LC_OK);
    CHECK_TEXT(at("a"), "");
}

TABLE_TEST(release_sees_those_who_were_queued_while_it_went_the_slow_way)
{
    party *x = ask("x", "a! b!"), *y = ask("y", "a");
    actor releaser;
    start(&releaser, do_release, x, "release-slow");
    party *z = ask("z", "b!"), *w = ask("w", "a");
    CHECK(waits(z) && waits(w));
    CHECK_INT(go_on(&releaser), LC_OK);
    CHECK(holds(y) && holds(z) && holds(w));
}

TABLE_TEST(release_of_what_was_force_released_meanwhile_harms_nobody)
{
    party *x = ask("x", "a!");
    ask("y", "a!");
    actor releaser;
    start(&releaser, do_release, x, "release-slow");
    CHECK_INT(clear(), 1);
    CHECK_INT(go_on(&releaser), LC_NOT_HELD);
    CHECK_TEXT(at("a"), "y!");
}

TABLE_TEST(newcomer_between_two_paths_does_not_overtake)
{
    party *x = ask("x", "a!"), *y = prepare("y", "a!");
    actor newcomer;
    start(&newcomer, do_submit, y, "acquire-refused");
    ask("z", "a!");
    CHECK_INT(go_on(&newcomer), LC_QUEUED);
    CHECK_TEXT(at("a"), "x! | z! y!");
    release(x);
    CHECK_TEXT(at("a"), "z! | y!");
}

/* ---- clear x wait ---------------------------------------------------------- */

TABLE_TEST(clear_between_refusal_and_queue_lets_the_newcomer_in)
{
    party *x = ask("x", "a!"), *y = prepare("y", "a!");
    actor newcomer;
    start(&newcomer, do_submit, y, "acquire-refused");
    CHECK_INT(clear(), 1);
    CHECK_INT(go_on(&newcomer), LC_OK);
    CHECK_INT(release(x), LC_NOT_HELD);
    CHECK(holds(y));
}

TABLE_TEST(clear_grants_to_those_who_queued_after_it_looked)
{
    party *x = ask("x", "a!");
    lc_rows rows = {0};
    CHECK_INT(lc_list_holders(table, NULL, &rows), LC_OK);
    party *y = ask("y", "a!"), *z = ask("z", "b!");
    CHECK_INT(lc_release_rows(table, &rows), 1);
    lc_rows_clear(&rows, dispose);
    CHECK(!holds(x) && holds(y) && holds(z));
}

TABLE_TEST(clear_ends_a_grant_whose_wake_up_is_under_way)
{
    party *x = ask("x", "a!"), *y = ask("y", "a!"), *z = ask("z", "a!");
    actor releaser;
    start(&releaser, do_release, x, "before-wake");
    CHECK(holds(y));
    CHECK_INT(y->wakes, 0);
    CHECK_INT(clear(), 1);
    CHECK(holds(z));
    CHECK_INT(go_on(&releaser), LC_OK);
    CHECK_INT(y->wakes, 1);
    CHECK_INT(z->wakes, 1);
    CHECK_INT(cancel(y), LC_OK);
    CHECK_INT(release(y), LC_NOT_HELD);
}

TABLE_TEST(cancel_that_comes_after_clear_leaves_the_grant)
{
    ask("x", "a! b!");
    party *y = ask("y", "a! b!");
    actor canceller;
    start(&canceller, do_cancel, y, "before-cancel");
    CHECK_INT(clear(), 1);
    CHECK_INT(go_on(&canceller), LC_OK);
    CHECK(holds(y));
}

/* ---- transfer x release ---------------------------------------------------- */

TABLE_TEST(transfer_that_comes_after_the_release_is_refused)
{
    party *x = ask("x", "a!");
    actor giver;
    start(&giver, do_transfer, x, "transfer");
    CHECK_INT(release(x), LC_OK);
    CHECK_INT(go_on(&giver), LC_NOT_HELD);
    CHECK_TEXT(at("a"), "");
}

TABLE_TEST(transfer_that_comes_before_the_release_is_done_and_released)
{
    party *x = ask("x", "a!"), *n = ask("new", "a!"), *z = ask("z", "a!");
    actor giver, releaser;
    start(&giver, do_transfer, x, "transfer");
    start(&releaser, do_release, x, "release-slow");
    CHECK_INT(go_on(&giver), LC_OK);
    CHECK_TEXT(at("a"), "new! new! | z!");
    CHECK_INT(go_on(&releaser), LC_OK);
    CHECK_TEXT(at("a"), "new! | z!");
    release(n);
    CHECK(holds(z));
}

/* ---- upgrade x upgrade ----------------------------------------------------- */

static void
do_upgrade(actor *self)
{
    party *upgrade = begin_upgrade(self->party);
    self->status = upgrade->status;
    self->party = upgrade;
}

TABLE_TEST(upgrades_that_meet_end_one_of_them)
{
    party *x = ask("x", "a"), *y = ask("y", "a");
    actor first, second;
    start(&first, do_upgrade, x, "acquire-refused");
    start(&second, do_upgrade, y, "acquire-refused");
    CHECK_INT(go_on(&second), LC_QUEUED);
    CHECK_INT(go_on(&first), LC_QUEUED);
    CHECK_INT(break_deadlock(second.party), LC_QUEUED);
    CHECK_INT(first.party->wakes, 1);
    CHECK_INT(break_deadlock(first.party), LC_DEADLOCK);
    end_upgrade(x, NULL);
    CHECK(waits(second.party));
    release(x);
    CHECK_INT(end_upgrade(y, second.party), LC_OK);
    CHECK_TEXT(at("a"), "y!");
}

TABLE_TEST(upgrade_of_what_is_cleared_meanwhile_holds_nothing)
{
    party *x = ask("x", "a b!");
    party *upgrade = begin_upgrade(x);
    CHECK_INT(upgrade->status, LC_OK);
    CHECK_INT(clear(), 2);
    CHECK_INT(end_upgrade(x, upgrade), LC_NOT_HELD);
    CHECK_INT(release(upgrade), LC_NOT_HELD);
    CHECK_INT(release(x), LC_NOT_HELD);
}

static party *upgrade_of_x;

static void
do_end_upgrade(actor *self)
{
    self->status = end_upgrade(self->party, upgrade_of_x);
}

TABLE_TEST(release_that_meets_the_end_of_an_upgrade_releases_all)
{
    party *x = ask("x", "a");
    upgrade_of_x = begin_upgrade(x);
    actor upgrader, releaser = {0};
    start(&upgrader, do_end_upgrade, x, "end-upgrade");
    start(&releaser, do_release, x, NULL); /* waits for the bucket's mutex, or is late */
    CHECK_INT(go_on(&upgrader), LC_OK);
    CHECK_INT(go_on(&releaser), LC_OK);
    CHECK_TEXT(at("a"), "");
}

static void
do_downgrade(actor *self)
{
    self->status = lc_downgrade(table, self->party->request);
}

TABLE_TEST(downgrade_while_an_upgrade_is_built_is_no_race)
{
    /* Nothing orders the two: ThreadSanitizer says if they need it. */
    for (int i = 0; i < 20; i++) {
        party *x = ask("x", "a! b! c! d");
        CHECK_INT(lc_begin_upgrade(table, x->request), LC_OK);
        actor downgrader = {0};
        start(&downgrader, do_downgrade, x, NULL);
        lc_request *upgrade = lc_request_upgrade(table, x->request, NULL);
        CHECK(upgrade->n_links >= 1 && upgrade->n_links <= 4);
        CHECK_INT(go_on(&downgrader), LC_OK);
        lc_end_upgrade(table, x->request, NULL);
        CHECK(lc_request_drop(upgrade));
        lc_request_free(upgrade);
        release(x);
    }
}

/* ---- resize x lock --------------------------------------------------------- */

#define MANY 20000

static lc_request *numbers[MANY];

TABLE_TEST(acquire_that_chose_its_bucket_before_a_resize_finds_the_new_one)
{
    party *x = prepare("x", "a! b");
    actor newcomer;
    start(&newcomer, do_submit, x, "bucket-chosen");
    hold_numbers(numbers, MANY);
    CHECK(table_bits() > LC_MIN_BITS);
    party *y = ask("y", "b");
    CHECK_INT(go_on(&newcomer), LC_OK);
    CHECK_TEXT(at("a"), "x!");
    CHECK_TEXT(at("b"), "y x");
    CHECK_INT(release(y), LC_OK);
    release_numbers(numbers, MANY);
}

TABLE_TEST(acquire_that_chose_its_bucket_before_a_resize_conflicts_with_what_came_then)
{
    party *x = prepare("x", "a!");
    actor newcomer;
    start(&newcomer, do_submit, x, "bucket-chosen");
    hold_numbers(numbers, MANY);
    party *y = ask("y", "a!");
    CHECK_INT(go_on(&newcomer), LC_QUEUED);
    release(y);
    CHECK(holds(x));
    release_numbers(numbers, MANY);
}

TABLE_TEST(release_that_chose_its_bucket_before_a_resize_finds_the_new_one)
{
    party *x = ask("x", "a! b");
    actor releaser;
    start(&releaser, do_release, x, "bucket-chosen");
    hold_numbers(numbers, MANY);
    party *y = ask("y", "a!");
    CHECK_INT(go_on(&releaser), LC_OK);
    CHECK(holds(y));
    release_numbers(numbers, MANY);
}

TABLE_TEST(acquire_that_slept_through_two_resizes_is_where_it_belongs)
{
    party *x = prepare("x", "a!"), *y = ask("y", "a");
    actor newcomer;
    start(&newcomer, do_submit, x, "bucket-chosen");
    hold_numbers(numbers, MANY);
    release_numbers(numbers, MANY);
    CHECK_INT(table_bits(), LC_MIN_BITS);
    CHECK_INT(go_on(&newcomer), LC_QUEUED);
    CHECK_TEXT(at("a"), "y | x!");
    release(y);
    CHECK_TEXT(at("a"), "x!");
}

/* ---- close x wait, fork x wait --------------------------------------------- */

TABLE_TEST(close_between_refusal_and_queue_refuses)
{
    ask("x", "a!");
    party *y = prepare("y", "a!");
    actor newcomer;
    start(&newcomer, do_submit, y, "acquire-refused");
    lc_table_close(table);
    CHECK_INT(go_on(&newcomer), LC_CLOSED);
    CHECK_TEXT(at("a"), "x!");
}

TABLE_TEST(cancel_that_comes_after_close_says_closed)
{
    ask("x", "a!");
    party *y = ask("y", "a!");
    actor canceller;
    start(&canceller, do_cancel, y, "before-cancel");
    lc_table_close(table);
    CHECK_INT(go_on(&canceller), LC_CLOSED);
}

TABLE_TEST(fork_between_refusal_and_queue_delays_it)
{
    party *x = ask("x", "a!"), *y = prepare("y", "a!");
    actor newcomer;
    start(&newcomer, do_submit, y, "acquire-refused");
    lc_before_fork(table);
    open_gate(&newcomer.may_go);
    CHECK(!waits(y));
    lc_after_fork(table);
    CHECK(pthread_join(newcomer.thread, NULL) == 0);
    CHECK_TEXT(at("a"), "x! | y!");
    release(x);
    CHECK(holds(y));
}

/* ---- wake x grant ---------------------------------------------------------- */

TABLE_TEST(request_granted_while_it_is_asked_to_look_is_woken)
{
    /* y's request closed a cycle; x's finds it and is about to wake y's. Before it does,
     * somebody gives back what both y and z wait for. */
    party *x = ask("x", "a! c!");
    ask("y", "b!");
    party *wants_b = ask("x", "b!"), *y = ask("y", "a!"), *z = ask("z", "c!");
    actor looker;
    start(&looker, do_break_deadlock, wants_b, "before-wake");
    CHECK_INT(release(x), LC_OK);
    CHECK(holds(y) && holds(z));
    CHECK_INT(go_on(&looker), LC_QUEUED);
    CHECK(y->wakes >= 1);
    CHECK_INT(z->wakes, 1);
}

TABLE_TEST(two_who_are_asked_to_look_are_both_woken_whatever_is_granted_meanwhile)
{
    /* The release grants b to x, which closes a cycle with each of y and z. */
    ask("y", "a!");
    ask("z", "c!");
    party *b = ask("h", "b!");
    party *x1 = ask("x", "a! q!"), *x2 = ask("x", "c! r!"), *more = ask("x", "b!");
    ask("y", "b!");
    ask("z", "b!");
    actor releaser;
    start(&releaser, do_release, b, "before-wake");
    CHECK(holds(more));
    int before = x1->wakes + x2->wakes;
    CHECK_INT(clear(), 3);
    CHECK_INT(go_on(&releaser), LC_OK);
    CHECK(holds(x1) && holds(x2));
    CHECK_INT(before, 0);
    CHECK(x1->wakes >= 1 && x2->wakes >= 1);
}

TABLE_TEST(request_asked_to_look_twice_at_once_is_in_one_list)
{
    /* x's look finds that y closed a cycle, and is about to say so. Meanwhile that cycle goes;
     * others, with z, are found by somebody else, and through y again. */
    for (int which = 0; which < 2; which++) {
        ask("x", "a!");
        ask("y", "b!");
        ask("z", "d!");
        party *q = ask("h", "q!"), *more = ask("y", "q!"), *wants_b = ask("x", "b!");
        party *first = ask("y", which == 0 ? "a! d!" : "d! e"),
              *second = ask("y", which == 0 ? "d! e" : "a! d!");
        actor looker;
        start(&looker, do_break_deadlock, wants_b, "before-wake");
        CHECK_INT(cancel(wants_b), LC_CONFLICT);
        CHECK_INT(break_deadlock(which == 0 ? first : second), LC_QUEUED);
        ask("z", "b!");
        int before = first->wakes + second->wakes;
        CHECK_INT(before, 0);
        release(q);
        CHECK(holds(more));
        CHECK_INT(go_on(&looker), LC_QUEUED);
        CHECK(first->wakes >= 1 && second->wakes >= 1);
        CHECK(first->wakes + second->wakes <= 3);
        finish();
        begin();
    }
}

TABLE_TEST(woken_request_may_be_gone_before_its_wake_up)
{
    party *x = ask("x", "a!"), *y = ask("y", "a!"), *z = ask("z", "a!");
    actor releaser;
    start(&releaser, do_release, x, "before-wake");
    CHECK_INT(release(y), LC_OK);
    CHECK(!lc_request_is_ours(y->request));
    CHECK(holds(z));
    CHECK_INT(go_on(&releaser), LC_OK);
    CHECK(lc_request_is_ours(y->request));
}
