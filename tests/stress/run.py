"""Runs the stress for long: `python tests/stress/run.py --minutes 10 --seed 1`.

A third of the time goes to threads and tasks that acquire at random, a third to histories that are
checked for linearizability, a third to threads that share handles. Says now and then what was done.
`--round` and `--history` repeat one of either, by the name that a failure gives; how its threads
interleave, they do not repeat.
"""

from __future__ import annotations

import argparse
import collections
import faulthandler
import sys
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent.parent)]

from stress_handles import run_boards  # noqa: E402 - the path comes first
from stress_histories import check_histories  # noqa: E402 - the path comes first
from stress_workload import Round, frequent_switches, run_rounds  # noqa: E402

from lockcore import LockManager  # noqa: E402


def say(what: object) -> None:
    sys.stdout.write(f"{what}\n")
    sys.stdout.flush()


def repeat_round(seed: str, seconds: float) -> None:
    with frequent_switches():
        this = Round(seed)
        this.run(seconds)
    say(dict(this.counts))


def run(seed: str, seconds: float) -> None:
    rounds: collections.Counter[str] = collections.Counter()
    histories: collections.Counter[str] = collections.Counter()
    handles: collections.Counter[str] = collections.Counter()
    began, part, turn = time.monotonic(), min(seconds / 3, 10.0), 0
    while time.monotonic() < began + seconds:
        rounds.update(run_rounds(f"{seed}.{turn}", part))
        with frequent_switches():
            histories.update(check_histories(LockManager, f"{seed}.{turn}", part))
            handles.update(run_boards(f"{seed}.{turn}", part))
        turn += 1
        counts = f"{dict(rounds)}, {dict(histories)}, {dict(handles)}"
        say(f"{time.monotonic() - began:.0f} s: {counts}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", default=str(time.time_ns()))
    parser.add_argument("--round", help="repeat this round")
    parser.add_argument("--history", help="repeat the histories from this one's seed on")
    arguments = parser.parse_args()
    faulthandler.enable()
    gil = getattr(sys, "_is_gil_enabled", lambda: True)()
    say(f"Python {sys.version.split()[0]}, GIL {gil}, seed {arguments.seed}")
    if arguments.round:
        repeat_round(arguments.round, arguments.minutes * 60)
    elif arguments.history:
        seed = arguments.history.rpartition("/")[0]
        with frequent_switches():
            say(check_histories(LockManager, seed, arguments.minutes * 60))
    else:
        run(arguments.seed, arguments.minutes * 60)


if __name__ == "__main__":
    main()
