"""What the package index has, one lock object for each key."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

from rivals._base import LOOP_KEY, Held, Key, Lockable, Loop, rival_module
from rivals._per_key import PerKey


class _NamedHold:
    """A hold that is given back by a method of another name."""

    __slots__ = ("release",)

    def __init__(self, release: Callable[[], object]) -> None:
        self.release = release


class _NamedLock:
    """A lock whose methods have other names."""

    __slots__ = ("acquire", "release")

    def __init__(self, acquire: Callable[[], object], release: Callable[[], object]) -> None:
        self.acquire = acquire
        self.release = release


class Fasteners(PerKey):
    """In loops one lock object that is there already, which is its best case."""

    name = "fasteners"
    is_one_lock = True
    has_shared = True
    has_try = False

    def __init__(self) -> None:
        new = rival_module("fasteners", "fasteners").ReaderWriterLock
        self._locks: defaultdict[Key, Any] = defaultdict(new)

    def one(self, key: Key, is_shared: bool, blocking: bool) -> Held | None:
        assert blocking
        lock = self._locks[key]
        if is_shared:
            lock.acquire_read_lock()
            return _NamedHold(lock.release_read_lock)
        lock.acquire_write_lock()
        return _NamedHold(lock.release_write_lock)

    def lock(self, key: Key) -> Lockable:
        lock = self._locks[key]
        return _NamedLock(lock.acquire_write_lock, lock.release_write_lock)

    def loop_prepared(self, items: Sequence[object]) -> Loop:
        lock = self._locks[LOOP_KEY]

        def run() -> None:
            for _ in items:
                lock.acquire_write_lock()
                lock.release_write_lock()

        return run

    loop_try_exclusive = loop_acquire = loop_prepared

    def loop_try_shared(self, items: Sequence[object]) -> Loop:
        lock = self._locks[LOOP_KEY]

        def run() -> None:
            for _ in items:
                lock.acquire_read_lock()
                lock.release_read_lock()

        return run

    def loop_with(self, items: Sequence[object]) -> Loop:
        lock = self._locks[LOOP_KEY]

        def run() -> None:
            for _ in items:
                with lock.write_lock():
                    pass

        return run

    loop_with_prepared = loop_with

    def loop_mixed(self, items: Sequence[tuple[Key, Key]]) -> Loop:
        mine = self._locks[LOOP_KEY]
        ours = self._locks["pool-1"]

        def run() -> None:
            for _ in items:
                mine.acquire_write_lock()
                ours.acquire_read_lock()
                ours.release_read_lock()
                mine.release_write_lock()

        return run

    def loop_set(self, items: Sequence[Sequence[Key]]) -> Loop:
        locks = self._locks

        def run() -> None:
            for keys in items:
                ordered = sorted(keys)
                for key in ordered:
                    locks[key].acquire_write_lock()
                for key in ordered:
                    locks[key].release_write_lock()

        return run


class ReaderWriterLock(PerKey):
    """The package readerwriterlock, its fair variant; in loops one lock that is there already."""

    name = "readerwriterlock"
    is_one_lock = True
    has_shared = True

    def __init__(self) -> None:
        new = rival_module("readerwriterlock.rwlock", "readerwriterlock").RWLockFair
        self._locks: defaultdict[Key, Any] = defaultdict(new)

    def one(self, key: Key, is_shared: bool, blocking: bool) -> Held | None:
        lock = self._locks[key]
        side: Any = lock.gen_rlock() if is_shared else lock.gen_wlock()
        return side if side.acquire(blocking=blocking) else None

    def lock(self, key: Key) -> Lockable:
        return self._locks[key].gen_wlock()  # type: ignore[no-any-return]

    def loop_prepared(self, items: Sequence[object]) -> Loop:
        lock = self._locks[LOOP_KEY].gen_wlock()

        def run() -> None:
            for _ in items:
                lock.acquire()
                lock.release()

        return run

    loop_try_exclusive = loop_acquire = loop_prepared

    def loop_try_shared(self, items: Sequence[object]) -> Loop:
        lock = self._locks[LOOP_KEY].gen_rlock()

        def run() -> None:
            for _ in items:
                lock.acquire()
                lock.release()

        return run

    def loop_with(self, items: Sequence[object]) -> Loop:
        lock = self._locks[LOOP_KEY].gen_wlock()

        def run() -> None:
            for _ in items:
                with lock:
                    pass

        return run

    loop_with_prepared = loop_with

    def loop_mixed(self, items: Sequence[tuple[Key, Key]]) -> Loop:
        mine = self._locks[LOOP_KEY].gen_wlock()
        ours = self._locks["pool-1"].gen_rlock()

        def run() -> None:
            for _ in items:
                mine.acquire()
                ours.acquire()
                ours.release()
                mine.release()

        return run

    def loop_refused(self, items: Sequence[object]) -> Loop:
        lock = self._locks[LOOP_KEY]
        lock.gen_wlock().acquire()
        mine = lock.gen_wlock()

        def run() -> None:
            for _ in items:
                mine.acquire(blocking=False)

        return run


class _ContextLock:
    """A lock that is a new context manager each time."""

    __slots__ = ("_context", "_new")

    def __init__(self, new: Callable[[], Any]) -> None:
        self._new = new
        self._context: Any = None

    def acquire(self) -> None:
        context = self._new()
        context.__enter__()
        self._context = context

    def release(self) -> None:
        self._context.__exit__(None, None, None)


class OsloConcurrency(PerKey):
    """`lockutils.lock(name)`: a weak table of semaphores, usable in a with statement only."""

    name = "oslo.concurrency"

    def __init__(self) -> None:
        module = rival_module("oslo_concurrency.lockutils", "oslo.concurrency")
        self._lock = module.lock
        self._refused: type[Exception] = module.AcquireLockFailedException
        self._semaphores = module.Semaphores()

    def one(self, key: Key, is_shared: bool, blocking: bool) -> Held | None:  # noqa: ARG002
        name = key if isinstance(key, str) else ":".join(key)
        context = self._lock(name, semaphores=self._semaphores, blocking=blocking)
        try:
            context.__enter__()
        except self._refused:
            return None
        return _NamedHold(lambda: context.__exit__(None, None, None))

    def lock(self, key: Key) -> Lockable:
        name = key if isinstance(key, str) else ":".join(key)
        return _ContextLock(lambda: self._lock(name, semaphores=self._semaphores))

    def loop_with(self, items: Sequence[str]) -> Loop:
        lock = self._lock

        def run() -> None:
            for key in items:
                with lock(key):
                    pass

        return run

    loop_try_exclusive = loop_acquire = loop_with

    def loop_try_group_id(self, items: Sequence[tuple[str, str]]) -> Loop:
        lock = self._lock

        def run() -> None:
            for group, entity in items:
                with lock(f"{group}:{entity}"):
                    pass

        return run

    def loop_refused(self, items: Sequence[str]) -> Loop:
        lock = self._lock
        refused = self._refused
        semaphores = self._semaphores
        kept = [self.hold([key]) for key in set(items)]

        def run() -> None:
            for key in items:
                try:
                    with lock(key, semaphores=semaphores, blocking=False):
                        pass
                except refused:
                    pass
            assert kept

        return run
