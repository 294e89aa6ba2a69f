"""What an engine does before it opens: takes up every stored command where it was left."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field

from lockcore._errors import LockConflictError
from lockcore._manager import Grant
from lockcore._types import Owner
from lockcore.engine._codec import load_parameters
from lockcore.engine._command import Command, CommandTypes
from lockcore.engine._result import CommandState, EngineError, RecoveryReport
from lockcore.engine._run import CommandRun
from lockcore.engine._services import Services, SetAside
from lockcore.engine._store import StoredCommand, StoredTask
from lockcore.engine._tasks import Task, TaskStatus

__all__ = ["recover"]

log = logging.getLogger("lockcore.engine")


def recover(services: Services, types: CommandTypes) -> RecoveryReport:
    """Takes the stored locks again and brings every command as far as it can be brought.

    Nothing stored is changed until all locks are held. Only ends of commands change it then, each
    in one transaction, so that a recovery that is killed is simply done again.

    The ender must not have been started: end actions run in this thread.
    """
    recovery = _Recovery(services, types)
    recovery.take_locks()
    recovery.rebuild()
    recovery.follow()
    return recovery.report()


@dataclass
class _Recovery:
    services: Services
    types: CommandTypes
    rows: list[StoredCommand] = field(init=False)
    tasks: dict[str, list[StoredTask]] = field(init=False)
    failed_children: dict[str, list[str]] = field(init=False)
    known: dict[str, TaskStatus] = field(init=False)
    left_owners: set[Owner | None] = field(init=False)
    grants: dict[str, Grant] = field(default_factory=dict)
    runs: dict[str, CommandRun] = field(default_factory=dict)
    set_aside: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        backend = self.services.backend
        self.rows = self.services.store.commands()
        self.tasks = self.services.store.tasks()
        self.failed_children = self.services.store.failed_children()
        if self.tasks and backend is None:
            # Not to be taken for tasks that the back end does not know.
            raise EngineError("the store has commands with tasks: the engine needs tasks=")
        self.known = {} if backend is None else backend.status()
        # By an engine of this process that was closed while tasks ran.
        self.left_owners = {row.owner for row in self.services.manager.snapshot()}
        self.services.sequence = max((row.sequence for row in self.rows), default=0)

    def take_locks(self) -> None:
        """Acquires each command's stored locks, in the order in which they were first taken."""
        for row in self.rows:
            if not row.locks:
                continue
            try:
                self.grants[row.command_id] = self.services.manager.acquire(
                    exclusive=row.locks.exclusive,
                    shared=row.locks.shared,
                    owner=row.owner,
                    timeout=0,
                )
            except LockConflictError as error:
                self.set_aside[row.command_id] = str(error).partition("\n")[0]

    def rebuild(self) -> None:
        """Makes the commands again. What cannot be made keeps its locks."""
        for row in self.rows:
            if row.command_id in self.set_aside:
                continue
            try:
                command = self._rebuilt(row)
            except (Exception, SystemExit) as error:  # noqa: BLE001 - of an imported module, too
                # No command may stop the engine from opening.
                self.set_aside[row.command_id] = f"cannot be rebuilt: {error}"
                continue
            parent = None if row.parent_id is None else self.runs.get(row.parent_id)
            run = CommandRun.recovered(
                self.services,
                row,
                command,
                grant=self.grants.get(row.command_id),
                has_left_grants=row.owner in self.left_owners and row.parent_id is None,
                parent=parent,
                tasks=[
                    Task(task.task_id, task.spec, self.known.get(task.task_id))
                    for task in self.tasks.get(row.command_id, ())
                ],
                failed_children=self.failed_children.get(row.command_id, ()),
            )
            self.runs[row.command_id] = run
            self.services.registry.began(run)
            if parent is not None:
                parent.adopt(row.command_id, run)
        for row in self.rows:
            if row.command_id not in self.set_aside:
                continue
            # A parent whose child cannot be dealt with waits, as it waits for any child.
            parent = None if row.parent_id is None else self.runs.get(row.parent_id)
            if parent is not None:
                parent.adopt(row.command_id, None)
            self._keep_aside(row, parent)

    def _keep_aside(self, row: StoredCommand, parent: CommandRun | None) -> None:
        """Lets operators see the tasks of a command that was set aside, and drop it."""
        id = row.command_id
        task_ids = [task.task_id for task in self.tasks.get(id, ())]
        if task_ids:
            self.set_aside[id] += f" (tasks {', '.join(task_ids)})"
        self.services.set_aside[id] = SetAside(
            row,
            self.set_aside[id],
            task_ids,
            child_ids=[other.command_id for other in self.rows if other.parent_id == id],
            grant=self.grants.get(id),
            has_left_grants=row.owner in self.left_owners and row.parent_id is None,
            parent=parent,
        )

    def _rebuilt(self, row: StoredCommand) -> Command:
        return self.types.find(row.type)(**load_parameters(row.parameters))

    def follow(self) -> None:
        """Stops what an interrupted execution has left, ends what can end, follows the rest."""
        for row in self.rows:
            if not row.is_executed and row.command_id in self.runs:
                self.runs[row.command_id].stop_tasks()
        for run in self.runs.values():
            run.follow()
        self.services.ender.drain()
        self._forget_ended()

    def _forget_ended(self) -> None:
        """Completes what was cut off between the end of a command and the end of its traces."""
        stored = {row.command_id for row in self.rows}
        left = [
            task.task_id
            for command_id, tasks in self.tasks.items()
            if command_id not in stored
            for task in tasks
        ]
        if left:
            self.services.ender.forget_tasks(left)

    def report(self) -> RecoveryReport:
        details = dict(self.set_aside)
        groups: dict[str, list[str]] = {"resumed": [], "ended": [], "cleaned": []}
        for command_id, run in self.runs.items():
            result = run.snapshot()
            if result.state is CommandState.RUNNING:
                group = "resumed"
            elif all(task.task_id in self.known for task in self.tasks.get(command_id, ())):
                group = "ended"
            else:
                group = "cleaned"
            groups[group].append(command_id)
            parts = (type(run.command).__name__, result.state, *result.messages)
            details[command_id] = ", ".join(map(str, parts))
        stored_tasks = {task.task_id for tasks in self.tasks.values() for task in tasks}
        unknown = sorted(self.known.keys() - stored_tasks)
        details.update((task_id, self.known[task_id].state) for task_id in unknown)
        for command_id, reason in self.set_aside.items():
            log.error("command %s is set aside: %s", command_id, reason)
        return RecoveryReport(
            resumed=tuple(groups["resumed"]),
            ended=tuple(groups["ended"]),
            cleaned=tuple(groups["cleaned"]),
            unknown_tasks=tuple(unknown),
            set_aside=tuple(self.set_aside),
            details=details,
        )
