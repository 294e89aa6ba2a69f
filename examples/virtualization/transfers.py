"""Commands that bring VMs and templates out of the data centre, and into it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from lockcore import Keys
from lockcore.engine import Message, Scope, exclusive, locks, shared
from virtualization import world
from virtualization.base import EntityCommand, misfit, missing, storage_of, taken
from virtualization.templates import NewTemplateCommand
from virtualization.virtual_machines import VmDiskCommand

EXPORTING_VM = Message("VM_IS_BEING_EXPORTED", VmName="{vm}")


@locks(
    exclusive("VM", "vm", message=EXPORTING_VM),
    exclusive("REMOTE_VM", "vm", message=EXPORTING_VM),
    scope=Scope.COMMAND,
)
class ExportVm(VmDiskCommand):
    """Copies a VM out, over what has been exported under its name before."""

    action = "export"

    def execute(self) -> None:
        disk = world.image(self.stored["domain"], "vms", self.vm)
        self.start_tool("copy", disk, world.export("vms", self.vm))

    def end_successfully(self) -> None:
        world.save("exports/vms", self.vm, template=self.stored["template"])

    def end_with_failure(self) -> None:
        world.erase(world.unfinished(world.export("vms", self.vm)))


EXPORTING_TEMPLATE = Message("TEMPLATE_IS_BEING_EXPORTED", TemplateName="{template}")


@locks(
    exclusive("REMOTE_TEMPLATE", "template", message=EXPORTING_TEMPLATE),
    shared("TEMPLATE", "template", message=EXPORTING_TEMPLATE),
    scope=Scope.COMMAND,
)
class ExportTemplate(EntityCommand):
    """Copies a template out. VMs may be made from it meanwhile."""

    action = "export"
    entity = "template"
    template: str

    def shared_locks(self) -> Keys:
        message = Message("DOMAIN_IS_USED_BY_TEMPLATE", TemplateName=self.template)
        return storage_of("templates", self.template, message)

    def validate(self) -> Iterator[Message]:
        yield from missing("templates", self.template)

    def execute(self) -> None:
        template = world.load("templates", self.template) or {}
        disk = world.image(template["domain"], "templates", self.template)
        self.start_tool("copy", disk, world.export("templates", self.template))

    def end_successfully(self) -> None:
        world.save("exports/templates", self.template)

    def end_with_failure(self) -> None:
        world.erase(world.unfinished(world.export("templates", self.template)))


@locks(
    shared(
        "REMOTE_TEMPLATE",
        "template",
        message=Message("TEMPLATE_IS_BEING_IMPORTED", TemplateName="{template}"),
    ),
)
class ImportTemplate(NewTemplateCommand):
    """Brings a template in that was exported."""

    action = "import"

    def validate(self) -> Iterator[Message]:
        yield from super().validate()
        yield from missing("exports/templates", self.template)

    def execute(self) -> None:
        self.start_tool("copy", world.export("templates", self.template), self.image)


IMPORTING_VM = Message("VM_IS_BEING_IMPORTED", VmName="{vm}")


@locks(
    exclusive("VM_NAME", "vm", message=IMPORTING_VM),
    exclusive("VM", "vm", message=IMPORTING_VM),
    shared("REMOTE_VM", "exported", message=IMPORTING_VM),
    shared("STORAGE", "domain", message=Message("DOMAIN_IS_USED_BY_VM", VmName="{vm}")),
    scope=Scope.COMMAND,
)
class ImportVm(EntityCommand):
    """Brings a VM in that was exported, under any name, and its template if that is missing."""

    action = "import"
    entity = "VM"
    exported: str
    vm: str
    domain: str

    def validate(self) -> Iterator[Message]:
        yield from missing("exports/vms", self.exported)
        yield from taken("vms", self.vm)
        yield from misfit("domains", self.domain, status="active")

    def execute(self) -> None:
        template = self._template
        is_here = world.load("templates", template) is not None
        if not is_here and world.load("exports/templates", template) is not None:
            self.run_part(ImportTemplate(template=template, domain=self.domain))
        self.start_tool("copy", world.export("vms", self.exported), self._image)

    def end_successfully(self) -> None:
        world.save(
            "vms",
            self.vm,
            domain=self.domain,
            template=self._template,
            status="down",
            host=None,
        )

    def end_with_failure(self) -> None:
        world.erase(self._image)

    @property
    def _template(self) -> str:
        exported = world.load("exports/vms", self.exported) or {}
        return str(exported["template"])

    @property
    def _image(self) -> Path:
        return world.image(self.domain, "vms", self.vm)
