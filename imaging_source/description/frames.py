"""Where each frame of an image lies in its file (PS3.5 8.2, A.4; PS3.3 C.7.6.3)."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import Any

from imaging_source.description.dataset import Range
from imaging_source.window import Window

Frame = tuple[Range, ...]
"""The pieces of the file that are a frame, in order."""

_END_OF_IMAGE = b"\xff\xd9"  # of JPEG, JPEG-LS and JPEG 2000 codestreams


def number_of(attributes: Mapping[str, Any], tag: str, default: int = 0) -> int:
    """The first value of a numeric attribute of a DICOM JSON object."""
    values = attributes.get(tag, {}).get("Value", ())
    return values[0] if values and isinstance(values[0], int) else default


def native_frames(attributes: Mapping[str, Any], pixels: Range) -> tuple[Frame, ...]:
    """The frames of pixel data that is not encapsulated.

    Empty where a frame does not begin at a byte (one bit a pixel), or the sizes do not fit.
    """
    samples = number_of(attributes, "00280002", 1)
    bits = number_of(attributes, "00280100") * samples
    photometric = attributes.get("00280004", {}).get("Value", [""])[0]
    if photometric == "YBR_FULL_422":  # two pixels share their colour
        bits = bits * 2 // 3
    bits *= number_of(attributes, "00280010") * number_of(attributes, "00280011")
    count, size = number_of(attributes, "00280008", 1), bits // 8
    start, length = pixels
    if bits % 8 or not 0 < size * count <= length:
        return ()
    return tuple(((start + number * size, size),) for number in range(count))


def encapsulated_frames(
    attributes: Mapping[str, Any], fragments: Sequence[Range], window: Window
) -> tuple[Frame, ...]:
    """The frames of fragments, of which the first is the Basic Offset Table.

    Told by one fragment each (which an Extended Offset Table requires), by the table, or by the
    end of each codestream; none where nothing tells them apart.
    """
    count = number_of(attributes, "00280008", 1)
    if not fragments or len(fragments) - 1 < count:
        return ()
    table, pieces = fragments[0], fragments[1:]
    if count == 1:
        return (tuple(pieces),)
    if len(pieces) == count:
        return tuple((piece,) for piece in pieces)
    offsets = _offsets(window.take(*table))
    if len(offsets) == count and (found := _grouped(pieces, offsets)):
        return found
    found = _by_codestream(pieces, window)
    return found if len(found) == count else ()


def _offsets(table: bytes) -> list[int]:
    return [offset for (offset,) in struct.iter_unpack("<I", table[: len(table) & ~3])]


def _grouped(pieces: Sequence[Range], offsets: Sequence[int]) -> tuple[Frame, ...]:
    """The fragments by the offsets of the first of each frame; none where one points elsewhere."""
    first = pieces[0][0]
    at = {start - first: number for number, (start, _) in enumerate(pieces)}
    starts = [at.get(offset, -1) for offset in offsets]
    if starts != sorted(set(starts)) or starts[0] != 0:
        return ()
    return tuple(
        tuple(pieces[start:stop])
        for start, stop in zip(starts, [*starts[1:], len(pieces)], strict=True)
    )


def _by_codestream(pieces: Sequence[Range], window: Window) -> tuple[Frame, ...]:
    found: list[Frame] = []
    frame: list[Range] = []
    for start, length in pieces:
        frame.append((start, length))
        end = window.take(start + max(0, length - 3), min(3, length))
        if end.rstrip(b"\0").endswith(_END_OF_IMAGE):  # a fragment is padded to even length
            found.append(tuple(frame))
            frame = []
    return tuple(found) if not frame else ()
