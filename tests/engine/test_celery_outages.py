"""Celery tasks when Redis goes away: killed and started again, or without what it had been told."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import pytest
from celery_fixtures import ENDS_WITHIN, app_module, runs, started_redis
from celery_services import CeleryWorker, RedisServer

from lockcore.engine import Command, Engine, Scope, exclusive, locks
from support import eventually

if TYPE_CHECKING:
    from lockcore.engine.celery import CeleryTasks

pytestmark = pytest.mark.timeout(180)


@pytest.fixture
def redis_server() -> Iterator[RedisServer]:
    """A server for one test, which may kill it."""
    redis = started_redis()
    yield redis
    redis.close()


@pytest.fixture
def celery_worker(redis_server: RedisServer) -> Iterator[CeleryWorker]:
    worker = CeleryWorker(redis_server)
    yield worker
    worker.kill()


@pytest.fixture
def celery_app(redis_server: RedisServer) -> ModuleType:
    return app_module(redis_server)


@locks(exclusive("VM", "vm"), scope=Scope.COMMAND)
class Wait(Command):
    vm: str
    directory: str

    def execute(self) -> None:
        self.start_task("celery_app.wait", self.directory)


@pytest.mark.usefixtures("celery_worker")
def test_task_is_followed_over_a_restart_of_redis(
    redis_server: RedisServer,
    celery_tasks: CeleryTasks,
    new_engine: Callable[..., Engine],
    tmp_path: Path,
) -> None:
    with new_engine(tasks=celery_tasks) as engine:
        command_id = engine.run(Wait(vm="web", directory=str(tmp_path))).command_id
        eventually(lambda: runs(tmp_path), within=ENDS_WITHIN)
        redis_server.server.kill()
        (tmp_path / "go").touch()
        redis_server.server.start()
        result = engine.wait(command_id, timeout=ENDS_WITHIN)
    assert (result.state, result.messages) == ("succeeded", ())
    assert len(runs(tmp_path)) == 1


@pytest.mark.usefixtures("celery_worker")
def test_locks_are_kept_when_redis_has_lost_the_records(
    celery_tasks: CeleryTasks,
    celery_app: ModuleType,
    new_engine: Callable[..., Engine],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    tasks = type(celery_tasks)(celery_app.app, name="to be lost")
    with new_engine(tasks=tasks) as engine:
        command_id = engine.run(Wait(vm="web", directory=str(tmp_path))).command_id
        eventually(lambda: runs(tmp_path), within=ENDS_WITHIN)
        celery_app.app.backend.client.flushall()
        eventually(lambda: "were lost" in caplog.text)
        assert engine.status(command_id).state == "running"
        assert ("VM", "web") in engine.manager
        refused = engine.run(Wait(vm="db", directory=str(tmp_path)))
        assert (refused.state, ("VM", "db") in engine.manager) == ("failed", False)
    (tmp_path / "go").touch()
    # Opening the engine again says that there is nothing to wait for.
    with new_engine(tasks=type(celery_tasks)(celery_app.app, name="to be lost")) as engine:
        assert engine.recovery.cleaned == (command_id,)


def test_task_that_could_not_be_published_never_runs(
    redis_server: RedisServer, celery_tasks: CeleryTasks, celery_app: ModuleType, celery_id: str
) -> None:
    redis_server.server.kill()
    try:
        with pytest.raises(Exception, match="socket"):
            celery_tasks.start(celery_id, celery_app.add, 1, 2)
        with pytest.raises(Exception, match="socket"):
            celery_tasks.status([celery_id])
    finally:
        redis_server.server.start()
    assert celery_tasks.status([celery_id]) == {}
