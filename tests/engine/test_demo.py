"""The demo plays to its end, fails when a claim is false, and leaves nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from lockcore.__main__ import main
from lockcore._demo import _story
from lockcore.engine import ProcessTasks
from support import DEADLINE, eventually

COMMAND = [sys.executable, "-W", "error", "-m", "lockcore", "demo"]


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Keeps the demo's scratch directory in `tmp_path`."""
    monkeypatch.setattr(_story.tempfile, "tempdir", str(tmp_path))
    return {**os.environ, "TMPDIR": str(tmp_path)}


def test_demo_plays_to_its_end_and_leaves_nothing(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    done = subprocess.run(
        COMMAND, env=environment, capture_output=True, text=True, timeout=19, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    story = " ".join(done.stdout.split())
    for sentence in (
        '"Cannot remove template. The template is being used to create VM web-1."',
        '"Cannot reconstruct master domain. Storage domain domain-2 is being activated."',
        "Pool pool-1 is being given domain-2 as its master domain.",
        "was ended by SIGKILL",
        "the new engine knows how far web-1 is:",
        "its image is the template's, byte for byte",
        "ok RemoveTemplate fedora: succeeded",
        "Every claim above was checked.",
    ):
        assert sentence in story
    assert list(tmp_path.iterdir()) == []


def test_demo_fails_when_a_claim_is_false(
    tmp_path: Path,
    environment: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(_story.Story, "_holders", lambda self, template: [])
    assert main(["demo"]) == 1
    assert "this is not so: two VMs share the template" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_demo_that_is_terminated_stops_its_processes(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    demo = subprocess.Popen(COMMAND, env=environment, stdout=subprocess.PIPE, text=True)
    assert demo.stdout is not None
    with demo, demo.stdout as story:
        for line in story:
            if "AddVmFromTemplate fedora web-2: running" in line:
                break
        (scratch,) = tmp_path.iterdir()
        assert len(ProcessTasks(scratch / "tasks").status()) >= 2
        demo.send_signal(signal.SIGTERM)
        assert demo.wait(DEADLINE) == 128 + signal.SIGTERM
    eventually(lambda: list(tmp_path.iterdir()) == [])


def test_unknown_command_line_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["dmeo"])
    assert caught.value.code == 2
