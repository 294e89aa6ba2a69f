"""Every public name is listed in order, lives where users import it, and is in the reference."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

REFERENCE = Path(__file__).parent.parent / "docs" / "reference" / "api.md"
PUBLIC_MODULES = [
    "lockcore",
    "lockcore.engine",
    # Extras: importable where they are installed.
    *(["lockcore.engine.celery"] if importlib.util.find_spec("celery") else []),
]


def public_names() -> list[tuple[str, str]]:
    return [
        (module, name)
        for module in PUBLIC_MODULES
        for name in importlib.import_module(module).__all__
    ]


def reference_sections() -> dict[str, dict[str, str]]:
    """For each `## module` of the reference, the text under each `### name`."""
    sections: dict[str, dict[str, str]] = {}
    module = name = ""
    for line in REFERENCE.read_text(encoding="utf-8").splitlines():
        if heading := re.fullmatch(r"## `([\w.]+)`", line):
            module, name = heading[1], ""
            sections[module] = {}
        elif heading := re.match(r"### `(\w+)", line):
            name = heading[1]
            sections[module][name] = line + "\n"
        elif name:
            sections[module][name] += line + "\n"
    return sections


SECTIONS = reference_sections()


def own_members(cls: type) -> set[str]:
    """What a class of ours has in public, inherited from our other classes or not."""
    return {
        member
        for base in cls.__mro__
        if base.__module__.partition(".")[0] == "lockcore"
        for member in (*vars(base), *getattr(base, "__annotations__", {}))
        if not member.startswith("_")
    }


@pytest.mark.parametrize("module", PUBLIC_MODULES)
def test_public_names_are_sorted(module: str) -> None:
    names = importlib.import_module(module).__all__
    assert list(names) == sorted(set(names))


@pytest.mark.parametrize(("module", "name"), public_names())
def test_public_name_says_where_it_is_imported_from(module: str, name: str) -> None:
    value = getattr(importlib.import_module(module), name)
    if isinstance(value, type) or callable(value):
        # `Message` is in both places, and at home in the first.
        homes = [place for place in PUBLIC_MODULES if (place, name) in public_names()]
        assert value.__module__ == homes[0]


@pytest.mark.parametrize("module", PUBLIC_MODULES)
def test_reference_has_exactly_the_public_names(module: str) -> None:
    assert sorted(SECTIONS[module]) == sorted(importlib.import_module(module).__all__)


@pytest.mark.parametrize(("module", "name"), public_names())
def test_reference_mentions_each_public_member(module: str, name: str) -> None:
    value = getattr(importlib.import_module(module), name)
    if isinstance(value, type) and value.__module__ == module:
        section = SECTIONS[module][name]
        missing = [m for m in own_members(value) if not re.search(rf"`\.?{m}\b", section)]
        assert missing == []
