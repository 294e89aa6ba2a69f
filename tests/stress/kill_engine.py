"""Kills engines: `python tests/stress/kill_engine.py --kills 500 --seed 1`, or `--steps`.

At random: an engine process runs a mix of commands in several threads and is killed by SIGKILL
1 ms to 1 s, distributed evenly over the logarithm, after its start or after it is open. The next
process goes on with what is left, ten times; the last one brings everything to its end. Then the
ledger is checked.

At every step: an engine that runs a command, while another one waits for the same keys, is killed
at its first step, its second, and so on until it comes through; after each death recovery is killed
at its first step, its second, and so on until it comes through. This for a command of each kind.

A seed repeats the commands and the instants. It does not repeat what the processes make of them.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import ctypes
import json
import logging
import os
import random
import shutil
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NoReturn

from kill_commands import Ledger, one_of_each
from kill_ledger import Checker, LedgerError
from killed_engine import EngineLife, Steps

KILLS_IN_A_STORY = 10
LAST_LIFE = 90.0
"""Seconds after which an engine that is not killed has failed to end what it found."""

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36


def prctl(option: int, value: int) -> None:
    ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


Counter = collections.Counter[str]


class Driver:
    """Starts engines in one directory, kills them, and keeps count.

    Args:
        directory: Where the store, the tasks and the ledger are.
        seed: Names what is drawn.
    """

    def __init__(self, directory: Path, seed: str) -> None:
        self.directory = directory
        self.seed = seed
        self.counts: Counter = collections.Counter()
        self._ledger = Ledger(directory / "ledger")

    def life(self, live: Callable[[EngineLife], None], *, dies_at: int = 0) -> int:
        """Starts an engine; returns its process id. It may die by itself, at a step."""
        self.counts["lives"] += 1
        seed = f"{self.seed}/{self.counts['lives']}"
        process = os.fork()
        if process == 0:
            self._child(live, seed, dies_at)
        os.setpgid(process, process)  # so that it has a group before anybody kills it
        return process

    def _child(self, live: Callable[[EngineLife], None], seed: str, dies_at: int) -> NoReturn:
        status = 1
        try:
            os.setpgid(0, 0)  # the parent does that, too: one of the two is first
            prctl(PR_SET_PDEATHSIG, signal.SIGKILL)  # if the driver fails
            logging.basicConfig(filename=self.directory / "log", force=True)
            threading.excepthook = lambda caught: self._failed(caught.exc_value)
            if dies_at:
                Steps(dies_at).install()
            life = EngineLife(self.directory, seed)
            life.open()
            live(life)
            status = 0
        except BaseException as error:  # noqa: BLE001 - for the parent to read
            self._failed(error)
        finally:
            os._exit(status)

    def _failed(self, error: BaseException | None) -> None:
        text = "".join(traceback.format_exception(error))
        self._ledger.note("error", text=text)

    def until_open(self, process: int) -> None:
        """Waits until an engine has recovered."""
        deadline = time.monotonic() + LAST_LIFE
        while self._is_recovering():
            if time.monotonic() > deadline:
                os.kill(process, signal.SIGKILL)
                raise LedgerError("the engine does not open")
            time.sleep(0.001)

    def kill(self, process: int, after: float, *, group: bool) -> None:
        """Kills an engine after so many seconds; with its group, the tasks that just start, too."""
        time.sleep(after)
        (os.killpg if group else os.kill)(process, signal.SIGKILL)
        self.dead(process)

    def dead(self, process: int) -> int:
        """Waits until the process has died; returns its exit status."""
        _, status = os.waitpid(process, 0)
        if os.WIFSIGNALED(status):
            self.counts["kills"] += 1
            self.counts["kills in recovery"] += self._is_recovering()
        self._ledger.note("dead")
        self._reap()
        return status

    def _is_recovering(self) -> bool:
        """Whether the last engine has not been open yet."""
        whole, _, _ = self._ledger.path.read_text(encoding="utf-8").rpartition("\n")
        events = (json.loads(text)["event"] for text in reversed(whole.splitlines()))
        return next((event for event in events if event in ("dead", "seen")), "dead") == "dead"

    def last_life(self) -> None:
        """Lets an engine end everything; then all is checked."""
        process = self.life(EngineLife.end)
        with _alarm(LAST_LIFE, process):
            status = self.dead(process)
        checker = Checker.of_file(self.directory / "ledger")
        checker.check()
        if status != 0:
            raise LedgerError(f"the last engine has ended with status {status}")
        checker.check_end(self.directory)
        self._no_process_is_left()
        self.counts.update(checker.counts)
        self._ledger.close()

    def _no_process_is_left(self) -> None:
        """No program and no supervisor of a task is alive."""
        deadline = time.monotonic() + 10.0  # a supervisor writes its last file before it ends
        while left := list(self._processes()):
            if time.monotonic() > deadline:
                raise LedgerError(f"processes are left: {left}")
            time.sleep(0.01)

    def _processes(self) -> Iterator[str]:
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                text = path.read_text(encoding="utf-8", errors="replace")
                if str(self.directory) in text:
                    yield text.replace("\0", " ")

    @staticmethod
    def _reap() -> None:
        """Supervisors whose engine was killed have become our children."""
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG) != (0, 0):
                pass


@contextlib.contextmanager
def _alarm(seconds: float, process: int) -> Iterator[None]:
    """Kills a process that lives too long."""
    signal.signal(signal.SIGALRM, lambda *_: os.kill(process, signal.SIGKILL))
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


@contextlib.contextmanager
def story(seed: str) -> Iterator[Driver]:
    """A driver in a new directory, which stays if something is wrong."""
    directory = Path(tempfile.mkdtemp(prefix="lockcore-kill-"))
    try:
        yield Driver(directory, seed)
    except BaseException:
        sys.stderr.write(f"story {seed}; see {directory}\n")
        raise
    shutil.rmtree(directory)


def kill_at_random(seed: str, kills: int) -> Counter:
    """One story: so many engines, one after the other, then one that ends everything."""
    choose = random.Random(seed)
    with story(seed) as driver:
        for _ in range(kills):
            process = driver.life(lambda life: life.run_for_ever(threads=3))
            if choose.random() < 0.5:
                driver.until_open(process)
            driver.kill(process, 10 ** choose.uniform(-3, 0), group=choose.random() < 0.5)
        driver.last_life()
    return driver.counts


def kill_at_step(
    seed: str, number: int, step: int, recovery_steps: Iterable[int]
) -> tuple[bool, Counter]:
    """One story: a command that dies at a step, then recoveries that do, then one that does not.

    Returns:
        Whether it did die, and the counts.
    """
    with story(f"{seed} --step {number}.{step}") as driver:
        command = one_of_each()[number]
        process = driver.life(lambda life: life.run_beside_another(command), dies_at=step)
        with _alarm(LAST_LIFE, process):
            has_died = os.WIFSIGNALED(driver.dead(process))
        for recovery_step in recovery_steps:
            process = driver.life(EngineLife.end, dies_at=recovery_step)
            with _alarm(LAST_LIFE, process):
                if not os.WIFSIGNALED(driver.dead(process)):
                    break
        driver.last_life()
    return has_died, driver.counts


def kill_at_every_step(seed: str, stride: int, recoveries: int) -> Counter:
    """Takes every step of every command, or every so-manieth.

    Recovery is then killed at its first step, its second and so on, at most so many times; or, if
    only once, at any step.
    """
    counts: Counter = collections.Counter()
    choose = random.Random(seed)
    for number in range(len(one_of_each())):
        step, has_died = choose.randrange(stride) + 1, True
        while has_died:
            only = range(choose.randrange(1, 12), 12)[:1]
            recovery_steps = only if recoveries == 1 else range(1, recoveries + 1)
            has_died, more = kill_at_step(seed, number, step, recovery_steps)
            counts.update(more)
            counts["steps"] += has_died
            step += stride
        say(f"command {number}: {json.dumps(counts)}")
    return counts


def kill_many_at_random(seed: str, kills: int) -> Counter:
    """So many kills, in stories."""
    counts: Counter = collections.Counter()
    while counts["kills"] < kills:
        story_seed = f"{seed}.{counts['kills']}"
        counts.update(kill_at_random(story_seed, min(KILLS_IN_A_STORY, kills - counts["kills"])))
        if counts["kills"] % 100 == 0:
            say(json.dumps(counts))
    return counts


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()  # children must not have it in their buffers


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=KILLS_IN_A_STORY, help="at random")
    parser.add_argument("--story", help="at random, those of the story with this seed only")
    parser.add_argument("--steps", action="store_true", help="at every step instead")
    parser.add_argument("--stride", type=int, default=1, help="take every so-manieth step")
    parser.add_argument("--recoveries", type=int, default=1000, help="deaths in recovery per step")
    parser.add_argument("--step", help="at this one of this command only, such as 3.17")
    parser.add_argument("--seed", default=str(time.time_ns()))
    arguments = parser.parse_args()
    prctl(PR_SET_CHILD_SUBREAPER, 1)  # supervisors of tasks outlive their engine: to reap them
    say(f"seed {arguments.seed}")
    began = time.monotonic()
    if arguments.step:
        number, step = map(int, arguments.step.split("."))
        recovery_steps = range(1, arguments.recoveries + 1)
        _, counts = kill_at_step(arguments.seed, number, step, recovery_steps)
    elif arguments.steps:
        counts = kill_at_every_step(arguments.seed, arguments.stride, arguments.recoveries)
    elif arguments.story:
        counts = kill_at_random(arguments.story, arguments.kills)
    else:
        counts = kill_many_at_random(arguments.seed, arguments.kills)
    say(json.dumps({**counts, "seconds": round(time.monotonic() - began, 1)}))


if __name__ == "__main__":
    main()
