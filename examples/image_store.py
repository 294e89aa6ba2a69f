"""A store of disk images whose imports go on when this program ends, and stay locked.

    python image_store.py import SOURCE NAME    begins to copy SOURCE, and returns at once
    python image_store.py remove NAME           refused while NAME is being imported
    python image_store.py wait                  until all imports have ended
    python image_store.py list

Everything is kept in the working directory. Each call is a new engine: it takes up the imports that
earlier calls have begun, with their locks, before it does anything else.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from lockcore import MessageCatalog
from lockcore.engine import (
    Command,
    CommandResult,
    Engine,
    Message,
    ProcessTasks,
    Scope,
    exclusive,
    locks,
)

IMAGES = Path("images")

CATALOG = MessageCatalog(
    {"en": {"IMAGE_IS_BEING_IMPORTED": "Cannot ${action} ${Name}: it is being imported."}}
)


@locks(
    exclusive("IMAGE", "name", message=Message("IMAGE_IS_BEING_IMPORTED", Name="{name}")),
    scope=Scope.COMMAND,  # locked until the copy has ended
)
class ImportImage(Command):
    """Copies a file into the store."""

    source: str
    name: str

    def validate(self) -> str | None:
        """Refuses a name that is taken."""
        return f"There is an image {self.name}." if (IMAGES / self.name).exists() else None

    def execute(self) -> None:
        """Lets a process copy, under another name: a half copy is never taken for an image."""
        IMAGES.mkdir(exist_ok=True)
        self.start_task(["cp", self.source, self.unfinished])

    def end_successfully(self) -> None:
        """Gives the copy its name; called again after a crash it finds that done."""
        if self.unfinished.exists():
            self.unfinished.rename(IMAGES / self.name)

    def end_with_failure(self) -> None:
        """Removes what there is of the copy."""
        self.unfinished.unlink(missing_ok=True)

    @property
    def unfinished(self) -> Path:
        """Where the copy is until it is complete: the id is the same after a restart."""
        return IMAGES / f".{self.name}.{self.command_id}"


@locks(exclusive("IMAGE", "name"), scope=Scope.EXECUTION)
class RemoveImage(Command):
    """Removes an image from the store."""

    name: str

    def validate(self) -> str | None:
        """Refuses a name that means nothing."""
        return None if (IMAGES / self.name).exists() else f"There is no image {self.name}."

    def execute(self) -> None:
        """Removes the file."""
        (IMAGES / self.name).unlink()


def main() -> int:
    """Does what the command line says; returns the exit status."""
    parser = argparse.ArgumentParser(description="a store of disk images")
    actions = parser.add_subparsers(dest="action", required=True)
    importing = actions.add_parser("import")
    importing.add_argument("source")
    importing.add_argument("name")
    actions.add_parser("remove").add_argument("name")
    actions.add_parser("wait")
    actions.add_parser("list")
    chosen = parser.parse_args()

    with Engine(store="sqlite:///images.db", tasks=ProcessTasks("tasks")) as engine:
        match chosen.action:
            case "import":
                source = str(Path(chosen.source).absolute())
                return said(engine.run(ImportImage(source=source, name=chosen.name)), "import")
            case "remove":
                return said(engine.run(RemoveImage(name=chosen.name)), "remove")
            case "wait":
                report = engine.recovery  # says which imports had not ended when this call began
                ids = (*report.resumed, *report.ended, *report.cleaned)
                return max((said(engine.wait(id), "import") for id in ids), default=0)
            case _:
                print(*sorted(path.name for path in IMAGES.glob("[!.]*")), sep="\n")
                return 0


def said(result: CommandResult, action: str) -> int:
    """Prints how a command stands; returns an exit status."""
    print(f"{action}: {result.state}")
    for sentence in result.explain(CATALOG, action=action):
        print(sentence)
    return 0 if result.state in ("running", "succeeded") else 1


if __name__ == "__main__":
    sys.exit(main())
