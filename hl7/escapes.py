r"""Delimiters and escape sequences (HL7 2.3.1 2.10).

Read: ``\F\ \S\ \T\ \R\ \E\``, ``\Xdd..\`` (bytes in the message's charset) and ``\.br\``
(line break). Other sequences (highlighting, formatting, local ones) are left as they stand:
they are the receiver's to show, and an identifier never carries them.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

from hl7.errors import DATA_TYPE, REQUIRED_FIELD_MISSING, InvalidMessage


class Delimiters(NamedTuple):
    """The five separators of a message, from MSH-1 and MSH-2."""

    field: str = "|"
    component: str = "^"
    repetition: str = "~"
    escape: str = "\\"
    subcomponent: str = "&"


STANDARD = Delimiters()


@lru_cache(maxsize=256)
def read_delimiters(separator: bytes, encoding_characters: bytes) -> Delimiters:
    """The delimiters that MSH-1 and MSH-2 announce.

    A short MSH-2 (``^~``) leaves the rest at their usual characters; a fifth character
    (truncation, HL7 2.7) is ignored. Raises InvalidMessage when two are the same or one
    could be taken for text.
    """
    field, encoding = separator.decode("iso8859-1"), encoding_characters.decode("iso8859-1")
    if not encoding:
        raise InvalidMessage(REQUIRED_FIELD_MISSING, "MSH-2 is empty", "MSH^1^2")
    chosen = (field, *encoding[:4], *STANDARD[len(encoding[:4]) + 1 :])
    for character in (*chosen, *encoding[4:]):
        if not "!" <= character <= "~" or character.isalnum():
            raise InvalidMessage(DATA_TYPE, f"MSH-2: {character!r} is no delimiter", "MSH^1^2")
    if len(set(chosen)) < len(chosen) or len(encoding) > 5:
        raise InvalidMessage(DATA_TYPE, "MSH-2: five different delimiters expected", "MSH^1^2")
    return Delimiters(*chosen)


def unescape(text: str, delimiters: Delimiters = STANDARD, codec: str = "utf-8") -> str:
    """The value that ``text`` stands for."""
    mark = delimiters.escape
    if mark not in text:
        return text
    return _sequence(mark).sub(lambda found: _meaning(found, delimiters, codec), text)


def escape(value: str, delimiters: Delimiters = STANDARD) -> str:
    """``value`` as it may stand in a message: the inverse of ``unescape``."""
    return value.translate(_escapes(delimiters))


@lru_cache(maxsize=64)
def _sequence(mark: str) -> re.Pattern[str]:
    quoted = re.escape(mark)
    return re.compile(f"{quoted}([^{quoted}]*){quoted}")


def _meaning(found: re.Match[str], delimiters: Delimiters, codec: str) -> str:
    name = found[1]
    plain = _names(delimiters).get(name)
    if plain is not None:
        return plain
    if name[:1] == "X":
        try:
            return bytes.fromhex(name[1:]).decode(codec)
        except (ValueError, UnicodeDecodeError):
            return found[0]
    return found[0]


@lru_cache(maxsize=64)
def _names(delimiters: Delimiters) -> dict[str, str]:
    field, component, repetition, mark, subcomponent = delimiters
    return {
        "F": field,
        "S": component,
        "T": subcomponent,
        "R": repetition,
        "E": mark,
        ".br": "\n",
    }


@lru_cache(maxsize=64)
def _escapes(delimiters: Delimiters) -> dict[int, str]:
    mark = delimiters.escape
    # Control characters would be taken for segment ends or MLLP framing; all are ASCII, so
    # one byte in every charset we write.
    table = {code: f"{mark}X{code:02X}{mark}" for code in (*range(0x20), 0x7F)}
    table.update({ord(char): f"{mark}{name}{mark}" for name, char in _names(delimiters).items()})
    return table
