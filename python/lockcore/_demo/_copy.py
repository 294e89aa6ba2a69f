"""Copies a file in chunks: `python _copy.py SOURCE TARGET THROTTLE`.

A program of its own, so that it outlives the engine. After each chunk it pauses for as many seconds
as the file THROTTLE says, read anew each time. TARGET is complete when this ends with status 0.
How much is copied is written to the file that LOCKCORE_PROGRESS names.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

CHUNK = 256 * 1024


def main(source: str, target: str, throttle: str) -> None:
    whole = Path(source).stat().st_size
    progress = Path(os.environ["LOCKCORE_PROGRESS"])
    with Path(source).open("rb") as reader, Path(target).open("wb") as writer:
        while chunk := reader.read(CHUNK):
            writer.write(chunk)
            writer.flush()
            progress.write_text(f"{writer.tell() / whole:.3f}", encoding="utf-8")
            time.sleep(float(Path(throttle).read_text(encoding="utf-8")))
        os.fsync(writer.fileno())


if __name__ == "__main__":
    main(*sys.argv[1:])
