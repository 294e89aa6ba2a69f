"""Starts the demo's engine process, talks to it, and kills it."""

from __future__ import annotations

import json
import select
import subprocess
import sys
from pathlib import Path
from typing import Any, TextIO, cast

__all__ = ["EngineProcess"]

PATIENCE = 30.0
"""Seconds after which an engine that does not answer counts as broken."""


class EngineProcess:
    """An engine process on the files of a directory. `recovery` is its report."""

    def __init__(self, directory: Path) -> None:
        with (directory / "engine.log").open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 - our own module
                [sys.executable, "-m", "lockcore._demo._engine", str(directory)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        self._requests = cast(TextIO, self._process.stdin)
        self._answers = cast(TextIO, self._process.stdout)
        try:
            self.recovery = self._answer()
        except BaseException:
            self.kill()
            raise

    @property
    def pid(self) -> int:
        return self._process.pid

    def run(self, command: str, **parameters: str) -> dict[str, Any]:
        """Runs a command; returns its `command_id`, `state` and `reasons`."""
        return self._ask(request="run", command=command, **parameters)

    def wait(self, command_id: str) -> dict[str, Any]:
        """Waits for the end of a command; returns what `run` does."""
        return self._ask(request="wait", command_id=command_id, timeout=PATIENCE / 2)

    def locks(self) -> list[dict[str, Any]]:
        """The locks that are held: `key`, `mode`, `owner`."""
        return list(self._ask(request="locks")["locks"])

    def progress(self, command_id: str) -> float:
        """The part of a command's tasks that is done, 0 while that is unknown."""
        return float(self._ask(request="progress", command_id=command_id)["progress"] or 0)

    def kill(self) -> int:
        """Kills it by SIGKILL, if it is alive. Returns its exit status as `Popen` does."""
        self._process.kill()
        status = self._process.wait()
        self._requests.close()
        self._answers.close()
        return status

    def stop(self) -> None:
        """Lets the engine close itself."""
        self._requests.close()
        try:
            self._process.wait(PATIENCE)
        finally:
            self.kill()

    def _ask(self, **request: Any) -> dict[str, Any]:
        self._requests.write(json.dumps(request) + "\n")
        self._requests.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        ready, _, _ = select.select([self._answers], [], [], PATIENCE)
        if not ready:
            raise RuntimeError("the engine does not answer")
        line = self._answers.readline()
        if not line:
            raise RuntimeError("the engine has died")
        return dict(json.loads(line))
