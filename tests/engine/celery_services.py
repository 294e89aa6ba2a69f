"""A Redis server and Celery workers for tests, real ones, reached by a socket in a directory."""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from services import STARTING, Server, missing
from support import eventually

APP = Path(__file__).with_name("celery_app.py")


class RedisServer:
    """A Redis server that writes down what it is told, in a directory of its own."""

    def __init__(self) -> None:
        program = shutil.which("redis-server")
        if program is None:
            missing("a Redis server (Debian: redis-server)")
        self.directory = Path(tempfile.mkdtemp(prefix="lockcore-redis-"))
        self._socket = self.directory / "socket"
        self._is_ready = ["redis-cli", "-s", str(self._socket), "ping"]
        settings = {"port": "0", "unixsocket": str(self._socket), "dir": str(self.directory)}
        lasting = {"appendonly": "yes", "save": ""}
        options = [
            part for name, value in {**settings, **lasting}.items() for part in (f"--{name}", value)
        ]
        self.server = Server([program, *options], self._answers, self.directory / "log")

    @property
    def url(self) -> str:
        """As Celery takes it, for the broker and for the result back end."""
        return f"redis+socket://{self._socket}"

    def close(self) -> None:
        """Kills it and removes its directory."""
        self.server.kill()
        shutil.rmtree(self.directory)

    def _answers(self) -> bool:
        ping = subprocess.run(self._is_ready, check=False, capture_output=True, text=True)
        return ping.stdout.strip() == "PONG"


class CeleryWorker:
    """A worker with two processes; returns when it is ready.

    Args:
        redis: What it is connected to.
        queue: What it takes messages from.
        app: The file with the app.
    """

    _numbers = itertools.count(1)

    def __init__(self, redis: RedisServer, *, queue: str = "celery", app: Path = APP) -> None:
        number = next(self._numbers)
        self._log = redis.directory / f"worker-{number}.log"
        command = [sys.executable, "-m", "celery", "-A", app.stem, "worker"]
        options = ["-n", f"worker{number}@here", "-Q", queue, "-l", "info", "-c", "2"]
        quiet = ["--without-gossip", "--without-mingle", "--without-heartbeat"]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [*command, *options, *quiet],
                cwd=app.parent,
                env={**os.environ, "LOCKCORE_TEST_REDIS": redis.url},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        eventually(lambda: self.has_said("ready."), within=STARTING)

    def has_said(self, text: str) -> bool:
        assert self._process.poll() is None, self._log.read_text(encoding="utf-8")
        return text in self._log.read_text(encoding="utf-8")

    def kill(self) -> None:
        """SIGKILL to all its processes; does nothing if they are gone."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(STARTING)
