"""What a DICOM file says it is, and whether it is whole.

Reads File Meta Information and top-level elements of any native data set (PS3.10 7.1, PS3.5 7.1,
A.1 to A.5) and walks on to the last one, so that a file that ends too early is known as such: in
the middle of an element, or before the pixels of an image. Values are not decoded, pixels not
looked at. Works on a mapped file: a value that is stepped over is never read, whatever its size.
"""

from __future__ import annotations

import mmap
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from consumer.report import Fault

IMPLICIT_LITTLE_ENDIAN = "1.2.840.10008.1.2"
EXPLICIT_BIG_ENDIAN = "1.2.840.10008.1.2.2"
DEFLATED = "1.2.840.10008.1.2.1.99"

# PS3.10 7.1: a preamble of 128 bytes, then the magic word.
_META_AT = 132
_UNDEFINED = 0xFFFFFFFF
# VRs whose length has four bytes after two reserved ones (PS3.5 7.1.2).
_LONG = frozenset((b"OB OD OF OL OV OW SQ SV UC UN UR UT UV").split())
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_META_CLASS, _META_INSTANCE, _META_SYNTAX = 0x00020002, 0x00020003, 0x00020010
_CLASS, _INSTANCE, _STUDY, _SERIES = 0x00080016, 0x00080018, 0x0020000D, 0x0020000E
_ROWS = 0x00280010
# Pixel Data, Float and Double Float Pixel Data, and where they are had instead (PS3.3 C.7.6.3).
_PIXELS = frozenset((0x7FE00010, 0x7FE00008, 0x7FE00009, 0x00287FE0))
_NAMING = frozenset((_CLASS, _INSTANCE, _STUDY, _SERIES))
_META = frozenset((_META_CLASS, _META_INSTANCE, _META_SYNTAX))
# Deeper than any standard module nests; a hostile file goes on for ever.
_DEEPEST = 64
# What a deflated data set may unfold to; reports and waveforms are what is deflated, not CT.
_INFLATED_BYTES = 256 * 1024 * 1024

Bytes = bytes | mmap.mmap


class NotWhole(Exception):
    """The file is no DICOM instance, or only part of one; ``fault`` says which."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.value)
        self.fault = fault


@dataclass(frozen=True, slots=True)
class Identity:
    """What an instance says of itself: in its data set, and in its meta information."""

    sop_class_uid: str
    sop_instance_uid: str
    study_instance_uid: str
    series_instance_uid: str
    transfer_syntax_uid: str
    meta_instance_uid: str


class _Encoding(NamedTuple):
    explicit: bool
    order: str


_META_ENCODING = _Encoding(explicit=True, order="<")
_IMPLICIT = _Encoding(explicit=False, order="<")


class _Element(NamedTuple):
    tag: int
    vr: bytes
    start: int
    length: int


def identify(path: Path) -> Identity:
    """What the file at ``path`` is. Raises NotWhole, and OSError when it cannot be read."""
    with path.open("rb") as file:
        if path.stat().st_size <= _META_AT:
            raise NotWhole(Fault.NOT_DICOM)
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return _identify(data)


def _identify(data: mmap.mmap) -> Identity:
    if data[128:_META_AT] != b"DICM":
        raise NotWhole(Fault.NOT_DICOM)
    meta, start = _meta(data)
    syntax = meta.get(_META_SYNTAX, "")
    body: Bytes = data
    if syntax == DEFLATED:
        body, start = _inflated(data, start), 0
    elif syntax == "":
        raise NotWhole(Fault.NOT_DICOM)
    elements = {one.tag: one for one in _elements(body, start, _encoding_of(syntax))}
    if _INSTANCE not in elements:
        raise NotWhole(Fault.NOT_DICOM)
    if _ROWS in elements and _PIXELS.isdisjoint(elements):
        raise NotWhole(Fault.TRUNCATED)
    named = {tag: _text(body, elements[tag]) for tag in _NAMING & elements.keys()}
    return Identity(
        named.get(_CLASS, ""),
        named[_INSTANCE],
        named.get(_STUDY, ""),
        named.get(_SERIES, ""),
        syntax,
        meta.get(_META_INSTANCE, ""),
    )


def _meta(data: Bytes) -> tuple[dict[int, str], int]:
    """Group 0002, and where it ends."""
    found: dict[int, str] = {}
    position = _META_AT
    while data[position : position + 2] == b"\x02\x00":
        element = _element(data, position, _META_ENCODING)
        position = _end(data, element, _META_ENCODING)
        if element.tag in _META:
            found[element.tag] = _text(data, element)
    return found, position


def _encoding_of(syntax: str) -> _Encoding:
    big = syntax == EXPLICIT_BIG_ENDIAN
    return _Encoding(syntax != IMPLICIT_LITTLE_ENDIAN, ">" if big else "<")


def _inflated(data: mmap.mmap, start: int) -> bytes:
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        body = inflater.decompress(data[start:], _INFLATED_BYTES)
    except zlib.error:
        raise NotWhole(Fault.TRUNCATED) from None
    if not inflater.eof:
        raise NotWhole(Fault.TRUNCATED)
    return body


def _elements(data: Bytes, position: int, encoding: _Encoding) -> Iterator[_Element]:
    """The top-level elements; each is known to end within the file."""
    size = len(data)
    while position + 8 <= size:
        element = _element(data, position, encoding)
        position = _end(data, element, encoding)
        yield element
    # Some devices fill up with zeros; anything else is the beginning of an element.
    if any(data[position:size]):
        raise NotWhole(Fault.TRUNCATED)


def _element(data: Bytes, position: int, encoding: _Encoding) -> _Element:
    try:
        group, number = struct.unpack_from(encoding.order + "HH", data, position)
        tag = group << 16 | number
        if not encoding.explicit or group == 0xFFFE:
            (length,) = struct.unpack_from(encoding.order + "L", data, position + 4)
            return _Element(tag, b"", position + 8, length)
        vr = data[position + 4 : position + 6]
        if vr in _LONG:
            (length,) = struct.unpack_from(encoding.order + "L", data, position + 8)
            return _Element(tag, vr, position + 12, length)
        (length,) = struct.unpack_from(encoding.order + "H", data, position + 6)
        return _Element(tag, vr, position + 8, length)
    except struct.error:
        raise NotWhole(Fault.TRUNCATED) from None


def _end(data: Bytes, element: _Element, encoding: _Encoding) -> int:
    """Where the element ends. Raises NotWhole when that is beyond the file."""
    if element.length == _UNDEFINED:
        return _end_of_items(data, element, encoding)
    end = element.start + element.length
    if end > len(data):
        raise NotWhole(Fault.TRUNCATED)
    return end


def _end_of_items(data: Bytes, opening: _Element, encoding: _Encoding) -> int:
    """Where a sequence, or encapsulated pixels, of undefined length end.

    A UN of undefined length is encoded implicitly, whatever is around it (PS3.5 6.2.2).
    """
    open_ = [_within(opening, encoding)]
    position = opening.start
    while open_:
        element = _element(data, position, open_[-1])
        if element.tag in (_ITEM_END, _SEQUENCE_END):
            open_.pop()
            position = element.start
        elif element.length != _UNDEFINED:
            position = _end(data, element, open_[-1])
        elif len(open_) == _DEEPEST:
            raise NotWhole(Fault.NOT_DICOM)
        else:
            open_.append(_within(element, open_[-1]))
            position = element.start
    return position


def _within(element: _Element, encoding: _Encoding) -> _Encoding:
    return _IMPLICIT if element.vr == b"UN" else encoding


def _text(data: Bytes, element: _Element) -> str:
    value = data[element.start : element.start + element.length]
    return value.decode("ascii", "replace").rstrip("\0 ")
