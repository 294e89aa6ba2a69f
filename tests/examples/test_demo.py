"""The demo plays to its end, fails when a claim is false, and leaves nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from lockcore.engine import ProcessTasks
from support import DEADLINE, eventually
from virtualization import story
from virtualization.__main__ import main

EXAMPLES = Path(story.__file__).parent.parent
COMMAND = [sys.executable, "-W", "error", "-m", "virtualization", "demo"]


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Keeps the demo's scratch directory in `tmp_path`."""
    monkeypatch.setattr(story.tempfile, "tempdir", str(tmp_path))
    path = filter(None, (str(EXAMPLES), os.environ.get("PYTHONPATH")))
    return {**os.environ, "TMPDIR": str(tmp_path), "PYTHONPATH": os.pathsep.join(path)}


@pytest.mark.timeout(60)  # it takes some seconds, more on a busy machine
def test_demo_plays_to_its_end_and_leaves_nothing(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    done = subprocess.run(
        COMMAND, env=environment, capture_output=True, text=True, timeout=59, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    told = " ".join(done.stdout.split())
    for sentence in (
        '"Cannot reconstruct master domain. Work is being done on storage domain data3 of',
        "ok ReconstructMaster gold data2: waits",
        '"Cannot remove template. The template is being used to create VM web."',
        "was ended by SIGKILL",
        "ok the 11 locks of the two that live are held again, and no others",
        "the new engine knows how far web is:",
        '"Cannot migrate VM. VM web is being exported."',
        "ok its snapshots are gone, too",
        "ok web-2 has the image it should, byte for byte",
        "Every claim above was checked.",
    ):
        assert sentence in told
    assert list(tmp_path.iterdir()) == []


def test_demo_fails_when_a_claim_is_false(
    tmp_path: Path,
    environment: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(story.Story, "holders", lambda self, *key: [])
    assert main(["demo"]) == 1
    assert "this is not so: two VMs share the template" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_demo_that_is_terminated_stops_its_processes(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    demo = subprocess.Popen(COMMAND, env=environment, stdout=subprocess.PIPE, text=True)
    assert demo.stdout is not None
    with demo, demo.stdout as told:
        for line in told:
            if "AddVmFromTemplate db fedora data3: running" in line:
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
