"""Threads that use the same handles at once: grants, prepared locks, one manager.

Most programs give each thread grants of its own, and nothing is protected there that is never
shared. Here every thread takes any grant from a small board, reads it, changes it, releases it or
puts another in its place, while others do the same to it. Whatever a call may raise it may raise;
what is read must be something that was true at some time. With the GIL this is quick to pass. It is
meant for an interpreter without one, and most of all for ThreadSanitizer: there are no pauses, so
that calls overlap.
"""

from __future__ import annotations

import asyncio
import collections
import random
import threading
import time
from collections.abc import Callable
from typing import Any

from lockcore import (
    DeadlockError,
    LockConflictError,
    LockManager,
    Mode,
    NotHeldError,
)

KEYS = ["a", ("group", 1), 2]
OWNERS = ["first", "second", 3, 4]
SHORT = 0.0005
"""Seconds that a call waits which may not wait for ever."""

HELD_BY_NOBODY = LockManager().acquire()


def ends(call: Callable[..., Any], *arguments: Any, **named: Any) -> bool:
    """Makes a call that may be refused. Returns whether it was not."""
    try:
        call(*arguments, **named)
    except (LockConflictError, DeadlockError):
        return False
    except NotHeldError:
        return False
    except RuntimeError as error:
        assert "upgrade" in str(error)  # noqa: PT017 - one of the errors that may come
        return False
    return True


class Board:
    """What all threads share, and what each may do to it."""

    def __init__(self, seed: str) -> None:
        self.seed = seed
        self.manager = LockManager()
        self.grants = [HELD_BY_NOBODY] * 4
        self.locks = [
            self.manager.lock(exclusive=KEYS[:1]),
            self.manager.lock(shared=KEYS, owner="first"),
        ]
        self.keys = [KEYS[0]]  # a list that changes while requests are built from it
        self.counts: collections.Counter[str] = collections.Counter()
        self.is_over = threading.Event()
        self.errors: list[BaseException] = []
        # Each with its weight; those that take long are few, so that calls overlap.
        self.acts = {
            self.put: 8,
            self.put_shared: 4,
            self.wait_and_put: 2,
            self.read: 12,
            self.look_through: 6,
            self.release: 8,
            self.downgrade: 6,
            self.upgrade: 4,
            self.transfer: 8,
            self.refuse_a_transfer: 4,
            self.use_a_lock: 8,
            self.look: 1,
            self.end_by_force: 2,
            self.change_keys: 2,
        }

    # -- acts --

    def place(self, draw: random.Random) -> int:
        return draw.randrange(len(self.grants))

    def request(self, draw: random.Random) -> dict[str, Any]:
        keys = draw.sample(KEYS, draw.randint(1, len(KEYS)))
        shared = [key for key in keys if draw.random() < 0.5]
        return {
            "exclusive": [key for key in keys if key not in shared],
            "shared": dict.fromkeys(shared, "MESSAGE"),
            "owner": draw.choice([None, *OWNERS]),
        }

    def put(self, draw: random.Random) -> None:
        grant = self.manager.try_acquire(**self.request(draw))
        if grant is not None:
            self.grants[self.place(draw)] = grant

    def put_shared(self, draw: random.Random) -> None:
        grant = self.manager.try_acquire(shared=KEYS, owner=draw.choice(OWNERS))
        if grant is not None:
            self.grants[self.place(draw)] = grant

    def wait_and_put(self, draw: random.Random) -> None:
        place = self.place(draw)

        def acquire() -> None:
            self.grants[place] = self.manager.acquire(**self.request(draw), timeout=SHORT)

        self.counts["waits"] += ends(acquire)

    def read(self, draw: random.Random) -> None:
        grant = self.grants[self.place(draw)]
        for _ in range(5):
            assert grant.owner in {None, *OWNERS}
            assert grant.token >= 0
        repr(grant)

    def look_through(self, draw: random.Random) -> None:
        grant = self.grants[self.place(draw)]
        assert grant.exclusive | grant.shared <= {*KEYS, "mine"}

    def release(self, draw: random.Random) -> None:
        self.counts["releases"] += ends(self.grants[self.place(draw)].release)

    def downgrade(self, draw: random.Random) -> None:
        self.counts["downgrades"] += ends(self.grants[self.place(draw)].downgrade)

    def upgrade(self, draw: random.Random) -> None:
        timeout = draw.choice([0, SHORT])
        grant = self.grants[self.place(draw)]
        self.counts["upgrades"] += ends(grant.upgrade, timeout=timeout)

    def transfer(self, draw: random.Random) -> None:
        grant = self.grants[self.place(draw)]
        self.counts["transfers"] += ends(grant.transfer, draw.choice([None, *OWNERS]))

    def refuse_a_transfer(self, draw: random.Random) -> None:
        """To an owner that nobody ever becomes: another grant of its own is in the way."""
        grants = [self.manager.try_acquire(exclusive=["mine"], owner=4) for _ in range(2)]
        if None not in grants:
            place = self.place(draw)
            self.grants[place] = grants[0]
            for _ in range(20):
                ends(grants[0].transfer, "nobody")
        for grant in grants:
            if grant is not None:
                ends(grant.release)

    def use_a_lock(self, draw: random.Random) -> None:
        lock = draw.choice(self.locks)
        if ends(lambda: lock.acquire(timeout=SHORT)):
            self.counts["locks"] += 1
            lock.locked()
            repr(lock)
            ends(lock.release)

    def look(self, draw: random.Random) -> None:
        manager = self.manager
        key = draw.choice(KEYS)
        for row in [*manager.snapshot(), *manager.holders(key), *manager.owned_by("first")]:
            assert row.mode in Mode
        manager.waiters(key)
        assert len(manager) <= len(KEYS) + 1
        manager.statistics()

    def end_by_force(self, draw: random.Random) -> None:
        kind = draw.randrange(6)
        if kind == 0:
            self.manager.clear()
        elif kind == 1:
            self.manager.force_release(draw.choice(KEYS))
        elif kind == 2:
            self.manager.release_all(draw.choice(OWNERS))

    def change_keys(self, draw: random.Random) -> None:
        if draw.random() < 0.5:
            self.keys.append(draw.choice(KEYS))
        elif len(self.keys) > 1:
            self.keys.pop()
        grant = self.manager.try_acquire(exclusive=self.keys)
        if grant is not None:
            ends(grant.release)

    # -- threads --

    def act(self, name: str, start: threading.Barrier) -> None:
        draw = random.Random(f"{self.seed}/{name}")
        start.wait()
        while not self.is_over.is_set():
            for act in draw.choices([*self.acts], [*self.acts.values()], k=50):
                act(draw)
            self.counts["acts"] += 50

    def act_in_a_loop(self, name: str, start: threading.Barrier) -> None:
        draw = random.Random(f"{self.seed}/{name}")
        start.wait()
        asyncio.run(self.tasks(draw))

    async def tasks(self, draw: random.Random) -> None:
        while not self.is_over.is_set():
            tasks = [asyncio.create_task(self.task(draw)) for _ in range(4)]
            await asyncio.sleep(0)
            draw.choice(tasks).cancel()
            for outcome in await asyncio.gather(*tasks, return_exceptions=True):
                # Those who may be refused, and who was cancelled.
                if not isinstance(
                    outcome,
                    LockConflictError | DeadlockError | asyncio.CancelledError | None,
                ):
                    raise outcome
            self.counts["tasks"] += len(tasks)

    async def task(self, draw: random.Random) -> None:
        grant = await self.manager.acquire_async(**self.request(draw), timeout=SHORT)
        self.grants[self.place(draw)] = grant

    def guarded(self, call: Callable[..., None], *arguments: Any) -> None:
        try:
            call(*arguments)
        except BaseException as error:  # noqa: BLE001 - raised by run()
            self.errors.append(error)
            self.is_over.set()

    def run(self, seconds: float, n_threads: int = 4, n_loops: int = 1) -> None:
        """Runs for so long.

        Raises:
            AssertionError: Something that was promised did not hold.
        """
        start = threading.Barrier(n_threads + n_loops)
        calls = [self.act] * n_threads + [self.act_in_a_loop] * n_loops
        threads = [
            threading.Thread(target=self.guarded, args=(call, str(number), start), daemon=True)
            for number, call in enumerate(calls)
        ]
        for thread in threads:
            thread.start()
        self.is_over.wait(seconds)
        self.is_over.set()
        for thread in threads:
            thread.join(60)
            assert not thread.is_alive(), f"it hangs: {self.manager.snapshot()}"
        if self.errors:
            raise self.errors[0]
        self.manager.clear()
        assert self.manager.snapshot() == []
        assert [self.manager.waiters(key) for key in KEYS] == [[]] * len(KEYS)
        self.manager.close()


def run_boards(seed: str, seconds: float) -> collections.Counter[str]:
    """Runs boards of a second for so long and returns what they counted.

    Raises:
        AssertionError: With the seed of the board.
    """
    counts: collections.Counter[str] = collections.Counter()
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        board = Board(f"{seed}/{counts['boards']}")
        try:
            board.run(min(1.0, max(end - time.monotonic(), 0.05)))
        except BaseException as error:
            error.add_note(f"board {board.seed}")
            raise
        counts.update(board.counts)
        counts["boards"] += 1
    return counts
