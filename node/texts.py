"""What a person reads, in English and French.

The English sentence is the key; ``node/french.py`` holds the other language, and a test proves
that no sentence lacks it. Names of the standard (ITI-18, repositoryUniqueId, Success) are the
same in both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from node.french import FRENCH

LANGUAGES: Final = ("en", "fr")
# In the order in which the C library reads them.
VARIABLES: Final = ("LC_ALL", "LC_MESSAGES", "LANG")

_language = "en"


def use(language: str) -> None:
    """Speak ``language`` (``en`` or ``fr``) from now on. Raises ValueError for another."""
    global _language
    if language not in LANGUAGES:
        raise ValueError(language)
    _language = language


def language() -> str:
    """The language spoken now."""
    return _language


def requested(arguments: Sequence[str], environment: Mapping[str, str]) -> str:
    """The language asked for: ``--lang`` before the environment, English before nothing."""
    for index, argument in enumerate(arguments):
        if argument == "--lang" and index + 1 < len(arguments):
            return _known(arguments[index + 1])
        if argument.startswith("--lang="):
            return _known(argument.removeprefix("--lang="))
    for variable in VARIABLES:
        if environment.get(variable):
            return _known(environment[variable])
    return "en"


def tr(text: str, /, **values: object) -> str:
    """``text`` in the language spoken now, its ``{names}`` filled with ``values``."""
    sentence = FRENCH.get(text, text) if _language == "fr" else text
    return sentence.format(**values) if values else sentence


def _known(locale: str) -> str:
    return "fr" if locale[:2].lower() == "fr" else "en"
