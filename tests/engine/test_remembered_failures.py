"""Why a command has failed is still known when a later engine brings it to its end."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import pytest
from engine_commands import Long, Scripted, start_one_task
from engine_support import FAILED, ManualTasks

from lockcore import LockManager
from lockcore.engine import Command, Engine
from support import eventually

NewEngine = Callable[..., Engine]
Script = dict[str, Callable[[Any], Any]]


def away(command: Command) -> None:
    raise OSError("storage is away")


def cannot_end(engine: Engine, command_id: str) -> bool:
    return any("cannot end" in str(text) for text in engine.status(command_id).messages)


def result_of_the_next_engine(new_engine: NewEngine, script: Script, command_id: str) -> Any:
    script.pop("end_with_failure", None)
    script.pop("compensate", None)
    with new_engine(manager=LockManager()) as engine:
        return engine.wait(command_id, timeout=10)


def full(command: Command) -> None:
    start_one_task(command)
    raise ValueError("disk is full")


def test_error_of_the_execution_is_remembered(
    new_engine: NewEngine, script: Script, tasks: ManualTasks
) -> None:
    script |= {"execute": full, "end_with_failure": away}
    with new_engine() as engine:
        command_id = engine.run(Long()).command_id
    result = result_of_the_next_engine(new_engine, script, command_id)
    assert (result.state, result.messages) == ("failed", ("disk is full", "stopped"))


def test_error_of_an_execution_without_tasks_is_remembered(
    new_engine: NewEngine, script: Script
) -> None:
    class Undone(Scripted):
        def execute(self) -> None:
            raise ValueError("disk is full")

        def compensate(self) -> None:
            self._play("compensate")

    script["compensate"] = away
    with new_engine() as engine:
        command_id = engine.run(Undone()).command_id
    result = result_of_the_next_engine(new_engine, script, command_id)
    assert (result.state, result.messages) == ("failed", ("disk is full",))


@pytest.mark.parametrize("correlation_id", [None, "request 7"])
def test_failed_child_is_named_by_its_parent(
    new_engine: NewEngine, script: Script, tasks: ManualTasks, correlation_id: str | None
) -> None:
    class Part(Command):
        def execute(self) -> None:
            self.start_task("copy")

    children: list[str] = []

    def execute(command: Command) -> None:
        children.append(command.run_child(Part()).command_id)

    script |= {"execute": execute, "end_with_failure": away}
    with contextlib.closing(new_engine()) as engine:
        engine.open()
        command_id = engine.run(Long(), correlation_id=correlation_id).command_id
        tasks.end_all(FAILED)
        eventually(lambda: cannot_end(engine, command_id))
        said = engine.status(command_id).messages[0]
    result = result_of_the_next_engine(new_engine, script, command_id)
    assert (result.state, result.messages) == ("failed", (said,))
    assert children[0] in str(said)
