"""Bugs that users of other locks have met, where no other file has a place for the test.

docs/explanation/reliability-bugs.md lists all of them, each with the test of ours that would fail.
"""

from __future__ import annotations

import ast
import re
import sys
import sysconfig
import threading
from pathlib import Path

import pytest

from lockcore import LockTimeoutError
from support import report_of

TESTS = Path(__file__).parent.parent
PAGE = TESTS.parent / "docs" / "explanation" / "reliability-bugs.md"
MODES = ["exclusive", "shared"]


def test_free_key_is_never_refused_because_of_its_neighbours(lock_manager, background):
    """RocksDB's TryLockFor(0) tried the mutex of the stripe, and was busy for unrelated keys."""
    stop = threading.Event()

    def churn(number):
        while not stop.is_set():
            grant = lock_manager.try_acquire(exclusive=[("other", number)], shared=["shared"])
            assert grant is not None
            grant.release()

    threads = [background(churn, number) for number in range(3)]
    try:
        refused = 0
        for number in range(5000):
            grant = lock_manager.try_acquire(exclusive=[("mine", number)])
            refused += grant is None
            if grant is not None:
                grant.release()
    finally:
        stop.set()
    for thread in threads:
        thread.result()
    assert (refused, lock_manager.statistics().refused) == (0, 0)


def time_out_in_acquire(manager, request, run):
    manager.acquire(**request, timeout=0.001)


def time_out_in_a_lock(manager, request, run):
    if not manager.lock(**request).acquire(timeout=0.001):
        raise LockTimeoutError(None, [], 0.001)


def time_out_in_a_task(manager, request, run):
    run(manager.acquire_async(**request, timeout=0.001))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("call", [time_out_in_acquire, time_out_in_a_lock, time_out_in_a_task])
def test_timeout_is_kept_in_every_mode_by_every_verb(manager, run, call, mode):
    """Portalocker ignored the timeout of a shared lock."""
    manager.acquire(exclusive=["a"])
    with pytest.raises(LockTimeoutError):
        call(manager, {mode: ["a"]}, run)


def test_second_request_in_one_thread_is_told_and_does_not_hang(manager):
    """A second accessor in one thread hangs in oneTBB."""
    manager.acquire(shared=["a"])
    with pytest.raises(LockTimeoutError):
        manager.acquire(exclusive=["a"], timeout=0.001)


@pytest.mark.skipif(
    not sysconfig.get_config_var("Py_GIL_DISABLED"),
    reason="only a free-threaded interpreter runs without the GIL",
)
def test_importing_lockcore_keeps_the_gil_off():
    """Importing an extension that does not say otherwise turns the GIL on again."""
    assert sys._is_gil_enabled() is False
    source = "import json, sys, lockcore; print(json.dumps(sys._is_gil_enabled()))"
    assert report_of(source) is False


def test_page_names_tests_that_exist():
    named = re.findall(r"`([a-z_]+/test_\w+\.py)::(\w+)`", PAGE.read_text(encoding="utf-8"))
    missing = []
    for file, name in named:
        tree = ast.parse((TESTS / file).read_text(encoding="utf-8"))
        names = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
        names |= {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
        if name not in names:
            missing.append(f"{file}::{name}")
    assert (len(named) > 40, missing) == (True, [])
