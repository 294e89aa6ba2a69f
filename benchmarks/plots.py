"""Draws the curves of a report."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
from matplotlib.figure import Figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from report import Run

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
    """Draws what the first run has, as SVG files.

    Returns:
        The files by title, without those for which nothing was measured.
    """
    directory.mkdir(parents=True, exist_ok=True)
    mpl.rcParams["svg.hashsalt"] = "lockcore"  # the same numbers give the same file
    drawn = {}
    for title, (name, drawing) in DRAWINGS.items():
        figure = Figure(figsize=(8, 4.5), layout="constrained")
        axes = figure.subplots()
        if drawing(axes, runs[0]):
            axes.set_title(f"{title} ({runs[0].title})", fontsize=10)
            drawn[title] = directory / f"{name}.svg"
            figure.savefig(drawn[title], metadata={"Date": None})
    return drawn


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
    for i, (name, value) in enumerate(known):
        error = [[value.median - value.low], [value.high - value.median]]
        axes.barh(i, value.median, xerr=error, color=COLOURS.get(name), capsize=3)
        axes.annotate(
            f"{value.median:.2f}",
            (value.high, i),
            xytext=(6, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
        )
    axes.set_yticks(range(len(known)), [name for name, _ in known])
    axes.set_xscale("log")
    axes.margins(x=0.15)
    axes.set_xlabel(f"times {LOCK}; bars: median, whiskers: quartiles")
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
        axes.legend(fontsize=8)
        axes.grid(visible=True, alpha=0.3)
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
    axes.set_xticks([1, 2, 4])
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
    "Threads on keys of their own": ("threads", _threads),
    "Hand-off to a waiting thread": ("handoff", _hand_off),
    "Waiters elsewhere": ("waiters", _waiters),
}
