/* Downgrade, upgrade, transfer. */
#include "support.h"

static uint32_t
owner_size(const party *party)
{
    return party->request->owner == NULL ? 0 : party->request->owner->size;
}

/* ---- downgrade ------------------------------------------------------------- */

TABLE_TEST(downgrade_lets_readers_in)
{
    party *x = ask("x", "a! b"), *y = ask("y", "a"), *z = ask("z", "a!");
    CHECK_INT(lc_downgrade(table, x->request), LC_OK);
    CHECK_TEXT(at("a"), "x y | z!");
    CHECK_INT(y->wakes, 1);
    CHECK_INT(z->wakes, 0);
}

TABLE_TEST(downgrade_among_other_holds_of_the_owner_keeps_exclusive_ones_in_front)
{
    party *one = ask("x", "a!"), *two = ask("x", "a!"), *three = ask("x", "a");
    CHECK_INT(lc_downgrade(table, one->request), LC_OK);
    CHECK_INT(try_to("y", "a")->status, LC_CONFLICT);
    CHECK_INT(lc_downgrade(table, two->request), LC_OK);
    CHECK_INT(try_to("y", "a")->status, LC_OK);
    release(three);
    CHECK_TEXT(at("a"), "x x y");
}

TABLE_TEST(downgrade_of_what_is_not_held_changes_nothing)
{
    party *x = ask("x", "a!"), *y = ask("y", "a!");
    CHECK_INT(lc_downgrade(table, y->request), LC_NOT_HELD);
    CHECK_TEXT(at("a"), "x! | y!");
    release(x);
    CHECK_INT(lc_downgrade(table, x->request), LC_NOT_HELD);
    CHECK_TEXT(at("a"), "y!");
}

/* ---- upgrade --------------------------------------------------------------- */

TABLE_TEST(upgrade_is_granted_at_once_when_there_is_no_other_holder)
{
    party *x = ask("x", "a b!");
    uint64_t token = x->request->token;
    party *upgrade = begin_upgrade(x);
    CHECK_INT(upgrade->status, LC_OK);
    CHECK_INT(end_upgrade(x, upgrade), LC_OK);
    CHECK_TEXT(at("a"), "x!");
    CHECK_TEXT(at("b"), "x!");
    CHECK(x->request->token > token);
    CHECK(!holds(upgrade));
    CHECK_INT(try_to("y", "a")->status, LC_CONFLICT);
}

TABLE_TEST(upgrade_waits_for_other_holders_and_not_behind_waiters)
{
    party *x = ask("x", "a"), *z = ask("z", "a"), *y = ask("y", "a!");
    party *upgrade = begin_upgrade(x);
    CHECK_INT(upgrade->status, LC_QUEUED);
    release(z);
    CHECK(holds(upgrade));
    CHECK_INT(end_upgrade(x, upgrade), LC_OK);
    CHECK_TEXT(at("a"), "x! | y!");
    release(x);
    CHECK(holds(y));
}

TABLE_TEST(upgrade_of_an_anonymous_grant_does_not_conflict_with_it)
{
    party *x = ask(NULL, "a"), *y = ask(NULL, "a");
    party *upgrade = begin_upgrade(x);
    CHECK_INT(upgrade->status, LC_QUEUED);
    CHECK_INT(owner_size(x), sizeof(uint64_t));
    release(y);
    CHECK_INT(end_upgrade(x, upgrade), LC_OK);
    CHECK_TEXT(at("a"), "?!");
    party *again = begin_upgrade(x);
    CHECK_INT(again->status, LC_OK);
    CHECK_INT(end_upgrade(x, again), LC_OK);
    CHECK_TEXT(at("a"), "?!");
}

TABLE_TEST(failed_upgrade_keeps_what_is_held)
{
    party *x = ask("x", "a b!"), *y = ask("y", "a");
    party *upgrade = begin_upgrade(x);
    CHECK_INT(cancel(upgrade), LC_CONFLICT);
    end_upgrade(x, NULL);
    CHECK_TEXT(at("a"), "x y");
    CHECK_TEXT(at("b"), "x!");
    release(y);
    CHECK_INT(transfer(x, "z"), LC_OK);
}

TABLE_TEST(upgrade_of_what_has_ended_is_refused)
{
    party *x = ask("x", "a");
    release(x);
    CHECK_INT(lc_begin_upgrade(table, x->request), LC_NOT_HELD);
}

TABLE_TEST(upgrade_granted_after_its_grant_ended_is_to_be_released)
{
    party *x = ask("x", "a"), *y = ask("y", "a");
    party *upgrade = begin_upgrade(x);
    release(x);
    release(y);
    CHECK(holds(upgrade));
    CHECK_INT(end_upgrade(x, upgrade), LC_NOT_HELD);
    CHECK_INT(release(upgrade), LC_OK);
    CHECK_TEXT(at("a"), "");
}

TABLE_TEST(upgrade_of_a_grant_with_nothing_shared_changes_nothing)
{
    party *x = ask("x", "a!");
    party *upgrade = begin_upgrade(x);
    CHECK_INT(upgrade->status, LC_OK);
    CHECK_INT(end_upgrade(x, upgrade), LC_OK);
    CHECK_TEXT(at("a"), "x!");
    CHECK_INT(atomic_load(&upgrade->request->references), 1);
}

TABLE_TEST(upgrade_of_an_empty_grant_takes_no_mutex_away)
{
    party *x = ask("x", "");
    if (lc_begin_upgrade(table, x->request) == LC_OK) {
        lc_end_upgrade(table, x->request, NULL);
    }
    /* Every bucket can still be locked. */
    CHECK_INT(lc_count_held(table), 0);
}

TABLE_TEST(two_upgrades_of_one_grant_both_succeed)
{
    party *x = ask("x", "a b"), *y = ask("y", "a");
    party *one = begin_upgrade(x), *two = begin_upgrade(x);
    release(y);
    CHECK(holds(one) && holds(two));
    CHECK_INT(end_upgrade(x, one), LC_OK);
    CHECK_INT(end_upgrade(x, two), LC_OK);
    CHECK_TEXT(at("a"), "x!");
    CHECK_TEXT(at("b"), "x!");
}

/* ---- transfer -------------------------------------------------------------- */

TABLE_TEST(transfer_changes_the_owner)
{
    party *x = ask("x", "a! b");
    CHECK_INT(transfer(x, "y"), LC_OK);
    CHECK_TEXT(at("a"), "y!");
    CHECK_INT(try_to("x", "a!")->status, LC_CONFLICT);
    party *y = try_to("y", "a!");
    CHECK_INT(y->status, LC_OK);
    release(x);
    CHECK_TEXT(at("a"), "y!");
}

TABLE_TEST(transfer_to_nobody_makes_an_owner_that_nobody_can_name)
{
    party *x = ask("x", "a!"), *y = ask("y", "b!");
    CHECK_INT(transfer(x, NULL), LC_OK);
    CHECK_INT(transfer(y, NULL), LC_OK);
    CHECK_TEXT(at("a"), "?!");
    CHECK_INT(try_to("x", "a")->status, LC_CONFLICT);
    CHECK_INT(try_to(NULL, "a")->status, LC_CONFLICT);
    CHECK(!lc_same_owner(x->request, y->request));
    CHECK_INT(transfer(x, "z"), LC_OK);
    CHECK_TEXT(at("a"), "z!");
}

TABLE_TEST(transfer_lets_the_new_owner_in)
{
    party *x = ask("x", "a!"), *z = ask("z", "a!"), *y = ask("y", "a!");
    CHECK_INT(transfer(x, "y"), LC_OK);
    CHECK(holds(y) && waits(z));
    CHECK_INT(y->wakes, 1);
    CHECK_TEXT(at("a"), "y! y! | z!");
}

TABLE_TEST(transfer_beside_a_conflicting_hold_of_the_old_owner_is_refused)
{
    party *x = ask("x", "a! b!"), *again = ask("x", "b");
    CHECK_INT(transfer(again, "y"), LC_CONFLICT);
    CHECK_INT(transfer(x, "y"), LC_CONFLICT);
    CHECK_TEXT(at("b"), "x! x");
    lc_rows blockers = {0};
    lc_name y = name_of("y");
    CHECK_INT(lc_transfer(table, x->request, &y, &blockers), LC_CONFLICT);
    CHECK_INT(blockers.n, 1);
    CHECK(blockers.rows[0].request == again->request);
    lc_rows_clear(&blockers, dispose);
    release(again);
    CHECK_INT(transfer(x, "y"), LC_OK);
}

TABLE_TEST(transfer_among_shared_holders_is_possible)
{
    party *x = ask("x", "a");
    ask("x", "a");
    ask("y", "a");
    CHECK_INT(transfer(x, "z"), LC_OK);
    CHECK_TEXT(at("a"), "z x y");
}

TABLE_TEST(transfer_during_an_upgrade_is_refused)
{
    party *x = ask("x", "a"), *y = ask("y", "a");
    party *upgrade = begin_upgrade(x);
    CHECK_INT(transfer(x, "z"), LC_BUSY);
    release(y);
    CHECK_INT(end_upgrade(x, upgrade), LC_OK);
    CHECK_INT(transfer(x, "z"), LC_OK);
}

TABLE_TEST(transfer_of_what_has_ended_is_refused)
{
    party *x = ask("x", "a!"), *y = ask("y", "a!");
    CHECK_INT(transfer(y, "z"), LC_NOT_HELD);
    release(x);
    CHECK_INT(transfer(x, "z"), LC_NOT_HELD);
    CHECK_TEXT(at("a"), "y!");
}

TABLE_TEST(former_owners_outlive_the_rows_that_show_them)
{
    party *x = ask("x", "a!");
    CHECK_INT(transfer(x, "y"), LC_OK);
    lc_rows rows = {0};
    CHECK_INT(lc_list_holders(table, NULL, &rows), LC_OK);
    for (int i = 0; i < 4; i++) {
        CHECK_INT(transfer(x, i % 2 ? "w" : NULL), LC_OK);
    }
    CHECK(memcmp(rows.rows[0].owner->bytes, "y", 1) == 0);
    lc_rows_clear(&rows, dispose);
}

TABLE_TEST(transferred_grant_no_longer_lets_its_old_owner_pass_waiters)
{
    party *x = ask("x", "a");
    party *y = ask("y", "a!");
    CHECK_INT(transfer(x, "z"), LC_OK);
    CHECK_INT(try_to("x", "a")->status, LC_CONFLICT);
    CHECK_INT(try_to("z", "a")->status, LC_OK);
    CHECK(waits(y));
}
