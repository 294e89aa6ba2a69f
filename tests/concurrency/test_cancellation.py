"""Cancelling a task, at any instant, leaves nothing held and nobody queued."""

from __future__ import annotations

import asyncio

import pytest

from lockcore import LockTimeoutError
from support import DEADLINE, queued, soon


def trace(manager):
    """What is left behind of anybody: keys held, requests queued."""
    return len(manager), [manager.waiters(key) for key in "ab"]


NOTHING = (0, [[], []])


async def cancelled(task):
    """Waits for the end of a task that was cancelled."""
    with pytest.raises(asyncio.CancelledError):
        async with asyncio.timeout(DEADLINE):
            await task


def test_task_cancelled_before_it_runs_leaves_nothing(lock_manager, run):
    async def main():
        task = asyncio.create_task(lock_manager.acquire_async(exclusive=["a"]))
        task.cancel()
        await cancelled(task)

    run(main())
    assert (trace(lock_manager), lock_manager.statistics().acquired) == (NOTHING, 0)


@pytest.mark.parametrize("turns", range(6))
def test_task_cancelled_some_turns_after_it_waits_leaves_nothing(lock_manager, run, turns):
    async def main():
        holder = lock_manager.acquire(exclusive=["a"])
        task = asyncio.create_task(lock_manager.acquire_async(exclusive=["a", "b"], owner="me"))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await cancelled(task)
        holder.release()

    run(main())
    assert trace(lock_manager) == NOTHING


@pytest.mark.parametrize("by", ["task", "thread"])
@pytest.mark.parametrize("first", ["release", "cancel"])
@pytest.mark.parametrize("owner", [None, "me"])
def test_task_cancelled_in_the_turn_of_its_grant_leaves_nothing(
    lock_manager, run, by, first, owner
):
    async def main():
        holder = lock_manager.acquire(exclusive=["a"])
        task = asyncio.create_task(lock_manager.acquire_async(exclusive=["a"], owner=owner))
        await queued(lock_manager, "a")
        if first == "cancel":
            task.cancel()
        if by == "thread":
            # This turn of the loop is not over before the thread has released.
            asyncio.get_running_loop().run_in_executor(None, holder.release)
            while holder.is_held:
                pass
        else:
            holder.release()
        task.cancel()
        await cancelled(task)

    run(main())
    assert trace(lock_manager) == NOTHING


@pytest.mark.parametrize("turns", range(4))
def test_task_cancelled_some_turns_after_its_grant_holds_it_or_has_given_it_back(
    lock_manager, run, turns
):
    async def main():
        holder = lock_manager.acquire(exclusive=["a"])
        task = asyncio.create_task(lock_manager.acquire_async(exclusive=["a"]))
        await queued(lock_manager, "a")
        holder.release()
        for _ in range(turns):
            await asyncio.sleep(0)
        if not task.cancel():
            (await task).release()
        else:
            await cancelled(task)

    run(main())
    assert trace(lock_manager) == NOTHING


def test_grant_given_back_by_a_cancelled_task_goes_to_the_next(lock_manager, run):
    async def main():
        holder = lock_manager.acquire(exclusive=["a"])
        tasks = []
        for number in range(1, 4):
            tasks.append(asyncio.create_task(lock_manager.acquire_async(exclusive=["a"])))
            await queued(lock_manager, "a", number)
        holder.release()
        tasks[0].cancel()
        tasks[1].cancel()
        return (await tasks[2]).is_held, [task.cancelled() for task in tasks]

    assert run(main()) == (True, [True, True, False])


def test_task_cancelled_after_its_grant_was_ended_by_force_is_just_cancelled(lock_manager, run):
    async def main():
        holder = lock_manager.acquire(exclusive=["a"])
        task = asyncio.create_task(lock_manager.acquire_async(exclusive=["a"]))
        await queued(lock_manager, "a")
        holder.release()
        lock_manager.clear()
        task.cancel()
        await cancelled(task)

    run(main())
    assert trace(lock_manager) == NOTHING


def test_task_cancelled_after_closing_is_just_cancelled(lock_manager, run):
    async def main():
        lock_manager.acquire(exclusive=["a"])
        task = asyncio.create_task(lock_manager.acquire_async(exclusive=["a"]))
        await queued(lock_manager, "a")
        lock_manager.close()
        task.cancel()
        await cancelled(task)

    run(main())
    assert lock_manager.waiters("a") == []


def test_asyncio_timeout_ends_a_wait(lock_manager, run):
    async def main():
        lock_manager.acquire(exclusive=["a"])
        with pytest.raises(TimeoutError) as caught:
            async with asyncio.timeout(0.01):
                await lock_manager.acquire_async(exclusive=["a", "b"])
        return caught.value

    assert not isinstance(run(main()), LockTimeoutError)
    assert (len(lock_manager), lock_manager.waiters("a")) == (1, [])


def test_wait_for_ends_a_wait(lock_manager, run):
    async def main():
        lock_manager.acquire(exclusive=["a"])
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(lock_manager.acquire_async(exclusive=["a", "b"]), 0.01)

    run(main())
    assert (len(lock_manager), lock_manager.waiters("a")) == (1, [])


def test_wait_for_returns_a_grant_that_another_task_may_release(lock_manager, run):
    async def main():
        grant = await asyncio.wait_for(lock_manager.acquire_async(exclusive=["a"]), DEADLINE)
        await asyncio.create_task(asyncio.to_thread(grant.release))

    run(main())
    assert trace(lock_manager) == NOTHING


def test_timeouts_that_race_with_grants_lose_nothing(lock_manager, run):
    async def attempt(delay):
        try:
            async with asyncio.timeout(delay):
                grant = await lock_manager.acquire_async(exclusive=["a"], owner="me")
        except TimeoutError:
            return
        grant.release()

    async def main():
        for round_ in range(200):
            holder = lock_manager.acquire(exclusive=["a"], owner="other")
            task = asyncio.create_task(attempt(0.00005 * (round_ % 20)))
            await soon(lambda task=task: lock_manager.waiters("a") or task.done())
            for _ in range(round_ % 7):
                await asyncio.sleep(0)
            holder.release()
            await task
            assert trace(lock_manager) == NOTHING

    run(main())


def test_own_timeouts_that_race_with_grants_lose_nothing(lock_manager, run):
    async def attempt(delay):
        try:
            grant = await lock_manager.acquire_async(exclusive=["a"], timeout=delay)
        except LockTimeoutError:
            return
        grant.release()

    async def main():
        for round_ in range(200):
            holder = lock_manager.acquire(exclusive=["a"])
            task = asyncio.create_task(attempt(0.00005 * (round_ % 20 + 1)))
            await soon(lambda task=task: lock_manager.waiters("a") or task.done())
            for _ in range(round_ % 7):
                await asyncio.sleep(0)
            holder.release()
            await task
            assert trace(lock_manager) == NOTHING

    run(main())


def test_failing_task_group_takes_its_waiters_along(lock_manager, run):
    async def fail():
        await queued(lock_manager, "a", 3)
        raise LookupError

    async def main():
        lock_manager.acquire(exclusive=["a"])
        async with asyncio.TaskGroup() as group:
            for _ in range(3):
                group.create_task(lock_manager.acquire_async(exclusive=["a", "b"]))
            group.create_task(fail())

    with pytest.raises(ExceptionGroup):
        run(main())
    assert (len(lock_manager), lock_manager.waiters("a")) == (1, [])


def test_random_cancellations_leave_nothing(lock_manager, run, background):
    """Tasks and threads compete for two keys; every third task is cancelled at some instant."""

    async def work(number):
        keys = {"exclusive": ["a"], "shared": ["b"]} if number % 2 else {"exclusive": ["b"]}
        with await lock_manager.acquire_async(**keys, owner=number):
            await asyncio.sleep(0)

    async def main():
        for round_ in range(30):
            tasks = [asyncio.create_task(work(number)) for number in range(12)]
            for turn in range(12):
                await asyncio.sleep(0)
                if (turn + round_) % 3 == 0:
                    tasks[turn].cancel()
            async with asyncio.timeout(DEADLINE):
                await asyncio.gather(*tasks, return_exceptions=True)

    def in_thread():
        for _ in range(300):
            with lock_manager.acquire(exclusive=["a", "b"]):
                pass

    threads = [background(in_thread) for _ in range(2)]
    run(main())
    for thread in threads:
        thread.result()
    assert trace(lock_manager) == NOTHING
