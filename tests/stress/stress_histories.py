"""Records concurrent histories, which `stress_checker` explains by the model or refuses.

Threads, and tasks of one event loop, call one manager and note when each call began and ended and
what it returned. A seed decides what each calls; it does not decide how the calls interleave.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import threading
import time
from collections.abc import Callable
from typing import Any

from stress_checker import Call, Checker, NotLinearizableError, UndecidedError, rows_of

from lockcore import DeadlockError, LockConflictError, LockTimeoutError, NotHeldError

KEYS = ["a", "b", ("g", 1)]
SHORT = 0.001
"""Seconds that a call waits which may not wait for ever."""


# ---- programs ----------------------------------------------------------------------------------


class Program:
    """Calls for one thread, or one task, which end whatever the others call.

    It waits without a limit only while it holds nothing, or if everything it holds is held for an
    owner of its own: then a cycle of those who wait is a deadlock, which is found.
    """

    def __init__(self, draw: random.Random, number: int, n_calls: int) -> None:
        self.draw = draw
        self.number = number
        self.is_task = draw.random() < 0.4
        self.owner = draw.choice([None, f"owner-{number}", f"owner-{number}", "shared"])
        self.held: list[int] = []
        self.has_transferred = False
        self.calls: list[Call] = []
        while len(self.calls) < n_calls:
            self.add_any()
        for grant in self.held:
            self.add("release", grant=grant)

    def add(self, name: str, arguments: dict[str, Any] | None = None, **rest: Any) -> None:
        lets_others_run = self.draw.random() < 0.5
        call = Call(self.number, name, arguments or {}, lets_others_run=lets_others_run, **rest)
        self.calls.append(call)

    def add_any(self) -> None:
        kind = self.draw.random()
        if kind < 0.5:
            self.add_request("acquire" if kind < 0.25 else "try_acquire")
        elif kind < 0.83 and self.held:
            self.add_change()
        elif kind < 0.86:
            self.add("clear")
        elif kind < 0.96:
            name = self.draw.choice(["holders", "waiters"])
            self.add(name, {"key": self.draw.choice(KEYS)})
        else:
            self.add("snapshot")

    def add_request(self, name: str) -> None:
        keys = self.draw.sample(KEYS, self.draw.choice([1, 1, 2, 3]))
        exclusive = [key for key in keys if self.draw.random() < 0.5]
        shared = [key for key in keys if key not in exclusive]
        request = {"exclusive": exclusive, "shared": shared, "owner": self.owner}
        rest: dict[str, Any] = {}
        if name == "acquire":
            is_cancelled = self.is_task and self.draw.random() < 0.3
            rest["turns"] = self.draw.randint(1, 4) if is_cancelled else None
            rest["timeout"] = self.timeout()
        self.held.append(100 * self.number + len(self.calls))
        self.add(name, request, grant=self.held[-1], **rest)

    def add_change(self) -> None:
        name = self.draw.choices(["release", "downgrade", "upgrade", "transfer"], [6, 2, 3, 2])[0]
        grant = self.draw.choice(self.held)
        if name == "release":
            self.held.remove(grant)
            self.add(name, grant=grant)
        elif name == "upgrade":
            self.add(name, grant=grant, timeout=SHORT if self.is_task else self.timeout())
        elif name == "transfer":
            self.has_transferred = True
            self.add(name, {"owner": self.draw.choice([None, "shared", "owner-0"])}, grant=grant)
        else:
            self.add(name, grant=grant)

    def timeout(self) -> float | None:
        is_seen = self.owner is not None and not self.has_transferred
        return None if (is_seen or not self.held) and self.draw.random() < 0.7 else SHORT


# ---- recording ---------------------------------------------------------------------------------


class Recorder:
    """Runs programs over one manager: in threads, and in tasks of a thread with an event loop."""

    def __init__(self, manager: Any, programs: list[Program]) -> None:
        self.manager = manager
        self.programs = programs
        self.grants: dict[int, Any] = {}
        self.errors: list[BaseException] = []

    def note_grant(self, call: Call, grant: Any) -> str:
        assert call.grant is not None
        self.grants[call.grant] = grant
        call.token = grant.token if grant is not None else None
        return "refused" if grant is None else "granted"

    def make(self, call: Call) -> Any:
        """Makes a call. Returns what it did, or None if there was nothing to do."""
        if call.name == "acquire":
            grant = self.manager.acquire(**call.arguments, timeout=call.timeout)
            return self.note_grant(call, grant)
        if call.name == "try_acquire":
            return self.note_grant(call, self.manager.try_acquire(**call.arguments))
        if call.name == "clear":
            return self.manager.clear()
        if call.grant is None:
            return rows_of(call.name, getattr(self.manager, call.name)(**call.arguments))
        grant = self.grants.get(call.grant)
        if grant is None:
            return None  # it was refused
        if call.name == "upgrade":
            grant.upgrade(timeout=call.timeout)
            call.token = grant.token
        else:
            getattr(grant, call.name)(**call.arguments)
        return "done"

    async def make_async(self, call: Call) -> Any:
        if call.name != "acquire":
            return self.make(call)
        request = self.manager.acquire_async(**call.arguments, timeout=call.timeout)
        task = asyncio.ensure_future(request)
        if call.turns is not None:
            for _ in range(call.turns):
                await asyncio.sleep(0)
            task.cancel()
        return self.note_grant(call, await task)

    @contextlib.contextmanager
    def recorded(self, call: Call) -> Any:
        call.began = time.perf_counter_ns()
        try:
            yield
        except LockTimeoutError:
            call.result = "timed out"
        except DeadlockError:
            call.result = "deadlock"
        except LockConflictError:
            call.result = "refused"
        except NotHeldError:
            call.result = "not held"
        except asyncio.CancelledError:
            call.result = "cancelled"
        call.ended = time.perf_counter_ns()

    def run_thread(self, program: Program) -> None:
        for call in program.calls:
            if call.lets_others_run:
                time.sleep(0)
            with self.recorded(call):
                call.result = self.make(call)

    async def run_tasks(self, programs: list[Program]) -> None:
        await asyncio.gather(*map(self.run_task, programs))

    async def run_task(self, program: Program) -> None:
        for call in program.calls:
            if call.lets_others_run:
                await asyncio.sleep(0)
            with self.recorded(call):
                call.result = await self.make_async(call)

    def run(self) -> list[Call]:
        """Returns the calls that did something, with their times and results."""
        tasks = [program for program in self.programs if program.is_task]
        parts: list[Callable[[], None]] = [
            lambda program=program: self.run_thread(program)  # type: ignore[misc]
            for program in self.programs
            if not program.is_task
        ]
        if tasks:
            parts.append(lambda: asyncio.run(self.run_tasks(tasks)))
        start = threading.Barrier(len(parts))

        def guarded(part: Callable[[], None]) -> None:
            start.wait()
            try:
                part()
            except BaseException as error:  # noqa: BLE001 - raised below
                self.errors.append(error)

        threads = [threading.Thread(target=guarded, args=(part,), daemon=True) for part in parts]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
            assert not thread.is_alive(), f"it hangs: {self.manager.snapshot()}"
        if self.errors:
            raise self.errors[0]
        calls = [call for program in self.programs for call in program.calls]
        return [call for call in calls if call.result is not None]


def overlaps(one: Call, history: list[Call]) -> bool:
    return any(
        one.began < other.ended and other.began < one.ended for other in history if other is not one
    )


def check_histories(
    new_manager: Callable[[], Any], seed: str, seconds: float, n_programs: int = 3, n_calls: int = 5
) -> dict[str, int]:
    """Records and checks histories for so long. Returns how many, and what was in them.

    Raises:
        NotLinearizableError: With the history, and the seed that draws its programs again.
    """
    counts = {"histories": 0, "calls": 0, "overlapping": 0, "undecided": 0, "steps": 0}
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        name = f"{seed}/{counts['histories']}"
        draw = random.Random(name)
        programs = [Program(draw, number, n_calls) for number in range(n_programs)]
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
        counts["overlapping"] += sum(overlaps(call, history) for call in history)
        for call in history:
            if isinstance(call.result, str):
                what = f"{call.name}: {call.result}"
                counts[what] = counts.get(what, 0) + 1
    return counts
