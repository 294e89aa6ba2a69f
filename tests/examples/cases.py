"""What each command of the example locks, and what it comes to: by the reference, by hand."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from example_world import stored

from virtualization import world


@dataclass(frozen=True)
class Case:
    """One command in the data centre of the tests.

    Attributes:
        command: Its name.
        parameters: With which it is valid there.
        exclusive: The keys that it locks so: group and id, parted by a blank.
        shared: The same.
        of_children: Further keys that its children lock, with their modes.
        has_tasks: Whether its locks outlive `execute`, until its tasks have ended.
        came_true: Whether the data centre is as it should be after it.
    """

    command: str
    parameters: dict[str, str]
    exclusive: str
    shared: str = ""
    of_children: set[tuple[str, str, str]] = field(default_factory=set)
    has_tasks: bool = True
    came_true: Callable[[], Any] = lambda: True

    @property
    def locks(self) -> set[tuple[str, str, str]]:
        """The locks in the form of `locks_of`."""
        found = set()
        for mode, keys in (("exclusive", self.exclusive), ("shared", self.shared)):
            for key in filter(None, keys.split(", ")):
                group, id = key.split(" ")
                found.add((mode, group, id))
        return found

    def __str__(self) -> str:
        return "-".join((self.command, *self.parameters.values()))


def is_image(*parts: str, like: bytes | None = None) -> bool:
    image = world.image(*parts)
    return image.exists() and (like is None or image.read_bytes() == like)


def fedora() -> bytes:
    return world.image("data1", "templates", "fedora").read_bytes()


def has_status(domain: str, status: str, pool: str | None = "gold") -> bool:
    return stored("domains", domain) == {"pool": pool, "status": status}


def is_master(domain: str) -> bool:
    files = [file.parent.name for file in Path("images").glob("*/master")]
    return stored("pools", "gold")["master"] == domain and files == [domain]


CASES = [
    # -- storage: every one of them locks the pool, those for the master exclusive
    Case(
        "AttachStorageDomain",
        {"pool": "gold", "domain": "data4"},
        exclusive="STORAGE data4",
        shared="POOL gold",
        has_tasks=False,
        came_true=lambda: has_status("data4", "maintenance"),
    ),
    Case(
        "ActivateStorageDomain",
        {"pool": "gold", "domain": "data3"},
        exclusive="STORAGE data3",
        shared="POOL gold",
        came_true=lambda: has_status("data3", "active") and is_image("data3", "inventory"),
    ),
    Case(
        "DeactivateStorageDomain",
        {"pool": "gold", "domain": "data2"},
        exclusive="STORAGE data2",
        shared="POOL gold",
        came_true=lambda: (
            has_status("data2", "maintenance")
            and "images/data2/vms/web" in json.loads(world.image("data2", "inventory").read_text())
            and is_master("data1")
        ),
    ),
    Case(
        "DeactivateStorageDomain",  # the master
        {"pool": "gold", "domain": "data1"},
        exclusive="STORAGE data1, POOL gold",
        of_children={("exclusive", "STORAGE", "data2")},
        came_true=lambda: has_status("data1", "maintenance") and is_master("data2"),
    ),
    Case(
        "DetachStorageDomain",
        {"pool": "gold", "domain": "data3"},
        exclusive="STORAGE data3",
        shared="POOL gold",
        came_true=lambda: has_status("data3", "unattached", None),
    ),
    Case(
        "RemoveStorageDomain",
        {"pool": "gold", "domain": "data4"},
        exclusive="STORAGE data4",
        shared="POOL gold",
        came_true=lambda: world.load("domains", "data4") is None,
    ),
    Case(
        "SwitchMaster",
        {"pool": "gold", "old_master": "data1", "new_master": "data2"},
        exclusive="POOL gold, STORAGE data1, STORAGE data2",
        came_true=lambda: is_master("data2"),
    ),
    Case(
        "ReconstructMaster",
        {"pool": "gold", "new_master": "data2"},
        exclusive="POOL gold, STORAGE data2",
        came_true=lambda: (
            is_master("data2")
            and "images/data1/templates/fedora"
            in json.loads(world.image("data2", "master").read_text())
        ),
    ),
    # -- virtual machines
    Case(
        "AddVmFromTemplate",
        {"vm": "new", "template": "fedora", "domain": "data2"},
        exclusive="VM_NAME new, VM new",
        shared="TEMPLATE fedora, DISK templates/fedora, STORAGE data1, STORAGE data2",
        came_true=lambda: (
            stored("vms", "new")["status"] == "down"
            and is_image("data2", "vms", "new", like=fedora())
        ),
    ),
    Case(
        "RunVm",
        {"vm": "web", "host": "h2"},
        exclusive="VM web",
        has_tasks=False,
        came_true=lambda: (
            stored("vms", "web")["status"] == "up" and world.memory("h2", "web").exists()
        ),
    ),
    Case(
        "StopVm",
        {"vm": "db"},
        exclusive="VM db",
        has_tasks=False,
        came_true=lambda: (
            stored("vms", "db")["status"] == "down" and not world.memory("h1", "db").exists()
        ),
    ),
    Case(
        "MigrateVm",
        {"vm": "db", "host": "h2"},
        exclusive="VM db",
        came_true=lambda: (
            stored("vms", "db")["host"] == "h2"
            and world.memory("h2", "db").read_bytes() == b"memory of db"
            and not world.memory("h1", "db").exists()
            and not world.names("incoming", "h2")
        ),
    ),
    Case(
        "CreateSnapshot",
        {"vm": "web", "snapshot": "tuesday"},
        exclusive="VM web",
        shared="STORAGE data2",
        came_true=lambda: (
            world.names("snapshots", "web") == ["monday", "tuesday"]
            and is_image("data2", "snapshots", "web", "tuesday", like=b"the disk of web")
        ),
    ),
    Case(
        "RemoveSnapshot",
        {"vm": "web", "snapshot": "monday"},
        exclusive="VM web",
        shared="STORAGE data2",
        came_true=lambda: (
            not world.names("snapshots", "web")
            and not is_image("data2", "snapshots", "web", "monday")
        ),
    ),
    Case(
        "RemoveVm",
        {"vm": "web"},
        exclusive="VM web, VM_PERMISSIONS web",
        shared="STORAGE data2",
        came_true=lambda: (
            world.names("vms") == ["db"]
            and not world.names("snapshots", "web")
            and not is_image("data2", "vms", "web")
            and not is_image("data2", "snapshots", "web", "monday")
        ),
    ),
    # -- templates
    Case(
        "AddTemplate",
        {"template": "new", "vm": "web", "domain": "data1"},
        exclusive="TEMPLATE_NAME new, TEMPLATE new, DISK templates/new",
        shared="VM web, STORAGE data1, STORAGE data2",
        came_true=lambda: (
            world.names("templates") == ["fedora", "new"]
            and is_image("data1", "templates", "new", like=b"the disk of web")
        ),
    ),
    Case(
        "RemoveTemplate",
        {"template": "fedora"},
        exclusive="TEMPLATE fedora",
        shared="STORAGE data1",
        came_true=lambda: (
            not world.names("templates") and not is_image("data1", "templates", "fedora")
        ),
    ),
    # -- transfers
    Case(
        "ExportVm",
        {"vm": "web"},
        exclusive="VM web, REMOTE_VM web",
        shared="STORAGE data2",
        came_true=lambda: (
            stored("exports/vms", "web") == {"template": "fedora"}
            and world.export("vms", "web").read_bytes() == b"the disk of web"
        ),
    ),
    Case(
        "ExportTemplate",
        {"template": "fedora"},
        exclusive="REMOTE_TEMPLATE fedora",
        shared="TEMPLATE fedora, STORAGE data1",
        came_true=lambda: (
            world.names("exports/templates") == ["fedora", "legacy"]
            and world.export("templates", "fedora").read_bytes() == fedora()
        ),
    ),
    Case(
        "ImportVm",
        {"exported": "old", "vm": "new", "domain": "data2"},
        exclusive="VM_NAME new, VM new",
        shared="REMOTE_VM old, STORAGE data2",
        of_children={
            ("exclusive", "TEMPLATE_NAME", "legacy"),
            ("exclusive", "TEMPLATE", "legacy"),
            ("exclusive", "DISK", "templates/legacy"),
            ("shared", "REMOTE_TEMPLATE", "legacy"),
        },
        came_true=lambda: (
            stored("vms", "new")["template"] == "legacy"
            and is_image("data2", "vms", "new", like=b"an old VM")
            and world.names("templates") == ["fedora", "legacy"]
            and is_image("data2", "templates", "legacy", like=b"an old template")
        ),
    ),
    Case(
        "ImportTemplate",
        {"template": "legacy", "domain": "data1"},
        exclusive="TEMPLATE_NAME legacy, TEMPLATE legacy, DISK templates/legacy",
        shared="REMOTE_TEMPLATE legacy, STORAGE data1",
        came_true=lambda: is_image("data1", "templates", "legacy", like=b"an old template"),
    ),
    # -- permissions: the subject, and that the VM stays
    Case(
        "GrantPermission",
        {"subject": "bob", "role": "operator", "vm": "web"},
        exclusive="SUBJECT bob",
        shared="VM_PERMISSIONS web",
        has_tasks=False,
        came_true=lambda: world.names("permissions", "bob", "web") == ["operator"],
    ),
    Case(
        "RevokePermission",
        {"subject": "ann", "role": "operator", "vm": "db"},
        exclusive="SUBJECT ann",
        shared="VM_PERMISSIONS db",
        has_tasks=False,
        came_true=lambda: not world.names("permissions", "ann", "db"),
    ),
]
