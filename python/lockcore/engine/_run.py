"""The life of one command: lock, validate, execute, follow its tasks, end, release."""

from __future__ import annotations

import logging
import threading
import uuid
from collections.abc import Iterable, Mapping
from typing import Any

from lockcore._errors import DeadlockError, LockConflictError, NotHeldError
from lockcore._manager import Grant
from lockcore._types import Message
from lockcore.engine._codec import dump_parameters
from lockcore.engine._command import Command, LockRequest, lock_request, parameters_of, type_name
from lockcore.engine._progress import Progress
from lockcore.engine._result import CommandResult, CommandState
from lockcore.engine._rules import UNSET, Scope, Unset
from lockcore.engine._services import Services
from lockcore.engine._store import StoredCommand, StoredOutcome, StoredTask
from lockcore.engine._tasks import Task, TaskBackend, TaskState, TaskStatus

__all__ = ["CommandRun"]

log = logging.getLogger("lockcore.engine")


class CommandRun:
    """One command on its way through the engine.

    No mutex is held while user code, the manager or the task back end is called.
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
        self.end_attempts = 0
        self.is_recovered = False
        self._services = services
        self._parent = parent
        self._type = type_name(type(command))
        self._scope = type(command)._locks.scope
        self._mutex = threading.Lock()
        self._store_mutex: threading.Lock = (
            threading.Lock() if parent is None else parent._store_mutex
        )
        self._progress: Progress[CommandRun] = Progress()
        self._parameters = ""
        self._locks = LockRequest({}, {})
        self._sequence = 0
        self._grant: Grant | None = None
        self._has_left_grants = False
        self._is_stored = False
        self._is_executed = False
        self._is_released = False
        self._end_error: str | None = None

    @classmethod
    def recovered(
        cls,
        services: Services,
        row: StoredCommand,
        command: Command,
        *,
        grant: Grant | None,
        has_left_grants: bool,
        parent: CommandRun | None,
        tasks: Iterable[Task],
    ) -> CommandRun:
        """A stored command that is past its execution: it waits for its tasks and children.

        Tasks without a status are those that the back end no longer knows. `has_left_grants` says
        that an engine of this process was closed while the command held its locks.
        """
        run = cls.__new__(cls)
        run._setup(services, command, row.command_id, row.owner, parent)
        command._run = run
        run.is_recovered = True
        run._grant = grant
        run._has_left_grants = has_left_grants
        run._is_stored = True
        if row.has_failed:
            run._progress.fail()
        if not row.is_executed:
            run._progress.fail("the engine was killed while the command was executed")
        for task in tasks:
            run._progress.add_recovered_task(task)
        return run

    def __str__(self) -> str:
        return f"{type(self.command).__name__} {self.command_id}"

    @property
    def tasks(self) -> tuple[Task, ...]:
        return self._progress.tasks

    @property
    def task_ids(self) -> list[str]:
        return [task.task_id for task in self._progress.tasks]

    @property
    def _is_refused(self) -> bool:
        return self.result is not None and self.result.state is CommandState.REFUSED

    def snapshot(self) -> CommandResult:
        """How it stands now."""
        with self._mutex:
            if self.result is not None:
                return self.result
            more = () if self._end_error is None else (self._end_error,)
            messages = self._progress.messages + more
            return CommandResult(self.command_id, CommandState.RUNNING, messages)

    # -- lock, validate, execute: in the caller's thread

    def run(self, timeout: float | Unset | None) -> CommandResult:
        """Locks, validates, executes. Returns when `execute` has ended.

        A command whose `execute` raised after it had started tasks stops them, and this waits for
        them and for `end_with_failure`.
        """
        try:
            self._grant = self._services.manager.acquire(**self._request(timeout))
        except BaseException as error:  # noqa: BLE001 - raised again unless the command's own
            return self._not_acquired(error)
        self._has_acquired()
        try:
            reasons = _reasons(self.command.validate())
        except BaseException as error:  # noqa: BLE001 - raised again unless the command's own
            return self._not_validated(error)
        if reasons:
            return self._not_valid(reasons)
        self._progress.begin_execution()
        try:
            self.command.execute()
        except BaseException as error:  # noqa: BLE001 - raised again unless the command's own
            result = self._not_executed(error)
        else:
            result = self._after_execution()
        if result is None:
            self.settled.wait()
            result = self.snapshot()
        return result

    def _request(self, timeout: float | Unset | None) -> dict[str, Any]:
        if timeout is UNSET:
            timeout = type(self.command)._locks.timeout
        return {
            "exclusive": self._locks.exclusive,
            "shared": self._locks.shared,
            "owner": self.owner,
            "timeout": 0 if timeout is UNSET else timeout,
        }

    def _not_acquired(self, error: BaseException) -> CommandResult:
        if isinstance(error, LockConflictError):
            return self._refuse(error.messages or (str(error),), error)
        if isinstance(error, DeadlockError):
            return self._refuse((str(error),))
        self.command._run = None
        raise error

    def _has_acquired(self) -> None:
        self._sequence = self._services.next_sequence()
        self._services.registry.began(self)

    def _not_validated(self, error: BaseException) -> CommandResult:
        self.release()
        result = self._report(CommandState.FAILED, (_text(error),))
        if not isinstance(error, Exception):
            raise error
        log.error("%s failed to validate", self, exc_info=error)
        return result

    def _not_valid(self, reasons: tuple[str | Message, ...]) -> CommandResult:
        self.release()
        return self._refuse(reasons)

    def _refuse(
        self, messages: tuple[str | Message, ...], conflict: LockConflictError | None = None
    ) -> CommandResult:
        log.info("%s refused: %s", self, "; ".join(map(str, messages)))
        return self._report(CommandState.REFUSED, messages, conflict)

    def _not_executed(self, error: BaseException) -> CommandResult | None:
        if not isinstance(error, Exception):
            self._after_execution(_text(error))
            raise error
        log.error("%s failed", self, exc_info=error)
        return self._after_execution(_text(error))

    def _after_execution(self, failure: str | None = None) -> CommandResult | None:
        """Ends a command that has started nothing; any other ends after its tasks.

        Args:
            failure: The text of the error that `execute` has raised.

        Returns:
            None if `execute` has failed after it had started tasks. They are stopped; the end comes
            after theirs.
        """
        if failure is not None:
            self._progress.fail(failure)
        with self._store_mutex:  # a thread may be about to store a first task
            is_alone = not self._is_stored and self._progress.end_execution_if_alone()
        if is_alone:
            self.release()
            return self._report(self._progress.state, self._progress.messages)
        try:
            self._store_execution(is_executed=failure is None)
        except Exception as error:
            log.exception("cannot store that %s was executed", self)
            failure = failure or _text(error)
            self._progress.fail(failure)
        if self._progress.end_execution():
            self._services.ender.submit(self)
        if failure is not None:
            self.stop_tasks()
            return None
        return CommandResult(self.command_id, CommandState.RUNNING, self._progress.messages)

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
            self.release()

    # -- what `execute` may do

    def start_task(self, spec: tuple[Any, ...], options: Mapping[str, Any]) -> str:
        backend = self._services.backend
        if backend is None:
            raise RuntimeError("cannot start a task: the engine was made without tasks=")
        task_id = str(uuid.uuid4())
        task = Task(task_id, _spec_text(spec, options), TaskStatus(TaskState.RUNNING))
        self._progress.expect(task_id)
        try:
            self._store_task(task)
        except BaseException:
            self.done_with(task_id)
            raise
        self._progress.add_task(task)
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
        self._progress.expect(run.command_id)
        try:
            return run.run(timeout)
        finally:
            if not run._is_stored:
                self.done_with(run.command_id)  # else when it has come to its end

    def _drop_task(self, task_id: str) -> None:
        """Undoes the storing of a task that has not started."""
        try:
            self._services.store.drop_tasks([task_id])
        except Exception:
            log.exception("cannot drop task %s of %s", task_id, self)
        if self._progress.drop_task(task_id):
            self._services.ender.submit(self)

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
                    run._parent._progress.add_child(run.command_id, run)

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

    # -- tasks: told by the follower's threads

    def follow(self) -> None:
        """Has the live tasks of a recovered command followed, or brings it to its end."""
        for task_id in self._progress.live_tasks:
            self._services.follower.watch(task_id, self.task_ended)
        if not self._progress.is_waiting:
            self._services.ender.submit(self)

    def adopt(self, command_id: str, child: CommandRun | None) -> None:
        """Makes a recovered parent wait for a child; None stands for one that was set aside."""
        if child is not None:
            self._progress.add_child(command_id, child)
        self._progress.expect_recovered(command_id)

    def stop_tasks(self) -> None:
        """Asks the live tasks of the command and of its children to end."""
        backend = self._services.backend
        for task_id in self._progress.live_tasks:
            try:
                if backend is not None:
                    backend.stop(task_id)
            except Exception:
                log.exception("cannot stop task %s of %s", task_id, self)
        for child in self._progress.children:
            child.stop_tasks()

    def task_ended(self, task_id: str, status: TaskStatus | None) -> None:
        """Notes how a task has ended; None if the back end no longer knows it."""
        if self._progress.end_task(task_id, status):
            self._services.ender.submit(self)

    def done_with(self, id: str) -> None:
        """Takes one thing out of what is waited for; with the last one the command ends."""
        if self._progress.done_with(id):
            self._services.ender.submit(self)

    # -- the end: called by the ender

    def end_action(self) -> StoredOutcome:
        """Calls the end action that is due; says what is to be committed."""
        state = self._progress.state
        if self._progress.has_begun_something or self.is_recovered:
            if state is CommandState.SUCCEEDED:
                self.command.end_successfully()
            else:
                self.command.end_with_failure()
        return StoredOutcome(self.command_id, self._type, state, self._progress.messages)

    def end_failed(self, error: BaseException) -> None:
        """Lets operators see that the end action is tried again."""
        with self._mutex:
            self.end_attempts += 1
            self._end_error = f"cannot end, trying again: {_text(error)}"
        self.settled.set()

    def release(self) -> None:
        """Gives back exactly what was acquired, once."""
        with self._mutex:
            grant, self._grant = self._grant, None
        if grant is not None:
            try:
                grant.release()
            except NotHeldError:
                log.warning("the locks of %s were released by somebody else", self)
        if self._has_left_grants:
            self._services.manager.release_all(self.owner)

    def end_reported(self, outcome: StoredOutcome) -> None:
        """Reports the committed outcome, and lets the parent know."""
        if self._parent is not None and outcome.state is CommandState.FAILED:
            self._parent._progress.fail(f"{self} has failed")
        self._report(outcome.state, outcome.messages)
        if self._parent is not None:
            self._parent.done_with(self.command_id)

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
