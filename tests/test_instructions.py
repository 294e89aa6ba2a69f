"""The calls that users pay for all day do not grow: their machine instructions are counted.

A count is the same on a busy machine and on an idle one, so it can be held by a test where a time
cannot. The bounds are some tenth above what CPython 3.13 takes, which takes more than 3.11. They
are there to notice a regression; `benchmarks/instructions.py` prints the figures.
"""

from __future__ import annotations

import importlib
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from services import missing

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
# Times the instructions of a pair of threading.Lock in the same loop.
BOUNDS = {"prepared": 0.85, "try": 1.9, "mixed": 2.9}

pytestmark = [
    pytest.mark.timeout(120),  # valgrind is slow to start, and slower beside other work
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="valgrind is for Linux"),
    pytest.mark.skipif(
        any(
            os.environ.get(name, "0") not in {"", "0"}
            for name in ("LOCKCORE_DEBUG", "LOCKCORE_SANITIZE")
        ),
        reason="a build for debugging takes more, and may",
    ),
    pytest.mark.skipif(
        not getattr(sys, "_is_gil_enabled", lambda: True)(),
        reason="without the GIL a threading.Lock takes another number, and so do we",
    ),
]


@pytest.fixture(scope="module")
def counts() -> Any:
    """What each case of BOUNDS takes."""
    if shutil.which("valgrind") is None:
        missing("valgrind")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        return importlib.import_module("instructions").Counts.of(list(BOUNDS))


@pytest.mark.parametrize("case", BOUNDS)
def test_pair_takes_no_more_instructions_than_its_bound(counts: Any, case: str) -> None:
    assert 0.3 < counts.ratio(case) <= BOUNDS[case]


def test_threading_lock_is_counted_as_the_reference(counts: Any) -> None:
    """A pair is two calls of methods: less than this, and the loop was not seen."""
    assert 200 < counts.pair("threading.Lock") < 3000
