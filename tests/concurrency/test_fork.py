"""A forked child begins with an empty table; the parent's locks are the parent's."""

from __future__ import annotations

import os

import pytest

from support import report_of

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform does not fork")

FORKING = """
import json, os, sys, threading, warnings
from lockcore import LockManager, NotHeldError

warnings.simplefilter("ignore", DeprecationWarning)  # we know that there are threads
manager = LockManager()
grant = manager.acquire(exclusive=["a"], shared=["b"], owner="parent")
orphan = LockManager().acquire(exclusive=["a"])

class Bare(LockManager):
    def __init__(self):
        pass  # it does not call its base

bare = Bare()
grant_of_bare = bare.acquire(exclusive=["a"])
lock = manager.lock(exclusive=["l"])
lock.acquire()
waiting = []
thread = threading.Thread(
    target=lambda: waiting.append(manager.acquire(exclusive=["a"], owner="waiter")), daemon=True
)
thread.start()
pause = threading.Event()
while not manager.waiters("a"):
    pause.wait(0.001)

def is_refused(call):
    try:
        call()
    except NotHeldError:
        return True
    return False

def in_child(call):
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(writer, json.dumps(call()).encode())
        except BaseException as error:
            os.write(writer, json.dumps(repr(error)).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with open(reader) as answer:
        said = json.loads(answer.read())
    os.waitpid(child, 0)
    return said

"""

IN_CHILD = {
    "holds_nothing": ("len(manager) + len(manager.snapshot())", 0),
    "queues_nobody": ("len(manager.waiters('a'))", 0),
    "owns_nothing": ("len(manager.owned_by('parent'))", 0),
    "acquires_what_its_parent_holds": ("manager.acquire(exclusive=['a', 'b']).is_held", True),
    "releases_what_it_acquired": (
        "[manager.acquire(exclusive=['a']).release(), len(manager)]",
        [None, 0],
    ),
    "does_not_hold_its_parents_grant": ("grant.is_held", False),
    "does_not_hold_the_grant_of_a_dropped_manager": (
        "[orphan.is_held, is_refused(orphan.release)]",
        [False, True],
    ),
    "may_drop_the_grant_of_a_dropped_manager": ("globals().pop('orphan') and None", None),
    "holds_nothing_of_a_manager_without_init": ("[grant_of_bare.is_held, len(bare)]", [False, 0]),
    "cannot_release_its_parents_grant": ("is_refused(grant.release)", True),
    "cannot_end_its_parents_grant": ("manager.clear()", 0),
    "leaves_the_block_of_its_parents_grant": ("grant.__exit__(None, None, None)", None),
    "does_not_release_its_own_grant_by_its_parents": (
        "[manager.acquire(exclusive=['a']).is_held, is_refused(grant.release), len(manager)]",
        [True, True, 1],
    ),
    "does_not_hold_its_parents_lock": ("lock.locked()", False),
    "cannot_release_its_parents_lock": ("is_refused(lock.release)", True),
    "acquires_its_parents_lock": ("[lock.acquire(), lock.locked()]", [True, True]),
    "finds_the_manager_open": ("manager.closed", False),
    "may_fork_again": (
        "in_child(lambda: [len(manager), manager.acquire(exclusive=['a']).is_held])",
        [0, True],
    ),
}


@pytest.mark.parametrize(("expression", "answer"), IN_CHILD.values(), ids=IN_CHILD)
def test_child(expression, answer):
    program = f"{FORKING}print(json.dumps(in_child(lambda: {expression})))"
    assert report_of(program) == answer


@pytest.mark.parametrize(
    "deed",
    [
        "manager.clear()",
        "manager.close()",
        "manager.release_all('parent')",
        "manager.force_release('a')",
        "is_refused(grant.release)",
        "manager.acquire(exclusive=['a', 'b', 'l']) and None",
    ],
)
def test_child_does_not_touch_its_parents_locks(deed):
    program = FORKING + (
        f"in_child(lambda: {deed})\n"
        "print(json.dumps([grant.is_held, lock.locked(), manager.closed, len(manager),"
        " len(manager.waiters('a'))]))"
    )
    assert report_of(program) == [True, True, False, 3, 1]


def test_parents_waiter_is_granted_after_a_fork():
    program = FORKING + (
        "in_child(lambda: manager.clear())\n"
        "grant.release()\n"
        "thread.join(10)\n"
        "print(json.dumps([waiting[0].is_held, len(manager)]))"
    )
    assert report_of(program) == [True, 2]


def test_child_waits_and_wakes_its_own_threads():
    program = (
        FORKING
        + """
def hand_over():
    first = manager.acquire(exclusive=["a"])
    got = []
    second = threading.Thread(target=lambda: got.append(manager.acquire(exclusive=["a"])))
    second.start()
    while not manager.waiters("a"):
        threading.Event().wait(0.001)
    first.release()
    second.join()
    return got[0].is_held

print(json.dumps(in_child(hand_over)))
"""
    )
    assert report_of(program) is True


def test_fork_while_other_threads_are_inside_leaves_no_mutex_locked():
    program = (
        FORKING
        + """
stop = threading.Event()

def work(number):
    while not stop.is_set():
        with manager.acquire(exclusive=[number % 2, "x"], shared=[number, "y"]):
            manager.try_acquire(exclusive=["x"])
            manager.lock(exclusive=["x"]).acquire(timeout=0.0001)

workers = [threading.Thread(target=work, args=[number]) for number in range(4)]
for worker in workers:
    worker.start()

def use():
    with manager.acquire(exclusive=[0, 1, 2, 3, "x", "y"], timeout=0):
        return len(manager)

answers = [in_child(use) for _ in range(20)]
stop.set()
for worker in workers:
    worker.join()
print(json.dumps([set(answers) == {6}, len(manager)]))
"""
    )
    assert report_of(program) == [True, 3]


FORKING_IN_A_HANDLER = """
import json, os, signal, sys, threading
import warnings
from lockcore import LockError, LockManager

warnings.simplefilter("ignore", DeprecationWarning)  # we know that there are threads
manager = LockManager()
holder = manager.acquire(exclusive=["a"])
reader, writer = os.pipe()
children = []

def wait():
    try:
        return {wait}
    except LockError as error:
        return [type(error).__name__, str(error)]

def handle(number, frame):
    {before}
    children.append(os.fork())
    if children[-1]:
        os.waitpid(children[-1], 0)
        holder.is_held and holder.release()

def send():
    pause = threading.Event()
    while not manager.waiters("a"):
        pause.wait(0.001)
    signal.pthread_kill(threading.main_thread().ident, signal.SIGUSR1)

signal.signal(signal.SIGUSR1, handle)
threading.Thread(target=send, daemon=True).start()
said = wait()
if children[-1] == 0:
    report = [said, len(manager), manager.waiters("a"), manager.acquire(exclusive=["a"]).is_held]
    os.write(writer, json.dumps(report).encode())
    os._exit(0)
os.close(writer)
with open(reader) as answer:
    print(json.dumps(dict(child=json.loads(answer.read()), parent=said)))
"""

THE_PARENTS = [
    "LockError",
    "cannot acquire 'a' exclusive: the process was forked during the wait, which is the parent's",
]
WAITS = {
    "acquire": ("manager.acquire(exclusive=['a']).is_held", THE_PARENTS),
    "acquire-timeout": ("manager.acquire(exclusive=['a'], timeout=5).is_held", THE_PARENTS),
    "acquire-owner": ("manager.acquire(exclusive=['a'], owner='me').is_held", THE_PARENTS),
    "lock": ("manager.lock(exclusive=['a']).acquire()", THE_PARENTS),
    "lock-timeout": ("manager.lock(exclusive=['a']).acquire(timeout=5)", THE_PARENTS),
}


@pytest.mark.parametrize(("wait", "error"), WAITS.values(), ids=WAITS)
@pytest.mark.parametrize("before", ["pass", "holder.release()"], ids=["queued", "granted"])
def test_child_of_a_handler_does_not_go_on_with_the_wait(wait, error, before):
    program = FORKING_IN_A_HANDLER.format(wait=wait, before=before)
    assert report_of(program) == {"child": [error, 0, [], True], "parent": True}


def test_child_of_a_handler_that_raises_keeps_what_it_has_acquired_there():
    """The lock it acquires is the one whose acquire() the handler interrupted."""
    program = """
import json, os, signal, threading
import warnings
from lockcore import LockManager

warnings.simplefilter("ignore", DeprecationWarning)  # we know that there are threads
manager = LockManager()
holder = manager.acquire(exclusive=["a"])
lock = manager.lock(exclusive=["a"])
reader, writer = os.pipe()
acquired = []

def handle(number, frame):
    child = os.fork()
    if child == 0:
        acquired.append(lock.acquire(blocking=False))
        raise KeyError
    os.waitpid(child, 0)
    holder.release()

def send():
    pause = threading.Event()
    while not manager.waiters("a"):
        pause.wait(0.001)
    signal.pthread_kill(threading.main_thread().ident, signal.SIGUSR1)

signal.signal(signal.SIGUSR1, handle)
threading.Thread(target=send, daemon=True).start()
try:
    lock.acquire()
except KeyError:
    report = [*acquired, lock.locked(), len(manager.holders("a"))]
    lock.release()
    os.write(writer, json.dumps([*report, lock.locked(), len(manager)]).encode())
    os._exit(0)
os.close(writer)
with open(reader) as answer:
    print(json.dumps([json.loads(answer.read()), lock.locked()]))
"""
    assert report_of(program) == [[True, True, 1, False, 0], True]
