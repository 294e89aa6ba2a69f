"""What the commands of one engine share: its parts, and the register of its commands."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Final, Protocol

from lockcore._manager import Grant, LockManager
from lockcore.engine._ending import Ender
from lockcore.engine._follower import Follower
from lockcore.engine._result import CommandResult
from lockcore.engine._store import Store, StoredCommand
from lockcore.engine._tasks import TaskBackend
from lockcore.engine._waiting import LockWaits

__all__ = ["Registry", "Services"]

_RESULTS_KEPT: Final = 10_000


class Live(Protocol):
    """A command under way: what somebody who waits for it needs."""

    command_id: str
    result: CommandResult | None
    ended: threading.Event

    @property
    def is_stuck(self) -> bool:
        """Whether this engine cannot bring it to its end."""

    def snapshot(self) -> CommandResult:
        """How it stands now."""


class Registry:
    """The commands under way, and the results of the last ones that have ended."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._live: dict[str, Live] = {}
        self._results: OrderedDict[str, CommandResult] = OrderedDict()

    def began(self, run: Live) -> None:
        """Adds a command under way."""
        with self._mutex:
            self._live[run.command_id] = run

    def ended(self, result: CommandResult) -> None:
        """Replaces a command by its result."""
        with self._mutex:
            self._live.pop(result.command_id, None)
            self._results[result.command_id] = result
            if len(self._results) > _RESULTS_KEPT:
                self._results.popitem(last=False)

    def find(self, command_id: str) -> Live | CommandResult | None:
        """A command under way, or its result; None if it is not known."""
        with self._mutex:
            return self._results.get(command_id) or self._live.get(command_id)

    def drained(self, timeout: float | None) -> bool:
        """Waits until no command is under way that could end.

        Returns False if that takes too long, or if there are others.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            with self._mutex:
                live = list(self._live.values())
            left = [run for run in live if not run.is_stuck]
            if not left:
                return not live
            for run in left:
                seconds = None if deadline is None else max(0.0, deadline - time.monotonic())
                if not run.ended.wait(seconds):
                    return False

    def abandon(self) -> None:
        """Forgets the commands under way and wakes who waits for them; they have no result."""
        with self._mutex:
            left = list(self._live.values())
            self._live.clear()
        for run in left:
            run.ended.set()


class Parent(Protocol):
    """A command that waits for a child which was set aside."""

    def child_dropped(self, command_id: str, name: str, *, is_last: bool) -> None:
        """Told that the child has failed, and whether no other one is set aside."""


@dataclass(slots=True)
class SetAside:
    """A stored command that the recovery could not take up, and what is held for it."""

    row: StoredCommand
    reason: str
    task_ids: list[str]
    child_ids: list[str]
    grant: Grant | None
    has_left_grants: bool
    parent: Parent | None


@dataclass(slots=True)
class Services:
    """What a command needs of its engine."""

    manager: LockManager
    store: Store
    backend: TaskBackend | None
    follower: Follower
    ender: Ender
    registry: Registry
    waits: LockWaits
    set_aside: dict[str, SetAside] = field(default_factory=dict)
    sequence: int = 0
    mutex: threading.Lock = field(default_factory=threading.Lock)

    def next_sequence(self) -> int:
        """Numbers the commands in the order in which they took their locks."""
        with self.mutex:
            self.sequence += 1
            return self.sequence
