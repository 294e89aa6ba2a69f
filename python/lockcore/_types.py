"""The plain values of lockcore: modes, messages, rows of the table, types of keys and owners."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Final, NoReturn, TypeAlias

__all__ = [
    "Holder",
    "Key",
    "KeyId",
    "Keys",
    "Message",
    "Mode",
    "Owner",
    "Request",
    "Statistics",
    "Waiter",
    "blocker_order",
    "key_order",
]

KeyId: TypeAlias = str | bytes | int | uuid.UUID
"""What identifies an entity. `1`, `"1"` and `b"1"` are three ids; so are a `UUID` and its text."""

Key: TypeAlias = KeyId | tuple[str, KeyId]
"""What is locked: a plain id, or `(group, id)`."""

Owner: TypeAlias = str | int | uuid.UUID
"""The party on whose behalf locks are requested. `None` makes each grant its own owner."""


class Mode(StrEnum):
    """How a key is held: shared with other shared holders (a reader), or exclusive (a writer)."""

    SHARED = "shared"
    EXCLUSIVE = "exclusive"


class Message:
    """A code with the variables of its sentence, attached to a lock by the one who takes it.

    Immutable, hashable, comparable and picklable. The variables are any hashable values; they
    become text only when somebody reads the sentence, so attaching a message costs no formatting.

    Args:
        code: The name of the sentence in a `MessageCatalog`.
        **variables: What `${name}` in the sentence stands for.

    Raises:
        TypeError: The code is not a `str`, or a variable is not hashable.
    """

    __slots__ = ("_hash", "code", "variables")

    code: str
    variables: Mapping[str, Any]
    _hash: int

    def __init__(self, code: str, /, **variables: Any) -> None:
        if not isinstance(code, str):
            raise TypeError(f"the code of a message must be str, not {type(code).__name__}")
        for name, value in variables.items():
            try:
                hash(value)
            except TypeError:
                kind = type(value).__name__
                raise TypeError(
                    f"variable {name!r} of message {code!r} must be hashable, not {kind}"
                ) from None
        set_slot = object.__setattr__
        set_slot(self, "code", code)
        set_slot(self, "variables", MappingProxyType(variables))
        set_slot(self, "_hash", hash((code, frozenset(variables.items()))))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Message):
            return NotImplemented
        return self.code == other.code and self.variables == other.variables

    def __hash__(self) -> int:
        return self._hash

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"cannot set {name!r}: a message is immutable")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"cannot delete {name!r}: a message is immutable")

    def __reduce__(self) -> tuple[Callable[..., Message], tuple[Any, ...]]:
        # The stored hash is not carried along: text hashes differ from process to process.
        return _rebuild_message, (type(self), self.code, dict(self.variables))

    def __repr__(self) -> str:
        variables = "".join(f", {name}={value!r}" for name, value in self.variables.items())
        return f"{type(self).__name__}({self.code!r}{variables})"

    def __str__(self) -> str:
        if not self.variables:
            return self.code
        variables = ", ".join(f"{name}: {value}" for name, value in self.variables.items())
        return f"{self.code} ({variables})"


def _rebuild_message(cls: type[Message], code: str, variables: dict[str, Any]) -> Message:
    return cls(code, **variables)


Keys: TypeAlias = Iterable[Key] | Mapping[Key, str | Message | None]
"""The keys of one mode of a request: an iterable, or a mapping of key to message."""


@dataclass(frozen=True, slots=True)
class Holder:
    """An owner that holds a key.

    Attributes:
        key: What is held.
        mode: How it is held.
        owner: Who holds it; None if the grant is its own owner.
        message: What the holder attached to this key, None if nothing.
        token: The token of the grant.
        held_for: Seconds since the grant.
    """

    key: Key
    mode: Mode
    owner: Owner | None
    message: str | Message | None
    token: int
    held_for: float


@dataclass(frozen=True, slots=True)
class Waiter:
    """A request that is queued at a key.

    Attributes:
        key: What is wanted.
        mode: How it is wanted.
        owner: Who wants it; None if the grant will be its own owner.
        message: What the request attaches to this key, None if nothing.
        waited_for: Seconds since the request arrived.
    """

    key: Key
    mode: Mode
    owner: Owner | None
    message: str | Message | None
    waited_for: float


@dataclass(frozen=True, slots=True)
class Request:
    """The keys and modes wanted together, all or nothing.

    Attributes:
        exclusive: The keys wanted exclusive.
        shared: The keys wanted shared; a key wanted both ways is in `exclusive` only.
        owner: On whose behalf; None if the grant is its own owner.
        message: The message for keys that have none of their own.
    """

    exclusive: frozenset[Key]
    shared: frozenset[Key]
    owner: Owner | None = None
    message: str | Message | None = None

    def mode_of(self, key: Key) -> Mode:
        """How this request wants a key.

        Raises:
            KeyError: The request does not want the key.
        """
        if key in self.exclusive:
            return Mode.EXCLUSIVE
        if key in self.shared:
            return Mode.SHARED
        raise KeyError(key)


@dataclass(frozen=True, slots=True)
class Statistics:
    """What a manager has counted since it was made.

    Attributes:
        acquired: Grants.
        refused: Requests turned away because they might not wait.
        waits: Requests that had to queue.
        timeouts: Requests that waited too long.
        deadlocks: Requests turned away because they would have waited for ever.
        wait_histogram: Pairs of an upper bound in seconds and the number of waits that ended
            within it and above the bound before it; the last bound is infinite.
    """

    acquired: int
    refused: int
    waits: int
    timeouts: int
    deadlocks: int
    wait_histogram: tuple[tuple[float, int], ...]


_KIND_ORDER: Final = {int: 0, str: 1, bytes: 2, uuid.UUID: 3}


def key_order(key: Key) -> tuple[bool, str, int, Any]:
    """A sort key that puts any keys in one order: plain ids first, then by group, kind and id."""
    is_grouped = isinstance(key, tuple)
    group, key_id = key if isinstance(key, tuple) else ("", key)
    for kind, rank in _KIND_ORDER.items():
        if isinstance(key_id, kind):
            return is_grouped, group, rank, key_id
    raise TypeError(f"not a key: {key!r}")


def blocker_order(blocker: Holder | Waiter) -> tuple[object, ...]:
    """A sort key for blockers: by key, holders before waiters, each from the oldest on."""
    if isinstance(blocker, Holder):
        return *key_order(blocker.key), 0, blocker.token
    return *key_order(blocker.key), 1, -blocker.waited_for
