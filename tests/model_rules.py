"""The rules of the executable specification: who is blocked, who is granted, who waits for whom."""

from __future__ import annotations

import dataclasses
import math
import threading
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Self

from lockcore import (
    DeadlockError,
    Holder,
    Key,
    LockConflictError,
    LockTimeoutError,
    ManagerClosedError,
    Mode,
    NotHeldError,
    Owner,
    Waiter,
)
from lockcore._types import key_order
from model_arguments import Prepared, base_owner, checked_timeout

if TYPE_CHECKING:
    Step = tuple["Grant", Key, "Grant"]

NEWCOMER = math.inf
"""The arrival number of a request that has not been queued: later than everybody's."""

WAIT_BOUNDS = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0, math.inf)


# ---- grants ------------------------------------------------------------------------------------


class Grant:
    """A request that holds its keys; before that it may wait, and after that it has ended.

    Its party is who it is held for: requests of one party never conflict. It is the owner, or for a
    request without one something that nobody else has, but for its upgrades.
    """

    def __init__(self, manager: Rules, prepared: Prepared, party: object = None) -> None:
        self._manager = manager
        self._request = prepared.request
        self._messages = prepared.messages
        self._party = party or party_of(prepared.request.owner)
        self._is_upgrade = party is not None
        self._state = "new"  # then perhaps "waiting", then "held", "ended" or "closed"
        self._arrival = NEWCOMER
        self._queued_at: set[Key] = set()
        self._changed_at = 0  # when it last came to wait for more
        self._is_victim = False
        self._upgrades = 0  # under way
        self._since = time.monotonic()
        self._token: int | None = None

    @property
    def owner(self) -> Owner | None:
        return self._request.owner

    @property
    def exclusive(self) -> frozenset[Key]:
        return self._request.exclusive

    @property
    def shared(self) -> frozenset[Key]:
        return self._request.shared

    @property
    def token(self) -> int | None:
        return self._token

    @property
    def is_held(self) -> bool:
        return self._state == "held"

    def release(self) -> None:
        with self._manager._changed:
            self._check_held()
            self._manager._end([self])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        with self._manager._changed:
            if self.is_held:
                self._manager._end([self])

    def downgrade(self) -> None:
        """Holds all its keys shared from now on."""
        with self._manager._changed:
            self._check_held()
            self._request = dataclasses.replace(
                self._request, exclusive=frozenset(), shared=self._keys
            )
            self._manager._reconsider(self._keys)

    def transfer(self, owner: Owner | None) -> None:
        """Is held for another owner from now on."""
        owner = base_owner(owner)
        with self._manager._changed:
            self._check_held()
            if self._upgrades:
                raise RuntimeError("cannot transfer a grant while it is being upgraded")
            former, self._party = self._party, party_of(owner)
            blockers = self._manager._rows_of_hard_blockers(self)
            if blockers:
                self._party = former
                raise LockConflictError(self._request, blockers)
            party, self._party = self._party, former
            self._manager._note_loss(self)
            self._party = party
            self._request = dataclasses.replace(self._request, owner=owner)
            self._manager._note_gain(self)
            self._manager._reconsider(self._keys)

    def upgrade(self, timeout: float | None = None) -> None:
        """Holds all its keys exclusive from now on, under a new token.

        That is: its party acquires the shared ones exclusive, as anybody would.
        """
        seconds = checked_timeout(timeout)
        with self._manager._changed:
            self._check_held()
            if not self.shared:
                return
            self._upgrades += 1
            try:
                upgrade = self._manager._acquire(self._upgrade_request(), seconds, self._party)
            finally:
                self._upgrades -= 1
            if not (self.is_held and upgrade.is_held):
                upgrade.__exit__()
                raise NotHeldError(self._token)
            self._manager._merge(self, upgrade)

    def _upgrade_request(self) -> Prepared:
        prepared = Prepared(exclusive=self.shared, shared=(), owner=self.owner, message=None)
        prepared.request = dataclasses.replace(prepared.request, message=self._request.message)
        prepared.messages = {key: self._messages[key] for key in self.shared}
        return prepared

    def _check_held(self) -> None:
        if not self.is_held:
            raise NotHeldError(self._token)

    def _cancel(self) -> bool:
        """Stops waiting. Returns False when it was granted before, and changes nothing then."""
        with self._manager._changed:
            if self._state == "waiting":
                self._manager._leave(self, "ended")
                return True
            return self._state == "closed"

    def _break_deadlock(self) -> list[tuple[Waiter, Holder | Waiter]] | None:
        """Stops waiting if it can never end and it was its wait that closed the cycle.

        Returns the cycle, or None. If another wait closed it, that one is marked, to end itself.
        """
        with self._manager._changed:
            cycle = self._manager._cycle_through(self) if self._state == "waiting" else None
            if cycle is None:
                self._is_victim = False
                return None
            victim = max((waiter for waiter, _, _ in cycle), key=lambda waiter: waiter._changed_at)
            if not self._is_victim and victim is not self:
                victim._is_victim = True
                self._manager._changed.notify_all()
                return None
            rows = self._manager._cycle_rows(cycle)
            self._manager._leave(self, "ended")
            self._manager._counts["deadlocks"] += 1
            return rows

    @property
    def _keys(self) -> frozenset[Key]:
        return self.exclusive | self.shared


def party_of(owner: Owner | None) -> object:
    """Who an owner is. Nobody else is who has no name."""
    return object() if owner is None else ("owner", type(owner), owner)


def same_owner(a: Grant, b: Grant) -> bool:
    """Whether two requests are made on one party's behalf."""
    return a._party == b._party


def conflict(a: Grant, b: Grant, key: Key) -> bool:
    """Whether two requests cannot both hold a key: all pairs but shared with shared."""
    return Mode.EXCLUSIVE in (a._request.mode_of(key), b._request.mode_of(key))


# ---- the rules ---------------------------------------------------------------------------------


class Rules:
    """What is held and who waits, and the rules for both."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._held: list[Grant] = []
        self._waiting: list[Grant] = []
        self._tokens = 0
        self._arrivals = 0
        self._events = 0
        self._closed = False
        self._counts = {"acquired": 0, "refused": 0, "waits": 0, "timeouts": 0, "deadlocks": 0}
        self._wait_counts = [0] * len(WAIT_BOUNDS)

    # -- who is blocked --

    def _hard_blockers(self, request: Grant, key: Key) -> list[Grant]:
        """Holders of the key that have another owner and a conflicting mode."""
        return [
            holder
            for holder in self._held
            if key in holder._keys
            and not same_owner(holder, request)
            and conflict(holder, request, key)
        ]

    def _soft_blockers(self, request: Grant, key: Key) -> list[Grant]:
        """Waiters queued at the key, earlier, of another owner and in a conflicting mode.

        There are none if the request's owner already holds the key.
        """
        if any(key in holder._keys and same_owner(holder, request) for holder in self._held):
            return []
        return [
            waiter
            for waiter in self._waiting
            if key in waiter._queued_at
            and waiter._arrival < request._arrival
            and not same_owner(waiter, request)
            and conflict(waiter, request, key)
        ]

    def _is_blocked(self, request: Grant, key: Key) -> bool:
        return bool(self._hard_blockers(request, key) or self._soft_blockers(request, key))

    def _blocked_at(self, request: Grant) -> set[Key]:
        """The keys at which the request is blocked now."""
        return {key for key in request._keys if self._is_blocked(request, key)}

    # -- granting and queueing --

    def _grant(self, request: Grant) -> None:
        """Grants the request whole: it leaves all queues and holds all keys."""
        if request._state == "waiting":
            self._stop_waiting(request)
        self._tokens += 1
        self._counts["acquired"] += 1
        request._token = self._tokens
        request._since = time.monotonic()
        request._state = "held"
        self._held.append(request)
        self._note_gain(request)

    def _queue(self, request: Grant) -> None:
        """Gives the request its arrival number and queues it at exactly the keys that block it."""
        self._arrivals += 1
        self._counts["waits"] += 1
        request._arrival = self._arrivals
        request._since = time.monotonic()
        request._queued_at = self._blocked_at(request)
        request._state = "waiting"
        self._waiting.append(request)
        self._note_wait(request)

    def _stop_waiting(self, request: Grant) -> None:
        self._waiting.remove(request)
        request._queued_at = set()
        waited_for = time.monotonic() - request._since
        bin_ = next(i for i, bound in enumerate(WAIT_BOUNDS) if waited_for < bound)
        self._wait_counts[bin_] += 1

    def _reconsider(self, changed: Iterable[Key]) -> None:
        """Grants what can now run, after keys have lost holders or waiters."""
        changed = frozenset(changed)
        self._try({waiter: waiter._queued_at & changed for waiter in self._waiting})

    def _reconsider_owner(self, newcomer: Grant) -> None:
        """Grants what can now run, after an owner has gained keys and may pass others there."""
        self._try(self._places_opened_by(newcomer))

    def _places_opened_by(self, grant: Grant) -> dict[Grant, set[Key]]:
        """The places of the owner's waiters at the keys it has gained."""
        return {
            waiter: waiter._queued_at & grant._keys
            for waiter in self._waiting
            if same_owner(waiter, grant)
        }

    def _try(self, places: dict[Grant, set[Key]]) -> None:
        """Tries waiters in order of arrival, given the places where something changed for each.

        A waiter that is no longer blocked at one of them is tried as a whole. If it is still
        blocked elsewhere, it is queued at every further key that blocks it now, and keeps the
        places it has. If not, it is granted, and what its owner gains by that may open places to
        the owner's other waiters.
        """
        while places:
            waiter = min(places, key=lambda waiter: waiter._arrival)
            if all(self._is_blocked(waiter, key) for key in places.pop(waiter)):
                continue
            blocked_at = self._blocked_at(waiter)
            if blocked_at and not blocked_at <= waiter._queued_at:
                waiter._queued_at |= blocked_at
                self._note_wait(waiter)
            if not blocked_at:
                self._grant(waiter)
                for other, opened in self._places_opened_by(waiter).items():
                    places[other] = places.get(other, set()) | opened
        self._changed.notify_all()

    def _submit_prepared(
        self, prepared: Prepared, *, may_wait: bool, party: object = None
    ) -> Grant:
        """Grants a newcomer at once if it is blocked nowhere; else queues it, if it may wait."""
        if self._closed:
            raise ManagerClosedError(prepared.request)
        newcomer = Grant(self, prepared, party)
        if not self._blocked_at(newcomer):
            self._grant(newcomer)
            self._reconsider_owner(newcomer)
        elif may_wait:
            self._queue(newcomer)
        else:
            self._counts["refused"] += 1
        return newcomer

    def _leave(self, waiter: Grant, state: str) -> None:
        """Ends a wait without a grant."""
        places = waiter._queued_at
        self._stop_waiting(waiter)
        waiter._state = state
        self._reconsider(places)

    def _end(self, grants: list[Grant]) -> None:
        """Ends grants, all of them before anybody is reconsidered."""
        for grant in grants:
            self._held.remove(grant)
            grant._state = "ended"
            self._note_loss(grant)
        self._reconsider(key for grant in grants for key in grant._keys)

    def _acquire(self, prepared: Prepared, timeout: float, party: object = None) -> Grant:
        """Waits until the request is held, for so long at most.

        Whatever it raises, nothing is held and nobody is queued.
        """
        deadline = time.monotonic() + timeout
        with self._changed:
            request = self._submit_prepared(prepared, may_wait=timeout > 0, party=party)
            if request._state == "new":
                raise LockConflictError(prepared.request, self._blocker_rows(request))
            try:
                while request._state == "waiting" and time.monotonic() < deadline:
                    self._raise_if_deadlocked(request)
                    left = min(deadline - time.monotonic(), threading.TIMEOUT_MAX)
                    self._changed.wait(max(left, 0))
            except BaseException:
                request._cancel()
                request.__exit__()
                raise
            self._time_out_if_due(request, deadline, timeout)
            if request._state == "closed":
                raise ManagerClosedError(prepared.request)
            return request

    def _raise_if_deadlocked(self, request: Grant) -> None:
        if (cycle := request._break_deadlock()) is not None:
            raise DeadlockError(request._request, cycle)

    def _time_out_if_due(self, request: Grant, deadline: float, timeout: float) -> None:
        with self._changed:
            if request._state == "waiting" and time.monotonic() >= deadline:
                blockers = self._blocker_rows(request)
                self._leave(request, "ended")
                self._counts["timeouts"] += 1
                raise LockTimeoutError(request._request, blockers, timeout)

    def _merge(self, grant: Grant, upgrade: Grant) -> None:
        """Puts a grant in the place of its own upgrade."""
        self._held.remove(grant)
        self._held[self._held.index(upgrade)] = grant
        upgrade._state = "ended"
        grant._token = upgrade._token
        grant._request = dataclasses.replace(
            grant._request, exclusive=grant._keys, shared=frozenset()
        )

    # -- who waits for whom --

    def _cycle_through(self, origin: Grant) -> list[Step] | None:
        """The shortest way from a waiter back to itself: who waits, at which key, for whom.

        A waiter waits for the party that holds a key, and so for whatever that party waits for; or
        for an earlier waiter, and what that one waits for.
        """
        ways: dict[Grant, list[Step]] = {origin: []}
        to_visit = [origin]
        for waiter in to_visit:
            for key, blocker in self._waits_for(waiter):
                way = [*ways[waiter], (waiter, key, blocker)]
                next_ones = [blocker]
                if blocker.is_held:
                    next_ones = [each for each in self._waiting if same_owner(each, blocker)]
                if blocker is origin or (blocker.is_held and same_owner(blocker, origin)):
                    return way
                for each in next_ones:
                    if each not in ways:
                        ways[each] = way
                        to_visit.append(each)
        return None

    def _waits_for(self, waiter: Grant) -> list[tuple[Key, Grant]]:
        return [
            (key, blocker)
            for key in sorted(waiter._queued_at, key=key_order)
            for blocker in self._hard_blockers(waiter, key) + self._soft_blockers(waiter, key)
        ]

    def _note_wait(self, waiter: Grant) -> None:
        """Notes that a request waits for more than before. Who did so last has closed a cycle."""
        self._events += 1
        waiter._changed_at = self._events

    def _note_gain(self, grant: Grant) -> None:
        """Notes that those who wait for these keys now wait for what the party waits for."""
        for waiter in self._waiting:
            if same_owner(waiter, grant):
                self._note_wait(waiter)

    def _note_loss(self, grant: Grant) -> None:
        """Notes that the party may no longer pass those who came earlier."""
        for waiter in self._waiting:
            if same_owner(waiter, grant) and waiter._queued_at & grant._keys:
                self._note_wait(waiter)

    # -- rows --

    def _holder_row(self, grant: Grant, key: Key, now: float) -> Holder:
        assert grant._token is not None
        return Holder(
            key=key,
            mode=grant._request.mode_of(key),
            owner=grant.owner,
            message=grant._messages[key],
            token=grant._token,
            held_for=now - grant._since,
        )

    def _waiter_row(self, waiter: Grant, key: Key, now: float) -> Waiter:
        return Waiter(
            key=key,
            mode=waiter._request.mode_of(key),
            owner=waiter.owner,
            message=waiter._messages[key],
            waited_for=now - waiter._since,
        )

    def _blocker_rows(self, request: Grant) -> list[Holder | Waiter]:
        now = time.monotonic()  # once: ages of one listing can be compared
        rows: list[Holder | Waiter] = []
        for key in request._keys:
            rows += [self._holder_row(g, key, now) for g in self._hard_blockers(request, key)]
            rows += [self._waiter_row(w, key, now) for w in self._soft_blockers(request, key)]
        return rows

    def _rows_of_hard_blockers(self, request: Grant) -> list[Holder]:
        now = time.monotonic()
        return [
            self._holder_row(holder, key, now)
            for key in request._keys
            for holder in self._hard_blockers(request, key)
        ]

    def _cycle_rows(self, cycle: list[Step]) -> list[tuple[Waiter, Holder | Waiter]]:
        now = time.monotonic()
        return [
            (
                self._waiter_row(waiter, key, now),
                self._holder_row(blocker, key, now)
                if blocker.is_held
                else self._waiter_row(blocker, key, now),
            )
            for waiter, key, blocker in cycle
        ]
