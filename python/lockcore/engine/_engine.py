"""The engine: opens by recovering, admits commands, knows how they stand."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections.abc import Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Literal, Self

from lockcore._manager import LockManager
from lockcore.engine._address import database_opener
from lockcore.engine._command import Command, CommandTypes
from lockcore.engine._driving import drive, drive_async, require_sync
from lockcore.engine._dropping import drop
from lockcore.engine._ending import Ender
from lockcore.engine._follower import Follower
from lockcore.engine._gate import Gate
from lockcore.engine._recovery import recover
from lockcore.engine._result import (
    CommandResult,
    EngineClosedError,
    EngineError,
    RecoveryReport,
    UnknownCommandError,
)
from lockcore.engine._rules import UNSET, Unset, check_timeout
from lockcore.engine._run import CommandRun
from lockcore.engine._services import Registry, Services
from lockcore.engine._store import Store
from lockcore.engine._tasks import TaskBackend
from lockcore.engine._waiting import LockWaits

if TYPE_CHECKING:
    import sqlalchemy

__all__ = ["Engine"]

log = logging.getLogger("lockcore.engine")


class Engine:
    """Runs commands under their locks, and after a crash goes on where it was.

    Opening it, with `with` or `open`, recovers first: the stored commands have their locks again
    before any command is admitted, and commands that come meanwhile wait. Closing it lets the
    commands that are being executed come to the end of `execute`; tasks go on, their locks stay
    held in the manager, and the next engine on the store takes them up.

    All methods may be called from any thread, but only in the process that has opened it: in the
    child of a fork they raise EngineError, and touch nothing.

    Args:
        store: Where commands that have tasks are kept: `"sqlite:///engine.db"` (relative),
            `"sqlite:////var/lib/engine.db"` (absolute), or `"sqlite://"`, in memory, for engines
            that need not survive; `"postgresql://user@host/database"`, or a `sqlalchemy.Engine` of
            PostgreSQL or an SQLite file, which commands can share with `Command.transaction`. One
            engine at a time can have a store open.
        tasks: The task back end, such as `ProcessTasks("tasks/")`; None if no command starts tasks.
        manager: Where the locks are; None makes one. Others may use the manager too.
        commands: Command classes, for when a restarted engine would not find one by its module
            and name.
        poll_interval: Seconds between two looks at the tasks.
        workers: So many end actions run at a time.
        retry_delay: Seconds before an end action that raised is called again; doubles each time,
            up to a minute.
        on_recovery: What happens to commands that come while the engine recovers: `"wait"`, or
            `"refuse"`, with an EngineRecoveringError.
        drain: Whether the engine at the end of its `with` block waits for the commands under way,
            as `close(drain=True)` does.

    Raises:
        ValueError: The store is of an unknown kind, or a number is out of range.
        TypeError: An argument is of the wrong type.
    """

    def __init__(
        self,
        *,
        store: str | sqlalchemy.Engine = "sqlite://",
        tasks: TaskBackend | None = None,
        manager: LockManager | None = None,
        commands: Iterable[type[Command]] = (),
        poll_interval: float = 0.05,
        workers: int = 8,
        retry_delay: float = 0.1,
        on_recovery: Literal["wait", "refuse"] = "wait",
        drain: bool = False,
    ) -> None:
        self._open_database = database_opener(store)
        if tasks is not None and (isinstance(tasks, type) or not isinstance(tasks, TaskBackend)):
            raise TypeError(f"tasks must be a task back end such as ProcessTasks, not {tasks!r}")
        if manager is not None and not isinstance(manager, LockManager):
            raise TypeError(f"manager must be a LockManager or None, not {manager!r}")
        if not isinstance(workers, int):
            raise TypeError(f"workers must be int, not {workers!r}")
        self._types = CommandTypes(commands)
        for name, value in (("poll_interval", poll_interval), ("retry_delay", retry_delay)):
            if not value > 0:
                raise ValueError(f"{name} must be positive, not {value!r}")
        if workers < 1:
            raise ValueError(f"workers must be at least 1, not {workers!r}")
        if on_recovery not in ("wait", "refuse"):
            raise ValueError(f"on_recovery must be 'wait' or 'refuse', not {on_recovery!r}")
        self._drain = drain
        self._tasks = tasks
        self._manager = LockManager() if manager is None else manager
        self._poll_interval = poll_interval
        self._workers = workers
        self._retry_delay = retry_delay
        self._process: int | None = None  # that has opened it
        self._closing = threading.RLock()
        self._gate = Gate(refuses=on_recovery == "refuse")
        self._services: Services | None = None
        self._recovery: RecoveryReport | None = None
        self._registry = Registry()
        self._waits = LockWaits()

    @property
    def manager(self) -> LockManager:
        """Where the locks of the commands are."""
        return self._manager

    @property
    def tasks(self) -> TaskBackend | None:
        """The task back end."""
        return self._tasks

    @property
    def recovery(self) -> RecoveryReport:
        """What was found in the store when the engine was opened, and what became of it.

        Raises:
            EngineClosedError: The engine has not been opened.
        """
        if self._recovery is None:
            raise EngineClosedError("the engine has not been opened")
        return self._recovery

    def open(self) -> None:
        """Opens the store, recovers, then admits commands.

        Raises:
            StoreError: The store is in use, is none, or is from a newer lockcore. Nothing has been
                touched.
            EngineError: The engine was opened before; an engine is opened once.
        """
        self._check_process()
        with self._gate.opening():
            self._process = os.getpid()
            self._services, self._recovery = self._recovered()

    def _recovered(self) -> tuple[Services, RecoveryReport]:
        store = Store(self._open_database())
        try:
            follower = Follower(self._tasks, self._poll_interval, self._workers)
            services = Services(
                manager=self._manager,
                store=store,
                backend=self._tasks,
                follower=follower,
                ender=Ender(store, self._tasks, follower, self._gate, self._retry_delay),
                registry=self._registry,
                waits=self._waits,
            )
            report = recover(services, self._types)
        except BaseException:
            store.close()
            raise
        follower.start()
        services.ender.start()
        return services, report

    def close(self, *, drain: bool = False, timeout: float | None = None) -> None:
        """Admits no more, waits for what is in `execute` or in an end action, leaves the tasks.

        Commands with live tasks stay stored and locked. A command that waits for its locks does not
        get them any more: `run` raises EngineClosedError, and so does `run_child`. Closing twice is
        fine; both calls return when the engine is closed.

        Args:
            drain: Whether to wait, after the last `execute`, until all commands have ended, except
                those that wait for a child which was set aside.
            timeout: How many seconds to wait for that; None for ever. What has not ended by then is
                left to the next engine on the store.

        Raises:
            RuntimeError: Called by a command, in an end action too; it would wait for itself. Or
                called in an event loop that runs commands; nothing is closed.
        """
        check_timeout(timeout)
        self._check_process()
        self._gate.shut()
        self._waits.end()
        self._gate.wait_until_empty()
        with self._closing:
            services = self._services
            if services is None:
                return
            if drain and not self._registry.drained(timeout):
                log.warning("commands are left for the next engine: they have not ended")
            services.follower.stop()
            services.ender.close()
            services.store.close()
            self._registry.abandon()  # who waits is told that the engine is closed
            self._services = None  # only now: if a signal comes before, closing is done again

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close(drain=self._drain and error is None)

    def run(
        self,
        command: Command,
        *,
        timeout: float | Unset | None = UNSET,
        correlation_id: str | None = None,
    ) -> CommandResult:
        """Locks, validates and executes a command in this thread.

        Args:
            command: What to run.
            timeout: How long to wait for the locks in seconds, 0 not at all, None for ever; as its
                class declares if not given.
            correlation_id: Names what the command belongs to, a request of a user for example. It
                is in its log records, in its results, and in those of its children.

        Returns:
            How it stands when `execute` has ended: `"refused"`, `"failed"`, `"succeeded"`, or
            `"running"` while tasks of it run. If `execute` raised after it had started tasks,
            these are stopped and waited for.

        Raises:
            EngineClosedError: The engine is not open, or was closed while the command waited for
                its locks.
            StoreError: Another engine has taken the store over, when the connection was lost.
            TypeError: A parameter cannot be stored or a key is none; ValueError: the timeout is
                negative, or the correlation id cannot be stored. What `exclusive_locks` or
                `shared_locks` raises is raised as well. Nothing has been touched.
            RuntimeError: The instance has been executed before.
        """
        _check_call(timeout, correlation_id)
        self._check_process()
        if isinstance(command, Command):
            require_sync(command)
        with self._gate.passed():
            run = CommandRun(self._open_services, command, None, correlation_id)
            return drive(run, timeout)

    async def run_async(
        self,
        command: Command,
        *,
        timeout: float | Unset | None = UNSET,
        correlation_id: str | None = None,
    ) -> CommandResult:
        """Locks, validates and executes a command in this event loop, awaiting where it is async.

        Sync commands run in the loop's thread too: one that blocks belongs into
        `asyncio.to_thread(engine.run, command)`. Threads and event loops may share an engine.

        Arguments, result and errors are those of `run`. Cancelling it interrupts `execute`: tasks
        that have been started are stopped, and the command ends with failure when they have ended.
        """
        _check_call(timeout, correlation_id)
        self._check_process()
        if self._gate.is_recovering:
            await asyncio.to_thread(self._gate.wait)
        with self._gate.passed():
            run = CommandRun(self._open_services, command, None, correlation_id)
            return await drive_async(run, timeout)

    def status(self, command_id: str) -> CommandResult:
        """How a command stands now, with its tasks and their progress while it is running.

        If its end action has raised and is tried again, `messages` says so.

        Raises:
            UnknownCommandError: There is none of that id, or it ended too long ago.
            EngineClosedError: The engine is not open.
            EngineError: The command was set aside by the recovery.
        """
        self._check_process()
        run = self._registry.find(command_id)
        if run is None:
            return self._stored_result(command_id)
        return run if isinstance(run, CommandResult) else run.snapshot()

    def wait(self, command_id: str, *, timeout: float | None = None) -> CommandResult:
        """Waits until a command has come to its end.

        Args:
            command_id: Of a command run by this engine, taken up by its recovery, or, for those
                that had tasks, run by an earlier engine on the same store.
            timeout: In seconds; None for ever.

        Returns:
            Its last result: `"refused"`, `"failed"` or `"succeeded"`. Its locks are gone.

        Raises:
            TimeoutError: It has not come to its end in time; it goes on.
            UnknownCommandError: There is none of that id, or it ended too long ago.
            EngineClosedError: The engine is not open, or was closed meanwhile.
            EngineError: The command was set aside by the recovery.
        """
        check_timeout(timeout)
        self._check_process()
        run = self._registry.find(command_id)
        if run is None:
            return self._stored_result(command_id)
        if isinstance(run, CommandResult):
            return run
        if not run.ended.wait(timeout):
            raise TimeoutError(f"command {command_id} has not ended within {timeout} s")
        if run.result is None:
            raise EngineClosedError("the engine was closed before the command ended")
        return run.result

    def drop(self, command_id: str, *, timeout: float | None = 60) -> CommandResult:
        """Gives up a command that was set aside by the recovery: what nobody can end any more.

        Its tasks are stopped and waited for, then it has failed, and its locks are released. None
        of its methods is called. A parent of it ends with failure.

        Args:
            command_id: One of `recovery.set_aside`.
            timeout: How many seconds its tasks may take to end; None for ever.

        Returns:
            Its result, as `status` gives it from now on.

        Raises:
            EngineError: It is not set aside, or a child of it has not ended: that comes first.
            EngineClosedError: The engine is not open.
            TimeoutError: Its tasks have not ended in time. They were asked to; nothing else was
                changed. StoreError: It could not be stored; nor was anything else.
        """
        check_timeout(timeout)
        self._check_process()
        with self._gate.passed():
            return drop(self._open_services, command_id, timeout)

    def _stored_result(self, command_id: str) -> CommandResult:
        services = self._open_services
        aside = services.set_aside.get(command_id)
        if aside is not None:
            raise EngineError(f"command {command_id} was set aside: {aside.reason}")
        outcome = services.store.outcome(command_id)
        if outcome is None:
            raise UnknownCommandError(f"no command {command_id}")
        return CommandResult(
            command_id, outcome.state, outcome.messages, correlation_id=outcome.correlation_id
        )

    def _check_process(self) -> None:
        """Refuses to work in the child of a fork, which has no threads, and not the locks."""
        if self._process not in (None, os.getpid()):
            raise EngineError(
                f"this engine belongs to process {self._process}: open one in this process"
            )

    @property
    def _open_services(self) -> Services:
        if not self._gate.is_open or self._services is None:
            raise EngineClosedError("the engine is not open")
        return self._services


def _check_call(timeout: float | Unset | None, correlation_id: str | None) -> None:
    if timeout is not UNSET:
        check_timeout(timeout)
    if correlation_id is not None and not isinstance(correlation_id, str):
        raise TypeError(f"correlation_id must be str or None, not {correlation_id!r}")
    if correlation_id is not None and not _is_storable(correlation_id):
        raise ValueError(f"correlation_id is no text that can be stored: {correlation_id!r}")


def _is_storable(text: str) -> bool:
    """Whether every database takes it: no null character, no half of a surrogate pair."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return "\0" not in text
