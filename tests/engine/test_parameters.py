"""Parameters of a command are checked against their types when it is made."""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import InitVar
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NewType, TypedDict

import pytest

from lockcore.engine import Command

if TYPE_CHECKING:
    from nowhere import Unknown  # type: ignore[import-not-found]


class Size(TypedDict):
    width: int


class Unanswering(type):
    def __instancecheck__(cls, instance: object) -> bool:
        raise TypeError(f"nobody knows whether {instance} is one")


class Unclear(metaclass=Unanswering):
    pass


Name = NewType("Name", str)


class Everything(Command):
    text: str = ""
    number: int = 0
    ratio: float = 0.0
    id: str | uuid.UUID = ""
    maybe: str | None = None
    level: Literal["low", "high"] = "low"
    disks: list[str] | None = None
    sizes: dict[str, int] | None = None
    names: Sequence[str] = ()
    options: Mapping[str, list[int]] | None = None
    pair: tuple[str, int] = ("", 0)
    many: tuple[str, ...] = ()
    tags: frozenset[str] = frozenset()
    path: Path = Path()
    anything: Any = None
    unknown: Unknown = None
    size: Size | None = None
    scales: list[Size] | None = None
    name: Name = Name("")
    unclear: Unclear | None = None


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"text": "web", "number": 7, "ratio": 7, "id": uuid.UUID(int=7), "maybe": "it"},
        {"level": "high", "disks": ["a", "b"], "sizes": {"a": 1}, "names": ["a"], "tags": {"a"}}
        | {"tags": frozenset("a")},
        {"options": {"a": [1]}, "pair": ("a", 1), "many": ("a", "b", "c"), "number": True},
        {"path": Path("/"), "anything": object(), "unknown": object()},
        {"size": {"width": 1}, "scales": [{"width": 1}], "name": "web", "unclear": object()},
    ],
)
def test_values_of_their_types_are_accepted(values: dict[str, Any]) -> None:
    command = Everything(**values)
    assert {name: getattr(command, name) for name in values} == values


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"text": 7}, "parameter text must be str, not int"),
        ({"text": None}, "parameter text must be str, not NoneType"),
        ({"number": "7"}, "parameter number must be int, not str"),
        ({"number": 7.0}, "parameter number must be int, not float"),
        ({"ratio": "7"}, "parameter ratio must be float, not str"),
        ({"id": 7}, "parameter id must be str | uuid.UUID, not int"),
        ({"maybe": 7}, "parameter maybe must be str | None, not int"),
        ({"level": "medium"}, "parameter level must be typing.Literal['low', 'high'], not str"),
        ({"disks": "ab"}, "parameter disks must be list[str] | None, not str"),
        ({"disks": ["a", 7]}, "parameter disks[1] must be str, not int"),
        ({"sizes": {"a": "1"}}, "parameter sizes['a'] must be int, not str"),
        ({"sizes": {1: 1}}, "parameter key 1 of sizes must be str, not int"),
        ({"options": {"a": [1, "2"]}}, "parameter options['a'][1] must be int, not str"),
        ({"names": ("a", 7)}, "parameter names[1] must be str, not int"),
        ({"pair": ("a", "b")}, "parameter pair[1] must be int, not str"),
        ({"pair": ("a",)}, "parameter pair must have 2 items, not 1"),
        ({"many": ("a", 7)}, "parameter many[1] must be str, not int"),
        ({"tags": frozenset([7])}, "parameter item of tags must be str, not int"),
        ({"path": "/"}, "parameter path must be Path, not str"),
        ({"scales": [{}, 7]}, "parameter scales[1] must be Size, not int"),
        ({"name": 7}, "parameter name must be str, not int"),
    ],
)
def test_value_of_another_type_is_refused(values: dict[str, Any], text: str) -> None:
    with pytest.raises(TypeError, match=f"^Everything: {re.escape(text)}$"):
        Everything(**values)


def test_post_init_may_put_a_value_right() -> None:
    class Import(Command):
        source: str

        def __post_init__(self) -> None:
            self.source = str(self.source)

    assert Import(source=Path("a.img")).source == "a.img"  # type: ignore[arg-type]


def test_post_init_may_refuse_a_value() -> None:
    class Resize(Command):
        size: int

        def __post_init__(self) -> None:
            if self.size < 0:
                raise ValueError("size must not be negative")

    with pytest.raises(ValueError, match="size must not be negative"):
        Resize(size=-1)


def test_parameter_that_would_not_be_kept_is_refused() -> None:
    """The command could not be rebuilt without it."""
    with pytest.raises(TypeError, match="Resize has an InitVar, which would be lost: factor"):

        class Resize(Command):
            size: int
            factor: InitVar[int] = 1


def test_inherited_parameter_is_checked_by_the_names_of_its_own_module() -> None:
    class More(Everything):
        count: int = 1

    with pytest.raises(TypeError, match="More: parameter id must be"):
        More(id=7)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="More: parameter count must be int"):
        More(count="1")  # type: ignore[arg-type]


def test_class_that_is_defined_later_may_be_named() -> None:
    Later.value = Later()
    assert Holder(later=Later.value).later is Later.value
    with pytest.raises(TypeError, match="parameter later must be Later, not str"):
        Holder(later="")  # type: ignore[arg-type]


class Holder(Command):
    later: Later


class Later:
    value: Later
