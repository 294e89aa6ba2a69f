"""Nothing stays behind: keys, queues, references."""

from __future__ import annotations

import asyncio
import gc
import itertools
import sys
import uuid

import pytest

from lockcore import (
    DeadlockError,
    LockConflictError,
    LockTimeoutError,
    ManagerClosedError,
    Message,
    NotHeldError,
)

MANY = 100_000


def test_table_is_empty_after_many_keys_one_by_one(lock_manager):
    for number in range(MANY):
        lock_manager.acquire(exclusive=[("DISK", number)]).release()
    assert (len(lock_manager), lock_manager.snapshot()) == (0, [])


def test_table_is_empty_after_many_keys_at_a_time(lock_manager):
    grants = [lock_manager.acquire(exclusive=[("DISK", number)]) for number in range(MANY)]
    for grant in grants:
        grant.release()
    assert (len(lock_manager), lock_manager.snapshot()) == (0, [])


def test_table_is_empty_after_many_keys_in_one_request(lock_manager):
    lock_manager.acquire(exclusive=range(MANY)).release()
    assert (len(lock_manager), lock_manager.snapshot()) == (0, [])


def test_table_grows_and_shrinks_with_its_keys_in_place(lock_manager):
    kept = lock_manager.acquire(exclusive=["kept"], shared=range(100))
    for _ in range(3):
        lock_manager.acquire(exclusive=range(1000, MANY)).release()
    assert (kept.is_held, len(lock_manager)) == (True, 101)


def test_queues_are_empty_after_many_waiters(lock_manager):
    holder = lock_manager.acquire(exclusive=["a"])
    waiters = [lock_manager._submit(exclusive=["a", number]) for number in range(1000)]
    for waiter in waiters[::2]:
        waiter._cancel()
    holder.release()
    for waiter in waiters[1::2]:
        waiter.release()
    assert (len(lock_manager), lock_manager.waiters("a")) == (0, [])


def acquire_and_release(manager, **request):
    manager.acquire(**request).release()


def drop_and_clear(manager, **request):
    manager.acquire(**request)
    manager.clear()


def refuse(manager, **request):
    manager.acquire(exclusive=[*request["exclusive"]])
    with pytest.raises(LockConflictError):
        manager.acquire(**request, timeout=0)
    manager.try_acquire(**request)
    manager.clear()


def time_out(manager, **request):
    manager.acquire(exclusive=[*request["exclusive"]])
    with pytest.raises(LockTimeoutError):
        manager.acquire(**request, timeout=1e-6)
    manager.clear()


def cancel(manager, **request):
    manager.acquire(exclusive=[*request["exclusive"]])
    manager._submit(**request)._cancel()
    manager.clear()


def drop_a_waiter(manager, **request):
    manager.acquire(exclusive=[*request["exclusive"]])
    manager._submit(**request)
    manager.clear()
    manager.clear()


def use_a_lock(manager, **request):
    lock = manager.lock(**{**request, "owner": None})
    for _ in range(3):
        with lock:
            lock.acquire(blocking=False)


def fail_at_the_door(manager, **request):
    with pytest.raises(TypeError):
        manager.acquire(**{**request, "shared": [*request["shared"], 1.5]})
    with pytest.raises(TypeError):
        manager.acquire(**{**request, "owner": 1.5})
    with pytest.raises(ValueError, match="timeout"):
        manager.acquire(**request, timeout=-1)


def look_around(manager, **request):
    grant = manager.acquire(**request)
    manager.snapshot()
    manager.holders(next(iter(request["exclusive"])))
    manager.owned_by(request["owner"])
    repr((grant.exclusive, grant.shared, grant.owner, grant))
    grant.release()


def change(manager, **request):
    grant = manager.acquire(**request)
    grant.upgrade()
    grant.downgrade()
    grant.transfer("another owner")
    grant.transfer(None)
    grant.upgrade()
    grant.transfer(request["owner"])
    grant.release()


def fail_to_change(manager, **request):
    grants = [manager.acquire(shared=[*request["exclusive"]], owner=owner) for owner in "xx"]
    manager.acquire(shared=[*request["exclusive"]], owner=request["owner"])
    with pytest.raises(LockConflictError):
        grants[0].upgrade(timeout=0)
    with pytest.raises(LockTimeoutError):
        grants[0].upgrade(timeout=1e-6)
    manager.release_all(request["owner"])
    grants[0].upgrade()
    with pytest.raises(LockConflictError):
        grants[1].transfer(request["owner"])
    manager.clear()
    for call in (grants[0].upgrade, grants[0].downgrade, grants[0].release):
        with pytest.raises(NotHeldError):
            call()
    with pytest.raises(NotHeldError):
        grants[0].transfer(request["owner"])


def deadlock(manager, **request):
    first, second = request["exclusive"]
    manager.acquire(exclusive=[first], owner="other")
    manager.acquire(exclusive=[second], owner=request["owner"], message=request["message"])
    manager._submit(exclusive=[second], owner="other")
    with pytest.raises(DeadlockError):
        manager.acquire(**request)
    for _ in range(2):
        manager.clear()


def close_on_waiters(manager, **request):
    manager = type(manager)()
    manager.acquire(**{**request, "owner": None})
    manager._submit(**request)
    manager.close()
    with pytest.raises(ManagerClosedError):
        manager.acquire(**request)


def await_it(manager, **request):
    async def main():
        (await manager.acquire_async(**request)).release()
        holder = await manager.acquire_async(**{**request, "owner": None})
        task = asyncio.create_task(manager.acquire_async(**request))
        await asyncio.sleep(0)
        holder.release()
        (await task).release()

    asyncio.run(main())


def await_it_in_vain(manager, **request):
    async def main():
        manager.acquire(**{**request, "owner": None})
        with pytest.raises(LockTimeoutError):
            await manager.acquire_async(**request, timeout=1e-6)
        with pytest.raises(LockConflictError):
            await manager.acquire_async(**request, timeout=0)
        tasks = [asyncio.create_task(manager.acquire_async(**request)) for _ in range(2)]
        await asyncio.sleep(0)
        tasks[0].cancel()
        manager.clear()
        tasks[1].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(main())


USES = [
    acquire_and_release,
    drop_and_clear,
    refuse,
    time_out,
    cancel,
    drop_a_waiter,
    use_a_lock,
    fail_at_the_door,
    look_around,
    change,
    fail_to_change,
    deadlock,
    close_on_waiters,
    await_it,
    await_it_in_vain,
]


def new_request(use):
    """A request of every kind of key, and the objects in it, which nobody else holds."""
    text, data, number = f"key-{id(use)}", f"data-{id(use)}".encode(), id(use) << 70
    unique = uuid.UUID(int=id(use))
    group, owner, message = f"group-{number}", f"owner-{number}", Message("BUSY", n=number)
    told = f"message-{number}"
    request = {
        "exclusive": {text: message, (group, data): told},
        "shared": [number, unique],
        "owner": owner,
        "message": message,
    }
    return request, [text, data, number, unique, group, owner, message, told]


@pytest.mark.parametrize("use", USES)
def test_use_keeps_no_references(lock_manager, use):
    request, objects = new_request(use)
    use(lock_manager, **request)
    gc.collect()
    before = [sys.getrefcount(thing) for thing in objects]
    for _ in range(30):
        use(lock_manager, **request)
    gc.collect()
    assert [sys.getrefcount(thing) for thing in objects] == before


@pytest.mark.parametrize("use", USES)
def test_use_keeps_no_memory(lock_manager, use):
    """Whatever leaks at each use leaks more blocks than there are uses."""
    request, _ = new_request(use)
    uses = 300

    def allocated_after(n):
        for _ in range(n):
            use(lock_manager, **request)
        gc.collect()
        return sys.getallocatedblocks()

    # Pools, caches and free lists fill up at first, and what other tests left goes at any time;
    # a leak is there each time.
    before = [allocated_after(30)] + [allocated_after(uses) for _ in range(3)]
    assert min(after - earlier for earlier, after in itertools.pairwise(before)) < uses
