"""The end of commands that no engine can bring to their end: an operator gives them up."""

from __future__ import annotations

import logging
import time
from typing import Final

from lockcore._errors import NotHeldError
from lockcore.engine._command import class_name, command_name
from lockcore.engine._result import CommandResult, CommandState, EngineError
from lockcore.engine._services import Services, SetAside
from lockcore.engine._store import StoredOutcome
from lockcore.engine._tasks import TaskState

__all__ = ["drop"]

log = logging.getLogger("lockcore.engine")

_LOOK_SECONDS: Final = 0.05

_REASON: Final = "it was set aside, and an operator has dropped it"


def drop(services: Services, command_id: str, timeout: float | None) -> CommandResult:
    """Stops the tasks of a command that was set aside, then ends it with failure.

    Raises:
        EngineError: It is not set aside, or a child of it has not ended.
        TimeoutError: Its tasks have not ended in time.
    """
    aside = services.set_aside.get(command_id)
    if aside is None:
        raise EngineError(f"command {command_id} cannot be dropped: it is not set aside")
    for child_id in aside.child_ids:
        child = services.registry.find(child_id)
        if child_id in services.set_aside or (child and not isinstance(child, CommandResult)):
            raise EngineError(
                f"command {command_id} cannot be dropped: its child {child_id} has not ended"
            )
    _stop_tasks(services, aside, timeout)
    row = aside.row
    outcome = StoredOutcome(
        command_id,
        row.type,
        CommandState.FAILED,
        (_REASON, aside.reason),
        row.correlation_id,
        failed_parent_id=row.parent_id,
    )
    services.store.end([outcome])
    result = CommandResult(
        command_id, outcome.state, outcome.messages, correlation_id=row.correlation_id
    )
    if services.set_aside.pop(command_id, None) is None:
        return result  # another thread has done it
    _release(services, aside)
    services.ender.forget_tasks(aside.task_ids)
    services.registry.ended(result)
    log.warning("command %s was dropped: %s", command_id, aside.reason)
    if aside.parent is not None:
        name = command_name(class_name(row.type), command_id, row.correlation_id)
        others = (other.row.parent_id for other in services.set_aside.values())
        aside.parent.child_dropped(command_id, name, is_last=row.parent_id not in others)
    return result


def _stop_tasks(services: Services, aside: SetAside, timeout: float | None) -> None:
    backend = services.backend
    if backend is None or not aside.task_ids:
        return
    for task_id in aside.task_ids:
        backend.stop(task_id)
    deadline = None if timeout is None else time.monotonic() + timeout
    while True:
        found = backend.status(aside.task_ids)
        live = [id for id, status in found.items() if status.state is TaskState.RUNNING]
        if not live:
            return
        if deadline is not None and time.monotonic() >= deadline:
            raise TimeoutError(
                f"command {aside.row.command_id} was not dropped: tasks {', '.join(live)} have not"
                f" ended within {timeout} s"
            )
        time.sleep(_LOOK_SECONDS)


def _release(services: Services, aside: SetAside) -> None:
    if aside.grant is not None:
        try:
            aside.grant.release()
        except NotHeldError:
            log.warning("the locks of a dropped command were released by somebody else")
    if aside.has_left_grants:
        services.manager.release_all(aside.row.owner)
