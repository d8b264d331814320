"""The identifiers of queries: data sets of a few keys (PS3.4 C.4.1.1.3)."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from imaging_source.charset import decode, encodings_of
from imaging_source.elements import Elements, encoding_of
from imaging_source.encoded import SPECIFIC_CHARACTER_SET
from imaging_source.query_retrieve.models import QUERY_RETRIEVE_LEVEL, Level
from imaging_source.service import NOT_OF_THE_CLASS, Refused


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
