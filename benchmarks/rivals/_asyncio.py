"""Locks to await. Their loops return coroutines."""

import asyncio
import importlib
from collections import defaultdict
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from rivals._base import LOOP_KEY, Key, Rival, rival_module

Awaited = Callable[[], Coroutine[Any, Any, None]]


class LockcoreAsync(Rival):
    name = "lockcore"
    has_shared = True
    is_atomic = True

    def __init__(self) -> None:
        self.manager = importlib.import_module("lockcore").LockManager()

    def loop_async_exclusive(self, items: Sequence[Key]) -> Awaited:
        async def run(manager: Any = self.manager) -> None:
            for key in items:
                grant = await manager.acquire_async(exclusive=[key])
                grant.release()

        return run

    def loop_async_shared(self, items: Sequence[Key]) -> Awaited:
        async def run(manager: Any = self.manager) -> None:
            for key in items:
                grant = await manager.acquire_async(shared=[key])
                grant.release()

        return run

    def loop_async_queue(self, items: Sequence[Key]) -> Awaited:
        async def run(manager: Any = self.manager) -> None:
            for key in items:
                grant = await manager.acquire_async(exclusive=[key])
                await asyncio.sleep(0)
                grant.release()

        return run


class AsyncioLock(Rival):
    """One lock object, whatever the key."""

    name = "asyncio.Lock"
    is_one_lock = True

    def __init__(self) -> None:
        self._lock = asyncio.Lock()

    def loop_async_exclusive(self, items: Sequence[object]) -> Awaited:
        lock = self._lock

        async def run(lock: Any = lock) -> None:
            for _ in items:
                await lock.acquire()
                lock.release()

        return run

    loop_async_shared = loop_async_exclusive

    def loop_async_queue(self, items: Sequence[object]) -> Awaited:
        lock = self._lock

        async def run(lock: Any = lock) -> None:
            for _ in items:
                await lock.acquire()
                await asyncio.sleep(0)
                lock.release()

        return run


class AioRWLock(Rival):
    """One lock object, whatever the key; `fast`, so that it does not yield when it is free."""

    name = "aiorwlock"
    has_shared = True
    is_one_lock = True

    def __init__(self) -> None:
        module = rival_module("aiorwlock", "aiorwlock")
        self._locks: defaultdict[Key, Any] = defaultdict(lambda: module.RWLock(fast=True))

    def loop_async_exclusive(self, items: Sequence[object]) -> Awaited:
        lock = self._locks[LOOP_KEY].writer

        async def run(lock: Any = lock) -> None:
            for _ in items:
                await lock.acquire()
                lock.release()

        return run

    def loop_async_shared(self, items: Sequence[object]) -> Awaited:
        lock = self._locks[LOOP_KEY].reader

        async def run(lock: Any = lock) -> None:
            for _ in items:
                await lock.acquire()
                lock.release()

        return run

    def loop_async_queue(self, items: Sequence[object]) -> Awaited:
        lock = self._locks[LOOP_KEY].writer

        async def run(lock: Any = lock) -> None:
            for _ in items:
                await lock.acquire()
                await asyncio.sleep(0)
                lock.release()

        return run
