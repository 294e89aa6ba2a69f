/* Granting and releasing where nobody waits. */
#include "support.h"

TABLE_TEST(exclusive_keys_exclude_and_shared_keys_share)
{
    CHECK_INT(try_to("x", "a! b")->status, LC_OK);
    CHECK_INT(try_to("y", "a")->status, LC_CONFLICT);
    CHECK_INT(try_to("y", "b!")->status, LC_CONFLICT);
    CHECK_INT(try_to("y", "b")->status, LC_OK);
    CHECK_TEXT(at("a"), "x!");
    CHECK_TEXT(at("b"), "x y");
}

TABLE_TEST(request_is_granted_whole_or_not_at_all)
{
    party *x = try_to("x", "c!");
    party *y = try_to("y", "a! b c d! e");
    CHECK_INT(y->status, LC_CONFLICT);
    CHECK_INT(lc_count_held(table), 1);
    CHECK_INT(lc_request_state(y->request), LC_NEW);
    CHECK_INT(release(x), LC_OK);
    CHECK_INT(lc_try_acquire(table, y->request), LC_OK);
    CHECK_INT(lc_count_held(table), 5);
}

TABLE_TEST(anonymous_requests_are_each_their_own_owner)
{
    CHECK_INT(try_to(NULL, "a!")->status, LC_OK);
    CHECK_INT(try_to(NULL, "a!")->status, LC_CONFLICT);
    CHECK_INT(try_to(NULL, "a")->status, LC_CONFLICT);
}

TABLE_TEST(locks_of_one_owner_nest)
{
    party *one = try_to("x", "a! b"), *two = try_to("x", "a! b!"), *three = try_to("x", "a");
    CHECK_TEXT(at("a"), "x! x! x");
    CHECK_INT(try_to("y", "a")->status, LC_CONFLICT);
    release(one);
    release(two);
    CHECK_TEXT(at("a"), "x");
    CHECK_INT(try_to("y", "a")->status, LC_OK);
    release(three);
    CHECK_TEXT(at("a"), "y");
}

TABLE_TEST(shared_then_exclusive_of_one_owner_needs_the_others_gone)
{
    try_to("x", "a");
    party *y = try_to("y", "a");
    CHECK_INT(try_to("x", "a!")->status, LC_CONFLICT);
    release(y);
    CHECK_INT(try_to("x", "a!")->status, LC_OK);
    CHECK_INT(try_to("y", "a")->status, LC_CONFLICT);
}

TABLE_TEST(holders_may_leave_in_any_order)
{
    static const int orders[6][4] = {{0, 1, 2, 3}, {3, 2, 1, 0}, {1, 0, 3, 2},
                                     {2, 0, 3, 1}, {1, 3, 0, 2}, {0, 3, 1, 2}};
    for (int i = 0; i < 6; i++) {
        /* Exclusive holds go in front of shared ones, whenever they come. */
        party *held[] = {try_to("x", "a"), try_to("x", "a!"), try_to("x", "a"), try_to("x", "a!")};
        for (int j = 0; j < 4; j++) {
            CHECK_INT(held[j]->status, LC_OK);
        }
        int exclusive = 2;
        for (int j = 0; j < 4; j++) {
            CHECK_INT(try_to("y", "a")->status, exclusive > 0 ? LC_CONFLICT : LC_OK);
            exclusive -= orders[i][j] % 2;
            CHECK_INT(release(held[orders[i][j]]), LC_OK);
            if (exclusive == 0) {
                party *y = try_to("y", "a");
                CHECK_INT(y->status, LC_OK);
                release(y);
                CHECK_INT(try_to("z", "a!")->status, j < 3 ? LC_CONFLICT : LC_OK);
                break;
            }
        }
        finish();
        begin();
    }
}

TABLE_TEST(release_of_what_is_not_held_changes_nothing)
{
    party *x = try_to("x", "a!"), *y = try_to("y", "a!");
    CHECK_INT(release(y), LC_NOT_HELD);
    CHECK_INT(release(x), LC_OK);
    CHECK_INT(release(x), LC_NOT_HELD);
    CHECK_INT(lc_try_acquire(table, y->request), LC_OK);
    CHECK_INT(release(x), LC_NOT_HELD);
    CHECK_TEXT(at("a"), "y!");
}

TABLE_TEST(ended_request_may_be_acquired_again)
{
    party *x = try_to("x", "a! b");
    uint64_t token = x->request->token;
    for (int i = 0; i < 3; i++) {
        CHECK_INT(release(x), LC_OK);
        CHECK(lc_request_is_ours(x->request));
        CHECK_INT(lc_try_acquire(table, x->request), LC_OK);
        CHECK(x->request->token > token);
        token = x->request->token;
    }
}

TABLE_TEST(empty_request_is_granted_and_released_once)
{
    party *x = try_to("x", ""), *y = ask(NULL, "");
    CHECK_INT(x->status, LC_OK);
    CHECK_INT(y->status, LC_OK);
    CHECK(holds(x) && holds(y));
    CHECK_INT(lc_count_held(table), 0);
    CHECK_INT(release(x), LC_OK);
    CHECK_INT(release(x), LC_NOT_HELD);
    CHECK_INT(cancel(x), LC_OK);
}

TABLE_TEST(empty_request_can_be_changed_like_any_other)
{
    party *x = try_to("x", "");
    CHECK_INT(lc_downgrade(table, x->request), LC_OK);
    CHECK_INT(transfer(x, "y"), LC_OK);
    CHECK_INT(transfer(x, NULL), LC_OK);
    CHECK_INT(release(x), LC_OK);
    CHECK_INT(lc_downgrade(table, x->request), LC_NOT_HELD);
    CHECK_INT(transfer(x, "y"), LC_NOT_HELD);
}

TABLE_TEST(tokens_grow_with_every_grant)
{
    party *w = try_to("w", "a"), *x = try_to("x", ""), *y = try_to("y", "b!");
    CHECK(w->request->token > 0);
    CHECK(x->request->token > w->request->token);
    CHECK(y->request->token > x->request->token);
    party *z = ask("z", "b");
    CHECK_INT(z->status, LC_QUEUED);
    release(y);
    CHECK(z->request->token > y->request->token);
}

TABLE_TEST(request_of_thousands_of_keys_is_one_request)
{
    static char keys[4000 * 8];
    for (size_t i = 0, size = 0; i < 4000; i++) {
        size += (size_t)snprintf(keys + size, sizeof(keys) - size, "k%zu%s ", i, i % 2 ? "!" : "");
    }
    party *x = try_to("x", keys);
    CHECK_INT(x->status, LC_OK);
    CHECK_INT(lc_count_held(table), 4000);
    CHECK_INT(try_to("y", "k3998")->status, LC_OK);
    CHECK_INT(try_to("y", "k3999")->status, LC_CONFLICT);
    party *z = ask("z", keys);
    CHECK_INT(z->status, LC_QUEUED);
    CHECK_TEXT(at("k3999"), "x! | z!");
    CHECK_INT(release(x), LC_OK);
    CHECK(holds(z));
    CHECK_TEXT(at("k3998"), "y z");
}

TABLE_TEST(closed_table_refuses_new_requests_and_keeps_what_is_held)
{
    party *x = try_to("x", "a!");
    CHECK(!lc_table_is_closed(table));
    lc_table_close(table);
    CHECK(lc_table_is_closed(table));
    CHECK_INT(try_to("y", "b")->status, LC_CLOSED);
    CHECK_INT(ask("y", "a")->status, LC_CLOSED);
    CHECK_INT(try_to("y", "")->status, LC_CLOSED);
    CHECK_TEXT(at("a"), "x!");
    CHECK_INT(lc_downgrade(table, x->request), LC_OK);
    CHECK_INT(transfer(x, "y"), LC_OK);
    CHECK_INT(release(x), LC_OK);
    lc_table_close(table);
}

TABLE_TEST(close_shuts_out_those_who_wait)
{
    try_to("x", "a!");
    party *y = ask("y", "a b!"), *z = ask(NULL, "a!");
    lc_table_close(table);
    CHECK_INT(lc_request_state(y->request), LC_SHUT_OUT);
    CHECK_INT(lc_request_state(z->request), LC_SHUT_OUT);
    CHECK_INT(y->wakes, 1);
    CHECK_INT(z->wakes, 1);
    CHECK_INT(cancel(y), LC_CLOSED);
    CHECK_INT(break_deadlock(z), LC_CLOSED);
    CHECK_INT(release(y), LC_NOT_HELD);
    CHECK_TEXT(at("a"), "x!");
}

TABLE_TEST(statistics_count_what_happened)
{
    party *x = try_to("x", "a!");
    try_to("y", "a");
    lc_count_refusal(table);
    party *w = ask("w", "a"), *v = ask("v", "a!"), *u = ask("u", "a");
    lc_cancel(table, v->request, true, NULL);
    cancel(u);
    release(x);
    CHECK(holds(w));
    lc_statistics all = statistics();
    CHECK_INT(all.acquired, 2);
    CHECK_INT(all.refused, 2);
    CHECK_INT(all.waits, 3);
    CHECK_INT(all.timeouts, 1);
    CHECK_INT(all.deadlocks, 0);
    CHECK_INT(all.wakes, 1);
    uint64_t waited = 0;
    for (int i = 0; i < LC_N_WAIT_BINS; i++) {
        waited += all.wait_bins[i];
    }
    CHECK_INT(waited, 3);
}

TEST(free_returns_what_was_still_held_or_waited_for)
{
    begin();
    lc_request *held = new_request("x", "a! b c"), *shared = new_request("y", "b c");
    party *waiting = calloc(1, sizeof(*waiting));
    waiting->request = new_request("z", "a");
    CHECK_INT(lc_try_acquire(table, held), LC_OK);
    CHECK_INT(lc_try_acquire(table, shared), LC_OK);
    submit(waiting);
    CHECK_INT(waiting->status, LC_QUEUED);
    lc_request_keep(held); /* somebody's handle outlives the table */
    lc_request_drop(held);
    lc_request_drop(shared);
    int n = 0;
    for (lc_request *ended = lc_table_free(table), *next; ended != NULL; ended = next) {
        next = lc_next_ended(ended);
        CHECK_INT(lc_request_state(ended), LC_ENDED);
        CHECK_INT(lc_request_drop(ended), ended == shared);
        if (ended == shared) {
            lc_request_free(ended, NULL);
        }
        n++;
    }
    CHECK_INT(n, 3);
    CHECK(lc_request_drop(held) && lc_request_drop(waiting->request));
    lc_request_free(held, NULL);
    lc_request_free(waiting->request, NULL);
    free(waiting);
}
