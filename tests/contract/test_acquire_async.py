"""`acquire_async`: what `acquire` promises, awaited."""

from __future__ import annotations

import asyncio

import pytest

from lockcore import (
    DeadlockError,
    LockConflictError,
    LockTimeoutError,
    ManagerClosedError,
    Message,
)
from support import DEADLINE, modes_of, owners_of, queued, until_queued


def test_free_keys_are_granted(manager, run):
    grant = run(manager.acquire_async(exclusive=["a"], shared=["b"], owner="me", message="BUSY"))
    rows = [(row.key, row.mode, row.owner, row.message) for row in manager.snapshot()]
    assert (grant.is_held, rows) == (
        True,
        [("a", "exclusive", "me", "BUSY"), ("b", "shared", "me", "BUSY")],
    )


def test_messages_of_keys_are_attached(manager, run):
    message = Message("BUSY", name="x")
    run(manager.acquire_async(exclusive={"a": message, "b": None}, message="OTHER"))
    assert [manager.holders(key)[0].message for key in "ab"] == [message, "OTHER"]


def test_empty_request_is_granted(manager, run):
    assert run(manager.acquire_async()).is_held


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ({"exclusive": "a"}, TypeError),
        ({"exclusive": ("VM", "1")}, TypeError),
        ({"shared": [1.5]}, TypeError),
        ({"owner": b"me"}, TypeError),
        ({"message": 1}, TypeError),
        ({"timeout": "1"}, TypeError),
        ({"timeout": True}, TypeError),
        ({"timeout": -1}, ValueError),
        ({"timeout": float("nan")}, ValueError),
    ],
    ids=repr,
)
def test_bad_arguments_are_refused_before_anything_is_held(manager, run, wrong, error):
    with pytest.raises(error):
        run(manager.acquire_async(**{"exclusive": ["b"], **wrong}))
    assert len(manager) == 0


def test_request_that_may_not_wait_is_refused(manager, run):
    manager.acquire(exclusive=["a"], owner="holder", message="BUSY")
    with pytest.raises(LockConflictError) as caught:
        run(manager.acquire_async(exclusive=["a"], owner="me", timeout=0))
    assert (caught.value.messages, owners_of(caught.value.blockers)) == (("BUSY",), ["holder"])


def test_refusal_is_counted(manager, run):
    manager.acquire(exclusive=["a"])
    with pytest.raises(LockConflictError):
        run(manager.acquire_async(exclusive=["a"], timeout=0))
    assert (manager.statistics().refused, manager.statistics().waits) == (1, 0)


def test_wait_that_is_too_long_times_out(manager, run):
    manager.acquire(exclusive=["a"], owner="holder")
    with pytest.raises(LockTimeoutError) as caught:
        run(manager.acquire_async(exclusive=["a", "b"], owner="me", timeout=0.01))
    assert (caught.value.timeout, owners_of(caught.value.blockers)) == (0.01, ["holder"])


def test_timeout_leaves_nothing_held_and_nobody_queued(manager, run):
    manager.acquire(exclusive=["a"])
    with pytest.raises(LockTimeoutError):
        run(manager.acquire_async(exclusive=["a", "b"], timeout=0.01))
    assert (manager.waiters("a"), len(manager), manager.statistics().timeouts) == ([], 1, 1)


@pytest.mark.parametrize("mode", ["exclusive", "shared"])
def test_waiting_task_is_granted_by_another_task(manager, run, mode):
    async def main():
        holder = await manager.acquire_async(exclusive=["a"])
        task = asyncio.create_task(manager.acquire_async(**{mode: ["a"]}))
        await queued(manager, "a")
        holder.release()
        return (await task).is_held

    assert run(main())
    assert modes_of(manager, "a") == [mode]


def test_waiting_task_is_granted_by_a_thread(manager, run, background):
    holder = manager.acquire(exclusive=["a"])

    def release():
        until_queued(manager, "a")
        holder.release()

    thread = background(release)
    assert run(manager.acquire_async(exclusive=["a"])).is_held
    thread.result()


def test_waiting_thread_is_granted_by_a_task(manager, run, background):
    async def main():
        holder = await manager.acquire_async(exclusive=["a"])
        thread = background(manager.acquire, exclusive=["a"])
        await queued(manager, "a")
        holder.release()
        return thread

    assert run(main()).result().is_held


def test_grant_is_a_context_manager(manager, run):
    async def main():
        with await manager.acquire_async(exclusive=["a"]):
            return len(manager)

    assert (run(main()), len(manager)) == (1, 0)


def test_threads_and_tasks_stand_in_one_queue(manager, run, background):
    order = []

    async def in_task(number):
        with await manager.acquire_async(exclusive=["a"]) as grant:
            order.append((grant.token, number))

    def in_thread(number):
        with manager.acquire(exclusive=["a"]) as grant:
            order.append((grant.token, number))

    async def main():
        holder = manager.acquire(exclusive=["a"])
        tasks, threads = [], []
        for number in range(20):
            if number % 2:
                tasks.append(asyncio.create_task(in_task(number)))
            else:
                threads.append(background(in_thread, number))
            await queued(manager, "a", number + 1)
        holder.release()
        await asyncio.gather(*tasks)
        return threads

    for thread in run(main()):
        thread.result()
    assert [number for _, number in sorted(order)] == list(range(20))


def test_readers_among_tasks_run_together(manager, run):
    async def main():
        holder = manager.acquire(exclusive=["a"])
        tasks = [asyncio.create_task(manager.acquire_async(shared=["a"])) for _ in range(5)]
        await queued(manager, "a", 5)
        holder.release()
        return await asyncio.gather(*tasks)

    run(main())
    assert modes_of(manager, "a") == ["shared"] * 5


def test_closing_turns_waiting_tasks_away(manager, run):
    async def main():
        manager.acquire(exclusive=["a"])
        tasks = [asyncio.create_task(manager.acquire_async(exclusive=["a"])) for _ in range(3)]
        await queued(manager, "a", 3)
        manager.close()
        return await asyncio.gather(*tasks, return_exceptions=True)

    assert [type(outcome) for outcome in run(main())] == [ManagerClosedError] * 3


def test_closed_manager_refuses_tasks(manager, run):
    manager.close()
    with pytest.raises(ManagerClosedError):
        run(manager.acquire_async(exclusive=["a"]))


def test_cancelled_task_is_not_queued(manager, run):
    async def main():
        manager.acquire(exclusive=["a"])
        task = asyncio.create_task(manager.acquire_async(exclusive=["a", "b"]))
        await queued(manager, "a")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(main())
    assert (manager.waiters("a"), len(manager)) == ([], 1)


def test_cancelled_task_lets_those_behind_it_run(manager, run):
    async def main():
        manager.acquire(shared=["a"])
        writer = asyncio.create_task(manager.acquire_async(exclusive=["a"]))
        await queued(manager, "a")
        reader = asyncio.create_task(manager.acquire_async(shared=["a"]))
        await queued(manager, "a", 2)
        writer.cancel()
        return (await reader).is_held

    assert run(main())


def test_deadlock_among_tasks_is_found(manager, run):
    async def main():
        manager.acquire(exclusive=["a"], owner="x")
        manager.acquire(exclusive=["b"], owner="y")
        first = asyncio.create_task(manager.acquire_async(exclusive=["b"], owner="x"))
        await queued(manager, "b")
        with pytest.raises(DeadlockError) as caught:
            await manager.acquire_async(exclusive=["a"], owner="y")
        manager.release_all("y")
        return caught.value, (await first).is_held

    error, is_held = run(main())
    assert ([waiter.owner for waiter, _ in error.cycle], is_held) == (["y", "x"], True)


@pytest.mark.parametrize("closes", ["thread", "task"])
def test_deadlock_among_threads_and_tasks_is_found(manager, run, background, closes):
    manager.acquire(exclusive=["a"], owner="thread")
    manager.acquire(exclusive=["b"], owner="task")

    async def main():
        def start(who):
            if who == "thread":
                return background(manager.acquire, exclusive=["b"], owner="thread")
            return asyncio.create_task(manager.acquire_async(exclusive=["a"], owner="task"))

        if closes == "thread":
            task = start("task")
            await queued(manager, "a")
            thread = start("thread")
            with pytest.raises(DeadlockError):
                await asyncio.to_thread(thread.result)
            manager.release_all("thread")
            return (await task).is_held
        thread = start("thread")
        await queued(manager, "b")
        with pytest.raises(DeadlockError):
            await start("task")
        manager.release_all("task")
        return (await asyncio.to_thread(thread.result)).is_held

    assert run(main())


def test_deadlock_that_others_close_ends_the_wait_of_a_task(manager, run):
    async def main():
        manager.acquire(exclusive=["c"], owner="w")
        blocker = manager.acquire(exclusive=["a"])
        task = asyncio.create_task(manager.acquire_async(exclusive=["a", "b"], owner="w"))
        await queued(manager, "a")
        manager.acquire(exclusive=["b"], owner="y")
        manager._submit(exclusive=["c"], owner="y")
        blocker.release()
        with pytest.raises(DeadlockError) as caught:
            await task
        return caught.value

    assert [waiter.owner for waiter, _ in run(main()).cycle] == ["w", "y"]


@pytest.mark.parametrize(
    "end",
    [
        lambda manager: manager.clear(),
        lambda manager: manager.force_release("a"),
        lambda manager: manager.release_all("me"),
    ],
    ids=["clear", "force_release", "release_all"],
)
@pytest.mark.parametrize("timeout", [None, 1000])
def test_grant_ended_before_its_task_resumes_is_returned_ended(manager, run, end, timeout):
    """As to a thread: it was granted, and what came after that its release() will say."""

    async def main():
        holder = manager.acquire(exclusive=["a"])
        task = asyncio.create_task(
            manager.acquire_async(exclusive=["a"], owner="me", timeout=timeout)
        )
        await queued(manager, "a")
        holder.release()
        end(manager)
        async with asyncio.timeout(DEADLINE):
            return await task

    assert run(main()).is_held is False
