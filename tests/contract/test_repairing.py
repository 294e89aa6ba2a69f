"""Repairing: ending other parties' grants, and closing."""

from __future__ import annotations

import pytest

from lockcore import ManagerClosedError, NotHeldError
from support import owners_of

ENDINGS = {
    "release_all": lambda manager: manager.release_all("me"),
    "force_release": lambda manager: manager.force_release("a"),
    "clear": lambda manager: manager.clear(),
}


@pytest.fixture(params=ENDINGS)
def end(request):
    """Each way to end the grant that "me" has on "a"."""
    return ENDINGS[request.param]


def test_ending_frees_the_keys(manager, end):
    manager.acquire(exclusive=["a", "b"], owner="me")
    end(manager)
    assert len(manager) == 0


def test_ending_returns_the_number_of_grants(manager, end):
    manager.acquire(shared=["a", "b"], owner="me")
    manager.acquire(shared=["a"], owner="me")
    assert end(manager) == 2


def test_ending_nothing_returns_zero(manager, end):
    assert end(manager) == 0


def test_ended_grant_is_not_held(manager, end):
    grant = manager.acquire(exclusive=["a"], owner="me")
    end(manager)
    assert not grant.is_held


def test_ended_grant_cannot_be_released(manager, end):
    grant = manager.acquire(exclusive=["a"], owner="me")
    end(manager)
    with pytest.raises(NotHeldError):
        grant.release()


def test_release_of_an_ended_grant_does_not_harm_its_successor(manager, end):
    grant = manager.acquire(exclusive=["a"], owner="me")
    end(manager)
    successor = manager.acquire(exclusive=["a"], owner="me")
    with pytest.raises(NotHeldError):
        grant.release()
    assert successor.is_held


def test_ended_grant_leaves_its_block_quietly(manager, end):
    with manager.acquire(exclusive=["a"], owner="me"):
        end(manager)
    assert len(manager) == 0


def test_ending_grants_to_waiters(manager, end):
    manager.acquire(exclusive=["a"], owner="me")
    waiter = manager._submit(exclusive=["a"], owner="next")
    end(manager)
    assert waiter.is_held


def test_ending_does_not_end_what_it_lets_run(manager, end):
    manager.acquire(exclusive=["a"], owner="me")
    waiters = [manager._submit(exclusive=["a"], owner="next") for _ in range(2)]
    assert (end(manager), [waiter.is_held for waiter in waiters]) == (1, [True, True])


def test_ending_leaves_later_waiters_queued(manager, end):
    manager.acquire(exclusive=["a"], owner="me")
    manager._submit(exclusive=["a"], owner="next")
    manager._submit(exclusive=["a"], owner="last")
    end(manager)
    assert owners_of(manager.waiters("a")) == ["last"]


def test_ending_ends_a_grant_whose_handle_is_gone(manager, end):
    manager.acquire(exclusive=["a"], owner="me")
    assert end(manager) == 1


def test_release_all_leaves_other_owners(manager):
    manager.acquire(shared=["a"], owner="me")
    manager.acquire(shared=["a"], owner="other")
    manager.acquire(shared=["a"])
    manager.release_all("me")
    assert owners_of(manager.holders("a")) == ["other", None]


def test_release_all_tells_owners_apart_by_kind(manager):
    manager.acquire(exclusive=["a"], owner="1")
    assert manager.release_all(1) == 0


def test_release_all_leaves_the_owners_waiters(manager):
    manager.acquire(exclusive=["a"], owner="other")
    waiter = manager._submit(exclusive=["a"], owner="me")
    manager.release_all("me")
    assert waiter._state == "waiting"


def test_grant_of_no_keys_is_ended_by_its_own_release_only(manager):
    grant = manager.acquire(owner="me")
    assert (manager.release_all("me"), manager.clear(), grant.is_held) == (0, 0, True)


def test_force_release_ends_every_holder(manager):
    grants = [manager.acquire(shared=["a"], owner=number) for number in range(3)]
    assert (manager.force_release("a"), [grant.is_held for grant in grants]) == (3, [False] * 3)


def test_force_release_ends_grants_as_a_whole(manager):
    manager.acquire(shared=["a", "b"], exclusive=["c"])
    manager.force_release("a")
    assert len(manager) == 0


def test_force_release_leaves_grants_of_other_keys(manager):
    manager.acquire(exclusive=["a"])
    other = manager.acquire(exclusive=["b"])
    manager.force_release("a")
    assert other.is_held


def test_force_release_of_a_key_only_waited_for_ends_nothing(manager):
    manager.acquire(exclusive=["a"])
    manager._submit(exclusive=["a", "b"])
    assert manager.force_release("b") == 0


def test_clear_ends_all(manager):
    grants = [manager.acquire(exclusive=[key], owner=key) for key in "abc"]
    assert (manager.clear(), [grant.is_held for grant in grants]) == (3, [False] * 3)


def test_clear_ends_all_before_it_grants_any(manager):
    manager.acquire(exclusive=["a"])
    early = manager._submit(exclusive=["a", "b"])
    manager.acquire(exclusive=["b"])
    late = manager._submit(exclusive=["b"])
    manager.clear()
    assert (early._state, late._state) == ("held", "waiting")


def test_force_release_ends_all_before_it_grants_any(manager):
    for key in ("a", "b", "c", "d"):
        manager.acquire(shared=["k"], exclusive=[key])
    early = manager._submit(exclusive=["a", "d"])
    late = [manager._submit(exclusive=[key]) for key in ("d", "c", "b")]
    manager.force_release("k")
    assert (early._state, [each._state for each in late]) == ("held", ["waiting", "held", "held"])


def test_new_manager_is_open(manager):
    assert manager.closed is False


def test_closed_manager_is_closed(manager):
    manager.close()
    assert manager.closed is True


@pytest.mark.parametrize("call", ["acquire", "try_acquire", "_submit"])
@pytest.mark.parametrize("request_", [{}, {"exclusive": ["a"]}, {"shared": ["a"], "owner": "me"}])
def test_closed_manager_refuses_requests(manager, call, request_):
    manager.close()
    with pytest.raises(ManagerClosedError):
        getattr(manager, call)(**request_)


def test_closed_manager_still_refuses_bad_requests_as_such(manager):
    manager.close()
    with pytest.raises(TypeError):
        manager.acquire(exclusive=[1.5])


def test_closing_leaves_what_is_held(manager):
    grant = manager.acquire(exclusive=["a"])
    manager.close()
    assert (grant.is_held, len(manager)) == (True, 1)


def test_closing_leaves_releases_possible(manager):
    grant = manager.acquire(exclusive=["a"])
    manager.close()
    grant.release()
    assert len(manager) == 0


def test_closing_leaves_repairs_possible(manager, end):
    manager.acquire(exclusive=["a"], owner="me")
    manager.close()
    assert end(manager) == 1


def test_closing_shuts_waiters_out(manager):
    manager.acquire(exclusive=["a"])
    waiter = manager._submit(exclusive=["a"])
    manager.close()
    assert (waiter._state, manager.waiters("a")) == ("closed", [])


def test_waiter_shut_out_is_not_granted_later(manager):
    grant = manager.acquire(exclusive=["a"])
    manager._submit(exclusive=["a"])
    manager.close()
    grant.release()
    assert len(manager) == 0


def test_waiter_shut_out_stays_shut_out(manager):
    manager.acquire(exclusive=["a"])
    waiter = manager._submit(exclusive=["a"])
    manager.close()
    waiter._cancel()
    assert waiter._state == "closed"


def test_closing_twice_is_closing(manager):
    manager.close()
    manager.close()
    assert manager.closed


def test_manager_closes_at_the_end_of_its_block(new_manager):
    with new_manager() as manager:
        assert not manager.closed
    assert manager.closed


def test_manager_closes_when_its_block_raises(new_manager):
    with pytest.raises(LookupError), new_manager() as manager:
        raise LookupError
    assert manager.closed
