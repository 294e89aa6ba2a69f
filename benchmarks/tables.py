"""The tables beside the bounds: the rivals, the raw core, threads, an engine's day."""

from collections.abc import Callable, Sequence
from typing import Any

from bounds import against
from saved import LOCK, MIXED, PREPARED, TRY, TRY_GROUP_ID, Run, Value

Table = list[list[str]]

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
    ("the same", TRY, "leaky dict of locks"),
    ("the same", TRY, "refcounted dict of locks"),
    ("the same", TRY, "readerwriterlock"),
    ("the same", TRY, "fasteners"),
    ("the same", TRY, "oVirt algorithm"),
    ("the same", TRY, "oslo.concurrency"),
    ("one exclusive and one shared key together", MIXED, LOCK),
    ("the same", MIXED, "leaky dict of locks"),
    ("the same", MIXED, "refcounted dict of locks"),
    ("ten keys together", "set/exclusive/uncontended/keys=10", LOCK),
    ("the same", "set/exclusive/uncontended/keys=10", "leaky dict of locks"),
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


# ---- the raw core ----------------------------------------------------------------


def raw(run: Run) -> Table:
    """Returns: what each lock table in C or C++ takes, beside the raw core."""
    info = run.info("raw/exclusive/disjoint")
    if info is None:
        return []
    table = [["one key, taken and given back", "threads", "times lockcore", "speed-up by threads"]]
    for each in info["runs"]:
        ratio = Value.of(each["ratios"]["lockcore, new request"])
        n_threads = each["threads"]
        speed_up = "" if n_threads == 1 else spread(Value.of(each["speedup"]))
        who, comma, how = each["rival"].partition(",")
        name = f"{who} {info['versions'].get(who, '')}".strip() + comma + how
        table.append([name, str(n_threads), spread(ratio), speed_up])
    return table


# ---- threads ---------------------------------------------------------------------

TWO_THREADS = {
    "two-threads/threading.Lock": "`threading.Lock`, one for each thread",
    "two-threads/prepared": "a prepared lock",
    "two-threads/try/manager=local": "`try_acquire`, the manager in a local variable",
    "two-threads/try/manager=attribute": "the same, in an attribute",
    "two-threads/try/manager=global": "the same, in a global variable",
    "two-threads/try/manager=bound-method": "the same, its method in a local variable",
    "two-threads/with/manager=local": "`with manager.acquire()`",
    "read/shared/hot/threads=2": "one key that both read",
    "threads/exclusive/same-keys/threads=2/keys=1": "one key that both want",
}


def threads(runs: Sequence[Run]) -> Table:
    """Returns: the throughput of two threads, divided by that of one."""
    table = [["two threads against one", *[run.title for run in runs]]]
    for case, words in TWO_THREADS.items():
        rival = LOCK if case.endswith(LOCK) else "lockcore"
        values = [run.ratio(case, "one thread", rival) for run in runs]
        if any(values):
            table.append([words, *["-" if v is None else spread(v.inverse()) for v in values]])
    return table


def spread(value: Value) -> str:
    """Returns: median, quartiles, and the quotient of the best rounds."""
    best = "" if value.best is None else f", best {value.best:.2f}"
    return f"{value.median:.2f} [{value.low:.2f}, {value.high:.2f}]{best}"


# ---- an engine's day -------------------------------------------------------------


def workload(run: Run) -> Table:
    """Returns: what the day costs whom, and how long who waits."""
    replays = [case for case in run.cases if case.startswith("workload/mixed/replay")]
    if not replays:
        return []
    players = run.rivals(replays[0])
    table = [["an engine's day", *players]]

    def add(words: str, case: str, cell: Callable[[dict[str, Any], str], str]) -> None:
        infos = {name: run.info(case, name) for name in players}
        cells = ["-" if info is None else cell(info, name) for name, info in infos.items()]
        table.append([words, *cells])

    def times_lockcore(info: dict[str, Any], name: str) -> str:
        ratio = info["ratios"].get("lockcore")
        return "1" if name == "lockcore" else "-" if ratio is None else spread(Value.of(ratio))

    add("nobody waits: processor time, times lockcore", replays[0], times_lockcore)
    add("the same: refused", replays[0], lambda info, _: f"{info['refused']:.1%}")
    for case in run.cases:
        if not case.startswith("workload/mixed/threads"):
            continue
        words = f"64 threads, a second is {case.rpartition('=')[2]} us"
        add(f"{words}: time, times lockcore", case, times_lockcore)
        add(
            "the same: processor time of a request",
            case,
            lambda info, _: f"{info['processor_us']:.0f} us",
        )
        add("the same: refused or too late", case, lambda info, _: f"{info['refused']:.1%}")
        for percentile in ("p50", "p90", "p99", "max"):
            add(
                f"the same: wait, {percentile}",
                case,
                lambda info, _, p=percentile: f"{info['wait_ms'][p]:.2f} ms",  # type: ignore[misc]
            )
    return table
