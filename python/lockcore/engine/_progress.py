"""What a command has begun, what of it is still to end, and what has gone wrong so far."""

from __future__ import annotations

import dataclasses
import threading
from typing import Final, Generic, TypeVar

from lockcore._types import Message
from lockcore.engine._result import CommandState
from lockcore.engine._tasks import Task, TaskState, TaskStatus

__all__ = ["Progress"]

_EXECUTION: Final = ""
"""Stands for `execute` among the ids of what a command waits for."""

Child = TypeVar("Child")


class Progress(Generic[Child]):
    """What a command waits for: its execution, its live tasks, its live children.

    All of it is one set. Who takes the last one out is told so, and brings the command to its end.
    May be used from any thread; calls nothing that is not its own.
    """

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._pending: set[str] = set()
        self._tasks: dict[str, Task] = {}
        self._children: dict[str, Child] = {}
        self._has_failed = False
        self._messages: list[str | Message] = []

    @property
    def tasks(self) -> tuple[Task, ...]:
        """All tasks, in the order of their start, with what is known of each."""
        with self._mutex:
            return tuple(self._tasks.values())

    @property
    def children(self) -> list[Child]:
        """The children that have tasks."""
        with self._mutex:
            return list(self._children.values())

    @property
    def live_tasks(self) -> list[str]:
        """The ids of the tasks that have not ended."""
        with self._mutex:
            return [task_id for task_id in self._tasks if task_id in self._pending]

    @property
    def messages(self) -> tuple[str | Message, ...]:
        """What has gone wrong, in order."""
        with self._mutex:
            return tuple(self._messages)

    @property
    def state(self) -> CommandState:
        """The state in which the command will end if nothing else goes wrong."""
        return CommandState.FAILED if self._has_failed else CommandState.SUCCEEDED

    @property
    def is_waiting(self) -> bool:
        """Whether something is still to end."""
        with self._mutex:
            return bool(self._pending)

    @property
    def has_begun_something(self) -> bool:
        """Whether there are tasks or children with tasks, so that an end action is due."""
        return bool(self._tasks or self._children)

    def begin_execution(self) -> None:
        """From here on tasks and children may be begun."""
        with self._mutex:
            self._pending.add(_EXECUTION)

    def end_execution(self) -> bool:
        """Whether that was the last thing to end."""
        return self.done_with(_EXECUTION)

    def end_execution_if_alone(self) -> bool:
        """Ends the execution if nothing else is going on; whether it did."""
        with self._mutex:
            if self._pending != {_EXECUTION}:
                return False
            self._pending.clear()
            return True

    def expect(self, id: str) -> None:
        """Waits for a task or a child too.

        Raises:
            RuntimeError: The command is not being executed.
        """
        with self._mutex:
            if _EXECUTION not in self._pending:
                raise RuntimeError("tasks and children are started while execute runs, not later")
            self._pending.add(id)

    def expect_recovered(self, id: str) -> None:
        """Waits for a child of a command whose execution has ended in an earlier engine."""
        with self._mutex:
            self._pending.add(id)

    def add_task(self, task: Task) -> None:
        """Notes a task that is waited for."""
        with self._mutex:
            self._tasks[task.task_id] = task

    def add_recovered_task(self, task: Task) -> None:
        """Notes a task of an earlier engine; one without status is one nobody knows any more."""
        with self._mutex:
            self._tasks[task.task_id] = task
            if task.status is not None and task.status.state is TaskState.RUNNING:
                self._pending.add(task.task_id)
            else:
                self._note_end(task.task_id, task.status)

    def add_child(self, command_id: str, child: Child) -> None:
        """Notes a child that has tasks."""
        with self._mutex:
            self._children[command_id] = child

    def drop_task(self, task_id: str) -> bool:
        """Forgets a task that has not started. Whether it was the last thing to end."""
        with self._mutex:
            self._tasks.pop(task_id, None)
        return self.done_with(task_id)

    def note_status(self, task_id: str, status: TaskStatus) -> None:
        """Notes how far a live task has come."""
        with self._mutex:
            task = self._tasks[task_id]
            if task_id in self._pending and task.status != status:
                self._tasks[task_id] = dataclasses.replace(task, status=status)

    def end_task(self, task_id: str, status: TaskStatus | None) -> bool:
        """Notes how a task has ended, None if nobody knows. Whether it was the last thing."""
        with self._mutex:
            self._note_end(task_id, status)
        return self.done_with(task_id)

    def done_with(self, id: str) -> bool:
        """Takes one thing out of what is waited for. Whether it was the last one."""
        with self._mutex:
            if id not in self._pending:
                return False
            self._pending.remove(id)
            return not self._pending

    def fail(self, message: str | Message | None = None) -> None:
        """Notes that the command will end with failure, and why."""
        with self._mutex:
            self._has_failed = True
            if message is not None:
                self._messages.append(message)

    def _note_end(self, task_id: str, status: TaskStatus | None) -> None:
        self._tasks[task_id] = dataclasses.replace(self._tasks[task_id], status=status)
        if status is None:
            self._has_failed = True
            self._messages.append(f"the task back end no longer knows task {task_id}")
        elif status.state is not TaskState.SUCCEEDED:
            self._has_failed = True
            self._messages.append(status.detail or f"task {task_id} failed")
