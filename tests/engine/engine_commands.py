"""Commands that the tests of the engine run. What they do is put into the class for one test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import pytest

from lockcore.engine import Command, Scope, exclusive, locks, shared


class Scripted(Command):
    """Does what `script` says; `calls` are the methods that were called."""

    script: ClassVar[dict[str, Callable[[Any], Any]]] = {}
    calls: ClassVar[list[str]] = []

    def _play(self, method: str) -> Any:
        Scripted.calls.append(method)
        return Scripted.script.get(method, lambda command: None)(self)

    def validate(self) -> Any:
        return self._play("validate")

    def execute(self) -> None:
        self._play("execute")

    def end_successfully(self) -> None:
        self._play("end_successfully")

    def end_with_failure(self) -> None:
        self._play("end_with_failure")


@locks(
    exclusive("VM", "vm", message="VM_IS_USED"),
    shared("POOL", "pool", message="POOL_IS_USED"),
    scope=Scope.COMMAND,
)
class Long(Scripted):
    """Keeps its locks until it has ended."""

    vm: str = "web"
    pool: str = "p1"


@locks(exclusive("VM", "vm"), shared("POOL", "pool"), scope=Scope.EXECUTION)
class Short(Scripted):
    """Keeps its locks while it executes."""

    vm: str = "web"
    pool: str = "p1"


def start_one_task(command: Command) -> None:
    command.start_task("copy")


def start_two_tasks(command: Command) -> None:
    command.start_task("copy")
    command.start_task("check")


@pytest.fixture
def script() -> Iterator[dict[str, Callable[[Any], Any]]]:
    """What the scripted commands do, by method; each is called with the command."""
    Scripted.script = {}
    Scripted.calls = []
    yield Scripted.script
    Scripted.script = {}


@pytest.fixture
def calls(script: dict[str, Callable[[Any], Any]]) -> list[str]:
    """The methods of scripted commands that were called, in order."""
    return Scripted.calls
