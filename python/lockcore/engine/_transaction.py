"""Users' own data and the rows of a command, in one transaction."""

from __future__ import annotations

import contextlib
import dataclasses
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from contextvars import ContextVar
from typing import Any, Protocol

from lockcore.engine._database import Doubt, Turns, UnknownOutcomeError, Work
from lockcore.engine._store import Store, StoredOutcome
from lockcore.engine._tasks import Task

__all__ = ["Begun", "EndTransaction", "block_here", "end_in_transaction", "transaction_of"]

Start = tuple[Task, tuple[Any, ...], Mapping[str, Any]]


class Run(Protocol):
    """A command that is executed, or that ends."""

    command_id: str
    has_committed: bool  # tasks with data of the user, so that an end action is due
    ending: EndTransaction | None
    doubt: tuple[Doubt, StoredOutcome] | None  # about an end whose commit was not answered
    store_mutex: Turns

    @property
    def store(self) -> Store: ...

    def expect(self, id: str) -> None:
        """Waits for something. Raises RuntimeError if `execute` does not run."""

    def done_with(self, id: str) -> None:
        """Waits for it no longer."""

    def store_within(self, work: Work, tasks: Sequence[Task]) -> Callable[[], None]:
        """Stores tasks as a part of a transaction; what is returned notes that it is committed."""

    def start(self, task: Task, spec: tuple[Any, ...], options: Mapping[str, Any]) -> None:
        """Hands a stored task to the back end."""

    def drop_tasks(self, task_ids: Sequence[str]) -> None:
        """Undoes the storing of tasks that have not started, as soon as that can be."""

    def fail(self, message: str) -> None:
        """Makes the command end with failure."""


class Begun:
    """The tasks begun in a block of `execute`: stored at its end, started when it is committed."""

    def __init__(self, run: Run) -> None:
        self.is_open = True
        self._run = run
        self._starts: list[Start] = []
        self._note: Callable[[], None] = _nothing

    def belongs_to(self, run: object) -> bool:
        return self._run is run

    def add(self, task: Task, spec: tuple[Any, ...], options: Mapping[str, Any]) -> None:
        """Begins a task.

        Raises:
            RuntimeError: `execute` does not run.
        """
        self._run.expect(task.task_id)
        self._starts.append((task, spec, options))

    def store(self, work: Work) -> None:
        if self._starts:
            self._note = self._run.store_within(work, [task for task, _, _ in self._starts])

    def committed(self) -> None:
        if self._starts:
            self._run.has_committed = True
            self._note()

    def start(self) -> None:
        """Starts them in order. If one cannot be started, the later ones are not."""
        while self._starts:
            task, spec, options = self._starts.pop(0)
            try:
                self._run.start(task, spec, options)
            except BaseException:
                self._run.drop_tasks(self._ids)
                raise

    def failed(self, error: BaseException) -> None:
        """Forgets what was begun. If it may have been committed, the command ends with failure."""
        is_certain = isinstance(error, Exception) and not isinstance(error, UnknownOutcomeError)
        if self._note is _nothing or is_certain:
            for task_id in self._ids:
                self._run.done_with(task_id)
        else:  # also if a signal has interrupted the commit
            self.committed()
            self._run.fail(str(error) or type(error).__name__)
            self._run.drop_tasks(self._ids)

    @property
    def _ids(self) -> list[str]:
        return [task.task_id for task, _, _ in self._starts]


def _nothing() -> None:
    pass


_here: ContextVar[Begun | None] = ContextVar("lockcore_begun", default=None)


def block_here() -> Begun | None:
    """The block of a transaction in `execute` that is open here, not in another task or thread."""
    begun = _here.get()
    # A task or thread that was started in the block has the variable of that moment.
    return begun if begun is not None and begun.is_open else None


def transaction_of(run: Run) -> AbstractContextManager[Any]:
    """A transaction of a command that is executed or that ends."""
    return _execution_block(run) if run.ending is None else run.ending.block()


@contextlib.contextmanager
def _execution_block(run: Run) -> Iterator[Any]:
    if block_here() is not None:
        raise RuntimeError("a transaction is open here already")
    block_id = str(uuid.uuid4())
    try:
        run.expect(block_id)
    except RuntimeError:
        raise RuntimeError(
            "a transaction is begun while execute or an end action runs, not at another time"
        ) from None
    try:
        begun = Begun(run)
        with run.store_mutex:
            try:
                with run.store.transaction() as work:
                    token = _here.set(begun)
                    try:
                        yield work.connection
                    finally:
                        begun.is_open = False
                        _here.reset(token)
                    begun.store(work)
            except BaseException as error:
                begun.failed(error)
                raise
            begun.committed()
        begun.start()
    finally:
        run.done_with(block_id)


class EndTransaction:
    """The transaction of an end action: begun when the action asks for it, committed at its end."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._context: AbstractContextManager[Work] | None = None
        self._work: Work | None = None

    @contextlib.contextmanager
    def block(self) -> Iterator[Any]:
        """Lends the transaction. If the block raises, all that was done in it is rolled back."""
        if self._work is None:
            self._context = self._store.transaction()
            self._work = self._context.__enter__()
        try:
            yield self._work.connection
        except BaseException as error:
            self.roll_back(error)
            raise

    def commit(self, outcome: StoredOutcome) -> StoredOutcome:
        """Commits the outcome with what the action has written; if that is nothing, does not."""
        if self._work is None or self._context is None:
            return outcome
        try:
            self._store.end([outcome], (), self._work)
        except BaseException as error:
            self.roll_back(error)
            raise
        context, self._context, self._work = self._context, None, None
        context.__exit__(None, None, None)
        return dataclasses.replace(outcome, is_committed=True)

    def roll_back(self, error: BaseException) -> None:
        context, self._context, self._work = self._context, None, None
        if context is not None:
            context.__exit__(type(error), error, error.__traceback__)


def end_in_transaction(run: Run, act: Callable[[], StoredOutcome]) -> StoredOutcome:
    """Calls an end action, and commits its outcome together with what it has written, if it has.

    Raises:
        StoreError: The store was taken over, then nothing was called; or it has failed.
    """
    run.store.check()
    if run.doubt is not None:
        doubt, outcome = run.doubt
        if run.store.was_committed(doubt):
            return dataclasses.replace(outcome, is_committed=True)
        run.doubt = None
    run.ending = ending = EndTransaction(run.store)
    try:
        outcome = act()
    except BaseException as error:
        ending.roll_back(error)
        raise
    finally:
        run.ending = None
    try:
        return ending.commit(outcome)
    except UnknownOutcomeError as error:
        if error.doubt is not None:
            run.doubt = error.doubt, outcome
        raise
