"""How does throughput grow with threads, on keys of their own and on the same keys?

The ratio to `one thread` is the cost of an operation beside that of one thread alone; its inverse
is the speed-up. With the GIL a speed-up of 1 is all there can be; on a free-threaded build two
threads on keys of their own should get near 2. The baseline is a `threading.Lock` per thread, or
one for all where the keys are the same.
"""

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import cycle, islice
from typing import Any

import pytest

from harness import BASELINE, ITSELF, WALL, Compare, Crew, Scale, Subject
from rivals import Lockcore, Rival, ThreadingLock, having_loop
from single import only, rivals_in

pytestmark = pytest.mark.benchmark(timer=WALL)

# A round is long beside the GIL's switch interval of 5 ms. Without the GIL a short one is more
# likely to have both processors to itself.
SECONDS_PER_ROUND = 0.025
SECONDS_PER_FREE_ROUND = 0.005
ONE_THREAD = "one thread"


def has_gil() -> bool:
    return bool(getattr(sys, "_is_gil_enabled", lambda: True)())


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
        compare(case, rival.name, subject(rival, n_threads), references, is_parallel=n_threads <= 2)


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


# ---- two threads, operation by operation -------------------------------------------
#
# What a free-threaded build is judged by. Each thread has keys, lock and loop of its own, made in
# it; what the threads have in common is the manager, and how they reach it: without the GIL, an
# object that several threads name is counted by all of them.

N_OWN_KEYS = 16
_manager: Any = None


class _Holder:
    def __init__(self, manager: Any) -> None:
        self.manager = manager

    def use(self, items: list[str]) -> None:
        for key in items:
            self.manager.try_acquire(exclusive=[key]).release()


def use_local(manager: Any, items: list[str]) -> None:
    for key in items:
        manager.try_acquire(exclusive=[key]).release()


def use_global(_: Any, items: list[str]) -> None:
    for key in items:
        _manager.try_acquire(exclusive=[key]).release()


def use_method(manager: Any, items: list[str]) -> None:
    try_acquire = manager.try_acquire
    for key in items:
        try_acquire(exclusive=[key]).release()


def use_with(manager: Any, items: list[str]) -> None:
    for key in items:
        with manager.acquire(exclusive=[key]):
            pass


def use_prepared(lock: Any, items: list[str]) -> None:
    for _ in items:
        lock.acquire()
        lock.release()


Maker = Callable[[Any, list[str]], Callable[[], None]]
"""Makes what a thread does, in that thread."""

OPERATIONS: dict[str, Maker] = {
    "prepared": lambda manager, items: partial(
        use_prepared, manager.lock(exclusive=items[:1]), items
    ),
    "try/manager=local": lambda manager, items: partial(use_local, manager, items),
    "try/manager=attribute": lambda manager, items: partial(_Holder(manager).use, items),
    "try/manager=global": lambda manager, items: partial(use_global, manager, items),
    "try/manager=bound-method": lambda manager, items: partial(use_method, manager, items),
    "with/manager=local": lambda manager, items: partial(use_with, manager, items),
}


def own_lock(_: Any, items: list[str]) -> Callable[[], None]:
    return partial(use_prepared, threading.Lock(), items)


class _Job:
    """Makes what it does when it is first called, so in the thread that calls it."""

    def __init__(self, make: Maker, manager: Any, thread: int, n: int) -> None:
        self._make = make
        self._manager = manager
        self._thread = thread
        self._n = n
        self._job: Callable[[], None] | None = None

    def __call__(self) -> None:
        if self._job is None:
            self._job = self._make(self._manager, keys_of(self._thread, N_OWN_KEYS, self._n))
        self._job()


@pytest.mark.parametrize("operation", [*OPERATIONS, BASELINE])
def bench_two_threads(compare: Compare, scale: Scale, operation: str) -> None:
    global _manager  # noqa: PLW0603 - one of the ways
    manager = _manager = Lockcore().manager
    make = OPERATIONS.get(operation, own_lock)
    with ExitStack() as stack:

        def crew_of(which: Maker, n_threads: int) -> Subject:
            trial = _Job(which, manager, 0, 1000)
            trial()
            start = WALL()
            trial()
            seconds = SECONDS_PER_ROUND if has_gil() else SECONDS_PER_FREE_ROUND
            n = scale.size(max(1000, int(1000 * seconds / (WALL() - start))))
            jobs = [_Job(which, manager, thread, n) for thread in range(n_threads)]
            return Subject(stack.enter_context(Crew(jobs)).run, n * n_threads)

        compare(
            f"two-threads/{operation}",
            BASELINE if operation == BASELINE else ITSELF,
            crew_of(make, 2),
            {BASELINE: crew_of(own_lock, 2), ONE_THREAD: crew_of(make, 1)},
            budget=4.0,
            is_parallel=True,
        )
