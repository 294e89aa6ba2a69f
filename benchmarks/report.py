"""Prints what saved runs say: the table of bounds, and what each rival takes.

    python benchmarks/report.py RUN.json [RUN.json ...]

Several runs (of several Pythons) get a column each; the first decides what has been reached. With
`--markdown` the tables are Markdown. With `--plots DIRECTORY` the curves are drawn there, which
needs matplotlib. With `--write FILE` the parts of a Markdown file between `<!-- NAME:begin -->` and
`<!-- NAME:end -->` are made anew; NAME is `machine`, `plots` or one of TABLES.
"""

import argparse
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

# For `python -m benchmarks.report`, which puts another directory first.
sys.path.insert(0, str(Path(__file__).resolve().parent))

import tables
from bounds import bounds
from saved import Run, load

Table = list[list[str]]

TABLES: dict[str, Callable[[Sequence[Run]], Table]] = {
    "bounds": bounds,
    "rivals": lambda runs: tables.rivals(runs[0]),
    "raw": lambda runs: tables.raw(runs[0]),
    "threads": tables.threads,
    "workload": lambda runs: tables.workload(runs[0]),
    "ratios": lambda runs: tables.ratios(runs[0]),
}


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
    runs = load(options.runs)
    if any(run.circumstances["is_quick"] for run in runs):
        sys.stderr.write("this was a quick run, which measures nothing\n")

    every = {name: make(runs) for name, make in TABLES.items()}
    made = {name: table for name, table in every.items() if len(table) > 1}  # more than a heading
    parts = {name: as_markdown(table) for name, table in made.items()}
    parts["machine"] = re.sub("^", "* ", machine(runs), flags=re.MULTILINE)
    if "ratios" in parts:
        parts["ratios"] += f"\n\n{machine(runs[:1]).partition(';')[0]}."
    if options.plots is not None:
        import plots  # noqa: PLC0415 - needs matplotlib, which only this does

        drawn = plots.draw(runs, options.plots)
        parts["plots"] = "\n\n".join(
            f"![{title}]({options.plots.name}/{path.name})" for title, path in drawn.items()
        )
    form = as_markdown if options.markdown else as_text
    printed = [form(table) for name, table in made.items() if name != "ratios"]
    sys.stdout.write("\n\n".join([parts["machine"], *printed]) + "\n")
    for path in options.write:
        write_into(path, parts)


if __name__ == "__main__":
    main()
