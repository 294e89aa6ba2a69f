"""What the tasks run: `copy SOURCE TARGET`, `erase FILE...`, `inventory TARGET DIRECTORY...`.

A program of its own, so that it outlives the engine. A file that it writes has its name only when
it is complete. How far it has come it writes to the file that LOCKCORE_PROGRESS names. The storage
is as slow as the file `storage-pause` says: seconds for each piece of work, none if there is no
such file. It is looked at again and again, so that a slow piece ends when the file says so.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

CHUNK = 256 * 1024
PAUSE = Path("storage-pause")


def copy(source: str, target: str) -> None:
    """Copies a file in chunks. TARGET is there when all of it is."""
    whole = Path(source).stat().st_size
    with Path(source).open("rb") as reader, new_file(target).open("wb") as writer:
        while chunk := reader.read(CHUNK):
            writer.write(chunk)
            writer.flush()
            progress(writer.tell() / whole, f"copying {Path(source).name}")
            pause()
        os.fsync(writer.fileno())
    complete(target)


def erase(*files: str) -> None:
    """Removes files. One that is not there has been removed already."""
    for done, file in enumerate(files):
        progress(done / len(files), f"erasing {Path(file).name}")
        pause()
        Path(file).unlink(missing_ok=True)


def inventory(target: str, *directories: str) -> None:
    """Writes down which images there are in directories, with their checksums."""
    images = [
        file
        for directory in directories
        for file in sorted(Path(directory).rglob("*"))
        if file.is_file() and not file.name.startswith(".")
    ]
    found = {}
    for done, file in enumerate(images):
        progress(done / len(images), f"reading {file.name}")
        with contextlib.suppress(FileNotFoundError), file.open("rb") as reader:  # just removed
            found[str(file)] = hashlib.file_digest(reader, "sha256").hexdigest()
    pause()
    new_file(target).write_text(json.dumps(found, indent=1), encoding="utf-8")
    complete(target)


def new_file(target: str) -> Path:
    """The file to write to until it is complete; `world.unfinished` knows the name too."""
    path = Path(target)
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.with_name(f".{path.name}.part")


def complete(target: str) -> None:
    """Gives a complete file its name."""
    new_file(target).replace(target)


def progress(part: float, what: str) -> None:
    """Lets the engine know how far it has come."""
    with Path(os.environ["LOCKCORE_PROGRESS"]).open("a", encoding="utf-8") as file:
        file.write(f"{part:.3f} {what}\n")


def pause() -> None:
    """Is as slow as the storage."""
    began = time.monotonic()
    while time.monotonic() - began < seconds_to_pause():
        time.sleep(0.01)


def seconds_to_pause() -> float:
    """What the file says now."""
    try:
        return float(PAUSE.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return 0.0


if __name__ == "__main__":
    tools: dict[str, Callable[..., None]] = {"copy": copy, "erase": erase, "inventory": inventory}
    tools[sys.argv[1]](*sys.argv[2:])
