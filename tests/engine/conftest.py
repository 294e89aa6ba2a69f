"""Fixtures for the tests of the engine."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from celery_fixtures import (  # noqa: F401 - fixtures
    celery_app,
    celery_id,
    celery_tasks,
    celery_worker,
    new_worker,
    redis_server,
)
from engine_commands import calls, script  # noqa: F401 - fixtures
from engine_support import ManualTasks
from store_fixtures import any_store, postgresql, postgresql_server  # noqa: F401 - fixtures

from lockcore import LockManager
from lockcore.engine import Engine, ProcessTasks, TaskState
from support import eventually


@pytest.fixture
def manager() -> Iterator[LockManager]:
    with LockManager() as manager:
        yield manager


@pytest.fixture
def tasks() -> ManualTasks:
    return ManualTasks()


@pytest.fixture
def store(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/engine.db"


@pytest.fixture
def new_engine(
    store: str, tasks: ManualTasks, manager: LockManager
) -> Iterator[Callable[..., Engine]]:
    """Makes engines on one store, one back end and one manager, and closes them at the end."""
    engines: list[Engine] = []

    def make(**options: Any) -> Engine:
        options = {
            "store": store,
            "tasks": tasks,
            "manager": manager,
            "poll_interval": 0.002,
            "retry_delay": 0.002,
        } | options
        engines.append(Engine(**options))
        return engines[-1]

    yield make
    for engine in engines:
        engine.close()


@pytest.fixture
def engine(new_engine: Callable[..., Engine]) -> Engine:
    """An open engine."""
    engine = new_engine()
    engine.open()
    return engine


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[ProcessTasks]:
    """A back end of processes; those that still run at the end are stopped."""
    processes = ProcessTasks(tmp_path / "tasks", grace=0.5)
    yield processes
    for task_id in processes.status():
        processes.stop(task_id)
    eventually(
        lambda: all(task.state is not TaskState.RUNNING for task in processes.status().values())
    )
    for task_id in processes.status():
        processes.forget(task_id)
