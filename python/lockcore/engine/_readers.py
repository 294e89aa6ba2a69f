"""How ids and messages of a lock declaration are read from parameters: as Python source.

A declaration is compiled once, where it is applied, as dataclasses compile their methods. So a call
reads its keys as fast as if somebody had written them there by hand.

Of what is declared only names get into the source, those of variables in quotes, and by the methods
of `str` itself: an enum, or another subclass, may give itself another text. All else is an object.
"""

from __future__ import annotations

import functools
import inspect
import operator
import string
import sys
import types
from collections.abc import Callable, Iterable
from typing import Any

from lockcore._types import KeyId, Message

__all__ = [
    "CallShape",
    "Id",
    "Names",
    "Place",
    "id_source",
    "message_source",
    "names_read",
]

Place = Callable[[str], str]
"""Gives the expression for the value of one parameter."""

Id = str | Callable[..., KeyId]
"""How an id is declared: the name of a parameter, a template, or a function of parameters."""


class Names:
    """Names for what generated source refers to. None of them is among those that are taken.

    Attributes:
        prefix: What they begin with, and no name that is taken does.
        globals: The objects by name. A plain dict: the interpreter is quick with no other.
    """

    def __init__(self, taken: Iterable[str] = ()) -> None:
        taken = list(taken)
        self.prefix = "_"
        while any(name.startswith(self.prefix) for name in taken):
            self.prefix += "_"
        self.globals: dict[str, Any] = {"__name__": __name__}  # what looks at frames reads it

    def name_of(self, value: object) -> str:
        """Gives an object a name and returns it."""
        name = f"{self.prefix}{len(self.globals)}"
        self.globals[name] = value
        return name


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

    def text_source(self, place: Place, names: Names) -> str:
        """The text with its places filled."""
        return _call(self._text.format, self.names, place, names)

    def value_source(self, place: Place, names: Names) -> str:
        """The value itself where the text is one place and nothing else, else the text."""
        if self._only_place is None:
            return self.text_source(place, names)
        name, _, attributes = self._only_place.partition(".")
        if not attributes:
            return place(name)
        return f"{names.name_of(operator.attrgetter(attributes))}({place(name)})"


def names_read(id: Id, message: str | Message | None) -> list[str]:
    """The parameters that a rule reads.

    Raises:
        TypeError: The id is neither a name, a template nor a function, or a template names none.
        ValueError: A template cannot be parsed.
    """
    if isinstance(id, str) and id.isidentifier():
        names = [str.__str__(id)]
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


def id_source(id: Id, place: Place, names: Names) -> str:
    """The expression for an id that `names_read` has accepted."""
    if not isinstance(id, str):
        return _call(id, _parameters_of(id), place, names)
    if id.isidentifier():
        return place(str.__str__(id))
    return Template(id).value_source(place, names)


def message_source(message: str | Message, place: Place, names: Names) -> str:
    """The expression for a message with its places filled."""
    if isinstance(message, str):
        return Template(message).text_source(place, names)
    constants = {name: v for name, v in message.variables.items() if not isinstance(v, str)}
    texts = ", ".join(
        f"{str.__repr__(name)}: {Template(value).text_source(place, names)}"
        for name, value in message.variables.items()
        if isinstance(value, str)
    )
    make = functools.partial(Message, message.code, **constants)
    return f"{names.name_of(make)}(**{{{texts}}})"


def _call(function: Callable[..., Any], parameters: list[str], place: Place, names: Names) -> str:
    arguments = ", ".join(f"{name}={place(name)}" for name in parameters)
    return f"{names.name_of(function)}({arguments})"


class CallShape:
    """How a wrapper takes the arguments of a function, reads them, and passes them on.

    A function in Python gets a wrapper with its own parameters. Of anything else, and of what
    another decorator has wrapped, the signature need not tell what it takes: its wrapper takes
    everything, and looks for each parameter where the signature would have it.

    Attributes:
        known: The parameters that can be read.
        names: For what is put into the wrapper's source beside them.
        parameters: What stands behind the wrapper's name, with parentheses.
        arguments: What stands in the call of the function.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self._name = getattr(function, "__qualname__", repr(function))
        signature = inspect.signature(function)
        self._parameters = list(signature.parameters.values())
        self.known = {p.name for p in self._parameters if p.kind not in _VARIABLE}
        self.names = Names(signature.parameters)
        # Not isinstance, for which a proxy can pass itself off as a function.
        self._takes_all = type(function) is not types.FunctionType or bool(
            _OTHER_SIGNATURE & vars(function).keys()
        )
        args, kwargs = f"{self.names.prefix}args", f"{self.names.prefix}kwargs"
        self._given = f"{args}, {kwargs}"
        if self._takes_all:
            self.parameters = f"(*{args}, **{kwargs})"
            self.arguments = f"*{args}, **{kwargs}"
        else:
            self.parameters = str(inspect.Signature([_bare(p) for p in self._parameters]))
            self.arguments = ", ".join(_passed_on(p) for p in self._parameters)

    def place(self, name: str) -> str:
        """The expression for the value of a parameter."""
        if not self._takes_all:
            return name
        [(position, parameter)] = [(i, p) for i, p in enumerate(self._parameters) if p.name == name]
        read = _argument_reader(self._name, position, parameter)
        return f"{self.names.name_of(read)}({self._given})"

    def compiled(self, source: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Returns the wrapper that the source defines as `locked`, made to look like `function`."""
        scope: dict[str, Any] = {}
        # What stands in tracebacks. The text of an object, a partial say, can be of any length.
        whose = getattr(function, "__qualname__", type(function).__name__)
        exec(compile(source, f"<locks of {whose}>", "exec"), self.names.globals, scope)  # noqa: S102
        wrapper = scope["locked"]
        if not self._takes_all:
            wrapper.__defaults__ = function.__defaults__
            wrapper.__kwdefaults__ = function.__kwdefaults__
        return functools.wraps(function)(wrapper)


_OTHER_SIGNATURE = {"__wrapped__", "__signature__", "__partialmethod__", "_partialmethod"}
"""What makes `inspect.signature` tell of something else than a function's own parameters."""

_VARIABLE = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def _bare(parameter: inspect.Parameter) -> inspect.Parameter:
    return inspect.Parameter(parameter.name, parameter.kind)


def _passed_on(parameter: inspect.Parameter) -> str:
    name = parameter.name
    if parameter.kind is inspect.Parameter.KEYWORD_ONLY:
        return f"{name}={name}"
    if parameter.kind is inspect.Parameter.VAR_POSITIONAL:
        return f"*{name}"
    return f"**{name}" if parameter.kind is inspect.Parameter.VAR_KEYWORD else name


Reader = Callable[[tuple[Any, ...], dict[str, Any]], Any]
"""Takes the positional and the named arguments of a call, and returns what it finds there."""


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
    if any(parameter.kind is inspect.Parameter.POSITIONAL_ONLY for parameter in parameters):
        raise TypeError(f"{function!r} does not name what it reads: wrap it in a lambda")
    return [
        parameter.name
        for parameter in parameters
        if parameter.default is inspect.Parameter.empty and parameter.kind not in _VARIABLE
    ]
