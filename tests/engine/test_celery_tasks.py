"""Celery tasks, with a real worker and a real Redis: started, followed, stopped, forgotten."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest
from celery_fixtures import ENDS_WITHIN, ended, is_alive, runs
from celery_services import CeleryWorker, RedisServer

from lockcore.engine import Command, Engine, Scope, locks
from support import DEADLINE, eventually

if TYPE_CHECKING:
    from lockcore.engine.celery import CeleryTasks

pytestmark = [pytest.mark.timeout(120), pytest.mark.usefixtures("celery_worker")]


def test_task_that_returns_succeeds(
    celery_tasks: CeleryTasks, celery_app: ModuleType, celery_id: str
) -> None:
    celery_tasks.start(celery_id, celery_app.add, 1, other=2)
    assert ended(celery_tasks, celery_id).state == "succeeded"


def test_task_that_raises_fails_with_its_error(
    celery_tasks: CeleryTasks, celery_app: ModuleType, celery_id: str
) -> None:
    celery_tasks.start(celery_id, celery_app.fail, "the disk is full")
    assert ended(celery_tasks, celery_id).state == "failed"
    assert ended(celery_tasks, celery_id).detail == "OSError: the disk is full"


def test_task_is_started_by_its_name_or_signature(
    celery_tasks: CeleryTasks, celery_app: ModuleType, celery_id: str
) -> None:
    celery_tasks.start(celery_id, "celery_app.add", 1, 2)
    assert ended(celery_tasks, celery_id).state == "succeeded"
    celery_tasks.start(celery_id + "-2", celery_app.add.s(1).set(priority=3), other=2)
    assert ended(celery_tasks, celery_id + "-2").state == "succeeded"


def test_task_that_no_worker_has_yet_is_queued(
    celery_tasks: CeleryTasks, celery_app: ModuleType, celery_id: str
) -> None:
    celery_tasks.start(celery_id, celery_app.add.s(1, 2).set(queue="nobody"))
    assert celery_tasks.status([celery_id])[celery_id].detail == "queued"


def test_running_task_says_where(
    celery_tasks: CeleryTasks, celery_app: ModuleType, celery_id: str, tmp_path: Path
) -> None:
    celery_tasks.start(celery_id, celery_app.wait, str(tmp_path))
    eventually(lambda: runs(tmp_path), within=ENDS_WITHIN)
    status = celery_tasks.status([celery_id])[celery_id]
    assert (status.state, status.detail[:9]) == ("running", "on worker")


@pytest.mark.parametrize(
    ("how", "part", "detail"),
    [("report_progress", 0.42, "copying"), ("update_state", 0.75, "")],
)
def test_task_says_how_far_it_has_come(
    celery_tasks: CeleryTasks,
    celery_app: ModuleType,
    celery_id: str,
    tmp_path: Path,
    how: str,
    part: float,
    detail: str,
) -> None:
    celery_tasks.start(celery_id, celery_app.say, str(tmp_path), how)
    eventually(lambda: runs(tmp_path), within=ENDS_WITHIN)
    status = celery_tasks.status([celery_id])[celery_id]
    assert (status.state, status.progress) == ("running", part)
    assert status.detail == detail or not detail
    (tmp_path / "go").touch()
    assert ended(celery_tasks, celery_id).state == "succeeded"


def test_task_that_asks_to_be_tried_again_is_followed_to_its_end(
    celery_tasks: CeleryTasks, celery_app: ModuleType, celery_id: str, tmp_path: Path
) -> None:
    celery_tasks.start(celery_id, celery_app.retry, str(tmp_path), times=3)
    assert ended(celery_tasks, celery_id).state == "succeeded"
    assert len(runs(tmp_path)) == 4


def test_unknown_task_is_missing(celery_tasks: CeleryTasks) -> None:
    assert celery_tasks.status(["nobody"]) == {}
    assert celery_tasks.status() == {}


def test_all_tasks_are_listed(
    celery_tasks: CeleryTasks, celery_app: ModuleType, celery_id: str
) -> None:
    celery_tasks.start(celery_id, celery_app.add, 1, 2)
    ended(celery_tasks, celery_id)
    assert set(celery_tasks.status()) == {celery_id}


def test_another_engine_has_other_tasks(
    celery_tasks: CeleryTasks, celery_app: ModuleType, celery_id: str
) -> None:
    celery_tasks.start(celery_id, celery_app.add, 1, 2)
    other = type(celery_tasks)(celery_app.app, name="another")
    assert other.status() == {}


def test_same_id_is_not_started_twice(
    celery_tasks: CeleryTasks, celery_app: ModuleType, celery_id: str
) -> None:
    celery_tasks.start(celery_id, celery_app.add, 1, 2)
    with pytest.raises(FileExistsError, match=f"there is a task {celery_id}"):
        celery_tasks.start(celery_id, celery_app.add, 1, 2)


def test_running_task_is_killed(
    celery_tasks: CeleryTasks, celery_app: ModuleType, celery_id: str, tmp_path: Path
) -> None:
    celery_tasks.start(celery_id, celery_app.wait, str(tmp_path))
    eventually(lambda: runs(tmp_path), within=ENDS_WITHIN)
    celery_tasks.stop(celery_id)
    assert ended(celery_tasks, celery_id).detail == "stopped"
    eventually(lambda: not is_alive(runs(tmp_path)[0]), within=ENDS_WITHIN)


def test_task_that_has_expired_fails(
    celery_tasks: CeleryTasks, celery_app: ModuleType, celery_id: str
) -> None:
    celery_tasks.start(celery_id, celery_app.add.s(1, 2).set(expires=-1))
    assert ended(celery_tasks, celery_id).detail == "revoked: expired"


def test_task_that_is_stopped_before_it_begins_never_runs(
    celery_tasks: CeleryTasks,
    celery_app: ModuleType,
    celery_worker: CeleryWorker,
    celery_id: str,
    tmp_path: Path,
) -> None:
    queue = f"later-{celery_id}"
    celery_tasks.start(celery_id, celery_app.wait.s(str(tmp_path)).set(queue=queue))
    celery_tasks.stop(celery_id)
    assert celery_tasks.status([celery_id])[celery_id].detail == "stopped before it began"
    celery_app.app.control.add_consumer(queue)
    eventually(lambda: celery_worker.has_said(f"task {celery_id} is not run"), within=ENDS_WITHIN)
    assert runs(tmp_path) == []


def test_stop_of_an_unknown_or_ended_task_does_nothing(
    celery_tasks: CeleryTasks, celery_app: ModuleType, celery_id: str
) -> None:
    celery_tasks.stop(celery_id)
    celery_tasks.start(celery_id, celery_app.add, 1, 2)
    ended(celery_tasks, celery_id)
    celery_tasks.stop(celery_id)
    assert ended(celery_tasks, celery_id).state == "succeeded"


def test_message_that_is_delivered_twice_is_run_once(
    celery_tasks: CeleryTasks,
    celery_app: ModuleType,
    celery_worker: CeleryWorker,
    celery_id: str,
    tmp_path: Path,
) -> None:
    message: dict[str, Any] = {}
    sent = importlib.import_module("celery.signals").before_task_publish

    def keep(headers: dict[str, Any], **_: Any) -> None:
        message.update(headers)

    sent.connect(keep)
    celery_tasks.start(celery_id, celery_app.wait, str(tmp_path))
    sent.disconnect(keep)
    eventually(lambda: runs(tmp_path), within=ENDS_WITHIN)
    celery_app.wait.apply_async(
        [str(tmp_path)],
        task_id=celery_id,
        headers={"lockcore_records": message["lockcore_records"]},
    )
    eventually(lambda: celery_worker.has_said(f"task {celery_id} is not run"), within=ENDS_WITHIN)
    (tmp_path / "go").touch()
    assert ended(celery_tasks, celery_id).state == "succeeded"
    assert len(runs(tmp_path)) == 1


def test_task_that_others_send_runs_unfollowed(
    celery_tasks: CeleryTasks, celery_app: ModuleType, celery_id: str
) -> None:
    result = celery_app.add.apply_async([1, 2], task_id=celery_id)
    eventually(result.ready)
    assert result.result == 3
    assert celery_tasks.status() == {}


def test_forgotten_task_leaves_nothing_in_redis(
    celery_tasks: CeleryTasks, celery_app: ModuleType, celery_id: str
) -> None:
    client = celery_app.app.backend.client
    celery_tasks.start(celery_id, celery_app.add, 1, 2)
    ended(celery_tasks, celery_id)
    assert client.exists(f"celery-task-meta-{celery_id}")
    celery_tasks.forget(celery_id)
    celery_tasks.forget(celery_id)
    assert celery_tasks.status() == {}
    assert not client.exists(f"celery-task-meta-{celery_id}")


def test_running_task_is_not_forgotten(
    celery_tasks: CeleryTasks, celery_app: ModuleType, celery_id: str, tmp_path: Path
) -> None:
    celery_tasks.start(celery_id, celery_app.wait, str(tmp_path))
    with pytest.raises(ValueError, match="is running"):
        celery_tasks.forget(celery_id)


def test_end_is_known_when_the_result_has_expired(
    celery_tasks: CeleryTasks, celery_app: ModuleType, celery_id: str
) -> None:
    celery_tasks.start(celery_id, celery_app.fail, "the disk is full")
    ended(celery_tasks, celery_id)
    celery_app.app.backend.delete(f"celery-task-meta-{celery_id}")
    # The worker's note may come a moment later than Celery's own.
    assert ended(celery_tasks, celery_id).detail == "OSError: the disk is full"


def test_many_tasks_are_asked_for_in_one_round_trip(
    celery_tasks: CeleryTasks, redis_server: RedisServer, celery_app: ModuleType
) -> None:
    client = celery_app.app.backend.client
    signature = celery_app.add.s(1, 2).set(queue="nobody")
    ids = [f"many-{number}" for number in range(50)]
    for id in ids:
        celery_tasks.start(id, signature)
    client.config_resetstat()
    assert len(celery_tasks.status(ids)) == 50
    commands = client.info("commandstats")
    assert commands["cmdstat_hmget"]["calls"] == 1
    assert commands["cmdstat_mget"]["calls"] == 1
    celery_app.app.control.purge()


@pytest.mark.parametrize("task", [7, None, ["cp", "a", "b"], print])
def test_spec_that_is_no_celery_task_is_refused(
    celery_tasks: CeleryTasks, celery_id: str, task: Any
) -> None:
    with pytest.raises(TypeError, match="start_task takes a Celery task, its name or"):
        celery_tasks.start(celery_id, task)
    assert celery_tasks.status() == {}


def test_chain_is_refused(
    celery_tasks: CeleryTasks, celery_app: ModuleType, celery_id: str
) -> None:
    chain = celery_app.add.s(1, 2) | celery_app.add.s(3)
    with pytest.raises(TypeError, match="the signature of one task"):
        celery_tasks.start(celery_id, chain)


def test_task_of_another_class_is_refused(
    celery_tasks: CeleryTasks, celery_app: ModuleType, celery_id: str
) -> None:
    with pytest.raises(TypeError, match=r"celery_app\.unfollowed must be FollowedTask"):
        celery_tasks.start(celery_id, celery_app.unfollowed)


def test_arguments_that_cannot_be_sent_leave_no_task(
    celery_tasks: CeleryTasks, celery_app: ModuleType, celery_id: str
) -> None:
    with pytest.raises(Exception, match="not JSON serializable"):
        celery_tasks.start(celery_id, celery_app.add, object(), 2)
    assert celery_tasks.status() == {}


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"backend": "rpc://"}, "the result back end of the app must be Redis"),
        ({"backend": None}, "the result back end of the app must be Redis"),
        ({"task_always_eager": True}, "with task_always_eager there are no workers"),
    ],
)
def test_app_that_cannot_be_followed_is_refused(
    celery_tasks: CeleryTasks, redis_server: RedisServer, options: dict[str, Any], reason: str
) -> None:
    celery = importlib.import_module("celery")
    backend = options.pop("backend", redis_server.url)
    app = celery.Celery("other", broker=redis_server.url, backend=backend, set_as_current=False)
    app.conf.update(options)
    with pytest.raises(ValueError, match=reason):
        type(celery_tasks)(app)


def test_engine_follows_a_celery_task_and_shows_its_progress(
    celery_tasks: CeleryTasks,
    celery_app: ModuleType,
    new_engine: Callable[..., Engine],
    tmp_path: Path,
) -> None:
    @locks(scope=Scope.COMMAND)
    class Copy(Command):
        def execute(self) -> None:
            self.start_task(celery_app.say, str(tmp_path), "report_progress")

    with new_engine(tasks=celery_tasks) as engine:
        command_id = engine.run(Copy()).command_id
        eventually(lambda: engine.status(command_id).progress == 0.42)
        (tmp_path / "go").touch()
        assert engine.wait(command_id, timeout=DEADLINE).state == "succeeded"
    assert celery_tasks.status() == {}
