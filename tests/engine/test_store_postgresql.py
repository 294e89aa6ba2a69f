"""The store in PostgreSQL: servers that die, connections that are cut, answers that are lost."""

from __future__ import annotations

import importlib
import logging
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from engine_commands import Long, start_one_task
from engine_support import ManualTasks
from store_support import Postgresql, proxied
from test_transactions import Plain, Record, write, write_and_start, write_at_end

from lockcore import LockManager
from lockcore.engine import Engine, StoreError
from services import require_module
from support import Background, eventually

pytestmark = pytest.mark.timeout(120)  # servers die and start again

Script = dict[str, Callable[[Any], Any]]


@pytest.fixture
def new_engine(
    postgresql: Postgresql, tasks: ManualTasks, manager: LockManager
) -> Iterator[Callable[..., Engine]]:
    engines: list[Engine] = []

    def make(store: Any = None, **options: Any) -> Engine:
        given = {"tasks": tasks, "manager": manager, "poll_interval": 0.002, "retry_delay": 0.01}
        store = postgresql.address() if store is None else store
        engines.append(Engine(store=store, **given | options))
        engines[-1].open()
        return engines[-1]

    yield make
    postgresql.server.server.start()
    for engine in engines:
        engine.close()


@pytest.fixture
def songs(postgresql: Postgresql) -> Callable[[], list[str]]:
    """Makes a table of the user; returns what is in it."""
    postgresql.execute("CREATE TABLE songs (title TEXT PRIMARY KEY)")
    Record.script, Record.calls = {}, []
    return lambda: [title for (title,) in postgresql.execute("SELECT title FROM songs")]


def rows_in(postgresql: Postgresql) -> list[int]:
    """How many commands and tasks are stored."""
    return [
        postgresql.execute(f"SELECT count(*) FROM lockcore_{table}")[0][0]
        for table in ("command", "task")
    ]


def test_tables_of_the_user_are_left_alone(
    postgresql: Postgresql, new_engine: Callable[..., Engine]
) -> None:
    postgresql.execute("CREATE TABLE command (mine TEXT)")
    new_engine().close()
    assert postgresql.execute("SELECT * FROM command") == []
    assert postgresql.tables() == {
        "command",
        "lockcore_command",
        "lockcore_outcome",
        "lockcore_store",
        "lockcore_task",
    }


def test_stores_in_two_schemas_are_two_stores(
    postgresql: Postgresql, new_engine: Callable[..., Engine], script: Script
) -> None:
    script["execute"] = start_one_task
    postgresql.execute("CREATE SCHEMA other")
    url = postgresql.address() + "&options=-csearch_path%3Dother"
    new_engine().run(Long())
    other = new_engine(url, manager=LockManager())
    assert str(other.recovery).startswith("unknown task")
    assert other.run(Long()).state == "running"
    assert rows_in(postgresql) == [1, 1]
    assert postgresql.execute("SELECT count(*) FROM other.lockcore_command") == [(1,)]


def test_password_is_in_no_message(postgresql: Postgresql) -> None:
    store = f"postgresql://postgres:secret@/missing?host={postgresql.server.directory}"
    with pytest.raises(StoreError, match='database "missing" does not exist') as caught:
        Engine(store=store).open()
    assert "postgresql+psycopg://postgres:***@/missing" in str(caught.value)
    assert "secret" not in str(caught.value)


def test_url_that_cannot_be_read_is_refused_without_its_password() -> None:
    require_module("psycopg")
    with pytest.raises(ValueError, match="the URL of the store cannot be read") as caught:
        Engine(store="postgresql://postgres:secret@server:port/database")
    assert "secret" not in str(caught.value)


def test_store_without_a_server_is_refused(tmp_path: Any) -> None:
    require_module("psycopg")
    with pytest.raises(StoreError, match=r"cannot use store 'postgresql.*No such file"):
        Engine(store=f"postgresql://postgres@/postgres?host={tmp_path}").open()


def test_missing_packages_are_named() -> None:
    program = (
        "import sys; sys.modules['sqlalchemy'] = None\n"
        "from lockcore.engine import Engine\n"
        "Engine(store='postgresql://me:secret@server/database')"
    )
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    last = run.stderr.strip().splitlines()[-1]
    assert last.startswith("ImportError: a store in PostgreSQL needs SQLAlchemy and psycopg (")
    assert last.endswith("): install lockcore[postgresql]")


def test_server_restarted_while_the_engine_is_idle_is_not_noticed(
    postgresql: Postgresql, new_engine: Callable[..., Engine], tasks: ManualTasks, script: Script
) -> None:
    script["execute"] = start_one_task
    engine = new_engine()
    first = engine.run(Long())
    postgresql.server.server.kill()
    postgresql.server.server.start()
    second = engine.run(Long(vm="other"))
    tasks.end_all()
    ends = [engine.wait(one.command_id, timeout=30).state for one in (first, second)]
    assert (ends, rows_in(postgresql)[0]) == (["succeeded", "succeeded"], 0)


def test_command_fails_cleanly_while_the_server_is_away(
    postgresql: Postgresql,
    new_engine: Callable[..., Engine],
    tasks: ManualTasks,
    manager: LockManager,
    script: Script,
) -> None:
    script["execute"] = start_one_task
    engine = new_engine()
    postgresql.server.server.kill()
    result = engine.run(Long())
    assert result.state == "failed"
    assert str(result.messages[0]).startswith("cannot use store 'postgresql")
    assert (tasks.specs, len(manager)) == ({}, 0)
    postgresql.server.server.start()
    assert engine.run(Long()).state == "running"
    assert rows_in(postgresql) == [1, 1]


def test_end_is_tried_again_until_the_server_is_back(
    postgresql: Postgresql, new_engine: Callable[..., Engine], tasks: ManualTasks, script: Script
) -> None:
    script["execute"] = start_one_task
    engine = new_engine()
    command_id = engine.run(Long()).command_id
    postgresql.server.server.kill()
    tasks.end_all()
    eventually(lambda: "cannot end, trying again" in str(engine.status(command_id).messages))
    assert len(engine.manager) == 2
    postgresql.server.server.start()
    assert engine.wait(command_id, timeout=30).state == "succeeded"
    assert len(engine.manager) == 0


def test_cut_connection_is_made_again(
    postgresql: Postgresql, new_engine: Callable[..., Engine], script: Script
) -> None:
    script["execute"] = start_one_task
    engine = new_engine()
    postgresql.cut()
    assert engine.run(Long()).state == "running"
    with pytest.raises(StoreError, match="is in use by another engine"):
        new_engine()


@pytest.mark.parametrize("lost", ["request", "answer"])
def test_lost_commit_of_a_start_is_made_up_for(
    postgresql: Postgresql,
    new_engine: Callable[..., Engine],
    tasks: ManualTasks,
    script: Script,
    lost: str,
) -> None:
    script["execute"] = start_one_task
    with proxied(postgresql) as (proxy, url):
        engine = new_engine(url)
        proxy.lose(lost)
        result = engine.run(Long())
        assert (result.state, proxy.lost) == ("running", 1)
        assert rows_in(postgresql) == [1, 1]
        proxy.lose(lost)
        tasks.end_all()
        assert engine.wait(result.command_id, timeout=10).state == "succeeded"
        assert proxy.lost == 2
        engine.close()


@pytest.mark.parametrize("lost", ["request", "answer"])
def test_start_whose_commit_was_lost_with_the_server_is_undone(
    postgresql: Postgresql,
    new_engine: Callable[..., Engine],
    tasks: ManualTasks,
    script: Script,
    lost: str,
) -> None:
    """The command has failed, so that it may not be found by a recovery."""
    script["execute"] = start_one_task
    with proxied(postgresql) as (proxy, url):
        engine = new_engine(url)
        proxy.lose(lost, and_go=True)
        assert engine.run(Long()).state == "failed"
        assert rows_in(postgresql) == ([1, 1] if lost == "answer" else [0, 0])
        proxy.is_down = False
        result = engine.run(Long())
        assert postgresql.execute("SELECT command_id FROM lockcore_command") == [
            (result.command_id,)
        ]
        assert list(tasks.known) == [
            id for (id,) in postgresql.execute("SELECT task_id FROM lockcore_task")
        ]
        engine.close()


# -- transactions of users


@pytest.mark.parametrize(("lost", "state"), [("request", "failed"), ("answer", "running")])
def test_lost_commit_of_a_users_transaction_is_looked_up(
    postgresql: Postgresql,
    new_engine: Callable[..., Engine],
    tasks: ManualTasks,
    songs: Callable[[], list[str]],
    lost: str,
    state: str,
) -> None:
    def execute(command: Any) -> None:
        with command.transaction() as connection:
            write(connection, "Imagine")
            command.start_task("copy")
            proxy.lose(lost)

    Record.script["execute"] = execute
    with proxied(postgresql) as (proxy, url):
        engine = new_engine(url)
        result = engine.run(Plain())
        assert (result.state, proxy.lost) == (state, 1)
        number = 1 if state == "running" else 0
        assert (len(songs()), rows_in(postgresql), len(tasks.known)) == (
            number,
            [number, number],
            number,
        )
        engine.close()


@pytest.mark.parametrize(("lost", "written"), [("request", []), ("answer", ["Imagine"])])
def test_command_whose_commit_nobody_answers_for_ends_with_failure(
    postgresql: Postgresql,
    new_engine: Callable[..., Engine],
    tasks: ManualTasks,
    songs: Callable[[], list[str]],
    monkeypatch: pytest.MonkeyPatch,
    lost: str,
    written: list[str],
) -> None:
    """When the server is back; no task starts, and no row is left."""

    def execute(command: Any) -> None:
        with command.transaction() as connection:
            write(connection, "Imagine")
            command.start_task("copy")
            proxy.lose(lost, and_go=True)

    monkeypatch.setattr("lockcore.engine._postgresql._ASKING", 0.0)
    Record.script["execute"] = execute
    with proxied(postgresql) as (proxy, url):
        engine = new_engine(url)
        result = engine.run(Plain())
        assert "cannot end, trying again" in str(result.messages)
        proxy.is_down = False
        assert engine.wait(result.command_id, timeout=10).state == "failed"
        assert (songs(), tasks.specs) == (written, {})
        assert Record.calls[-1] == "end_with_failure"
        engine.close()
    assert rows_in(postgresql)[0] == 0


@pytest.mark.parametrize("lost", ["request", "answer"])
@pytest.mark.parametrize("and_go", [False, True])
def test_end_action_writes_once_though_its_commit_is_lost(
    postgresql: Postgresql,
    new_engine: Callable[..., Engine],
    tasks: ManualTasks,
    songs: Callable[[], list[str]],
    monkeypatch: pytest.MonkeyPatch,
    lost: str,
    and_go: bool,
) -> None:
    losses = [lost]

    def end(command: Any) -> None:
        write_at_end(command)
        if losses:
            proxy.lose(losses.pop(), and_go=and_go)

    if and_go:
        monkeypatch.setattr("lockcore.engine._postgresql._ASKING", 0.0)
    Record.script.update(execute=lambda command: command.start_task("copy"), end_successfully=end)
    with proxied(postgresql) as (proxy, url):
        engine = new_engine(url)
        command_id = engine.run(Plain()).command_id
        tasks.end_all()
        eventually(lambda: proxy.lost)
        if and_go:
            eventually(lambda: "trying again" in str(engine.status(command_id).messages))
            proxy.is_down = False
        assert engine.wait(command_id, timeout=10).state == "succeeded"
        engine.close()
    assert songs() == ["Imagine"]
    calls = Record.calls.count("end_successfully")
    assert calls == (1 if lost == "answer" else 2)


def test_error_that_the_block_swallows_does_not_commit_a_part(
    postgresql: Postgresql,
    new_engine: Callable[..., Engine],
    tasks: ManualTasks,
    songs: Callable[[], list[str]],
) -> None:
    """PostgreSQL answers such a COMMIT by a rollback, and calls it a success."""

    def execute(command: Any) -> None:
        with command.transaction() as connection:
            write(connection, "Imagine")
            with pytest.raises(Exception, match="duplicate key"):
                write(connection, "Imagine")

    Record.script["execute"] = execute
    result = new_engine().run(Plain())
    assert result.state == "failed"
    assert "current transaction is aborted" in str(result.messages)
    assert songs() == []


def test_transactions_of_users_do_not_wait_for_each_other(
    new_engine: Callable[..., Engine],
    tasks: ManualTasks,
    songs: Callable[[], list[str]],
    background: Callable[..., Background],
) -> None:
    barrier = threading.Barrier(3)

    def execute(command: Any) -> None:
        with command.transaction() as connection:
            write(connection, command.title)
            command.start_task("copy")
            barrier.wait(10)

    Record.script["execute"] = execute
    engine = new_engine()
    calls = [background(engine.run, Plain(title=f"song {number}")) for number in range(3)]
    assert [call.result().state for call in calls] == ["running"] * 3
    assert len(songs()) == 3


@pytest.mark.parametrize("options", [{"isolation_level": "AUTOCOMMIT"}, {"pool_size": 1}, {}])
def test_engine_of_the_user_is_used_and_given_back(
    postgresql: Postgresql,
    new_engine: Callable[..., Engine],
    tasks: ManualTasks,
    songs: Callable[[], list[str]],
    options: dict[str, Any],
) -> None:
    require_module("sqlalchemy")
    sqlalchemy = importlib.import_module("sqlalchemy")
    users = sqlalchemy.create_engine(
        postgresql.engine.url, **{"isolation_level": "SERIALIZABLE", "max_overflow": 0} | options
    )

    Record.script.update(execute=write_and_start, end_successfully=lambda command: None)
    engine = new_engine(users)
    result = engine.run(Plain())
    tasks.end_all()
    assert engine.wait(result.command_id, timeout=10).state == "succeeded"
    engine.close()
    with users.connect() as connection:
        assert connection.exec_driver_sql("SELECT title FROM songs").scalars().all() == ["Imagine"]
    users.dispose()


def test_other_databases_are_refused() -> None:
    require_module("sqlalchemy")
    sqlalchemy = importlib.import_module("sqlalchemy")
    users = sqlalchemy.create_mock_engine("mysql://", lambda *_: None)
    with pytest.raises(TypeError, match=r"or a sqlalchemy\.Engine, not"):
        Engine(store=users)
    in_memory = sqlalchemy.create_engine("sqlite://")
    with pytest.raises(StoreError, match="a database in memory cannot be shared"):
        Engine(store=in_memory).open()
    in_memory.dispose()


# -- another engine takes over


def overtaken(postgresql: Postgresql, new_engine: Callable[..., Engine]) -> tuple[Engine, Engine]:
    """An engine whose connection was cut, and one that has opened the store meanwhile."""
    first = new_engine()
    postgresql.cut()
    return first, new_engine(manager=LockManager())


def test_engine_that_was_overtaken_writes_no_more(
    postgresql: Postgresql,
    new_engine: Callable[..., Engine],
    tasks: ManualTasks,
    songs: Callable[[], list[str]],
) -> None:
    first, second = overtaken(postgresql, new_engine)
    Record.script["execute"] = write_and_start
    result = first.run(Plain())
    assert result.state == "failed"
    assert "was taken over by another engine" in str(result.messages)
    with pytest.raises(StoreError, match="was taken over by another engine"):
        first.run(Plain(title="Yesterday"))
    assert (songs(), tasks.specs, rows_in(postgresql)) == ([], {}, [0, 0])
    assert second.run(Plain()).state == "running"


def test_engine_that_was_overtaken_calls_no_end_action_twice(
    postgresql: Postgresql,
    new_engine: Callable[..., Engine],
    tasks: ManualTasks,
    songs: Callable[[], list[str]],
) -> None:
    """The first learns of it when it commits the end; from then on it leaves all to the second."""
    Record.script.update(
        execute=lambda command: command.start_task("copy"), end_successfully=write_at_end
    )
    first = new_engine()
    command_id = first.run(Plain()).command_id
    postgresql.cut()
    second = new_engine(manager=LockManager())
    assert second.recovery.resumed == (command_id,)
    tasks.end_all()
    assert second.wait(command_id, timeout=10).state == "succeeded"
    eventually(lambda: "was taken over" in str(first.status(command_id).messages))
    calls = len(Record.calls)
    run: Any = first._registry.find(command_id)
    attempts = run.end_attempts
    eventually(lambda: run.end_attempts > attempts)
    assert (songs(), len(Record.calls)) == (["Imagine"], calls)


def test_engine_that_takes_over_waits_for_transactions_of_users(
    postgresql: Postgresql,
    new_engine: Callable[..., Engine],
    tasks: ManualTasks,
    songs: Callable[[], list[str]],
    background: Callable[..., Background],
) -> None:
    is_open, may_end = threading.Event(), threading.Event()

    def execute(command: Any) -> None:
        with command.transaction() as connection:
            write(connection, "Imagine")
            command.start_task("copy")
            is_open.set()
            assert may_end.wait(10)

    Record.script["execute"] = execute
    first = new_engine()
    running = background(first.run, Plain())
    assert is_open.wait(10)
    postgresql.cut()
    opening = background(new_engine, manager=LockManager())
    waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
    eventually(lambda: postgresql.execute(waits) == [(1,)])
    may_end.set()
    assert "was taken over" in str(running.result().messages)  # when it would store more
    assert songs() == ["Imagine"]
    assert len(opening.result().recovery.details) == 1


# -- servers that die in the middle


@pytest.mark.parametrize("how", ["SIGKILL", "SIGQUIT", "SIGINT"])
def test_server_that_dies_in_the_middle_of_commands_leaves_nothing_half_done(
    postgresql: Postgresql,
    new_engine: Callable[..., Engine],
    tasks: ManualTasks,
    manager: LockManager,
    songs: Callable[[], list[str]],
    background: Callable[..., Background],
    how: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Each command has written as often as it says, and started as many tasks."""
    caplog.set_level(logging.CRITICAL, "lockcore.engine")
    stop = threading.Event()
    outcomes: dict[str, str] = {}

    def execute(command: Any) -> None:
        with command.transaction() as connection:
            write(connection, command.title)
            command.start_task(command.title)

    def end(command: Any) -> None:
        with command.transaction() as connection:
            connection.exec_driver_sql(
                f"UPDATE songs SET title = title || ' ended' WHERE title = '{command.title}'"
            )

    def undo(command: Any) -> None:
        with command.transaction() as connection:
            connection.exec_driver_sql(f"DELETE FROM songs WHERE title = '{command.title}'")

    def run_some(thread: int) -> None:
        number = 0
        while not stop.is_set():
            number += 1
            title = f"{thread}-{number}"
            result = engine.run(Plain(title=title))
            if result.state == "running":
                tasks.end_all()
                result = engine.wait(result.command_id, timeout=60)
            outcomes[title] = result.state

    Record.script.update(execute=execute, end_successfully=end, end_with_failure=undo)
    engine = new_engine()
    threads = [background(run_some, thread) for thread in range(4)]
    for _ in range(3):
        before = len(outcomes)
        eventually(lambda before=before: len(outcomes) > before + 20, within=60)  # type: ignore[misc]
        postgresql.server.server.stop(signal.Signals[how])
        postgresql.server.server.start()
    stop.set()
    for thread in threads:
        thread.result()
    succeeded = sorted(
        f"{title} ended" for title, state in outcomes.items() if state == "succeeded"
    )
    assert sorted(songs()) == succeeded
    assert len(manager) == 0
    engine.close()
    assert (rows_in(postgresql), tasks.known) == ([0, 0], {})
