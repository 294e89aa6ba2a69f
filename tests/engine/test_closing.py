"""An engine that is closed while much goes on leaves all of it to the next one, whole."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any, ClassVar

import pytest
from engine_commands import Long, Short, start_one_task
from engine_support import ManualTasks

from lockcore import LockManager
from lockcore.engine import (
    Command,
    CommandResult,
    Engine,
    EngineClosedError,
    Scope,
    exclusive,
    locks,
)
from lockcore.engine._follower import Follower
from support import Background, eventually, queued, soon

Script = dict[str, Callable[[Any], Any]]
NewEngine = Callable[..., Engine]


def test_engine_closed_among_running_threads_leaves_what_has_begun(
    new_engine: NewEngine, script: Script, tasks: ManualTasks, background: Callable[..., Background]
) -> None:
    results: list[CommandResult] = []

    def run_many(thread: int) -> None:
        for number in range(1000):
            try:
                results.append(engine.run(Long(vm=f"{thread}/{number}")))
            except EngineClosedError:
                return

    script["execute"] = start_one_task
    engine = new_engine()
    engine.open()
    threads = [background(run_many, number) for number in range(20)]
    eventually(lambda: len(results) > 40)
    engine.close()
    for thread in threads:
        thread.result()
    begun = {result.command_id for result in results}
    with new_engine(manager=LockManager()) as restarted:
        assert set(restarted.recovery.resumed) == begun
        assert {row.owner for row in restarted.manager.snapshot()} == begun
        tasks.end_all()
        eventually(lambda: len(restarted.manager) == 0)


def test_everybody_who_closes_comes_back_when_it_is_closed(
    new_engine: NewEngine, script: Script, background: Callable[..., Background]
) -> None:
    may_end = threading.Event()
    script["execute"] = lambda command: may_end.wait(10)
    engine = new_engine()
    engine.open()
    running = background(engine.run, Long())
    eventually(lambda: "execute" in Long.calls)
    closers = [background(engine.close) for _ in range(3)]
    for closer in closers:
        closer.join(0.01)
        assert closer.is_alive()
    may_end.set()
    for closer in closers:
        closer.result()
    assert running.result().state == "succeeded"


def test_interrupted_closing_can_be_done_again(
    new_engine: NewEngine, script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(self: Follower) -> None:
        raise KeyboardInterrupt

    engine = new_engine()
    engine.open()
    with monkeypatch.context() as patch:
        patch.setattr(Follower, "stop", interrupted)
        with pytest.raises(KeyboardInterrupt):
            engine.close()
    engine.close()
    with new_engine():  # the store is free
        pass


def test_end_action_under_way_is_waited_for_by_closing(
    new_engine: NewEngine,
    script: Script,
    tasks: ManualTasks,
    background: Callable[..., Background],
) -> None:
    ending, may_end = threading.Event(), threading.Event()

    def end(command: Long) -> None:
        ending.set()
        assert may_end.wait(10)

    script["execute"] = start_one_task
    script["end_successfully"] = end
    engine = new_engine()
    engine.open()
    result = engine.run(Long())
    tasks.end_all()
    eventually(ending.is_set)
    closing = background(engine.close)
    closing.join(0.02)
    assert closing.is_alive()
    may_end.set()
    closing.result()
    with new_engine(manager=LockManager()) as restarted:
        assert str(restarted.recovery) == "nothing to recover"
        assert restarted.wait(result.command_id, timeout=0).state == "succeeded"


def test_end_action_that_is_to_be_tried_again_is_left_to_the_next_engine(
    new_engine: NewEngine, manager: LockManager, script: Script, tasks: ManualTasks
) -> None:
    def end(command: Long) -> None:
        raise OSError("the database is away")

    script["execute"] = start_one_task
    script["end_successfully"] = end
    with new_engine(retry_delay=3600) as engine:
        result = engine.run(Long())
        tasks.end_all()
        eventually(lambda: engine.status(result.command_id).messages)
    assert {row.owner for row in manager.snapshot()} == {result.command_id}
    script.clear()
    with new_engine() as restarted:
        assert restarted.recovery.ended == (result.command_id,)
        assert len(manager) == 0


@pytest.mark.parametrize("options", [{}, {"drain": True, "timeout": 0.01}])
def test_command_that_waits_for_its_locks_is_turned_away_by_closing(
    engine: Engine,
    manager: LockManager,
    calls: list[str],
    background: Callable[..., Background],
    options: dict[str, Any],
) -> None:
    with manager.acquire(exclusive=[("VM", "web")], owner="somebody else"):
        command = Long()
        waiting = background(engine.run, command, timeout=None)
        eventually(lambda: manager.waiters(("VM", "web")))
        background(engine.close, **options).result()
        with pytest.raises(EngineClosedError, match="closed while the command waited"):
            waiting.result()
        assert manager.waiters(("VM", "web")) == []
    assert (calls, len(manager)) == ([], 0)


def test_awaited_command_that_waits_for_its_locks_is_turned_away_by_closing(
    engine: Engine, manager: LockManager, calls: list[str]
) -> None:
    async def main() -> None:
        waiting = asyncio.create_task(engine.run_async(Long(), timeout=None))
        await queued(manager, ("VM", "web"))
        await asyncio.to_thread(engine.close)
        with pytest.raises(EngineClosedError, match="closed while the command waited"):
            await waiting

    with manager.acquire(exclusive=[("VM", "web")], owner="somebody else"):
        asyncio.run(main())
        assert manager.waiters(("VM", "web")) == []
    assert (calls, len(manager)) == ([], 0)


def test_closing_in_an_event_loop_that_runs_commands_says_what_to_do(engine: Engine) -> None:
    async def main() -> None:
        Waits.may_end = asyncio.Event()
        running = asyncio.create_task(engine.run_async(Waits()))
        await soon(lambda: len(engine.manager) > 0)
        with pytest.raises(RuntimeError, match="being executed in this event loop: await them"):
            engine.close()
        Waits.may_end.set()
        assert (await running).state == "succeeded"
        engine.close()

    asyncio.run(main())


@locks(exclusive("VM", "vm"), scope=Scope.EXECUTION)
class Waits(Command):
    """Is executed until it is told."""

    may_end: ClassVar[asyncio.Event]
    vm: str = "web"

    async def execute(self) -> None:
        await self.may_end.wait()


def test_child_that_waits_for_its_locks_is_turned_away_by_closing(
    engine: Engine,
    manager: LockManager,
    script: Script,
    background: Callable[..., Background],
) -> None:
    """Else closing would wait as long as somebody else likes."""
    script["execute"] = lambda command: command.run_child(Short(vm="db"), timeout=None)
    with manager.acquire(exclusive=[("VM", "db")], owner="somebody else"):
        running = background(engine.run, Long())
        eventually(lambda: manager.waiters(("VM", "db")))
        background(engine.close).result()
        result = running.result()
    assert result.state == "failed"
    assert result.messages == ("the engine was closed while the command waited for its locks",)
    assert len(manager) == 0


def test_command_that_gets_its_locks_at_once_ends_in_an_engine_that_closes(
    engine: Engine,
    script: Script,
    background: Callable[..., Background],
) -> None:
    parent_runs, may_go_on = threading.Event(), threading.Event()

    def execute(command: Any) -> None:
        if isinstance(command, Long):
            parent_runs.set()
            assert may_go_on.wait(10)
            assert command.run_child(Short(vm="db"), timeout=None).state == "succeeded"

    script["execute"] = execute
    running = background(engine.run, Long(), timeout=5)
    assert parent_runs.wait(10)
    closing = background(engine.close)
    eventually(lambda: not engine._gate.is_open)
    may_go_on.set()
    closing.result()
    assert running.result().state == "succeeded"
