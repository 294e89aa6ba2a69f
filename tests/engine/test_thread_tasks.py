"""Tasks that are calls in threads of this process."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from lockcore.engine import Command, Engine, Scope, TaskState, ThreadTasks, locks
from support import DEADLINE, eventually


@pytest.fixture
def threads() -> Iterator[ThreadTasks]:
    threads = ThreadTasks(workers=1)
    yield threads
    threads.close()


def detail(threads: ThreadTasks, task_id: str) -> str:
    eventually(lambda: threads.status([task_id])[task_id].state is not TaskState.RUNNING)
    return threads.status([task_id])[task_id].detail


def test_call_that_returns_succeeds(threads: ThreadTasks) -> None:
    threads.start("t1", int, "ff", base=16)
    assert detail(threads, "t1") == ""
    assert threads.status()["t1"].state == "succeeded"


def test_call_that_raises_fails_with_its_error(threads: ThreadTasks) -> None:
    threads.start("t1", int, "ff")
    assert "ValueError: invalid literal" in detail(threads, "t1")


def test_call_that_has_not_begun_is_stopped(threads: ThreadTasks) -> None:
    may_end = threading.Event()
    threads.start("t1", may_end.wait, DEADLINE)
    threads.start("t2", int)
    threads.stop("t1")
    threads.stop("t2")
    assert threads.status(["t1"])["t1"].state == "running"
    may_end.set()
    assert detail(threads, "t1") == ""
    assert detail(threads, "t2") == "stopped before it began"


def test_same_id_is_not_started_twice(threads: ThreadTasks) -> None:
    threads.start("t1", int)
    with pytest.raises(FileExistsError):
        threads.start("t1", int)


def test_forgotten_task_is_unknown(threads: ThreadTasks) -> None:
    threads.start("t1", int)
    detail(threads, "t1")
    threads.forget("t1")
    threads.forget("t1")
    threads.stop("t1")
    assert threads.status() == threads.status(["t1"]) == {}


def test_task_that_is_no_function_is_refused(threads: ThreadTasks) -> None:
    with pytest.raises(TypeError, match="start_task takes a function and its arguments, not 'cp'"):
        threads.start("t1", "cp")  # type: ignore[arg-type]


def test_engine_runs_calls_in_threads(threads: ThreadTasks) -> None:
    done = threading.Event()

    @locks(scope=Scope.COMMAND)
    class Work(Command):
        def execute(self) -> None:
            self.start_task(done.set)

    with Engine(tasks=threads, poll_interval=0.002) as engine:
        result = engine.run(Work())
        assert engine.wait(result.command_id, timeout=DEADLINE).state == "succeeded"
    assert done.is_set()
