"""What a request may be, and that it is granted whole or not at all."""

from __future__ import annotations

import collections
import types
import uuid

import pytest

from lockcore import LockConflictError, Message

KEYS = ["a", ("VM", "1"), 7]


@pytest.mark.parametrize("mode", ["exclusive", "shared"])
@pytest.mark.parametrize(
    "container",
    [
        list,
        set,
        frozenset,
        iter,
        collections.deque,
        dict.fromkeys,
        lambda keys: dict.fromkeys(keys).keys(),
        lambda keys: (key for key in keys),
        lambda keys: types.MappingProxyType(dict.fromkeys(keys)),
        lambda keys: collections.ChainMap(dict.fromkeys(keys)),
        collections.UserList,
    ],
)
def test_keys_come_in_any_container(manager, mode, container):
    assert getattr(manager.acquire(**{mode: container(KEYS)}), mode) == frozenset(KEYS)


@pytest.mark.parametrize("mode", ["exclusive", "shared"])
@pytest.mark.parametrize("call", ["acquire", "try_acquire", "lock"])
@pytest.mark.parametrize("keys", ["vm-1", "", b"vm-1", ("VM", "1"), ("VM", "1", "2")])
def test_bare_key_is_refused_with_a_hint(manager, mode, call, keys):
    with pytest.raises(TypeError, match=rf"^{mode} must .*; write {mode}=\[key\]"):
        getattr(manager, call)(**{mode: keys})


@pytest.mark.parametrize("mode", ["exclusive", "shared"])
@pytest.mark.parametrize("keys", [None, 5, uuid.UUID(int=1), object()])
def test_what_holds_no_keys_is_refused(manager, mode, keys):
    with pytest.raises(TypeError):
        manager.acquire(**{mode: keys})


def test_empty_tuple_is_an_empty_request(manager):
    assert manager.acquire(exclusive=(), shared=()).is_held


@pytest.mark.parametrize("call", ["acquire", "try_acquire", "lock"])
def test_keys_are_not_positional(manager, call):
    with pytest.raises(TypeError):
        getattr(manager, call)(["a"])


@pytest.mark.parametrize("call", ["acquire", "try_acquire", "lock"])
def test_unknown_argument_is_refused(manager, call):
    with pytest.raises(TypeError, match="exclusiv"):
        getattr(manager, call)(exclusiv=["a"])


@pytest.mark.parametrize("call", ["try_acquire", "lock"])
def test_timeout_is_no_argument_of_what_does_not_wait(manager, call):
    with pytest.raises(TypeError, match="timeout"):
        getattr(manager, call)(exclusive=["a"], timeout=1)


@pytest.mark.parametrize(
    ("held", "wanted", "is_granted"),
    [
        ("shared", "shared", True),
        ("shared", "exclusive", False),
        ("exclusive", "shared", False),
        ("exclusive", "exclusive", False),
    ],
)
def test_only_shared_goes_with_shared(manager, held, wanted, is_granted):
    manager.acquire(**{held: ["a"]})
    assert (manager.try_acquire(**{wanted: ["a"]}) is not None) is is_granted


def test_empty_request_is_granted(manager):
    assert manager.acquire().is_held


def test_empty_request_holds_nothing(manager):
    manager.acquire()
    assert len(manager) == 0


def test_key_wanted_both_ways_is_exclusive(manager):
    grant = manager.acquire(exclusive=["a"], shared=["a", "b"])
    assert (grant.exclusive, grant.shared) == ({"a"}, {"b"})


def test_key_wanted_both_ways_is_held_once(manager):
    manager.acquire(exclusive=["a"], shared=["a"])
    assert [str(holder.mode) for holder in manager.holders("a")] == ["exclusive"]


def test_repeated_key_is_held_once(manager):
    manager.acquire(shared=["a", "a", "a"])
    assert len(manager.holders("a")) == 1


def test_repeated_key_is_released_at_once(manager):
    manager.acquire(shared=["a", "a"], exclusive=["b", "b"]).release()
    assert len(manager) == 0


def test_thousands_of_keys_are_held_together(manager):
    keys = [("DISK", number) for number in range(5_000)]
    manager.acquire(exclusive=keys[:2_500], shared=keys[2_500:])
    assert len(manager) == 5_000


def test_thousands_of_keys_are_released_together(manager):
    manager.acquire(exclusive=[("DISK", number) for number in range(5_000)]).release()
    assert len(manager) == 0


@pytest.mark.parametrize("position", [0, 57, 99])
def test_refused_request_holds_nothing(manager, position):
    manager.acquire(shared=[position])
    manager.try_acquire(exclusive=range(100))
    assert len(manager) == 1


def test_refused_request_leaves_nobody_queued(manager):
    manager.acquire(shared=["a"])
    with pytest.raises(LockConflictError):
        manager.acquire(exclusive=["a", "b"], timeout=0)
    assert manager.waiters("a") == []


def test_range_of_numbers_is_many_keys(manager):
    assert manager.acquire(exclusive=range(3)).exclusive == {0, 1, 2}


def test_message_is_attached_to_every_key(manager):
    manager.acquire(exclusive=["a"], shared=["b"], message="BUSY")
    assert [row.message for row in manager.snapshot()] == ["BUSY", "BUSY"]


def test_message_of_a_key_replaces_that_of_the_request(manager):
    manager.acquire(shared={"a": "POOL_IS_IN_USE", "b": None}, message="BUSY")
    assert [row.message for row in manager.snapshot()] == ["POOL_IS_IN_USE", "BUSY"]


def test_message_with_variables_is_kept(manager):
    manager.acquire(exclusive={"a": Message("BUSY", VmName="web")})
    assert manager.holders("a")[0].message == Message("BUSY", VmName="web")


def test_message_of_an_exclusive_key_replaces_that_of_a_shared_one(manager):
    manager.acquire(exclusive={"a": "WRITING"}, shared={"a": "READING"})
    assert manager.holders("a")[0].message == "WRITING"


@pytest.mark.parametrize("message", [5, b"BUSY", ["BUSY"], object(), True])
def test_message_of_another_type_is_refused(manager, message):
    with pytest.raises(TypeError, match=type(message).__name__):
        manager.acquire(exclusive=["a"], message=message)


class Upper(dict):
    """A mapping of its own kind, though it is a dict."""

    def __getitem__(self, key):
        message = super().__getitem__(key)
        return message.upper() if isinstance(message, str) else message


@pytest.mark.parametrize("mode", ["exclusive", "shared"])
@pytest.mark.parametrize("kind", [dict, Upper, collections.OrderedDict, collections.UserDict])
@pytest.mark.parametrize("common", [None, "COMMON"])
@pytest.mark.parametrize(
    "messages",
    [
        ["BUSY"],
        [None],
        [Message("BUSY", n=1)],
        ["BUSY", "BUSY", "BUSY"],
        ["BUSY", None, Message("BUSY", n=1)],
        [None, None],
        ["BUSY", *[None] * 20, "Taken"],
    ],
)
def test_messages_of_keys_are_told_to_those_in_whose_way_they_are(
    manager, mode, kind, common, messages
):
    told = kind((("VM", number), message) for number, message in enumerate(messages))
    manager.acquire(**{mode: told}, message=common, owner="me")
    with pytest.raises(LockConflictError) as caught:
        manager.acquire(exclusive=told, timeout=0)
    assert {row.key: row.message for row in caught.value.blockers} == {
        key: common if told[key] is None else told[key] for key in told
    }


@pytest.mark.parametrize("messages", [["BUSY"], ["BUSY", "BUSY"], [None], [None, "BUSY"]])
@pytest.mark.parametrize("common", [None, "COMMON"])
def test_message_of_a_key_is_not_that_of_the_request(manager, messages, common):
    manager.acquire(shared=[0])
    with pytest.raises(LockConflictError) as caught:
        manager.acquire(exclusive=dict(enumerate(messages)), message=common, timeout=0)
    assert caught.value.request.message == common


@pytest.mark.parametrize("message", [5, b"BUSY", ["BUSY"], object(), True])
@pytest.mark.parametrize("kind", [dict, Upper])
@pytest.mark.parametrize("place", [0, 1, 20])
def test_message_of_a_key_of_another_type_is_refused(manager, message, kind, place):
    messages = [*["BUSY"] * place, message, *["BUSY"] * place]
    with pytest.raises(TypeError, match=type(message).__name__):
        manager.acquire(exclusive=kind(enumerate(messages)))
    assert len(manager) == 0


def test_message_that_is_not_used_is_checked_as_well(manager):
    """The key is exclusive, and that one's message is the one that counts."""
    with pytest.raises(TypeError, match="int"):
        manager.acquire(exclusive={"a": "WRITING"}, shared={"a": 5})
    assert len(manager) == 0


@pytest.mark.parametrize("owner", [b"me", 1.5, True, ["me"], ("VM", "1"), object()])
@pytest.mark.parametrize("call", ["acquire", "try_acquire", "lock"])
def test_owner_of_another_type_is_refused(manager, call, owner):
    with pytest.raises(TypeError, match=type(owner).__name__):
        getattr(manager, call)(exclusive=["a"], owner=owner)


def test_error_of_the_callers_own_iterable_passes_through(manager):
    def keys():
        yield "a"
        raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        manager.acquire(exclusive=keys())


def test_error_of_the_callers_own_iterable_leaves_nothing_held(manager):
    def keys():
        yield "a"
        raise LookupError("mine")

    with pytest.raises(LookupError):
        manager.acquire(exclusive=["b"], shared=keys())
    assert len(manager) == 0


def test_callers_own_iterable_may_use_the_manager(manager):
    def keys():
        yield "a"
        with manager.acquire(exclusive=["a"]):
            yield "b"

    assert manager.acquire(exclusive=keys()).exclusive == {"a", "b"}


def test_managers_are_independent(new_manager):
    first, second = new_manager(), new_manager()
    first.acquire(exclusive=["a"])
    assert second.try_acquire(exclusive=["a"]) is not None
