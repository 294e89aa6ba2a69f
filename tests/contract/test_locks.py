"""Prepared locks: a request in the shape of `threading.Lock`, down to the errors."""

from __future__ import annotations

import math
import sys
import threading

import pytest

from lockcore import ManagerClosedError, NotHeldError
from support import eventually, modes_of, until_queued

BAD_ARGUMENTS = [
    ((False, 1), {}),
    ((False, 0), {}),
    ((True, -5), {}),
    ((), {"timeout": -0.5}),
    ((), {"timeout": math.nan}),
    ((), {"timeout": math.inf}),
    ((), {"timeout": 1e300}),
    ((), {"timeout": threading.TIMEOUT_MAX * 2}),
    ((), {"timeout": "1"}),
    ((), {"timeout": None}),
]

# Until 3.12 a truth value had to be a number.
TRUTH_VALUES = [((None,), {}), (("yes",), {}), (([],), {})]

GOOD_ARGUMENTS = [
    ((), {}),
    ((True,), {}),
    ((False,), {}),
    ((1, -1), {}),
    ((False, -1), {}),
    ((True, 0), {}),
    ((True, 5), {}),
    ((), {"blocking": True, "timeout": 2.5}),
    ((), {"timeout": threading.TIMEOUT_MAX}),
]
(GOOD_ARGUMENTS if sys.version_info >= (3, 12) else BAD_ARGUMENTS).extend(TRUTH_VALUES)


@pytest.fixture
def lock(manager):
    return manager.lock(exclusive=["a"], shared=["b"], owner=None, message="BUSY")


def test_preparing_holds_nothing(manager, lock):
    assert (len(manager), lock.locked()) == (0, False)


def test_acquire_holds_the_keys(manager, lock):
    lock.acquire()
    assert (modes_of(manager, "a"), modes_of(manager, "b")) == (["exclusive"], ["shared"])


def test_acquire_returns_true(lock):
    assert lock.acquire() is True


def test_release_frees_the_keys(manager, lock):
    lock.acquire()
    lock.release()
    assert len(manager) == 0


def test_release_returns_none(lock):
    lock.acquire()
    assert lock.release() is None


def test_locked_tells_whether_it_is_held(lock):
    lock.acquire()
    assert lock.locked() is True
    lock.release()
    assert lock.locked() is False


def test_locked_is_not_about_other_grants_of_its_keys(manager, lock):
    manager.acquire(exclusive=["a"])
    assert not lock.locked()


def test_lock_is_reusable(manager, lock):
    for _ in range(100):
        lock.acquire()
        lock.release()
    assert len(manager) == 0


def test_each_acquire_is_a_grant_of_its_own(manager, lock):
    lock.acquire()
    lock.release()
    lock.acquire()
    assert [holder.token for holder in manager.holders("a")] == [2]


def test_lock_carries_owner_and_message(manager):
    manager.lock(exclusive=["a"], owner="me", message="BUSY").acquire()
    [holder] = manager.holders("a")
    assert (holder.owner, holder.message) == ("me", "BUSY")


def test_with_holds_the_keys(manager, lock):
    with lock:
        assert "a" in manager
    assert "a" not in manager


def test_with_gives_true_as_in_threading(lock):
    with lock as given:
        assert given is True


def test_with_releases_when_its_block_raises(manager, lock):
    with pytest.raises(LookupError), lock:
        raise LookupError
    assert "a" not in manager


def test_release_within_with_is_an_error_at_its_end_as_in_threading(lock):
    with pytest.raises(RuntimeError), lock:
        lock.release()


def test_release_unlocked_raises_as_in_threading(lock):
    with pytest.raises(RuntimeError) as expected:
        threading.Lock().release()
    with pytest.raises(NotHeldError) as caught:
        lock.release()
    assert str(caught.value) == str(expected.value)


def test_second_release_raises(lock):
    lock.acquire()
    lock.release()
    with pytest.raises(NotHeldError):
        lock.release()


@pytest.mark.parametrize(("args", "kwargs"), BAD_ARGUMENTS, ids=repr)
def test_bad_arguments_raise_as_in_threading(lock, args, kwargs):
    with pytest.raises((TypeError, ValueError, OverflowError)) as expected:
        threading.Lock().acquire(*args, **kwargs)
    with pytest.raises(expected.type) as caught:
        lock.acquire(*args, **kwargs)
    assert str(caught.value) == str(expected.value)


@pytest.mark.parametrize(("args", "kwargs"), BAD_ARGUMENTS, ids=repr)
def test_bad_arguments_hold_nothing(manager, lock, args, kwargs):
    with pytest.raises((TypeError, ValueError, OverflowError)):
        lock.acquire(*args, **kwargs)
    assert len(manager) == 0


@pytest.mark.parametrize(("args", "kwargs"), GOOD_ARGUMENTS, ids=repr)
def test_good_arguments_are_those_of_threading(lock, args, kwargs):
    assert lock.acquire(*args, **kwargs) is threading.Lock().acquire(*args, **kwargs)


@pytest.mark.parametrize("args", [(1, 2, 3), ()])
def test_arguments_too_many_or_unknown_are_refused(lock, args):
    with pytest.raises(TypeError):
        lock.acquire(*args, **({} if args else {"wait": True}))


@pytest.mark.parametrize("args", [(False,), (True, 0), (True, 0.001)])
def test_acquire_returns_false_when_it_may_not_wait_longer(manager, lock, args):
    manager.acquire(exclusive=["a"])
    assert lock.acquire(*args) is False


def test_failed_acquire_leaves_it_unlocked(manager, lock):
    manager.acquire(exclusive=["a"])
    lock.acquire(timeout=0.001)
    assert not lock.locked()


def test_failed_acquire_leaves_nobody_queued(manager, lock):
    manager.acquire(exclusive=["a"])
    lock.acquire(timeout=0.001)
    assert manager.waiters("a") == []


def test_held_lock_cannot_be_acquired_again(lock):
    lock.acquire()
    assert lock.acquire(blocking=False) is False


@pytest.mark.parametrize("kind", [{"shared": ["a"]}, {"exclusive": ["a"], "owner": "me"}, {}])
def test_lock_that_does_not_exclude_itself_is_held_several_times(manager, kind):
    lock = manager.lock(**kind)
    assert [lock.acquire(blocking=False) for _ in range(3)] == [True] * 3


@pytest.mark.parametrize("kind", [{"shared": ["a"]}, {"exclusive": ["a"], "owner": "me"}, {}])
def test_lock_held_several_times_is_locked_until_the_last_release(manager, kind):
    lock = manager.lock(**kind)
    for _ in range(3):
        lock.acquire()
    seen = []
    for _ in range(3):
        seen.append(lock.locked())
        lock.release()
    assert [*seen, lock.locked()] == [True, True, True, False]


def test_release_of_a_lock_held_several_times_ends_the_oldest_grant(manager):
    lock = manager.lock(shared=["a"])
    for _ in range(3):
        lock.acquire()
    lock.release()
    assert [holder.token for holder in manager.holders("a")] == [2, 3]


def test_lock_held_several_times_is_released_as_often(manager):
    lock = manager.lock(shared=["a"])
    lock.acquire()
    lock.acquire()
    lock.release()
    lock.release()
    with pytest.raises(NotHeldError):
        lock.release()


def test_acquire_waits_for_a_grant(manager, lock, background):
    grant = manager.acquire(exclusive=["a"])
    thread = background(lock.acquire)
    until_queued(manager, "a")
    grant.release()
    assert thread.result() is True


def test_acquire_waits_for_the_same_lock_in_another_thread(manager, lock, background):
    lock.acquire()
    thread = background(lock.acquire)
    until_queued(manager, "a")
    lock.release()
    assert thread.result() is True


def test_any_thread_may_release(lock, background):
    lock.acquire()
    background(lock.release).result()
    assert not lock.locked()


def test_locks_of_one_key_exclude_each_other(manager):
    manager.lock(exclusive=["a"]).acquire()
    assert manager.lock(exclusive=["a"]).acquire(blocking=False) is False


def test_locks_of_one_shared_key_go_together(manager):
    manager.lock(shared=["a"]).acquire()
    assert manager.lock(shared=["a"]).acquire(blocking=False) is True


def test_lock_of_no_keys_is_a_lock(manager):
    lock = manager.lock()
    lock.acquire()
    assert lock.locked()


def test_lock_ended_by_force_is_no_longer_locked(manager, lock):
    lock.acquire()
    manager.force_release("a")
    assert not lock.locked()


def test_lock_ended_by_force_cannot_be_released(manager, lock):
    lock.acquire()
    manager.clear()
    with pytest.raises(NotHeldError, match=r"^release unlocked lock$"):
        lock.release()


def test_lock_ended_by_force_can_be_acquired_again(manager, lock):
    lock.acquire()
    manager.clear()
    assert lock.acquire(blocking=False) is True


def test_late_release_of_a_lock_ended_by_force_harms_nobody(manager, lock):
    lock.acquire()
    manager.clear()
    lock.acquire()
    with pytest.raises(NotHeldError):
        lock.release()  # the first holder's
    assert lock.locked()


def test_lock_of_a_closed_manager_is_refused(manager, lock):
    manager.close()
    with pytest.raises(ManagerClosedError):
        lock.acquire()


def test_waiting_lock_is_refused_when_the_manager_closes(manager, lock, background):
    manager.acquire(exclusive=["a"])
    thread = background(lock.acquire)
    until_queued(manager, "a")
    manager.close()
    with pytest.raises(ManagerClosedError):
        thread.result()


def test_lock_outlives_its_last_reference_while_held(manager):
    manager.lock(exclusive=["a"]).acquire()
    assert "a" in manager


def test_condition_works_over_a_lock(lock, background):
    condition = threading.Condition(lock)
    found = []

    def consume():
        with condition:
            condition.wait_for(lambda: found)
            return found.pop()

    thread = background(consume)
    eventually(lambda: condition._waiters)
    with condition:
        found.append("something")
        condition.notify()
    assert thread.result() == "something"


def test_condition_refuses_to_wait_without_the_lock(lock):
    with pytest.raises(RuntimeError, match=r"^cannot wait on un-acquired lock$"):
        threading.Condition(lock).wait()


def test_block_of_a_lock_is_never_entered_twice(manager, background):
    inside = []

    def enter():
        for _ in range(200):
            with manager.lock(exclusive=["a"]):
                inside.append(1)
                assert len(inside) == 1
                inside.pop()

    for thread in [background(enter) for _ in range(4)]:
        thread.result()
