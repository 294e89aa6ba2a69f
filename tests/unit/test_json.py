"""What an HTTP API returns of a refusal: whatever was locked, any encoder of JSON takes it."""

from __future__ import annotations

import json
import math
import uuid
from typing import Any

import pytest

from lockcore import LockConflictError, LockManager, Message
from lockcore._errors import LockTimeoutError
from lockcore._types import Key

UUID = uuid.UUID(int=7)
HUGE = 2**20_000  # more digits than Python makes text of

KEYS: list[tuple[Key, Any]] = [
    ("web", "web"),
    ("", ""),
    (b"\x00\xff", "00ff"),
    (7, 7),
    (-(2**70), -(2**70)),
    (HUGE, hex(HUGE)),
    (UUID, "00000000-0000-0000-0000-000000000007"),
    (("VM", "42"), ["VM", "42"]),
    (("VM", b"\x01"), ["VM", "01"]),
    (("VM", 42), ["VM", 42]),
    (("VM", HUGE), ["VM", hex(HUGE)]),
    (("VM", UUID), ["VM", "00000000-0000-0000-0000-000000000007"]),
    (("VM", "größer 🔒"), ["VM", "größer 🔒"]),
    ("file \udcff", "file \\udcff"),  # a name that is no UTF-8, as `os.fsdecode` gives it
    (("\udcff", "a"), ["\\udcff", "a"]),
]


def kind(value: Any) -> str:
    """Names a case. Pytest would make text of the number."""
    return type(value).__name__


def strictly(value: Any) -> Any:
    """There and back as strictly as web frameworks do it: as UTF-8, without NaN."""
    return json.loads(json.dumps(value, allow_nan=False, ensure_ascii=False).encode())


def refused(**request: Any) -> LockConflictError:
    with LockManager() as manager:
        manager.acquire(**request)
        with pytest.raises(LockConflictError) as caught:
            manager.acquire(exclusive=request["exclusive"], owner="other", timeout=0)
    return caught.value


@pytest.mark.parametrize(("key", "as_json"), KEYS, ids=kind)
def test_key_of_every_kind_is_fit_for_json(key: Key, as_json: Any) -> None:
    row = strictly(refused(exclusive=[key], owner="holder").to_dict())
    assert row["request"]["exclusive"] == [as_json]
    assert [blocker["key"] for blocker in row["blockers"]] == [as_json]


@pytest.mark.parametrize("key", [key for key, _ in KEYS], ids=kind)
def test_key_of_every_kind_reads_as_text(key: Key) -> None:
    error = refused(exclusive=[key], owner="holder")
    assert "held exclusive by holder for" in str(error)
    assert str(error).encode()
    (sentence,) = error.explain()
    assert sentence.startswith("cannot acquire")


@pytest.mark.parametrize("owner", [None, "a", 7, HUGE, UUID, "\udcff"], ids=kind)
def test_owner_of_every_kind_is_fit_for_json_and_text(owner: Any) -> None:
    error = refused(exclusive=["web"], owner=owner)
    (blocker,) = strictly(error.to_dict())["blockers"]
    assert blocker["owner"] == {HUGE: hex(HUGE), UUID: str(UUID), "\udcff": "\\udcff"}.get(
        owner, owner
    )
    assert "held exclusive by" in str(error)


@pytest.mark.parametrize(
    ("value", "as_json"),
    [
        (1.5, 1.5),
        (True, True),
        (None, None),
        (math.nan, "nan"),
        (math.inf, "inf"),
        (b"\xff", "ff"),
        (UUID, str(UUID)),
        ((1, 2), "(1, 2)"),
        ("\udcff", "\\udcff"),
    ],
    ids=kind,
)
def test_message_variable_of_every_kind_is_fit_for_json(value: Any, as_json: Any) -> None:
    error = refused(exclusive={"web": Message("CODE", what=value)})
    (blocker,) = strictly(error.to_dict())["blockers"]
    assert blocker["message"] == {"code": "CODE", "variables": {"what": as_json}}


def test_keys_of_the_object_are_the_documented_ones() -> None:
    with LockManager() as manager:
        grant = manager.acquire(shared=["web"], owner="reader")
        manager._attempt(exclusive=["web"], owner="writer")._queue(lambda: True)
        with pytest.raises(LockTimeoutError) as caught:
            manager.acquire(exclusive=["web"], owner="other", timeout=0.001)
        grant.release()
    row = caught.value.to_dict()
    assert list(row) == ["request", "blockers", "timeout"]
    assert list(row["request"]) == ["exclusive", "shared", "owner", "message"]
    holder, waiter = row["blockers"]
    assert list(holder) == ["key", "mode", "owner", "message", "token", "held_for"]
    assert list(waiter) == ["key", "mode", "owner", "message", "waited_for"]
