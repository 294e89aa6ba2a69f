"""Explains a recorded history by one sequence of the model's steps, or says that there is none.

A history is in order if its calls can be put in one sequence such that none comes before one that
had ended when it began, and the model, making the same calls in that sequence, gives the same
answers. The search is that of Wing and Gong ("Testing and Verifying Concurrent Objects", 1993).

Most calls are several steps, each atomic, and others may come between them: see `STEPS`. A request
that waits is granted by the steps of others, which must be before its call returns. Tokens are not
compared, but at each key they grow from grant to grant.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

from model import ModelManager
from model_arguments import Prepared
from model_rules import Grant, party_of, same_owner

MAX_NODES = 100_000
"""Steps tried after which a search is given up, and the history not judged."""

WAITED_IN_VAIN = ("submit", "leave", "wake")

STEPS: dict[tuple[str, Any], tuple[str, ...]] = {
    ("acquire", "granted"): ("submit",),
    ("acquire", "timed out"): WAITED_IN_VAIN,
    ("acquire", "deadlock"): WAITED_IN_VAIN,
    ("acquire", "cancelled"): WAITED_IN_VAIN,
    ("try_acquire", "granted"): ("try",),
    ("try_acquire", "refused"): ("try",),
    ("release", "done"): ("release", "wake"),
    ("release", "not held"): ("miss",),
    ("downgrade", "done"): ("downgrade", "wake"),
    ("downgrade", "not held"): ("miss",),
    ("transfer", "done"): ("transfer", "wake"),
    ("transfer", "refused"): ("transfer",),
    ("transfer", "not held"): ("miss",),
    ("upgrade", "done"): ("begin", "submit", "merge"),
    ("upgrade", "timed out"): ("begin", *WAITED_IN_VAIN),
    ("upgrade", "deadlock"): ("begin", *WAITED_IN_VAIN),
    ("upgrade", "not held"): ("begin", "submit", "give up", "wake"),
}
"""The steps of a call, by its name and its outcome.

Giving keys back is one step, and granting them to those who wait the next: whoever looks in between
sees keys that nobody holds. `clear` lists what is held, ends one grant after the other, and grants
only then. An upgrade is a request of its own until it is merged with its grant.
"""


@dataclasses.dataclass(eq=False)
class Call:
    """One call of one program. `grant` numbers the grants by the calls that made them."""

    program: int
    name: str
    arguments: dict[str, Any]
    grant: int | None = None
    timeout: float | None = None
    lets_others_run: bool = False  # before it
    turns: int | None = None  # of its event loop, after which its task is cancelled
    began: int = 0
    ended: int = 0
    result: Any = None
    token: int | None = None

    def __str__(self) -> str:
        what = {key: value for key, value in self.arguments.items() if value}
        return (
            f"[{self.began} {self.ended}] program {self.program}: {self.name} "
            f"{what or ''} grant {self.grant} -> {self.result!r} token {self.token}"
        )

    def steps(self) -> list[str]:
        if self.name in {"holders", "waiters", "snapshot"}:
            return ["look"]
        if self.name == "clear":
            return ["list", "end", "wake"]
        return list(STEPS[self.name, self.result])

    @property
    def request(self) -> Any:
        """What waits when it waits: the grant, or something beside it."""
        return ("upgrade", self.grant, self.began) if self.name == "upgrade" else self.grant


def rows_of(name: str, rows: list[Any]) -> list[Any]:
    """What can be compared of rows: not their ages, not tokens, and the order of waiters only."""
    plain = [(repr(row.key), str(row.mode), repr(row.owner)) for row in rows]
    return plain if name == "waiters" else sorted(plain)


class NotLinearizableError(AssertionError):
    """No sequence of the calls explains what they returned."""


class UndecidedError(Exception):
    """The search took too long."""


class ImpossibleError(Exception):
    """The model would not have answered so."""


def require(claim: object) -> None:
    if not claim:
        raise ImpossibleError


# ---- playing -----------------------------------------------------------------------------------


class World:
    """A model, and how far each call of a history has come in it."""

    def __init__(self, history: list[Call]) -> None:
        self.history = history
        self.model = ModelManager()
        self.todo = [call.steps() for call in history]
        self.grants: dict[Any, Grant] = {}
        self.tokens: dict[Any, int | None] = {}  # as recorded
        self.to_wake: dict[int, frozenset[Any]] = {}  # call to keys
        self.to_clear: dict[int, set[Any]] = {}  # call to grants
        self.cleared: dict[int, set[Any]] = {}

    def state(self) -> Any:
        """All on which it depends what may come."""
        return (
            tuple(map(tuple, self.todo)),
            tuple(
                (number, frozenset(grant._queued_at))
                for number, grant in sorted(self.grants.items(), key=lambda item: item[1]._arrival)
                if grant._state == "waiting"
            ),
            frozenset(self.held()),
            tuple((call, frozenset(left)) for call, left in self.to_clear.items()),
            tuple((call, frozenset(ended)) for call, ended in self.cleared.items()),
        )

    def held(self) -> set[Any]:
        return {number for number, grant in self.grants.items() if grant.is_held}

    def waits(self, call: Call) -> bool:
        request = self.grants.get(call.request)
        return request is not None and request._state == "waiting"

    def is_over(self, number: int) -> bool:
        """Whether the call may have returned."""
        return not self.todo[number] and not self.waits(self.history[number])

    def choices(self, number: int) -> list[Any]:
        """The ways in which a call may go on."""
        if self.todo[number][0] == "end":
            return [*self.to_clear[number]] or [None]
        return [None]

    def play(self, number: int, choice: Any) -> None:
        """Makes the next step of a call.

        Raises:
            ImpossibleError: It cannot be made, or its answer would be another.
        """
        call, step = self.history[number], self.todo[number].pop(0)
        before = self.held()
        with self.model._changed:
            match step:
                case "look":
                    rows = getattr(self.model, call.name)(**call.arguments)
                    require(rows_of(call.name, rows) == call.result)
                case "list":
                    self.to_clear[number], self.cleared[number] = self.held(), set()
                    self.to_wake[number] = frozenset()
                case "end":
                    self.end_one(number, choice)
                case "wake" | "wake siblings":
                    self.wake(number, step)
                case _:
                    self.play_request(number, call, step)
        self.check_tokens(self.held() - before, before)

    def end_one(self, number: int, choice: Any) -> None:
        """Ends one of those that were held when they were listed, if it is held still."""
        left = self.to_clear[number]
        left.discard(choice)
        if choice is not None and self.grants[choice].is_held:
            self.end(number, choice)
            self.cleared[number].add(choice)
        if left:
            self.todo[number].insert(0, "end")
        else:
            # An upgrade under way is part of a grant.
            grants = {each for each in self.cleared[number] if not isinstance(each, tuple)}
            require(len(grants) == self.history[number].result)

    def end(self, number: int, request: Any) -> None:
        grant = self.grants[request]
        self.model._held.remove(grant)
        grant._state = "ended"
        self.to_wake[number] = self.to_wake.get(number, frozenset()) | grant._keys

    def wake(self, number: int, step: str) -> None:
        if step == "wake":
            self.model._reconsider(self.to_wake.get(number, frozenset()))
        else:
            self.model._reconsider_owner(self.grants[self.history[number].request])

    def play_request(self, number: int, call: Call, step: str) -> None:
        match step:
            case "begin":
                is_held = self.grants[call.grant].is_held
                require(is_held or call.result == "not held")
                if not is_held:
                    self.todo[number].clear()
            case "submit" | "try":
                self.submit(number, call, may_wait=step == "submit")
            case "leave":
                self.leave(number, call)
            case "merge":
                grant, upgrade = self.grants[call.grant], self.grants[call.request]
                require(grant.is_held and upgrade.is_held)
                self.model._merge(grant, upgrade)
                self.tokens[call.grant] = call.token
            case "give up":
                upgrade = self.grants[call.request]
                require(upgrade._state != "waiting")
                require(not (upgrade.is_held and self.grants[call.grant].is_held))
                if upgrade.is_held:
                    self.end(number, call.request)
            case "miss":
                require(not self.grants[call.grant].is_held)
            case _:
                require(self.grants[call.grant].is_held)
                self.change(number, call)

    def submit(self, number: int, call: Call, *, may_wait: bool) -> None:
        """Grants at once what nothing blocks, and queues or refuses the rest."""
        if call.name == "upgrade":
            of = self.grants[call.grant]
            request = Grant(self.model, of._upgrade_request(), of._party)
        else:
            keys = {"exclusive": (), "shared": (), "owner": None, "message": None}
            request = Grant(self.model, Prepared(**{**keys, **call.arguments}))
        if self.model._blocked_at(request):
            require(may_wait or call.result == "refused")
            if may_wait:
                self.model._queue(request)
        else:
            require(call.result in {"granted", "done", "not held"})
            self.model._grant(request)
            if any(same_owner(waiter, request) for waiter in self.model._waiting):
                self.todo[number].insert(0, "wake siblings")
        if request._state != "new":
            self.grants[call.request] = request
            self.tokens[call.request] = call.token

    def leave(self, number: int, call: Call) -> None:
        """Ends a wait, or what came of it too late for a task that was cancelled."""
        request = self.grants[call.request]
        if request._state == "waiting":
            require(call.result != "deadlock" or self.model._cycle_through(request))
            self.to_wake[number] = frozenset(request._queued_at)
            self.model._stop_waiting(request)
            request._state = "ended"
        else:
            require(call.result == "cancelled")
            if request.is_held:
                self.end(number, call.request)

    def change(self, number: int, call: Call) -> None:
        grant = self.grants[call.grant]
        if call.name == "release":
            self.end(number, call.grant)
        elif call.name == "downgrade":
            keys = self.to_wake[number] = grant._keys
            grant._request = dataclasses.replace(grant._request, exclusive=frozenset(), shared=keys)
        else:
            owner = call.arguments["owner"]
            former, grant._party = grant._party, party_of(owner)
            is_refused = any(self.model._hard_blockers(grant, key) for key in grant._keys)
            require(is_refused == (call.result == "refused"))
            if is_refused:
                grant._party = former
            else:
                grant._request = dataclasses.replace(grant._request, owner=owner)
                self.to_wake[number] = grant._keys

    def check_tokens(self, new: set[Any], old: set[Any]) -> None:
        """What is new has later tokens than what is held at the same keys."""
        for one in new:
            for other in old:
                if self.grants[other].is_held and self.grants[one]._keys & self.grants[other]._keys:
                    first, second = self.tokens[other], self.tokens[one]
                    require(first is None or second is None or first < second)


# ---- searching ---------------------------------------------------------------------------------


class Checker:
    """Searches for a sequence that explains a history."""

    def __init__(self, history: list[Call]) -> None:
        self.history = sorted(history, key=lambda call: call.began)
        self.nodes = 0
        self.must_follow = [
            [j for j, other in enumerate(self.history) if other.ended < call.began]
            for call in self.history
        ]

    def check(self) -> list[Call]:
        """Returns the calls in the order of their first steps.

        Raises:
            NotLinearizableError: There is none.
            UndecidedError: The search took too long.
        """
        been: set[Any] = set()
        path: list[tuple[int, Any]] = []
        options = [list(self.options(World(self.history)))]
        while options:
            if not options[-1]:
                options.pop()
                path = path[:-1]
                continue
            path.append(options[-1].pop())
            world = self.play(path)
            if world is None or (state := world.state()) in been:
                path.pop()
                continue
            been.add(state)  # whatever comes of it, once is enough
            if all(map(world.is_over, range(len(self.history)))):
                return [self.history[number] for number in dict(path)]
            options.append(list(self.options(world)))
        raise NotLinearizableError("\n".join(map(str, self.history)))

    def options(self, world: World) -> Iterator[tuple[int, Any]]:
        """The steps that may come next by their times."""
        is_over = [world.is_over(number) for number in range(len(self.history))]
        for number in reversed(range(len(self.history))):  # the last is tried first
            if world.todo[number] and all(is_over[other] for other in self.must_follow[number]):
                yield from ((number, choice) for choice in world.choices(number))

    def play(self, path: list[tuple[int, Any]]) -> World | None:
        """Makes all steps anew. Returns None if the last is impossible."""
        self.nodes += 1
        if self.nodes > MAX_NODES:
            raise UndecidedError
        world = World(self.history)
        try:
            for number, choice in path:
                world.play(number, choice)
        except ImpossibleError:
            return None
        return world
