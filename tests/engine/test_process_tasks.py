"""Tasks that are processes: how they end is known whoever asks, and whoever was killed."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from lockcore.engine import ProcessTasks, TaskState
from support import eventually

# Writes its process id, then waits until the file `go` is there, or too long.
WAITER = """
import os, pathlib, sys, time
pathlib.Path("pid.new").write_text(str(os.getpid()))
os.rename("pid.new", "pid")
deadline = time.monotonic() + 60
while not os.path.exists("go") and time.monotonic() < deadline:
    time.sleep(0.005)
"""


@pytest.fixture(autouse=True)
def _in_tmp_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def python(source: str) -> list[str]:
    return [sys.executable, "-c", source]


def started(processes: ProcessTasks, task_id: str = "t1") -> int:
    """Starts a program that waits; returns its process id."""
    processes.start(task_id, python(WAITER))
    eventually(Path("pid").exists)
    return int(Path("pid").read_text(encoding="utf-8"))


def ended(processes: ProcessTasks, task_id: str = "t1") -> Any:
    """The status of a task once it has ended."""

    def status() -> Any:
        found = processes.status([task_id])[task_id]
        return found if found.state is not TaskState.RUNNING else None

    return eventually(status)


def supervisor_of(tmp_path: Path, task_id: str = "t1") -> int:
    return int((tmp_path / "tasks" / task_id / "started").read_text(encoding="utf-8"))


def test_program_that_exits_with_zero_succeeds(processes: ProcessTasks) -> None:
    processes.start("t1", python("pass"))
    assert ended(processes).state == "succeeded"


def test_program_that_runs_is_running(processes: ProcessTasks) -> None:
    started(processes)
    assert processes.status(["t1"])["t1"].state == "running"
    Path("go").touch()
    assert ended(processes).state == "succeeded"


def test_failed_program_says_its_status_and_last_words(processes: ProcessTasks) -> None:
    processes.start("t1", ["sh", "-c", "echo reading; echo disk is full >&2; exit 3"])
    assert ended(processes).state == "failed"
    assert ended(processes).detail == "sh exited with status 3: disk is full"


def test_killed_program_says_its_signal(processes: ProcessTasks) -> None:
    os.kill(started(processes), signal.SIGKILL)
    assert ended(processes).detail == f"{sys.executable} was killed by signal 9"


def test_program_that_does_not_exist_fails(processes: ProcessTasks) -> None:
    processes.start("t1", ["/no/such/program"])
    assert ended(processes).state == "failed"
    assert "cannot execute /no/such/program" in ended(processes).detail


def test_output_is_kept(processes: ProcessTasks) -> None:
    processes.start("t1", ["sh", "-c", "echo out; echo err >&2"])
    ended(processes)
    assert processes.output("t1").read_text(encoding="utf-8") == "out\nerr\n"


def test_program_has_the_working_directory_and_environment_of_the_engine(
    processes: ProcessTasks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POOL", "p1")
    processes.start("t1", ["sh", "-c", 'pwd; echo "$POOL"'])
    ended(processes)
    assert processes.output("t1").read_text(encoding="utf-8") == f"{tmp_path}\np1\n"


def test_arguments_reach_the_program_unchanged(processes: ProcessTasks) -> None:
    words = ["a b", "'", '"', "$HOME", "ä", "\udc80", ""]
    source = "import sys, json; print(json.dumps(sys.argv[1:]))"
    processes.start("t1", [*python(source), *words])
    ended(processes)
    assert json.loads(processes.output("t1").read_text(encoding="utf-8")) == words


def test_program_may_be_a_path(processes: ProcessTasks) -> None:
    processes.start("t1", [Path(sys.executable), "-c", "pass"])
    assert ended(processes).state == "succeeded"


def test_unknown_task_is_missing(processes: ProcessTasks) -> None:
    assert processes.status(["t1"]) == {}
    assert processes.status() == {}


def test_all_tasks_are_listed(processes: ProcessTasks) -> None:
    processes.start("t1", python("pass"))
    processes.start("t2", python("pass"))
    assert set(processes.status()) == {"t1", "t2"}


def test_same_id_is_not_started_twice(processes: ProcessTasks) -> None:
    processes.start("t1", python("pass"))
    with pytest.raises(FileExistsError):
        processes.start("t1", python("pass"))


def test_another_back_end_on_the_directory_knows_the_task(
    processes: ProcessTasks, tmp_path: Path
) -> None:
    started(processes)
    other = ProcessTasks(tmp_path / "tasks")
    assert other.status(["t1"])["t1"].state == "running"
    Path("go").touch()
    assert ended(other).state == "succeeded"


def test_stopped_program_ends_by_sigterm(processes: ProcessTasks) -> None:
    started(processes)
    processes.stop("t1")
    assert ended(processes).detail == f"{sys.executable} was stopped"


def test_program_that_ignores_sigterm_is_killed(processes: ProcessTasks) -> None:
    started_deaf = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + WAITER
    processes.start("t1", python(started_deaf))
    eventually(Path("pid").exists)
    processes.stop("t1")
    assert ended(processes).detail == f"{sys.executable} was stopped"


def test_stop_reaches_what_the_program_has_started(processes: ProcessTasks) -> None:
    source = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {WAITER!r}])"
    processes.start("t1", python(source))
    eventually(Path("pid").exists)
    processes.stop("t1")
    ended(processes)
    pid = int(Path("pid").read_text(encoding="utf-8"))
    eventually(lambda: not is_alive(pid))


def test_task_that_is_stopped_before_its_program_begins_does_not_run(
    processes: ProcessTasks,
) -> None:
    processes.start("t1", python("import pathlib; pathlib.Path('ran').touch(); " + WAITER))
    processes.stop("t1")  # its supervisor has hardly been born
    assert ended(processes).detail == f"{sys.executable} was stopped"


def test_stop_of_an_unknown_or_ended_task_does_nothing(processes: ProcessTasks) -> None:
    processes.stop("t1")
    processes.start("t1", python("pass"))
    ended(processes)
    processes.stop("t1")
    assert ended(processes).state == "succeeded"


def test_program_whose_supervisor_was_killed_still_runs(
    processes: ProcessTasks, tmp_path: Path
) -> None:
    started(processes)
    os.kill(supervisor_of(tmp_path), signal.SIGKILL)
    assert processes.status(["t1"])["t1"].state == "running"
    Path("go").touch()
    assert ended(processes).detail == f"{sys.executable} was killed with its supervisor"


def test_task_that_never_began_is_unknown(processes: ProcessTasks, tmp_path: Path) -> None:
    """What an engine leaves that was killed just before it started the supervisor."""
    home = tmp_path / "tasks" / "t1"
    home.mkdir(parents=True)
    (home / "spec").write_text('["true"]', encoding="utf-8")
    (home / "lock").touch()
    assert processes.status(["t1"]) == {}
    processes.forget("t1")
    assert not home.exists()


def test_reused_process_id_does_not_bring_a_task_back(
    processes: ProcessTasks, tmp_path: Path
) -> None:
    home = tmp_path / "tasks" / "t1"
    home.mkdir(parents=True)
    (home / "spec").write_text('["true"]', encoding="utf-8")
    (home / "lock").touch()
    (home / "started").write_text(str(os.getpid()), encoding="utf-8")  # somebody who is alive
    assert processes.status(["t1"])["t1"].detail == "true was killed with its supervisor"


def test_forgotten_task_leaves_no_files_and_no_zombie(
    processes: ProcessTasks, tmp_path: Path
) -> None:
    processes.start("t1", python("pass"))
    eventually((tmp_path / "tasks" / "t1" / "started").exists)
    supervisor = supervisor_of(tmp_path)
    ended(processes)
    processes.forget("t1")
    assert list((tmp_path / "tasks").iterdir()) == []
    with pytest.raises(ChildProcessError):
        os.waitpid(supervisor, os.WNOHANG)


def test_running_task_is_not_forgotten(processes: ProcessTasks) -> None:
    started(processes)
    with pytest.raises(ValueError, match="task t1 is running"):
        processes.forget("t1")
    Path("go").touch()


def test_forgetting_an_unknown_task_does_nothing(processes: ProcessTasks) -> None:
    processes.forget("t1")


@pytest.mark.parametrize("spec", ["cp a b", b"cp", 7, None, {"cp"}, [7], ["cp", b"a"]])
def test_spec_that_is_no_list_of_arguments_is_refused(processes: ProcessTasks, spec: Any) -> None:
    with pytest.raises(TypeError, match="a task is a list of program arguments"):
        processes.start("t1", spec)
    assert processes.status() == {}


@pytest.mark.parametrize("spec", [[], [""], ["cp", "a\0b"]])
def test_spec_that_cannot_be_executed_is_refused(processes: ProcessTasks, spec: Any) -> None:
    with pytest.raises(ValueError, match="program"):
        processes.start("t1", spec)
    assert processes.status() == {}


def test_more_than_a_list_is_refused(processes: ProcessTasks) -> None:
    with pytest.raises(TypeError):
        processes.start("t1", "copy-image", source="a")  # type: ignore[arg-type, call-arg]


@pytest.mark.parametrize("task_id", ["", ".", "..", "a/b", "../a", "a\0"])
def test_id_that_leaves_the_directory_is_refused(processes: ProcessTasks, task_id: str) -> None:
    with pytest.raises(ValueError, match="not a task id"):
        processes.start(task_id, python("pass"))


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # An orphan that nobody reaps counts as dead.
    stat = Path(f"/proc/{pid}/stat")
    return not (stat.exists() and ") Z " in stat.read_text(encoding="utf-8"))
