"""A change wakes exactly those it concerns: who can run, who is shut out, who must give way."""

from __future__ import annotations

import pytest

from support import report_of, states, until_queued


class Wakes(list):
    """Who was called back, in order."""

    def of(self, name):
        """What calls back for one request."""
        return lambda: self.append(name)


@pytest.fixture
def wakes():
    return Wakes()


def count(manager):
    """How many wake-ups there have been since the manager was made."""
    return manager._statistics()[5]


def test_release_wakes_nobody_at_other_keys(lock_manager, wakes):
    holders = [lock_manager.acquire(exclusive=[key]) for key in range(1000)]
    for key in range(1, 1000):
        lock_manager._submit(exclusive=[key], wake=wakes.of(key))
    holders[0].release()
    assert (wakes, count(lock_manager)) == ([], 0)


def test_release_wakes_one_writer(lock_manager, wakes):
    holder = lock_manager.acquire(exclusive=["a"])
    for number in range(100):
        lock_manager._submit(exclusive=["a"], wake=wakes.of(number))
    holder.release()
    assert (wakes, count(lock_manager)) == ([0], 1)


def test_release_wakes_the_run_of_readers(lock_manager, wakes):
    holder = lock_manager.acquire(exclusive=["a"])
    for number in range(10):
        mode = "exclusive" if number == 7 else "shared"
        lock_manager._submit(**{mode: ["a"]}, wake=wakes.of(number))
    holder.release()
    assert (wakes, count(lock_manager)) == ([0, 1, 2, 3, 4, 5, 6], 7)


def test_release_of_one_reader_of_many_wakes_nobody(lock_manager, wakes):
    readers = [lock_manager.acquire(shared=["a"]) for _ in range(2)]
    lock_manager._submit(exclusive=["a"], wake=wakes.of("writer"))
    readers[0].release()
    assert (wakes, count(lock_manager)) == ([], 0)


def test_release_wakes_nobody_who_is_still_blocked_elsewhere(lock_manager, wakes):
    holder = lock_manager.acquire(exclusive=["a"])
    lock_manager.acquire(exclusive=["b"])
    lock_manager._submit(exclusive=["a", "b"], wake=wakes.of("both"))
    holder.release()
    assert (wakes, count(lock_manager)) == ([], 0)


def test_release_of_a_set_wakes_one_writer_for_each_key(lock_manager, wakes):
    holder = lock_manager.acquire(exclusive=range(10))
    for round_ in range(3):
        for key in range(10):
            lock_manager._submit(exclusive=[key], wake=wakes.of((round_, key)))
    holder.release()
    assert (sorted(wakes), count(lock_manager)) == ([(0, key) for key in range(10)], 10)


def test_downgrade_wakes_the_run_of_readers(lock_manager, wakes):
    holder = lock_manager.acquire(exclusive=["a"])
    for number in range(3):
        lock_manager._submit(shared=["a"], wake=wakes.of(number))
    lock_manager._submit(exclusive=["a"], wake=wakes.of("writer"))
    holder.downgrade()
    assert (wakes, count(lock_manager)) == ([0, 1, 2], 3)


def test_transfer_wakes_the_new_owners_waiters(lock_manager, wakes):
    holder = lock_manager.acquire(exclusive=["a"], owner="me")
    for owner in ("other", "you", "third", "you"):
        lock_manager._submit(exclusive=["a"], owner=owner, wake=wakes.of(owner))
    holder.transfer("you")
    assert (wakes, count(lock_manager)) == (["you", "you"], 2)


def test_cancel_wakes_those_who_can_run(lock_manager, wakes):
    lock_manager.acquire(shared=["a"])
    writer = lock_manager._submit(exclusive=["a"], wake=wakes.of("writer"))
    lock_manager._submit(shared=["a"], wake=wakes.of("reader"))
    writer._cancel()
    assert (wakes, count(lock_manager)) == (["reader"], 1)


def test_close_wakes_each_waiter_once(lock_manager, wakes):
    lock_manager.acquire(exclusive=["a", "b"])
    for number in range(5):
        lock_manager._submit(exclusive=["a", "b"], wake=wakes.of(number))
    lock_manager.close()
    assert (sorted(wakes), count(lock_manager)) == ([0, 1, 2, 3, 4], 5)


def test_request_granted_at_once_is_not_woken(lock_manager, wakes):
    lock_manager._submit(exclusive=["a"], wake=wakes.of("me"))
    assert (wakes, count(lock_manager)) == ([], 0)


def test_threads_are_woken_one_by_one(lock_manager, background):
    holder = lock_manager.acquire(exclusive=["a"])
    threads = [background(lock_manager.acquire, exclusive=["a"]) for _ in range(10)]
    until_queued(lock_manager, "a", 10)
    holder.release()
    until_queued(lock_manager, "a", 9)
    counted = count(lock_manager)
    for _ in threads:
        lock_manager.force_release("a")
    assert [thread.result().is_held for thread in threads] == [False] * 10
    assert (counted, count(lock_manager)) == (1, 10)


def test_error_of_a_callback_does_not_keep_others_asleep(lock_manager, wakes, monkeypatch):
    complaints = []
    monkeypatch.setattr("sys.unraisablehook", complaints.append)

    def fail():
        raise LookupError

    holder = lock_manager.acquire(exclusive=["a"])
    lock_manager._submit(shared=["a"], wake=fail)
    lock_manager._submit(shared=["a"], wake=wakes.of("second"))
    holder.release()
    assert (wakes, [complaint.exc_type for complaint in complaints]) == (["second"], [LookupError])


def test_callback_may_use_the_manager(lock_manager, wakes):
    holder = lock_manager.acquire(exclusive=["a"])
    seen = []
    first = lock_manager._submit(exclusive=["a"], wake=lambda: seen.append(first.release()))
    lock_manager._submit(exclusive=["a"], wake=wakes.of("second"))
    holder.release()
    assert (seen, wakes) == ([None], ["second"])


# ---- a wait that others turn into a deadlock: its request is asked to look -----------------------


def test_deadlock_by_requeueing_wakes_the_requeued(lock_manager, wakes):
    lock_manager.acquire(exclusive=["c"], owner="w")
    blocker = lock_manager.acquire(exclusive=["a"])
    victim = lock_manager._submit(exclusive=["a", "b"], owner="w", wake=wakes.of("w"))
    lock_manager.acquire(exclusive=["b"], owner="y")
    lock_manager._submit(exclusive=["c"], owner="y", wake=wakes.of("y"))
    blocker.release()
    assert (wakes, count(lock_manager), len(victim._break_deadlock())) == (["w"], 1, 4)


def test_deadlock_by_gaining_a_key_wakes_the_gaining_owners_waiter(lock_manager, wakes):
    grant = lock_manager.acquire(exclusive=["a"], owner="x")
    lock_manager.acquire(exclusive=["b"], owner="y")
    victim = lock_manager._submit(exclusive=["b"], owner="z", wake=wakes.of("z"))
    lock_manager._submit(exclusive=["a"], owner="y", wake=wakes.of("y"))
    grant.transfer("z")
    assert (wakes, count(lock_manager), len(victim._break_deadlock())) == (["z"], 1, 4)


@pytest.mark.parametrize(
    "lose",
    [
        lambda manager, hold: hold.release(),
        lambda manager, hold: hold.transfer("other"),
        lambda manager, hold: manager.force_release("mark"),
    ],
    ids=["release", "transfer", "force_release"],
)
def test_deadlock_by_losing_a_key_wakes_the_losing_owners_waiter(lock_manager, wakes, lose):
    """An owner passes an earlier waiter while it holds the key, and waits behind it afterwards."""
    lock_manager.acquire(shared=["a"], owner="z")
    hold = lock_manager.acquire(shared=["a", "mark"], owner="x")
    lock_manager.acquire(exclusive=["b"], owner="x")
    lock_manager._submit(exclusive=["a", "b"], owner="w", wake=wakes.of("w"))
    victim = lock_manager._submit(exclusive=["a"], owner="x", wake=wakes.of("x"))
    assert victim._break_deadlock() is None
    lose(lock_manager, hold)
    assert (wakes, count(lock_manager), len(victim._break_deadlock())) == (["x"], 1, 4)


def test_first_to_look_wakes_the_last_to_wait(lock_manager, wakes):
    grants = []
    for owner in "xy":
        lock_manager.acquire(exclusive=[owner], owner=owner)
    for owner, key in ("xy", "yx"):
        grants.append(lock_manager._submit(exclusive=[key], owner=owner, wake=wakes.of(owner)))
    assert grants[0]._break_deadlock() is None
    assert (wakes, states(*grants)) == (["y"], ["waiting", "waiting"])


@pytest.mark.parametrize("readers", ["ev", "ve"])
def test_request_in_two_cycles_does_not_stop_at_the_first_it_finds(lock_manager, wakes, readers):
    """It closed one of them itself, and finds the other one, which somebody else closed later."""
    lock_manager.acquire(exclusive=["mine"], owner="me")
    for owner in readers:
        lock_manager.acquire(shared=["a"], owner=owner)
    grants = {}
    for owner, key in (("e", "mine"), ("me", "a"), ("v", "mine")):
        grants[owner] = lock_manager._submit(exclusive=[key], owner=owner, wake=wakes.of(owner))
    looking = ["me", "v"]
    for owner in looking:
        grants[owner]._break_deadlock()
        looking += wakes
        wakes.clear()
    assert states(grants["me"]) == ["ended"]


def test_last_to_wait_is_woken_once(lock_manager, wakes):
    grants = []
    for owner in "xyz":
        lock_manager.acquire(exclusive=[owner], owner=owner)
    for owner, key in ("xy", "yz", "zx"):
        grants.append(lock_manager._submit(exclusive=[key], owner=owner, wake=wakes.of(owner)))
    assert [grant._break_deadlock() for grant in grants[:2]] == [None, None]
    assert wakes == ["z"]


def test_woken_to_look_in_vain_goes_on_waiting(lock_manager, wakes):
    for owner in "xy":
        lock_manager.acquire(exclusive=[owner], owner=owner)
    first = lock_manager._submit(exclusive=["y"], owner="x", wake=wakes.of("x"))
    second = lock_manager._submit(exclusive=["x"], owner="y", wake=wakes.of("y"))
    first._break_deadlock()
    first._cancel()
    assert (second._break_deadlock(), states(second)) == (None, ["waiting"])


@pytest.mark.parametrize("released", ["p", "q"])
def test_request_woken_for_two_reasons_at_once_keeps_nobody_asleep(lock_manager, wakes, released):
    """Two are to look for a deadlock; before they are called, one of them is granted."""
    blocker = lock_manager.acquire(exclusive=["a"])
    holders = {}
    for owner, key in (("y", "p"), ("z", "q")):
        holders[key] = lock_manager.acquire(exclusive=[key], owner=owner)
        lock_manager._submit(exclusive=[key], owner="me", wake=wakes.of(key))
    lock_manager._submit(exclusive=["a"], owner="me", wake=holders[released].release)
    for owner in "yz":
        lock_manager._submit(exclusive=["a"], owner=owner)
    blocker.release()
    assert set(wakes) == {"p", "q"}


def test_grant_goes_on_past_any_number_of_those_who_give_it_back():
    """Each gives it back in its turn, and none of them deeper on the stack."""
    program = """
import json, threading
from lockcore import LockManager

manager = LockManager()
holder = manager.acquire(exclusive=["a"])
for _ in range(3000):
    manager._submit(exclusive=["a"], wake=lambda: False)
last = manager._submit(exclusive=["a"])
threading.stack_size(256 * 1024)
releaser = threading.Thread(target=holder.release)
releaser.start()
releaser.join()
print(json.dumps([last.is_held, len(manager.holders("a")), len(manager.waiters("a"))]))
"""
    assert report_of(program) == [True, 1, 0]


def test_request_that_looks_in_vain_and_is_then_granted_gives_back_once():
    """Called back twice before what is to be given back is given, it was in the list twice."""
    program = """
import json
from lockcore import LockManager

manager = LockManager()
held = [manager.acquire(exclusive=[key], owner="y") for key in "bc"]
holder = manager.acquire(exclusive=["a"])
manager._submit(exclusive=["a"], owner="y", wake=lambda: True)
called = []

def wake(number):
    called.append(number)
    if len(called) == 2:
        held[called[0]].release()
        return True
    return False

waiters = [
    manager._submit(exclusive=[key], owner="z", wake=lambda number=number: wake(number))
    for number, key in enumerate("bc")
]
holder.transfer("z")
for grant in held:
    grant.is_held and grant.release()
print(json.dumps([len(manager.waiters(key)) for key in "bc"]))
"""
    assert report_of(program) == [0, 0]


def test_grant_that_nobody_wants_is_given_back_though_its_manager_is_dropped():
    """It is given back after others, whose callback used a manager of its own and dropped it."""
    program = """
import json
from lockcore import LockManager

manager = LockManager()
called = []

def use_another():
    another = LockManager()
    holder = another.acquire(exclusive=["b"])
    another._submit(exclusive=["b"], wake=lambda: False)
    another._submit(exclusive=["b"], wake=lambda: called.append("last"))
    holder.release()

holder = manager.acquire(exclusive=["a"])
manager._submit(exclusive=["a"], wake=lambda: False)
manager._submit(exclusive=["a"], wake=use_another)
holder.release()
print(json.dumps(called))
"""
    assert report_of(program) == ["last"]
