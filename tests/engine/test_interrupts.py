"""What is no Exception, in every method of a command, and signals at bad instants.

It is raised again where a caller is there to get it, and it never leaves a lock.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from engine_commands import Long, Scripted, start_one_task
from engine_support import FAILED, ManualTasks

from lockcore import LockManager
from lockcore.engine import Command, Engine, Scope, exclusive, locks
from lockcore.engine._run import CommandRun
from lockcore.engine._store import Store
from support import eventually

Script = dict[str, Callable[[Any], Any]]
NewEngine = Callable[..., Engine]

INTERRUPTS = [KeyboardInterrupt, SystemExit, GeneratorExit, asyncio.CancelledError]


@locks(exclusive("VM", "vm"), scope=Scope.COMMAND)
class Careful(Scripted):
    """Is stored before it is executed."""

    vm: str = "web"

    def compensate(self) -> None:
        self._play("compensate")


def raising(error: type[BaseException]) -> Callable[[Command], None]:
    def play(command: Command) -> None:
        raise error

    return play


@pytest.mark.parametrize("error", INTERRUPTS)
@pytest.mark.parametrize("command", [Long, Careful])
def test_interrupted_validate_frees_the_locks(
    engine: Engine,
    manager: LockManager,
    script: Script,
    calls: list[str],
    command: type[Scripted],
    error: type[BaseException],
) -> None:
    script["validate"] = raising(error)
    with pytest.raises(error):
        engine.run(command())
    assert (calls, len(manager)) == (["validate"], 0)


@pytest.mark.parametrize("error", INTERRUPTS)
def test_interrupted_execute_stops_its_tasks_and_frees_the_locks_after_them(
    engine: Engine,
    manager: LockManager,
    script: Script,
    calls: list[str],
    tasks: ManualTasks,
    error: type[BaseException],
) -> None:
    ids: list[str] = []

    def execute(command: Command) -> None:
        ids.append(command.command_id)
        start_one_task(command)
        raise error

    tasks.stop_ends_tasks = False
    script["execute"] = execute
    with pytest.raises(error):
        engine.run(Long())
    assert (len(tasks.stopped), ("VM", "web") in manager) == (1, True)
    tasks.end_all()
    ended = engine.wait(ids[0], timeout=10)
    assert (ended.state, ended.messages) == ("failed", (error.__name__,))
    assert (calls[-1], len(manager)) == ("end_with_failure", 0)


@pytest.mark.parametrize("error", INTERRUPTS)
def test_interrupted_execute_is_compensated(
    engine: Engine, manager: LockManager, script: Script, calls: list[str], error: Any
) -> None:
    script["execute"] = raising(error)
    with pytest.raises(error):
        engine.run(Careful())
    eventually(lambda: len(manager) == 0)
    assert calls == ["validate", "execute", "compensate"]


@pytest.mark.parametrize("error", INTERRUPTS)
@pytest.mark.parametrize("method", ["end_with_failure", "compensate"])
def test_interrupted_end_is_tried_again(
    engine: Engine,
    manager: LockManager,
    script: Script,
    calls: list[str],
    tasks: ManualTasks,
    method: str,
    error: type[BaseException],
) -> None:
    def end(command: Command) -> None:
        if calls.count(method) < 3:
            raise error

    script["execute"] = start_one_task
    script[method] = end
    result = engine.run(Careful())
    tasks.end_all(FAILED)
    assert engine.wait(result.command_id, timeout=10).state == "failed"
    assert (calls.count(method), len(manager)) == (3, 0)


@pytest.mark.parametrize("error", INTERRUPTS)
def test_interrupted_child_interrupts_its_parent_and_both_end(
    engine: Engine,
    manager: LockManager,
    script: Script,
    tasks: ManualTasks,
    error: type[BaseException],
) -> None:
    ids: list[str] = []

    def execute(command: Long) -> None:
        ids.append(command.command_id)
        start_one_task(command)
        if command.vm == "web":
            command.run_child(Long(vm="child"))
        raise error

    script["execute"] = execute
    with pytest.raises(error):
        engine.run(Long())
    assert [engine.wait(id, timeout=10).state for id in reversed(ids)] == ["failed", "failed"]
    assert (len(tasks.known), len(manager)) == (0, 0)


def test_signal_just_after_the_locks_leaves_none(
    engine: Engine, manager: LockManager, script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`acquire` has returned, and nobody has the grant yet."""

    def acquired(*_: Any) -> None:
        assert len(manager) == 2
        raise KeyboardInterrupt

    monkeypatch.setattr(CommandRun, "acquired", acquired)
    with pytest.raises(KeyboardInterrupt):
        engine.run(Long())
    assert len(manager) == 0


def interrupted(method: Any, *, after: bool) -> Any:
    """The method of the store with a signal before or after it has done its work."""

    def call(*args: Any, **kwargs: Any) -> None:
        if after:
            method(*args, **kwargs)
        raise KeyboardInterrupt

    return call


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("command", [Long, Careful])
def test_signal_while_the_command_is_stored_leaves_nothing(
    new_engine: NewEngine,
    engine: Engine,
    manager: LockManager,
    script: Script,
    monkeypatch: pytest.MonkeyPatch,
    after: bool,
    command: type[Scripted],
) -> None:
    script["execute"] = start_one_task
    with monkeypatch.context() as patch:
        patch.setattr(Store, "add", interrupted(Store.add, after=after))
        with pytest.raises(KeyboardInterrupt):
            engine.run(command())
    eventually(lambda: len(manager) == 0)
    engine.close()
    with new_engine(manager=LockManager()) as restarted:
        assert str(restarted.recovery) == "nothing to recover"


@pytest.mark.parametrize("after", [False, True])
def test_signal_while_the_end_of_execute_is_stored_fails_the_command(
    engine: Engine,
    manager: LockManager,
    script: Script,
    calls: list[str],
    tasks: ManualTasks,
    monkeypatch: pytest.MonkeyPatch,
    after: bool,
) -> None:
    script["execute"] = start_one_task
    monkeypatch.setattr(Store, "end_execution", interrupted(Store.end_execution, after=after))
    with pytest.raises(KeyboardInterrupt):
        engine.run(Long())
    eventually(lambda: len(manager) == 0)
    assert (calls[-1], len(tasks.stopped)) == ("end_with_failure", 1)
