"""`report_progress`: one function for tasks in threads and in processes."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from lockcore.engine import (
    Command,
    Engine,
    ProcessTasks,
    Scope,
    TaskState,
    TaskStatus,
    ThreadTasks,
    locks,
    report_progress,
)
from support import DEADLINE, eventually

PROGRAM = """
import sys
from lockcore.engine import report_progress
report_progress(0.1, "beginning")
report_progress(float(sys.argv[1]), "copying\\nthe disk")
open(sys.argv[2]).read()
"""


@pytest.fixture
def threads() -> Iterator[ThreadTasks]:
    threads = ThreadTasks(workers=1)
    yield threads
    threads.close()


def running(progress: float | None, detail: str = "") -> TaskStatus:
    return TaskStatus(TaskState.RUNNING, detail, progress)


def test_function_in_a_thread_says_how_far_it_has_come(threads: ThreadTasks) -> None:
    has_said, may_end = threading.Event(), threading.Event()

    def copy() -> None:
        report_progress(0.5, "copying")
        has_said.set()
        may_end.wait(DEADLINE)

    threads.start("t1", copy)
    assert has_said.wait(DEADLINE)
    assert threads.status(["t1"]) == {"t1": running(0.5, "copying")}
    may_end.set()
    eventually(lambda: threads.status()["t1"].state == "succeeded")


def test_next_function_in_the_same_thread_has_said_nothing(threads: ThreadTasks) -> None:
    may_end = threading.Event()
    threads.start("t1", report_progress, 0.5)
    eventually(lambda: threads.status()["t1"].state == "succeeded")
    threads.start("t2", may_end.wait, DEADLINE)
    assert threads.status(["t2"]) == {"t2": running(None)}
    may_end.set()


def test_engine_shows_what_a_thread_says(threads: ThreadTasks) -> None:
    may_end = threading.Event()

    def copy() -> None:
        report_progress(0.25)
        may_end.wait(DEADLINE)

    @locks(scope=Scope.COMMAND)
    class Copy(Command):
        def execute(self) -> None:
            self.start_task(copy)

    with Engine(tasks=threads, poll_interval=0.002) as engine:
        command_id = engine.run(Copy()).command_id
        eventually(lambda: engine.status(command_id).progress == 0.25)
        may_end.set()
        assert engine.wait(command_id, timeout=DEADLINE).state == "succeeded"


def test_program_says_how_far_it_has_come(processes: ProcessTasks, tmp_path: Path) -> None:
    fifo = tmp_path / "go"
    os.mkfifo(fifo)
    processes.start("t1", [sys.executable, "-c", PROGRAM, "0.75", fifo])
    eventually(lambda: processes.status()["t1"] == running(0.75, "copying the disk"))
    assert [path.name for path in (tmp_path / "tasks" / "t1").glob("progress*")] == ["progress"]
    fifo.write_text("go")
    eventually(lambda: processes.status()["t1"].state == "succeeded")


def test_progress_outside_of_a_task_is_said_to_nobody() -> None:
    report_progress(0.5, "copying")


@pytest.mark.parametrize("progress", [-0.1, 1.1, float("nan"), float("inf")])
def test_progress_is_a_part(progress: float) -> None:
    with pytest.raises(ValueError, match="progress is a part from 0 to 1, not"):
        report_progress(progress)
