"""Upgrades: shared keys become exclusive, without letting go of them in between."""

from __future__ import annotations

import pytest

from lockcore import (
    DeadlockError,
    LockConflictError,
    LockTimeoutError,
    ManagerClosedError,
    NotHeldError,
    Request,
)
from support import eventually, modes_of, owners_of, states, until_queued

OWNERS = [None, "me"]
"""A grant is upgraded alike, whether its owner has a name or not."""


@pytest.mark.parametrize("owner", OWNERS)
def test_upgrade_makes_shared_keys_exclusive(manager, owner):
    grant = manager.acquire(shared=["a", "b"], exclusive=["c"], owner=owner)
    grant.upgrade()
    assert [modes_of(manager, key) for key in "abc"] == [["exclusive"]] * 3


@pytest.mark.parametrize("owner", OWNERS)
def test_upgraded_grant_says_what_it_holds(manager, owner):
    grant = manager.acquire(shared=["a"], exclusive=["b"], owner=owner)
    grant.upgrade()
    assert (grant.exclusive, grant.shared, grant.owner) == ({"a", "b"}, frozenset(), owner)


def test_upgrade_gives_the_grant_a_new_token(manager):
    grant = manager.acquire(shared=["a"])
    other = manager.acquire(shared=["b"])
    grant.upgrade()
    assert grant.token == other.token + 1


def test_upgrade_counts_as_a_grant(manager):
    manager.acquire(shared=["a"]).upgrade()
    assert manager.statistics().acquired == 2


def test_upgraded_key_is_held_once(manager):
    manager.acquire(shared=["a"]).upgrade()
    assert (len(manager), len(manager.snapshot())) == (1, 1)


def test_upgrade_keeps_messages(manager):
    grant = manager.acquire(shared={"a": "BUSY"}, message="OTHER")
    grant.upgrade()
    assert manager.holders("a")[0].message == "BUSY"


@pytest.mark.parametrize("request_", [{"exclusive": ["a"]}, {}])
def test_upgrade_without_shared_keys_changes_nothing(manager, request_):
    grant = manager.acquire(**request_)
    token = grant.token
    grant.upgrade()
    assert (grant.token, grant.is_held, manager.statistics().acquired) == (token, True, 1)


def test_upgraded_grant_is_released_whole(manager):
    grant = manager.acquire(shared=["a"], exclusive=["b"])
    grant.upgrade()
    grant.release()
    assert (len(manager), manager.snapshot()) == (0, [])


def test_upgraded_grant_can_be_downgraded(manager):
    grant = manager.acquire(shared=["a"])
    grant.upgrade()
    grant.downgrade()
    assert modes_of(manager, "a") == ["shared"]


def test_upgrade_that_may_not_wait_is_refused(manager):
    grant = manager.acquire(shared=["a"])
    manager.acquire(shared=["a"], owner="other")
    with pytest.raises(LockConflictError) as caught:
        grant.upgrade(timeout=0)
    assert owners_of(caught.value.blockers) == ["other"]


def test_refused_upgrade_carries_what_it_wanted(manager):
    grant = manager.acquire(shared=["a"], exclusive=["b"], owner="me", message="BUSY")
    manager.acquire(shared=["a"])
    with pytest.raises(LockConflictError) as caught:
        grant.upgrade(timeout=0)
    assert caught.value.request == Request({"a"}, frozenset(), "me", "BUSY")


@pytest.mark.parametrize("owner", OWNERS)
def test_refused_upgrade_keeps_what_it_has(manager, owner):
    grant = manager.acquire(shared=["a", "b"], owner=owner)
    token = grant.token
    manager.acquire(shared=["a"])
    with pytest.raises(LockConflictError):
        grant.upgrade(timeout=0)
    assert (grant.is_held, grant.token, grant.shared) == (True, token, {"a", "b"})


def test_upgrade_is_all_or_nothing(manager):
    grant = manager.acquire(shared=["a", "b"])
    manager.acquire(shared=["b"])
    with pytest.raises(LockConflictError):
        grant.upgrade(timeout=0)
    assert modes_of(manager, "a") == ["shared"]


def test_upgrade_that_waits_too_long_times_out(manager):
    grant = manager.acquire(shared=["a"])
    manager.acquire(shared=["a"])
    with pytest.raises(LockTimeoutError):
        grant.upgrade(timeout=0.01)
    assert (grant.is_held, manager.waiters("a")) == (True, [])


@pytest.mark.parametrize("timeout", [-1, float("nan")])
def test_bad_timeout_of_an_upgrade_is_refused(manager, timeout):
    grant = manager.acquire(shared=["a"])
    with pytest.raises(ValueError, match="timeout"):
        grant.upgrade(timeout=timeout)
    assert modes_of(manager, "a") == ["shared"]


@pytest.mark.parametrize("owner", OWNERS)
def test_upgrade_waits_for_the_other_holders(manager, background, owner):
    grant = manager.acquire(shared=["a"], owner=owner)
    reader = manager.acquire(shared=["a"])
    thread = background(grant.upgrade)
    until_queued(manager, "a")
    reader.release()
    thread.result()
    assert (modes_of(manager, "a"), grant.exclusive) == (["exclusive"], {"a"})


def test_waiting_upgrade_is_seen_as_a_waiter_of_its_owner(manager, background):
    grant = manager.acquire(shared=["a"], owner="me")
    reader = manager.acquire(shared=["a"])
    thread = background(grant.upgrade)
    until_queued(manager, "a")
    waiter = manager.waiters("a")[0]
    reader.release()
    thread.result()
    assert (waiter.owner, waiter.mode) == ("me", "exclusive")


def test_waiting_upgrade_keeps_newcomers_out(manager, background):
    grant = manager.acquire(shared=["a"])
    reader = manager.acquire(shared=["a"])
    thread = background(grant.upgrade)
    until_queued(manager, "a")
    newcomer = manager.try_acquire(shared=["a"])
    reader.release()
    thread.result()
    assert newcomer is None


@pytest.mark.parametrize("owner", OWNERS)
def test_upgrade_does_not_wait_behind_waiters(manager, owner):
    grant = manager.acquire(shared=["a"], owner=owner)
    manager._submit(exclusive=["a"])
    grant.upgrade(timeout=0)
    assert modes_of(manager, "a") == ["exclusive"]


@pytest.mark.parametrize("owner", OWNERS)
def test_waiting_upgrade_passes_earlier_waiters(manager, background, owner):
    grant = manager.acquire(shared=["a"], owner=owner)
    reader = manager.acquire(shared=["a"])
    writer = manager._submit(exclusive=["a"])
    thread = background(grant.upgrade)
    until_queued(manager, "a", 2)
    reader.release()
    thread.result()
    assert states(writer) == ["waiting"]


def test_waiters_run_after_an_upgraded_grant_is_released(manager):
    grant = manager.acquire(shared=["a"])
    waiters = [manager._submit(exclusive=["a"]), manager._submit(shared=["a"])]
    grant.upgrade(timeout=0)
    grant.release()
    assert states(*waiters) == ["held", "waiting"]


def test_nested_grant_of_one_owner_is_no_obstacle(manager):
    inner = manager.acquire(shared=["a"], owner="me")
    manager.acquire(shared=["a"], owner="me").upgrade(timeout=0)
    assert (sorted(modes_of(manager, "a")), inner.shared) == (["exclusive", "shared"], {"a"})


@pytest.mark.parametrize("owners", [(None, None), ("x", "y"), (None, "y"), ("x", None)])
def test_second_of_two_upgrades_of_a_key_is_a_deadlock(manager, background, owners):
    first, second = [manager.acquire(shared=["a"], owner=owner) for owner in owners]
    thread = background(first.upgrade)
    until_queued(manager, "a")
    with pytest.raises(DeadlockError):
        second.upgrade()
    second.release()
    thread.result()
    assert first.exclusive == {"a"}


def test_upgrade_refused_by_deadlock_keeps_its_shared_hold(manager, background):
    first, second = manager.acquire(shared=["a"]), manager.acquire(shared=["a"])
    thread = background(first.upgrade)
    until_queued(manager, "a")
    with pytest.raises(DeadlockError):
        second.upgrade()
    held = (second.is_held, second.shared, len(manager.waiters("a")))
    second.release()
    thread.result()
    assert held == (True, {"a"}, 1)


def test_upgrade_of_an_ended_grant_is_refused(manager):
    grant = manager.acquire(shared=["a"])
    grant.release()
    with pytest.raises(NotHeldError):
        grant.upgrade()


def test_upgrade_of_an_ended_empty_grant_is_refused(manager):
    grant = manager.acquire()
    grant.release()
    with pytest.raises(NotHeldError):
        grant.upgrade()


def test_upgrade_of_a_closed_manager_is_refused(manager):
    grant = manager.acquire(shared=["a"])
    manager.close()
    with pytest.raises(ManagerClosedError):
        grant.upgrade()
    assert grant.is_held


def test_waiting_upgrade_is_refused_when_the_manager_closes(manager, background):
    grant = manager.acquire(shared=["a"])
    manager.acquire(shared=["a"])
    thread = background(grant.upgrade)
    until_queued(manager, "a")
    manager.close()
    with pytest.raises(ManagerClosedError):
        thread.result()
    assert (grant.is_held, grant.shared) == (True, {"a"})


def test_grant_released_while_it_is_upgraded_is_not_upgraded(manager, background):
    grant = manager.acquire(shared=["a"])
    reader = manager.acquire(shared=["a"])
    thread = background(grant.upgrade)
    until_queued(manager, "a")
    grant.release()
    reader.release()
    with pytest.raises(NotHeldError):
        thread.result()
    assert len(manager) == 0


def test_grant_may_be_downgraded_while_it_is_upgraded(manager, background):
    grant = manager.acquire(shared=["a"])
    reader = manager.acquire(shared=["a"])
    thread = background(grant.upgrade)
    until_queued(manager, "a")
    grant.downgrade()
    reader.release()
    thread.result()
    assert modes_of(manager, "a") == ["exclusive"]


def test_unnamed_grant_stays_unnamed_after_an_upgrade(manager):
    grant = manager.acquire(shared=["a"])
    grant.upgrade()
    assert (grant.owner, owners_of(manager.snapshot())) == (None, [None])


def test_upgrades_of_one_grant_do_not_disturb_each_other(manager, background):
    grant = manager.acquire(shared=["a"])
    reader = manager.acquire(shared=["a"])
    threads = [background(grant.upgrade) for _ in range(3)]
    until_queued(manager, "a", 3)
    reader.release()
    for thread in threads:
        thread.result()
    grant.release()
    eventually(lambda: len(manager) == 0)
    assert manager.snapshot() == []
