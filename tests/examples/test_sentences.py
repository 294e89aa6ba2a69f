"""Every code that a command of the example uses has its sentence, in every locale.

The original had codes without a sentence, and sentences with variables that nobody supplied.
"""

from __future__ import annotations

import ast
import string
import tomllib
from pathlib import Path

import pytest

from virtualization import base

PACKAGE = Path(base.__file__).parent
SENTENCES = tomllib.loads((PACKAGE / "messages.toml").read_text(encoding="utf-8"))
OF_THE_REQUESTER = {"action", "type"}


def used() -> list[tuple[str, set[str]]]:
    """The code and the variables of each `Message(...)` in the package."""
    return [
        (ast.literal_eval(node.args[0]), {str(keyword.arg) for keyword in node.keywords})
        for file in PACKAGE.glob("*.py")
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "Message"
    ]


def variables(sentence: str) -> set[str]:
    return set(string.Template(sentence).get_identifiers())


@pytest.mark.parametrize("locale", SENTENCES)
def test_each_code_has_a_sentence_and_each_sentence_a_code(locale: str) -> None:
    assert set(SENTENCES[locale]) == {code for code, _ in used()}


@pytest.mark.parametrize("locale", SENTENCES)
def test_each_variable_of_a_sentence_is_supplied(locale: str) -> None:
    lacking = {
        code: variables(SENTENCES[locale][code]) - supplied - OF_THE_REQUESTER
        for code, supplied in used()
    }
    assert {code: names for code, names in lacking.items() if names} == {}
