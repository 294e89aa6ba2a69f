/* Waiting: who is queued where, who comes first, who is woken. */
#include "support.h"

TABLE_TEST(waiter_is_granted_when_the_holder_releases)
{
    party *x = ask("x", "a!"), *y = ask("y", "a!");
    CHECK_INT(x->status, LC_OK);
    CHECK_INT(y->status, LC_QUEUED);
    CHECK_TEXT(at("a"), "x! | y!");
    release(x);
    CHECK_TEXT(at("a"), "y!");
    CHECK_INT(y->wakes, 1);
    CHECK_INT(x->wakes, 0);
}

TABLE_TEST(queue_is_in_order_of_arrival)
{
    party *x = ask("x", "a!"), *y = ask("y", "a!"), *z = ask(NULL, "a!");
    release(x);
    CHECK_TEXT(at("a"), "y! | ?!");
    release(y);
    CHECK_TEXT(at("a"), "?!");
    release(z);
    CHECK_TEXT(at("a"), "");
}

TABLE_TEST(waiter_is_next_where_nobody_else_waited)
{
    ask("x", "a! b!");
    party *y = ask("y", "a!"), *z = ask("z", "b! c!");
    party *p = ask("p", "a!"), *q = ask("q", "c! b!"), *r = ask("r", "c!");
    CHECK(y->request->waiter->is_next);
    CHECK(z->request->waiter->is_next);
    CHECK(!p->request->waiter->is_next);
    CHECK(!q->request->waiter->is_next);
    CHECK_INT(r->status, LC_OK);
}

TABLE_TEST(shared_waiters_are_granted_together_up_to_an_exclusive_one)
{
    party *x = ask("x", "a!");
    ask("p", "a");
    ask("q", "a");
    ask("y", "a!");
    ask("r", "a");
    release(x);
    CHECK_TEXT(at("a"), "p q | y! r");
}

TABLE_TEST(newcomer_does_not_overtake_a_conflicting_waiter)
{
    party *x = ask("x", "a");
    ask("y", "a!");
    CHECK_INT(try_to("z", "a")->status, LC_CONFLICT);
    party *z = ask("z", "a");
    CHECK_INT(z->status, LC_QUEUED);
    CHECK_TEXT(at("a"), "x | y! z");
    release(x);
    CHECK_TEXT(at("a"), "y! | z");
}

TABLE_TEST(newcomer_joins_holders_where_the_waiters_do_not_conflict)
{
    /* y waits at `a` for `b` only: another reader of `a` conflicts with nobody there. */
    ask("x", "b!");
    ask("w", "a");
    ask("y", "a b");
    CHECK_INT(try_to("z", "a")->status, LC_OK);
    CHECK_TEXT(at("a"), "w z");
}

TABLE_TEST(waiter_is_queued_only_where_it_is_blocked)
{
    party *x = ask("x", "b!");
    party *y = ask("y", "a! b!");
    CHECK(is_queued_at(y, "b") && !is_queued_at(y, "a"));
    /* So `a` goes on as if there were no y. */
    party *z = try_to("z", "a!");
    CHECK_INT(z->status, LC_OK);
    CHECK_INT(release(z), LC_OK);
    release(x);
    CHECK_TEXT(at("a"), "y!");
}

TABLE_TEST(waiter_found_blocked_at_a_further_key_queues_there_by_arrival)
{
    party *x = ask("x", "b!");
    party *y = ask("y", "a! b!");
    party *z = ask("z", "a!");
    party *v = ask("v", "a!");
    CHECK_TEXT(at("a"), "z! | v!");
    release(x);
    /* y arrived before v, so it comes first, though v was queued first. */
    CHECK_TEXT(at("a"), "z! | y! v!");
    CHECK_TEXT(at("b"), "| y!");
    CHECK_INT(y->wakes, 0);
    release(z);
    CHECK_TEXT(at("a"), "y! | v!");
    CHECK_TEXT(at("b"), "y!");
    CHECK(waits(v));
}

TABLE_TEST(place_once_taken_is_kept)
{
    party *x = ask("x", "b!"), *z = ask("z", "a!");
    party *y = ask("y", "a! b!");
    release(x);
    /* y is queued at `b`, which is free, and keeps it from those who came later. */
    CHECK_TEXT(at("b"), "| y!");
    CHECK_INT(try_to("v", "b")->status, LC_CONFLICT);
    party *w = ask("w", "b!");
    CHECK_TEXT(at("b"), "| y! w!");
    release(z);
    CHECK(holds(y) && waits(w));
}

TABLE_TEST(waiter_re_queued_in_front_becomes_the_head_of_a_key_nobody_holds)
{
    party *x = ask("x", "b!"), *u = ask("u", "c!");
    party *y = ask("y", "a! b! c!");    /* queued at b and c */
    party *z = ask("z", "a!");
    party *v = ask("v", "a! c!");       /* queued at a and c */
    CHECK_TEXT(at("a"), "z! | v!");
    release(x);                         /* y is queued at a, too */
    CHECK_TEXT(at("a"), "z! | y! v!");
    release(z);
    CHECK_TEXT(at("a"), "| y! v!");
    release(u);
    CHECK(holds(y));
    release(y);
    CHECK(holds(v));
}

TABLE_TEST(first_place_of_a_queue_is_taken_by_an_earlier_arrival)
{
    party *x = ask("x", "b!"), *y = ask("y", "a! b!");
    party *z = ask("z", "a!"), *v = ask("v", "a! d!");
    release(z);                         /* v is granted: y was not queued at a */
    CHECK(holds(v));
    party *w = ask("w", "a!");
    release(x);
    CHECK_TEXT(at("a"), "v! | y! w!");
    release(v);
    CHECK(holds(y) && waits(w));
}

TABLE_TEST(many_re_queued_requests_keep_the_order_of_arrival)
{
    party *held[8], *early[8];
    char keys[32];
    for (int i = 0; i < 8; i++) {
        snprintf(keys, sizeof(keys), "k%d!", i);
        held[i] = ask("holder", keys);
    }
    for (int i = 0; i < 8; i++) {
        char owner[2] = {(char)('a' + i), '\0'};
        snprintf(keys, sizeof(keys), "k%d! hot!", i);
        early[i] = ask(owner, keys);
    }
    party *hot = ask("x", "hot!");
    ask("y", "hot!");
    static const int order[8] = {3, 7, 0, 5, 1, 6, 2, 4};
    for (int i = 0; i < 8; i++) {
        release(held[order[i]]);
    }
    CHECK_TEXT(at("hot"), "x! | a! b! c! d! e! f! g! h! y!");
    release(hot);
    CHECK(holds(early[0]));
}

TABLE_TEST(owner_that_holds_a_key_is_not_blocked_by_waiters_for_it)
{
    ask("x", "a");
    ask("y", "a!");
    CHECK_INT(try_to("x", "a")->status, LC_OK);
    CHECK_INT(try_to("z", "a")->status, LC_CONFLICT);
    party *z = try_to("x", "a!");
    CHECK_INT(z->status, LC_OK);
    CHECK_TEXT(at("a"), "x x x! | y!");
}

TABLE_TEST(holder_that_wants_more_passes_waiters_for_what_it_holds)
{
    party *x = ask("x", "a"), *z = ask("z", "a");
    ask("y", "a!");
    party *more = ask("x", "a!");
    CHECK_TEXT(at("a"), "x z | y! x!");
    release(z);
    CHECK(holds(more));
    CHECK_TEXT(at("a"), "x x! | y!");
    release(x);
    release(more);
    CHECK_TEXT(at("a"), "y!");
}

TABLE_TEST(grant_to_an_owner_lets_its_other_requests_pass)
{
    /* Both of x wait behind y; what lets the first in lets the second in, too. */
    party *h = ask("h", "a!"), *x = ask("x", "a"), *y = ask("y", "a!"), *again = ask("x", "a");
    release(h);
    CHECK(holds(x) && holds(again));
    CHECK_TEXT(at("a"), "x x | y!");
    release(x);
    release(again);
    CHECK(holds(y));
}

TABLE_TEST(newcomer_of_an_owner_lets_its_waiting_request_pass)
{
    /* w keeps its place at a, which is free, while it waits for b; x's exclusive request is
     * behind it. Then another request of x shares a with w's place. */
    party *h = ask("h", "a!");
    ask("g", "b!");
    party *w = ask("w", "a b!"), *x = ask("x", "a!");
    release(h);
    CHECK_TEXT(at("a"), "| w x!");
    CHECK_INT(ask("x", "a")->status, LC_OK);
    CHECK(holds(x) && waits(w));
    CHECK_TEXT(at("a"), "x x! | w");
    CHECK_INT(x->wakes, 1);
}

TABLE_TEST(cancelled_waiter_lets_those_behind_it_in)
{
    ask("x", "a");
    party *y = ask("y", "a!"), *z = ask("z", "a");
    CHECK(waits(z));
    CHECK_INT(cancel(y), LC_CONFLICT);
    CHECK_INT(lc_request_state(y->request), LC_ENDED);
    CHECK_TEXT(at("a"), "x z");
    CHECK_INT(z->wakes, 1);
    CHECK_INT(y->wakes, 0);
    CHECK_INT(cancel(y), LC_OK);
}

TABLE_TEST(cancelled_first_in_queue_of_a_key_nobody_holds_frees_the_key)
{
    party *x = ask("x", "b!"), *z = ask("z", "a!"), *y = ask("y", "a! b!");
    release(x);
    CHECK_TEXT(at("b"), "| y!");
    party *v = ask("v", "b!");
    CHECK_INT(cancel(y), LC_CONFLICT);
    CHECK(holds(v));
    release(v);
    CHECK_INT(try_to("w", "b!")->status, LC_OK);
    CHECK(holds(z));
}

TABLE_TEST(cancelled_waiter_in_the_middle_leaves_the_order_of_the_others)
{
    party *x = ask("x", "a!"), *p = ask("p", "a!"), *q = ask("q", "a!"), *r = ask("r", "a!");
    cancel(q);
    CHECK_TEXT(at("a"), "x! | p! r!");
    cancel(r);
    CHECK_TEXT(at("a"), "x! | p!");
    cancel(p);
    CHECK_TEXT(at("a"), "x!");
    release(x);
    CHECK_INT(p->wakes + q->wakes + r->wakes, 0);
}

TABLE_TEST(cancel_of_what_was_granted_leaves_it_granted)
{
    party *x = ask("x", "a!"), *y = ask("y", "a!");
    release(x);
    CHECK_INT(cancel(y), LC_OK);
    CHECK(holds(y));
    CHECK_INT(statistics().timeouts, 0);
}

TABLE_TEST(cancelled_request_may_wait_again_at_the_end)
{
    party *x = ask("x", "a!"), *y = ask("y", "a!"), *z = ask("z", "a!");
    cancel(y);
    y->status = lc_acquire(table, y->request, y->request->waiter, NULL);
    CHECK_INT(y->status, LC_QUEUED);
    CHECK_TEXT(at("a"), "x! | z! y!");
    release(x);
    CHECK(holds(z));
}

TABLE_TEST(refused_request_is_queued_without_a_second_attempt)
{
    party *x = ask("x", "a!"), *y = try_to("y", "a! b!");
    CHECK_INT(y->status, LC_CONFLICT);
    CHECK_INT(lc_queue(table, y->request, new_waiter(y)), LC_QUEUED);
    CHECK_TEXT(at("a"), "x! | y!");
    CHECK_TEXT(at("b"), "");
    release(x);
    CHECK(holds(y));
    CHECK_INT(y->wakes, 1);
}

TABLE_TEST(refused_request_is_granted_if_nobody_is_in_the_way_any_more)
{
    party *x = ask("x", "a!"), *y = try_to("y", "a!");
    CHECK_INT(y->status, LC_CONFLICT);
    release(x);
    lc_waiter *waiter = new_waiter(y);
    CHECK_INT(lc_queue(table, y->request, waiter), LC_OK);
    CHECK(y->request->waiter == NULL);
    free(waiter);
    CHECK_TEXT(at("a"), "y!");
    CHECK_INT(y->wakes, 0);
    CHECK_INT(release(y), LC_OK);
    CHECK(lc_request_is_ours(y->request));
}

TABLE_TEST(refused_request_is_shut_out_of_a_table_that_was_closed_meanwhile)
{
    ask("x", "a!");
    party *y = try_to("y", "a!");
    lc_table_close(table);
    lc_waiter *waiter = new_waiter(y);
    CHECK_INT(lc_queue(table, y->request, waiter), LC_CLOSED);
    CHECK(y->request->waiter == NULL);
    free(waiter);
}

TABLE_TEST(attempt_without_a_waiter_is_refused_where_it_would_wait)
{
    ask("x", "a!");
    party *y = prepare("y", "a!");
    CHECK_INT(lc_acquire(table, y->request, NULL, NULL), LC_CONFLICT);
    CHECK(lc_request_is_ours(y->request));
    CHECK_INT(statistics().refused, 0);
}

TABLE_TEST(release_wakes_those_who_can_run_and_nobody_else)
{
    party *x = ask("x", "a!"), *others[50], *readers[3];
    char key[16];
    for (int i = 0; i < 50; i++) {
        snprintf(key, sizeof(key), "k%d!", i);
        ask("holder", key);
        others[i] = ask(NULL, key);
    }
    for (int i = 0; i < 3; i++) {
        readers[i] = ask(NULL, "a");
    }
    party *writer = ask("y", "a!");
    uint64_t wakes = statistics().wakes;
    release(x);
    CHECK_INT(statistics().wakes, wakes + 3);
    for (int i = 0; i < 3; i++) {
        CHECK_INT(readers[i]->wakes, 1);
    }
    CHECK_INT(writer->wakes, 0);
    for (int i = 0; i < 50; i++) {
        CHECK_INT(others[i]->wakes, 0);
    }
}

TABLE_TEST(one_release_grants_by_arrival_across_its_keys)
{
    party *x = ask("x", "a! b! c!");
    party *p = ask("p", "c! a!"), *q = ask("q", "b! c!"), *r = ask("r", "a b"), *s = ask("s", "b");
    release(x);
    CHECK(holds(p));
    CHECK(waits(q));
    CHECK(waits(r) && waits(s)); /* behind p at a, behind q at b */
    CHECK_TEXT(at("a"), "p! | r");
    CHECK_TEXT(at("b"), "| q! r s");
    CHECK_TEXT(at("c"), "p! | q!");
    cancel(q);
    CHECK(holds(s) && waits(r));
    release(p);
    CHECK(holds(r));
}

TABLE_TEST(release_rows_ends_all_before_anybody_is_granted)
{
    /* y waits for both, z for one: whichever goes first, y is earlier. */
    party *p = ask("p", "a!"), *q = ask("q", "b!"), *y = ask("y", "a! b!"), *z = ask("z", "b!");
    lc_rows rows = {0};
    CHECK_INT(lc_list_holders(table, NULL, &rows), LC_OK);
    CHECK_INT(rows.n, 2);
    CHECK_INT(lc_release_rows(table, &rows, false), 2);
    CHECK_INT(rows.n, 2);
    lc_rows_clear(&rows, dispose);
    CHECK(holds(y) && waits(z));
    CHECK_INT(release(p), LC_NOT_HELD);
    CHECK_INT(release(q), LC_NOT_HELD);
}

TABLE_TEST(release_rows_counts_a_request_of_many_keys_once_and_leaves_waiters)
{
    party *x = ask("x", "a! b! c"), *y = ask("y", "b!"), *z = ask("z", "c");
    lc_rows rows = {0};
    lc_name b = name_of("b");
    CHECK_INT(lc_list_key(table, &b, &rows), LC_OK);
    CHECK_INT(rows.n, 2);
    CHECK_INT(lc_release_rows(table, &rows, false), 1);
    lc_rows_clear(&rows, dispose);
    CHECK(!holds(x) && holds(y) && holds(z));
    CHECK_INT(lc_list_holders(table, NULL, &rows), LC_OK);
    release(y);
    CHECK_INT(lc_release_rows(table, &rows, false), 1);
    lc_rows_clear(&rows, dispose);
}

TABLE_TEST(wait_of_an_anonymous_owner_ignores_other_anonymous_grants_of_its_maker)
{
    party *x = ask(NULL, "a"), *y = ask(NULL, "a!");
    CHECK(waits(y));
    CHECK_TEXT(at("a"), "? | ?!");
    release(x);
    CHECK(holds(y));
}

TABLE_TEST(queues_work_in_an_overfull_bucket)
{
    party *held[9], *waiting[9];
    char key[16];
    for (int i = 0; i < 9; i++) {
        snprintf(key, sizeof(key), "o%d", i);
        put_key(key, 700);
        strcat(key, "!");
        held[i] = ask("x", key);
        waiting[i] = ask("y", key);
    }
    static const int order[9] = {4, 0, 8, 5, 1, 7, 2, 6, 3};
    for (int i = 0; i < 9; i++) {
        snprintf(key, sizeof(key), "o%d", order[i]);
        CHECK_TEXT(at(key), "x! | y!");
        release(held[order[i]]);
        CHECK_TEXT(at(key), "y!");
    }
    for (int i = 0; i < 9; i++) {
        snprintf(key, sizeof(key), "o%d", order[8 - i]);
        release(waiting[order[8 - i]]);
        CHECK_TEXT(at(key), "");
    }
}

static int n_after_waking;

static void
count_after_waking(void)
{
    n_after_waking++;
    lc_mutex_lock(&table->wait_mutex); /* is open */
    lc_mutex_unlock(&table->wait_mutex);
}

TABLE_TEST(call_after_waking_comes_once_when_all_were_woken)
{
    lc_call_after_waking(count_after_waking);
    party *x = ask("x", "a!"), *y = ask("y", "a"), *z = ask("z", "a"), *w = ask("w", "a!");
    CHECK_INT(n_after_waking, 0);
    release(x);
    CHECK(y->wakes == 1 && z->wakes == 1);
    CHECK_INT(n_after_waking, 1);
    cancel(w);
    release(y);
    release(z);
    CHECK_INT(n_after_waking, 1);
    lc_call_after_waking(NULL);
}
