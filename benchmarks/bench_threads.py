"""How does throughput grow with threads, on keys of their own and on the same keys?

The ratio to `one thread` is the cost of an operation beside that of one thread alone; its inverse
is the speed-up. With the GIL a speed-up of 1 is all there can be; on a free-threaded build two
threads on keys of their own should get near 2. The baseline is a `threading.Lock` per thread, or
one for all where the keys are the same.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import cycle, islice
from typing import Any

import pytest

from harness import BASELINE, ITSELF, WALL, Compare, Crew, Scale, Subject
from rivals import Lockcore, Rival, ThreadingLock, having_loop
from single import only, rivals_in

pytestmark = pytest.mark.benchmark(timer=WALL)

# A round is long beside the GIL's switch interval of 5 ms.
SECONDS_PER_ROUND = 0.025
ONE_THREAD = "one thread"


def n_pairs(rival: type[Rival], scale: Scale) -> int:
    """Returns: how many pairs take one thread `SECONDS_PER_ROUND`."""
    trial = rival().loop("acquire", ["vm-1"] * 1000)
    trial()
    start = WALL()
    trial()
    return scale.size(max(1000, int(1000 * SECONDS_PER_ROUND / (WALL() - start))))


def keys_of(thread: int, n_keys: int, n: int) -> list[str]:
    """Returns: `n` keys to take one after the other, out of `n_keys` of one thread."""
    return list(islice(cycle([f"vm-{thread}-{i}" for i in range(n_keys)]), n))


@contextmanager
def crew(which: type[Rival], n: int, n_threads: int, n_keys: int, same: bool) -> Iterator[Subject]:
    """Yields: `n_threads` threads, each taking and giving back `n` times."""
    one = which()
    jobs = [
        (one if same or not one.is_one_lock else which()).loop(
            "acquire", keys_of(0 if same else thread, n_keys, n)
        )
        for thread in range(n_threads)
    ]
    with Crew(jobs) as threads:
        yield Subject(threads.run, n * n_threads)


def run(
    compare: Compare,
    scale: Scale,
    rival: type[Rival],
    n_threads: int,
    n_keys: int,
    *,
    same: bool,
) -> None:
    """Measures `n_threads` threads against one, against the baseline and against lockcore."""
    with ExitStack() as stack:

        def subject(which: type[Rival], size: int) -> Subject:
            n = n_pairs(which, scale)
            return stack.enter_context(crew(which, n, size, n_keys, same))

        references = {
            BASELINE: subject(ThreadingLock, n_threads),
            ONE_THREAD: subject(rival, 1),
        }
        if rival is not Lockcore:
            references[ITSELF] = subject(Lockcore, n_threads)
        keys = "same-keys" if same else "own-keys"
        case = f"threads/exclusive/{keys}/threads={n_threads}/keys={n_keys}"
        compare(case, rival.name, subject(rival, n_threads), references)


@pytest.mark.parametrize("n_threads", [1, 2, 4])
@rivals_in("acquire")
def bench_own_keys(compare: Compare, scale: Scale, rival: type[Rival], n_threads: int) -> None:
    run(compare, scale, rival, n_threads, 16, same=False)


@pytest.mark.parametrize("n_keys", [1, 1024])
@only(Lockcore, ThreadingLock)
def bench_few_and_many_own_keys(
    compare: Compare, scale: Scale, rival: type[Rival], n_keys: int
) -> None:
    run(compare, scale, rival, 2, n_keys, same=False)


@pytest.mark.parametrize("n_keys", [1, 16])
@only(*[rival for rival in having_loop("acquire") if rival.name != "oslo.concurrency"])
def bench_same_keys(compare: Compare, scale: Scale, rival: type[Rival], n_keys: int) -> None:
    run(compare, scale, rival, 2, n_keys, same=True)


# The ways a program reaches its manager. On a free-threaded build each costs something else.
# "local" is what the loops of lockcore do anyway.
_manager: Any = None


class _Holder:
    def __init__(self) -> None:
        self.manager = Lockcore().manager

    def loop(self, items: list[str]) -> None:
        for key in items:
            self.manager.acquire(exclusive=[key]).release()


def _loop_global(items: list[str]) -> None:
    for key in items:
        _manager.acquire(exclusive=[key]).release()


@pytest.mark.parametrize("reached", ["global", "attribute"])
def bench_reached(compare: Compare, scale: Scale, reached: str) -> None:
    global _manager  # noqa: PLW0603 - it is the point
    _manager = Lockcore().manager
    loop: Callable[[list[str]], None] = _loop_global if reached == "global" else _Holder().loop
    n = n_pairs(Lockcore, scale)
    items = [keys_of(thread, 16, n) for thread in range(2)]
    with (
        Crew([lambda mine=mine: loop(mine) for mine in items]) as two,  # type: ignore[misc]
        Crew([lambda: loop(items[0])]) as one,
        crew(ThreadingLock, n_pairs(ThreadingLock, scale), 2, 16, same=False) as baseline,
    ):
        compare(
            f"threads/exclusive/own-keys/threads=2/reached={reached}",
            ITSELF,
            Subject(two.run, 2 * n),
            {BASELINE: baseline, ONE_THREAD: Subject(one.run, n)},
        )
