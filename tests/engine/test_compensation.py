"""What `execute` has done is undone when it raises, when a task fails, or after a crash."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Any

import pytest
from engine_commands import Long, Scripted, start_one_task
from engine_support import FAILED, ManualTasks

from lockcore import LockManager
from lockcore.engine import Command, Engine, Scope, exclusive, locks
from lockcore.engine._store import Store
from support import eventually

Script = dict[str, Callable[[Any], Any]]


@locks(exclusive("VM", "vm"), scope=Scope.COMMAND)
class Careful(Scripted):
    """Undoes what it has done."""

    vm: str = "web"

    def compensate(self) -> None:
        self._play("compensate")


def fail(command: Command) -> None:
    raise OSError("the disk is full")


def test_successful_command_is_not_compensated(
    engine: Engine, manager: LockManager, calls: list[str]
) -> None:
    assert engine.run(Careful()).state == "succeeded"
    assert (calls, len(manager)) == (["validate", "execute"], 0)


def test_raising_execute_is_compensated_under_the_locks(
    engine: Engine, manager: LockManager, script: Script, calls: list[str]
) -> None:
    held: list[bool] = []
    script["execute"] = fail
    script["compensate"] = lambda command: held.append(("VM", "web") in manager)
    result = engine.run(Careful())
    assert (result.state, result.messages) == ("failed", ("the disk is full",))
    assert (calls, held) == (["validate", "execute", "compensate"], [True])
    assert len(manager) == 0


def test_failed_task_is_compensated_before_the_end_action(
    engine: Engine, script: Script, calls: list[str], tasks: ManualTasks
) -> None:
    script["execute"] = start_one_task
    result = engine.run(Careful())
    tasks.end_all(FAILED)
    engine.wait(result.command_id, timeout=10)
    assert calls[-2:] == ["compensate", "end_with_failure"]


def test_refused_command_is_not_compensated(
    engine: Engine, script: Script, calls: list[str]
) -> None:
    script["validate"] = lambda command: "no room"
    assert engine.run(Careful()).state == "refused"
    assert calls == ["validate"]


def test_raising_compensation_is_tried_again_with_the_locks_held(
    engine: Engine, manager: LockManager, script: Script, calls: list[str]
) -> None:
    script["execute"] = script["compensate"] = fail
    result = engine.run(Careful())
    assert result.state == "running"
    assert result.messages[-1] == "cannot end, trying again: the disk is full"
    assert ("VM", "web") in manager
    eventually(lambda: calls.count("compensate") >= 3)
    del script["compensate"]
    assert engine.wait(result.command_id, timeout=10).state == "failed"
    assert len(manager) == 0


def test_command_that_was_killed_in_execute_is_compensated(
    new_engine: Callable[..., Engine],
    store: str,
    script: Script,
    calls: list[str],
    manager: LockManager,
) -> None:
    """Its row is what the killed engine left: a copy of the store, taken in `execute`."""
    path = store.removeprefix("sqlite:///")

    def execute(command: Command) -> None:
        source, target = sqlite3.connect(path), sqlite3.connect(path + ".copy")
        source.backup(target)
        source.close()
        target.close()

    script["execute"] = execute
    with new_engine() as engine:
        result = engine.run(Careful())
    assert result.state == "succeeded"
    with new_engine(store=store + ".copy", manager=LockManager()) as restarted:
        assert restarted.recovery.ended == (result.command_id,)
        assert restarted.wait(result.command_id, timeout=0).state == "failed"
        assert len(restarted.manager) == 0
    assert calls[-2:] == ["compensate", "end_with_failure"]


def test_command_that_cannot_be_stored_is_not_executed(
    engine: Engine,
    manager: LockManager,
    calls: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def add(*args: Any) -> None:
        raise OSError("the disk is full")

    monkeypatch.setattr(Store, "add", add)
    assert engine.run(Careful()).state == "failed"
    assert (calls, len(manager)) == (["validate"], 0)


def test_compensated_child_without_tasks_is_for_the_parent_to_judge(
    engine: Engine, manager: LockManager, script: Script, calls: list[str]
) -> None:
    def execute(command: Command) -> None:
        if isinstance(command, Careful):
            fail(command)
        assert command.run_child(Careful(vm="db")).state == "failed"

    script["execute"] = execute
    assert engine.run(Long()).state == "succeeded"
    assert calls == ["validate", "execute", "validate", "execute", "compensate"]
    assert len(manager) == 0


def test_ended_commands_leave_no_rows(engine: Engine, script: Script, store: str) -> None:
    script["execute"] = fail
    engine.run(Careful())
    connection = sqlite3.connect(store.removeprefix("sqlite:///"))
    assert connection.execute("SELECT * FROM command").fetchall() == []
    connection.close()
