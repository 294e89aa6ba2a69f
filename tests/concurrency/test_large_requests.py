"""Large requests let go of the GIL, and so meet others inside the table."""

from __future__ import annotations

import random
import sys
import sysconfig

import pytest

from support import report_of

N_KEYS = 600
N_LARGE = 300
N_SMALL = 10_000


@pytest.fixture
def frequent_switches():
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(interval)


@pytest.mark.usefixtures("frequent_switches")
def test_large_and_small_requests_exclude_each_other(lock_manager, background):
    values = [0] * N_KEYS

    def write(keys):
        with lock_manager.acquire(exclusive=keys):
            read = [values[key] for key in keys]
            for key, value in zip(keys, read, strict=True):
                values[key] = value + 1
        return len(keys)

    def write_many(seed):
        draw = random.Random(seed)
        sizes = (draw.randrange(300, 500) for _ in range(N_LARGE))
        return sum(write(draw.sample(range(N_KEYS), size)) for size in sizes)

    def write_one_by_one(seed):
        draw = random.Random(seed)
        return sum(write([draw.randrange(N_KEYS)]) for _ in range(N_SMALL))

    writers = [
        background(writer, number)
        for writer in (write_many, write_one_by_one)
        for number in range(2)
    ]
    n_writes = sum(writer.result() for writer in writers)
    assert sum(values) == n_writes
    assert len(lock_manager) == 0


@pytest.mark.skipif(
    bool(sysconfig.get_config_var("Py_GIL_DISABLED")), reason="the GIL is what this is about"
)
def test_grant_of_another_manager_is_given_back_with_the_gil():
    """A large release lets go of the GIL for its own table only."""
    program = """
import json, operator, sys, threading, time
from lockcore import LockManager

sys.setswitchinterval(1e-6)
large, small = LockManager(), LockManager()
large_holder, small_holder = large.acquire(exclusive=range(300)), small.acquire(exclusive=["x"])
unwanted = small._submit(exclusive=["x"], wake=lambda: False)
# So many that they take a while. Their callback runs nothing that lets go of the GIL.
behind = [small._submit(shared=["x"], wake=list) for _ in range(50_000)]
looking = threading.Lock()
looking.acquire()

def wake():
    small_holder.release()  # grants what is to be given back, but not while we give back
    looking.acquire()

large._submit(exclusive=[1], wake=lambda: False)
large._submit(exclusive=[1], wake=wake)
releaser = threading.Thread(target=large_holder.release)
releaser.start()
states = set()  # each seen with the GIL: both in one call
looking.release()
while releaser.is_alive():
    states.add(tuple(map(operator.attrgetter("_state"), (unwanted, behind[-1]))))
    time.sleep(0)
print(json.dumps([("ended", "waiting") in states, unwanted._state, behind[-1]._state]))
"""
    assert report_of(program) == [False, "ended", "held"]
