"""How the demo tells its story: titles, sentences, and claims that are checked."""

from __future__ import annotations

import textwrap
import threading
import time
from collections.abc import Callable

PATIENCE = 30.0
"""Seconds after which a state that was to come has not come."""


class ClaimError(Exception):
    """Something that the demo says is not so."""


def chapter(title: str) -> None:
    """Begins a part of the story."""
    print(f"\n{title}\n{'-' * len(title)}", flush=True)


def say(text: str, *, indent: str = "  ") -> None:
    """Tells something that needs no proof."""
    print(textwrap.fill(text, 88, initial_indent=indent, subsequent_indent=indent), flush=True)


def check(holds: bool, claim: str) -> None:
    """Claims something.

    Raises:
        ClaimError: It is not so.
    """
    if not holds:
        raise ClaimError(f"this is not so: {claim}")
    print(f"  ok  {claim}", flush=True)


def until(is_so: Callable[[], bool], claim: str) -> None:
    """Waits for a state that is to come, and claims it."""
    check(comes(is_so), claim)


def comes(is_so: Callable[[], bool]) -> bool:
    """Waits for a state; whether it has come."""
    deadline = time.monotonic() + PATIENCE
    pause = threading.Event()
    while not is_so():
        if time.monotonic() > deadline:
            return False
        pause.wait(0.01)
    return True
