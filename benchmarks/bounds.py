"""The table of bounds: what the project has set itself, and what runs say."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from memory import EMPTY_OBJECTS
from saved import LOCK, MIXED, PREPARED, TRY, TRY_GROUP_ID, Run, Value


@dataclass(frozen=True)
class Row:
    """A line of the table of bounds.

    Attributes:
        what: In words.
        bound: At most, or with `is_least` at least; None for what is there to compare with.
        measured: What a run says.
        form: How to write a value.
    """

    what: str
    bound: float | None
    measured: Callable[[Run], Value | None]
    form: Callable[[float], str]
    is_least: bool = False

    def met(self, value: Value | None) -> str:
        """Returns: whether the median is within the bound."""
        if self.bound is None:
            return "-"
        if value is None:
            return "not measured"
        is_met = value.median >= self.bound if self.is_least else value.median <= self.bound
        return "yes" if is_met else "no"

    def written_bound(self) -> str:
        """Returns: the bound in words."""
        if self.bound is None:
            return "-"
        return f"{'at least ' if self.is_least else ''}{self.form(self.bound)}"

    def written(self, value: Value | None) -> str:
        """Returns: the median, in brackets the quartiles, and the quotient of the best rounds."""
        if value is None:
            return "-"
        if value.low == value.high:
            return self.form(value.median)
        spread = f"{self.form(value.median)} [{self.form(value.low)}, {self.form(value.high)}]"
        return spread if value.best is None else f"{spread}, best {self.form(value.best)}"


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


TBB = "oneTBB, string keys with their hash"


def raw(rival: str, request: str) -> Callable[[Run], Value | None]:
    """Returns: the raw core divided by `rival`, one thread."""

    def measured(run: Run) -> Value | None:
        info = run.info("raw/exclusive/disjoint")
        for each in [] if info is None else info["runs"]:
            if each["rival"] == rival and each["threads"] == 1:
                return Value.of(each["ratios"][f"lockcore, {request}"]).inverse()
        return None

    return measured


def free_threaded_scaling(operation: str) -> Callable[[Run], Value | None]:
    """Returns: the throughput of two threads on their own keys, divided by that of one."""

    def measured(run: Run) -> Value | None:
        value = None if run.has_gil else run.ratio(f"two-threads/{operation}", "one thread")
        return None if value is None else value.inverse()

    return measured


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
        raw(TBB, "prepared request"),
        part,
    ),
    Row(
        "the same, making the request each time",
        1 / 3,
        raw(TBB, "new request"),
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
        "free-threaded, 2 threads, disjoint keys: throughput against 1 thread, prepared lock",
        1.7,
        free_threaded_scaling("prepared"),
        times,
        is_least=True,
    ),
    Row(
        "the same, `try_acquire` + `release()`, the manager in a local variable",
        1.7,
        free_threaded_scaling("try/manager=local"),
        times,
        is_least=True,
    ),
    Row(
        "the same, its method in a local variable",
        1.7,
        free_threaded_scaling("try/manager=bound-method"),
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
        "as many empty Python objects, which lock nothing, made and dropped: the same",
        None,
        lambda run: run.entry("memory/exclusive/held/keys=1000000", "left_over", EMPTY_OBJECTS),
        megabytes,
    ),
    Row(
        "1,000,000 keys acquired and released one at a time",
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
    """Returns: the table of bounds, its heading first. The first run with a value decides."""
    table = [["what", "at most", *[run.title for run in runs], "met"]]
    for row in ROWS:
        values = [row.measured(run) for run in runs]
        known = next((value for value in values if value is not None), None)
        table.append([row.what, row.written_bound(), *map(row.written, values), row.met(known)])
    return table
