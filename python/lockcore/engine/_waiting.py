"""Commands that wait for their locks, until they have them or the engine closes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from lockcore import _core
from lockcore._manager import _OPTIMISTIC_SECONDS, Grant, LockManager, _fail, _Wait, _Wake
from lockcore.engine._result import EngineClosedError

__all__ = ["LockWaits"]

_LONGEST: Final = 1.0
"""Seconds after which a thread looks whether it is another process's: a child that was forked by a
signal handler, in the middle of a wait, is woken by nobody."""


class LockWaits:
    """Acquires locks as the manager does, and can end all waits for them at once."""

    def __init__(self) -> None:
        # Without a mutex, which a fork might leave locked: who waits adds itself before it looks
        # whether waits are over, and who ends them says so before it looks who waits.
        self._wakes: set[Callable[[], object]] = set()
        self._is_over = False

    def end(self) -> None:
        """Makes those who wait, and those who would have to, raise EngineClosedError."""
        self._is_over = True
        for wake in list(self._wakes):
            wake()

    def acquire(
        self, manager: LockManager, request: Mapping[str, Any], timeout: float | None
    ) -> Grant:
        """`LockManager.acquire`.

        Raises:
            EngineClosedError: It would have to wait, and waits were ended. Nothing is held.
        """
        if timeout == 0:
            return manager.acquire(**request, timeout=0)
        deadline = time.monotonic() + _core.seconds(timeout)
        grant = manager._attempt(**request)
        if grant.is_held:
            return grant
        # Released by each wake. No event: a finalizer may wake this thread while it is inside it.
        woken = threading.Lock()
        woken.acquire()

        def wake() -> None:
            with contextlib.suppress(RuntimeError):  # it has been woken already
                woken.release()

        process = os.getpid()

        def sleep(until: float) -> None:
            woken.acquire(timeout=min(max(until - time.monotonic(), 0), _LONGEST))
            if process != os.getpid():
                _fail(_core.FORKED, grant, [], None)

        try:
            with self._known(wake):
                grant._queue(wake)
                self._wait(grant, sleep, deadline, timeout)
        except BaseException:
            if process != os.getpid():
                raise  # the parent goes on waiting
            if grant._state == "waiting":
                grant._cancel()
            with grant:
                raise  # and release it, if it is held
        return grant

    def _wait(
        self,
        grant: Grant,
        sleep: Callable[[float], None],
        deadline: float,
        timeout: float | None,
    ) -> None:
        look = min(time.monotonic() + _OPTIMISTIC_SECONDS, deadline)
        while grant._state == "waiting":
            self._check()
            sleep(look)
            if grant._state != "waiting":
                break
            look = deadline
            if (cycle := grant._break_deadlock()) is not None:
                _fail(_core.DEADLOCK, grant, cycle, None)
            if time.monotonic() >= deadline:
                blockers = grant._time_out()
                if blockers is not None:
                    _fail(_core.TIMED_OUT, grant, blockers, timeout)
        if grant._state == "closed":
            _fail(_core.CLOSED, grant, [], None)

    async def acquire_async(
        self, manager: LockManager, request: Mapping[str, Any], timeout: float | None
    ) -> Grant:
        """`LockManager.acquire_async`.

        Raises:
            EngineClosedError: It would have to wait, and waits were ended. Nothing is held.
        """
        if timeout == 0:
            return manager.acquire(**request, timeout=0)
        seconds = _core.seconds(timeout)
        grant = manager._attempt(**request)
        if grant.is_held:
            return grant
        wait = _EndableWait(asyncio.get_running_loop(), self)
        wake = _Wake(wait)
        try:
            with self._known(wake):
                grant._queue(wake)
                await wait.until_held(grant, seconds, timeout)
        finally:
            wake.is_over = True
        return grant

    @contextlib.contextmanager
    def _known(self, wake: Callable[[], object]) -> Iterator[None]:
        self._wakes.add(wake)
        try:
            yield
        finally:
            self._wakes.discard(wake)

    def _check(self) -> None:
        if self._is_over:
            raise EngineClosedError("the engine was closed while the command waited for its locks")


class _EndableWait(_Wait):
    """One task's wait for one grant, which also ends when all waits are ended."""

    __slots__ = ("_waits",)

    def __init__(self, loop: asyncio.AbstractEventLoop, waits: LockWaits) -> None:
        super().__init__(loop)
        self._waits = waits

    async def _sleep(self, until: float) -> None:
        self._waits._check()  # what raises here ends the wait, as being cancelled does
        await super()._sleep(until)
