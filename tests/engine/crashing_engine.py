"""An engine that kills itself at a chosen instant: `crashing_engine.py DIRECTORY INSTANT`.

Its store is what the environment variable LOCKCORE_TEST_STORE says.
It works in DIRECTORY, says what its recovery has found, then answers requests line by line.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, ClassVar

from lockcore.engine import (
    Command,
    CommandResult,
    Engine,
    ProcessTasks,
    Scope,
    TaskBackend,
    TaskStatus,
    exclusive,
    locks,
)
from lockcore.engine._store import Store

DIRECTORY, INSTANT = sys.argv[1:]
STORE = os.environ.get("LOCKCORE_TEST_STORE", "sqlite:///engine.db")
WAITS_AT_MOST = 30.0

# Says that it runs, then waits for the file `go`, but not for ever.
TASK = """
import os, sys, time
open("task-is-running", "w").close()
deadline = time.monotonic() + 30
while not os.path.exists("go") and time.monotonic() < deadline:
    time.sleep(0.002)
"""


def now(instant: str) -> None:
    """Dies if this is the chosen instant."""
    if instant == INSTANT:
        os.kill(os.getpid(), signal.SIGKILL)


class DyingTasks(ProcessTasks):
    """Dies around its calls."""

    def start(self, task_id: str, arguments: Sequence[Any], /) -> None:
        now("before the task starts")
        super().start(task_id, arguments)
        now("after the task has started")

    def status(self, task_ids: Iterable[str] | None = None, /) -> dict[str, TaskStatus]:
        if task_ids is None:
            now("when the tasks are listed")
        return super().status(task_ids)

    def stop(self, task_id: str, /) -> None:
        now("before the task is stopped")
        super().stop(task_id)

    def forget(self, task_id: str, /) -> None:
        now("before the task is forgotten")
        super().forget(task_id)
        now("after the task is forgotten")


@locks(exclusive("VM", "vm", message="VM_IS_COPIED"), scope=Scope.COMMAND)
class Copy(Command):
    """Starts one task, and notes in files which end actions have run."""

    task: ClassVar[tuple[Any, ...]] = ([sys.executable, "-c", TASK],)
    vm: str = "web"

    def __post_init__(self) -> None:
        now("when the command is made")

    def execute(self) -> None:
        self.start_task(*self.task)
        now("in execute")

    def end_successfully(self) -> None:
        self._end("succeeded")

    def end_with_failure(self) -> None:
        self._end("failed")

    def _end(self, how: str) -> None:
        now("before the end action")
        with Path("end-actions").open("a", encoding="utf-8") as file:
            file.write(how + "\n")
        now("after the end action")


class Enter(Copy):
    """Writes into a table of its own what it begins, and how it ends."""

    def execute(self) -> None:
        with self.transaction() as connection:
            enter(connection, "begun")
            self.start_task(*self.task)
            now("before the transaction is committed")
        now("in execute")

    def _end(self, how: str) -> None:
        with self.transaction() as connection:
            enter(connection, how)
            now("in the transaction of the end action")
        super()._end(how)


def enter(connection: Any, what: str) -> None:
    execute = getattr(connection, "exec_driver_sql", None) or connection.execute
    execute("CREATE TABLE IF NOT EXISTS entries (what TEXT)")
    execute(f"INSERT INTO entries VALUES ('{what}')")


def dying_end(end: Callable[..., None]) -> Callable[..., None]:
    def wrapped(*args: Any) -> None:
        end(*args)
        is_committed = len(args) < 4  # else it is part of a transaction
        if is_committed:
            now("after the outcome is committed")

    return wrapped


def serve(tasks: TaskBackend) -> None:
    """Opens an engine in the working directory, and answers."""
    Store.end = dying_end(Store.end)  # type: ignore[method-assign]
    engine = Engine(store=STORE, tasks=tasks, poll_interval=0.002, retry_delay=0.002)
    with engine:
        report = engine.recovery
        answer(
            {
                name: found
                for name in ("resumed", "ended", "cleaned", "unknown_tasks", "set_aside")
                if (found := getattr(report, name))
            }
        )
        for line in sys.stdin:
            request, _, argument = line.strip().partition(" ")
            if request in ("run", "enter"):
                answer(described(engine.run(Copy() if request == "run" else Enter())))
            elif request == "wait":
                answer(described(engine.wait(argument, timeout=WAITS_AT_MOST)))
            elif request == "locks":
                answer([[row.key, row.mode, row.message] for row in engine.manager.snapshot()])


def described(result: CommandResult) -> dict[str, Any]:
    return {"command_id": result.command_id, "state": result.state}


def answer(value: Any) -> None:
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    os.chdir(DIRECTORY)
    serve(DyingTasks("tasks", grace=0.5))
