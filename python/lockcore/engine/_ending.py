"""The end of commands: end action, commit, release, report, in this order."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from lockcore.engine._result import CommandState
from lockcore.engine._store import StoredOutcome

if TYPE_CHECKING:
    from lockcore.engine._run import CommandRun
    from lockcore.engine._services import Services

__all__ = ["end_all", "end_commands"]

log = logging.getLogger("lockcore.engine")

_BATCH_SECONDS: Final = 0.1
"""After so long what has ended is committed, so that being killed again and again gets on."""

_BATCH_COMMANDS: Final = 1000


def end_all(services: Services, due: deque[CommandRun]) -> None:
    """Brings commands to their end, in batches, and those that become due by that."""
    while due:
        batch = []
        commit_at = time.monotonic() + _BATCH_SECONDS
        while due and len(batch) < _BATCH_COMMANDS and time.monotonic() < commit_at:
            batch.append(due.popleft())
            ...
