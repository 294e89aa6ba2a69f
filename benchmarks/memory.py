"""Prints, as JSON, how much memory one rival needs for so many held keys.

    python benchmarks/memory.py RIVAL N_KEYS {held,passing}

A process of its own, because what a process has once had it may keep. `held`: all keys are held at
once, then all are given back. `passing`: they are taken and given back one at a time. The keys and
the list for the handles exist before the first figure is read. Sizes are resident memory in bytes.

RIVAL can be `empty objects`, too, which locks nothing: what CPython's allocator keeps after so many
small objects.
"""

import argparse
import gc
import json
import os
import sys
from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rivals import RIVALS

EMPTY_OBJECTS = "empty objects"
STATM = Path("/proc/self/statm")


def resident() -> int:
    """Returns: bytes of this process that are in memory."""
    gc.collect()
    return int(STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


class EmptyObjects:
    """Takes the place of a rival."""

    class Handle:
        """As small as an object can be."""

        __slots__ = ()

        def release(self) -> None:
            """Does nothing."""

    def hold(self, _keys: list[str]) -> Handle:
        """Returns: a new object."""
        return self.Handle()


def measure(name: str, n: int, way: str) -> dict[str, int]:
    """Returns: resident memory before, while all are held (if they are), and after."""
    keys = [f"vm-{i}" for i in range(n)]
    handles: list[Any] = [None] * n
    rivals: dict[str, Any] = {rival.name: rival for rival in RIVALS} | {EMPTY_OBJECTS: EmptyObjects}
    rival = rivals[name]()
    for key in keys[:1000]:
        rival.hold([key]).release()

    # No object made from here on may live when a size is read: it would keep the megabyte of
    # memory in which it lies. So sizes are kept in an array.
    sizes = array("q", [0, 0, 0])
    sizes[0] = sizes[1] = resident()
    i = handle = None
    if way == "held":
        for i, key in enumerate(keys):
            handles[i] = rival.hold([key])
        i = None
        sizes[1] = resident()
        for i, handle in enumerate(handles):
            handle.release()
            handles[i] = None
        i = handle = None
    else:
        for key in keys:
            rival.hold([key]).release()
    sizes[2] = resident()
    return dict(zip(("before", "held", "after"), sizes, strict=True))


def main(arguments: Sequence[str] | None = None) -> None:
    """Reads what to measure, and prints it."""
    parser = argparse.ArgumentParser(description="memory of so many held keys")
    names = [*(rival.name for rival in RIVALS), EMPTY_OBJECTS]
    parser.add_argument("rival", choices=names, metavar="RIVAL", help=", ".join(names))
    parser.add_argument("n_keys", type=int, metavar="N_KEYS")
    parser.add_argument("way", choices=("held", "passing"))
    options = parser.parse_args(arguments)
    if not STATM.exists():
        sys.exit(f"cannot measure memory: no {STATM} here")
    sizes = measure(options.rival, options.n_keys, options.way)
    sys.stdout.write(json.dumps(sizes) + "\n")


if __name__ == "__main__":
    main()
