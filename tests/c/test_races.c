/* Each race of two threads, played on purpose: one thread is stopped at a sync point of the core,
 * the other runs past it, and the first goes on.
 */
#include "actors.h"

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
    CHECK_INT(lc_release_rows(table, &rows, false), 1);
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

TABLE_TEST(release_of_all_of_an_owner_leaves_what_it_gave_away_meanwhile)
{
    party *given = ask("x", "a!"), *nameless = ask("x", "b!"), *kept = ask("x", "c!");
    party *back = ask("x", "d!");
    lc_rows rows = {0};
    lc_name x = name_of("x");
    CHECK_INT(lc_list_holders(table, &x, &rows), LC_OK);
    CHECK_INT(rows.n, 4);
    CHECK_INT(transfer(given, "y"), LC_OK);
    CHECK_INT(transfer(nameless, NULL), LC_OK);
    CHECK_INT(transfer(back, "y"), LC_OK);
    CHECK_INT(transfer(back, "x"), LC_OK);
    CHECK_INT(lc_release_rows(table, &rows, true), 2);
    lc_rows_clear(&rows, dispose);
    CHECK(holds(given) && holds(nameless) && !holds(kept) && !holds(back));
}

TABLE_TEST(clear_ends_what_is_transferred_meanwhile)
{
    party *given = ask("x", "a!");
    lc_rows rows = {0};
    CHECK_INT(lc_list_holders(table, NULL, &rows), LC_OK);
    CHECK_INT(transfer(given, "y"), LC_OK);
    CHECK_INT(lc_release_rows(table, &rows, false), 1);
    lc_rows_clear(&rows, dispose);
    CHECK(!holds(given));
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
    CHECK_INT(clear(), 1);
    CHECK_INT(end_upgrade(x, upgrade), LC_NOT_HELD);
    CHECK_INT(release(upgrade), LC_NOT_HELD);
    CHECK_INT(release(x), LC_NOT_HELD);
}

TABLE_TEST(clear_counts_a_grant_and_its_upgrades_once)
{
    party *x = ask("x", "a b!"), *y = ask("y", "c");
    party *one = begin_upgrade(x), *two = begin_upgrade(x), *z = ask("z", "a!");
    CHECK(holds(one) && holds(two) && waits(z));
    CHECK_INT(clear(), 2);
    CHECK(!holds(one) && !holds(two) && !holds(x) && !holds(y) && holds(z));
    CHECK_INT(end_upgrade(x, one), LC_NOT_HELD);
    CHECK_INT(end_upgrade(x, two), LC_NOT_HELD);
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
        lc_request_free(upgrade, NULL);
        release(x);
    }
}
