"""What do readers of one hot key cost each other?

First one thread reads the key over and over while others hold it, too, and do nothing. Then
several threads read it at once, each as fast as it can. The baseline is `threading.Lock`, which
lets one reader in at a time.
"""

import threading
from contextlib import ExitStack

import pytest

from harness import BASELINE, CPU, ITSELF, WALL, Compare, Crew, Scale, Subject
from rivals import LOOP_KEY, Lockcore, Rival, ThreadingLock
from single import rivals_in

N_PAIRS = 10_000


def with_holders(which: type[Rival], n_holders: int, n_pairs: int) -> Subject:
    """Returns: a reader of a key that `n_holders` others hold."""
    rival = which()

    def hold() -> None:
        rival.hold(shared=[LOOP_KEY])

    for _ in range(n_holders if rival.has_shared else 0):
        # A thread of its own, for the rivals that tell readers apart by thread.
        thread = threading.Thread(target=hold)
        thread.start()
        thread.join()
    return Subject(rival.loop("try_shared", [LOOP_KEY] * n_pairs), n_pairs)


@pytest.mark.benchmark(timer=CPU)
@pytest.mark.parametrize("n_holders", [1, 10, 100])
@rivals_in("try_shared")
def bench_held_by_others(
    compare: Compare, scale: Scale, rival: type[Rival], n_holders: int
) -> None:
    n_pairs = scale.size(N_PAIRS)
    references = {
        BASELINE: with_holders(ThreadingLock, 0, n_pairs),
        "nobody else": with_holders(rival, 0, n_pairs),
    }
    if rival is not Lockcore:
        references[ITSELF] = with_holders(Lockcore, n_holders, n_pairs)
    subject = with_holders(rival, n_holders, n_pairs)
    compare(f"read/shared/hot/holders={n_holders}", rival.name, subject, references)


@pytest.mark.benchmark(timer=WALL)
@pytest.mark.parametrize("n_threads", [2, 4])
@rivals_in("try_shared")
def bench_read_at_once(compare: Compare, scale: Scale, rival: type[Rival], n_threads: int) -> None:
    n_pairs = scale.size(N_PAIRS)
    with ExitStack() as stack:

        def crew(which: type[Rival], size: int) -> Subject:
            shared = which()
            jobs = [shared.loop("try_shared", [LOOP_KEY] * n_pairs) for _ in range(size)]
            return Subject(stack.enter_context(Crew(jobs)).run, n_pairs * size)

        references = {BASELINE: crew(ThreadingLock, n_threads), "one thread": crew(rival, 1)}
        if rival is not Lockcore:
            references[ITSELF] = crew(Lockcore, n_threads)
        subject = crew(rival, n_threads)
        compare(
            f"read/shared/hot/threads={n_threads}",
            rival.name,
            subject,
            references,
            is_parallel=n_threads <= 2,
        )
