"""Task back ends: what the engine asks of them, and one that runs tasks in threads."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol, runtime_checkable

from lockcore.engine._reporting import reporter

__all__ = [
    "Task",
    "TaskBackend",
    "TaskState",
    "TaskStatus",
    "ThreadTasks",
    "may_run",
    "spec_text",
]

log = logging.getLogger("lockcore.engine")


class TaskState(StrEnum):
    """How a task stands."""

    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class TaskStatus:
    """How a task stands, and in words why.

    Attributes:
        state: Not `RUNNING` is final.
        detail: Why it failed, or what it does; empty if there is nothing to say.
        progress: The part that is done, from 0 to 1; None if that is unknown.
    """

    state: TaskState
    detail: str = ""
    progress: float | None = None


@dataclass(frozen=True, slots=True)
class Task:
    """A task of a command.

    Attributes:
        task_id: Its id, for the back end too.
        spec: What was started, as text.
        status: How it stood when the engine last looked; None if the back end no longer knows it.
    """

    task_id: str
    spec: str
    status: TaskStatus | None


@runtime_checkable
class TaskBackend(Protocol):
    """Runs tasks, which may outlive the engine that started them.

    The engine chooses the ids and stores an id before it starts the task. So after a crash it asks
    for that id: either the back end knows the task, or the task has not run and never will.

    Methods are called from several threads. Whatever they raise is logged; the engine tries again
    or, for `start`, lets the command know.
    """

    def start(self, task_id: str, /, *spec: Any, **options: Any) -> None:
        """Starts a task under that id. When it raises, the task does not run.

        Raises:
            TypeError, ValueError: The back end does not understand the task.
            FileExistsError: There is or was a task of that id.
        """

    def status(self, task_ids: Iterable[str] | None = None, /) -> dict[str, TaskStatus]:
        """How those tasks stand, or all that are known. Does not block.

        An id that is missing in the answer is not known: that task does not run and will not.
        """

    def stop(self, task_id: str, /) -> None:
        """Asks a task to end soon. Does not wait; does nothing if it is unknown or has ended."""

    def forget(self, task_id: str, /) -> None:
        """Drops what is kept of a task that has ended. Does nothing if it is unknown."""


class ThreadTasks:
    """Runs functions in a pool of threads of this process: `start_task(function, *args, **kwargs)`.

    A task succeeds when its function returns and fails when it raises. While it runs it may call
    `report_progress`. A function that has begun cannot be stopped. The tasks of a killed process
    are gone: their commands end with failure when the engine starts again.

    Args:
        workers: So many functions run at a time.
    """

    def __init__(self, workers: int = 8) -> None:
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="lockcore-task")
        self._mutex = threading.Lock()
        self._futures: dict[str, Future[Any]] = {}
        self._said: dict[str, TaskStatus] = {}  # of those that have reported progress

    def start(
        self, task_id: str, function: Callable[..., Any], /, *args: Any, **kwargs: Any
    ) -> None:
        if not callable(function):
            raise TypeError(f"start_task takes a function and its arguments, not {function!r}")
        with self._mutex:
            if task_id in self._futures:
                raise FileExistsError(f"there is a task {task_id}")
            self._futures[task_id] = self._pool.submit(self._run, task_id, function, args, kwargs)

    def status(self, task_ids: Iterable[str] | None = None, /) -> dict[str, TaskStatus]:
        with self._mutex:
            known, said = dict(self._futures), dict(self._said)
        wanted = known if task_ids is None else task_ids
        return {
            id: _end_status(known[id]) if known[id].done() else said.get(id, _RUNNING)
            for id in wanted
            if id in known
        }

    def stop(self, task_id: str, /) -> None:
        with self._mutex:
            future = self._futures.get(task_id)
        if future is not None:
            future.cancel()

    def forget(self, task_id: str, /) -> None:
        with self._mutex:
            self._futures.pop(task_id, None)
            self._said.pop(task_id, None)

    def close(self) -> None:
        """Waits until the functions that have begun have ended; drops those that have not."""
        self._pool.shutdown(cancel_futures=True)

    def _run(
        self,
        task_id: str,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        def report(progress: float | None, detail: str) -> None:
            with self._mutex:
                if task_id in self._futures:
                    self._said[task_id] = TaskStatus(TaskState.RUNNING, detail, progress)

        token = reporter.set(report)
        try:
            return function(*args, **kwargs)
        finally:
            reporter.reset(token)


_RUNNING = TaskStatus(TaskState.RUNNING)


def _end_status(future: Future[Any]) -> TaskStatus:
    try:
        error = future.exception()
    except CancelledError:
        return TaskStatus(TaskState.FAILED, "stopped before it began")
    if error is None:
        return TaskStatus(TaskState.SUCCEEDED)
    return TaskStatus(TaskState.FAILED, f"{type(error).__name__}: {error}")


def may_run(backend: TaskBackend, task_id: str) -> bool:
    """Whether a task may run. If the back end cannot say, it may: it will be asked again."""
    try:
        return task_id in backend.status([task_id])
    except Exception:
        log.exception("cannot ask the task back end for task %s", task_id)
        return True


def spec_text(spec: tuple[Any, ...], options: Mapping[str, Any]) -> str:
    """What was given to `start_task`, for people, cut where it becomes long."""
    parts = [repr(value) for value in spec]
    parts += [f"{name}={value!r}" for name, value in options.items()]
    return ", ".join(parts)[:1000]
