"""What does it cost to await a lock: a free one, and one that other tasks want, too?

The baseline is `asyncio.Lock`.
"""

import asyncio
from collections.abc import Callable, Coroutine, Iterator, Sequence
from typing import Any

import pytest

from harness import CPU, ITSELF, Compare, Scale, Subject
from rivals import ASYNC_RIVALS, LOOP_KEY, AsyncioLock, LockcoreAsync, Rival
from single import only

pytestmark = pytest.mark.benchmark(timer=CPU)

N_KEYS = 10_000
ASYNC_BASELINE = "asyncio.Lock"


@pytest.fixture
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


async def at_once(jobs: Sequence[Callable[[], Coroutine[Any, Any, None]]]) -> None:
    await asyncio.gather(*[job() for job in jobs])


def run(
    compare: Compare,
    runner: asyncio.Runner,
    case: str,
    *,
    rival: type[Rival],
    operation: str,
    items: Sequence[Any],
    n_tasks: int = 1,
) -> None:
    """Measures `n_tasks` tasks that each do the operation for each of `items`."""

    def subject(which: type[Rival]) -> Subject:
        one = which()
        jobs: list[Any] = [one.loop(operation, items) for _ in range(n_tasks)]
        return Subject(lambda: runner.run(at_once(jobs)), n_tasks * len(items))

    references = {ASYNC_BASELINE: subject(AsyncioLock)}
    if rival is not LockcoreAsync:
        references[ITSELF] = subject(LockcoreAsync)
    compare(case, rival.name, subject(rival), references)


@pytest.mark.parametrize("mode", ["exclusive", "shared"])
@only(*ASYNC_RIVALS)
def bench_free(
    compare: Compare, scale: Scale, runner: asyncio.Runner, rival: type[Rival], mode: str
) -> None:
    items = [f"vm-{i}" for i in range(scale.size(N_KEYS))]
    case = f"acquire-async/{mode}/uncontended/keys=10000"
    run(compare, runner, case, rival=rival, operation=f"async_{mode}", items=items)


@pytest.mark.parametrize("n_tasks", [2, 100])
@only(*ASYNC_RIVALS)
def bench_queue(
    compare: Compare, scale: Scale, runner: asyncio.Runner, rival: type[Rival], n_tasks: int
) -> None:
    """Each task gives way while it holds the key, so that all others queue for it."""
    items = [LOOP_KEY] * (scale.size(2_000) // n_tasks)
    case = f"acquire-async/exclusive/one-key/tasks={n_tasks}"
    run(
        compare,
        runner,
        case,
        rival=rival,
        operation="async_queue",
        items=items,
        n_tasks=n_tasks,
    )
