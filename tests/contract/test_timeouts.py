"""The timeout of `acquire`: the limit on waiting."""

from __future__ import annotations

import math

import pytest

from lockcore import LockConflictError, LockTimeoutError
from support import owners_of, until_queued

SHORT = 0.01


@pytest.mark.parametrize("timeout", [0, 0.0, -0.0, 1e-9, 1, 2.5, 10**6, 1e300, math.inf, None])
def test_free_request_is_granted_whatever_the_timeout(manager, timeout):
    assert manager.acquire(exclusive=["a"], timeout=timeout).is_held


@pytest.mark.parametrize("timeout", [-1, -0.5, -1e-300, -math.inf, math.nan])
def test_timeout_below_zero_or_nan_is_refused(manager, timeout):
    with pytest.raises(ValueError, match="timeout"):
        manager.acquire(exclusive=["a"], timeout=timeout)


@pytest.mark.parametrize("timeout", ["1", b"1", True, False, [1], 1j, object(), "", None.__class__])
def test_timeout_that_is_no_number_is_refused(manager, timeout):
    with pytest.raises(TypeError, match=r"timeout.*" + type(timeout).__name__):
        manager.acquire(exclusive=["a"], timeout=timeout)


@pytest.mark.parametrize("timeout", [-1, "1"])
def test_bad_timeout_is_refused_before_anything_is_held(manager, timeout):
    with pytest.raises((TypeError, ValueError)):
        manager.acquire(exclusive=["a"], timeout=timeout)
    assert len(manager) == 0


@pytest.mark.parametrize("timeout", [0, 0.0])
def test_timeout_zero_does_not_wait(manager, timeout):
    manager.acquire(exclusive=["a"])
    with pytest.raises(LockConflictError) as caught:
        manager.acquire(exclusive=["a"], timeout=timeout)
    assert not isinstance(caught.value, LockTimeoutError)


@pytest.mark.parametrize("timeout", [SHORT, 1e-9])
def test_wait_that_is_too_long_times_out(manager, timeout):
    manager.acquire(exclusive=["a"])
    with pytest.raises(LockTimeoutError) as caught:
        manager.acquire(exclusive=["a"], timeout=timeout)
    assert caught.value.timeout == timeout


def test_timeout_is_an_error_of_the_standard_kind(manager):
    manager.acquire(exclusive=["a"])
    with pytest.raises(TimeoutError):
        manager.acquire(exclusive=["a"], timeout=SHORT)


def test_timeout_leaves_nothing_held(manager):
    manager.acquire(exclusive=["b"])
    with pytest.raises(LockTimeoutError):
        manager.acquire(exclusive=["a", "b", "c"], timeout=SHORT)
    assert len(manager) == 1


def test_timeout_leaves_nobody_queued(manager):
    manager.acquire(exclusive=["a", "b"])
    with pytest.raises(LockTimeoutError):
        manager.acquire(exclusive=["a", "b"], timeout=SHORT)
    assert [manager.waiters(key) for key in "ab"] == [[], []]


def test_timeout_names_the_holder_in_the_way(manager):
    manager.acquire(shared=["a"], owner="me", message="BUSY")
    with pytest.raises(LockTimeoutError) as caught:
        manager.acquire(exclusive=["a", "b"], timeout=SHORT)
    assert [(row.key, row.owner, row.message) for row in caught.value.blockers] == [
        ("a", "me", "BUSY")
    ]


def test_timeout_names_the_earlier_waiter_in_the_way(manager):
    manager.acquire(shared=["a"], owner="reader")
    manager._submit(exclusive=["a"], owner="writer")
    with pytest.raises(LockTimeoutError) as caught:
        manager.acquire(shared=["a"], timeout=SHORT)
    assert owners_of(caught.value.blockers) == ["writer"]


def test_timeout_does_not_blame_those_who_came_later(manager, background):
    manager.acquire(exclusive=["a"], owner="holder")
    thread = background(manager.acquire, exclusive=["a"], timeout=0.2)
    until_queued(manager, "a")
    manager._submit(exclusive=["a"], owner="later")
    with pytest.raises(LockTimeoutError) as caught:
        thread.result()
    assert owners_of(caught.value.blockers) == ["holder"]


def test_timed_out_waiter_lets_those_behind_it_run(manager, background):
    manager.acquire(shared=["a"])
    writer = background(manager.acquire, exclusive=["a"], timeout=0.2)
    until_queued(manager, "a")
    reader = manager._submit(shared=["a"])
    with pytest.raises(LockTimeoutError):
        writer.result()
    assert reader.is_held


def test_grant_within_the_timeout_is_kept(manager, background):
    holder = manager.acquire(exclusive=["a"])
    thread = background(manager.acquire, exclusive=["a"], timeout=10)
    until_queued(manager, "a")
    holder.release()
    assert thread.result().is_held


@pytest.mark.parametrize("timeout", [None, math.inf, 1e300, 10**9])
def test_long_timeout_waits_for_the_grant(manager, background, timeout):
    holder = manager.acquire(exclusive=["a"])
    thread = background(manager.acquire, exclusive=["a"], timeout=timeout)
    until_queued(manager, "a")
    holder.release()
    assert thread.result().is_held
