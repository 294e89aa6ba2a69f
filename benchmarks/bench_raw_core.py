"""What does the C core cost without Python, beside oneTBB's and RocksDB's lock tables?

Builds and runs benchmarks/c, which measures processor time in rounds of its own; see there.
"""

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from harness import WALL, Scale

pytestmark = pytest.mark.benchmark(timer=WALL)


def bench_raw_core(benchmark: BenchmarkFixture, scale: Scale) -> None:
    for tool in ("make", "cc", "c++"):
        if shutil.which(tool) is None:
            pytest.skip(f"the raw core was not measured: there is no {tool} here")
    arguments = "2 1" if scale.is_quick else "41 4"
    make = ["make", "--silent", "--no-print-directory", "-C", str(Path(__file__).with_name("c"))]
    subprocess.run([*make, "all"], check=True)
    program = [*make, "run", f"ARGS={arguments}"]
    output: list[str] = []

    def run() -> None:
        done = subprocess.run(program, check=True, capture_output=True, text=True)
        output.append(done.stdout)

    benchmark.group = "raw/exclusive/disjoint"
    benchmark.name = "lockcore"
    benchmark.pedantic(run, rounds=1)  # type: ignore[no-untyped-call]
    benchmark.extra_info.update(case=benchmark.group, rival="lockcore", **json.loads(output[0]))
