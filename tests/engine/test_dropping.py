"""Commands that no engine can end are dropped by an operator."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from engine_commands import Long, Scripted, start_one_task
from engine_support import ManualTasks

from lockcore import LockManager
from lockcore.engine import Command, Engine, EngineError

NewEngine = Callable[..., Engine]
Script = dict[str, Callable[[Any], Any]]


def lose_class(tmp_path: Path, command_id: str) -> None:
    """Makes the class of a stored command one that is gone for good."""
    with contextlib.closing(sqlite3.connect(tmp_path / "engine.db")) as connection, connection:
        connection.execute(
            "UPDATE command SET type = 'gone:Gone' WHERE command_id = ?", (command_id,)
        )


@pytest.fixture
def lost(new_engine: NewEngine, script: Script, tmp_path: Path) -> str:
    """The id of a command with a live task, whose class is gone."""
    script["execute"] = start_one_task
    with new_engine() as engine:
        command_id = engine.run(Long(), correlation_id="r1").command_id
    lose_class(tmp_path, command_id)
    return command_id


def test_dropped_command_has_failed_and_leaves_nothing(
    lost: str, new_engine: NewEngine, tasks: ManualTasks, calls: list[str]
) -> None:
    (task_id,) = tasks.known
    calls.clear()
    with new_engine(manager=LockManager()) as engine:
        assert len(engine.manager) == 2
        result = engine.drop(lost)
        assert (result.state, result.correlation_id) == ("failed", "r1")
        assert result.messages[0] == "it was set aside, and an operator has dropped it"
        assert "no command class gone:Gone" in str(result.messages[1])
        assert engine.status(lost) == engine.wait(lost, timeout=0) == result
        assert (len(engine.manager), tasks.stopped, tasks.known) == (0, [task_id], {})
    with new_engine(manager=LockManager()) as engine:
        assert str(engine.recovery) == "nothing to recover"
        assert engine.status(lost) == result
    assert calls == []


def test_locks_left_by_an_engine_of_this_process_go_too(lost: str, new_engine: NewEngine) -> None:
    with new_engine() as engine:
        engine.drop(lost)
        assert len(engine.manager) == 0


def test_command_set_aside_names_its_tasks(
    lost: str, new_engine: NewEngine, tasks: ManualTasks
) -> None:
    (task_id,) = tasks.known
    with new_engine(manager=LockManager()) as engine:
        assert f"(tasks {task_id})" in str(engine.recovery)
        with pytest.raises(EngineError, match=f"was set aside: .*tasks {task_id}"):
            engine.status(lost)


def test_command_keeps_its_locks_until_its_tasks_have_ended(
    lost: str, new_engine: NewEngine, tasks: ManualTasks
) -> None:
    tasks.stop_ends_tasks = False
    with new_engine(manager=LockManager()) as engine:
        with pytest.raises(TimeoutError, match=r"was not dropped: tasks .* have not ended"):
            engine.drop(lost, timeout=0)
        assert len(engine.manager) == 2
        tasks.end_all()
        assert engine.drop(lost, timeout=0).state == "failed"


def test_only_commands_that_are_set_aside_are_dropped(
    new_engine: NewEngine, script: Script, tasks: ManualTasks
) -> None:
    script["execute"] = start_one_task
    with new_engine() as engine:
        command_id = engine.run(Long()).command_id
        with pytest.raises(EngineError, match="cannot be dropped: it is not set aside"):
            engine.drop(command_id)
        with pytest.raises(EngineError, match="cannot be dropped: it is not set aside"):
            engine.drop("unknown")
        assert tasks.stopped == []


class Part(Command):
    def execute(self) -> None:
        self.start_task("copy")


@pytest.fixture
def family(new_engine: NewEngine, script: Script) -> list[str]:
    """The ids of a parent and of its child, which has a live task."""
    ids: list[str] = []
    script["execute"] = lambda command: ids.append(command.run_child(Part()).command_id)
    with new_engine() as engine:
        ids.insert(0, engine.run(Long()).command_id)
    return ids


def test_parent_of_a_dropped_child_ends_with_failure(
    family: list[str], new_engine: NewEngine, tmp_path: Path
) -> None:
    parent, child = family
    lose_class(tmp_path, child)
    with new_engine(manager=LockManager()) as engine:
        engine.drop(child)
        result = engine.wait(parent, timeout=10)
        assert (result.state, result.messages) == ("failed", (f"Gone {child} has failed",))
        assert (Scripted.calls[-1], len(engine.manager)) == ("end_with_failure", 0)


def test_parent_is_not_dropped_before_its_child(
    family: list[str], new_engine: NewEngine, tasks: ManualTasks, tmp_path: Path
) -> None:
    parent, child = family
    lose_class(tmp_path, parent)
    with new_engine(manager=LockManager()) as engine:
        with pytest.raises(EngineError, match=f"its child {child} has not ended"):
            engine.drop(parent)
        tasks.end_all()
        engine.wait(child, timeout=10)
        assert engine.drop(parent).state == "failed"
