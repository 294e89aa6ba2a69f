"""Fixtures for all tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import hypothesis
import pytest

from lockcore import LockManager
from model import ModelManager
from support import Background

# How long an example takes says nothing: the machine may be busy.
hypothesis.settings.register_profile(
    "lockcore",
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
    print_blob=True,
)
hypothesis.settings.load_profile("lockcore")


@pytest.fixture(params=["model", "core"])
def new_manager(request: pytest.FixtureRequest) -> Callable[[], Any]:
    """Makes lock managers: first the model's, then the real ones. One contract binds both."""
    if request.param == "model":
        return ModelManager
    return LockManager


@pytest.fixture
def manager(new_manager: Callable[[], Any]) -> Iterator[Any]:
    """A lock manager, the model's and the real one in turn."""
    manager = new_manager()
    yield manager
    manager.close()


@pytest.fixture
def lock_manager() -> Iterator[Any]:
    """The real lock manager, where the model has nothing to say: processes, memory, speed."""
    manager = LockManager()
    yield manager
    manager.close()


@pytest.fixture
def background(request: pytest.FixtureRequest) -> Iterator[Callable[..., Background]]:
    """Starts calls in threads of their own. What nobody asked for is raised at the end."""
    threads: list[Background] = []

    def start(call: Callable[..., Any], *args: Any, **kwargs: Any) -> Background:
        threads.append(Background(call, *args, **kwargs))
        return threads[-1]

    yield start
    for thread in threads:
        if not thread.was_asked:
            thread.result()
