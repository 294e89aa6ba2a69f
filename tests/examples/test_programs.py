"""Every example program is run here."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from support import DEADLINE

EXAMPLES = Path(__file__).parent.parent.parent / "examples"


def run(name: str, *arguments: str, cwd: Path) -> tuple[int, str]:
    """The exit status and the output of an example."""
    done = subprocess.run(
        [sys.executable, "-W", "error", str(EXAMPLES / name), *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )
    assert done.stderr == ""
    return done.returncode, done.stdout


def test_each_example_has_a_test() -> None:
    tested = {"image_store.py", "locked_functions.py"}
    assert {path.name for path in EXAMPLES.glob("*.py")} == tested


def test_locked_functions(tmp_path: Path) -> None:
    status, output = run("locked_functions.py", cwd=tmp_path)
    assert status == 0
    assert output == "refused: ann is paying bob\nann has 70\nbob has 30\nann has 70\nopen: bob\n"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A pipe: what imports it goes on until the test has written to it."""
    pipe = tmp_path / "source"
    os.mkfifo(pipe)
    return pipe


def test_image_store(tmp_path: Path, source: Path) -> None:
    def call(*arguments: str) -> tuple[int, str]:
        return run("image_store.py", *arguments, cwd=tmp_path)

    try:
        assert call("import", str(source), "fedora") == (0, "import: running\n")
        refused = "remove: refused\nCannot remove fedora: it is being imported.\n"
        assert call("remove", "fedora") == (1, refused)
        assert call("list") == (0, "\n")
    finally:
        source.write_bytes(b"a disk image")
    assert call("wait") == (0, "import: succeeded\n")
    assert call("list") == (0, "fedora\n")
    assert (tmp_path / "images" / "fedora").read_bytes() == b"a disk image"
    assert call("remove", "fedora") == (0, "remove: succeeded\n")
    refused = "remove: refused\nThere is no image fedora.\n"
    assert call("remove", "fedora") == (1, refused)


def test_image_store_tells_of_a_failed_import(tmp_path: Path) -> None:
    assert run("image_store.py", "import", "missing", "fedora", cwd=tmp_path)[0] == 0
    status, output = run("image_store.py", "wait", cwd=tmp_path)
    assert (status, output.splitlines()[0]) == (1, "import: failed")
    assert "cp exited with status 1" in output
    assert run("image_store.py", "list", cwd=tmp_path) == (0, "\n")
