"""lockcore and what people use instead, behind one adapter class.

A `Rival` takes sets of keys (`hold`, `try_hold`), for everything where a microsecond more does not
matter, gives one key the shape of a `threading.Lock` (`lock`), and says what it can: whether it has
a shared mode, can try, takes a set atomically.

Where nanoseconds matter, a wrapper would be what is measured. So a rival also has *loops*: methods
`loop_<operation>(items)` that return a function doing the operation once per item, in the words a
user of that rival would write. Each rival's loops are code of their own, because CPython specialises
code for the types it meets. A rival without a loop for an operation cannot do that operation.
"""

import importlib
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar, Protocol

from ovirt_algorithm import EngineLock, Locks, OvirtLockManager

Key = Any
Loop = Callable[[], None]
MESSAGE = "OBJECT_LOCKED"
LOOP_KEY = "vm-1"


class Held(Protocol):
    """What a rival returns for a set of keys that it holds."""

    def release(self) -> object:
        """Gives all keys back."""


class Lockable(Protocol):
    """One key in the shape of a `threading.Lock`."""

    def acquire(self) -> object:
        """Takes the key, waiting as long as it takes."""

    def release(self) -> object:
        """Gives it back."""


class MissingRivalError(ImportError):
    """A rival that a benchmark needs is not installed."""


def _rival_module(name: str, distribution: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise MissingRivalError(
            f"{distribution} is not installed, and a benchmark without its rivals says nothing: "
            f"python -m pip install {distribution}"
        ) from error


class Rival:
    """One way to lock.

    Attributes:
        name: What tables and plots call it.
        has_shared: It knows shared and exclusive.
        has_try: It can refuse instead of waiting.
        is_atomic: It takes a set of keys all together or not at all.
        is_one_lock: Its loops use one lock object, `LOOP_KEY`'s, whatever the key: its best case.
    """

    name: ClassVar[str]
    has_shared: ClassVar[bool] = False
    has_try: ClassVar[bool] = True
    is_atomic: ClassVar[bool] = False
    is_one_lock: ClassVar[bool] = False

    def hold(self, exclusive: Iterable[Key] = (), shared: Iterable[Key] = ()) -> Held:
        """Takes all keys, waiting as long as it takes."""
        raise NotImplementedError

    def try_hold(
        self, exclusive: Iterable[Key] = (), shared: Iterable[Key] = ()
    ) -> Held | None:
        """Takes all keys now, or none and returns None."""
        raise NotImplementedError

    def lock(self, key: Key) -> Lockable:
        """Returns: something for the calling thread, to take `key` exclusively with."""
        raise NotImplementedError

    def loop(self, operation: str, items: Sequence[Any]) -> Loop:
        """Returns: a function that does `operation` once for each of `items`."""
        maker: Callable[[Sequence[Any]], Loop] = getattr(self, f"loop_{operation}")
        return maker(items)


def having_loop(operation: str, among: Iterable[type[Rival]] | None = None) -> list[type[Rival]]:
    """Returns: the rivals that can do `operation`, in the order of `RIVALS`."""
    return [
        rival for rival in (RIVALS if among is None else among) if hasattr(rival, f"loop_{operation}")
    ]


def by_name(name: str) -> type[Rival]:
    """Returns: the rival called `name`."""
    return {rival.name: rival for rival in RIVALS}[name]


# ---- lockcore ------------------------------------------------------------------


class Lockcore(Rival):
    name = "lockcore"
    has_shared = True
    is_atomic = True

    def __init__(self) -> None:
        self.manager = importlib.import_module("lockcore").LockManager()

    def hold(self, exclusive: Iterable[Key] = (), shared: Iterable[Key] = ()) -> Held:
        return self.manager.acquire(exclusive=exclusive, shared=shared)  # type: ignore[no-any-return]

    def try_hold(
        self, exclusive: Iterable[Key] = (), shared: Iterable[Key] = ()
    ) -> Held | None:
        return self.manager.try_acquire(exclusive=exclusive, shared=shared)  # type: ignore[no-any-return]

    def lock(self, key: Key) -> Lockable:
        return self.manager.lock(exclusive=[key])  # type: ignore[no-any-return]

    def loop_prepared(self, items: Sequence[Key]) -> Loop:
        lock = self.manager.lock(exclusive=[LOOP_KEY])

        def run() -> None:
            for _ in items:
                lock.acquire()
                lock.release()

        return run

    def loop_with_prepared(self, items: Sequence[Key]) -> Loop:
        lock = self.manager.lock(exclusive=[LOOP_KEY])

        def run() -> None:
            for _ in items:
                with lock:
                    pass

        return run

    def loop_try_exclusive(self, items: Sequence[Key]) -> Loop:
        manager = self.manager

        def run() -> None:
            for key in items:
                grant = manager.try_acquire(exclusive=[key])
                grant.release()

        return run

    def loop_try_shared(self, items: Sequence[Key]) -> Loop:
        manager = self.manager

        def run() -> None:
            for key in items:
                grant = manager.try_acquire(shared=[key])
                grant.release()

        return run

    loop_try_group_id = loop_try_exclusive

    def loop_acquire(self, items: Sequence[Key]) -> Loop:
        manager = self.manager

        def run() -> None:
            for key in items:
                grant = manager.acquire(exclusive=[key])
                grant.release()

        return run

    def loop_with(self, items: Sequence[Key]) -> Loop:
        manager = self.manager

        def run() -> None:
            for key in items:
                with manager.acquire(exclusive=[key]):
                    pass

        return run

    def loop_named_owner(self, items: Sequence[Key]) -> Loop:
        manager = self.manager

        def run() -> None:
            for key in items:
                grant = manager.try_acquire(exclusive=[key], owner="command-1")
                grant.release()

        return run

    def loop_message(self, items: Sequence[Key]) -> Loop:
        manager = self.manager

        def run() -> None:
            for key in items:
                grant = manager.try_acquire(exclusive=[key], owner="command-1", message=MESSAGE)
                grant.release()

        return run

    def loop_mixed(self, items: Sequence[tuple[Key, Key]]) -> Loop:
        manager = self.manager

        def run() -> None:
            for mine, ours in items:
                grant = manager.try_acquire(exclusive=[mine], shared=[ours])
                grant.release()

        return run

    def loop_set(self, items: Sequence[Sequence[Key]]) -> Loop:
        manager = self.manager

        def run() -> None:
            for keys in items:
                grant = manager.try_acquire(exclusive=keys)
                grant.release()

        return run

    def loop_prepared_set(self, items: Sequence[Sequence[Key]]) -> Loop:
        lock = self.manager.lock(exclusive=items[0])

        def run() -> None:
            for _ in items:
                lock.acquire()
                lock.release()

        return run

    def loop_refused(self, items: Sequence[Key]) -> Loop:
        manager = self.manager
        manager.acquire(exclusive=set(items), owner="holder", message=MESSAGE)

        def run() -> None:
            for key in items:
                manager.try_acquire(exclusive=[key])

        return run

    def loop_refused_prepared(self, items: Sequence[Key]) -> Loop:
        manager = self.manager
        manager.acquire(exclusive=[LOOP_KEY], owner="holder", message=MESSAGE)
        lock = manager.lock(exclusive=[LOOP_KEY])

        def run() -> None:
            for _ in items:
                lock.acquire(False)

        return run

    def loop_refused_error(self, items: Sequence[Key]) -> Loop:
        manager = self.manager
        manager.acquire(exclusive=set(items), owner="holder", message=MESSAGE)
        conflict = importlib.import_module("lockcore").LockConflictError

        def run() -> None:
            for key in items:
                try:
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


# ---- one lock object per key, in several ways ------------------------------------


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

    def try_hold(
        self, exclusive: Iterable[Key] = (), shared: Iterable[Key] = ()
    ) -> Held | None:
        return self._all(exclusive, shared, blocking=False)

    def _all(
        self, exclusive: Iterable[Key], shared: Iterable[Key], blocking: bool
    ) -> Held | None:
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

        def run() -> None:
            for _ in items:
                lock.acquire()
                lock.release()

        return run

    loop_try_exclusive = loop_try_shared = loop_try_group_id = loop_prepared
    loop_acquire = loop_named_owner = loop_message = loop_mixed = loop_prepared

    def loop_with(self, items: Sequence[object]) -> Loop:
        lock = self._locks[LOOP_KEY]

        def run() -> None:
            for _ in items:
                with lock:
                    pass

        return run

    loop_with_prepared = loop_with

    def loop_set(self, items: Sequence[Sequence[Key]]) -> Loop:
        lock = self._locks[LOOP_KEY]

        def run() -> None:
            for keys in items:
                for _ in keys:
                    lock.acquire()
                    lock.release()

        return run

    loop_prepared_set = loop_set

    def loop_refused(self, items: Sequence[object]) -> Loop:
        lock = self._locks[LOOP_KEY]
        lock.acquire()

        def run() -> None:
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
        locks = self.locks

        def run() -> None:
            for key in items:
                lock = locks[key]
                lock.acquire()
                lock.release()

        return run

    loop_try_group_id = loop_acquire = loop_try_exclusive

    def loop_with(self, items: Sequence[Key]) -> Loop:
        locks = self.locks

        def run() -> None:
            for key in items:
                with locks[key]:
                    pass

        return run

    def loop_set(self, items: Sequence[Sequence[Key]]) -> Loop:
        locks = self.locks

        def run() -> None:
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

        def run() -> None:
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
        locks = self.locks

        def run() -> None:
            for key in items:
                locks.acquire(key)
                locks.release(key)

        return run

    loop_try_group_id = loop_acquire = loop_try_exclusive

    def loop_mixed(self, items: Sequence[tuple[Key, Key]]) -> Loop:
        locks = self.locks

        def run() -> None:
            for mine, ours in items:
                locks.acquire(mine)
                locks.acquire(ours)
                locks.release(ours)
                locks.release(mine)

        return run

    def loop_set(self, items: Sequence[Sequence[Key]]) -> Loop:
        locks = self.locks

        def run() -> None:
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

        def run() -> None:
            for key in items:
                locks.try_acquire(key)

        return run


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
        new = _rival_module("fasteners", "fasteners").ReaderWriterLock
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
        new = _rival_module("readerwriterlock.rwlock", "readerwriterlock").RWLockFair
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
        module = _rival_module("oslo_concurrency.lockutils", "oslo.concurrency")
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


# ---- the oVirt algorithm ---------------------------------------------------------

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

    def try_hold(
        self, exclusive: Iterable[Key] = (), shared: Iterable[Key] = ()
    ) -> Held | None:
        lock = engine_lock(exclusive, shared)
        if not self.manager.acquire_lock(lock)[0]:
            return None
        return _OvirtLock(self.manager, lock)

    def lock(self, key: Key) -> Lockable:
        return _OvirtLock(self.manager, engine_lock([key], ()))

    def loop_prepared(self, items: Sequence[Key]) -> Loop:
        manager = self.manager
        lock = EngineLock({LOOP_KEY: _VM}, None)

        def run() -> None:
            for _ in items:
                manager.acquire_lock(lock)
                manager.release_lock(lock)

        return run

    def loop_try_exclusive(self, items: Sequence[str]) -> Loop:
        manager = self.manager
        group = _VM

        def run() -> None:
            for key in items:
                lock = EngineLock({key: group}, None)
                manager.acquire_lock(lock)
                manager.release_lock(lock)

        return run

    def loop_try_group_id(self, items: Sequence[tuple[str, str]]) -> Loop:
        manager = self.manager

        def run() -> None:
            for group, entity in items:
                lock = EngineLock({entity: (group, MESSAGE)}, None)
                manager.acquire_lock(lock)
                manager.release_lock(lock)

        return run

    def loop_try_shared(self, items: Sequence[str]) -> Loop:
        manager = self.manager
        group = _VM

        def run() -> None:
            for key in items:
                lock = EngineLock(None, {key: group})
                manager.acquire_lock(lock)
                manager.release_lock(lock)

        return run

    def loop_acquire(self, items: Sequence[str]) -> Loop:
        manager = self.manager
        group = _VM

        def run() -> None:
            for key in items:
                lock = EngineLock({key: group}, None)
                manager.acquire_lock_wait(lock)
                manager.release_lock(lock)

        return run

    loop_message = loop_try_exclusive

    def loop_mixed(self, items: Sequence[tuple[str, str]]) -> Loop:
        manager = self.manager
        group = _VM

        def run() -> None:
            for mine, ours in items:
                lock = EngineLock({mine: group}, {ours: group})
                manager.acquire_lock(lock)
                manager.release_lock(lock)

        return run

    def loop_set(self, items: Sequence[Sequence[str]]) -> Loop:
        manager = self.manager
        group = _VM

        def run() -> None:
            for keys in items:
                lock = EngineLock(dict.fromkeys(keys, group), None)
                manager.acquire_lock(lock)
                manager.release_lock(lock)

        return run

    def loop_prepared_set(self, items: Sequence[Sequence[str]]) -> Loop:
        manager = self.manager
        lock = EngineLock(dict.fromkeys(items[0], _VM), None)

        def run() -> None:
            for _ in items:
                manager.acquire_lock(lock)
                manager.release_lock(lock)

        return run

    def loop_refused(self, items: Sequence[str]) -> Loop:
        manager = self.manager
        manager.acquire_lock(engine_lock(items, ()))
        group = _VM

        def run() -> None:
            for key in items:
                manager.acquire_lock(EngineLock({key: group}, None))

        return run


RIVALS: tuple[type[Rival], ...] = (
    Lockcore,
    ThreadingLock,
    LeakyDict,
    RefcountedDict,
    Ovirt,
    Fasteners,
    ReaderWriterLock,
    OsloConcurrency,
)
