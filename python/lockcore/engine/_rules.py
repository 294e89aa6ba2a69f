"""What a lock declaration consists of: keys read from parameters, a scope, a time to wait."""

from __future__ import annotations

import math
import string
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import Any, Final

from lockcore._types import Key, Message, Mode

__all__ = [
    "Declaration",
    "KeyRule",
    "Scope",
    "check_fields",
    "check_timeout",
    "exclusive",
    "shared",
]

Messages = dict[Key, str | Message | None]


class Scope(StrEnum):
    """How long a command keeps its locks.

    `EXECUTION`: until `execute` ends. `COMMAND`: until the command's tasks have ended and its end
    action has run, or until `execute` ends if it failed or started no task.
    """

    EXECUTION = "execution"
    COMMAND = "command"


class Unset(Enum):
    """Stands for an argument that was not given where None means something."""

    UNSET = "unset"


UNSET: Final = Unset.UNSET


@dataclass(frozen=True, slots=True)
class KeyRule:
    """One key of a declaration: `(group, value of the field)`, in one mode, with a message."""

    mode: Mode
    group: str
    field: str
    message: str | Message | None

    @property
    def fields(self) -> list[str]:
        """The names of the fields or arguments that this rule reads."""
        return [self.field, *_template_fields(self.message)]

    def key(self, value_of: Callable[[str], Any]) -> Key:
        """The key, from a function that gives the value of a field."""
        return self.group, value_of(self.field)

    def text(self, value_of: Callable[[str], Any]) -> str | Message | None:
        """The message with its `{field}` places filled."""
        if isinstance(self.message, Message):
            filled = {k: _fill(v, value_of) for k, v in self.message.variables.items()}
            return Message(self.message.code, **filled)
        return None if self.message is None else str(_fill(self.message, value_of))


def shared(group: str, id: str, *, message: str | Message | None = None) -> KeyRule:
    """Declares that the entity of `group` named by a field is locked shared.

    Args:
        group: The group of the key, `"TEMPLATE"` for example.
        id: The name of the field (of the argument, for a function) that has the entity's id.
        message: What others are told who are refused because of this lock: a code, a text, or a
            `Message`. `{field}` in a text, or in a text among the variables of a `Message`, is
            replaced by the field's value: `Message("TEMPLATE_IN_USE", VmName="{vm_name}")`.
    """
    return _rule(Mode.SHARED, group, id, message)


def exclusive(group: str, id: str, *, message: str | Message | None = None) -> KeyRule:
    """Declares that the entity of `group` named by a field is locked exclusive.

    The arguments are those of `shared`.
    """
    return _rule(Mode.EXCLUSIVE, group, id, message)


@dataclass(frozen=True, slots=True)
class Declaration:
    """What `@locks` says about a class, with what its bases say."""

    rules: tuple[KeyRule, ...] = ()
    scope: Scope | None = None
    timeout: float | Unset | None = UNSET

    def merged(self, other: Declaration) -> Declaration:
        """Both: the keys of the two, `other`'s scope and timeout where this one has none."""
        return Declaration(
            tuple(dict.fromkeys((*other.rules, *self.rules))),
            self.scope or other.scope,
            other.timeout if self.timeout is UNSET else self.timeout,
        )

    def keys(self, mode: Mode, value_of: Callable[[str], Any]) -> Messages:
        """The keys of one mode with their messages; of two messages for a key the first stays."""
        found: Messages = {}
        for rule in self.rules:
            if rule.mode is mode:
                key = rule.key(value_of)
                if found.get(key) is None:
                    found[key] = rule.text(value_of)
        return found


def check_timeout(timeout: float | None) -> None:
    """Refuses what is not a time to wait.

    Raises:
        TypeError: It is neither a number nor None.
        ValueError: It is negative or not a number.
    """
    if timeout is None:
        return
    if isinstance(timeout, bool) or not isinstance(timeout, int | float):
        raise TypeError(f"timeout must be a number of seconds or None, not {timeout!r}")
    if math.isnan(timeout) or timeout < 0:
        raise ValueError(f"timeout must not be negative or NaN: {timeout!r}")


def check_fields(rules: Iterable[KeyRule], known: Callable[[str], bool], where: str) -> None:
    """Refuses rules that read what is not there.

    Raises:
        TypeError: A rule names a field or argument that `known` denies.
    """
    for rule in rules:
        for name in rule.fields:
            if not known(name):
                raise TypeError(
                    f"cannot lock {rule.group} {rule.mode}: {where} has no parameter {name!r}"
                )


def _rule(mode: Mode, group: Any, id: Any, message: Any) -> KeyRule:
    if not isinstance(group, str):
        raise TypeError(f"the group of a key must be str, not {type(group).__name__}")
    if not isinstance(id, str) or not id.isidentifier():
        raise TypeError(f"the id of a key must be the name of a parameter, not {id!r}")
    if message is not None and not isinstance(message, str | Message):
        raise TypeError(f"a message must be str or Message, not {type(message).__name__}")
    try:
        places = _template_fields(message)
    except ValueError as error:
        raise ValueError(f"cannot read message {message!r}: {error}") from None
    for name in places:
        if not name.isidentifier():
            raise TypeError(f"message {message!r} has a place {{{name}}} that names no parameter")
    return KeyRule(mode, group, id, message)


def _template_fields(message: str | Message | None) -> list[str]:
    texts: Iterable[Any] = message.variables.values() if isinstance(message, Message) else [message]
    return [
        field
        for text in texts
        if isinstance(text, str)
        for _, field, _, _ in string.Formatter().parse(text)
        if field is not None
    ]


class _Values:
    """Lets `str.format_map` read values through a function."""

    def __init__(self, value_of: Callable[[str], Any]) -> None:
        self.__getitem = value_of

    def __getitem__(self, name: str) -> Any:
        return self.__getitem(name)


def _fill(text: Any, value_of: Callable[[str], Any]) -> Any:
    return text.format_map(_Values(value_of)) if isinstance(text, str) else text
