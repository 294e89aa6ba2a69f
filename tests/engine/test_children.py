"""A child command runs under its parent's owner, and can free only what it took itself."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, ClassVar

import pytest
from engine_commands import Long, Scripted
from engine_support import FAILED, ManualTasks

from lockcore import DeadlockError, LockManager
from lockcore.engine import Command, CommandResult, Engine, Scope, exclusive, locks, shared
from support import Background, eventually

Script = dict[str, Callable[[Any], Any]]


@locks(exclusive("VM", "vm"), exclusive("DISK", "disk"), scope=Scope.COMMAND)
class Child(Command):
    """Wants a key of its parent and one more."""

    vm: str = "web"
    disk: str = "d1"
    does: str = "nothing"

    def execute(self) -> None:
        Scripted.calls.append("child executes")
        if "starts" in self.does:
            self.start_task("copy")
        if "raises" in self.does:
            raise OSError("the child broke")

    def end_successfully(self) -> None:
        Scripted.calls.append("child ends")

    def end_with_failure(self) -> None:
        Scripted.calls.append("child fails")


def run_child(results: list[CommandResult], **parameters: str) -> Callable[[Command], None]:
    return lambda parent: results.append(parent.run_child(Child(**parameters)))


@pytest.fixture
def results() -> list[CommandResult]:
    return []


def test_child_does_not_conflict_with_its_parent(
    engine: Engine, script: Script, results: list[CommandResult]
) -> None:
    script["execute"] = run_child(results)
    assert engine.run(Long()).state == "succeeded"
    assert results[0].state == "succeeded"


def test_child_holds_its_locks_as_its_parent(
    engine: Engine, manager: LockManager, script: Script, results: list[CommandResult]
) -> None:
    script["execute"] = run_child(results, does="starts")
    parent = engine.run(Long())
    assert {row.owner for row in manager.snapshot()} == {parent.command_id}
    assert ("DISK", "d1") in manager


def test_child_frees_its_own_locks_and_not_its_parents(
    engine: Engine, manager: LockManager, script: Script, results: list[CommandResult]
) -> None:
    held: list[bool] = []

    def execute(parent: Command) -> None:
        run_child(results)(parent)
        held.extend((("VM", "web") in manager, ("DISK", "d1") in manager))

    script["execute"] = execute
    engine.run(Long())
    assert held == [True, False]
    assert len(manager) == 0


def test_child_conflicts_with_others(
    engine: Engine, manager: LockManager, script: Script, results: list[CommandResult]
) -> None:
    script["execute"] = run_child(results)
    with manager.acquire(exclusive=[("DISK", "d1")]):
        parent = engine.run(Long())
    assert (results[0].state, parent.state) == ("refused", "succeeded")


def test_failure_of_a_child_without_tasks_is_for_the_parent_to_judge(
    engine: Engine, script: Script, results: list[CommandResult]
) -> None:
    script["execute"] = run_child(results, does="raises")
    assert engine.run(Long()).state == "succeeded"
    assert results[0].state == "failed"


def test_parent_ends_after_the_tasks_of_its_child(
    engine: Engine,
    manager: LockManager,
    script: Script,
    tasks: ManualTasks,
    results: list[CommandResult],
) -> None:
    script["execute"] = run_child(results, does="starts")
    parent = engine.run(Long())
    assert (results[0].state, parent.state) == ("running", "running")
    tasks.end_all()
    assert engine.wait(parent.command_id, timeout=10).state == "succeeded"
    assert Scripted.calls[-2:] == ["child ends", "end_successfully"]
    assert engine.wait(results[0].command_id, timeout=10).state == "succeeded"
    assert len(manager) == 0


def test_child_whose_task_fails_ends_its_parent_with_failure(
    engine: Engine,
    script: Script,
    calls: list[str],
    tasks: ManualTasks,
    results: list[CommandResult],
) -> None:
    script["execute"] = run_child(results, does="starts")
    parent = engine.run(Long())
    tasks.end_all(FAILED)
    ended = engine.wait(parent.command_id, timeout=10)
    assert (ended.state, calls[-2:]) == ("failed", ["child fails", "end_with_failure"])
    assert ended.messages == (f"Child {results[0].command_id} has failed",)


def test_child_that_raises_after_starting_a_task_ends_its_parent_with_failure(
    engine: Engine, script: Script, calls: list[str], results: list[CommandResult]
) -> None:
    script["execute"] = run_child(results, does="starts, raises")
    parent = engine.run(Long())
    assert results[0].state == "failed"
    assert engine.wait(parent.command_id, timeout=10).state == "failed"


def test_parent_that_raises_stops_the_tasks_of_its_children(
    engine: Engine,
    manager: LockManager,
    script: Script,
    tasks: ManualTasks,
    results: list[CommandResult],
) -> None:
    def execute(parent: Command) -> None:
        run_child(results, does="starts")(parent)
        raise OSError("the parent broke")

    script["execute"] = execute
    assert engine.run(Long()).state == "failed"
    assert len(tasks.stopped) == 1
    assert len(manager) == 0


def test_grandchild_has_the_owner_of_the_topmost_command(
    engine: Engine, manager: LockManager, script: Script, results: list[CommandResult]
) -> None:
    def execute(command: Scripted) -> None:
        if isinstance(command, Long) and command.vm == "web":
            results.append(command.run_child(Long(vm="inner")))
        else:
            run_child(results, vm="innermost", does="starts")(command)

    script["execute"] = execute
    parent = engine.run(Long())
    assert {row.owner for row in manager.snapshot()} == {parent.command_id}
    assert len(manager) == 5


def test_child_cannot_be_run_after_execute(engine: Engine, script: Script) -> None:
    command = Long()
    engine.run(command)
    with pytest.raises(RuntimeError, match="started while execute runs, not later"):
        command.run_child(Child())


@locks(exclusive("VM", "vm"), scope=Scope.COMMAND, timeout=None)
class Waiting(Command):
    """Waits for its key, then has a child wait for another one."""

    vm: str
    child_vm: str = ""
    meet: ClassVar[threading.Barrier]
    refused: ClassVar[list[CommandResult]]

    def execute(self) -> None:
        if self.child_vm:
            self.meet.wait(10)
            result = self.run_child(Waiting(vm=self.child_vm))
            self.refused.extend([result] if result.state == "refused" else [])


def test_child_that_would_wait_for_ever_is_refused(
    engine: Engine, manager: LockManager, background: Callable[..., Background]
) -> None:
    """Two parents, each with a child that wants what the other parent holds."""
    Waiting.meet, Waiting.refused = threading.Barrier(2), []
    threads = [
        background(engine.run, Waiting(vm="a", child_vm="b")),
        background(engine.run, Waiting(vm="b", child_vm="a")),
    ]
    assert [thread.result().state for thread in threads] == ["succeeded", "succeeded"]
    (refused,) = Waiting.refused
    assert "it would wait for ever" in str(refused.messages[0])
    assert isinstance(refused.conflict, DeadlockError)
    assert refused.blockers == refused.conflict.blockers != ()
    assert "it would wait for ever" in refused.explain()[0]
    row = refused.to_dict()
    assert (len(row["blockers"]), len(row["cycle"])) == (1, 2)
    assert len(manager) == 0


@locks(exclusive("VM", "vm"), shared("POOL", "pool"), scope=Scope.COMMAND)
class SameKeys(Command):
    """Wants what its parent has, and ends in one of all ways."""

    vm: str = "web"
    pool: str = "p1"
    does: str = ""

    def validate(self) -> str | None:
        return "no room" if self.does == "is invalid" else None

    def execute(self) -> None:
        if "starts" in self.does:
            self.start_task("copy")
        if "raises" in self.does:
            raise OSError("the child broke")


@locks(exclusive("VM", "vm", scope=Scope.EXECUTION), shared("POOL", "pool"), scope=Scope.COMMAND)
class FreesEarly(SameKeys):
    """Keeps less than it has taken."""


@locks(exclusive("POOL", "pool"), scope=Scope.EXECUTION)
class Upgrades(SameKeys):
    """Wants exclusive what its parent shares."""


@pytest.mark.parametrize("child", [SameKeys, FreesEarly, Upgrades])
@pytest.mark.parametrize("does", ["", "is invalid", "raises", "starts", "starts, raises"])
def test_child_never_frees_the_locks_of_its_parent_however_it_ends(
    engine: Engine,
    manager: LockManager,
    script: Script,
    tasks: ManualTasks,
    background: Callable[..., Background],
    child: type[SameKeys],
    does: str,
) -> None:
    """Somebody who waits for a key of the parent gets it when the parent has ended."""
    waiting: list[Background] = []
    states: list[str] = []

    def execute(parent: Command) -> None:
        waiting.append(background(manager.acquire, exclusive=[("VM", "web")], owner="other"))
        eventually(lambda: manager.waiters(("VM", "web")))
        result = parent.run_child(child(does=does))
        tasks.end_all()
        state = engine.wait(result.command_id, timeout=10).state
        rows = {(row.key, row.mode) for row in manager.owned_by(parent.command_id)}
        assert rows >= {(("VM", "web"), "exclusive"), (("POOL", "p1"), "shared")}
        assert (("POOL", "p1"), "exclusive") not in rows
        assert len(manager.waiters(("VM", "web"))) == 1
        states.append(state)  # all of the above is so

    script["execute"] = execute
    parent = engine.run(Long())
    engine.wait(parent.command_id, timeout=10)
    ends = {"": "succeeded", "starts": "succeeded", "is invalid": "refused"}
    assert states == [ends.get(does, "failed")]
    waiting[0].result().release()
    assert len(manager) == 0


def test_child_that_is_refused_frees_nothing_of_its_parent(
    engine: Engine, manager: LockManager, script: Script, results: list[CommandResult]
) -> None:
    def execute(parent: Command) -> None:
        run_child(results)(parent)
        assert {row.owner for row in manager.holders(("VM", "web"))} == {parent.command_id}

    script["execute"] = execute
    with manager.acquire(exclusive=[("DISK", "d1")]):
        assert engine.run(Long()).state == "succeeded"
    assert results[0].state == "refused"


def test_child_that_ends_after_a_restart_frees_nothing_of_its_parent(
    new_engine: Callable[..., Engine], script: Script, tasks: ManualTasks
) -> None:
    def execute(parent: Command) -> None:
        parent.start_task("copy")
        children.append(parent.run_child(Child(does="starts")).command_id)

    children: list[str] = []
    script["execute"] = execute
    with new_engine() as engine:
        parent = engine.run(Long())
    own, childs = tasks.known
    with new_engine(manager=LockManager()) as restarted:
        tasks.end(childs)
        assert restarted.wait(children[0], timeout=10).state == "succeeded"
        left = {row.key for row in restarted.manager.owned_by(parent.command_id)}
        assert left == {("VM", "web"), ("POOL", "p1")}
        tasks.end(own)
        assert restarted.wait(parent.command_id, timeout=10).state == "succeeded"
        assert len(restarted.manager) == 0
