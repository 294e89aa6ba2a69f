"""The lock manager of oVirt's engine, as an algorithm, in Python.

One mutex, one dict, one condition. A request names its locks in two maps, from the id of an entity
to its group and a message; a dict's key is id and group in one string. All keys are checked, then
all are inserted. Every release wakes everybody who waits for anything, and each tries its whole
request again.

Written anew from a description of its behaviour. It is better off than the original in two ways:
it logs nothing, and a request that waits takes its shared locks too.
"""

import threading
from collections.abc import Mapping
from time import monotonic

Locks = Mapping[str, tuple[str, str]]


class EngineLock:
    """What one command locks: two maps from an entity's id to its group and a message."""

    __slots__ = ("exclusive", "shared")

    def __init__(self, exclusive: Locks | None, shared: Locks | None) -> None:
        self.exclusive = exclusive
        self.shared = shared


class _Entry:
    __slots__ = ("count", "is_exclusive", "messages")

    def __init__(self, count: int, is_exclusive: bool, message: str) -> None:
        self.count = count
        self.is_exclusive = is_exclusive
        self.messages = [message]


# What an acquisition returns: whether it was granted and, if not, the holders' messages.
LockingResult = tuple[bool, frozenset[str]]
_SUCCESS: LockingResult = (True, frozenset())


class OvirtLockManager:
    """Shared and exclusive locks on any number of entities, all or none."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._released = threading.Condition(self._mutex)
        self._entries: dict[str, _Entry] = {}

    def acquire_lock(self, lock: EngineLock) -> LockingResult:
        """Takes everything or nothing, at once."""
        with self._mutex:
            return self._acquire(lock)

    def acquire_lock_wait(self, lock: EngineLock, timeout: float | None = None) -> LockingResult:
        """Takes everything, waiting until that is possible or `timeout` seconds have passed."""
        deadline = None if timeout is None else monotonic() + timeout
        with self._mutex:
            while True:
                result = self._acquire(lock)
                if result[0]:
                    return result
                left = None if deadline is None else deadline - monotonic()
                if left is not None and left <= 0:
                    return result
                self._released.wait(left)

    def release_lock(self, lock: EngineLock) -> None:
        """Gives everything back and wakes every waiter."""
        entries = self._entries
        with self._mutex:
            for entity, (group, message) in (lock.shared or {}).items():
                key = entity + group
                entry = entries[key]
                entry.count -= 1
                if entry.count:
                    entry.messages.remove(message)
                else:
                    del entries[key]
            for entity, (group, _) in (lock.exclusive or {}).items():
                del entries[entity + group]
            self._released.notify_all()

    def __len__(self) -> int:
        return len(self._entries)

    def _acquire(self, lock: EngineLock) -> LockingResult:
        entries = self._entries
        shared = lock.shared or {}
        exclusive = lock.exclusive or {}
        for entity, (group, _) in shared.items():
            entry = entries.get(entity + group)
            if entry is not None and entry.is_exclusive:
                return False, frozenset(entry.messages)
        for entity, (group, _) in exclusive.items():
            entry = entries.get(entity + group)
            if entry is not None:
                return False, frozenset(entry.messages)
        for entity, (group, message) in shared.items():
            key = entity + group
            entry = entries.get(key)
            if entry is None:
                entries[key] = _Entry(1, False, message)
            else:
                entry.count += 1
                entry.messages.append(message)
        for entity, (group, message) in exclusive.items():
            entries[entity + group] = _Entry(0, True, message)
        return _SUCCESS
