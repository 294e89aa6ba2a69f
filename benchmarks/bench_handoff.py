"""How long from one thread's release until the thread that waits for it runs?

Throughput: two threads pass keys to and fro, so that every release is a hand-off and the releaser
then waits itself. Latency: one hand-off at a time, the releaser then *idle* (it blocks) or
*computing* (it goes on running bytecode, and with the GIL it keeps the other from running).
The baseline is a bare `threading.Lock` in the same place.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from harness import BASELINE, ITSELF, WALL, Compare, Crew, Scale, Spread, Subject
from rivals import RIVALS, Lockable, Lockcore, LockcoreGrants, Rival, ThreadingLock
from single import only

pytestmark = pytest.mark.benchmark(timer=WALL)

N_EXCHANGES = 300  # a multiple of the number of keys: a round ends as it began
# Between "I shall wait now" and the release that ends the wait: time to fall asleep.
SETTLE = 0.001

every_rival = only(Lockcore, LockcoreGrants, *RIVALS[1:])


# ---- throughput ------------------------------------------------------------------


# Two threads and three keys. Whoever waits does so for a key that the other holds and will give
# back next, and each gives back only what it took itself. So no rival can barge, and any can take
# part.
#
#     leader holds 0 1      follower holds 2, waits for 0
#     gives back 0, waits for 2
#                           gives back 2, waits for 1 ...
KEYS = ("red", "green", "blue")


def leader(rival: Rival, n: int) -> Callable[[], None]:
    """Returns: what one of the two threads does; the first time it only takes its keys."""
    locks = [rival.lock(key) for key in KEYS]
    steps: list[tuple[Lockable, Lockable]] = []

    def job() -> None:
        if not steps:
            locks[0].acquire()
            locks[1].acquire()
            steps.extend((locks[i % 3], locks[(i + 2) % 3]) for i in range(n))
            return
        for mine, other in steps:
            mine.release()
            other.acquire()

    return job


def follower(rival: Rival, n: int) -> Callable[[], None]:
    """Returns: what the other does."""
    locks = [rival.lock(key) for key in KEYS]
    steps: list[tuple[Lockable, Lockable]] = []

    def job() -> None:
        if not steps:
            locks[2].acquire()
            steps.extend((locks[i % 3], locks[(i + 2) % 3]) for i in range(n))
            return
        for other, mine in steps:
            other.acquire()
            mine.release()

    return job


@every_rival
def bench_to_and_fro(compare: Compare, scale: Scale, rival: type[Rival]) -> None:
    n = scale.size(N_EXCHANGES, quick=30)
    with ExitStack() as stack:

        def subject(which: type[Rival]) -> Subject:
            one = which()
            crew = stack.enter_context(Crew([leader(one, n), follower(one, n)]))
            crew.run()
            return Subject(crew.run, 2 * n)

        references = {BASELINE: subject(ThreadingLock)}
        if rival is not Lockcore:
            references[ITSELF] = subject(Lockcore)
        compare("handoff/exclusive/to-and-fro", rival.name, subject(rival), references)


# ---- latency ---------------------------------------------------------------------


class HandOff:
    """A thread that waits for a key whenever it is told to, and the thread that lets it have it."""

    def __init__(self, rival: Rival, is_computing: bool) -> None:
        self.latencies: list[float] = []
        self._is_computing = is_computing
        self._mine = rival.lock("vm-1")
        self._theirs = rival.lock("vm-1")
        self._go = threading.Semaphore(0)
        self._done = threading.Semaphore(0)
        self._about_to_wait = threading.Event()
        self._had_it_at = 0.0
        self._is_over = False
        self._thread = threading.Thread(target=self._wait_for_it, daemon=True)
        self._thread.start()

    def before(self) -> None:
        """Takes the key and lets the other thread wait for it."""
        self._mine.acquire()
        self._had_it_at = 0.0
        self._about_to_wait.clear()
        self._go.release()
        self._about_to_wait.wait()
        time.sleep(SETTLE)

    def run(self) -> None:
        """Hands it over; returns when the other has had it and given it back."""
        started = WALL()
        self._mine.release()
        if self._is_computing:
            while not self._had_it_at:
                pass
        self._done.acquire()
        self.latencies.append(self._had_it_at - started)

    def end(self) -> None:
        """Ends the thread."""
        self._is_over = True
        self._go.release()
        self._thread.join()

    def _wait_for_it(self) -> None:
        while True:
            self._go.acquire()
            if self._is_over:
                return
            self._about_to_wait.set()
            self._theirs.acquire()
            self._had_it_at = WALL()
            self._theirs.release()
            self._done.release()


@contextmanager
def hand_off(which: type[Rival], is_computing: bool) -> Iterator[HandOff]:
    subject = HandOff(which(), is_computing)
    try:
        yield subject
    finally:
        subject.end()


@pytest.mark.parametrize("releaser", ["idle", "computing"])
@every_rival
def bench_latency(
    benchmark: BenchmarkFixture, compare: Compare, scale: Scale, rival: type[Rival], releaser: str
) -> None:
    is_computing = releaser == "computing"
    with (
        hand_off(rival, is_computing) as subject,
        hand_off(ThreadingLock, is_computing) as baseline,
    ):
        compare(
            f"handoff/exclusive/{releaser}-releaser",
            rival.name,
            Subject(subject.run, before=subject.before),
            {BASELINE: Subject(baseline.run, before=baseline.before)},
            rounds=2 if scale.is_quick else 60,
        )
        # What compare() timed includes the way back; this is the way there.
        latencies = [1e6 * seconds for seconds in subject.latencies]
        benchmark.extra_info["latency_us"] = Spread.of(latencies).as_list()
        benchmark.extra_info["latency_ratio"] = Spread.of(
            [mine / its for mine, its in zip(subject.latencies, baseline.latencies, strict=True)]
        ).as_list()
