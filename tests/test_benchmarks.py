"""The benchmarks can be run, and what they compare does what it claims.

A figure of a rival that does not exclude, or shares where it should not, would be worth nothing.
"""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from support import Background, eventually

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
FILES = sorted(BENCHMARKS.glob("bench_*.py"))
# What the rivals of other people need, which is not installed for the tests alone.
PACKAGES = {
    "fasteners": "fasteners",
    "readerwriterlock": "readerwriterlock",
    "oslo.concurrency": "oslo_concurrency",
    "aiorwlock": "aiorwlock",
}
RIVALS = (
    "lockcore",
    "lockcore, acquire()",
    "threading.Lock",
    "leaky dict of locks",
    "refcounted dict of locks",
    "oVirt algorithm",
    "fasteners",
    "readerwriterlock",
    "oslo.concurrency",
)
KEYS = ("vm-1", ("VM", "vm-1"))


@pytest.fixture(scope="module")
def rivals() -> Iterator[Any]:
    """The module with the rivals."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        yield importlib.import_module("rivals")


def needs_its_package(name: str) -> None:
    module = PACKAGES.get(name)
    if module is not None and importlib.util.find_spec(module) is None:
        pytest.skip(f"{name} is not installed: it comes with the dependency group bench")


@pytest.fixture(params=RIVALS)
def new_rival(request: pytest.FixtureRequest, rivals: Any) -> Callable[[], Any]:
    """Makes rivals of one kind, of each kind in turn."""
    needs_its_package(request.param)
    kinds = {kind.name: kind for kind in (*rivals.RIVALS, rivals.LockcoreGrants)}
    assert sorted(kinds) == sorted(RIVALS)
    return kinds[request.param]


@pytest.fixture
def rival(new_rival: Callable[[], Any]) -> Any:
    """One rival of each kind."""
    return new_rival()


# ---- the files -------------------------------------------------------------------


@pytest.fixture(scope="module")
def collected() -> str:
    """What pytest finds in the benchmarks, as it lists it."""
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            str(BENCHMARKS),
            "--collect-only",
            "-q",
            "-p",
            "no:cacheprovider",
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.timeout(120)  # the first of them has another pytest import every benchmark
@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_benchmark_file_has_cases(collected: str, file: Path) -> None:
    assert re.search(rf"^(.*/)?{file.name}::bench_\w+", collected, re.MULTILINE)


@pytest.mark.timeout(120)
@pytest.mark.parametrize("page", ["CONTRIBUTING.md", "benchmarks/README.md"])
def test_part_that_a_page_selects_is_there(collected: str, page: str) -> None:
    text = (BENCHMARKS.parent / page).read_text(encoding="utf-8")
    parts = re.findall(r'(?:BENCH_ARGS="|pytest benchmarks\S* )-k (\w+)', text)
    assert parts
    for part in parts:
        assert part in collected


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_benchmark_file_asks_its_question(file: Path) -> None:
    question = file.read_text(encoding="utf-8").removeprefix('"""').partition("\n\n")[0]
    assert question.partition('"""')[0].endswith("?")


def test_missing_rival_is_named(rivals: Any) -> None:
    with pytest.raises(rivals.MissingRivalError, match="pip install no-such-thing"):
        rivals.rival_module("no_such_thing", "no-such-thing")


# ---- the rivals ------------------------------------------------------------------


@pytest.mark.parametrize("key", KEYS, ids=str)
def test_holder_excludes_another_thread(
    rival: Any, background: Callable[..., Background], key: Any
) -> None:
    held = rival.hold([key])
    has_begun, has_it = threading.Event(), threading.Event()

    def take() -> None:
        has_begun.set()
        its = rival.hold([key])
        has_it.set()
        its.release()

    thread = background(take)
    has_begun.wait()
    # It cannot be seen waiting in every rival, but whoever does not wait would have it soon.
    assert not has_it.wait(0.02)
    held.release()
    thread.result()
    assert has_it.is_set()


def test_try_is_refused_where_somebody_holds(
    rival: Any, background: Callable[..., Background]
) -> None:
    if not rival.has_try:
        pytest.skip("it cannot try")
    held = rival.hold(["vm-1"])
    assert background(rival.try_hold, ["vm-1"]).result() is None
    held.release()
    again = rival.try_hold(["vm-1"])
    assert again is not None
    again.release()


def test_refused_set_leaves_nothing_held(rival: Any, background: Callable[..., Background]) -> None:
    if not rival.has_try:
        pytest.skip("it cannot try")
    held = rival.hold(["vm-2"])
    assert background(rival.try_hold, ["vm-1", "vm-2"]).result() is None
    held.release()
    both = background(rival.try_hold, ["vm-1", "vm-2"]).result()
    assert both is not None


def test_readers_share_if_it_says_so(rival: Any, background: Callable[..., Background]) -> None:
    if not rival.has_shared:
        pytest.skip("it has no shared mode")
    both_inside = threading.Barrier(2)

    def read() -> None:
        held = rival.hold(shared=["vm-1"])
        both_inside.wait(10)
        held.release()

    threads = [background(read) for _ in range(2)]
    for thread in threads:
        thread.result()


def test_reader_excludes_writer_if_it_has_readers(
    rival: Any, background: Callable[..., Background]
) -> None:
    if not rival.has_shared:
        pytest.skip("it has no shared mode")
    reader = rival.hold(shared=["vm-1"])
    has_it = threading.Event()

    def write() -> None:
        held = rival.hold(["vm-1"])
        has_it.set()
        held.release()

    thread = background(write)
    assert not has_it.wait(0.02)
    reader.release()
    thread.result()


def test_lock_excludes_in_turn(rival: Any, background: Callable[..., Background]) -> None:
    inside = [0]
    seen = []

    def count() -> None:
        lock = rival.lock("vm-1")
        for _ in range(50):
            lock.acquire()
            inside[0] += 1
            seen.append(inside[0])
            eventually(lambda: True)  # lets the other in, if anything does
            inside[0] -= 1
            lock.release()

    threads = [background(count) for _ in range(2)]
    for thread in threads:
        thread.result()
    assert set(seen) == {1}


ITEMS: dict[str, Any] = {
    "try_group_id": [("VM", "vm-1"), ("VM", "vm-2")],
    "mixed": [("vm-1", "pool-1"), ("vm-2", "pool-1")],
    "set": [["vm-1", "vm-2"], ["vm-3", "vm-2"]],
    "prepared_set": [["vm-1", "vm-2"], ["vm-1", "vm-2"]],
}


def test_dicts_of_locks_are_asked_for_the_same(rivals: Any) -> None:
    def operations(rival: type) -> set[str]:
        return {name for name in dir(rival) if name.startswith("loop_")}

    # A `with` statement is what the one has and the other, written by hand, has not.
    assert operations(rivals.LeakyDict) - operations(rivals.RefcountedDict) == {"loop_with"}
    assert operations(rivals.RefcountedDict) <= operations(rivals.LeakyDict)


def test_loops_end_and_leave_nothing_held(new_rival: Callable[[], Any]) -> None:
    operations = [name.removeprefix("loop_") for name in dir(new_rival) if name.startswith("loop_")]
    assert operations
    for operation in operations:
        rival = new_rival()
        loop = rival.loop(operation, ITEMS.get(operation, ["vm-1", "vm-2"]))
        loop()
        loop()
        if not operation.startswith("refused") and rival.has_try:
            assert rival.try_hold(["vm-1", "vm-2", "vm-3", "pool-1"]) is not None, operation


# ---- the workload ----------------------------------------------------------------


@pytest.fixture(scope="module")
def workload(rivals: Any) -> Any:
    """The module with the workload."""
    return importlib.import_module("workload")


def test_workload_has_all_commands(workload: Any) -> None:
    assert len({command.command for command in workload.declared()}) == 171


def test_workload_is_the_same_for_a_seed(workload: Any) -> None:
    one = workload.requests(200, seed=7, per_second=10.0)
    assert one == workload.requests(200, seed=7, per_second=10.0)
    assert one != workload.requests(200, seed=8, per_second=10.0)


def test_workload_request_names_no_key_twice(workload: Any) -> None:
    for request in workload.requests(500, seed=1, per_second=10.0):
        keys = request.exclusive + request.shared
        assert len(keys) == len(set(keys)) > 0


@pytest.mark.parametrize("name", ["lockcore", "oVirt algorithm", "readerwriterlock"])
def test_workload_is_refused_where_it_must_be(workload: Any, name: str) -> None:
    needs_its_package(name)
    day = workload.requests(500, seed=1, per_second=20.0)
    steps, refused = workload.replay(day)
    players = importlib.import_module("bench_workload").REPLAYERS
    assert refused
    assert players[name](day, second=1.0).play(steps) == refused


# ---- memory ----------------------------------------------------------------------


def test_memory_of_a_rival_nobody_knows_is_refused(
    rivals: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its figures would be those of empty objects."""
    with pytest.raises(SystemExit):
        importlib.import_module("memory").main(["lockcroe", "10", "held"])
    assert "invalid choice: 'lockcroe'" in capsys.readouterr().err


def test_memory_in_a_way_nobody_knows_is_refused(
    rivals: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        importlib.import_module("memory").main(["lockcore", "10", "hold"])
    assert "invalid choice: 'hold'" in capsys.readouterr().err


# ---- the report ------------------------------------------------------------------


def test_report_writes_between_its_marks(rivals: Any, tmp_path: Path) -> None:
    report = importlib.import_module("report")
    page = tmp_path / "page.md"
    page.write_text("a\n<!-- bounds:begin -->\nold\n<!-- bounds:end -->\nb\n")
    for _ in range(2):
        report.write_into(page, {"bounds": "| new |"})
        expected = "a\n<!-- bounds:begin -->\n| new |\n<!-- bounds:end -->\nb\n"
        assert page.read_text() == expected


def test_report_refuses_a_page_without_marks(rivals: Any, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("nothing\n")
    with pytest.raises(SystemExit, match="no part to write"):
        importlib.import_module("report").write_into(page, {"bounds": ""})


def saved_run(path: Path, ratio: float, *, has_gil: bool = True) -> Path:
    """Writes a run in which only a prepared lock was measured."""
    info = {
        "case": "prepared/exclusive/uncontended",
        "rival": "lockcore",
        "ratios": {"threading.Lock": [ratio, ratio - 0.1, ratio + 0.1]},
        "best_ratios": {"threading.Lock": ratio - 0.15},
    }
    run = {
        "machine_info": {"python": "3.11.7", "is_gil_enabled": has_gil, "cpus_usable": 2},
        "run_info": {
            "date": "2026-11-22",
            "load_average": None,
            "is_quick": False,
            "versions": {"fasteners": "0.20"},
        },
        "benchmarks": [{"extra_info": info}],
    }
    path.write_text(json.dumps(run))
    return path


def test_report_says_what_was_measured_and_whether_it_is_enough(
    rivals: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [saved_run(tmp_path / "a.json", 0.6), saved_run(tmp_path / "b.json", 0.8)]
    importlib.import_module("report").main(["--markdown", *map(str, runs)])
    prepared, tried = capsys.readouterr().out.splitlines()[5:7]
    assert prepared.endswith(
        "| 0.70x | 0.60x [0.50x, 0.70x], best 0.45x | 0.80x [0.70x, 0.90x], best 0.65x | yes |"
    )
    assert tried.endswith("| 1.25x | - | - | not measured |")


def test_report_tells_runs_of_one_python_apart(rivals: Any, tmp_path: Path) -> None:
    paths = [
        saved_run(tmp_path / "old.json", 0.6),
        saved_run(tmp_path / "new.json", 0.6),
        saved_run(tmp_path / "free.json", 0.6, has_gil=False),
    ]
    titles = [run.title for run in importlib.import_module("saved").load(paths)]
    assert titles == ["CPython 3.11.7, old", "CPython 3.11.7, new", "CPython 3.11.7 free-threaded"]


def test_report_leaves_parts_alone_that_were_not_measured(rivals: Any, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    text = "<!-- threads:begin -->\nmeasured before\n<!-- threads:end -->\n"
    page.write_text(f"<!-- bounds:begin -->\n<!-- bounds:end -->\n{text}")
    run = saved_run(tmp_path / "run.json", 0.6)
    importlib.import_module("report").main([str(run), "--write", str(page)])
    assert page.read_text().endswith(text)


def test_comparison_of_two_commits_judges_this_tree() -> None:
    """The first run decides whether a bound is met, and is the one of the table of rivals."""
    makefile = (BENCHMARKS.parent / "Makefile").read_text(encoding="utf-8")
    recipe = makefile.partition("\nbench-compare:")[2].partition("\n\n")[0]
    assert recipe.rstrip().endswith("report.py build/new.json build/old.json")


def test_every_part_of_the_performance_page_can_be_written(rivals: Any) -> None:
    page = Path(__file__).parent.parent / "docs" / "explanation" / "performance.md"
    names = re.findall(r"<!-- (\w+):begin -->", page.read_text())
    tables = importlib.import_module("report").TABLES
    assert set(names) == (tables.keys() - {"ratios"}) | {"machine", "plots"}


# ---- the harness -----------------------------------------------------------------


def test_round_without_a_processor_is_left_out(rivals: Any) -> None:
    # The time, and how long threads had been kept waiting until then.
    ends = [(0.0, 0.0), (1.0, 0.0), (2.0, 0.5), (3.0, 0.51)]
    assert importlib.import_module("harness").undisturbed(ends) == [0, 2]


def test_callgrind_counts_each_function_once(rivals: Any) -> None:
    lines = [
        "events: Ir",
        "fn=caller",
        "0 10",
        "cfn=callee",
        "calls=1 0 ",
        "0 500",
        "0 5",
        "",
        "fn=callee'2",
        "0 500",
    ]
    costs = importlib.import_module("instructions").costs(lines)
    assert costs == {"caller": 15, "callee": 500}
