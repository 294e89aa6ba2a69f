"""The sdist, and the wheel built from it, hold exactly the files they should.

Both are built from a copy of the tree in which every kind of leftover has been planted: those of
an editable install, of an in-tree build, of a translation by hand and of a test run.
"""

from __future__ import annotations

import email.parser
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
NAME_VERSION = f"lockcore-{PYPROJECT['project']['version']}"
EXTENSION = f"lockcore/_core{sysconfig.get_config_var('EXT_SUFFIX')}"

# Tracked, but of use only in a checkout.
NOT_IN_SDIST = {".gitignore", ".pre-commit-config.yaml"}
NOT_IN_SDIST_FOLDERS = {".ci", ".github"}
EGG_INFO = "python/lockcore.egg-info/SOURCES.txt"
MADE_FOR_SDIST = {EGG_INFO, "PKG-INFO", "setup.cfg"}
MADE_FOR_WHEEL = {
    EXTENSION,
    *(
        f"{NAME_VERSION}.dist-info/{name}"
        for name in ("METADATA", "RECORD", "WHEEL", "licenses/LICENSE", "top_level.txt")
    ),
}

LEFTOVERS = (
    "build/cython/src/lockcore/_core.c",
    "build/lib/lockcore/deleted.py",
    "python/lockcore/_core.cpython-39-x86_64-linux-gnu.so",
    "python/lockcore/_core.cp39-win_amd64.pyd",
    "python/lockcore/__pycache__/_types.cpython-39.pyc",
    "src/lockcore/_core.c",
    "tests/c/build/lock_table.o",
)
# The extension is compiled once for this module.
pytestmark = pytest.mark.timeout(300)


def source_files() -> list[Path]:
    """The files of this project: what git knows or would add; without git, what is there."""
    if (ROOT / ".git").exists():
        command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
        listing = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
        names = [Path(name) for name in listing.stdout.split("\0") if name]
        return [name for name in names if (ROOT / name).is_file()]
    ignored = {"build", "dist", "wheelhouse", "__pycache__", "lockcore.egg-info"}
    suffixes = {".so", ".pyd", ".pyc", ".o"}
    return [
        name
        for path in ROOT.rglob("*")
        if path.is_file()
        for name in [path.relative_to(ROOT)]
        if not ignored.intersection(name.parts)
        and name.suffix not in suffixes
        and (not name.parts[0].startswith(".") or name.name == ".clang-format")
        and str(name) not in MADE_FOR_SDIST
    ]


@dataclass(frozen=True)
class Built:
    files: list[Path]
    sdist: Path
    wheel: Path

    def sdist_files(self) -> set[str]:
        with tarfile.open(self.sdist) as archive:
            names = [member.name for member in archive.getmembers() if member.isfile()]
        return {name.removeprefix(f"{NAME_VERSION}/") for name in names}

    def wheel_files(self) -> set[str]:
        with zipfile.ZipFile(self.wheel) as archive:
            return {name for name in archive.namelist() if not name.endswith("/")}

    def wheel_metadata(self) -> email.message.Message:
        with zipfile.ZipFile(self.wheel) as archive:
            text = archive.read(f"{NAME_VERSION}.dist-info/METADATA").decode()
        return email.parser.Parser().parsestr(text)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    tree = tmp_path_factory.mktemp("tree")
    dist = tmp_path_factory.mktemp("dist")
    files = source_files()
    for name in files:
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, tree / name)
    for leftover in (*LEFTOVERS, EGG_INFO):
        (tree / leftover).parent.mkdir(parents=True, exist_ok=True)
        (tree / leftover).write_text("left over\n", encoding="utf-8")
    (tree / EGG_INFO).write_text("\n".join(LEFTOVERS), encoding="utf-8")

    environment = {name: value for name, value in os.environ.items() if "LOCKCORE_" not in name}
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(dist), str(tree)]
    run = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    [sdist] = dist.glob("*.tar.gz")
    [wheel] = dist.glob("*.whl")
    return Built(files, sdist, wheel)


def test_sdist_holds_exactly_the_source_files(built: Built) -> None:
    expected = {
        name.as_posix()
        for name in built.files
        if name.as_posix() not in NOT_IN_SDIST and name.parts[0] not in NOT_IN_SDIST_FOLDERS
    }
    assert built.sdist_files() == expected | MADE_FOR_SDIST


def test_wheel_holds_exactly_the_package_and_one_extension(built: Built) -> None:
    expected = {
        name.relative_to("python").as_posix() for name in built.files if name.parts[0] == "python"
    }
    assert built.wheel_files() == expected | MADE_FOR_WHEEL


def test_wheel_is_importable_without_the_tree(built: Built, tmp_path: Path) -> None:
    with zipfile.ZipFile(built.wheel) as archive:
        archive.extractall(tmp_path)
    # Before any path of an editable install; -P keeps the working directory out.
    program = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import lockcore._core as core; "
    command = [sys.executable, "-P", "-W", "error", "-c", program + "print(core.__file__)"]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (run.stdout.strip(), run.stderr) == (str(tmp_path / EXTENSION), "")


def test_wheel_needs_nothing_at_run_time(built: Built) -> None:
    metadata = built.wheel_metadata()
    needed = [one for one in metadata.get_all("Requires-Dist", []) if "extra ==" not in one]
    assert needed == []
    assert metadata["Requires-Python"] == ">=3.11"
    assert metadata["License-Expression"] == "Apache-2.0"


def test_compiled_sources_are_no_package() -> None:
    # With any __init__ there, Cython would name the extension after the folder of its source.
    assert list((ROOT / "src" / "lockcore").glob("__init__.*")) == []


def test_developers_build_with_the_declared_build_system() -> None:
    assert PYPROJECT["dependency-groups"]["build"] == PYPROJECT["build-system"]["requires"]
