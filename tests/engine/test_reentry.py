"""Commands and end actions that use the engine which is running them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, ClassVar

import pytest
from engine_commands import Long, Scripted, start_one_task
from engine_support import ManualTasks

from lockcore import LockManager
from lockcore.engine import Command, CommandResult, Engine, Scope, exclusive, locks
from support import eventually

Script = dict[str, Callable[[Any], Any]]
NewEngine = Callable[..., Engine]


@pytest.fixture
def results() -> list[CommandResult]:
    return []


def test_end_action_may_run_another_command(
    engine: Engine, script: Script, tasks: ManualTasks, results: list[CommandResult]
) -> None:
    script["execute"] = lambda command: command.vm == "web" and start_one_task(command)
    script["end_successfully"] = lambda command: results.append(engine.run(Long(vm="next")))
    first = engine.run(Long())
    tasks.end_all()
    assert engine.wait(first.command_id, timeout=10).state == "succeeded"
    assert [result.state for result in results] == ["succeeded"]


def test_command_that_an_end_action_runs_conflicts_with_it(
    engine: Engine, script: Script, tasks: ManualTasks, results: list[CommandResult]
) -> None:
    """It is no child: the locks go only after the end action."""
    script["execute"] = start_one_task
    script["end_successfully"] = lambda command: results.append(engine.run(Long()))
    first = engine.run(Long())
    tasks.end_all()
    assert engine.wait(first.command_id, timeout=10).state == "succeeded"
    (refused,) = results
    assert [blocker.owner for blocker in refused.blockers] == [first.command_id]


def left_ended(new_engine: NewEngine, script: Script, tasks: ManualTasks) -> str:
    """A command whose task has ended since its engine was closed."""
    script["execute"] = lambda command: command.vm == "web" and start_one_task(command)
    with new_engine() as engine:
        result = engine.run(Long())
    tasks.end_all()
    return result.command_id


def test_end_action_that_runs_a_command_in_the_recovery_is_called_again_after_it(
    new_engine: NewEngine, script: Script, tasks: ManualTasks, results: list[CommandResult]
) -> None:
    """The command cannot be admitted before the end action has returned."""
    command_id = left_ended(new_engine, script, tasks)
    restarted = new_engine(manager=LockManager())
    script["end_successfully"] = lambda command: results.append(restarted.run(Long(vm="next")))
    with restarted:
        assert restarted.recovery.resumed == (command_id,)
        assert "the engine is recovering" in str(restarted.recovery)
        assert restarted.wait(command_id, timeout=10).state == "succeeded"
    assert [result.state for result in results] == ["succeeded"]


@locks(exclusive("VM", "vm"), scope=Scope.COMMAND)
class Chained(Command):
    """Runs another command when it ends, from an event loop."""

    vm: str
    engine: ClassVar[Engine]
    results: ClassVar[list[CommandResult]]

    def execute(self) -> None:
        if self.vm == "web":
            self.start_task("copy")

    async def end_successfully(self) -> None:
        self.results.append(await self.engine.run_async(Chained(vm="next")))
        self.results.append(await asyncio.to_thread(self.engine.run, Chained(vm="next")))


@pytest.mark.parametrize("is_in_loop", [False, True])
def test_async_end_action_that_runs_a_command_in_the_recovery_is_called_again_after_it(
    new_engine: NewEngine, tasks: ManualTasks, is_in_loop: bool
) -> None:
    with new_engine() as engine:
        command_id = engine.run(Chained(vm="web")).command_id
    tasks.end_all()
    restarted = Chained.engine = new_engine(manager=LockManager())
    Chained.results = []

    async def open_in_loop() -> None:
        restarted.open()

    asyncio.run(open_in_loop()) if is_in_loop else restarted.open()
    assert restarted.recovery.resumed == (command_id,)
    assert restarted.wait(command_id, timeout=10).state == "succeeded"
    assert [result.state for result in Chained.results] == ["succeeded", "succeeded"]


def test_end_action_cannot_close_its_engine(
    engine: Engine, script: Script, tasks: ManualTasks
) -> None:
    script["execute"] = start_one_task
    script["end_successfully"] = lambda command: engine.close()
    result = engine.run(Long())
    tasks.end_all()
    eventually(lambda: engine.status(result.command_id).messages)
    assert "a command cannot close the engine that runs it" in str(
        engine.status(result.command_id).messages[0]
    )
    del script["end_successfully"]
    assert engine.wait(result.command_id, timeout=10).state == "succeeded"


def test_end_action_cannot_close_its_engine_in_the_recovery(
    new_engine: NewEngine, script: Script, tasks: ManualTasks
) -> None:
    command_id = left_ended(new_engine, script, tasks)
    restarted = new_engine(manager=LockManager())
    script["end_successfully"] = lambda command: restarted.close()
    with restarted:
        assert "cannot close the engine" in str(restarted.recovery)
        del script["end_successfully"]
        assert restarted.wait(command_id, timeout=10).state == "succeeded"


@locks(exclusive("VM", "vm"), scope=Scope.COMMAND)
class Closing(Command):
    """Closes its engine from another thread, and waits for that."""

    vm: str = "web"
    engine: ClassVar[Engine]

    async def execute(self) -> None:
        await asyncio.to_thread(self.engine.close)


def test_async_command_cannot_close_its_engine_from_a_thread(engine: Engine) -> None:
    Closing.engine = engine
    result = asyncio.run(engine.run_async(Closing()))
    assert result.messages == ("a command cannot close the engine that runs it",)


def test_what_a_command_has_started_may_close_the_engine_after_it(engine: Engine) -> None:
    """It goes on in the context of a command that has ended."""

    @locks(exclusive("VM", "vm"), scope=Scope.COMMAND)
    class Starting(Command):
        vm: str = "web"

        async def execute(self) -> None:
            started.append(asyncio.create_task(close_later()))

    async def close_later() -> None:
        await command_has_ended.wait()
        await asyncio.to_thread(engine.close)

    async def main() -> None:
        assert (await engine.run_async(Starting())).state == "succeeded"
        command_has_ended.set()
        await started[0]

    started: list[asyncio.Task[None]] = []
    command_has_ended = asyncio.Event()
    asyncio.run(main())


def test_command_may_run_an_independent_one_in_execute(
    engine: Engine, manager: LockManager, script: Script, results: list[CommandResult]
) -> None:
    def execute(command: Scripted) -> None:
        if isinstance(command, Long) and command.vm == "web":
            results.append(engine.run(Long(vm="other")))
            results.append(engine.run(Long()))

    script["execute"] = execute
    assert engine.run(Long()).state == "succeeded"
    assert [result.state for result in results] == ["succeeded", "refused"]
    assert len(manager) == 0


def test_engine_of_another_store_is_not_the_same_engine(
    engine: Engine, new_engine: NewEngine, script: Script
) -> None:
    other = new_engine(store="sqlite://")
    script["execute"] = lambda command: (other.open(), other.close())
    assert engine.run(Long()).state == "succeeded"
