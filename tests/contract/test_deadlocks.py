"""Deadlocks: whoever closes a cycle of owners who wait for each other is turned away."""

from __future__ import annotations

import threading

import pytest

from lockcore import DeadlockError, Holder, LockTimeoutError, Mode, Request, Waiter
from support import modes_of, owners_of, states, until_queued


def steps_of(error):
    """The cycle of an error, each step as who waits for which key, and who has or wants it."""
    return [(waiter.owner, waiter.key, blocker.owner) for waiter, blocker in error.cycle]


def turned_away(call, *args, **kwargs):
    """The deadlock error that a call raises."""
    with pytest.raises(DeadlockError) as caught:
        call(*args, **kwargs)
    return caught.value


@pytest.fixture
def crossing(manager):
    """An owner x that holds a key "a" and waits for "b"; and "b" is y's."""
    manager.acquire(exclusive=["a"], owner="x")
    manager.acquire(exclusive=["b"], owner="y")
    return manager._submit(exclusive=["b"], owner="x")


def test_wait_that_closes_a_cycle_is_refused(manager, crossing):
    error = turned_away(manager.acquire, exclusive=["a"], owner="y")
    assert steps_of(error) == [("y", "a", "x"), ("x", "b", "y")]


def test_wait_with_a_timeout_that_closes_a_cycle_is_refused(manager, crossing):
    assert turned_away(manager.acquire, exclusive=["a"], owner="y", timeout=1000).cycle


def test_lock_that_closes_a_cycle_is_refused(manager, crossing):
    lock = manager.lock(exclusive=["a"], owner="y")
    assert steps_of(turned_away(lock.acquire)) == [("y", "a", "x"), ("x", "b", "y")]
    assert not lock.locked()


def test_deadlock_carries_the_request(manager, crossing):
    error = turned_away(
        manager.acquire, exclusive=["a"], shared=["c"], owner="y", message="WAITING"
    )
    assert error.request == Request(frozenset("a"), frozenset("c"), "y", "WAITING")


def test_cycle_names_keys_modes_owners_and_messages(manager):
    manager.acquire(shared={"a": "A_IS_USED"}, owner="x")
    manager.acquire(exclusive=["b"], owner="y", message="B_IS_BUSY")
    manager._submit(shared=["b"], owner="x", message="X_WAITS")
    error = turned_away(manager.acquire, exclusive=["a"], owner="y", message="Y_WAITS")
    rows = [
        (type(row), row.key, row.mode, row.owner, row.message)
        for step in error.cycle
        for row in step
    ]
    assert rows == [
        (Waiter, "a", Mode.EXCLUSIVE, "y", "Y_WAITS"),
        (Holder, "a", Mode.SHARED, "x", "A_IS_USED"),
        (Waiter, "b", Mode.SHARED, "x", "X_WAITS"),
        (Holder, "b", Mode.EXCLUSIVE, "y", "B_IS_BUSY"),
    ]


def test_refused_request_holds_nothing(manager, crossing):
    turned_away(manager.acquire, exclusive=["a", "c"], owner="y")
    assert "c" not in manager


def test_refused_request_is_not_queued(manager, crossing):
    turned_away(manager.acquire, exclusive=["a"], owner="y")
    assert manager.waiters("a") == []


def test_refused_owner_keeps_what_it_held(manager, crossing):
    turned_away(manager.acquire, exclusive=["a"], owner="y")
    assert owners_of(manager.holders("b")) == ["y"]


def test_others_go_on_when_the_refused_owner_lets_go(manager, crossing):
    turned_away(manager.acquire, exclusive=["a"], owner="y")
    manager.release_all("y")
    assert states(crossing) == ["held"]


def test_refused_request_lets_those_behind_it_run(manager, background):
    manager.acquire(shared=["a"], owner="x")
    grant = manager.acquire(exclusive=["b"])
    manager._submit(exclusive=["b"], owner="x")
    thread = background(turned_away, manager.acquire, exclusive=["a"], owner="y")
    until_queued(manager, "a")
    reader = manager._submit(shared=["a"])
    grant.transfer("y")
    thread.result()
    assert states(reader) == ["held"]


def test_deadlocks_are_counted(manager, crossing):
    turned_away(manager.acquire, exclusive=["a"], owner="y")
    statistics = manager.statistics()
    assert (statistics.deadlocks, statistics.timeouts, statistics.refused) == (1, 0, 0)


@pytest.mark.parametrize("length", [2, 3, 10, 500])
def test_cycle_of_any_length_is_found(manager, length):
    for number in range(length):
        manager.acquire(exclusive=[number], owner=number)
    for number in range(length - 1):
        manager._submit(exclusive=[number + 1], owner=number)
    error = turned_away(manager.acquire, exclusive=[0], owner=length - 1)
    assert [step[0] for step in steps_of(error)] == [length - 1, *range(length - 1)]


def test_cycle_is_found_in_a_crowd(manager):
    for number in range(50):
        manager.acquire(shared=["a"], owner=f"reader-{number}")
        manager.acquire(exclusive=[number], owner=f"reader-{number}")
    manager.acquire(exclusive=["b"], owner="x")
    for number in range(49):
        manager._submit(exclusive=[number + 1], owner=f"reader-{number}")
    manager._submit(shared=["b"], owner="reader-31")
    error = turned_away(manager.acquire, exclusive=["a"], owner="x")
    assert steps_of(error) == [("x", "a", "reader-31"), ("reader-31", "b", "x")]


def test_earlier_waiter_counts_as_in_the_way(manager):
    """A reader waits for a writer that has not got the key yet, and that waits for the reader."""
    manager.acquire(shared=["a"], owner="z")
    manager.acquire(exclusive=["b"], owner="x")
    manager._submit(exclusive=["a", "b"], owner="y")
    error = turned_away(manager.acquire, shared=["a"], owner="x")
    assert steps_of(error) == [("x", "a", "y"), ("y", "b", "x")]
    assert isinstance(error.cycle[0][1], Waiter)


def test_unnamed_waiter_can_be_in_the_way(manager):
    manager.acquire(shared=["a"])
    manager.acquire(exclusive=["b"], owner="x")
    manager._submit(exclusive=["a", "b"])
    error = turned_away(manager.acquire, shared=["a"], owner="x")
    assert steps_of(error) == [("x", "a", None), (None, "b", "x")]


def test_owner_waits_through_all_its_requests(manager):
    manager.acquire(exclusive=["a"], owner="x")
    manager.acquire(exclusive=["b"], owner="y")
    manager.acquire(exclusive=["c"], owner="z")
    manager._submit(exclusive=["c"], owner="x")
    manager._submit(exclusive=["b"], owner="x")
    error = turned_away(manager.acquire, exclusive=["a"], owner="y")
    assert steps_of(error) == [("y", "a", "x"), ("x", "b", "y")]


def test_wait_that_is_requeued_into_a_cycle_is_refused(manager, background):
    manager.acquire(exclusive=["c"], owner="w")
    blocker = manager.acquire(exclusive=["a"], owner="x")
    thread = background(turned_away, manager.acquire, exclusive=["a", "b"], owner="w")
    until_queued(manager, "a")
    manager.acquire(exclusive=["b"], owner="y")
    other = manager._submit(exclusive=["c"], owner="y")
    blocker.release()
    assert steps_of(thread.result()) == [("w", "b", "y"), ("y", "c", "w")]
    assert states(other) == ["waiting"]


def test_wait_of_an_owner_that_is_given_a_key_into_a_cycle_is_refused(manager, background):
    grant = manager.acquire(exclusive=["a"], owner="x")
    manager.acquire(exclusive=["b"], owner="y")
    thread = background(turned_away, manager.acquire, exclusive=["b"], owner="z")
    until_queued(manager, "b")
    manager._submit(exclusive=["a"], owner="y")
    grant.transfer("z")
    assert steps_of(thread.result()) == [("z", "b", "y"), ("y", "a", "z")]


def test_wait_of_an_owner_that_is_granted_a_key_into_a_cycle_is_refused(manager, background):
    blocker = manager.acquire(exclusive=["a"], owner="q")
    manager.acquire(exclusive=["b"], owner="y")
    thread = background(turned_away, manager.acquire, exclusive=["b"], owner="x")
    until_queued(manager, "b")
    manager._submit(exclusive=["a"], owner="x")
    manager._submit(exclusive=["a"], owner="y")
    blocker.release()
    assert steps_of(thread.result()) == [("x", "b", "y"), ("y", "a", "x")]


def behind_an_earlier_waiter(manager, background):
    """An x that holds and wants "a", and passes an earlier w there, who waits for it at "b"."""
    manager.acquire(shared=["a"], owner="z")
    hold = manager.acquire(shared=["a"], owner="x")
    manager.acquire(exclusive=["b"], owner="x")
    manager._submit(exclusive=["a", "b"], owner="w")
    thread = background(turned_away, manager.acquire, exclusive=["a"], owner="x")
    until_queued(manager, "a", 2)
    return hold, thread


def test_wait_of_an_owner_that_lets_go_of_a_key_into_a_cycle_is_refused(manager, background):
    hold, thread = behind_an_earlier_waiter(manager, background)
    hold.release()
    assert steps_of(thread.result()) == [("x", "a", "w"), ("w", "b", "x")]


def test_wait_of_an_owner_that_gives_a_key_away_into_a_cycle_is_refused(manager, background):
    hold, thread = behind_an_earlier_waiter(manager, background)
    hold.transfer("other")
    assert steps_of(thread.result()) == [("x", "a", "w"), ("w", "b", "x")]


def test_last_to_begin_to_wait_is_refused(manager, background):
    for owner in "xyz":
        manager.acquire(exclusive=[owner], owner=owner)
    early = background(manager.acquire, exclusive=["y"], owner="x")
    until_queued(manager, "y")
    middle = background(manager.acquire, exclusive=["z"], owner="y")
    until_queued(manager, "z")
    turned_away(manager.acquire, exclusive=["x"], owner="z")
    manager.release_all("z")
    assert middle.result().is_held
    manager.release_all("y")
    assert early.result().is_held


def test_request_that_closes_two_cycles_breaks_both(manager):
    manager.acquire(exclusive=["a", "b"], owner="x")
    waiters = []
    for owner, key in ("ya", "zb"):
        manager.acquire(exclusive=[owner], owner=owner)
        waiters.append(manager._submit(exclusive=[key], owner=owner))
    turned_away(manager.acquire, exclusive=["y", "z"], owner="x")
    manager.release_all("x")
    assert states(*waiters) == ["held", "held"]


def test_chain_without_a_cycle_waits(manager, background):
    for owner in "xyz":
        manager.acquire(exclusive=[owner], owner=owner)
    manager._submit(exclusive=["y"], owner="x")
    manager._submit(exclusive=["z"], owner="y")
    thread = background(manager.acquire, exclusive=["x"])
    until_queued(manager, "x")
    manager.clear()
    assert (thread.result().is_held, manager.statistics().deadlocks) == (True, 0)


def test_unnamed_requests_that_cross_time_out(manager, background):
    """Nobody knows that they belong together: they have no owner."""
    manager.acquire(exclusive=["a"])
    manager.acquire(exclusive=["b"])
    thread = background(manager.acquire, exclusive=["b"], timeout=0.05)
    with pytest.raises(LockTimeoutError):
        manager.acquire(exclusive=["a"], timeout=0.05)
    with pytest.raises(LockTimeoutError):
        thread.result()


def test_requests_of_one_owner_never_deadlock(manager, background):
    manager.acquire(exclusive=["a"], owner="x")
    blocker = manager.acquire(exclusive=["c"])
    threads = [background(manager.acquire, exclusive=["a", "c"], owner="x") for _ in range(2)]
    until_queued(manager, "c", 2)
    blocker.release()
    assert [thread.result().is_held for thread in threads] == [True, True]


def test_waiting_behind_another_request_of_a_waiting_owner_is_no_deadlock(manager, background):
    manager.acquire(exclusive=["a"], owner="h")
    manager._submit(exclusive=["a"], owner="x")
    manager._submit(exclusive=["a"], owner="y")
    thread = background(manager.acquire, exclusive=["a"], owner="x")
    until_queued(manager, "a", 3)
    manager.release_all("h")
    assert thread.result().is_held


def test_short_waits_in_a_common_order_are_no_deadlocks(manager, background):
    barrier = threading.Barrier(4)

    def work(owner):
        barrier.wait()
        for _ in range(100):
            with (
                manager.acquire(shared=["a"], owner=owner),
                manager.acquire(exclusive=["b"], owner=owner),
                manager.acquire(exclusive=["c"], shared=["d"], owner=owner),
            ):
                pass

    for thread in [background(work, owner) for owner in "wxyz"]:
        thread.result()
    assert manager.statistics().deadlocks == 0


def test_crossing_owners_all_come_to_an_end(manager, background):
    """Each takes two keys in an order of its own, and begins anew when it is turned away."""

    def work(number):
        for round_ in range(15):
            first, second = (round_ + number) % 3, (round_ * number + 1) % 3
            while True:
                try:
                    with (
                        manager.acquire(exclusive=[first], owner=number),
                        manager.acquire(exclusive=[second], owner=number),
                    ):
                        break
                except DeadlockError:
                    continue

    for thread in [background(work, number) for number in range(4)]:
        thread.result()
    assert (len(manager), manager.snapshot()) == (0, [])


def test_upgrade_that_closes_a_cycle_over_other_keys_is_refused(manager):
    grant = manager.acquire(shared=["a"], owner="x")
    manager.acquire(shared=["a"], owner="y")
    manager.acquire(exclusive=["b"], owner="x")
    manager._submit(exclusive=["b"], owner="y")
    error = turned_away(grant.upgrade)
    assert steps_of(error) == [("x", "a", "y"), ("y", "b", "x")]
    assert modes_of(manager, "a") == ["shared", "shared"]
