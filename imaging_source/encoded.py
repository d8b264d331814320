"""Small data sets, written by hand: identifiers, lists of references (PS3.5 7.1, 7.5)."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence

from imaging_source.elements import IMPLICIT_VR_LITTLE_ENDIAN
from manifest.encoding import element, sequence

Value = str | int | Sequence["Values"]
Values = Mapping[int, tuple[str, Value]]
"""VR and value by tag: text, a number (US), or the items of a sequence (SQ)."""

SPECIFIC_CHARACTER_SET = 0x00080005
_UTF_8 = "ISO_IR 192"

_HEAD = struct.Struct("<HHI")
_ITEM = (0xFFFE, 0xE000)


def encode(values: Values, transfer_syntax_uid: str) -> bytes:
    """A data set in Implicit or Explicit VR Little Endian; UTF-8 where ASCII is too small.

    Sequences hold UIDs and codes: what is not ASCII stands at the top.
    """
    texts = (value for _, value in values.values() if isinstance(value, str))
    if not all(text.isascii() for text in texts):
        values = {**values, SPECIFIC_CHARACTER_SET: ("CS", _UTF_8)}
    return _elements(values, implicit=transfer_syntax_uid == IMPLICIT_VR_LITTLE_ENDIAN)


def _elements(values: Values, *, implicit: bool) -> bytes:
    return b"".join(_element(tag, *values[tag], implicit=implicit) for tag in sorted(values))


def _element(tag: int, vr: str, value: Value, *, implicit: bool) -> bytes:
    if isinstance(value, str):
        return (_implicit if implicit else element)(tag, vr, value.encode())
    if isinstance(value, int):
        return (_implicit if implicit else element)(tag, vr, struct.pack("<H", value))
    items = [_elements(item, implicit=implicit) for item in value]
    if not implicit:
        return sequence(tag, items)
    return _implicit(tag, vr, b"".join(_HEAD.pack(*_ITEM, len(item)) + item for item in items))


def _implicit(tag: int, vr: str, value: bytes) -> bytes:
    if len(value) % 2:
        value += b"\0" if vr == "UI" else b" "
    return _HEAD.pack(tag >> 16, tag & 0xFFFF, len(value)) + value
