"""What do threads that wait for other keys cost?

A paced operation (one pair, then a pause in which anybody who was woken can run) while 64 or 256
threads wait, each for a key of its own, beside the same operation with no waiters. `cpu_ratio` is
the processor time of the whole process for an operation, `wall_ratio` the time the pair takes.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from harness import CPU, WALL, Compare, Scale, Spread, Subject
from rivals import RIVALS, Lockable, Rival, ThreadingLock
from single import only

pytestmark = pytest.mark.benchmark(timer=CPU)

N_OPERATIONS = 200
PAUSE = 200e-6
NO_WAITERS = "no waiters"


@contextmanager
def waiting_threads(rival: Rival, n: int) -> Iterator[None]:
    """Keeps `n` threads waiting, each for its own key."""
    started = threading.Barrier(n + 1)

    def wait(lock: Lockable) -> None:
        started.wait()
        lock.acquire()
        lock.release()

    held = [rival.lock(f"other-{i}") for i in range(n)]
    for lock in held:
        lock.acquire()
    threads = [
        threading.Thread(target=wait, args=(rival.lock(f"other-{i}"),), daemon=True)
        for i in range(n)
    ]
    for thread in threads:
        thread.start()
    started.wait()
    time.sleep(0.05)  # for the last of them to fall asleep
    try:
        yield
    finally:
        for lock in held:
            lock.release()
        for thread in threads:
            thread.join()


class Paced:
    """The operation; keeps what the pairs alone took, by the clock on the wall."""

    def __init__(self, rival: Rival, n: int) -> None:
        self._lock = rival.lock("mine")
        self._n = n
        self.wall: list[float] = []

    def run(self) -> None:
        total = 0.0
        lock = self._lock
        for _ in range(self._n):
            start = WALL()
            lock.acquire()
            lock.release()
            total += WALL() - start
            time.sleep(PAUSE)
        self.wall.append(total / self._n)


@pytest.mark.parametrize("n_waiters", [64, 256])
@only(*[rival for rival in RIVALS if rival is not ThreadingLock])
def bench_paced(
    benchmark: BenchmarkFixture,
    compare: Compare,
    scale: Scale,
    rival: type[Rival],
    n_waiters: int,
) -> None:
    n_waiters = scale.size(n_waiters, quick=4)
    n = scale.size(N_OPERATIONS, quick=5)
    crowded, alone = rival(), rival()
    with waiting_threads(crowded, n_waiters):
        subject, reference = Paced(crowded, n), Paced(alone, n)
        result = compare(
            f"paced/exclusive/elsewhere/waiters={n_waiters}",
            rival.name,
            Subject(subject.run, n),
            {NO_WAITERS: Subject(reference.run, n)},
            budget=1.5,
        )
        if result is not None:
            benchmark.extra_info["cpu_ratio"] = result.ratio(NO_WAITERS).as_list()
            benchmark.extra_info["wall_ratio"] = Spread.of(
                [mine / its for mine, its in zip(subject.wall, reference.wall, strict=True)]
            ).as_list()
