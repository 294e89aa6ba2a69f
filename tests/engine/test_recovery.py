"""What a new engine makes of what an earlier one has left in the store."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from engine_commands import Long, Scripted, Short, start_one_task, start_two_tasks
from engine_support import FAILED, ManualTasks

from lockcore import LockManager, Mode
from lockcore.engine import (
    Command,
    Engine,
    EngineError,
    EngineRecoveringError,
    Message,
    Scope,
    UnknownCommandError,
    exclusive,
    locks,
)
from lockcore.engine._store import Store
from support import Background, eventually

Script = dict[str, Callable[[Any], Any]]
NewEngine = Callable[..., Engine]


@pytest.fixture
def restarted(new_engine: NewEngine) -> Iterator[Callable[..., Engine]]:
    """Opens an engine as a new process would: with a lock manager of its own."""

    def restart(**options: Any) -> Engine:
        engine = new_engine(**({"manager": LockManager()} | options))
        engine.open()
        return engine

    return restart


def left_running(new_engine: NewEngine, *commands: Command) -> list[str]:
    """Runs commands and closes the engine while their tasks run; returns their ids."""
    with new_engine() as engine:
        results = [engine.run(command) for command in commands]
    assert [result.state for result in results] == ["running"] * len(results)
    return [result.command_id for result in results]


def groups(engine: Engine) -> dict[str, tuple[str, ...]]:
    """The groups of the recovery report that are not empty."""
    names = ("resumed", "ended", "cleaned", "unknown_tasks", "set_aside")
    return {name: found for name in names if (found := getattr(engine.recovery, name))}


def test_empty_store_has_nothing_to_recover(restarted: NewEngine) -> None:
    engine = restarted()
    assert groups(engine) == {}
    assert str(engine.recovery) == "nothing to recover"


def test_command_with_a_live_task_has_its_exact_locks_again(
    new_engine: NewEngine, restarted: NewEngine, manager: LockManager, script: Script
) -> None:
    script["execute"] = start_one_task
    (command_id,) = left_running(new_engine, Long())
    engine = restarted()
    assert groups(engine) == {"resumed": (command_id,)}
    recovered = [(row.key, row.mode, row.owner, row.message) for row in engine.manager.snapshot()]
    assert recovered == [(row.key, row.mode, row.owner, row.message) for row in manager.snapshot()]
    assert sorted(recovered) == [
        (("POOL", "p1"), Mode.SHARED, command_id, "POOL_IS_USED"),
        (("VM", "web"), Mode.EXCLUSIVE, command_id, "VM_IS_USED"),
    ]


@locks(scope=Scope.COMMAND)
class Fickle(Command):
    """Would lock something else each time it is asked."""

    asked = 0

    def exclusive_locks(self) -> dict[Any, Any]:
        Fickle.asked += 1
        return {("VM", Fickle.asked): Message("ASKED", times=Fickle.asked)}

    def execute(self) -> None:
        self.start_task("copy")


def test_stored_locks_are_taken_and_not_computed_again(
    new_engine: NewEngine, restarted: NewEngine
) -> None:
    Fickle.asked = 0
    left_running(new_engine, Fickle())
    (row,) = restarted().manager.snapshot()
    assert (row.key, row.message) == (("VM", 1), Message("ASKED", times=1))


def test_resumed_command_ends_in_the_new_engine(
    new_engine: NewEngine, restarted: NewEngine, tasks: ManualTasks, script: Script
) -> None:
    script["execute"] = start_two_tasks
    (command_id,) = left_running(new_engine, Long())
    first, second = tasks.known
    tasks.end(first)
    engine = restarted()
    assert ("VM", "web") in engine.manager
    tasks.end(second)
    assert engine.wait(command_id, timeout=10).state == "succeeded"
    assert (Scripted.calls[-1], len(engine.manager)) == ("end_successfully", 0)


def test_command_whose_tasks_ended_meanwhile_is_ended_before_the_engine_opens(
    new_engine: NewEngine, restarted: NewEngine, tasks: ManualTasks, script: Script
) -> None:
    script["execute"] = start_one_task
    (command_id,) = left_running(new_engine, Long())
    tasks.end_all()
    engine = restarted()
    assert groups(engine) == {"ended": (command_id,)}
    assert (Scripted.calls[-1], len(engine.manager)) == ("end_successfully", 0)
    assert engine.wait(command_id, timeout=0).state == "succeeded"


def test_command_whose_task_failed_meanwhile_ends_with_failure(
    new_engine: NewEngine, restarted: NewEngine, tasks: ManualTasks, script: Script
) -> None:
    script["execute"] = start_one_task
    (command_id,) = left_running(new_engine, Long())
    tasks.end_all(FAILED)
    engine = restarted()
    assert groups(engine) == {"ended": (command_id,)}
    result = engine.wait(command_id, timeout=0)
    assert (result.state, result.messages) == ("failed", ("it broke",))
    assert Scripted.calls[-1] == "end_with_failure"


def test_command_whose_task_is_lost_is_cleaned(
    new_engine: NewEngine, restarted: NewEngine, tasks: ManualTasks, script: Script
) -> None:
    script["execute"] = start_one_task
    (command_id,) = left_running(new_engine, Long())
    tasks.lose_all()
    engine = restarted()
    assert groups(engine) == {"cleaned": (command_id,)}
    assert engine.wait(command_id, timeout=0).state == "failed"
    assert (Scripted.calls[-1], len(engine.manager)) == ("end_with_failure", 0)


def test_command_with_a_lost_and_a_live_task_keeps_its_locks_until_the_live_one_ends(
    new_engine: NewEngine, restarted: NewEngine, tasks: ManualTasks, script: Script
) -> None:
    script["execute"] = start_two_tasks
    (command_id,) = left_running(new_engine, Long())
    first, second = tasks.known
    tasks.forget(first)
    engine = restarted()
    assert groups(engine) == {"resumed": (command_id,)}
    assert ("VM", "web") in engine.manager
    tasks.end(second)
    assert engine.wait(command_id, timeout=10).state == "failed"


def test_unknown_task_takes_no_lock_and_is_left_alone(
    restarted: NewEngine, tasks: ManualTasks
) -> None:
    tasks.start("somebody's")
    engine = restarted()
    assert groups(engine) == {"unknown_tasks": ("somebody's",)}
    assert str(engine.recovery) == "unknown task somebody's: running"
    assert (len(engine.manager), tasks.stopped) == (0, [])


def test_report_says_which_command_went_which_way(
    new_engine: NewEngine, restarted: NewEngine, tasks: ManualTasks, script: Script
) -> None:
    script["execute"] = start_one_task
    ids = left_running(new_engine, Long(vm="a"), Long(vm="b"), Long(vm="c"))
    _, second, third = tasks.known
    tasks.end(second)
    tasks.forget(third)
    report = restarted().recovery
    assert (report.resumed, report.ended, report.cleaned) == ((ids[0],), (ids[1],), (ids[2],))
    assert str(report) == (
        f"resumed {ids[0]}: Long, running\n"
        f"ended {ids[1]}: Long, succeeded\n"
        f"cleaned {ids[2]}: Long, failed, the task back end no longer knows task {third}"
    )


def test_recovered_commands_are_in_their_first_order(
    new_engine: NewEngine, restarted: NewEngine, script: Script
) -> None:
    script["execute"] = start_one_task
    ids = left_running(new_engine, *(Long(vm=str(number)) for number in range(20)))
    engine = restarted()
    assert list(engine.recovery.resumed) == ids
    tokens = {row.owner: row.token for row in engine.manager.snapshot()}
    assert sorted(ids, key=lambda id: tokens[id]) == ids


def test_later_commands_come_after_recovered_ones_in_the_next_recovery(
    new_engine: NewEngine, restarted: NewEngine, script: Script
) -> None:
    script["execute"] = start_one_task
    ids = left_running(new_engine, Long(vm="a"), Long(vm="b"))
    with contextlib.closing(restarted()) as engine:
        ids.append(engine.run(Long(vm="c")).command_id)
    assert list(restarted().recovery.resumed) == ids


def test_second_recovery_finds_what_the_first_found(
    new_engine: NewEngine, restarted: NewEngine, script: Script
) -> None:
    script["execute"] = start_one_task
    left_running(new_engine, Long())
    with contextlib.closing(restarted()) as first:
        pass
    assert restarted().recovery == first.recovery


def test_ended_command_leaves_no_rows(
    new_engine: NewEngine, restarted: NewEngine, tasks: ManualTasks, script: Script, tmp_path: Path
) -> None:
    script["execute"] = start_two_tasks
    left_running(new_engine, Long())
    tasks.end_all()
    with contextlib.closing(restarted()):
        pass
    connection = sqlite3.connect(tmp_path / "engine.db")
    assert connection.execute("SELECT * FROM command").fetchall() == []
    assert connection.execute("SELECT * FROM task").fetchall() == []
    connection.close()
    assert groups(restarted()) == {}


def test_outcome_of_an_earlier_engine_can_be_asked_for(
    new_engine: NewEngine, restarted: NewEngine, tasks: ManualTasks, script: Script
) -> None:
    script["execute"] = start_one_task
    with new_engine() as engine:
        result = engine.run(Long())
        tasks.end_all(FAILED)
        engine.wait(result.command_id, timeout=10)
    later = restarted().wait(result.command_id, timeout=0)
    assert (later.state, later.messages) == ("failed", ("it broke",))


def test_command_that_was_never_run_is_unknown(restarted: NewEngine) -> None:
    with pytest.raises(UnknownCommandError, match="no command 7"):
        restarted().wait("7", timeout=0)


def test_scope_execution_has_no_locks_after_a_restart(
    new_engine: NewEngine, restarted: NewEngine, tasks: ManualTasks, script: Script
) -> None:
    script["execute"] = start_one_task
    (command_id,) = left_running(new_engine, Short())
    engine = restarted()
    assert groups(engine) == {"resumed": (command_id,)}
    assert len(engine.manager) == 0
    tasks.end_all()
    assert engine.wait(command_id, timeout=10).state == "succeeded"


def test_command_whose_end_action_raises_in_recovery_keeps_its_locks(
    new_engine: NewEngine, restarted: NewEngine, tasks: ManualTasks, script: Script
) -> None:
    may_end = threading.Event()

    def end(command: Command) -> None:
        if not may_end.is_set():
            raise OSError("the database is away")

    script["execute"] = start_one_task
    script["end_successfully"] = end
    (command_id,) = left_running(new_engine, Long())
    tasks.end_all()
    engine = restarted()
    assert groups(engine) == {"resumed": (command_id,)}
    assert "cannot end, trying again: the database is away" in str(engine.recovery)
    assert ("VM", "web") in engine.manager
    may_end.set()
    assert engine.wait(command_id, timeout=10).state == "succeeded"


def test_commands_wait_at_the_gate_until_recovery_is_complete(
    new_engine: NewEngine,
    tasks: ManualTasks,
    script: Script,
    background: Callable[..., Background],
) -> None:
    recovering, may_go_on = threading.Event(), threading.Event()

    def end(command: Command) -> None:
        recovering.set()
        assert may_go_on.wait(10)

    script["execute"] = start_one_task
    left_running(new_engine, Long())
    tasks.end_all()
    script.clear()
    script["end_successfully"] = end
    engine = new_engine()
    opening = background(engine.open)
    eventually(recovering.is_set)
    early = background(engine.run, Long(vm="other"))
    early.join(0.02)
    assert early.is_alive()
    assert "execute" not in Scripted.calls[3:]
    may_go_on.set()
    opening.result()
    assert early.result().state == "succeeded"


def test_commands_are_refused_at_the_gate_if_the_engine_says_so(
    new_engine: NewEngine,
    tasks: ManualTasks,
    script: Script,
    background: Callable[..., Background],
) -> None:
    recovering, may_go_on = threading.Event(), threading.Event()

    def end(command: Command) -> None:
        recovering.set()
        assert may_go_on.wait(10)

    script["execute"] = start_one_task
    left_running(new_engine, Long())
    tasks.end_all()
    script.clear()
    script["end_successfully"] = end
    engine = new_engine(on_recovery="refuse")
    opening = background(engine.open)
    eventually(recovering.is_set)
    with pytest.raises(EngineRecoveringError, match="the engine is recovering: try again later"):
        engine.run(Long(vm="other"))
    with pytest.raises(EngineRecoveringError):
        asyncio.run(engine.run_async(Long(vm="other")))
    may_go_on.set()
    opening.result()
    assert engine.run(Long(vm="other")).state == "succeeded"


def test_same_manager_is_free_of_a_recovered_command_at_its_end(
    new_engine: NewEngine, manager: LockManager, tasks: ManualTasks, script: Script
) -> None:
    """The locks that the closed engine left held in its process go too."""
    script["execute"] = start_one_task
    (command_id,) = left_running(new_engine, Long())
    with new_engine() as engine:
        tasks.end_all()
        engine.wait(command_id, timeout=10)
    assert len(manager) == 0


def test_command_whose_locks_others_hold_is_set_aside(
    new_engine: NewEngine, restarted: NewEngine, tasks: ManualTasks, script: Script
) -> None:
    script["execute"] = start_one_task
    first, second = left_running(new_engine, Long(vm="a"), Long(vm="b"))
    taken = LockManager()
    taken.acquire(shared=[("VM", "a")], owner="operator")
    with contextlib.closing(restarted(manager=taken)) as engine:
        assert groups(engine) == {"resumed": (second,), "set_aside": (first,)}
        assert "held shared by operator" in str(engine.recovery)
        with pytest.raises(EngineError, match="was set aside"):
            engine.wait(first, timeout=0)
    assert (len(tasks.known), tasks.stopped) == (2, [])
    assert groups(restarted()) == {"resumed": (first, second)}


def change_store(tmp_path: Path, column: str, value: str, which: str = "true") -> None:
    """Changes a column of all stored commands, or of some."""
    connection = sqlite3.connect(tmp_path / "engine.db")
    connection.execute(f"UPDATE command SET {column} = ? WHERE {which}", (value,))
    connection.commit()
    connection.close()


@pytest.mark.parametrize(
    "name", ["no_such_module:Gone", "engine_commands:Gone", "engine_commands:start_one_task"]
)
def test_command_whose_class_is_gone_is_set_aside_and_keeps_its_locks(
    new_engine: NewEngine, restarted: NewEngine, script: Script, tmp_path: Path, name: str
) -> None:
    script["execute"] = start_one_task
    (command_id,) = left_running(new_engine, Long())
    change_store(tmp_path, "type", name)
    with contextlib.closing(restarted()) as engine:
        assert groups(engine) == {"set_aside": (command_id,)}
        assert f"no command class {name}" in str(engine.recovery)
        assert engine.run(Long()).state == "refused"
    change_store(tmp_path, "type", "engine_commands:Long")
    assert groups(restarted()) == {"resumed": (command_id,)}


@pytest.mark.parametrize("source", ["import sys; sys.exit(1)", "1 / 0", "def"])
def test_command_whose_module_cannot_be_imported_is_set_aside_and_keeps_its_locks(
    new_engine: NewEngine,
    restarted: NewEngine,
    script: Script,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    source: str,
) -> None:
    script["execute"] = start_one_task
    (command_id,) = left_running(new_engine, Long())
    change_store(tmp_path, "type", "broken_plugin_of_a_test:Extra")
    (tmp_path / "broken_plugin_of_a_test.py").write_text(source, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    engine = restarted()
    assert groups(engine) == {"set_aside": (command_id,)}
    assert ("VM", "web") in engine.manager


def test_class_is_imported_when_it_is_needed(
    new_engine: NewEngine,
    restarted: NewEngine,
    script: Script,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    script["execute"] = start_one_task
    (command_id,) = left_running(new_engine, Long())
    change_store(tmp_path, "type", "plugin_of_a_test:Outer.Extra")
    (tmp_path / "plugin_of_a_test.py").write_text(
        "from engine_commands import Long\nclass Outer:\n    class Extra(Long): pass\n",
        encoding="utf-8",
    )
    monkeypatch.syspath_prepend(tmp_path)
    engine = restarted()
    assert groups(engine) == {"resumed": (command_id,)}
    assert "Extra, running" in str(engine.recovery)


def test_command_whose_class_has_changed_is_set_aside(
    new_engine: NewEngine, restarted: NewEngine, script: Script, tmp_path: Path
) -> None:
    script["execute"] = start_one_task
    (command_id,) = left_running(new_engine, Long())
    change_store(tmp_path, "parameters", '{"renamed": "web"}')
    engine = restarted()
    assert groups(engine) == {"set_aside": (command_id,)}
    assert "unexpected keyword argument 'renamed'" in str(engine.recovery)
    assert ("VM", "web") in engine.manager


def test_given_class_is_found_first(
    new_engine: NewEngine, restarted: NewEngine, tasks: ManualTasks, script: Script
) -> None:
    script["execute"] = start_one_task
    left_running(new_engine, Long())
    ended = []

    @locks(exclusive("VM", "vm"), scope=Scope.COMMAND)
    class Other(Command):
        vm: str
        pool: str

        def end_successfully(self) -> None:
            ended.append(self.vm)

    Other.__module__, Other.__qualname__ = Long.__module__, Long.__qualname__
    tasks.end_all()
    restarted(commands=[Other])
    assert ended == ["web"]


def test_commands_that_are_no_classes_are_refused() -> None:
    with pytest.raises(TypeError, match="commands must be subclasses of Command"):
        Engine(commands=["Long"])  # type: ignore[list-item]


def test_store_with_tasks_is_not_opened_without_a_back_end(
    new_engine: NewEngine, restarted: NewEngine, tasks: ManualTasks, script: Script
) -> None:
    """Else every task would look lost, and its locks would go while it runs."""
    script["execute"] = start_one_task
    (command_id,) = left_running(new_engine, Long())
    with pytest.raises(EngineError, match="the engine needs tasks="):
        restarted(tasks=None)
    assert groups(restarted()) == {"resumed": (command_id,)}


def test_engine_is_not_opened_while_the_back_end_cannot_answer(
    new_engine: NewEngine, restarted: NewEngine, tasks: ManualTasks, script: Script
) -> None:
    script["execute"] = start_one_task
    (command_id,) = left_running(new_engine, Long())
    tasks.status_error = ConnectionError("the broker is away")
    with pytest.raises(ConnectionError):
        restarted()
    tasks.status_error = None
    assert groups(restarted()) == {"resumed": (command_id,)}


@locks(exclusive("DISK", "disk"), scope=Scope.COMMAND)
class Part(Scripted):
    """A child with a task."""

    disk: str = "d1"

    def execute(self) -> None:
        self.start_task("copy")


def test_parent_and_child_are_recovered_together(
    new_engine: NewEngine, restarted: NewEngine, tasks: ManualTasks, script: Script
) -> None:
    script["execute"] = lambda parent: parent.run_child(Part())
    (parent_id,) = left_running(new_engine, Long())
    engine = restarted()
    assert engine.recovery.resumed[0] == parent_id
    assert {row.owner for row in engine.manager.snapshot()} == {parent_id}
    assert len(engine.manager) == 3
    tasks.end_all()
    assert engine.wait(parent_id, timeout=10).state == "succeeded"
    assert Scripted.calls[-2:] == ["end_successfully", "end_successfully"]
    assert len(engine.manager) == 0


def test_parent_and_child_are_ended_together(
    new_engine: NewEngine, restarted: NewEngine, tasks: ManualTasks, script: Script
) -> None:
    script["execute"] = lambda parent: parent.run_child(Part())
    (parent_id,) = left_running(new_engine, Long())
    tasks.end_all(FAILED)
    engine = restarted()
    assert len(engine.recovery.ended) == 2
    assert engine.wait(parent_id, timeout=0).state == "failed"
    assert len(engine.manager) == 0


def test_parent_of_a_child_that_is_set_aside_waits_for_an_engine_that_can_end_it(
    new_engine: NewEngine, restarted: NewEngine, tasks: ManualTasks, script: Script, tmp_path: Path
) -> None:
    script["execute"] = lambda parent: parent.run_child(Part())
    (parent_id,) = left_running(new_engine, Long())
    tasks.end_all()
    change_store(tmp_path, "type", "gone:Gone", "parent_id IS NOT NULL")
    engine = restarted()
    assert engine.recovery.resumed == (parent_id,)
    assert len(engine.recovery.set_aside) == 1
    assert len(engine.manager.owned_by(parent_id)) == 3
    engine.close(drain=True)  # does not wait for it
    change_store(tmp_path, "type", f"{__name__}:Part", "parent_id IS NOT NULL")
    engine = restarted()
    assert engine.wait(parent_id, timeout=10).state == "succeeded"
    assert len(engine.manager) == 0


def test_failure_of_a_child_is_remembered_over_a_restart(
    new_engine: NewEngine, restarted: NewEngine, tasks: ManualTasks, script: Script
) -> None:
    def execute(parent: Command) -> None:
        start_one_task(parent)
        children.append(parent.run_child(Part()).command_id)

    children: list[str] = []
    script["execute"] = execute
    with new_engine() as engine:
        parent = engine.run(Long())
        own, childs = tasks.known
        tasks.end(childs, FAILED)
        engine.wait(children[0], timeout=10)
    tasks.end(own)
    engine = restarted()
    assert engine.wait(parent.command_id, timeout=0).state == "failed"


@pytest.fixture
def commits(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The ids of the commands that ended, commit by commit."""
    found: list[list[str]] = []
    commit = Store.end

    def end(self: Store, outcomes: Any, forgotten: Any = ()) -> None:
        commit(self, outcomes, forgotten)
        found.append([outcome.command_id for outcome in outcomes])

    monkeypatch.setattr(Store, "end", end)
    return found


def test_commands_that_ended_meanwhile_share_a_commit(
    new_engine: NewEngine,
    restarted: NewEngine,
    tasks: ManualTasks,
    script: Script,
    commits: list[list[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("lockcore.engine._ending._BATCH_SECONDS", float("inf"))
    script["execute"] = start_one_task
    ids = left_running(new_engine, *(Long(vm=str(number)) for number in range(20)))
    tasks.end_all()
    engine = restarted()
    assert commits == [ids]
    assert (engine.recovery.ended, len(engine.manager)) == (tuple(ids), 0)
    assert tasks.known == {}


def test_recovery_with_slow_end_actions_commits_on_its_way(
    new_engine: NewEngine,
    restarted: NewEngine,
    tasks: ManualTasks,
    script: Script,
    commits: list[list[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("lockcore.engine._ending._BATCH_SECONDS", 0.0)
    script["execute"] = start_one_task
    ids = left_running(new_engine, *(Long(vm=str(number)) for number in range(3)))
    tasks.end_all()
    restarted()
    assert commits == [[command_id] for command_id in ids]


def test_commands_of_a_commit_that_fails_keep_their_locks_and_end_again(
    new_engine: NewEngine,
    restarted: NewEngine,
    tasks: ManualTasks,
    script: Script,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    script["execute"] = start_one_task
    ids = left_running(new_engine, Long(vm="a", pool="p1"), Long(vm="b", pool="p2"))
    tasks.end_all()
    store_is_back = threading.Event()
    commit = Store.end

    def end(self: Store, outcomes: Any, forgotten: Any = ()) -> None:
        if not store_is_back.is_set():
            raise OSError("the disk is full")
        commit(self, outcomes, forgotten)

    monkeypatch.setattr(Store, "end", end)
    Scripted.calls.clear()
    engine = restarted()
    assert engine.recovery.resumed == tuple(ids)
    assert len(engine.manager) == 4
    store_is_back.set()
    assert {engine.wait(command_id, timeout=10).state for command_id in ids} == {"succeeded"}
    assert len(engine.manager) == 0
    assert Scripted.calls.count("end_successfully") >= 4


def test_interrupted_recovery_stays_an_interrupt_and_is_done_again(
    new_engine: NewEngine, restarted: NewEngine, tasks: ManualTasks, script: Script
) -> None:
    def interrupt(command: Command) -> None:
        raise KeyboardInterrupt

    script["execute"] = start_one_task
    script["end_successfully"] = interrupt
    (command_id,) = left_running(new_engine, Long())
    tasks.end_all()
    with pytest.raises(KeyboardInterrupt):
        restarted()
    del script["end_successfully"]
    assert groups(restarted()) == {"ended": (command_id,)}
