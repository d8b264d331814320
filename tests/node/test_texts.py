"""English and French: complete, equal in what they are filled with, chosen by who asks."""

import ast
import string
from collections.abc import Iterator
from pathlib import Path

import pytest

from node import texts
from node.french import FRENCH

ROOM = Path(__file__).parents[2] / "node"


@pytest.fixture(autouse=True)
def english() -> Iterator[None]:
    yield
    texts.use("en")


def sentences() -> set[str]:
    """The argument of every call of ``tr`` in the room."""
    found = set()
    for file in ROOM.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "tr":
                argument = node.args[0]
                assert isinstance(argument, ast.Constant), f"{file}:{node.lineno}: not a literal"
                found.add(str(argument.value))
    return found


def fields(text: str) -> set[str | None]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name}


def test_every_sentence_has_its_french_and_no_french_is_left_over() -> None:
    assert sentences() == set(FRENCH)


def test_a_translation_is_filled_with_the_same_values() -> None:
    different = [english for english, french in FRENCH.items() if fields(english) != fields(french)]
    assert different == []


@pytest.mark.parametrize(
    ("arguments", "environment", "language"),
    [
        ([], {}, "en"),
        ([], {"LANG": "fr_FR.UTF-8"}, "fr"),
        ([], {"LC_ALL": "C", "LANG": "fr_FR.UTF-8"}, "en"),
        (["find", "--lang", "fr"], {"LANG": "C"}, "fr"),
        (["--lang=en"], {"LANG": "fr_FR"}, "en"),
        (["--lang"], {"LANG": "fr_FR"}, "fr"),
    ],
)
def test_the_language_is_that_of_who_asks(
    arguments: list[str], environment: dict[str, str], language: str
) -> None:
    assert texts.requested(arguments, environment) == language


def test_a_sentence_is_filled_in_the_language_in_use() -> None:
    texts.use("fr")
    assert texts.tr("not stored: {names}", names="a, b") == "non enregistrées : a, b"


def test_another_language_is_refused() -> None:
    with pytest.raises(ValueError, match="de"):
        texts.use("de")
