"""Seconds of what run.py does for minutes."""

from __future__ import annotations

import random

import pytest
from stress_histories import check_histories
from stress_workload import Round, frequent_switches, run_rounds

from lockcore import LockManager
from model import ModelManager

SECONDS = 3.0


@pytest.fixture
def seed() -> str:
    """A new one each time; pytest-randomly has seeded the generator that draws it."""
    return str(random.getrandbits(32))


def test_threads_and_tasks_under_stress_exclude_each_other_and_leave_nothing(seed):
    counts = run_rounds(seed, SECONDS)
    assert counts["acquired"] > 100
    assert counts["writes"] + counts["reads"] > 10


def test_concurrent_histories_are_linearizable(seed):
    with frequent_switches():
        counts = check_histories(LockManager, seed, SECONDS)
    assert counts["histories"] > counts["undecided"]


def test_histories_of_the_model_are_linearizable(seed):
    assert check_histories(ModelManager, seed, 0.5)["histories"] > 0


def test_stress_finds_a_manager_that_does_not_exclude():
    # Two managers that take turns: half of what excludes each other does not meet.
    class Broken(Round):
        def acquire(self, draw, **request):
            self.manager, self.other = self.other, self.manager
            return super().acquire(draw, **request)

        def __init__(self, seed):
            super().__init__(seed)
            self.other, self.is_clearing, self.n_threads, self.n_loops = LockManager(), False, 4, 0

    def run_broken_rounds():
        with frequent_switches():
            for number in range(20):
                Broken(f"broken/{number}").run(0.5)

    with pytest.raises(AssertionError):
        run_broken_rounds()
