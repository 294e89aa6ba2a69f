"""Commands with `async def`, beside those without."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Generator
from typing import Any

import pytest
from engine_commands import Long, Scripted, start_one_task
from engine_support import FAILED, ManualTasks

from lockcore import LockManager
from lockcore.engine import Command, CommandResult, Engine, Scope, exclusive, locks
from support import DEADLINE, Background, eventually

Script = dict[str, Callable[[Any], Any]]


@locks(exclusive("VM", "vm", message="VM_IS_USED"), scope=Scope.COMMAND)
class Async(Scripted):
    """Does asynchronously what the script says."""

    vm: str = "web"

    async def validate(self) -> Any:
        await asyncio.sleep(0)
        return await self._play_async("validate")

    async def execute(self) -> None:
        await asyncio.sleep(0)
        await self._play_async("execute")

    async def compensate(self) -> None:
        await self._play_async("compensate")

    async def end_successfully(self) -> None:
        await asyncio.sleep(0)
        await self._play_async("end_successfully")

    async def end_with_failure(self) -> None:
        await self._play_async("end_with_failure")

    async def _play_async(self, method: str) -> Any:
        returned = self._play(method)
        return await returned if asyncio.iscoroutine(returned) else returned


def run(engine: Engine, command: Command, **options: Any) -> CommandResult:
    return asyncio.run(engine.run_async(command, **options))


async def until(is_true: Callable[[], object]) -> None:
    """Lets the loop run until something holds that nobody signals."""
    async with asyncio.timeout(DEADLINE):
        while not is_true():  # noqa: ASYNC110 - there is no event to wait for
            await asyncio.sleep(0)


def test_async_command_succeeds_and_frees_its_locks(
    engine: Engine, manager: LockManager, calls: list[str]
) -> None:
    assert run(engine, Async()).state == "succeeded"
    assert (calls, len(manager)) == (["validate", "execute"], 0)


def test_async_command_is_refused_by_its_locks(engine: Engine, manager: LockManager) -> None:
    with manager.acquire(exclusive=[("VM", "web")], message="VM_MOVES"):
        result = run(engine, Async())
    assert (result.state, result.messages) == ("refused", ("VM_MOVES",))


def test_async_command_is_refused_by_validate(
    engine: Engine, manager: LockManager, script: Script, calls: list[str]
) -> None:
    script["validate"] = lambda command: ["no room"]
    result = run(engine, Async())
    assert (result.state, result.messages, calls) == ("refused", ("no room",), ["validate"])
    assert len(manager) == 0


def test_async_validate_may_yield(engine: Engine) -> None:
    class Picky(Command):
        async def validate(self) -> AsyncIterator[str]:
            yield "no room"
            await asyncio.sleep(0)
            yield "no time"

    assert run(engine, Picky()).messages == ("no room", "no time")


def test_raising_async_execute_fails_the_command(
    engine: Engine, manager: LockManager, script: Script
) -> None:
    def execute(command: Command) -> None:
        raise OSError("the disk is full")

    script["execute"] = execute
    result = run(engine, Async())
    assert (result.state, result.messages, len(manager)) == ("failed", ("the disk is full",), 0)


def test_async_end_action_runs_after_the_loop_has_gone(
    engine: Engine, manager: LockManager, script: Script, calls: list[str], tasks: ManualTasks
) -> None:
    script["execute"] = start_one_task
    result = run(engine, Async())
    assert (result.state, ("VM", "web") in manager) == ("running", True)
    tasks.end_all()
    assert engine.wait(result.command_id, timeout=10).state == "succeeded"
    assert (calls[-1], len(manager)) == ("end_successfully", 0)


def test_async_end_action_runs_in_a_recovery_inside_a_loop(
    new_engine: Callable[..., Engine], script: Script, calls: list[str], tasks: ManualTasks
) -> None:
    script["execute"] = start_one_task
    with new_engine() as engine:
        result = run(engine, Async())
    tasks.end_all(FAILED)

    async def restart() -> CommandResult:
        with new_engine() as engine:
            return engine.wait(result.command_id, timeout=0)

    assert asyncio.run(restart()).state == "failed"
    assert calls[-2:] == ["compensate", "end_with_failure"]


def test_async_commands_on_one_key_take_turns(
    engine: Engine, manager: LockManager, script: Script
) -> None:
    order: list[str] = []

    async def work() -> None:
        order.append("begins")
        await asyncio.sleep(0)
        order.append("ends")

    async def main() -> list[CommandResult]:
        runs = [engine.run_async(Async(), timeout=None) for _ in range(5)]
        return await asyncio.gather(*runs)

    script["execute"] = lambda command: work()
    assert {result.state for result in asyncio.run(main())} == {"succeeded"}
    assert order == ["begins", "ends"] * 5


def test_waiting_for_locks_does_not_block_the_loop(engine: Engine, manager: LockManager) -> None:
    async def main() -> CommandResult:
        grant = manager.acquire(exclusive=[("VM", "web")])
        running = asyncio.create_task(engine.run_async(Async(), timeout=None))
        await until(lambda: manager.waiters(("VM", "web")))
        grant.release()
        return await running

    assert asyncio.run(main()).state == "succeeded"


def test_cancelled_wait_for_locks_leaves_nothing(engine: Engine, manager: LockManager) -> None:
    async def main() -> None:
        with manager.acquire(exclusive=[("VM", "web")]):
            running = asyncio.create_task(engine.run_async(Async(), timeout=None))
            await until(lambda: manager.waiters(("VM", "web")))
            running.cancel()
            with pytest.raises(asyncio.CancelledError):
                await running
            assert manager.waiters(("VM", "web")) == []

    asyncio.run(main())
    assert len(manager) == 0


def test_cancelled_execute_stops_its_tasks_and_frees_the_locks(
    engine: Engine, manager: LockManager, script: Script, tasks: ManualTasks, calls: list[str]
) -> None:
    async def execute(command: Command) -> None:
        start_one_task(command)
        await asyncio.Event().wait()

    async def main() -> None:
        running = asyncio.create_task(engine.run_async(Async()))
        await until(lambda: tasks.known)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    script["execute"] = execute
    asyncio.run(main())
    eventually(lambda: calls[-1] == "end_with_failure")
    eventually(lambda: len(manager) == 0)
    assert len(tasks.stopped) == 1


def wrapped(method: Callable[..., Any]) -> Callable[..., Any]:
    """As by a decorator that does not know of async methods."""

    def call(command: Command) -> Any:
        return method(command)

    return call


async def coroutine(command: Command) -> None:
    await asyncio.sleep(0)
    Scripted.calls.append("awaited")


async def generator(command: Command) -> AsyncIterator[str]:
    yield "no room"


@pytest.mark.parametrize(
    ("method", "function"),
    [("execute", coroutine), ("validate", coroutine), ("validate", generator)],
)
def test_method_that_turns_out_to_be_async_is_an_error_and_not_skipped(
    engine: Engine, manager: LockManager, script: Script, method: str, function: Any
) -> None:
    command = type("Disguised", (Long,), {method: wrapped(function)})
    result = engine.run(command())
    assert result.state == "failed"
    assert "would never be awaited: await run_async instead" in str(result.messages[0])
    assert ("awaited" in Scripted.calls, len(manager)) == (False, 0)


@pytest.mark.parametrize("function", [coroutine, generator])
def test_method_that_turns_out_to_be_async_is_awaited(
    engine: Engine, script: Script, function: Any
) -> None:
    command = type("Disguised", (Long,), {"validate": wrapped(function)})
    state = asyncio.run(engine.run_async(command())).state
    assert state == ("refused" if function is generator else "succeeded")


def test_end_action_that_turns_out_to_be_async_is_awaited(
    engine: Engine, script: Script, tasks: ManualTasks
) -> None:
    class Awaitable:
        def __await__(self) -> Generator[None, None, None]:
            yield from asyncio.sleep(0).__await__()
            Scripted.calls.append("awaited")

    script["execute"] = start_one_task
    command = type("Disguised", (Long,), {"end_successfully": lambda command: Awaitable()})
    result = engine.run(command())
    tasks.end_all()
    engine.wait(result.command_id, timeout=10)
    assert Scripted.calls[-1] == "awaited"


def test_sync_command_may_be_awaited_too(engine: Engine, calls: list[str]) -> None:
    assert run(engine, Long()).state == "succeeded"
    assert calls == ["validate", "execute"]


def test_async_command_is_not_run_without_awaiting(engine: Engine, manager: LockManager) -> None:
    with pytest.raises(TypeError, match=r"Async\.validate is async: await run_async instead"):
        engine.run(Async())
    assert manager.statistics().acquired == 0


def test_async_child_of_an_async_command(
    engine: Engine, manager: LockManager, script: Script, tasks: ManualTasks
) -> None:
    results: list[CommandResult] = []

    async def execute(command: Async) -> None:
        if command.vm == "web":
            results.append(await command.run_child_async(Async(vm="db")))
        else:
            start_one_task(command)

    script["execute"] = execute
    parent = run(engine, Async())
    assert {row.owner for row in manager.snapshot()} == {parent.command_id}
    assert (results[0].state, parent.state, len(manager)) == ("running", "running", 2)
    tasks.end_all()
    assert engine.wait(parent.command_id, timeout=10).state == "succeeded"
    assert len(manager) == 0


def test_async_child_of_a_sync_command_is_an_error_in_execute(
    engine: Engine, script: Script
) -> None:
    script["execute"] = lambda command: command.run_child(Async())
    result = engine.run(Long())
    assert "Async.validate is async" in str(result.messages[0])


def test_async_command_waits_at_the_gate_without_blocking_the_loop(
    new_engine: Callable[..., Engine],
    tasks: ManualTasks,
    script: Script,
    background: Callable[..., Background],
) -> None:
    recovering, may_go_on = threading.Event(), threading.Event()

    def end(command: Command) -> None:
        recovering.set()
        assert may_go_on.wait(10)

    script["execute"] = start_one_task
    with new_engine() as engine:
        engine.run(Long())
    tasks.end_all()
    script.clear()
    script["end_successfully"] = end
    engine = new_engine()
    opening = background(engine.open)
    eventually(recovering.is_set)

    async def main() -> CommandResult:
        running = asyncio.create_task(engine.run_async(Async(vm="other")))
        for _ in range(100):
            await asyncio.sleep(0)
        assert not running.done()
        may_go_on.set()
        return await running

    assert asyncio.run(main()).state == "succeeded"
    opening.result()
