"""Grants: what they say, and how they end."""

from __future__ import annotations

import copy
import pickle
import threading
import uuid

import pytest

from lockcore import Grant, Lock, NotHeldError


def test_grant_says_what_it_holds(manager):
    grant = manager.acquire(exclusive=["a", ("VM", 1)], shared={"b": "BUSY"})
    assert (grant.exclusive, grant.shared) == ({"a", ("VM", 1)}, {"b"})


@pytest.mark.parametrize("mode", ["exclusive", "shared"])
def test_keys_of_a_grant_cannot_be_changed(manager, mode):
    assert type(getattr(manager.acquire(exclusive=["a"], shared=["b"]), mode)) is frozenset


@pytest.mark.parametrize("owner", ["me", 7, uuid.UUID(int=1), None])
def test_grant_says_whose_it_is(manager, owner):
    assert manager.acquire(exclusive=["a"], owner=owner).owner == owner


def test_tokens_count_the_grants(manager):
    tokens = [manager.acquire(exclusive=[key]).token for key in ("a", "b", "c")]
    assert tokens == [1, 2, 3]


def test_tokens_are_not_reused(manager):
    manager.acquire(exclusive=["a"]).release()
    assert manager.acquire(exclusive=["a"]).token == 2


def test_refused_request_takes_no_token(manager):
    manager.acquire(exclusive=["a"])
    manager.try_acquire(exclusive=["a"])
    assert manager.acquire(exclusive=["b"]).token == 2


def test_empty_request_takes_a_token(manager):
    assert (manager.acquire().token, manager.acquire().token) == (1, 2)


def test_token_is_given_in_the_order_of_grants_not_of_arrivals(manager):
    first = manager.acquire(exclusive=["a"])
    waiter = manager._submit(exclusive=["a"])
    later = manager.acquire(exclusive=["b"])
    first.release()
    assert (later.token, waiter.token) == (2, 3)


def test_grant_is_held_until_released(manager):
    grant = manager.acquire(exclusive=["a"])
    assert grant.is_held
    grant.release()
    assert not grant.is_held


def test_release_frees_the_keys(manager):
    manager.acquire(exclusive=["a"], shared=["b"]).release()
    assert manager.try_acquire(exclusive=["a", "b"]) is not None


def test_release_leaves_no_trace(manager):
    manager.acquire(exclusive=["a"], shared=["b"]).release()
    assert (len(manager), manager.snapshot()) == (0, [])


def test_release_of_one_reader_leaves_the_others(manager):
    grants = [manager.acquire(shared=["a"]) for _ in range(3)]
    grants[1].release()
    assert [holder.token for holder in manager.holders("a")] == [1, 3]


def test_second_release_is_refused_by_token(manager):
    manager.acquire(exclusive=["z"])
    grant = manager.acquire(exclusive=["a"])
    grant.release()
    with pytest.raises(NotHeldError, match=r"^cannot release grant 2: it is not held$") as caught:
        grant.release()
    assert caught.value.token == 2


def test_second_release_changes_nothing(manager):
    grant = manager.acquire(exclusive=["a"])
    grant.release()
    manager.acquire(exclusive=["a"], owner="next")
    with pytest.raises(NotHeldError):
        grant.release()
    assert [holder.owner for holder in manager.holders("a")] == ["next"]


def test_second_release_of_an_empty_grant_is_refused(manager):
    grant = manager.acquire()
    grant.release()
    with pytest.raises(NotHeldError):
        grant.release()


def test_ended_grant_still_says_what_it_held(manager):
    grant = manager.acquire(exclusive=["a"], shared=["b"], owner="me")
    grant.release()
    assert (grant.exclusive, grant.shared, grant.owner, grant.token) == ({"a"}, {"b"}, "me", 1)


def test_grant_releases_at_the_end_of_its_block(manager):
    with manager.acquire(exclusive=["a"]) as grant:
        assert grant.is_held
    assert not grant.is_held


def test_grant_releases_when_its_block_raises(manager):
    with pytest.raises(LookupError), manager.acquire(exclusive=["a"]):
        raise LookupError
    assert "a" not in manager


def test_grant_may_be_released_within_its_block(manager):
    with manager.acquire(exclusive=["a"]) as grant:
        grant.release()
    assert not grant.is_held


def test_grant_released_within_its_block_does_not_release_its_successor(manager):
    with manager.acquire(exclusive=["a"]) as grant:
        grant.release()
        successor = manager.acquire(exclusive=["a"])
    assert successor.is_held


def test_any_thread_may_release(manager, background):
    grant = manager.acquire(exclusive=["a"])
    background(grant.release).result()
    assert "a" not in manager


def test_one_of_two_racing_releases_wins(manager, background):
    for _ in range(50):
        grant = manager.acquire(exclusive=["a"])
        barrier = threading.Barrier(2)

        def release(grant=grant, barrier=barrier):
            barrier.wait()
            try:
                grant.release()
            except NotHeldError:
                return "refused"
            return "released"

        outcomes = [thread.result() for thread in [background(release), background(release)]]
        assert sorted(outcomes) == ["refused", "released"]


def test_grants_are_equal_only_to_themselves(manager):
    one, other = manager.acquire(shared=["a"]), manager.acquire(shared=["a"])
    assert (one == one, one == other, len({one, other})) == (True, False, 2)  # noqa: PLR0124


def test_grants_come_from_managers_only(manager):
    with pytest.raises(TypeError):
        type(manager.acquire())()


@pytest.mark.parametrize("kind", [Grant, Lock])
@pytest.mark.parametrize("make", [lambda kind: kind(), lambda kind: kind.__new__(kind)])
def test_only_a_manager_makes_grants_and_locks(kind, make):
    with pytest.raises(TypeError, match=f"only a LockManager makes a {kind.__name__}"):
        make(kind)


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, pickle.dumps])
def test_grants_and_locks_cannot_be_copied(lock_manager, copied):
    for thing in (lock_manager.acquire(exclusive=["a"]), lock_manager.lock(exclusive=["b"])):
        with pytest.raises(TypeError):
            copied(thing)
