"""Runs one program, outlives the engine that asked for it, and writes down how the program ended.

A program of its own: `python -I -S _supervisor.py HOME GRACE`, with the lock file of the task open
and locked as descriptor `LOCK_FD`. It imports nothing of lockcore.

Files in HOME: `spec` (JSON: the program and its arguments) and `lock`, made by the engine;
`started`, before the program begins; `ended` (JSON), after it has; `stop`, made by who wants it
stopped, and the pipe `control`, written to then; `output`, where the program writes; `progress`,
which the program may write. Beside HOME an empty file, of the same name with `ENDED` before it,
says that the task ends, so that nobody has to look into each HOME to find the few that have.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time

PROGRESS = "LOCKCORE_PROGRESS"
"""The environment variable that tells the program where it may write how far it has come."""

ENDED = ".ended-"
"""What the name of a mark begins with; no task id begins with a dot."""

LOCK_FD = 3
"""Inherited locked, and by the program too: while one of the two lives, the lock is held."""


def main(home: str, grace: float) -> None:
    os.setsid()
    control = os.open(os.path.join(home, "control"), os.O_RDWR | os.O_NONBLOCK)
    signals, wakeup = os.pipe()
    os.set_blocking(wakeup, False)
    signal.set_wakeup_fd(wakeup)
    for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        # Not SIG_IGN, which the program would inherit.
        signal.signal(number, lambda *_: None)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())

    write(home, "started", str(os.getpid()))
    with open(os.path.join(home, "spec"), encoding="utf-8") as file:
        arguments = json.load(file)
    if os.path.exists(os.path.join(home, "stop")):
        end(home, {"stopped": True})
        return
    try:
        program = subprocess.Popen(
            arguments,
            stdin=subprocess.DEVNULL,
            pass_fds=[LOCK_FD],
            process_group=0,
            env={**os.environ, PROGRESS: os.path.join(home, "progress")},
        )
    except OSError as error:
        end(home, {"error": str(error)})
        return
    stopped = follow(program, signals, control, grace)
    end(home, {"exit": program.returncode, "stopped": stopped})


def follow(program: subprocess.Popen[bytes], signals: int, control: int, grace: float) -> bool:
    """Waits until the program has ended; True if it was told to."""
    kill_at: float | None = None
    stopped = False
    while program.poll() is None:
        timeout = None if kill_at is None else max(0.0, kill_at - time.monotonic())
        ready, _, _ = select.select([signals, control], [], [], timeout)
        asked = control in ready and bool(os.read(control, 4096))
        if signals in ready:
            asked |= signal.SIGTERM in os.read(signals, 4096)
        if asked and not stopped:
            stopped = True
            kill_at = time.monotonic() + grace
            signal_group(program, signal.SIGTERM)
        elif kill_at is not None and time.monotonic() >= kill_at:
            kill_at = None
            signal_group(program, signal.SIGKILL)
    if stopped:
        signal_group(program, signal.SIGKILL)  # what it may have left behind
    return stopped


def signal_group(program: subprocess.Popen[bytes], number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(program.pid, number)


def end(home: str, how: dict[str, object]) -> None:
    """Marks the task as one to look at, then writes down how it has ended.

    In this order, so that no mark appears after somebody has seen the end and removed everything.
    """
    directory, task_id = os.path.split(home)
    with contextlib.suppress(OSError), open(os.path.join(directory, ENDED + task_id), "wb"):
        pass  # without a mark the end is seen all the same, some looks later
    write(home, "ended", json.dumps(how))


def write(home: str, name: str, text: str) -> None:
    """Makes a file appear whole, and durably."""
    temporary = os.path.join(home, name + ".tmp")
    with open(temporary, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.rename(temporary, os.path.join(home, name))
    directory = os.open(home, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]))
