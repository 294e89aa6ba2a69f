"""What a key is, and which keys are the same."""

from __future__ import annotations

import enum
import uuid
from typing import NamedTuple

import pytest

from support import pickled

ONE = uuid.UUID(int=1)

DIFFERENT_KEYS = [
    0, 1, -1, 255, 256, 2**63, -(2**63), 2**64, 2**64 + 1, 2**200, -(2**200),
    "", "0", "1", "-1", "VM1", "vm1", "1VM", "a", "a\0", "\0a", "\0", "a" * 1000, "a" * 1001,
    "\xe9", "e\u0301", "\u4e00", "\U0001f600", "\ud800", "\udcff",
    b"", b"0", b"1", b"a", b"a\0", b"\0", b"\xe9", "\xe9".encode(), b"a" * 1000, b"\x00\x01",
    ONE, uuid.UUID(int=2), uuid.UUID(int=2**127), str(ONE), ONE.hex, ONE.bytes,
    ("VM", "1"), ("VM1", ""), ("V", "M1"), ("", "VM1"), ("VM", 1), ("VM", b"1"), ("vm", "1"),
    ("VM", ONE), ("VM", str(ONE)), ("VM", ""), ("", ""), ("", 1), ("", b""), ("1", "VM"),
    ("V\xe9", "1"), ("V\u4e00", "1"), ("g" * 1000, "1"), ("VM", "1" * 1000), ("VM", 2**200),
]  # fmt: skip


class Group(enum.StrEnum):
    VM = "VM"


class Number(enum.IntEnum):
    SEVEN = 7


class Text(str):
    """A subclass that resists being compared, hashed and shown."""

    __slots__ = ()

    def __eq__(self, other):
        raise AssertionError("compared")

    def __hash__(self):
        raise AssertionError("hashed")

    def __str__(self):
        raise AssertionError("shown")

    __repr__ = __str__


class Raw(bytes):
    __slots__ = ()
    __eq__, __hash__, __str__, __repr__ = Text.__eq__, Text.__hash__, Text.__str__, Text.__str__


class Count(int):
    __slots__ = ()
    __eq__, __hash__, __str__, __repr__ = Text.__eq__, Text.__hash__, Text.__str__, Text.__str__
    __int__ = __index__ = Text.__str__


class Id(uuid.UUID):
    __slots__ = ()
    __eq__, __hash__, __str__, __repr__ = Text.__eq__, Text.__hash__, Text.__str__, Text.__str__


class Pair(tuple):
    __slots__ = ()
    __eq__, __hash__, __str__, __repr__ = Text.__eq__, Text.__hash__, Text.__str__, Text.__str__


class Entity(NamedTuple):
    kind: str
    id: int


SUBCLASSED_KEYS = [
    (Text("a"), "a"),
    (Raw(b"a"), b"a"),
    (Count(5), 5),
    (Count(2**70), 2**70),
    (Id(int=1), ONE),
    (Group.VM, "VM"),
    (Number.SEVEN, 7),
    ((Group.VM, Number.SEVEN), ("VM", 7)),
    ((Text("g"), Raw(b"x")), ("g", b"x")),
    (Pair(("VM", "1")), ("VM", "1")),
    (Entity("VM", 1), ("VM", 1)),
]

BAD_KEYS = [
    (True, "bool"),
    (False, "bool"),
    (None, "NoneType"),
    (1.0, "float"),
    (1j, "complex"),
    ([], "list"),
    (["VM", "1"], "list"),
    (frozenset(), "frozenset"),
    (bytearray(b"a"), "bytearray"),
    (memoryview(b"a"), "memoryview"),
    (object(), "object"),
    (str, "type"),
    ((), "tuple"),
    (("VM",), "tuple"),
    (("VM", "1", "2"), "tuple"),
    ((1, "VM"), "int"),
    ((b"VM", "1"), "bytes"),
    ((None, "1"), "NoneType"),
    (("VM", None), "NoneType"),
    (("VM", True), "bool"),
    (("VM", 1.0), "float"),
    (("VM", ("a", "b")), "tuple"),
]


def test_different_keys_never_conflict(manager):
    grants = [manager.try_acquire(exclusive=[key]) for key in DIFFERENT_KEYS]
    assert [key for key, grant in zip(DIFFERENT_KEYS, grants, strict=True) if grant is None] == []


def test_different_keys_are_counted_apart(manager):
    manager.acquire(exclusive=DIFFERENT_KEYS)
    assert len(manager) == len(DIFFERENT_KEYS)


@pytest.mark.parametrize("key", DIFFERENT_KEYS, ids=lambda key: repr(key)[:30])
def test_equal_keys_conflict(manager, key):
    manager.acquire(exclusive=[key])
    assert manager.try_acquire(shared=[pickled(key)]) is None


@pytest.mark.parametrize("key", DIFFERENT_KEYS, ids=lambda key: repr(key)[:30])
def test_key_comes_back_as_it_went_in(manager, key):
    manager.acquire(shared=[key])
    assert [(row.key, type(row.key)) for row in manager.snapshot()] == [(key, type(key))]


@pytest.mark.parametrize(("key", "base"), SUBCLASSED_KEYS, ids=lambda key: type(key).__name__)
def test_subclassed_key_counts_as_its_base_value(manager, key, base):
    manager.acquire(exclusive=[key])
    assert manager.try_acquire(exclusive=[base]) is None


@pytest.mark.parametrize(("key", "base"), SUBCLASSED_KEYS, ids=lambda key: type(key).__name__)
def test_subclassed_key_finds_its_base_value(manager, key, base):
    manager.acquire(exclusive=[base])
    assert key in manager


@pytest.mark.parametrize(("key", "base"), SUBCLASSED_KEYS, ids=lambda key: type(key).__name__)
def test_subclassed_key_comes_back_as_its_base_value(manager, key, base):
    [kept] = manager.acquire(exclusive=[key]).exclusive
    parts = zip(kept, base, strict=True) if isinstance(base, tuple) else [(kept, base)]
    assert kept == base
    assert all(type(part) is type(plain) for part, plain in parts)


@pytest.mark.parametrize("mode", ["exclusive", "shared"])
@pytest.mark.parametrize(("key", "kind"), BAD_KEYS, ids=lambda key: repr(key)[:30])
def test_bad_key_is_refused_by_the_name_of_its_type(manager, mode, key, kind):
    with pytest.raises(TypeError, match=rf"\b{kind}\b"):
        manager.acquire(**{mode: [key]})


@pytest.mark.parametrize("call", ["acquire", "try_acquire", "lock"])
def test_bad_key_is_refused_by_every_verb(manager, call):
    with pytest.raises(TypeError, match=r"\bfloat\b"):
        getattr(manager, call)(shared=["good", 1.5])


@pytest.mark.parametrize("call", ["holders", "waiters", "force_release", "__contains__"])
@pytest.mark.parametrize(("key", "kind"), BAD_KEYS, ids=lambda key: repr(key)[:30])
def test_bad_key_is_refused_by_every_question(manager, call, key, kind):
    with pytest.raises(TypeError, match=rf"\b{kind}\b"):
        getattr(manager, call)(key)


def test_bad_key_is_refused_before_anything_is_touched(manager):
    with pytest.raises(TypeError):
        manager.acquire(exclusive=["a", "b", 1.5], shared=["c"])
    assert manager.snapshot() == []


def test_bad_key_beside_a_held_one_is_refused_first(manager):
    manager.acquire(exclusive=["a"])
    with pytest.raises(TypeError):
        manager.acquire(exclusive=["a", 1.5], timeout=0)
