"""Nothing stays behind: keys, queues, references."""

from __future__ import annotations

import gc
import sys

import pytest

from lockcore import LockConflictError, LockTimeoutError, Message

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


@pytest.mark.parametrize(
    "use",
    [
        acquire_and_release,
        drop_and_clear,
        refuse,
        time_out,
        cancel,
        drop_a_waiter,
        use_a_lock,
        fail_at_the_door,
        look_around,
    ],
)
def test_use_keeps_no_references(lock_manager, use):
    # Made here, so that nobody else holds them.
    text, data, number = f"key-{id(use)}", f"data-{id(use)}".encode(), id(use) << 70
    group, owner, message = f"group-{number}", f"owner-{number}", Message("BUSY", n=number)
    told = f"message-{number}"
    objects = [text, data, number, group, owner, message, told]
    request = {
        "exclusive": {text: message, (group, data): told},
        "shared": [number],
        "owner": owner,
        "message": message,
    }
    use(lock_manager, **request)
    gc.collect()
    before = [sys.getrefcount(thing) for thing in objects]
    for _ in range(100):
        use(lock_manager, **request)
    gc.collect()
    assert [sys.getrefcount(thing) for thing in objects] == before
