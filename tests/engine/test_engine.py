"""Opening and closing, many commands at once, waiting for their ends."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from engine_commands import Long, Short, start_one_task
from engine_support import ManualTasks

from lockcore import LockManager, MessageCatalog
from lockcore.engine import (
    Command,
    Engine,
    EngineClosedError,
    EngineError,
    Message,
    ProcessTasks,
    ThreadTasks,
)
from support import Background, eventually

Script = dict[str, Callable[[Any], Any]]


def test_engine_that_is_not_open_runs_nothing(new_engine: Callable[..., Engine]) -> None:
    engine = new_engine()
    with pytest.raises(EngineClosedError, match="the engine is not open"):
        engine.run(Long())
    with pytest.raises(EngineClosedError):
        engine.wait("7")
    with pytest.raises(EngineClosedError):
        _ = engine.recovery


def test_closed_engine_runs_nothing(engine: Engine) -> None:
    engine.close()
    with pytest.raises(EngineClosedError):
        engine.run(Long())


def test_engine_is_opened_once(engine: Engine) -> None:
    with pytest.raises(EngineError, match="opened before"):
        engine.open()
    engine.close()
    with pytest.raises(EngineError, match="opened before"):
        engine.open()


def test_engine_is_closed_any_number_of_times(engine: Engine) -> None:
    engine.close()
    engine.close()


def test_engine_without_arguments_runs_commands_without_tasks(script: Script) -> None:
    with Engine() as engine:
        assert engine.run(Long()).state == "succeeded"
        assert isinstance(engine.manager, LockManager)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"tasks": "tasks/"}, TypeError),
        ({"poll_interval": 0}, ValueError),
        ({"retry_delay": -1}, ValueError),
        ({"poll_interval": float("nan")}, ValueError),
        ({"workers": 0}, ValueError),
        ({"on_recovery": "queue"}, ValueError),
    ],
)
def test_impossible_argument_is_refused(options: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        Engine(**options)


@pytest.mark.parametrize("timeout", [-1, float("nan")])
def test_impossible_timeout_of_a_run_is_refused(
    engine: Engine, manager: LockManager, timeout: float
) -> None:
    with pytest.raises(ValueError, match="timeout must not be negative or NaN"):
        engine.run(Long(), timeout=timeout)
    assert manager.statistics().acquired == 0


@pytest.mark.parametrize("timeout", [-1, float("nan")])
def test_impossible_timeout_of_a_wait_is_refused(engine: Engine, timeout: float) -> None:
    with pytest.raises(ValueError, match="timeout must not be negative or NaN"):
        engine.wait("7", timeout=timeout)


@pytest.mark.parametrize("command", [Long, "Long", None])
def test_what_is_no_command_is_not_run(engine: Engine, command: Any) -> None:
    with pytest.raises(TypeError, match="only commands can be run"):
        engine.run(command)


def test_result_of_every_command_can_be_asked_for(
    engine: Engine, manager: LockManager, script: Script
) -> None:
    with manager.acquire(exclusive=[("VM", "web")]):
        refused = engine.run(Long())
    succeeded = engine.run(Long())
    assert engine.wait(refused.command_id) is refused
    assert engine.wait(succeeded.command_id) is succeeded


def test_wait_gives_up_in_time_and_the_command_goes_on(
    engine: Engine, script: Script, tasks: ManualTasks
) -> None:
    script["execute"] = start_one_task
    result = engine.run(Long())
    with pytest.raises(TimeoutError, match="has not ended within 0 s"):
        engine.wait(result.command_id, timeout=0)
    tasks.end_all()
    assert engine.wait(result.command_id, timeout=10).state == "succeeded"


def test_waiting_for_a_command_ends_when_the_engine_is_closed(
    engine: Engine, script: Script, background: Callable[..., Background]
) -> None:
    script["execute"] = start_one_task
    result = engine.run(Long())
    waiting = background(engine.wait, result.command_id)
    engine.close()
    with pytest.raises(EngineClosedError):
        waiting.result()


def test_closing_waits_for_commands_that_execute(
    engine: Engine, script: Script, background: Callable[..., Background]
) -> None:
    executing, may_end = threading.Event(), threading.Event()

    def execute(command: Command) -> None:
        executing.set()
        assert may_end.wait(10)

    script["execute"] = execute
    running = background(engine.run, Long())
    eventually(executing.is_set)
    closing = background(engine.close)
    closing.join(0.02)
    assert closing.is_alive()
    may_end.set()
    assert running.result().state == "succeeded"
    closing.result()


def test_closed_engine_leaves_tasks_and_locks(
    engine: Engine, manager: LockManager, script: Script, tasks: ManualTasks
) -> None:
    script["execute"] = start_one_task
    engine.run(Long())
    engine.close()
    assert (len(manager), len(tasks.known), tasks.stopped) == (2, 1, [])


def test_command_cannot_close_its_engine(engine: Engine, script: Script) -> None:
    script["execute"] = lambda command: engine.close()
    result = engine.run(Long())
    assert result.messages == ("a command cannot close the engine that runs it",)


def test_commands_on_one_key_exclude_each_other(
    engine: Engine, script: Script, background: Callable[..., Background]
) -> None:
    inside = 0
    most = 0

    def execute(command: Command) -> None:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        inside -= 1

    script["execute"] = execute
    threads = [
        background(lambda: [engine.run(Short(), timeout=None).state for _ in range(50)])
        for _ in range(8)
    ]
    for thread in threads:
        assert set(thread.result()) == {"succeeded"}
    assert most == 1


def test_many_commands_with_tasks_run_at_once(
    engine: Engine,
    manager: LockManager,
    script: Script,
    tasks: ManualTasks,
    background: Callable[..., Background],
) -> None:
    script["execute"] = start_one_task

    def run(first: int) -> list[str]:
        return [engine.run(Long(vm=str(first + n))).command_id for n in range(25)]

    threads = [background(run, 25 * number) for number in range(4)]
    ids = [command_id for thread in threads for command_id in thread.result()]
    assert len(manager) == len(ids) + 1
    tasks.end_all()
    assert {engine.wait(command_id, timeout=10).state for command_id in ids} == {"succeeded"}
    assert (len(manager), tasks.known) == (0, {})


def test_tasks_started_by_threads_of_execute_are_all_waited_for(
    engine: Engine, script: Script, tasks: ManualTasks, background: Callable[..., Background]
) -> None:
    def execute(command: Command) -> None:
        threads = [background(command.start_task, "copy") for _ in range(8)]
        for thread in threads:
            thread.result()

    script["execute"] = execute
    result = engine.run(Long())
    assert len(tasks.known) == 8
    tasks.end_all()
    assert engine.wait(result.command_id, timeout=10).state == "succeeded"


def test_refusal_is_explained_by_a_catalogue(
    engine: Engine, script: Script, tasks: ManualTasks
) -> None:
    catalog = MessageCatalog({"en": {"VM_IS_USED": "Cannot ${action} it: it is in use."}})
    script["execute"] = start_one_task
    engine.run(Long())
    result = engine.run(Long(pool="p2"))
    assert result.explain(catalog, action="remove") == ["Cannot remove it: it is in use."]


def test_failed_validation_is_explained_by_a_catalogue(engine: Engine, script: Script) -> None:
    catalog = MessageCatalog({"en": {"FULL": "${Disk} is full."}})
    script["validate"] = lambda command: [Message("FULL", Disk="d1"), "and slow"]
    result = engine.run(Long())
    assert result.explain(catalog) == ["d1 is full.", "and slow"]
    assert result.explain() == ["FULL (Disk: d1)", "and slow"]


def test_success_has_nothing_to_explain(engine: Engine, script: Script) -> None:
    assert engine.run(Long()).explain() == []


class Copy(Command):
    """Runs a program."""

    arguments: Any

    def execute(self) -> None:
        self.start_task(self.arguments)


def test_engine_runs_programs(new_engine: Callable[..., Engine], processes: ProcessTasks) -> None:
    with new_engine(tasks=processes) as engine:
        good = engine.run(Copy(arguments=["true"]))
        bad = engine.run(Copy(arguments=["sh", "-c", "echo no space >&2; exit 1"]))
        assert engine.wait(good.command_id, timeout=10).state == "succeeded"
        ended = engine.wait(bad.command_id, timeout=10)
    assert (ended.state, ended.messages) == ("failed", ("sh exited with status 1: no space",))
    assert processes.status() == {}


def test_task_that_is_no_program_fails_its_command(
    new_engine: Callable[..., Engine], processes: ProcessTasks
) -> None:
    with new_engine(tasks=processes) as engine:
        result = engine.run(Copy(arguments="copy-image"))
    assert result.state == "failed"
    assert "a task is a list of program arguments" in str(result.messages[0])


def test_draining_engine_closes_after_the_last_command_has_ended(
    engine: Engine,
    manager: LockManager,
    script: Script,
    tasks: ManualTasks,
    background: Callable[..., Background],
) -> None:
    script["execute"] = start_one_task
    result = engine.run(Long())
    closing = background(lambda: engine.close(drain=True))
    closing.join(0.02)
    assert closing.is_alive()
    with pytest.raises(EngineClosedError):
        engine.run(Long(vm="late"))
    tasks.end_all()
    closing.result()
    assert engine.wait(result.command_id).state == "succeeded"
    assert (len(manager), tasks.known) == (0, {})


def test_draining_that_takes_too_long_leaves_the_commands(
    engine: Engine,
    manager: LockManager,
    script: Script,
    tasks: ManualTasks,
    caplog: pytest.LogCaptureFixture,
) -> None:
    script["execute"] = start_one_task
    engine.run(Long())
    engine.close(drain=True, timeout=0.01)
    assert (len(manager), len(tasks.known), tasks.stopped) == (2, 1, [])
    assert "commands are left for the next engine" in caplog.text


def test_engine_that_drains_does_so_at_the_end_of_its_block(
    new_engine: Callable[..., Engine], manager: LockManager, script: Script
) -> None:
    script["execute"] = lambda command: command.start_task(int)
    tasks = ThreadTasks()
    with new_engine(tasks=tasks, drain=True) as engine:
        result = engine.run(Long())
    assert engine.wait(result.command_id).state == "succeeded"
    assert len(manager) == 0
    tasks.close()


def test_engine_that_drains_does_not_when_its_block_raises(
    new_engine: Callable[..., Engine], script: Script, tasks: ManualTasks
) -> None:
    def run_and_raise() -> None:
        with new_engine(drain=True) as engine:
            engine.run(Long())
            raise OSError("away")

    script["execute"] = start_one_task
    with pytest.raises(OSError, match="away"):
        run_and_raise()
    assert len(tasks.known) == 1


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"tasks": ManualTasks}, "tasks must be a task back end such as ProcessTasks, not <class"),
        ({"manager": LockManager}, "manager must be a LockManager or None, not <class"),
        ({"workers": 2.5}, "workers must be int, not 2.5"),
    ],
)
def test_argument_of_another_type_is_refused_when_the_engine_is_made(
    options: dict[str, Any], text: str
) -> None:
    with pytest.raises(TypeError, match=text):
        Engine(**options)
