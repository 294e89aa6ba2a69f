"""Data of the user and the rows of a command: committed together, or not at all; on every store."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import pytest
from engine_support import FAILED, ManualTasks

from lockcore import LockManager
from lockcore.engine import Command, Engine, Scope, StoreError, exclusive, locks
from lockcore.engine._store import Store
from support import Background

SHARED = ["sqlalchemy-sqlite", "postgresql"]
lasting = pytest.mark.parametrize("any_store", ["sqlite-file", *SHARED], indirect=True)


def write(connection: Any, title: str) -> None:
    """Writes data of the user: a row that may be there only once."""
    statement = f"INSERT INTO songs VALUES ('{title}')"
    (getattr(connection, "exec_driver_sql", None) or connection.execute)(statement)


def titles(connection: Any) -> list[str]:
    statement = "SELECT title FROM songs ORDER BY title"
    found = (getattr(connection, "exec_driver_sql", None) or connection.execute)(statement)
    return [title for (title,) in found.fetchall()]


@locks(exclusive("SONG", "title"), scope=Scope.COMMAND)
class Record(Command):
    """Writes a song in its methods, as `script` says."""

    title: str = "Imagine"
    script: ClassVar[dict[str, Callable[[Any], Any]]] = {}
    calls: ClassVar[list[str]] = []

    def _play(self, method: str) -> Any:
        Record.calls.append(method)
        return Record.script.get(method, lambda command: None)(self)

    def validate(self) -> Any:
        return self._play("validate")

    def execute(self) -> Any:
        return self._play("execute")

    def compensate(self) -> Any:
        return self._play("compensate")

    def end_successfully(self) -> Any:
        return self._play("end_successfully")

    def end_with_failure(self) -> Any:
        return self._play("end_with_failure")


class Plain(Record):
    """The same, not stored before it has tasks."""

    compensate = Command.compensate


@pytest.fixture
def script() -> Iterator[dict[str, Callable[[Any], Any]]]:
    Record.script, Record.calls = {}, []
    yield Record.script
    Record.script = {}


@pytest.fixture
def new_engine(
    any_store: Any, tasks: ManualTasks, manager: LockManager, script: Any
) -> Iterator[Callable[..., Engine]]:
    engines: list[Engine] = []

    def make() -> Engine:
        engines.append(
            Engine(
                store=any_store.address(),
                tasks=tasks,
                manager=manager,
                poll_interval=0.002,
                retry_delay=0.002,
            )
        )
        engines[-1].open()
        return engines[-1]

    yield make
    for engine in engines:
        engine.close()


@pytest.fixture
def engine(new_engine: Callable[[], Engine]) -> Engine:
    """An open engine, with a table of the user in its database."""
    engine = new_engine()
    with store_of(engine).transaction() as work:
        connection = work.connection
        statement = "CREATE TABLE songs (title TEXT PRIMARY KEY)"
        (getattr(connection, "exec_driver_sql", None) or connection.execute)(statement)
    return engine


def store_of(engine: Engine) -> Store:
    assert engine._services is not None
    return engine._services.store


def songs(engine: Engine) -> list[str]:
    with store_of(engine).transaction() as work:
        return titles(work.connection)


def write_and_start(command: Command) -> None:
    with command.transaction() as connection:
        write(connection, "Imagine")
        command.start_task("copy")


def test_task_starts_when_the_users_data_is_committed(
    engine: Engine, tasks: ManualTasks, script: Any
) -> None:
    seen: list[Any] = []

    def execute(command: Command) -> None:
        with command.transaction() as connection:
            write(connection, "Imagine")
            task_id = command.start_task("copy", 1, to="disk")
            seen.append(dict(tasks.known))
        seen.append(list(tasks.known) == [task_id])

    script["execute"] = execute
    result = engine.run(Plain())
    assert (result.state, seen) == ("running", [{}, True])
    assert list(tasks.specs.values()) == [("copy", 1, {"to": "disk"})]
    assert [row.command_id for row in store_of(engine).commands()] == [result.command_id]
    tasks.end_all()
    assert engine.wait(result.command_id, timeout=10).state == "succeeded"
    assert songs(engine) == ["Imagine"]
    assert Record.calls == ["validate", "execute", "end_successfully"]


@pytest.mark.parametrize("command", [Plain, Record])
def test_nothing_starts_and_nothing_is_written_if_the_block_raises(
    engine: Engine,
    tasks: ManualTasks,
    manager: LockManager,
    script: Any,
    command: type[Record],
) -> None:
    def execute(command: Command) -> None:
        with command.transaction() as connection:
            write(connection, "Imagine")
            command.start_task("copy")
            write(connection, "Imagine")

    script["execute"] = execute
    result = engine.run(command())
    assert result.state == "failed"
    assert "unique" in str(result.messages).lower()
    assert (tasks.specs, songs(engine), len(manager)) == ({}, [], 0)
    assert (store_of(engine).commands(), store_of(engine).tasks()) == ([], {})
    assert "end_with_failure" not in Record.calls


def test_execute_may_go_on_after_a_block_that_was_rolled_back(
    engine: Engine, tasks: ManualTasks, script: Any
) -> None:
    def execute(command: Command) -> None:
        def begin() -> None:
            with command.transaction() as connection:
                write(connection, "Yesterday")
                command.start_task("copy")
                raise LookupError

        with pytest.raises(LookupError):
            begin()
        write_and_start(command)

    script["execute"] = execute
    result = engine.run(Plain())
    assert len(tasks.known) == 1
    tasks.end_all()
    assert engine.wait(result.command_id, timeout=10).state == "succeeded"
    assert songs(engine) == ["Imagine"]


def test_several_tasks_start_in_order_in_one_transaction(
    engine: Engine, tasks: ManualTasks, script: Any
) -> None:
    def execute(command: Command) -> None:
        with command.transaction():
            for name in ("a", "b", "c"):
                command.start_task(name)

    script["execute"] = execute
    result = engine.run(Plain())
    stored = store_of(engine).tasks()[result.command_id]
    assert [task.spec for task in stored] == ["'a'", "'b'", "'c'"]
    assert [spec[0] for spec in tasks.specs.values()] == ["a", "b", "c"]


def test_end_with_failure_is_due_if_a_task_cannot_start_after_the_commit(
    engine: Engine, tasks: ManualTasks, manager: LockManager, script: Any
) -> None:
    def start_two(command: Command) -> None:
        with command.transaction() as connection:
            write(connection, "Imagine")
            command.start_task("copy")
            command.start_task("check")

    script["execute"] = start_two
    tasks.start_error = OSError("no more processes")
    result = engine.run(Plain())
    assert (result.state, result.messages) == ("failed", ("no more processes",))
    assert Record.calls == ["validate", "execute", "end_with_failure"]
    assert (songs(engine), store_of(engine).tasks(), len(manager)) == (["Imagine"], {}, 0)


def test_block_without_tasks_is_a_transaction_all_the_same(engine: Engine, script: Any) -> None:
    def execute(command: Command) -> None:
        with command.transaction() as connection:
            write(connection, "Imagine")

    script["execute"] = execute
    assert engine.run(Plain()).state == "succeeded"
    assert songs(engine) == ["Imagine"]
    assert Record.calls == ["validate", "execute"]


# -- end actions


def ended(engine: Engine, tasks: ManualTasks, status: Any = None) -> Any:
    """The result of a command whose one task has ended."""
    result = engine.run(Plain())
    assert result.state == "running"
    tasks.end_all(*([] if status is None else [status]))
    return engine.wait(result.command_id, timeout=10)


def write_at_end(command: Command) -> None:
    with command.transaction() as connection:
        write(connection, "Imagine")


@pytest.mark.parametrize("way", ["end_successfully", "end_with_failure"])
def test_outcome_is_committed_with_what_the_end_action_writes(
    engine: Engine, tasks: ManualTasks, script: Any, way: str
) -> None:
    """And once only, though the first call raises after the block."""
    failures = [OSError("not yet")]

    def end(command: Command) -> None:
        write_at_end(command)
        if failures:
            raise failures.pop()

    script.update({"execute": lambda command: command.start_task("copy"), way: end})
    result = ended(engine, tasks, FAILED if way == "end_with_failure" else None)
    assert result.state == ("failed" if way == "end_with_failure" else "succeeded")
    assert Record.calls[2:] == [way, way]
    assert songs(engine) == ["Imagine"]
    assert store_of(engine).outcome(result.command_id).state == result.state  # type: ignore[union-attr]
    assert store_of(engine).commands() == []


def test_blocks_of_an_end_action_are_one_transaction(
    engine: Engine, tasks: ManualTasks, script: Any
) -> None:
    failures = [OSError("not yet")]

    def end(command: Command) -> None:
        write_at_end(command)
        with command.transaction() as connection:
            assert titles(connection) == ["Imagine"]
            write(connection, "Yesterday")
            if failures:
                raise failures.pop()

    script.update(execute=lambda command: command.start_task("copy"), end_successfully=end)
    assert ended(engine, tasks).state == "succeeded"
    assert songs(engine) == ["Imagine", "Yesterday"]


def test_compensation_and_end_action_are_one_transaction(
    engine: Engine, tasks: ManualTasks, script: Any
) -> None:
    failures = [OSError("not yet")]

    def end(command: Command) -> None:
        with command.transaction() as connection:
            write(connection, "Yesterday")
        if failures:
            raise failures.pop()

    def execute(command: Command) -> None:
        command.start_task("copy")

    script.update(execute=execute, compensate=write_at_end, end_with_failure=end)
    result = engine.run(Record())
    tasks.end_all(FAILED)
    assert engine.wait(result.command_id, timeout=10).state == "failed"
    assert songs(engine) == ["Imagine", "Yesterday"]


def test_outcome_that_cannot_be_stored_rolls_the_users_data_back(
    engine: Engine, tasks: ManualTasks, script: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit, failures, seen = Store.end, [StoreError("the disk is full")], list[Any]()

    def end(self: Store, *args: Any) -> None:
        if failures:
            raise failures.pop()
        commit(self, *args)

    def end_action(command: Command) -> None:
        with command.transaction() as connection:
            seen.append(titles(connection))
            write(connection, "Imagine")

    script.update(execute=lambda command: command.start_task("copy"), end_successfully=end_action)
    monkeypatch.setattr(Store, "end", end)
    assert ended(engine, tasks).state == "succeeded"
    assert (seen, songs(engine)) == ([[], []], ["Imagine"])


def test_async_end_action_may_have_a_transaction(
    engine: Engine, tasks: ManualTasks, script: Any
) -> None:
    async def end(command: Command) -> None:
        await asyncio.sleep(0)
        write_at_end(command)

    script.update(execute=lambda command: command.start_task("copy"), end_successfully=end)
    assert ended(engine, tasks).state == "succeeded"
    assert songs(engine) == ["Imagine"]


@lasting
@pytest.mark.parametrize("in_loop", [False, True])
def test_end_action_in_a_recovery_may_have_a_transaction(
    engine: Engine,
    new_engine: Callable[[], Engine],
    tasks: ManualTasks,
    script: Any,
    in_loop: bool,
) -> None:
    """With a running event loop an async end action has another thread than the commit."""

    async def end(command: Command) -> None:
        write_at_end(command)

    async def open_engine() -> Engine:
        return new_engine()

    script.update(execute=lambda command: command.start_task("copy"), end_successfully=end)
    command_id = engine.run(Plain()).command_id
    engine.close()
    tasks.end_all()
    second = asyncio.run(open_engine()) if in_loop else new_engine()
    assert second.recovery.ended == (command_id,)
    assert songs(second) == ["Imagine"]


# -- what is refused


def test_transaction_is_refused_where_nothing_is_executed(
    engine: Engine, tasks: ManualTasks, script: Any
) -> None:
    command = Plain()
    with pytest.raises(RuntimeError, match="has not been run"):
        command.transaction()
    script["validate"] = lambda command: command.transaction().__enter__()
    result = engine.run(command)
    assert (result.state, str(result.messages[0])) == (
        "failed",
        "a transaction is begun while execute or an end action runs, not at another time",
    )


def test_transaction_inside_another_one_is_refused(engine: Engine, script: Any) -> None:
    def execute(command: Command) -> None:
        with command.transaction(), command.transaction():
            pass

    script["execute"] = execute
    assert engine.run(Plain()).messages == ("a transaction is open here already",)


@pytest.mark.parametrize("way", ["child", "command"])
def test_other_command_inside_a_transaction_is_refused(
    engine: Engine, script: Any, way: str
) -> None:
    def execute(command: Command) -> None:
        with command.transaction():
            if way == "child":
                command.run_child(Plain(title="Yesterday"))
            else:
                engine.run(Plain(title="Yesterday"))

    script["execute"] = execute
    assert engine.run(Plain()).messages == (
        "no other command can be run inside the block of a transaction",
    )


def test_task_of_another_coroutine_is_refused_while_a_block_awaits(
    engine: Engine, tasks: ManualTasks, script: Any
) -> None:
    """It would wait for the block, and the block for the event loop."""

    class Async(Plain):
        async def execute(self) -> None:  # type: ignore[override]
            is_open, is_done = asyncio.Event(), asyncio.Event()

            async def block() -> None:
                with self.transaction():
                    is_open.set()
                    await is_done.wait()

            async def start() -> None:
                await is_open.wait()
                with pytest.raises(RuntimeError, match="is open in this thread"):
                    self.start_task("copy")
                is_done.set()

            await asyncio.gather(block(), start())

    assert asyncio.run(engine.run_async(Async())).state == "succeeded"
    assert tasks.specs == {}


def test_task_of_a_coroutine_begun_in_a_block_starts_after_it(
    engine: Engine, tasks: ManualTasks, script: Any
) -> None:
    class Async(Plain):
        async def execute(self) -> None:  # type: ignore[override]
            async def start() -> None:
                self.start_task("copy")

            with self.transaction():
                starting = asyncio.create_task(start())
            await starting

    assert asyncio.run(engine.run_async(Async())).state == "running"
    assert len(tasks.specs) == 1


def test_task_of_another_thread_waits_for_the_block(
    engine: Engine, tasks: ManualTasks, script: Any, background: Callable[..., Background]
) -> None:
    threads: list[Background] = []

    def execute(command: Command) -> None:
        with command.transaction() as connection:
            write(connection, "Imagine")
            command.start_task("first")
            threads.append(background(command.start_task, "second"))
        threads[0].result()

    script["execute"] = execute
    assert engine.run(Plain()).state == "running"
    assert [spec[0] for spec in tasks.specs.values()] in (["first", "second"], ["second", "first"])
    assert len(store_of(engine).commands()) == 1
