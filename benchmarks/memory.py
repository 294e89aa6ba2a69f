"""Prints, as JSON, how much memory one rival needs for so many held keys.

    python benchmarks/memory.py RIVAL N_KEYS {held,passing}

A process of its own, because what a process has once had it may keep. `held`: all keys are held at
once, then all are given back. `passing`: they are taken and given back one at a time. The keys and
the list for the handles exist before the first figure is read. Sizes are resident memory in bytes.
"""

import gc
import json
import os
import sys
from pathlib import Path
from typing import Any

from rivals import RIVALS

STATM = Path("/proc/self/statm")


def resident() -> int:
    """Returns: bytes of this process that are in memory."""
    gc.collect()
    return int(STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def measure(name: str, n: int, way: str) -> dict[str, int]:
    """Returns: resident memory before, while all are held (if they are), and after."""
    keys = [f"vm-{i}" for i in range(n)]
    handles: list[Any] = [None] * n
    rival = {rival.name: rival for rival in RIVALS}[name]()
    for key in keys[:1000]:
        rival.hold([key]).release()

    before = held = resident()
    if way == "held":
        for i, key in enumerate(keys):
            handles[i] = rival.hold([key])
        held = resident()
        for i, handle in enumerate(handles):
            handle.release()
            handles[i] = None
        handle = None
    else:
        for key in keys:
            rival.hold([key]).release()
    return {"before": before, "held": held, "after": resident()}


if __name__ == "__main__":
    if not STATM.exists():
        sys.exit(f"cannot measure memory: no {STATM} here")
    sys.stdout.write(json.dumps(measure(sys.argv[1], int(sys.argv[2]), sys.argv[3])) + "\n")
