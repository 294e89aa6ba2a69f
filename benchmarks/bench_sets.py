"""What does a set of keys cost, taken all together and given back, per key?

The rivals that know no sets sort the keys and take one lock after the other. The baseline is as
many pairs of one `threading.Lock`. lockcore is also divided by its own one-key pair.
"""

import pytest

from harness import CPU, Compare, Scale, Subject
from rivals import Lockcore, Rival
from single import rivals_in, run

pytestmark = pytest.mark.benchmark(timer=CPU)

SIZES = (2, 4, 10, 100, 1000)
# What all sets of a round have together, so that a round of any size takes about as long.
N_KEYS = 10_000


def sets(size: int, n_keys: int) -> list[list[str]]:
    n = max(1, n_keys // size)
    return [[f"vm-{i * size + j}" for j in range(size)] for i in range(n)]


def one_key_pair(n: int) -> Subject:
    return Subject(Lockcore().loop("try_exclusive", [f"vm-{i}" for i in range(n)]), n)


@pytest.mark.parametrize("size", SIZES)
@rivals_in("set")
def bench_set(compare: Compare, scale: Scale, rival: type[Rival], size: int) -> None:
    n_keys = scale.size(N_KEYS)
    run(
        compare,
        f"set/exclusive/uncontended/keys={size}",
        rival,
        "set",
        sets(size, n_keys),
        operations_per_item=size,
        one_key_pair=one_key_pair(n_keys),
    )


@pytest.mark.parametrize("size", SIZES)
@rivals_in("prepared_set")
def bench_prepared_set(compare: Compare, scale: Scale, rival: type[Rival], size: int) -> None:
    n_keys = scale.size(N_KEYS)
    run(
        compare,
        f"prepared-set/exclusive/uncontended/keys={size}",
        rival,
        "prepared_set",
        sets(size, n_keys),
        operations_per_item=size,
        one_key_pair=one_key_pair(n_keys),
    )
