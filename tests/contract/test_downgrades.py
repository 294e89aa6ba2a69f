"""Downgrades: exclusive keys become shared without a gap, and those run who can."""

from __future__ import annotations

import pytest

from lockcore import NotHeldError
from support import modes_of, owners_of, states, until_queued


def test_downgrade_makes_exclusive_keys_shared(manager):
    grant = manager.acquire(exclusive=["a", "b"], shared=["c"])
    grant.downgrade()
    assert [modes_of(manager, key) for key in "abc"] == [["shared"]] * 3


def test_downgraded_grant_says_what_it_holds(manager):
    grant = manager.acquire(exclusive=["a"], shared=["b"])
    grant.downgrade()
    assert (grant.exclusive, grant.shared) == (frozenset(), {"a", "b"})


def test_downgrade_keeps_the_grant(manager):
    grant = manager.acquire(exclusive=["a"], owner="me")
    token = grant.token
    grant.downgrade()
    assert (grant.is_held, grant.token, grant.owner) == (True, token, "me")


def test_downgrade_counts_as_no_grant(manager):
    manager.acquire(exclusive=["a"]).downgrade()
    assert manager.statistics().acquired == 1


def test_downgrade_keeps_messages(manager):
    grant = manager.acquire(exclusive={"a": "BUSY"})
    grant.downgrade()
    assert manager.holders("a")[0].message == "BUSY"


def test_downgrade_of_a_shared_grant_changes_nothing(manager):
    grant = manager.acquire(shared=["a"])
    grant.downgrade()
    assert modes_of(manager, "a") == ["shared"]


def test_downgrade_of_an_empty_grant_changes_nothing(manager):
    grant = manager.acquire()
    grant.downgrade()
    assert grant.is_held


def test_downgrade_lets_all_waiting_readers_in(manager):
    grant = manager.acquire(exclusive=["a"])
    readers = [manager._submit(shared=["a"]) for _ in range(3)]
    grant.downgrade()
    assert states(*readers) == ["held"] * 3


def test_downgrade_lets_no_writer_in(manager):
    grant = manager.acquire(exclusive=["a"])
    queue = [
        manager._submit(shared=["a"]),
        manager._submit(exclusive=["a"]),
        manager._submit(shared=["a"]),
    ]
    grant.downgrade()
    assert states(*queue) == ["held", "waiting", "waiting"]


def test_downgrade_lets_a_waiting_thread_in(manager, background):
    grant = manager.acquire(exclusive=["a"])
    thread = background(manager.acquire, shared=["a"])
    until_queued(manager, "a")
    grant.downgrade()
    assert thread.result().is_held


def test_downgrade_does_not_share_what_its_owner_still_holds_exclusive(manager):
    manager.acquire(exclusive=["a"], owner="me")
    inner = manager.acquire(exclusive=["a"], owner="me")
    reader = manager._submit(shared=["a"])
    inner.downgrade()
    assert (states(reader), sorted(modes_of(manager, "a"))) == (
        ["waiting"],
        ["exclusive", "shared"],
    )


def test_waiter_tried_after_a_downgrade_queues_where_it_is_still_blocked(manager):
    grant = manager.acquire(exclusive=["a"])
    waiter = manager._submit(shared=["a", "b"], owner="waiter")
    manager.acquire(exclusive=["b"])
    grant.downgrade()
    assert (states(waiter), owners_of(manager.waiters("b"))) == (["waiting"], ["waiter"])


def test_downgraded_grant_is_released_whole(manager):
    grant = manager.acquire(exclusive=["a"], shared=["b"])
    grant.downgrade()
    grant.release()
    assert len(manager) == 0


def test_downgraded_grant_can_be_upgraded_again(manager):
    grant = manager.acquire(exclusive=["a"])
    grant.downgrade()
    grant.upgrade(timeout=0)
    assert modes_of(manager, "a") == ["exclusive"]


@pytest.mark.parametrize("keys", [["a"], []])
def test_downgrade_of_an_ended_grant_is_refused(manager, keys):
    grant = manager.acquire(exclusive=keys)
    grant.release()
    with pytest.raises(NotHeldError):
        grant.downgrade()


def test_downgrade_of_an_ended_grant_does_not_touch_its_successor(manager):
    grant = manager.acquire(exclusive=["a"])
    grant.release()
    manager.acquire(exclusive=["a"])
    with pytest.raises(NotHeldError):
        grant.downgrade()
    assert modes_of(manager, "a") == ["exclusive"]


def test_closed_manager_still_downgrades(manager):
    grant = manager.acquire(exclusive=["a"])
    manager.close()
    grant.downgrade()
    assert modes_of(manager, "a") == ["shared"]
