"""Threads and tasks that acquire random sets in all ways there are.

Each key has a counter that is safe by itself, and a plain value. Whoever holds the key exclusive
reads the value, lets others run, and writes it back one higher; whoever holds it in any mode finds
both equal. In some rounds grants are ended by force, too, and then nobody touches the values. A
round ends with an empty manager.

A seed decides what each thread and task does. It does not decide how they interleave.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import faulthandler
import random
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from lockcore import (
    DeadlockError,
    LockConflictError,
    LockManager,
    LockTimeoutError,
    NotHeldError,
)

SHARED_OWNERS = ["shared-1", "shared-2"]
PATIENCE = 60.0
"""Seconds without any progress after which a round has failed."""

REFUSALS = (LockConflictError, DeadlockError)  # a time-out is a conflict


class Cell:
    """What a key protects."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._counter = 0
        self._value = 0

    def write(self) -> Iterator[None]:
        """Adds one to both; where it yields, others may run."""
        value = self._value
        yield
        self._value = value + 1
        with self._mutex:
            self._counter += 1

    def check(self) -> None:
        with self._mutex:
            counter = self._counter
        assert self._value == counter, f"value {self._value}, counter {counter}"


class Round:
    """One manager, and those who use it, for a while."""

    def __init__(self, seed: str) -> None:
        draw = random.Random(seed)
        self.seed = seed
        self.n_keys = draw.choice([3, 8, 30])
        self.is_clearing = draw.random() < 0.25
        self.n_threads = draw.randint(1, 5)
        self.n_loops = draw.randint(0, 2) if hasattr(LockManager, "acquire_async") else 0
        self.n_tasks = draw.randint(2, 12)
        self.manager = LockManager()
        self.cells = {self.key(i): Cell() for i in range(self.n_keys)}
        self.counts: collections.Counter[str] = collections.Counter()
        self.mail: collections.deque[Any] = collections.deque()
        self.is_over = threading.Event()
        self.errors: list[BaseException] = []

    @staticmethod
    def key(number: int) -> Any:
        return [f"k{number}", ("GROUP", number), number][number % 3]

    # -- what is done, alike in threads and tasks --

    def request(self, draw: random.Random, mine: str) -> dict[str, Any]:
        """A random request. Its owner is nobody, the caller, or one that several callers share."""
        n = 1 if draw.random() < 0.6 else draw.randint(1, min(5, self.n_keys))
        hot = draw.random() < 0.2
        keys = [self.key(draw.randrange(2 if hot else self.n_keys)) for _ in range(n)]
        modes: dict[str, list[Any]] = {"exclusive": [], "shared": []}
        readers = draw.random() < 0.3
        for key in keys:
            modes["shared" if readers or draw.random() < 0.4 else "exclusive"].append(key)
        owner = draw.choices([None, mine, draw.choice(SHARED_OWNERS)], [5, 4, 1])[0]
        return {**modes, "owner": owner}

    def may_touch(self, owner: str | None) -> bool:
        """Whether this owner's locks exclude all others: not those of owners with several users."""
        return not self.is_clearing and owner not in SHARED_OWNERS

    def touch(self, grant: Any) -> Iterator[None]:
        """Uses what the grant protects; where it yields, others may run."""
        for key in grant.exclusive:
            self.cells[key].check()
            yield from self.cells[key].write()
            self.cells[key].check()
            self.counts["writes"] += 1
        for key in grant.shared:
            self.cells[key].check()
            yield
            self.cells[key].check()
            self.counts["reads"] += 1

    def give_back(self, grant: Any) -> None:
        try:
            grant.release()
        except NotHeldError:
            if not self.is_clearing:
                raise

    def change(self, draw: random.Random, grant: Any, mine: str) -> None:
        """Changes what is held, in a way that does not wait."""
        try:
            if draw.random() < 0.1:
                grant.downgrade()
                self.counts["downgrades"] += 1
            if draw.random() < 0.05:
                grant.upgrade(timeout=0)
                self.counts["upgrades"] += 1
        except NotHeldError:
            assert self.is_clearing
        except REFUSALS:
            self.counts["refused"] += 1

    def leave(self, draw: random.Random, grant: Any) -> None:
        """Gives back, or leaves it to another, perhaps under another name."""
        if draw.random() < 0.05:
            with contextlib.suppress(LockConflictError, NotHeldError):
                grant.transfer(draw.choice([None, *SHARED_OWNERS]))
                self.counts["transfers"] += 1
        if draw.random() < 0.1:
            self.mail.append(grant)
        else:
            self.give_back(grant)

    # -- threads --

    def acquire(self, draw: random.Random, **request: Any) -> Any:
        """Acquires in a random way. Returns the grant, or None."""
        kind = draw.random()
        if kind < 0.3:
            return self.manager.try_acquire(**request)
        timeout = 0 if kind < 0.4 else None if kind < 0.6 else draw.random() / 200
        return self.manager.acquire(**request, timeout=timeout)

    def use(self, draw: random.Random, mine: str) -> None:
        request = self.request(draw, mine)
        grant = self.acquire(draw, **request)
        self.counts["grants" if grant else "refused"] += 1
        if grant is None:
            return
        touches = self.may_touch(request["owner"])
        try:
            if touches:
                for _ in self.touch(grant):
                    time.sleep(0)
            if request["owner"] is not None and draw.random() < 0.3:
                more = {**self.request(draw, mine), "owner": request["owner"]}
                with self.manager.acquire(**more, timeout=draw.choice([None, 0.005])) as nested:
                    for _ in self.touch(nested) if touches else ():
                        time.sleep(0)
            self.change(draw, grant, mine)
            if draw.random() < 0.1:
                grant.upgrade(timeout=draw.choice([None, 0.005]))
                self.counts["upgrades"] += 1
                if touches:
                    for _ in self.touch(grant):
                        time.sleep(0)
        except REFUSALS:
            self.give_back(grant)
            raise
        except NotHeldError:
            assert self.is_clearing
            return
        self.leave(draw, grant)

    def use_lock(self, draw: random.Random, lock: Any, keys: list[Any]) -> None:
        """A prepared lock, shared by all threads."""
        if not lock.acquire(timeout=draw.choice([-1, 0.002, 0.01])):
            self.counts["refused"] += 1
            return
        self.counts["locks"] += 1
        if not self.is_clearing:
            for key in keys:
                for _ in self.cells[key].write():
                    time.sleep(0)
        try:
            lock.release()
        except NotHeldError:
            assert self.is_clearing

    def thread(self, name: str, lock: Any, keys: list[Any]) -> None:
        draw = random.Random(f"{self.seed}/{name}")
        while not self.is_over.is_set():
            try:
                if draw.random() < 0.1:
                    self.use_lock(draw, lock, keys)
                else:
                    self.use(draw, name)
            except LockTimeoutError:
                self.counts["timeouts"] += 1
            except DeadlockError:
                self.counts["deadlocks"] += 1
            except LockConflictError:
                self.counts["refused"] += 1
            self.counts["done"] += 1

    # -- tasks --

    async def use_async(self, draw: random.Random, mine: str) -> None:
        request = self.request(draw, mine)
        timeout = draw.choice([None, None, 0, 0.002, 0.01])
        if draw.random() < 0.2:
            async with asyncio.timeout(0.003):
                grant = await self.manager.acquire_async(**request)
        else:
            grant = await self.manager.acquire_async(**request, timeout=timeout)
        self.counts["grants of tasks"] += 1
        try:
            if self.may_touch(request["owner"]):
                for _ in self.touch(grant):
                    await asyncio.sleep(0)
            if request["owner"] is not None and draw.random() < 0.3:
                more = {**self.request(draw, mine), "owner": request["owner"]}
                nested = await self.manager.acquire_async(**more, timeout=0.005)
                await self.hold_a_while(nested)
            self.change(draw, grant, mine)
        except BaseException:
            self.give_back(grant)
            raise
        self.leave(draw, grant)

    async def hold_a_while(self, grant: Any) -> None:
        try:
            await asyncio.sleep(0)
        finally:
            self.give_back(grant)

    async def task(self, name: str) -> None:
        draw = random.Random(f"{self.seed}/{name}")
        while not self.is_over.is_set():
            try:
                await asyncio.sleep(0)
                await self.use_async(draw, name)
            except LockTimeoutError:
                self.counts["timeouts"] += 1
            except TimeoutError:
                self.counts["timeouts of asyncio"] += 1
            except DeadlockError:
                self.counts["deadlocks"] += 1
            except LockConflictError:
                self.counts["refused"] += 1
            except asyncio.CancelledError:
                self.counts["cancelled"] += 1
            self.counts["done"] += 1

    def loop(self, name: str) -> None:
        asyncio.run(self.tasks(name))

    async def tasks(self, name: str) -> None:
        draw = random.Random(f"{self.seed}/{name}")
        tasks = [
            asyncio.create_task(self.task(f"{name}/task-{i}"), name=f"{name}/task-{i}")
            for i in range(self.n_tasks)
        ]
        while not all(task.done() for task in tasks):
            # Cancelling wakes a task; once it is over, all that are left end of themselves.
            if draw.random() < 0.5:
                draw.choice(tasks).cancel()
            await asyncio.sleep(0.001)
        for outcome in await asyncio.gather(*tasks, return_exceptions=True):
            # One may have been cancelled before it began.
            if outcome is not None and not isinstance(outcome, asyncio.CancelledError):
                raise outcome

    # -- those who meddle --

    def meddle(self) -> None:
        """Releases what was left, looks at everything, and in clearing rounds ends grants."""
        draw = random.Random(f"{self.seed}/meddler")
        pause = threading.Event()
        while not self.is_over.is_set():
            self.empty_mail()
            kind, key = draw.random(), self.key(draw.randrange(self.n_keys))
            if kind < 0.3:
                rows = self.manager.snapshot() + self.manager.holders(key)
                self.check_rows(rows)
                self.manager.waiters(key)
            elif kind < 0.4:
                assert len(self.manager) <= self.n_keys
                self.manager.statistics()
            elif self.is_clearing and kind < 0.5:
                self.counts["ended by force"] += self.end_by_force(draw, key)
            pause.wait(0.0005)

    def end_by_force(self, draw: random.Random, key: Any) -> int:
        kind = draw.randrange(3)
        if kind == 0:
            return self.manager.clear()
        if kind == 1:
            return self.manager.force_release(key)
        return self.manager.release_all(draw.choice(SHARED_OWNERS))

    def check_rows(self, rows: list[Any]) -> None:
        for key in {row.key for row in rows}:
            at = [row for row in rows if row.key == key]
            assert all(row.held_for >= 0 for row in at)

    def empty_mail(self) -> None:
        while self.mail:
            with contextlib.suppress(IndexError):
                self.give_back(self.mail.popleft())

    # -- the round --

    def run(self, seconds: float) -> None:
        """Runs for so long.

        Raises:
            AssertionError: Something that was promised did not hold.
        """
        keys = [self.key(0), self.key(1)]
        lock = self.manager.lock(exclusive=keys)
        calls: list[Callable[[], None]] = [self.meddle]
        calls += [partial(self.thread, f"thread-{i}", lock, keys) for i in range(self.n_threads)]
        calls += [partial(self.loop, f"loop-{i}") for i in range(self.n_loops)]
        threads = [
            threading.Thread(target=self.guarded, args=(call,), daemon=True) for call in calls
        ]
        for thread in threads:
            thread.start()
        self.watch(threads, seconds)
        self.check_end(lock)

    def guarded(self, call: Callable[[], None]) -> None:
        try:
            call()
        except BaseException as error:  # noqa: BLE001 - raised by watch()
            self.errors.append(error)
            self.is_over.set()

    def watch(self, threads: list[threading.Thread], seconds: float) -> None:
        end = time.monotonic() + seconds
        since, last = time.monotonic(), -1
        while any(thread.is_alive() for thread in threads):
            self.is_over.wait(0.02)
            if time.monotonic() >= end:
                self.is_over.set()
            if self.is_over.is_set():
                self.empty_mail()
                threads[0].join(0.005)
            if self.counts["done"] != last:
                since, last = time.monotonic(), self.counts["done"]
            if self.errors:
                raise self.errors[0]
            if time.monotonic() - since > PATIENCE:
                self.dump()
                raise AssertionError(f"no progress for {PATIENCE} s")

    def check_end(self, lock: Any) -> None:
        self.empty_mail()
        if self.errors:
            raise self.errors[0]
        manager = self.manager
        assert manager.snapshot() == []
        assert len(manager) == 0
        assert not lock.locked() or self.is_clearing
        for key, cell in self.cells.items():
            assert manager.waiters(key) == []
            cell.check()
        statistics = manager.statistics()
        # Whoever waited has stopped waiting.
        assert sum(count for _, count in statistics.wait_histogram) == statistics.waits
        self.counts["waits"] += statistics.waits
        self.counts["acquired"] += statistics.acquired
        manager.close()

    def dump(self) -> None:
        lines = [f"round {self.seed}: {dict(self.counts)}"]
        for key in self.cells:
            holders, waiters = self.manager.holders(key), self.manager.waiters(key)
            lines.append(f"  {key!r}: held {holders}, waiting {waiters}")
        sys.stderr.write("\n".join([*lines, ""]))
        faulthandler.dump_traceback(all_threads=True)


@contextlib.contextmanager
def frequent_switches() -> Iterator[None]:
    """Threads take turns as often as they can."""
    former = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        yield
    finally:
        sys.setswitchinterval(former)


def run_rounds(seed: str, seconds: float, seconds_a_round: float = 0.5) -> collections.Counter[str]:
    """Runs rounds for so long and returns what they counted.

    Raises:
        AssertionError: With the seed that repeats the round, by `run.py --round`.
    """
    counts: collections.Counter[str] = collections.Counter()
    end = time.monotonic() + seconds
    with frequent_switches():
        while time.monotonic() < end:
            this = Round(f"{seed}/{counts['rounds']}")
            try:
                this.run(min(seconds_a_round, max(end - time.monotonic(), 0.05)))
            except BaseException as error:
                error.add_note(f"to repeat: python tests/stress/run.py --round {this.seed}")
                raise
            counts.update(this.counts)
            counts["rounds"] += 1
    return counts
