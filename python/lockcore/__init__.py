"""Locks for engines: a whole set of shared and exclusive locks at once, or none.

>>> from lockcore import LockManager
>>> manager = LockManager()
>>> with manager.acquire(exclusive=[("VM", "web")], shared=[("POOL", "p1")]):
...     ("VM", "web") in manager
True
"""

from lockcore._core import Grant, Lock
from lockcore._errors import (
    DeadlockError,
    LockConflictError,
    LockError,
    LockTimeoutError,
    ManagerClosedError,
    NotHeldError,
)
from lockcore._manager import LockManager
from lockcore._messages import MessageCatalog
from lockcore._types import (
    Holder,
    Key,
    KeyId,
    Keys,
    Message,
    Mode,
    Owner,
    Request,
    Statistics,
    Waiter,
)

__all__ = [
    "DeadlockError",
    "Grant",
    "Holder",
    "Key",
    "KeyId",
    "Keys",
    "Lock",
    "LockConflictError",
    "LockError",
    "LockManager",
    "LockTimeoutError",
    "ManagerClosedError",
    "Message",
    "MessageCatalog",
    "Mode",
    "NotHeldError",
    "Owner",
    "Request",
    "Statistics",
    "Waiter",
]
__version__ = "0.1.0"

for _name in __all__:
    _public = globals()[_name]
    if isinstance(_public, type) and _public.__module__.startswith("lockcore."):
        _public.__module__ = "lockcore"
del _name, _public
