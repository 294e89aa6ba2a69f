"""Saved runs of the benchmarks, as the report reads them."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LOCK = "threading.Lock"
PREPARED = "prepared/exclusive/uncontended"
TRY = "try/exclusive/uncontended/keys=10000"
TRY_GROUP_ID = "try-group-id/exclusive/uncontended/keys=10000"
MIXED = "mixed/exclusive+shared/uncontended/keys=2"


@dataclass(frozen=True)
class Value:
    """A median with its quartiles and, of a ratio, the quotient of the best rounds."""

    median: float
    low: float
    high: float
    best: float | None = None

    @classmethod
    def of(cls, spread: Sequence[float], best: float | None = None) -> "Value":
        """Returns: the value of a list as the benchmarks save it."""
        return cls(*spread, best=best)

    @classmethod
    def exactly(cls, value: float) -> "Value":
        """Returns: a value that was read once."""
        return cls(value, value, value)

    def inverse(self) -> "Value":
        """Returns: 1 divided by it."""
        best = None if self.best is None else 1 / self.best
        return Value(1 / self.median, 1 / self.high, 1 / self.low, best)


class Run:
    """A saved run of pytest-benchmark.

    Attributes:
        machine: Where it was made.
        circumstances: When, and beside what.
        title: What a column of it is called.
    """

    def __init__(self, path: Path) -> None:
        data = json.loads(path.read_text())
        self.machine: dict[str, Any] = data["machine_info"]
        self.circumstances: dict[str, Any] = data["run_info"]
        self._cases: dict[tuple[str, str], dict[str, Any]] = {}
        for benchmark in data["benchmarks"]:
            info = benchmark["extra_info"]
            if "case" in info:
                self._cases[info["case"], info["rival"]] = info
        kind = "" if self.has_gil else " free-threaded"
        self.title = f"CPython {self.machine['python']}{kind}"

    @property
    def has_gil(self) -> bool:
        """Whether it ran with the GIL."""
        return bool(self.machine.get("is_gil_enabled", True))

    @property
    def cases(self) -> list[str]:
        """The cases, in the order in which they ran."""
        return list(dict.fromkeys(case for case, _ in self._cases))

    def rivals(self, case: str) -> list[str]:
        """Returns: who took part in a case."""
        return [rival for name, rival in self._cases if name == case]

    def info(self, case: str, rival: str = "lockcore") -> dict[str, Any] | None:
        """Returns: what was saved of a case, None if it was not measured."""
        return self._cases.get((case, rival))

    def ratio(self, case: str, reference: str, rival: str = "lockcore") -> Value | None:
        """Returns: what `rival` takes, divided by what `reference` takes."""
        info = self.info(case, rival)
        spread = None if info is None else info.get("ratios", {}).get(reference)
        if info is None or spread is None:
            return None
        return Value.of(spread, info.get("best_ratios", {}).get(reference))

    def entry(self, case: str, name: str, rival: str = "lockcore") -> Value | None:
        """Returns: something else that was saved of a rival's part in a case."""
        saved = (self.info(case, rival) or {}).get(name)
        if saved is None:
            return None
        return Value.of(saved) if isinstance(saved, list) else Value.exactly(saved)


def load(paths: Sequence[Path]) -> list[Run]:
    """Returns: the runs, those of one interpreter told apart by the names of their files."""
    runs = [Run(path) for path in paths]
    times = Counter(run.title for run in runs)
    for run, path in zip(runs, paths, strict=True):
        if times[run.title] > 1:
            run.title = f"{run.title}, {path.stem}"
    return runs
