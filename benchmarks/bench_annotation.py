"""What does `@locks` add to the call of a function?

An empty function, called bare and decorated; `extra_ns` is the difference. The rivals are
decorators of other packages and one written by hand; they know one lock, whatever the argument.
"""

import functools
import threading
from collections.abc import Callable, Sequence

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from harness import CPU, ITSELF, Compare, Scale, Spread, Subject
from lockcore import LockManager
from lockcore.engine import exclusive, locks, shared
from rivals import rival_module

pytestmark = pytest.mark.benchmark(timer=CPU)

N_CALLS = 10_000
BARE = "bare"
Function = Callable[[str], None]


def bare() -> Function:
    def empty(vm_id: str) -> None:
        pass

    return empty


def with_lockcore() -> Function:
    @locks(exclusive("VM", "vm_id"), manager=LockManager())
    def empty(vm_id: str) -> None:
        pass

    return empty


def with_lockcore_and_more() -> Function:
    @locks(
        exclusive("VM", "vm_id", message="VM_IS_BEING_MIGRATED"),
        shared("POOL", "pool_id", message="POOL_IS_IN_USE"),
        manager=LockManager(),
    )
    def empty(vm_id: str, pool_id: str = "pool-1") -> None:
        pass

    return empty


def by_hand() -> Function:
    lock = threading.Lock()

    def locked(function: Function) -> Function:
        @functools.wraps(function)
        def call(vm_id: str) -> None:
            with lock:
                function(vm_id)

        return call

    return locked(bare())


def with_fasteners() -> Function:
    decorator = rival_module("fasteners", "fasteners").locked

    class Holder:
        _lock = threading.Lock()

        @decorator  # type: ignore[untyped-decorator]
        def empty(self, vm_id: str) -> None:
            pass

    function: Function = Holder().empty
    return function


def with_oslo() -> Function:
    synchronized = rival_module("oslo_concurrency.lockutils", "oslo.concurrency").synchronized
    decorated: Function = synchronized("vm-1")(bare())
    return decorated


MAKERS = {
    ITSELF: with_lockcore,
    "lockcore, two keys, messages": with_lockcore_and_more,
    "threading.Lock by hand": by_hand,
    "fasteners": with_fasteners,
    "oslo.concurrency": with_oslo,
}


def calling(make: Callable[[], Function], items: Sequence[str]) -> Subject:
    # Compiled anew each time: code that has met one kind of function is slower with another.
    source = "def run():\n    for item in items:\n        function(item)\n"
    names = {"items": items, "function": make()}
    exec(compile(source, __file__, "exec"), names)
    return Subject(names["run"], len(items))  # type: ignore[arg-type]


@pytest.mark.parametrize("name", MAKERS, ids=lambda name: name.replace(" ", "-"))
def bench_empty_function(
    benchmark: BenchmarkFixture, compare: Compare, scale: Scale, name: str
) -> None:
    items = [f"vm-{i}" for i in range(scale.size(N_CALLS))]
    references = {BARE: calling(bare, items)}
    if name != ITSELF:
        references[ITSELF] = calling(with_lockcore, items)
    result = compare("call/annotated/uncontended", name, calling(MAKERS[name], items), references)
    if result is not None:
        benchmark.extra_info["extra_ns"] = Spread.of(
            [
                1e9 * (mine - its)
                for mine, its in zip(result.times, result.references[BARE], strict=True)
            ]
        ).as_list()
