"""A task may see that it was granted before whoever granted it calls it back."""

from __future__ import annotations

import asyncio
import threading

from lockcore import _manager


def test_task_that_goes_on_before_its_wake_up_keeps_its_grant(
    lock_manager, background, monkeypatch
):
    call = _manager._Wake.__call__
    late, is_granted, has_gone_on = [], threading.Event(), threading.Event()

    def call_late(wake):
        late.append(wake)
        is_granted.set()
        assert has_gone_on.wait(10)
        return call(wake)

    monkeypatch.setattr(_manager._Wake, "__call__", call_late)
    monkeypatch.setattr(_manager, "_OPTIMISTIC_SECONDS", 60.0)  # not by chance, but below
    first = lock_manager.acquire(exclusive=["a"])

    async def acquire_and_release_the_first():
        task = asyncio.create_task(lock_manager.acquire_async(exclusive=["a"], owner="task"))
        await asyncio.sleep(0)  # it begins, and waits
        assert len(lock_manager.waiters("a")) == 1
        releasing = background(first.release)  # grants to the task, and does not say so yet
        assert await asyncio.to_thread(is_granted.wait, 10)
        late[0]._wait().wake()  # as its timer does
        grant = await task
        has_gone_on.set()
        return grant, releasing

    grant, releasing = asyncio.run(acquire_and_release_the_first())
    releasing.result()
    assert grant.is_held
    grant.release()
