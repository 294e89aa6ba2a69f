"""A correlation id is in the results and log records of a command and of its children."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from engine_commands import Long, start_one_task
from engine_support import FAILED, ManualTasks

from lockcore import LockManager
from lockcore.engine import Command, Engine

Script = dict[str, Callable[[Any], Any]]


def test_result_and_command_have_the_correlation_id(engine: Engine, script: Script) -> None:
    seen: list[str | None] = []
    script["execute"] = lambda command: seen.append(command.correlation_id)
    result = engine.run(Long(), correlation_id="request 7")
    assert (result.correlation_id, seen) == ("request 7", ["request 7"])
    assert engine.run(Long()).correlation_id is None


def test_child_has_the_correlation_id_of_its_parent(engine: Engine, script: Script) -> None:
    seen: list[Any] = []

    def execute(command: Long) -> None:
        if command.vm == "web":
            seen.append(command.run_child(Long(vm="db")).correlation_id)

    script["execute"] = execute
    engine.run(Long(), correlation_id="request 7")
    assert seen == ["request 7"]


def test_log_records_have_the_ids(
    engine: Engine, script: Script, caplog: pytest.LogCaptureFixture
) -> None:
    def execute(command: Command) -> None:
        raise OSError("the disk is full")

    script["execute"] = execute
    result = engine.run(Long(), correlation_id="request 7")
    (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert record.getMessage() == f"Long {result.command_id} (request 7) failed"
    assert vars(record)["correlation_id"] == "request 7"
    assert vars(record)["command_id"] == result.command_id


def test_correlation_id_survives_a_restart(
    new_engine: Callable[..., Engine], script: Script, tasks: ManualTasks
) -> None:
    script["execute"] = start_one_task
    with new_engine() as engine:
        result = engine.run(Long(), correlation_id="request 7")
    tasks.end_all(FAILED)
    with new_engine(manager=LockManager()) as engine:
        assert engine.wait(result.command_id, timeout=0).correlation_id == "request 7"
    with new_engine(manager=LockManager()) as engine:
        assert engine.wait(result.command_id, timeout=0).correlation_id == "request 7"


def test_correlation_id_that_is_no_text_is_refused(engine: Engine, manager: LockManager) -> None:
    with pytest.raises(TypeError, match="correlation_id must be str or None, not 7"):
        engine.run(Long(), correlation_id=7)  # type: ignore[arg-type]
    assert manager.statistics().acquired == 0


@pytest.mark.parametrize("correlation_id", ["half a pair \ud800", "null \0"])
def test_correlation_id_that_cannot_be_stored_is_refused(
    engine: Engine, manager: LockManager, correlation_id: str
) -> None:
    with pytest.raises(ValueError, match="correlation_id is no text that can be stored"):
        engine.run(Long(), correlation_id=correlation_id)
    assert manager.statistics().acquired == 0


def test_any_other_text_is_a_correlation_id(
    new_engine: Callable[..., Engine], script: Script, tasks: ManualTasks
) -> None:
    script["execute"] = start_one_task
    text = "größer 🔒 \u202e " + "x" * 100_000
    with new_engine() as engine:
        result = engine.run(Long(), correlation_id=text)
        tasks.end_all()
        engine.wait(result.command_id, timeout=10)
    with new_engine(manager=LockManager()) as engine:
        assert engine.wait(result.command_id, timeout=0).correlation_id == text


SCHEMA_1 = """
CREATE TABLE command (
    command_id TEXT PRIMARY KEY, sequence INTEGER NOT NULL, type TEXT NOT NULL,
    parameters TEXT NOT NULL, owner TEXT NOT NULL, parent_id TEXT, locks TEXT,
    is_executed INTEGER NOT NULL DEFAULT 0, has_failed INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE task (
    sequence INTEGER PRIMARY KEY, task_id TEXT NOT NULL UNIQUE, command_id TEXT NOT NULL,
    spec TEXT NOT NULL
);
CREATE INDEX task_command ON task (command_id);
CREATE TABLE outcome (
    sequence INTEGER PRIMARY KEY, command_id TEXT NOT NULL UNIQUE, type TEXT NOT NULL,
    state TEXT NOT NULL, messages TEXT NOT NULL
);
INSERT INTO command VALUES ('c1', 1, 'engine_commands:Long', '{"vm": "web", "pool": "p1"}', 'c1',
    NULL, '{"exclusive": [[{"$": "tuple", "items": ["VM", "web"]}, null]], "shared": []}', 1, 0);
INSERT INTO task (task_id, command_id, spec) VALUES ('t1', 'c1', 'copy');
INSERT INTO outcome (command_id, type, state, messages) VALUES ('c0', 'x:X', 'failed', '["why"]');
PRAGMA application_id = 1819239275;
PRAGMA user_version = 1;
"""


def test_store_of_the_first_schema_is_brought_up_to_date(
    new_engine: Callable[..., Engine], script: Script, tasks: ManualTasks, tmp_path: Path
) -> None:
    with sqlite3.connect(tmp_path / "engine.db") as connection:
        connection.executescript(SCHEMA_1)
    connection.close()
    tasks.start("t1", "copy")
    with new_engine() as engine:
        assert engine.recovery.resumed == ("c1",)
        assert ("VM", "web") in engine.manager
        assert engine.wait("c0", timeout=0).messages == ("why",)
        tasks.end_all()
        assert engine.wait("c1", timeout=10).correlation_id is None
    with new_engine() as engine:
        assert str(engine.recovery) == "nothing to recover"
