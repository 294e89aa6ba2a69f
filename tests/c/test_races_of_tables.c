/* Races with what concerns the whole table, or those who are woken, played on purpose. */
#include "actors.h"

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
    let_go(&newcomer);
    CHECK(!waits(y));
    lc_after_fork(table);
    end_of(&newcomer);
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
