"""Many threads and event loops run commands that are in each other's way."""

from __future__ import annotations

import asyncio
import collections
import random
import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, ClassVar

import pytest
from engine_support import FAILED, SUCCEEDED, ManualTasks

from lockcore import LockManager
from lockcore.engine import Command, Engine, Scope, exclusive, locks, shared
from support import Background, eventually

NewEngine = Callable[..., Engine]

N_THREADS = 50
N_COMMANDS = 10


@locks(exclusive("VM", "vm"), shared("POOL", "pool"), scope=Scope.COMMAND)
class Guarded(Command):
    """Counts who else is inside on its VM, from `execute` to the end action."""

    vm: int
    pool: int
    kind: str
    inside: ClassVar[collections.Counter[int]] = collections.Counter()
    most: ClassVar[int] = 0
    mutex: ClassVar[threading.Lock] = threading.Lock()

    def validate(self) -> str | None:
        return "not like this" if self.kind == "invalid" else None

    def execute(self) -> None:
        self.enter()
        if self.kind == "tasks":
            self.start_task("copy")
            return
        self.leave()
        if self.kind == "raises":
            raise OSError("the disk is full")

    def end_successfully(self) -> None:
        self.leave()

    def end_with_failure(self) -> None:
        self.leave()

    def enter(self) -> None:
        with self.mutex:
            self.inside[self.vm] += 1
            Guarded.most = max(self.most, self.inside[self.vm])

    def leave(self) -> None:
        with self.mutex:
            self.inside[self.vm] -= 1


class AwaitedGuarded(Guarded):
    async def execute(self) -> None:
        await asyncio.sleep(0)
        super().execute()


def any_command(choose: random.Random, kind: type[Guarded]) -> Guarded:
    return kind(
        vm=choose.randrange(5),
        pool=choose.randrange(2),
        kind=choose.choice(["tasks", "tasks", "alone", "raises", "invalid"]),
    )


@pytest.fixture
def ending_tasks(tasks: ManualTasks, background: Callable[..., Background]) -> Any:
    """Ends tasks all the time, well or not."""
    is_over = threading.Event()
    choose = random.Random(1)

    def end() -> None:
        while not is_over.wait(0.001):
            for task_id in list(tasks.known):
                with tasks.mutex:
                    if task_id in tasks.known:
                        tasks.known[task_id] = choose.choice([SUCCEEDED, FAILED])

    thread = background(end)
    yield
    is_over.set()
    thread.result()


@pytest.mark.timeout(120)  # the machine may be busy, and these are many threads
@pytest.mark.usefixtures("ending_tasks")
def test_fifty_threads_exclude_each_other_and_leave_nothing(
    engine: Engine,
    manager: LockManager,
    tasks: ManualTasks,
    tmp_path: Path,
    background: Callable[..., Background],
) -> None:
    states: collections.Counter[str] = collections.Counter()

    def run_in_thread(number: int) -> None:
        choose = random.Random(number)
        for _ in range(N_COMMANDS):
            result = engine.run(
                any_command(choose, Guarded), timeout=choose.choice([0, 0, 0.001, 5])
            )
            ended = engine.wait(result.command_id, timeout=60)
            states[ended.state] += 1

    async def run_one(choose: random.Random) -> None:
        result = await engine.run_async(any_command(choose, AwaitedGuarded), timeout=5)
        states[result.state] += 1

    async def run_all(number: int) -> None:
        choose = random.Random(-number)
        await asyncio.gather(*(run_one(choose) for _ in range(N_COMMANDS)))

    def run_in_loop(number: int) -> None:
        asyncio.run(run_all(number))

    Guarded.most = 0
    Guarded.inside.clear()  # another test leaves commands under way
    threads = [background(run_in_thread, number) for number in range(N_THREADS)]
    threads += [background(run_in_loop, number) for number in range(1, 4)]
    for thread in threads:
        eventually(lambda thread=thread: not thread.is_alive(), within=60)
        thread.result()
    eventually(lambda: not manager.snapshot() and not tasks.known, within=60)
    assert Guarded.most == 1
    assert {"succeeded", "failed", "refused"} <= states.keys()
    engine.close()
    with closing(sqlite3.connect(tmp_path / "engine.db")) as connection:
        assert connection.execute("SELECT count(*) FROM command").fetchone() == (0,)
        assert connection.execute("SELECT count(*) FROM task").fetchone() == (0,)


class Late(Guarded):
    """Comes while the engine recovers, and wants what a recovered command holds."""

    engine: ClassVar[Engine]
    slipped: ClassVar[list[str]]

    def execute(self) -> None:
        Late.slipped.append(self.command_id)


def test_nobody_slips_through_while_the_engine_recovers(
    new_engine: NewEngine, tasks: ManualTasks, background: Callable[..., Background]
) -> None:
    """Threads and loops that come before, during and after the opening all find the locks taken."""
    with new_engine() as engine:
        left = [engine.run(Guarded(vm=vm, pool=0, kind="tasks")).command_id for vm in range(100)]
    restarted = new_engine(manager=LockManager(), drain=False)
    Late.slipped = []
    is_open = threading.Event()

    def come(vm: int) -> str:
        late = Late(vm=vm, pool=0, kind="alone")
        is_open.wait(10)
        if vm % 2:
            return restarted.run(late).state
        return asyncio.run(restarted.run_async(late)).state

    late = [background(come, vm) for vm in range(40)]
    recovers = restarted._types.find

    def find(name: str) -> Any:  # the first command is rebuilt: the recovery has begun
        is_open.set()
        return recovers(name)

    restarted._types.find = find  # type: ignore[method-assign]
    restarted.open()
    assert [thread.result() for thread in late] == ["refused"] * 40
    assert (Late.slipped, restarted.recovery.resumed) == ([], tuple(left))
