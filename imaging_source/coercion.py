"""Coercion on the way out: images say what is known of their patient now.

Covers PIR (RAD TF-2 4.12) with the Original Attributes Sequence of PS3.3 C.12.1.1.9: the elements
of the Patient Module that were corrected are written anew, those that were there go into the
sequence, and everything else leaves as it was received. The file is never written to, and is
streamed: only the elements before the pixel data are looked at.

New text is written in the character set of the image. Where it has none, text that needs one makes
the image UTF-8; where it has one that lacks a letter, the letter is written without its accent,
or as a question mark.
"""

from __future__ import annotations

import struct
import unicodedata
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime

from pydicom.charset import handled_encodings

from imaging_source.charset import decode, encodings_of
from imaging_source.corrections import Correction
from imaging_source.data_sets import Deflated, Inflated
from imaging_source.elements import Elements, Encoding, Truncated, Unreadable, encoding_of
from imaging_source.header import HEADER_LIMIT_BYTES
from imaging_source.syntaxes import INFLATED
from soap.message import Piece, read
from storage.files import FileContent, Reference

_CHARACTER_SET = 0x00080005
_ORIGINAL_ATTRIBUTES = 0x04000561

# Name, identifier, birth date and sex (PS3.3 C.7.1.1).
_PATIENT = {0x00100010: "PN", 0x00100020: "LO", 0x00100030: "DA", 0x00100040: "CS"}

SYSTEM, REASON = "KOSMOS", "COERCE"
"""The system that modifies and why, as it is told to whoever receives an image."""

# Where a Part 10 file says how long its meta information is: 128 + "DICM" + (0002,0000).
_GROUP_LENGTH_AT = 140

# Holds what comes before the pixels of nearly every image.
_BEGINNING_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Coerced:
    """An image as it is to leave: ``pieces`` are new bytes, or places in the file."""

    content: FileContent | Inflated
    size: int
    pieces: tuple[bytes | tuple[int, int], ...]

    def chunks(self) -> Iterator[bytes]:
        """The bytes, in pieces of at most 256 KiB. Raises as ``FileContent.chunks`` does."""
        return read(self.stretches())

    def stretches(self, ranges: Iterable[tuple[int, int]] | None = None) -> Iterator[Piece]:
        """The bytes of these ranges (start, length), else all: see ``FileContent.stretches``."""
        for start, length in [(0, self.size)] if ranges is None else ranges:
            yield from self._between(start, start + length)

    def _between(self, start: int, stop: int) -> Iterator[Piece]:
        position = 0  # where a piece begins
        for piece in self.pieces:
            size = _size(piece)
            low, high = max(start - position, 0), min(stop - position, size)
            position += size
            if low >= high:
                continue
            if isinstance(piece, bytes):
                yield piece[low:high]
            else:
                yield from self.content.stretches([(piece[0] + low, high - low)])

    def reference(self) -> Reference:
        """What leads another process to the file as it is stored."""
        return self.content.reference()


def modified_at(correction: Correction) -> str:
    """When it was corrected, as a DT."""
    return datetime.fromtimestamp(correction.corrected_at, UTC).strftime("%Y%m%d%H%M%S+0000")


Leaving = FileContent | Coerced | Deflated
"""What leaves of a stored file: itself, or with what was corrected."""


def coerced(
    correction: Correction | None, content: FileContent, transfer_syntax_uid: str
) -> Leaving:
    """``content``, a Part 10 file, with what ``correction`` says; itself where it says so already.

    Raises Unreadable for a file that is not what it was when it was taken in.
    """
    if correction is None:
        return content
    if transfer_syntax_uid not in INFLATED:
        return _corrected(correction, content, transfer_syntax_uid) or content
    plain = Inflated.of(content, transfer_syntax_uid)
    corrected = _corrected(correction, plain, INFLATED[transfer_syntax_uid])
    return Deflated.of(corrected, content) if corrected is not None else content


def _corrected(
    correction: Correction, content: FileContent | Inflated, transfer_syntax_uid: str
) -> Coerced | None:
    """``content`` with what is corrected; None where it says so already."""
    changes = _changes(content, transfer_syntax_uid, correction)
    if not changes:
        return None
    edges = [0, *(edge for start, stop, _ in changes for edge in (start, stop)), content.size]
    kept = [(edges[n], edges[n + 1]) for n in range(0, len(edges), 2)]
    pieces: list[bytes | tuple[int, int]] = [kept[0]]
    for (_, _, new), rest in zip(changes, kept[1:], strict=True):
        pieces += (new, rest)
    return Coerced(content, sum(map(_size, pieces)), tuple(pieces))


def _size(piece: bytes | tuple[int, int]) -> int:
    return len(piece) if isinstance(piece, bytes) else piece[1] - piece[0]


def _changes(
    content: FileContent | Inflated, transfer_syntax_uid: str, correction: Correction
) -> list[tuple[int, int, bytes]]:
    """What to write in place of which bytes: the beginning of nearly every file tells."""
    with content.open() as file:
        for length in (_BEGINNING_BYTES, HEADER_LIMIT_BYTES, content.size):
            data = file.at(0, length)
            with suppress(Truncated):
                image = _Image(data, transfer_syntax_uid, more=len(data) < content.size)
                return image.changes(correction)
    raise Unreadable("the file ends inside an element")


@dataclass(frozen=True, slots=True)
class _Place:
    """An element of the data set; one that is absent is empty, where it would stand."""

    start: int
    value: int
    stop: int


class _Image:
    """The beginning of a Part 10 file, and where its elements are."""

    def __init__(self, data: bytes, transfer_syntax_uid: str, more: bool) -> None:
        if data[128:132] != b"DICM":
            raise Unreadable("not a Part 10 file")
        (length,) = struct.unpack_from("<I", data, _GROUP_LENGTH_AT)
        start = _GROUP_LENGTH_AT + struct.calcsize("<I") + length
        self._data = data
        self._encoding = encoding_of(transfer_syntax_uid)
        self._elements = Elements(data, self._encoding, start, more=more)
        self._walked = list(self._elements.walk(_ORIGINAL_ATTRIBUTES))
        self._character_set = self._value(_CHARACTER_SET)

    def changes(self, correction: Correction) -> list[tuple[int, int, bytes]]:
        """What to write in place of which bytes, in the order of the file."""
        stated = (
            correction.patient_name,
            correction.patient_id,
            correction.birth_date,
            correction.sex,
        )
        encodings = encodings_of(self._character_set)
        different = {
            tag: text
            for tag, text in zip(_PATIENT, stated, strict=True)
            if text is not None and decode(self._value(tag), encodings) != text
        }
        if not different:
            return []
        new = [] if self._can_write("".join(different.values())) else [self._as_utf_8()]
        new += [self._replaced(tag, text) for tag, text in different.items()]
        return [*new, self._original(list(different), correction)]

    def _value(self, tag: int) -> bytes:
        place = self._place(tag)
        return self._data[place.value : place.stop]

    def _place(self, tag: int) -> _Place:
        for other, start, value, stop in self._walked:
            if other == tag:
                return _Place(start, value, stop)
            if other > tag:
                return _Place(start, start, start)
        end = len(self._data)
        return _Place(end, end, end)

    def _can_write(self, text: str) -> bool:
        return bool(self._character_set.strip(b"\0 ")) or text.isascii()

    def _as_utf_8(self) -> tuple[int, int, bytes]:
        """A data set without character set holds ASCII, which UTF-8 holds too (PS3.5 6.1.2.3)."""
        self._character_set = b"ISO_IR 192"
        return self._instead(_CHARACTER_SET, "CS", self._character_set)

    def _replaced(self, tag: int, text: str) -> tuple[int, int, bytes]:
        return self._instead(tag, _PATIENT[tag], _encoded(text, self._character_set))

    def _instead(self, tag: int, vr: str, value: bytes) -> tuple[int, int, bytes]:
        place = self._place(tag)
        return place.start, place.stop, _element(self._encoding, tag, vr, value)

    def _original(self, tags: list[int], correction: Correction) -> tuple[int, int, bytes]:
        """The Original Attributes Sequence with one item more: what there was before."""
        write = self._encoding
        item = b"".join(
            (
                _element(write, 0x04000550, "SQ", _item(write, self._before(tags))),
                _element(write, 0x04000562, "DT", modified_at(correction).encode()),
                _element(write, 0x04000563, "LO", SYSTEM.encode()),
                _element(write, 0x04000564, "LO", b""),
                _element(write, 0x04000565, "CS", REASON.encode()),
            )
        )
        items = self._items() + _item(write, item)
        return self._instead(_ORIGINAL_ATTRIBUTES, "SQ", items)

    def _before(self, tags: list[int]) -> bytes:
        """The elements as they are in the file; empty where there were none."""
        found = []
        for tag in tags:
            place = self._place(tag)
            empty = _element(self._encoding, tag, _PATIENT[tag], b"")
            found.append(self._data[place.start : place.stop] or empty)
        return b"".join(found)

    def _items(self) -> bytes:
        """The items that the sequence has already, in the encoding of the file."""
        place = self._place(_ORIGINAL_ATTRIBUTES)
        value = self._data[place.value : place.stop]
        order = self._encoding.value[0]
        delimiter = struct.pack(f"{order}HHI", 0xFFFE, 0xE0DD, 0)
        return value.removesuffix(delimiter)


def _encoded(text: str, character_set: bytes) -> bytes:
    """``text`` in the first codec that can, else without what it cannot."""
    first, *others = encodings_of(character_set)
    # These codecs write the escape sequences themselves (PS3.5 6.1.2.5).
    for codec in (first, *(one for one in others if one in handled_encodings)):
        try:
            return text.encode(codec)
        except UnicodeEncodeError:
            continue
    plain = unicodedata.normalize("NFKD", text)
    return "".join(one for one in plain if not unicodedata.combining(one)).encode(
        "ascii", "replace"
    )


def _element(encoding: Encoding, tag: int, vr: str, value: bytes) -> bytes:
    """One element in the encoding of the file, padded to an even length."""
    order = encoding.value[0]
    value += b" " * (len(value) % 2)
    group, number = tag >> 16, tag & 0xFFFF
    if not encoding.explicit:
        return struct.pack(f"{order}HHI", group, number, len(value)) + value
    if vr == "SQ":
        return struct.pack(f"{order}HH2sHI", group, number, b"SQ", 0, len(value)) + value
    return struct.pack(f"{order}HH2sH", group, number, vr.encode(), len(value)) + value


def _item(encoding: Encoding, content: bytes) -> bytes:
    return struct.pack(f"{encoding.value[0]}HHI", 0xFFFE, 0xE000, len(content)) + content
