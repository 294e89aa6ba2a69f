"""The engine of the data centre in the working directory, and its commands by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lockcore.engine import CommandResult, Engine, ProcessTasks
from virtualization import permissions, storage, templates, transfers, virtual_machines, world
from virtualization.base import CATALOG, EntityCommand

COMMANDS: dict[str, type[EntityCommand]] = {
    command.__name__: command
    for command in (
        storage.AttachStorageDomain,
        storage.ActivateStorageDomain,
        storage.DeactivateStorageDomain,
        storage.DetachStorageDomain,
        storage.RemoveStorageDomain,
        storage.SwitchMaster,
        storage.ReconstructMaster,
        virtual_machines.AddVmFromTemplate,
        virtual_machines.RunVm,
        virtual_machines.StopVm,
        virtual_machines.MigrateVm,
        virtual_machines.CreateSnapshot,
        virtual_machines.RemoveSnapshot,
        virtual_machines.RemoveVm,
        templates.AddTemplate,
        templates.RemoveTemplate,
        transfers.ExportVm,
        transfers.ExportTemplate,
        transfers.ImportVm,
        transfers.ImportTemplate,
        permissions.GrantPermission,
        permissions.RevokePermission,
    )
}

TASKS = "tasks"


def make_engine(**options: Any) -> Engine:
    """The engine, to be opened. If there is no data centre here yet, one is built."""
    if not Path("pools").exists():
        world.build()
    return Engine(store="sqlite:///engine.db", tasks=ProcessTasks(TASKS), **options)


def described(
    result: CommandResult, name: str | None = None, locale: str | None = None
) -> dict[str, Any]:
    """A result as JSON knows it. `name` is of the command, if that is known."""
    of = COMMANDS.get(name or "")
    action, entity = ("run", "the command") if of is None else (of.action, of.entity)
    return result.to_dict(CATALOG, locale, action=action, type=entity)


def locks_held(engine: Engine) -> list[dict[str, Any]]:
    """Every lock with its holder, and who waits for it, the oldest first."""
    return [
        {
            "key": holder.key,
            "mode": holder.mode,
            "owner": holder.owner,
            "held_for": holder.held_for,
            "message": None if holder.message is None else str(holder.message),
            "waiters": [waiter.owner for waiter in engine.manager.waiters(holder.key)],
        }
        for holder in engine.manager.snapshot()
    ]
