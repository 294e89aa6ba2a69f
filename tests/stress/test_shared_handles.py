"""Handles that several threads use at once, and what went wrong there."""

from __future__ import annotations

import random

import pytest
from stress_handles import run_boards
from stress_workload import frequent_switches

from lockcore import LockConflictError

TURNS = 3000


def test_threads_that_share_handles_are_told_what_was_true_at_some_time():
    with frequent_switches():
        counts = run_boards(str(random.getrandbits(32)), 2.0)
    assert counts["acts"] > 100


def test_request_granted_at_once_and_ended_by_force_is_not_queued(lock_manager):
    """It was acquired a second time, over the references that others had to it."""
    grant = lock_manager._attempt(exclusive=["a"])
    lock_manager.clear()
    grant._queue(lambda: None)
    assert (grant._state, lock_manager.snapshot()) == ("ended", [])


def test_owner_that_a_transfer_was_refused_to_is_never_seen(lock_manager, background):
    """Without the GIL it was there for a moment, and its memory gone in the next."""
    grant, _ = (lock_manager.acquire(exclusive=["a"], owner="mine") for _ in range(2))

    def transfer():
        for _ in range(TURNS):
            with pytest.raises(LockConflictError):
                grant.transfer("never")

    transferring = background(transfer)
    seen = set()
    while transferring.is_alive():
        seen.add(grant.owner)
    transferring.result()
    assert seen <= {"mine"}
