"""A program may end at any time: it prints nothing of ours, and its exit status is its own."""

from __future__ import annotations

import pytest

from support import run_program

BEGIN = """
import atexit, gc, sys, threading
from lockcore import LockManager

manager = LockManager()

def until_queued(key, count=1):
    pause = threading.Event()
    while len(manager.waiters(key)) < count:
        pause.wait(0.001)

def park(call, *args, **kwargs):
    threading.Thread(target=call, args=args, kwargs=kwargs, daemon=True).start()
"""

ENDINGS = {
    "with-a-grant": "grant = manager.acquire(exclusive=['a'])",
    "with-a-dropped-grant": "manager.acquire(exclusive=['a'])",
    "with-a-lock": "lock = manager.lock(exclusive=['a'])\nlock.acquire()",
    "with-many-grants": "grants = [manager.acquire(shared=[n, 'a']) for n in range(1000)]",
    "with-a-queue-of-nobody": (
        "grant = manager.acquire(exclusive=['a'])\nmanager._submit(exclusive=['a'])"
    ),
    "with-a-parked-daemon": (
        "manager.acquire(exclusive=['a'])\n"
        "park(manager.acquire, exclusive=['a'])\nuntil_queued('a')"
    ),
    "with-parked-daemons": (
        "manager.acquire(exclusive=['a'])\n"
        "for _ in range(8): park(manager.acquire, exclusive=['a', 'b'], timeout=1000)\n"
        "until_queued('a', 8)"
    ),
    "with-a-daemon-parked-in-a-lock": (
        "lock = manager.lock(exclusive=['a'])\nlock.acquire()\n"
        "park(lock.acquire)\nuntil_queued('a')"
    ),
    "with-busy-daemons": (
        "def work():\n"
        "    while True:\n"
        "        with manager.acquire(exclusive=['a'], shared=['b']): pass\n"
        "for _ in range(3): park(work)\n"
        "until_queued('a')"
    ),
    "with-daemons-that-time-out": (
        "manager.acquire(exclusive=['a'])\n"
        "def work():\n"
        "    while True:\n"
        "        manager.lock(exclusive=['a']).acquire(timeout=0.001)\n"
        "for _ in range(3): park(work)\n"
        "until_queued('a')"
    ),
    "with-a-closed-manager": "manager.acquire(exclusive=['a'])\nmanager.close()",
    "with-a-cycle": (
        "class Node: pass\n"
        "node = Node()\n"
        "node.node, node.manager, node.grant = node, manager, manager.acquire(exclusive=['a'])\n"
        "del node"
    ),
    "with-a-handler-that-releases": (
        "grant = manager.acquire(exclusive=['a'])\natexit.register(grant.release)"
    ),
    "with-a-handler-that-lets-a-daemon-run": (
        "grant = manager.acquire(exclusive=['a'])\n"
        "park(manager.acquire, exclusive=['a'])\nuntil_queued('a')\n"
        "atexit.register(manager.clear)"
    ),
    "with-a-finaliser-that-acquires": (
        "class Late:\n"
        "    def __init__(self): self.manager = manager\n"
        "    def __del__(self): self.manager.acquire(exclusive=['b']); len(self.manager)\n"
        "late = Late()"
    ),
    "without-the-manager": "grant = manager.acquire(exclusive=['a'])\ndel manager\ngc.collect()",
}


@pytest.mark.parametrize("ending", ENDINGS.values(), ids=ENDINGS.keys())
def test_program_ends_in_silence(ending):
    program = run_program(BEGIN + ending)
    assert (program.returncode, program.stdout, program.stderr) == (0, "", "")


def test_exit_status_is_the_programs_own():
    program = run_program(BEGIN + ENDINGS["with-parked-daemons"] + "\nsys.exit(7)")
    assert (program.returncode, program.stderr) == (7, "")


def test_program_ends_when_a_thread_it_waits_for_gets_its_lock():
    program = run_program(
        BEGIN
        + """
grant = manager.acquire(exclusive=['a'])
threading.Thread(target=manager.acquire, kwargs={'exclusive': ['a']}).start()
until_queued('a')
grant.release()
"""
    )
    assert (program.returncode, program.stdout, program.stderr) == (0, "", "")
