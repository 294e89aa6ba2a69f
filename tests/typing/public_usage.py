"""Public names used as a user would, for mypy to check; never run.

`make lint` checks it strictly. Each `type: ignore` here is a claim, too: mypy complains about one
that is not needed.
"""

from __future__ import annotations

import threading
import uuid
from typing import assert_type

from lockcore import (
    Grant,
    Holder,
    Key,
    Lock,
    LockConflictError,
    LockManager,
    LockTimeoutError,
    Message,
    MessageCatalog,
    Mode,
    NotHeldError,
    Owner,
    Request,
    Statistics,
    Waiter,
)


def requests(manager: LockManager, vm_id: uuid.UUID) -> None:
    grant = manager.acquire(
        exclusive=[("VM", vm_id)],
        shared={("POOL", 7): "POOL_IS_IN_USE", b"raw": None},
        owner="MigrateVm",
        message=Message("VM_IS_BEING_MIGRATED", VmName="web"),
        timeout=5.0,
    )
    assert_type(grant, Grant)
    assert_type(grant.owner, Owner | None)
    assert_type(grant.token, int)
    assert_type(grant.exclusive, frozenset[Key])
    assert_type(grant.shared, frozenset[Key])
    assert_type(grant.is_held, bool)
    grant.release()
    assert_type(manager.try_acquire(shared={"a", "b"}), Grant | None)
    with manager.acquire(exclusive=("x" for _ in range(1)), timeout=0) as entered:
        assert_type(entered, Grant)

    manager.acquire(["a"])  # type: ignore[call-arg]
    manager.acquire(exclusive=[1.5])  # type: ignore[list-item]
    manager.acquire(exclusive=["a"], owner=1.5)  # type: ignore[arg-type]
    manager.acquire(exclusive=["a"], timeout="5")  # type: ignore[arg-type]


def prepared(manager: LockManager) -> None:
    lock = manager.lock(exclusive=["a"], owner=1)
    assert_type(lock, Lock)
    assert_type(lock.acquire(), bool)
    assert_type(lock.acquire(blocking=False), bool)
    assert_type(lock.acquire(True, 1.5), bool)
    assert_type(lock.locked(), bool)
    with lock:
        pass
    threading.Condition(lock)  # type: ignore[arg-type]  # typeshed wants the very class


def seeing(manager: LockManager) -> None:
    assert_type(manager.holders(("VM", 1)), list[Holder])
    assert_type(manager.waiters("a"), list[Waiter])
    assert_type(manager.snapshot(), list[Holder])
    assert_type(manager.owned_by("me"), list[Holder])
    assert_type(manager.statistics(), Statistics)
    assert_type(len(manager), int)
    assert_type("a" in manager, bool)
    for row in manager.snapshot():
        assert_type(row.mode, Mode)
        assert_type(row.message, str | Message | None)
        row.token = 1  # type: ignore[misc]


def repairing(manager: LockManager) -> None:
    assert_type(manager.release_all("me"), int)
    assert_type(manager.force_release("a"), int)
    assert_type(manager.clear(), int)
    with manager as entered:
        assert_type(entered, LockManager)
    assert_type(manager.closed, bool)


def expects_builtin(error: TimeoutError) -> None:
    raise error


def refusals(manager: LockManager, catalog: MessageCatalog) -> None:
    try:
        manager.acquire(exclusive=["a"], timeout=1)
    except LockTimeoutError as error:
        expects_builtin(error)
        assert_type(error.timeout, float)
    except LockConflictError as error:
        assert_type(error.request, Request)
        assert_type(error.blockers, tuple[Holder | Waiter, ...])
        assert_type(error.messages, tuple[str | Message, ...])
        assert_type(error.explain(catalog, "de", action="remove"), list[str])
    except NotHeldError as error:
        assert_type(error.token, int | None)
    assert_type(catalog.translate("CODE", VmName="web"), str | None)
