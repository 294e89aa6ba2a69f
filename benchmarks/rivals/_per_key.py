"""What programs write themselves: one `threading.Lock`, or one for each key."""

import threading
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from rivals._base import LOOP_KEY, Held, Key, Lockable, Loop, Rival


class _Several:
    """Holds of single keys, given back in the opposite order."""

    __slots__ = ("_holds",)

    def __init__(self, holds: list[Held]) -> None:
        self._holds = holds

    def release(self) -> None:
        for hold in reversed(self._holds):
            hold.release()


class PerKey(Rival):
    """Takes a set one key after the other, in one order for all."""

    def one(self, key: Key, is_shared: bool, blocking: bool) -> Held | None:
        """Takes one key. Returns: None if it may not wait and would have to."""
        raise NotImplementedError

    def hold(self, exclusive: Iterable[Key] = (), shared: Iterable[Key] = ()) -> Held:
        held = self._all(exclusive, shared, blocking=True)
        assert held is not None
        return held

    def try_hold(self, exclusive: Iterable[Key] = (), shared: Iterable[Key] = ()) -> Held | None:
        return self._all(exclusive, shared, blocking=False)

    def _all(self, exclusive: Iterable[Key], shared: Iterable[Key], blocking: bool) -> Held | None:
        modes = {**dict.fromkeys(shared, True), **dict.fromkeys(exclusive, False)}
        holds: list[Held] = []
        for key in sorted(modes, key=str):
            held = self.one(key, modes[key], blocking)
            if held is None:
                _Several(holds).release()
                return None
            holds.append(held)
        return holds[0] if len(holds) == 1 else _Several(holds)


class ThreadingLock(PerKey):
    """The floor: in loops one lock, which knows no key, no mode and no owner."""

    name = "threading.Lock"
    is_one_lock = True

    def __init__(self) -> None:
        self._locks: defaultdict[Key, threading.Lock] = defaultdict(threading.Lock)

    def one(self, key: Key, is_shared: bool, blocking: bool) -> Held | None:  # noqa: ARG002
        lock = self._locks[key]
        return lock if lock.acquire(blocking) else None

    def lock(self, key: Key) -> Lockable:
        return self._locks[key]

    def loop_prepared(self, items: Sequence[object]) -> Loop:
        lock = self._locks[LOOP_KEY]

        def run(lock: Any = lock) -> None:
            for _ in items:
                lock.acquire()
                lock.release()

        return run

    loop_try_exclusive = loop_try_shared = loop_try_group_id = loop_prepared
    loop_acquire = loop_named_owner = loop_message = loop_mixed = loop_prepared

    def loop_with(self, items: Sequence[object]) -> Loop:
        lock = self._locks[LOOP_KEY]

        def run(lock: Any = lock) -> None:
            for _ in items:
                with lock:
                    pass

        return run

    loop_with_prepared = loop_with

    def loop_set(self, items: Sequence[Sequence[Key]]) -> Loop:
        lock = self._locks[LOOP_KEY]

        def run(lock: Any = lock) -> None:
            for keys in items:
                for _ in keys:
                    lock.acquire()
                    lock.release()

        return run

    loop_prepared_set = loop_set

    def loop_refused(self, items: Sequence[object]) -> Loop:
        lock = self._locks[LOOP_KEY]
        lock.acquire()

        def run(lock: Any = lock) -> None:
            for _ in items:
                lock.acquire(False)

        return run

    loop_refused_prepared = loop_refused_error = loop_refused


class LeakyDict(PerKey):
    """What most programs do: a lock per key, made at first use and kept for ever."""

    name = "leaky dict of locks"

    def __init__(self) -> None:
        self.locks: defaultdict[Key, threading.Lock] = defaultdict(threading.Lock)

    def one(self, key: Key, is_shared: bool, blocking: bool) -> Held | None:  # noqa: ARG002
        lock = self.locks[key]
        return lock if lock.acquire(blocking) else None

    def lock(self, key: Key) -> Lockable:
        return self.locks[key]

    def loop_try_exclusive(self, items: Sequence[Key]) -> Loop:
        def run(locks: Any = self.locks) -> None:
            for key in items:
                lock = locks[key]
                lock.acquire()
                lock.release()

        return run

    loop_try_group_id = loop_acquire = loop_try_exclusive

    def loop_with(self, items: Sequence[Key]) -> Loop:
        def run(locks: Any = self.locks) -> None:
            for key in items:
                with locks[key]:
                    pass

        return run

    def loop_mixed(self, items: Sequence[tuple[Key, Key]]) -> Loop:
        def run(locks: Any = self.locks) -> None:
            for mine, ours in items:
                first = locks[mine]
                second = locks[ours]
                first.acquire()
                second.acquire()
                second.release()
                first.release()

        return run

    def loop_set(self, items: Sequence[Sequence[Key]]) -> Loop:
        def run(locks: Any = self.locks) -> None:
            for keys in items:
                ordered = sorted(keys)
                for key in ordered:
                    locks[key].acquire()
                for key in ordered:
                    locks[key].release()

        return run

    def loop_refused(self, items: Sequence[Key]) -> Loop:
        locks = self.locks
        for key in set(items):
            locks[key].acquire()

        def run(locks: Any = locks) -> None:
            for key in items:
                locks[key].acquire(False)

        return run


class RefcountedLocks:
    """A lock per key that somebody uses: the dict of locks without the leak."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._entries: dict[Key, list[Any]] = {}

    def acquire(self, key: Key) -> None:
        with self._mutex:
            entry = self._entries.get(key)
            if entry is None:
                entry = self._entries[key] = [threading.Lock(), 0]
            entry[1] += 1
        entry[0].acquire()

    def try_acquire(self, key: Key) -> bool:
        with self._mutex:
            entry = self._entries.get(key)
            if entry is not None:
                return False
            entry = self._entries[key] = [threading.Lock(), 1]
            entry[0].acquire()
            return True

    def release(self, key: Key) -> None:
        with self._mutex:
            entry = self._entries[key]
            entry[1] -= 1
            if not entry[1]:
                del self._entries[key]
        entry[0].release()

    def __len__(self) -> int:
        return len(self._entries)


class _RefcountedLock:
    __slots__ = ("_key", "_locks")

    def __init__(self, locks: RefcountedLocks, key: Key) -> None:
        self._locks = locks
        self._key = key

    def acquire(self) -> None:
        self._locks.acquire(self._key)

    def release(self) -> None:
        self._locks.release(self._key)


class RefcountedDict(PerKey):
    name = "refcounted dict of locks"

    def __init__(self) -> None:
        self.locks = RefcountedLocks()

    def one(self, key: Key, is_shared: bool, blocking: bool) -> Held | None:  # noqa: ARG002
        if blocking:
            self.locks.acquire(key)
        elif not self.locks.try_acquire(key):
            return None
        return _RefcountedLock(self.locks, key)

    def lock(self, key: Key) -> Lockable:
        return _RefcountedLock(self.locks, key)

    def loop_try_exclusive(self, items: Sequence[Key]) -> Loop:
        def run(locks: Any = self.locks) -> None:
            for key in items:
                locks.acquire(key)
                locks.release(key)

        return run

    loop_try_group_id = loop_acquire = loop_try_exclusive

    def loop_mixed(self, items: Sequence[tuple[Key, Key]]) -> Loop:
        def run(locks: Any = self.locks) -> None:
            for mine, ours in items:
                locks.acquire(mine)
                locks.acquire(ours)
                locks.release(ours)
                locks.release(mine)

        return run

    def loop_set(self, items: Sequence[Sequence[Key]]) -> Loop:
        def run(locks: Any = self.locks) -> None:
            for keys in items:
                ordered = sorted(keys)
                for key in ordered:
                    locks.acquire(key)
                for key in ordered:
                    locks.release(key)

        return run

    def loop_refused(self, items: Sequence[Key]) -> Loop:
        locks = self.locks
        for key in set(items):
            locks.acquire(key)

        def run(locks: Any = locks) -> None:
            for key in items:
                locks.try_acquire(key)

        return run
