"""What does it cost an engine to ask once how its running tasks stand, and how many threads?

A round is one poll: the question to the back end, and telling the commands. The engine has no more
threads for 10,000 tasks than for one. `remembered` is a back end that costs nothing: what is left
is the engine. The 10,000 processes are their files, locked as a supervisor locks them, because so
many supervisors need much memory; `sleeps` is a smaller number of real ones. Celery's tasks are in
a real Redis, which the benchmark starts, and wait there for a worker. Nobody else follows tasks by
polling, so this group has no rivals but what the back end would cost if it were written plainly.
"""

import contextlib
import fcntl
import importlib
import resource
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from bench_recovery import RememberedTasks
from harness import Scale, Spread
from lockcore.engine import Command, Engine, ProcessTasks, Scope, TaskBackend, ThreadTasks, locks

# Of this thread only: the processes and threads that are the tasks have their own.
pytestmark = pytest.mark.benchmark(timer=time.thread_time)

N_TASKS = 10_000
N_SLEEPS = 500
TESTS = Path(__file__).parent.parent / "tests"


class LockedFiles(ProcessTasks):
    """Tasks as the back end finds them while they run, without the processes."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self._top = directory
        self._files = contextlib.ExitStack()

    def start(self, task_id: str, *_: Any) -> None:
        home = self._top / task_id
        home.mkdir(parents=True)
        (home / "spec").write_text('["sleep", "60"]', encoding="utf-8")
        (home / "started").write_text("1", encoding="utf-8")
        lock = self._files.enter_context((home / "lock").open("w"))
        fcntl.flock(lock, fcntl.LOCK_EX)

    def close(self) -> None:
        self._files.close()


@contextlib.contextmanager
def remembered(_directory: Path) -> Iterator[tuple[TaskBackend, tuple[Any, ...]]]:
    yield RememberedTasks(), ("copy",)


@contextlib.contextmanager
def threads(_directory: Path) -> Iterator[tuple[TaskBackend, tuple[Any, ...]]]:
    may_end = threading.Event()
    tasks = ThreadTasks(workers=8)
    yield tasks, (may_end.wait,)
    may_end.set()
    tasks.close()


@contextlib.contextmanager
def processes(directory: Path) -> Iterator[tuple[TaskBackend, tuple[Any, ...]]]:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with contextlib.closing(LockedFiles(directory / "tasks")) as tasks:
        yield tasks, ()


@contextlib.contextmanager
def sleeps(directory: Path) -> Iterator[tuple[TaskBackend, tuple[Any, ...]]]:
    tasks = ProcessTasks(directory / "tasks")
    yield tasks, (["sleep", "3600"],)
    for task_id in tasks.status():
        tasks.stop(task_id)
    while any(status.state == "running" for status in tasks.status().values()):
        time.sleep(0.05)
    shutil.rmtree(directory / "tasks")


@contextlib.contextmanager
def celery(_directory: Path) -> Iterator[tuple[TaskBackend, tuple[Any, ...]]]:
    sys.path[:0] = [str(TESTS), str(TESTS / "engine")]
    fixtures = importlib.import_module("celery_fixtures")
    with contextlib.closing(fixtures.started_redis()) as redis:
        module = fixtures.app_module(redis)
        tasks = importlib.import_module("lockcore.engine.celery").CeleryTasks(module.app)
        yield tasks, (module.add, 1, 2)


BACK_ENDS: dict[str, Callable[[Path], Any]] = {
    each.__name__: each for each in (remembered, threads, processes, sleeps, celery)
}


@locks(scope=Scope.COMMAND)
class StartTask(Command):
    spec: ClassVar[tuple[Any, ...]]

    def execute(self) -> None:
        self.start_task(*self.spec)


@pytest.mark.parametrize("back_end", BACK_ENDS)
def bench_poll(benchmark: BenchmarkFixture, scale: Scale, tmp_path: Path, back_end: str) -> None:
    n = scale.size(N_SLEEPS if back_end == "sleeps" else N_TASKS, quick=5)
    before = threading.active_count()
    with contextlib.ExitStack() as stack:
        tasks, StartTask.spec = stack.enter_context(BACK_ENDS[back_end](tmp_path))
        # Its own polls are far between.
        engine = stack.enter_context(Engine(tasks=tasks, poll_interval=3600))
        for _ in range(n):
            engine.run(StartTask())
        assert engine._services is not None
        follower = engine._services.follower
        follower.ask()
        assert len(tasks.status()) == n
        benchmark.group = f"poll/{back_end}/running={n}"
        benchmark.name = "lockcore"
        benchmark.pedantic(  # type: ignore[no-untyped-call]
            follower.ask, rounds=2 if scale.is_quick else 100
        )
        more = threading.active_count() - before
    benchmark.extra_info.update(case=benchmark.group, rival="lockcore", tasks=n, threads=more)
    if benchmark.stats is not None:
        times = Spread.of(benchmark.stats.stats.data)
        benchmark.extra_info["seconds"] = times.as_list()


def bench_look_at_all(benchmark: BenchmarkFixture, scale: Scale, tmp_path: Path) -> None:
    """What `processes` would cost if each poll looked at the files of each task."""
    n = scale.size(N_TASKS, quick=5)
    with processes(tmp_path) as (tasks, _):
        for number in range(n):
            tasks.start(str(number))
        benchmark.group = f"poll/processes/running={n}"
        benchmark.name = "look at all"
        benchmark.pedantic(  # type: ignore[no-untyped-call]
            tasks.status, rounds=2 if scale.is_quick else 10
        )
    benchmark.extra_info.update(case=benchmark.group, rival="look at all", tasks=n)
    if benchmark.stats is not None:
        benchmark.extra_info["seconds"] = Spread.of(benchmark.stats.stats.data).as_list()
