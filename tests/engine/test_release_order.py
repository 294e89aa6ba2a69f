"""Locks go after the outcome is committed, and before anybody can know it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from engine_commands import Long, Scripted, Short, start_one_task
from engine_support import FAILED, SUCCEEDED, ManualTasks

from lockcore import LockManager
from lockcore.engine import Command, CommandResult, Engine, TaskStatus
from lockcore.engine._run import CommandRun
from lockcore.engine._services import Registry
from support import Background

Script = dict[str, Callable[[Any], Any]]


def fail(command: Command) -> None:
    raise OSError("the disk is full")


def start_and_fail(command: Command) -> None:
    start_one_task(command)
    fail(command)


PATHS: dict[str, Script] = {
    "failed validate": {"validate": lambda command: "no room"},
    "raising validate": {"validate": fail},
    "no tasks": {},
    "raising execute": {"execute": fail},
    "tasks and raising execute": {"execute": start_and_fail},
    "tasks": {"execute": start_one_task},
}


@pytest.mark.parametrize("status", [SUCCEEDED, FAILED])
@pytest.mark.parametrize("command", [Long, Short])
@pytest.mark.parametrize("path", PATHS)
def test_locks_are_gone_when_the_result_is_reported_on_every_path(
    engine: Engine,
    manager: LockManager,
    script: Script,
    tasks: ManualTasks,
    monkeypatch: pytest.MonkeyPatch,
    path: str,
    command: type[Scripted],
    status: TaskStatus,
) -> None:
    reported: list[tuple[str, int]] = []
    report = Registry.ended

    def ended(self: Registry, result: CommandResult) -> None:
        reported.append((result.command_id, len(manager)))
        report(self, result)

    monkeypatch.setattr(Registry, "ended", ended)
    script.update(PATHS[path])
    result = engine.run(command())
    tasks.end_all(status)
    engine.wait(result.command_id, timeout=10)
    assert reported == [(result.command_id, 0)]


@pytest.mark.parametrize("status", [SUCCEEDED, FAILED])
def test_outcome_is_in_the_store_when_the_locks_go(
    engine: Engine,
    script: Script,
    tasks: ManualTasks,
    monkeypatch: pytest.MonkeyPatch,
    status: TaskStatus,
) -> None:
    stored: list[str] = []
    release = CommandRun.release

    def released(self: CommandRun) -> None:
        outcome = self._services.store.outcome(self.command_id)
        stored.append("none" if outcome is None else outcome.state)
        release(self)

    monkeypatch.setattr(CommandRun, "release", released)
    script["execute"] = start_one_task
    result = engine.run(Long())
    tasks.end_all(status)
    assert stored == []
    ended = engine.wait(result.command_id, timeout=10)
    assert stored == [ended.state]


def test_who_sees_that_a_command_has_ended_finds_its_locks_free(
    engine: Engine,
    manager: LockManager,
    script: Script,
    tasks: ManualTasks,
    background: Callable[..., Background],
) -> None:
    """An observer asks all the time, and looks at the locks in the instant it sees the end."""

    def observe() -> int:
        seen = 0
        while not is_over.is_set():
            for command_id in tuple(ids):
                if engine.status(command_id).state == "succeeded":
                    assert not manager.owned_by(command_id)
                    seen += 1
        return seen

    script["execute"] = start_one_task
    is_over = threading.Event()
    ids: list[str] = []
    observer = background(observe)
    try:
        for number in range(30):
            ids[:] = [engine.run(Long(vm=str(number))).command_id]
            tasks.end_all()
            engine.wait(ids[0], timeout=10)
            assert not manager.owned_by(ids[0])
    finally:
        is_over.set()
    assert observer.result() > 0
