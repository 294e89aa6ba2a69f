"""lockcore itself."""

import importlib
from collections.abc import Iterable, Sequence
from typing import Any

from rivals._base import LOOP_KEY, MESSAGE, Held, Key, Lockable, Loop, Rival


class Lockcore(Rival):
    name = "lockcore"
    has_shared = True
    is_atomic = True

    def __init__(self) -> None:
        self.manager = importlib.import_module("lockcore").LockManager()

    def hold(self, exclusive: Iterable[Key] = (), shared: Iterable[Key] = ()) -> Held:
        return self.manager.acquire(exclusive=exclusive, shared=shared)  # type: ignore[no-any-return]

    def try_hold(self, exclusive: Iterable[Key] = (), shared: Iterable[Key] = ()) -> Held | None:
        return self.manager.try_acquire(exclusive=exclusive, shared=shared)  # type: ignore[no-any-return]

    def lock(self, key: Key) -> Lockable:
        return self.manager.lock(exclusive=[key])  # type: ignore[no-any-return]

    def loop_prepared(self, items: Sequence[Key]) -> Loop:
        lock = self.manager.lock(exclusive=[LOOP_KEY])

        def run(lock: Any = lock) -> None:
            for _ in items:
                lock.acquire()
                lock.release()

        return run

    def loop_with_prepared(self, items: Sequence[Key]) -> Loop:
        lock = self.manager.lock(exclusive=[LOOP_KEY])

        def run(lock: Any = lock) -> None:
            for _ in items:
                with lock:
                    pass

        return run

    def loop_try_exclusive(self, items: Sequence[Key]) -> Loop:
        def run(manager: Any = self.manager) -> None:
            for key in items:
                grant = manager.try_acquire(exclusive=[key])
                grant.release()

        return run

    def loop_try_shared(self, items: Sequence[Key]) -> Loop:
        def run(manager: Any = self.manager) -> None:
            for key in items:
                grant = manager.try_acquire(shared=[key])
                grant.release()

        return run

    loop_try_group_id = loop_try_exclusive

    def loop_acquire(self, items: Sequence[Key]) -> Loop:
        def run(manager: Any = self.manager) -> None:
            for key in items:
                grant = manager.acquire(exclusive=[key])
                grant.release()

        return run

    def loop_with(self, items: Sequence[Key]) -> Loop:
        def run(manager: Any = self.manager) -> None:
            for key in items:
                with manager.acquire(exclusive=[key]):
                    pass

        return run

    def loop_named_owner(self, items: Sequence[Key]) -> Loop:
        def run(manager: Any = self.manager) -> None:
            for key in items:
                grant = manager.try_acquire(exclusive=[key], owner="command-1")
                grant.release()

        return run

    def loop_message(self, items: Sequence[Key]) -> Loop:
        def run(manager: Any = self.manager) -> None:
            for key in items:
                grant = manager.try_acquire(exclusive=[key], owner="command-1", message=MESSAGE)
                grant.release()

        return run

    def loop_mixed(self, items: Sequence[tuple[Key, Key]]) -> Loop:
        def run(manager: Any = self.manager) -> None:
            for mine, ours in items:
                grant = manager.try_acquire(exclusive=[mine], shared=[ours])
                grant.release()

        return run

    def loop_set(self, items: Sequence[Sequence[Key]]) -> Loop:
        def run(manager: Any = self.manager) -> None:
            for keys in items:
                grant = manager.try_acquire(exclusive=keys)
                grant.release()

        return run

    def loop_prepared_set(self, items: Sequence[Sequence[Key]]) -> Loop:
        lock = self.manager.lock(exclusive=items[0])

        def run(lock: Any = lock) -> None:
            for _ in items:
                lock.acquire()
                lock.release()

        return run

    def loop_refused(self, items: Sequence[Key]) -> Loop:
        manager = self.manager
        manager.acquire(exclusive=set(items), owner="holder", message=MESSAGE)

        def run(manager: Any = manager) -> None:
            for key in items:
                manager.try_acquire(exclusive=[key])

        return run

    def loop_refused_prepared(self, items: Sequence[Key]) -> Loop:
        manager = self.manager
        manager.acquire(exclusive=[LOOP_KEY], owner="holder", message=MESSAGE)
        lock = manager.lock(exclusive=[LOOP_KEY])

        def run(lock: Any = lock) -> None:
            for _ in items:
                lock.acquire(False)

        return run

    def loop_refused_error(self, items: Sequence[Key]) -> Loop:
        manager = self.manager
        manager.acquire(exclusive=set(items), owner="holder", message=MESSAGE)
        conflict = importlib.import_module("lockcore").LockConflictError

        def run(manager: Any = manager, conflict: Any = conflict) -> None:
            for key in items:
                try:  # noqa: SIM105 - what a user pays for, without a context manager beside it
                    manager.acquire(exclusive=[key], timeout=0)
                except conflict:
                    pass

        return run


class _GrantLock:
    __slots__ = ("_grant", "_keys", "_manager")

    def __init__(self, manager: Any, key: Key) -> None:
        self._manager = manager
        self._keys = [key]
        self._grant: Any = None

    def acquire(self) -> None:
        self._grant = self._manager.acquire(exclusive=self._keys)

    def release(self) -> None:
        self._grant.release()


class LockcoreGrants(Lockcore):
    """Where `lock` matters: `manager.acquire()` each time instead of a prepared lock."""

    name = "lockcore, acquire()"

    def lock(self, key: Key) -> Lockable:
        return _GrantLock(self.manager, key)
