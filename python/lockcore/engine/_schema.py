"""The tables of the store, as steps from one version of the schema to the next."""

from __future__ import annotations

from typing import Final

from lockcore.engine._result import StoreError

__all__ = ["MIGRATIONS", "SCHEMA_VERSION", "check_version"]

MIGRATIONS: Final[tuple[tuple[str, ...], ...]] = (
    (
        # A command that has tasks, until it has ended. `sequence` is the order in which locks were
        # taken, `type` is `module:class`; `owner`, of its locks, is itself or its topmost parent;
        # `locks` is JSON, exactly what is held, NULL for none; `has_failed`: a child of it has.
        """
        CREATE TABLE {prefix}command (
            command_id TEXT PRIMARY KEY,
            sequence BIGINT NOT NULL,
            type TEXT NOT NULL,
            parameters TEXT NOT NULL,
            owner TEXT NOT NULL,
            parent_id TEXT,
            locks TEXT,
            is_executed INTEGER NOT NULL DEFAULT 0,
            has_failed INTEGER NOT NULL DEFAULT 0
        )
        """,
        # A task, until the back end has forgotten it. `spec` is to be read by people.
        """
        CREATE TABLE {prefix}task (
            sequence {serial},
            task_id TEXT NOT NULL UNIQUE,
            command_id TEXT NOT NULL,
            spec TEXT NOT NULL
        )
        """,
        "CREATE INDEX {prefix}task_command ON {prefix}task (command_id)",
        # The last commands that have ended. `messages` is JSON.
        """
        CREATE TABLE {prefix}outcome (
            sequence {serial},
            command_id TEXT NOT NULL UNIQUE,
            type TEXT NOT NULL,
            state TEXT NOT NULL,
            messages TEXT NOT NULL
        )
        """,
    ),
    (
        "ALTER TABLE {prefix}command ADD COLUMN correlation_id TEXT",
        "ALTER TABLE {prefix}outcome ADD COLUMN correlation_id TEXT",
    ),
    (
        # What `execute` has raised, as JSON; the parent that fails because of this outcome.
        "ALTER TABLE {prefix}command ADD COLUMN failure TEXT",
        "ALTER TABLE {prefix}outcome ADD COLUMN failed_parent_id TEXT",
    ),
)
"""What makes of version 0, which is empty, version 1, and so on. What was released is not edited.

Each step is one transaction, in which the version is noted.
"""

SCHEMA_VERSION: Final = len(MIGRATIONS)


def check_version(store: str, version: int) -> None:
    """Refuses the schema of a later lockcore.

    Raises:
        StoreError: It is newer than `SCHEMA_VERSION`.
    """
    if version > SCHEMA_VERSION:
        raise StoreError(
            f"store {store!r} has schema {version}, which is newer than schema {SCHEMA_VERSION} of"
            " this lockcore: it was left untouched"
        )
