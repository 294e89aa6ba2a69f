"""An engine process dies by SIGKILL at a chosen instant; the next one brings everything to its end.

After each story the same must hold: the end action has run, the command is over for good, nothing
is locked, and no task is left. On every store that outlives an engine.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from engine_support import EngineProcess
from store_support import SqliteFile

from lockcore.engine import ProcessTasks, TaskState
from support import eventually

pytestmark = pytest.mark.timeout(120)  # up to eight processes start in one test

LOCKED = [[["VM", "web"], "exclusive", "VM_IS_COPIED"]]


@pytest.fixture(params=["sqlite", "postgresql"])
def database(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Any:
    """Where the engine processes have their store."""
    if request.param == "sqlite":
        return SqliteFile(tmp_path)
    postgresql = request.getfixturevalue("postgresql")
    monkeypatch.setenv("LOCKCORE_TEST_STORE", postgresql.address())
    return postgresql


@pytest.fixture
def start(tmp_path: Path, database: Any) -> Iterator[Callable[..., EngineProcess]]:
    """Starts engine processes; kills them and stops their tasks at the end."""
    engines: list[EngineProcess] = []

    def start_one(instant: str = "never") -> EngineProcess:
        engines.append(EngineProcess(tmp_path, instant))
        return engines[-1]

    yield start_one
    for engine in engines:
        engine.kill()
    tasks = ProcessTasks(tmp_path / "tasks")
    for task_id in tasks.status():
        tasks.stop(task_id)
    eventually(lambda: all(task.state is not TaskState.RUNNING for task in tasks.status().values()))


def stored_ids(database: Any) -> list[str]:
    """The commands that the store says have not ended."""
    return [id for (id,) in database.execute(f"SELECT command_id FROM {database.prefix}command")]


def entries(database: Any) -> list[str]:
    """What the command has written into a table of its own, if there is one."""
    if "entries" not in database.tables():
        return []
    return [what for (what,) in database.execute("SELECT what FROM entries")]


def end_actions(tmp_path: Path) -> set[str]:
    path = tmp_path / "end-actions"
    return set(path.read_text(encoding="utf-8").split()) if path.exists() else set()


def let_task_end(tmp_path: Path) -> None:
    (tmp_path / "go").touch()


def until_task_has_ended(tmp_path: Path) -> None:
    tasks = ProcessTasks(tmp_path / "tasks")
    eventually(lambda: all(task.state is not TaskState.RUNNING for task in tasks.status().values()))


def assert_all_is_over(
    start: Callable[..., EngineProcess], tmp_path: Path, command_id: str, state: str
) -> None:
    """The command has ended so, and one more restart finds nothing to do."""
    assert end_actions(tmp_path) == {state}
    engine = start()
    assert engine.answer() == {}
    assert engine.ask("locks") == []
    assert engine.ask(f"wait {command_id}")["state"] == state
    assert list(tmp_path.glob("tasks/*")) == []


def killed_in_first_life(
    start: Callable[..., EngineProcess], tmp_path: Path, instant: str, request: str = "run"
) -> None:
    """Runs the command in an engine that dies at the instant."""
    engine = start(instant)
    assert engine.answer() == {}
    engine.send(request)
    assert engine.wait() == -signal.SIGKILL


def test_killed_before_the_task_starts(
    start: Callable[..., EngineProcess], tmp_path: Path, database: Any
) -> None:
    killed_in_first_life(start, tmp_path, "before the task starts")
    (command_id,) = stored_ids(database)
    engine = start()
    assert engine.answer() == {"cleaned": [command_id]}
    assert engine.ask("locks") == []
    engine.kill()
    assert not (tmp_path / "task-is-running").exists()
    assert_all_is_over(start, tmp_path, command_id, "failed")


@pytest.mark.parametrize("instant", ["after the task has started", "in execute"])
def test_killed_in_execute_with_a_live_task(
    start: Callable[..., EngineProcess], tmp_path: Path, database: Any, instant: str
) -> None:
    """Execute has not come to its end, so the task is stopped and the command ends with failure."""
    killed_in_first_life(start, tmp_path, instant)
    (command_id,) = stored_ids(database)
    engine = start()
    report = engine.answer()
    assert report in ({"resumed": [command_id]}, {"ended": [command_id]})
    assert engine.ask(f"wait {command_id}")["state"] == "failed"
    assert engine.ask("locks") == []
    engine.kill()
    assert_all_is_over(start, tmp_path, command_id, "failed")


def test_killed_while_the_task_runs(start: Callable[..., EngineProcess], tmp_path: Path) -> None:
    engine = start()
    engine.answer()
    result = engine.ask("run")
    assert result["state"] == "running"
    eventually((tmp_path / "task-is-running").exists)
    assert engine.kill() == -signal.SIGKILL
    for _ in range(3):
        engine = start()
        assert engine.answer() == {"resumed": [result["command_id"]]}
        assert engine.ask("locks") == LOCKED
        assert engine.ask("run")["state"] == "refused"
        engine.kill()
    engine = start()
    engine.answer()
    let_task_end(tmp_path)
    assert engine.ask(f"wait {result['command_id']}")["state"] == "succeeded"
    assert engine.ask("locks") == []
    engine.kill()
    assert_all_is_over(start, tmp_path, result["command_id"], "succeeded")


def test_killed_while_the_task_runs_which_ends_before_the_restart(
    start: Callable[..., EngineProcess], tmp_path: Path
) -> None:
    engine = start()
    engine.answer()
    command_id = engine.ask("run")["command_id"]
    engine.kill()
    let_task_end(tmp_path)
    until_task_has_ended(tmp_path)
    engine = start()
    assert engine.answer() == {"ended": [command_id]}
    engine.kill()
    assert_all_is_over(start, tmp_path, command_id, "succeeded")


def test_task_killed_with_the_engine(start: Callable[..., EngineProcess], tmp_path: Path) -> None:
    """As when the machine goes down: nobody is left to write the exit status."""
    engine = start()
    engine.answer()
    command_id = engine.ask("run")["command_id"]
    eventually((tmp_path / "task-is-running").exists)
    engine.kill()
    (home,) = (tmp_path / "tasks").iterdir()
    os.killpg(int((home / "started").read_text(encoding="utf-8")), signal.SIGKILL)
    let_task_end(tmp_path)  # for the program, which has a process group of its own
    until_task_has_ended(tmp_path)
    engine = start()
    assert engine.answer() == {"ended": [command_id]}
    engine.kill()
    assert_all_is_over(start, tmp_path, command_id, "failed")


@pytest.mark.parametrize(
    ("instant", "report"),
    [
        ("before the end action", "ended"),
        ("after the end action", "ended"),
        ("after the outcome is committed", None),
        ("before the task is forgotten", None),
        ("after the task is forgotten", None),
    ],
)
def test_killed_after_the_task_has_ended(
    start: Callable[..., EngineProcess], tmp_path: Path, instant: str, report: str | None
) -> None:
    engine = start(instant)
    engine.answer()
    command_id = engine.ask("run")["command_id"]
    let_task_end(tmp_path)
    assert engine.wait() == -signal.SIGKILL
    engine = start()
    assert engine.answer() == ({} if report is None else {report: [command_id]})
    assert engine.ask("locks") == []
    engine.kill()
    assert_all_is_over(start, tmp_path, command_id, "succeeded")


def left_by_a_killed_engine(start: Callable[..., EngineProcess], tmp_path: Path) -> Any:
    """A command whose task has ended since its engine was killed."""
    engine = start()
    engine.answer()
    command_id = engine.ask("run")["command_id"]
    engine.kill()
    let_task_end(tmp_path)
    until_task_has_ended(tmp_path)
    return command_id


@pytest.mark.parametrize(
    "instant",
    [
        "when the tasks are listed",
        "when the command is made",
        "before the end action",
        "after the end action",
        "after the outcome is committed",
        "before the task is forgotten",
        "after the task is forgotten",
    ],
)
def test_recovery_that_is_killed_is_done_again(
    start: Callable[..., EngineProcess], tmp_path: Path, instant: str
) -> None:
    command_id = left_by_a_killed_engine(start, tmp_path)
    assert start(instant).wait() == -signal.SIGKILL
    engine = start()
    is_over = "committed" in instant or "forgotten" in instant
    assert engine.answer() == ({} if is_over else {"ended": [command_id]})
    engine.kill()
    assert_all_is_over(start, tmp_path, command_id, "succeeded")


def test_recovery_that_is_killed_again_and_again_converges(
    start: Callable[..., EngineProcess], tmp_path: Path, database: Any
) -> None:
    killed_in_first_life(start, tmp_path, "in execute")
    (command_id,) = stored_ids(database)
    for instant in ("when the tasks are listed", "before the task is stopped"):
        assert start(instant).wait() == -signal.SIGKILL
    tasks = ProcessTasks(tmp_path / "tasks")
    for task_id in tasks.status():
        tasks.stop(task_id)
    until_task_has_ended(tmp_path)
    for instant in ("before the end action", "after the end action"):
        assert start(instant).wait() == -signal.SIGKILL
    engine = start()
    assert engine.answer() == {"ended": [command_id]}
    engine.kill()
    assert_all_is_over(start, tmp_path, command_id, "failed")


def test_killed_before_its_transaction_is_committed_a_command_has_never_been(
    start: Callable[..., EngineProcess], tmp_path: Path, database: Any
) -> None:
    instant = "before the transaction is committed"
    killed_in_first_life(start, tmp_path, instant, "enter")
    assert (stored_ids(database), entries(database)) == ([], [])
    assert start().answer() == {}
    assert not (tmp_path / "task-is-running").exists()


@pytest.mark.parametrize(
    ("instant", "report"),
    [("before the task starts", "cleaned"), ("after the task has started", None)],
)
def test_killed_after_its_transaction_was_committed_a_command_ends(
    start: Callable[..., EngineProcess],
    tmp_path: Path,
    database: Any,
    instant: str,
    report: str | None,
) -> None:
    killed_in_first_life(start, tmp_path, instant, "enter")
    (command_id,) = stored_ids(database)
    engine = start()
    found = engine.answer()
    assert report is None or found == {report: [command_id]}
    assert engine.ask(f"wait {command_id}")["state"] == "failed"
    assert entries(database) == ["begun", "failed"]
    engine.kill()
    assert_all_is_over(start, tmp_path, command_id, "failed")


@pytest.mark.parametrize(
    "instant",
    [
        "before the end action",
        "in the transaction of the end action",
        "after the end action",
        "before the task is forgotten",
        "after the task is forgotten",
    ],
)
def test_killed_around_its_end_a_command_writes_its_end_once(
    start: Callable[..., EngineProcess], tmp_path: Path, database: Any, instant: str
) -> None:
    engine = start(instant)
    engine.answer()
    command_id = engine.ask("enter")["command_id"]
    let_task_end(tmp_path)
    assert engine.wait() == -signal.SIGKILL
    engine = start()
    engine.answer()
    engine.kill()
    assert entries(database) == ["begun", "succeeded"]
    assert_all_is_over(start, tmp_path, command_id, "succeeded")


def test_store_of_a_killed_engine_is_free(
    start: Callable[..., EngineProcess], tmp_path: Path
) -> None:
    engine = start()
    engine.answer()
    engine.kill()
    assert start().answer() == {}


def test_store_of_a_live_engine_is_not(start: Callable[..., EngineProcess], tmp_path: Path) -> None:
    start().answer()
    assert start().wait() == 1
