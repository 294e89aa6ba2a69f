"""The databases that SQLAlchemy leads to: PostgreSQL, and SQLite files that others use, too."""

from __future__ import annotations

import contextlib
import functools
import sqlite3
from collections.abc import Callable, Iterator
from typing import Any, Final

import sqlalchemy

from lockcore.engine._database import Database, Dialect, Doubt, Values, Work
from lockcore.engine._postgresql import PostgresqlDatabase
from lockcore.engine._result import StoreError
from lockcore.engine._sqlalchemy import SqlAlchemyDatabase, translated
from lockcore.engine._sqlite import lock_file

__all__ = ["engine_opener", "url_opener"]

_NETWORK: Final = {
    "connect_timeout": "10",
    "keepalives_idle": "30",
    "keepalives_interval": "10",
    "keepalives_count": "3",
    "tcp_user_timeout": "60000",
}
"""So that a server that has gone without a word is noticed within a minute."""


def url_opener(url: str) -> Callable[[], Database]:
    """What opens a PostgreSQL database.

    Raises:
        ValueError: The URL cannot be read.
        ImportError: psycopg is not installed.
    """
    try:
        parsed = sqlalchemy.make_url(url)
    except (sqlalchemy.exc.ArgumentError, ValueError) as error:
        raise ValueError(f"the URL of the store cannot be read: {error}") from None
    parsed = parsed.set(drivername="postgresql+psycopg", query={**_NETWORK, **parsed.query})
    engine = sqlalchemy.create_engine(parsed, hide_parameters=True)  # those of commands
    return functools.partial(PostgresqlDatabase, engine, is_ours=True)


def engine_opener(engine: sqlalchemy.Engine) -> Callable[[], Database]:
    """What opens the database of an engine.

    Raises:
        ValueError: It is of a kind that cannot be a store.
    """
    if engine.dialect.name == "postgresql" and not engine.dialect.is_async:
        return functools.partial(PostgresqlDatabase, engine, is_ours=False)
    if engine.dialect.name == "sqlite" and not engine.dialect.is_async:
        return functools.partial(SharedSqliteDatabase, engine, is_ours=False)
    raise ValueError(
        f"{engine!r} cannot be a store: it must lead to PostgreSQL or SQLite, and not be async"
    )


class SharedSqliteDatabase(SqlAlchemyDatabase):
    """A file that others write, too, in turns; the lock file keeps engines out.

    Each block of a user has a connection of its own, so whatever is done with it ends with it.
    """

    _dialect = Dialect(prefix="lockcore_", serial="INTEGER PRIMARY KEY")
    _guard: sqlite3.Connection | None = None
    _lent: sqlalchemy.Connection | None = None

    def _open(self) -> None:
        connection = self._detached()
        with connection.begin():
            rows = connection.exec_driver_sql("PRAGMA database_list").all()
            path = next((file for _, name, file in rows if name == "main"), "")
            if not path:
                raise StoreError(
                    f"cannot open store {self._name!r}: a database in memory cannot be shared:"
                    " use 'sqlite://'"
                )
        _make_durable(connection)
        try:
            self._guard = lock_file(path)
        except sqlite3.Error as error:
            raise StoreError(f"cannot open store {path!r}: {error}") from error
        with connection.begin():
            self._begin(connection)
            self._make_table(connection)
            version = self._version(connection)
        self._migrate(connection, version)

    def _connected(self) -> sqlalchemy.Connection:
        if self._own is not None:
            return self._own
        with translated(self._name):  # a signal had come at a bad time
            connection = self._detached()
            _make_durable(connection)
            return connection

    def _begin(self, connection: sqlalchemy.Connection) -> None:
        driver = connection.connection.dbapi_connection
        assert isinstance(driver, sqlite3.Connection)
        if not driver.in_transaction:
            with translated(self._name):
                connection.exec_driver_sql("BEGIN IMMEDIATE")

    def read(self, statement: str, values: Values, /) -> list[Any]:
        if self._turns.is_mine and self._lent is not None:  # nobody else could read meanwhile
            return self._work(self._lent).fetch(statement, values)
        return super().read(statement, values)

    @contextlib.contextmanager
    def transaction(self) -> Iterator[Work]:
        with self._turns, contextlib.ExitStack() as opened:
            with translated(self._name):
                connection = opened.enter_context(self._engine.connect())
                connection.detach()  # what is set on it is not for other users of the pool
                _make_durable(connection)
                transaction = connection.begin()
            self._lent = connection
            try:
                with self._block(connection, transaction) as work:
                    self._begin(connection)
                    yield work
                with translated(self._name):
                    transaction.commit()
            finally:
                self._lent = None

    def was_committed(self, doubt: Doubt, /) -> bool:
        raise StoreError(f"no outcome is ever unknown here: {doubt}")

    def check(self) -> None:
        """Nobody can take over what the lock of a file keeps."""

    def close(self) -> None:
        super().close()
        if self._guard is not None:
            self._guard.close()


def _make_durable(connection: sqlalchemy.Connection) -> None:
    """Has each commit wait for the disk. SQLite takes that outside a transaction only."""
    driver = connection.connection.dbapi_connection
    assert isinstance(driver, sqlite3.Connection)
    driver.execute("PRAGMA synchronous = FULL").close()
