"""Event loops and threads that share one manager: wake-ups across them, and loops that die."""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
import weakref

import pytest

from lockcore import ManagerClosedError
from support import DEADLINE, eventually, owners_of, queued, report_of, soon


@pytest.fixture
def abandoned(lock_manager, new_loop, caplog):
    """Leaves tasks waiting for "a" in an event loop that is closed under them."""
    # That a pending task was destroyed, asyncio says itself; it is what these tests are about.
    caplog.set_level(logging.CRITICAL, "asyncio")

    def abandon(count=1, **request):
        loop = new_loop()

        async def main():
            tasks.extend(
                loop.create_task(lock_manager.acquire_async(**{"exclusive": ["a"], **request}))
                for _ in range(count)
            )
            await queued(lock_manager, "a", count)

        tasks = []
        loop.run_until_complete(main())
        loop.close()
        return tasks

    return abandon


def collected(claim):
    """Waits until a claim is true, collecting garbage meanwhile."""
    return eventually(lambda: gc.collect() is not None and claim())


def test_waiter_of_a_closed_loop_leaves_the_queue_when_it_is_collected(lock_manager, abandoned):
    lock_manager.acquire(exclusive=["a"])
    abandoned(3)
    collected(lambda: lock_manager.waiters("a") == [])
    assert len(lock_manager) == 1


def test_waiter_of_a_closed_loop_is_collected(lock_manager, abandoned):
    lock_manager.acquire(exclusive=["a"])
    watch = [weakref.ref(task) for task in abandoned(2)]
    collected(lambda: [task() for task in watch] == [None, None])


def test_collected_waiter_lets_those_behind_it_run(lock_manager, abandoned):
    lock_manager.acquire(shared=["a"])
    abandoned()
    reader = lock_manager._submit(shared=["a"])
    collected(lambda: reader.is_held)


def test_collection_in_another_thread_ends_the_wait(lock_manager, abandoned, background):
    lock_manager.acquire(exclusive=["a"])
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        abandoned()
        background(gc.collect).result()
    finally:
        if was_enabled:
            gc.enable()
    collected(lambda: lock_manager.waiters("a") == [])


@pytest.mark.parametrize("owner", [None, "dead"])
def test_grant_to_a_task_of_a_closed_loop_goes_on_to_the_next(lock_manager, abandoned, owner):
    """Though the task is not collected, for somebody still knows it."""
    holder = lock_manager.acquire(exclusive=["a"])
    tasks = abandoned(2, owner=owner)
    behind = lock_manager._submit(exclusive=["a"], owner="behind")
    holder.release()
    assert (behind.is_held, owners_of(lock_manager.snapshot())) == (True, ["behind"])
    assert not any(task.done() for task in tasks)


def test_grant_goes_on_past_thousands_of_tasks_of_a_closed_loop(lock_manager, abandoned):
    holder = lock_manager.acquire(exclusive=["a"])
    tasks = abandoned(3000)
    behind = lock_manager._submit(exclusive=["a"])
    holder.release()
    assert (behind.is_held, len(tasks)) == (True, 3000)


def test_grant_to_a_task_that_never_resumes_is_given_back(lock_manager, new_loop, caplog):
    """Granted, and its loop is closed before the task can run."""
    caplog.set_level(logging.CRITICAL, "asyncio")

    def grant_and_close():
        loop = new_loop()

        async def main():
            task = loop.create_task(lock_manager.acquire_async(exclusive=["a"], owner="dead"))
            await queued(lock_manager, "a")
            return task

        holder = lock_manager.acquire(exclusive=["a"])
        task = loop.run_until_complete(main())
        holder.release()
        loop.close()
        return task.done(), owners_of(lock_manager.snapshot())

    assert grant_and_close() == (False, ["dead"])
    collected(lambda: len(lock_manager) == 0)


def test_waiting_task_that_nobody_else_knows_is_not_collected(lock_manager, run):
    """A loop knows its tasks only weakly: here it is the wait that keeps the task."""
    held = []

    async def work():
        held.append(await lock_manager.acquire_async(exclusive=["a"]))

    async def main():
        holder = lock_manager.acquire(exclusive=["a"])
        watch = weakref.ref(asyncio.create_task(work()))
        await queued(lock_manager, "a")
        gc.collect()
        assert watch() is not None
        holder.release()
        await soon(lambda: held)

    run(main())
    assert held[0].is_held


def test_manager_is_collected_with_the_tasks_that_wait_for_it(new_loop, lock_manager, caplog):
    caplog.set_level(logging.CRITICAL, "asyncio")

    def leave():
        manager = type(lock_manager)()
        manager.acquire(exclusive=["a"])
        loop = new_loop()

        async def main():
            task = loop.create_task(manager.acquire_async(exclusive=["a"]))
            await queued(manager, "a")
            return task

        loop.run_until_complete(main())
        loop.close()
        return weakref.ref(manager)

    watch = leave()
    collected(lambda: watch() is None)


def test_interrupted_run_leaves_nobody_queued(lock_manager, new_loop):
    async def main():
        asyncio.get_running_loop().call_soon(interrupt)
        await lock_manager.acquire_async(exclusive=["a"])

    def interrupt():
        raise KeyboardInterrupt

    lock_manager.acquire(exclusive=["a"])
    with pytest.raises(KeyboardInterrupt), asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(main())
    assert lock_manager.waiters("a") == []


def test_closing_from_a_thread_turns_tasks_of_many_loops_away(lock_manager, new_loop, background):
    lock_manager.acquire(exclusive=["a"])

    def in_loop():
        with asyncio.Runner(loop_factory=new_loop) as runner:
            runner.run(lock_manager.acquire_async(exclusive=["a"]))

    threads = [background(in_loop) for _ in range(4)]
    eventually(lambda: len(lock_manager.waiters("a")) == 4)
    lock_manager.close()
    for thread in threads:
        with pytest.raises(ManagerClosedError):
            thread.result()


def test_loops_in_many_threads_and_threads_share_keys(lock_manager, new_loop, background):
    counts = dict.fromkeys(range(3), 0)

    async def work(number):
        for round_ in range(10):
            key = (number + round_) % 3
            with await lock_manager.acquire_async(exclusive=[key], shared=["all"]):
                count = counts[key]
                await asyncio.sleep(0)
                counts[key] = count + 1

    def in_loop(number):
        async def main():
            await asyncio.gather(*[work(number + each) for each in range(10)])

        with asyncio.Runner(loop_factory=new_loop) as runner:
            runner.run(main())

    def in_thread(number):
        for round_ in range(100):
            key = (number + round_) % 3
            with lock_manager.acquire(exclusive=[key], shared=["all"]):
                counts[key] += 1

    threads = [background(in_loop, number) for number in range(3)]
    threads += [background(in_thread, number) for number in range(2)]
    for thread in threads:
        thread.result()
    assert (sum(counts.values()), len(lock_manager)) == (500, 0)


def test_release_wakes_only_the_tasks_that_can_run(lock_manager, run):
    async def main():
        holders = {key: lock_manager.acquire(exclusive=[key]) for key in "abc"}
        tasks = []
        for key, count in (("a", 50), ("b", 50), ("c", 1)):
            tasks += [
                asyncio.create_task(lock_manager.acquire_async(exclusive=[key]))
                for _ in range(count)
            ]
            await queued(lock_manager, key, count)
        before = lock_manager._statistics()[5]
        holders["a"].release()
        (await tasks[0]).release()
        await tasks[1]
        holders["c"].release()
        await tasks[-1]
        woken = lock_manager._statistics()[5] - before
        for task in tasks:
            task.cancel()
        return woken, sum(task.done() for task in tasks)

    assert run(main()) == (3, 3)


def test_uncontended_request_gives_no_turn_away(lock_manager, run):
    """As with asyncio.Lock: what is free is taken at once, and no other task runs in between."""
    turns = []

    async def main():
        asyncio.get_running_loop().call_soon(turns.append, 1)
        await lock_manager.acquire_async(exclusive=["a"])
        return list(turns)

    assert run(main()) == []


def test_acquiring_needs_a_running_loop(lock_manager):
    waiting = lock_manager.acquire_async(exclusive=["a"])
    with pytest.raises(RuntimeError, match="no running event loop"):
        waiting.send(None)
    assert len(lock_manager) == 0


def test_grants_from_many_threads_race_with_a_busy_loop(lock_manager, run, background):
    stop = threading.Event()

    def churn():
        while not stop.is_set():
            with lock_manager.acquire(exclusive=["a"]):
                pass

    async def main():
        for _ in range(100):
            with await lock_manager.acquire_async(exclusive=["a"], timeout=DEADLINE):
                pass

    threads = [background(churn) for _ in range(2)]
    try:
        run(main())
    finally:
        stop.set()
    for thread in threads:
        thread.result()
    assert len(lock_manager) == 0


def test_interrupt_while_a_task_is_woken_leaves_it_its_grant():
    """Ctrl-C goes to whoever released; it was taken for the task's refusal of the grant."""
    program = """
import asyncio, json, signal, threading
from lockcore import LockManager

signal.signal(signal.SIGINT, signal.default_int_handler)
manager = LockManager()
holder = manager.acquire(exclusive=["a"])
is_interrupted = False

class Loop(asyncio.SelectorEventLoop):
    def call_soon_threadsafe(self, *arguments, **options):
        global is_interrupted
        handle = super().call_soon_threadsafe(*arguments, **options)
        if threading.current_thread() is threading.main_thread() and not is_interrupted:
            is_interrupted = True
            signal.raise_signal(signal.SIGINT)
        return handle

def run():
    loop = Loop()
    grants.append(loop.run_until_complete(manager.acquire_async(exclusive=["a"])))
    loop.close()

grants = []
thread = threading.Thread(target=run)
thread.start()
pause = threading.Event()
while not manager.waiters("a"):
    pause.wait(0.001)
raised = False
try:
    holder.release()
    pause.wait(1)
except KeyboardInterrupt:
    raised = True
thread.join()
print(json.dumps([raised, grants[0].is_held, manager.try_acquire(exclusive=["a"]) is None]))
"""
    assert report_of(program) == [True, True, True]
