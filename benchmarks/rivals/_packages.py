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
    """A reader/writer lock for each key, out of a dict: it knows no keys itself."""

    name = "fasteners"
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
        def run(lock: Any = self._locks[LOOP_KEY]) -> None:
            for _ in items:
                lock.acquire_write_lock()
                lock.release_write_lock()

        return run

    def loop_with_prepared(self, items: Sequence[object]) -> Loop:
        def run(lock: Any = self._locks[LOOP_KEY]) -> None:
            for _ in items:
                with lock.write_lock():
                    pass

        return run

    def loop_try_exclusive(self, items: Sequence[Key]) -> Loop:
        def run(locks: Any = self._locks) -> None:
            for key in items:
                lock = locks[key]
                lock.acquire_write_lock()
                lock.release_write_lock()

        return run

    loop_try_group_id = loop_acquire = loop_try_exclusive

    def loop_try_shared(self, items: Sequence[Key]) -> Loop:
        def run(locks: Any = self._locks) -> None:
            for key in items:
                lock = locks[key]
                lock.acquire_read_lock()
                lock.release_read_lock()

        return run

    def loop_with(self, items: Sequence[Key]) -> Loop:
        def run(locks: Any = self._locks) -> None:
            for key in items:
                with locks[key].write_lock():
                    pass

        return run

    def loop_mixed(self, items: Sequence[tuple[Key, Key]]) -> Loop:
        def run(locks: Any = self._locks) -> None:
            for mine, ours in items:
                writer = locks[mine]
                reader = locks[ours]
                writer.acquire_write_lock()
                reader.acquire_read_lock()
                reader.release_read_lock()
                writer.release_write_lock()

        return run

    def loop_set(self, items: Sequence[Sequence[Key]]) -> Loop:
        def run(locks: Any = self._locks) -> None:
            for keys in items:
                ordered = sorted(keys)
                for key in ordered:
                    locks[key].acquire_write_lock()
                for key in ordered:
                    locks[key].release_write_lock()

        return run


class ReaderWriterLock(PerKey):
    """The package readerwriterlock, its fair variant, a lock for each key out of a dict."""

    name = "readerwriterlock"
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
        def run(lock: Any = self._locks[LOOP_KEY].gen_wlock()) -> None:  # noqa: B008
            for _ in items:
                lock.acquire()
                lock.release()

        return run

    def loop_with_prepared(self, items: Sequence[object]) -> Loop:
        def run(lock: Any = self._locks[LOOP_KEY].gen_wlock()) -> None:  # noqa: B008
            for _ in items:
                with lock:
                    pass

        return run

    def loop_try_exclusive(self, items: Sequence[Key]) -> Loop:
        def run(locks: Any = self._locks) -> None:
            for key in items:
                side = locks[key].gen_wlock()
                side.acquire()
                side.release()

        return run

    loop_try_group_id = loop_acquire = loop_try_exclusive

    def loop_try_shared(self, items: Sequence[Key]) -> Loop:
        def run(locks: Any = self._locks) -> None:
            for key in items:
                side = locks[key].gen_rlock()
                side.acquire()
                side.release()

        return run

    def loop_with(self, items: Sequence[Key]) -> Loop:
        def run(locks: Any = self._locks) -> None:
            for key in items:
                with locks[key].gen_wlock():
                    pass

        return run

    def loop_mixed(self, items: Sequence[tuple[Key, Key]]) -> Loop:
        def run(locks: Any = self._locks) -> None:
            for mine, ours in items:
                writer = locks[mine].gen_wlock()
                reader = locks[ours].gen_rlock()
                writer.acquire()
                reader.acquire()
                reader.release()
                writer.release()

        return run

    def loop_refused(self, items: Sequence[Key]) -> Loop:
        held = [self.hold([key]) for key in set(items)]

        def run(locks: Any = self._locks) -> None:
            for key in items:
                locks[key].gen_wlock().acquire(blocking=False)
            assert held

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
        def run(lock: Any = self._lock) -> None:
            for key in items:
                with lock(key):
                    pass

        return run

    loop_try_exclusive = loop_acquire = loop_with

    def loop_try_group_id(self, items: Sequence[tuple[str, str]]) -> Loop:
        def run(lock: Any = self._lock) -> None:
            for group, entity in items:
                with lock(f"{group}:{entity}"):
                    pass

        return run

    def loop_refused(self, items: Sequence[str]) -> Loop:
        lock = self._lock
        refused = self._refused
        semaphores = self._semaphores
        kept = [self.hold([key]) for key in set(items)]

        def run(lock: Any = lock, refused: Any = refused, semaphores: Any = semaphores) -> None:
            for key in items:
                try:
                    with lock(key, semaphores=semaphores, blocking=False):
                        pass
                except refused:
                    pass
            assert kept

        return run
