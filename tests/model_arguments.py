"""What callers of the model may pass: keys, owners, messages and limits, checked and made plain."""

from __future__ import annotations

import math
import uuid
from collections.abc import Iterable, Mapping
from typing import Any

from lockcore import Key, Keys, Message, Owner, Request


def base_id(value: object, what: str) -> Any:
    """The plain value of an id or owner, of exactly one of the base types."""
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, bytes):
        return bytes.__getitem__(value, slice(None))
    if isinstance(value, int) and not isinstance(value, bool):
        return int.__int__(value)
    if isinstance(value, uuid.UUID):
        return uuid.UUID(int=uuid.UUID.int.__get__(value))
    raise TypeError(f"{what} must be str, bytes, int or uuid.UUID, not {type(value).__name__}")


def base_key(key: object) -> Key:
    """The plain value of a key."""
    if not isinstance(key, tuple):
        return base_id(key, "a key")
    parts = tuple(tuple.__iter__(key))
    if len(parts) != 2:
        raise TypeError(f"a key that is a tuple must be (group, id), not of length {len(parts)}")
    if not isinstance(parts[0], str):
        raise TypeError(f"the group of a key must be str, not {type(parts[0]).__name__}")
    return str.__str__(parts[0]), base_id(parts[1], "the id of a key")


def base_owner(owner: object) -> Owner | None:
    """The plain value of an owner."""
    if owner is None:
        return None
    if isinstance(owner, bytes):
        raise TypeError("an owner must be str, int or uuid.UUID, not bytes")
    return base_id(owner, "an owner")


def checked_message(message: object) -> str | Message | None:
    if message is None or isinstance(message, str | Message):
        return message
    raise TypeError(f"a message must be str, Message or None, not {type(message).__name__}")


def checked_timeout(timeout: object) -> float:
    """Seconds that a request may wait; for ever is infinity."""
    if timeout is None:
        return math.inf
    if isinstance(timeout, bool) or not isinstance(timeout, int | float):
        kind = type(timeout).__name__
        raise TypeError(f"timeout must be a number of seconds or None, not {kind}")
    if math.isnan(timeout):
        raise ValueError("timeout must be a number of seconds, not NaN")
    if timeout < 0:
        raise ValueError(f"timeout must not be negative: {timeout!r}")
    return float(timeout)


def checked_keys(name: str, keys: object, default: str | Message | None) -> dict[Key, Any]:
    """The keys of one mode with the message of each."""
    if isinstance(keys, str | bytes | bytearray | memoryview):
        raise TypeError(
            f"{name} must be a collection of keys, not {type(keys).__name__}; "
            f"write {name}=[key] for one key"
        )
    if isinstance(keys, tuple) and tuple.__len__(keys) > 0:
        raise TypeError(
            f"{name} must not be a tuple, which could be one key (group, id) or several; "
            f"write {name}=[key] or {name}=[key, key]"
        )
    if isinstance(keys, Mapping):
        pairs = [(base_key(key), checked_message(keys[key])) for key in keys]
        return {key: default if message is None else message for key, message in pairs}
    if not isinstance(keys, Iterable):
        raise TypeError(f"{name} must be a collection of keys, not {type(keys).__name__}")
    return {base_key(key): default for key in keys}


class Prepared:
    """A request as its caller put it, checked and made plain."""

    def __init__(self, *, exclusive: Keys, shared: Keys, owner: object, message: object) -> None:
        default = checked_message(message)
        exclusive_messages = checked_keys("exclusive", exclusive, default)
        shared_messages = checked_keys("shared", shared, default)
        # The same key in both: exclusive wins.
        self.messages = {**shared_messages, **exclusive_messages}
        self.request = Request(
            exclusive=frozenset(exclusive_messages),
            shared=frozenset(shared_messages) - frozenset(exclusive_messages),
            owner=base_owner(owner),
            message=default,
        )


def named(owner: object) -> Owner:
    """The plain value of an owner that has a name."""
    plain = base_owner(owner)
    if plain is None:
        raise TypeError("an owner must be str, int or uuid.UUID, not NoneType")
    return plain
