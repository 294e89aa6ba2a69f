"""The commands of the demo's engine, on the files of a data centre in the working directory.

pools/POOL/master            the name of the pool's master domain
pools/POOL/DOMAIN/status     "maintenance" or "active"
templates/TEMPLATE/disk.img
vms/NAME/disk.img, vm.json   a VM exists once it has a vm.json
hosts/                       what the hosts are asked, and what they answer
throttle                     how much the storage is slowed down
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import ClassVar

from lockcore._demo import _copy, _host
from lockcore._messages import MessageCatalog
from lockcore._types import Message
from lockcore.engine import Command, Scope, exclusive, locks, shared

CATALOG = MessageCatalog(
    {
        "en": {
            "TEMPLATE_IS_USED_FOR_CREATE_VM": (
                "Cannot ${action} ${type}. The template is being used to create VM ${VmName}."
            ),
            "VM_IS_BEING_CREATED": "Cannot ${action} ${type}. VM ${VmName} is being created.",
            "TEMPLATE_IS_BEING_REMOVED": "Cannot ${action} ${type}. The template is being removed.",
            "DOMAIN_IS_BEING_ACTIVATED": (
                "Cannot ${action} ${type}. Storage domain ${DomainName} is being activated."
            ),
            "MASTER_IS_BEING_RECONSTRUCTED": (
                "Cannot ${action} ${type}."
                " Pool ${PoolName} is being given ${DomainName} as its master domain."
            ),
        }
    }
)


class DemoCommand(Command):
    """What a refusal says was refused."""

    action: ClassVar[str]
    type: ClassVar[str]


@locks(
    shared(
        "TEMPLATE",
        "template_id",
        message=Message("TEMPLATE_IS_USED_FOR_CREATE_VM", VmName="{vm_name}"),
    ),
    exclusive("VM_NAME", "vm_name", message=Message("VM_IS_BEING_CREATED", VmName="{vm_name}")),
    scope=Scope.COMMAND,
)
class AddVmFromTemplate(DemoCommand):
    """Creates a VM with a copy of the template's disk image."""

    action = "add"
    type = "VM"
    template_id: str
    vm_name: str

    def validate(self) -> str | None:
        if not self._template.exists():
            return f"There is no template {self.template_id}."
        return f"There is a VM {self.vm_name}." if self._home.exists() else None

    def execute(self) -> None:
        self._home.mkdir()
        self.start_task([sys.executable, _copy.__file__, self._template, self._image, "throttle"])

    def end_successfully(self) -> None:
        vm = {"name": self.vm_name, "template": self.template_id, "created_by": self.command_id}
        (self._home / "vm.json").write_text(json.dumps(vm), encoding="utf-8")

    def end_with_failure(self) -> None:
        shutil.rmtree(self._home, ignore_errors=True)

    @property
    def _template(self) -> Path:
        return Path("templates", self.template_id, "disk.img")

    @property
    def _home(self) -> Path:
        return Path("vms", self.vm_name)

    @property
    def _image(self) -> Path:
        return self._home / "disk.img"


@locks(
    exclusive("TEMPLATE", "template_id", message=Message("TEMPLATE_IS_BEING_REMOVED")),
    scope=Scope.EXECUTION,
)
class RemoveTemplate(DemoCommand):
    """Removes a template and its disk image."""

    action = "remove"
    type = "template"
    template_id: str

    def execute(self) -> None:
        shutil.rmtree(Path("templates", self.template_id))


@locks(
    exclusive(
        "STORAGE",
        "domain_id",
        message=Message("DOMAIN_IS_BEING_ACTIVATED", DomainName="{domain_id}"),
    ),
    shared(
        "POOL", "pool_id", message=Message("DOMAIN_IS_BEING_ACTIVATED", DomainName="{domain_id}")
    ),
    scope=Scope.COMMAND,
)
class ActivateStorageDomain(DemoCommand):
    """Connects the hosts to a storage domain."""

    action = "activate"
    type = "storage domain"
    pool_id: str
    domain_id: str

    def execute(self) -> None:
        self.start_task(host_request(f"activate-{self.domain_id}"))

    def end_successfully(self) -> None:
        status = Path("pools", self.pool_id, self.domain_id, "status")
        status.write_text("active", encoding="utf-8")


@locks(
    exclusive(
        "POOL",
        "pool_id",
        message=Message(
            "MASTER_IS_BEING_RECONSTRUCTED", PoolName="{pool_id}", DomainName="{new_master_id}"
        ),
    ),
    scope=Scope.COMMAND,
)
class ReconstructMaster(DemoCommand):
    """Makes another domain the master of a pool."""

    action = "reconstruct"
    type = "master domain"
    pool_id: str
    new_master_id: str

    def execute(self) -> None:
        self.start_task(host_request(f"reconstruct-{self.pool_id}"))

    def end_successfully(self) -> None:
        Path("pools", self.pool_id, "master").write_text(self.new_master_id, encoding="utf-8")


def host_request(name: str) -> list[str]:
    """The program that asks the host."""
    return [sys.executable, _host.__file__, f"hosts/{name}.request", f"hosts/{name}.answer"]
