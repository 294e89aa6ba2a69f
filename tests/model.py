"""The executable specification of the lock manager.

`ModelManager` is `lockcore.LockManager` in plain Python: the same calls, the same answers, one
mutex around everything, and no thought of speed. It is written to be checked against the promises
by reading; the contract tests run over both, and Hypothesis compares them call by call.

The whole state is two lists: the grants that are held, in the order of their tokens, and the
requests that wait, in the order of their arrival. A waiting request also knows the keys at which it
is queued. All the rules are in the section "the rules" of `ModelManager`.
"""

from __future__ import annotations

import math
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Self

from lockcore import (
    Holder,
    Key,
    Keys,
    LockConflictError,
    LockTimeoutError,
    ManagerClosedError,
    Message,
    Mode,
    NotHeldError,
    Owner,
    Request,
    Statistics,
    Waiter,
)
from lockcore._types import key_order

NEWCOMER = math.inf
"""The arrival number of a request that has not been queued: later than everybody's."""

WAIT_BOUNDS = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0, math.inf)


# ---- what callers may pass ---------------------------------------------------------------------


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


# ---- grants ------------------------------------------------------------------------------------


class Grant:
    """A request that holds its keys; before that it may wait, and after that it has ended."""

    def __init__(self, manager: ModelManager, prepared: Prepared) -> None:
        self._manager = manager
        self._request = prepared.request
        self._messages = prepared.messages
        self._state = "new"  # then perhaps "waiting", then "held", "ended" or "closed"
        self._arrival = NEWCOMER
        self._queued_at: set[Key] = set()
        self._since = time.monotonic()
        self._token: int | None = None

    @property
    def owner(self) -> Owner | None:
        return self._request.owner

    @property
    def exclusive(self) -> frozenset[Key]:
        return self._request.exclusive

    @property
    def shared(self) -> frozenset[Key]:
        return self._request.shared

    @property
    def token(self) -> int | None:
        return self._token

    @property
    def is_held(self) -> bool:
        return self._state == "held"

    def release(self) -> None:
        with self._manager._changed:
            if not self.is_held:
                raise NotHeldError(self._token)
            self._manager._end([self])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        with self._manager._changed:
            if self.is_held:
                self._manager._end([self])

    def _cancel(self) -> bool:
        """Stops waiting. Returns False when it was granted before, and changes nothing then."""
        with self._manager._changed:
            if self._state == "waiting":
                self._manager._leave(self, "ended")
                return True
            return self._state == "closed"

    @property
    def _keys(self) -> frozenset[Key]:
        return self.exclusive | self.shared


def same_owner(a: Grant, b: Grant) -> bool:
    """Whether two requests are made on one owner's behalf; unnamed ones never are."""
    return a is b or (a.owner is not None and a.owner == b.owner)


def conflict(a: Grant, b: Grant, key: Key) -> bool:
    """Whether two requests cannot both hold a key: all pairs but shared with shared."""
    return Mode.EXCLUSIVE in (a._request.mode_of(key), b._request.mode_of(key))


# ---- the manager -------------------------------------------------------------------------------


class ModelManager:
    """`lockcore.LockManager`, as simple as can be."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._held: list[Grant] = []
        self._waiting: list[Grant] = []
        self._tokens = 0
        self._arrivals = 0
        self._closed = False
        self._counts = {"acquired": 0, "refused": 0, "waits": 0, "timeouts": 0, "deadlocks": 0}
        self._wait_counts = [0] * len(WAIT_BOUNDS)

    # -- the rules --

    def _hard_blockers(self, request: Grant, key: Key) -> list[Grant]:
        """Holders of the key that have another owner and a conflicting mode."""
        return [
            holder
            for holder in self._held
            if key in holder._keys
            and not same_owner(holder, request)
            and conflict(holder, request, key)
        ]

    def _soft_blockers(self, request: Grant, key: Key) -> list[Grant]:
        """Waiters queued at the key, earlier, of another owner and in a conflicting mode.

        There are none if the request's owner already holds the key.
        """
        if any(key in holder._keys and same_owner(holder, request) for holder in self._held):
            return []
        return [
            waiter
            for waiter in self._waiting
            if key in waiter._queued_at
            and waiter._arrival < request._arrival
            and not same_owner(waiter, request)
            and conflict(waiter, request, key)
        ]

    def _is_blocked(self, request: Grant, key: Key) -> bool:
        return bool(self._hard_blockers(request, key) or self._soft_blockers(request, key))

    def _blocked_at(self, request: Grant) -> set[Key]:
        """The keys at which the request is blocked now."""
        return {key for key in request._keys if self._is_blocked(request, key)}

    def _grant(self, request: Grant) -> None:
        """Grants the request whole: it leaves all queues and holds all keys."""
        if request._state == "waiting":
            self._stop_waiting(request)
        self._tokens += 1
        self._counts["acquired"] += 1
        request._token = self._tokens
        request._since = time.monotonic()
        request._state = "held"
        self._held.append(request)

    def _queue(self, request: Grant) -> None:
        """Gives the request its arrival number and queues it at exactly the keys that block it."""
        self._arrivals += 1
        self._counts["waits"] += 1
        request._arrival = self._arrivals
        request._since = time.monotonic()
        request._queued_at = self._blocked_at(request)
        request._state = "waiting"
        self._waiting.append(request)

    def _stop_waiting(self, request: Grant) -> None:
        self._waiting.remove(request)
        request._queued_at = set()
        waited_for = time.monotonic() - request._since
        bin_ = next(i for i, bound in enumerate(WAIT_BOUNDS) if waited_for < bound)
        self._wait_counts[bin_] += 1

    def _reconsider(self, changed: Iterable[Key]) -> None:
        """Grants what can now run, after keys have lost holders or waiters."""
        changed = frozenset(changed)
        self._try({waiter: waiter._queued_at & changed for waiter in self._waiting})

    def _reconsider_owner(self, newcomer: Grant) -> None:
        """Grants what can now run, after an owner has gained keys and may pass others there."""
        self._try(self._places_opened_by(newcomer))

    def _places_opened_by(self, grant: Grant) -> dict[Grant, set[Key]]:
        """The places of the owner's waiters at the keys it has gained."""
        return {
            waiter: waiter._queued_at & grant._keys
            for waiter in self._waiting
            if same_owner(waiter, grant)
        }

    def _try(self, places: dict[Grant, set[Key]]) -> None:
        """Tries waiters in order of arrival, given the places where something changed for each.

        A waiter that is no longer blocked at one of them is tried as a whole. If it is still
        blocked elsewhere, it is queued at every further key that blocks it now, and keeps the
        places it has. If not, it is granted, and what its owner gains by that may open places to
        the owner's other waiters.
        """
        while places:
            waiter = min(places, key=lambda waiter: waiter._arrival)
            if all(self._is_blocked(waiter, key) for key in places.pop(waiter)):
                continue
            blocked_at = self._blocked_at(waiter)
            waiter._queued_at |= blocked_at
            if not blocked_at:
                self._grant(waiter)
                for other, opened in self._places_opened_by(waiter).items():
                    places[other] = places.get(other, set()) | opened
        self._changed.notify_all()

    def _submit_prepared(self, prepared: Prepared, *, may_wait: bool) -> Grant:
        """Grants a newcomer at once if it is blocked nowhere; else queues it, if it may wait."""
        if self._closed:
            raise ManagerClosedError(prepared.request)
        newcomer = Grant(self, prepared)
        if not self._blocked_at(newcomer):
            self._grant(newcomer)
            self._reconsider_owner(newcomer)
        elif may_wait:
            self._queue(newcomer)
        else:
            self._counts["refused"] += 1
        return newcomer

    def _leave(self, waiter: Grant, state: str) -> None:
        """Ends a wait without a grant."""
        places = waiter._queued_at
        self._stop_waiting(waiter)
        waiter._state = state
        self._reconsider(places)

    def _end(self, grants: list[Grant]) -> None:
        """Ends grants, all of them before anybody is reconsidered."""
        for grant in grants:
            self._held.remove(grant)
            grant._state = "ended"
        self._reconsider(key for grant in grants for key in grant._keys)

    def _acquire(self, prepared: Prepared, timeout: float) -> Grant:
        """Waits until the request is held, for so long at most.

        Whatever it raises, nothing is held and nobody is queued.
        """
        deadline = time.monotonic() + timeout
        with self._changed:
            request = self._submit_prepared(prepared, may_wait=timeout > 0)
            if request._state == "new":
                raise LockConflictError(prepared.request, self._blocker_rows(request))
            try:
                while request._state == "waiting" and time.monotonic() < deadline:
                    left = min(deadline - time.monotonic(), threading.TIMEOUT_MAX)
                    self._changed.wait(max(left, 0))
            except BaseException:
                if not request._cancel() and request.is_held:
                    request.release()
                raise
            if request._state == "waiting":
                blockers = self._blocker_rows(request)
                request._cancel()
                self._counts["timeouts"] += 1
                raise LockTimeoutError(prepared.request, blockers, timeout)
            if request._state == "closed":
                raise ManagerClosedError(prepared.request)
            return request

    # -- acquiring --

    def acquire(
        self,
        *,
        exclusive: Keys = (),
        shared: Keys = (),
        owner: Owner | None = None,
        message: str | Message | None = None,
        timeout: float | None = None,
    ) -> Grant:
        prepared = Prepared(exclusive=exclusive, shared=shared, owner=owner, message=message)
        return self._acquire(prepared, checked_timeout(timeout))

    def try_acquire(
        self,
        *,
        exclusive: Keys = (),
        shared: Keys = (),
        owner: Owner | None = None,
        message: str | Message | None = None,
    ) -> Grant | None:
        prepared = Prepared(exclusive=exclusive, shared=shared, owner=owner, message=message)
        with self._changed:
            grant = self._submit_prepared(prepared, may_wait=False)
        return grant if grant.is_held else None

    def lock(
        self,
        *,
        exclusive: Keys = (),
        shared: Keys = (),
        owner: Owner | None = None,
        message: str | Message | None = None,
    ) -> Lock:
        return Lock(
            self, Prepared(exclusive=exclusive, shared=shared, owner=owner, message=message)
        )

    def _submit(
        self,
        *,
        exclusive: Keys = (),
        shared: Keys = (),
        owner: Owner | None = None,
        message: str | Message | None = None,
    ) -> Grant:
        """As `acquire`, but returns at once: the grant may still be waiting."""
        prepared = Prepared(exclusive=exclusive, shared=shared, owner=owner, message=message)
        with self._changed:
            return self._submit_prepared(prepared, may_wait=True)

    # -- seeing --

    def _holder_row(self, grant: Grant, key: Key, now: float) -> Holder:
        assert grant._token is not None
        return Holder(
            key=key,
            mode=grant._request.mode_of(key),
            owner=grant.owner,
            message=grant._messages[key],
            token=grant._token,
            held_for=now - grant._since,
        )

    def _waiter_row(self, waiter: Grant, key: Key, now: float) -> Waiter:
        return Waiter(
            key=key,
            mode=waiter._request.mode_of(key),
            owner=waiter.owner,
            message=waiter._messages[key],
            waited_for=now - waiter._since,
        )

    def _blocker_rows(self, request: Grant) -> list[Holder | Waiter]:
        now = time.monotonic()  # once: ages of one listing can be compared
        rows: list[Holder | Waiter] = []
        for key in request._keys:
            rows += [self._holder_row(g, key, now) for g in self._hard_blockers(request, key)]
            rows += [self._waiter_row(w, key, now) for w in self._soft_blockers(request, key)]
        return rows

    def holders(self, key: Key) -> list[Holder]:
        """The holders of a key, the oldest first."""
        key = base_key(key)
        with self._changed:
            now = time.monotonic()
            return [self._holder_row(grant, key, now) for grant in self._held if key in grant._keys]

    def waiters(self, key: Key) -> list[Waiter]:
        """Those queued at a key, in order of arrival."""
        key = base_key(key)
        with self._changed:
            now = time.monotonic()
            return [self._waiter_row(w, key, now) for w in self._waiting if key in w._queued_at]

    def snapshot(self) -> list[Holder]:
        """A row for each key and holder, the oldest grant first, its keys in order."""
        with self._changed:
            now = time.monotonic()
            return [
                self._holder_row(grant, key, now)
                for grant in self._held
                for key in sorted(grant._keys, key=key_order)
            ]

    def owned_by(self, owner: Owner) -> list[Holder]:
        """The rows of `snapshot` for one owner."""
        owner = named(owner)
        return [row for row in self.snapshot() if row.owner == owner and row.owner is not None]

    def __len__(self) -> int:
        with self._changed:
            return len({key for grant in self._held for key in grant._keys})

    def __contains__(self, key: Key) -> bool:
        return bool(self.holders(key))

    def __bool__(self) -> bool:
        return True

    def statistics(self) -> Statistics:
        with self._changed:
            return Statistics(
                **self._counts,
                wait_histogram=tuple(zip(WAIT_BOUNDS, self._wait_counts, strict=True)),
            )

    # -- repairing --

    def release_all(self, owner: Owner) -> int:
        """Ends every grant of an owner."""
        owner = named(owner)
        return self._end_where(lambda grant: grant.owner is not None and grant.owner == owner)

    def force_release(self, key: Key) -> int:
        """Ends every grant that holds the key, each as a whole."""
        key = base_key(key)
        return self._end_where(lambda grant: key in grant._keys)

    def clear(self) -> int:
        """Ends every grant."""
        return self._end_where(lambda grant: True)

    def _end_where(self, is_meant: Callable[[Grant], bool]) -> int:
        with self._changed:
            # A grant of no keys is nowhere to be found: only its own release ends it.
            grants = [grant for grant in self._held if grant._keys and is_meant(grant)]
            self._end(grants)
            return len(grants)

    def close(self) -> None:
        """Turns away those who wait and all who come later. Holders keep what they hold."""
        with self._changed:
            self._closed = True
            for waiter in list(self._waiting):
                self._stop_waiting(waiter)
                waiter._state = "closed"
            self._changed.notify_all()

    @property
    def closed(self) -> bool:
        return self._closed

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


def named(owner: object) -> Owner:
    """The plain value of an owner that has a name."""
    plain = base_owner(owner)
    if plain is None:
        raise TypeError("an owner must be str, int or uuid.UUID, not NoneType")
    return plain


# ---- locks -------------------------------------------------------------------------------------


class Lock:
    """A prepared request in the shape of `threading.Lock`.

    Each `acquire` is a grant of its own, and each `release` ends the oldest: a lock whose request
    does not exclude itself, because it is shared or because its owner has a name, can be held
    several times at once.
    """

    def __init__(self, manager: ModelManager, prepared: Prepared) -> None:
        self._manager = manager
        self._prepared = prepared
        self._grants: list[Grant] = []

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        threading.Lock().acquire(blocking, timeout)  # the real one judges the arguments
        seconds = (math.inf if timeout == -1 else timeout) if blocking else 0
        with self._manager._changed:
            try:
                self._grants.append(self._manager._acquire(self._prepared, seconds))
            except LockConflictError:
                return False
        return True

    def release(self) -> None:
        with self._manager._changed:
            if not self._grants:
                raise NotHeldError
            oldest = self._grants.pop(0)
            if not oldest.is_held:
                raise NotHeldError
            oldest.release()

    def locked(self) -> bool:
        return any(grant.is_held for grant in self._grants)

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, *exc_info: object) -> None:
        self.release()
