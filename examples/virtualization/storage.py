"""Commands on the storage domains of a pool, and on the role of master that one of them has.

Every command on a domain locks the pool shared, so any number of them run together. What must have
the pool for itself, to give the role of master to another domain, locks it exclusive.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from lockcore import Keys
from lockcore.engine import Message, Scope, exclusive, locks, shared
from virtualization import world
from virtualization.base import EntityCommand, misfit, missing


@locks(
    shared(
        "POOL",
        "pool",
        message=Message("POOL_HAS_BUSY_DOMAIN", PoolName="{pool}", DomainName="{domain}"),
    ),
    scope=Scope.COMMAND,
)
class DomainCommand(EntityCommand):
    """An operation on a domain. Subclasses lock the domain, too, and say with which message."""

    entity = "storage domain"
    pool: str
    domain: str


@locks(
    exclusive(
        "STORAGE", "domain", message=Message("DOMAIN_IS_BEING_ATTACHED", DomainName="{domain}")
    ),
    scope=Scope.EXECUTION,
)
class AttachStorageDomain(DomainCommand):
    """Makes a domain one of the pool's. It has to be activated then."""

    action = "attach"

    def validate(self) -> Iterator[Message]:
        yield from missing("pools", self.pool)
        yield from misfit("domains", self.domain, pool=None)

    def execute(self) -> None:
        world.save("domains", self.domain, pool=self.pool, status="maintenance")


@locks(
    exclusive(
        "STORAGE", "domain", message=Message("DOMAIN_IS_BEING_ACTIVATED", DomainName="{domain}")
    )
)
class ActivateStorageDomain(DomainCommand):
    """Puts a domain to use, after all its images have been read once."""

    action = "activate"

    def validate(self) -> Iterator[Message]:
        yield from misfit("domains", self.domain, pool=self.pool, status="maintenance")

    def execute(self) -> None:
        directory = world.image(self.domain)
        self.start_tool("inventory", directory / "inventory", directory)

    def end_successfully(self) -> None:
        world.change("domains", self.domain, status="active")

    def end_with_failure(self) -> None:
        world.erase(world.image(self.domain, "inventory"))


@locks(
    exclusive(
        "STORAGE", "domain", message=Message("DOMAIN_IS_BEING_DEACTIVATED", DomainName="{domain}")
    )
)
class DeactivateStorageDomain(DomainCommand):
    """Takes a domain out of use. The master's role is given to another domain before.

    Whether the pool must be locked exclusive depends on which domain is the master, and that is
    certain only once the pool is locked: so it is looked at twice.
    """

    action = "deactivate"

    def exclusive_locks(self) -> Keys:
        self._had_role = self._has_role
        message = Message("DOMAIN_IS_BEING_DEACTIVATED", DomainName=self.domain)
        return {("POOL", self.pool): message} if self._had_role else {}

    def validate(self) -> Iterator[Message]:
        yield from misfit("domains", self.domain, pool=self.pool, status="active")
        if self._has_role != self._had_role:
            yield Message("MASTER_HAS_CHANGED", PoolName=self.pool)
        elif self._has_role and self._successor is None:
            yield Message("NO_OTHER_MASTER", PoolName=self.pool)

    def execute(self) -> None:
        successor = self._successor
        if self._has_role and successor is not None:
            # It finds the pool locked by its own owner: its parent's locks are no obstacle.
            self.run_part(
                SwitchMaster(pool=self.pool, old_master=self.domain, new_master=successor)
            )
        directory = world.image(self.domain)
        self.start_tool("inventory", directory / "inventory", directory)

    def end_successfully(self) -> None:
        world.change("domains", self.domain, status="maintenance")

    @property
    def _has_role(self) -> bool:
        return (world.load("pools", self.pool) or {}).get("master") == self.domain

    @property
    def _successor(self) -> str | None:
        for name in world.names("domains"):
            domain = world.load("domains", name)
            if name != self.domain and domain == {"pool": self.pool, "status": "active"}:
                return name
        return None


@locks(
    exclusive(
        "STORAGE", "domain", message=Message("DOMAIN_IS_BEING_DETACHED", DomainName="{domain}")
    )
)
class DetachStorageDomain(DomainCommand):
    """Takes a domain out of the pool. Its images stay on it."""

    action = "detach"

    def validate(self) -> Iterator[Message]:
        yield from misfit("domains", self.domain, pool=self.pool, status="maintenance")

    def execute(self) -> None:
        self.start_tool("erase", world.image(self.domain, "inventory"))

    def end_successfully(self) -> None:
        world.save("domains", self.domain, pool=None, status="unattached")


@locks(
    exclusive(
        "STORAGE", "domain", message=Message("DOMAIN_IS_BEING_REMOVED", DomainName="{domain}")
    )
)
class RemoveStorageDomain(DomainCommand):
    """Erases a domain that belongs to no pool; `pool` is the one whose hosts do the work."""

    action = "remove"

    def validate(self) -> Iterator[Message]:
        yield from missing("pools", self.pool)
        yield from misfit("domains", self.domain, pool=None)

    def execute(self) -> None:
        files = [file for file in world.image(self.domain).rglob("*") if file.is_file()]
        self.start_tool("erase", *files)

    def end_successfully(self) -> None:
        world.drop("domains", self.domain)


class MasterCommand(EntityCommand):
    """Gives the role of master to another domain."""

    entity = "master domain"
    pool: str
    new_master: str

    def validate(self) -> Iterator[Message]:
        yield from misfit("domains", self.new_master, pool=self.pool, status="active")

    def end_successfully(self) -> None:
        """Names the new master first: a pool never has none."""
        world.change("pools", self.pool, master=self.new_master)
        for domain in self.domains():
            if domain != self.new_master:
                world.erase(world.image(domain, "master"))

    def end_with_failure(self) -> None:
        pool = world.load("pools", self.pool)
        if pool is not None and pool["master"] != self.new_master:
            world.erase(self.master_file)

    @property
    def master_file(self) -> Path:
        """What makes a domain the master: the list of all images of the pool."""
        return world.image(self.new_master, "master")

    def domains(self) -> list[str]:
        """The domains of the pool. Nobody attaches or detaches one: the pool is locked."""
        return [
            name
            for name in world.names("domains")
            if (world.load("domains", name) or {}).get("pool") == self.pool
        ]


SWITCHING = Message("MASTER_IS_BEING_SWITCHED", CurrMaster="{old_master}", NewMaster="{new_master}")


@locks(
    exclusive("POOL", "pool", message=SWITCHING),
    exclusive("STORAGE", "old_master", message=SWITCHING),
    exclusive("STORAGE", "new_master", message=SWITCHING),
    scope=Scope.COMMAND,
)
class SwitchMaster(MasterCommand):
    """Hands the role of master over, with the list that the old master has."""

    action = "switch"
    old_master: str

    def validate(self) -> Iterator[Message]:
        if self.old_master == self.new_master:
            yield Message("MASTER_HAS_CHANGED", PoolName=self.pool)
        yield from misfit("pools", self.pool, master=self.old_master)
        yield from super().validate()

    def execute(self) -> None:
        self.start_tool("copy", world.image(self.old_master, "master"), self.master_file)


RECONSTRUCTING = Message(
    "MASTER_IS_BEING_RECONSTRUCTED", PoolName="{pool}", NewMaster="{new_master}"
)


@locks(
    exclusive("POOL", "pool", message=RECONSTRUCTING),
    exclusive("STORAGE", "new_master", message=RECONSTRUCTING),
    scope=Scope.COMMAND,
    timeout=60,  # nobody clicks again for it: a broken pool asks for it
)
class ReconstructMaster(MasterCommand):
    """Makes a new list of all images of the pool when the old master is lost.

    It waits until what is being done in the pool has ended. What comes later comes after it.
    """

    action = "reconstruct"

    def execute(self) -> None:
        self.start_tool("inventory", self.master_file, *map(world.image, self.domains()))
