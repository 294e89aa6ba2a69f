"""Keys and messages that change while a request is built from them: none is lost or mixed up.

They may be changed by another thread, by code that runs when a message or a key is looked at, or by
a finaliser. A request is of the keys as they were at one moment, each with its own message, or it
is refused.
"""

from __future__ import annotations

import gc
import sys
import threading
import types
import uuid
from collections.abc import Mapping

import pytest

from lockcore import Message


class Sly:
    """Claims to be a str, and acts when somebody asks."""

    def __init__(self, act):
        self.act = act

    @property
    def __class__(self):
        self.act()
        return str


def messages_at(manager):
    return {row.key: row.message for row in manager.snapshot()}


@pytest.fixture
def changing():
    """Keys and messages, and what happens to them while a message is checked."""

    def change():
        keys.pop("c", None)
        keys.pop("a", None)
        keys.update({"d": "of d", "e": "of e"})

    sly = Sly(change)
    keys = {"a": "of a", "b": sly, "c": "of c"}
    return keys


@pytest.mark.parametrize("mode", ["exclusive", "shared"])
@pytest.mark.parametrize("wrap", [lambda keys: keys, types.MappingProxyType], ids=["dict", "other"])
def test_mapping_that_changes_while_its_messages_are_checked(lock_manager, changing, mode, wrap):
    sly = changing["b"]
    lock_manager.acquire(**{mode: wrap(changing)})
    assert messages_at(lock_manager) == {"a": "of a", "b": sly, "c": "of c"}


def test_list_that_changes_while_messages_of_other_keys_are_checked(lock_manager):
    keys = ["a", "b"]
    sly = Sly(lambda: keys.insert(0, "x"))
    lock_manager.acquire(exclusive=keys, shared={"c": sly, "d": "of d"}, message="of others")
    assert messages_at(lock_manager) == {
        "a": "of others",
        "b": "of others",
        "c": sly,
        "d": "of d",
    }


def test_list_that_is_emptied_while_messages_of_other_keys_are_checked(lock_manager):
    keys = ["a", "b"]
    grant = lock_manager.acquire(exclusive={"c": Sly(keys.clear)}, shared=keys)
    assert (grant.exclusive, grant.shared) in [({"c"}, {"a", "b"}), ({"c"}, set())]


class Folded(str):
    """A text that says it equals the same in another case."""

    __slots__ = ()

    def __eq__(self, other):
        return self.lower() == other.lower()

    def __hash__(self):
        return hash(self.lower())


class Unhashable(str):
    __slots__ = ()
    __hash__ = None


class Pairs(Mapping):
    """A mapping that finds keys by identity."""

    def __init__(self, *pairs):
        self.pairs = pairs

    def __getitem__(self, wanted):
        for key, value in self.pairs:
            if key is wanted:
                return value
        raise KeyError(wanted)

    def __iter__(self):
        return (key for key, _ in self.pairs)

    def __len__(self):
        return len(self.pairs)


def test_keys_of_a_mapping_differ_by_their_base_value(lock_manager):
    keys = Pairs((Folded("a"), "small"), (Folded("A"), "large"), (Unhashable("b"), "b"))
    lock_manager.acquire(exclusive=keys)
    assert messages_at(lock_manager) == {"a": "small", "A": "large", "b": "b"}


def test_mapping_that_loses_a_key_while_it_is_read_is_refused(lock_manager):
    class Losing(Pairs):
        def __iter__(self):
            return iter(["gone"])

    with pytest.raises(RuntimeError, match=r"^the keys changed while they were read$"):
        lock_manager.acquire(exclusive=Losing())
    assert len(lock_manager) == 0


def test_owner_that_acts_when_it_is_looked_at(lock_manager):
    class Owner(uuid.UUID):
        def __getattribute__(self, name):
            keys.clear()
            others.extend(f"other {index} {'y' * 50}" for index in range(8))
            return super().__getattribute__(name)

    whole = {f"key {index} {'x' * 50}" for index in range(8)}
    others = []
    keys = [f"key {index} {'x' * 50}" for index in range(8)]
    grant = lock_manager.acquire(exclusive=keys, owner=Owner(int=1))
    assert grant.exclusive == whole


@pytest.mark.parametrize("kind", [dict, list, set])
def test_keys_that_another_thread_changes(lock_manager, background, kind):
    """Only sets of keys that there were; and each key with its own message."""
    stop = threading.Event()
    messages = {number: Message("OF", number=number) for number in range(40)}
    low, high = range(20), range(20, 40)
    keys = kind({number: messages[number] for number in low})

    def change():
        while not stop.is_set():
            for some in (high, low):
                fresh = kind({number: messages[number] for number in some})
                if kind is list:
                    keys[:] = fresh
                else:
                    keys.clear()
                    keys.update(fresh)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    changer = background(change)
    seen = set()
    try:
        for _ in range(300):
            try:
                grant = lock_manager.acquire(exclusive=keys, shared=["x"])
            except RuntimeError as error:
                assert "changed" in str(error)  # noqa: PT017 - it may also not be raised
                continue
            held = grant.exclusive
            seen.add(held)
            if kind is dict:
                rows = [row for row in lock_manager.snapshot() if row.key != "x"]
                assert all(row.message is messages[row.key] for row in rows)
            grant.release()
    finally:
        stop.set()
        sys.setswitchinterval(interval)
        changer.result()
    assert seen <= {frozenset(low), frozenset(high), frozenset()}


def test_finaliser_that_empties_the_list_of_keys(lock_manager):
    """Whenever the garbage collector runs, and whatever the kinds of the keys."""

    class Litter:
        def __init__(self):
            self.itself = self

        def __del__(self):
            keys.clear()
            litter.append([f"other {index} \u20ac {'y' * 50}" for index in range(8)])

    def keys_of(number):
        texts = [f"key {number} {index} \u20ac {'x' * 50}" for index in range(8)]
        return [*texts, uuid.UUID(int=number << 64 | number), 1 << 200 | number, number]

    threshold = gc.get_threshold()
    gc.disable()
    gc.freeze()  # so that to collect takes no time
    seen = set()
    try:
        for number in range(100):
            litter = []
            keys = keys_of(number)
            # None of these is left over to be used again: each is to be allocated.
            hoard = [(index,) for index in range(3000)]
            gc.collect()
            Litter()
            gc.set_threshold(1 + number // 5)
            gc.enable()
            grant = lock_manager.acquire(exclusive=keys, shared=["s"])
            gc.disable()
            seen.add((len(grant.exclusive), grant.exclusive <= set(keys_of(number))))
            grant.release()
            hoard.clear()
    finally:
        gc.set_threshold(*threshold)
        gc.unfreeze()
        gc.enable()
    assert seen == {(0, True), (11, True)}


def test_key_that_would_empty_its_list_when_asked_for_its_class_is_not_asked(lock_manager):
    """The list has the only reference to it."""

    class Key:
        @property
        def __class__(self):
            keys.clear()
            return uuid.UUID

    keys = ["a"]
    keys.append(Key())
    with pytest.raises(TypeError, match=r"uuid\.UUID, not Key"):
        lock_manager.try_acquire(exclusive=keys)
    assert len(keys) == 2
