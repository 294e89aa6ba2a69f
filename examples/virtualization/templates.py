"""Commands on templates, from which VMs are made."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from lockcore import Keys
from lockcore.engine import Message, Scope, exclusive, locks, shared
from virtualization import world
from virtualization.base import EntityCommand, misfit, missing, storage_of, taken

CREATING = Message("TEMPLATE_IS_BEING_CREATED", TemplateName="{template}")


@locks(
    exclusive("TEMPLATE_NAME", "template", message=CREATING),
    exclusive("TEMPLATE", "template", message=CREATING),
    exclusive("DISK", "templates/{template}", message=CREATING),
    shared(
        "STORAGE",
        "domain",
        message=Message("DOMAIN_IS_USED_BY_TEMPLATE", TemplateName="{template}"),
    ),
    scope=Scope.COMMAND,
)
class NewTemplateCommand(EntityCommand):
    """Makes a template on a domain, with a disk that is copied from somewhere."""

    entity = "template"
    template: str
    domain: str

    def validate(self) -> Iterator[Message]:
        yield from taken("templates", self.template)
        yield from misfit("domains", self.domain, status="active")

    def end_successfully(self) -> None:
        world.save("templates", self.template, domain=self.domain)

    def end_with_failure(self) -> None:
        world.erase(self.image)

    @property
    def image(self) -> Path:
        """Where the template's disk goes."""
        return world.image(self.domain, "templates", self.template)


@locks(
    shared(
        "VM",
        "vm",
        message=Message(
            "TEMPLATE_IS_BEING_CREATED_FROM_VM", VmName="{vm}", TemplateName="{template}"
        ),
    ),
)
class AddTemplate(NewTemplateCommand):
    """Makes a template of a VM. The VM is only read, so several may be made of it together."""

    action = "add"
    vm: str

    def shared_locks(self) -> Keys:
        message = Message("DOMAIN_IS_USED_BY_TEMPLATE", TemplateName=self.template)
        return storage_of("vms", self.vm, message)

    def validate(self) -> Iterator[Message]:
        yield from super().validate()
        yield from misfit("vms", self.vm, status="down")

    def execute(self) -> None:
        vm = world.load("vms", self.vm) or {}
        self.start_tool("copy", world.image(vm["domain"], "vms", self.vm), self.image)


REMOVING = Message("TEMPLATE_IS_BEING_REMOVED", TemplateName="{template}")


@locks(exclusive("TEMPLATE", "template", message=REMOVING), scope=Scope.COMMAND)
class RemoveTemplate(EntityCommand):
    """Erases a template. VMs that were made from it have disks of their own."""

    action = "remove"
    entity = "template"
    template: str

    def shared_locks(self) -> Keys:
        message = Message("DOMAIN_IS_USED_BY_TEMPLATE", TemplateName=self.template)
        return storage_of("templates", self.template, message)

    def validate(self) -> Iterator[Message]:
        yield from missing("templates", self.template)

    def execute(self) -> None:
        template = world.load("templates", self.template) or {}
        self.start_tool("erase", world.image(template["domain"], "templates", self.template))

    def end_successfully(self) -> None:
        world.drop("templates", self.template)
