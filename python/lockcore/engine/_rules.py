"""What a lock declaration consists of: keys read from parameters, a scope, a time to wait."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import Any, Final, cast

from lockcore._types import Key, Message, Mode
from lockcore.engine._readers import Id, Names, Place, id_source, message_source, names_read

__all__ = [
    "BoundRule",
    "Declaration",
    "FieldKeys",
    "KeyRule",
    "Scope",
    "check_fields",
    "check_timeout",
    "exclusive",
    "mapping_source",
    "shared",
]

Messages = dict[Key, str | Message | None]

FieldKeys = dict[Mode, Callable[[Any], Messages]]
"""For each mode a function that reads the keys of a command, with their messages."""


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
    """One key of a declaration: `(group, id)`, in one mode, with a message."""

    mode: Mode
    group: str
    id: Id
    message: str | Message | None
    scope: Scope | None = None

    @property
    def names(self) -> list[str]:
        """The names of the fields or arguments that this rule reads."""
        return names_read(self.id, self.message)

    def bound(self, place: Place, names: Names) -> BoundRule:
        """The rule where it is known how its fields or arguments are read."""
        key = f"({names.name_of(self.group)}, {id_source(self.id, place, names)})"
        constant, message = None, "None"
        if self.message is not None:
            message = message_source(self.message, place, names)
            if not names_read("id", self.message)[1:]:
                constant = eval(message, names.globals)  # noqa: S307 - braces are doubled no more
                message = names.name_of(constant)
        return BoundRule(self, key, message, constant)


@dataclass(frozen=True, slots=True)
class BoundRule:
    """A rule as Python source.

    Attributes:
        rule: What was declared.
        key: The expression for the key.
        message: The expression for the message.
        constant: The message itself if it is the same each time.
    """

    rule: KeyRule
    key: str
    message: str
    constant: str | Message | None

    @property
    def is_constant(self) -> bool:
        """Whether the message is the same each time."""
        return self.constant is not None or self.rule.message is None


def mapping_source(rules: Sequence[BoundRule], names: Names) -> str:
    """The expression for keys with their messages; of two messages for a key the first stays."""
    if len({rule.rule.group for rule in rules}) == len(rules):
        return f"{{{', '.join(f'{rule.key}: {rule.message}' for rule in rules)}}}"
    pairs = ", ".join(f"({rule.key}, {rule.message})" for rule in rules)
    return f"{names.name_of(_merged)}([{pairs}])"


def _merged(pairs: Iterable[tuple[Key, str | Message | None]]) -> Messages:
    found: Messages = {}
    for key, message in pairs:
        if found.get(key) is None:
            found[key] = message
    return found


def shared(
    group: str, id: Id, *, message: str | Message | None = None, scope: Scope | None = None
) -> KeyRule:
    """Declares that the entity of `group` that has this id is locked shared.

    Args:
        group: The group of the key, `"TEMPLATE"` for example.
        id: Where the entity's id is found. The name of a field (of an argument, for a function):
            `"template_id"`. A template: `"{vm.id}"` is that attribute of the field, of whatever
            type; with text around it, as in `"{host.name}/{nic}"`, it is text. Or a function whose
            parameters are named after fields: `lambda vm, nic: vm.nics[nic]`; for a command
            `self` is the command.
        message: What others are told who are refused because of this lock: a code, a text, or a
            `Message`. A text, also one among the variables of a `Message`, is a template as well:
            `Message("TEMPLATE_IN_USE", VmName="{vm.name}")`.
        scope: How long a command keeps this key; None is as long as `locks` says for all.

    Raises:
        TypeError: An argument is of the wrong type, or a template names no field.
        ValueError: A template cannot be read, or the scope is unknown.
    """
    return _rule(Mode.SHARED, group, id, message, scope)


def exclusive(
    group: str, id: Id, *, message: str | Message | None = None, scope: Scope | None = None
) -> KeyRule:
    """Declares that the entity of `group` that has this id is locked exclusive.

    The arguments are those of `shared`.
    """
    return _rule(Mode.EXCLUSIVE, group, id, message, scope)


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

    def bound(self, place: Place, names: Names) -> list[BoundRule]:
        """The rules where it is known how fields or arguments are read."""
        return [rule.bound(place, names) for rule in self.rules]

    def compiled(self, place: Place, scope: Scope | None = None) -> FieldKeys:
        """What reads the keys of `self`, a command; with a scope only those that are kept so."""
        rules = [rule for rule in self.rules if scope in (None, rule.scope or self.scope)]
        return {mode: _compiled([r for r in rules if r.mode is mode], place) for mode in Mode}


def _compiled(rules: Sequence[KeyRule], place: Place) -> Callable[[Any], Messages]:
    if not rules:
        return _no_keys
    names = Names()
    keys = mapping_source([rule.bound(place, names) for rule in rules], names)
    return cast(Callable[[Any], Messages], eval(f"lambda self: {keys}", names.globals))  # noqa: S307


def _no_keys(_: object) -> Messages:
    return {}


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
        for name in rule.names:
            if not known(name):
                raise TypeError(
                    f"cannot lock {rule.group} {rule.mode}: {where} has no parameter {name!r}"
                )


def _rule(mode: Mode, group: Any, id: Any, message: Any, scope: Any) -> KeyRule:
    if not isinstance(group, str):
        raise TypeError(f"the group of a key must be str, not {type(group).__name__}")
    if message is not None and not isinstance(message, str | Message):
        raise TypeError(f"a message must be str or Message, not {type(message).__name__}")
    names_read(id, message)
    return KeyRule(mode, group, id, message, None if scope is None else Scope(scope))
