"""What `ProcessTasks` keeps in its directory: for the next engine, but not for ever."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lockcore.engine import Command, Engine, ProcessTasks, Scope, TaskState, _processes, locks
from support import eventually

DIES_AFTER_START = """
import os, signal, sys
from lockcore.engine import ProcessTasks
ProcessTasks("tasks").start("t1", ["sh", "-c", sys.argv[1]])
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture(autouse=True)
def _in_tmp_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def ended(processes: ProcessTasks, task_id: str = "t1") -> Any:
    def status() -> Any:
        found = processes.status([task_id])[task_id]
        return found if found.state is not TaskState.RUNNING else None

    return eventually(status)


def left_by_a_killed_process(script: str) -> None:
    """Starts a task in a process that kills itself at once."""
    starter = subprocess.run([sys.executable, "-c", DIES_AFTER_START, script], check=False)
    assert starter.returncode == -signal.SIGKILL


def test_exit_status_and_output_survive_the_engine(processes: ProcessTasks) -> None:
    os.mkfifo("go")
    left_by_a_killed_process("echo reading; read line < go; echo the disk is full >&2; exit 3")
    assert processes.status(["t1"])["t1"].state == "running"
    Path("go").write_text("\n", encoding="utf-8")
    assert ended(processes).detail == "sh exited with status 3: the disk is full"
    assert processes.output("t1").read_text(encoding="utf-8") == "reading\nthe disk is full\n"


def test_task_that_ended_while_no_engine_ran_is_known(processes: ProcessTasks) -> None:
    left_by_a_killed_process("echo > done")
    eventually(Path("tasks/t1/ended").exists)
    assert processes.status()["t1"].state == "succeeded"


def test_task_whose_processes_are_all_gone_has_failed(processes: ProcessTasks) -> None:
    """As after the machine was switched off: nobody could write down how it ended."""
    processes.start("t1", ["sh", "-c", "echo $$ > pid.new; mv pid.new pid; exec sleep 60"])
    eventually(Path("pid").exists)
    for file in ("tasks/t1/started", "pid"):
        os.kill(int(Path(file).read_text(encoding="utf-8")), signal.SIGKILL)
    assert ended(processes).detail == "sh was killed with its supervisor"


def test_directory_that_is_removed_makes_no_task_unknown(tmp_path: Path) -> None:
    processes = ProcessTasks("tasks")
    processes.start("t1", ["true"])
    ended(processes)
    shutil.rmtree("tasks")
    with pytest.raises(FileNotFoundError, match="the directory of the tasks is gone"):
        processes.status(["t1"])
    with pytest.raises(FileNotFoundError, match="the directory of the tasks is gone"):
        processes.start("t2", ["true"])


def test_directory_that_is_replaced_makes_no_task_unknown() -> None:
    processes = ProcessTasks("tasks")
    processes.start("t1", ["true"])
    ended(processes)
    Path("tasks").rename("elsewhere")
    Path("tasks").mkdir()
    with pytest.raises(FileNotFoundError, match="the directory of the tasks is gone"):
        processes.status(["t1"])


@pytest.mark.parametrize("directory", ["file", "file/tasks"])
def test_directory_that_cannot_be_made_refuses_tasks(directory: str) -> None:
    Path("file").touch()
    processes = ProcessTasks(directory)
    with pytest.raises(NotADirectoryError):
        processes.start("t1", ["true"])
    assert processes.status(["t1"]) == {}


@locks(scope=Scope.COMMAND)
class Run(Command):
    program: str

    def execute(self) -> None:
        self.start_task([self.program])


def test_command_whose_task_cannot_be_stored_fails_at_once(
    new_engine: Callable[..., Engine],
) -> None:
    Path("file").touch()
    with new_engine(tasks=ProcessTasks("file/tasks")) as engine:
        result = engine.run(Run(program="true"))
    assert result.state == "failed"
    assert "Not a directory" in str(result.messages[0])


def test_command_whose_program_does_not_exist_fails(
    processes: ProcessTasks, new_engine: Callable[..., Engine]
) -> None:
    with new_engine(tasks=processes) as engine:
        result = engine.wait(engine.run(Run(program="/no/such/program")).command_id, timeout=10)
    assert result.state == "failed"
    assert "cannot execute /no/such/program" in str(result.messages[0])


def descriptors() -> int:
    """How many there are; 0 where nobody tells."""
    return len(list(Path("/proc/self/fd").glob("*")))


def test_ended_commands_leave_neither_files_nor_descriptors_nor_zombies(
    processes: ProcessTasks, new_engine: Callable[..., Engine], tmp_path: Path
) -> None:
    with new_engine(tasks=processes) as engine:
        engine.wait(engine.run(Run(program="true")).command_id, timeout=10)
        before = descriptors()
        ids = [engine.run(Run(program="true")).command_id for _ in range(20)]
        for command_id in ids:
            assert engine.wait(command_id, timeout=10).state == "succeeded"
        eventually(lambda: not list((tmp_path / "tasks").iterdir()))
        assert descriptors() == before
    assert processes._supervisors == {}


def test_mark_of_a_task_that_is_no_more_is_removed(processes: ProcessTasks) -> None:
    """What is left when the engine is killed while it forgets."""
    Path("tasks").mkdir()
    Path("tasks/.ended-t1").touch()
    assert processes.status() == {}
    assert list(Path("tasks").iterdir()) == []


# ---- many tasks ------------------------------------------------------------------


N_MANY = 2 * _processes.LOOKS + 10


class Running:
    """So many tasks as they are found while they run: files, locked as a supervisor does it."""

    def __init__(self, count: int) -> None:
        self.ids = [f"t{number}" for number in range(count)]
        self._locks = {}
        for task_id in self.ids:
            home = Path("tasks") / task_id
            home.mkdir(parents=True)
            (home / "spec").write_text('["copy"]', encoding="utf-8")
            (home / "started").write_text("1", encoding="utf-8")
            self._locks[task_id] = (home / "lock").open("w")
            fcntl.flock(self._locks[task_id], fcntl.LOCK_EX)

    def end(self, task_id: str) -> None:
        """As a supervisor ends."""
        Path(f"tasks/.ended-{task_id}").touch()
        ended = '{"exit": 0, "stopped": false}'
        Path(f"tasks/{task_id}/ended").write_text(ended, encoding="utf-8")
        self.die(task_id)

    def die(self, task_id: str) -> None:
        """As everything ends when the machine does."""
        self._locks.pop(task_id).close()

    def die_all(self) -> None:
        for task_id in list(self._locks):
            self.die(task_id)


@pytest.fixture
def many() -> Iterator[Running]:
    running = Running(N_MANY)
    yield running
    running.die_all()


def states(processes: ProcessTasks, running: Running) -> set[str]:
    """The ids of the tasks that have ended, as far as one look tells."""
    statuses = processes.status(running.ids)
    return {task_id for task_id, status in statuses.items() if status.state != "running"}


def test_end_of_one_of_many_tasks_is_seen_at_once(processes: ProcessTasks, many: Running) -> None:
    assert states(processes, many) == set()
    for task_id in (many.ids[0], many.ids[-1]):
        many.end(task_id)
    assert states(processes, many) == {many.ids[0], many.ids[-1]}


def test_death_of_one_of_many_tasks_is_seen_when_its_turn_comes(
    processes: ProcessTasks, many: Running
) -> None:
    assert states(processes, many) == set()
    many.die(many.ids[-1])
    seen = [states(processes, many) for _ in range(3)]
    assert {many.ids[-1]} in seen


def test_few_of_many_running_tasks_are_looked_at_in_one_call(
    processes: ProcessTasks, many: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    processes.status(many.ids)
    looked: list[Path] = []
    look = _processes._status

    def counted(home: Path) -> Any:
        looked.append(home)
        return look(home)

    monkeypatch.setattr(_processes, "_status", counted)
    assert len(processes.status(many.ids)) == N_MANY
    assert len(looked) == _processes.LOOKS


def test_files_beside_the_tasks_are_let_alone(processes: ProcessTasks) -> None:
    processes.start("t1", ["true"])
    Path("tasks/engine.db").touch()
    Path("tasks/lost+found").mkdir()
    assert list(processes.status()) == ["t1"]
    assert processes.status(["engine.db"]) == {}
    ended(processes)
    assert Path("tasks/engine.db").exists()


def test_engine_may_keep_its_store_in_the_directory_of_its_tasks(processes: ProcessTasks) -> None:
    Path("tasks").mkdir()
    with Engine(store="sqlite:///tasks/engine.db", tasks=processes) as engine:
        assert engine.run(Run(program="true")).state == "running"
    with Engine(store="sqlite:///tasks/engine.db", tasks=processes, drain=True) as engine:
        assert engine.recovery.unknown_tasks == ()
