"""The store: its URLs, its schema, who may open it, and what can be put into it."""

from __future__ import annotations

import enum
import sqlite3
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from engine_commands import Long, start_one_task
from engine_support import ManualTasks

from lockcore import LockManager
from lockcore.engine import Command, Engine, Message, Scope, StoreError, exclusive, locks
from lockcore.engine._codec import dump_keys, dump_message, load_keys, load_message

Script = dict[str, Callable[[Any], Any]]


@pytest.mark.parametrize(
    "url",
    [
        "engine.db",
        "sqlite:engine.db",
        "sqlite://engine.db",
        "mysql://localhost/engine",
        "",
        "sqlite+pysqlite:///engine.db",
    ],
)
def test_unknown_url_is_refused_with_the_known_kinds(url: str) -> None:
    with pytest.raises(ValueError, match="known are sqlite:///relative") as caught:
        Engine(store=url)
    assert repr(url) in str(caught.value)


@pytest.mark.parametrize("url", [None, 7, Path("engine.db")])
def test_store_that_is_no_url_is_refused(url: Any) -> None:
    with pytest.raises(TypeError, match=r"store must be a URL such as 'sqlite:///engine\.db'"):
        Engine(store=url)


def test_relative_url_is_relative_to_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with Engine(store="sqlite:///some.db"):
        pass
    assert (tmp_path / "some.db").exists()


def test_absolute_url_is_absolute(tmp_path: Path) -> None:
    with Engine(store=f"sqlite:///{tmp_path}/some.db"):
        pass
    assert (tmp_path / "some.db").exists()


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///", "sqlite:///:memory:"])
def test_store_in_memory_leaves_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with Engine(store=url):
        pass
    assert list(tmp_path.iterdir()) == []


def test_store_is_made_only_when_the_engine_is_opened(tmp_path: Path, store: str) -> None:
    Engine(store=store)
    assert list(tmp_path.iterdir()) == []


def test_store_in_a_missing_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="unable to open database file"):
        Engine(store=f"sqlite:///{tmp_path}/missing/engine.db").open()


def test_store_of_a_newer_schema_is_refused_untouched(tmp_path: Path, store: str) -> None:
    with sqlite3.connect(tmp_path / "engine.db") as connection:
        connection.execute("CREATE TABLE command (of_the_future)")
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    before = (tmp_path / "engine.db").read_bytes()
    with pytest.raises(StoreError, match="has schema 99, which is newer than schema 3"):
        Engine(store=store).open()
    assert (tmp_path / "engine.db").read_bytes() == before


def test_database_of_something_else_is_refused_untouched(tmp_path: Path, store: str) -> None:
    with sqlite3.connect(tmp_path / "engine.db") as connection:
        connection.execute("CREATE TABLE songs (title)")
    connection.close()
    before = (tmp_path / "engine.db").read_bytes()
    with pytest.raises(
        StoreError, match=r"is a database of something else.*give a sqlalchemy.Engine"
    ):
        Engine(store=store).open()
    assert (tmp_path / "engine.db").read_bytes() == before


def test_file_that_is_no_database_is_refused_untouched(tmp_path: Path, store: str) -> None:
    (tmp_path / "engine.db").write_text("not a database, " * 100, encoding="utf-8")
    with pytest.raises(StoreError, match="file is not a database"):
        Engine(store=store).open()
    assert (tmp_path / "engine.db").read_text(encoding="utf-8") == "not a database, " * 100


def test_second_engine_on_a_store_is_refused(new_engine: Callable[..., Engine]) -> None:
    with new_engine(), pytest.raises(StoreError, match="is in use by another engine"):
        new_engine().open()


def test_second_engine_by_another_name_of_the_file_is_refused(
    new_engine: Callable[..., Engine], tmp_path: Path
) -> None:
    (tmp_path / "link.db").symlink_to(tmp_path / "engine.db")
    with new_engine(), pytest.raises(StoreError, match="is in use by another engine"):
        new_engine(store=f"sqlite:///{tmp_path}/link.db").open()


def test_store_is_free_after_the_engine_is_closed(new_engine: Callable[..., Engine]) -> None:
    with new_engine():
        pass
    with new_engine():
        pass


def test_store_is_free_after_a_failed_opening(
    new_engine: Callable[..., Engine], tasks: ManualTasks
) -> None:
    tasks.status_error = ConnectionError("the broker is away")
    with pytest.raises(ConnectionError):
        new_engine().open()
    tasks.status_error = None
    with new_engine():
        pass


def test_store_can_be_read_while_an_engine_uses_it(
    new_engine: Callable[..., Engine], tmp_path: Path, script: Script
) -> None:
    script["execute"] = start_one_task
    with new_engine() as engine:
        result = engine.run(Long())
        connection = sqlite3.connect(tmp_path / "engine.db")
        rows = connection.execute("SELECT command_id FROM command").fetchall()
        connection.close()
    assert rows == [(result.command_id,)]


@locks(exclusive("VM", "vm"), scope=Scope.COMMAND)
class Keep(Command):
    """Is stored with whatever it is given."""

    vm: Any = "web"
    value: Any = None

    def execute(self) -> None:
        self.start_task("copy")

    def end_successfully(self) -> None:
        seen.append(self.value)


seen: list[Any] = []


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        0,
        -(10**1000),
        1.5,
        float("inf"),
        "text \udc80 \0 ä",
        b"\0\xff",
        uuid.UUID(int=7),
        [1, [2, (3,)]],
        (1, (2,), [b"3"]),
        {"a": {"b": (1,)}},
        {1: "one", (2, 3): b"pair", "$": None},
        {"$": "tuple", "items": []},
        {},
    ],
    ids=lambda value: str(type(value).__name__),
)
def test_parameter_comes_back_as_it_was(
    new_engine: Callable[..., Engine], tasks: ManualTasks, value: Any
) -> None:
    seen.clear()
    with new_engine() as engine:
        engine.run(Keep(value=value))
    tasks.end_all()
    with new_engine():
        assert [repr(found) for found in seen] == [repr(value)]


class Colour(enum.StrEnum):
    RED = "red"


def _loop() -> list[Any]:
    loop: list[Any] = []
    loop.append(loop)
    return loop


@pytest.mark.parametrize(
    ("value", "error"),
    [
        (object(), "parameter value cannot be stored: object has no stored form"),
        ({1, 2}, "parameter value cannot be stored: set has no stored form"),
        (Colour.RED, "parameter value cannot be stored: Colour has no stored form"),
        (Path("a"), "Path has no stored form"),
        ([1, {"a": (2, {3})}], r"parameter value\[1\]\['a'\]\[1\] cannot be stored: set"),
        (_loop(), "parameters cannot be stored: they are nested too deeply"),
    ],
)
def test_parameter_that_cannot_be_stored_is_refused_before_anything_is_locked(
    engine: Engine, manager: LockManager, value: Any, error: str
) -> None:
    with pytest.raises(TypeError, match=error):
        engine.run(Keep(value=value))
    assert manager.statistics().acquired == 0


@pytest.mark.parametrize("vm", [None, 1.5, True, ("a", "b")])
def test_parameter_that_is_no_key_is_refused_before_anything_is_locked(
    engine: Engine, manager: LockManager, vm: Any
) -> None:
    with pytest.raises(TypeError):
        engine.run(Keep(vm=vm))
    assert (len(manager), manager.statistics().acquired) == (0, 0)


def test_parameter_that_was_changed_by_execute_is_stored_as_it_was_given(
    new_engine: Callable[..., Engine], tasks: ManualTasks, script: Script, monkeypatch: Any
) -> None:
    def execute(command: Any) -> None:
        command.value.append("changed")
        command.start_task("copy")

    seen.clear()
    monkeypatch.setattr(Keep, "execute", execute)
    with new_engine() as engine:
        engine.run(Keep(value=["given"]))
    tasks.end_all()
    with new_engine():
        assert seen == [["given"]]


def test_keys_and_messages_come_back_as_they_were() -> None:
    keys: dict[Any, Any] = {
        "plain": None,
        b"\xff": "text",
        7: Message("CODE", VmName="web", count=3, id=uuid.UUID(int=1)),
        uuid.UUID(int=2): None,
        ("VM", "1"): None,
        ("VM", 1): None,
        ("VM", b"1"): None,
    }
    assert load_keys(dump_keys(keys)) == keys


def test_key_of_a_subclass_comes_back_as_its_base() -> None:
    (key,) = load_keys(dump_keys({(Colour.RED, Colour.RED): None}))
    assert key == ("red", "red")
    assert [type(part) for part in key] == [str, str]  # type: ignore[union-attr]


def test_message_variable_that_cannot_be_stored_comes_back_as_its_text() -> None:
    message = Message("CODE", where=Path("a/b"))
    assert load_message(dump_message(message)) == Message("CODE", where="a/b")
