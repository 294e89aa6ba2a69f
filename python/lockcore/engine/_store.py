"""The store: which commands have tasks, which locks they hold, how they ended. In SQLite."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from lockcore._types import Message
from lockcore.engine._codec import dump_keys, dump_message, load_keys, load_message
from lockcore.engine._command import LockRequest
from lockcore.engine._result import CommandState, StoreError

__all__ = ["Store", "StoredCommand", "StoredOutcome", "StoredTask", "open_store", "store_path"]

SCHEMA_VERSION: Final = 2

_SCHEMA: Final = """
CREATE TABLE command (              -- one that has tasks, until it has ended
    command_id TEXT PRIMARY KEY,
    sequence INTEGER NOT NULL,      -- the order in which locks were taken
    type TEXT NOT NULL,             -- module:class
    parameters TEXT NOT NULL,       -- JSON
    owner TEXT NOT NULL,            -- of its locks: itself, or its topmost parent
    parent_id TEXT,
    locks TEXT,                     -- JSON, exactly as held; NULL for none
    is_executed INTEGER NOT NULL DEFAULT 0,
    has_failed INTEGER NOT NULL DEFAULT 0, -- a child of it has
    correlation_id TEXT
);
CREATE TABLE task (                 -- until the back end has forgotten it
    sequence INTEGER PRIMARY KEY,
    task_id TEXT NOT NULL UNIQUE,
    command_id TEXT NOT NULL,
    spec TEXT NOT NULL              -- to be read by people
);
CREATE INDEX task_command ON task (command_id);
CREATE TABLE outcome (              -- of the commands that have ended, the last ones
    sequence INTEGER PRIMARY KEY,
    command_id TEXT NOT NULL UNIQUE,
    type TEXT NOT NULL,
    state TEXT NOT NULL,
    messages TEXT NOT NULL,         -- JSON
    correlation_id TEXT
);
"""

_MIGRATIONS: Final = {
    1: """
ALTER TABLE command ADD COLUMN correlation_id TEXT;
ALTER TABLE outcome ADD COLUMN correlation_id TEXT;
""",
}
"""What makes of a schema of that version the next one."""

_APPLICATION_ID: Final = 0x6C6F636B
_OUTCOMES_KEPT: Final = 10_000


@dataclass(slots=True)
class StoredTask:
    """A row of a task."""

    task_id: str
    spec: str


@dataclass(slots=True)
class StoredCommand:
    """A command with what is needed to rebuild it, and the locks that it holds."""

    command_id: str
    sequence: int
    type: str
    parameters: str
    owner: str
    parent_id: str | None
    locks: LockRequest
    is_executed: bool = False
    has_failed: bool = False
    correlation_id: str | None = None


@dataclass(frozen=True, slots=True)
class StoredOutcome:
    """How a command has ended.

    Attributes:
        fails_parent: Whether its parent must end with failure because of it.
    """

    command_id: str
    type: str
    state: CommandState
    messages: tuple[str | Message, ...]
    correlation_id: str | None = None
    fails_parent: bool = False


def store_path(url: str) -> str:
    """The file a store URL names; empty for a store in memory.

    Raises:
        TypeError: It is not a `str`.
        ValueError: It is not a URL of a kind that is known.
    """
    known = "sqlite:///relative/path, sqlite:////absolute/path, sqlite:// (in memory)"
    if not isinstance(url, str):
        raise TypeError(f"store must be a URL such as 'sqlite:///engine.db', not {url!r}")
    scheme, separator, rest = url.partition("://")
    if not separator or scheme != "sqlite" or (rest and not rest.startswith("/")):
        raise ValueError(f"unknown store {url!r}: known are {known}")
    path = rest[1:]
    return "" if path in ("", ":memory:") else path


def open_store(path: str) -> Store:
    """Opens a store, or makes it if there is none; nobody else can have it open.

    Nothing is changed when this raises.

    Raises:
        StoreError: The store is in use by another engine, its schema is newer than this code, it
            is not a store, or it cannot be opened.
    """
    with contextlib.ExitStack() as opened:
        try:
            guard = opened.enter_context(contextlib.closing(_lock_file(path))) if path else None
            connection = opened.enter_context(contextlib.closing(_connect(path)))
            _prepare(connection, path)
        except sqlite3.Error as error:
            raise StoreError(f"cannot open store {path!r}: {error}") from error
        opened.pop_all()
    return Store(connection, guard)


class Store:
    """Reads and writes the rows. Every writing call is one durable transaction.

    May be called from any thread; calls take turns.
    """

    def __init__(self, connection: sqlite3.Connection, guard: sqlite3.Connection | None) -> None:
        self._connection = connection
        self._guard = guard
        self._mutex = threading.Lock()

    def add(
        self, commands: Sequence[StoredCommand], command_id: str, task: StoredTask | None
    ) -> None:
        """Stores commands, parents first, and a task of one of them."""
        with self._transaction() as execute:
            for row in commands:
                execute(
                    "INSERT INTO command VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    row.command_id,
                    row.sequence,
                    row.type,
                    row.parameters,
                    row.owner,
                    row.parent_id,
                    _dump_locks(row.locks),
                    row.is_executed,
                    row.has_failed,
                    row.correlation_id,
                )
            if task is not None:
                execute(
                    "INSERT INTO task (task_id, command_id, spec) VALUES (?, ?, ?)",
                    task.task_id,
                    command_id,
                    task.spec,
                )

    def drop_tasks(self, task_ids: Sequence[str]) -> None:
        """Deletes tasks that the back end has forgotten, or that have not started."""
        with self._transaction() as execute:
            for task_id in task_ids:
                execute("DELETE FROM task WHERE task_id = ?", task_id)

    def end_execution(self, command_id: str, *, is_executed: bool, locks: LockRequest) -> None:
        """Notes that `execute` has ended, whether well, and which locks it leaves."""
        with self._transaction() as execute:
            execute(
                "UPDATE command SET is_executed = ?, locks = ? WHERE command_id = ?",
                is_executed,
                _dump_locks(locks),
                command_id,
            )

    def end(self, outcomes: Sequence[StoredOutcome], forgotten: Sequence[str] = ()) -> None:
        """Replaces commands by their outcomes and notes failures in their parents.

        Their tasks stay, as a note that the back end has to forget them, until an id is among
        those that it has `forgotten`, or is given to `drop_tasks`.
        """
        with self._transaction() as execute:
            for outcome in outcomes:
                if outcome.fails_parent:
                    execute(
                        "UPDATE command SET has_failed = 1 WHERE command_id ="
                        " (SELECT parent_id FROM command WHERE command_id = ?)",
                        outcome.command_id,
                    )
                execute("DELETE FROM command WHERE command_id = ?", outcome.command_id)
                execute(
                    "INSERT OR REPLACE INTO outcome"
                    " (command_id, type, state, messages, correlation_id) VALUES (?, ?, ?, ?, ?)",
                    outcome.command_id,
                    outcome.type,
                    outcome.state.value,
                    json.dumps([dump_message(message) for message in outcome.messages]),
                    outcome.correlation_id,
                )
            for task_id in forgotten:
                execute("DELETE FROM task WHERE task_id = ?", task_id)
            execute(
                "DELETE FROM outcome WHERE sequence <= (SELECT max(sequence) FROM outcome) - ?",
                _OUTCOMES_KEPT,
            )

    def outcome(self, command_id: str) -> StoredOutcome | None:
        """How a command has ended; None if it has not, or is not known, or not any more."""
        rows = self._read(
            "SELECT type, state, messages, correlation_id FROM outcome WHERE command_id = ?",
            command_id,
        )
        for type_name, state, messages, correlation_id in rows:
            loaded = (load_message(message) for message in json.loads(messages))
            return StoredOutcome(
                command_id,
                type_name,
                CommandState(state),
                tuple(message for message in loaded if message is not None),
                correlation_id,
            )
        return None

    def commands(self) -> list[StoredCommand]:
        """All commands that have not ended, in the order in which they took their locks."""
        return [
            StoredCommand(
                command_id,
                sequence,
                type_name,
                parameters,
                owner,
                parent_id,
                _load_locks(locks),
                bool(is_executed),
                bool(has_failed),
                correlation_id,
            )
            for (
                command_id,
                sequence,
                type_name,
                parameters,
                owner,
                parent_id,
                locks,
                is_executed,
                has_failed,
                correlation_id,
            ) in self._read("SELECT * FROM command ORDER BY sequence")
        ]

    def tasks(self) -> dict[str, list[StoredTask]]:
        """All tasks by the id of their command, in the order of their start."""
        found: dict[str, list[StoredTask]] = {}
        rows = self._read("SELECT command_id, task_id, spec FROM task ORDER BY sequence")
        for command_id, task_id, spec in rows:
            found.setdefault(command_id, []).append(StoredTask(task_id, spec))
        return found

    def close(self) -> None:
        """Closes the store; another engine may open it then."""
        with self._mutex:
            self._connection.close()
            if self._guard is not None:
                self._guard.close()

    def _read(self, sql: str, *values: Any) -> list[Any]:
        with self._mutex:
            return self._connection.execute(sql, values).fetchall()

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[Any]:
        with self._mutex:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield lambda sql, *values: self._connection.execute(sql, values)
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise


def _connect(path: str) -> sqlite3.Connection:
    return sqlite3.connect(
        path or ":memory:", isolation_level=None, check_same_thread=False, timeout=10.0
    )


def _lock_file(path: str) -> sqlite3.Connection:
    """Locks `path` by a second, empty database beside it, so that the store itself can be read.

    The lock is the operating system's: it goes with the process.
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


def _prepare(connection: sqlite3.Connection, path: str) -> None:
    """Checks the schema, then makes it where there is none, or brings it up to date."""
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version > SCHEMA_VERSION:
        raise StoreError(
            f"store {path!r} has schema {version}, which is newer than schema {SCHEMA_VERSION} of"
            " this lockcore: it was left untouched"
        )
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    if version == 0:
        if connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            raise StoreError(f"{path!r} is a database of something else, not a store")
    elif application != _APPLICATION_ID:
        raise StoreError(f"{path!r} is a database of something else, not a store")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    if version == SCHEMA_VERSION:
        return
    steps = [_MIGRATIONS[step] for step in range(version, SCHEMA_VERSION)] if version else [_SCHEMA]
    connection.executescript(
        f"BEGIN IMMEDIATE; {''.join(steps)}"
        f"PRAGMA application_id = {_APPLICATION_ID};"
        f"PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;"
    )


def _dump_locks(locks: LockRequest) -> str | None:
    if not locks:
        return None
    return json.dumps({"exclusive": dump_keys(locks.exclusive), "shared": dump_keys(locks.shared)})


def _load_locks(text: str | None) -> LockRequest:
    if text is None:
        return LockRequest({}, {})
    rows = json.loads(text)
    return LockRequest(load_keys(rows["exclusive"]), load_keys(rows["shared"]))
