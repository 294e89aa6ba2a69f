"""The records between engine and workers: which run may claim a task, and whose end counts."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import pytest

from lockcore.engine._celery_records import Records
from lockcore.engine._celery_status import status_of

pytestmark = pytest.mark.timeout(120)

DONE = {"status": "SUCCESS", "result": None}
BROKEN = {"status": "FAILURE", "result": {"exc_type": "OSError", "exc_message": ["disk", "full"]}}
LOST = {"status": "FAILURE", "result": {"exc_type": "WorkerLostError", "exc_message": "killed"}}


@pytest.fixture
def records(celery_app: ModuleType, request: pytest.FixtureRequest) -> Records:
    return Records(celery_app.app.backend.client, request.node.name)


def claim(records: Records, run: str, *, retries: int = 0, may_repeat: bool = False) -> bool:
    return records.claim("t1", run, retries=retries, may_repeat=may_repeat, worker="w1")


def status(records: Records, meta: Any = None) -> Any:
    (record,), _ = records.read(["t1"], [])
    assert record is not None
    return status_of(record, meta)


def test_task_without_a_record_is_not_claimed(records: Records) -> None:
    assert not claim(records, "one")


def test_task_is_claimed_by_one_run(records: Records) -> None:
    records.create("t1")
    assert [claim(records, "one"), claim(records, "other")] == [True, False]


def test_claim_whose_answer_was_lost_may_be_made_again(records: Records) -> None:
    records.create("t1")
    assert [claim(records, "one"), claim(records, "one")] == [True, True]


def test_retry_of_the_task_itself_goes_on(records: Records) -> None:
    records.create("t1")
    assert [claim(records, "one"), claim(records, "two", retries=1)] == [True, True]
    assert not claim(records, "late copy", retries=1)


def test_end_of_an_earlier_run_does_not_end_a_task_that_is_repeated(records: Records) -> None:
    records.create("t1")
    claim(records, "first")
    assert claim(records, "second", may_repeat=True)
    assert not records.end("t1", "first", succeeded=True, detail="")
    assert [status(records, meta).state for meta in (DONE, BROKEN)] == ["running", "running"]
    assert records.end("t1", "second", succeeded=True, detail="")
    assert status(records).state == "succeeded"


def test_ended_task_is_not_claimed_again(records: Records) -> None:
    records.create("t1")
    claim(records, "one")
    records.end("t1", "one", succeeded=False, detail="disk full")
    assert not claim(records, "other", retries=1, may_repeat=True)
    assert status(records).detail == "disk full"


def test_stopped_task_is_not_tried_again(records: Records) -> None:
    records.create("t1")
    claim(records, "one")
    assert records.stop("t1")
    assert not claim(records, "two", retries=1)
    assert status(records).detail == "stopped"


def test_task_that_is_claimed_is_not_withdrawn(records: Records) -> None:
    records.create("t1")
    claim(records, "one")
    assert not records.withdraw("t1")


def test_withdrawn_task_is_not_claimed(records: Records) -> None:
    records.create("t1")
    assert records.withdraw("t1")
    assert not claim(records, "one")


@pytest.mark.parametrize(
    ("meta", "detail"),
    [(BROKEN, "OSError: disk full"), (LOST, "WorkerLostError: killed")],
)
def test_end_that_only_celery_has_noted_counts(records: Records, meta: Any, detail: str) -> None:
    records.create("t1")
    claim(records, "one")
    assert status(records, meta).detail == detail


def test_death_of_a_process_counts_for_a_repeated_task(records: Records) -> None:
    records.create("t1")
    claim(records, "first")
    claim(records, "second", may_repeat=True)
    assert status(records, LOST).state == "failed"


def test_task_that_was_stopped_while_it_ran_says_so(records: Records) -> None:
    records.create("t1")
    claim(records, "one")
    records.stop("t1")
    assert status(records, LOST).detail == "stopped"
    assert status(records, DONE).state == "succeeded"
