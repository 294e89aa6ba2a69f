"""The demo's story: every step says what it claims, checks it, and fails if it is not so."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import signal
import sys
import tempfile
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from lockcore._demo import _copy
from lockcore._demo._client import EngineProcess
from lockcore.engine import ProcessTasks, TaskState

__all__ = ["ClaimError", "play"]

IMAGE_CHUNKS: Final = 96
PATIENCE: Final = 30.0


class ClaimError(Exception):
    """Something that the demo says is not so."""


def play(*, keep: bool = False) -> None:
    """Plays the demo in a scratch directory, which is removed with all processes at the end.

    Args:
        keep: Leave the directory for the reader to look at.

    Raises:
        ClaimError: A claim does not hold.
    """
    with contextlib.ExitStack() as cleanup:
        cleanup.enter_context(_terminable())
        scratch = Path(tempfile.mkdtemp(prefix="lockcore-demo-"))
        if not keep:
            cleanup.callback(shutil.rmtree, scratch, ignore_errors=True)
        cleanup.callback(_stop_tasks, scratch / "tasks")
        story = Story(scratch)
        cleanup.callback(story.kill_engine)
        try:
            story.tell()
        except Exception:
            _show_log(scratch / "engine.log")
            raise
        if keep:
            print(f"\nThe files are in {scratch}.")


class Story:
    """One run of the demo, chapter by chapter."""

    def __init__(self, scratch: Path) -> None:
        self._scratch = scratch
        self._engine: EngineProcess | None = None
        self._digest = ""
        self._began = time.monotonic()

    @property
    def engine(self) -> EngineProcess:
        if self._engine is None:
            raise ClaimError("there is no engine")
        return self._engine

    def kill_engine(self) -> None:
        if self._engine is not None:
            self._engine.kill()

    def tell(self) -> None:
        self.build_data_centre()
        self.activate_against_reconstruct()
        vms = self.create_vms()
        self.kill_in_the_middle(vms)
        self.recover(vms)
        self.finish(vms)
        seconds = time.monotonic() - self._began
        print(f"\nEvery claim above was checked. It took {seconds:.0f} seconds.")

    def build_data_centre(self) -> None:
        _chapter("A data centre")
        for domain in ("domain-1", "domain-2"):
            home = self._scratch / "pools" / "pool-1" / domain
            home.mkdir(parents=True)
            (home / "status").write_text("maintenance", encoding="utf-8")
        (self._scratch / "pools" / "pool-1" / "master").write_text("domain-1", encoding="utf-8")
        (self._scratch / "hosts").mkdir()
        (self._scratch / "vms").mkdir()
        (self._scratch / "templates" / "fedora").mkdir(parents=True)
        self._template.write_bytes(os.urandom(IMAGE_CHUNKS * _copy.CHUNK))
        self._digest = _sha256(self._template)
        self._throttle(0.03)
        _say(
            f"In {self._scratch} there is now a storage pool with two domains, and a template"
            f" 'fedora' with a disk image of {self._template.stat().st_size >> 20} MiB."
        )
        self._engine = EngineProcess(self._scratch)
        _say(f"An engine runs as process {self.engine.pid}.")
        _check(self.engine.locks() == [], "nothing is locked yet")

    def activate_against_reconstruct(self) -> None:
        _chapter("Two commands that must not run together")
        _say(
            "Activating a storage domain locks the domain exclusive and its pool shared."
            " Reconstructing the master of a pool locks the pool exclusive. Whichever comes second"
            " is turned away, and told why."
        )
        activate = {"pool_id": "pool-1", "domain_id": "domain-2"}
        reconstruct = {"pool_id": "pool-1", "new_master_id": "domain-2"}

        activation = self._start("ActivateStorageDomain", **activate)
        self._refuse("ReconstructMaster", "domain-2 is being activated", **reconstruct)
        self._let_host_answer("activate-domain-2")
        self._succeed("ActivateStorageDomain", activation)
        status = (self._scratch / "pools/pool-1/domain-2/status").read_text(encoding="utf-8")
        _check(status == "active", "domain-2 is active")

        reconstruction = self._start("ReconstructMaster", **reconstruct)
        self._refuse("ActivateStorageDomain", "domain-2 as its master", **activate)
        self._let_host_answer("reconstruct-pool-1")
        self._succeed("ReconstructMaster", reconstruction)
        master = (self._scratch / "pools/pool-1/master").read_text(encoding="utf-8")
        _check(master == "domain-2", "domain-2 is the master of the pool")

    def create_vms(self) -> dict[str, str]:
        _chapter("Long work, and a template in use")
        _say(
            "A VM is created from a template by copying its image. That takes a while, so a process"
            " of its own does it. The template stays locked, shared, until the copy has ended."
        )
        vms = {"web-1": self._start("AddVmFromTemplate", template_id="fedora", vm_name="web-1")}
        self._refuse("RemoveTemplate", "create VM web-1", template_id="fedora")
        vms["web-2"] = self._start("AddVmFromTemplate", template_id="fedora", vm_name="web-2")
        _check(len(self._holders("fedora")) == 2, "two VMs share the template: they only read it")
        self._refuse(
            "AddVmFromTemplate", "VM web-1 is being created", template_id="fedora", vm_name="web-1"
        )
        return vms

    def kill_in_the_middle(self, vms: dict[str, str]) -> None:
        _chapter("The engine is killed in the middle of a copy")
        whole = self._template.stat().st_size
        for vm in vms:
            self._until_copied(vm, 0.4 * whole, f"{vm} is copied to 40 %")
        self._throttle(0.25)  # so that there is time to look before the copies end
        killed = self.engine
        status = killed.kill()
        _check(status == -signal.SIGKILL, f"process {killed.pid} was ended by SIGKILL")
        for vm in vms:
            copied = self._copied(vm)
            _check(copied < whole, f"the image of {vm} is incomplete: {100 * copied // whole} %")
            self._until_copied(vm, copied + 1, f"the copy of {vm} goes on")
            _check(not self._is_created(vm), f"{vm} does not exist yet")

    def recover(self, vms: dict[str, str]) -> None:
        _chapter("It is started again")
        self._engine = EngineProcess(self._scratch)
        _say(f"A new engine runs as process {self.engine.pid}. Its recovery report:")
        print(textwrap.indent(self.engine.recovery["text"], "      "))
        _check(
            self.engine.recovery["resumed"] == list(vms.values()),
            "both commands were resumed, in their order",
        )
        _check(
            self._holders("fedora") == sorted(vms.values()),
            "the template is locked again, by the same two commands",
        )
        self._refuse("RemoveTemplate", "create VM web-1", template_id="fedora")
        for vm, command_id in vms.items():
            done = self._progress(command_id)
            _check(done >= 0.4, f"the new engine knows how far {vm} is: {100 * done:.0f} %")
        whole = self._template.stat().st_size
        _check(self._copied("web-1") < whole, "all that while the copy was still under way")

    def finish(self, vms: dict[str, str]) -> None:
        _chapter("The copies end, and so do the commands")
        self._throttle(0.0)
        for vm, command_id in vms.items():
            self._succeed(f"AddVmFromTemplate {vm}", command_id)
            _check(self._is_created(vm), f"the end action has run in the new engine: {vm} exists")
            image = self._scratch / "vms" / vm / "disk.img"
            _check(_sha256(image) == self._digest, "its image is the template's, byte for byte")
        _check(self.engine.locks() == [], "nothing is locked any more")
        removed = self.engine.run("RemoveTemplate", template_id="fedora")
        _check(removed["state"] == "succeeded", "RemoveTemplate fedora: succeeded")
        _check(not self._template.exists(), "the template is gone")
        self.engine.stop()
        left = ProcessTasks(self._scratch / "tasks").status()
        _check(not left, "the engine is closed, and no task is left behind")

    # -- what the chapters are made of

    @property
    def _template(self) -> Path:
        return self._scratch / "templates" / "fedora" / "disk.img"

    def _throttle(self, seconds: float) -> None:
        """Sets how long a copy pauses after each chunk."""
        new = self._scratch / "throttle.new"
        new.write_text(str(seconds), encoding="utf-8")
        new.replace(self._scratch / "throttle")

    def _start(self, command: str, **parameters: str) -> str:
        """Runs a command that starts a task; returns its id."""
        reply = self.engine.run(command, **parameters)
        claim = f"{command} {_named(parameters)}: running, its locks held"
        _check(reply["state"] == "running", claim)
        return str(reply["command_id"])

    def _refuse(self, command: str, because: str, **parameters: str) -> None:
        reply = self.engine.run(command, **parameters)
        sentence = " ".join(reply["reasons"])
        _check(
            reply["state"] == "refused" and because in sentence,
            f"{command} {_named(parameters)}: refused",
        )
        for reason in reply["reasons"]:
            _say(f'"{reason}"', indent="        ")

    def _succeed(self, title: str, command_id: str) -> None:
        reply = self.engine.wait(command_id)
        _check(reply["state"] == "succeeded", f"{title}: succeeded, its locks gone")

    def _progress(self, command_id: str) -> float:
        """How far a command has come, once the engine has looked."""
        _comes(lambda: self.engine.progress(command_id) > 0)
        return self.engine.progress(command_id)

    def _let_host_answer(self, name: str) -> None:
        hosts = self._scratch / "hosts"
        _until(
            (hosts / f"{name}.request").exists, f"a host is asked to {name.replace('-', ' ', 1)}"
        )
        (hosts / "answer").write_text("done", encoding="utf-8")
        (hosts / "answer").replace(hosts / f"{name}.answer")

    def _copied(self, vm: str) -> int:
        image = self._scratch / "vms" / vm / "disk.img"
        return image.stat().st_size if image.exists() else 0

    def _until_copied(self, vm: str, size: float, claim: str) -> None:
        _until(lambda: self._copied(vm) >= size, claim)

    def _is_created(self, vm: str) -> bool:
        return (self._scratch / "vms" / vm / "vm.json").exists()

    def _holders(self, template: str) -> list[str]:
        rows = self.engine.locks()
        return sorted(row["owner"] for row in rows if row["key"] == ["TEMPLATE", template])


def _chapter(title: str) -> None:
    print(f"\n{title}\n{'-' * len(title)}")


def _say(text: str, *, indent: str = "  ") -> None:
    print(textwrap.fill(text, 88, initial_indent=indent, subsequent_indent=indent), flush=True)


def _check(holds: bool, claim: str) -> None:
    if not holds:
        raise ClaimError(f"this is not so: {claim}")
    print(f"  ok  {claim}", flush=True)


def _until(is_so: Callable[[], bool], claim: str) -> None:
    """Waits for a state that is to come."""
    _check(_comes(is_so), claim)


def _comes(is_so: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + PATIENCE
    pause = threading.Event()
    while not is_so():
        if time.monotonic() > deadline:
            return False
        pause.wait(0.01)
    return True


def _named(parameters: dict[str, str]) -> str:
    return " ".join(parameters.values())


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _stop_tasks(directory: Path) -> None:
    """Stops what still runs, for when the demo ends early."""
    tasks = ProcessTasks(directory, grace=1.0)

    def running() -> list[str]:
        return [id for id, task in tasks.status().items() if task.state is TaskState.RUNNING]

    for task_id in running():
        tasks.stop(task_id)
    _comes(lambda: not running())


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    """Lets SIGTERM end the demo as Ctrl-C does: with its clean-up."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


def _show_log(path: Path) -> None:
    if path.exists():
        print("\nThe engine's log ends with:", file=sys.stderr)
        print("\n".join(path.read_text(encoding="utf-8").splitlines()[-30:]), file=sys.stderr)
