"""Seconds of what run.py does for minutes."""

from __future__ import annotations

import random
from typing import Any

import pytest
from stress_histories import Call, Checker, NotLinearizableError, check_histories
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


def call(name: str, began: int, ended: int, result: Any = True, **rest: Any) -> Call:
    grant, token = rest.pop("grant", None), rest.pop("token", None)
    return Call(0, name, rest, grant, began=began, ended=ended, result=result, token=token)


def test_history_in_which_two_hold_in_conflict_is_refused():
    history = [
        call("try_acquire", 0, 10, exclusive=["a"], grant=1, token=1),
        call("try_acquire", 5, 15, shared=["a"], grant=2, token=2),
    ]
    with pytest.raises(NotLinearizableError, match="try_acquire"):
        Checker(history).check()


def test_history_in_which_a_release_came_in_time_is_explained():
    history = [
        call("try_acquire", 0, 10, exclusive=["a"], grant=1, token=1),
        call("try_acquire", 15, 25, shared=["a"], grant=2, token=2),
        call("release", 12, 20, grant=1),
    ]
    assert [each.name for each in Checker(history).check()] == [
        "try_acquire",
        "release",
        "try_acquire",
    ]


def test_history_in_which_a_release_came_too_late_is_refused():
    history = [
        call("try_acquire", 0, 10, exclusive=["a"], grant=1, token=1),
        call("try_acquire", 11, 19, exclusive=["a"], grant=2, token=2),
        call("release", 20, 30, grant=1),
    ]
    with pytest.raises(NotLinearizableError):
        Checker(history).check()


def test_history_in_which_a_waiter_returned_before_its_turn_is_refused():
    history = [
        call("try_acquire", 0, 10, exclusive=["a"], grant=1, token=1),
        call("acquire", 11, 20, exclusive=["a"], grant=2, token=2),
        call("holders", 21, 22, [("'a'", "exclusive", "None")], key="a"),
        call("release", 23, 30, grant=1),
    ]
    with pytest.raises(NotLinearizableError):
        Checker(history).check()


def test_history_in_which_a_later_comer_overtook_a_waiter_is_refused():
    history = [
        call("try_acquire", 0, 10, shared=["a"], grant=1, token=1),
        call("acquire", 11, 60, exclusive=["a"], grant=2, token=3),
        call("holders", 11, 60, [], key="b"),
        call("release", 40, 50, grant=1),
        call("try_acquire", 45, 46, False, exclusive=["a"], grant=3),
        call("try_acquire", 51, 55, shared=["a"], grant=4, token=4),
    ]
    with pytest.raises(NotLinearizableError):
        Checker(history).check()


def test_history_in_which_tokens_fall_at_a_key_is_refused():
    history = [
        call("try_acquire", 0, 10, shared=["a"], grant=1, token=2),
        call("try_acquire", 11, 20, shared=["a"], grant=2, token=1),
    ]
    with pytest.raises(NotLinearizableError):
        Checker(history).check()


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
