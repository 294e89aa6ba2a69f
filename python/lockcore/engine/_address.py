"""What `Engine(store=...)` may be, and which database that is."""

from __future__ import annotations

import functools
import importlib
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, cast

from lockcore.engine._database import Database
from lockcore.engine._sqlite import SqliteDatabase

if TYPE_CHECKING:
    import sqlalchemy

__all__ = ["database_opener"]

_KNOWN: Final = (
    "sqlite:///relative/path, sqlite:////absolute/path, sqlite:// (in memory),"
    " postgresql://user@host/database, or a sqlalchemy.Engine"
)


def database_opener(store: str | sqlalchemy.Engine) -> Callable[[], Database]:
    """What opens the database that the argument names; nothing is touched before it is called.

    Raises:
        TypeError: It is neither a `str` nor a `sqlalchemy.Engine`.
        ValueError: It is of a kind that is not known.
        ImportError: It needs packages that are not installed.
    """
    if not isinstance(store, str):
        # Who has an Engine of SQLAlchemy has imported it.
        sqlalchemy_module = sys.modules.get("sqlalchemy")
        if sqlalchemy_module is None or not isinstance(store, sqlalchemy_module.Engine):
            raise TypeError(
                "store must be a URL such as 'sqlite:///engine.db', or a sqlalchemy.Engine, not"
                f" {store!r}"
            )
        return _with_sqlalchemy("engine_opener", store)
    scheme, separator, rest = store.partition("://")
    if separator and scheme in ("postgresql", "postgresql+psycopg"):
        return _with_sqlalchemy("url_opener", store)
    if not separator or scheme != "sqlite" or (rest and not rest.startswith("/")):
        raise ValueError(f"unknown store {store!r}: known are {_KNOWN}")
    path = rest[1:]
    return functools.partial(SqliteDatabase, "" if path == ":memory:" else path)


def _with_sqlalchemy(name: str, store: Any) -> Callable[[], Database]:
    """Calls a function of the module that needs more than the base install."""
    try:
        module = importlib.import_module("lockcore.engine._shared_databases")
        return cast(Callable[[], Database], getattr(module, name)(store))
    except ImportError as error:
        raise ImportError(
            f"a store in PostgreSQL needs SQLAlchemy and psycopg ({error}):"
            " install lockcore[postgresql]"
        ) from error
