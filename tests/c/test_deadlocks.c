/* Which waits can never end, who is told so, and who is not. */
#include "support.h"

/* Lets everybody who was asked to look for a deadlock do so, until nobody is. */
static void
look_when_woken(party **all, size_t n)
{
    for (bool looked = true; looked;) {
        looked = false;
        for (size_t i = 0; i < n; i++) {
            if (waits(all[i]) && atomic_exchange(&all[i]->wakes, 0) > 0) {
                break_deadlock(all[i]);
                looked = true;
            }
        }
    }
}

TABLE_TEST(cycle_of_two_is_found_by_who_closed_it)
{
    ask("x", "a!");
    ask("y", "b!");
    party *x = ask("x", "b!"), *y = ask("y", "a!");
    CHECK_INT(break_deadlock(y), LC_DEADLOCK);
    CHECK_INT(lc_request_state(y->request), LC_ENDED);
    CHECK_INT(break_deadlock(x), LC_QUEUED);
    CHECK_INT(statistics().deadlocks, 1);
}

TABLE_TEST(cycle_found_by_another_wakes_who_closed_it)
{
    ask("x", "a!");
    ask("y", "b!");
    party *x = ask("x", "b!"), *y = ask("y", "a!");
    CHECK_INT(break_deadlock(x), LC_QUEUED);
    CHECK_INT(y->wakes, 1);
    CHECK(waits(y));
    CHECK_INT(break_deadlock(x), LC_QUEUED);
    CHECK_INT(y->wakes, 1); /* once is enough */
    CHECK_INT(break_deadlock(y), LC_DEADLOCK);
    CHECK_INT(break_deadlock(x), LC_QUEUED);
}

TABLE_TEST(cycle_is_listed_from_the_victim_on)
{
    party *a = ask("x", "a!"), *b = ask("y", "b!");
    party *x = ask("x", "b!"), *y = ask("y", "a!");
    lc_rows cycle = {0};
    CHECK_INT(lc_break_deadlock(table, y->request, &cycle), LC_DEADLOCK);
    CHECK_INT(cycle.n, 4);
    lc_request *steps[4] = {y->request, a->request, x->request, b->request};
    for (int i = 0; i < 4; i++) {
        CHECK(cycle.rows[i].request == steps[i]);
        CHECK_INT(cycle.rows[i].is_waiter, i % 2 == 0);
    }
    lc_rows_clear(&cycle, dispose);
}

TABLE_TEST(two_upgrades_of_one_key_are_a_deadlock)
{
    party *x = ask("x", "a"), *y = ask("y", "a");
    party *first = begin_upgrade(x), *second = begin_upgrade(y);
    CHECK_INT(break_deadlock(second), LC_DEADLOCK);
    end_upgrade(y, NULL);
    CHECK_INT(break_deadlock(first), LC_QUEUED);
    release(y);
    CHECK(holds(first));
    CHECK_INT(end_upgrade(x, first), LC_OK);
}

TABLE_TEST(upgrades_of_anonymous_grants_are_found_too)
{
    party *x = ask(NULL, "a"), *y = ask(NULL, "a");
    party *first = begin_upgrade(x), *second = begin_upgrade(y);
    CHECK_INT(break_deadlock(second), LC_DEADLOCK);
    CHECK(waits(first));
    end_upgrade(x, NULL);
    end_upgrade(y, NULL);
}

TABLE_TEST(cycle_of_a_hundred_owners_is_found)
{
    enum { N = 100 };
    party *waiting[N];
    char owner[16], keys[16];
    for (int i = 0; i < N; i++) {
        snprintf(owner, sizeof(owner), "o%d", i);
        snprintf(keys, sizeof(keys), "k%d!", i);
        CHECK_INT(ask(owner, keys)->status, LC_OK);
    }
    for (int i = 0; i < N; i++) {
        snprintf(owner, sizeof(owner), "o%d", i);
        snprintf(keys, sizeof(keys), "k%d!", (i + 1) % N);
        waiting[i] = ask(owner, keys);
        if (i < N - 1) {
            CHECK_INT(break_deadlock(waiting[i]), LC_QUEUED);
        }
    }
    lc_rows cycle = {0};
    CHECK_INT(lc_break_deadlock(table, waiting[N - 1]->request, &cycle), LC_DEADLOCK);
    CHECK_INT(cycle.n, 2 * N);
    for (int i = 0; i < N; i++) {
        CHECK(cycle.rows[2 * i].request == waiting[(N - 1 + i) % N]->request);
    }
    lc_rows_clear(&cycle, dispose);
}

TABLE_TEST(cycle_closed_by_a_re_queue_is_found_at_once)
{
    /* y waits for c only. Then c is free, and y is queued at a, which x holds; x waits
     * for y's b. */
    party *c = ask("z", "c!");
    ask("y", "b!");
    party *y = ask("y", "a! c!");
    ask("x", "a!");
    party *x = ask("x", "b!");
    CHECK_INT(break_deadlock(x), LC_QUEUED);
    CHECK_INT(break_deadlock(y), LC_QUEUED);
    release(c);
    CHECK(is_queued_at(y, "a"));
    CHECK_INT(y->wakes, 1);
    CHECK_INT(x->wakes, 0);
    CHECK_INT(break_deadlock(y), LC_DEADLOCK);
}

TABLE_TEST(cycle_closed_by_a_grant_to_another_thread_of_the_owner_is_found_at_once)
{
    /* x waits for y; y waits for b; then another request of x is granted b. */
    ask("y", "a!");
    party *b = ask("z", "b!");
    party *x = ask("x", "a!");
    party *more = ask("x", "b!");
    party *y = ask("y", "b!");
    CHECK_INT(break_deadlock(x), LC_QUEUED);
    CHECK_INT(break_deadlock(y), LC_QUEUED);
    release(b);
    CHECK(holds(more));
    CHECK_INT(x->wakes + y->wakes, 1);
    party *all[] = {x, y};
    look_when_woken(all, 2);
    CHECK_INT(statistics().deadlocks, 1);
}

TABLE_TEST(cycle_closed_by_a_transfer_is_found_at_once)
{
    ask("y", "a!");
    party *x = ask("x", "a!");
    party *b = ask("z", "b!");
    party *y = ask("y", "b!");
    CHECK_INT(break_deadlock(x), LC_QUEUED);
    CHECK_INT(break_deadlock(y), LC_QUEUED);
    CHECK_INT(transfer(b, "x"), LC_OK);
    CHECK_INT(x->wakes + y->wakes, 1);
    party *all[] = {x, y};
    look_when_woken(all, 2);
    CHECK_INT(statistics().deadlocks, 1);
}

TABLE_TEST(waiter_ahead_is_waited_for)
{
    /* y (nobody's) waits for a and b; x holds a and wants b behind y. */
    party *h = ask("h", "b!");
    ask("x", "a!");
    party *y = ask(NULL, "a! b!");
    party *x = ask("x", "b!");
    CHECK_TEXT(at("b"), "h! | ?! x!");
    CHECK_INT(break_deadlock(x), LC_DEADLOCK);
    release(h);
    CHECK(waits(y));
}

TABLE_TEST(waiter_ahead_that_does_not_conflict_is_not_waited_for)
{
    ask("h", "b!");
    ask("x", "a!");
    ask(NULL, "a! b");
    party *x = ask("x", "b");
    CHECK_INT(break_deadlock(x), LC_QUEUED);
}

TABLE_TEST(request_of_a_waited_for_owner_that_is_not_in_the_way_raises_no_alarm)
{
    /* y waits ahead of x at b; another request of y waits for x. y's first one does not
     * need the second: once h releases, all can end. */
    party *h = ask("h", "b!");
    ask("x", "a!");
    party *ahead = ask("y", "b!"), *other = ask("y", "a!");
    party *x = ask("x", "b!");
    CHECK_INT(break_deadlock(x), LC_QUEUED);
    CHECK_INT(break_deadlock(other), LC_QUEUED);
    CHECK_INT(x->wakes + other->wakes, 0);
    release(h);
    CHECK(holds(ahead));
    /* Now it is one: y holds b and waits for x. */
    party *all[] = {x, other};
    look_when_woken(all, 2);
    CHECK_INT(statistics().deadlocks, 1);
}

TABLE_TEST(waits_without_a_cycle_raise_no_alarm)
{
    party *chain[10];
    char owner[16], keys[16];
    ask("o0", "k0!");
    for (int i = 1; i < 10; i++) {
        snprintf(owner, sizeof(owner), "o%d", i);
        snprintf(keys, sizeof(keys), "k%d!", i);
        ask(owner, keys);
        snprintf(keys, sizeof(keys), "k%d!", i - 1);
        chain[i] = ask(owner, keys);
    }
    for (int i = 1; i < 10; i++) {
        CHECK_INT(break_deadlock(chain[i]), LC_QUEUED);
        CHECK_INT(chain[i]->wakes, 0);
    }
}

TABLE_TEST(owner_never_waits_for_itself)
{
    ask("x", "a");
    ask("y", "a");
    party *x = ask("x", "a!"), *again = ask("x", "a! b!");
    CHECK_INT(break_deadlock(x), LC_QUEUED);
    CHECK_INT(break_deadlock(again), LC_QUEUED);
}

TABLE_TEST(end_of_a_deadlock_lets_those_behind_it_in)
{
    ask("x", "a!");
    ask("y", "b");
    party *x = ask("x", "b!");
    party *z = ask("z", "b");
    party *y = ask("y", "a!");
    CHECK_INT(break_deadlock(x), LC_QUEUED);
    CHECK_INT(break_deadlock(y), LC_DEADLOCK);
    CHECK(waits(z) && waits(x));
    CHECK_INT(cancel(x), LC_CONFLICT);
    CHECK(holds(z));
}

TABLE_TEST(look_of_what_was_granted_or_ended_says_so)
{
    party *x = ask("x", "a!"), *y = ask("y", "a!"), *z = ask("z", "a!");
    release(x);
    CHECK_INT(break_deadlock(y), LC_OK);
    lc_table_close(table);
    CHECK_INT(break_deadlock(z), LC_CLOSED);
}

TABLE_TEST(second_cycle_through_who_found_the_first_is_found_too)
{
    /* v waits for both b and c, and their owners for v's a: w closed the second cycle.
     * Whichever v finds first, both waits for a cannot end while v waits. */
    put_key("c", 1);
    put_key("b", 2);
    ask("v", "a!");
    ask("u", "b!");
    ask("w", "c!");
    party *u = ask("u", "a!"), *v = ask("v", "b! c!"), *w = ask("w", "a!");
    party *all[] = {u, v, w};
    break_deadlock(v);
    look_when_woken(all, 3);
    CHECK(!waits(v) || (!waits(u) && !waits(w)));
}

TABLE_TEST(all_but_one_of_many_upgrades_of_one_key_are_told)
{
    enum { N = 5 };
    party *held[N], *upgrades[N];
    for (int i = 0; i < N; i++) {
        held[i] = ask(NULL, "a");
    }
    for (int i = 0; i < N; i++) {
        upgrades[i] = begin_upgrade(held[i]);
    }
    for (int i = 0; i < N; i++) {
        break_deadlock(upgrades[i]);
    }
    look_when_woken(upgrades, N);
    int waiting = 0;
    for (int i = 0; i < N; i++) {
        waiting += waits(upgrades[i]);
    }
    CHECK_INT(waiting, 1);
    for (int i = 0; i < N; i++) {
        end_upgrade(held[i], NULL);
    }
}

TABLE_TEST(of_three_upgrades_that_look_once_each_one_is_left)
{
    static const int orders[6][3] = {{0, 1, 2}, {0, 2, 1}, {1, 0, 2},
                                     {1, 2, 0}, {2, 0, 1}, {2, 1, 0}};
    for (int i = 0; i < 6; i++) {
        party *held[3], *upgrades[3];
        for (int j = 0; j < 3; j++) {
            held[j] = ask(NULL, "a");
        }
        for (int j = 0; j < 3; j++) {
            upgrades[j] = begin_upgrade(held[orders[i][j]]);
            if (j == 0) {
                CHECK_INT(break_deadlock(upgrades[0]), LC_QUEUED);
            }
        }
        break_deadlock(upgrades[1]);
        break_deadlock(upgrades[2]);
        look_when_woken(upgrades, 3);
        CHECK_INT(waits(upgrades[0]) + waits(upgrades[1]) + waits(upgrades[2]), 1);
        finish();
        begin();
    }
}

TABLE_TEST(cycle_closed_by_the_loss_of_a_hold_is_found)
{
    /* x may pass y at k because it holds k; y waits for x's a. Once x no longer holds k
     * it waits behind y. */
    party *h = ask("h", "k");
    ask("x", "a!");
    party *k = ask("x", "k");
    party *y = ask("y", "k! a!");
    party *x = ask("x", "k!");
    CHECK_INT(break_deadlock(y), LC_QUEUED);
    CHECK_INT(break_deadlock(x), LC_QUEUED);
    release(k);
    release(h);
    CHECK_TEXT(at("k"), "| y! x!");
    party *all[] = {x, y};
    look_when_woken(all, 2);
    CHECK(!waits(x) || !waits(y));
}

TABLE_TEST(cycle_closed_by_transferring_a_hold_away_is_found)
{
    party *h = ask("h", "k");
    ask("x", "a!");
    party *k = ask("x", "k");
    party *y = ask("y", "k! a!");
    party *x = ask("x", "k!");
    CHECK_INT(break_deadlock(y), LC_QUEUED);
    CHECK_INT(break_deadlock(x), LC_QUEUED);
    CHECK_INT(transfer(k, "z"), LC_OK);
    release(k);
    release(h);
    party *all[] = {x, y};
    look_when_woken(all, 2);
    CHECK(!waits(x) || !waits(y));
}

TABLE_TEST(cycle_closed_by_release_rows_is_found)
{
    ask("x", "a!");
    party *k = ask("x", "k");
    party *h = ask("h", "k");
    party *y = ask("y", "k! a!"), *x = ask("x", "k!");
    CHECK_INT(break_deadlock(y), LC_QUEUED);
    CHECK_INT(break_deadlock(x), LC_QUEUED);
    lc_rows rows = {0};
    lc_name key = name_of("k");
    CHECK_INT(lc_list_key(table, &key, &rows), LC_OK);
    CHECK_INT(lc_release_rows(table, &rows, false), 2);
    lc_rows_clear(&rows, dispose);
    CHECK(!holds(h) && !holds(k));
    party *all[] = {x, y};
    look_when_woken(all, 2);
    CHECK(!waits(x) || !waits(y));
}
