"""Commands on permissions: what a subject, a user or a group, may do with a VM.

They lock the subject, so that its permissions change one at a time, and see to it that the VM is
not removed meanwhile. They do not lock the VM itself: a permission can be granted while it is
migrated.
"""

from __future__ import annotations

from collections.abc import Iterator

from lockcore.engine import Message, Scope, exclusive, locks, shared
from virtualization import world
from virtualization.base import EntityCommand, missing

CHANGING = Message("PERMISSIONS_ARE_BEING_CHANGED", SubjectName="{subject}")


@locks(
    exclusive("SUBJECT", "subject", message=CHANGING),
    shared("VM_PERMISSIONS", "vm", message=CHANGING),
    scope=Scope.EXECUTION,
)
class PermissionCommand(EntityCommand):
    """Changes a permission."""

    entity = "permission"
    subject: str
    role: str
    vm: str


class GrantPermission(PermissionCommand):
    """Lets a subject act in a role on a VM."""

    action = "grant"

    def validate(self) -> Iterator[Message]:
        yield from missing("vms", self.vm)
        if world.load("permissions", self.subject, self.vm, self.role) is not None:
            yield Message("PERMISSION_IS_GRANTED", SubjectName=self.subject, Role=self.role)

    def execute(self) -> None:
        world.save("subjects", self.subject)
        world.save("permissions", self.subject, self.vm, self.role, by=self.command_id)


class RevokePermission(PermissionCommand):
    """Takes that back."""

    action = "revoke"

    def validate(self) -> Iterator[Message]:
        if world.load("permissions", self.subject, self.vm, self.role) is None:
            yield Message("PERMISSION_IS_NOT_GRANTED", SubjectName=self.subject, Role=self.role)

    def execute(self) -> None:
        world.drop("permissions", self.subject, self.vm, self.role)
