"""What the killed engines run: commands that write down each of their steps.

They write into a ledger, a file that only grows and that nobody of lockcore reads or writes. Their
tasks are real programs, which write their own lines. What the lines must say is in
`kill_ledger.py`.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

from lockcore.engine import Command, Scope, exclusive, locks, shared

PROGRAM = """
trap 'printf "%s\\n" "$4" >> "$1"; exit 1' TERM
printf "%s\\n" "$2" >> "$1"
sleep "$5" & wait $!
printf "%s\\n" "$3" >> "$1"
exit "$6"
"""
"""Says that it runs, sleeps, says that it has ended, or that it was stopped."""


class Ledger:
    """Appends lines, each durably."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def note(self, event: str, **what: Any) -> None:
        os.write(self._file, (line(event, **what) + "\n").encode())
        os.fsync(self._file)

    def close(self) -> None:
        os.close(self._file)


def line(event: str, **what: Any) -> str:
    return json.dumps({"event": event, **what})


Keys = dict[str, str]
"""Key as text to mode."""


class Noted(Command):
    """Writes down what it does. A subclass says which locks must protect what."""

    n_tasks: int = 1
    seconds: float = 0.0
    trouble: str = ""

    ledger: ClassVar[Ledger]
    has_raised: ClassVar[set[str]] = set()

    def all_keys(self) -> Keys:
        """What must be held during `execute`."""
        return self.long_keys()

    def long_keys(self) -> Keys:
        """What must be held until the end action has run."""
        raise NotImplementedError

    def note(self, event: str, **what: Any) -> None:
        owner = self._run.owner  # type: ignore[union-attr]
        self.ledger.note(event, command=self.command_id, owner=owner, **what)

    def validate(self) -> Iterator[str]:
        if self.trouble == "validate":
            yield "not like this"

    def execute(self) -> Any:
        self.note("execute", keys=self.all_keys(), tasks=self.n_tasks, trouble=self.trouble)
        for number in range(self.n_tasks):
            self.start_program(number)
        self.begun()
        self.note("executed")
        if self.trouble == "execute":
            raise OSError("execute broke")

    def begun(self) -> None:
        """Between the tasks and the end of `execute`."""

    def start_program(self, number: int) -> None:
        owner = self._run.owner  # type: ignore[union-attr]
        status = int(self.trouble == "task" and number == 0)
        what = {"command": self.command_id, "owner": owner, "number": number}
        self.start_task(
            [
                *("sh", "-c", PROGRAM, "sh", str(self.ledger.path)),
                line("task", **what, keys=self.long_keys()),
                line("task-ended", **what, status=status),
                line("task-ended", **what, status="stopped"),
                f"{self.seconds:.3f}",
                str(status),
            ]
        )

    def end_successfully(self) -> None:
        self.end("succeeded")

    def end_with_failure(self) -> None:
        self.end("failed")

    def end(self, how: str) -> None:
        self.note("end", how=how, keys=self.long_keys())
        if self.trouble == "end" and self.command_id not in self.has_raised:
            self.has_raised.add(self.command_id)
            self.note("end-raised")
            raise OSError("the end action broke")
        self.note("end-left", how=how)


@locks(exclusive("VM", "vm"), shared("POOL", "pool"), scope=Scope.COMMAND)
class Long(Noted):
    vm: str
    pool: str

    def long_keys(self) -> Keys:
        return {f"VM {self.vm}": "exclusive", f"POOL {self.pool}": "shared"}


@locks(exclusive("POOL", "pool", message="POOL_IS_RECONSTRUCTED"), scope=Scope.COMMAND)
class Reconstruct(Noted):
    pool: str

    def long_keys(self) -> Keys:
        return {f"POOL {self.pool}": "exclusive"}


@locks(exclusive("HOST", "host"), scope=Scope.EXECUTION)
class Short(Noted):
    """Its tasks run without locks."""

    host: str

    def all_keys(self) -> Keys:
        return {f"HOST {self.host}": "exclusive"}

    def long_keys(self) -> Keys:
        return {}


@locks(
    exclusive("VM", "vm"),
    exclusive("HOST", "host", scope=Scope.EXECUTION),
    exclusive("POOL", "pool", scope=Scope.EXECUTION),
    shared("POOL", "pool"),
    scope=Scope.COMMAND,
)
class Move(Noted):
    """Frees one key early and keeps another one shared only."""

    vm: str
    host: str
    pool: str

    def all_keys(self) -> Keys:
        return {
            f"VM {self.vm}": "exclusive",
            f"HOST {self.host}": "exclusive",
            f"POOL {self.pool}": "exclusive",
        }

    def long_keys(self) -> Keys:
        return {f"VM {self.vm}": "exclusive", f"POOL {self.pool}": "shared"}


class Careful(Long):
    """Is stored before it is executed, tasks or not."""

    def compensate(self) -> None:
        self.note("compensate")


@locks(exclusive("DISK", "disk"), exclusive("VM", "vm"), scope=Scope.COMMAND)
class Part(Noted):
    """A child, which wants a key of its parent, too."""

    disk: str
    vm: str

    def long_keys(self) -> Keys:
        return {f"DISK {self.disk}": "exclusive", f"VM {self.vm}": "exclusive"}


class Parent(Long):
    """Has a task itself, or not, and a child, which may go wrong."""

    child_trouble: str = ""

    def begun(self) -> None:
        child = Part(
            disk=self.vm, vm=self.vm, n_tasks=1, seconds=self.seconds, trouble=self.child_trouble
        )
        result = self.run_child(child)
        self.note("child", child=result.command_id, state=result.state)


@locks(exclusive("VM", "vm"), scope=Scope.COMMAND)
class Awaited(Noted):
    vm: str

    def long_keys(self) -> Keys:
        return {f"VM {self.vm}": "exclusive"}

    async def execute(self) -> None:
        await asyncio.sleep(0)
        super().execute()
        await asyncio.sleep(0)


def any_command(choose: random.Random) -> Noted:
    """One of all kinds, on few entities."""
    vm, pool, host = (f"{choose.randrange(n)}" for n in (8, 3, 3))
    trouble = choose.choice(["", "", "", "", "task", "execute", "end", "validate"])
    common: dict[str, Any] = {
        "n_tasks": choose.choice([0, 1, 1, 2]),
        "seconds": choose.uniform(0.0, 0.2),
        "trouble": trouble,
    }
    match choose.randrange(8):
        case 0 | 1:
            return Long(vm=vm, pool=pool, **common)
        case 2:
            return Reconstruct(pool=pool, **common)
        case 3:
            return Short(host=host, **common)
        case 4:
            return Move(vm=vm, host=host, pool=pool, **common)
        case 5:
            return Careful(vm=vm, pool=pool, **common)
        case 6:
            child_trouble = choose.choice(["", "", "task", "execute", "end"])
            return Parent(vm=vm, pool=pool, child_trouble=child_trouble, **common)
        case _:
            return Awaited(vm=vm, **common)


def one_of_each() -> list[Noted]:
    """Commands that go through everything, each in a way of its own, on the same few entities."""
    return [
        Long(vm="0", pool="0", n_tasks=2),
        Long(vm="0", pool="0", trouble="task"),
        Long(vm="0", pool="0", trouble="execute", seconds=0.1),
        Move(vm="0", host="0", pool="0"),
        Short(host="0"),
        Careful(vm="0", pool="0", n_tasks=0),
        Careful(vm="0", pool="0", n_tasks=0, trouble="execute"),
        Careful(vm="0", pool="0", trouble="task"),
        Parent(vm="0", pool="0", n_tasks=0),
        Parent(vm="0", pool="0", child_trouble="task"),
        Parent(vm="0", pool="0", trouble="execute", seconds=0.1),
        Long(vm="0", pool="0", trouble="end"),
        Awaited(vm="0"),
    ]
