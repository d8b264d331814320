"""The description of one stored instance: its attributes, its bulk data, its frames."""

from __future__ import annotations

import json
import zlib
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from imaging_source.data_sets import Inflated
from imaging_source.description.dataset import DataSet, Range
from imaging_source.description.frames import Frame, encapsulated_frames, native_frames
from imaging_source.elements import Unreadable, encoding_of
from imaging_source.syntaxes import INFLATED
from imaging_source.window import Window
from storage.files import FileContent

# Preamble, "DICM" and the head of the group length, which is how all our files begin.
_GROUP_LENGTH_VALUE = 140
_META_START = 144

# A fifth of the size at 20 us for the 3 KB of a CT image; higher levels save a tenth more.
_COMPRESSION = 6

# Integer, float and double float pixels: an image has one of them.
_PIXELS = ("7FE00010", "7FE00008", "7FE00009")


@dataclass(frozen=True, slots=True)
class Description:
    """``attributes`` is the DICOM JSON object, whose BulkDataURIs are paths; ``places`` tells
    where each of them lies in the file, ``frames`` where each frame does.
    """

    attributes: dict[str, Any]
    places: dict[str, list[Range]]
    frames: tuple[Frame, ...]

    def packed(self) -> dict[str, bytes]:
        """The columns of the table ``description``."""
        where = {"places": self.places, "frames": self.frames}
        return {"attributes": _pack(self.attributes), "places": _pack(where)}


def describe(content: FileContent, transfer_syntax_uid: str, known: dict[str, Any]) -> Description:
    """Read a stored file. Raises BlobMissing, OSError where it is gone.

    Of a file that cannot be read to its end it has what came before, and what is ``known`` of the
    instance in any case. Of one that is deflated there are no places: its file has none.
    """
    if transfer_syntax_uid in INFLATED:
        return _inflated(content, transfer_syntax_uid, known)
    return _described(content, transfer_syntax_uid, known)


def _inflated(content: FileContent, transfer_syntax_uid: str, known: dict[str, Any]) -> Description:
    try:
        plain = Inflated.of(content, transfer_syntax_uid)
        found = _described(plain, INFLATED[transfer_syntax_uid], known)
    except Unreadable:
        found = Description(known, {}, ())
    return replace(found, places={}, frames=())


def _described(
    content: FileContent | Inflated, transfer_syntax_uid: str, known: dict[str, Any]
) -> Description:
    with content.open() as file:
        window = Window(file)
        start = _META_START + int.from_bytes(window.take(_GROUP_LENGTH_VALUE, 4), "little")
        data_set = DataSet(window, encoding_of(transfer_syntax_uid), start)
        with suppress(Unreadable):
            data_set.walk()
        attributes = known | data_set.attributes
        return Description(attributes, data_set.places, _frames(data_set, attributes))


def unpack_attributes(packed: bytes) -> bytes:
    """The JSON text of the column ``attributes``."""
    return zlib.decompress(packed)


def unpack_places(packed: bytes) -> tuple[dict[str, list[Range]], tuple[Frame, ...]]:
    """Places of bulk data and frames, of the column ``places``."""
    where = json.loads(zlib.decompress(packed))
    frames = tuple(tuple((start, size) for start, size in frame) for frame in where["frames"])
    places = {path: [(start, size) for start, size in ranges]
              for path, ranges in where["places"].items()}  # fmt: skip
    return places, frames


def json_text(value: object) -> bytes:
    """JSON as short as it gets, in UTF-8."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def _pack(value: object) -> bytes:
    return zlib.compress(json_text(value), _COMPRESSION)


def _frames(data_set: DataSet, attributes: dict[str, Any]) -> tuple[Frame, ...]:
    if data_set.fragments is not None:
        return encapsulated_frames(attributes, data_set.fragments, data_set.window)
    for tag in _PIXELS:
        if tag in data_set.places:
            return native_frames(attributes, data_set.places[tag][0])
    return ()
