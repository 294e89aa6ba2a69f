"""Waiting: a request waits as a whole, holds nothing, and queues where it is blocked."""

from __future__ import annotations

import pytest

from lockcore import ManagerClosedError
from support import modes_of, owners_of, states, until_queued


def test_acquire_waits_for_the_holder(manager, background):
    holder = manager.acquire(exclusive=["a"])
    thread = background(manager.acquire, exclusive=["a"], owner="next")
    until_queued(manager, "a")
    holder.release()
    assert thread.result().is_held


def test_acquire_waits_for_all_shared_holders(manager):
    readers = [manager.acquire(shared=["a"]) for _ in range(3)]
    writer = manager._submit(exclusive=["a"])
    seen = []
    for reader in readers:
        seen += states(writer)
        reader.release()
    assert seen + states(writer) == ["waiting", "waiting", "waiting", "held"]


def test_waiting_readers_are_granted_together(manager):
    writer = manager.acquire(exclusive=["a"])
    readers = [manager._submit(shared=["a"]) for _ in range(3)]
    writer.release()
    assert states(*readers) == ["held"] * 3


def test_try_acquire_never_queues(manager):
    manager.acquire(exclusive=["a"])
    manager.try_acquire(exclusive=["a"])
    assert manager.waiters("a") == []


def test_free_request_does_not_wait(manager):
    assert states(manager._submit(exclusive=["a"])) == ["held"]


def test_request_beside_a_waiter_for_another_key_does_not_wait(manager):
    manager.acquire(exclusive=["a"])
    manager._submit(exclusive=["a"])
    assert states(manager._submit(exclusive=["b"])) == ["held"]


def test_waiter_holds_nothing(manager):
    manager.acquire(exclusive=["b"], owner="holder")
    manager._submit(exclusive=["a", "b", "c"], owner="waiter")
    assert owners_of(manager.snapshot()) == ["holder"]


def test_waiter_queues_only_where_it_is_blocked(manager):
    manager.acquire(exclusive=["b"])
    manager._submit(exclusive=["a", "b", "c"], owner="waiter")
    assert [owners_of(manager.waiters(key)) for key in "abc"] == [[], ["waiter"], []]


def test_waiter_delays_nobody_at_a_key_that_does_not_block_it(manager):
    manager.acquire(exclusive=["b"])
    manager._submit(exclusive=["a", "b"])
    assert manager.try_acquire(exclusive=["a"]) is not None


def test_waiter_queues_wherever_it_is_blocked(manager):
    manager.acquire(exclusive=["a", "c"])
    manager._submit(exclusive=["a", "b", "c"], owner="waiter")
    assert [owners_of(manager.waiters(key)) for key in "abc"] == [["waiter"], [], ["waiter"]]


def test_waiter_is_granted_whole(manager):
    first, second = manager.acquire(exclusive=["a"]), manager.acquire(exclusive=["b"])
    waiter = manager._submit(exclusive=["a"], shared=["b", "c"])
    first.release()
    assert states(waiter) == ["waiting"]
    second.release()
    assert (states(waiter), len(manager)) == (["held"], 3)


def test_granted_waiter_leaves_every_queue(manager):
    holder = manager.acquire(exclusive=["a", "b"])
    manager._submit(exclusive=["a", "b"])
    holder.release()
    assert [manager.waiters(key) for key in "ab"] == [[], []]


def test_waiter_found_blocked_at_one_more_key_queues_there_too(manager):
    holder = manager.acquire(exclusive=["a"])
    manager._submit(exclusive=["a", "b"], owner="waiter")
    manager.acquire(exclusive=["b"])
    holder.release()
    assert owners_of(manager.waiters("b")) == ["waiter"]


def test_waiter_queues_at_one_more_key_by_its_arrival(manager):
    holder = manager.acquire(exclusive=["a"])
    manager._submit(exclusive=["a", "b"], owner="early")
    manager.acquire(exclusive=["b"])
    manager._submit(exclusive=["b"], owner="late")
    holder.release()
    assert owners_of(manager.waiters("b")) == ["early", "late"]


def test_waiter_keeps_a_place_that_no_longer_blocks_it(manager):
    holder = manager.acquire(exclusive=["a"])
    manager.acquire(exclusive=["b"])
    manager._submit(exclusive=["a", "b"], owner="waiter")
    holder.release()
    assert owners_of(manager.waiters("a")) == ["waiter"]


def test_kept_place_is_not_overtaken(manager):
    holder = manager.acquire(exclusive=["a"])
    manager.acquire(exclusive=["b"])
    manager._submit(exclusive=["a", "b"])
    holder.release()
    assert manager.try_acquire(shared=["a"]) is None


def test_newcomer_does_not_overtake_a_conflicting_waiter(manager):
    manager.acquire(shared=["a"])
    manager._submit(exclusive=["a"])
    assert manager.try_acquire(shared=["a"]) is None


def test_newcomer_passes_a_waiter_it_does_not_conflict_with(manager):
    manager.acquire(shared=["a"])
    manager.acquire(exclusive=["b"])
    manager._submit(shared=["a", "b"])
    assert manager.try_acquire(shared=["a"]) is not None


def test_waiter_behind_a_reader_is_not_passed_by_that_readers_friends(manager):
    holder = manager.acquire(exclusive=["a"])
    queue = [
        manager._submit(shared=["a"]),
        manager._submit(exclusive=["a"]),
        manager._submit(shared=["a"]),
    ]
    holder.release()
    assert states(*queue) == ["held", "waiting", "waiting"]


def test_release_grants_only_who_can_run(manager):
    holder = manager.acquire(exclusive=["a", "b"])
    other = manager.acquire(exclusive=["c"])
    queue = [
        manager._submit(exclusive=["a", "c"]),
        manager._submit(exclusive=["a"]),
        manager._submit(exclusive=["b"]),
        manager._submit(exclusive=["c"]),
    ]
    holder.release()
    assert (states(*queue), other.is_held) == (["waiting", "waiting", "held", "waiting"], True)


def test_cancelled_waiter_leaves_every_queue(manager):
    manager.acquire(exclusive=["a", "b"])
    manager._submit(exclusive=["a", "b"])._cancel()
    assert [manager.waiters(key) for key in "ab"] == [[], []]


def test_cancelled_waiter_lets_those_behind_it_run(manager):
    manager.acquire(shared=["a"])
    writer = manager._submit(exclusive=["a"])
    reader = manager._submit(shared=["a"])
    writer._cancel()
    assert states(writer, reader) == ["ended", "held"]


def test_cancelled_waiter_is_not_granted_later(manager):
    holder = manager.acquire(exclusive=["a"])
    waiter = manager._submit(exclusive=["a"])
    waiter._cancel()
    holder.release()
    assert len(manager) == 0


def test_cancel_tells_whether_it_came_in_time(manager):
    holder = manager.acquire(exclusive=["a"])
    first, second = manager._submit(exclusive=["a"]), manager._submit(exclusive=["a"])
    holder.release()
    assert (first._cancel(), second._cancel(), second._cancel()) == (False, True, False)


def test_late_cancel_leaves_the_grant(manager):
    grant = manager._submit(exclusive=["a"])
    grant._cancel()
    assert grant.is_held


def test_waiter_for_two_keys_takes_its_turn_at_both(manager):
    first, second = manager.acquire(exclusive=["a"]), manager.acquire(exclusive=["b"])
    both = manager._submit(exclusive=["a", "b"])
    behind = [manager._submit(exclusive=["a"]), manager._submit(exclusive=["b"])]
    first.release()
    second.release()
    assert states(both, *behind) == ["held", "waiting", "waiting"]


def test_waiters_are_tried_in_the_order_of_arrival_over_all_keys(manager):
    holder = manager.acquire(exclusive=["a", "b", "d", "e"])
    queue = [manager._submit(exclusive=[key, "c"]) for key in "abde"]
    holder.release()
    assert states(*queue) == ["held", "waiting", "waiting", "waiting"]


def test_waiter_comes_before_later_ones_it_meets_at_a_key_freed_together(manager):
    holder = manager.acquire(exclusive=["a", "b"])
    first = manager._submit(exclusive=["b", "c"])
    second = manager._submit(exclusive=["a", "c"])
    holder.release()
    assert states(first, second) == ["held", "waiting"]


def test_chain_of_waiters_is_granted_one_after_the_other(manager):
    first = manager.acquire(exclusive=["a"])
    queue = [manager._submit(exclusive=["a"], owner=number) for number in range(5)]
    order = []
    first.release()
    while "a" in manager:
        [holder] = manager.holders("a")
        order.append(holder.owner)
        queue[holder.owner].release()
    assert order == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("mode", ["shared", "exclusive"])
def test_waiting_thread_gets_the_mode_it_wanted(manager, background, mode):
    holder = manager.acquire(exclusive=["a"])
    thread = background(manager.acquire, **{mode: ["a"]})
    until_queued(manager, "a")
    holder.release()
    thread.result()
    assert modes_of(manager, "a") == [mode]


def test_closing_turns_waiting_threads_away(manager, background):
    manager.acquire(exclusive=["a"])
    thread = background(manager.acquire, exclusive=["a"])
    until_queued(manager, "a")
    manager.close()
    with pytest.raises(ManagerClosedError):
        thread.result()


def test_waits_of_many_threads_all_end(manager, background):
    def work(number):
        for round_ in range(20):
            keys = [(number + round_) % 5, (number * 3 + round_) % 5]
            with manager.acquire(exclusive=keys[:1], shared=keys[1:]):
                pass

    for thread in [background(work, number) for number in range(6)]:
        thread.result()
    assert len(manager) == 0
