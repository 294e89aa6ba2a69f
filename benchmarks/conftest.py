"""Options, fixtures, and what a saved run says about where it was made."""

import functools
import os
import platform
import sys
import time
from collections.abc import Callable
from importlib import metadata
from typing import Any

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from harness import WALL, Compare, Scale, measure

DISTRIBUTIONS = (
    "lockcore",
    "aiorwlock",
    "fasteners",
    "oslo.concurrency",
    "readerwriterlock",
)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--quick",
        action="store_true",
        help="two rounds of next to nothing: shows that every benchmark works, measures nothing",
    )


@pytest.fixture(scope="session")
def scale(request: pytest.FixtureRequest) -> Scale:
    return Scale(bool(request.config.getoption("--quick")))


@pytest.fixture
def compare(request: pytest.FixtureRequest, benchmark: BenchmarkFixture, scale: Scale) -> Compare:
    marker = request.node.get_closest_marker("benchmark")
    timer: Callable[[], float] = marker.kwargs.get("timer", WALL) if marker else WALL
    return functools.partial(measure, benchmark, timer=timer, scale=scale)


def pytest_benchmark_update_machine_info(
    config: pytest.Config,  # noqa: ARG001 - the hook's
    machine_info: dict[str, Any],
) -> None:
    """Adds what must be the same for two runs to be compared."""
    machine_info["python"] = platform.python_version()
    machine_info["is_gil_enabled"] = getattr(sys, "_is_gil_enabled", lambda: True)()
    machine_info["cpus_usable"] = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    )


def pytest_benchmark_update_json(config: pytest.Config, output_json: dict[str, Any]) -> None:
    """Adds what two runs may differ in."""
    output_json["run_info"] = {
        "date": time.strftime("%Y-%m-%d"),
        "load_average": list(os.getloadavg()) if hasattr(os, "getloadavg") else None,
        "is_quick": bool(config.getoption("--quick")),
        "versions": {name: _version(name) for name in DISTRIBUTIONS},
    }


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
