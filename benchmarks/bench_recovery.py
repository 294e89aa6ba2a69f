"""How long does an engine take to come back with so many stored commands?

Every command holds two locks and has one task, which the back end still knows: `resumed` while it
runs, `ended` when it has ended, so that every end action runs, too. Each round opens a copy of the
same store. Nobody else recovers locks, so this group has no rivals.
"""

import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from harness import WALL, Scale, Spread
from lockcore.engine import Command, Engine, Scope, TaskState, TaskStatus, exclusive, locks, shared

pytestmark = pytest.mark.benchmark(timer=WALL)

N_COMMANDS = 10_000


@locks(
    shared("TEMPLATE", "template_id", message="TEMPLATE_IS_USED_FOR_CREATE_VM"),
    exclusive("VM", "vm_id", message="VM_IS_BEING_CREATED"),
    scope=Scope.COMMAND,
)
class CreateVm(Command):
    template_id: str
    vm_id: str

    def execute(self) -> None:
        self.start_task("copy")


class RememberedTasks:
    """A task back end that outlives engines and whose tasks stand as they are told to."""

    def __init__(self) -> None:
        self.state = TaskState.RUNNING
        self._ids: set[str] = set()

    def start(self, task_id: str, /, *_spec: Any, **_options: Any) -> None:
        self._ids.add(task_id)

    def status(self, task_ids: Iterable[str] | None = None, /) -> dict[str, TaskStatus]:
        status = TaskStatus(self.state)
        ids = self._ids if task_ids is None else self._ids.intersection(task_ids)
        return dict.fromkeys(ids, status)

    def stop(self, task_id: str, /) -> None:
        pass

    def forget(self, task_id: str, /) -> None:
        pass


def open_engine(store: Path, tasks: RememberedTasks) -> Engine:
    return Engine(store=f"sqlite:///{store}", tasks=tasks, commands=[CreateVm], poll_interval=3600)


@pytest.fixture(scope="module")
def stored(
    scale: Scale, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, RememberedTasks, int]:
    """A store that an engine left with commands under way, their tasks, and how many."""
    n = scale.size(N_COMMANDS, quick=20)
    tasks = RememberedTasks()
    store = tmp_path_factory.mktemp("stored") / "original.db"
    with open_engine(store, tasks) as engine:
        for i in range(n):
            engine.run(CreateVm(template_id=f"template-{i % 10}", vm_id=f"vm-{i}"))
    return store, tasks, n


@pytest.mark.parametrize("way", ["resumed", "ended"])
def bench_recovery(
    benchmark: BenchmarkFixture,
    scale: Scale,
    stored: tuple[Path, RememberedTasks, int],
    tmp_path: Path,
    way: str,
) -> None:
    original, tasks, n = stored
    tasks.state = TaskState.RUNNING if way == "resumed" else TaskState.SUCCEEDED

    engines: list[Engine] = []

    def close() -> None:
        while engines:
            engine = engines.pop()
            assert len(getattr(engine.recovery, way)) == n
            engine.close()

    def copy_store() -> None:
        close()
        copy = tmp_path / "copy.db"
        for path in tmp_path.glob("copy.db*"):
            path.unlink()
        shutil.copy(original, copy)
        engines.append(open_engine(copy, tasks))

    benchmark.group = f"recovery/{way}/engine/commands={n}"
    benchmark.name = "lockcore"

    def open_it() -> None:
        engines[0].open()

    benchmark.pedantic(  # type: ignore[no-untyped-call]
        open_it, setup=copy_store, rounds=2 if scale.is_quick else 3
    )
    close()
    benchmark.extra_info.update(case=benchmark.group, rival="lockcore", commands=n)
    if benchmark.stats is not None:
        benchmark.extra_info["seconds"] = Spread.of(benchmark.stats.stats.data).as_list()
