"""Draws the curves of a report."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from tables import TWO_THREADS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from saved import Run

# Everybody has one colour in all plots.
COLOURS = {
    "lockcore": "#c0392b",
    "lockcore, acquire()": "#e08e79",
    "threading.Lock": "#555555",
    "leaky dict of locks": "#8c8c8c",
    "refcounted dict of locks": "#b8860b",
    "oVirt algorithm": "#1f5f99",
    "fasteners": "#2e8b57",
    "readerwriterlock": "#7b4fa3",
    "oslo.concurrency": "#3aa6a6",
}
LOCK = "threading.Lock"
Drawing = Callable[["Axes", "Run"], bool]


def draw(runs: Sequence["Run"], directory: Path) -> dict[str, Path]:
    """Draws what the first run has, or the one without the GIL, as SVG files.

    Returns:
        The files by title, without those for which nothing was measured.
    """
    directory.mkdir(parents=True, exist_ok=True)
    mpl.rcParams["svg.hashsalt"] = "lockcore"  # the same numbers give the same file
    drawn = {}
    for title, (name, drawing) in DRAWINGS.items():
        run = free_threaded(runs) if drawing in {_two_threads, _threads} else runs[0]
        figure = Figure(figsize=(8, 4.5), layout="constrained")
        axes = figure.subplots()
        axes.spines[["top", "right"]].set_visible(False)
        if drawing(axes, run):
            axes.set_title(f"{title} ({run.title})", fontsize=10)
            drawn[title] = directory / f"{name}.svg"
            figure.savefig(drawn[title], metadata={"Date": None})
    return drawn


def free_threaded(runs: Sequence["Run"]) -> "Run":
    """Returns: the run in which threads can do something at the same time, else the first."""
    return next((run for run in runs if not run.has_gil), runs[0])


def cases_like(run: "Run", start: str, parameter: str) -> Iterator[tuple[int, str]]:
    """Yields: the cases that begin with `start`, by their parameter."""
    for case in run.cases:
        if case.startswith(start):
            for piece in case.split("/"):
                name, equals, value = piece.partition("=")
                if equals and name == parameter:
                    yield int(value), case


def _pair(axes: "Axes", run: "Run") -> bool:
    case = "try/exclusive/uncontended/keys=10000"
    values = {name: run.ratio(case, LOCK, name) for name in run.rivals(case)}
    known = sorted(
        ((name, value) for name, value in values.items() if value is not None),
        key=lambda item: item[1].median,
        reverse=True,
    )
    _bars(axes, known)
    axes.set_xscale("log")
    axes.margins(x=0.15)
    axes.set_xlabel(f"times {LOCK}; bars: median, whiskers: quartiles")
    return bool(known)


def _bars(axes: "Axes", values: Sequence[tuple[str, Any]]) -> None:
    """Draws a bar with its quartiles and its figure for each name."""
    for i, (name, value) in enumerate(values):
        error = [[value.median - value.low], [value.high - value.median]]
        colour = COLOURS.get(name.partition(",")[0], COLOURS["lockcore"])
        axes.barh(i, value.median, xerr=error, color=colour, capsize=3, height=0.7)
        axes.annotate(
            f"{value.median:.2f}",
            (value.high, i),
            xytext=(6, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
        )
    axes.set_yticks(range(len(values)), [name for name, _ in values])


def _two_threads(axes: "Axes", run: "Run") -> bool:
    """Draws the throughput of two threads, operation by operation."""
    known = []
    for case, words in reversed(TWO_THREADS.items()):
        value = run.ratio(case, "one thread", LOCK if case.endswith(LOCK) else "lockcore")
        if value is not None:
            known.append((words.replace("`", ""), value.inverse()))
    _bars(axes, known)
    axes.axvline(1, color="#555555", linewidth=0.8, linestyle=":")
    axes.axvline(2, color="#555555", linewidth=0.8, linestyle=":")
    axes.set_xlim(0, 2.4)
    axes.set_xlabel("throughput of two threads, times one thread; whiskers: quartiles")
    return bool(known)


def _curves(
    axes: "Axes",
    run: "Run",
    start: str,
    parameter: str,
    value: Callable[[str, str], Any],
) -> bool:
    """Draws one curve with its quartiles for each rival."""
    points: dict[str, list[tuple[int, Any]]] = {}
    for x, case in sorted(cases_like(run, start, parameter)):
        for name in run.rivals(case):
            y = value(case, name)
            if y is not None:
                points.setdefault(name, []).append((x, y))
    for name, curve in points.items():
        xs = [x for x, _ in curve]
        axes.plot(xs, [y.median for _, y in curve], marker="o", label=name, color=COLOURS.get(name))
        axes.fill_between(
            xs,
            [y.low for _, y in curve],
            [y.high for _, y in curve],
            color=COLOURS.get(name),
            alpha=0.15,
        )
    if points:
        axes.legend(fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
        axes.grid(visible=True, alpha=0.3)
        axes.set_xticks(sorted({x for curve in points.values() for x, _ in curve}))
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(lambda value, _: f"{value:,.10g}")
            axis.set_minor_formatter(
                lambda value, _: f"{value:,.10g}" if str(value)[0] in "235" else ""
            )
        axes.xaxis.set_minor_locator(NullLocator())
    return bool(points)


def _sets(axes: "Axes", run: "Run") -> bool:
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("keys in the set")
    axes.set_ylabel(f"per key, times {LOCK}")
    return _curves(
        axes,
        run,
        "set/exclusive/uncontended/",
        "keys",
        lambda case, name: run.ratio(case, LOCK, name),
    )


def _held(axes: "Axes", run: "Run") -> bool:
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("other keys held")
    axes.set_ylabel(f"one pair, times {LOCK}")
    return _curves(
        axes,
        run,
        "try/exclusive/beside-held/",
        "held",
        lambda case, name: run.ratio(case, LOCK, name),
    )


def _threads(axes: "Axes", run: "Run") -> bool:
    def speed_up(case: str, name: str) -> Any:
        if not case.endswith("/keys=16"):
            return None
        value = run.ratio(case, "one thread", name)
        return None if value is None else value.inverse()

    axes.set_xlabel("threads, each on 16 keys of its own")
    axes.set_ylabel("throughput, times one thread")
    return _curves(axes, run, "threads/exclusive/own-keys/", "threads", speed_up)


def _waiters(axes: "Axes", run: "Run") -> bool:
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("threads waiting for other keys")
    axes.set_ylabel("processor time of an operation, times no waiters")
    return _curves(
        axes,
        run,
        "paced/exclusive/elsewhere/",
        "waiters",
        lambda case, name: run.ratio(case, "no waiters", name),
    )


def _hand_off(axes: "Axes", run: "Run") -> bool:
    names = run.rivals("handoff/exclusive/computing-releaser")
    for i, way in enumerate(["idle", "computing"]):
        infos = [run.info(f"handoff/exclusive/{way}-releaser", name) for name in names]
        medians = [0.0 if info is None else info["latency_us"][0] for info in infos]
        heights = [j + 0.2 - 0.4 * i for j in range(len(names))]
        axes.barh(
            heights, medians, height=0.38, label=f"{way} releaser", color=("#b9c6d3", "#1f5f99")[i]
        )
    axes.set_yticks(range(len(names)), names)
    axes.set_xscale("log")
    axes.set_xlabel("microseconds from the release until the waiter runs")
    axes.legend(fontsize=8)
    return bool(names)


DRAWINGS: dict[str, tuple[str, Drawing]] = {
    "One free key, taken and given back": ("pair", _pair),
    "Sets of keys": ("sets", _sets),
    "One pair beside many held keys": ("held", _held),
    "Two threads": ("two-threads", _two_threads),
    "Threads on keys of their own": ("threads", _threads),
    "Hand-off to a waiting thread": ("handoff", _hand_off),
    "Waiters elsewhere": ("waiters", _waiters),
}
