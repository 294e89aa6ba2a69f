"""Modes, messages, rows, and the order of keys."""

from __future__ import annotations

import copy
import pickle
import random
import uuid
from dataclasses import FrozenInstanceError

import pytest

from lockcore._types import (
    Holder,
    Message,
    Mode,
    Request,
    Statistics,
    Waiter,
    blocker_order,
    key_order,
)

HOLDER = Holder(("VM", "42"), Mode.SHARED, "me", None, 7, 1.5)
WAITER = Waiter("vm-1", Mode.EXCLUSIVE, None, Message("BUSY", n=1), 0.25)
REQUEST = Request(frozenset({"a"}), frozenset({("VM", 1)}), "me", "BUSY")
STATISTICS = Statistics(1, 2, 3, 4, 5, ((0.001, 3), (float("inf"), 0)))


def test_mode_is_its_word():
    assert (str(Mode.SHARED), str(Mode.EXCLUSIVE)) == ("shared", "exclusive")


@pytest.mark.parametrize(
    "value", [HOLDER, WAITER, REQUEST, STATISTICS], ids=lambda v: type(v).__name__
)
@pytest.mark.parametrize(
    "carry", [copy.copy, copy.deepcopy, lambda v: pickle.loads(pickle.dumps(v))]
)
def test_row_survives_copying_and_pickling(value, carry):
    assert carry(value) == value


@pytest.mark.parametrize(
    "value", [HOLDER, WAITER, REQUEST, STATISTICS], ids=lambda v: type(v).__name__
)
def test_row_cannot_be_changed(value):
    with pytest.raises(FrozenInstanceError):
        setattr(value, type(value).__slots__[0], None)


def test_mode_of_tells_how_a_request_wants_a_key():
    assert (REQUEST.mode_of("a"), REQUEST.mode_of(("VM", 1))) == (Mode.EXCLUSIVE, Mode.SHARED)


def test_mode_of_refuses_a_key_that_is_not_wanted():
    with pytest.raises(KeyError):
        REQUEST.mode_of("b")


def test_key_order_sorts_every_kind_of_key():
    first, second = uuid.UUID(int=1), uuid.UUID(int=2)
    in_order = [
        -1, 1, "", "1", "a", b"", b"a", first, second,
        ("", 1), ("", "1"), ("A", 5), ("A", "5"), ("A", b"5"), ("A", first), ("B", 0),
    ]  # fmt: skip
    shuffled = random.Random(1).sample(in_order, len(in_order))
    assert sorted(shuffled, key=key_order) == in_order


def test_key_order_refuses_what_is_no_key():
    with pytest.raises(TypeError, match=r"^not a key: 1\.5$"):
        key_order(1.5)


def test_blockers_sort_by_key_then_holders_then_age():
    in_order = [
        Holder("a", Mode.SHARED, "x", None, 2, 1.0),
        Holder("a", Mode.SHARED, "y", None, 9, 5.0),
        Waiter("a", Mode.EXCLUSIVE, "z", None, 3.0),
        Waiter("a", Mode.EXCLUSIVE, "w", None, 2.0),
        Holder("b", Mode.SHARED, "x", None, 1, 9.0),
    ]
    assert sorted(in_order[::-1], key=blocker_order) == in_order


def test_message_keeps_code_and_variables():
    message = Message("BUSY", VmName="web", code="inner", self=1)
    assert (message.code, dict(message.variables)) == (
        "BUSY",
        {"VmName": "web", "code": "inner", "self": 1},
    )


def test_messages_are_equal_by_code_and_variables():
    assert Message("BUSY", a=1, b=2) == Message("BUSY", b=2, a=1)


@pytest.mark.parametrize(
    "other", [Message("BUSY"), Message("IDLE", a=1), Message("BUSY", a=2), "BUSY"]
)
def test_messages_differ_by_code_or_variables(other):
    assert Message("BUSY", a=1) != other


def test_equal_messages_have_equal_hashes():
    assert len({Message("BUSY", a=1, b=2), Message("BUSY", b=2, a=1)}) == 1


@pytest.mark.parametrize("name", ["code", "variables", "anything"])
def test_message_cannot_be_changed(name):
    with pytest.raises(AttributeError, match=f"^cannot set '{name}': a message is immutable$"):
        setattr(Message("BUSY", a=1), name, "x")


def test_message_cannot_lose_an_attribute():
    with pytest.raises(AttributeError, match=r"^cannot delete 'code': a message is immutable$"):
        del Message("BUSY").code


def test_variables_of_a_message_cannot_be_changed():
    with pytest.raises(TypeError):
        Message("BUSY", a=1).variables["a"] = 2


@pytest.mark.parametrize(
    "carry", [copy.copy, copy.deepcopy, lambda v: pickle.loads(pickle.dumps(v))]
)
def test_message_survives_copying_and_pickling(carry):
    message = Message("BUSY", code="x", n=3, id=uuid.UUID(int=5))
    assert carry(message) == message


def test_message_reads_as_source_code():
    assert repr(Message("BUSY", VmName="web", n=3)) == "Message('BUSY', VmName='web', n=3)"


def test_message_text_names_its_variables():
    assert str(Message("BUSY", VmName="web", n=3)) == "BUSY (VmName: web, n: 3)"


def test_message_text_without_variables_is_its_code():
    assert str(Message("BUSY")) == "BUSY"


def test_message_refuses_a_code_that_is_not_text():
    with pytest.raises(TypeError, match=r"^the code of a message must be str, not int$"):
        Message(5)


def test_message_refuses_a_variable_that_cannot_be_hashed():
    with pytest.raises(
        TypeError, match=r"^variable 'disks' of message 'BUSY' must be hashable, not list$"
    ):
        Message("BUSY", disks=[1, 2])
