"""Prints how many machine instructions a pair takes, counted by valgrind.

    python benchmarks/instructions.py [--hot N] [CASE ...]

Unlike a time, a count is the same on a busy machine and on an idle one, to a few per mille. Each
program runs twice, with few and with many pairs, and the difference is divided by the pairs in
between: start-up cancels out. The empty loop is counted the same way and taken off.

`--hot N` also lists the N functions in which most of a pair is spent.
"""

import argparse
import functools
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

FEW = 1_000
MANY = 6_000
LOOP = "empty loop"
REFERENCE = "threading.Lock"

_KEYS = f"keys = [f'vm-{{i}}' for i in range({MANY})]"
_PAIRS = f"keys = [('VM', f'vm-{{i}}') for i in range({MANY})]"
_SETS = f"keys = [[f'vm-{{i}}-{{j}}' for j in range(10)] for i in range({MANY})]"
_LOCK = "from threading import Lock; it = Lock()"
_MANAGER = "from lockcore import LockManager; it = LockManager()"
_PREPARED = f"{_MANAGER}; manager = it; it = manager.lock(exclusive=['vm-1'])"
_ALL_HELD = "held = it.acquire(exclusive=keys)"
# Strings keep their hash; who comes first would pay for it.
_HASHED = "for key in keys: hash(tuple(key) if isinstance(key, list) else key)"


@dataclass(frozen=True)
class Case:
    """What is counted.

    Attributes:
        setup: Lines that make `keys` and `it`.
        pair: What to do with `it` for each `key`.
    """

    setup: tuple[str, ...]
    pair: str

    def program(self, n: int) -> str:
        """Returns: a program that does the pair `n` times."""
        return "\n".join(
            [
                *self.setup,
                _HASHED,
                "def run(keys, it):",
                "    for key in keys:",
                f"        {self.pair}",
                f"run(keys[:{n}], it)",
            ]
        )


CASES = {
    LOOP: Case((_KEYS, "it = None"), "pass"),
    REFERENCE: Case((_KEYS, _LOCK), "it.acquire(); it.release()"),
    "prepared": Case((_KEYS, _PREPARED), "it.acquire(); it.release()"),
    "try": Case((_KEYS, _MANAGER), "it.try_acquire(exclusive=[key]).release()"),
    "try-group-id": Case((_PAIRS, _MANAGER), "it.try_acquire(exclusive=[key]).release()"),
    "try-owner": Case(
        (_KEYS, _MANAGER), "it.try_acquire(exclusive=[key], owner='command-1').release()"
    ),
    "acquire": Case((_KEYS, _MANAGER), "it.acquire(exclusive=[key]).release()"),
    "mixed": Case(
        (_KEYS, _MANAGER), "it.try_acquire(exclusive=[key], shared=['pool-1']).release()"
    ),
    "ten-keys": Case((_SETS, _MANAGER), "it.try_acquire(exclusive=key).release()"),
    "refused": Case((_KEYS, _MANAGER, _ALL_HELD), "it.try_acquire(exclusive=[key])"),
}


class ValgrindError(RuntimeError):
    """Valgrind is missing, or what it ran failed."""


@functools.cache
def functions_per_pair(case: str) -> dict[str, float]:
    """Returns: instructions per pair for each function, the loop around it included.

    Raises:
        ValgrindError: It cannot be counted here.
    """
    few, many = (_profile(CASES[case].program(n)) for n in (FEW, MANY))
    many.subtract(few)
    return {name: n / (MANY - FEW) for name, n in many.most_common()}


def instructions_per_pair(case: str) -> float:
    """Returns: instructions per pair, net of the empty loop.

    Raises:
        ValgrindError: It cannot be counted here.
    """
    return sum(functions_per_pair(case).values()) - sum(functions_per_pair(LOOP).values())


def _profile(program: str) -> Counter[str]:
    """Runs a program under callgrind. Returns: instructions for each function."""
    with tempfile.TemporaryDirectory() as directory:
        out = Path(directory) / "profile"
        command = [
            "valgrind",
            "--tool=callgrind",
            f"--callgrind-out-file={out}",
            "--compress-strings=no",
            "--compress-pos=no",
            "--dump-line=no",
            sys.executable,
            "-c",
            program,
        ]
        # The same hashes, and so the same buckets, every time.
        environment = {**os.environ, "PYTHONHASHSEED": "0"}
        try:
            subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
        except FileNotFoundError as error:
            raise ValgrindError("valgrind is not installed (Debian: valgrind)") from error
        except subprocess.CalledProcessError as error:
            raise ValgrindError(f"valgrind failed:\n{error.stderr[-2000:]}") from error
        return costs(out.read_text(errors="replace").splitlines())


def costs(lines: Sequence[str]) -> Counter[str]:
    """Returns: the cost of each function itself, from callgrind's output.

    A line of numbers is a position and a cost. The one after `calls=` is what a callee took, which
    is counted where the callee has its own lines.
    """
    costs: Counter[str] = Counter()
    function = ""
    is_callee = False
    for line in lines:
        if line.startswith("fn="):
            # A recursive function has a second name with a depth behind it.
            function = line.removeprefix("fn=").partition("'")[0]
            if function.startswith("0x"):
                function = "(calls through the linker's tables)"
        elif line.startswith("calls="):
            is_callee = True
        elif line[:1].isdigit():
            if not is_callee:
                costs[function] += int(line.split()[1])
            is_callee = False
    return costs


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints the counts."""
    parser = argparse.ArgumentParser(description="instructions per acquire and release")
    parser.add_argument("cases", nargs="*", metavar="CASE", help=", ".join(CASES))
    parser.add_argument(
        "--hot", type=int, default=0, metavar="N", help="also the N hottest functions"
    )
    options = parser.parse_args(arguments)
    unknown = set(options.cases) - CASES.keys()
    if unknown:
        parser.error(f"unknown cases: {', '.join(sorted(unknown))}; known: {', '.join(CASES)}")
    write = sys.stdout.write
    try:
        reference = instructions_per_pair(REFERENCE)
        write(f"{'case':<16}{'instructions':>14}{'ratio':>8}\n")
        for case in options.cases or [case for case in CASES if case != LOOP]:
            n = instructions_per_pair(case)
            write(f"{case:<16}{n:>14.0f}{n / reference:>8.2f}\n")
            hottest = list(functions_per_pair(case).items())[: options.hot] if options.hot else []
            for name, cost in hottest:
                write(f"    {cost:>8.0f}  {name}\n")
    except ValgrindError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
