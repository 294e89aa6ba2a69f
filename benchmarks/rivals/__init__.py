"""lockcore and what people use instead, behind one adapter class.

A `Rival` takes sets of keys (`hold`, `try_hold`), for everything where a microsecond more does not
matter, gives one key the shape of a `threading.Lock` (`lock`), and says what it can: whether it has
a shared mode, can try, takes a set atomically.

Where nanoseconds matter, a wrapper would be what is measured. So a rival also has *loops*: methods
`loop_<operation>(items)` that return a function doing the operation once per item, in the words a
user of that rival would write: calls of methods, on an object that is a local name of the loop, for
the baseline as for everybody else. Each rival's loops are code of their own, because CPython
specialises code for the types it meets. A rival without a loop for an operation cannot do it.
"""

from collections.abc import Iterable

from rivals._asyncio import AioRWLock, AsyncioLock, LockcoreAsync
from rivals._base import (
    LOOP_KEY,
    MESSAGE,
    Held,
    Key,
    Lockable,
    Loop,
    MissingRivalError,
    Rival,
    rival_module,
)
from rivals._lockcore import Lockcore, LockcoreGrants
from rivals._ovirt import Ovirt
from rivals._packages import Fasteners, OsloConcurrency, ReaderWriterLock
from rivals._per_key import LeakyDict, RefcountedDict, ThreadingLock

__all__ = [
    "ASYNC_RIVALS",
    "LOOP_KEY",
    "MESSAGE",
    "RIVALS",
    "AioRWLock",
    "AsyncioLock",
    "Fasteners",
    "Held",
    "Key",
    "LeakyDict",
    "Lockable",
    "Lockcore",
    "LockcoreAsync",
    "LockcoreGrants",
    "Loop",
    "MissingRivalError",
    "OsloConcurrency",
    "Ovirt",
    "ReaderWriterLock",
    "RefcountedDict",
    "Rival",
    "ThreadingLock",
    "having_loop",
    "rival_module",
]

RIVALS: tuple[type[Rival], ...] = (
    Lockcore,
    ThreadingLock,
    LeakyDict,
    RefcountedDict,
    Ovirt,
    Fasteners,
    ReaderWriterLock,
    OsloConcurrency,
)
ASYNC_RIVALS: tuple[type[Rival], ...] = (LockcoreAsync, AsyncioLock, AioRWLock)


def having_loop(operation: str, among: Iterable[type[Rival]] = RIVALS) -> list[type[Rival]]:
    """Returns: those of `among` that can do `operation`."""
    return [rival for rival in among if hasattr(rival, f"loop_{operation}")]
