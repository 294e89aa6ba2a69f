"""What an engine tells its callers: results of commands, the recovery report, errors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from lockcore._errors import DeadlockError, LockConflictError, json_message, json_text
from lockcore._messages import MessageCatalog
from lockcore._types import Holder, Message, Waiter
from lockcore.engine._tasks import Task, TaskState

__all__ = [
    "CommandResult",
    "CommandState",
    "EngineClosedError",
    "EngineError",
    "EngineRecoveringError",
    "RecoveryReport",
    "StoreError",
    "UnknownCommandError",
]


class CommandState(StrEnum):
    """How far a command has come. All but `RUNNING` are final."""

    REFUSED = "refused"
    FAILED = "failed"
    RUNNING = "running"
    SUCCEEDED = "succeeded"


@dataclass(frozen=True, slots=True)
class CommandResult:
    """How a command stands.

    Attributes:
        command_id: The id of the command; it owned the locks.
        state: `"refused"`: not executed, because of its locks or of `validate`. `"failed"`,
            `"succeeded"`: at its end, its locks gone. `"running"`: executed, its tasks under way.
        messages: Why it was refused or has failed: what the holders in the way attached to their
            locks, what `validate` returned, or the text of an error.
        blockers: Who held the locks; empty if it was not refused because of them.
        conflict: The error of the lock manager, None if it was not refused because of locks. A
            DeadlockError if waiting for them could never have ended.
        correlation_id: What `Engine.run` was given to recognise the command by.
        tasks: What `Engine.status` has found of the tasks of a running command; else empty.
    """

    command_id: str
    state: CommandState
    messages: tuple[str | Message, ...] = ()
    conflict: LockConflictError | DeadlockError | None = None
    correlation_id: str | None = None
    tasks: tuple[Task, ...] = ()

    @property
    def blockers(self) -> tuple[Holder | Waiter, ...]:
        return () if self.conflict is None else self.conflict.blockers

    @property
    def progress(self) -> float | None:
        """The mean part of its tasks that is done, from 0 to 1; None if no task has said."""
        parts = [_part_done(task) for task in self.tasks]
        known = [part for part in parts if part is not None]
        return sum(known) / len(parts) if known else None

    def to_dict(
        self, catalog: MessageCatalog | None = None, /, locale: str | None = None, **variables: Any
    ) -> dict[str, Any]:
        """Everything as JSON-able values: the body of an HTTP answer, with status 409 if refused.

        Keys `(group, id)` are lists, UUIDs text, bytes hexadecimal text. `sentences` has what
        `explain` returns for these arguments; `request` and `blockers` are None and empty if locks
        were not the reason; a deadlock has a `cycle`, too.
        """
        no_conflict: dict[str, Any] = {"request": None, "blockers": []}
        return {
            "command_id": self.command_id,
            "correlation_id": self.correlation_id,
            "state": str(self.state),
            "messages": [json_message(message) for message in self.messages],
            "sentences": [json_text(text) for text in self.explain(catalog, locale, **variables)],
            **(no_conflict if self.conflict is None else self.conflict.to_dict()),
            "progress": self.progress,
            "tasks": [_json_task(task) for task in self.tasks],
        }

    def explain(
        self, catalog: MessageCatalog | None = None, /, locale: str | None = None, **variables: Any
    ) -> list[str]:
        """Says why in sentences, one for each reason.

        The arguments are those of `LockConflictError.explain`. A message that the catalogue does
        not know is given as it is.
        """
        if self.conflict is not None:
            return self.conflict.explain(catalog, locale, **variables)
        sentences = []
        for message in self.messages:
            found = catalog.translate(message, locale, **variables) if catalog else None
            sentences.append(str(message) if found is None else found)
        return sentences


def _part_done(task: Task) -> float | None:
    if task.status is None or task.status.state is not TaskState.RUNNING:
        return 1.0
    return task.status.progress


def _json_task(task: Task) -> dict[str, Any]:
    row: dict[str, Any] = {"task_id": task.task_id, "spec": json_text(task.spec)}
    if task.status is None:
        return {**row, "state": None, "detail": "", "progress": None}
    status = task.status
    return {
        **row,
        "state": str(status.state),
        "detail": json_text(status.detail),
        "progress": status.progress,
    }


@dataclass(frozen=True, slots=True)
class RecoveryReport:
    """Which stored command went which way when an engine was opened.

    Attributes:
        resumed: Commands with live tasks; they hold their locks and are followed to their end.
        ended: Commands whose tasks had ended meanwhile; their end action has run.
        cleaned: Commands with a task that the back end no longer knows; they ended with failure.
        unknown_tasks: Tasks that the back end knows and the store does not; they have no lock.
        set_aside: Commands that could not be rebuilt or whose locks others held. Nothing is done
            with them until the next start; those with an unknown class keep their locks.
        details: For each id above a text that says more.
    """

    resumed: tuple[str, ...] = ()
    ended: tuple[str, ...] = ()
    cleaned: tuple[str, ...] = ()
    unknown_tasks: tuple[str, ...] = ()
    set_aside: tuple[str, ...] = ()
    details: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        groups = (
            ("resumed", self.resumed),
            ("ended", self.ended),
            ("cleaned", self.cleaned),
            ("unknown task", self.unknown_tasks),
            ("set aside", self.set_aside),
        )
        lines = [f"{word} {id}: {self.details.get(id, '')}" for word, ids in groups for id in ids]
        return "\n".join(lines) or "nothing to recover"


class EngineError(RuntimeError):
    """The base of the errors of the engine itself."""


class EngineClosedError(EngineError):
    """The engine is not open, not yet or not any more."""


class EngineRecoveringError(EngineClosedError):
    """The engine is not open yet: it recovers. Only if it was made so as not to let wait."""


class StoreError(EngineError):
    """The store cannot be used: in use, not a store, from a newer lockcore, or its database failed.

    What was to be stored is not, or will be undone.
    """


class UnknownCommandError(EngineError, LookupError):
    """The engine has never known this command, or has forgotten it."""
