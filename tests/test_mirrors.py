"""What Python says of modes and bounds is what the C header says."""

from __future__ import annotations

import re
from pathlib import Path

from lockcore import LockManager, Mode, _core

HEADER = (Path(__file__).parent.parent / "src" / "lockcore" / "lock_table.h").read_text("utf-8")


def enum_of(name: str) -> dict[str, int]:
    """The members of an enum of the header, without their prefix."""
    found = re.search(rf"typedef enum {name} \{{(.*?)\}} {name};", HEADER, re.DOTALL)
    assert found, f"no enum {name}"
    body = re.sub(r"/\*.*?\*/", "", found[1], flags=re.DOTALL)
    return {key: int(value) for key, value in re.findall(r"LC_(\w+) = (\d+)", body)}


def test_modes_are_those_of_the_header() -> None:
    modes = enum_of("lc_mode")
    assert sorted(modes) == sorted(mode.name for mode in Mode)
    assert {name: getattr(_core, name) for name in modes} == modes


def test_status_codes_are_those_of_the_header() -> None:
    statuses = enum_of("lc_status")
    exported = {name: getattr(_core, name) for name in statuses if hasattr(_core, name)}
    assert {"CONFLICT", "NOT_HELD", "CLOSED", "DEADLOCK"} <= set(exported)
    assert exported == {name: statuses[name] for name in exported}


def test_further_statuses_are_none_of_the_header() -> None:
    assert not {_core.TIMED_OUT, _core.FORKED} & set(enum_of("lc_status").values())


def test_wait_histogram_has_the_bins_of_the_header() -> None:
    found = re.search(r"#define LC_N_WAIT_BINS (\d+)", HEADER)
    assert found
    bounds = [bound for bound, _ in LockManager().statistics().wait_histogram]
    # The header: bin i counts waits below 10 us * 10^i, and the last has no bound.
    assert bounds == [float(f"1e{i - 5}") for i in range(int(found[1]) - 1)] + [float("inf")]
