"""What the benchmarks of one thread have in common: loops of rivals, compared."""

from collections.abc import Sequence
from typing import Any

import pytest

from harness import BASELINE, BUDGET, ITSELF, LONG_BUDGET, Compare, Subject
from rivals import Lockcore, Rival, ThreadingLock, having_loop


def only(*rivals: type[Rival]) -> pytest.MarkDecorator:
    """Runs a benchmark once for each of `rivals`."""
    return pytest.mark.parametrize("rival", rivals, ids=lambda rival: rival.name.replace(" ", "-"))


def rivals_in(operation: str) -> pytest.MarkDecorator:
    """Runs a benchmark once for each rival that can do `operation`."""
    return only(*having_loop(operation))


def run(
    compare: Compare,
    case: str,
    rival: type[Rival],
    operation: str,
    items: Sequence[Any],
    *,
    operations_per_item: int = 1,
    **others: Subject,
) -> None:
    """Measures one operation of one rival against the baseline and against lockcore.

    Args:
        compare: The fixture.
        case: The group.
        rival: Who.
        operation: Which loop.
        items: What to loop over.
        operations_per_item: What one item counts for.
        others: Further references, by name.
    """

    def subject(which: type[Rival]) -> Subject:
        return Subject(which().loop(operation, items), len(items) * operations_per_item)

    def nothing() -> None:
        for _ in items:
            pass

    references = {BASELINE: subject(ThreadingLock)}
    if rival is not Lockcore:
        references[ITSELF] = subject(Lockcore)
    compare(
        case,
        rival.name,
        subject(rival),
        references | others,
        loop=Subject(nothing),
        budget=LONG_BUDGET if rival is Lockcore else BUDGET,
    )
