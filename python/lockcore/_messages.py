"""Text for humans: what blocks a request, in plain words or by a catalogue of sentences."""

from __future__ import annotations

import gettext
import os
import pathlib
import re
import string
import struct
import tomllib
import uuid
from collections import ChainMap
from typing import TYPE_CHECKING, Any

from lockcore._types import Holder, Key, Message, Mode, Owner, Request, Waiter, key_order

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = [
    "Message",
    "MessageCatalog",
    "describe_age",
    "describe_holder",
    "describe_key",
    "describe_owner",
    "describe_request",
    "is_short",
]


class _Sentence(string.Template):
    """A template with variables `${name}`; `$$` is a dollar, any other `$` an error."""

    flags = re.NOFLAG
    pattern = r"""
    \$(?:
      (?P<escaped>\$)              |
      (?P<named>(?!))              |  # never: `$name` is most likely an accident
      \{(?P<braced>[^\W\d]\w*)\}   |
      (?P<invalid>)
    )
    """  # type: ignore[assignment]  # typeshed has the compiled form, which replaces this text


class MessageCatalog:
    """Sentences for the codes of messages, per locale.

    A locale is written `"de"`, `"de_AT"` or `"de-AT"`, in any case; an encoding after it is
    ignored. A code is looked up in the locale asked for, then in its parents (`de_AT`, `de`), then
    in the default locale and its parents.

    Immutable, so that any number of threads may use one catalogue.

    Args:
        sentences: For each locale a mapping of code to sentence. A sentence names its variables
            `${name}`; a dollar sign is written `$$`.
        default_locale: Where to look when a locale has no sentence for a code.

    Raises:
        TypeError: A code or a sentence is not a `str`.
        ValueError: A sentence cannot be read, two locales are the same, or the default locale has
            no sentences.

    Example:
        >>> catalog = MessageCatalog({
        ...     "en": {"VM_IS_BEING_MIGRATED": "Cannot ${action} ${type}. ${VmName} is migrating."},
        ...     "de": {"VM_IS_BEING_MIGRATED": "${VmName} wird verschoben."},
        ... })
        >>> catalog.translate(Message("VM_IS_BEING_MIGRATED", VmName="web"), action="remove")
        'Cannot remove ${type}. web is migrating.'
        >>> catalog.translate(Message("VM_IS_BEING_MIGRATED", VmName="web"), "de_AT")
        'web wird verschoben.'
    """

    __slots__ = ("_default", "_sentences")

    def __init__(
        self, sentences: Mapping[str, Mapping[str, str]], *, default_locale: str = "en"
    ) -> None:
        self._sentences: dict[str, dict[str, _Sentence]] = {}
        for locale, texts in sentences.items():
            name = _normal_locale(locale)
            if name in self._sentences:
                raise ValueError(f"locale {locale!r} is given twice")
            self._sentences[name] = {
                code: _checked_sentence(locale, code, text) for code, text in texts.items()
            }
        self._default = tuple(_parents(_normal_locale(default_locale)))
        if not any(name in self._sentences for name in self._default):
            raise ValueError(f"the default locale {default_locale!r} has no sentences")

    @classmethod
    def from_toml(
        cls, *paths: str | os.PathLike[str], default_locale: str = "en"
    ) -> MessageCatalog:
        """Reads TOML files that have a table of sentences for each locale.

        Of two sentences for a code in a locale the one of the later file counts.

        Raises:
            OSError: A file cannot be read.
            ValueError: A file is not TOML; or what the class itself raises for its sentences.
            TypeError: A locale is no table; or what the class itself raises for its sentences.
        """
        merged: dict[str, dict[str, str]] = {}
        for path in paths:
            with open(path, "rb") as file:  # noqa: PTH123 - a path may be any `PathLike`
                try:
                    tables = tomllib.load(file)
                except tomllib.TOMLDecodeError as error:
                    raise ValueError(f"{os.fspath(path)!s} is no TOML: {error}") from None
            for locale, sentences in tables.items():
                if not isinstance(sentences, dict):
                    raise TypeError(f"{os.fspath(path)!s}: locale {locale!r} must be a table")
                merged.setdefault(_normal_locale(locale), {}).update(sentences)
        return cls(merged, default_locale=default_locale)

    @classmethod
    def from_gettext(
        cls, domain: str, directory: str | os.PathLike[str], *, default_locale: str = "en"
    ) -> MessageCatalog:
        """Reads all of `directory/LOCALE/LC_MESSAGES/domain.mo`; the ids are the codes.

        Entries with a context or with plural forms are left out, and so is the header.

        Raises:
            OSError: A file is not a catalogue of gettext.
            ValueError: There is no such file for the default locale; or what the class itself
                raises for its sentences.
        """
        found = {}
        for path in sorted(pathlib.Path(directory).glob(f"*/LC_MESSAGES/{domain}.mo")):
            with path.open("rb") as file:
                translations = gettext.GNUTranslations(file)
            found[path.parent.parent.name] = {
                code: translations.gettext(code) for code in _plain_ids(path.read_bytes())
            }
        if not found:
            looked = pathlib.Path(directory, "*", "LC_MESSAGES", f"{domain}.mo")
            raise ValueError(f"there is no catalogue of gettext: none is found at {looked}")
        return cls(found, default_locale=default_locale)

    @property
    def locales(self) -> frozenset[str]:
        """The locales that have sentences, in lower case with underscores."""
        return frozenset(self._sentences)

    def translate(
        self, message: str | Message, /, locale: str | None = None, **variables: Any
    ) -> str | None:
        """The sentence for a message.

        The message's own variables come first, then `variables`. A variable that neither defines
        stays as it is written in the sentence. Values are inserted as they are: a `$` in one is
        just text.

        Args:
            message: A message, or a bare code.
            locale: Which language; None is the default locale.
            **variables: What the reader adds, such as the `action` that was refused.

        Returns:
            The sentence, or None if no locale in question knows the code.
        """
        code, own = (message, {}) if isinstance(message, str) else (message.code, message.variables)
        wanted = () if locale is None else _parents(_normal_locale(locale))
        for name in (*wanted, *self._default):
            sentence = self._sentences.get(name, {}).get(code)
            if sentence is not None:
                return sentence.safe_substitute(ChainMap(dict(own), variables))
        return None


def _checked_sentence(locale: str, code: str, text: str) -> _Sentence:
    where = f"sentence {code!r} of locale {locale!r}"
    if not isinstance(code, str):
        raise TypeError(f"a code of locale {locale!r} must be str, not {type(code).__name__}")
    if not isinstance(text, str):
        raise TypeError(f"{where} must be str, not {type(text).__name__}")
    sentence = _Sentence(text)
    if not sentence.is_valid():
        raise ValueError(f"{where} cannot be read: write ${{name}} or $$, not {text!r}")
    return sentence


def _plain_ids(mo: bytes) -> Iterator[str]:
    """The ids in a `.mo` file that `gettext` itself has accepted.

    The file begins with a magic number, a version, the number of ids, and where their table is:
    the length and the place of each.
    """
    order = "<" if mo[:4] == b"\xde\x12\x04\x95" else ">"
    _, _, count, table = struct.unpack_from(f"{order}4I", mo)
    for i in range(count):
        length, start = struct.unpack_from(f"{order}2I", mo, table + 8 * i)
        id = mo[start : start + length]
        if id and b"\0" not in id and b"\4" not in id:
            yield id.decode()


def _normal_locale(locale: str) -> str:
    name = re.split("[.@]", locale, maxsplit=1)[0].replace("-", "_").lower()
    if not name:
        raise ValueError(f"not a locale: {locale!r}")
    return name


def _parents(locale: str) -> Iterator[str]:
    """The locale itself, then each shorter one: `zh_hant_tw`, `zh_hant`, `zh`."""
    while locale:
        yield locale
        locale = locale.rpartition("_")[0]


def describe_age(seconds: float) -> str:
    """A duration in the two units that matter: `250 ms`, `12 s`, `3 min 4 s`, `2 h 5 min`, `3 d`.

    Rounded down, so that nothing looks older than it is. A negative duration counts as none.
    """
    if seconds < 1:
        return f"{max(0, int(seconds * 1000))} ms"
    whole = int(seconds)
    for large, small, size, part in (
        ("d", "h", 86_400, 3_600),
        ("h", "min", 3_600, 60),
        ("min", "s", 60, 1),
    ):
        if whole >= size:
            count, rest = whole // size, whole % size // part
            return f"{count} {large} {rest} {small}" if rest else f"{count} {large}"
    return f"{whole} s"


def describe_key(key: Key) -> str:
    """A key as in source code, but a `UUID` as its bare text: `('VM', '42')`, `7`, `b'x'`."""
    if isinstance(key, tuple):
        group, key_id = key
        return f"({str.__repr__(group)}, {_describe_id(key_id)})"
    return _describe_id(key)


def _describe_id(key_id: object) -> str:
    # The base type's text: a subclass counts as its base value, whatever its own repr says.
    if isinstance(key_id, int) and not is_short(key_id):
        return hex(key_id)
    for kind in (str, bytes, int):
        if isinstance(key_id, kind):
            return kind.__repr__(key_id)
    return str(key_id) if isinstance(key_id, uuid.UUID) else repr(key_id)


def describe_owner(owner: Owner | None) -> str:
    """The owner's bare text, or `an unnamed owner`."""
    if isinstance(owner, int) and not is_short(owner):
        return hex(owner)
    return "an unnamed owner" if owner is None else str(owner)


def is_short(number: int) -> bool:
    """Whether Python, with its default limit, makes text of the number."""
    return number.bit_length() < 14_000  # 4,215 digits; the limit is 4,300


def describe_holder(blocker: Holder | Waiter) -> str:
    """Who is in the way: `held shared by MigrateVm 7f3a for 12 s`; a waiter's begins `awaited`."""
    who = describe_owner(blocker.owner)
    if isinstance(blocker, Holder):
        return f"held {blocker.mode} by {who} for {describe_age(blocker.held_for)}"
    return f"awaited {blocker.mode} by {who} for {describe_age(blocker.waited_for)}"


def describe_request(request: Request, *, limit: int = 3) -> str:
    """What is wanted: `('VM', '42') exclusive, 'pool-1' shared`, sorted, exclusive keys first.

    Args:
        request: The request.
        limit: At most so many keys are named, and the others counted.
    """
    parts = [
        f"{describe_key(key)} {mode}"
        for mode, keys in ((Mode.EXCLUSIVE, request.exclusive), (Mode.SHARED, request.shared))
        for key in sorted(keys, key=key_order)
    ]
    if not parts:
        return "nothing"
    more = len(parts) - limit
    return ", ".join(parts[:limit]) + (f" and {more} more" if more > 0 else "")
