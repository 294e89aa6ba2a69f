"""What tests share: waiting for states, threads that report back, programs in other processes."""

from __future__ import annotations

import asyncio
import json
import pickle
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")

DEADLINE = 10.0
"""Seconds after which a state that was to come has not come. Only a failure waits so long."""


def pickled(value: T) -> T:
    """What arrives in another process."""
    return pickle.loads(pickle.dumps(value))


def eventually(claim: Callable[[], T], *, within: float = DEADLINE) -> T:
    """Waits until a claim is true, and returns what it said.

    Raises:
        AssertionError: It was not so within that many seconds.
    """
    deadline = time.monotonic() + within
    pause = threading.Event()
    while not (answer := claim()):
        if time.monotonic() > deadline:
            raise AssertionError(f"it was not so within {within:g} s, but: {answer!r}")
        pause.wait(0.0005)
    return answer


class Background(threading.Thread):
    """A call in a thread of its own, whose outcome is the outcome of `result()`."""

    def __init__(self, call: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        super().__init__(daemon=True)
        self._call = lambda: call(*args, **kwargs)
        self._value: Any = None
        self._error: BaseException | None = None
        self.was_asked = False
        self.start()

    def run(self) -> None:
        try:
            self._value = self._call()
        except BaseException as error:  # noqa: BLE001 - raised again by result()
            self._error = error

    def result(self) -> Any:
        """Waits for the end of the call; returns or raises what it did."""
        self.was_asked = True
        self.join(DEADLINE)
        if self.is_alive():
            raise AssertionError(f"the call has not ended within {DEADLINE:g} s")
        if self._error is not None:
            raise self._error
        return self._value


def run_program(source: str) -> subprocess.CompletedProcess[str]:
    """Runs a program in an interpreter that checks all it can and takes warnings as errors."""
    return subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", source],
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )


def report_of(source: str) -> Any:
    """Runs a program that prints one JSON value, and nothing else, and returns the value.

    Raises:
        AssertionError: The program failed, or complained.
    """
    program = run_program(source)
    assert (program.returncode, program.stderr) == (0, ""), program.stderr
    return json.loads(program.stdout)


def until_queued(manager: Any, key: Any, count: int = 1) -> None:
    """Waits until so many requests are queued at a key."""
    eventually(lambda: len(manager.waiters(key)) == count)


async def soon(claim: Callable[[], Any]) -> None:
    """Lets other tasks run until a claim is true."""
    async with asyncio.timeout(DEADLINE):
        while not claim():  # noqa: ASYNC110 - threads make it true, too, and know no events
            await asyncio.sleep(0.001)


async def queued(manager: Any, key: Any, count: int = 1) -> None:
    """Lets other tasks run until so many requests are queued at a key."""
    await soon(lambda: len(manager.waiters(key)) == count)


def modes_of(manager: Any, key: Any) -> list[str]:
    """How a key is held, the oldest holder first."""
    return [str(holder.mode) for holder in manager.holders(key)]


def owners_of(rows: list[Any]) -> list[Any]:
    """Whose rows these are, in order."""
    return [row.owner for row in rows]


def states(*grants: Any) -> list[str]:
    """How far requests have come: "waiting", "held", "ended" or "closed"."""
    return [grant._state for grant in grants]
