"""Asks a host to do something and waits for its answer: `python _host.py REQUEST ANSWER`.

A program of its own. It makes the file REQUEST, and ends when somebody makes the file ANSWER: with
status 0 if that says `done`.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

PATIENCE = 60.0


def main(request: str, answer: str) -> None:
    Path(request).touch()
    deadline = time.monotonic() + PATIENCE
    while not Path(answer).exists():
        if time.monotonic() > deadline:
            sys.exit("the host has not answered")
        time.sleep(0.01)
    if Path(answer).read_text(encoding="utf-8") != "done":
        sys.exit("the host has refused")


if __name__ == "__main__":
    main(*sys.argv[1:])
