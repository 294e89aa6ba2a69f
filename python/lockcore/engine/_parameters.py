"""The parameters of a command class: their names, their types, and whether values are of them."""

from __future__ import annotations

import dataclasses
import inspect
import sys
import types
import typing
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any, Final

if sys.version_info >= (3, 14):
    import annotationlib

__all__ = ["annotated_names", "check_parameters", "parameter_types"]

_NUMBERS: Final = {float: (float, int), complex: (complex, float, int)}
"""Which values stand for a number of a wider type, as for type checkers."""


def annotated_names(cls: type) -> list[str]:
    """The names that the class itself annotates. No annotation is evaluated."""
    if sys.version_info >= (3, 14):
        return list(annotationlib.get_annotations(cls, format=annotationlib.Format.FORWARDREF))
    return list(inspect.get_annotations(cls))


def parameter_types(cls: type) -> dict[str, Any]:
    """For each parameter of a command class its type; `Any` where its name means nothing here.

    That is so for what is imported for type checkers only, and for classes inside a function.
    """
    homes = {name: base for base in reversed(cls.__mro__) for name in annotated_names(base)}
    fields = [field for field in dataclasses.fields(cls) if field.init]
    return {field.name: _resolved(field.type, homes[field.name]) for field in fields}


def check_parameters(values: Mapping[str, Any], hints: Mapping[str, Any], where: str) -> None:
    """Refuses values that are not of their types.

    Raises:
        TypeError: The text names the parameter, and the place inside it.
    """
    for name, hint in hints.items():
        misfit = _misfit(values[name], hint, name)
        if misfit is not None:
            raise TypeError(f"{where}: {misfit}")


def _resolved(annotation: Any, home: type) -> Any:
    holder = types.SimpleNamespace(__annotations__={"it": annotation})
    names = vars(sys.modules.get(home.__module__, typing))
    try:
        return typing.get_type_hints(holder, names, dict(vars(home)))["it"]
    except Exception:  # noqa: BLE001 - evaluating somebody's annotation
        return Any


def _misfit(value: Any, hint: Any, where: str) -> str | None:
    """Says what is wrong with a value; None if nothing is, or if the type is beyond us."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return _misfit_of_all(value, hint, where)
    if origin is typing.Literal:
        if any(type(value) is type(choice) and value == choice for choice in args):
            return None
        return _wrong(value, hint, where)
    if isinstance(hint, typing.NewType):
        return _misfit(value, hint.__supertype__, where)
    kind = origin or (type(None) if hint is None else hint)
    if typing.is_typeddict(kind):
        return None if isinstance(value, dict) else _wrong(value, hint, where)
    if not isinstance(kind, type) or kind is Any or getattr(kind, "_is_protocol", False):
        return None
    if not _may_be(value, kind):
        return _wrong(value, hint, where)
    return _misfit_inside(value, kind, args, where) if args else None


def _may_be(value: Any, kind: type) -> bool:
    try:
        return isinstance(value, _NUMBERS.get(kind, kind))
    except TypeError:  # a class that cannot be asked
        return True


def _misfit_of_all(value: Any, hint: Any, where: str) -> str | None:
    found = [_misfit(value, choice, where) for choice in typing.get_args(hint)]
    if None in found:
        return None
    # Where one choice has the right outside, what is wrong inside says more.
    inside = [misfit for misfit in found if misfit and not misfit.startswith(f"parameter {where} ")]
    return inside[0] if inside else _wrong(value, hint, where)


def _misfit_inside(value: Any, kind: type, args: tuple[Any, ...], where: str) -> str | None:
    parts: list[tuple[Any, Any, str]] = []
    if kind is tuple and args[-1] is not Ellipsis:
        if len(value) != len(args):
            return f"parameter {where} must have {len(args)} items, not {len(value)}"
        parts = [(item, args[i], f"{where}[{i}]") for i, item in enumerate(value)]
    elif issubclass(kind, Mapping) and len(args) == 2:
        for key, item in value.items():
            parts += [
                (key, args[0], f"key {key!r} of {where}"),
                (item, args[1], f"{where}[{key!r}]"),
            ]
    elif issubclass(kind, Sequence):
        parts = [(item, args[0], f"{where}[{i}]") for i, item in enumerate(value)]
    elif issubclass(kind, AbstractSet):
        parts = [(item, args[0], f"item of {where}") for item in value]
    misfits = (_misfit(item, hint, place) for item, hint, place in parts)
    return next(filter(None, misfits), None)


def _wrong(value: Any, hint: Any, where: str) -> str:
    name = hint.__name__ if isinstance(hint, type) and not typing.get_args(hint) else str(hint)
    return f"parameter {where} must be {name}, not {type(value).__name__}"
