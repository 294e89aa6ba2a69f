"""Recorded concurrent histories, checked for linearizability against the model.

Threads call one manager and note when each call began and ended and what it returned. A history is
in order if its calls can be put in one sequence such that none comes before one that had ended
when it began, and the model, making the same calls in that sequence, gives the same answers. The
search is that of Wing and Gong ("Testing and Verifying Concurrent Objects", 1993).

Two of our calls are two steps each. A call that waits is queued in one step; the others then decide
when it is granted, which must be before it returns. A call that gives something back does so in one
step, and grants to those who waited in the next; whoever looks in between sees keys that nobody
holds. Tokens are not compared, but at each key they grow from grant to grant.
"""

from __future__ import annotations

import dataclasses
import random
import threading
import time
from collections.abc import Callable
from typing import Any

from model import ModelManager

MAX_NODES = 200_000
"""Steps tried after which a search is given up, and the history not judged."""


@dataclasses.dataclass(eq=False)
class Call:
    """One call of one thread. `grant` numbers the grants by the calls that made them."""

    thread: int
    name: str
    arguments: dict[str, Any]
    grant: int | None = None
    lets_others_run: bool = False  # before it
    began: int = 0
    ended: int = 0
    result: Any = None
    token: int | None = None

    def __str__(self) -> str:
        what = {key: value for key, value in self.arguments.items() if value}
        return (
            f"[{self.began} {self.ended}] thread {self.thread}: {self.name} "
            f"{what or ''} grant {self.grant} -> {self.result!r} token {self.token}"
        )


# ---- programs ----------------------------------------------------------------------------------

KEYS = ["a", "b", ("g", 1)]


def random_request(draw: random.Random, owner: str | None) -> dict[str, Any]:
    keys = draw.sample(KEYS, draw.choice([1, 1, 2, 3]))
    exclusive = [key for key in keys if draw.random() < 0.5]
    return {
        "exclusive": exclusive,
        "shared": [key for key in keys if key not in exclusive],
        "owner": owner,
    }


def random_program(draw: random.Random, thread: int, n_calls: int, first_grant: int) -> list[Call]:
    """Calls for one thread: it waits only while it holds nothing, so all waits end."""
    calls: list[Call] = []
    held: list[int] = []
    owner = draw.choice([None, f"owner-{thread}", "shared"])
    while len(calls) < n_calls:
        kind = draw.random()
        # Not for an owner with several users: one waits while another holds, which is no deadlock,
        # but which by their owner looks like one.
        if kind < 0.25 and not held and owner != "shared":
            held.append(first_grant + len(calls))
            calls.append(Call(thread, "acquire", random_request(draw, owner), held[-1]))
        elif kind < 0.55:
            held.append(first_grant + len(calls))
            calls.append(Call(thread, "try_acquire", random_request(draw, owner), held[-1]))
        elif kind < 0.8 and held:
            calls.append(Call(thread, "release", {}, held.pop(draw.randrange(len(held)))))
        elif kind < 0.85 and held:
            calls.append(Call(thread, "downgrade", {}, draw.choice(held)))
        elif kind < 0.95:
            calls.append(Call(thread, "holders", {"key": draw.choice(KEYS)}))
        else:
            calls.append(Call(thread, "snapshot", {}))
    calls += [Call(thread, "release", {}, grant) for grant in held]
    for call in calls:
        call.lets_others_run = draw.random() < 0.5
    return calls


def rows_of(rows: list[Any]) -> list[Any]:
    """What can be compared of holders: not their ages, and tokens not here."""
    return sorted((repr(row.key), str(row.mode), repr(row.owner)) for row in rows)


# ---- recording ---------------------------------------------------------------------------------


class Recorder:
    """Runs programs in threads over one manager."""

    def __init__(self, manager: Any, programs: list[list[Call]]) -> None:
        self.manager = manager
        self.programs = programs
        self.grants: dict[int, Any] = {}

    def make(self, call: Call) -> Any:
        if call.name in {"acquire", "try_acquire"}:
            assert call.grant is not None
            grant = getattr(self.manager, call.name)(**call.arguments)
            self.grants[call.grant] = grant
            call.token = grant.token if grant is not None else None
            return grant is not None
        if call.name in {"release", "downgrade"}:
            assert call.grant is not None
            grant = self.grants[call.grant]
            if grant is None:
                return None  # it was refused: there is nothing to do
            getattr(grant, call.name)()
            return True
        if call.name == "holders":
            return rows_of(self.manager.holders(call.arguments["key"]))
        return rows_of(self.manager.snapshot())

    def run(self) -> list[Call]:
        """Returns the calls that did something, with their times and results."""
        start = threading.Barrier(len(self.programs))
        errors: list[BaseException] = []

        def play(program: list[Call]) -> None:
            start.wait()
            try:
                for call in program:
                    if call.lets_others_run:
                        time.sleep(0)
                    call.began = time.perf_counter_ns()
                    call.result = self.make(call)
                    call.ended = time.perf_counter_ns()
            except BaseException as error:  # noqa: BLE001 - raised below
                errors.append(error)

        threads = [
            threading.Thread(target=play, args=(program,), daemon=True) for program in self.programs
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
            assert not thread.is_alive(), f"it hangs: {self.manager.snapshot()}"
        if errors:
            raise errors[0]
        return [call for program in self.programs for call in program if call.result is not None]


# ---- checking ----------------------------------------------------------------------------------


class NotLinearizableError(AssertionError):
    """No sequence of the calls explains what they returned."""


class UndecidedError(Exception):
    """The search took too long."""


class Checker:
    """Searches for a sequence that explains a history."""

    def __init__(self, history: list[Call]) -> None:
        self.history = sorted(history, key=lambda call: call.began)
        self.nodes = 0
        # Steps are numbers: a call's, and for its second half that and how many calls there are.
        self.n = len(self.history)
        self.must_follow = [
            {j for j, other in enumerate(self.history) if other.ended < call.began}
            for call in self.history
        ]
        self.token_of = {call.grant: call.token for call in self.history if call.token is not None}

    def check(self) -> list[Call]:
        """Returns the sequence.

        Raises:
            NotLinearizableError: There is none.
            UndecidedError: The search took too long.
        """
        dead_ends: set[Any] = set()
        path: list[int] = []
        options = [self.options(path)]
        while options:
            if options[-1]:
                step = options[-1].pop()
                state = self.play([*path, step])
                if state is None or state in dead_ends:
                    continue
                dead_ends.add(state)  # whatever comes of it, once is enough
                path.append(step)
                _, waiting, _ = state
                if self.is_complete(path) and not waiting:
                    return [self.history[step] for step in path if step < self.n]
                options.append(self.options(path))
            else:
                options.pop()
                if path:
                    path.pop()
        raise NotLinearizableError("\n".join(map(str, self.history)))

    def has_second_half(self, step: int) -> bool:
        return self.history[step].name in {"release", "downgrade"}

    def is_complete(self, path: list[int]) -> bool:
        return len(path) == self.n + sum(map(self.has_second_half, range(self.n)))

    def options(self, path: list[int]) -> list[int]:
        """The steps that may come next by their times."""
        done = set(path)
        over = {
            step
            for step in done
            if step < self.n and (not self.has_second_half(step) or step + self.n in done)
        }
        options = [
            step for step in range(self.n) if step not in done and self.must_follow[step] <= over
        ]
        seconds = [
            step + self.n
            for step in range(self.n)
            if step in done and self.has_second_half(step) and step + self.n not in done
        ]
        return options + seconds

    def play(self, path: list[int]) -> Any:
        """Makes the steps in the model. Returns a state, or None if its answers differ."""
        self.nodes += 1
        if self.nodes > MAX_NODES:
            raise UndecidedError
        model = ModelManager()
        grants: dict[int, Any] = {}
        with model._changed:
            for position, step in enumerate(path):
                call = self.history[step % self.n]
                before = self.held(grants)
                if step >= self.n:
                    model._reconsider(grants[call.grant]._keys)
                elif not self.agrees(model, grants, call, path[:position]):
                    return None
                if not self.tokens_grow(grants, self.held(grants) - before, before):
                    return None
        waiting = tuple(
            (number, frozenset(grant._queued_at))
            for number, grant in sorted(grants.items(), key=lambda item: item[1]._arrival)
            if grant._state == "waiting"
        )
        return frozenset(path), waiting, frozenset(self.held(grants))

    def agrees(
        self, model: ModelManager, grants: dict[int, Any], call: Call, before: list[int]
    ) -> bool:
        """Makes a call in the model. Returns whether it may return what was returned."""
        for step in before:
            # What waits must have been granted by now if it had returned when this began.
            other = self.history[step % self.n]
            if (
                other.name == "acquire"
                and other.ended < call.began
                and grants[other.grant]._state == "waiting"
            ):
                return False
        if call.name == "acquire":
            grants[call.grant] = model._submit(**call.arguments)
            return True
        if call.name == "try_acquire":
            grant = model.try_acquire(**call.arguments)
            if grant is not None:
                grants[call.grant] = grant
            return (grant is not None) == call.result
        if call.name == "holders":
            return rows_of(model.holders(call.arguments["key"])) == call.result
        if call.name == "snapshot":
            return rows_of(model.snapshot()) == call.result
        grant = grants.get(call.grant)
        if grant is None or not grant.is_held:
            return False
        if call.name == "release":
            model._held.remove(grant)
            grant._state = "ended"
        else:
            keys = grant._keys
            grant._request = dataclasses.replace(grant._request, exclusive=frozenset(), shared=keys)
        return True

    @staticmethod
    def held(grants: dict[int, Any]) -> set[int]:
        return {number for number, grant in grants.items() if grant.is_held}

    def tokens_grow(self, grants: dict[int, Any], new: set[int], old: set[int]) -> bool:
        """Whether what is new has later tokens than what is held at the same keys."""
        return all(
            self.token_of[one] > self.token_of[other]
            for one in new
            for other in old
            if grants[other].is_held and grants[one]._keys & grants[other]._keys
        )


def check_histories(
    new_manager: Callable[[], Any], seed: str, seconds: float, n_threads: int = 3, n_calls: int = 5
) -> dict[str, int]:
    """Records and checks histories for so long. Returns how many, and how long they were.

    Raises:
        NotLinearizableError: With the history, and the seed that draws its programs again.
    """
    counts = {"histories": 0, "calls": 0, "overlapping": 0, "undecided": 0, "steps": 0}
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        name = f"{seed}/{counts['histories']}"
        draw = random.Random(name)
        programs = [
            random_program(draw, thread, n_calls, 100 * thread) for thread in range(n_threads)
        ]
        history = Recorder(new_manager(), programs).run()
        checker = Checker(history)
        try:
            checker.check()
        except UndecidedError:
            counts["undecided"] += 1
        except NotLinearizableError as error:
            error.add_note(f"its programs: python tests/stress/run.py --history {name}")
            raise
        counts["histories"] += 1
        counts["calls"] += len(history)
        counts["steps"] += checker.nodes
        counts["overlapping"] += sum(
            any(
                one.began < other.ended and other.began < one.ended
                for other in history
                if other is not one
            )
            for one in history
        )
    return counts
