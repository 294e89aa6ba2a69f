"""Whose turn it is to be looked at, where looking at all tasks each time would cost too much."""

from __future__ import annotations

import threading
from collections.abc import Container

__all__ = ["Turns"]


class Turns:
    """Goes through the tasks that run, round and round, a part of them in each call.

    May be used from any thread.

    Args:
        size: Of the part. Lists that are no longer are looked at as a whole.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._mutex = threading.Lock()
        self._next = 0

    def take(self, ids: list[str], known: Container[str]) -> list[str]:
        """Those of the tasks whose turn it is, and all that are not known, each once."""
        if len(ids) <= self._size:
            return ids
        with self._mutex:
            begin = self._next % len(ids)
            end = self._next = begin + self._size
        others = ids[:begin] + ids[end:]
        return ids[begin:end] + [task_id for task_id in others if task_id not in known]
