"""How do lockcore and the oVirt algorithm do on what an engine does all day?

`replay`: the day in simulated time and one thread, nobody waits; both must refuse exactly the same
requests. It measures what the locks alone cost; a reader/writer lock for each key, out of a dict,
plays it, too, one key after the other. `threads`: 64 threads play the requests one after
the other and wait where the table says so, a second shortened to a millisecond (calm) or to 50
microseconds (busy). It measures throughput, processor time, refusals, and how long those waited who
were ready to.
"""

import itertools
import statistics
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from harness import CPU, ITSELF, WALL, Compare, Crew, Scale, Subject
from ovirt_algorithm import EngineLock, OvirtLockManager
from rivals import Held, Lockcore, ReaderWriterLock
from workload import Request, Step, replay, requests

SEED = 1
OVIRT = "oVirt algorithm"
N_REQUESTS = 5_000
PER_SECOND = 10.0
N_THREADS = 64
N_THREADED = 4_000
# What a second of the workload takes, in microseconds.
SECONDS = (1000, 50)
ROUNDS = {1000: 4, 50: 9}


class Player(Protocol):
    """One lock manager, ready for a certain day."""

    def __init__(self, day: Sequence[Request], second: float) -> None: ...

    def play(self, steps: Sequence[Step]) -> set[int]:
        """Does the steps. Returns: who was refused."""

    def take(self, index: int) -> Held | None:
        """Takes the locks of a request, waiting as it is ready to."""


class LockcorePlayer:
    def __init__(self, day: Sequence[Request], second: float) -> None:
        self._manager = Lockcore().manager
        self._wanted: list[tuple[Any, Any, str, str]] = []
        for index, request in enumerate(day):
            shared = dict.fromkeys(request.shared, request.shared_message)
            owner = f"{request.command}-{index}"
            self._wanted.append((list(request.exclusive), shared, owner, request.exclusive_message))
        self._timeouts = [
            None if request.timeout is None else request.timeout * second for request in day
        ]

    def play(self, steps: Sequence[Step]) -> set[int]:
        manager = self._manager
        wanted = self._wanted
        grants: list[Any] = [None] * len(wanted)
        refused = set()
        for is_arrival, index in steps:
            if is_arrival:
                exclusive, shared, owner, message = wanted[index]
                grant = manager.try_acquire(
                    exclusive=exclusive, shared=shared, owner=owner, message=message
                )
                if grant is None:
                    refused.add(index)
                grants[index] = grant
            else:
                grants[index].release()
        return refused

    def take(self, index: int) -> Held | None:
        exclusive, shared, owner, message = self._wanted[index]
        timeout = self._timeouts[index]
        if timeout == 0:
            return self._manager.try_acquire(  # type: ignore[no-any-return]
                exclusive=exclusive, shared=shared, owner=owner, message=message
            )
        try:
            return self._manager.acquire(  # type: ignore[no-any-return]
                exclusive=exclusive,
                shared=shared,
                owner=owner,
                message=message,
                timeout=timeout,
            )
        except TimeoutError:
            return None


class OvirtHold:
    def __init__(self, manager: OvirtLockManager, lock: EngineLock) -> None:
        self._manager = manager
        self._lock = lock

    def release(self) -> None:
        self._manager.release_lock(self._lock)


class OvirtPlayer:
    def __init__(self, day: Sequence[Request], second: float) -> None:
        self._manager = OvirtLockManager()
        self._wanted = [
            (
                {key: (group, request.exclusive_message) for group, key in request.exclusive},
                {key: (group, request.shared_message) for group, key in request.shared},
            )
            for request in day
        ]
        self._timeouts = [
            None if request.timeout is None else request.timeout * second for request in day
        ]

    def play(self, steps: Sequence[Step]) -> set[int]:
        manager = self._manager
        wanted = self._wanted
        locks: list[Any] = [None] * len(wanted)
        refused = set()
        for is_arrival, index in steps:
            if is_arrival:
                exclusive, shared = wanted[index]
                lock = EngineLock(exclusive, shared)
                if not manager.acquire_lock(lock)[0]:
                    refused.add(index)
                locks[index] = lock
            else:
                manager.release_lock(locks[index])
        return refused

    def take(self, index: int) -> Held | None:
        lock = EngineLock(*self._wanted[index])
        timeout = self._timeouts[index]
        if timeout == 0:
            result = self._manager.acquire_lock(lock)
        else:
            result = self._manager.acquire_lock_wait(lock, timeout)
        return OvirtHold(self._manager, lock) if result[0] else None


class PerKeyPlayer:
    """A lock for each key: takes them in order, and gives them back when one is refused."""

    def __init__(self, day: Sequence[Request], second: float) -> None:  # noqa: ARG002 - waits for nobody
        self._rival = ReaderWriterLock()
        self._day = day

    def play(self, steps: Sequence[Step]) -> set[int]:
        rival = self._rival
        day = self._day
        held: list[Any] = [None] * len(day)
        refused = set()
        for is_arrival, index in steps:
            if is_arrival:
                held[index] = rival.try_hold(day[index].exclusive, day[index].shared)
                if held[index] is None:
                    refused.add(index)
            else:
                held[index].release()
        return refused


PLAYERS: dict[str, type[Player]] = {ITSELF: LockcorePlayer, OVIRT: OvirtPlayer}
REPLAYERS: dict[str, Any] = {**PLAYERS, ReaderWriterLock.name: PerKeyPlayer}


def each_of(players: Iterable[str]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("name", list(players), ids=lambda name: name.replace(" ", "-"))


@pytest.mark.benchmark(timer=CPU)
@each_of(REPLAYERS)
def bench_replay(benchmark: BenchmarkFixture, compare: Compare, scale: Scale, name: str) -> None:
    day = requests(scale.size(N_REQUESTS), seed=SEED, per_second=PER_SECOND)
    steps, refused = replay(day)

    def subject(which: str) -> Subject:
        player = REPLAYERS[which](day, second=1.0)

        def run() -> None:
            assert player.play(steps) == refused

        return Subject(run, len(day))

    # The baseline first: the oVirt algorithm, and for itself lockcore.
    others = [other for other in (OVIRT, ITSELF) if other != name]
    compare(
        f"workload/mixed/replay/requests={N_REQUESTS}",
        name,
        subject(name),
        {other: subject(other) for other in others},
        budget=3.0,
    )
    benchmark.extra_info["refused"] = len(refused) / len(day)
    benchmark.extra_info["keys_per_request"] = statistics.fmean(
        len(request.exclusive) + len(request.shared) for request in day
    )


class Threads:
    """Threads that play one day together, over and over."""

    def __init__(
        self, player: type[Player], day: Sequence[Request], second: float, n_threads: int
    ) -> None:
        self._player = player(day, second)
        self._day = day
        self._second = second
        self._mutex = threading.Lock()
        self._next: Callable[[], int] = itertools.count().__next__
        self.waits: list[float] = []
        self.refused = 0
        self.played = 0
        self.processor = 0.0
        self.crew = Crew([self._play] * n_threads)

    def before(self) -> None:
        self._next = itertools.count().__next__

    def run(self) -> None:
        start = CPU()
        self.crew.run()
        self.processor += CPU() - start
        self.played += len(self._day)

    def _play(self) -> None:
        take = self._player.take
        day = self._day
        second = self._second
        waits = []
        refused = 0
        while (index := self._next()) < len(day):
            request = day[index]
            start = WALL()
            held = take(index)
            if request.timeout != 0:
                waits.append(WALL() - start)
            if held is None:
                refused += 1
                continue
            time.sleep(request.duration * second)
            held.release()
        with self._mutex:
            self.waits += waits
            self.refused += refused


def percentiles(waits: Sequence[float]) -> dict[str, float]:
    """Returns: percentiles in milliseconds."""
    ordered = sorted(waits) or [0.0]
    return {
        f"p{percent}": 1e3 * ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]
        for percent in (50, 90, 99)
    } | {"max": 1e3 * ordered[-1]}


@pytest.mark.benchmark(timer=WALL)
@pytest.mark.parametrize("second", SECONDS)
@each_of(PLAYERS)
def bench_threads(
    benchmark: BenchmarkFixture, compare: Compare, scale: Scale, name: str, second: int
) -> None:
    day = requests(scale.size(N_THREADED), seed=SEED, per_second=PER_SECOND)
    n_threads = scale.size(N_THREADS, quick=8)
    (other,) = (other for other in PLAYERS if other != name)
    mine = Threads(PLAYERS[name], day, second / 1e6, n_threads)
    its = Threads(PLAYERS[other], day, second / 1e6, n_threads)
    with mine.crew, its.crew:
        compare(
            f"workload/mixed/threads={N_THREADS}/second-us={second}",
            name,
            Subject(mine.run, len(day), mine.before),
            {other: Subject(its.run, len(day), its.before)},
            rounds=2 if scale.is_quick else ROUNDS[second],
        )
    benchmark.extra_info.update(
        wait_ms=percentiles(mine.waits),
        refused=mine.refused / mine.played,
        processor_us=1e6 * mine.processor / mine.played,
        processor_ratio=mine.processor / its.processor,
    )
