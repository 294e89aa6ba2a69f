"""Model and core side by side: the same calls, the same answers, after every step."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import hypothesis
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, precondition, rule

from lockcore import Holder, LockConflictError, LockError, LockManager, Message, Mode, Waiter
from model import ModelManager

if TYPE_CHECKING:
    from collections.abc import Callable

KEYS = ["a", "b", ("a", "b"), 1]
OWNERS = ["x", "y", 1]
MODES = [Mode.SHARED, Mode.EXCLUSIVE]

MESSAGES = ["BUSY", Message("BUSY", n=1)]

keys = st.one_of(
    st.lists(st.sampled_from(KEYS), max_size=3, unique=True),
    st.dictionaries(st.sampled_from(KEYS), st.sampled_from([None, *MESSAGES]), max_size=3),
)
requests = st.fixed_dictionaries(
    {"exclusive": keys, "shared": keys, "owner": st.sampled_from([None, None, *OWNERS])},
    optional={"message": st.sampled_from(MESSAGES)},
)


def ageless(row: Holder | Waiter) -> Holder | Waiter:
    """The row without its age, the one thing that may differ."""
    if isinstance(row, Holder):
        return dataclasses.replace(row, held_for=0.0)
    return dataclasses.replace(row, waited_for=0.0)


def outcome(call: Callable[[], Any]) -> Any:
    """What a call did, in values that can be compared."""
    try:
        return call()
    except LockConflictError as error:
        return type(error), error.request, [ageless(row) for row in error.blockers]
    except LockError as error:
        return (type(error),)


def face(grant: Any) -> Any:
    """All that a grant says about itself."""
    if grant is None or isinstance(grant, tuple):
        return grant
    state = grant._state
    token = grant.token if state == "held" else None
    return state, token, grant.owner, grant.exclusive, grant.shared, grant.is_held


def look(manager: Any) -> dict[str, Any]:
    """All that a manager shows."""
    statistics = manager.statistics()
    return {
        "holders": {key: [ageless(row) for row in manager.holders(key)] for key in KEYS},
        "waiters": {key: [ageless(row) for row in manager.waiters(key)] for key in KEYS},
        "snapshot": [ageless(row) for row in manager.snapshot()],
        "owned": {owner: [ageless(row) for row in manager.owned_by(owner)] for owner in OWNERS},
        "held": (len(manager), [key in manager for key in KEYS]),
        "closed": manager.closed,
        "statistics": dataclasses.replace(statistics, wait_histogram=()),
        "waits ended": sum(count for _, count in statistics.wait_histogram),
    }


class SideBySide(RuleBasedStateMachine):
    """Every rule makes one call on both managers and compares what came of it."""

    grants = Bundle("grants")
    new_core: Callable[[], Any] = LockManager

    def __init__(self) -> None:
        super().__init__()
        self.model, self.core = ModelManager(), type(self).new_core()
        self.pairs: list[tuple[Any, Any]] = []
        self.to_look: list[tuple[Any, Any]] = []  # for a deadlock: they wait anew, or were woken
        self.steps = 0

    def both(self, call: Callable[[Any], Any], see: Callable[[Any], Any] = lambda answer: answer):
        """Makes the call on both managers; returns both answers."""
        self.steps += 1
        answers = outcome(lambda: call(self.model)), outcome(lambda: call(self.core))
        assert see(answers[1]) == see(answers[0])
        return answers

    def remember(self, pair: tuple[Any, Any]) -> Any:
        if pair[0] is None or isinstance(pair[0], tuple):
            return hypothesis.stateful.multiple()
        self.pairs.append(pair)
        return pair

    @rule(target=grants, request=requests)
    def submit(self, request):
        pair = []

        def wake():
            self.to_look += pair

        def call(manager):
            callback = {"wake": wake} if manager is self.core else {}
            return manager._submit(**request, **callback)

        pair.append(self.both(call, face))
        self.to_look += pair
        return self.remember(pair[0])

    @rule(target=grants, request=requests)
    def try_acquire(self, request):
        return self.remember(self.both(lambda manager: manager.try_acquire(**request), face))

    @rule(target=grants, request=requests)
    def acquire_without_waiting(self, request):
        return self.remember(self.both(lambda manager: manager.acquire(**request, timeout=0), face))

    @rule(pair=grants)
    def release(self, pair):
        answers = outcome(pair[0].release), outcome(pair[1].release)
        # A request that was never granted has no token to be named by.
        if pair[0].token is not None:
            assert answers[1] == answers[0]
        assert type(answers[1]) is type(answers[0])

    @rule(pair=grants)
    def downgrade(self, pair):
        self.change(pair, lambda grant: grant.downgrade())

    @rule(pair=grants, owner=st.sampled_from([None, *OWNERS]))
    def transfer(self, pair, owner):
        self.change(pair, lambda grant: grant.transfer(owner))

    @rule(pair=grants)
    def upgrade_without_waiting(self, pair):
        self.change(pair, lambda grant: grant.upgrade(timeout=0))

    def change(self, pair, call):
        in_model, in_core = (outcome(lambda grant=grant: call(grant)) for grant in pair)
        assert in_core == in_model

    @rule()
    def look_for_deadlocks(self):
        """Does for each waiter what its thread would do; after that, no cycle is left."""
        while self.to_look:
            in_model, in_core = self.to_look.pop(0)
            if isinstance(in_model, tuple) or in_model._state != "waiting":
                continue
            rows = in_core._break_deadlock()
            if rows is None:
                continue
            assert self.model._cycle_through(in_model) is not None
            self.check_cycle(in_core, rows[::2], rows[1::2])
            in_model._is_victim = True
            assert in_model._break_deadlock() is not None
        assert not any(self.model._cycle_through(waiter) for waiter in self.model._waiting)

    def check_cycle(self, victim, waiters, blockers):
        """Each step is true in the model, and leads to the next, the last to the first."""
        assert waiters[0][2] == victim.owner
        for waiter, blocker, following in zip(
            waiters, blockers, [*waiters[1:], waiters[0]], strict=True
        ):
            assert (waiter[0], waiter[4]) == (blocker[0], True)
            assert Mode.EXCLUSIVE in (MODES[waiter[1]], MODES[blocker[1]])
            assert blocker[2] == following[2]
            for row in (waiter, blocker):
                rows = (self.model.waiters if row[4] else self.model.holders)(row[0])
                assert (MODES[row[1]], row[2], row[3]) in [
                    (other.mode, other.owner, other.message) for other in rows
                ]

    @rule(pair=grants)
    def cancel(self, pair):
        assert pair[1]._cancel() == pair[0]._cancel()

    @rule(key=st.sampled_from(KEYS))
    def force_release(self, key):
        self.both(lambda manager: manager.force_release(key))

    @rule(owner=st.sampled_from(OWNERS))
    def release_all(self, owner):
        self.both(lambda manager: manager.release_all(owner))

    @precondition(lambda self: self.steps > 10)
    @rule()
    def clear(self):
        self.both(lambda manager: manager.clear())

    @precondition(lambda self: self.steps > 30)
    @rule()
    def close(self):
        self.both(lambda manager: manager.close())

    @invariant()
    def grants_say_the_same(self):
        for in_model, in_core in self.pairs:
            assert face(in_core) == face(in_model)

    @invariant()
    def managers_show_the_same(self):
        assert look(self.core) == look(self.model)

    @invariant()
    def no_conflicting_modes_are_held(self):
        for key in KEYS:
            rows = self.core.holders(key)
            writers = {row.owner or row.token for row in rows if row.mode is Mode.EXCLUSIVE}
            parties = {row.owner or row.token for row in rows}
            assert not writers or len(parties) == 1

    @invariant()
    def nobody_waits_whom_nothing_blocks(self):
        for waiter in self.model._waiting:
            assert self.model._blocked_at(waiter) & waiter._queued_at

    def teardown(self):
        self.look_for_deadlocks()
        self.core.close()


SideBySide.TestCase.settings = hypothesis.settings(max_examples=50, stateful_step_count=50)
TestSideBySide = SideBySide.TestCase
