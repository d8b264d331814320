"""A data set on disk as a DICOM JSON object (PS3.18 F.2), bulk data left out.

One walk over the file: heads and short values are read, pixel data is stepped over. Binary
values above ``INLINE_BYTES``, and values of any kind above ``VALUE_BYTES``, are left where they
are: the object has their path as BulkDataURI, ``places`` where they lie in the file. A path is
``7FE00010``, or ``00081140/2/00420011`` for an element of the second item of a sequence.

Covers the encodings of ``imaging_source.elements`` (PS3.5 7, A), sequences and items of either
length, UN that holds a sequence or a known attribute (6.2.2). Group lengths are left out, and
text is Unicode whatever it was, so that the character set becomes ISO_IR 192 (F.2.1).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import Any

from imaging_source.charset import encodings_of
from imaging_source.description.representations import representation, settled
from imaging_source.description.values import BINARY, inline, json_values, swapped
from imaging_source.elements import SHORT, Encoding, Truncated, Unreadable
from imaging_source.window import Window

Range = tuple[int, int]
"""Start in the file and length, in bytes."""

INLINE_BYTES = 1024
"""Binary values up to it are in the JSON, as base64: what costs less than a request of its own."""

VALUE_BYTES = 64 * 1024
"""No attribute that a viewer lists is larger."""

# Deeper nesting is made by nobody but whoever wants to exhaust a stack.
_DEPTH_LIMIT = 32

# Bounds what one instance can cost: an enhanced image of 10,000 frames has 400,000 elements.
_ELEMENT_LIMIT = 2_000_000

_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_UNDEFINED = 0xFFFFFFFF
_OPEN = -1
_CHARACTER_SET = 0x00080005
_PIXEL_REPRESENTATION = 0x00280103
_PIXELS = frozenset({0x7FE00008, 0x7FE00009, 0x7FE00010})
_SHORT = frozenset(vr.decode() for vr in SHORT)


@dataclass(slots=True)
class _Scope:
    """What holds for the elements of one item: how they are written and by which characters."""

    encoding: Encoding
    encodings: list[str]
    is_signed: bool = False
    creators: dict[int, str] = field(default_factory=dict)
    path: str = ""
    depth: int = 0

    def inner(self, path: str, encoding: Encoding) -> _Scope:
        """That of an item below ``path``."""
        if self.depth == _DEPTH_LIMIT:
            raise Unreadable(f"sequences are nested deeper than {_DEPTH_LIMIT}")
        return _Scope(encoding, self.encodings, self.is_signed, {}, path, self.depth + 1)


@dataclass(slots=True)
class DataSet:
    """Walks the data set that starts at ``start``; afterwards holds what was found."""

    window: Window
    encoding: Encoding
    start: int
    attributes: dict[str, Any] = field(default_factory=dict)
    places: dict[str, list[Range]] = field(default_factory=dict)
    fragments: list[Range] | None = None
    _count: int = 0

    def walk(self) -> None:
        """Fill in what the file says. Raises OSError, and Unreadable with the elements before."""
        scope = _Scope(self.encoding, encodings_of(b""))
        self._elements(self.start, self.window.size, scope, self.attributes)

    def _elements(self, position: int, end: int, scope: _Scope, found: dict[str, Any]) -> int:
        """Add the elements up to ``end``, or up to the delimiter of an item of undefined length."""
        stop = self.window.size if end == _OPEN else end
        while position < stop:
            tag, vr, start, length = self._head(position, scope)
            if tag == _ITEM_END and end == _OPEN:
                return start
            value, position = self._element(tag, vr, start, length, scope)
            if tag & 0xFFFF and tag >> 16 != 2:
                found[f"{tag:08X}"] = value
        if end == _OPEN or position != stop:
            raise Truncated(f"the data end after {position} bytes")
        return position

    def _head(self, position: int, scope: _Scope) -> tuple[int, str, int, int]:
        """Tag, VR, where the value starts and how long it is (-1: undefined)."""
        self._count += 1
        if self._count > _ELEMENT_LIMIT:
            raise Unreadable(f"more than {_ELEMENT_LIMIT} elements")
        data, encoding = self.window.take(position, 12), scope.encoding
        try:
            group, number, length = encoding.implicit_head(data)
            tag = group << 16 | number
            if group == 0xFFFE or not encoding.explicit:
                vr = "" if group == 0xFFFE else self._known(tag, scope)
                return tag, vr, position + 8, _OPEN if length == _UNDEFINED else length
            _, _, raw, length = encoding.explicit_head(data)
            vr = raw.decode("latin-1")
            if vr in _SHORT:
                return tag, vr, position + 8, length
            if not vr.isalpha() or not vr.isupper():
                raise Unreadable(f"{tag:08X} has no value representation")
            (length,) = encoding.long_length(data, 8)
        except struct.error:
            raise Truncated("the data end inside the head of an element") from None
        return tag, vr, position + 12, _OPEN if length == _UNDEFINED else length

    def _known(self, tag: int, scope: _Scope) -> str:
        creator = scope.creators.get(tag >> 8, "") if tag >> 16 & 1 else ""
        return settled(representation(tag, creator), scope.is_signed)

    def _element(
        self, tag: int, vr: str, start: int, length: int, scope: _Scope
    ) -> tuple[dict[str, Any], int]:
        """The JSON of an element, and where the next one begins."""
        if vr == "UN" and (not tag >> 16 & 1 or _is_creator(tag)):
            vr = self._known(tag, scope)
        if length == _OPEN and tag in _PIXELS:
            return self._encapsulated(tag, vr, start, scope)
        if vr == "SQ" or length == _OPEN:
            # UN of undefined length is a sequence in implicit VR (PS3.5 6.2.2).
            return self._sequence(f"{scope.path}{tag:08X}", start, length, scope, vr != "SQ")
        if start + length > self.window.size:
            raise Truncated(f"{tag:08X} is longer than the file")
        stop = start + length
        if tag in _PIXELS or length > (INLINE_BYTES if vr in BINARY else VALUE_BYTES):
            return self._bulk(tag, vr, [(start, length)], scope), stop
        return self._short(tag, vr, self.window.take(start, length), scope), stop

    def _short(self, tag: int, vr: str, value: bytes, scope: _Scope) -> dict[str, Any]:
        if vr in BINARY:
            if scope.encoding is Encoding.BIG_ENDIAN:
                value = swapped(vr, value)
            return {"vr": vr, "InlineBinary": inline(value)} if value else {"vr": vr}
        order = ">" if scope.encoding is Encoding.BIG_ENDIAN else "<"
        values = json_values(vr, value, order, scope.encodings)
        self._remember(tag, value, values, scope)
        if tag == _CHARACTER_SET and values:
            values = ["ISO_IR 192"]
        return {"vr": vr, "Value": values} if values else {"vr": vr}

    def _remember(self, tag: int, value: bytes, values: list[Any], scope: _Scope) -> None:
        """Keep what tells how later elements are to be read."""
        if tag == _CHARACTER_SET:
            scope.encodings = encodings_of(value)
        elif tag == _PIXEL_REPRESENTATION:
            scope.is_signed = values == [1]
        elif _is_creator(tag) and values:
            scope.creators[(tag >> 16) << 8 | tag & 0xFF] = str(values[0])

    def _bulk(self, tag: int, vr: str, ranges: list[Range], scope: _Scope) -> dict[str, Any]:
        path = f"{scope.path}{tag:08X}"
        self.places[path] = ranges
        return {"vr": vr, "BulkDataURI": path}

    def _sequence(
        self, path: str, start: int, length: int, scope: _Scope, is_unknown: bool
    ) -> tuple[dict[str, Any], int]:
        encoding = Encoding.IMPLICIT if is_unknown else scope.encoding
        end = self.window.size if length == _OPEN else start + length
        items: list[dict[str, Any]] = []
        while start < end:
            inner = scope.inner(f"{path}/{len(items) + 1}/", encoding)
            tag, _, start, size = self._head(start, inner)
            if tag == _SEQUENCE_END and length == _OPEN:
                return _items(items), start
            if tag != _ITEM:
                raise Unreadable(f"{tag:08X} stands where an item of a sequence should")
            if size:
                inner.encoding = self._written(start, encoding)
            items.append({})
            stop = _OPEN if size == _OPEN else start + size
            start = self._elements(start, stop, inner, items[-1])
        if length == _OPEN or start != end:
            raise Truncated("a sequence does not end")
        return _items(items), start

    def _written(self, start: int, encoding: Encoding) -> Encoding:
        """How the first element of an item is written: some write implicit VR in explicit."""
        group, vr = self.window.take(start, 2), self.window.take(start + 4, 2)
        is_plain = (vr.isalpha() and vr.isupper()) or group == b"\xfe\xff"
        return encoding if is_plain or encoding is Encoding.BIG_ENDIAN else Encoding.IMPLICIT

    def _encapsulated(
        self, tag: int, vr: str, start: int, scope: _Scope
    ) -> tuple[dict[str, Any], int]:
        """Pixel data in fragments (PS3.5 A.4): where each lies, the offset table first."""
        ranges: list[Range] = []
        while True:
            head, _, start, length = self._head(start, scope)
            if head == _SEQUENCE_END:
                break
            if head != _ITEM or length == _OPEN or start + length > self.window.size:
                raise Unreadable("the fragments of the pixel data are broken")
            ranges.append((start, length))
            start += length
        if not scope.depth:
            self.fragments = ranges
        return self._bulk(tag, vr, ranges[1:], scope), start


def _is_creator(tag: int) -> bool:
    """Whether the element reserves a block of private elements (PS3.5 7.8.1)."""
    return bool(tag >> 16 & 1) and 0x10 <= tag & 0xFFFF <= 0xFF


def _items(items: list[dict[str, Any]]) -> dict[str, Any]:
    return {"vr": "SQ", "Value": items} if items else {"vr": "SQ"}
