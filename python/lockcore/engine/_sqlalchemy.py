"""A store in a database that is shared with others, by SQLAlchemy."""

from __future__ import annotations

import contextlib
import functools
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any, Final, TypeVar

import sqlalchemy
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from lockcore.engine._database import (
    Dialect,
    DisconnectedError,
    Doubt,
    Evidence,
    Turns,
    UnknownOutcomeError,
    Values,
    Work,
)
from lockcore.engine._result import StoreError
from lockcore.engine._schema import MIGRATIONS, SCHEMA_VERSION, check_version

__all__ = ["SqlAlchemyDatabase", "SqlAlchemyWork", "translated"]

T = TypeVar("T")


class SqlAlchemyDatabase(ABC):
    """A connection of the engine's own, which keeps other engines out, and those of users.

    The tables have names of their own, beside those of the user.

    Args:
        engine: Where connections come from.
        is_ours: Whether nobody else uses that.

    Raises:
        StoreError: It is in use by another engine, its schema is newer than this code, or it cannot
            be opened. Nothing has been changed.
    """

    _dialect: Dialect

    def __init__(self, engine: sqlalchemy.Engine, *, is_ours: bool) -> None:
        self._engine = engine
        self._is_ours = is_ours
        self._name = engine.url.set(query={}).render_as_string(hide_password=True)
        self._turns = Turns()
        self._own: sqlalchemy.Connection | None = None
        self._driver: Any = None
        self._undo: list[Callable[[Work], None]] = []
        try:
            with translated(self._name):
                self._open()
        except BaseException:
            self.close()
            raise

    @abstractmethod
    def _open(self) -> None:
        """Makes the engine's own connection, keeps others out, and prepares the tables."""

    @abstractmethod
    def _connected(self) -> sqlalchemy.Connection:
        """The engine's own connection, which keeps other engines out; a new one if it was lost."""

    @abstractmethod
    def transaction(self) -> AbstractContextManager[Work]: ...

    @abstractmethod
    def was_committed(self, doubt: Doubt, /) -> bool: ...

    @abstractmethod
    def check(self) -> None: ...

    @abstractmethod
    def _begin(self, connection: sqlalchemy.Connection) -> None:
        """Prepares a transaction that is going to write."""

    def write(self, work: Callable[[Work], T], undo: Callable[[Work], None] | None = None, /) -> T:
        with self._turns:
            try:
                return self._attempt(work)
            except DisconnectedError:
                pass
            # The connection may have been lost long ago, and nobody has used it since.
            try:
                return self._attempt(work)
            except StoreError as error:
                if undo is not None:
                    self._undo.append(undo)
                raise UnknownOutcomeError(str(error)) from error

    def read(self, statement: str, values: Values, /) -> list[Any]:
        if self._turns.is_mine and self._own is not None:
            return self._work(self._own).fetch(statement, values)
        return self.write(lambda work: work.fetch(statement, values))

    def close(self) -> None:
        with self._turns:
            self._drop()
        if self._is_ours:
            self._engine.dispose()

    def _attempt(self, work: Callable[[Work], T]) -> T:
        connection = self._connected()
        try:
            with translated(self._name), connection.begin():
                self._begin(connection)
                for undo in self._undo:
                    undo(self._work(connection))
                result = work(self._work(connection))
        except BaseException as error:
            is_broken = connection.invalidated or getattr(self._driver, "closed", False)
            if is_broken or not isinstance(error, Exception):
                self._drop()  # by itself it would come back without keeping others out
            raise
        self._undo.clear()
        return result

    @contextlib.contextmanager
    def _block(
        self, connection: sqlalchemy.Connection, transaction: sqlalchemy.RootTransaction
    ) -> Iterator[Work]:
        """Lends a transaction to a user. Rolls it back when this raises, commits nothing."""
        work = self._work(connection)
        try:
            yield work
            if transaction.is_active:
                work.fetch(_PROBE, {})
        except BaseException:
            if not connection.closed:
                with contextlib.suppress(SQLAlchemyError):
                    transaction.rollback()
            raise
        if not transaction.is_active:
            raise UnknownOutcomeError("the transaction was ended inside its block, too early")

    def _detached(self) -> sqlalchemy.Connection:
        """Makes the engine's own connection. Its place in the pool is left to users."""
        self._own = connection = self._engine.connect()
        self._driver = connection.connection.dbapi_connection
        connection.detach()
        return connection

    def _drop(self) -> None:
        connection, self._own = self._own, None
        if connection is not None:
            connection.close()
        if self._driver is not None:  # SQLAlchemy forgets one that it no longer trusts
            self._driver.close()

    def _work(self, connection: sqlalchemy.Connection) -> SqlAlchemyWork:
        return SqlAlchemyWork(connection, self._dialect, self._name)

    def _make_table(self, connection: sqlalchemy.Connection) -> None:
        """Makes the table that knows the version of the schema, if there is none."""
        if not sqlalchemy.inspect(connection).has_table(f"{self._dialect.prefix}store"):
            self._work(connection).execute(_CREATE_STORE)
            self._work(connection).execute(_INSERT_STORE)

    def _version(self, connection: sqlalchemy.Connection) -> int:
        """The version of the schema.

        Raises:
            StoreError: It is newer than this code.
        """
        version = int(self._work(connection).fetch(_VERSION, {})[0][0])
        check_version(self._name, version)
        return version

    def _migrate(self, connection: sqlalchemy.Connection, version: int) -> None:
        for step in range(version, SCHEMA_VERSION):
            with connection.begin():
                self._begin(connection)
                work = self._work(connection)
                for statement in MIGRATIONS[step]:
                    work.execute(statement)
                work.execute(_SET_VERSION, [{"version": step + 1}])


# One row. The epoch counts the engines that have opened the store.
_CREATE_STORE: Final = """
    CREATE TABLE {prefix}store (version INTEGER NOT NULL, epoch BIGINT NOT NULL)
"""
_INSERT_STORE: Final = "INSERT INTO {prefix}store (version, epoch) VALUES (0, 0)"
_VERSION: Final = "SELECT version FROM {prefix}store"
_SET_VERSION: Final = "UPDATE {prefix}store SET version = :version"

_PROBE: Final = "SELECT 1"
"""Fails after an error that the block has swallowed: PostgreSQL would answer COMMIT by a rollback,
and call it a success."""


class SqlAlchemyWork:
    """One transaction under way."""

    def __init__(self, connection: sqlalchemy.Connection, dialect: Dialect, name: str) -> None:
        self.connection = connection
        self.evidence: Evidence | None = None
        self._dialect = dialect
        self._name = name

    def execute(self, statement: str, rows: Sequence[Values] | None = None) -> None:
        if rows is None:
            self._executed(statement, {})
        elif rows:
            self._executed(statement, rows)

    def fetch(self, statement: str, values: Values) -> list[Any]:
        return list(self._executed(statement, values))

    def _executed(
        self, statement: str, values: Values | Sequence[Values]
    ) -> sqlalchemy.CursorResult[Any]:
        if self.connection.closed:
            raise StoreError("the connection was closed inside the block of its transaction")
        with translated(self._name):
            return self.connection.execute(_text(self._dialect, statement), values)


def _new_text(dialect: Dialect, statement: str) -> sqlalchemy.TextClause:
    return sqlalchemy.text(dialect.sql(statement))


_text = functools.cache(_new_text)


@contextlib.contextmanager
def translated(name: str) -> Iterator[None]:
    """Makes StoreErrors of SQLAlchemy's errors.

    Raises:
        DisconnectedError: The connection was lost.
        StoreError: The database has refused.
    """
    try:
        yield
    except SQLAlchemyError as error:
        # Without the statement and its values, which SQLAlchemy adds: this is shown to users.
        text = str(error.orig if isinstance(error, DBAPIError) else error).strip()
        kind = StoreError
        if isinstance(error, DBAPIError) and error.connection_invalidated:
            kind = DisconnectedError
        raise kind(f"cannot use store {name!r}: {text}") from error
