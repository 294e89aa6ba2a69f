"""Celery tasks when the engine, a worker or a process of it is killed, or an answer is lost."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest
from celery_fixtures import ENDS_WITHIN, ended, is_alive, runs
from celery_services import CeleryWorker, RedisServer
from engine_support import EngineProcess

from support import eventually

if TYPE_CHECKING:
    from lockcore.engine.celery import CeleryTasks

pytestmark = pytest.mark.timeout(180)

NewWorker = Callable[[], CeleryWorker]


# ---- the engine ------------------------------------------------------------------


@pytest.fixture
def new_engine_process(
    redis_server: RedisServer,
    celery_tasks: CeleryTasks,
    tmp_path: Path,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> Any:
    """Starts engine processes whose tasks are those of `celery_tasks`."""
    monkeypatch.setenv("LOCKCORE_TEST_REDIS", redis_server.url)
    monkeypatch.setenv("LOCKCORE_TEST_ENGINE", request.node.name)
    engines: list[EngineProcess] = []

    def start(instant: str = "never") -> EngineProcess:
        engines.append(EngineProcess(tmp_path, instant, name="crashing_celery_engine.py"))
        return engines[-1]

    yield start
    for engine in engines:
        engine.kill()


@pytest.mark.usefixtures("celery_worker")
def test_task_of_a_killed_engine_is_followed_to_its_end(
    new_engine_process: Callable[..., EngineProcess], celery_tasks: CeleryTasks, tmp_path: Path
) -> None:
    first = new_engine_process()
    assert first.answer() == {}
    command_id = first.ask("run")["command_id"]
    eventually(lambda: runs(tmp_path), within=ENDS_WITHIN)
    assert first.kill() == -signal.SIGKILL

    second = new_engine_process()
    assert second.answer() == {"resumed": [command_id]}
    assert second.ask("locks") == [[["VM", "web"], "exclusive", "VM_IS_COPIED"]]
    (tmp_path / "go").touch()
    assert second.ask(f"wait {command_id}")["state"] == "succeeded"
    assert second.ask("locks") == []
    assert (tmp_path / "end-actions").read_text(encoding="utf-8") == "succeeded\n"
    assert len(runs(tmp_path)) == 1
    assert celery_tasks.status() == {}


@pytest.mark.usefixtures("celery_worker")
def test_task_that_ends_while_no_engine_runs_is_known_to_the_next(
    new_engine_process: Callable[..., EngineProcess], celery_tasks: CeleryTasks, tmp_path: Path
) -> None:
    first = new_engine_process()
    first.answer()
    command_id = first.ask("run")["command_id"]
    first.kill()
    (celery_id,) = celery_tasks.status()
    (tmp_path / "go").touch()
    ended(celery_tasks, celery_id)

    second = new_engine_process()
    assert second.answer() == {"ended": [command_id]}
    assert (tmp_path / "end-actions").read_text(encoding="utf-8") == "succeeded\n"


@pytest.mark.parametrize(
    "instant", ["after the record is made", "after the task is published", "in execute"]
)
@pytest.mark.usefixtures("celery_worker")
def test_task_of_an_engine_that_is_killed_in_a_start_ends_for_good(
    new_engine_process: Callable[..., EngineProcess],
    celery_tasks: CeleryTasks,
    tmp_path: Path,
    instant: str,
) -> None:
    first = new_engine_process(instant)
    first.answer()
    first.send("run")
    assert first.wait() == -signal.SIGKILL
    assert len(celery_tasks.status()) == 1

    second = new_engine_process()
    ((command_id,),) = second.answer().values()
    assert second.ask(f"wait {command_id}")["state"] == "failed"
    assert second.ask("locks") == []
    assert celery_tasks.status() == {}
    eventually(lambda: not any(map(is_alive, runs(tmp_path))))
    assert not (tmp_path / "go").exists()


# ---- the worker ------------------------------------------------------------------


def test_task_whose_process_is_killed_fails(
    new_worker: NewWorker,
    celery_tasks: CeleryTasks,
    celery_app: ModuleType,
    celery_id: str,
    tmp_path: Path,
) -> None:
    new_worker()
    celery_tasks.start(celery_id, celery_app.wait.s(str(tmp_path)).set(queue="mortal"))
    os.kill(eventually(lambda: runs(tmp_path), within=ENDS_WITHIN)[0], signal.SIGKILL)
    assert ended(celery_tasks, celery_id).state == "failed"
    assert "WorkerLostError" in ended(celery_tasks, celery_id).detail


def test_late_task_whose_process_is_killed_runs_again(
    new_worker: NewWorker,
    celery_tasks: CeleryTasks,
    celery_app: ModuleType,
    celery_id: str,
    tmp_path: Path,
) -> None:
    new_worker()
    celery_tasks.start(celery_id, celery_app.wait_late.s(str(tmp_path)).set(queue="mortal"))
    os.kill(eventually(lambda: runs(tmp_path), within=ENDS_WITHIN)[0], signal.SIGKILL)
    eventually(lambda: len(runs(tmp_path)) == 2, within=ENDS_WITHIN)
    assert celery_tasks.status([celery_id])[celery_id].state == "running"
    (tmp_path / "go").touch()
    assert ended(celery_tasks, celery_id).state == "succeeded"


def test_late_task_whose_worker_is_killed_runs_again_on_another(
    new_worker: NewWorker,
    celery_tasks: CeleryTasks,
    celery_app: ModuleType,
    celery_id: str,
    tmp_path: Path,
) -> None:
    first = new_worker()
    celery_tasks.start(celery_id, celery_app.wait_late.s(str(tmp_path)).set(queue="mortal"))
    eventually(lambda: runs(tmp_path), within=ENDS_WITHIN)
    first.kill()
    assert celery_tasks.status([celery_id])[celery_id].state == "running"
    new_worker()
    eventually(lambda: len(runs(tmp_path)) == 2, within=ENDS_WITHIN)
    (tmp_path / "go").touch()
    assert ended(celery_tasks, celery_id).state == "succeeded"


def test_task_whose_worker_is_killed_runs_until_it_is_given_up(
    new_worker: NewWorker,
    celery_tasks: CeleryTasks,
    celery_app: ModuleType,
    celery_id: str,
    tmp_path: Path,
) -> None:
    first = new_worker()
    celery_tasks.start(celery_id, celery_app.wait.s(str(tmp_path)).set(queue="mortal"))
    eventually(lambda: runs(tmp_path), within=ENDS_WITHIN)
    first.kill()
    new_worker()
    celery_tasks.start("later", celery_app.add.s(1, 2).set(queue="mortal"))
    assert ended(celery_tasks, "later").state == "succeeded"
    assert celery_tasks.status([celery_id])[celery_id].state == "running"
    celery_tasks.give_up(celery_id)
    assert ended(celery_tasks, celery_id).detail == "given up: its worker is gone"
    assert len(runs(tmp_path)) == 1


# ---- the answer of the broker ----------------------------------------------------


@pytest.mark.parametrize("has_begun", [False, True])
def test_task_whose_publishing_was_not_confirmed_is_withdrawn_unless_it_has_begun(
    celery_worker: CeleryWorker,
    celery_tasks: CeleryTasks,
    celery_app: ModuleType,
    celery_id: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    has_begun: bool,
) -> None:
    amqp = celery_app.app.amqp
    publish = amqp.send_task_message

    def lose_the_answer(*args: Any, **options: Any) -> None:
        publish(*args, **options)
        if has_begun:
            eventually(lambda: runs(tmp_path), within=ENDS_WITHIN)
        raise ConnectionError("no answer")

    monkeypatch.setattr(amqp, "send_task_message", lose_the_answer)
    queue = "celery" if has_begun else f"later-{celery_id}"
    signature = celery_app.wait.s(str(tmp_path)).set(queue=queue)
    if has_begun:
        celery_tasks.start(celery_id, signature)
        assert celery_tasks.status([celery_id])[celery_id].state == "running"
        return
    with pytest.raises(Exception, match="no answer"):
        celery_tasks.start(celery_id, signature)
    assert celery_tasks.status([celery_id]) == {}
    celery_app.app.control.add_consumer(queue)
    eventually(lambda: celery_worker.has_said(f"task {celery_id} is not run"), within=ENDS_WITHIN)
    assert runs(tmp_path) == []
