"""Some of the kills that `kill_engine.py` does by the hundred, and a judge that is not blind."""

from __future__ import annotations

import json
import random
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from kill_ledger import Checker, LedgerError

PROGRAM = Path(__file__).with_name("kill_engine.py")

PATIENCE = 180
"""Seconds: these are processes by the dozen, on a machine that may be busy."""

linux = pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")


def killed(*arguments: str) -> dict[str, int]:
    """Runs the program with a new seed, which is in the complaint if it fails."""
    program = subprocess.run(
        [sys.executable, str(PROGRAM), "--seed", str(random.getrandbits(32)), *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    assert program.returncode == 0, program.stdout + program.stderr
    counts: dict[str, int] = json.loads(program.stdout.splitlines()[-1])
    return counts


@linux
@pytest.mark.timeout(PATIENCE)
def test_engine_killed_at_any_instant_loses_and_leaves_nothing() -> None:
    counts = killed("--kills", "10")
    assert (counts["kills"], counts["lives"]) == (10, 11)


@linux
@pytest.mark.timeout(PATIENCE)
def test_engine_killed_at_a_step_and_while_it_recovers_loses_and_leaves_nothing() -> None:
    counts = killed("--steps", "--stride", "40", "--recoveries", "1")
    assert counts["kills"] > 5
    assert counts["end actions"] > 5


VM = {"VM web": "exclusive"}


def of(command: str, event: str, **what: Any) -> dict[str, Any]:
    return {"event": event, "command": command, "owner": command, **what}


def executed(command: str) -> list[dict[str, Any]]:
    begins = of(command, "execute", keys=VM, tasks=1, trouble="")
    return [begins, of(command, "executed"), of(command, "result", state="running")]


def task(command: str) -> list[dict[str, Any]]:
    return [of(command, "task", number=0, keys=VM), of(command, "task-ended", number=0, status=0)]


def ended(command: str, how: str = "succeeded") -> list[dict[str, Any]]:
    return [of(command, "end", how=how, keys=VM), of(command, "end-left", how=how)]


def seen(*owners: str) -> list[dict[str, Any]]:
    rows = [["VM web", "exclusive", owner] for owner in owners]
    ways: dict[str, Any] = {way: [] for way in ("resumed", "ended", "cleaned", "set_aside")}
    return [{"event": "look"}, {"event": "seen", "opened": False, "rows": rows, **ways}]


REPORTED = of("a", "result", state="succeeded")
BEGUN, FINISHED = task("a")
DEAD = {"event": "dead"}

RIGHT = {
    "a command": [*executed("a"), *task("a"), *ended("a"), REPORTED],
    "an end action done again": [*executed("a"), *task("a"), *ended("a"), *ended("a")],
    "two commands": [*executed("a"), *task("a"), *ended("a"), *executed("b"), *task("b")],
    "an engine killed in execute": [executed("a")[0], DEAD, *executed("b")],
    "a look at a live task": [*executed("a"), BEGUN, *seen("a"), FINISHED],
    "a look at the end of a task": [*executed("a"), BEGUN, seen()[0], FINISHED, seen()[1]],
}

WRONG = {
    "have VM web at a time": [*executed("a"), BEGUN, *executed("b"), FINISHED],
    "goes on twice at a time": [*executed("a"), BEGUN, BEGUN],
    "lives and has lost VM web": [*executed("a"), BEGUN, *seen(), FINISHED],
    "a has ended and holds VM web": [*RIGHT["a command"], *seen("a")],
    "1 keys are held at the end": [{"event": "over", "held": 1}],
    "the engine has failed: oh": [{"event": "error", "text": "oh"}],
}

WRONG_AT_THE_END = {
    "a had tasks and no end action": [*executed("a"), *task("a")],
    "a has ended in two ways": [*RIGHT["a command"], *ended("a", "failed")],
    "a has another outcome, succeeded": [*executed("a"), *task("a"), *ended("a", "failed")],
    "a has succeeded before its end": [
        executed("a")[0],
        {"event": "dead"},
        *task("a"),
        *ended("a"),
    ],
    "never ended: task of a": [*executed("a"), BEGUN],
    "b has another outcome, None": [*executed("b"), *task("b"), *ended("b")],
    "a has reported two results": [*RIGHT["a command"], of("a", "result", state="failed")],
}


@pytest.mark.parametrize("lines", RIGHT.values(), ids=RIGHT)
def test_ledger_in_which_all_is_right_is_accepted(lines: list[dict[str, Any]]) -> None:
    Checker(lines).check()


@pytest.mark.parametrize(("complaint", "lines"), WRONG.items(), ids=WRONG)
def test_ledger_in_which_something_was_lost_or_left_is_refused(
    complaint: str, lines: list[dict[str, Any]]
) -> None:
    with pytest.raises(LedgerError, match=complaint):
        Checker(lines).check()


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """What an engine has left in which one command has succeeded."""
    with closing(sqlite3.connect(tmp_path / "engine.db")) as connection:
        connection.execute("CREATE TABLE command (command_id)")
        connection.execute("CREATE TABLE task (task_id)")
        connection.execute("CREATE TABLE outcome (command_id, state)")
        connection.execute("INSERT INTO outcome VALUES ('a', 'succeeded')")
        connection.commit()
    return tmp_path


@pytest.mark.parametrize(("complaint", "lines"), WRONG_AT_THE_END.items(), ids=WRONG_AT_THE_END)
def test_ledger_in_which_a_command_has_not_ended_well_is_refused(
    complaint: str, lines: list[dict[str, Any]], directory: Path
) -> None:
    checker = Checker(lines)
    checker.check()
    with pytest.raises(LedgerError, match=complaint):
        checker.check_end(directory)


def test_files_and_rows_that_are_left_are_found(directory: Path) -> None:
    checker = Checker(RIGHT["a command"])
    checker.check()
    checker.check_end(directory)
    (directory / "tasks" / "7").mkdir(parents=True)
    with pytest.raises(LedgerError, match="files of tasks are left"):
        checker.check_end(directory)
    with closing(sqlite3.connect(directory / "engine.db")) as connection:
        connection.execute("INSERT INTO task VALUES (7)")
        connection.commit()
    with pytest.raises(LedgerError, match="rows are left in task"):
        checker.check_end(directory)
