"""Ctrl-C ends every wait of the main thread, and leaves nothing behind."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading

import pytest

from support import DEADLINE, report_of

pytestmark = pytest.mark.skipif(
    sys.platform == "win32", reason="Windows cannot send Ctrl-C to one process"
)

WAITS = {
    "acquire": "manager.acquire(exclusive=['a', 'b'])",
    "acquire-timeout": "manager.acquire(exclusive=['a', 'b'], timeout=1000)",
    "acquire-infinity": "manager.acquire(exclusive=['a', 'b'], timeout=float('inf'))",
    "acquire-owner": "manager.acquire(exclusive=['a', 'b'], owner='me')",
    "lock": "manager.lock(exclusive=['a', 'b']).acquire()",
    "lock-timeout": "manager.lock(exclusive=['a', 'b']).acquire(timeout=1000)",
    "with-lock": "manager.lock(exclusive=['a', 'b']).__enter__()",
}

INTERRUPTED = """
import json, signal, sys, threading
from lockcore import LockManager

# A program started in the background of a script begins with Ctrl-C ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)

manager = LockManager()
reader = manager.acquire(shared=["a"], owner="reader")
manager.acquire(exclusive=["c"])
behind = []

def watch():
    pause = threading.Event()
    while not manager.waiters("a"):
        pause.wait(0.001)
    behind.append(manager._submit(shared=["a"], owner="behind"))
    print("queued", flush=True)

threading.Thread(target=watch, daemon=True).start()
try:
    {wait}
    outcome = "granted"
except KeyboardInterrupt:
    outcome = "interrupted"
report = dict(
    outcome=outcome,
    held=sorted((row.key, str(row.owner)) for row in manager.snapshot()),
    queued=len(manager.waiters("a")) + len(manager.waiters("b")),
    behind=behind[0].is_held,
    usable=manager.try_acquire(exclusive=["b"]) is not None,
)
print(json.dumps(report), flush=True)
"""


@pytest.fixture(scope="module", params=WAITS)
def report(request):
    """What a program says that was sent Ctrl-C while its main thread was queued."""
    program = subprocess.Popen(
        [
            sys.executable,
            "-X",
            "dev",
            "-W",
            "error",
            "-c",
            INTERRUPTED.format(wait=WAITS[request.param]),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    timer = threading.Timer(DEADLINE, program.kill)
    timer.start()
    with program:
        assert program.stdout.readline() == "queued\n", program.stderr.read()
        program.send_signal(signal.SIGINT)
        output, complaint = program.communicate()
    timer.cancel()
    assert (program.returncode, complaint) == (0, "")
    return json.loads(output)


def test_interrupt_ends_the_wait(report):
    assert report["outcome"] == "interrupted"


def test_interrupted_request_holds_nothing(report):
    assert report["held"] == [["a", "behind"], ["a", "reader"], ["c", "None"]]


def test_interrupted_request_is_not_queued(report):
    assert report["queued"] == 0


def test_interrupted_request_lets_those_behind_it_run(report):
    assert report["behind"] is True


def test_manager_works_after_an_interrupt(report):
    assert report["usable"] is True


WITH_HANDLER = """
import json, os, signal, sys, threading, time
from lockcore import LockManager, LockTimeoutError

manager = LockManager()
holder = manager.acquire(exclusive=["a"])
calls = []

def once_queued(act):
    def watch():
        pause = threading.Event()
        while not manager.waiters("a"):
            pause.wait(0.001)
        act()
    threading.Thread(target=watch, daemon=True).start()

def send():
    signal.pthread_kill(threading.main_thread().ident, signal.SIGUSR1)

{body}
"""


def test_handled_signal_does_not_end_a_wait():
    body = """
def handle(number, frame):
    calls.append(number)
    threading.Thread(target=holder.release).start()

signal.signal(signal.SIGUSR1, handle)
once_queued(send)
grant = manager.acquire(exclusive=["a"])
print(json.dumps([len(calls), grant.is_held]))
"""
    assert report_of(WITH_HANDLER.format(body=body)) == [1, True]


def test_handler_may_release_what_its_thread_waits_for():
    body = """
signal.signal(signal.SIGUSR1, lambda number, frame: holder.release())
once_queued(send)
print(json.dumps(manager.acquire(exclusive=["a"]).is_held))
"""
    assert report_of(WITH_HANDLER.format(body=body)) is True


def test_handler_may_wait_itself():
    body = """
other = manager.acquire(exclusive=["b"])

def handle(number, frame):
    threading.Thread(target=other.release).start()
    with manager.acquire(exclusive=["b"]):
        calls.append(number)
    holder.release()

signal.signal(signal.SIGUSR1, handle)
once_queued(send)
print(json.dumps([manager.acquire(exclusive=["a"]).is_held, len(calls)]))
"""
    assert report_of(WITH_HANDLER.format(body=body)) == [True, 1]


def test_error_of_a_handler_ends_the_wait():
    body = """
def handle(number, frame):
    raise LookupError

signal.signal(signal.SIGUSR1, handle)
once_queued(send)
try:
    manager.acquire(exclusive=["a"], timeout=1000)
except LookupError:
    print(json.dumps([manager.waiters("a"), len(manager)]))
"""
    assert report_of(WITH_HANDLER.format(body=body)) == [[], 1]


def test_signals_do_not_put_off_a_timeout():
    body = """
signal.signal(signal.SIGALRM, lambda number, frame: calls.append(number))
signal.setitimer(signal.ITIMER_REAL, 0.005, 0.005)
try:
    manager.acquire(exclusive=["a"], timeout=0.2)
except LockTimeoutError:
    signal.setitimer(signal.ITIMER_REAL, 0)
    print(json.dumps(len(calls) > 1))
"""
    assert report_of(WITH_HANDLER.format(body=body)) is True


def test_interrupts_that_race_with_grants_leave_nobody_queued():
    body = """
signal.signal(signal.SIGUSR1, signal.default_int_handler)
outcomes = set()
for _ in range(100):
    def act(holder=holder):
        holder.release()
        send()
    once_queued(act)
    try:
        try:
            manager.acquire(exclusive=["a"], owner="me")
            while True:
                time.sleep(0.001)  # not a lock of threading, which the signal may break
        finally:
            queued = len(manager.waiters("a"))
    except KeyboardInterrupt:
        outcomes.add((queued, manager.release_all("me") in (0, 1), len(manager)))
    holder = manager.acquire(exclusive=["a"])
print(json.dumps(sorted(outcomes)))
"""
    assert report_of(WITH_HANDLER.format(body=body)) == [[0, True, 0]]
