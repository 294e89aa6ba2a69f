"""What a command begins while it is executed: tasks, stored with the command before they start."""

from __future__ import annotations

import functools
import logging
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

from lockcore.engine._command import LockRequest
from lockcore.engine._database import Doubt, Turns, Work
from lockcore.engine._progress import Progress
from lockcore.engine._services import Services
from lockcore.engine._store import Store, StoredCommand, StoredOutcome, StoredTask
from lockcore.engine._tasks import Task, TaskState, TaskStatus, may_run, spec_text
from lockcore.engine._transaction import EndTransaction, block_here, transaction_of

__all__ = ["TaskStarter"]


class TaskStarter(ABC):
    """The part of a command's life in which it stores itself, and its parents, and begins tasks."""

    command_id: str
    owner: str
    correlation_id: str | None
    log: logging.LoggerAdapter[logging.Logger]
    store_mutex: Turns  # of a command and all its children
    has_committed: bool
    ending: EndTransaction | None
    doubt: tuple[Doubt, StoredOutcome] | None
    _services: Services
    _parent: TaskStarter | None
    _progress: Progress[Any]
    _type: str
    _parameters: str
    _sequence: int
    _locks: LockRequest
    _is_stored: bool
    _is_executed: bool
    _failure: str | None

    @abstractmethod
    def _watch(self, task_id: str) -> None:
        """Has a live task followed to its end."""

    @abstractmethod
    def _end(self) -> None:
        """Has the command brought to its end."""

    @property
    def _parent_id(self) -> str | None:
        return None if self._parent is None else self._parent.command_id

    @property
    def store(self) -> Store:
        return self._services.store

    def expect(self, id: str) -> None:
        """Waits for one thing more.

        Raises:
            RuntimeError: The command is not being executed.
        """
        self._progress.expect(id)

    def fail(self, message: str) -> None:
        """Makes the command end with failure."""
        self._progress.fail(message)

    def done_with(self, id: str) -> None:
        """Takes one thing out of what is waited for; with the last one the command ends."""
        if self._progress.done_with(id):
            self._end()

    def start_task(self, spec: tuple[Any, ...], options: Mapping[str, Any]) -> str:
        backend = self._services.backend
        if backend is None:
            raise RuntimeError("cannot start a task: the engine was made without tasks=")
        task_id = str(uuid.uuid4())
        task = Task(task_id, spec_text(spec, options), TaskStatus(TaskState.RUNNING))
        block = block_here()
        if block is not None and block.belongs_to(self):
            block.add(task, spec, options)
            return task_id
        self.expect(task_id)
        try:
            self._store(task)
        except BaseException:
            self.done_with(task_id)
            raise
        self.start(task, spec, options)
        return task_id

    def transaction(self) -> AbstractContextManager[Any]:
        return transaction_of(self)

    def start(self, task: Task, spec: tuple[Any, ...], options: Mapping[str, Any]) -> None:
        """Hands a stored task to the back end."""
        backend, task_id = self._services.backend, task.task_id
        assert backend is not None, "start_task has looked"
        self._progress.add_task(task)
        try:
            backend.start(task_id, *spec, **options)
        except BaseException:
            if may_run(backend, task_id):
                self._watch(task_id)
            else:
                self.drop_tasks([task_id])
            raise
        self._watch(task_id)

    def drop_tasks(self, task_ids: Sequence[str]) -> None:
        """Undoes the storing of tasks that have not started."""
        try:
            self._services.store.drop_tasks(task_ids)
        except Exception:
            self.log.exception("cannot drop tasks of %s: %s", self, ", ".join(task_ids))
        for task_id in task_ids:
            if self._progress.drop_task(task_id):
                self._end()

    def _store(self, task: Task | None = None) -> None:
        """Stores a task, and before it the command and its parents, with their locks."""
        with self.store_mutex:
            line = self._unstored()
            rows = [run._row() for run in line]
            for run in line:
                run._is_stored = True  # already, in case a signal interrupts the next call
            try:
                stored = None if task is None else StoredTask(task.task_id, task.spec)
                self._services.store.add(rows, self.command_id, stored)
            except Exception:
                for run in line:
                    run._is_stored = False
                raise
            if task is not None:
                self._note_stored(line)

    def store_within(self, work: Work, tasks: Sequence[Task]) -> Callable[[], None]:
        """Stores tasks, and before them what must be, as a part of a transaction.

        Returns what is to be called, with the `store_mutex` still held, once that is committed.
        """
        line = self._unstored()
        rows = [run._row() for run in line]
        for task in tasks:
            stored = StoredTask(task.task_id, task.spec)
            self._services.store.add(rows, self.command_id, stored, work)
            rows = []
        return functools.partial(self._note_stored, line)

    def _unstored(self) -> list[TaskStarter]:
        """Itself and its parents, the topmost first, as far as they are not stored."""
        parents = [] if self._parent is None else self._parent._unstored()
        return parents if self._is_stored else [*parents, self]

    def _note_stored(self, line: Sequence[TaskStarter]) -> None:
        """Notes that these are stored, and a task of this one."""
        for stored in line:
            stored._is_stored = True
        run = self
        while run._parent is not None:
            run._parent._progress.add_child(run.command_id, run)
            run = run._parent

    def _row(self) -> StoredCommand:
        return StoredCommand(
            command_id=self.command_id,
            sequence=self._sequence,
            type=self._type,
            parameters=self._parameters,
            owner=self.owner,
            parent_id=self._parent_id,
            locks=self._locks,
            is_executed=self._is_executed,
            correlation_id=self.correlation_id,
            failure=self._failure,
        )
