"""How a Celery task stands, from its record and from what Celery itself has stored."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from lockcore.engine._tasks import TaskState, TaskStatus

__all__ = ["status_of"]

_FINAL = frozenset({"SUCCESS", "FAILURE", "REVOKED"})

# Written by the main process of a worker, on behalf of a process of it that is gone.
_OF_THE_GONE = frozenset({"WorkerLostError", "TimeLimitExceeded", "Terminated"})


def status_of(raw_record: bytes, meta: Mapping[str, Any] | None) -> TaskStatus:
    """How a task stands.

    The record has the last word, because it names the run that has claimed the task. What Celery
    has stored tells how far the task has come; and that it has ended, where the process that would
    have told the record is gone.

    Args:
        raw_record: JSON; see `_celery_records`.
        meta: Celery's result of the task, None if there is none (yet, or any more).
    """
    record = json.loads(raw_record)
    if record["state"] == "ended":
        if record["ok"]:
            return TaskStatus(TaskState.SUCCEEDED)
        return TaskStatus(TaskState.FAILED, record["detail"])
    if meta is not None and (end := _end(meta, is_repeated=record.get("is_repeated", False))):
        has_failed = end.state is TaskState.FAILED
        return TaskStatus(end.state, "stopped") if has_failed and "is_stopped" in record else end
    where = f"on {record['worker']}" if record["state"] == "claimed" else "queued"
    said = None if meta is None or meta["status"] in _FINAL else meta["result"]
    progress, detail = _progress(said)
    return TaskStatus(TaskState.RUNNING, detail or where, progress)


def _end(meta: Mapping[str, Any], *, is_repeated: bool) -> TaskStatus | None:
    result = meta["result"]
    if meta["status"] == "REVOKED":
        return TaskStatus(TaskState.FAILED, f"revoked: {_error(result)[1]}")
    if meta["status"] == "FAILURE":
        kind, text = _error(result)
        # Of a task that was delivered twice another run may have failed than the one that counts.
        if not is_repeated or kind in _OF_THE_GONE:
            return TaskStatus(TaskState.FAILED, f"{kind}: {text}")
    if meta["status"] == "SUCCESS" and not is_repeated:
        return TaskStatus(TaskState.SUCCEEDED)
    return None


def _error(result: Any) -> tuple[str, str]:
    if isinstance(result, Mapping):
        message = result.get("exc_message", "")
        words = message if isinstance(message, list | tuple) else [message]
        return str(result.get("exc_type", "error")), " ".join(map(str, words))
    return type(result).__name__, str(result)


def _progress(said: Any) -> tuple[float | None, str]:
    """The part that is done, and what is being done, from the `meta` of `update_state`."""
    if not isinstance(said, Mapping):
        return None, ""
    part, total = said.get("progress"), said.get("total")
    if part is None and total:
        part = (said.get("current") or 0) / total
    return (None if part is None else min(max(float(part), 0.0), 1.0)), str(said.get("detail", ""))
