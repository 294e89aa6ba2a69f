"""Owners: locks of one named owner never conflict with each other."""

from __future__ import annotations

import enum
import uuid

import pytest

from support import modes_of

ONE = uuid.UUID(int=1)


class Name(enum.StrEnum):
    ME = "me"


@pytest.mark.parametrize("held", ["shared", "exclusive"])
@pytest.mark.parametrize("wanted", ["shared", "exclusive"])
def test_owner_does_not_conflict_with_itself(manager, held, wanted):
    manager.acquire(**{held: ["a"]}, owner="me")
    assert manager.try_acquire(**{wanted: ["a"]}, owner="me") is not None


@pytest.mark.parametrize("owner", ["me", "", 0, 7, -1, 2**100, ONE])
def test_owner_is_known_by_value(manager, owner):
    manager.acquire(exclusive=["a"], owner=owner)
    assert manager.try_acquire(exclusive=["a"], owner=type(owner)(str(owner))) is not None


@pytest.mark.parametrize(
    ("one", "other"), [("1", 1), (ONE, str(ONE)), (ONE, 1), ("me", "Me"), (0, None), ("", None)]
)
def test_owners_of_other_values_conflict(manager, one, other):
    manager.acquire(exclusive=["a"], owner=one)
    assert manager.try_acquire(exclusive=["a"], owner=other) is None


def test_owner_of_a_subclass_counts_as_its_base_value(manager):
    manager.acquire(exclusive=["a"], owner=Name.ME)
    assert manager.try_acquire(exclusive=["a"], owner="me") is not None


def test_unnamed_grants_conflict_with_each_other(manager):
    manager.acquire(exclusive=["a"])
    assert manager.try_acquire(exclusive=["a"]) is None


def test_owner_is_not_the_thread(manager, background):
    manager.acquire(exclusive=["a"], owner="me")
    grant = background(manager.try_acquire, exclusive=["a"], owner="me").result()
    assert grant is not None


def test_nested_grants_are_released_one_by_one(manager):
    outer = manager.acquire(exclusive=["a"], owner="me")
    manager.acquire(exclusive=["a"], owner="me").release()
    assert outer.is_held


def test_nested_grants_block_others_until_the_last_is_released(manager):
    outer = manager.acquire(exclusive=["a"], owner="me")
    inner = manager.acquire(exclusive=["a"], owner="me")
    outer.release()
    assert manager.try_acquire(shared=["a"], owner="other") is None
    inner.release()
    assert manager.try_acquire(shared=["a"], owner="other") is not None


def test_nested_grants_are_held_one_by_one(manager):
    manager.acquire(shared=["a"], owner="me")
    manager.acquire(exclusive=["a"], owner="me")
    assert modes_of(manager, "a") == ["shared", "exclusive"]


def test_exclusive_grant_inside_a_shared_one_excludes_others(manager):
    manager.acquire(shared=["a"], owner="me")
    manager.acquire(exclusive=["a"], owner="me")
    assert manager.try_acquire(shared=["a"], owner="other") is None


def test_others_may_share_again_after_an_exclusive_grant_inside_a_shared_one(manager):
    manager.acquire(shared=["a"], owner="me")
    manager.acquire(exclusive=["a"], owner="me").release()
    assert manager.try_acquire(shared=["a"], owner="other") is not None


def test_shared_then_exclusive_is_refused_while_others_share(manager):
    manager.acquire(shared=["a"], owner="me")
    manager.acquire(shared=["a"], owner="other")
    assert manager.try_acquire(exclusive=["a"], owner="me") is None


@pytest.mark.parametrize("order", [("shared", "exclusive"), ("exclusive", "shared")])
def test_holders_of_both_modes_are_all_seen(manager, order):
    for mode in (*order, "shared"):
        manager.acquire(**{mode: ["a"]}, owner="me")
    assert modes_of(manager, "a") == [*order, "shared"]


def test_owner_that_holds_a_key_is_not_blocked_by_waiters(manager):
    manager.acquire(shared=["a"], owner="me")
    manager._submit(exclusive=["a"], owner="other")
    assert manager.try_acquire(shared=["a"], owner="me") is not None


def test_owner_that_holds_a_key_may_upgrade_before_waiters(manager):
    manager.acquire(shared=["a"], owner="me")
    manager._submit(exclusive=["a"], owner="other")
    assert manager.try_acquire(exclusive=["a"], owner="me") is not None


def test_unnamed_holder_is_blocked_by_waiters(manager):
    manager.acquire(shared=["a"])
    manager._submit(exclusive=["a"])
    assert manager.try_acquire(shared=["a"]) is None


def test_requests_of_one_owner_do_not_wait_for_each_other(manager):
    manager.acquire(shared=["a"], owner="other")
    manager._submit(exclusive=["a"], owner="me")
    assert manager.try_acquire(shared=["a"], owner="me") is not None


def test_owner_that_gains_a_key_passes_waiters_with_its_other_requests(manager):
    first = manager.acquire(exclusive=["a"], owner="first")
    mine = manager._submit(shared=["a"], owner="me")
    manager._submit(exclusive=["a"], owner="other")
    mine_too = manager._submit(shared=["a"], owner="me")
    first.release()
    assert (mine._state, mine_too._state) == ("held", "held")
