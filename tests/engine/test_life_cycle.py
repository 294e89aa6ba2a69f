"""When a command's locks are taken and when they go, on every path it can take."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

import pytest
from engine_commands import Long, Scripted, Short, start_one_task, start_two_tasks
from engine_support import FAILED, SUCCEEDED, ManualTasks

from lockcore import LockManager, ManagerClosedError
from lockcore.engine import Command, Engine, Message, Scope, TaskStatus, exclusive, locks
from lockcore.engine._store import Store
from support import Background, eventually

Script = dict[str, Callable[[Any], Any]]


def fail(command: Command) -> None:
    raise OSError("the disk is full")


def test_command_is_locked_then_validated_then_executed(
    engine: Engine, manager: LockManager, script: Script
) -> None:
    seen: list[tuple[str, bool]] = []
    script["validate"] = lambda command: seen.append(("validate", ("VM", "web") in manager))
    script["execute"] = lambda command: seen.append(("execute", ("VM", "web") in manager))
    engine.run(Long())
    assert seen == [("validate", True), ("execute", True)]


@pytest.mark.parametrize("command", [Long, Short])
def test_owner_of_the_locks_is_the_command(
    engine: Engine, manager: LockManager, script: Script, command: type[Scripted]
) -> None:
    owners: list[Any] = []
    script["execute"] = lambda command: owners.extend(row.owner for row in manager.snapshot())
    result = engine.run(command())
    assert owners == [result.command_id, result.command_id]


@pytest.mark.parametrize("command", [Long, Short])
def test_command_without_tasks_succeeds_and_frees_its_locks(
    engine: Engine, manager: LockManager, calls: list[str], command: type[Scripted]
) -> None:
    result = engine.run(command())
    assert (result.state, calls) == ("succeeded", ["validate", "execute"])
    assert len(manager) == 0


def test_refused_command_holds_nothing_and_is_not_executed(
    engine: Engine, manager: LockManager, calls: list[str]
) -> None:
    with manager.acquire(exclusive=[("POOL", "p1")]):
        result = engine.run(Long())
        assert ("VM", "web") not in manager
    assert (result.state, calls) == ("refused", [])


def test_refused_command_names_blockers_and_their_messages(
    engine: Engine, manager: LockManager, script: Script
) -> None:
    script["execute"] = start_one_task
    first = engine.run(Long())
    result = engine.run(Long(pool="p2"))
    assert [blocker.owner for blocker in result.blockers] == [first.command_id]
    assert result.messages == ("VM_IS_USED",)


def test_refusal_without_a_message_says_what_is_held(engine: Engine, manager: LockManager) -> None:
    with manager.acquire(exclusive=[("POOL", "p1")], owner="operator"):
        result = engine.run(Long())
    assert "cannot acquire ('POOL', 'p1') shared: held exclusive by operator" in result.messages[0]


@pytest.mark.parametrize(
    ("returned", "messages"),
    [
        ("no room", ("no room",)),
        (Message("NO_ROOM", free=3), (Message("NO_ROOM", free=3),)),
        (["no room", "no time"], ("no room", "no time")),
        (iter(["no room"]), ("no room",)),
    ],
)
def test_failed_validation_refuses_and_frees_the_locks(
    engine: Engine, manager: LockManager, script: Script, returned: Any, messages: tuple[Any, ...]
) -> None:
    script["validate"] = lambda command: returned
    result = engine.run(Long())
    assert (result.state, result.messages, result.blockers) == ("refused", messages, ())
    assert (Scripted.calls, len(manager)) == (["validate"], 0)


@pytest.mark.parametrize("returned", [None, [], iter(())])
def test_validation_that_finds_nothing_lets_the_command_run(
    engine: Engine, script: Script, returned: Any
) -> None:
    script["validate"] = lambda command: returned
    assert engine.run(Long()).state == "succeeded"


def test_raising_validation_fails_the_command_and_frees_the_locks(
    engine: Engine, manager: LockManager, script: Script, calls: list[str]
) -> None:
    script["validate"] = fail
    result = engine.run(Long())
    assert (result.state, result.messages) == ("failed", ("the disk is full",))
    assert (calls, len(manager)) == (["validate"], 0)


@pytest.mark.parametrize("returned", [True, 7, [7]])
def test_validation_that_returns_something_else_fails_the_command(
    engine: Engine, manager: LockManager, script: Script, returned: Any
) -> None:
    script["validate"] = lambda command: returned
    result = engine.run(Long())
    assert result.state == "failed"
    assert "validate must return or yield messages" in str(result.messages[0])
    assert len(manager) == 0


def test_task_started_in_validate_is_refused(
    engine: Engine, script: Script, tasks: ManualTasks
) -> None:
    script["validate"] = start_one_task
    assert engine.run(Long()).state == "failed"
    assert tasks.known == {}


@pytest.mark.parametrize("command", [Long, Short])
def test_raising_execute_fails_the_command_and_frees_the_locks(
    engine: Engine,
    manager: LockManager,
    script: Script,
    calls: list[str],
    command: type[Scripted],
) -> None:
    script["execute"] = fail
    result = engine.run(command())
    assert (result.state, result.messages) == ("failed", ("the disk is full",))
    assert (calls, len(manager)) == (["validate", "execute"], 0)


def test_raising_execute_is_logged_with_its_traceback(
    engine: Engine, script: Script, caplog: pytest.LogCaptureFixture
) -> None:
    script["execute"] = fail
    engine.run(Long())
    (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert record.exc_info is not None
    assert isinstance(record.exc_info[1], OSError)


def test_scope_execution_frees_the_locks_when_execute_ends(
    engine: Engine, manager: LockManager, script: Script, tasks: ManualTasks
) -> None:
    script["execute"] = start_one_task
    result = engine.run(Short())
    assert (result.state, len(manager)) == ("running", 0)
    tasks.end_all()
    assert engine.wait(result.command_id, timeout=10).state == "succeeded"


def test_scope_command_keeps_the_locks_while_tasks_run(
    engine: Engine, manager: LockManager, script: Script, tasks: ManualTasks
) -> None:
    script["execute"] = start_two_tasks
    result = engine.run(Long())
    first, second = tasks.known
    tasks.end(first)
    with pytest.raises(TimeoutError):
        engine.wait(result.command_id, timeout=0.02)
    assert {row.owner for row in manager.snapshot()} == {result.command_id}
    tasks.end(second)
    assert engine.wait(result.command_id, timeout=10).state == "succeeded"
    assert len(manager) == 0


def test_end_action_runs_after_the_last_task_with_the_locks_held(
    engine: Engine, manager: LockManager, script: Script, calls: list[str], tasks: ManualTasks
) -> None:
    held: list[bool] = []
    script["execute"] = start_two_tasks
    script["end_successfully"] = lambda command: held.append(("VM", "web") in manager)
    result = engine.run(Long())
    tasks.end_all()
    engine.wait(result.command_id, timeout=10)
    assert (calls, held) == (["validate", "execute", "end_successfully"], [True])


def test_one_failed_task_ends_the_command_with_failure_after_the_last(
    engine: Engine, manager: LockManager, script: Script, calls: list[str], tasks: ManualTasks
) -> None:
    script["execute"] = start_two_tasks
    result = engine.run(Long())
    first, second = tasks.known
    tasks.end(first, FAILED)
    with pytest.raises(TimeoutError):
        engine.wait(result.command_id, timeout=0.02)
    tasks.end(second)
    ended = engine.wait(result.command_id, timeout=10)
    assert (ended.state, ended.messages) == ("failed", ("it broke",))
    assert calls[-1] == "end_with_failure"
    assert len(manager) == 0


def test_task_that_the_back_end_has_lost_counts_as_failed(
    engine: Engine, manager: LockManager, script: Script, calls: list[str], tasks: ManualTasks
) -> None:
    script["execute"] = start_one_task
    result = engine.run(Long())
    tasks.lose_all()
    ended = engine.wait(result.command_id, timeout=10)
    assert (ended.state, calls[-1]) == ("failed", "end_with_failure")
    assert "no longer knows task" in str(ended.messages[0])


def test_execute_that_raises_after_starting_tasks_stops_them_and_ends_with_failure(
    engine: Engine, manager: LockManager, script: Script, calls: list[str], tasks: ManualTasks
) -> None:
    def execute(command: Command) -> None:
        start_two_tasks(command)
        raise OSError("the disk is full")

    script["execute"] = execute
    result = engine.run(Long())
    assert (result.state, result.messages[0]) == ("failed", "the disk is full")
    assert len(tasks.stopped) == 2
    assert (calls[-1], len(manager)) == ("end_with_failure", 0)


def test_locks_stay_until_the_tasks_of_a_failed_execute_have_ended(
    engine: Engine,
    manager: LockManager,
    script: Script,
    tasks: ManualTasks,
    background: Callable[..., Background],
) -> None:
    def execute(command: Command) -> None:
        start_one_task(command)
        raise OSError("the disk is full")

    tasks.stop_ends_tasks = False
    script["execute"] = execute
    running = background(engine.run, Long())
    eventually(lambda: tasks.stopped)
    assert ("VM", "web") in manager
    tasks.end_all()
    assert running.result().state == "failed"
    assert len(manager) == 0


def test_locks_are_gone_when_the_end_is_reported(
    engine: Engine, manager: LockManager, script: Script, tasks: ManualTasks
) -> None:
    script["execute"] = start_one_task
    for _ in range(20):
        result = engine.run(Long())
        tasks.end_all()
        engine.wait(result.command_id, timeout=10)
        assert len(manager) == 0


def test_raising_end_action_is_tried_again_with_the_locks_held(
    engine: Engine, manager: LockManager, script: Script, calls: list[str], tasks: ManualTasks
) -> None:
    may_end = threading.Event()

    def end(command: Command) -> None:
        if not may_end.is_set():
            raise OSError("the database is away")

    script["execute"] = start_one_task
    script["end_successfully"] = end
    result = engine.run(Long())
    tasks.end_all()
    eventually(lambda: calls.count("end_successfully") >= 3)
    assert ("VM", "web") in manager
    may_end.set()
    ended = engine.wait(result.command_id, timeout=10)
    assert (ended.state, ended.messages, len(manager)) == ("succeeded", (), 0)


def test_task_that_cannot_start_is_an_error_in_execute(
    engine: Engine, manager: LockManager, script: Script, calls: list[str], tasks: ManualTasks
) -> None:
    script["execute"] = start_one_task
    tasks.start_error = ValueError("no such queue")
    result = engine.run(Long())
    assert (result.state, result.messages) == ("failed", ("no such queue",))
    assert (calls[-1], len(manager)) == ("execute", 0)


def test_command_may_go_on_without_a_task_that_cannot_start(
    engine: Engine, manager: LockManager, script: Script, tasks: ManualTasks
) -> None:
    def execute(command: Command) -> None:
        with pytest.raises(ValueError, match="no such queue"):
            command.start_task("copy")

    tasks.start_error = ValueError("no such queue")
    script["execute"] = execute
    result = engine.run(Long())
    assert engine.wait(result.command_id, timeout=10).state == "succeeded"
    assert len(manager) == 0


def test_task_cannot_be_started_after_execute(
    engine: Engine, script: Script, tasks: ManualTasks
) -> None:
    command = Long()
    engine.run(command)
    with pytest.raises(RuntimeError, match="started while execute runs, not later"):
        command.start_task("copy")


def test_task_without_a_back_end_is_refused(
    new_engine: Callable[..., Engine], script: Script
) -> None:
    script["execute"] = start_one_task
    with new_engine(tasks=None) as engine:
        result = engine.run(Long())
    assert result.messages == ("cannot start a task: the engine was made without tasks=",)


def test_spec_and_options_reach_the_back_end(
    engine: Engine, script: Script, tasks: ManualTasks
) -> None:
    script["execute"] = lambda command: command.start_task("copy", 7, source="a", target="b")
    engine.run(Long())
    assert list(tasks.specs.values()) == [("copy", 7, {"source": "a", "target": "b"})]


def test_end_action_sees_the_tasks_and_how_they_ended(
    engine: Engine, script: Script, tasks: ManualTasks
) -> None:
    seen: list[Any] = []
    script["execute"] = start_one_task
    script["end_with_failure"] = lambda command: seen.extend(command.tasks)
    result = engine.run(Long())
    tasks.end_all(FAILED)
    engine.wait(result.command_id, timeout=10)
    assert [(task.spec, task.status) for task in seen] == [("'copy'", FAILED)]


def test_back_end_forgets_the_tasks_of_an_ended_command(
    engine: Engine, script: Script, tasks: ManualTasks
) -> None:
    script["execute"] = start_two_tasks
    result = engine.run(Long())
    tasks.end_all()
    engine.wait(result.command_id, timeout=10)
    assert tasks.known == {}


def test_back_end_that_cannot_answer_is_asked_again(
    engine: Engine,
    manager: LockManager,
    script: Script,
    tasks: ManualTasks,
    caplog: pytest.LogCaptureFixture,
) -> None:
    script["execute"] = start_one_task
    result = engine.run(Long())
    tasks.status_error = ConnectionError("the broker is away")
    eventually(lambda: "asking again" in caplog.text)
    assert ("VM", "web") in manager
    tasks.status_error = None
    tasks.end_all()
    assert engine.wait(result.command_id, timeout=10).state == "succeeded"


def test_interrupted_execute_frees_the_locks_and_stays_an_interrupt(
    engine: Engine, manager: LockManager, script: Script
) -> None:
    def interrupt(command: Command) -> None:
        raise KeyboardInterrupt

    script["execute"] = interrupt
    with pytest.raises(KeyboardInterrupt):
        engine.run(Long())
    assert len(manager) == 0


def test_interrupted_validate_frees_the_locks_and_stays_an_interrupt(
    engine: Engine, manager: LockManager, script: Script
) -> None:
    def interrupt(command: Command) -> None:
        raise KeyboardInterrupt

    script["validate"] = interrupt
    with pytest.raises(KeyboardInterrupt):
        engine.run(Long())
    assert len(manager) == 0


def test_executed_command_cannot_be_run_again(engine: Engine, script: Script) -> None:
    command = Long()
    engine.run(command)
    with pytest.raises(RuntimeError, match="this Long has been run already"):
        engine.run(command)


def test_refused_command_can_be_run_again(
    engine: Engine, manager: LockManager, script: Script
) -> None:
    command = Long()
    with manager.acquire(exclusive=[("VM", "web")]):
        first = engine.run(command)
    second = engine.run(command)
    assert (first.state, second.state) == ("refused", "succeeded")
    assert first.command_id != second.command_id


def test_command_that_met_a_closed_manager_can_be_run_again(
    new_engine: Callable[..., Engine], script: Script
) -> None:
    command = Long()
    closed = LockManager()
    closed.close()
    with new_engine(manager=closed, store="sqlite://") as engine, pytest.raises(ManagerClosedError):
        engine.run(command)
    with new_engine() as engine:
        assert engine.run(command).state == "succeeded"


def test_timeout_of_the_call_overrides_the_one_of_the_class(
    engine: Engine,
    manager: LockManager,
    script: Script,
    background: Callable[..., Background],
) -> None:
    grant = manager.acquire(exclusive=[("VM", "web")])
    waiting = background(engine.run, Long(), timeout=None)
    eventually(lambda: manager.waiters(("VM", "web")))
    grant.release()
    assert waiting.result().state == "succeeded"


def test_command_that_waited_too_long_is_refused(engine: Engine, manager: LockManager) -> None:
    with manager.acquire(exclusive=[("VM", "web")]):
        result = engine.run(Long(), timeout=0.01)
        assert manager.waiters(("VM", "web")) == []
    assert (result.state, len(result.blockers)) == ("refused", 1)


def test_locks_released_by_an_operator_do_not_disturb_the_end(
    engine: Engine, manager: LockManager, script: Script, tasks: ManualTasks
) -> None:
    script["execute"] = start_one_task
    result = engine.run(Long())
    manager.force_release(("VM", "web"))
    other = manager.acquire(exclusive=[("VM", "web")], timeout=0)
    tasks.end_all()
    assert engine.wait(result.command_id, timeout=10).state == "succeeded"
    assert other.is_held


@pytest.mark.parametrize("status", [SUCCEEDED, FAILED])
def test_outcome_is_committed_before_the_locks_go_and_before_it_is_reported(
    engine: Engine,
    manager: LockManager,
    script: Script,
    tasks: ManualTasks,
    monkeypatch: pytest.MonkeyPatch,
    status: TaskStatus,
) -> None:
    at_commit: list[tuple[str, bool]] = []
    commit = Store.end

    def end(self: Store, outcomes: Any, forgotten: Any = ()) -> None:
        at_commit.extend(
            (engine.status(outcome.command_id).state, ("VM", "web") in manager)
            for outcome in outcomes
        )
        commit(self, outcomes, forgotten)

    monkeypatch.setattr(Store, "end", end)
    script["execute"] = start_one_task
    result = engine.run(Long())
    tasks.end_all(status)
    engine.wait(result.command_id, timeout=10)
    assert at_commit == [("running", True)]


def test_outcome_that_cannot_be_committed_is_tried_again_with_the_locks_held(
    engine: Engine,
    manager: LockManager,
    script: Script,
    calls: list[str],
    tasks: ManualTasks,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    is_full = threading.Event()
    commit = Store.end

    def end(self: Store, outcomes: Any, forgotten: Any = ()) -> None:
        if is_full.is_set():
            raise OSError("the disk is full")
        commit(self, outcomes, forgotten)

    is_full.set()
    monkeypatch.setattr(Store, "end", end)
    script["execute"] = start_one_task
    result = engine.run(Long())
    tasks.end_all()
    eventually(lambda: calls.count("end_successfully") >= 2)
    assert ("VM", "web") in manager
    assert "the disk is full" in str(engine.status(result.command_id).messages[0])
    is_full.clear()
    assert engine.wait(result.command_id, timeout=10).state == "succeeded"
    assert len(manager) == 0


def test_end_action_that_exits_is_tried_again(
    engine: Engine, manager: LockManager, script: Script, calls: list[str], tasks: ManualTasks
) -> None:
    def end(command: Command) -> None:
        if calls.count("end_successfully") < 3:
            raise SystemExit(1)

    script["execute"] = start_one_task
    script["end_successfully"] = end
    result = engine.run(Long())
    tasks.end_all()
    assert engine.wait(result.command_id, timeout=10).state == "succeeded"
    assert len(manager) == 0


def test_execution_that_cannot_be_stored_fails_the_command_and_stops_its_tasks(
    engine: Engine,
    manager: LockManager,
    script: Script,
    tasks: ManualTasks,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def end_execution(*args: Any, **options: Any) -> None:
        raise OSError("the disk is full")

    monkeypatch.setattr(Store, "end_execution", end_execution)
    script["execute"] = start_one_task
    result = engine.run(Long())
    assert (result.state, result.messages[0]) == ("failed", "the disk is full")
    assert (len(tasks.stopped), len(manager)) == (1, 0)


def test_refused_wait_within_its_timeout_leaves_nothing(
    engine: Engine, manager: LockManager, calls: list[str]
) -> None:
    with manager.acquire(exclusive=[("VM", "web")], message="VM_MOVES"):
        result = engine.run(Long(), timeout=0.005)
        assert manager.waiters(("VM", "web")) == []
    assert (result.state, result.messages, calls) == ("refused", ("VM_MOVES",), [])


def test_time_to_wait_is_declared_and_may_be_said_for_one_call(
    engine: Engine, manager: LockManager, background: Callable[..., Background]
) -> None:
    @locks(exclusive("VM", "vm"), scope=Scope.COMMAND, timeout=None)
    class Patient(Command):
        vm: str = "web"

    with manager.acquire(exclusive=[("VM", "web")]):
        assert engine.run(Patient(), timeout=0).state == "refused"
        waiting = background(engine.run, Patient())
        eventually(lambda: manager.waiters(("VM", "web")))
    assert waiting.result().state == "succeeded"


def test_commands_that_end_during_a_commit_share_the_next_one(
    engine: Engine,
    manager: LockManager,
    script: Script,
    calls: list[str],
    tasks: ManualTasks,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    commits: list[int] = []
    commit = Store.end

    def end(self: Store, outcomes: Any, forgotten: Any = ()) -> None:
        eventually(lambda: calls.count("end_successfully") == 20)
        commits.append(len(outcomes))
        commit(self, outcomes, forgotten)

    monkeypatch.setattr(Store, "end", end)
    script["execute"] = start_one_task
    ids = [engine.run(Long(vm=str(number))).command_id for number in range(20)]
    tasks.end_all()
    assert {engine.wait(command_id, timeout=10).state for command_id in ids} == {"succeeded"}
    assert (sum(commits), len(manager), tasks.known) == (20, 0, {})
    assert len(commits) <= 3
