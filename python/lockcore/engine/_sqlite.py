"""A store in an SQLite file of its own, or in memory, by the standard library alone."""

from __future__ import annotations

import contextlib
import functools
import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NoReturn, Self, TypeVar

from lockcore.engine._database import (
    Dialect,
    Doubt,
    Evidence,
    Turns,
    UnknownOutcomeError,
    Values,
    Work,
)
from lockcore.engine._result import StoreError
from lockcore.engine._schema import MIGRATIONS, SCHEMA_VERSION, check_version

__all__ = ["SqliteDatabase", "lock_file"]

T = TypeVar("T")

_DIALECT: Final = Dialect(prefix="", serial="INTEGER PRIMARY KEY")
_sql = functools.cache(_DIALECT.sql)

_APPLICATION_ID: Final = 0x6C6F636B


class SqliteDatabase:
    """One connection, used in turns; an open transaction of a user delays all others.

    Args:
        path: Of the file, which is made if there is none; empty for memory.

    Raises:
        StoreError: It is in use by another engine, its schema is newer than this code, it is not a
            store, or it cannot be opened. Nothing has been changed.
    """

    def __init__(self, path: str) -> None:
        self._name = path
        self._turns = Turns()
        with contextlib.ExitStack() as opened, self._translated("open"):
            if path:
                opened.enter_context(contextlib.closing(lock_file(path)))
            self._connection = self._connected()
            opened.callback(sqlite3.Connection.close, self._connection)
            self._prepare()
            self._opened = opened.pop_all()

    def write(self, work: Callable[[Work], T], undo: Callable[[Work], None] | None = None, /) -> T:
        del undo  # a commit that raises has changed nothing
        with self._turns, self._transaction(self._connection) as transaction:
            return work(transaction)

    def read(self, statement: str, values: Values, /) -> list[Any]:
        with contextlib.nullcontext() if self._turns.is_mine else self._turns:
            return _SqliteWork(self, self._connection).fetch(statement, values)

    @contextlib.contextmanager
    def transaction(self) -> Iterator[Work]:
        with (
            self._turns,
            self._lent() as connection,
            self._transaction(connection) as transaction,
        ):
            yield transaction
            if not connection.in_transaction:
                raise UnknownOutcomeError("the transaction was ended inside its block, too early")

    def was_committed(self, doubt: Doubt, /) -> bool:
        raise StoreError(f"no outcome is ever unknown here: {doubt}")

    def check(self) -> None:
        """Nobody can take over what the lock of a file keeps."""

    def close(self) -> None:
        with self._turns:
            self._opened.close()

    @contextlib.contextmanager
    def _lent(self) -> Iterator[sqlite3.Connection]:
        """A connection for a block of a user, of no use after it; memory has but the one."""
        if not self._name:
            yield self._connection
            return
        with self._translated("open"):
            connection = self._connected()
        try:
            with self._translated("open"):
                connection.execute("PRAGMA synchronous = FULL")
            yield connection
        finally:
            sqlite3.Connection.close(connection)

    @contextlib.contextmanager
    def _transaction(self, connection: sqlite3.Connection) -> Iterator[Work]:
        with self._translated("write to"):
            connection.execute("BEGIN IMMEDIATE")
        try:
            yield _SqliteWork(self, connection)
            if connection.in_transaction:
                with self._translated("write to"):
                    connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise

    def _connected(self) -> sqlite3.Connection:
        return sqlite3.connect(
            self._name or ":memory:",
            isolation_level=None,
            check_same_thread=False,
            timeout=10.0,
            factory=_Connection,
        )

    @contextlib.contextmanager
    def _translated(self, verb: str) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise StoreError(f"cannot {verb} store {self._name!r}: {error}") from error

    def _prepare(self) -> None:
        """Checks the schema, then makes it where there is none, or brings it up to date."""
        version = self._pragma("user_version")
        check_version(self._name, version)
        is_empty = not self._connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        if self._pragma("application_id") != _APPLICATION_ID and not (version == 0 and is_empty):
            raise StoreError(
                f"{self._name!r} is a database of something else, not a store: to keep the state"
                " beside other data, give a sqlalchemy.Engine of it"
            )
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = FULL")
        for step in range(version, SCHEMA_VERSION):
            with self._transaction(self._connection) as transaction:
                for statement in MIGRATIONS[step]:
                    transaction.execute(statement)
                self._connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
                self._connection.execute(f"PRAGMA user_version = {step + 1}")

    def _pragma(self, name: str) -> int:
        return int(self._connection.execute(f"PRAGMA {name}").fetchone()[0])


class _Connection(sqlite3.Connection):
    """A connection whose transactions are ended by the engine, whatever a user has called."""

    def close(self) -> None:
        _refuse("closed")

    def commit(self) -> None:
        _refuse("committed")

    def rollback(self) -> None:
        _refuse("rolled back")

    def __enter__(self) -> Self:
        _refuse("committed")


def _refuse(what: str) -> NoReturn:
    raise sqlite3.ProgrammingError(
        f"the connection of a transaction is not {what} in its block: its end does what is due"
    )


class _SqliteWork:
    def __init__(self, database: SqliteDatabase, connection: sqlite3.Connection) -> None:
        self._database = database
        self.connection = connection
        self.evidence: Evidence | None = None

    def execute(self, statement: str, rows: Sequence[Values] | None = None) -> None:
        with self._database._translated("write to"):
            if rows is None:
                self.connection.execute(_sql(statement))
            else:
                self.connection.executemany(_sql(statement), rows)

    def fetch(self, statement: str, values: Values) -> list[Any]:
        with self._database._translated("read"):
            cursor = self.connection.cursor()
            cursor.row_factory = None  # users may have set one for the connection
            return cursor.execute(_sql(statement), values).fetchall()


def lock_file(path: str) -> sqlite3.Connection:
    """Locks `path` by a second, empty database beside it, so that the first can be read.

    The lock is the operating system's: it goes with the process.

    Raises:
        StoreError: It is locked, or we may not write it.
        sqlite3.Error: The lock cannot be had for another reason.
    """
    if Path(path).exists() and not os.access(path, os.R_OK | os.W_OK):
        raise StoreError(f"cannot open store {path!r}: no permission to read and write it")
    guard = sqlite3.connect(
        os.path.realpath(path) + ".lock",
        isolation_level=None,
        check_same_thread=False,
        timeout=0.0,
    )
    try:
        guard.execute("BEGIN EXCLUSIVE")
    except sqlite3.Error as error:
        guard.close()
        if error.sqlite_errorcode == sqlite3.SQLITE_BUSY:
            raise StoreError(f"store {path!r} is in use by another engine") from None
        raise
    return guard
