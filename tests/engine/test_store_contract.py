"""What every store does, whatever it is made of."""

from __future__ import annotations

import itertools
import sqlite3
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from engine_commands import Long, start_two_tasks
from engine_support import ManualTasks

from lockcore import LockManager
from lockcore.engine import Engine, Message, StoreError, _store
from lockcore.engine._address import database_opener
from lockcore.engine._command import LockRequest
from lockcore.engine._database import UnknownOutcomeError
from lockcore.engine._result import CommandState
from lockcore.engine._schema import MIGRATIONS
from lockcore.engine._store import Store, StoredCommand, StoredOutcome, StoredTask
from support import Background

Script = dict[str, Callable[[Any], Any]]

SHARED = ["sqlalchemy-sqlite", "postgresql"]
lasting = pytest.mark.parametrize("any_store", ["sqlite-file", *SHARED], indirect=True)

LOCKS = LockRequest({("VM", "web"): Message("CODE", name="web"), 7: None}, {b"\xff": "text"})


def command(command_id: str, sequence: int = 1, **values: Any) -> StoredCommand:
    given = {"parent_id": None, "locks": LOCKS, "owner": command_id} | values
    return StoredCommand(
        command_id=command_id, sequence=sequence, type="module:Class", parameters="{}", **given
    )


def outcome(command_id: str, **values: Any) -> StoredOutcome:
    return StoredOutcome(command_id, "module:Class", CommandState.SUCCEEDED, (), **values)


@pytest.fixture
def opened(any_store: Any) -> Iterator[Callable[[], Store]]:
    """Opens the store; what is open at the end is closed."""
    stores: list[Store] = []

    def open_store() -> Store:
        stores.append(Store(database_opener(any_store.address())()))
        return stores[-1]

    yield open_store
    for store in stores:
        store.close()


@pytest.fixture
def rows(opened: Callable[[], Store]) -> Store:
    """An open store."""
    return opened()


def test_command_comes_back_as_it_was(rows: Store) -> None:
    stored = command("c1", 2**40, is_executed=True, has_failed=True, correlation_id="r ä 1")
    rows.add([stored], "c1", None)
    assert rows.commands() == [stored]


def test_command_without_locks_comes_back_without(rows: Store) -> None:
    rows.add([command("c1", locks=LockRequest({}, {}))], "c1", None)
    assert rows.commands()[0].locks == LockRequest({}, {})


def test_commands_come_back_in_the_order_of_their_locks(rows: Store) -> None:
    rows.add([command("c", 3), command("a", 1), command("b", 2)], "a", None)
    assert [row.command_id for row in rows.commands()] == ["a", "b", "c"]


def test_tasks_come_back_by_command_in_the_order_of_their_start(rows: Store) -> None:
    rows.add([command("c1")], "c1", StoredTask("t2", "copy"))
    rows.add([command("c2")], "c2", StoredTask("t3", "check"))
    rows.add([], "c1", StoredTask("t1", "move"))
    assert rows.tasks() == {
        "c1": [StoredTask("t2", "copy"), StoredTask("t1", "move")],
        "c2": [StoredTask("t3", "check")],
    }


def test_command_and_task_are_stored_together_or_not_at_all(rows: Store) -> None:
    cannot_be_stored: Any = None
    with pytest.raises(StoreError, match=r"(?i)not.null constraint"):
        rows.add([command("c1")], "c1", StoredTask("t1", cannot_be_stored))
    assert (rows.commands(), rows.tasks()) == ([], {})


def test_storing_again_changes_nothing(rows: Store) -> None:
    for _ in range(2):
        rows.add([command("c1")], "c1", StoredTask("t1", "copy"))
    assert rows.commands() == [command("c1")]
    assert rows.tasks() == {"c1": [StoredTask("t1", "copy")]}


def test_end_of_the_execution_is_noted_with_the_locks_that_are_left(rows: Store) -> None:
    rows.add([command("c1"), command("c2", 2)], "c1", None)
    left = LockRequest({7: None}, {})
    rows.end_execution("c1", is_executed=True, locks=left)
    assert rows.commands() == [command("c1", locks=left, is_executed=True), command("c2", 2)]


@pytest.mark.parametrize("times", [1, 2])
def test_outcome_replaces_the_command_and_leaves_the_task(rows: Store, times: int) -> None:
    rows.add([command("c1")], "c1", StoredTask("t1", "copy"))
    ended = StoredOutcome(
        "c1", "module:Class", CommandState.FAILED, ("text", Message("CODE", name="web")), "r1"
    )
    for _ in range(times):
        rows.end([ended])
    assert rows.commands() == []
    assert rows.outcome("c1") == ended
    assert list(rows.tasks()) == ["c1"]


@pytest.mark.parametrize("times", [1, 2])
def test_failure_of_a_child_is_noted_in_its_parent(rows: Store, times: int) -> None:
    rows.add([command("p"), command("c", 2, parent_id="p"), command("q", 3)], "c", None)
    for _ in range(times):
        rows.end([outcome("c", failed_parent_id="p")])
    assert [(row.command_id, row.has_failed) for row in rows.commands()] == [
        ("p", True),
        ("q", False),
    ]
    assert rows.failed_children() == {"p": ["Class c"]}


def test_failed_children_of_a_parent_that_has_ended_are_left_out(rows: Store) -> None:
    rows.add([command("p"), command("c", 2, parent_id="p")], "c", None)
    rows.end([outcome("c", failed_parent_id="p")])
    rows.end([outcome("p")])
    assert rows.failed_children() == {}


def test_failure_of_the_execution_comes_back_as_it_was(rows: Store) -> None:
    rows.add([command("c1")], "c1", None)
    failure = "disk is full \0 \ud800"
    rows.end_execution("c1", is_executed=False, locks=LOCKS, failure=failure)
    assert rows.commands() == [command("c1", failure=failure)]


def test_forgotten_tasks_go_with_an_end_or_by_themselves(rows: Store) -> None:
    rows.add([command("c1")], "c1", None)
    for task_id in ("t1", "t2", "t3"):
        rows.add([], "c1", StoredTask(task_id, "copy"))
    rows.end([outcome("c1")], ["t1", "unknown"])
    rows.drop_tasks(["t3", "unknown"])
    assert rows.tasks() == {"c1": [StoredTask("t2", "copy")]}


def test_only_the_last_outcomes_are_kept(rows: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_store, "_OUTCOMES_KEPT", 2)
    for number in range(5):
        rows.end([outcome(f"c{number}")])
    kept = [number for number in range(5) if rows.outcome(f"c{number}") is not None]
    assert kept == [3, 4]


def test_many_commands_end_at_once(rows: Store) -> None:
    ids = [f"c{number}" for number in range(1000)]
    rows.add([command(id, number) for number, id in enumerate(ids)], "c0", None)
    rows.end([outcome(id) for id in ids])
    assert rows.commands() == []
    assert all(rows.outcome(id) is not None for id in ids)


def test_threads_take_turns(rows: Store, background: Callable[..., Background]) -> None:
    def store_some(thread: int) -> None:
        for number in range(20):
            id = f"{thread}-{number}"
            rows.add([command(id, number)], id, StoredTask(id, "copy"))
            if number % 2:
                rows.end([outcome(id)], [id])

    for call in [background(store_some, thread) for thread in range(4)]:
        call.result()
    assert len(rows.commands()) == len(rows.tasks()) == 4 * 10


def test_closed_store_is_there_when_it_is_opened_again(
    any_store: Any, opened: Callable[[], Store]
) -> None:
    first = opened()
    first.add([command("c1")], "c1", None)
    first.close()
    assert opened().commands() == ([command("c1")] if any_store.survives else [])


@lasting
def test_second_opening_is_refused_while_the_first_lasts(
    any_store: Any, opened: Callable[[], Store]
) -> None:
    first = opened()
    with pytest.raises(StoreError, match="is in use by another engine"):
        opened()
    first.add([command("c1")], "c1", None)
    first.close()
    assert len(opened().commands()) == 1


@pytest.mark.parametrize("any_store", SHARED, indirect=True)
def test_newer_schema_is_refused_untouched(any_store: Any, opened: Callable[[], Store]) -> None:
    opened().close()
    any_store.execute("UPDATE lockcore_store SET version = 99")
    before = any_store.execute("SELECT * FROM lockcore_store")
    with pytest.raises(StoreError, match="has schema 99, which is newer than schema 3"):
        opened()
    assert any_store.execute("SELECT * FROM lockcore_store") == before


@lasting
@pytest.mark.parametrize("version", range(1, len(MIGRATIONS)))
def test_older_schema_is_brought_up_to_date_with_its_rows(
    any_store: Any, opened: Callable[[], Store], version: int
) -> None:
    opened().close()
    prefix = any_store.prefix
    for table in ("command", "task", "outcome"):
        any_store.execute(f"DROP TABLE {prefix}{table}")
    for statement in itertools.chain.from_iterable(MIGRATIONS[:version]):
        any_store.execute(statement.format(prefix=prefix, serial=any_store.serial))
    if prefix:
        any_store.execute(f"UPDATE lockcore_store SET version = {version}")
    else:
        any_store.execute(f"PRAGMA user_version = {version}")
    any_store.execute(
        f"INSERT INTO {prefix}command (command_id, sequence, type, parameters, owner)"
        " VALUES ('old', 1, 'module:Class', '{}', 'old')"
    )
    assert opened().commands() == [command("old", locks=LockRequest({}, {}))]


@pytest.fixture
def songs(rows: Store) -> Callable[[], list[str]]:
    """Makes a table of a user's in the database of the open store; returns what is in it."""
    with rows.transaction() as work:
        _execute(work.connection, "CREATE TABLE songs (title TEXT PRIMARY KEY)")

    def titles() -> list[str]:
        with rows.transaction() as work:
            found = _execute(work.connection, "SELECT title FROM songs ORDER BY title")
            return [title for (title,) in found.fetchall()]

    return titles


def _execute(connection: Any, statement: str) -> Any:
    execute = getattr(connection, "exec_driver_sql", None) or connection.execute
    return execute(statement)


def test_users_data_and_rows_are_committed_together(
    rows: Store, songs: Callable[[], list[str]]
) -> None:
    with rows.transaction() as work:
        _execute(work.connection, "INSERT INTO songs VALUES ('Imagine')")
        rows.add([command("c1")], "c1", StoredTask("t1", "copy"), work)
    assert songs() == ["Imagine"]
    assert (rows.commands(), list(rows.tasks())) == ([command("c1")], ["c1"])


def test_users_data_and_rows_are_rolled_back_together(
    rows: Store, songs: Callable[[], list[str]]
) -> None:
    def begin() -> None:
        with rows.transaction() as work:
            _execute(work.connection, "INSERT INTO songs VALUES ('Imagine')")
            rows.add([command("c1")], "c1", None, work)
            rows.end([outcome("c0")], (), work)
            raise LookupError

    with pytest.raises(LookupError):
        begin()
    assert songs() == []
    assert (rows.commands(), rows.outcome("c0")) == ([], None)


def test_error_of_the_user_is_raised_as_it_is(rows: Store, songs: Callable[[], list[str]]) -> None:
    def begin() -> None:
        with rows.transaction() as work:
            _execute(work.connection, "INSERT INTO songs VALUES ('Imagine'), ('Imagine')")

    with pytest.raises(Exception, match=r"(?i)unique") as caught:
        begin()
    assert type(caught.value).__name__ == "IntegrityError"
    assert songs() == []


def test_commit_inside_the_block_is_noticed(rows: Store, songs: Callable[[], list[str]]) -> None:
    def begin() -> None:
        with rows.transaction() as work:
            _execute(work.connection, "INSERT INTO songs VALUES ('Imagine')")
            if isinstance(work.connection, sqlite3.Connection):  # refuses a call of `commit`
                work.connection.execute("COMMIT")
            else:
                work.connection.commit()

    with pytest.raises(UnknownOutcomeError, match="ended inside its block, too early"):
        begin()
    assert songs() == ["Imagine"]


def test_outcome_can_be_read_inside_a_transaction(rows: Store) -> None:
    rows.end([outcome("c1")])
    with rows.transaction():
        assert rows.outcome("c1") == outcome("c1")


@lasting
def test_engine_goes_on_after_a_restart(
    any_store: Any, manager: LockManager, tasks: ManualTasks, script: Script, calls: list[str]
) -> None:
    script["execute"] = start_two_tasks

    def engine() -> Engine:
        return Engine(store=any_store.address(), tasks=tasks, poll_interval=0.002, commands=[Long])

    with engine() as first:
        command_id = first.run(Long(), correlation_id="r1").command_id
        held = [(row.key, row.mode, row.message) for row in first.manager.snapshot()]
    with engine() as second:
        assert second.recovery.resumed == (command_id,)
        assert [(row.key, row.mode, row.message) for row in second.manager.snapshot()] == held
        tasks.end_all()
        assert second.wait(command_id, timeout=10).state == "succeeded"
    with engine() as third:
        assert str(third.recovery) == "nothing to recover"
        assert third.status(command_id).correlation_id == "r1"
    assert calls[-1] == "end_successfully"
    assert tasks.known == {}


def test_engines_threads_may_run_commands_at_once(
    any_store: Any, tasks: ManualTasks, script: Script, background: Callable[..., Background]
) -> None:
    script["execute"] = start_two_tasks
    barrier = threading.Barrier(6)
    with Engine(store=any_store.address(), tasks=tasks, poll_interval=0.002) as engine:

        def run(number: int) -> str:
            barrier.wait()
            return engine.run(Long(vm=f"vm{number}")).command_id

        calls = [background(run, number) for number in range(6)]
        ids = [call.result() for call in calls]
        tasks.end_all()
        assert {engine.wait(id, timeout=10).state for id in ids} == {"succeeded"}
        assert len(engine.manager) == 0
