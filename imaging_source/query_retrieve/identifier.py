"""The identifiers of queries: data sets of a few keys, read and written (PS3.4 C.4.1.1.3)."""

from __future__ import annotations

import struct
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from imaging_source.charset import decode, encodings_of
from imaging_source.elements import IMPLICIT_VR_LITTLE_ENDIAN, Elements, encoding_of
from imaging_source.query_retrieve.models import (
    QUERY_RETRIEVE_LEVEL,
    SPECIFIC_CHARACTER_SET,
    Level,
)
from imaging_source.service import NOT_OF_THE_CLASS, Refused
from manifest.encoding import element

_IMPLICIT_HEAD = struct.Struct("<HHI")
_UTF_8 = "ISO_IR 192"


@dataclass(frozen=True, slots=True)
class Identifier:
    """What is asked: the level, and the keys that were named with their values, or with none."""

    level: Level
    keys: Mapping[int, str]

    def values(self, tag: int) -> list[str]:
        """The values of a key, none if it is empty or not there."""
        text = self.keys.get(tag, "")
        return [value for value in (one.strip(" ") for one in text.split("\\")) if value]


def read_identifier(
    data: bytes, transfer_syntax_uid: str, known: Collection[int], top: Level
) -> Identifier:
    """The identifier in ``data``, with those of its keys that are ``known``.

    Raises Refused for a level that the model, which begins at ``top``, does not have, and
    Unreadable for bytes that are no data set.
    """
    elements = Elements(data, encoding_of(transfer_syntax_uid))
    found = elements.find({*known, SPECIFIC_CHARACTER_SET, QUERY_RETRIEVE_LEVEL})
    texts = {tag: data[start:stop] for tag, (start, stop) in found.items()}
    encodings = encodings_of(texts.pop(SPECIFIC_CHARACTER_SET, b""))
    named = decode(texts.pop(QUERY_RETRIEVE_LEVEL, b""), ["ascii"])
    level = Level.__members__.get(named)
    if level is None or level < top:
        raise Refused(NOT_OF_THE_CLASS, "Query/Retrieve Level (0008,0052) is not of the model")
    return Identifier(level, {tag: decode(text, encodings) for tag, text in texts.items()})


def write_elements(values: Mapping[int, tuple[str, str]], transfer_syntax_uid: str) -> bytes:
    """A data set of text elements, given as VR and value by tag; UTF-8 where ASCII is too small."""
    if not all(text.isascii() for _, text in values.values()):
        values = {**values, SPECIFIC_CHARACTER_SET: ("CS", _UTF_8)}
    implicit = transfer_syntax_uid == IMPLICIT_VR_LITTLE_ENDIAN
    write = _implicit if implicit else element
    return b"".join(write(tag, vr, text.encode()) for tag, (vr, text) in sorted(values.items()))


def _implicit(tag: int, vr: str, value: bytes) -> bytes:
    if len(value) % 2:
        value += b"\0" if vr == "UI" else b" "
    return _IMPLICIT_HEAD.pack(tag >> 16, tag & 0xFFFF, len(value)) + value
