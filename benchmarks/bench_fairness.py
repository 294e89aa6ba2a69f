"""How long does one request wait in a crowd that wants other things, and how many overtake it?

A crowd of threads takes and gives back, as fast as it can, and holds each time for a moment; one
more thread does the same with a request of another kind: a writer among readers, a reader among
writers, twenty keys among single ones. For that one is reported how long it waits, and how many of
the crowd asked later and were served before it. Who is starved waits until the time is up.

    python benchmarks/bench_fairness.py [seconds for each case]

prints all cases as a table.
"""

import itertools
import random
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from harness import WALL, Scale
from rivals import Fasteners, Lockcore, Ovirt, ReaderWriterLock, Rival, ThreadingLock
from single import only

KEYS = [f"vm-{number:02}" for number in range(20)]
HOLD = 0.0005
"""Seconds for which each holds what it has."""

SECONDS = 2.0
"""How long a case is played."""

Wanted = dict[str, list[str]]


@dataclass(frozen=True)
class Case:
    """Who wants what.

    Attributes:
        crowd: One endless row of requests for each thread of the crowd.
        lone: What the one thread wants, over and over.
        needs_shared: Only rivals with a shared mode can play it.
    """

    crowd: Callable[[], list[Iterator[Wanted]]]
    lone: Wanted
    needs_shared: bool = True


def singles() -> list[Iterator[Wanted]]:
    """Returns: eight threads that want one key at a time, any of them."""

    def draw(seed: int) -> Iterator[Wanted]:
        chance = random.Random(seed)
        while True:
            yield {"exclusive": [chance.choice(KEYS)]}

    return [draw(seed) for seed in range(8)]


def alike(n_threads: int, **wanted: list[str]) -> Callable[[], list[Iterator[Wanted]]]:
    """Returns: a maker of threads that all want the same all the time."""
    return lambda: [itertools.repeat(wanted) for _ in range(n_threads)]


CASES = {
    "writer-among-readers": Case(alike(8, shared=["vm"]), {"exclusive": ["vm"]}),
    "reader-among-writers": Case(alike(8, exclusive=["vm"]), {"shared": ["vm"]}),
    "20-keys-among-single-ones": Case(singles, {"exclusive": KEYS}, needs_shared=False),
}
RIVALS = (Lockcore, ThreadingLock, Fasteners, ReaderWriterLock, Ovirt)

Turn = tuple[float, float]
"""When a request was made, and when it was granted."""


@dataclass(frozen=True)
class Outcome:
    """What became of the lone one and of the crowd.

    Attributes:
        waits: The lone one's, in seconds, sorted. The last may have lasted until time was up.
        overtaken: For each of its waits, how many asked later and were served before it.
        crowd_per_second: What the crowd got done.
        is_starved: Its last wait ended with the time.
    """

    waits: list[float]
    overtaken: list[int]
    crowd_per_second: float
    is_starved: bool

    def wait(self, quantile: float) -> float:
        """Returns: so many of its waits, as a part of 1, were no longer than this."""
        return self.waits[min(int(quantile * len(self.waits)), len(self.waits) - 1)]


def play(rival: Rival, case: Case, seconds: float) -> Outcome:
    """Plays a case for so long, or until the lone one has had 500 turns."""
    stop = threading.Event()

    def take_turns(row: Iterator[Wanted], turns: list[Turn], limit: float) -> None:
        while not stop.is_set() and len(turns) < limit:
            wanted = next(row)
            begun = WALL()
            held = rival.hold(**wanted)
            turns.append((begun, WALL()))
            time.sleep(HOLD)
            held.release()

    crowd: list[list[Turn]] = []
    threads = []
    for row in case.crowd():
        crowd.append([])
        threads.append(threading.Thread(target=take_turns, args=(row, crowd[-1], float("inf"))))
    mine: list[Turn] = []
    lone = threading.Thread(target=take_turns, args=(itertools.repeat(case.lone), mine, 500))
    begun = WALL()
    for thread in (*threads, lone):
        thread.start()
    lone.join(seconds)
    ended = WALL()
    stop.set()
    for thread in (*threads, lone):
        thread.join()
    turns = sorted(turn for each in crowd for turn in each)
    return Outcome(
        sorted(granted - asked for asked, granted in mine),
        [
            sum(asked < other[0] and other[1] < granted for other in turns)
            for asked, granted in mine
        ],
        sum(granted < ended for _, granted in turns) / (ended - begun),
        mine[-1][0] < ended < mine[-1][1],
    )


def figures(outcome: Outcome) -> dict[str, Any]:
    """Returns: what is reported of an outcome."""
    return {
        "turns": len(outcome.waits),
        "p50_ms": 1e3 * outcome.wait(0.5),
        "p95_ms": 1e3 * outcome.wait(0.95),
        "max_ms": 1e3 * outcome.waits[-1],
        "overtaken": max(outcome.overtaken),
        "crowd_per_second": outcome.crowd_per_second,
        "is_starved": outcome.is_starved,
    }


@pytest.mark.benchmark(timer=WALL)
@pytest.mark.parametrize("name", CASES)
@only(*RIVALS)
def bench_one_in_a_crowd(
    benchmark: BenchmarkFixture, scale: Scale, rival: type[Rival], name: str
) -> None:
    case = CASES[name]
    if case.needs_shared and not rival.has_shared:
        pytest.skip(f"{rival.name} has no shared mode")
    seconds = 0.02 if scale.is_quick else SECONDS
    benchmark.group = f"wait/{name}"
    benchmark.name = rival.name
    outcome: Outcome = benchmark.pedantic(  # type: ignore[no-untyped-call]
        play, args=(rival(), case, seconds), rounds=1
    )
    benchmark.extra_info.update(case=benchmark.group, rival=rival.name, **figures(outcome))


def main(arguments: Sequence[str]) -> None:
    """Prints the table."""
    seconds = float(arguments[0]) if arguments else SECONDS
    for name, case in CASES.items():
        print(f"\n{name}")
        print(
            f"{'':18}{'turns':>7}{'p50 ms':>9}{'p95 ms':>9}{'max ms':>9}{'overtaken':>11}"
            f"{'crowd/s':>9}"
        )
        for rival in RIVALS:
            if case.needs_shared and not rival.has_shared:
                continue
            row = figures(play(rival(), case, seconds))
            print(
                f"{rival.name:18}{row['turns']:7}{row['p50_ms']:9.2f}{row['p95_ms']:9.2f}"
                f"{row['max_ms']:9.2f}{row['overtaken']:11}{row['crowd_per_second']:9.0f}"
                f"{'  starved' if row['is_starved'] else ''}"
            )


if __name__ == "__main__":
    main(sys.argv[1:])
