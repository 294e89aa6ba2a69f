"""Fixtures for the tests of Celery tasks: one Redis, and one worker for all that do not kill it."""

from __future__ import annotations

import importlib.util
import os
import sysconfig
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import pytest
from celery_services import CeleryWorker, RedisServer

from lockcore.engine import TaskState, TaskStatus
from services import require_module
from support import eventually

if TYPE_CHECKING:
    from lockcore.engine.celery import CeleryTasks

ENDS_WITHIN = 60.0
"""Seconds in which a worker that has been disturbed comes back. Only a failure waits so long."""


def started_redis() -> RedisServer:
    """A new Redis server, for a test with Celery."""
    if sysconfig.get_config_var("Py_GIL_DISABLED"):
        pytest.skip("Celery makes no promise without the GIL")
    require_module("celery")
    redis = RedisServer()
    redis.server.start()
    return redis


def app_module(redis: RedisServer) -> ModuleType:
    """A copy of the module with the tasks, whose app is connected to that server."""
    path = Path(__file__).with_name("celery_app.py")
    spec = importlib.util.spec_from_file_location("celery_app", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LOCKCORE_TEST_REDIS", redis.url)
        spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    redis = started_redis()
    yield redis
    redis.close()


@pytest.fixture(scope="session")
def celery_worker(redis_server: RedisServer) -> Iterator[CeleryWorker]:
    """A worker that no test kills."""
    worker = CeleryWorker(redis_server)
    yield worker
    worker.kill()


@pytest.fixture(scope="session")
def celery_app(redis_server: RedisServer) -> ModuleType:
    """The module with the tasks, its app connected to the server."""
    return app_module(redis_server)


@pytest.fixture
def new_worker(redis_server: RedisServer) -> Iterator[Callable[[], CeleryWorker]]:
    """Starts workers for the queue `mortal`, which a test may kill."""
    workers: list[CeleryWorker] = []

    def start() -> CeleryWorker:
        workers.append(CeleryWorker(redis_server, queue="mortal"))
        return workers[-1]

    yield start
    for worker in workers:
        worker.kill()


@pytest.fixture
def celery_tasks(
    celery_app: ModuleType, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[CeleryTasks]:
    """A back end with records of its own. At the end its tasks may end, and are forgotten."""
    module = importlib.import_module("lockcore.engine.celery")
    tasks = module.CeleryTasks(celery_app.app, name=request.node.name)
    yield tasks
    (tmp_path / "go").touch()
    for task_id in tasks.status():
        tasks.stop(task_id)
        tasks.give_up(task_id)
        tasks.forget(task_id)


@pytest.fixture
def celery_id(celery_tasks: CeleryTasks) -> str:
    """An id that no earlier test has had stopped: workers remember those."""
    return str(uuid.uuid4())


def ended(tasks: CeleryTasks, task_id: str = "t1") -> TaskStatus:
    """The status of a task once it has ended."""

    def status() -> TaskStatus | None:
        found = tasks.status([task_id])[task_id]
        return found if found.state is not TaskState.RUNNING else None

    return eventually(status, within=ENDS_WITHIN)  # type: ignore[return-value] # no None is true


def runs(directory: Path) -> list[int]:
    """The ids of the processes that have begun to run the task, in order."""
    path = directory / "ran"
    return [int(line) for line in path.read_text().splitlines()] if path.exists() else []


def is_alive(pid: int) -> bool:
    """Whether there is such a process of a worker: the worker replaces one that is killed."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
