"""How ids and messages of a lock declaration are read from the arguments of a call.

A declaration is compiled once, where it is applied. What is left for each call are readers:
functions of the call's arguments.
"""

from __future__ import annotations

import inspect
import operator
import string
import sys
from collections.abc import Callable
from typing import Any

from lockcore._types import KeyId, Message

__all__ = [
    "Id",
    "Place",
    "Reader",
    "argument_readers",
    "id_reader",
    "message_reader",
    "names_read",
]

Reader = Callable[[tuple[Any, ...], dict[str, Any]], Any]
"""Takes the positional and the named arguments of a call, and returns what it finds there."""

Place = Callable[[str], Reader]
"""Gives the reader of one parameter."""

Id = str | Callable[..., KeyId]
"""How an id is declared: the name of a parameter, a template, or a function of parameters."""


class Template:
    """Text with places `{name}` or `{name.attribute}`, a format after a colon included.

    Attributes:
        names: The parameters that the text names, in order.

    Raises:
        TypeError: A place names no parameter, or looks items up.
        ValueError: The text cannot be parsed.
    """

    def __init__(self, text: str) -> None:
        self._text = text
        try:
            parsed = list(string.Formatter().parse(text))
        except ValueError as error:
            raise ValueError(f"cannot read {text!r}: {error}") from None
        places = []
        for _, place, form, _ in parsed:
            if place is None:
                continue
            if not all(part.isidentifier() for part in place.split(".")):
                raise TypeError(f"{text!r} has a place {{{place}}} that names no parameter")
            if "{" in (form or ""):
                raise TypeError(f"{text!r} has a place within a place")
            places.append(place)
        self.names = list(dict.fromkeys(place.partition(".")[0] for place in places))
        self._only_place = places[0] if text == f"{{{''.join(places[:1])}}}" else None

    def text_reader(self, place: Place) -> Reader:
        """Reads the text with its places filled."""
        readers = [(name, place(name)) for name in self.names]
        fill = self._text.format
        return lambda args, kwargs: fill(**{name: read(args, kwargs) for name, read in readers})

    def value_reader(self, place: Place) -> Reader:
        """Reads the value itself where the text is one place and nothing else, else the text."""
        if self._only_place is None:
            return self.text_reader(place)
        name, _, attributes = self._only_place.partition(".")
        read = place(name)
        if not attributes:
            return read
        attribute_of = operator.attrgetter(attributes)
        return lambda args, kwargs: attribute_of(read(args, kwargs))


def names_read(id: Id, message: str | Message | None) -> list[str]:
    """The parameters that a rule reads.

    Raises:
        TypeError: The id is neither a name, a template nor a function, or a template names none.
        ValueError: A template cannot be parsed.
    """
    if isinstance(id, str) and id.isidentifier():
        names = [id]
    elif isinstance(id, str) and "{" in id:
        names = Template(id).names
    elif callable(id):
        names = _parameters_of(id)
    else:
        raise TypeError(
            "the id of a key must be the name of a parameter, a template such as '{vm.id}', or a"
            f" function, not {id!r}"
        )
    for text in _texts_of(message):
        names = names + Template(text).names
    return names


def id_reader(id: Id, place: Place) -> Reader:
    """Reads an id that `names_read` has accepted."""
    if isinstance(id, str):
        return place(id) if id.isidentifier() else Template(id).value_reader(place)
    readers = [(name, place(name)) for name in _parameters_of(id)]
    return lambda args, kwargs: id(**{name: read(args, kwargs) for name, read in readers})


def message_reader(message: str | Message, place: Place) -> Reader:
    """Reads a message with its places filled."""
    if isinstance(message, str):
        return Template(message).text_reader(place)
    code = message.code
    constants = {name: v for name, v in message.variables.items() if not isinstance(v, str)}
    readers = [
        (name, Template(value).text_reader(place))
        for name, value in message.variables.items()
        if isinstance(value, str)
    ]
    return lambda args, kwargs: Message(
        code, **constants, **{name: read(args, kwargs) for name, read in readers}
    )


def argument_readers(function: Callable[..., Any]) -> dict[str, Reader]:
    """For each named parameter of a function the reader that finds its value, or its default."""
    kinds = inspect.Parameter
    named = (kinds.KEYWORD_ONLY, kinds.POSITIONAL_ONLY, kinds.POSITIONAL_OR_KEYWORD)
    parameters = inspect.signature(function).parameters.values()
    name = getattr(function, "__qualname__", repr(function))
    return {
        parameter.name: _argument_reader(name, position, parameter)
        for position, parameter in enumerate(parameters)
        if parameter.kind in named
    }


def _argument_reader(function: str, position: int, parameter: inspect.Parameter) -> Reader:
    name, default = parameter.name, parameter.default
    kind = "positional"
    if parameter.kind is inspect.Parameter.KEYWORD_ONLY:
        kind, position = "keyword-only", sys.maxsize

    def read(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if len(args) > position:
            return args[position]
        value = kwargs.get(name, default)
        if value is inspect.Parameter.empty:
            raise TypeError(f"{function}() missing 1 required {kind} argument: {name!r}")
        return value

    if parameter.kind is inspect.Parameter.POSITIONAL_ONLY:
        # An argument of that name belongs to the function's `**kwargs`.
        return lambda args, kwargs: read(args, {})  # noqa: ARG005
    return read


def _texts_of(message: str | Message | None) -> list[str]:
    if isinstance(message, Message):
        return [value for value in message.variables.values() if isinstance(value, str)]
    return [] if message is None else [message]


def _parameters_of(function: Callable[..., Any]) -> list[str]:
    """The parameters without a default: those with one are the function's own business."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except ValueError:
        raise TypeError(f"cannot tell what {function!r} reads: wrap it in a lambda") from None
    optional = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    if any(parameter.kind is inspect.Parameter.POSITIONAL_ONLY for parameter in parameters):
        raise TypeError(f"{function!r} does not name what it reads: wrap it in a lambda")
    return [
        parameter.name
        for parameter in parameters
        if parameter.default is inspect.Parameter.empty and parameter.kind not in optional
    ]
