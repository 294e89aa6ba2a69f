"""Catalogues of sentences, and the plain words for blockers."""

from __future__ import annotations

import re
import uuid

import pytest

from lockcore._messages import (
    Message,
    MessageCatalog,
    describe_age,
    describe_holder,
    describe_key,
    describe_owner,
    describe_request,
)
from lockcore._types import Holder, Mode, Request, Waiter

CATALOG = MessageCatalog(
    {
        "en": {
            "MIGRATING": "Cannot ${action} ${type}. VM ${VmName} is being migrated.",
            "PRICE": "It costs $$5, ${name}.",
            "ONLY_ENGLISH": "English.",
        },
        "de": {"MIGRATING": "VM ${VmName} wird verschoben.", "PRICE": "Es kostet."},
        "de_AT": {"MIGRATING": "Die VM ${VmName} wird grad verschoben."},
    }
)


def test_translate_fills_in_variables_of_message_and_reader():
    sentence = CATALOG.translate(Message("MIGRATING", VmName="web"), action="remove", type="VM")
    assert sentence == "Cannot remove VM. VM web is being migrated."


def test_translate_prefers_variables_of_the_message():
    sentence = CATALOG.translate(Message("MIGRATING", VmName="web"), "de", VmName="mine")
    assert sentence == "VM web wird verschoben."


def test_translate_leaves_undefined_variables_as_written():
    sentence = CATALOG.translate(Message("MIGRATING"), type="VM")
    assert sentence == "Cannot ${action} VM. VM ${VmName} is being migrated."


@pytest.mark.parametrize("value", ["$5", "${action}", "$$", "a\\1", "${"])
def test_translate_takes_a_dollar_in_a_value_as_text(value):
    sentence = CATALOG.translate(Message("MIGRATING", VmName=value), "de", action="remove")
    assert sentence == f"VM {value} wird verschoben."


def test_translate_writes_a_doubled_dollar_once():
    assert CATALOG.translate("PRICE", name="Eve") == "It costs $5, Eve."


def test_translate_makes_text_of_other_values():
    assert CATALOG.translate(Message("PRICE", name=7)) == "It costs $5, 7."


def test_translate_takes_a_bare_code():
    assert CATALOG.translate("ONLY_ENGLISH") == "English."


def test_translate_knows_nothing_of_an_unknown_code():
    assert CATALOG.translate("UNKNOWN", "de") is None


@pytest.mark.parametrize("locale", ["de_AT", "de-at", "DE_at", "de_AT.UTF-8", "de_AT@euro"])
def test_translate_knows_a_locale_however_it_is_written(locale):
    sentence = CATALOG.translate(Message("MIGRATING", VmName="web"), locale)
    assert sentence == "Die VM web wird grad verschoben."


def test_translate_falls_back_to_the_parent_locale():
    assert CATALOG.translate("PRICE", "de_AT") == "Es kostet."


@pytest.mark.parametrize("locale", ["de_AT", "fr", None])
def test_translate_falls_back_to_the_default_locale(locale):
    assert CATALOG.translate("ONLY_ENGLISH", locale) == "English."


def test_translate_falls_back_to_the_parents_of_the_default_locale():
    catalog = MessageCatalog({"en": {"A": "a"}, "en_GB": {"B": "b"}}, default_locale="en_GB")
    assert catalog.translate("A", "fr") == "a"


def test_catalog_names_its_locales():
    assert CATALOG.locales == {"en", "de", "de_at"}


def test_catalog_does_not_follow_later_changes_of_its_source():
    source = {"en": {"A": "before"}}
    catalog = MessageCatalog(source)
    source["en"]["A"] = "after"
    assert catalog.translate("A") == "before"


@pytest.mark.parametrize(
    "text", ["costs 5$", "${", "${a", "${a b}", "$name", "${}", "${1}", "$ {a}"]
)
def test_catalog_refuses_a_sentence_that_cannot_be_read(text):
    message = f"sentence 'A' of locale 'en' cannot be read: write ${{name}} or $$, not {text!r}"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        MessageCatalog({"en": {"A": text}})


def test_catalog_refuses_a_sentence_that_is_not_text():
    with pytest.raises(TypeError, match=r"^sentence 'A' of locale 'en' must be str, not int$"):
        MessageCatalog({"en": {"A": 5}})


def test_catalog_refuses_a_code_that_is_not_text():
    with pytest.raises(TypeError, match=r"^a code of locale 'en' must be str, not int$"):
        MessageCatalog({"en": {5: "five"}})


def test_catalog_refuses_one_locale_written_twice():
    with pytest.raises(ValueError, match=r"^locale 'de-AT' is given twice$"):
        MessageCatalog({"en": {}, "de_AT": {}, "de-AT": {}})


def test_catalog_refuses_a_default_locale_without_sentences():
    with pytest.raises(ValueError, match=r"^the default locale 'en' has no sentences$"):
        MessageCatalog({"de": {}})


def test_catalog_refuses_an_empty_locale():
    with pytest.raises(ValueError, match=r"^not a locale: '@euro'$"):
        CATALOG.translate("PRICE", "@euro")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-1, "0 ms"),
        (0, "0 ms"),
        (0.0004, "0 ms"),
        (0.25, "250 ms"),
        (0.9999, "999 ms"),
        (1, "1 s"),
        (12.9, "12 s"),
        (59.999, "59 s"),
        (60, "1 min"),
        (184, "3 min 4 s"),
        (3_599.9, "59 min 59 s"),
        (3_600, "1 h"),
        (7_510, "2 h 5 min"),
        (86_400, "1 d"),
        (273_599, "3 d 3 h"),
    ],
)
def test_age_is_told_in_two_units_rounded_down(seconds, text):
    assert describe_age(seconds) == text


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("vm-1", "'vm-1'"),
        (b"x", "b'x'"),
        (7, "7"),
        (uuid.UUID(int=7), "00000000-0000-0000-0000-000000000007"),
        (("VM", "42"), "('VM', '42')"),
        (("VM", uuid.UUID(int=7)), "('VM', 00000000-0000-0000-0000-000000000007)"),
        ((Mode.SHARED, Mode.EXCLUSIVE), "('shared', 'exclusive')"),
    ],
)
def test_key_is_told_as_in_source_code(key, text):
    assert describe_key(key) == text


@pytest.mark.parametrize(
    ("owner", "text"),
    [("MigrateVm 7f3a", "MigrateVm 7f3a"), (17, "17"), (None, "an unnamed owner")],
)
def test_owner_is_told_as_bare_text(owner, text):
    assert describe_owner(owner) == text


def test_holder_is_told_by_mode_owner_and_age():
    holder = Holder(("VM", "42"), Mode.SHARED, "MigrateVm 7f3a", None, 1, 12.0)
    assert describe_holder(holder) == "held shared by MigrateVm 7f3a for 12 s"


def test_waiter_is_told_by_mode_owner_and_age():
    waiter = Waiter(("VM", "42"), Mode.EXCLUSIVE, None, None, 0.5)
    assert describe_holder(waiter) == "awaited exclusive by an unnamed owner for 500 ms"


def test_request_is_told_exclusive_keys_first():
    request = Request(frozenset({"z", ("VM", "1")}), frozenset({"a"}))
    assert describe_request(request, limit=9) == "'z' exclusive, ('VM', '1') exclusive, 'a' shared"


def test_request_of_many_keys_is_cut_short():
    request = Request(frozenset(range(1000)), frozenset())
    assert describe_request(request) == "0 exclusive, 1 exclusive, 2 exclusive and 997 more"


def test_empty_request_is_told_as_nothing():
    assert describe_request(Request(frozenset(), frozenset())) == "nothing"
