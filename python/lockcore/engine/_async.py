"""Methods of commands that may be `async def`."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
from collections.abc import AsyncIterator, Awaitable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

__all__ = ["awaited", "finished", "is_async"]


def is_async(method: object) -> bool:
    """Whether calling it gives something to be awaited or iterated asynchronously."""
    return inspect.iscoroutinefunction(method) or inspect.isasyncgenfunction(method)


async def awaited(returned: Any) -> Any:
    """What a method returns, or a list of what it yields."""
    if isinstance(returned, AsyncIterator):
        return [item async for item in returned]
    return await returned if inspect.isawaitable(returned) else returned


def finished(returned: Any) -> Any:
    """The same without awaiting: it is awaited to its end in an event loop of its own."""
    if not inspect.isawaitable(returned):
        return returned
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return _run(returned)
    context = contextvars.copy_context()
    with ThreadPoolExecutor(1) as thread:  # one thread cannot run two loops
        return thread.submit(context.run, _run, returned).result()


def _run(awaitable: Awaitable[Any]) -> Any:
    return asyncio.run(awaited(awaitable))
