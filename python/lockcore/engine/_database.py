"""What the store asks of a database, whichever it is: transactions, and one engine at a time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol, TypeVar

from lockcore.engine._result import StoreError

__all__ = [
    "Database",
    "Dialect",
    "DisconnectedError",
    "Doubt",
    "Evidence",
    "Turns",
    "UnknownOutcomeError",
    "Values",
    "Work",
]

T = TypeVar("T")

Values = Mapping[str, Any]


Evidence = tuple[str, Values]
"""A query, with its values, that finds a row if and only if a transaction was committed."""


@dataclass(frozen=True, slots=True)
class Doubt:
    """A transaction whose outcome is unknown: its id in the database, and what would prove it."""

    id: str
    evidence: Evidence


class DisconnectedError(StoreError):
    """The connection was lost in the middle of a transaction."""


class UnknownOutcomeError(StoreError):
    """Nobody can say, for now, whether a transaction was committed.

    Attributes:
        doubt: What `Database.was_committed` is to be asked; None if that cannot help.
    """

    def __init__(self, message: str, doubt: Doubt | None = None) -> None:
        super().__init__(message)
        self.doubt = doubt


@dataclass(frozen=True, slots=True)
class Dialect:
    """Where one database differs from another. All statements are written with these names in it.

    Attributes:
        prefix: What the names of the tables begin with.
        serial: The type of a primary key that counts up by itself.
    """

    prefix: str
    serial: str

    def sql(self, statement: str) -> str:
        return statement.format(prefix=self.prefix, serial=self.serial)


class Work(Protocol):
    """One transaction under way. Its methods raise StoreError.

    Attributes:
        evidence: What proves later that it was committed, if anybody has said.
    """

    evidence: Evidence | None

    @property
    def connection(self) -> Any:
        """The connection as users know it."""

    def execute(self, statement: str, rows: Sequence[Values] | None = None) -> None:
        """Executes a statement, once for each of the rows if there are any given."""

    def fetch(self, statement: str, values: Values) -> list[Any]:
        """The rows that a query finds."""


class Database(Protocol):
    """An open database, kept from other engines until it is closed. Used by any thread."""

    def write(self, work: Callable[[Work], T], undo: Callable[[Work], None] | None = None, /) -> T:
        """Does work of the engine's own in one durable transaction, which nobody else's delays.

        If the connection is lost the work is done again on a new one, even if it may have been
        committed before: it must not mind.

        Args:
            work: Executes statements, and nothing else.
            undo: Undoes the work, whether or not it was done. Done before anything else if this
                raises UnknownOutcomeError.

        Raises:
            StoreError: Nothing was changed.
            RuntimeError: In a block of `transaction` in this thread, where only one can be open.
        """

    def read(self, statement: str, values: Values, /) -> list[Any]:
        """The rows that a query finds."""

    def transaction(self) -> AbstractContextManager[Work]:
        """A durable transaction for users' statements and ours; raising rolls it back.

        Raises:
            UnknownOutcomeError: At its end, if it may or may not have been committed.
            StoreError: It could not begin, or the connection was lost; nothing was changed.
        """

    def was_committed(self, doubt: Doubt, /) -> bool:
        """What became of a transaction whose outcome was unknown.

        Raises:
            StoreError: Nobody can say yet.
        """

    def check(self) -> None:
        """Raises a StoreError if another engine has taken the store over."""

    def close(self) -> None:
        """Closes it; another engine may open it then."""


class Turns:
    """Lets one transaction at a time through. It may end in another thread than it began in."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._thread: threading.Thread | None = None

    @property
    def is_mine(self) -> bool:
        """Whether this thread has begun the transaction under way."""
        return self._thread is threading.current_thread()

    def __enter__(self) -> None:
        if self.is_mine:  # it would wait for itself
            raise RuntimeError(
                "a transaction with the store is open in this thread: what else is to be stored"
                " must wait until it has ended"
            )
        self._mutex.acquire()
        self._thread = threading.current_thread()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._thread = None
        self._mutex.release()
