"""Grants that outlive their manager, or go at the same instant."""

from __future__ import annotations

import gc
import threading
import weakref

import pytest

from lockcore import (
    LockConflictError,
    LockManager,
    LockTimeoutError,
    ManagerClosedError,
    Message,
    NotHeldError,
)
from support import eventually

ROUNDS = 30
WORKERS = 4


class Watched(Message):
    """A message that can be watched: it takes weak references."""


def orphan(**keys):
    return LockManager().acquire(**keys)


def test_grant_of_a_dropped_manager_is_released_once():
    grant = orphan(exclusive=["a"])
    assert grant.is_held
    grant.release()
    with pytest.raises(NotHeldError):
        grant.release()


def test_grant_of_a_dropped_manager_can_be_changed():
    grant = orphan(exclusive=["a"], owner="me")
    grant.downgrade()
    assert grant.shared == {"a"}
    grant.upgrade()
    grant.transfer("you")
    assert (grant.exclusive, grant.owner) == ({"a"}, "you")


def test_grants_of_a_dropped_manager_still_conflict():
    manager = LockManager()
    first, second = (manager.acquire(shared=["a"], owner=owner) for owner in ("me", "you"))
    del manager
    gc.collect()
    with pytest.raises(LockConflictError) as caught:
        first.upgrade(timeout=0)
    assert [row.owner for row in caught.value.blockers] == ["you"]
    second.release()
    first.upgrade()
    assert first.exclusive == {"a"}


def test_waiter_of_a_dropped_manager_is_granted():
    manager = LockManager()
    holder = manager.acquire(exclusive=["a"])
    waiter = manager._submit(exclusive=["a"])
    del manager
    gc.collect()
    holder.release()
    assert waiter.is_held


def test_grant_of_a_dropped_manager_knows_that_it_was_closed():
    with LockManager() as manager:
        grant = manager.acquire(shared=["a"])
        manager.acquire(shared=["a"])
    del manager
    gc.collect()
    with pytest.raises(ManagerClosedError):
        grant.upgrade()
    grant.release()


def test_errors_of_a_grant_of_a_dropped_manager_have_its_messages():
    manager = LockManager()
    grant = manager.acquire(shared=["a"], owner="me")
    manager.acquire(shared={"a": "BUSY"}, owner="you")
    del manager
    gc.collect()
    with pytest.raises(LockTimeoutError) as caught:
        grant.upgrade(timeout=1e-6)
    assert [row.message for row in caught.value.blockers] == ["BUSY"]


def test_grants_of_threads_that_have_ended_end_with_the_last(background):
    """More threads than the table counts apart, and none of them drops what it made."""
    message = Watched("BUSY")
    watch = weakref.ref(message)
    managers = [LockManager()]
    managers[0].acquire(exclusive=["held to the end"], message=message)
    grants = []

    def acquire(number):
        grants.append(managers[0].acquire(exclusive=[number]))

    for number in range(70):
        background(acquire, number).result()
    managers.clear()
    del message
    for grant in grants[1:]:
        grant.release()
    del grants[1:], grant
    gc.collect()
    assert watch() is not None
    grants.clear()
    gc.collect()
    assert watch() is None


def test_finaliser_of_a_manager_runs_once():
    ends = []

    class Mine(LockManager):
        def __del__(self):
            ends.append(len(self))

    grants = [Mine().acquire(exclusive=["a"]) for _ in range(3)]
    gc.collect()
    for grant in grants:
        grant.release()
    del grant, grants
    gc.collect()
    assert len(ends) == 3


def test_manager_in_a_cycle_with_its_grant_is_collected():
    class Mine(LockManager):
        pass

    manager = Mine()
    message = Watched("BUSY")
    manager.itself = manager
    manager.acquire(exclusive=["a"], message=message)
    watches = [weakref.ref(manager), weakref.ref(message)]
    del manager, message
    gc.collect()
    assert [watch() for watch in watches] == [None, None]


def test_all_ends_when_manager_and_grants_are_dropped_at_one_instant(background):
    """What is held to the end, and its message, goes with the table: once, and never too early."""
    managers = []
    grants = [None] * WORKERS
    line = threading.Barrier(WORKERS + 1)

    def work(number):
        for _ in range(ROUNDS):
            line.wait()
            grants[number] = managers.pop().acquire(exclusive=[number])
            line.wait()
            another = grants[number - 1]  # so that threads drop what others made
            line.wait()
            grants[number] = None
            line.wait()
            another.release()
            del another
            line.wait()

    for number in range(WORKERS):
        background(lambda number=number: work(number))
    for _ in range(ROUNDS):
        manager = LockManager()
        message = Watched("BUSY")
        manager.acquire(exclusive=["held to the end"], message=message)
        watches = [weakref.ref(manager), weakref.ref(message)]
        managers.extend([manager] * WORKERS)
        for _ in range(4):
            line.wait()
        assert watches[1]() is message
        del manager, message
        line.wait()
        eventually(lambda: not any(watch() for watch in watches))  # noqa: B023
