"""What the tests of the engine share: a task back end they control, and engine processes."""

from __future__ import annotations

import json
import select
import subprocess
import sys
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from lockcore.engine import TaskState, TaskStatus
from services import STARTING
from support import DEADLINE

RUNNING = TaskStatus(TaskState.RUNNING)
SUCCEEDED = TaskStatus(TaskState.SUCCEEDED)
FAILED = TaskStatus(TaskState.FAILED, "it broke")


class ManualTasks:
    """A task back end whose tasks end when the test says so. Outlives engines."""

    def __init__(self) -> None:
        self.mutex = threading.Lock()
        self.known: dict[str, TaskStatus] = {}
        self.specs: dict[str, tuple[Any, ...]] = {}
        self.stopped: list[str] = []
        self.stop_ends_tasks = True
        self.start_error: Exception | None = None
        self.status_error: Exception | None = None

    def start(self, task_id: str, /, *spec: Any, **options: Any) -> None:
        if self.start_error is not None:
            raise self.start_error
        with self.mutex:
            self.known[task_id] = RUNNING
            self.specs[task_id] = (*spec, options)

    def status(self, task_ids: Iterable[str] | None = None, /) -> dict[str, TaskStatus]:
        if self.status_error is not None:
            raise self.status_error
        with self.mutex:
            wanted = self.known if task_ids is None else task_ids
            return {id: self.known[id] for id in wanted if id in self.known}

    def stop(self, task_id: str, /) -> None:
        self.stopped.append(task_id)
        if self.stop_ends_tasks:
            self.end(task_id, TaskStatus(TaskState.FAILED, "stopped"))

    def forget(self, task_id: str, /) -> None:
        with self.mutex:
            self.known.pop(task_id, None)

    def end(self, task_id: str, status: TaskStatus = SUCCEEDED) -> None:
        with self.mutex:
            self.known[task_id] = status

    def end_all(self, status: TaskStatus = SUCCEEDED) -> None:
        for task_id in list(self.known):
            self.end(task_id, status)

    def lose_all(self) -> None:
        with self.mutex:
            self.known.clear()


class EngineProcess:
    """An engine in a process of its own, `crashing_engine.py`; each answer is a JSON line."""

    def __init__(
        self, directory: Path, instant: str = "never", *, name: str = "crashing_engine.py"
    ) -> None:
        program = Path(__file__).with_name(name)
        self.process = subprocess.Popen(
            [sys.executable, "-W", "error", str(program), str(directory), instant],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, request: str) -> Any:
        """Sends a request and returns the answer."""
        self.send(request)
        return self.answer()

    def send(self, request: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(request + "\n")
        self.process.stdin.flush()

    def answer(self) -> Any:
        assert self.process.stdout is not None
        ready, _, _ = select.select([self.process.stdout], [], [], STARTING)
        assert ready, "the engine does not answer"
        line = self.process.stdout.readline()
        assert line, f"the engine has died: {self.process.wait()}"
        return json.loads(line)

    def kill(self) -> int:
        """SIGKILL, unless it has killed itself; returns the exit status."""
        self.process.kill()
        return self.wait()

    def wait(self) -> int:
        """Waits for its end; returns the exit status."""
        status = self.process.wait(DEADLINE)
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()
        return status
