"""An allocation that fails, whichever it is: nothing is held, and nobody is queued.

Programs here make the first allocation of a call fail, then the second, and so on until the call
has had all it needs. CPython's own allocators are made to fail; those of the C core, which uses
malloc(), are failed by its C tests. The table under the manager is what is tested, for CPython may
crash when it cannot allocate a frame for a function in Python.
"""

from __future__ import annotations

import importlib.util
import sysconfig

import pytest

from support import report_of

PROGRAM = """
import json
from _testcapi import remove_mem_hooks, set_nomemory
from lockcore._core import Table, not_held_error, on_failure, status_error

on_failure(status_error, not_held_error)
manager = Table()
kept = [manager.acquire(exclusive=[("kept", number)]) for number in range(200)]
holder = manager.acquire(exclusive=["held"], shared=["both"], owner="holder", message="BUSY")
message = "BUSY"
many = [("VM", f"vm-{{number}}") for number in range(100)]
expected = len(manager)
broken = []

def prepare():
    {prepare}

def operate():
    {operate}

def end(outcome):
    {end}

failures = 0
for start in range(1, 10_000):
    prepare()
    outcome = None
    has_failed = False
    set_nomemory(start, start + 1)
    try:
        outcome = operate()
    except MemoryError:
        has_failed = True
    except RuntimeError as raised:
        # threading's, which has no lock for us; or the table's, which tells a status.
        has_failed = "status" not in str(raised)
    finally:
        remove_mem_hooks()
    if not has_failed:
        end(outcome)
    outcome = None
    {clean}
    rows = manager._rows_of_key("held") + manager._rows_of_key("both")
    waiters = sum(row[4] for row in rows)
    if (len(manager), waiters) != (expected, 0):
        broken.append([start, len(manager) - expected, waiters])
        break
    if not has_failed and start > 200:
        break
    failures += has_failed
print(json.dumps([failures >= {failures}, broken, holder.is_held]))
"""

NOTHING = {"prepare": "pass", "end": "pass", "clean": "pass", "failures": 1}
NEEDS_NONE = {**NOTHING, "failures": 0}
RELEASE = {**NOTHING, "end": "outcome.release()"}

OPERATIONS = {
    "acquire": {**RELEASE, "operate": "return manager.acquire(exclusive=['a'])"},
    "acquire-many": {
        **RELEASE,
        "operate": "return manager.acquire(exclusive=many, shared={'s': message}, owner='me')",
    },
    "try_acquire": {**RELEASE, "operate": "return manager.try_acquire(exclusive=['a'])"},
    "try_acquire-sets": {
        **RELEASE,
        "operate": "return manager.try_acquire(exclusive={'a': message}, shared=['b'], owner='me')",
    },
    "refused": {
        **NOTHING,
        "operate": "manager.acquire(exclusive=['a', 'held'], timeout=0)",
    },
    "timed-out": {
        **NOTHING,
        "operate": "manager.acquire(exclusive=['a', 'held', 'both'], owner='me', timeout=1e-6)",
    },
    "lock": {
        **NEEDS_NONE,
        "prepare": "global lock; lock = manager.lock(exclusive=['a'])",
        "operate": "return lock.acquire()",
        "end": "lock.release()",
    },
    "lock-held-twice": {
        **NEEDS_NONE,
        "prepare": "global lock; lock = manager.lock(shared=['a']); lock.acquire()",
        "operate": "return lock.acquire()",
        "end": "lock.release()",
        "clean": "lock.release()",
    },
    "lock-timed-out": {
        **NOTHING,
        "operate": "return manager.lock(exclusive=['held', 'a']).acquire(timeout=1e-6)",
    },
    "upgrade": {
        **NOTHING,
        "prepare": "global grant; grant = manager.acquire(shared={'a': message}, exclusive=['b'])",
        "operate": "grant.upgrade()",
        "clean": "grant.release()",
    },
    "upgrade-timed-out": {
        **NOTHING,
        "prepare": "global grant; grant = manager.acquire(shared=['both'])",
        "operate": "grant.upgrade(timeout=1e-6)",
        "clean": "grant.release()",
    },
    "transfer": {
        **NEEDS_NONE,
        "prepare": "global grant; grant = manager.acquire(shared=['a'])",
        "operate": "grant.transfer('you')",
        "clean": "grant.release()",
    },
    "downgrade": {
        **NEEDS_NONE,
        "prepare": "global grant; grant = manager.acquire(exclusive=['a'])",
        "operate": "grant.downgrade()",
        "clean": "grant.release()",
    },
    "seeing": {
        **NOTHING,
        "operate": "manager._rows_of_holders(None), manager._rows_of_key('held')",
    },
}


@pytest.mark.skipif(
    importlib.util.find_spec("_testcapi") is None,
    reason="this interpreter has no _testcapi, which makes allocations fail",
)
@pytest.mark.skipif(
    bool(sysconfig.get_config_var("Py_GIL_DISABLED")),
    reason="a free-threaded CPython crashes in PyList_New() when it cannot allocate the items",
)
@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS)
def test_allocation_that_fails_leaves_nothing_behind(operation):
    assert report_of(PROGRAM.format(**operation)) == [True, [], True]
