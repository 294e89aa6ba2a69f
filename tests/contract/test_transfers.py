"""Transfers: a grant goes on for another owner, without a gap."""

from __future__ import annotations

import uuid

import pytest

from lockcore import LockConflictError, NotHeldError
from support import modes_of, owners_of, states, until_queued

OWNERS = ["you", 7, uuid.UUID(int=7), None]


@pytest.mark.parametrize("former", [None, "me"])
@pytest.mark.parametrize("owner", OWNERS, ids=repr)
def test_transferred_grant_is_its_new_owners(manager, former, owner):
    grant = manager.acquire(exclusive=["a"], owner=former)
    grant.transfer(owner)
    assert (grant.owner, owners_of(manager.holders("a"))) == (owner, [owner])


def test_transfer_keeps_the_grant(manager):
    grant = manager.acquire(exclusive=["a"], shared={"b": "BUSY"}, owner="me")
    token = grant.token
    grant.transfer("you")
    rows = [(row.key, row.mode, row.token, row.message) for row in manager.snapshot()]
    assert rows == [("a", "exclusive", token, None), ("b", "shared", token, "BUSY")]


def test_transfer_counts_as_no_grant(manager):
    manager.acquire(exclusive=["a"]).transfer("you")
    assert manager.statistics().acquired == 1


def test_new_owner_is_not_blocked_by_its_grant(manager):
    manager.acquire(exclusive=["a"], owner="me").transfer("you")
    assert manager.try_acquire(exclusive=["a"], owner="you") is not None


def test_former_owner_is_blocked_by_its_former_grant(manager):
    manager.acquire(exclusive=["a"], owner="me").transfer("you")
    assert manager.try_acquire(exclusive=["a"], owner="me") is None


def test_release_all_ends_grants_of_the_new_owner(manager):
    manager.acquire(exclusive=["a"], owner="me").transfer("you")
    assert (manager.release_all("me"), manager.release_all("you")) == (0, 1)


def test_owned_by_shows_grants_of_the_new_owner(manager):
    manager.acquire(exclusive=["a"], owner="me").transfer("you")
    assert (manager.owned_by("me"), len(manager.owned_by("you"))) == ([], 1)


def test_grant_transferred_to_nobody_is_its_own_owner(manager):
    for _ in range(2):
        manager.acquire(shared=["a"], owner="me").transfer(None)
    assert manager.try_acquire(exclusive=["a"]) is None


def test_grants_transferred_to_nobody_have_different_owners(manager):
    first, second = [manager.acquire(shared=["a"], owner="me") for _ in range(2)]
    first.transfer(None)
    second.transfer(None)
    with pytest.raises(LockConflictError):
        first.upgrade(timeout=0)


def test_transfer_to_the_same_owner_changes_nothing(manager):
    grant = manager.acquire(exclusive=["a"], owner="me")
    manager.acquire(exclusive=["a"], owner="me")
    grant.transfer("me")
    assert owners_of(manager.holders("a")) == ["me", "me"]


def test_empty_grant_can_be_transferred(manager):
    grant = manager.acquire(owner="me")
    grant.transfer("you")
    assert (grant.owner, grant.is_held) == ("you", True)


def test_grant_can_be_transferred_often(manager):
    grant = manager.acquire(exclusive=["a"])
    for number in range(1000):
        grant.transfer(number)
    assert (grant.owner, owners_of(manager.holders("a"))) == (999, [999])


def test_owner_of_a_transfer_counts_as_its_base_value(manager):
    class Name(str):
        __slots__ = ()

    grant = manager.acquire(exclusive=["a"])
    grant.transfer(Name("you"))
    assert (type(grant.owner), grant.owner) == (str, "you")


@pytest.mark.parametrize("owner", [b"you", 1.5, ("a", "b"), True])
def test_transfer_to_what_is_no_owner_is_refused(manager, owner):
    grant = manager.acquire(exclusive=["a"], owner="me")
    with pytest.raises(TypeError, match="an owner must be str, "):
        grant.transfer(owner)
    assert grant.owner == "me"


@pytest.mark.parametrize(
    ("mine", "other"),
    [("exclusive", "shared"), ("shared", "exclusive"), ("exclusive", "exclusive")],
)
def test_transfer_is_refused_when_the_former_owner_holds_the_key_in_conflict(manager, mine, other):
    grant = manager.acquire(**{mine: ["a"]}, owner="me")
    manager.acquire(**{other: ["a"]}, owner="me")
    with pytest.raises(LockConflictError) as caught:
        grant.transfer("you")
    assert [(row.key, row.mode, row.owner) for row in caught.value.blockers] == [("a", other, "me")]


def test_refused_transfer_changes_nothing(manager):
    grant = manager.acquire(exclusive=["a"], owner="me")
    manager.acquire(shared=["a"], owner="me")
    with pytest.raises(LockConflictError):
        grant.transfer("you")
    assert (grant.owner, owners_of(manager.holders("a"))) == ("me", ["me", "me"])


def test_shared_grant_is_transferred_beside_another_of_the_former_owner(manager):
    grant = manager.acquire(shared=["a"], owner="me")
    manager.acquire(shared=["a"], owner="me")
    grant.transfer("you")
    assert sorted(owners_of(manager.holders("a"))) == ["me", "you"]


def test_transfer_lets_a_waiting_request_of_the_new_owner_run(manager):
    grant = manager.acquire(exclusive=["a"], owner="me")
    waiters = [manager._submit(exclusive=["a"], owner=owner) for owner in ("other", "you")]
    grant.transfer("you")
    assert states(*waiters) == ["waiting", "held"]


def test_transfer_lets_a_waiting_thread_of_the_new_owner_run(manager, background):
    grant = manager.acquire(exclusive=["a"], owner="me")
    thread = background(manager.acquire, exclusive=["a"], owner="you")
    until_queued(manager, "a")
    grant.transfer("you")
    assert thread.result().is_held


def test_transfer_lets_the_new_owner_pass_earlier_waiters_where_it_waits(manager):
    grant = manager.acquire(shared=["a"], owner="me")
    writer = manager._submit(exclusive=["a"], owner="writer")
    reader = manager._submit(shared=["a"], owner="you")
    grant.transfer("you")
    assert states(writer, reader) == ["waiting", "held"]


def test_former_owner_no_longer_passes_waiters(manager):
    grant = manager.acquire(shared=["a"], owner="me")
    manager._submit(exclusive=["a"], owner="writer")
    grant.transfer("you")
    assert manager.try_acquire(shared=["a"], owner="me") is None


def test_transfer_of_an_ended_grant_is_refused(manager):
    grant = manager.acquire(exclusive=["a"], owner="me")
    grant.release()
    with pytest.raises(NotHeldError):
        grant.transfer("you")
    assert grant.owner == "me"


def test_transfer_of_an_ended_empty_grant_is_refused(manager):
    grant = manager.acquire()
    grant.release()
    with pytest.raises(NotHeldError):
        grant.transfer("you")


def test_transfer_is_refused_while_an_upgrade_is_under_way(manager, background):
    grant = manager.acquire(shared=["a"], owner="me")
    reader = manager.acquire(shared=["a"])
    thread = background(grant.upgrade)
    until_queued(manager, "a")
    with pytest.raises(RuntimeError, match="cannot transfer a grant while it is being upgraded"):
        grant.transfer("you")
    reader.release()
    thread.result()
    assert (grant.owner, modes_of(manager, "a")) == ("me", ["exclusive"])


@pytest.mark.parametrize("former", [None, "me"])
def test_grant_can_be_transferred_after_an_upgrade(manager, former):
    grant = manager.acquire(shared=["a"], owner=former)
    grant.upgrade()
    grant.transfer("you")
    assert manager.try_acquire(exclusive=["a"], owner="you") is not None


def test_transferred_grant_is_released_by_its_handle(manager):
    grant = manager.acquire(exclusive=["a"], owner="me")
    grant.transfer("you")
    grant.release()
    assert len(manager) == 0


def test_closed_manager_still_transfers(manager):
    grant = manager.acquire(exclusive=["a"], owner="me")
    manager.close()
    grant.transfer("you")
    assert owners_of(manager.holders("a")) == ["you"]
