"""Servers for tests: started once, in a directory of their own, and stopped at the end.

Where a server's program is not installed its tests skip and say so. With the environment variable
LOCKCORE_REQUIRE_SERVICES=1, as in continuous integration, that is an error.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

import pytest

from support import eventually

STARTING = 60.0
"""Seconds after which a server that was to answer does not. Only a failure waits so long."""


def missing(what: str) -> NoReturn:
    """Skips the test because something is not installed; fails it where everything must be."""
    if os.environ.get("LOCKCORE_REQUIRE_SERVICES") == "1":
        pytest.fail(f"{what} is not installed, and LOCKCORE_REQUIRE_SERVICES=1", pytrace=False)
    pytest.skip(f"{what} is not installed")


def require_module(name: str) -> None:
    """Skips the test if a Python package is not installed."""
    if importlib.util.find_spec(name) is None:
        missing(f"the Python package {name}")


class Server:
    """A server process: started, waited for until it answers, killed, started again, stopped.

    Args:
        command: The program and its arguments; it must stay in the foreground.
        answers: Whether it takes requests. Called again and again; may raise OSError.
        log: Where its output goes.
        user: Who it runs as, if that is not us.
    """

    def __init__(
        self,
        command: Sequence[str],
        answers: Callable[[], bool],
        log: Path,
        user: str | None = None,
    ) -> None:
        self._command = list(command)
        self._answers = answers
        self._log = log
        self._user = user
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Starts it and returns when it answers."""
        eventually(self._is_up, within=STARTING)

    def stop(self, number: int = signal.SIGTERM) -> None:
        """Sends it the signal and returns when it has ended; does nothing if it does not run."""
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(number)
            process.wait(STARTING)

    def kill(self) -> None:
        """SIGKILL."""
        self.stop(signal.SIGKILL)

    def _is_up(self) -> bool:
        # It may have ended at once: what is left of a killed one can be in its way for a moment.
        if self._process is None or self._process.poll() is not None:
            with self._log.open("ab") as log:
                self._process = subprocess.Popen(
                    self._command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    user=self._user,
                    cwd=self._log.parent,
                    start_new_session=True,  # Ctrl-C is for the tests, which stop it in order
                )
        try:
            return self._answers()
        except OSError:
            return False


class PostgresqlServer:
    """A PostgreSQL server in a directory of its own, reached by a socket in it.

    Refuses to run as root, so root starts it as the user `postgres`.
    """

    def __init__(self) -> None:
        programs = _postgresql_programs()
        self.user = "postgres"
        self._runs_as = "postgres" if os.geteuid() == 0 else None
        self.directory = Path(tempfile.mkdtemp(prefix="lockcore-postgresql-"))
        if self._runs_as is not None:
            shutil.chown(self.directory, self._runs_as)
        self._is_ready = [str(programs / "pg_isready"), "-q", "-h", str(self.directory)]
        data = self.directory / "data"
        subprocess.run(
            [programs / "initdb", "-D", data, "-A", "trust", "-U", self.user, "-E", "UTF8"],
            check=True,
            capture_output=True,
            user=self._runs_as,
            cwd=self.directory,
        )
        settings = {
            "listen_addresses": "",
            "unix_socket_directories": str(self.directory),
            "max_connections": "50",
        }
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        self.server = Server(
            [str(programs / "postgres"), "-D", str(data), *options],
            self._answers,
            self.directory / "log",
            self._runs_as,
        )

    def url(self, database: str = "postgres") -> str:
        """Of a database of this server, as SQLAlchemy and lockcore take it."""
        return f"postgresql://{self.user}@/{database}?host={self.directory}"

    def close(self) -> None:
        """Stops it without ceremony and removes its directory."""
        self.server.stop(signal.SIGQUIT)
        shutil.rmtree(self.directory)

    def _answers(self) -> bool:
        return subprocess.run(self._is_ready, check=False).returncode == 0


def _postgresql_programs() -> Path:
    """The directory of the newest PostgreSQL server here; Debian has it outside of PATH."""
    found = [Path(path).parent for path in (shutil.which("initdb"),) if path is not None]
    versions = Path("/usr/lib/postgresql").glob("*/bin/initdb")
    found += [path.parent for path in sorted(versions, key=lambda path: int(path.parts[4]))]
    if not found:
        missing("a PostgreSQL server (Debian: postgresql)")
    return found[-1]
