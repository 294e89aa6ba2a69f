"""The life of one command: lock, validate, execute, follow its tasks, end, release."""

from __future__ import annotations

import dataclasses
import logging
import threading
import uuid
from collections.abc import Iterable
from typing import Any

from lockcore._errors import DeadlockError, LockConflictError, NotHeldError
from lockcore._manager import Grant, LockManager
from lockcore._types import Message
from lockcore.engine._async import finished
from lockcore.engine._codec import dump_parameters
from lockcore.engine._command import (
    Command,
    LockRequest,
    command_name,
    lock_requests,
    parameters_of,
    type_name,
)
from lockcore.engine._database import Doubt, Turns
from lockcore.engine._driving import drive, drive_async, require_sync
from lockcore.engine._progress import Progress
from lockcore.engine._result import CommandResult, CommandState
from lockcore.engine._rules import UNSET, Unset
from lockcore.engine._services import Services
from lockcore.engine._starting import TaskStarter
from lockcore.engine._store import StoredCommand, StoredOutcome
from lockcore.engine._tasks import Task, TaskStatus
from lockcore.engine._transaction import EndTransaction, block_here, end_in_transaction

__all__ = ["CommandRun"]

log = logging.getLogger("lockcore.engine")


class CommandRun(TaskStarter):
    """One command on its way through the engine.

    No mutex is held while user code, the manager or the task back end is called.
    """

    def __init__(
        self,
        services: Services,
        command: Command,
        parent: CommandRun | None = None,
        correlation_id: str | None = None,
    ) -> None:
        """Prepares a command: reads its locks and parameters, touches nothing.

        Raises:
            RuntimeError: The instance has been executed before, or a transaction is open here.
            StoreError: Another engine has taken the store over.
            TypeError: It is no command, a parameter cannot be stored, or its keys make no sense.
        """
        if not isinstance(command, Command):
            raise TypeError(f"only commands can be run, not {command!r}")
        if block_here() is not None:
            raise RuntimeError("no other command can be run inside the block of a transaction")
        services.store.check()
        command_id = str(uuid.uuid4())
        owner = command_id if parent is None else parent.owner
        if parent is not None:
            correlation_id = parent.correlation_id
        self._setup(
            services, command, command_id, owner, correlation_id=correlation_id, parent=parent
        )
        self._locks, self._long_locks = lock_requests(command)
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
        *,
        correlation_id: str | None,
        parent: CommandRun | None,
    ) -> None:
        self.command_id = command_id
        self.owner = owner
        self.correlation_id = correlation_id
        self.log = logging.LoggerAdapter(
            log, {"command_id": command_id, "correlation_id": correlation_id}
        )
        self.command = command
        self.result: CommandResult | None = None  # when it has come to its end
        self.settled = threading.Event()  # set at the end, or when an end action has raised
        self.ended = threading.Event()
        self.end_attempts = 0
        self.is_recovered = self._has_left_grants = self._has_child_aside = False
        self._services = services
        self._parent = parent
        self._type = type_name(type(command))
        self._mutex = threading.Lock()
        self.store_mutex: Turns = Turns() if parent is None else parent.store_mutex
        self.has_committed = False
        self.ending: EndTransaction | None = None
        self.doubt: tuple[Doubt, StoredOutcome] | None = None
        self._progress: Progress[CommandRun] = Progress()
        self._parameters = ""
        self._locks = self._long_locks = LockRequest({}, {})
        self._sequence = 0
        self._grant: Grant | None = None
        self._is_stored = self._is_executed = False
        self._failure: str | None = None  # what `execute` has raised
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
        failed_children: Iterable[str] = (),
    ) -> CommandRun:
        """A stored command that is past its execution: it waits for its tasks and children.

        Tasks without a status are those that the back end no longer knows. `has_left_grants` says
        that an engine of this process was closed while the command held its locks.
        """
        run = cls.__new__(cls)
        run._setup(
            services,
            command,
            row.command_id,
            row.owner,
            correlation_id=row.correlation_id,
            parent=parent,
        )
        command._run = run
        run.is_recovered = True
        run._grant = grant
        run._has_left_grants = has_left_grants
        run._is_stored = True
        if row.has_failed:
            run._progress.fail()
        for child in failed_children:
            run._progress.fail(f"{child} has failed")
        if not row.is_executed:
            reason = row.failure or "the engine was killed while the command was executed"
            run._progress.fail(reason)
        for task in tasks:
            run._progress.add_recovered_task(task)
        return run

    def __str__(self) -> str:
        return command_name(type(self.command).__name__, self.command_id, self.correlation_id)

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
            result = self._result(CommandState.RUNNING, messages)
            return dataclasses.replace(result, tasks=self._progress.tasks)

    # -- lock, validate, execute: steps of `drive`, in the caller's thread

    def acquire(self, timeout: float | Unset | None) -> Grant:
        """Takes the locks, or waits for them until the engine closes."""
        return self._services.waits.acquire(*self._request(timeout))

    async def acquire_async(self, timeout: float | Unset | None) -> Grant:
        """The same, awaiting them."""
        return await self._services.waits.acquire_async(*self._request(timeout))

    def _request(
        self, timeout: float | Unset | None
    ) -> tuple[LockManager, dict[str, Any], float | None]:
        if timeout is UNSET:
            timeout = type(self.command)._locks.timeout
        locks, owner = self._locks, self.owner
        request = {"exclusive": locks.exclusive, "shared": locks.shared, "owner": owner}
        return self._services.manager, request, 0 if timeout is UNSET else timeout

    def not_acquired(self, error: BaseException) -> CommandResult:
        """Refuses the command if the error says so."""
        if isinstance(error, LockConflictError):
            return self._refuse(error.messages or (str(error),), error)
        if isinstance(error, DeadlockError):
            return self._refuse((str(error),), error)
        self.release()
        if self._parent is None:  # a signal that came just after the locks: nobody has the grant
            self._services.manager.release_all(self.owner)
        self.command._run = None
        raise error

    def acquired(self, grant: Grant) -> None:
        """Notes that the command holds its locks from now on."""
        self._grant = grant
        self._sequence = self._services.next_sequence()
        self._services.registry.began(self)

    def prepare_execution(self) -> None:
        """Stores what must be known should the engine be killed in `execute`."""
        if type(self.command).compensate is not Command.compensate:
            self._store()
        self._progress.begin_execution()

    def not_validated(self, error: BaseException) -> CommandResult:
        """Ends a command that could not be validated or stored."""
        if self._is_stored:  # a signal came while it was: it may be, and must be deleted
            self._progress.fail(_text(error))
            self._end()
            raise error
        self.release()
        result = self._report(CommandState.FAILED, (_text(error),))
        if not isinstance(error, Exception):
            raise error
        self.log.error("%s failed to validate", self, exc_info=error)
        return result

    def not_valid(self, reasons: tuple[str | Message, ...]) -> CommandResult:
        """Refuses the command because of what `validate` has found."""
        self.release()
        return self._refuse(reasons)

    def _refuse(
        self,
        messages: tuple[str | Message, ...],
        conflict: LockConflictError | DeadlockError | None = None,
    ) -> CommandResult:
        self.log.info("%s refused: %s", self, "; ".join(map(str, messages)))
        return self._report(CommandState.REFUSED, messages, conflict)

    def after_execution(self, error: BaseException | None = None) -> CommandResult | None:
        """Ends a command that has started nothing; any other ends after its tasks.

        Returns None if the end is on its way and should be waited for: there are no tasks, or they
        are stopped because `execute` has raised that error. One that is no Exception is raised
        again.
        """
        if error is not None:
            if isinstance(error, Exception):
                self.log.error("%s failed", self, exc_info=error)
            self._failure = _text(error)
            self._progress.fail(self._failure)
        with self.store_mutex:  # a thread may be about to store a first task
            has_begun = self._progress.has_begun_something
            is_alone = not has_begun and self._progress.end_execution_if_alone()
        result = None
        if is_alone and not self._is_stored:
            self.release()
            result = self._report(self._progress.state, self._progress.messages)
        elif is_alone:
            if error is not None:
                self._store_failure()
            self._end()
        else:
            error = self._end_execution(error)
            if error is None:
                result = self._result(CommandState.RUNNING, self._progress.messages)
        if error is not None and not isinstance(error, Exception):
            raise error
        return result

    def _end_execution(self, error: BaseException | None) -> BaseException | None:
        """Lets a command with tasks or children go on to its end; what is wrong with it, if so."""
        try:
            self._store_execution(is_executed=error is None)
        except BaseException as failure:
            self.log.exception("cannot store that %s was executed", self)
            error = error or failure
            self._progress.fail(_text(failure))
        if self._progress.end_execution():
            self._end()
        if error is not None:
            self.stop_tasks()
        return error

    def _store_execution(self, *, is_executed: bool) -> None:
        with self.store_mutex:
            if self._is_stored:
                self._services.store.end_execution(
                    self.command_id,
                    is_executed=is_executed,
                    locks=self._long_locks,
                    failure=self._failure,
                )
            # For the row, if a thread is only just about to store the first task.
            self._is_executed = is_executed
            is_all_kept = self._locks == self._long_locks
            self._locks = self._long_locks
        if not is_all_kept:
            self._keep(self._long_locks)

    def _store_failure(self) -> None:
        """Lets the next engine know, should the end take longer than this one lives."""
        try:
            self._services.store.end_execution(
                self.command_id, is_executed=False, locks=self._locks, failure=self._failure
            )
        except Exception:
            self.log.exception("cannot store why %s has failed", self)

    def _keep(self, locks: LockRequest) -> None:
        """Gives back all locks but these. A grant ends as a whole, so these get one of their own.

        Nobody can be in the way of an owner who takes again what it holds.
        """
        kept = None
        if locks:
            try:
                kept = self._services.manager.acquire(
                    exclusive=locks.exclusive, shared=locks.shared, owner=self.owner, timeout=0
                )
            except LockConflictError:
                self.log.warning("the locks of %s were released by somebody else", self)
        self.release()
        with self._mutex:
            self._grant = kept

    # -- what `execute` may do

    def run_child(self, child: Command, timeout: float | Unset | None) -> CommandResult:
        require_sync(child)
        run = CommandRun(self._services, child, self)
        self._progress.expect(run.command_id)
        try:
            return drive(run, timeout)
        finally:
            if not run._is_stored:
                self.done_with(run.command_id)  # else when it has come to its end

    async def run_child_async(self, child: Command, timeout: float | Unset | None) -> CommandResult:
        run = CommandRun(self._services, child, self)
        self._progress.expect(run.command_id)
        try:
            return await drive_async(run, timeout)
        finally:
            if not run._is_stored:
                self.done_with(run.command_id)

    # -- tasks: told by the follower's threads

    def _watch(self, task_id: str) -> None:
        self._services.follower.watch(task_id, self)

    def _end(self) -> None:
        self._services.ender.submit(self)

    def follow(self) -> None:
        """Has the live tasks of a recovered command followed, or brings it to its end."""
        for task_id in self._progress.live_tasks:
            self._watch(task_id)
        if not self._progress.is_waiting:
            self._end()

    def adopt(self, command_id: str, child: CommandRun | None) -> None:
        """Makes a recovered parent wait for a child; None stands for one that was set aside."""
        if child is None:
            self._has_child_aside = True
        else:
            self._progress.add_child(command_id, child)
        self._progress.expect_recovered(command_id)

    def child_dropped(self, command_id: str, name: str, *, is_last: bool) -> None:
        """Goes on without a child that was set aside: it counts as one that has failed."""
        if is_last:
            self._has_child_aside = False
        self._progress.fail(f"{name} has failed")
        self.done_with(command_id)

    @property
    def is_stuck(self) -> bool:
        """Whether it waits for a child that was set aside, or a child of it does."""
        return self._has_child_aside or any(child.is_stuck for child in self._progress.children)

    def stop_tasks(self) -> None:
        """Asks the live tasks of the command and of its children to end."""
        backend = self._services.backend
        for task_id in self._progress.live_tasks:
            try:
                if backend is not None:
                    backend.stop(task_id)
            except Exception:
                self.log.exception("cannot stop task %s of %s", task_id, self)
        for child in self._progress.children:
            child.stop_tasks()

    def task_runs(self, task_id: str, status: TaskStatus) -> None:
        """Notes how far a task has come."""
        self._progress.note_status(task_id, status)

    def task_ended(self, task_id: str, status: TaskStatus | None) -> None:
        """Notes how a task has ended; None if the back end no longer knows it."""
        if self._progress.end_task(task_id, status):
            self._end()

    # -- the end: called by the ender

    def end_action(self) -> StoredOutcome:
        """Calls the end action that is due; says what is to be committed, if that is not done."""
        return end_in_transaction(self, self._act)

    def _act(self) -> StoredOutcome:
        state, command = self._progress.state, self.command
        has_begun = self._progress.has_begun_something or self.has_committed
        has_ends = has_begun or self.is_recovered
        has_failed = state is CommandState.FAILED
        if has_failed:
            finished(command.compensate())
        if has_ends:
            finished(command.end_with_failure() if has_failed else command.end_successfully())
        return StoredOutcome(
            self.command_id,
            self._type,
            state,
            self._progress.messages,
            self.correlation_id,
            failed_parent_id=self._parent_id if has_ends and has_failed else None,
        )

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
                self.log.warning("the locks of %s were released by somebody else", self)
        if self._has_left_grants:
            self._services.manager.release_all(self.owner)

    def end_reported(self, outcome: StoredOutcome) -> None:
        """Reports the committed outcome, and lets the parent know."""
        if self._parent is not None and outcome.failed_parent_id is not None:
            self._parent._progress.fail(f"{self} has failed")
        self._report(outcome.state, outcome.messages)
        if self._parent is not None:
            self._parent.done_with(self.command_id)

    def _report(
        self,
        state: CommandState,
        messages: tuple[str | Message, ...],
        conflict: LockConflictError | DeadlockError | None = None,
    ) -> CommandResult:
        result = self._result(state, messages, conflict)
        with self._mutex:
            self.result = result
        self._services.registry.ended(result)
        self.settled.set()
        self.ended.set()
        return result

    def _result(
        self,
        state: CommandState,
        messages: tuple[str | Message, ...],
        conflict: LockConflictError | DeadlockError | None = None,
    ) -> CommandResult:
        return CommandResult(self.command_id, state, messages, conflict, self.correlation_id)


def _text(error: BaseException) -> str:
    return str(error) or type(error).__name__
