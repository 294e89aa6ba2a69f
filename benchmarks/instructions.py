"""Prints how many machine instructions a pair takes, counted by valgrind.

    python benchmarks/instructions.py [--hot N] [CASE ...]

Unlike a time, a count is the same on a busy machine and on an idle one, to a few per mille. One
program does all cases, one after the other, and calls a function of the C library before and after
each; callgrind writes down there what was counted since the last time. The empty loop is counted in
the same way and taken off.

`--hot N` also lists the N functions in which most of a pair is spent.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

N_PAIRS = 2_000
# Before it is counted: the interpreter adapts its code to what it meets, and lists grow.
N_WARM = 200
LOOP = "empty loop"
REFERENCE = "threading.Lock"
# Nothing else calls it, in Python or in the C library.
MARK = "getppid"

_KEYS = f"keys = [f'vm-{{i}}' for i in range({N_PAIRS})]"
_PAIRS = f"keys = [('VM', f'vm-{{i}}') for i in range({N_PAIRS})]"
_SETS = f"keys = [[f'vm-{{i}}-{{j}}' for j in range(10)] for i in range({N_PAIRS})]"
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

    def program(self) -> str:
        """Returns: the lines that do the pair, first to warm up and then between two marks."""
        return "\n".join(
            [
                *self.setup,
                _HASHED,
                "def run(keys, it):",
                "    for key in keys:",
                f"        {self.pair}",
                f"run(keys[:{N_WARM}], it)",
                f"os.{MARK}(); run(keys, it); os.{MARK}()",
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
    "try-message": Case(
        (_KEYS, _MANAGER), "it.try_acquire(exclusive={key: 'VM_IS_BUSY'}).release()"
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


class Counts:
    """What was counted, for each case and in it for each function, the loop included."""

    def __init__(self, functions: dict[str, Counter[str]]) -> None:
        self._functions = functions

    @classmethod
    def of(cls, cases: Sequence[str]) -> "Counts":
        """Counts these cases; those that others are compared with come by themselves.

        Raises:
            ValgrindError: They cannot be counted here.
        """
        names = list(dict.fromkeys([LOOP, REFERENCE, *cases]))
        program = "\n".join(["import gc, os; gc.disable()", *(CASES[n].program() for n in names)])
        profiles = _profiles(program)
        if len(profiles) < 2 * len(names):
            raise ValgrindError(f"callgrind does not see {MARK}(): {len(profiles)} parts")
        # Every other part is what lies between two cases.
        return cls(dict(zip(names, profiles[1::2], strict=False)))

    def pair(self, case: str) -> float:
        """Returns: instructions of one pair, net of the empty loop."""
        total = self._functions[case].total() - self._functions[LOOP].total()
        return total / N_PAIRS

    def ratio(self, case: str) -> float:
        """Returns: the same, divided by a pair of `threading.Lock`."""
        return self.pair(case) / self.pair(REFERENCE)

    def hottest(self, case: str, n: int) -> list[tuple[str, float]]:
        """Returns: the functions with the most instructions of a pair, the loop included."""
        return [(name, cost / N_PAIRS) for name, cost in self._functions[case].most_common(n)]


def _profiles(program: str) -> list[Counter[str]]:
    """Runs a program under callgrind. Returns: instructions for each function, part by part."""
    with tempfile.TemporaryDirectory() as directory:
        out = Path(directory) / "profile"
        command = [
            "valgrind",
            "--tool=callgrind",
            f"--dump-before={MARK}",
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
        parts = sorted(out.parent.glob("profile.*"), key=lambda part: int(part.suffix[1:]))
        return [costs(part.read_text(errors="replace").splitlines()) for part in parts]


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
    cases = options.cases or [case for case in CASES if case != LOOP]
    try:
        counts = Counts.of(cases)
    except ValgrindError as error:
        sys.exit(str(error))
    write = sys.stdout.write
    write(f"{'case':<16}{'instructions':>14}{'ratio':>8}\n")
    for case in cases:
        write(f"{case:<16}{counts.pair(case):>14.0f}{counts.ratio(case):>8.2f}\n")
        for name, cost in counts.hottest(case, options.hot):
            write(f"    {cost:>8.0f}  {name}\n")


if __name__ == "__main__":
    main()
