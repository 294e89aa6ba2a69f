"""How every benchmark here measures: next to its rivals, in turns, in one process.

The machine a benchmark runs on is busy with other things. So a case is never timed alone: each of
its rounds is preceded by one round of every *reference* (its baseline, lockcore itself), and what
is reported is the median, over the rounds, of the case's time divided by its neighbour's. Beside it
stands the quotient of the best rounds of both: two ways to be fooled less by a busy machine.
"""

import gc
import statistics
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Protocol, Self

from pytest_benchmark.fixture import BenchmarkFixture

# For one thread: what others do to the machine does not count. The resolution is a nanosecond.
CPU = time.process_time
# For several threads and for waiting.
WALL = time.perf_counter

# Where Linux says how long each of our threads was ready to run and had no processor.
TASKS = Path("/proc/self/task")
# A round with more than this part of it spent so was a round on somebody else's machine.
DISTURBED = 0.05
ENOUGH_ROUNDS = 9

BASELINE = "threading.Lock"
ITSELF = "lockcore"


@dataclass(frozen=True)
class Subject:
    """Something that can be timed.

    Attributes:
        run: One round.
        operations: How many operations a round is.
        before: Puts things in place for a round; not timed.
    """

    run: Callable[[], object]
    operations: int = 1
    before: Callable[[], object] | None = None

    def prepare(self) -> None:
        """Puts things in place for a round."""
        if self.before is not None:
            self.before()


@dataclass(frozen=True)
class Spread:
    """A median and its quartiles."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """Returns: the spread of `values`, at least one."""
        if len(values) < 2:
            return cls(values[0], values[0], values[0])
        low, median, high = statistics.quantiles(values, n=4, method="inclusive")
        return cls(median, low, high)

    def as_list(self) -> list[float]:
        """Returns: median, lower and upper quartile, as the JSON file has them."""
        return [self.median, self.low, self.high]


@dataclass(frozen=True)
class Scale:
    """How much is done: enough for a figure, or just enough to see that it works."""

    is_quick: bool

    def size(self, full: int, quick: int = 100) -> int:
        """Returns: `full`, or in a quick run the smaller of both."""
        return min(full, quick) if self.is_quick else full

    def rounds(self, seconds_per_round: float, budget: float) -> int:
        """Returns: how many rounds fit in `budget` seconds, between 9 and 400."""
        if self.is_quick:
            return 2
        return max(ENOUGH_ROUNDS, min(400, int(budget / max(seconds_per_round, 1e-6))))


@dataclass(frozen=True)
class Result:
    """What one case took, in seconds per operation and round, net of the empty loop.

    Attributes:
        times: The case itself.
        references: What it is compared with, in the same rounds.
        dropped: How many rounds are left out because the machine was busy.
    """

    times: list[float]
    references: Mapping[str, list[float]]
    dropped: int = 0

    def ratio(self, reference: str) -> Spread:
        """Returns: how many times what `reference` takes the case takes."""
        return Spread.of(
            [mine / its for mine, its in zip(self.times, self.references[reference], strict=True)]
        )

    def best_ratio(self, reference: str) -> float:
        """Returns: the same of the best round of each."""
        return min(self.times) / min(self.references[reference])


# Seconds for all rounds of a case, and of lockcore's own.
BUDGET = 0.5
LONG_BUDGET = 1.5


def queued() -> float:
    """Returns: seconds that our threads were ready to run and had no processor, if known."""
    total = 0
    for task in TASKS.glob("*/schedstat"):
        try:
            total += int(task.read_text().split()[1])
        except OSError:  # a thread that has ended meanwhile
            continue
    return total / 1e9


class Compare(Protocol):
    """The `compare` fixture."""

    def __call__(
        self,
        case: str,
        rival: str,
        subject: Subject,
        references: Mapping[str, Subject],
        *,
        loop: Subject | None = None,
        rounds: int | None = None,
        budget: float = BUDGET,
        is_parallel: bool = False,
    ) -> Result | None:
        """Measures `subject` in turns with `references`. See `measure`."""


def measure(
    benchmark: BenchmarkFixture,
    case: str,
    rival: str,
    subject: Subject,
    references: Mapping[str, Subject],
    *,
    timer: Callable[[], float],
    scale: Scale,
    loop: Subject | None = None,
    rounds: int | None = None,
    budget: float = BUDGET,
    is_parallel: bool = False,
) -> Result | None:
    """Times `subject` through `benchmark`, in turns with `references`.

    Args:
        benchmark: The fixture of pytest-benchmark; its timer must be `timer`.
        case: `<operation>/<mode>/<contention>[/<param>=<n>]`, the group that rivals share.
        rival: Who is measured.
        subject: What is measured.
        references: What to divide by, the baseline first; each is timed once before every round
            of `subject`.
        timer: The clock.
        scale: Full or quick.
        loop: The same loop with nothing in it, taken off on both sides.
        rounds: How many; by default as many as fit in `budget` seconds.
        budget: Seconds, roughly, for all rounds of subject and references.
        is_parallel: It is about what threads do at the same time: rounds in which one of them had
            no processor do not count, if enough are left.

    Returns:
        The times, or None under `--benchmark-disable`.
    """
    everyone = {**references, "": subject}
    begun = WALL()
    for each in everyone.values():
        each.prepare()
        each.run()
    if rounds is None:
        rounds = scale.rounds(WALL() - begun, budget)

    reference_times: dict[str, list[float]] = {name: [] for name in references}
    loop_times: list[float] = []
    # How long threads were kept waiting, before each round and at the end.
    queues: list[tuple[float, float]] = []

    def timed(each: Subject) -> float:
        each.prepare()
        start = timer()
        each.run()
        return timer() - start

    def before_round() -> None:
        begun, already = WALL(), queued() if is_parallel else 0.0
        queues.append((begun, already))
        if loop is not None:
            loop_times.append(timed(loop))
        for name, each in references.items():
            reference_times[name].append(timed(each))
        subject.prepare()

    benchmark.group = case
    benchmark.name = rival
    was_collecting = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        benchmark.pedantic(  # type: ignore[no-untyped-call]
            subject.run, setup=before_round, rounds=rounds
        )
    finally:
        if was_collecting:
            gc.enable()
    benchmark.extra_info.update(case=case, rival=rival, operations=subject.operations)
    if benchmark.stats is None:
        return None

    queues.append((WALL(), queued() if is_parallel else 0.0))
    kept = undisturbed(queues)
    if len(kept) < ENOUGH_ROUNDS:
        kept = list(range(len(queues) - 1))
    loops = loop_times or [0.0] * len(queues)

    def net(times: Sequence[float], operations: int) -> list[float]:
        return [max(times[i] - loops[i], 1e-9) / operations for i in kept]

    result = Result(
        net(benchmark.stats.stats.data, subject.operations),
        {name: net(times, references[name].operations) for name, times in reference_times.items()},
        len(queues) - 1 - len(kept),
    )
    ratios = {name: result.ratio(name).as_list() for name in references}
    benchmark.extra_info.update(
        ns=[1e9 * seconds for seconds in Spread.of(result.times).as_list()],
        ratios=ratios,
        # The fastest rounds of threads are those in which they happened not to meet.
        best_ratios={} if is_parallel else {name: result.best_ratio(name) for name in references},
        rounds_dropped=result.dropped,
    )
    for baseline, spread in list(ratios.items())[:1]:
        benchmark.extra_info.update(baseline=baseline, ratio=spread[0])
    return result


def undisturbed(queues: Sequence[tuple[float, float]]) -> list[int]:
    """Returns: the rounds between whose ends our threads had their processors.

    Args:
        queues: The time, and the seconds that threads were kept waiting until then.
    """
    return [
        i
        for i, ((begun, before), (ended, after)) in enumerate(pairwise(queues))
        if after - before <= DISTURBED * (ended - begun)
    ]


class Crew:
    """Threads that stand ready, and each do their job once whenever `run` is called.

    So a round of several threads costs two barriers, not the start of threads.
    """

    def __init__(self, jobs: Sequence[Callable[[], object]]) -> None:
        self._start = threading.Barrier(len(jobs) + 1)
        self._end = threading.Barrier(len(jobs) + 1)
        self._is_over = False
        self._errors: list[BaseException] = []
        self._threads = [
            threading.Thread(target=self._work, args=(job,), daemon=True) for job in jobs
        ]
        for thread in self._threads:
            thread.start()

    def _work(self, job: Callable[[], object]) -> None:
        try:
            while True:
                self._start.wait()
                if self._is_over:
                    return
                try:
                    job()
                except BaseException as error:  # noqa: BLE001 - raised again by run()
                    self._errors.append(error)
                self._end.wait()
        except threading.BrokenBarrierError:
            pass

    def run(self) -> None:
        """Lets every thread do its job once; returns when all have.

        Raises:
            BaseException: The first that a job raised.
        """
        self._start.wait()
        self._end.wait()
        if self._errors:
            raise self._errors[0]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, error_type: type[BaseException] | None, *_: object) -> None:
        self._is_over = True
        if error_type is not None:
            # Some may be stuck in their jobs. They are daemons.
            self._start.abort()
            self._end.abort()
            return
        self._start.wait()
        for thread in self._threads:
            thread.join()
