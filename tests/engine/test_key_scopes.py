"""Some keys of a command end with `execute`, others with its tasks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from engine_commands import Scripted, start_one_task
from engine_support import ManualTasks

from lockcore import LockManager, Mode
from lockcore.engine import Command, Engine, Scope, exclusive, locks, shared
from support import eventually

Script = dict[str, Callable[[Any], Any]]


@locks(
    exclusive("VM", "vm", message="VM_MOVES"),
    exclusive("HOST", "host", scope=Scope.EXECUTION),
    exclusive("POOL", "pool", scope=Scope.EXECUTION),
    shared("POOL", "pool"),
    scope=Scope.COMMAND,
)
class Move(Scripted):
    """Keeps the VM, frees the host early, and needs the pool only shared in the end."""

    vm: str = "web"
    host: str = "h1"
    pool: str = "p1"


def held(manager: LockManager) -> list[tuple[Any, Mode]]:
    return sorted({(row.key, row.mode) for row in manager.snapshot()})


ALL = [(("HOST", "h1"), "exclusive"), (("POOL", "p1"), "exclusive"), (("VM", "web"), "exclusive")]
LONG = [(("POOL", "p1"), "shared"), (("VM", "web"), "exclusive")]


def test_keys_of_scope_execution_go_when_execute_ends(
    engine: Engine, manager: LockManager, script: Script, tasks: ManualTasks
) -> None:
    seen: list[Any] = []

    def execute(command: Command) -> None:
        seen.append(held(manager))
        start_one_task(command)

    script["execute"] = execute
    result = engine.run(Move())
    assert (seen, held(manager)) == ([ALL], LONG)
    assert manager.holders(("VM", "web"))[0].message == "VM_MOVES"
    tasks.end_all()
    assert engine.wait(result.command_id, timeout=10).state == "succeeded"
    assert len(manager) == 0


def test_all_keys_go_when_there_are_no_tasks(
    engine: Engine, manager: LockManager, script: Script
) -> None:
    assert engine.run(Move()).state == "succeeded"
    assert len(manager) == 0


def test_only_the_kept_keys_are_taken_again_after_a_restart(
    new_engine: Callable[..., Engine], script: Script, tasks: ManualTasks
) -> None:
    script["execute"] = start_one_task
    with new_engine() as engine:
        engine.run(Move())
    with new_engine(manager=LockManager()) as restarted:
        assert held(restarted.manager) == LONG
        tasks.end_all()
        eventually(lambda: len(restarted.manager) == 0)


def test_kept_keys_are_never_free_in_between(
    engine: Engine, manager: LockManager, script: Script
) -> None:
    """Somebody who waits for all of them gets none of them."""
    script["execute"] = start_one_task
    engine.run(Move())
    assert manager.try_acquire(exclusive=[("HOST", "h1")]) is not None
    assert manager.try_acquire(shared=[("POOL", "p1")]) is not None
    assert manager.try_acquire(shared=[("VM", "web")]) is None
    assert manager.try_acquire(exclusive=[("POOL", "p1")]) is None


def test_keys_that_a_method_returns_have_the_scope_of_the_command(
    engine: Engine, manager: LockManager, script: Script
) -> None:
    @locks(exclusive("HOST", "host", scope=Scope.EXECUTION), scope=Scope.COMMAND)
    class More(Scripted):
        host: str = "h1"

        def exclusive_locks(self) -> list[str]:
            return ["extra"]

    script["execute"] = start_one_task
    engine.run(More())
    assert held(manager) == [("extra", "exclusive")]


def test_command_whose_keys_all_have_a_scope_needs_none(
    engine: Engine, manager: LockManager, script: Script
) -> None:
    @locks(exclusive("VM", "vm", scope="command"), shared("HOST", "host", scope="execution"))
    class Scoped(Scripted):
        vm: str = "web"
        host: str = "h1"

    script["execute"] = start_one_task
    engine.run(Scoped())
    assert held(manager) == [(("VM", "web"), "exclusive")]


def test_one_key_without_any_scope_is_refused() -> None:
    with pytest.raises(TypeError, match="Scoped declares keys but has no scope"):

        @locks(exclusive("VM", "vm", scope=Scope.COMMAND), shared("HOST", "vm"))
        class Scoped(Command):
            vm: str


def test_unknown_scope_of_a_key_is_refused() -> None:
    with pytest.raises(ValueError, match="'forever' is not a valid Scope"):
        exclusive("VM", "vm", scope="forever")


def test_key_of_scope_command_on_a_function_is_refused() -> None:
    with pytest.raises(TypeError, match="cannot have scope command"):

        @locks(exclusive("VM", "vm", scope=Scope.COMMAND))
        def start(vm: str) -> None: ...


def test_locks_released_by_an_operator_meanwhile_are_not_missed(
    engine: Engine, manager: LockManager, script: Script, tasks: ManualTasks
) -> None:
    def execute(command: Command) -> None:
        start_one_task(command)
        manager.force_release(("VM", "web"))
        manager.acquire(exclusive=[("VM", "web")], owner="operator")

    script["execute"] = execute
    result = engine.run(Move())
    tasks.end_all()
    assert engine.wait(result.command_id, timeout=10).state == "succeeded"
    assert [row.owner for row in manager.snapshot()] == ["operator"]
