"""The data centre: entities as JSON files and disk images, in the working directory.

    pools/gold.json                {"master": "data1"}
    domains/data1.json             {"pool": "gold", "status": "active"}
    hosts/h1.json                  {}
    templates/fedora.json          {"domain": "data1"}
    vms/web.json                   {"domain": "data1", "status": "up", "host": "h1"}
    snapshots/web/monday.json      {"domain": "data1"}
    images/data1/...               what is on a storage domain
    memory/h1/web                  what a running VM has on its host
    exports/...                    what has been exported

An entity is there from when its JSON file is. The file is written by whoever has the entity's
exclusive lock, and by nobody else. What is being *done* with an entity is not in it: the locks say
that, and a crash leaves no status behind that has to be put right.
"""

from __future__ import annotations

import json
import os
import uuid
from pathlib import Path
from typing import Any

Entity = dict[str, Any]


def load(kind: str, *names: str) -> Entity | None:
    """What is stored of an entity; None if there is none of that name."""
    try:
        return dict(json.loads(_file(kind, *names).read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None


def save(kind: str, *names: str, **values: Any) -> None:
    """Stores an entity, whole: who reads it meanwhile has the old values or the new ones."""
    file = _file(kind, *names)
    file.parent.mkdir(parents=True, exist_ok=True)
    new = file.with_name(f".{file.name}.{uuid.uuid4()}")
    new.write_text(json.dumps(values), encoding="utf-8")
    new.replace(file)


def change(kind: str, *names: str, **values: Any) -> None:
    """Stores some values of an entity anew. Nothing happens if there is none."""
    entity = load(kind, *names)
    if entity is not None:
        save(kind, *names, **{**entity, **values})


def drop(kind: str, *names: str) -> None:
    """Removes an entity, if there is one."""
    _file(kind, *names).unlink(missing_ok=True)


def names(kind: str, *above: str) -> list[str]:
    """The names of the entities of a kind, sorted; of those below others: `snapshots` of `web`."""
    return sorted(file.stem for file in Path(kind, *above).glob("[!.]*.json"))


def image(domain: str, *disk: str) -> Path:
    """Where an image is on a storage domain: `image("data1", "vms", "web")`."""
    return Path("images", domain, *disk)


def memory(host: str, vm: str) -> Path:
    """Where the memory of a VM is on the host that runs it."""
    return Path("memory", host, vm)


def export(*names: str) -> Path:
    """Where an exported image is."""
    return Path("exports", *names).with_suffix(".image")


def erase(*files: Path) -> None:
    """Removes files, with what an interrupted copy of them has left."""
    for file in files:
        file.unlink(missing_ok=True)
        unfinished(file).unlink(missing_ok=True)


def unfinished(file: Path) -> Path:
    """What a file is called until it is complete."""
    return file.with_name(f".{file.name}.part")


def build(*, image_size: int = 1 << 20) -> None:
    """Makes a data centre: one pool on three of four domains, two hosts, a template."""
    save("pools", "gold", master="data1")
    for domain, pool, status in (
        ("data1", "gold", "active"),
        ("data2", "gold", "active"),
        ("data3", "gold", "maintenance"),
        ("data4", None, "unattached"),
    ):
        save("domains", domain, pool=pool, status=status)
        image(domain).mkdir(parents=True)
    image("data1", "master").write_text("{}\n", encoding="utf-8")
    for host in ("h1", "h2"):
        save("hosts", host)
    fedora = image("data1", "templates", "fedora")
    fedora.parent.mkdir()
    fedora.write_bytes(os.urandom(image_size))
    save("templates", "fedora", domain="data1")


def _file(kind: str, *names: str) -> Path:
    return Path(kind, *names[:-1], f"{names[-1]}.json")
