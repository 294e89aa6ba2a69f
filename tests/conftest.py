"""Fixtures for all tests."""

from __future__ import annotations

import asyncio
import importlib
import sys
import sysconfig
from collections.abc import Callable, Coroutine, Iterator
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


# There is no uvloop for Windows, nor for the free-threaded 3.13. Elsewhere it must be there: a test
# that runs nowhere says nothing.
HAS_UVLOOP = sys.platform != "win32" and (
    sys.version_info >= (3, 14) or not sysconfig.get_config_var("Py_GIL_DISABLED")
)
LOOPS = ["asyncio", "uvloop"] if HAS_UVLOOP else ["asyncio"]


@pytest.fixture(params=LOOPS)
def new_loop(request: pytest.FixtureRequest) -> Callable[[], asyncio.AbstractEventLoop]:
    """Makes event loops: first asyncio's own, then uvloop's."""
    return importlib.import_module(request.param).new_event_loop


@pytest.fixture
def run(
    new_loop: Callable[[], asyncio.AbstractEventLoop],
) -> Callable[[Coroutine[Any, Any, Any]], Any]:
    """Runs a coroutine in a new event loop, as `asyncio.run` does."""

    def run(main: Coroutine[Any, Any, Any]) -> Any:
        with asyncio.Runner(loop_factory=new_loop) as runner:
            return runner.run(main)

    return run
