"""Refusals: what the errors carry."""

from __future__ import annotations

import pytest

from lockcore import (
    Holder,
    LockConflictError,
    ManagerClosedError,
    Message,
    MessageCatalog,
    Mode,
    Request,
    Waiter,
)
from support import pickled


def refused(manager, **request):
    with pytest.raises(LockConflictError) as caught:
        manager.acquire(**request, timeout=0)
    return caught.value


def test_refusal_carries_the_request(manager):
    manager.acquire(exclusive=["a"])
    error = refused(manager, exclusive=["a"], shared={"b": "B", "a": "A"}, owner=7, message="M")
    assert error.request == Request(frozenset({"a"}), frozenset({"b"}), 7, "M")


def test_refusal_carries_base_values(manager):
    manager.acquire(exclusive=["shared"])
    error = refused(manager, exclusive=[Mode.SHARED], owner=Mode.SHARED)
    [key] = error.request.exclusive
    assert (type(key), type(error.request.owner)) == (str, str)


def test_refusal_names_the_holder(manager):
    manager.acquire(shared={("VM", 1): Message("BUSY", n=1)}, owner="me")
    [blocker] = refused(manager, exclusive=[("VM", 1)]).blockers
    assert blocker == Holder(
        ("VM", 1), Mode.SHARED, "me", Message("BUSY", n=1), 1, blocker.held_for
    )


def test_refusal_names_every_conflicting_key(manager):
    manager.acquire(exclusive=["a", "b"], owner="x")
    manager.acquire(exclusive=["d"], owner="y")
    blockers = refused(manager, exclusive=["a", "b", "c"], shared=["d"]).blockers
    assert [(row.key, row.owner) for row in blockers] == [("a", "x"), ("b", "x"), ("d", "y")]


def test_refusal_names_every_holder_oldest_first(manager):
    for owner in ("z", "x", "y"):
        manager.acquire(shared=["a"], owner=owner)
    assert [row.owner for row in refused(manager, exclusive=["a"]).blockers] == ["z", "x", "y"]


def test_refusal_does_not_name_holders_without_conflict(manager):
    manager.acquire(shared=["a"], owner="reader")
    manager.acquire(exclusive=["b"], owner="writer")
    assert [row.owner for row in refused(manager, shared=["a", "b"]).blockers] == ["writer"]


def test_refusal_does_not_name_the_requester_itself(manager):
    manager.acquire(shared=["a"], owner="me")
    manager.acquire(shared=["a"], owner="other")
    blockers = refused(manager, exclusive=["a"], owner="me").blockers
    assert [row.owner for row in blockers] == ["other"]


def test_refusal_names_the_waiter_in_the_way(manager):
    manager.acquire(shared=["a"], owner="reader")
    manager._submit(exclusive={"a": "SOON"}, owner="writer")
    [blocker] = refused(manager, shared=["a"]).blockers
    assert blocker == Waiter("a", Mode.EXCLUSIVE, "writer", "SOON", blocker.waited_for)


def test_refusal_names_holders_before_waiters(manager):
    manager.acquire(shared=["a"], owner="reader")
    manager._submit(exclusive=["a"], owner="writer")
    blockers = refused(manager, exclusive=["a"]).blockers
    assert [type(row) for row in blockers] == [Holder, Waiter]


def test_refusal_carries_the_messages_of_the_blockers(manager):
    manager.acquire(shared=["a"], message="FIRST")
    manager.acquire(shared=["a"], message=Message("SECOND", VmName="web"))
    manager.acquire(shared=["a"], message="FIRST")
    manager.acquire(shared=["a"])
    error = refused(manager, exclusive=["a"])
    assert error.messages == ("FIRST", Message("SECOND", VmName="web"))


def test_refusal_carries_no_messages_of_the_requester(manager):
    manager.acquire(shared=["a"])
    assert refused(manager, exclusive=["a"], message="MINE").messages == ()


def test_refusal_reads_as_text(manager):
    manager.acquire(shared=[("VM", "42")], owner="MigrateVm 7f3a")
    error = refused(manager, exclusive=[("VM", "42")])
    assert str(error).startswith(
        "cannot acquire ('VM', '42') exclusive: held shared by MigrateVm 7f3a for "
    )


def test_refusal_reads_as_a_sentence(manager):
    catalog = MessageCatalog({"en": {"MIGRATING": "Cannot ${action} ${type}. ${VmName} moves."}})
    manager.acquire(shared=["a"], message=Message("MIGRATING", VmName="web"))
    error = refused(manager, exclusive=["a"])
    assert error.explain(catalog, action="remove", type="VM") == ["Cannot remove VM. web moves."]


def test_refusal_survives_pickling(manager):
    manager.acquire(shared=["a"], owner="me", message=Message("BUSY", n=1))
    error = refused(manager, exclusive=["a"])
    assert vars(pickled(error)) == vars(error)


def test_closed_manager_says_what_it_refused(manager):
    manager.close()
    with pytest.raises(ManagerClosedError, match=r"^cannot acquire 'a' exclusive: .* closed$"):
        manager.acquire(exclusive=["a"])
