/* Rows: what is listed, and that listing keeps its requests alive. */
#include "support.h"

TABLE_TEST(blockers_are_every_conflicting_holder_and_earlier_waiter)
{
    ask("x", "a b!");
    ask("y", "a");
    ask("w", "a!");
    ask("v", "c");
    party *z = prepare("z", "a! b c");
    lc_rows rows = {0};
    CHECK_INT(lc_acquire(table, z->request, NULL, &rows), LC_CONFLICT);
    CHECK_INT(rows.n, 4);
    int held = 0, waiting = 0;
    for (size_t i = 0; i < rows.n; i++) {
        held += !rows.rows[i].is_waiter;
        waiting += rows.rows[i].is_waiter;
    }
    CHECK_INT(held, 3);
    CHECK_INT(waiting, 1);
    lc_rows_clear(&rows, dispose);
    CHECK_INT(statistics().refused, 0); /* the caller counts it */
}

TABLE_TEST(blockers_of_an_owner_that_holds_the_key_are_no_waiters)
{
    ask("z", "a");
    ask("x", "a");
    ask("w", "a!");
    party *z = prepare("z", "a!");
    lc_rows rows = {0};
    CHECK_INT(lc_acquire(table, z->request, NULL, &rows), LC_CONFLICT);
    CHECK_INT(rows.n, 1);
    CHECK(!rows.rows[0].is_waiter);
    lc_rows_clear(&rows, dispose);
}

TABLE_TEST(cancel_lists_who_is_in_the_way)
{
    party *holders[20];
    for (int i = 0; i < 20; i++) {
        holders[i] = ask(NULL, "a");
    }
    party *early = ask("y", "a!"), *z = ask("z", "a!"), *late = ask("v", "a!");
    lc_rows rows = {0};
    CHECK_INT(lc_cancel(table, z->request, true, &rows), LC_CONFLICT);
    CHECK_INT(rows.n, 21);
    CHECK(rows.rows[20].request == early->request);
    CHECK(waits(late) && holds(holders[0]));
    lc_rows_clear(&rows, dispose);
}

TABLE_TEST(blockers_are_listed_whole_however_many)
{
    for (int i = 0; i < 300; i++) {
        ask(NULL, i % 2 ? "a b" : "a");
    }
    party *z = prepare("z", "a! b!");
    lc_rows rows = {0};
    CHECK_INT(lc_acquire(table, z->request, NULL, &rows), LC_CONFLICT);
    CHECK_INT(rows.n, 450);
    CHECK(rows.n <= rows.capacity);
    lc_rows_clear(&rows, dispose);
}

TABLE_TEST(acquire_that_need_not_wait_lists_nobody)
{
    ask("x", "a");
    party *z = prepare("z", "a");
    lc_rows rows = {0};
    CHECK_INT(lc_acquire(table, z->request, NULL, &rows), LC_OK);
    CHECK_INT(rows.n, 0);
    lc_rows_clear(&rows, dispose);
}

TABLE_TEST(list_of_holders_is_a_row_for_each_key_and_holder)
{
    ask("x", "a! b");
    ask("y", "b c");
    ask("z", "a!");
    ask(NULL, "d");
    lc_rows rows = {0};
    CHECK_INT(lc_list_holders(table, NULL, &rows), LC_OK);
    CHECK_INT(rows.n, 5);
    lc_rows_clear(&rows, dispose);
    lc_name owner = name_of("x");
    CHECK_INT(lc_list_holders(table, &owner, &rows), LC_OK);
    CHECK_INT(rows.n, 2);
    lc_rows_clear(&rows, dispose);
    owner = name_of("z");
    CHECK_INT(lc_list_holders(table, &owner, &rows), LC_OK);
    CHECK_INT(rows.n, 0);
    lc_rows_clear(&rows, dispose);
}

TABLE_TEST(key_of_any_length_can_be_looked_up)
{
    char key[1000], other[1000];
    memset(key, 'k', sizeof(key) - 1);
    key[sizeof(key) - 1] = '\0';
    memcpy(other, key, sizeof(key));
    other[500] = 'o';
    party *x = ask("x", key), *y = ask(other, "b");
    CHECK_TEXT(at(key), "x");
    CHECK_TEXT(at(other), "");
    lc_rows rows = {0};
    lc_name owner = name_of(other);
    CHECK_INT(lc_list_holders(table, &owner, &rows), LC_OK);
    CHECK_INT(rows.n, 1);
    CHECK(rows.rows[0].request == y->request);
    lc_rows_clear(&rows, dispose);
    release(x);
}

TABLE_TEST(row_keeps_a_request_that_nobody_else_knows)
{
    lc_request *request = new_request("x", "a! b!");
    CHECK_INT(lc_try_acquire(table, request), LC_OK);
    CHECK(!lc_request_drop(request)); /* the table has it still */
    lc_rows first = {0}, second = {0};
    lc_name a = name_of("a"), b = name_of("b");
    CHECK_INT(lc_list_key(table, &a, &first), LC_OK);
    CHECK_INT(lc_list_key(table, &b, &second), LC_OK);
    CHECK_INT(lc_release_rows(table, &first, false), 1);
    lc_rows_clear(&first, dispose);
    CHECK_INT(lc_request_state(second.rows[0].request), LC_ENDED);
    CHECK_INT(lc_release_rows(table, &second, false), 0);
    lc_rows_clear(&second, dispose);
}

TABLE_TEST(request_in_a_row_is_not_ours_to_acquire_again)
{
    party *x = ask("x", "a!");
    lc_rows rows = {0};
    CHECK_INT(lc_list_holders(table, NULL, &rows), LC_OK);
    release(x);
    CHECK(!lc_request_is_ours(x->request));
    lc_rows_clear(&rows, dispose);
    CHECK(lc_request_is_ours(x->request));
}

TABLE_TEST(held_keys_are_counted_and_waited_for_keys_are_not)
{
    party *x = ask("x", "a! b"), *z = ask("z", "c!");
    ask("y", "b c");
    ask("w", "a b");
    CHECK_INT(lc_count_held(table), 3);
    release(x);
    release(z);
    CHECK_INT(lc_count_held(table), 3);
}

TABLE_TEST(ages_and_tokens_of_rows_are_those_of_the_grant)
{
    int64_t before = lc_now_coarse();
    party *x = ask("x", "a!"), *y = ask("y", "a!");
    lc_rows rows = {0};
    lc_name a = name_of("a");
    CHECK_INT(lc_list_key(table, &a, &rows), LC_OK);
    CHECK_INT(rows.n, 2);
    CHECK_INT(rows.rows[0].token, x->request->token);
    CHECK(rows.rows[0].since >= before && rows.rows[0].since <= lc_now());
    CHECK(rows.rows[1].since >= before && rows.rows[1].since <= lc_now());
    CHECK(rows.rows[1].is_waiter && !rows.rows[0].is_waiter);
    lc_rows_clear(&rows, dispose);
    CHECK(waits(y));
}
