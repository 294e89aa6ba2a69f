"""The oVirt algorithm as a rival."""

from collections.abc import Iterable, Sequence
from typing import Any

from ovirt_algorithm import EngineLock, Locks, OvirtLockManager
from rivals._base import LOOP_KEY, MESSAGE, Held, Key, Lockable, Loop, Rival

_VM: tuple[str, str] = ("VM", MESSAGE)


def engine_lock(exclusive: Iterable[Key], shared: Iterable[Key]) -> EngineLock:
    """Returns: the request as the oVirt algorithm wants it."""
    writers = set(exclusive)
    return EngineLock(_locks(writers), _locks(key for key in shared if key not in writers))


def _locks(keys: Iterable[Key]) -> Locks:
    return {
        key if isinstance(key, str) else key[1]: _VM if isinstance(key, str) else (key[0], MESSAGE)
        for key in keys
    }


class _OvirtLock:
    __slots__ = ("_lock", "_manager")

    def __init__(self, manager: OvirtLockManager, lock: EngineLock) -> None:
        self._manager = manager
        self._lock = lock

    def acquire(self) -> None:
        self._manager.acquire_lock_wait(self._lock)

    def release(self) -> None:
        self._manager.release_lock(self._lock)


class Ovirt(Rival):
    name = "oVirt algorithm"
    has_shared = True
    is_atomic = True

    def __init__(self) -> None:
        self.manager = OvirtLockManager()

    def hold(self, exclusive: Iterable[Key] = (), shared: Iterable[Key] = ()) -> Held:
        lock = engine_lock(exclusive, shared)
        self.manager.acquire_lock_wait(lock)
        return _OvirtLock(self.manager, lock)

    def try_hold(self, exclusive: Iterable[Key] = (), shared: Iterable[Key] = ()) -> Held | None:
        lock = engine_lock(exclusive, shared)
        if not self.manager.acquire_lock(lock)[0]:
            return None
        return _OvirtLock(self.manager, lock)

    def lock(self, key: Key) -> Lockable:
        return _OvirtLock(self.manager, engine_lock([key], ()))

    def loop_prepared(self, items: Sequence[Key]) -> Loop:
        manager = self.manager
        lock = EngineLock({LOOP_KEY: _VM}, None)

        def run(manager: Any = manager, lock: Any = lock) -> None:
            for _ in items:
                manager.acquire_lock(lock)
                manager.release_lock(lock)

        return run

    def loop_try_exclusive(self, items: Sequence[str]) -> Loop:
        def run(manager: Any = self.manager, group: Any = _VM) -> None:
            for key in items:
                lock = EngineLock({key: group}, None)
                manager.acquire_lock(lock)
                manager.release_lock(lock)

        return run

    def loop_try_group_id(self, items: Sequence[tuple[str, str]]) -> Loop:
        def run(manager: Any = self.manager) -> None:
            for group, entity in items:
                lock = EngineLock({entity: (group, MESSAGE)}, None)
                manager.acquire_lock(lock)
                manager.release_lock(lock)

        return run

    def loop_try_shared(self, items: Sequence[str]) -> Loop:
        def run(manager: Any = self.manager, group: Any = _VM) -> None:
            for key in items:
                lock = EngineLock(None, {key: group})
                manager.acquire_lock(lock)
                manager.release_lock(lock)

        return run

    def loop_acquire(self, items: Sequence[str]) -> Loop:
        def run(manager: Any = self.manager, group: Any = _VM) -> None:
            for key in items:
                lock = EngineLock({key: group}, None)
                manager.acquire_lock_wait(lock)
                manager.release_lock(lock)

        return run

    loop_message = loop_try_exclusive

    def loop_mixed(self, items: Sequence[tuple[str, str]]) -> Loop:
        def run(manager: Any = self.manager, group: Any = _VM) -> None:
            for mine, ours in items:
                lock = EngineLock({mine: group}, {ours: group})
                manager.acquire_lock(lock)
                manager.release_lock(lock)

        return run

    def loop_set(self, items: Sequence[Sequence[str]]) -> Loop:
        def run(manager: Any = self.manager, group: Any = _VM) -> None:
            for keys in items:
                lock = EngineLock(dict.fromkeys(keys, group), None)
                manager.acquire_lock(lock)
                manager.release_lock(lock)

        return run

    def loop_prepared_set(self, items: Sequence[Sequence[str]]) -> Loop:
        manager = self.manager
        lock = EngineLock(dict.fromkeys(items[0], _VM), None)

        def run(manager: Any = manager, lock: Any = lock) -> None:
            for _ in items:
                manager.acquire_lock(lock)
                manager.release_lock(lock)

        return run

    def loop_refused(self, items: Sequence[str]) -> Loop:
        manager = self.manager
        manager.acquire_lock(engine_lock(items, ()))
        group = _VM

        def run(manager: Any = manager, group: Any = group) -> None:
            for key in items:
                manager.acquire_lock(EngineLock({key: group}, None))

        return run
