"""Starts an engine process for the demo, talks to it from any number of threads, and kills it."""

from __future__ import annotations

import itertools
import json
import os
import select
import subprocess
import sys
import threading
from collections.abc import Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Any, TextIO, cast

PATIENCE = 30.0
"""Seconds after which an engine that does not answer counts as broken."""

Answer = dict[str, Any]


class EngineProcess:
    """An engine process on the files of a directory.

    Attributes:
        recovery: What it has found there: the ids in `resumed` and `ended`, and a `text`.
    """

    def __init__(self, directory: Path) -> None:
        path = [str(Path(__file__).parent.parent), os.environ.get("PYTHONPATH")]
        with (directory / "engine.log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "virtualization", "lines"],
                cwd=directory,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, path))},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        self._requests = cast(TextIO, self._process.stdin)
        self._answers = cast(TextIO, self._process.stdout)
        self._numbers = itertools.count()
        self._mutex = threading.Lock()
        self._asked: dict[int, Future[Any]] = {}
        try:
            self.recovery = self._first_line()
        except BaseException:
            self.kill()
            raise
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        """The id of the process."""
        return self._process.pid

    def ask(self, request: str, **values: Any) -> Future[Any]:
        """Asks, and returns at once; the answer is in the future's result."""
        answer: Future[Any] = Future()
        with self._mutex:
            number = next(self._numbers)
            self._asked[number] = answer
            self._requests.write(json.dumps({"request": request, "number": number, **values}))
            self._requests.write("\n")
            self._requests.flush()
        return answer

    def run(self, name: str, parameters: Mapping[str, str], **options: Any) -> Answer:
        """Runs a command; returns its result when `execute` has ended."""
        return dict(self.begin(name, parameters, **options).result(PATIENCE))

    def begin(self, name: str, parameters: Mapping[str, str], **options: Any) -> Future[Any]:
        """Asks for a command to be run and does not wait, not even for its locks."""
        return self.ask("run", name=name, parameters=parameters, **options)

    def wait(self, command_id: str) -> Answer:
        """Waits for the end of a command; returns its result."""
        answer = self.ask("wait", command_id=command_id, timeout=PATIENCE / 2)
        return dict(answer.result(PATIENCE))

    def status(self, command_id: str) -> Answer:
        """How a command stands."""
        return dict(self.ask("status", command_id=command_id).result(PATIENCE))

    def locks(self) -> list[Answer]:
        """The locks that are held."""
        return list(self.ask("locks").result(PATIENCE))

    def kill(self) -> int:
        """Kills it by SIGKILL, if it is alive. Returns its exit status as `Popen` does."""
        self._process.kill()
        status = self._process.wait()
        self._requests.close()
        return status

    def stop(self) -> None:
        """Lets the engine close itself."""
        self._requests.close()
        try:
            self._process.wait(PATIENCE)
        finally:
            self.kill()

    def _first_line(self) -> Answer:
        ready, _, _ = select.select([self._answers], [], [], PATIENCE)
        if not ready:
            raise RuntimeError("the engine does not answer")
        line = self._answers.readline()
        if not line:
            raise RuntimeError("the engine has died")
        return dict(json.loads(line))

    def _read(self) -> None:
        with self._answers as answers:
            for line in answers:
                reply = json.loads(line)
                with self._mutex:
                    asked = self._asked.pop(reply["number"])
                asked.set_result(reply["answer"])
        with self._mutex:
            left = list(self._asked.values())
            self._asked.clear()
        for asked in left:
            asked.set_exception(RuntimeError("the engine has died"))
