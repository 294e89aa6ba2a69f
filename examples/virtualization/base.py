"""What the commands of this engine have in common: named parameters, sentences, programs to run."""

from __future__ import annotations

import dataclasses
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

from lockcore import Key, MessageCatalog
from lockcore.engine import Command, CommandResult, CommandState, Message
from virtualization import image_tool, world

CATALOG = MessageCatalog.from_toml(Path(__file__).with_name("messages.toml"))

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")
"""Names become names of files, so there is no room for dots and slashes."""


class EntityCommand(Command):
    """A command on entities that are known by name.

    Its name and its id are one here. The commands that make an entity lock both, so that nothing
    changes should they differ one day.

    Attributes:
        action: What a refusal says was refused, as a verb.
        entity: To what.
    """

    action: ClassVar[str]
    entity: ClassVar[str]

    def __post_init__(self) -> None:
        """Refuses parameters that are no names.

        Raises:
            ValueError: One is not.
        """
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, str) and not NAME.fullmatch(value):
                raise ValueError(f"parameter {field.name} must be a name, not {value!r}")

    def start_tool(self, *arguments: str | Path) -> None:
        """Starts a task that runs the image tool."""
        self.start_task([sys.executable, "-P", image_tool.__file__, *arguments])

    def run_part(self, command: EntityCommand) -> None:
        """Runs a child that this command cannot do without.

        Raises:
            RuntimeError: The child was refused or has failed.
        """
        result = self.run_child(command)
        if result.state not in (CommandState.RUNNING, CommandState.SUCCEEDED):
            raise RuntimeError("; ".join(explained(result, type(command))))


def explained(result: CommandResult, of: type[EntityCommand]) -> list[str]:
    """Why a command was refused or has failed, in sentences."""
    return result.explain(CATALOG, action=of.action, type=of.entity)


def missing(kind: str, *names: str) -> Iterator[Message]:
    """Yields the reason to refuse a command on an entity that is not there."""
    if world.load(kind, *names) is None:
        yield Message("NO_SUCH_ENTITY", Kind=kind, Name=names[-1])


def taken(kind: str, *names: str) -> Iterator[Message]:
    """Yields the reason to refuse a command that would make an entity a second time."""
    if world.load(kind, *names) is not None:
        yield Message("NAME_IS_TAKEN", Kind=kind, Name=names[-1])


def misfit(kind: str, name: str, **wanted: Any) -> Iterator[Message]:
    """Yields the reasons to refuse a command on an entity that is not as it is wanted.

    What is stored is what lasts: "active", "down". That somebody works on the entity is for the
    locks to say, and they are held already.
    """
    entity = world.load(kind, name)
    if entity is None:
        yield from missing(kind, name)
        return
    for what, value in wanted.items():
        if entity[what] != value:
            yield Message(
                "WRONG_STATUS", Kind=kind, Name=name, What=what, Is=entity[what], Wanted=value
            )


def storage_of(kind: str, name: str, message: Message) -> dict[Key, Message]:
    """The key of the domain that has the disk of an entity; none if there is no such entity.

    It is read before anything is locked. That is safe: an entity stays on its domain, and if it is
    gone by the time the locks are held, `validate` says so.
    """
    entity = world.load(kind, name)
    return {} if entity is None else {("STORAGE", entity["domain"]): message}
