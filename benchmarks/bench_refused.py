"""What does it cost to be told no?

All keys are held by somebody else. The baseline is `threading.Lock.acquire(False)` on a held lock.
"""

import pytest

from bench_pair import strings
from harness import CPU, Compare, Scale
from rivals import Lockcore, Rival, ThreadingLock
from single import only, rivals_in, run

pytestmark = pytest.mark.benchmark(timer=CPU)

N_KEYS = 1_000


@rivals_in("refused")
def bench_refused_try(compare: Compare, scale: Scale, rival: type[Rival]) -> None:
    items = strings(scale.size(N_KEYS)) * 10
    run(compare, "try/exclusive/refused/keys=1000", rival, "refused", items)


@only(Lockcore, ThreadingLock)
def bench_refused_prepared(compare: Compare, scale: Scale, rival: type[Rival]) -> None:
    items = range(scale.size(N_KEYS * 10))
    run(compare, "prepared/exclusive/refused", rival, "refused_prepared", items)


@only(Lockcore, ThreadingLock)
def bench_refused_with_an_error(compare: Compare, scale: Scale, rival: type[Rival]) -> None:
    items = strings(scale.size(N_KEYS))
    run(compare, "acquire/exclusive/refused/keys=1000", rival, "refused_error", items)
