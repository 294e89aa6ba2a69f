"""What do many held keys cost: each further pair, and in memory?

The pair takes and gives back keys that are free, while others are held. `bytes_per_grant` is what a
held one-key grant takes, handle included and key not; `left_over` what the process still has, after
all were given back, that it did not have before; some of that is the interpreter's, as the same for
as many empty objects says.
"""

import gc
import json
import subprocess
import sys
from pathlib import Path

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from harness import BASELINE, CPU, ITSELF, WALL, Compare, Scale, Subject
from memory import EMPTY_OBJECTS
from rivals import (
    LeakyDict,
    Lockcore,
    Ovirt,
    RefcountedDict,
    Rival,
    ThreadingLock,
)

N_PAIRS = 10_000
NONE_HELD = "none held"
SIZES = (10_000, 100_000, 1_000_000)
KEYED: tuple[type[Rival], ...] = (Lockcore, LeakyDict, RefcountedDict, Ovirt)
# A million of each rival's are half a minute, and say no more than a hundred thousand.
AS_MANY = [
    pytest.param(rival, n, id=f"{rival.name.replace(' ', '-')}-{n}")
    for rival in KEYED
    for n in SIZES
    if rival is Lockcore or n < 1_000_000
]
as_many = pytest.mark.parametrize(("rival", "n_keys"), AS_MANY)
IN_MEMORY = [
    *(pytest.param(rival.values[0].name, rival.values[1], id=rival.id) for rival in AS_MANY),
    pytest.param(EMPTY_OBJECTS, SIZES[-1], id=f"empty-objects-{SIZES[-1]}"),
]


@pytest.mark.benchmark(timer=CPU)
@as_many
def bench_pair_beside_held(compare: Compare, scale: Scale, rival: type[Rival], n_keys: int) -> None:
    items = [f"vm-{i}" for i in range(scale.size(N_PAIRS))]
    held = [f"held-{i}" for i in range(scale.size(n_keys))]

    def subject(which: type[Rival], others: list[str]) -> Subject:
        one = which()
        gc.disable()  # which would go through all that is there, again and again
        handles = [one.hold([key]) for key in others]
        gc.enable()
        loop = one.loop("try_exclusive", items)

        def run() -> None:
            loop()
            assert len(handles) == len(others)

        return Subject(run, len(items))

    def nothing() -> None:
        for _ in items:
            pass

    references = {BASELINE: subject(ThreadingLock, []), NONE_HELD: subject(rival, [])}
    if rival is not Lockcore:
        references[ITSELF] = subject(Lockcore, held)
    compare(
        f"try/exclusive/beside-held/held={n_keys}",
        rival.name,
        subject(rival, held),
        references,
        loop=Subject(nothing),
    )


@pytest.mark.benchmark(timer=WALL)
@pytest.mark.parametrize("way", ["held", "passing"])
@pytest.mark.parametrize(("name", "n_keys"), IN_MEMORY)
def bench_memory(
    benchmark: BenchmarkFixture, scale: Scale, name: str, way: str, n_keys: int
) -> None:
    program = Path(__file__).with_name("memory.py")
    n = scale.size(n_keys)
    command = [sys.executable, str(program), name, str(n), way]
    output: list[str] = []

    def run() -> None:
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        output.append(done.stdout)

    benchmark.group = f"memory/exclusive/{way}/keys={n_keys}"
    benchmark.name = name
    benchmark.pedantic(run, rounds=1)  # type: ignore[no-untyped-call]
    sizes = json.loads(output[0])
    benchmark.extra_info.update(
        case=benchmark.group,
        rival=name,
        keys=n,
        resident=sizes,
        bytes_per_grant=(sizes["held"] - sizes["before"]) / n,
        left_over=sizes["after"] - sizes["before"],
    )
