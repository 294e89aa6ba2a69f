"""Values as JSON text and back, so that a command is rebuilt exactly as it was given."""

from __future__ import annotations

import base64
import json
import uuid
from collections.abc import Mapping
from typing import Any, Final

from lockcore._types import Key, KeyId, Message

_TAG: Final = "$"
"""Marks an object that stands for a value JSON does not have; plain objects never hold this key."""


def dump_parameters(parameters: Mapping[str, Any]) -> str:
    """The parameters of a command as JSON text.

    Raises:
        TypeError: A value is not made of None, bool, int, float, str, bytes, UUID, list, tuple and
            dict. The text names the parameter and the place inside it.
    """
    try:
        return json.dumps({name: _encode(value, name) for name, value in parameters.items()})
    except RecursionError:
        raise TypeError("parameters cannot be stored: they are nested too deeply") from None


def load_parameters(text: str) -> dict[str, Any]:
    """What `dump_parameters` was given: equal values of the same types."""
    return {name: _decode(value) for name, value in json.loads(text).items()}


def dump_message(message: str | Message | None) -> Any:
    """A message as a JSON value. Variables that cannot be stored are kept as their text."""
    if not isinstance(message, Message):
        return message
    return {"code": message.code, "variables": _encode_variables(message)}


def load_message(value: Any) -> str | Message | None:
    """What `dump_message` was given."""
    if isinstance(value, dict):
        variables = {name: _decode(variable) for name, variable in value["variables"].items()}
        return Message(value["code"], **variables)
    return None if value is None else str(value)


def dump_keys(keys: Mapping[Key, str | Message | None]) -> list[Any]:
    """Keys with their messages as a JSON value. Values of a subclass become values of its base."""
    return [[_encode_key(key), dump_message(message)] for key, message in keys.items()]


def load_keys(rows: list[Any]) -> dict[Key, str | Message | None]:
    """What `dump_keys` was given."""
    return {_decode(key): load_message(message) for key, message in rows}


def _encode(value: Any, where: str) -> Any:
    # Exact types: a subclass would come back as its base and surprise the command.
    kind = type(value)
    if value is None or kind in (bool, float, str):
        return value
    if kind is int:
        # Text of more digits than this is refused by `int` when it is read.
        return value if value.bit_length() < 1024 else {_TAG: "int", "hex": hex(value)}
    if kind is bytes:
        return {_TAG: "bytes", "base64": base64.b64encode(value).decode()}
    if kind is uuid.UUID:
        return {_TAG: "uuid", "hex": value.hex}
    if kind is list:
        return [_encode(item, f"{where}[{i}]") for i, item in enumerate(value)]
    if kind is tuple:
        items = [_encode(item, f"{where}[{i}]") for i, item in enumerate(value)]
        return {_TAG: "tuple", "items": items}
    if kind is dict:
        pairs = [(_encode(k, where), _encode(v, f"{where}[{k!r}]")) for k, v in value.items()]
        if all(type(k) is str and k != _TAG for k in value):
            return dict(pairs)
        return {_TAG: "dict", "items": pairs}
    raise TypeError(f"parameter {where} cannot be stored: {kind.__qualname__} has no stored form")


def _decode(value: Any) -> Any:
    if isinstance(value, list):
        return [_decode(item) for item in value]
    if not isinstance(value, dict):
        return value
    match value.get(_TAG):
        case None:
            return {key: _decode(item) for key, item in value.items()}
        case "int":
            return int(value["hex"], 16)
        case "bytes":
            return base64.b64decode(value["base64"])
        case "uuid":
            return uuid.UUID(hex=value["hex"])
        case "tuple":
            return tuple(_decode(item) for item in value["items"])
        case "dict":
            return {_decode(key): _decode(item) for key, item in value["items"]}
        case tag:
            raise ValueError(f"unknown stored form {tag!r}")


def _encode_key(key: Key) -> Any:
    if isinstance(key, tuple):
        group, id = key
        return _encode((_base(group), _base(id)), "key")
    return _encode(_base(key), "key")


def _base(value: KeyId) -> KeyId:
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        return int.__int__(value)
    if isinstance(value, bytes):
        return bytes(memoryview(value))
    return uuid.UUID(int=value.int)


def _encode_variables(message: Message) -> dict[str, Any]:
    variables = {}
    for name, value in message.variables.items():
        try:
            variables[name] = _encode(value, name)
        except TypeError:
            variables[name] = str(value)
    return variables
