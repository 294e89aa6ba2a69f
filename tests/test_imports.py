"""Imports run downwards only, at the top of the file, and C stays C."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "python" / "lockcore"
SOURCES = ROOT / "src" / "lockcore"

# From the top down. A module imports from lower rows, and inside its own package.
LAYERS = (
    ("lockcore",),
    ("lockcore.engine",),
    ("lockcore._manager",),
    ("lockcore._core", "lockcore._errors"),
    ("lockcore._messages",),
    ("lockcore._types",),
)
ROW = {part: row for row, parts in enumerate(LAYERS) for part in parts}

MODULES = {
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(PACKAGE.rglob("*.py"))
}
STUBS = {
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts): path
    for path in sorted(PACKAGE.rglob("*.pyi"))
}
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)


def part_of(module: str) -> str:
    """The entry of the table that a module belongs to."""
    first_two = ".".join(module.split(".")[:2])
    return first_two if first_two in ROW or first_two in MODULES | STUBS else "lockcore"


def imported_parts(path: Path) -> set[str]:
    """The parts of lockcore that a file imports, for types only or not."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}:{node.lineno}: a relative import"
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return {part_of(name) for name in names if name.split(".")[0] == "lockcore"}


@pytest.mark.parametrize("module", [*MODULES, *STUBS])
def test_module_imports_only_from_lower_layers(module: str) -> None:
    own = part_of(module)
    assert own in ROW, f"{module} has no place in the table"
    path = MODULES.get(module) or STUBS[module]
    upward = {part for part in imported_parts(path) - {own} if ROW[part] <= ROW[own]}
    assert upward == set()


@pytest.mark.parametrize("module", MODULES)
def test_module_imports_nothing_inside_functions(module: str) -> None:
    tree = ast.parse(MODULES[module].read_text(encoding="utf-8"))
    hidden = [
        f"line {node.lineno}"
        for function in ast.walk(tree)
        if isinstance(function, FUNCTIONS)
        for node in ast.walk(function)
        if isinstance(node, ast.Import | ast.ImportFrom)
    ]
    assert hidden == []


@pytest.mark.parametrize("path", sorted(SOURCES.glob("*.p[xy]?")), ids=lambda path: path.name)
def test_extension_imports_nothing_of_lockcore(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    statements = re.findall(r"^\s*(?:from\s+\S+\s+)?c?import\b.*", text, re.MULTILINE)
    assert [line for line in statements if re.search(r"\blockcore\b|from\s+\.", line)] == []


@pytest.mark.parametrize("path", sorted(SOURCES.glob("*.[ch]")), ids=lambda path: path.name)
def test_c_core_knows_no_python(path: Path) -> None:
    assert "Python.h" not in path.read_text(encoding="utf-8")
