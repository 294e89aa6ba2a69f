"""An engine in the child of a fork: it is its parent's, whose store and locks are let alone."""

from __future__ import annotations

import os

import pytest

from support import report_of

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform does not fork")

FORKING = """
import asyncio, json, os, signal, threading, time, warnings
from lockcore.engine import Command, Engine, EngineError, Scope, ThreadTasks, exclusive, locks

warnings.simplefilter("ignore", DeprecationWarning)  # we know that there are threads

@locks(exclusive("VM", "vm"), scope=Scope.COMMAND)
class Run(Command):
    vm: str = "web"

    def execute(self):
        self.start_task(may_end.wait)

def in_child(call):
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(writer, json.dumps(call()).encode())
        except BaseException as error:
            os.write(writer, json.dumps([type(error).__name__, str(error)]).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with open(reader) as answer:
        said = json.loads(answer.read())
    os.waitpid(child, 0)
    return said

may_end = threading.Event()
"""

CALLS = {
    "open": "engine.open()",
    "run": "engine.run(Run(vm='db'))",
    "run_async": "asyncio.run(engine.run_async(Run(vm='db')))",
    "wait": "engine.wait(running.command_id, timeout=0)",
    "status": "engine.status(running.command_id)",
    "close": "engine.close()",
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_engine_of_the_parent_is_of_no_use_in_a_child_and_goes_on_in_the_parent(call: str) -> None:
    program = f"""{FORKING}
with Engine(tasks=ThreadTasks()) as engine:
    running = engine.run(Run())
    said = in_child(lambda: {call})
    may_end.set()
    state = engine.wait(running.command_id, timeout=10).state
    print(json.dumps([said, os.getpid(), state, engine.run(Run(vm="db")).state]))
"""
    said, process, *states = report_of(program)
    text = f"this engine belongs to process {process}: open one in this process"
    assert said == ["EngineError", text]
    assert states == ["succeeded", "running"]


def test_engine_that_was_not_open_yet_can_be_opened_in_a_child() -> None:
    program = f"""{FORKING}
engine = Engine(tasks=ThreadTasks())
may_end.set()

def opened():
    with engine:
        return engine.wait(engine.run(Run()).command_id, timeout=10).state

print(json.dumps([in_child(opened), opened()]))
"""
    assert report_of(program) == ["succeeded", "succeeded"]


def test_child_of_a_signal_handler_does_not_go_on_with_the_wait_for_locks() -> None:
    program = f"""{FORKING}
reader, writer = os.pipe()
children = []

def fork(*_):
    child = os.fork()
    children.append(child)

signal.signal(signal.SIGUSR1, fork)
engine = Engine(tasks=ThreadTasks())
engine.open()
other = engine.manager.acquire(exclusive=[("VM", "web")], owner="somebody else")

def fork_in_the_wait():
    while not engine.manager.waiters(("VM", "web")):
        time.sleep(0.001)
    os.kill(os.getpid(), signal.SIGUSR1)
    while not children:
        time.sleep(0.001)
    os.waitpid(children[0], 0)
    other.release()

threading.Thread(target=fork_in_the_wait).start()
may_end.set()
try:
    state = engine.run(Run(), timeout=None).state
except BaseException as error:
    os.write(writer, str(error).encode())
    os._exit(0)
os.close(writer)
with open(reader) as answer:
    print(json.dumps([answer.read(), state]))
engine.close(drain=True)
"""
    text, state = report_of(program)
    assert "the process was forked during the wait" in text
    assert state == "running"
