"""The end of commands: end action, commit, release, report, in this order."""

from __future__ import annotations

import functools
import logging
import threading
import time
from collections import deque
from collections.abc import Iterable
from typing import Final, Protocol, TypeVar

from lockcore.engine._follower import Follower
from lockcore.engine._gate import Gate
from lockcore.engine._store import Store, StoredOutcome
from lockcore.engine._tasks import TaskBackend

__all__ = ["Ender"]

log = logging.getLogger("lockcore.engine")

_LONGEST_RETRY: Final = 60.0

_BATCH_SECONDS: Final = 0.1
"""So long end actions of a batch run: a recovery that is killed again and again still gets on."""

_BATCH_COMMANDS: Final = 1000


class Ending(Protocol):
    """A command whose tasks and children have ended."""

    end_attempts: int
    log: logging.LoggerAdapter[logging.Logger]

    @property
    def task_ids(self) -> list[str]: ...

    def end_action(self) -> StoredOutcome:
        """Calls the end action; may raise, and be called again.

        Returns what is to be committed, unless it says that it is.
        """

    def end_failed(self, error: BaseException) -> None:
        """Told that the end action or its commit has raised and will be tried again."""

    def release(self) -> None:
        """Gives the locks back."""

    def end_reported(self, outcome: StoredOutcome) -> None:
        """Told that the outcome is committed and the locks are gone."""


class Ender:
    """Brings commands to their end. Those that end at the same time share a commit.

    What raises before the commit is tried again later, with the locks still held. Until `start`
    the commands that are due are only collected, for `drain`.

    Args:
        store: Where outcomes are committed.
        backend: Whose tasks are forgotten.
        follower: Whose threads run the end actions.
        gate: Behind which end actions are called.
        retry_delay: Seconds before the first new try; doubles each time, up to a minute.
    """

    def __init__(
        self,
        store: Store,
        backend: TaskBackend | None,
        follower: Follower,
        gate: Gate,
        retry_delay: float,
    ) -> None:
        self._store = store
        self._backend = backend
        self._follower = follower
        self._retry_delay = retry_delay
        self._mutex = threading.Lock()
        self._is_started = False
        self._due: deque[Ending] = deque()
        self._committing = threading.Lock()
        self._uncommitted: deque[tuple[Ending, StoredOutcome]] = deque()
        self._gate = gate
        self._forgotten: deque[str] = deque()  # tasks to be deleted with the next commit

    def submit(self, command: Ending) -> None:
        """Ends the command soon, in a thread of the follower."""
        with self._mutex:
            if not self._is_started:
                self._due.append(command)
                return
        self._follower.submit(functools.partial(self._end, command))

    def start(self) -> None:
        """Ends what has been collected and what comes from now on. The follower has started."""
        with self._mutex:
            self._is_started = True
        while self._due:
            self.submit(self._due.popleft())

    def drain(self) -> None:
        """Ends what has been collected, in this thread, and what becomes due by that."""
        while self._due:
            commit_at = time.monotonic() + _BATCH_SECONDS
            for _ in range(_BATCH_COMMANDS):
                self._act(self._due.popleft())
                if not self._due or time.monotonic() >= commit_at:
                    break
            self._commit()

    def close(self) -> None:
        """Deletes the last forgotten tasks from the store. Nothing may be ending any more."""
        forgotten = _taken(self._forgotten)
        try:
            if forgotten:
                self._store.drop_tasks(forgotten)
        except Exception:
            log.exception("cannot drop tasks from the store")

    def forget_tasks(self, task_ids: Iterable[str]) -> None:
        """Lets the back end drop what it keeps of tasks. What fails is tried at the next start."""
        for task_id in task_ids:
            try:
                if self._backend is not None:
                    self._backend.forget(task_id)
            except Exception:
                log.exception("cannot forget task %s", task_id)
            else:
                self._forgotten.append(task_id)

    def _end(self, command: Ending) -> None:
        self._act(command)
        self._commit()

    def _act(self, command: Ending) -> None:
        try:
            with self._gate.inside():
                outcome = command.end_action()
        except BaseException as error:
            self._again(command, error)
            if isinstance(error, KeyboardInterrupt):  # in a recovery: the engine will not open
                raise
        else:
            if outcome.is_committed:
                self._report([(command, outcome)])
            else:
                self._uncommitted.append((command, outcome))

    def _commit(self) -> None:
        """Commits and reports what has ended in all threads.

        A thread that finds another one at it leaves its outcome to that one, which looks once more
        after it has let the mutex go; so nothing is left behind, and the next commit is larger.
        """
        while self._uncommitted and self._committing.acquire(blocking=False):
            try:
                ended = _taken(self._uncommitted)
                is_committed = self._is_committed(ended)
            finally:
                self._committing.release()
            if is_committed:
                self._report(ended)

    def _is_committed(self, ended: list[tuple[Ending, StoredOutcome]]) -> bool:
        """Whether the outcomes could be committed, together; if not, all of them end again."""
        if not ended:
            return True
        forgotten = _taken(self._forgotten)
        try:
            self._store.end([outcome for _, outcome in ended], forgotten)
        except BaseException as error:  # noqa: BLE001 - logged, and tried again
            self._forgotten.extend(forgotten)
            for command, _ in ended:
                self._again(command, error)
            return False
        return True

    def _report(self, ended: list[tuple[Ending, StoredOutcome]]) -> None:
        for command, _ in ended:
            command.release()
        for command, _ in ended:
            self.forget_tasks(command.task_ids)
        for command, outcome in ended:
            command.end_reported(outcome)

    def _again(self, command: Ending, error: BaseException) -> None:
        longest = self._retry_delay * 2.0 ** min(command.end_attempts, 30)
        delay = min(longest, _LONGEST_RETRY)
        command.log.error("%s cannot end; trying again in %g s", command, delay, exc_info=error)
        command.end_failed(error)
        self._follower.submit_later(delay, functools.partial(self._end, command))


Taken = TypeVar("Taken")


def _taken(queue: deque[Taken]) -> list[Taken]:
    """Empties a queue to which other threads may append meanwhile."""
    taken = []
    while queue:
        taken.append(queue.popleft())
    return taken
