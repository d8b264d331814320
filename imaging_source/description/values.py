"""Values of data elements in the DICOM JSON Model (PS3.18 F.2.3).

Lenient about what modalities write: a number that is none is given as the text it is, a
character that cannot be is replaced. Nothing of a value ever reaches an exception.
"""

from __future__ import annotations

import base64
import math
import re
import struct
from collections.abc import Callable
from typing import Any

from imaging_source.charset import unicode_of

BINARY = frozenset({"OB", "OD", "OF", "OL", "OV", "OW", "UN"})
"""Value representations whose values JSON has as InlineBinary or behind a BulkDataURI."""

# Text whose value representation the character set applies to (PS3.5 6.1.2.3).
_LOCALIZED = frozenset({"LO", "LT", "PN", "SH", "ST", "UC", "UT"})
_ONE_VALUE = frozenset({"LT", "ST", "UR", "UT"})
_ASCII = ["latin_1"]

_INTEGER = re.compile(r"[+-]?[0-9]+")
_DECIMAL = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")

_NUMBERS = {"FL": "f", "FD": "d", "SL": "i", "SS": "h", "SV": "q", "UL": "I", "US": "H", "UV": "Q"}

# Beyond it a reader that keeps numbers as IEEE 754 doubles loses digits: text is allowed
# instead for SV and UV (PS3.18 Table F.2.3-1).
_EXACT = 2**53

_NOT_CHARACTERS = re.compile("[\ud800-\udfff]")
_PN_GROUPS = ("Alphabetic", "Ideographic", "Phonetic")


def json_values(vr: str, value: bytes, order: str, encodings: list[str]) -> list[Any]:
    """The items of "Value" for a value that is neither binary nor a sequence.

    ``order`` is the struct prefix of the byte order; an empty value has no items.
    """
    if vr in _NUMBERS:
        return _binary_numbers(_NUMBERS[vr], value, order)
    if vr == "AT":
        pairs = struct.iter_unpack(f"{order}HH", value[: len(value) & ~3])
        return [f"{group:04X}{element:04X}" for group, element in pairs]
    text = unicode_of(value, encodings if vr in _LOCALIZED else _ASCII)
    text = _NOT_CHARACTERS.sub("\ufffd", text.rstrip("\0"))
    if vr in _ONE_VALUE:
        text = text.rstrip(" ")
        return [text] if text else []
    convert = _TEXTS.get(vr, _plain)
    items = [convert(part.strip(" ")) for part in text.split("\\")]
    return [] if items == [None] else items


def inline(value: bytes) -> str:
    """InlineBinary of a value in little endian order."""
    return base64.b64encode(value).decode("ascii")


def swapped(vr: str, value: bytes) -> bytes:
    """A big endian value as InlineBinary has it, in little endian order (PS3.18 F.2.7)."""
    width = {"OW": 2, "OL": 4, "OF": 4, "OD": 8, "OV": 8}.get(vr, 1)
    whole = len(value) - len(value) % width
    words = (value[start : start + width][::-1] for start in range(0, whole, width))
    return value if width == 1 else b"".join(words)


def _binary_numbers(code: str, value: bytes, order: str) -> list[Any]:
    width = struct.calcsize(code)
    count = len(value) // width
    numbers = struct.unpack_from(f"{order}{count}{code}", value)
    if code in "fd":
        return [number if math.isfinite(number) else None for number in numbers]
    return [str(number) if abs(number) > _EXACT else number for number in numbers]


def _plain(text: str) -> str | None:
    return text or None


def _integer(text: str) -> int | str | None:
    return int(text) if _INTEGER.fullmatch(text) and len(text) <= 12 else text or None


def _decimal(text: str) -> float | str | None:
    if not _DECIMAL.fullmatch(text):
        return text or None
    number = float(text)
    return number if math.isfinite(number) else text


def _name(text: str) -> dict[str, str] | None:
    groups = {
        name: part for name, part in zip(_PN_GROUPS, text.split("="), strict=False) if part.strip()
    }
    return groups or None


_TEXTS: dict[str, Callable[[str], Any]] = {"IS": _integer, "DS": _decimal, "PN": _name}
