"""Fixtures for the tests of the store: a PostgreSQL server, and every kind of store there is."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from store_support import Postgresql, SharedSqlite, SqliteFile, SqliteMemory

from services import PostgresqlServer, require_module

_numbers = itertools.count(1)

KINDS = ["sqlite-file", "sqlite-memory", "sqlalchemy-sqlite", "postgresql"]


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[PostgresqlServer]:
    require_module("sqlalchemy")
    require_module("psycopg")
    server = PostgresqlServer()
    try:
        server.server.start()
        yield server
    finally:
        server.close()


@pytest.fixture
def postgresql(postgresql_server: PostgresqlServer) -> Iterator[Postgresql]:
    """An empty database of the server; the server runs, whatever the test before has done."""
    postgresql_server.server.start()
    database = Postgresql(postgresql_server, f"test{next(_numbers)}")
    yield database
    postgresql_server.server.start()
    database.close()


@pytest.fixture(params=KINDS)
def any_store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    """An empty store of each kind in turn."""
    if request.param == "postgresql":
        yield request.getfixturevalue("postgresql")
        return
    if request.param == "sqlalchemy-sqlite":
        require_module("sqlalchemy")
        store: Any = SharedSqlite(tmp_path)
    else:
        store = SqliteFile(tmp_path) if request.param == "sqlite-file" else SqliteMemory()
    yield store
    store.close()
