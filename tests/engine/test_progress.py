"""How far tasks have come is asked for while they run, and shown."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from engine_commands import Long, start_one_task, start_two_tasks
from engine_support import FAILED, SUCCEEDED, ManualTasks

from lockcore import LockManager
from lockcore.engine import (
    Command,
    CommandResult,
    CommandState,
    Engine,
    EngineClosedError,
    ProcessTasks,
    Task,
    TaskState,
    TaskStatus,
    UnknownCommandError,
)
from support import eventually

Script = dict[str, Callable[[Any], Any]]


def running(progress: float | None, detail: str = "") -> TaskStatus:
    return TaskStatus(TaskState.RUNNING, detail, progress)


def test_status_of_a_running_command_shows_its_tasks(
    engine: Engine, script: Script, tasks: ManualTasks
) -> None:
    script["execute"] = start_two_tasks
    command_id = engine.run(Long()).command_id
    assert engine.status(command_id).progress is None
    first, second = tasks.known
    tasks.end(first, running(0.5, "copying"))
    eventually(lambda: engine.status(command_id).progress == 0.25)
    assert engine.status(command_id).tasks == (
        Task(first, "'copy'", running(0.5, "copying")),
        Task(second, "'check'", running(None)),
    )
    tasks.end(second)
    eventually(lambda: engine.status(command_id).progress == 0.75)
    tasks.end(first)
    engine.wait(command_id, timeout=10)
    assert engine.status(command_id).state == "succeeded"


def test_status_shows_why_a_command_cannot_end(
    engine: Engine, script: Script, tasks: ManualTasks
) -> None:
    def end(command: Command) -> None:
        raise OSError("the database is away")

    script["execute"] = start_one_task
    script["end_successfully"] = end
    command_id = engine.run(Long()).command_id
    tasks.end_all()
    eventually(lambda: engine.status(command_id).messages)
    status = engine.status(command_id)
    assert status.messages == ("cannot end, trying again: the database is away",)
    assert status.state == "running"
    del script["end_successfully"]
    engine.wait(command_id, timeout=10)


def test_status_of_an_ended_or_unknown_command(
    new_engine: Callable[..., Engine], script: Script
) -> None:
    script["execute"] = start_one_task
    engine = new_engine()
    with pytest.raises(EngineClosedError):
        engine.status("7")
    with engine:
        with pytest.raises(UnknownCommandError):
            engine.status("7")
        result = engine.run(Long(vm="other"), timeout=0)
        assert engine.status(result.command_id).state == "running"


@pytest.mark.parametrize(
    ("written", "part", "detail"),
    [
        ("0.42", 0.42, ""),
        ("0.1\n0.5 copying the disk\n", 0.5, "copying the disk"),
        ("42% copying", 0.42, "copying"),
        ("7", 1.0, ""),
        ("-1%", 0.0, ""),
        ("nan", None, ""),
        ("still looking", None, "still looking"),
        ("", None, ""),
    ],
)
def test_program_writes_its_progress(
    new_engine: Callable[..., Engine],
    processes: ProcessTasks,
    script: Script,
    tmp_path: Path,
    written: str,
    part: float | None,
    detail: str,
) -> None:
    os.mkfifo(tmp_path / "go")
    write = f"printf %s {shlex.quote(written)} > $LOCKCORE_PROGRESS"
    program = f"cd {shlex.quote(str(tmp_path))}; {write}; touch said; read line < go"
    script["execute"] = lambda command: command.start_task(["sh", "-c", program])
    with new_engine(tasks=processes) as engine:
        command_id = engine.run(Long()).command_id
        eventually((tmp_path / "said").exists)
        eventually(lambda: engine.status(command_id).tasks[0].status == running(part, detail))
        (tmp_path / "go").write_text("\n", encoding="utf-8")
        assert engine.wait(command_id, timeout=10).state == "succeeded"


def test_refused_result_is_given_as_json(engine: Engine, manager: LockManager) -> None:
    with manager.acquire(exclusive=[("POOL", "p1")], owner="operator", message="POOL_MOVES"):
        result = engine.run(Long(), correlation_id="request 7")
    row = json.loads(json.dumps(result.to_dict()))
    (blocker,) = row.pop("blockers")
    assert row == {
        "command_id": result.command_id,
        "correlation_id": "request 7",
        "state": "refused",
        "messages": ["POOL_MOVES"],
        "sentences": result.explain(),
        "request": {
            "exclusive": [["VM", "web"]],
            "shared": [["POOL", "p1"]],
            "owner": result.command_id,
            "message": None,
        },
        "progress": None,
        "tasks": [],
    }
    assert (blocker["key"], blocker["owner"]) == (["POOL", "p1"], "operator")


def test_running_result_is_given_as_json(
    engine: Engine, script: Script, tasks: ManualTasks
) -> None:
    script["execute"] = start_one_task
    command_id = engine.run(Long()).command_id
    (task_id,) = tasks.known
    tasks.end(task_id, running(0.5, "copying"))
    eventually(lambda: engine.status(command_id).progress)
    row = json.loads(json.dumps(engine.status(command_id).to_dict()))
    assert (row["state"], row["progress"], row["request"], row["blockers"]) == (
        "running",
        0.5,
        None,
        [],
    )
    assert row["tasks"] == [
        {
            "task_id": task_id,
            "spec": "'copy'",
            "state": "running",
            "detail": "copying",
            "progress": 0.5,
        }
    ]


@pytest.fixture
def result() -> Callable[..., CommandResult]:
    def make(*statuses: TaskStatus | None) -> CommandResult:
        tasks = tuple(Task(str(n), "copy", status) for n, status in enumerate(statuses))
        return CommandResult("7", CommandState.RUNNING, tasks=tasks)

    return make


@pytest.mark.parametrize(
    ("statuses", "part"),
    [
        ((), None),
        ((running(None),), None),
        ((running(0.5), running(None)), 0.25),
        ((running(0.5), SUCCEEDED, FAILED, None), 0.875),
    ],
)
def test_progress_of_a_command_is_the_mean_of_its_tasks(
    result: Callable[..., CommandResult], statuses: tuple[TaskStatus, ...], part: float | None
) -> None:
    assert result(*statuses).progress == part
