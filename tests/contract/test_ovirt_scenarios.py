"""The scenarios that oVirt's own lock manager is tested with, in our terms.

The cast: readers and writers of one entity, readers and writers of another, one request that reads
the first and writes the second, each with a message for those it keeps out.
"""

from __future__ import annotations

import pytest

from lockcore import LockConflictError, LockTimeoutError, NotHeldError
from support import until_queued

TEMPLATE = ("TEMPLATE", "t")
VM = ("VM", "v")

READ_TEMPLATE = {"shared": {TEMPLATE: "TEMPLATE_IS_IN_USE"}}
COPY_TEMPLATE = {"shared": {TEMPLATE: "TEMPLATE_IS_BEING_COPIED"}}
WRITE_TEMPLATE = {"exclusive": {TEMPLATE: "TEMPLATE_IS_BEING_CHANGED"}}
READ_VM = {"shared": {VM: "VM_IS_IN_USE"}}
WRITE_VM = {"exclusive": {VM: "VM_IS_BEING_CREATED"}}
CREATE_VM = {**READ_TEMPLATE, **WRITE_VM}


def messages_of_refusal(manager, request):
    with pytest.raises(LockConflictError) as caught:
        manager.acquire(**request, timeout=0)
    return set(caught.value.messages)


def test_requests_succeed_one_after_the_other(manager):
    reading = manager.acquire(**READ_TEMPLATE, timeout=0)
    writing = manager.acquire(**WRITE_VM, timeout=0)
    writing.release()
    reading_vm = manager.acquire(**READ_VM, timeout=0)
    reading.release()
    reading_vm.release()
    manager.acquire(**CREATE_VM, timeout=0).release()
    manager.acquire(**READ_TEMPLATE, timeout=0)
    assert manager.force_release(TEMPLATE) == 1
    assert manager.snapshot() == []


def test_refusals_name_exactly_the_messages_of_those_in_the_way(manager):
    reading = manager.acquire(**READ_TEMPLATE)
    assert messages_of_refusal(manager, WRITE_TEMPLATE) == {"TEMPLATE_IS_IN_USE"}
    reading.release()
    manager.acquire(**WRITE_TEMPLATE, timeout=0).release()
    creating = manager.acquire(**CREATE_VM)
    assert messages_of_refusal(manager, WRITE_TEMPLATE) == {"TEMPLATE_IS_IN_USE"}
    assert messages_of_refusal(manager, READ_VM) == {"VM_IS_BEING_CREATED"}
    creating.release()
    manager.acquire(**WRITE_TEMPLATE, timeout=0).release()
    manager.acquire(**READ_VM, timeout=0).release()
    manager.acquire(**CREATE_VM)
    manager.acquire(**COPY_TEMPLATE)
    assert messages_of_refusal(manager, WRITE_TEMPLATE) == {
        "TEMPLATE_IS_IN_USE",
        "TEMPLATE_IS_BEING_COPIED",
    }


def test_everything_can_be_acquired_again_after_clear(manager):
    manager.acquire(**WRITE_TEMPLATE)
    manager.acquire(**WRITE_VM)
    manager.clear()
    assert manager.acquire(**WRITE_TEMPLATE, timeout=0).is_held
    assert manager.acquire(**WRITE_VM, timeout=0).is_held


def test_snapshot_shows_each_lock_until_clear(manager):
    manager.acquire(**WRITE_TEMPLATE)
    manager.acquire(**WRITE_VM)
    assert {row.key for row in manager.snapshot()} == {TEMPLATE, VM}
    manager.clear()
    assert manager.snapshot() == []


@pytest.mark.parametrize("first_timeout", [5, None], ids=["after-a-timed-wait", "after-a-wait"])
def test_timed_wait_fails_while_held_and_succeeds_after(manager, first_timeout):
    """Two of the scenarios: they differ in how the first lock was acquired."""
    first = manager.acquire(**WRITE_TEMPLATE, timeout=first_timeout)
    assert len(manager) == 1
    with pytest.raises(LockTimeoutError):
        manager.acquire(**WRITE_TEMPLATE, timeout=0.05)
    assert len(manager) == 1
    first.release()
    assert len(manager) == 0
    second = manager.acquire(**WRITE_TEMPLATE, timeout=5)
    second.release()
    assert len(manager) == 0


def test_waiting_thread_takes_over_when_the_holder_releases(manager, background):
    first = manager.acquire(**WRITE_TEMPLATE)
    thread = background(manager.acquire, **WRITE_TEMPLATE)
    until_queued(manager, TEMPLATE)
    assert [row.token for row in manager.snapshot()] == [1]
    first.release()
    second = thread.result()
    assert [row.token for row in manager.snapshot()] == [2]
    second.release()
    assert manager.snapshot() == []


def test_negative_timeout_is_refused(manager):
    with pytest.raises(ValueError, match="timeout"):
        manager.acquire(**WRITE_TEMPLATE, timeout=-1)


def test_lock_cannot_be_taken_away_by_one_who_timed_out(manager, background):
    """There it could: any caller that can name a key can release it."""
    first = manager.acquire(**WRITE_TEMPLATE)
    lock = manager.lock(**WRITE_TEMPLATE)

    def time_out_and_release():
        assert lock.acquire(timeout=0.05) is False
        with pytest.raises(NotHeldError):
            lock.release()

    background(time_out_and_release).result()
    assert messages_of_refusal(manager, WRITE_TEMPLATE) == {"TEMPLATE_IS_BEING_CHANGED"}
    assert first.is_held
