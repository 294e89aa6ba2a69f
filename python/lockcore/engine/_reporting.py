"""How a task says how far it has come, wherever it runs."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Callable
from contextvars import ContextVar
from pathlib import Path

from lockcore.engine._supervisor import PROGRESS

__all__ = ["report_progress", "reporter"]

reporter: ContextVar[Callable[[float | None, str], None] | None] = ContextVar(
    "reporter", default=None
)
"""Set by a back end around a task that runs in this thread."""


def report_progress(progress: float | None, detail: str = "") -> None:
    """Says how far the task has come in which this is called; `Engine.status` shows it.

    Works in a function that `ThreadTasks` runs, in a Python program that `ProcessTasks` runs, and
    in a Celery task that is a `FollowedTask`. Anywhere else it does nothing, so that a function
    need not know whether it is a task. What was said last counts. Costs, in a process, the writing
    of a small file, and in Celery one round trip: say it once a second, not once a byte.

    Args:
        progress: The part that is done, from 0 to 1; None if that is unknown.
        detail: In words what is being done, in one line.

    Raises:
        ValueError: The part is not within 0 and 1.
        OSError: The file cannot be written, on a full disk for example.
    """
    if progress is not None:
        progress = float(progress)
        if not 0 <= progress <= 1 or math.isnan(progress):
            raise ValueError(f"progress is a part from 0 to 1, not {progress!r}")
    detail = " ".join(detail.split())
    report = reporter.get()
    if report is not None:
        report(progress, detail)
    elif path := os.environ.get(PROGRESS):
        _write(Path(path), progress, detail)


def _write(path: Path, progress: float | None, detail: str) -> None:
    """Makes the line appear whole: whoever reads sees the old one or the new one."""
    part = "" if progress is None else f"{progress:g} "
    new = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        new.write_text(f"{part}{detail}\n", encoding="utf-8")
        new.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            new.unlink()
        raise
