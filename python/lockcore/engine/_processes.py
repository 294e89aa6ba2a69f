"""Tasks that are processes of the operating system and survive the engine."""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
import shlex
import shutil
import signal
import stat
import sys
import threading
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from lockcore.engine import _supervisor
from lockcore.engine._supervisor import ENDED
from lockcore.engine._tasks import TaskState, TaskStatus
from lockcore.engine._turns import Turns

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

__all__ = ["ProcessTasks"]

LOOKS = 256
"""So many tasks that run, as far as is known, are looked at in one call: a few milliseconds."""


class ProcessTasks:
    """Runs programs: `start_task([program, argument, ...])`.

    Each program runs under a small supervisor in a session of its own, so that neither the death
    of the engine nor a Ctrl-C in its terminal reaches it. The supervisor writes the exit status to
    a file, where the next engine finds it. A task succeeds when its program exits with 0. What it
    writes to its standard output and error is in `output(task_id)` until its command has ended.

    Whether a task is alive is not told by a process id, which may be used again, but by a file
    lock that its supervisor and the program hold. So a program whose supervisor was killed still
    counts as running, though it cannot be stopped; and what it leaves running in the background
    must not keep the descriptors it inherited.

    A program runs in the working directory and with the environment of the engine. One more
    variable, `LOCKCORE_PROGRESS`, names a file into which it may write how far it has come, a line
    such as `0.42` or `42% copying the disk`. The last line counts. A program in Python may call
    `report_progress`.

    Args:
        directory: Where the files of the tasks are, on a local file system; made when needed.
            Other files there are let alone, so the store may be there, too.
            Engines that run at the same time need one each. Without it nobody knows what has
            become of the tasks: do not remove it while there are any.
        grace: When a task is stopped, the seconds between SIGTERM and SIGKILL.

    Raises:
        OSError: Not a POSIX system.
    """

    def __init__(self, directory: str | os.PathLike[str], *, grace: float = 5.0) -> None:
        if fcntl is None:
            raise OSError(errno.ENOSYS, "ProcessTasks needs a POSIX system")
        self._directory = Path(directory).absolute()
        self._identity: tuple[int, int] | None = None  # of the directory, once it was there
        self._grace = float(grace)
        self._mutex = threading.Lock()
        self._supervisors: dict[str, int] = {}  # ours, to be reaped: task id -> process id
        self._running: dict[str, TaskStatus] = {}  # as they stood when last looked at
        self._turns = Turns(LOOKS)

    def start(self, task_id: str, arguments: Sequence[str | os.PathLike[str]], /) -> None:
        """Starts a program. Whether it can be executed is known from its status.

        Raises:
            TypeError: The arguments are not a list of strings or paths.
            ValueError: The list is empty, or a string has a null character.
            FileExistsError: There is a task of that id.
            OSError: The directory cannot be made or written to, or is not the one that was there
                before; or there are too many processes.
        """
        spec = _checked(arguments)
        home = self._home(task_id)
        # One that is gone is not made again: it could get the number of the old one.
        if not self._is_there():
            self._make_directory()
        home.mkdir()
        try:
            (home / "spec").write_text(json.dumps(spec), encoding="utf-8")
            os.mkfifo(home / "control")
            with _locked(home / "lock") as lock_fd:
                supervisor = _spawn(home, self._grace, lock_fd)
        except Exception:
            shutil.rmtree(home, ignore_errors=True)
            raise
        with self._mutex:
            self._supervisors[task_id] = supervisor

    def status(self, task_ids: Iterable[str] | None = None, /) -> dict[str, TaskStatus]:
        """How those tasks stand, or all in the directory; see `TaskBackend`.

        Costs one look at a directory, and at the files of those tasks that have ended, that were
        not asked about before, or whose turn it is: of a long list of running tasks each call
        looks at a part. So their progress, and a death that nobody has noted, is seen some calls
        later.

        Raises:
            FileNotFoundError: The directory was there and is gone, or is another one now.
        """
        if not self._is_there():
            return {}
        names = os.listdir(self._directory)  # noqa: PTH208 - thousands of Paths would cost more
        marks = {name[len(ENDED) :] for name in names if name.startswith(ENDED)}
        if task_ids is None:
            ids = sorted(name for name in names if not name.startswith("."))
            self._drop_stray(marks.difference(ids))
            to_look_at = set(ids)
        else:
            ids = list(task_ids)
            to_look_at = marks.union(self._turns.take(ids, self._running))
        found = {}
        for task_id in ids:
            running = None if task_id in to_look_at else self._running.get(task_id)
            status = running or self._look(task_id)
            if status is not None:
                found[task_id] = status
        return found

    def _look(self, task_id: str) -> TaskStatus | None:
        status = _status(self._home(task_id))
        if status is not None and status.state is TaskState.RUNNING:
            # The same object while nothing has changed: callers can tell at a glance.
            if self._running.get(task_id) != status:
                self._running[task_id] = status
            return self._running.get(task_id, status)
        self._running.pop(task_id, None)
        if status is not None:
            self._reap(task_id, os.WNOHANG)
        return status

    def _make_directory(self) -> None:
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
        except FileExistsError:  # which would say that the task exists
            raise NotADirectoryError(
                errno.ENOTDIR, "not a directory", str(self._directory)
            ) from None
        self._is_there()

    def _is_there(self) -> bool:
        """Whether there is a directory; it must be the one that was there before."""
        try:
            found = self._directory.stat()
        except (FileNotFoundError, NotADirectoryError):
            identity = None
        else:
            identity = (found.st_dev, found.st_ino) if stat.S_ISDIR(found.st_mode) else None
        if self._identity is None:
            self._identity = identity
        if identity != self._identity:
            raise FileNotFoundError(
                errno.ENOENT, "the directory of the tasks is gone", str(self._directory)
            )
        return identity is not None

    def _drop_stray(self, marks: Iterable[str]) -> None:
        """Removes marks of tasks that are no more, left where somebody was killed meanwhile."""
        for mark in marks:
            self._mark(mark).unlink(missing_ok=True)

    def stop(self, task_id: str, /) -> None:
        """Asks a program to end by SIGTERM, then SIGKILL, to it and its process group."""
        home = self._home(task_id)
        with contextlib.suppress(FileNotFoundError):
            (home / "stop").touch()  # for a supervisor that does not listen yet
            try:
                control = os.open(home / "control", os.O_WRONLY | os.O_NONBLOCK)
            except OSError as error:
                if error.errno != errno.ENXIO:  # nobody listens: not yet, or not any more
                    raise
            else:
                os.write(control, b"\n")
                os.close(control)

    def forget(self, task_id: str, /) -> None:
        """Removes the files of a task, its output with them.

        Raises:
            ValueError: The task is running.
        """
        status = _status(self._home(task_id))
        if status is not None and status.state is TaskState.RUNNING:
            raise ValueError(f"task {task_id} is running")
        self._reap(task_id, 0)
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(self._home(task_id))
        self._mark(task_id).unlink(missing_ok=True)

    def output(self, task_id: str) -> Path:
        """The file that has what the program has written so far."""
        return self._home(task_id) / "output"

    def _home(self, task_id: str) -> Path:
        if not task_id or task_id.startswith(".") or "/" in task_id or "\0" in task_id:
            raise ValueError(f"not a task id: {task_id!r}")
        return self._directory / task_id

    def _mark(self, task_id: str) -> Path:
        return self._directory / (ENDED + task_id)

    def _reap(self, task_id: str, options: int) -> None:
        with self._mutex:
            supervisor = self._supervisors.pop(task_id, None)
        if supervisor is None:
            return
        try:
            reaped, _ = os.waitpid(supervisor, options)
        except ChildProcessError:
            return  # somebody else has
        if reaped == 0:
            with self._mutex:
                self._supervisors[task_id] = supervisor


def _checked(arguments: Any) -> list[str]:
    hint = "a task is a list of program arguments, such as ['cp', source, target]"
    if not isinstance(arguments, list | tuple):
        raise TypeError(f"{hint}, not {arguments!r}")
    spec = []
    for argument in arguments:
        if not isinstance(argument, str | os.PathLike):
            raise TypeError(f"{hint}; {argument!r} is neither str nor a path")
        spec.append(os.fsdecode(argument))
    if not spec or not spec[0]:
        raise ValueError(f"{hint}: it names no program")
    if any("\0" in argument for argument in spec):
        raise ValueError("an argument of a program cannot have a null character")
    return spec


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[int]:
    """A descriptor of the file, locked. The lock stays while some process has a copy of it."""
    first = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        # Well above the number it gets in the supervisor: a duplicate onto itself would be closed.
        descriptor = fcntl.fcntl(first, fcntl.F_DUPFD_CLOEXEC, _supervisor.LOCK_FD + 7)
    finally:
        os.close(first)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield descriptor
    finally:
        os.close(descriptor)


def _spawn(home: Path, grace: float, lock_fd: int) -> int:
    program = [sys.executable, "-I", "-S", _supervisor.__file__, str(home), str(grace)]
    write = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    return os.posix_spawn(
        sys.executable,
        program,
        os.environ,
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, str(home / "output"), write, 0o600),
            (os.POSIX_SPAWN_DUP2, 1, 2),
            (os.POSIX_SPAWN_DUP2, lock_fd, _supervisor.LOCK_FD),
        ],
        # Until it has its own session, a Ctrl-C in ours would end it.
        setsigmask=[signal.SIGINT, signal.SIGHUP],
    )


def _status(home: Path) -> TaskStatus | None:
    """How the task stands; None if it has never begun and never will."""
    is_held = _is_held(home / "lock")
    # Looked for after the lock: the supervisor writes it before it lets the lock go.
    ended = _read(home / "ended")
    if ended is not None:
        return _end_status(home, json.loads(ended))
    if is_held:
        part, detail = _progress(home / "progress")
        return TaskStatus(TaskState.RUNNING, detail, part)
    if (home / "started").exists():
        return TaskStatus(TaskState.FAILED, f"{_name(home)} was killed with its supervisor")
    return None


def _progress(path: Path) -> tuple[float | None, str]:
    """The part that is done, None if that is not said, and in words what is being done."""
    line = _last_line(path)
    number, _, text = line.partition(" ")
    try:
        part = float(number[:-1]) / 100 if number.endswith("%") else float(number)
    except ValueError:
        return None, line
    return (min(max(part, 0.0), 1.0) if math.isfinite(part) else None), text.strip()


def _is_held(path: Path) -> bool:
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except (FileNotFoundError, NotADirectoryError):  # a file among the tasks is not one of them
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    else:
        return False
    finally:
        os.close(descriptor)


def _end_status(home: Path, ended: dict[str, Any]) -> TaskStatus:
    if ended.get("exit") == 0 and not ended["stopped"]:
        return TaskStatus(TaskState.SUCCEEDED)
    if "error" in ended:
        return TaskStatus(TaskState.FAILED, f"cannot execute {_name(home)}: {ended['error']}")
    if ended["stopped"]:
        return TaskStatus(TaskState.FAILED, f"{_name(home)} was stopped")
    code = ended["exit"]
    how = f"was killed by signal {-code}" if code < 0 else f"exited with status {code}"
    last_line = _last_line(home / "output")
    return TaskStatus(
        TaskState.FAILED, f"{_name(home)} {how}" + (f": {last_line}" if last_line else "")
    )


def _name(home: Path) -> str:
    spec = _read(home / "spec")
    return "the program" if spec is None else shlex.quote(json.loads(spec)[0])


def _last_line(path: Path) -> str:
    with contextlib.suppress(OSError), path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 1000))
        lines = file.read().decode(errors="replace").strip().splitlines()
        return lines[-1].strip() if lines else ""
    return ""


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return None
