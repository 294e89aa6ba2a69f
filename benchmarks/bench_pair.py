"""What does it cost to take one free key and give it back?

The baseline is `threading.Lock`, one object, acquired and released in the same loop.
"""

import uuid
from collections.abc import Sequence

import pytest

from harness import CPU, Compare, Scale
from rivals import Lockcore, Rival, ThreadingLock
from single import only, rivals_in, run

pytestmark = pytest.mark.benchmark(timer=CPU)

N_KEYS = 10_000


def strings(n: int) -> list[str]:
    return [f"vm-{i}" for i in range(n)]


def long_strings(n: int) -> Sequence[str]:
    return [
        str(uuid.UUID(int=i * 0x9E3779B97F4A7C15F39CC0605CEDC835 % (1 << 128))) for i in range(n)
    ]


def uuids(n: int) -> Sequence[uuid.UUID]:
    return [uuid.UUID(text) for text in long_strings(n)]


def group_and_id(n: int) -> Sequence[tuple[str, str]]:
    return [("VM", f"vm-{i}") for i in range(n)]


def pairs(n: int) -> Sequence[tuple[str, str]]:
    return [(f"vm-{i}", f"pool-{i}") for i in range(n)]


@rivals_in("prepared")
def bench_prepared(compare: Compare, scale: Scale, rival: type[Rival]) -> None:
    run(compare, "prepared/exclusive/uncontended", rival, "prepared", range(scale.size(N_KEYS)))


@rivals_in("with_prepared")
def bench_with_prepared(compare: Compare, scale: Scale, rival: type[Rival]) -> None:
    items = range(scale.size(N_KEYS))
    run(compare, "with-prepared/exclusive/uncontended", rival, "with_prepared", items)


@rivals_in("try_exclusive")
def bench_try_exclusive(compare: Compare, scale: Scale, rival: type[Rival]) -> None:
    n = scale.size(N_KEYS)
    run(compare, "try/exclusive/uncontended/keys=10000", rival, "try_exclusive", strings(n))


@rivals_in("try_shared")
def bench_try_shared(compare: Compare, scale: Scale, rival: type[Rival]) -> None:
    n = scale.size(N_KEYS)
    run(compare, "try/shared/uncontended/keys=10000", rival, "try_shared", strings(n))


@rivals_in("try_group_id")
def bench_try_group_id(compare: Compare, scale: Scale, rival: type[Rival]) -> None:
    n = scale.size(N_KEYS)
    run(
        compare,
        "try-group-id/exclusive/uncontended/keys=10000",
        rival,
        "try_group_id",
        group_and_id(n),
    )


@rivals_in("try_exclusive")
def bench_try_long_strings(compare: Compare, scale: Scale, rival: type[Rival]) -> None:
    n = scale.size(N_KEYS)
    run(
        compare,
        "try-uuid-text/exclusive/uncontended/keys=10000",
        rival,
        "try_exclusive",
        long_strings(n),
    )


@only(Lockcore, ThreadingLock)
def bench_try_uuids(compare: Compare, scale: Scale, rival: type[Rival]) -> None:
    n = scale.size(N_KEYS)
    run(compare, "try-uuid/exclusive/uncontended/keys=10000", rival, "try_exclusive", uuids(n))


@only(Lockcore, ThreadingLock)
def bench_try_numbers(compare: Compare, scale: Scale, rival: type[Rival]) -> None:
    items = range(scale.size(N_KEYS))
    run(compare, "try-int/exclusive/uncontended/keys=10000", rival, "try_exclusive", list(items))


@rivals_in("acquire")
def bench_acquire(compare: Compare, scale: Scale, rival: type[Rival]) -> None:
    n = scale.size(N_KEYS)
    run(compare, "acquire/exclusive/uncontended/keys=10000", rival, "acquire", strings(n))


@rivals_in("with")
def bench_with(compare: Compare, scale: Scale, rival: type[Rival]) -> None:
    n = scale.size(N_KEYS)
    run(compare, "with/exclusive/uncontended/keys=10000", rival, "with", strings(n))


@rivals_in("mixed")
def bench_mixed(compare: Compare, scale: Scale, rival: type[Rival]) -> None:
    n = scale.size(N_KEYS)
    run(compare, "mixed/exclusive+shared/uncontended/keys=2", rival, "mixed", pairs(n))


@rivals_in("named_owner")
def bench_named_owner(compare: Compare, scale: Scale, rival: type[Rival]) -> None:
    n = scale.size(N_KEYS)
    run(compare, "named-owner/exclusive/uncontended/keys=10000", rival, "named_owner", strings(n))


@rivals_in("message")
def bench_owner_and_message(compare: Compare, scale: Scale, rival: type[Rival]) -> None:
    n = scale.size(N_KEYS)
    run(compare, "owner-and-message/exclusive/uncontended/keys=10000", rival, "message", strings(n))
