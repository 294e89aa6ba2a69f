"""Commands under locks: they are refused when in each other's way, and survive a restart.

A command declares its locks, does its work or starts tasks that do, and keeps its locks until the
last task has ended, even if the engine is killed and started again meanwhile.
"""

from lockcore._types import Message
from lockcore.engine._command import Command
from lockcore.engine._engine import Engine
from lockcore.engine._locks import default_manager, locks
from lockcore.engine._processes import ProcessTasks
from lockcore.engine._reporting import report_progress
from lockcore.engine._result import (
    CommandResult,
    CommandState,
    EngineClosedError,
    EngineError,
    EngineRecoveringError,
    RecoveryReport,
    StoreError,
    UnknownCommandError,
)
from lockcore.engine._rules import Scope, exclusive, shared
from lockcore.engine._tasks import Task, TaskBackend, TaskState, TaskStatus, ThreadTasks

__all__ = [
    "Command",
    "CommandResult",
    "CommandState",
    "Engine",
    "EngineClosedError",
    "EngineError",
    "EngineRecoveringError",
    "Message",
    "ProcessTasks",
    "RecoveryReport",
    "Scope",
    "StoreError",
    "Task",
    "TaskBackend",
    "TaskState",
    "TaskStatus",
    "ThreadTasks",
    "UnknownCommandError",
    "default_manager",
    "exclusive",
    "locks",
    "report_progress",
    "shared",
]

# Their home for readers, pickles and help(): this package, not the file that defines them.
for _name in __all__:
    if (_public := globals()[_name]).__module__.startswith(__name__):
        _public.__module__ = __name__
del _name, _public
