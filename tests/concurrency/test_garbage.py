"""Garbage collection and finalisers, while the manager works."""

from __future__ import annotations

import gc
import weakref

import pytest

from lockcore import LockConflictError, LockManager, Message
from support import eventually


class Watched(Message):
    """A message that can be watched: it takes weak references."""


class Busy(Message):
    """A message that uses a manager when it dies."""

    def __del__(self):
        self.last_act()


@pytest.fixture
def eager_collection():
    """Collects garbage at nearly every allocation."""
    threshold = gc.get_threshold()
    gc.set_threshold(1)
    yield
    gc.set_threshold(*threshold)


def test_dropped_grant_stays_held(lock_manager):
    lock_manager.acquire(exclusive=["a"])
    gc.collect()
    assert "a" in lock_manager


def test_dropped_waiter_stays_queued(lock_manager):
    lock_manager.acquire(exclusive=["a"])
    lock_manager._submit(exclusive=["a"])
    gc.collect()
    assert len(lock_manager.waiters("a")) == 1


def test_dropped_waiter_is_granted(lock_manager):
    holder = lock_manager.acquire(exclusive=["a"])
    lock_manager._submit(exclusive=["a"], owner="me")
    holder.release()
    assert [row.owner for row in lock_manager.holders("a")] == ["me"]


def test_grant_keeps_its_manager_alive(lock_manager):
    grant = type(lock_manager)().acquire(exclusive=["a"])
    gc.collect()
    grant.release()
    assert not grant.is_held


def test_lock_keeps_its_manager_alive(lock_manager):
    lock = type(lock_manager)().lock(exclusive=["a"])
    gc.collect()
    with lock:
        assert lock.locked()


class Keeping(LockManager):
    """A manager that may keep what it made."""


def test_manager_that_keeps_its_own_lock_is_collected():
    manager = Keeping()
    manager.own = manager.lock(exclusive=["a"])
    manager.own.acquire()
    watch = weakref.ref(manager)
    del manager
    gc.collect()
    assert watch() is None


def test_lock_in_garbage_still_works_in_finalisers():
    seen = []

    class Last(Keeping):
        def __del__(self):
            with self.own:
                seen.append(self.own.locked())

    manager = Last()
    manager.own = manager.lock(exclusive=["a"])
    del manager
    gc.collect()
    assert seen == [True]


def test_message_lives_while_its_grant_is_held(lock_manager):
    message = Watched("BUSY")
    watch = weakref.ref(message)
    lock_manager.acquire(exclusive=["a"], message=message)
    del message
    gc.collect()
    assert watch() is lock_manager.holders("a")[0].message


def test_message_dies_with_its_released_grant(lock_manager):
    message = Watched("BUSY")
    watch = weakref.ref(message)
    lock_manager.acquire(exclusive=["a"], message=message).release()
    del message
    gc.collect()
    assert watch() is None


def test_message_dies_with_a_grant_ended_by_force(lock_manager):
    message = Watched("BUSY")
    watch = weakref.ref(message)
    lock_manager.acquire(exclusive=["a"], message=message)
    lock_manager.clear()
    del message
    gc.collect()
    assert watch() is None


def test_messages_die_with_the_manager(lock_manager):
    message = Watched("BUSY")
    watch = weakref.ref(message)
    manager = type(lock_manager)()
    manager.acquire(exclusive=["a"], message=message)
    manager._submit(exclusive=["a"], message=message)
    del message, manager
    gc.collect()
    assert watch() is None


ENDS = {
    "release": lambda manager, grant: grant.release(),
    "exit": lambda manager, grant: grant.__exit__(None, None, None),
    "clear": lambda manager, grant: manager.clear(),
    "force_release": lambda manager, grant: manager.force_release("a"),
    "release_all": lambda manager, grant: manager.release_all("me"),
}


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
def test_finaliser_of_a_message_may_use_the_manager(lock_manager, end):
    seen = []

    def act():
        with lock_manager.acquire(exclusive=["a", "b"], timeout=0):
            seen.append(len(lock_manager))

    message = Busy("BUSY")
    object.__setattr__(message, "last_act", act)
    grant = lock_manager.acquire(exclusive=["a"], owner="me", message=message)
    del message
    end(lock_manager, grant)
    del grant
    gc.collect()
    assert seen == [2]


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
def test_weakref_callback_of_a_message_may_use_the_manager(lock_manager, end):
    seen = []

    def act(_):
        with lock_manager.acquire(exclusive=["a", "b"], timeout=0):
            seen.append(len(lock_manager))

    message = Watched("BUSY")
    watch = weakref.ref(message, act)
    grant = lock_manager.acquire(exclusive=["a"], owner="me", message=message)
    del message
    end(lock_manager, grant)
    del grant
    gc.collect()
    assert (seen, watch()) == ([2], None)


def test_finaliser_of_a_cancelled_message_may_use_the_manager(lock_manager):
    seen = []
    holder = lock_manager.acquire(exclusive=["a"], owner="holder")
    message = Busy("BUSY")
    object.__setattr__(message, "last_act", lambda: seen.append(len(lock_manager.snapshot())))
    waiter = lock_manager._submit(exclusive=["a", "b"], message=message)
    del message
    waiter._cancel()
    del waiter
    gc.collect()
    assert (seen, holder.is_held) == ([1], True)


def test_finaliser_of_a_refused_message_may_use_the_manager(lock_manager):
    seen = []
    lock_manager.acquire(exclusive=["a"])
    message = Busy("BUSY")
    object.__setattr__(message, "last_act", lambda: seen.append(lock_manager.clear()))
    request = {"exclusive": {"a": message}}
    del message
    with pytest.raises(LockConflictError):
        lock_manager.acquire(**request, timeout=0)
    del request
    gc.collect()
    assert seen == [1]


def test_finalisers_may_use_the_manager_while_it_works(lock_manager, eager_collection):
    finalised = []

    class Litter:
        def __init__(self):
            self.itself = self

        def __del__(self):
            with lock_manager.acquire(shared=["a"], exclusive=["litter"], owner="me"):
                finalised.append(len(lock_manager.snapshot()))
            lock_manager.release_all("nobody")

    for number in range(200):
        Litter()
        grant = lock_manager.acquire(exclusive=[number], shared={"a": "BUSY"}, owner="me")
        lock_manager._submit(exclusive=["a"])._cancel()
        lock_manager.holders("a")
        lock_manager.waiters("a")
        lock_manager.statistics()
        grant.release()
    lock_manager.clear()
    gc.collect()
    assert len(finalised) == 200


def test_finalisers_may_release_what_others_wait_for(lock_manager, background):
    class Holder:
        def __init__(self):
            self.itself = self
            self.grant = lock_manager.acquire(exclusive=["a"])

        def __del__(self):
            self.grant.release()

    def work():
        for _ in range(5):
            Holder()

    def have_ended():
        gc.collect()
        return not any(thread.is_alive() for thread in threads)

    gc.freeze()  # so that to collect takes no time, whatever ran before
    try:
        threads = [background(work) for _ in range(3)]
        eventually(have_ended)
        gc.collect()
    finally:
        gc.unfreeze()
    assert len(lock_manager) == 0
