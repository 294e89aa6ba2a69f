"""How the engine follows tasks: many with one thread, and a back end that does not answer."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from engine_commands import Long, start_one_task
from engine_support import ManualTasks

from lockcore.engine import Command, Engine
from lockcore.engine._follower import CPU_SHARE, LONGEST_PAUSE, Follower
from support import eventually

N_TASKS = 1_000

Script = dict[str, Callable[[Any], Any]]


def test_many_tasks_are_followed_by_one_thread(
    engine: Engine, script: Script, tasks: ManualTasks
) -> None:
    def start_many(command: Command) -> None:
        for _ in range(N_TASKS):
            command.start_task("copy")

    script["execute"] = start_many
    before = threading.active_count()
    command_id = engine.run(Long()).command_id
    assert threading.active_count() == before
    assert [thread.name for thread in threading.enumerate()].count("lockcore-follower") == 1
    tasks.end_all()
    assert engine.wait(command_id, timeout=20).state == "succeeded"


def test_back_end_that_does_not_answer_is_asked_again(
    engine: Engine, script: Script, tasks: ManualTasks, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="lockcore.engine")
    script["execute"] = start_one_task
    command_id = engine.run(Long()).command_id
    tasks.status_error = OSError("the network is down")
    eventually(lambda: caplog.text.count("cannot ask the task back end") >= 3)
    assert engine.status(command_id).state == "running"
    tasks.status_error = None
    tasks.end_all()
    assert engine.wait(command_id, timeout=10).state == "succeeded"
    assert caplog.text.count("OSError: the network is down") == 1  # its traceback, not three
    assert "the task back end answers again" in caplog.text


@pytest.fixture
def follower() -> Follower:
    return Follower(None, 0.05, 1)


@pytest.mark.parametrize(
    ("elapsed", "cpu", "pause"),
    [
        (0.001, 0.001, 0.05),  # cheap: the interval
        (0.2, 0.001, 0.2),  # slow to answer: as long as that took
        (0.05, 0.04, 0.04 / CPU_SHARE - 0.04),  # dear: so that it is this part of the time
    ],
)
def test_pause_depends_on_what_asking_costs(
    follower: Follower, elapsed: float, cpu: float, pause: float
) -> None:
    assert follower._pause_after(elapsed, cpu) == pytest.approx(pause)


def test_pause_grows_while_the_back_end_does_not_answer(follower: Follower) -> None:
    pauses = []
    for failures in (1, 2, 3, 100):
        follower._failures = failures
        pauses.append(follower._pause_after(0.0, 0.0))
    assert pauses == [0.1, 0.2, 0.4, LONGEST_PAUSE]
