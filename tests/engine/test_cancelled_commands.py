"""An async command is cancelled at each of its awaits, one after the other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import ClassVar

import pytest
from engine_support import ManualTasks

from lockcore import LockManager
from lockcore.engine import Command, Engine, Scope, exclusive, locks, shared
from support import eventually


@locks(exclusive("VM", "vm"), shared("POOL", "pool"), scope=Scope.COMMAND, timeout=None)
class Step(Command):
    """Awaits before and after everything it does."""

    vm: str = "web"
    pool: str = "p1"
    child: bool = False
    begun: ClassVar[int] = 0
    compensated: ClassVar[int] = 0
    ended: ClassVar[list[str]] = []

    async def validate(self) -> AsyncIterator[str]:
        for reason in ():
            yield reason
        await asyncio.sleep(0)

    async def execute(self) -> None:
        Step.begun += 1
        await asyncio.sleep(0)
        self.start_task("copy")
        await asyncio.sleep(0)
        if self.child:
            await self.run_child_async(Step(vm="child"))
            await asyncio.sleep(0)

    async def compensate(self) -> None:
        await asyncio.sleep(0)
        Step.compensated += 1

    async def end_successfully(self) -> None:
        await asyncio.sleep(0)
        Step.ended.append("succeeded")

    async def end_with_failure(self) -> None:
        await asyncio.sleep(0)
        Step.ended.append("failed")


@pytest.fixture(autouse=True)
def fresh() -> None:
    Step.begun, Step.compensated, Step.ended = 0, 0, []


async def cancelled_after(engine: Engine, command: Command, n_turns: int) -> bool:
    """Runs a command and cancels it after so many turns of the loop; whether that was in time."""
    task = asyncio.create_task(engine.run_async(command))
    for _ in range(n_turns):
        await asyncio.sleep(0)
    was_cancelled = task.cancel()
    try:
        await task
    except asyncio.CancelledError:
        return True
    return was_cancelled


@pytest.mark.parametrize("child", [False, True])
def test_cancelled_command_leaves_nothing_wherever_it_is(
    engine: Engine, manager: LockManager, tasks: ManualTasks, child: bool
) -> None:
    n_turns = 0
    while asyncio.run(cancelled_after(engine, Step(child=child), n_turns)):
        eventually(lambda: not manager.snapshot() and not tasks.known)
        assert "succeeded" not in Step.ended or child  # a child may have come through
        n_turns += 1
    assert n_turns > 3
    tasks.end_all()
    eventually(lambda: not manager.snapshot() and not tasks.known)
    assert Step.ended[-1] == "succeeded"


def test_command_cancelled_while_it_waits_for_locks_leaves_nobody_queued(
    engine: Engine, manager: LockManager
) -> None:
    grant = manager.acquire(exclusive=[("VM", "web")])
    for n_turns in range(1, 6):
        assert asyncio.run(cancelled_after(engine, Step(), n_turns))
        assert manager.waiters(("VM", "web")) == []
    grant.release()
    assert (Step.begun, len(manager)) == (0, 0)


def test_command_cancelled_when_the_locks_come_leaves_nothing(
    engine: Engine, manager: LockManager, tasks: ManualTasks
) -> None:
    """In the same turn, in either order, and in the turns after it."""

    async def main(n_turns: int, *, release_first: bool) -> None:
        grant = manager.acquire(exclusive=[("VM", "web")])
        task = asyncio.create_task(engine.run_async(Step()))
        await asyncio.sleep(0)
        if release_first:
            grant.release()
        for _ in range(n_turns):
            await asyncio.sleep(0)
        task.cancel()
        if not release_first:
            grant.release()
        await asyncio.gather(task, return_exceptions=True)

    for n_turns in range(6):
        for release_first in (False, True):
            asyncio.run(main(n_turns, release_first=release_first))
            tasks.end_all()
            eventually(lambda: not manager.snapshot() and not tasks.known)


def test_abandoned_coroutine_ends_its_command(
    engine: Engine, manager: LockManager, tasks: ManualTasks
) -> None:
    """Nobody awaits it any more, and it is closed in the middle, in another context."""

    async def main() -> None:
        running = engine.run_async(Step())
        while Step.begun == 0:
            running.send(None)
            await asyncio.sleep(0)
        running.send(None)
        abandoned.append(running)

    abandoned = []
    asyncio.run(main())
    assert len(tasks.known) == 1
    abandoned.pop().close()
    eventually(lambda: not manager.snapshot() and not tasks.known)
    assert (Step.ended, Step.compensated) == (["failed"], 1)
    engine.close()
