"""A waiter that is let in runs at once, even if the one who let it in goes on computing.

With the GIL it would have to wait for a switch interval. Here that is so long that nobody gets to
run by it: whoever runs was let in by one who made way. A busy machine may miss the moment for
which a releaser makes way, so a test tries again; without making way no try would succeed.
"""

from __future__ import annotations

import signal
import sys
import threading

import pytest

from support import report_of, until_queued

TRIES = 50
# Without the GIL nobody needs to make way; but to wake up takes a while.
HAS_GIL = getattr(sys, "_is_gil_enabled", lambda: True)()
ROUNDS = 2_000 if HAS_GIL else 10_000_000


@pytest.fixture(autouse=True)
def endless_switch_interval():
    interval = sys.getswitchinterval()
    sys.setswitchinterval(5.0)
    yield
    sys.setswitchinterval(interval)


def compute_until(marks):
    """Whether the mark was set while we computed, and never let anybody else run."""
    return any(marks for _ in range(ROUNDS))


RELEASES = {
    "release": lambda manager, holder: holder.release(),
    "exit": lambda manager, holder: holder.__exit__(None, None, None),
    "clear": lambda manager, holder: manager.clear(),
    "force_release": lambda manager, holder: manager.force_release("a"),
    "release_all": lambda manager, holder: manager.release_all("holder"),
    "downgrade": lambda manager, holder: holder.downgrade(),
    "transfer": lambda manager, holder: holder.transfer("waiter"),
}


@pytest.mark.parametrize("release", RELEASES.values(), ids=RELEASES)
def test_waiter_runs_while_the_releaser_computes(lock_manager, background, release):
    def wait():
        with lock_manager.acquire(shared=["a"], owner="waiter"):
            marks.append(threading.get_ident())

    for _ in range(TRIES):
        marks = []
        holder = lock_manager.acquire(exclusive=["a"], owner="holder")
        thread = background(wait)
        until_queued(lock_manager, "a")
        release(lock_manager, holder)
        has_run = compute_until(marks)
        thread.result()
        lock_manager.clear()
        if has_run:
            return
    raise AssertionError("the waiter ran in none of the tries")


def behind(manager):
    """A request that waits at "a" and that others wait behind, though it holds nothing there."""
    manager.acquire(shared=["a"], owner="reader")
    manager.acquire(exclusive=["b"], owner="writer")
    manager._submit(exclusive=["b"], owner="reader")
    return manager._submit(exclusive=["a"], owner="writer")


LEAVES = {
    "cancel": lambda waiter: waiter._cancel(),
    "time_out": lambda waiter: waiter._time_out(),
    "break_deadlock": lambda waiter: waiter._break_deadlock(),
}


@pytest.mark.parametrize("leave", LEAVES.values(), ids=LEAVES)
def test_waiter_runs_while_one_who_stopped_waiting_computes(lock_manager, background, leave):
    def wait():
        with lock_manager.acquire(shared=["a"], owner="waiter"):
            marks.append(threading.get_ident())

    for _ in range(TRIES):
        marks = []
        waiter = behind(lock_manager)
        thread = background(wait)
        until_queued(lock_manager, "a", 2)
        leave(waiter)
        has_run = compute_until(marks)
        thread.result()
        lock_manager.clear()
        lock_manager.clear()
        if has_run:
            return
    raise AssertionError("the waiter ran in none of the tries")


ACQUIRES = {
    "try_acquire": lambda manager: manager.try_acquire(shared=["a"], owner="waiter"),
    "acquire": lambda manager: manager.acquire(shared=["a"], owner="waiter"),
    "lock": lambda manager: manager.lock(shared=["a"], owner="waiter").acquire(),
}


@pytest.mark.parametrize("acquire", ACQUIRES.values(), ids=ACQUIRES)
def test_waiter_runs_while_its_owner_who_gained_the_key_computes(lock_manager, background, acquire):
    def wait():
        with lock_manager.acquire(exclusive=["a"], owner="waiter"):
            marks.append(threading.get_ident())

    for _ in range(TRIES):
        marks = []
        holder = lock_manager.acquire(exclusive=["a"])
        lock_manager.acquire(exclusive=["b"])
        lock_manager._submit(shared=["a", "b"])
        thread = background(wait)
        until_queued(lock_manager, "a", 2)
        holder.release()
        assert len(lock_manager.waiters("a")) == 2
        acquire(lock_manager)
        has_run = compute_until(marks)
        thread.result()
        lock_manager.clear()
        lock_manager.clear()
        if has_run:
            return
    raise AssertionError("the waiter ran in none of the tries")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")
def test_waiter_runs_while_one_whose_wait_a_handler_ended_computes(lock_manager, background):
    def handle(number, frame):
        raise LookupError

    def send():
        until_queued(lock_manager, "a", 2)
        signal.pthread_kill(threading.main_thread().ident, signal.SIGUSR1)

    def wait():
        until_queued(lock_manager, "a")
        with lock_manager.acquire(shared=["a"]):
            marks.append(threading.get_ident())

    former = signal.signal(signal.SIGUSR1, handle)
    try:
        for _ in range(TRIES):
            marks = []
            reader = lock_manager.acquire(shared=["a"])
            sender, thread = background(send), background(wait)
            with pytest.raises(LookupError):
                lock_manager.acquire(exclusive=["a"])
            has_run = compute_until(marks)
            sender.result()
            thread.result()
            reader.release()
            if has_run:
                return
    finally:
        signal.signal(signal.SIGUSR1, former)
    raise AssertionError("the waiter ran in none of the tries")


def test_waiter_for_a_lock_runs_while_the_releaser_computes(lock_manager, background):
    lock = lock_manager.lock(exclusive=["a"])

    def wait():
        with lock:
            marks.append(threading.get_ident())

    for _ in range(TRIES):
        marks = []
        lock.acquire()
        thread = background(wait)
        until_queued(lock_manager, "a")
        lock.release()
        has_run = compute_until(marks)
        thread.result()
        if has_run:
            return
    raise AssertionError("the waiter ran in none of the tries")


def test_closing_lets_waiters_run_while_the_closer_computes(lock_manager, background):
    def wait():
        try:
            manager.acquire(exclusive=["a"])
        except RuntimeError:
            marks.append(threading.get_ident())

    for _ in range(TRIES):
        marks = []
        manager = type(lock_manager)()
        manager.acquire(exclusive=["a"])
        thread = background(wait)
        until_queued(manager, "a")
        manager.close()
        has_run = compute_until(marks)
        thread.result()
        if has_run:
            return
    raise AssertionError("the waiter ran in none of the tries")


def test_two_threads_take_turns_without_a_switch_interval(lock_manager, background):
    """Each turn is a hand-off, and between them there is nothing but computing."""
    turns = []

    def play(name):
        for _ in range(200):
            with lock_manager.acquire(exclusive=["a"], owner=name):
                turns.append(name)

    with lock_manager.acquire(exclusive=["a"]):
        threads = [background(play, name) for name in "xy"]
        until_queued(lock_manager, "a", 2)
    for thread in threads:
        thread.result()
    assert (len(turns), sorted(set(turns))) == (400, ["x", "y"])


def test_thread_is_woken_before_a_callback_of_the_same_release_runs(lock_manager, background):
    """The callback may do what only the thread ends."""
    holder = lock_manager.acquire(exclusive=["a"])
    has_run = threading.Event()

    def wait():
        with lock_manager.acquire(shared=["a"]):
            has_run.set()

    thread = background(wait)
    until_queued(lock_manager, "a")
    lock_manager._submit(shared=["a"], wake=lambda: calls.append(has_run.wait(10)))
    calls = []
    holder.release()
    thread.result()
    assert calls == [True]


def test_thread_is_woken_before_a_callback_that_gave_its_grant_back_is_finalised(
    lock_manager, background
):
    """Its finaliser, too, may do what only the thread ends."""

    class Refusing:
        def __call__(self):
            return False

        def __del__(self):
            calls.append(has_run.wait(10))

    def wait():
        with lock_manager.acquire(shared=["a"]):
            has_run.set()

    calls = []
    has_run = threading.Event()
    holder = lock_manager.acquire(exclusive=["a"])
    lock_manager._submit(shared=["a"], wake=Refusing())
    thread = background(wait)
    until_queued(lock_manager, "a", 2)
    holder.release()
    thread.result()
    assert calls == [True]


def test_each_of_many_woken_threads_runs(lock_manager, background):
    """The last of them is woken in another way than those before."""

    def wait(number):
        with lock_manager.acquire(shared=["a"]):
            marks.append(number)

    marks = []
    holder = lock_manager.acquire(exclusive=["a"])
    threads = [background(wait, number) for number in range(5)]
    until_queued(lock_manager, "a", 5)
    holder.release()
    for thread in threads:
        thread.result()
    assert sorted(marks) == [0, 1, 2, 3, 4]


WAIT_BESIDE_A_SUBINTERPRETER = """
import json, threading
try:
    import _interpreters as interpreters
except ImportError:
    import _xxsubinterpreters as interpreters
from lockcore import LockManager

interpreters.create()  # from now on PyGILState_Check() says yes to everybody
manager = LockManager()
many = manager.acquire(exclusive=["a", *range(1000)])  # so many that releasing lets go of the GIL
pause = threading.Event()

def wait():
    manager.acquire(exclusive=["a"]).release()

thread = threading.Thread(target=wait)
thread.start()
while not manager.waiters("a"):
    pause.wait(0.001)
many.release()
thread.join()
print(json.dumps("woken"))
"""


def test_large_release_wakes_a_thread_beside_a_subinterpreter():
    """It does so without the GIL, and so has none to hand over."""
    assert report_of(WAIT_BESIDE_A_SUBINTERPRETER) == "woken"
