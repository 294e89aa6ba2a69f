"""Ids, messages and parameters that nobody would choose, from `run` to the end in a next engine."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from typing import Any, ClassVar

import pytest
from engine_support import ManualTasks

from lockcore import LockManager
from lockcore.engine import Command, Engine, Message, Scope, exclusive, locks

NewEngine = Callable[..., Engine]

HUGE = 2**20_000  # more digits than Python makes text of

IDS = [
    "",
    "größer 🔒",
    "null \0 inside",
    "half a pair \ud800",
    "line\nend \u202e",
    "{vm} ${x} %s",
    "x" * 100_000,
    b"",
    bytes(range(256)),
    0,
    -HUGE,
    uuid.UUID(int=0),
]


def kind(value: Any) -> str:
    """Names a case. Pytest would make text of the number."""
    return type(value).__name__


@locks(exclusive("VM \0 größer", "vm", message=Message("IN_USE", who="{note}")), scope="command")
class Odd(Command):
    """Keeps what it was given, in keys, messages and parameters."""

    vm: str | bytes | int | uuid.UUID
    note: str = ""
    data: Any = None
    ended: ClassVar[list[Any]] = []

    def exclusive_locks(self) -> dict[Any, Any]:
        return {self.vm: self.note}

    def execute(self) -> None:
        self.start_task("copy")

    def end_successfully(self) -> None:
        Odd.ended.append((self.vm, self.note, self.data))


@pytest.mark.parametrize("id", IDS, ids=kind)
def test_odd_id_is_locked_refused_recovered_and_ended(
    new_engine: NewEngine, manager: LockManager, tasks: ManualTasks, id: Any
) -> None:
    Odd.ended = []
    note = id if isinstance(id, str) else "note"
    with new_engine() as engine:
        first = engine.run(Odd(vm=id, note=note))
        refused = engine.run(Odd(vm=id))
        assert (first.state, refused.state, len(refused.blockers)) == ("running", "refused", 2)
        assert json.dumps(refused.to_dict(), ensure_ascii=False, allow_nan=False).encode()
    with new_engine(manager=LockManager()) as restarted:
        held = [(row.key, row.mode, row.owner, row.message) for row in restarted.manager.snapshot()]
        assert held == [(row.key, row.mode, row.owner, row.message) for row in manager.snapshot()]
        tasks.end_all()
        assert restarted.wait(first.command_id, timeout=10).state == "succeeded"
    assert Odd.ended == [(id, note, None)]


@pytest.mark.parametrize(
    "data",
    ["x" * 5_000_000, [[[] for _ in range(100)] for _ in range(100)], {"k" * 1000: {1: (2,)}}],
    ids=kind,
)
def test_huge_parameter_comes_back_as_it_was(
    new_engine: NewEngine, tasks: ManualTasks, data: Any
) -> None:
    Odd.ended = []
    with new_engine() as engine:
        engine.run(Odd(vm="web", data=data))
    tasks.end_all()
    with new_engine(manager=LockManager()):
        assert Odd.ended == [("web", "", data)]


def test_command_with_thousands_of_keys_has_all_of_them_again(new_engine: NewEngine) -> None:
    @locks(scope=Scope.COMMAND)
    class Many(Command):
        n_keys: int

        def shared_locks(self) -> list[Any]:
            return [("DISK", number) for number in range(self.n_keys)]

        def execute(self) -> None:
            self.start_task("copy")

    with new_engine() as engine:
        engine.run(Many(n_keys=5000))
    with new_engine(manager=LockManager(), commands=[Many]) as restarted:
        assert len(restarted.manager) == 5000


@pytest.mark.parametrize("data", [object(), {1, 2}, float, [object()], 1j, bytearray(b"x")])
def test_parameter_without_a_stored_form_is_refused_and_locks_nothing(
    engine: Engine, manager: LockManager, data: Any
) -> None:
    with pytest.raises(TypeError, match=r"parameter data.* cannot be stored"):
        engine.run(Odd(vm="web", data=data))
    assert manager.statistics().acquired == 0


def test_parameter_that_contains_itself_is_refused_and_locks_nothing(
    engine: Engine, manager: LockManager
) -> None:
    data: list[Any] = []
    data.append(data)
    with pytest.raises(TypeError, match="nested too deeply"):
        engine.run(Odd(vm="web", data=data))
    assert manager.statistics().acquired == 0


def test_error_whose_text_is_odd_ends_its_command(engine: Engine, manager: LockManager) -> None:
    class Broken(Odd):
        def execute(self) -> None:
            super().execute()
            raise OSError(self.note)

    result = engine.run(Broken(vm="web", note="half a pair \ud800, null \0"))
    assert engine.wait(result.command_id, timeout=10).state == "failed"
    assert json.dumps(result.to_dict(), ensure_ascii=False).encode()
    assert len(manager) == 0
