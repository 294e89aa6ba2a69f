"""The demo's story: every step says what it claims, checks it, and fails if it is not so."""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import signal
import sys
import tempfile
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from lockcore.engine import ProcessTasks, TaskState
from virtualization import image_tool, world
from virtualization.engine import TASKS
from virtualization.line_client import EngineProcess
from virtualization.narration import ClaimError, chapter, check, comes, say, until

IMAGE_CHUNKS: Final = 40


def play(*, keep: bool = False) -> None:
    """Plays the demo in a scratch directory, which is removed with all processes at the end.

    Args:
        keep: Leave the directory for the reader to look at.

    Raises:
        ClaimError: A claim does not hold.
    """
    with contextlib.ExitStack() as cleanup:
        cleanup.enter_context(terminable())
        scratch = Path(tempfile.mkdtemp(prefix="lockcore-demo-"))
        if not keep:
            cleanup.callback(shutil.rmtree, scratch, ignore_errors=True)
        cleanup.enter_context(contextlib.chdir(scratch))
        cleanup.callback(stop_tasks)
        story = Story(scratch)
        cleanup.callback(story.kill_engine)
        try:
            story.tell()
        except Exception:
            show_log(scratch / "engine.log")
            raise
        if keep:
            print(f"\nThe files are in {scratch}.")


class Story:
    """One run of the demo, chapter by chapter."""

    def __init__(self, scratch: Path) -> None:
        self._scratch = scratch
        self._engine: EngineProcess | None = None
        self._activation = ""
        self._began = time.monotonic()

    @property
    def engine(self) -> EngineProcess:
        """The engine process that runs now."""
        if self._engine is None:
            raise ClaimError("there is no engine")
        return self._engine

    def kill_engine(self) -> None:
        """Leaves no process behind, whatever has happened."""
        if self._engine is not None:
            self._engine.kill()

    def tell(self) -> None:
        """All of it."""
        self.build_data_centre()
        self.work_on_one_pool()
        vms = self.create_vms()
        locks = self.kill_in_the_middle(vms)
        self.recover(vms, locks)
        self.finish(vms)
        self.keep_vm_busy()
        self.remove_vm()
        self.look_around()
        seconds = time.monotonic() - self._began
        print(f"\nEvery claim above was checked. It took {seconds:.0f} seconds.")

    def build_data_centre(self) -> None:
        """Makes the files, and starts an engine."""
        chapter("A data centre")
        world.build(image_size=IMAGE_CHUNKS * image_tool.CHUNK)
        self._digest = sha256(world.image("data1", "templates", "fedora"))
        self._engine = EngineProcess(self._scratch)
        say(
            f"In {self._scratch} there is now a storage pool 'gold', domains 'data1' to 'data4',"
            f" and a template 'fedora' with a disk image of {self._whole >> 20} MiB. An engine runs"
            f" as process {self.engine.pid}."
        )
        check(self.engine.locks() == [], "nothing is locked yet")

    def work_on_one_pool(self) -> None:
        """Shared and exclusive locks, a refusal, and a command that waits."""
        chapter("Who may work together, and who must wait")
        say(
            "Every operation on a storage domain locks the domain exclusive and its pool shared, so"
            " those on several domains run together. Reconstructing the master of the pool locks"
            " the pool exclusive."
        )
        slow_down(3600)
        activation = self.start("ActivateStorageDomain", pool="gold", domain="data3")
        attached = self.engine.run("AttachStorageDomain", {"pool": "gold", "domain": "data4"})
        check(attached["state"] == "succeeded", "AttachStorageDomain gold data4: succeeded")

        reconstruct = {"pool": "gold", "new_master": "data2"}
        self.refuse("ReconstructMaster", "storage domain data3", timeout=0, **reconstruct)
        say("That was one that may not wait. It is declared with timeout=60; so this one waits:")
        waiting = self.engine.begin("ReconstructMaster", reconstruct)
        until(lambda: len(self.waiters("POOL", "gold")) == 1, "ReconstructMaster gold data2: waits")
        self.refuse("DetachStorageDomain", "data2 as its master", pool="gold", domain="data4")
        say("Whoever comes later does not overtake it, though the pool is only held shared.")
        slow_down(0)
        self.succeed("ActivateStorageDomain", activation)
        self.succeed("ReconstructMaster", waiting.result(30)["command_id"])
        check(stored("domains", "data3")["status"] == "active", "data3 is active")
        check(stored("pools", "gold")["master"] == "data2", "data2 is the master of the pool")

    def create_vms(self) -> dict[str, str]:
        """Commands whose tasks take long."""
        chapter("Long work, and a template in use")
        say(
            "A VM is created from a template by copying its image. That takes a while, so a process"
            " of its own does it. The template stays locked, shared, until the copy has ended."
        )
        slow_down(3600)
        vms = {}
        for vm, domain in (("web", "data1"), ("db", "data3")):
            vms[vm] = self.start("AddVmFromTemplate", vm=vm, template="fedora", domain=domain)
        check(
            self.holders("TEMPLATE", "fedora") == sorted(vms.values()),
            "two VMs share the template: they only read it",
        )
        self.refuse("RemoveTemplate", "to create VM web", template="fedora")
        self.refuse("DeactivateStorageDomain", "for VM db", pool="gold", domain="data3")
        self.refuse(
            "AddVmFromTemplate", "VM web is being", vm="web", template="fedora", domain="data2"
        )
        slow_down(0.1)
        return vms

    def kill_in_the_middle(self, vms: dict[str, str]) -> list[Any]:
        """SIGKILL. Returns the locks that must come back."""
        chapter("The engine is killed in the middle of a copy")
        for vm in vms:
            self.until_copied(vm, 0.1 * self._whole, f"{vm} is copied to 10 %")
        slow_down(3600)
        self._activation = self.start("ActivateStorageDomain", pool="gold", domain="data4")
        locks = [row for row in self.locks() if row[-1] != self._activation]
        killed = self.engine
        check(killed.kill() == -signal.SIGKILL, f"process {killed.pid} was ended by SIGKILL")
        slow_down(0.3)  # so that there is time to look before the copies end
        for vm in vms:
            before = copied(vm)
            check(before < self._whole, f"{vm} is incomplete: {100 * before // self._whole} %")
            self.until_copied(vm, before + 1, f"the copy of {vm} goes on")
        inventory = world.image("data4", "inventory")
        until(inventory.exists, "the work on data4 has ended, and nobody has noticed")
        return locks

    def recover(self, vms: dict[str, str], locks: list[Any]) -> None:
        """A new engine on what the old one has left."""
        chapter("It is started again")
        self._engine = EngineProcess(self._scratch)
        report = self.engine.recovery
        say(f"A new engine runs as process {self.engine.pid}. Its recovery report:")
        print(textwrap.indent(report["text"], "      "))
        resumed, ended = report["resumed"], report["ended"]
        check(resumed == list(vms.values()), "both copies are followed again, in their order")
        check(ended == [self._activation], "the activation of data4 was brought to its end")
        check(stored("domains", "data4")["status"] == "active", "data4 is active")
        check(
            self.locks() == locks,
            f"the {len(locks)} locks of the two that live are held again, and no others",
        )
        self.refuse("RemoveTemplate", "to create VM web", template="fedora")
        for vm, command_id in vms.items():
            part = self.progress(command_id)
            check(part >= 0.1, f"the new engine knows how far {vm} is: {100 * part:.0f} %")
        check(copied("web") < self._whole, "all that while the copy was still under way")

    def finish(self, vms: dict[str, str]) -> None:
        """The end of what the killed engine has begun."""
        chapter("The copies end, and so do the commands")
        slow_down(0)
        for vm, command_id in vms.items():
            self.succeed(f"AddVmFromTemplate {vm}", command_id)
            disk = world.image(stored("vms", vm)["domain"], "vms", vm)
            check(sha256(disk) == self._digest, f"{vm} exists, its disk is the template's")
        check(self.engine.locks() == [], "nothing is locked any more")

    def keep_vm_busy(self) -> None:
        """One VM, several commands that want it."""
        chapter("A busy VM")
        slow_down(3600)
        export = self.start("ExportVm", vm="web")
        self.refuse("MigrateVm", "VM web is being exported", vm="web", host="h2")
        self.refuse("CreateSnapshot", "VM web is being exported", vm="web", snapshot="monday")
        grant = self.engine.run(
            "GrantPermission", {"subject": "ann", "role": "operator", "vm": "web"}
        )
        check(grant["state"] == "succeeded", "GrantPermission ann: succeeded, it needs no VM")
        slow_down(0)
        self.succeed("ExportVm", export)
        for snapshot in ("monday", "tuesday"):
            taken = self.start("CreateSnapshot", vm="web", snapshot=snapshot)
            self.succeed("CreateSnapshot", taken)

    def remove_vm(self) -> None:
        """Children, and a part of the work that comes back by import."""
        chapter("A command made of commands")
        say("RemoveVm runs RemoveSnapshot for each snapshot, under its own locks.")
        removal = self.start("RemoveVm", vm="web")
        self.succeed("RemoveVm", removal)
        check(not world.names("snapshots", "web"), "its snapshots are gone, too")
        check(not world.names("permissions", "ann", "web"), "and what ann might do with it")
        self.succeed("RemoveTemplate", self.start("RemoveTemplate", template="fedora"))
        again = self.start("ImportVm", exported="web", vm="web-2", domain="data2")
        self.succeed("ImportVm", again)

    def look_around(self) -> None:
        """What is left at the end."""
        chapter("What is left")
        check(world.names("vms") == ["db", "web-2"], "two VMs: db, and web-2, which was imported")
        for vm in world.names("vms"):
            disk = world.image(stored("vms", vm)["domain"], "vms", vm)
            check(sha256(disk) == self._digest, f"{vm} has the image it should, byte for byte")
        disks = sorted(str(file) for file in Path("images").glob("*/*/**/*") if file.is_file())
        check(disks == ["images/data2/vms/web-2", "images/data3/vms/db"], "there are no others")
        check(self.engine.locks() == [], "nothing is locked")
        self.engine.stop()
        check(not ProcessTasks(TASKS).status(), "the engine is closed, and no task is left behind")

    # -- what the chapters are made of

    def start(self, command: str, **parameters: str) -> str:
        """Runs a command that starts a task; returns its id."""
        reply = self.engine.run(command, parameters)
        check(reply["state"] == "running", f"{title(command, parameters)}: running")
        return str(reply["command_id"])

    def refuse(
        self, command: str, because: str, *, timeout: float | None = None, **parameters: str
    ) -> None:
        """Runs a command that is turned away, and told why."""
        options = {} if timeout is None else {"timeout": timeout}
        reply = self.engine.run(command, parameters, **options)
        sentences = reply["sentences"]
        is_refused = reply["state"] == "refused" and because in " ".join(sentences)
        check(is_refused, f"{title(command, parameters)}: refused")
        for sentence in sentences:
            say(f'"{sentence}"', indent="        ")

    def succeed(self, what: str, command_id: str) -> None:
        """Waits for the end of a command."""
        reply = self.engine.wait(command_id)
        check(reply["state"] == "succeeded", f"{what}: succeeded, its locks gone")

    def until_copied(self, vm: str, size: float, claim: str) -> None:
        """Waits until so many bytes of a disk are there."""
        until(lambda: copied(vm) >= size, claim)

    def progress(self, command_id: str) -> float:
        """How far a command has come, once the engine has looked."""
        comes(lambda: self.engine.status(command_id)["progress"] is not None)
        return self.engine.status(command_id)["progress"] or 0.0

    def locks(self) -> list[Any]:
        """What is locked, how and by whom."""
        return [(row["key"], row["mode"], row["owner"]) for row in self.engine.locks()]

    def holders(self, *key: str) -> list[str]:
        """Who has a key."""
        return sorted(row["owner"] for row in self.engine.locks() if row["key"] == list(key))

    def waiters(self, *key: str) -> list[str]:
        """Who waits for a key."""
        rows = [row["waiters"] for row in self.engine.locks() if row["key"] == list(key)]
        return rows[0] if rows else []

    @property
    def _whole(self) -> int:
        return world.image("data1", "templates", "fedora").stat().st_size


def slow_down(seconds: float) -> None:
    """Sets how long the storage takes for each piece of work."""
    new = image_tool.PAUSE.with_suffix(".new")
    new.write_text(str(seconds), encoding="utf-8")
    new.replace(image_tool.PAUSE)


def copied(vm: str) -> int:
    """How many bytes of the disk of a VM that is being created there are."""
    for domain in world.names("domains"):
        image = world.image(domain, "vms", vm)
        for file in (world.unfinished(image), image):
            if file.exists():
                return file.stat().st_size
    return 0


def stored(kind: str, name: str) -> world.Entity:
    """What the data centre says of an entity."""
    return world.load(kind, name) or {}


def title(command: str, parameters: dict[str, str]) -> str:
    """A command and what it is about."""
    return " ".join((command, *parameters.values()))


def sha256(path: Path) -> str:
    """The checksum of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def stop_tasks() -> None:
    """Stops what still runs, for when the demo ends early."""
    tasks = ProcessTasks(TASKS, grace=1.0)

    def running() -> list[str]:
        return [id for id, task in tasks.status().items() if task.state is TaskState.RUNNING]

    for task_id in running():
        tasks.stop(task_id)
    comes(lambda: not running())


@contextlib.contextmanager
def terminable() -> Iterator[None]:
    """Lets SIGTERM end the demo as Ctrl-C does: with its clean-up."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


def show_log(path: Path) -> None:
    """Helps to find out what went wrong."""
    if path.exists():
        print("\nThe engine's log ends with:", file=sys.stderr)
        print("\n".join(path.read_text(encoding="utf-8").splitlines()[-30:]), file=sys.stderr)
