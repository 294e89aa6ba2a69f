"""The lock manager: what the C core decides, with errors and rows people can read."""

from __future__ import annotations

import asyncio
import os
import weakref
from typing import TYPE_CHECKING, Any, NoReturn

from lockcore import _core
from lockcore._core import Grant, Lock
from lockcore._errors import (
    DeadlockError,
    LockConflictError,
    LockError,
    LockTimeoutError,
    ManagerClosedError,
    NotHeldError,
)
from lockcore._messages import describe_request
from lockcore._types import (
    Holder,
    Key,
    Keys,
    Message,
    Mode,
    Owner,
    Request,
    Statistics,
    Waiter,
    key_order,
)

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

__all__ = ["Grant", "Lock", "LockManager"]

_MODES = {_core.SHARED: Mode.SHARED, _core.EXCLUSIVE: Mode.EXCLUSIVE}
_WAIT_BOUNDS = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0, float("inf"))


class LockManager(_core.Table):
    """Decides which requests may hold their keys together.

    At each key there are many shared holders or one exclusive owner. A request takes a whole set
    of keys at once or none of them. Any thread may call any method, and threads and event loops
    may share one manager. As a context manager it is closed at the end.

    Which requests wait, and who comes first, is described in docs/explanation/fairness.md.
    """

    __slots__ = ()  # no dictionary: methods are found faster

    def __init__(self) -> None:
        # Table takes any arguments, for the sake of subclasses; we take none.
        super().__init__()

    # acquire(), try_acquire(), lock(), close(), closed and len() come from the C core.

    def holders(self, key: Key) -> list[Holder]:
        """Returns who holds the key now, the oldest grant first."""
        return _holders(row for row in self._rows_of_key(key) if not row[4])

    def waiters(self, key: Key) -> list[Waiter]:
        """Returns who is queued at the key now, in order of arrival."""
        return [_waiter(row) for row in self._rows_of_key(key) if row[4]]

    def snapshot(self) -> list[Holder]:
        """Returns one row for each key and holder, the oldest grant first.

        All rows are of one instant. Takes time in proportion to the whole table.
        """
        return _holders(self._rows_of_holders(None))

    def owned_by(self, owner: Owner) -> list[Holder]:
        """Returns one row for each key the owner holds, the oldest grant first.

        All rows are of one instant. Takes time in proportion to the whole table.
        """
        return _holders(self._rows_of_holders(_named(owner)))

    def __contains__(self, key: Key) -> bool:
        """Whether anybody holds the key."""
        return any(not row[4] for row in self._rows_of_key(key))

    def __bool__(self) -> bool:
        """True: a manager without locks is a manager."""
        return True

    def statistics(self) -> Statistics:
        """Returns what was counted since the manager was made. Cheap; always counted."""
        acquired, refused, waits, timeouts, deadlocks, _, bins = self._statistics()
        histogram = tuple(zip(_WAIT_BOUNDS, bins, strict=True))
        return Statistics(acquired, refused, waits, timeouts, deadlocks, histogram)

    def release_all(self, owner: Owner) -> int:
        """Ends every grant of the owner and returns how many there were.

        Those who waited for their keys are granted. A later `release()` of such a grant raises
        NotHeldError. Takes time in proportion to the whole table.
        """
        return self._release_holders(_named(owner))

    def force_release(self, key: Key) -> int:
        """Ends every grant that holds the key, with all its keys, and returns how many.

        As `release_all()`, for when the owner is not to be trusted to release.
        """
        return self._release_key(key)

    def clear(self) -> int:
        """Ends every grant and returns how many there were. Those who wait are granted."""
        return self._release_holders(None)

    async def acquire_async(
        self,
        *,
        exclusive: Keys = (),
        shared: Keys = (),
        owner: Owner | None = None,
        message: str | Message | None = None,
        timeout: float | None = None,
    ) -> Grant:
        """Acquires all keys at once, awaiting if it must: `acquire()` for asyncio.

        Arguments and outcomes are those of `acquire()`, and so are queues and fairness: threads and
        tasks wait in the same queues. Cancelling the awaiting task, at any instant, leaves nothing
        held and nobody queued.
        """
        loop = asyncio.get_running_loop()
        seconds = _core.seconds(timeout)
        if seconds == 0:
            return self.acquire(
                exclusive=exclusive, shared=shared, owner=owner, message=message, timeout=0
            )
        grant = self._attempt(exclusive=exclusive, shared=shared, owner=owner, message=message)
        if not grant.is_held:
            wait = _Wait(loop)
            wake = _Wake(wait)
            grant._queue(wake)
            try:
                await wait.until_held(grant, seconds, timeout)
            finally:
                wake.is_over = True
        return grant

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _check_message(self, message: object) -> None:
        if not isinstance(message, (str, Message)):
            raise TypeError(f"a message must be str, Message or None, not {type(message).__name__}")


def _fail(
    status: int, grant: Grant | None, rows: list[_core.Row], timeout: float | None
) -> NoReturn:
    if grant is None:
        raise ManagerClosedError
    request = Request(grant.exclusive, grant.shared, grant.owner, grant._message)
    if status == _core.CLOSED:
        raise ManagerClosedError(request)
    if status == _core.FORKED:
        raise LockError(
            f"cannot acquire {describe_request(request)}: the process was forked during the "
            "wait, which is the parent's"
        )
    if status == _core.DEADLOCK:
        steps = zip(rows[::2], rows[1::2], strict=True)
        raise DeadlockError(request, [(_waiter(row), _blocker(other)) for row, other in steps])
    blockers = [_blocker(row) for row in rows]
    if status == _core.TIMED_OUT and timeout is not None:
        raise LockTimeoutError(request, blockers, float(timeout))
    raise LockConflictError(request, blockers)


def _fail_not_held(grant: Grant | None, action: str) -> NoReturn:
    raise NotHeldError(None if grant is None else grant.token, action)


_core.on_failure(_fail, _fail_not_held)


_OPTIMISTIC_SECONDS = 0.005
"""How long a task waits before it looks for a deadlock. Most waits are shorter."""


class _Wake:
    """Calls a task back, from any thread, when its request may be granted.

    The lock table keeps it. It must not keep the task: nobody could collect one whose loop died.
    """

    __slots__ = ("_wait", "is_over")

    def __init__(self, wait: _Wait) -> None:
        self._wait = weakref.ref(wait)
        self.is_over = False  # the task has seen the end of its wait by itself

    def __call__(self) -> bool:
        """Returns False to give the grant back: the task will not run again."""
        wait = self._wait()
        if wait is None:
            return self.is_over
        try:
            wait.loop.call_soon_threadsafe(wait.wake)
        except RuntimeError:  # the loop is closed
            return self.is_over
        return True


class _Wait:
    """One task's wait for one grant."""

    __slots__ = ("__weakref__", "_future", "loop")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._future = loop.create_future()

    def wake(self) -> None:
        if not self._future.done():
            self._future.set_result(None)

    async def until_held(self, grant: Grant, seconds: float, timeout: float | None) -> None:
        """Waits until the grant is held; if it raises, that is neither held nor queued."""
        deadline = self.loop.time() + seconds
        look = self.loop.time() + _OPTIMISTIC_SECONDS if grant.owner is not None else deadline
        try:
            while grant._state == "waiting":
                await self._sleep(min(look, deadline))
                if grant._state != "waiting":
                    break
                look = deadline
                if (cycle := grant._break_deadlock()) is not None:
                    _fail(_core.DEADLOCK, grant, cycle, None)
                if self.loop.time() >= deadline:
                    blockers = grant._time_out()
                    if blockers is not None:
                        _fail(_core.TIMED_OUT, grant, blockers, timeout)
            if grant._state == "closed":
                _fail(_core.CLOSED, grant, [], None)
        except BaseException:
            if grant._state == "waiting":
                grant._cancel()
            with grant:
                raise  # and release it, if it is held

    async def _sleep(self, until: float) -> None:
        # Always a timer, if only for an hour: by it the loop keeps the task while it is open.
        timer = self.loop.call_at(min(until, self.loop.time() + 3600), self.wake)
        try:
            await self._future
        finally:
            timer.cancel()
        self._future = self.loop.create_future()


def _holder(row: _core.Row) -> Holder:
    key, mode, owner, message, _, token, age = row
    return Holder(key, _MODES[mode], owner, message, token, age)


def _waiter(row: _core.Row) -> Waiter:
    key, mode, owner, message, _, _, age = row
    return Waiter(key, _MODES[mode], owner, message, age)


def _blocker(row: _core.Row) -> Holder | Waiter:
    return _waiter(row) if row[4] else _holder(row)


def _holders(rows: Any) -> list[Holder]:
    return sorted(map(_holder, rows), key=lambda row: (row.token, key_order(row.key)))


def _named(owner: Owner) -> Owner:
    if owner is None:
        raise TypeError("an owner must be str, int or uuid.UUID, not NoneType")
    return owner


# The child has no thread that waits, and the parent's locks are the parent's.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_core.after_fork_in_child)
