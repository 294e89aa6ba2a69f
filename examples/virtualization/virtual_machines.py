"""Commands on virtual machines. While one works on a VM it has the VM for itself.

Those that work on a VM's disk lock its storage domain shared as well, so that nobody takes the
domain away under it. Where the domain is known only from what is stored, `shared_locks` looks it
up, instead of a declaration.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import ClassVar

from lockcore import Keys
from lockcore.engine import Message, Scope, exclusive, locks, shared
from virtualization import world
from virtualization.base import EntityCommand, misfit, missing, storage_of, taken

MEMORY_SIZE = 1 << 20

CREATING = Message("VM_IS_BEING_CREATED", VmName="{vm}")


@locks(
    exclusive("VM_NAME", "vm", message=CREATING),
    exclusive("VM", "vm", message=CREATING),
    shared(
        "TEMPLATE", "template", message=Message("TEMPLATE_IS_USED_FOR_CREATE_VM", VmName="{vm}")
    ),
    shared("STORAGE", "domain", message=Message("DOMAIN_IS_USED_BY_VM", VmName="{vm}")),
    scope=Scope.COMMAND,
)
class AddVmFromTemplate(EntityCommand):
    """Makes a VM with a copy of the template's disk. Any number of them may use one template."""

    action = "add"
    entity = "VM"
    vm: str
    template: str
    domain: str

    def shared_locks(self) -> Keys:
        """The template's disk, and the domain that it is on."""
        disk = Message("DISK_IS_USED_FOR_CREATE_VM", VmName=self.vm)
        domain = Message("DOMAIN_IS_USED_BY_VM", VmName=self.vm)
        return {
            ("DISK", f"templates/{self.template}"): disk,
            **storage_of("templates", self.template, domain),
        }

    def validate(self) -> Iterator[Message]:
        yield from taken("vms", self.vm)
        yield from missing("templates", self.template)
        yield from misfit("domains", self.domain, status="active")

    def execute(self) -> None:
        template = world.load("templates", self.template) or {}
        source = world.image(template["domain"], "templates", self.template)
        self.start_tool("copy", source, world.image(self.domain, "vms", self.vm))

    def end_successfully(self) -> None:
        world.save(
            "vms",
            self.vm,
            domain=self.domain,
            template=self.template,
            status="down",
            host=None,
        )

    def end_with_failure(self) -> None:
        world.erase(world.image(self.domain, "vms", self.vm))


class VmCommand(EntityCommand):
    """An operation on a VM that is there.

    Attributes:
        needs: The status in which the VM must be; None if any will do.
    """

    entity = "VM"
    needs: ClassVar[str | None] = "down"
    vm: str

    def validate(self) -> Iterator[Message]:
        wanted = {} if self.needs is None else {"status": self.needs}
        yield from misfit("vms", self.vm, **wanted)

    @property
    def stored(self) -> world.Entity:
        """What is stored of the VM; only to be asked for while it is locked."""
        return world.load("vms", self.vm) or {}


@locks(scope=Scope.COMMAND)
class VmDiskCommand(VmCommand):
    """An operation on the disk of a VM. Subclasses lock the VM, and say with which message."""

    def shared_locks(self) -> Keys:
        return storage_of("vms", self.vm, Message("DOMAIN_IS_USED_BY_VM", VmName=self.vm))


@locks(
    exclusive("VM", "vm", message=Message("VM_IS_BEING_STARTED", VmName="{vm}")),
    scope=Scope.EXECUTION,
)
class RunVm(VmCommand):
    """Starts a VM on a host. No task is needed, so the lock goes with the call."""

    action = "run"
    host: str

    def validate(self) -> Iterator[Message]:
        yield from super().validate()
        yield from missing("hosts", self.host)

    def execute(self) -> None:
        memory = world.memory(self.host, self.vm)
        memory.parent.mkdir(parents=True, exist_ok=True)
        memory.write_bytes(os.urandom(MEMORY_SIZE))
        world.change("vms", self.vm, status="up", host=self.host)


@locks(
    exclusive("VM", "vm", message=Message("VM_IS_BEING_STOPPED", VmName="{vm}")),
    scope=Scope.EXECUTION,
)
class StopVm(VmCommand):
    """Stops a VM."""

    action = "stop"
    needs = "up"

    def execute(self) -> None:
        host = self.stored["host"]
        world.change("vms", self.vm, status="down", host=None)
        world.erase(world.memory(host, self.vm))


@locks(
    exclusive("VM", "vm", message=Message("VM_IS_BEING_MIGRATED", VmName="{vm}")),
    scope=Scope.COMMAND,
)
class MigrateVm(VmCommand):
    """Copies the memory of a running VM to another host, and goes on there."""

    action = "migrate"
    needs = "up"
    host: str

    def validate(self) -> Iterator[Message]:
        yield from super().validate()
        yield from missing("hosts", self.host)
        if self.stored.get("host") == self.host:
            yield Message("VM_IS_ON_HOST", VmName=self.vm, HostName=self.host)

    def execute(self) -> None:
        """Announces the VM to the host, and copies: `compensate` takes both back."""
        source = self.stored["host"]
        world.save("incoming", self.host, self.vm, source=source)
        self.start_tool("copy", world.memory(source, self.vm), world.memory(self.host, self.vm))

    def compensate(self) -> None:
        world.erase(world.memory(self.host, self.vm))
        world.drop("incoming", self.host, self.vm)

    def end_successfully(self) -> None:
        """What says where the VM came from goes last: without it, all has been done before."""
        incoming = world.load("incoming", self.host, self.vm)
        if incoming is not None:
            world.change("vms", self.vm, host=self.host)
            world.erase(world.memory(incoming["source"], self.vm))
            world.drop("incoming", self.host, self.vm)


@locks(
    exclusive("VM", "vm", message=Message("SNAPSHOT_IS_BEING_TAKEN_FOR_VM", VmName="{vm}")),
    scope=Scope.COMMAND,
)
class CreateSnapshot(VmDiskCommand):
    """Keeps a copy of the disk of a VM as it is now."""

    action = "snapshot"
    needs = None
    snapshot: str

    def validate(self) -> Iterator[Message]:
        yield from super().validate()
        yield from taken("snapshots", self.vm, self.snapshot)

    def execute(self) -> None:
        domain = self.stored["domain"]
        image = world.image(domain, "snapshots", self.vm, self.snapshot)
        self.start_tool("copy", world.image(domain, "vms", self.vm), image)

    def end_successfully(self) -> None:
        world.save("snapshots", self.vm, self.snapshot, domain=self.stored["domain"])

    def end_with_failure(self) -> None:
        world.erase(world.image(self.stored["domain"], "snapshots", self.vm, self.snapshot))


@locks(
    exclusive("VM", "vm", message=Message("SNAPSHOT_IS_BEING_REMOVED", VmName="{vm}")),
    scope=Scope.COMMAND,
)
class RemoveSnapshot(VmDiskCommand):
    """Erases a snapshot.

    A VM's snapshots are stored one by one, not in the VM: a command that removes the VM runs
    several of these at a time, under one owner, and they must not overwrite each other.
    """

    action = "remove"
    entity = "snapshot"
    needs = None
    snapshot: str

    def validate(self) -> Iterator[Message]:
        yield from super().validate()
        yield from missing("snapshots", self.vm, self.snapshot)

    def execute(self) -> None:
        domain = self.stored["domain"]
        self.start_tool("erase", world.image(domain, "snapshots", self.vm, self.snapshot))

    def end_successfully(self) -> None:
        world.drop("snapshots", self.vm, self.snapshot)


REMOVING = Message("VM_IS_BEING_REMOVED", VmName="{vm}")


@locks(
    exclusive("VM", "vm", message=REMOVING),
    exclusive("VM_PERMISSIONS", "vm", message=REMOVING),
    scope=Scope.COMMAND,
)
class RemoveVm(VmDiskCommand):
    """Erases a VM, its snapshots, and what anybody may do with it.

    If a part of it fails the VM is still there, and can be removed again.
    """

    action = "remove"

    def execute(self) -> None:
        for snapshot in world.names("snapshots", self.vm):
            self.run_part(RemoveSnapshot(vm=self.vm, snapshot=snapshot))
        self.start_tool("erase", world.image(self.stored["domain"], "vms", self.vm))

    def end_successfully(self) -> None:
        """The VM goes last: until then, this can be done again."""
        for subject in world.names("subjects"):
            for role in world.names("permissions", subject, self.vm):
                world.drop("permissions", subject, self.vm, role)
        world.drop("vms", self.vm)
