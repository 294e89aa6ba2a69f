"""The judge of histories, judged: for each operation by a history that is in order, and one not.

Times are small numbers: those of calls that overlap may have come in either order.
"""

from __future__ import annotations

from typing import Any

import pytest
from stress_checker import Call, Checker, NotLinearizableError
from stress_histories import check_histories
from stress_workload import frequent_switches

from model import ModelManager

A_EXCLUSIVE = ("'a'", "exclusive", "None")


def call(name: str, began: int, ended: int, result: Any, **rest: Any) -> Call:
    fields = {key: rest.pop(key) for key in ("grant", "token") if key in rest}
    return Call(0, name, rest, began=began, ended=ended, result=result, **fields)


def granted(began: int, ended: int, grant: int, name: str = "try_acquire", **keys: Any) -> Call:
    return call(name, began, ended, "granted", grant=grant, **keys)


def release(began: int, ended: int, grant: int, result: str = "done") -> Call:
    return call("release", began, ended, result, grant=grant)


def check_that_only(explained: list[Call], refused: list[Call]) -> None:
    """Two histories that differ in what matters."""
    Checker(explained).check()
    with pytest.raises(NotLinearizableError):
        Checker(refused).check()


def test_history_in_which_two_hold_in_conflict_is_refused():
    history = [granted(0, 10, 1, exclusive=["a"]), granted(5, 15, 2, shared=["a"])]
    with pytest.raises(NotLinearizableError, match="try_acquire"):
        Checker(history).check()


def test_history_in_which_a_release_came_in_time_is_explained():
    history = [
        granted(0, 10, 1, exclusive=["a"]),
        granted(15, 25, 2, shared=["a"]),
        release(12, 20, 1),
    ]
    names = [each.name for each in Checker(history).check()]
    assert names == ["try_acquire", "release", "try_acquire"]


def test_history_in_which_a_release_came_too_late_is_refused():
    history = [
        granted(0, 10, 1, exclusive=["a"]),
        granted(11, 19, 2, exclusive=["a"]),
        release(20, 30, 1),
    ]
    with pytest.raises(NotLinearizableError):
        Checker(history).check()


def test_history_in_which_a_grant_ends_twice_is_refused():
    first = granted(0, 10, 1, exclusive=["a"])
    once = [first, release(11, 20, 1), release(21, 30, 1, "not held")]
    check_that_only(once, [first, release(11, 20, 1), release(21, 30, 1)])


def test_history_in_which_a_waiter_returned_before_its_turn_is_refused():
    history = [
        granted(0, 10, 1, exclusive=["a"]),
        granted(11, 20, 2, "acquire", exclusive=["a"]),
        call("holders", 21, 22, [A_EXCLUSIVE], key="a"),
        release(23, 30, 1),
    ]
    with pytest.raises(NotLinearizableError):
        Checker(history).check()


def test_history_in_which_a_later_comer_overtook_a_waiter_is_refused():
    history = [
        granted(0, 10, 1, shared=["a"]),
        granted(11, 60, 2, "acquire", exclusive=["a"], token=3),
        release(40, 50, 1),
        call("waiters", 20, 21, [A_EXCLUSIVE], key="a"),
        granted(25, 30, 4, shared=["a"], token=4),
    ]
    with pytest.raises(NotLinearizableError):
        Checker(history).check()


def test_history_in_which_tokens_fall_at_a_key_is_refused():
    history = [granted(0, 10, 1, shared=["a"], token=2), granted(11, 20, 2, shared=["a"], token=1)]
    with pytest.raises(NotLinearizableError):
        Checker(history).check()


def test_history_in_which_nothing_stood_in_the_way_of_who_was_refused_is_refused():
    def history(*, released_at: int) -> list[Call]:
        return [
            granted(0, 10, 1, exclusive=["a"]),
            release(released_at, released_at + 5, 1),
            call("try_acquire", 20, 30, "refused", grant=2, exclusive=["a"]),
        ]

    check_that_only(history(released_at=28), history(released_at=11))


def test_history_in_which_somebody_timed_out_whom_nothing_blocked_is_refused():
    def history(*, released_at: int) -> list[Call]:
        return [
            granted(0, 10, 1, exclusive=["a"]),
            release(released_at, released_at + 5, 1),
            call("acquire", 20, 40, "timed out", grant=2, exclusive=["a"]),
        ]

    check_that_only(history(released_at=50), history(released_at=11))


@pytest.mark.parametrize("result", ["timed out", "cancelled"])
def test_history_in_which_a_wait_that_ended_without_a_grant_left_something_is_refused(result):
    def history(left: list[Any]) -> list[Call]:
        return [
            granted(0, 10, 1, exclusive=["a"]),
            call("acquire", 11, 20, result, grant=2, exclusive=["a"]),
            call("waiters", 21, 22, left, key="a"),
        ]

    check_that_only(history([]), history([A_EXCLUSIVE]))


def test_history_in_which_a_cancelled_task_kept_its_grant_is_refused():
    def history(holders: list[Any]) -> list[Call]:
        return [
            granted(0, 10, 1, exclusive=["a"]),
            call("acquire", 11, 30, "cancelled", grant=2, exclusive=["a"]),
            release(15, 20, 1),
            call("holders", 21, 22, [A_EXCLUSIVE], key="a"),  # granted before it is cancelled
            call("holders", 31, 32, holders, key="a"),
        ]

    check_that_only(history([]), history([A_EXCLUSIVE]))


def test_history_in_which_a_deadlock_was_none_is_refused():
    def history(second: str) -> list[Call]:
        return [
            granted(0, 10, 1, exclusive=["a"], owner="one"),
            granted(0, 10, 2, exclusive=["b"], owner=second),
            granted(11, 50, 3, "acquire", exclusive=["b"], owner="one"),
            call("acquire", 15, 30, "deadlock", grant=4, exclusive=["a"], owner="two"),
            release(31, 40, 2),
        ]

    check_that_only(history("two"), history("three"))


def test_history_in_which_a_downgrade_let_nobody_in_is_refused():
    def history(result: str) -> list[Call]:
        return [
            granted(0, 10, 1, exclusive=["a"]),
            call("downgrade", 11, 20, "done", grant=1),
            call("try_acquire", 21, 30, result, grant=2, shared=["a"]),
        ]

    check_that_only(history("granted"), history("refused"))


def test_history_in_which_an_upgrade_did_not_exclude_is_refused():
    def history(*, released_at: int) -> list[Call]:
        return [
            granted(0, 10, 1, shared=["a"]),
            granted(0, 10, 2, shared=["a"]),
            call("upgrade", 11, 20, "done", grant=1),
            release(released_at, released_at + 5, 2),
        ]

    check_that_only(history(released_at=12), history(released_at=21))


def test_history_in_which_an_upgrade_kept_its_former_token_is_refused():
    def history(token: int) -> list[Call]:
        return [
            granted(0, 10, 1, shared=["a"], token=1),
            granted(0, 10, 2, shared=["a"], token=2),
            call("upgrade", 11, 20, "done", grant=1, token=token),
            release(12, 19, 2),
            call("downgrade", 21, 30, "done", grant=1),
            granted(31, 40, 3, shared=["a"], token=4),
        ]

    check_that_only(history(3), history(5))


def test_history_in_which_two_upgrades_both_came_through_is_refused():
    def history(result: str) -> list[Call]:
        return [
            granted(0, 10, 1, shared=["a"], owner="one"),
            granted(0, 10, 2, shared=["a"], owner="two"),
            call("upgrade", 11, 50, "done", grant=1),
            call("upgrade", 11, 30, result, grant=2),
            release(31, 40, 2),
        ]

    check_that_only(history("deadlock"), history("done"))


def test_history_in_which_an_upgrade_took_no_notice_of_the_end_of_its_grant_is_refused():
    def history(result: str) -> list[Call]:
        return [
            granted(0, 10, 1, shared=["a"]),
            granted(0, 10, 2, shared=["a"]),
            call("upgrade", 11, 40, result, grant=1),
            call("waiters", 12, 13, [A_EXCLUSIVE], key="a"),
            call("clear", 15, 20, 2),
        ]

    check_that_only(history("not held"), history("done"))


def test_history_in_which_a_transfer_changed_no_owner_is_refused():
    def history(owner: str) -> list[Call]:
        return [
            granted(0, 10, 1, exclusive=["a"], owner="one"),
            call("transfer", 11, 20, "done", grant=1, owner="two"),
            granted(21, 30, 2, exclusive=["a"], owner=owner),
        ]

    check_that_only(history("two"), history("one"))


def test_history_in_which_a_transfer_broke_exclusion_is_refused():
    def history(result: str) -> list[Call]:
        return [
            granted(0, 10, 1, exclusive=["a"], owner="one"),
            granted(0, 10, 2, exclusive=["a"], owner="one"),
            call("transfer", 11, 20, result, grant=1, owner="two"),
        ]

    check_that_only(history("refused"), history("done"))


def test_history_in_which_a_clear_ended_more_or_less_than_it_said_is_refused():
    def history(n: int, result: str) -> list[Call]:
        return [
            granted(0, 10, 1, exclusive=["a"]),
            granted(0, 10, 2, exclusive=["b"]),
            call("clear", 11, 20, n),
            release(21, 30, 1, result),
        ]

    check_that_only(history(2, "not held"), history(1, "not held"))
    check_that_only(history(2, "not held"), history(2, "done"))


def test_history_in_which_a_clear_ended_what_came_later_is_refused():
    def history(began: int) -> list[Call]:
        return [
            granted(0, 10, 1, exclusive=["a"]),
            call("clear", 11, 20, 2),
            granted(began, began + 5, 2, exclusive=["b"]),
        ]

    check_that_only(history(8), history(25))


class ClearsAllButOne(ModelManager):
    def clear(self):
        with self._changed:
            n_grants = len(self._held)
            self._end(self._held[1:])
            return n_grants


class UpgradesNothing(ModelManager):
    def _merge(self, grant, upgrade):
        self._held.remove(upgrade)
        upgrade._state = "ended"


class TransfersInSpiteOfConflicts(ModelManager):
    def _rows_of_hard_blockers(self, request):
        return []


class SeesDeadlocksEverywhere(ModelManager):
    def _cycle_through(self, origin):
        return [(origin, key, blocker) for key, blocker in self._waits_for(origin)]


@pytest.mark.parametrize(
    "broken",
    [ClearsAllButOne, UpgradesNothing, TransfersInSpiteOfConflicts, SeesDeadlocksEverywhere],
)
@pytest.mark.timeout(120)  # a second, mostly; a slow machine may need more
def test_histories_of_a_broken_manager_are_refused(broken):
    with frequent_switches(), pytest.raises(NotLinearizableError):
        check_histories(broken, broken.__name__, 90.0)
