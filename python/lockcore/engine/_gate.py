"""The gate of an engine: whom it admits, and when."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Final

from lockcore.engine._result import EngineClosedError, EngineError, EngineRecoveringError

__all__ = ["Gate"]

_RECOVERING: Final = "the engine is recovering: try again later"


class Gate:
    """Lets nobody in before recovery is complete, and nobody once the engine closes.

    Args:
        refuses: Whether those who come during recovery are turned away; else they wait.
    """

    def __init__(self, *, refuses: bool) -> None:
        self._refuses = refuses
        self._changed = threading.Condition()
        self._is_opening = self._is_open = self._was_opened = False
        self._threads: list[int] = []  # of those inside

    @property
    def is_open(self) -> bool:
        """Whether recovery is complete and the engine has not been closed."""
        return self._is_open

    @contextlib.contextmanager
    def opening(self) -> Iterator[None]:
        """The recovery. The gate is open afterwards; closed for ever if it raises.

        Raises:
            EngineError: It was opened before.
        """
        with self._changed:
            if self._was_opened:
                raise EngineError("the engine was opened before: make another one")
            self._is_opening = self._was_opened = True
        is_open = False
        try:
            with self.inside():
                yield
            is_open = True
        finally:
            with self._changed:
                self._is_opening, self._is_open = False, is_open
                self._changed.notify_all()

    def shut(self) -> None:
        """Lets nobody in any more.

        Raises:
            RuntimeError: The caller is inside, or in an event loop with others who are.
        """
        with self._changed:
            if self._is_inside():
                raise RuntimeError("a command cannot close the engine that runs it")
            if threading.get_ident() in self._threads:  # who waits here stops their event loop
                raise RuntimeError(
                    "cannot close the engine: commands are being executed in this event loop: await"
                    " them first, or await asyncio.to_thread(engine.close)"
                )
            while self._is_opening:
                self._changed.wait()
            self._is_open, self._was_opened = False, True
            self._changed.notify_all()

    def wait_until_empty(self) -> None:
        """Waits until those inside are out."""
        with self._changed:
            while self._threads:
                self._changed.wait()

    def wait(self) -> None:
        """Waits until there is no recovery, unless those who come then are turned away.

        Raises:
            EngineRecoveringError: They are, or the caller is itself part of the recovery.
        """
        with self._changed:
            while self._is_opening:
                # An end action that runs a command would wait for itself.
                if self._refuses or self._is_inside():
                    raise EngineRecoveringError(_RECOVERING)
                self._changed.wait()

    @property
    def is_recovering(self) -> bool:
        """Whether somebody who comes now has to wait."""
        return self._is_opening

    @contextlib.contextmanager
    def passed(self) -> Iterator[None]:
        """Inside, once the recovery is complete; the engine is not closed meanwhile.

        Raises:
            EngineRecoveringError: Those who come during recovery are turned away.
            EngineClosedError: The engine is not open.
        """
        thread = threading.get_ident()
        with self._changed:
            self.wait()
            if not self._is_open:
                raise EngineClosedError("the engine is not open")
            self._threads.append(thread)
        try:
            with self.inside():
                yield
        finally:
            with self._changed:
                self._threads.remove(thread)
                self._changed.notify_all()

    @contextlib.contextmanager
    def inside(self) -> Iterator[None]:
        """Marks what is called as part of the engine, in tasks and threads of asyncio, too."""
        outside, visit = _visits.get(), _Visit(self)
        _visits.set((*outside, visit))
        try:
            yield
        finally:
            visit.is_over = True  # for what has been started inside and goes on
            _visits.set(outside)

    def _is_inside(self) -> bool:
        return any(visit.gate is self and not visit.is_over for visit in _visits.get())


class _Visit:
    """A stay behind a gate."""

    __slots__ = ("gate", "is_over")

    def __init__(self, gate: Gate) -> None:
        self.gate = gate
        self.is_over = False


_visits: Final[ContextVar[tuple[_Visit, ...]]] = ContextVar("visits", default=())
"""Behind which gates the current code is."""
