"""Large requests let go of the GIL, and so meet others inside the table."""

from __future__ import annotations

import random
import sys

import pytest

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
