"""The programs in `docs/howto/run-tasks-on-celery.md` do what the page says."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from celery_fixtures import started_redis
from celery_services import CeleryWorker, RedisServer

PAGE = Path(__file__).parents[2] / "docs" / "howto" / "run-tasks-on-celery.md"
WAITS_AT_MOST = 60.0

pytestmark = pytest.mark.timeout(180)


def blocks(language: str) -> list[str]:
    text = PAGE.read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    """A server of its own: the workers of other tests do not know the tasks of the page."""
    redis = started_redis()
    yield redis
    redis.close()


def test_programs_of_the_page_print_what_it_says(redis: RedisServer, tmp_path: Path) -> None:
    for program in blocks("py"):
        name = re.match(r"# (\w+\.py)", program)
        assert name is not None
        text = program.replace("redis://localhost", redis.url)
        (tmp_path / name[1]).write_text(text, encoding="utf-8")
    worker = CeleryWorker(redis, app=tmp_path / "tasks.py")
    try:
        engine = subprocess.run(
            [sys.executable, "-W", "error", "engine.py"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=WAITS_AT_MOST,
            check=False,
        )
    finally:
        worker.kill()
    assert (engine.stdout, engine.stderr) == (blocks("text")[0], "")
