"""Prints what a saved run says: the table of bounds, and what each rival takes.

    python benchmarks/report.py RUN.json [RUN.json ...]

Several runs (of several Pythons) get a column each. With `--markdown` the tables are Markdown. With
`--plots DIRECTORY` the curves are drawn there, which needs matplotlib. With `--write FILE` the
parts of a Markdown file between `<!-- NAME:begin -->` and `<!-- NAME:end -->` are made anew; NAME
is `machine`, `ratios`, `bounds`, `rivals` or `plots`.
"""

import argparse
import json
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# For `python -m benchmarks.report`, which puts another directory first.
sys.path.insert(0, str(Path(__file__).resolve().parent))

LOCK = "threading.Lock"
PREPARED = "prepared/exclusive/uncontended"
TRY = "try/exclusive/uncontended/keys=10000"
TRY_GROUP_ID = "try-group-id/exclusive/uncontended/keys=10000"
MIXED = "mixed/exclusive+shared/uncontended/keys=2"


@dataclass(frozen=True)
class Value:
    """A median with its quartiles."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, spread: Sequence[float]) -> "Value":
        """Returns: the value of a list as the benchmarks save it."""
        return cls(*spread)

    @classmethod
    def exactly(cls, value: float) -> "Value":
        """Returns: a value that was read once."""
        return cls(value, value, value)

    def inverse(self) -> "Value":
        """Returns: 1 divided by it."""
        return Value(1 / self.median, 1 / self.high, 1 / self.low)


class Run:
    """A saved run of pytest-benchmark."""

    def __init__(self, path: Path) -> None:
        data = json.loads(path.read_text())
        self.machine: dict[str, Any] = data["machine_info"]
        self.circumstances: dict[str, Any] = data["run_info"]
        self._cases: dict[tuple[str, str], dict[str, Any]] = {}
        for benchmark in data["benchmarks"]:
            info = benchmark["extra_info"]
            if "case" in info:
                self._cases[info["case"], info["rival"]] = info

    @property
    def title(self) -> str:
        """What a column of this run is called."""
        kind = "" if self.machine.get("is_gil_enabled", True) else " free-threaded"
        return f"CPython {self.machine['python']}{kind}"

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
        return None if spread is None else Value.of(spread)

    def entry(self, case: str, name: str) -> Value | None:
        """Returns: something else that was saved of lockcore's part in a case."""
        info = self.info(case)
        saved = None if info is None else info.get(name)
        if saved is None:
            return None
        return Value.of(saved) if isinstance(saved, list) else Value.exactly(saved)


# ---- bounds --------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    """A line of the table of bounds.

    Attributes:
        what: In words.
        bound: At most, or with `is_least` at least.
        measured: What a run says.
        form: How to write a value.
    """

    what: str
    bound: float
    measured: Callable[[Run], Value | None]
    form: Callable[[float], str]
    is_least: bool = False

    def is_met(self, value: Value) -> bool:
        """Returns: whether the median is within the bound."""
        return value.median >= self.bound if self.is_least else value.median <= self.bound

    def written_bound(self) -> str:
        """Returns: the bound in words."""
        return f"{'at least ' if self.is_least else ''}{self.form(self.bound)}"

    def written(self, value: Value | None) -> str:
        """Returns: the median and, in brackets, the quartiles."""
        if value is None:
            return "not measured"
        if value.low == value.high:
            return self.form(value.median)
        return f"{self.form(value.median)} [{self.form(value.low)}, {self.form(value.high)}]"


def times(value: float) -> str:
    """Returns: a ratio."""
    return f"{value:.2f}x"


def part(value: float) -> str:
    """Returns: a ratio below one, as a fraction."""
    return f"1/{1 / value:.1f}".removesuffix(".0")


def microseconds(value: float) -> str:
    """Returns: a time given in microseconds."""
    return f"{value:.0f} us"


def nanoseconds_as_micro(value: float) -> str:
    """Returns: a time given in nanoseconds."""
    return f"{value / 1000:.2f} us"


def seconds(value: float) -> str:
    """Returns: a time."""
    return f"{value:.2f} s"


def size(value: float) -> str:
    """Returns: a number of bytes."""
    return f"{value:.0f} B"


def megabytes(value: float) -> str:
    """Returns: a number of bytes."""
    return f"{value / 1e6:+.2f} MB"


def against(case: str, rival: str) -> Callable[[Run], Value | None]:
    """Returns: lockcore divided by `rival`, from the rival's own turns with lockcore."""

    def measured(run: Run) -> Value | None:
        value = run.ratio(case, "lockcore", rival)
        return None if value is None else value.inverse()

    return measured


def raw(rival: str, request: str) -> Callable[[Run], Value | None]:
    """Returns: the raw core divided by `rival`, one thread."""

    def measured(run: Run) -> Value | None:
        info = run.info("raw/exclusive/disjoint")
        for each in [] if info is None else info["runs"]:
            if each["rival"] == rival and each["threads"] == 1:
                return Value.of(each["ratios"][f"lockcore, {request}"]).inverse()
        return None

    return measured


def free_threaded_scaling(run: Run) -> Value | None:
    """Returns: the throughput of two threads on their own keys, divided by that of one."""
    if run.has_gil:
        return None
    value = run.ratio("threads/exclusive/own-keys/threads=2/keys=16", "one thread")
    return None if value is None else value.inverse()


ROWS = (
    Row(
        "prepared `lock.acquire(); lock.release()` against `threading.Lock`",
        0.7,
        lambda run: run.ratio(PREPARED, LOCK),
        times,
    ),
    Row(
        "`try_acquire(exclusive=[k])` + `release()`, 10,000 `str` keys, against `threading.Lock`",
        1.25,
        lambda run: run.ratio(TRY, LOCK),
        times,
    ),
    Row("the same with `(group, id)` keys", 1.6, lambda run: run.ratio(TRY_GROUP_ID, LOCK), times),
    Row(
        "one exclusive + one shared key, atomic, against `threading.Lock`",
        1.9,
        lambda run: run.ratio(MIXED, LOCK),
        times,
    ),
    Row("against the oVirt algorithm in Python", 1 / 12, against(TRY, "oVirt algorithm"), part),
    Row("against fasteners", 1 / 18, against(TRY, "fasteners"), part),
    Row(
        "against a refcounted dict of locks", 1 / 7, against(TRY, "refcounted dict of locks"), part
    ),
    Row(
        "10-key set, per key, against the one-key pair",
        0.33,
        lambda run: run.ratio("set/exclusive/uncontended/keys=10", "one_key_pair"),
        times,
    ),
    Row(
        "raw C pair, request made beforehand, against oneTBB `concurrent_hash_map`",
        1 / 3,
        raw("oneTBB, string keys", "prepared request"),
        part,
    ),
    Row(
        "the same, making the request each time",
        1 / 3,
        raw("oneTBB, string keys", "new request"),
        part,
    ),
    Row(
        "raw C pair, request made beforehand, against RocksDB point locks",
        1 / 15,
        raw("RocksDB point locks", "prepared request"),
        part,
    ),
    Row(
        "the same, making the request each time",
        1 / 15,
        raw("RocksDB point locks", "new request"),
        part,
    ),
    Row(
        "free-threaded, 2 threads, disjoint keys: throughput against 1 thread",
        1.7,
        free_threaded_scaling,
        times,
        is_least=True,
    ),
    Row(
        "hand-off between 2 threads, against a bare `threading.Lock` hand-off",
        1.1,
        lambda run: run.ratio("handoff/exclusive/to-and-fro", LOCK),
        times,
    ),
    Row(
        "hand-off while the releaser computes",
        200,
        lambda run: run.entry("handoff/exclusive/computing-releaser", "latency_us"),
        microseconds,
    ),
    Row(
        "a paced operation with 64 threads waiting on other keys, against none",
        1.05,
        lambda run: run.entry("paced/exclusive/elsewhere/waiters=64", "cpu_ratio"),
        times,
    ),
    Row(
        "`@locks` on an empty function, against calling it bare, extra",
        1000,
        lambda run: run.entry("call/annotated/uncontended", "extra_ns"),
        nanoseconds_as_micro,
    ),
    Row(
        "memory per held one-key grant, handle included, 1,000,000 held",
        250,
        lambda run: run.entry("memory/exclusive/held/keys=1000000", "bytes_per_grant"),
        size,
    ),
    Row(
        "1,000,000 keys held at once and released: resident memory after, against before",
        1e6,
        lambda run: run.entry("memory/exclusive/held/keys=1000000", "left_over"),
        megabytes,
    ),
    Row(
        "the same, one key at a time",
        1e6,
        lambda run: run.entry("memory/exclusive/passing/keys=1000000", "left_over"),
        megabytes,
    ),
    Row(
        "recovery of 10,000 stored commands whose tasks go on",
        2,
        lambda run: run.entry("recovery/resumed/engine/commands=10000", "seconds"),
        seconds,
    ),
)


def bounds(runs: Sequence[Run]) -> list[list[str]]:
    """Returns: the table of bounds, its heading first."""
    table = [["what", *[run.title for run in runs], "at most", "met"]]
    for row in ROWS:
        values = [row.measured(run) for run in runs]
        known = [value for value in values if value is not None]
        met = "?" if not known else "yes" if all(map(row.is_met, known)) else "no"
        table.append([row.what, *map(row.written, values), row.written_bound(), met])
    return table


# ---- rivals --------------------------------------------------------------------

# Case, and what it is called in the table.
OPERATIONS = {
    PREPARED: "a prepared lock",
    TRY: "one key, tried",
    "acquire/exclusive/uncontended/keys=10000": "one key, acquired",
    "with/exclusive/uncontended/keys=10000": "one key, in a `with` statement",
    TRY_GROUP_ID: "a `(group, id)` key",
    "try/shared/uncontended/keys=10000": "one key, shared",
    MIXED: "one exclusive and one shared key",
    "set/exclusive/uncontended/keys=10": "ten keys, per key",
    "set/exclusive/uncontended/keys=1000": "1,000 keys, per key",
    "try/exclusive/refused/keys=1000": "one key, refused",
    "read/shared/hot/holders=10": "a key that ten others read",
    "handoff/exclusive/to-and-fro": "a hand-off to another thread",
}


def rivals(run: Run) -> list[list[str]]:
    """Returns: for each operation, how many times what `threading.Lock` takes each rival takes."""
    names = list(dict.fromkeys(name for case in OPERATIONS for name in run.rivals(case)))
    names = [name for name in names if name not in {LOCK, "lockcore, acquire()"}]
    table = [[f"times `{LOCK}`", *names]]
    for case, words in OPERATIONS.items():
        values = [run.ratio(case, LOCK, name) for name in names]
        if any(values):
            table.append([words, *["-" if v is None else f"{v.median:.2f}" for v in values]])
    return table


# The short table: what, the case, and against whom.
RATIOS = (
    ("a prepared lock, acquired and released", PREPARED, LOCK),
    ("one of 10,000 keys, acquired and released", TRY, LOCK),
    ("the same", TRY, "refcounted dict of locks"),
    ("the same", TRY, "readerwriterlock"),
    ("the same", TRY, "fasteners"),
    ("the same", TRY, "oVirt algorithm"),
    ("the same", TRY, "oslo.concurrency"),
    ("one exclusive and one shared key together", MIXED, LOCK),
    ("the same", MIXED, "refcounted dict of locks"),
    ("ten keys together", "set/exclusive/uncontended/keys=10", LOCK),
    ("the same", "set/exclusive/uncontended/keys=10", "refcounted dict of locks"),
    ("a hand-off to a waiting thread", "handoff/exclusive/to-and-fro", LOCK),
    ("the same, while the releaser computes", "handoff/exclusive/computing-releaser", LOCK),
)


def ratios(run: Run) -> list[list[str]]:
    """Returns: the short table, lockcore divided by each of those worth naming."""
    table = [["what", "against", "ratio"]]
    for what, case, rival in RATIOS:
        ratio = run.ratio(case, LOCK) if rival == LOCK else against(case, rival)(run)
        if ratio is not None:
            table.append([what, rival, f"{ratio.median:.2g}"])
    return table


# ---- output --------------------------------------------------------------------


def machine(runs: Sequence[Run]) -> str:
    """Returns: where and when, in one line each."""
    lines = []
    for run in runs:
        info = run.circumstances
        cpu = run.machine.get("cpu", {}).get("brand_raw", "unknown processor")
        versions = [f"{name} {version or '?'}" for name, version in info["versions"].items()]
        load = info["load_average"]
        lines.append(
            f"{run.title}, {info['date']}, {cpu}, {run.machine['cpus_usable']} processors"
            f"{f', load {load[0]:.1f} at the end' if load else ''}; {', '.join(versions)}"
        )
    return "\n".join(lines)


def as_text(table: Sequence[Sequence[str]]) -> str:
    """Returns: the table with its columns aligned."""
    widths = [max(len(row[i]) for row in table) for i in range(len(table[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in table
    )


def as_markdown(table: Sequence[Sequence[str]]) -> str:
    """Returns: the table in Markdown."""
    heading, *rows = table
    lines = [heading, ["---"] * len(heading), *rows]
    return "\n".join(f"| {' | '.join(row)} |" for row in lines)


def write_into(path: Path, parts: dict[str, str]) -> None:
    """Makes the marked parts of a Markdown file anew.

    Raises:
        SystemExit: The file has no such marks.
    """
    text, n = re.subn(
        rf"(<!-- ({'|'.join(parts)}):begin -->\n).*?(<!-- \2:end -->)",
        lambda found: f"{found[1]}{parts[found[2]]}\n{found[3]}",
        path.read_text(),
        flags=re.DOTALL,
    )
    if not n:
        sys.exit(f"{path} has no part to write: no <!-- NAME:begin --> in it")
    path.write_text(text)


def main(arguments: Iterable[str] | None = None) -> None:
    """Reads runs, prints and writes what they say."""
    parser = argparse.ArgumentParser(description="what a saved benchmark run says")
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN.json")
    parser.add_argument("--markdown", action="store_true", help="tables in Markdown")
    parser.add_argument("--plots", type=Path, metavar="DIRECTORY", help="draw the curves there")
    parser.add_argument("--write", type=Path, action="append", default=[], metavar="FILE")
    options = parser.parse_args(None if arguments is None else list(arguments))
    runs = [Run(path) for path in options.runs]
    if any(run.circumstances["is_quick"] for run in runs):
        sys.stderr.write("this was a quick run, which measures nothing\n")

    parts = {
        "machine": machine(runs),
        "ratios": as_markdown(ratios(runs[0])),
        "bounds": as_markdown(bounds(runs)),
        "rivals": as_markdown(rivals(runs[0])),
    }
    if options.plots is not None:
        import plots  # noqa: PLC0415 - needs matplotlib, which only this does

        drawn = plots.draw(runs, options.plots)
        parts["plots"] = "\n\n".join(
            f"![{title}]({options.plots.name}/{path.name})" for title, path in drawn.items()
        )
    table = as_markdown if options.markdown else as_text
    sys.stdout.write(f"{parts['machine']}\n\n{table(bounds(runs))}\n\n{table(rivals(runs[0]))}\n")
    for path in options.write:
        write_into(path, parts)


if __name__ == "__main__":
    main()
