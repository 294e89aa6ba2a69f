"""Seeing: holders, waiters, snapshots, counts and statistics."""

from __future__ import annotations

import math
import uuid

import pytest

from lockcore import Holder, LockConflictError, LockTimeoutError, Mode, Statistics, Waiter
from support import eventually, owners_of


def test_holder_tells_all_about_a_key(manager):
    manager.acquire(exclusive={("VM", 1): "BUSY"}, owner="me")
    [row] = manager.holders(("VM", 1))
    assert row == Holder(("VM", 1), Mode.EXCLUSIVE, "me", "BUSY", 1, row.held_for)


def test_mode_of_a_row_is_a_mode(manager):
    manager.acquire(shared=["a"])
    assert type(manager.holders("a")[0].mode) is Mode


def test_holders_come_oldest_first(manager):
    for owner in ("x", "y", "z"):
        manager.acquire(shared=["a"], owner=owner)
    assert owners_of(manager.holders("a")) == ["x", "y", "z"]


def test_free_key_has_no_holders(manager):
    assert manager.holders("a") == []


def test_waiter_tells_all_about_a_request(manager):
    manager.acquire(exclusive=["a"])
    manager._submit(shared={"a": "LATER"}, owner=7)
    [row] = manager.waiters("a")
    assert row == Waiter("a", Mode.SHARED, 7, "LATER", row.waited_for)


def test_waiters_come_in_order_of_arrival(manager):
    manager.acquire(exclusive=["a"])
    for owner in ("x", "y", "z"):
        manager._submit(shared=["a"], owner=owner)
    assert owners_of(manager.waiters("a")) == ["x", "y", "z"]


def test_key_without_waiters_has_none(manager):
    manager.acquire(exclusive=["a"])
    assert manager.waiters("a") == []


def test_age_of_a_holder_grows(manager):
    manager.acquire(exclusive=["a"])
    before = manager.holders("a")[0].held_for
    eventually(lambda: manager.holders("a")[0].held_for > before >= 0)


def test_age_of_a_waiter_grows(manager):
    manager.acquire(exclusive=["a"])
    manager._submit(exclusive=["a"])
    before = manager.waiters("a")[0].waited_for
    eventually(lambda: manager.waiters("a")[0].waited_for > before >= 0)


def test_ages_are_seconds_as_float(manager):
    manager.acquire(exclusive=["a"])
    manager._submit(exclusive=["a"])
    held_for, waited_for = manager.holders("a")[0].held_for, manager.waiters("a")[0].waited_for
    assert (type(held_for), type(waited_for)) == (float, float)


def test_snapshot_has_a_row_for_each_key_and_holder(manager):
    manager.acquire(shared=["a", ("VM", 1)], owner="x")
    manager.acquire(shared=["a"], owner="y")
    rows = manager.snapshot()
    assert sorted((str(row.key), row.owner) for row in rows) == [
        ("('VM', 1)", "x"),
        ("a", "x"),
        ("a", "y"),
    ]


def test_snapshot_has_the_oldest_grant_first(manager):
    for owner, key in [("x", "c"), ("y", "a"), ("z", "b")]:
        manager.acquire(exclusive=[key], owner=owner)
    assert owners_of(manager.snapshot()) == ["x", "y", "z"]


@pytest.mark.parametrize("call", ["snapshot", "owned_by"])
def test_rows_of_one_grant_are_in_the_order_of_keys(manager, call):
    keys = [3, "a", "b", b"a", uuid.UUID(int=1), ("A", 1), ("A", "z"), ("B", 1)]
    manager.acquire(shared=reversed(keys), owner="me")
    rows = getattr(manager, call)(*["me"] * (call == "owned_by"))
    assert [row.key for row in rows] == keys


def test_snapshot_has_no_waiters(manager):
    manager.acquire(exclusive=["a"], owner="x")
    manager._submit(exclusive=["a", "b"], owner="y")
    assert owners_of(manager.snapshot()) == ["x"]


def test_snapshot_of_an_unused_manager_is_empty(manager):
    assert manager.snapshot() == []


def test_owned_by_has_the_rows_of_one_owner(manager):
    manager.acquire(exclusive=["a"], shared=["b"], owner="x")
    manager.acquire(shared=["b"], owner="y")
    assert [(row.key, row.owner) for row in manager.owned_by("x")] == [("a", "x"), ("b", "x")]


def test_owned_by_tells_owners_apart_by_kind(manager):
    manager.acquire(exclusive=["a"], owner="1")
    assert manager.owned_by(1) == []


@pytest.mark.parametrize("call", ["owned_by", "release_all"])
@pytest.mark.parametrize("owner", [None, True, b"me", 1.5])
def test_question_about_no_owner_is_refused(manager, call, owner):
    with pytest.raises(TypeError, match=type(owner).__name__):
        getattr(manager, call)(owner)


def test_length_is_the_number_of_keys_held(manager):
    manager.acquire(shared=["a", "b"])
    manager.acquire(shared=["b", "c"])
    assert len(manager) == 3


def test_length_does_not_count_keys_only_waited_for(manager):
    manager.acquire(exclusive=["a"])
    manager._submit(exclusive=["a", "b"])
    assert len(manager) == 1


def test_key_is_in_the_manager_while_held(manager):
    grant = manager.acquire(exclusive=["a"])
    assert "a" in manager
    grant.release()
    assert "a" not in manager


def test_manager_without_locks_is_true(manager):
    assert manager


def test_statistics_begin_at_zero(manager):
    statistics = manager.statistics()
    assert statistics == Statistics(0, 0, 0, 0, 0, statistics.wait_histogram)


def test_statistics_count_grants(manager):
    manager.acquire(exclusive=["a"]).release()
    manager.try_acquire(exclusive=["a"])
    manager.acquire()
    assert manager.statistics().acquired == 3


def test_statistics_count_refusals(manager):
    manager.acquire(exclusive=["a"])
    manager.try_acquire(exclusive=["a"])
    manager.lock(exclusive=["a"]).acquire(blocking=False)
    with pytest.raises(LockConflictError):
        manager.acquire(exclusive=["a"], timeout=0)
    assert manager.statistics().refused == 3


def test_statistics_count_waits(manager):
    manager.acquire(exclusive=["a"])
    manager._submit(exclusive=["a"])
    manager._submit(exclusive=["a"])
    assert manager.statistics().waits == 2


def test_statistics_count_timeouts(manager):
    manager.acquire(exclusive=["a"])
    with pytest.raises(LockTimeoutError):
        manager.acquire(exclusive=["a"], timeout=0.001)
    assert (manager.statistics().timeouts, manager.statistics().refused) == (1, 0)


def test_statistics_do_not_count_bad_requests(manager):
    with pytest.raises(TypeError):
        manager.acquire(exclusive=[1.5])
    assert manager.statistics().refused == 0


def test_histogram_of_an_unused_manager_is_empty(manager):
    assert {count for _, count in manager.statistics().wait_histogram} == {0}


def test_histogram_has_growing_bounds_up_to_infinity(manager):
    bounds = [bound for bound, _ in manager.statistics().wait_histogram]
    assert (bounds, bounds[-1]) == (sorted(set(bounds)), math.inf)


def test_histogram_counts_waits_that_ended(manager):
    holder = manager.acquire(exclusive=["a"])
    manager._submit(exclusive=["a"])
    manager._submit(exclusive=["a"])._cancel()
    manager._submit(exclusive=["a"])
    holder.release()
    assert sum(count for _, count in manager.statistics().wait_histogram) == 2
