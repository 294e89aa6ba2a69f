"""A Celery app, for the tests and for their workers: `python -m celery -A celery_app worker`."""

from __future__ import annotations

import functools
import os
import time
from pathlib import Path
from typing import Any

import celery

from lockcore.engine import report_progress

REDIS = os.environ["LOCKCORE_TEST_REDIS"]
WAITS_AT_MOST = 60.0

app = celery.Celery(
    "celery_app", broker=REDIS, backend=REDIS, task_cls="lockcore.engine.celery:FollowedTask"
)
app.conf.update(
    broker_connection_retry_on_startup=True,
    # Shorter than a worker takes to start, so that each one takes up what a killed one has left.
    broker_transport_options={"visibility_timeout": 0.2},
    result_backend_always_retry=True,
    worker_prefetch_multiplier=1,
)

# Of this app only: a test that has a Redis of its own loads the module once more.
task = functools.partial(app.task, shared=False)


@task()
def add(one: int, other: int) -> int:
    return one + other


@task()
def fail(text: str) -> None:
    raise OSError(text)


def note(directory: str, name: str) -> None:
    """Leaves a file that appears whole, with the process id in it, and one line for each call."""
    path = Path(directory, name)
    with path.open("a", encoding="utf-8") as file:
        file.write(f"{os.getpid()}\n")


def wait_for(directory: str, name: str) -> None:
    deadline = time.monotonic() + WAITS_AT_MOST
    while not Path(directory, name).exists() and time.monotonic() < deadline:
        time.sleep(0.005)  # another process makes the file, and cannot wake this one


@task()
def wait(directory: str) -> None:
    """Notes that it runs, then waits for the file `go`."""
    note(directory, "ran")
    wait_for(directory, "go")


@task(acks_late=True, reject_on_worker_lost=True)
def wait_late(directory: str) -> None:
    """The same, delivered again when its worker is lost."""
    note(directory, "ran")
    wait_for(directory, "go")


@task()
def say(directory: str, how: str) -> None:
    """Says how far it has come, then waits for the file `go`."""
    if how == "report_progress":
        report_progress(0.42, "copying")
    else:
        say.update_state(state="PROGRESS", meta={"current": 3, "total": 4})
    note(directory, "ran")
    wait_for(directory, "go")


@task(bind=True, max_retries=None)
def retry(self: Any, directory: str, times: int) -> None:
    """Asks so many times to be tried again."""
    note(directory, "ran")
    if self.request.retries < times:
        raise self.retry(countdown=0)


@task(base=celery.Task)
def unfollowed() -> None:
    """Of Celery's own class."""
