"""The errors of lockcore.

They keep data in attributes and make text in `__str__` only, so that refusing a request formats
nothing. All of them survive pickling and copying with their attributes.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

from lockcore._messages import (
    MessageCatalog,
    describe_holder,
    describe_key,
    describe_owner,
    describe_request,
    is_short,
)
from lockcore._types import Holder, Key, Message, Request, Waiter, blocker_order, key_order

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = [
    "DeadlockError",
    "LockConflictError",
    "LockError",
    "LockTimeoutError",
    "ManagerClosedError",
    "NotHeldError",
]

_MAX_LINES: Final = 10
"""So many blockers are named in a text; a request of thousands of keys may have thousands."""


class LockError(Exception):
    """The base of all errors of lockcore."""

    def __reduce__(self) -> tuple[Callable[..., LockError], tuple[Any, ...], dict[str, Any]]:
        # Said once for all: `OSError`, a base of one of these, has ideas of its own about `args`.
        return type(self), self.args, self.__dict__


class LockConflictError(LockError):
    """A request was turned away because others hold its keys, or wanted them earlier.

    Nothing is held by the request and nobody is queued for it when this is raised.

    Args:
        request: What was wanted.
        blockers: Who is in the way, in any order.

    Attributes:
        request: What was wanted.
        blockers: Every holder and earlier waiter that conflicts, sorted by key; at a key holders
            come before waiters, and older ones before younger ones.
    """

    request: Request
    blockers: tuple[Holder | Waiter, ...]

    def __init__(self, request: Request, blockers: Iterable[Holder | Waiter] = ()) -> None:
        self.request = request
        self.blockers = tuple(sorted(blockers, key=blocker_order))
        self.args = (request, self.blockers)

    @property
    def messages(self) -> tuple[str | Message, ...]:
        """The distinct messages that the blockers attached, in the order of the blockers."""
        found = dict.fromkeys(blocker.message for blocker in self.blockers)
        return tuple(message for message in found if message is not None)

    def explain(
        self, catalog: MessageCatalog | None = None, /, locale: str | None = None, **variables: Any
    ) -> list[str]:
        """Says why in sentences, one for each reason, in the order of the blockers.

        A blocker's message becomes its sentence in the catalogue, with the variables of that
        message first and then `variables`; the variables of two messages never mix. A blocker
        without a message, or with one that the catalogue does not know, is described by key, mode,
        holder and age. Equal sentences appear once.

        Args:
            catalog: Where the sentences are; without one every blocker is described.
            locale: Which language; None is the catalogue's default.
            **variables: What the requester adds, such as `action="remove"` and `type="VM"`.

        Returns:
            At least one sentence, without line ends.
        """
        sentences: dict[str, None] = {}
        for blocker in self.blockers:
            sentence = _translated(blocker, catalog, locale, variables)
            if sentence is None:
                sentence = f"{self._refusal(blocker)}: {describe_holder(blocker)}"
            sentences[sentence] = None
        return list(sentences) or [str(self)]

    def to_dict(self) -> dict[str, Any]:
        """The attributes as JSON-able values: keys `(group, id)` as lists, UUIDs as text.

        Bytes are given as hexadecimal text, integers of thousands of digits too. Message variables
        that JSON does not know are given as text; so are NaN and infinity. Where text has half of a
        surrogate pair, which UTF-8 cannot say, there is its escape.
        """
        return {
            "request": _json_request(self.request),
            "blockers": [_json_blocker(blocker) for blocker in self.blockers],
        }

    def __str__(self) -> str:
        if not self.blockers:
            return f"cannot acquire {describe_request(self.request)}{self._limit()}"
        first, *others = self.blockers
        lines = [f"{self._refusal(first)}: {describe_holder(first)}"]
        lines.extend(
            f"and {self._wanted(blocker)}: {describe_holder(blocker)}"
            for blocker in others[: _MAX_LINES - 1]
        )
        if len(self.blockers) > _MAX_LINES:
            lines.append(f"and {len(self.blockers) - _MAX_LINES} more")
        lines.extend(f"detail: {message}" for message in self.messages[:_MAX_LINES])
        return "\n".join(lines)

    def _refusal(self, blocker: Holder | Waiter) -> str:
        return f"cannot acquire {self._wanted(blocker)}{self._limit()}"

    def _wanted(self, blocker: Holder | Waiter) -> str:
        return f"{describe_key(blocker.key)} {self.request.mode_of(blocker.key)}"

    def _limit(self) -> str:
        return ""


class LockTimeoutError(LockConflictError, TimeoutError):
    """A request waited as long as it might, and others were still in the way.

    Args:
        request: What was wanted.
        blockers: Who was in the way when the time was up, in any order.
        timeout: The limit in seconds.

    Attributes:
        timeout: The limit in seconds.
    """

    timeout: float

    def __init__(
        self, request: Request, blockers: Iterable[Holder | Waiter], timeout: float
    ) -> None:
        super().__init__(request, blockers)
        self.timeout = timeout
        self.args = (request, self.blockers, timeout)

    def to_dict(self) -> dict[str, Any]:
        """The attributes as JSON-able values, `timeout` in seconds among them."""
        return {**super().to_dict(), "timeout": self.timeout}

    def _limit(self) -> str:
        return f" within {self.timeout:g} s"


class DeadlockError(LockError):
    """A request was turned away because it would have waited for itself, through others.

    Nothing is held by the request and nobody is queued for it when this is raised. What its owner
    held before is still held.

    Args:
        request: What was wanted.
        cycle: Who waits for whom, beginning with the request.

    Attributes:
        request: What was wanted.
        cycle: Pairs of a waiter and the holder or earlier waiter that blocks it at the same key.
            The blocker of each pair is the owner that waits in the next one; the last pair's is
            the first one's waiter.
    """

    request: Request
    cycle: tuple[tuple[Waiter, Holder | Waiter], ...]

    def __init__(self, request: Request, cycle: Iterable[tuple[Waiter, Holder | Waiter]]) -> None:
        self.request = request
        self.cycle = tuple(cycle)
        self.args = (request, self.cycle)

    @property
    def blockers(self) -> tuple[Holder | Waiter, ...]:
        """Who is in the way of the request itself: the first of the cycle."""
        return tuple(blocker for _, blocker in self.cycle[:1])

    def explain(
        self, catalog: MessageCatalog | None = None, /, locale: str | None = None, **variables: Any
    ) -> list[str]:
        """Says why in sentences, one for each step of the cycle, beginning with the request.

        Arguments and sentences are those of `LockConflictError.explain`. A step that the catalogue
        has no sentence for says who waits for what.
        """
        sentences: dict[str, None] = {}
        for waiter, blocker in self.cycle:
            sentence = _translated(blocker, catalog, locale, variables)
            if sentence is None and not sentences:
                what = f"{describe_key(waiter.key)} {waiter.mode}"
                sentence = f"cannot acquire {what}, it would wait for ever"
                sentence = f"{sentence}: {describe_holder(blocker)}"
            sentences[sentence or _step(waiter, blocker)] = None
        return list(sentences) or [str(self)]

    def to_dict(self) -> dict[str, Any]:
        """The attributes as JSON-able values, as `LockConflictError.to_dict` gives them.

        `cycle` is a list of objects, each with a `waiter` and the `blocker` it waits for.
        """
        return {
            "request": _json_request(self.request),
            "blockers": [_json_blocker(blocker) for blocker in self.blockers],
            "cycle": [
                {"waiter": _json_blocker(waiter), "blocker": _json_blocker(blocker)}
                for waiter, blocker in self.cycle
            ],
        }

    def __str__(self) -> str:
        lines = [f"cannot acquire {describe_request(self.request)}: it would wait for ever"]
        lines.extend(f"detail: {_step(*step)}" for step in self.cycle[:_MAX_LINES])
        if len(self.cycle) > _MAX_LINES:
            lines.append(f"detail: and {len(self.cycle) - _MAX_LINES} more")
        return "\n".join(lines)


class NotHeldError(LockError, RuntimeError):
    """Something was to be released or changed that is not held, or not any more.

    Nothing was changed.

    Args:
        token: The token of the grant; None for a lock, which has none.
        action: What was to be done with it, as the name of the method.

    Attributes:
        token: The token of the grant; None for a lock, which has none.
        action: What was to be done: "release", "downgrade", "upgrade" or "transfer".
    """

    token: int | None
    action: str

    def __init__(self, token: int | None = None, action: str = "release") -> None:
        self.token = token
        self.action = action
        self.args = (token, action)

    def __str__(self) -> str:
        # A lock is shaped like a `threading.Lock`, down to the text of its errors.
        if self.token is None:
            return "release unlocked lock"
        return f"cannot {self.action} grant {self.token}: it is not held"


class ManagerClosedError(LockError, RuntimeError):
    """A request came to a closed manager, or was waiting when the manager was closed.

    Nothing is held by the request and nobody is queued for it when this is raised.

    Args:
        request: What was wanted, if known.

    Attributes:
        request: What was wanted, if known.
    """

    request: Request | None

    def __init__(self, request: Request | None = None) -> None:
        self.request = request
        self.args = (request,)

    def __str__(self) -> str:
        if self.request is None:
            return "the manager is closed"
        return f"cannot acquire {describe_request(self.request)}: the manager is closed"


def _translated(
    blocker: Holder | Waiter,
    catalog: MessageCatalog | None,
    locale: str | None,
    variables: dict[str, Any],
) -> str | None:
    """The catalogue's sentence for a blocker's message; None if there is none."""
    if catalog is None or blocker.message is None:
        return None
    return catalog.translate(blocker.message, locale, **variables)


def _step(waiter: Waiter, blocker: Holder | Waiter) -> str:
    who, what = describe_owner(waiter.owner), f"{describe_key(waiter.key)} {waiter.mode}"
    return f"{who} waits for {what}: {describe_holder(blocker)}"


def _json_request(request: Request) -> dict[str, Any]:
    return {
        "exclusive": _json_keys(request.exclusive),
        "shared": _json_keys(request.shared),
        "owner": _json_value(request.owner),
        "message": json_message(request.message),
    }


def _json_keys(keys: Iterable[Key]) -> list[Any]:
    return [_json_key(key) for key in sorted(keys, key=key_order)]


def _json_key(key: Key) -> Any:
    return [_json_value(part) for part in key] if isinstance(key, tuple) else _json_value(key)


def _json_value(value: object) -> str | int | float | bool | None:
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, int):
        return value if is_short(value) else hex(value)
    if value is None or (isinstance(value, float) and math.isfinite(value)):
        return value
    return json_text(str(value))


def json_text(text: str) -> str:
    """Text that any encoder of JSON takes."""
    return text.encode(errors="backslashreplace").decode()


def json_message(message: str | Message | None) -> Any:
    """A message as a JSON-able value: its text, or an object of code and variables."""
    if not isinstance(message, Message):
        return None if message is None else json_text(message)
    variables = {name: _json_value(value) for name, value in message.variables.items()}
    return {"code": json_text(message.code), "variables": variables}


def _json_blocker(blocker: Holder | Waiter) -> dict[str, Any]:
    row: dict[str, Any] = {
        "key": _json_key(blocker.key),
        "mode": str(blocker.mode),
        "owner": _json_value(blocker.owner),
        "message": json_message(blocker.message),
    }
    if isinstance(blocker, Holder):
        return {**row, "token": blocker.token, "held_for": blocker.held_for}
    return {**row, "waited_for": blocker.waited_for}
