"""The executable specification of the lock manager.

`ModelManager` is `lockcore.LockManager` in plain Python: the same calls, the same answers, one
mutex around everything, and no thought of speed. It is written to be checked against the promises
by reading; the contract tests run over both, and Hypothesis compares them call by call.

The whole state is two lists: the grants that are held, in the order of their tokens, and the
requests that wait, in the order of their arrival. A waiting request also knows the keys at which it
is queued. The rules are in `model_rules`, what may be passed in `model_arguments`.
"""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections.abc import Callable
from typing import Self

from lockcore import (
    Holder,
    Key,
    Keys,
    LockConflictError,
    ManagerClosedError,
    Message,
    NotHeldError,
    Owner,
    Statistics,
    Waiter,
)
from lockcore._types import key_order
from model_arguments import Prepared, base_key, checked_timeout, named
from model_rules import WAIT_BOUNDS, Grant, Rules


class ModelManager(Rules):
    """`lockcore.LockManager`, as simple as can be."""

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

    async def acquire_async(
        self,
        *,
        exclusive: Keys = (),
        shared: Keys = (),
        owner: Owner | None = None,
        message: str | Message | None = None,
        timeout: float | None = None,
    ) -> Grant:
        """As `acquire`, letting other tasks run while it waits."""
        prepared = Prepared(exclusive=exclusive, shared=shared, owner=owner, message=message)
        seconds = checked_timeout(timeout)
        if seconds == 0:
            return self._acquire(prepared, 0)
        deadline = time.monotonic() + seconds
        with self._changed:
            request = self._submit_prepared(prepared, may_wait=True)
        try:
            while request._state == "waiting":
                self._raise_if_deadlocked(request)
                await asyncio.sleep(0.001)  # polls: a model need not be quick, nor hog the GIL
                self._time_out_if_due(request, deadline, seconds)
        except BaseException:
            request._cancel()
            request.__exit__()
            raise
        if request._state == "closed":
            raise ManagerClosedError(prepared.request)
        return request

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
            # An upgrade under way is part of a grant.
            return sum(not grant._is_upgrade for grant in grants)

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
