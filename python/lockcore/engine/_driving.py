"""The order of steps in which a command is run: lock, validate, execute; awaited or not."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import AsyncIterator, Iterable
from typing import Any, Protocol

from lockcore._manager import Grant
from lockcore._types import Message
from lockcore.engine._async import awaited, is_async
from lockcore.engine._command import Command
from lockcore.engine._result import CommandResult
from lockcore.engine._rules import Unset

__all__ = ["drive", "drive_async", "require_sync"]


class Steps(Protocol):
    """What happens to a command at each step. What is given an error may raise it again."""

    command: Command
    settled: threading.Event

    def acquire(self, timeout: float | Unset | None) -> Grant: ...

    async def acquire_async(self, timeout: float | Unset | None) -> Grant: ...

    def acquired(self, grant: Grant) -> None: ...

    def not_acquired(self, error: BaseException) -> CommandResult: ...

    def not_valid(self, reasons: tuple[str | Message, ...]) -> CommandResult: ...

    def not_validated(self, error: BaseException) -> CommandResult: ...

    def prepare_execution(self) -> None: ...

    def after_execution(self, error: BaseException | None = None) -> CommandResult | None: ...

    def snapshot(self) -> CommandResult: ...


# The two below are the same, step by step.


def drive(run: Steps, timeout: float | Unset | None) -> CommandResult:
    """Runs a command in this thread, until `execute` has ended and, if it failed, its tasks."""
    try:
        run.acquired(run.acquire(timeout))
    except BaseException as error:  # noqa: BLE001 - raised again unless it is a refusal
        return run.not_acquired(error)
    try:
        reasons = _reasons(_not_awaitable(run.command.validate()))
        if not reasons:
            run.prepare_execution()
    except BaseException as error:  # noqa: BLE001 - raised again unless the command's own
        return run.not_validated(error)
    if reasons:
        return run.not_valid(reasons)
    try:
        _not_awaitable(run.command.execute())
    except BaseException as error:  # noqa: BLE001 - raised again unless the command's own
        result = run.after_execution(error)
    else:
        result = run.after_execution()
    if result is None:
        run.settled.wait()
        result = run.snapshot()
    return result


async def drive_async(run: Steps, timeout: float | Unset | None) -> CommandResult:
    """Runs a command in this event loop; methods that are not async run in its thread.

    Cancelling it interrupts `validate` or `execute`: what has been started is stopped, and the
    locks go when that has ended.
    """
    try:
        run.acquired(await run.acquire_async(timeout))
    except BaseException as error:  # noqa: BLE001 - raised again unless it is a refusal
        return run.not_acquired(error)
    try:
        reasons = _reasons(await awaited(run.command.validate()))
        if not reasons:
            run.prepare_execution()
    except BaseException as error:  # noqa: BLE001 - raised again unless the command's own
        return run.not_validated(error)
    if reasons:
        return run.not_valid(reasons)
    try:
        await awaited(run.command.execute())
    except BaseException as error:  # noqa: BLE001 - raised again unless the command's own
        result = run.after_execution(error)
    else:
        result = run.after_execution()
    if result is None:
        await asyncio.to_thread(run.settled.wait)
        result = run.snapshot()
    return result


def require_sync(command: Command) -> None:
    """Refuses a command that can only be awaited.

    Raises:
        TypeError: Its `validate` or `execute` is async.
    """
    for name in ("validate", "execute"):
        if is_async(getattr(command, name, None)):
            raise TypeError(f"{type(command).__name__}.{name} is async: await run_async instead")


def _not_awaitable(returned: Any) -> Any:
    """What a method returned, unless `require_sync` could not tell that it is async."""
    if not inspect.isawaitable(returned) and not isinstance(returned, AsyncIterator):
        return returned
    if inspect.iscoroutine(returned):
        returned.close()
    raise TypeError(f"{returned!r} would never be awaited: await run_async instead")


def _reasons(returned: object) -> tuple[str | Message, ...]:
    if returned is None:
        return ()
    if isinstance(returned, str | Message):
        return (returned,)
    if not isinstance(returned, Iterable):
        raise TypeError(f"validate must return or yield messages, not {returned!r}")
    reasons = tuple(returned)
    for reason in reasons:
        if not isinstance(reason, str | Message):
            raise TypeError(f"validate must return or yield messages, not {reason!r}")
    return reasons
