"""Time-outs that race with everything else lose nothing and leave nothing."""

from __future__ import annotations

import threading

import pytest

from lockcore import LockTimeoutError
from support import eventually


def try_for(manager, timeout, **request):
    """Whether a request was granted within its timeout; what it got it gives back."""
    try:
        manager.acquire(**request, timeout=timeout).release()
    except LockTimeoutError:
        return False
    return True


def until_queued_or_over(manager, key, count, thread):
    """Waits until so many are queued, or the thread's time was up before we could see it there."""
    eventually(lambda: len(manager.waiters(key)) == count or not thread.is_alive())


def test_timeout_that_races_with_a_grant_loses_nothing(manager, background):
    for round_ in range(100):
        holder = manager.acquire(exclusive=["a"])
        thread = background(try_for, manager, 0.0001 * (round_ % 10 + 1), exclusive=["a"])
        eventually(lambda thread=thread: manager.waiters("a") or not thread.is_alive())
        holder.release()
        thread.result()
        assert (len(manager), manager.waiters("a")) == (0, [])


def test_timeouts_that_race_with_each_other_leave_nobody_queued(manager, background):
    manager.acquire(exclusive=["a"])
    threads = [background(try_for, manager, 0.02, exclusive=["a", "b"]) for _ in range(20)]
    assert [thread.result() for thread in threads] == [False] * 20
    assert (manager.waiters("a"), manager.waiters("b")) == ([], [])


def test_every_request_is_granted_or_timed_out(manager, background):
    barrier = threading.Barrier(6)

    def work():
        barrier.wait()
        return [try_for(manager, 0.0005, exclusive=["a"], shared=["b"]) for _ in range(50)]

    outcomes = [outcome for t in [background(work) for _ in range(6)] for outcome in t.result()]
    statistics = manager.statistics()
    assert (statistics.acquired, statistics.timeouts) == (
        outcomes.count(True),
        outcomes.count(False),
    )


def test_timed_out_thread_lets_the_thread_behind_it_run(manager, background):
    manager.acquire(shared=["a"])
    writer = background(try_for, manager, 0.2, exclusive=["a"])
    until_queued_or_over(manager, "a", 1, writer)
    reader = background(try_for, manager, None, shared=["a"])
    assert (writer.result(), reader.result()) == (False, True)


def test_timed_out_thread_in_the_middle_leaves_the_others_in_order(manager, background):
    holder = manager.acquire(exclusive=["a"])
    first = manager._submit(exclusive=["a"], owner="first")
    middle = background(try_for, manager, 0.05, exclusive=["a"])
    until_queued_or_over(manager, "a", 2, middle)
    manager._submit(exclusive=["a"], owner="last")
    middle.result()
    assert [row.owner for row in manager.waiters("a")] == ["first", "last"]
    holder.release()
    assert first.is_held


def test_churn_around_a_waiter_does_not_put_off_its_timeout(manager, background):
    manager.acquire(shared=["b"])
    thread = background(try_for, manager, 0.2, exclusive=["a", "b"])
    until_queued_or_over(manager, "b", 1, thread)
    while thread.is_alive():
        waiter = manager._submit(exclusive=["b"])
        waiter._cancel()
        with manager.acquire(shared=["c"]):
            pass
    assert thread.result() is False


def test_lock_that_times_out_is_not_locked_by_a_late_grant(manager, background):
    lock = manager.lock(exclusive=["a"])
    for round_ in range(50):
        holder = manager.acquire(exclusive=["a"])
        thread = background(lock.acquire, timeout=0.0001 * (round_ % 10 + 1))
        eventually(lambda thread=thread: manager.waiters("a") or not thread.is_alive())
        holder.release()
        is_locked = thread.result()
        assert lock.locked() is is_locked
        if is_locked:
            lock.release()


@pytest.mark.parametrize("timeout", [0.001, 0.01])
def test_timeout_ends_a_wait_that_nobody_else_ends(manager, timeout):
    manager.acquire(exclusive=["a"])
    assert try_for(manager, timeout, exclusive=["a"]) is False
