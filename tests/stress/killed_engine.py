"""The engine process that is killed: at any instant by others, or by itself at a step."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kill_commands import Awaited, Ledger, Move, Noted, any_command

from lockcore import LockManager
from lockcore.engine import CommandResult, Engine, ProcessTasks
from lockcore.engine._store import Store


class EngineLife:
    """One engine, from its opening until it is killed or has nothing left to do."""

    def __init__(self, directory: Path, seed: str) -> None:
        self.seed = seed
        self.ledger = Noted.ledger = Ledger(directory / "ledger")
        self.manager = LockManager()
        self.engine = Engine(
            store=f"sqlite:///{directory}/engine.db",
            tasks=ProcessTasks(directory / "tasks", grace=30.0),
            manager=self.manager,
            poll_interval=0.005,
            retry_delay=0.005,
            workers=4,
        )

    def open(self) -> None:
        self.look(self.engine.open)

    def look(self, first: Callable[[], None] = lambda: None) -> None:
        """Notes what is held. Who was alive from before the first line to after the second, is."""
        self.ledger.note("look")
        first()
        rows = [(" ".join(row.key), str(row.mode), row.owner) for row in self.manager.snapshot()]
        report = self.engine.recovery
        self.ledger.note(
            "seen",
            rows=rows,
            opened=first == self.engine.open,
            resumed=report.resumed,
            ended=report.ended,
            cleaned=report.cleaned,
            set_aside=report.set_aside,
        )

    def run_for_ever(self, threads: int) -> None:
        """Until somebody kills the process."""
        for number in range(threads):
            threading.Thread(target=self._work, args=[number], daemon=True).start()
        pause = threading.Event()
        while True:
            pause.wait(0.01)
            self.look()

    def run_beside_another(self, command: Noted) -> None:
        """Runs a command while another one waits for the same keys, or the other way round."""
        rival = Move(vm="0", host="0", pool="0")
        other = threading.Thread(target=self.run, args=[rival], kwargs={"timeout": 60.0})
        other.start()
        self.run(command, timeout=60.0)
        other.join()

    def end(self) -> None:
        """Ends all that is left, without any new command."""
        self.engine.close(drain=True, timeout=60)
        self.ledger.note("over", held=len(self.manager))

    def run(self, command: Noted, *, wait: bool = True, timeout: float = 0.0) -> None:
        if isinstance(command, Awaited):
            result = asyncio.run(self.engine.run_async(command, timeout=timeout))
        else:
            result = self.engine.run(command, timeout=timeout)
        self._note_result(result)
        if result.state == "running" and wait:
            self._note_result(self.engine.wait(result.command_id))

    def _note_result(self, result: CommandResult) -> None:
        self.ledger.note("result", command=result.command_id, state=result.state)

    def _work(self, number: int) -> None:
        choose = random.Random(f"{self.seed}/{number}")
        while True:
            self.run(
                any_command(choose),
                wait=choose.random() < 0.8,
                timeout=choose.choice([0.0, 0.0, 0.05]),
            )


class Steps:
    """Counts the steps of this process, and kills it at one of them.

    A step is the instant before and the one after each call of the store and of the task back end,
    and each line in the ledger. A question how tasks stand counts when the answer has changed, for
    else the number of steps would be a matter of speed.
    """

    def __init__(self, dies_at: int) -> None:
        self._dies_at = dies_at
        self._count = 0
        self._mutex = threading.Lock()
        self._last_answer: Any = None

    def install(self) -> None:
        """From here on, for good."""
        for owner, names in (
            (Store, ("add", "drop_tasks", "end_execution", "end", "tasks")),
            (ProcessTasks, ("start", "stop", "forget")),
            (Ledger, ("note",)),
        ):
            for name in names:
                setattr(owner, name, self._around(getattr(owner, name)))
        ProcessTasks.status = self._around_status(ProcessTasks.status)  # type: ignore[method-assign]

    def _step(self) -> None:
        with self._mutex:
            self._count += 1
            if self._count == self._dies_at:
                os.kill(os.getpid(), signal.SIGKILL)

    def _around(self, method: Callable[..., Any]) -> Callable[..., Any]:
        def around(*args: Any, **kwargs: Any) -> Any:
            self._step()
            returned = method(*args, **kwargs)
            self._step()
            return returned

        return around

    def _around_status(self, method: Callable[..., Any]) -> Callable[..., Any]:
        def around(*args: Any) -> Any:
            answer = method(*args)
            if answer != self._last_answer:
                self._last_answer = answer
                self._step()
            return answer

        return around
