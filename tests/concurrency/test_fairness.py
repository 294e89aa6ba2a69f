"""Nobody is overtaken at a key by a later comer in conflict, and so nobody starves."""

from __future__ import annotations

import threading

import pytest

from support import eventually, until_queued

MODES = ["exclusive", "shared"]


def keep_busy(manager, stop, **request):
    """Acquires and releases over and over, until told to stop."""
    while not stop.is_set():
        with manager.acquire(**request):
            pass


@pytest.fixture
def crowd(manager, background):
    """Starts threads that compete until the test is over."""
    stop = threading.Event()
    threads = []
    yield lambda **request: threads.append(background(keep_busy, manager, stop, **request))
    stop.set()
    for thread in threads:
        thread.result()


def test_threads_get_a_key_in_the_order_they_came(manager, background):
    order = []

    def work(number):
        with manager.acquire(exclusive=["a"]):
            order.append(number)

    with manager.acquire(exclusive=["a"]):
        threads = []
        for number in range(20):
            threads.append(background(work, number))
            until_queued(manager, "a", number + 1)
    for thread in threads:
        thread.result()
    assert order == list(range(20))


def test_threads_of_both_modes_get_a_key_in_the_order_they_came(manager, background):
    order = []

    def work(number, mode):
        with manager.acquire(**{mode: ["a"]}) as grant:
            order.append((grant.token, number))

    with manager.acquire(exclusive=["a"]):
        threads = []
        for number, mode in enumerate(["shared", "exclusive", "shared", "shared", "exclusive"]):
            threads.append(background(work, number, mode))
            until_queued(manager, "a", number + 1)
    for thread in threads:
        thread.result()
    assert [number for _, number in sorted(order)] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("waiting", MODES)
@pytest.mark.parametrize("coming", MODES)
def test_newcomer_stays_behind_a_waiter_only_in_conflict(manager, waiting, coming):
    holder = manager.acquire(exclusive=["a"])
    manager.acquire(exclusive=["b"])
    manager._submit(**{waiting: ["a", "b"]})
    holder.release()
    is_conflict = "exclusive" in (waiting, coming)
    assert (manager.try_acquire(**{coming: ["a"]}) is None) is is_conflict


@pytest.mark.parametrize("coming", MODES)
def test_try_acquire_does_not_overtake(manager, coming):
    reader = manager.acquire(shared=["a"])
    manager.acquire(exclusive=["b"])
    manager._submit(exclusive=["a", "b"])
    reader.release()
    assert manager.try_acquire(**{coming: ["a"]}) is None


@pytest.mark.parametrize("coming", MODES)
def test_lock_without_blocking_does_not_overtake(manager, coming):
    reader = manager.acquire(shared=["a"])
    manager.acquire(exclusive=["b"])
    manager._submit(exclusive=["a", "b"])
    reader.release()
    assert manager.lock(**{coming: ["a"]}).acquire(blocking=False) is False


def test_waiter_for_one_key_does_not_freeze_another(manager, background):
    manager.acquire(exclusive=["disk-b"])
    waiter = background(manager.acquire, exclusive=["vm-a", "disk-b"])
    until_queued(manager, "disk-b")
    for _ in range(100):
        manager.acquire(exclusive=["vm-a"], timeout=0).release()
    manager.clear()
    assert waiter.result().is_held


def test_writer_is_not_starved_by_readers(manager, crowd):
    for _ in range(3):
        crowd(shared=["a"])
    assert [manager.acquire(exclusive=["a"]).release() for _ in range(30)] == [None] * 30


def test_reader_is_not_starved_by_writers(manager, crowd):
    for _ in range(3):
        crowd(exclusive=["a"])
    assert [manager.acquire(shared=["a"]).release() for _ in range(30)] == [None] * 30


def test_large_set_is_not_starved_by_single_keys(manager, crowd):
    for key in range(4):
        crowd(exclusive=[key])
    assert [manager.acquire(exclusive=range(20)).release() for _ in range(10)] == [None] * 10


def test_large_shared_set_is_not_starved_by_small_exclusive_ones(manager, crowd):
    for key in range(4):
        crowd(exclusive=[key, key + 1])
    assert [manager.acquire(shared=range(20)).release() for _ in range(10)] == [None] * 10


def test_single_key_is_not_starved_by_large_sets(manager, crowd):
    for _ in range(3):
        crowd(exclusive=range(10))
    assert [manager.acquire(exclusive=[5]).release() for _ in range(10)] == [None] * 10


def test_waiter_is_refused_at_most_once_for_each_key(manager):
    """The worst adversary: whenever the waiter's key comes free, it holds the next one."""
    adversary = manager.acquire(exclusive=[0])
    waiter = manager._submit(exclusive=range(10))
    refusals = 0
    while waiter._state == "waiting":
        refusals += 1
        taken = [manager.try_acquire(exclusive=[key]) for key in range(10)]
        free = [grant for grant in taken if grant is not None]
        for grant in free[1:]:
            grant.release()
        adversary.release()
        adversary = free[0] if free else adversary
    assert refusals == 10


def test_place_in_a_queue_is_never_lost(manager):
    holders = [manager.acquire(exclusive=[key]) for key in range(3)]
    manager._submit(exclusive=range(3), owner="first")
    manager._submit(exclusive=range(3), owner="second")
    for holder in holders[:2]:
        holder.release()
    assert [[row.owner for row in manager.waiters(key)] for key in range(3)] == [
        ["first", "second"]
    ] * 3


def test_release_wakes_those_who_can_run_and_nobody_else(manager, background):
    holders = {key: manager.acquire(exclusive=[key]) for key in range(20)}
    threads = {key: background(manager.acquire, exclusive=[key]) for key in range(20)}
    for key in range(20):
        until_queued(manager, key)
    holders[7].release()
    assert threads[7].result().is_held
    assert [key for key in range(20) if not manager.waiters(key)] == [7]
    manager.clear()


def test_readers_behind_a_writer_run_together(manager, background):
    barrier = threading.Barrier(4)

    def read():
        with manager.acquire(shared=["a"]):
            barrier.wait(10)

    with manager.acquire(exclusive=["a"]):
        threads = [background(read) for _ in range(4)]
        until_queued(manager, "a", 4)
    for thread in threads:
        thread.result()
    assert not barrier.broken


def test_waiters_of_a_waiting_set_run_when_it_gives_up(manager, background):
    manager.acquire(exclusive=["b"])
    reader = manager.acquire(shared=["a"])
    both = manager._submit(exclusive=["a", "b"])
    thread = background(manager.acquire, shared=["a"])
    eventually(lambda: len(manager.waiters("a")) == 2)
    both._cancel()
    assert (thread.result().is_held, reader.is_held) == (True, True)
