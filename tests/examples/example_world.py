"""The data centre of the tests, made of files, and what happens in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lockcore.engine import CommandResult, Engine
from virtualization import image_tool, world
from virtualization.engine import COMMANDS

IMAGE_SIZE = 3 * image_tool.CHUNK


def build() -> None:
    """Four domains, two VMs (`web` is down, `db` is up), a snapshot, exports, a permission."""
    world.build(image_size=IMAGE_SIZE)
    add_vm("web", domain="data2", status="down", host=None)
    add_vm("db", domain="data2", status="up", host="h1")
    write(world.memory("h1", "db"), b"memory of db")
    write(world.image("data2", "snapshots", "web", "monday"), b"web on monday")
    world.save("snapshots", "web", "monday", domain="data2")
    write(world.export("vms", "old"), b"an old VM")
    world.save("exports/vms", "old", template="legacy")
    write(world.export("templates", "legacy"), b"an old template")
    world.save("exports/templates", "legacy")
    world.save("subjects", "ann")
    world.save("permissions", "ann", "db", "operator", by="a test")


def add_vm(vm: str, *, domain: str, **values: Any) -> None:
    write(world.image(domain, "vms", vm), f"the disk of {vm}".encode())
    world.save("vms", vm, domain=domain, template="fedora", **values)


def write(file: Path, content: bytes) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)


def set_pause(seconds: float) -> None:
    """How long the storage takes for each piece of work; 3600 stops it, 0 lets it go on."""
    new = image_tool.PAUSE.with_suffix(".new")
    new.write_text(str(seconds), encoding="utf-8")
    new.replace(image_tool.PAUSE)


def everything() -> dict[str, bytes]:
    """All entities and all images, with what is in them."""
    kinds = ("pools", "domains", "hosts", "templates", "vms", "snapshots", "incoming", "subjects")
    more = ("permissions", "images", "memory", "exports")
    files = [file for kind in kinds + more for file in Path(kind).rglob("*") if file.is_file()]
    return {str(file): file.read_bytes() for file in sorted(files)}


def stored(kind: str, *names: str) -> world.Entity:
    entity = world.load(kind, *names)
    assert entity is not None, f"there is no {names} among the {kind}"
    return entity


def run(engine: Engine, name: str, parameters: dict[str, str], **options: Any) -> CommandResult:
    return engine.run(COMMANDS[name](**parameters), **options)


def locks_of(engine: Engine) -> set[tuple[str, str, str]]:
    """What is locked: mode, group and id."""
    return {(str(row.mode), *map(str, row.key)) for row in engine.manager.snapshot()}
