"""What a user does with the connection of a block, right or wrong, ends with the block."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import pytest
from engine_support import ManualTasks

from lockcore import LockManager
from lockcore.engine import Command, Engine, Scope, locks


def run_sql(connection: Any, statement: str) -> Any:
    return (getattr(connection, "exec_driver_sql", None) or connection.execute)(statement)


@locks(scope=Scope.COMMAND)
class Slip(Command):
    """Writes in a block, and does with the connection what `slip` says."""

    title: str
    slip: ClassVar[Callable[[Any], Any]]
    where: ClassVar[str] = "inside"

    def execute(self) -> None:
        with self.transaction() as connection:
            run_sql(connection, f"INSERT INTO songs VALUES ('{self.title}')")
            self.start_task("copy")
            if Slip.where == "inside":
                Slip.slip(connection)
        if Slip.where == "after":
            Slip.slip(connection)


@pytest.fixture
def engine(any_store: Any, tasks: ManualTasks, manager: LockManager) -> Iterator[Engine]:
    """An open engine, with a table of the user in its database."""
    with Engine(
        store=any_store.address(),
        tasks=tasks,
        manager=manager,
        poll_interval=0.002,
        retry_delay=0.002,
    ) as engine:
        in_block(engine, lambda c: run_sql(c, "CREATE TABLE songs (title TEXT)"))
        yield engine


def in_block(engine: Engine, work: Callable[[Any], Any]) -> None:
    assert engine._services is not None
    with engine._services.store.transaction() as block:
        work(block.connection)


def songs(engine: Engine) -> list[str]:
    found: list[str] = []
    in_block(engine, lambda c: found.extend(t for (t,) in run_sql(c, "SELECT title FROM songs")))
    return found


def ended(engine: Engine, tasks: ManualTasks, command: Command) -> Any:
    """The result of a command at its end."""
    command_id = engine.run(command).command_id
    tasks.end_all()
    return engine.wait(command_id, timeout=10)


def use_as_a_context(connection: Any) -> None:
    with connection:
        pass


@pytest.mark.parametrize(
    "slip",
    [
        lambda connection: connection.close(),
        lambda connection: connection.commit(),
        lambda connection: connection.rollback(),
        use_as_a_context,
    ],
    ids=["close", "commit", "rollback", "with"],
)
def test_slip_inside_a_block_fails_that_block_only(
    engine: Engine, tasks: ManualTasks, slip: Callable[[Any], Any]
) -> None:
    Slip.slip, Slip.where = staticmethod(slip), "inside"
    failed = ended(engine, tasks, Slip(title="Help"))
    assert failed.state == "failed"
    assert "block" in failed.messages[0]
    assert not tasks.specs
    Slip.where = "nowhere"
    assert ended(engine, tasks, Slip(title="Imagine")).state == "succeeded"
    assert songs(engine)[-1:] == ["Imagine"]


@pytest.mark.parametrize("any_store", ["sqlite-file", "sqlite-memory"], indirect=True)
def test_commit_in_a_block_is_refused_before_anything_is_committed(
    engine: Engine, tasks: ManualTasks
) -> None:
    Slip.slip, Slip.where = staticmethod(lambda connection: connection.commit()), "inside"
    assert ended(engine, tasks, Slip(title="Help")).messages == (
        "the connection of a transaction is not committed in its block: its end does what is due",
    )
    assert songs(engine) == []


@pytest.mark.parametrize(
    "any_store", ["sqlite-file", "sqlalchemy-sqlite", "postgresql"], indirect=True
)
def test_connection_is_of_no_use_after_its_block(engine: Engine, tasks: ManualTasks) -> None:
    Slip.slip = staticmethod(lambda connection: run_sql(connection, "DELETE FROM songs"))
    Slip.where = "after"
    failed = ended(engine, tasks, Slip(title="Help"))
    assert (failed.state, "closed" in failed.messages[0]) == ("failed", True)
    Slip.where = "nowhere"
    assert ended(engine, tasks, Slip(title="Imagine")).state == "succeeded"
    assert songs(engine) == ["Help", "Imagine"]


@pytest.mark.parametrize("any_store", ["sqlite-file", "sqlalchemy-sqlite"], indirect=True)
def test_every_block_waits_for_the_disk(engine: Engine) -> None:
    levels: list[Any] = []
    in_block(engine, lambda c: levels.extend(run_sql(c, "PRAGMA synchronous").fetchone()))
    assert levels == [2]
