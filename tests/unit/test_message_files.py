"""Sentences from files: TOML, and the compiled catalogues of gettext."""

from __future__ import annotations

import re
import struct
from pathlib import Path

import pytest

from lockcore import Message, MessageCatalog

EN = '[en]\nVM_IS_USED = "Cannot ${action} ${VmName}: it is used."\nGONE = "It is gone."\n'
DE = '[de]\nVM_IS_USED = "${VmName} wird benutzt."\n'


def toml(directory: Path, name: str, text: str) -> Path:
    path = directory / name
    path.write_text(text, encoding="utf-8")
    return path


def mo(directory: Path, locale: str, texts: dict[str, str], order: str = "<") -> None:
    """A file as `msgfmt` writes it: ids in order, then their texts, each ended by a null."""
    header = {"": "Content-Type: text/plain; charset=UTF-8\n"}
    pairs = [(id.encode(), text.encode()) for id, text in sorted((header | texts).items())]
    n = len(pairs)
    start = 28 + 16 * n
    tables, data = b"", b""
    for strings in zip(*pairs, strict=True):
        for string in strings:
            tables += struct.pack(f"{order}2I", len(string), start + len(data))
            data += string + b"\0"
    head = struct.pack(f"{order}7I", 0x950412DE, 0, n, 28, 28 + 8 * n, 0, 0)
    path = directory / locale / "LC_MESSAGES" / "engine.mo"
    path.parent.mkdir(parents=True)
    path.write_bytes(head + tables + data)


def test_catalogue_is_read_from_a_table_for_each_locale(tmp_path: Path) -> None:
    catalog = MessageCatalog.from_toml(toml(tmp_path, "messages.toml", EN + DE))
    message = Message("VM_IS_USED", VmName="web")
    assert catalog.locales == {"en", "de"}
    assert catalog.translate(message, action="stop") == "Cannot stop web: it is used."
    assert catalog.translate(message, "de_AT") == "web wird benutzt."


def test_later_file_adds_to_earlier_ones_and_wins(tmp_path: Path) -> None:
    first = toml(tmp_path, "first.toml", EN)
    second = toml(tmp_path, "second.toml", '[EN]\nGONE = "Gone."\n' + DE)
    catalog = MessageCatalog.from_toml(first, str(second))
    assert catalog.translate("GONE") == "Gone."
    assert catalog.translate(Message("VM_IS_USED", VmName="web"), "de") == "web wird benutzt."


@pytest.mark.parametrize(
    ("text", "error", "says"),
    [
        ("[en", ValueError, "Expected"),
        ('en = "hello"', TypeError, "locale 'en' must be a table"),
        ("[en]\nGONE = 7", TypeError, "sentence 'GONE' of locale 'en' must be str, not int"),
        ('[en]\nGONE = "$x"', ValueError, "sentence 'GONE' of locale 'en' cannot be read"),
        (DE, ValueError, "the default locale 'en' has no sentences"),
    ],
)
def test_file_that_makes_no_catalogue_is_refused(
    tmp_path: Path, text: str, error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        MessageCatalog.from_toml(toml(tmp_path, "messages.toml", text))


def test_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        MessageCatalog.from_toml(tmp_path / "messages.toml")


@pytest.mark.parametrize("order", ["<", ">"])
def test_catalogue_is_read_from_compiled_gettext_files(tmp_path: Path, order: str) -> None:
    mo(tmp_path, "en", {"VM_IS_USED": "Cannot ${action} ${VmName}."}, order)
    mo(tmp_path, "de_AT", {"VM_IS_USED": "${VmName} wird benützt."}, order)
    catalog = MessageCatalog.from_gettext("engine", tmp_path)
    message = Message("VM_IS_USED", VmName="web")
    assert catalog.locales == {"en", "de_at"}
    assert catalog.translate(message, action="stop") == "Cannot stop web."
    assert catalog.translate(message, "de-AT") == "web wird benützt."


def test_plural_forms_and_contexts_are_left_out(tmp_path: Path) -> None:
    mo(tmp_path, "en", {"GONE": "Gone.", "ONE\0MANY": "one\0many", "menu\4OPEN": "Open"})
    catalog = MessageCatalog.from_gettext("engine", tmp_path)
    assert catalog.translate("GONE") == "Gone."
    assert [catalog.translate(code) for code in ("ONE", "MANY", "OPEN", "")] == [None] * 4


def test_directory_without_the_default_locale_is_refused(tmp_path: Path) -> None:
    mo(tmp_path, "de", {"GONE": "Weg."})
    with pytest.raises(ValueError, match="the default locale 'en' has no sentences"):
        MessageCatalog.from_gettext("engine", tmp_path)


def test_missing_catalogues_are_refused_with_the_place_that_was_searched(tmp_path: Path) -> None:
    place = re.escape(str(tmp_path / "*" / "LC_MESSAGES" / "engine.mo"))
    with pytest.raises(ValueError, match=f"none is found at {place}"):
        MessageCatalog.from_gettext("engine", tmp_path)


def test_syntax_error_names_its_file(tmp_path: Path) -> None:
    path = toml(tmp_path, "messages.toml", "[en")
    with pytest.raises(ValueError, match=f"{re.escape(str(path))} is no TOML: "):
        MessageCatalog.from_toml(path)


def test_file_that_is_no_compiled_catalogue_is_refused(tmp_path: Path) -> None:
    mo(tmp_path, "en", {})
    (tmp_path / "en" / "LC_MESSAGES" / "engine.mo").write_bytes(b"not a catalogue, but long enough")
    with pytest.raises(OSError, match="Bad magic number"):
        MessageCatalog.from_gettext("engine", tmp_path)
