"""The store: which commands have tasks, which locks they hold, how they ended. In a database."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from lockcore._types import Message
from lockcore.engine._codec import dump_keys, dump_message, load_keys, load_message
from lockcore.engine._command import LockRequest, class_name, command_name
from lockcore.engine._database import Database, Values, Work
from lockcore.engine._result import CommandState

__all__ = ["Store", "StoredCommand", "StoredOutcome", "StoredTask"]

_OUTCOMES_KEPT: Final = 10_000

# Every statement may be executed again, when it is not known whether it has been committed.
_ADD_COMMAND: Final = """
    INSERT INTO {prefix}command
    (command_id, sequence, type, parameters, owner, parent_id, locks, is_executed, has_failed,
     correlation_id, failure)
    VALUES (:command_id, :sequence, :type, :parameters, :owner, :parent_id, :locks, :is_executed,
            :has_failed, :correlation_id, :failure)
    ON CONFLICT (command_id) DO NOTHING
"""
_ADD_TASK: Final = """
    INSERT INTO {prefix}task (task_id, command_id, spec) VALUES (:task_id, :command_id, :spec)
    ON CONFLICT (task_id) DO NOTHING
"""
_DROP_COMMAND: Final = "DELETE FROM {prefix}command WHERE command_id = :command_id"
_DROP_TASK: Final = "DELETE FROM {prefix}task WHERE task_id = :task_id"
_END_EXECUTION: Final = """
    UPDATE {prefix}command
    SET is_executed = :is_executed, locks = :locks, failure = :failure
    WHERE command_id = :command_id
"""
_FAIL_PARENT: Final = """
    UPDATE {prefix}command SET has_failed = 1 WHERE command_id = :failed_parent_id
"""
_ADD_OUTCOME: Final = """
    INSERT INTO {prefix}outcome
    (command_id, type, state, messages, correlation_id, failed_parent_id)
    VALUES (:command_id, :type, :state, :messages, :correlation_id, :failed_parent_id)
    ON CONFLICT (command_id) DO UPDATE SET state = excluded.state, messages = excluded.messages
"""
_DROP_OLD_OUTCOMES: Final = """
    DELETE FROM {prefix}outcome
    WHERE sequence <= (SELECT max(sequence) FROM {prefix}outcome) - :kept
"""
_OUTCOME: Final = """
    SELECT type, state, messages, correlation_id FROM {prefix}outcome
    WHERE command_id = :command_id
"""
_COMMANDS: Final = """
    SELECT command_id, sequence, type, parameters, owner, parent_id, locks, is_executed,
           has_failed, correlation_id, failure
    FROM {prefix}command ORDER BY sequence
"""
_FAILED_CHILDREN: Final = """
    SELECT outcome.failed_parent_id, outcome.command_id, outcome.type, outcome.correlation_id
    FROM {prefix}outcome AS outcome
    JOIN {prefix}command AS parent ON parent.command_id = outcome.failed_parent_id
    ORDER BY outcome.sequence
"""
_IS_TASK: Final = "SELECT 1 FROM {prefix}task WHERE task_id = :task_id"
_TASKS: Final = "SELECT command_id, task_id, spec FROM {prefix}task ORDER BY sequence"


@dataclass(slots=True)
class StoredTask:
    """A row of a task."""

    task_id: str
    spec: str


@dataclass(slots=True)
class StoredCommand:
    """A command with what is needed to rebuild it, and the locks that it holds.

    Attributes:
        failure: What `execute` has raised; None as well if it was cut off.
    """

    command_id: str
    sequence: int
    type: str
    parameters: str
    owner: str
    parent_id: str | None
    locks: LockRequest
    is_executed: bool = False
    has_failed: bool = False
    correlation_id: str | None = None
    failure: str | None = None


@dataclass(frozen=True, slots=True)
class StoredOutcome:
    """How a command has ended.

    Attributes:
        failed_parent_id: The parent that must end with failure because of it.
        is_committed: Whether it was put into the store together with what the end action wrote.
    """

    command_id: str
    type: str
    state: CommandState
    messages: tuple[str | Message, ...]
    correlation_id: str | None = None
    failed_parent_id: str | None = None
    is_committed: bool = False


class Store:
    """Reads and writes the rows. Every writing call is one durable transaction.

    May be called from any thread. Every call raises StoreError if the database fails; what it was
    to write is then not written.

    Args:
        database: Where the rows are. The store closes it.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self.transaction = database.transaction
        self.was_committed = database.was_committed
        self.check = database.check
        self.close = database.close

    def add(
        self,
        commands: Sequence[StoredCommand],
        command_id: str,
        task: StoredTask | None,
        within: Work | None = None,
    ) -> None:
        """Stores commands, parents first, and a task of one of them.

        Args:
            commands: Those of the line that are not stored yet.
            command_id: Whose task it is.
            task: The task, None if only the commands are to be stored.
            within: The transaction that this is part of, begun by `transaction`.
        """
        rows = [_command_values(row) for row in commands]
        tasks = [] if task is None else [_task_values(task, command_id)]

        def insert(work: Work) -> None:
            work.execute(_ADD_COMMAND, rows)
            work.execute(_ADD_TASK, tasks)

        def delete(work: Work) -> None:
            work.execute(_DROP_TASK, tasks)
            work.execute(_DROP_COMMAND, rows)

        if within is None:
            self._database.write(insert, delete)
        else:
            insert(within)
            if tasks:
                within.evidence = _IS_TASK, tasks[0]

    def drop_tasks(self, task_ids: Sequence[str]) -> None:
        """Deletes tasks that the back end has forgotten, or that have not started."""
        rows = [{"task_id": task_id} for task_id in task_ids]
        self._database.write(lambda work: work.execute(_DROP_TASK, rows))

    def end_execution(
        self, command_id: str, *, is_executed: bool, locks: LockRequest, failure: str | None = None
    ) -> None:
        """Notes that `execute` has ended, whether well, if not why, and which locks it leaves."""
        row = {
            "command_id": command_id,
            "is_executed": int(is_executed),
            "locks": _dump_locks(locks),
            "failure": _dump_failure(failure),
        }
        self._database.write(lambda work: work.execute(_END_EXECUTION, [row]))

    def end(
        self,
        outcomes: Sequence[StoredOutcome],
        forgotten: Sequence[str] = (),
        within: Work | None = None,
    ) -> None:
        """Replaces commands by their outcomes and notes failures in their parents.

        Their tasks stay, as a note that the back end has to forget them, until an id is among
        those that it has `forgotten`, or is given to `drop_tasks`. No outcome may be of a parent of
        another one.
        """
        rows = [_outcome_values(outcome) for outcome in outcomes]
        failed = [row for row in rows if row["failed_parent_id"] is not None]
        tasks = [{"task_id": task_id} for task_id in forgotten]

        def replace(work: Work) -> None:
            work.execute(_FAIL_PARENT, failed)
            work.execute(_DROP_COMMAND, rows)
            work.execute(_ADD_OUTCOME, rows)
            work.execute(_DROP_TASK, tasks)
            work.execute(_DROP_OLD_OUTCOMES, [{"kept": _OUTCOMES_KEPT}])

        if within is None:
            self._database.write(replace)
        else:
            replace(within)
            within.evidence = _OUTCOME, rows[0]

    def outcome(self, command_id: str) -> StoredOutcome | None:
        """How a command has ended; None if it has not, or is not known, or not any more."""
        for type_name, state, messages, correlation_id in self._database.read(
            _OUTCOME, {"command_id": command_id}
        ):
            loaded = (load_message(message) for message in json.loads(messages))
            return StoredOutcome(
                command_id,
                type_name,
                CommandState(state),
                tuple(message for message in loaded if message is not None),
                correlation_id,
            )
        return None

    def commands(self) -> list[StoredCommand]:
        """All commands that have not ended, in the order in which they took their locks."""
        return [
            StoredCommand(
                command_id,
                sequence,
                type_name,
                parameters,
                owner,
                parent_id,
                _load_locks(locks),
                bool(is_executed),
                bool(has_failed),
                correlation_id,
                None if failure is None else json.loads(failure),
            )
            for (
                command_id,
                sequence,
                type_name,
                parameters,
                owner,
                parent_id,
                locks,
                is_executed,
                has_failed,
                correlation_id,
                failure,
            ) in self._database.read(_COMMANDS, {})
        ]

    def failed_children(self) -> dict[str, list[str]]:
        """By parent that has not ended, the names of its children whose failures are its own."""
        found: dict[str, list[str]] = {}
        for parent_id, command_id, type_name, correlation_id in self._database.read(
            _FAILED_CHILDREN, {}
        ):
            name = command_name(class_name(type_name), command_id, correlation_id)
            found.setdefault(parent_id, []).append(name)
        return found

    def tasks(self) -> dict[str, list[StoredTask]]:
        """All tasks by the id of their command, in the order of their start."""
        found: dict[str, list[StoredTask]] = {}
        for command_id, task_id, spec in self._database.read(_TASKS, {}):
            found.setdefault(command_id, []).append(StoredTask(task_id, spec))
        return found


def _command_values(row: StoredCommand) -> Values:
    return {
        "command_id": row.command_id,
        "sequence": row.sequence,
        "type": row.type,
        "parameters": row.parameters,
        "owner": row.owner,
        "parent_id": row.parent_id,
        "locks": _dump_locks(row.locks),
        "is_executed": int(row.is_executed),
        "has_failed": int(row.has_failed),
        "correlation_id": row.correlation_id,
        "failure": _dump_failure(row.failure),
    }


def _dump_failure(failure: str | None) -> str | None:
    return None if failure is None else json.dumps(failure)  # which escapes what no database takes


def _task_values(task: StoredTask, command_id: str) -> Values:
    return {"task_id": task.task_id, "command_id": command_id, "spec": task.spec}


def _outcome_values(outcome: StoredOutcome) -> Values:
    return {
        "command_id": outcome.command_id,
        "type": outcome.type,
        "state": outcome.state.value,
        "messages": json.dumps([dump_message(message) for message in outcome.messages]),
        "correlation_id": outcome.correlation_id,
        "failed_parent_id": outcome.failed_parent_id,
    }


def _dump_locks(locks: LockRequest) -> str | None:
    if not locks:
        return None
    return json.dumps({"exclusive": dump_keys(locks.exclusive), "shared": dump_keys(locks.shared)})


def _load_locks(text: str | None) -> LockRequest:
    if text is None:
        return LockRequest({}, {})
    rows = json.loads(text)
    return LockRequest(load_keys(rows["exclusive"]), load_keys(rows["shared"]))
