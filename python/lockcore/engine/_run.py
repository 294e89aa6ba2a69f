"""The life of one command: lock, validate, execute, follow its tasks, end, release."""

from __future__ import annotations

import dataclasses
import logging
import threading
import uuid
from collections.abc import Iterable, Mapping
from typing import Any, Final

from lockcore._errors import DeadlockError, LockConflictError, NotHeldError
from lockcore._manager import Grant
from lockcore._types import Message
from lockcore.engine._codec import dump_parameters
from lockcore.engine._command import Command, LockRequest, lock_request, parameters_of, type_name
from lockcore.engine._result import CommandResult, CommandState
from lockcore.engine._rules import UNSET, Scope, Unset
from lockcore.engine._services import Services
from lockcore.engine._store import StoredCommand, StoredOutcome, StoredTask
from lockcore.engine._tasks import Task, TaskBackend, TaskState, TaskStatus

__all__ = ["CommandRun"]

log = logging.getLogger("lockcore.engine")

_EXECUTION: Final = ""
"""Stands for `execute` among the ids of what a command waits for."""

_LONGEST_RETRY: Final = 60.0


class CommandRun:
    """One command on its way through the engine.

    What it still waits for is in one set: its execution, its live tasks, its live children. Who
    takes the last one out brings the command to its end. No mutex is held while user code, the
    manager or the task back end is called.
    """

    def __init__(
        self, services: Services, command: Command, parent: CommandRun | None = None
    ) -> None:
        """Prepares a command: reads its locks and parameters, touches nothing.

        Raises:
            RuntimeError: The instance has been executed before.
            TypeError: It is no command, a parameter cannot be stored, or its keys make no sense.
        """
        if not isinstance(command, Command):
            raise TypeError(f"only commands can be run, not {command!r}")
        command_id = str(uuid.uuid4())
        owner = command_id if parent is None else parent.owner
        self._setup(services, command, command_id, owner, parent)
        self._locks = lock_request(command)
        self._parameters = dump_parameters(parameters_of(command))
        with services.mutex:
            previous = command._run
            if isinstance(previous, CommandRun) and not previous._is_refused:
                raise RuntimeError(f"this {type(command).__name__} has been run already")
            command._run = self

    def _setup(
        self,
        services: Services,
        command: Command,
        command_id: str,
        owner: str,
        parent: CommandRun | None,
    ) -> None:
        self.command_id = command_id
        self.owner = owner
        self.command = command
        self.result: CommandResult | None = None  # when it has come to its end
        self.settled = threading.Event()  # set at the end, or when an end action has raised
        self.ended = threading.Event()
        self.is_recovered = False
        self._services = services
        self._parent = parent
        self._type = type_name(type(command))
        self._scope = type(command)._locks.scope
        self._mutex = threading.Lock()
        self._store_mutex: threading.Lock = (
            threading.Lock() if parent is None else parent._store_mutex
        )
        self._parameters = ""
        self._locks = LockRequest({}, {})
        self._sequence = 0
        self._grant: Grant | None = None
        self._tasks: dict[str, Task] = {}
        self._children: dict[str, CommandRun] = {}  # those with tasks
        self._pending: set[str] = set()
        self._has_failed = False
        self._messages: list[str | Message] = []
        self._is_stored = False
        self._is_executed = False
        self._is_released = False
        self._end_attempts = 0
        self._end_error: str | None = None

    @classmethod
    def recovered(
        cls,
        services: Services,
        row: StoredCommand,
        command: Command,
        *,
        grant: Grant | None,
        parent: CommandRun | None,
        tasks: Iterable[Task],
    ) -> CommandRun:
        """A stored command that is past its execution: it waits for its tasks and children.

        Tasks without a status are those that the back end no longer knows.
        """
        run = cls.__new__(cls)
        run._setup(services, command, row.command_id, row.owner, parent)
        command._run = run
        run.is_recovered = True
        run._grant = grant
        run._is_stored = True
        run._has_failed = row.has_failed
        if not row.is_executed:
            run._fail("the engine was killed while the command was executed")
        for task in tasks:
            run._tasks[task.task_id] = task
            if task.status is not None and task.status.state is TaskState.RUNNING:
                run._pending.add(task.task_id)
            else:
                run._note_end(task.task_id, task.status)
        return run

    def __str__(self) -> str:
        return f"{type(self.command).__name__} {self.command_id}"

    @property
    def tasks(self) -> tuple[Task, ...]:
        with self._mutex:
            return tuple(self._tasks.values())

    @property
    def _is_refused(self) -> bool:
        return self.result is not None and self.result.state is CommandState.REFUSED

    @property
    def is_waiting(self) -> bool:
        """Whether tasks, children or the execution are still to end."""
        with self._mutex:
            return bool(self._pending)

    def snapshot(self) -> CommandResult:
        """How it stands now."""
        with self._mutex:
            if self.result is not None:
                return self.result
            messages = self._messages + ([] if self._end_error is None else [self._end_error])
            return CommandResult(self.command_id, CommandState.RUNNING, tuple(messages))

    # -- lock, validate, execute: in the caller's thread

    def run(self, timeout: float | Unset | None) -> CommandResult:
        """Locks, validates, executes. Returns when `execute` has ended.

        A command whose `execute` raised after it had started tasks stops them, and this waits for
        them and for `end_with_failure`.
        """
        if timeout is UNSET:
            timeout = type(self.command)._locks.timeout
        try:
            self._grant = self._services.manager.acquire(
                exclusive=self._locks.exclusive,
                shared=self._locks.shared,
                owner=self.owner,
                timeout=0 if timeout is UNSET else timeout,
            )
        except LockConflictError as error:
            return self._refuse(error.messages or (str(error),), error)
        except DeadlockError as error:
            return self._refuse((str(error),))
        except BaseException:
            self.command._run = None
            raise
        self._sequence = self._services.next_sequence()
        self._services.registry.began(self)
        try:
            reasons = _reasons(self.command.validate())
        except BaseException as error:
            self._release()
            result = self._report(CommandState.FAILED, (_text(error),))
            if not isinstance(error, Exception):
                raise
            log.exception("%s failed to validate", self)
            return result
        if reasons:
            self._release()
            return self._refuse(reasons)
        return self._execute()

    def _refuse(
        self, messages: tuple[str | Message, ...], conflict: LockConflictError | None = None
    ) -> CommandResult:
        log.info("%s refused: %s", self, "; ".join(map(str, messages)))
        return self._report(CommandState.REFUSED, messages, conflict)

    def _execute(self) -> CommandResult:
        with self._mutex:
            self._pending.add(_EXECUTION)  # from here on tasks may be started
        try:
            self.command.execute()
        except Exception as error:
            log.exception("%s failed", self)
            return self._after_execution(_text(error))
        except BaseException as error:
            self._after_execution(_text(error), wait=False)
            raise
        return self._after_execution()

    def _after_execution(self, failure: str | None = None, *, wait: bool = True) -> CommandResult:
        """Ends a command that has started nothing; any other ends after its tasks.

        Args:
            failure: The text of the error that `execute` has raised.
            wait: Whether to wait then for the tasks, which are stopped, and the end action.
        """
        if failure is not None:
            self._fail(failure)
        with self._mutex:
            has_begun_nothing = self._pending == {_EXECUTION} and not self._is_stored
            if has_begun_nothing:
                self._pending.clear()
        if has_begun_nothing:
            self._release()
            return self._report(self._final_state(), tuple(self._messages))
        try:
            self._store_execution(is_executed=failure is None)
        except Exception as error:
            log.exception("cannot store that %s was executed", self)
            failure = failure or _text(error)
            self._fail(failure)
        self._done_with(_EXECUTION)
        if failure is not None:
            self.stop_tasks()
            if wait:
                self.settled.wait()
                return self.snapshot()
        return CommandResult(self.command_id, CommandState.RUNNING, tuple(self._messages))

    def _store_execution(self, *, is_executed: bool) -> None:
        is_released = self._scope is not Scope.COMMAND
        with self._store_mutex:
            if self._is_stored:
                self._services.store.end_execution(
                    self.command_id, is_executed=is_executed, is_released=is_released
                )
            # For the row, if a thread is only just about to store the first task.
            self._is_executed = is_executed
            self._is_released = is_released
        if is_released:
            self._release()

    # -- what `execute` may do

    def start_task(self, spec: tuple[Any, ...], options: Mapping[str, Any]) -> str:
        backend = self._services.backend
        if backend is None:
            raise RuntimeError("cannot start a task: the engine was made without tasks=")
        task_id = str(uuid.uuid4())
        task = Task(task_id, _spec_text(spec, options), TaskStatus(TaskState.RUNNING))
        self._expect(task_id)
        try:
            self._store_task(task)
        except BaseException:
            self._done_with(task_id)
            raise
        with self._mutex:
            self._tasks[task_id] = task
        try:
            backend.start(task_id, *spec, **options)
        except BaseException:
            if _knows(backend, task_id):
                self._services.follower.watch(task_id, self.task_ended)
            else:
                self._drop_task(task_id)
            raise
        self._services.follower.watch(task_id, self.task_ended)
        return task_id

    def run_child(self, child: Command, timeout: float | Unset | None) -> CommandResult:
        run = CommandRun(self._services, child, self)
        self._expect(run.command_id)
        try:
            return run.run(timeout)
        finally:
            if not run._is_stored:
                self._done_with(run.command_id)  # else when it has come to its end

    def _drop_task(self, task_id: str) -> None:
        """Undoes the storing of a task that has not started."""
        try:
            self._services.store.drop_tasks([task_id])
        except Exception:
            log.exception("cannot drop task %s of %s", task_id, self)
        with self._mutex:
            del self._tasks[task_id]
        self._done_with(task_id)

    def _expect(self, id: str) -> None:
        with self._mutex:
            if _EXECUTION not in self._pending:
                raise RuntimeError("tasks and children are started while execute runs, not later")
            self._pending.add(id)

    def _store_task(self, task: Task) -> None:
        """Stores the task, and before it the command and its parents, with their locks."""
        with self._store_mutex:
            line: list[CommandRun] = []
            run: CommandRun | None = self
            while run is not None:
                if not run._is_stored:
                    line.append(run)
                run = run._parent
            rows = [run._row() for run in reversed(line)]
            for run in line:
                run._is_stored = True  # already, in case a signal interrupts the next call
            try:
                self._services.store.add_task(
                    rows, self.command_id, StoredTask(task.task_id, task.spec)
                )
            except Exception:
                for run in line:
                    run._is_stored = False
                raise
            for run in line:
                if run._parent is not None:
                    with run._parent._mutex:
                        run._parent._children[run.command_id] = run

    def _row(self) -> StoredCommand:
        return StoredCommand(
            command_id=self.command_id,
            sequence=self._sequence,
            type=self._type,
            parameters=self._parameters,
            owner=self.owner,
            parent_id=None if self._parent is None else self._parent.command_id,
            locks=None if self._is_released else self._locks,
            is_executed=self._is_executed,
        )

    # -- tasks and the end: in the follower's threads

    def follow(self) -> None:
        """Has the live tasks of a recovered command followed, or brings it to its end."""
        for task_id in self._live_tasks():
            self._services.follower.watch(task_id, self.task_ended)
        if not self.is_waiting:
            self._services.follower.submit(self.finish)

    def adopt(self, child: CommandRun) -> None:
        """Makes a recovered parent wait for a child."""
        with self._mutex:
            self._children[child.command_id] = child
        self.expect_child(child.command_id)

    def expect_child(self, command_id: str) -> None:
        """Makes a recovered parent wait for a child, even one that could not be rebuilt."""
        with self._mutex:
            self._pending.add(command_id)

    def stop_tasks(self) -> None:
        """Asks the live tasks of the command and of its children to end."""
        backend = self._services.backend
        for task_id in self._live_tasks():
            try:
                if backend is not None:
                    backend.stop(task_id)
            except Exception:
                log.exception("cannot stop task %s of %s", task_id, self)
        with self._mutex:
            children = list(self._children.values())
        for child in children:
            child.stop_tasks()

    def _live_tasks(self) -> list[str]:
        with self._mutex:
            return [task_id for task_id in self._tasks if task_id in self._pending]

    def task_ended(self, task_id: str, status: TaskStatus | None) -> None:
        """Notes how a task has ended; None if the back end no longer knows it."""
        with self._mutex:
            self._note_end(task_id, status)
        self._done_with(task_id)

    def _note_end(self, task_id: str, status: TaskStatus | None) -> None:
        self._tasks[task_id] = dataclasses.replace(self._tasks[task_id], status=status)
        if status is None:
            self._has_failed = True
            self._messages.append(f"the task back end no longer knows task {task_id}")
        elif status.state is not TaskState.SUCCEEDED:
            self._has_failed = True
            self._messages.append(status.detail or f"task {task_id} failed")

    def _done_with(self, id: str) -> None:
        """Takes one thing out of what is waited for; with the last one the command ends."""
        with self._mutex:
            if id not in self._pending:
                return
            self._pending.remove(id)
            is_waiting = bool(self._pending)
        if not is_waiting:
            self._services.follower.submit(self.finish)

    def finish(self) -> None:
        """End action, commit, release, report, in this order.

        What raises before the commit is tried again later, with the locks still held.
        """
        state = self._final_state()
        try:
            if self._tasks or self._children or self.is_recovered:
                if state is CommandState.SUCCEEDED:
                    self.command.end_successfully()
                else:
                    self.command.end_with_failure()
            messages = tuple(self._messages)
            outcome = StoredOutcome(self.command_id, self._type, state, messages)
            self._services.store.end(outcome)
        except BaseException as error:  # noqa: BLE001 - logged, and tried again
            self._end_again(error)
            return
        self._release()
        if self.is_recovered and self.owner == self.command_id:
            # Left from an engine of this process that was closed while the tasks ran.
            self._services.manager.release_all(self.owner)
        if self._tasks:
            self._services.forget_tasks(self._tasks)
        if self._parent is not None and state is CommandState.FAILED:
            self._parent._fail(f"{self} has failed")
        self._report(state, messages)
        if self._parent is not None:
            self._parent._done_with(self.command_id)

    def _end_again(self, error: BaseException) -> None:
        longest = self._services.retry_delay * 2.0 ** min(self._end_attempts, 30)
        delay = min(longest, _LONGEST_RETRY)
        log.error("%s cannot end; trying again in %g s", self, delay, exc_info=error)
        with self._mutex:
            self._end_attempts += 1
            self._end_error = f"cannot end, trying again: {_text(error)}"
        self.settled.set()
        self._services.follower.submit_later(delay, self.finish)

    def _fail(self, message: str) -> None:
        with self._mutex:
            self._has_failed = True
            self._messages.append(message)

    def _final_state(self) -> CommandState:
        return CommandState.FAILED if self._has_failed else CommandState.SUCCEEDED

    def _release(self) -> None:
        """Gives back exactly what was acquired, once."""
        with self._mutex:
            grant, self._grant = self._grant, None
        if grant is not None:
            try:
                grant.release()
            except NotHeldError:
                log.warning("the locks of %s were released by somebody else", self)

    def _report(
        self,
        state: CommandState,
        messages: tuple[str | Message, ...],
        conflict: LockConflictError | None = None,
    ) -> CommandResult:
        result = CommandResult(self.command_id, state, messages, conflict)
        with self._mutex:
            self.result = result
        self._services.registry.ended(result)
        self.settled.set()
        self.ended.set()
        return result


def _reasons(returned: object) -> tuple[str | Message, ...]:
    if returned is None:
        return ()
    if isinstance(returned, str | Message):
        return (returned,)
    if not isinstance(returned, Iterable):
        raise TypeError(f"validate must return or yield messages, not {returned!r}")
    reasons = tuple(returned)
    for reason in reasons:
        if not isinstance(reason, str | Message):
            raise TypeError(f"validate must return or yield messages, not {reason!r}")
    return reasons


def _knows(backend: TaskBackend, task_id: str) -> bool:
    """Whether the task may run. If the back end cannot say, it may: it will be asked again."""
    try:
        return task_id in backend.status([task_id])
    except Exception:
        log.exception("cannot ask the task back end for task %s", task_id)
        return True


def _text(error: BaseException) -> str:
    return str(error) or type(error).__name__


def _spec_text(spec: tuple[Any, ...], options: Mapping[str, Any]) -> str:
    parts = [repr(value) for value in spec]
    parts += [f"{name}={value!r}" for name, value in options.items()]
    return ", ".join(parts)[:1000]
