"""Fixtures for the tests of the example programs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import example_world
import pytest

from lockcore.engine import Engine, ProcessTasks, TaskState
from support import eventually
from virtualization.engine import make_engine


@pytest.fixture
def data_centre(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A data centre in the working directory, with something of each kind. No task outlives it."""
    directory = tmp_path / "data-centre"
    directory.mkdir()
    monkeypatch.chdir(directory)
    example_world.build()
    yield directory
    tasks = ProcessTasks("tasks", grace=0.1)

    def running() -> list[str]:
        return [id for id, task in tasks.status().items() if task.state is TaskState.RUNNING]

    for task_id in running():
        tasks.stop(task_id)
    eventually(lambda: not running())


@pytest.fixture
def new_engine(data_centre: Path) -> Iterator[Callable[..., Engine]]:
    """Opens engines of the data centre, and closes them at the end."""
    engines: list[Engine] = []

    def make() -> Engine:
        engines.append(make_engine(poll_interval=0.005, retry_delay=0.005))
        engines[-1].open()
        return engines[-1]

    yield make
    for engine in engines:
        engine.close()


@pytest.fixture
def engine(new_engine: Callable[..., Engine]) -> Engine:
    """An engine of the data centre."""
    return new_engine()
