"""Lossless transcoding: the same image in another transfer syntax (PS3.5 Annex A).

What is stored stays as it came; a variant is made when somebody asks for one, frame by frame, and
its pixels are bit for bit those that the stored file decodes to. From a lossy syntax only the
decoded pixels are handed on, never a second loss. Objects without pixel data change the
encoding of their data set and nothing else. JPIP, video and deflated input are not transcoded.

This is the pure work, done in a process of ``imaging_source.workers``; ``imaging_source.variants``
keeps what was made.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import BinaryIO

import imagecodecs
import numpy as np
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset

from imaging_source import syntaxes
from imaging_source.data_sets import opened
from imaging_source.pixels import Image, Pixels, UnreadablePixels
from manifest.encoding import part10_head
from storage.files import Reference, writing

# Elements that say where frames are in the stored file (PS3.5 A.4).
_OFFSETS = ("ExtendedOffsetTable", "ExtendedOffsetTableLengths")

_ITEM = struct.Struct("<HHI")
_FRAGMENT, _DELIMITER = (0xFFFE, 0xE000), (0xFFFE, 0xE0DD)
_EXPLICIT_HEAD = struct.Struct("<HH2sHI")
_IMPLICIT_HEAD = struct.Struct("<HHI")
_PIXEL_DATA = (0x7FE0, 0x0010)
_UNDEFINED = 0xFFFFFFFF


def transcode(source: Reference, stored: str, wanted: str, target: Reference) -> None:
    """Write the Part 10 file ``source`` of syntax ``stored`` to ``target`` in syntax ``wanted``.

    Raises UnreadablePixels for what cannot be transcoded, and whatever pydicom and the decoders
    raise for bytes that are not what they should be.
    """
    with writing(target) as out:
        try:
            image = Image(source, stored)
        except UnreadablePixels:
            if stored not in syntaxes.NATIVE:
                raise
            _as_a_whole(source, stored, wanted, out)
            return
        with image:
            _with_pixels(image, wanted, out)


def _as_a_whole(source: Reference, stored: str, wanted: str, out: BinaryIO) -> None:
    """An object that is no image, or whose native pixels keep their bytes, whatever they mean."""
    with opened(source, stored) as file:
        dataset = dcmread(file, force=True)
    swapped = stored == syntaxes.EXPLICIT_VR_BIG_ENDIAN and "PixelData" in dataset
    if wanted not in syntaxes.NATIVE or swapped:
        raise UnreadablePixels("no pixels that can be transcoded")
    _begin(dataset, wanted, out)
    _Body(out, wanted).write(_encoded(dataset, wanted), last=True)


def _with_pixels(image: Image, wanted: str, out: BinaryIO) -> None:
    dataset = Dataset(image.dataset)
    for keyword in _OFFSETS:
        dataset.pop(keyword, None)
    dataset.PhotometricInterpretation = image.decoded_photometric
    if image.layout.samples > 1:
        dataset.PlanarConfiguration = 0
    _begin(dataset, wanted, out)
    body = _Body(out, wanted)
    body.write(_encoded(dataset, wanted))
    for piece in _pixel_data(image, wanted):
        body.write(piece)
    body.write(_encoded(image.after(), wanted), last=True)


def _begin(dataset: Dataset, wanted: str, out: BinaryIO) -> None:
    out.write(part10_head(str(dataset.SOPClassUID), str(dataset.SOPInstanceUID), wanted))


class _Body:
    """The data set on its way to the file, deflated where that is the syntax (PS3.5 A.5)."""

    def __init__(self, out: BinaryIO, wanted: str) -> None:
        self._out = out
        self._deflate = (
            zlib.compressobj(1, wbits=-zlib.MAX_WBITS) if wanted == syntaxes.DEFLATED else None
        )
        self._size = 0

    def write(self, data: bytes, *, last: bool = False) -> None:
        if self._deflate is not None:
            data = self._deflate.compress(data) + (self._deflate.flush() if last else b"")
        self._size += len(data)
        self._out.write(data)
        if last and self._size % 2:
            self._out.write(b"\0")


def _encoded(dataset: Dataset, wanted: str) -> bytes:
    """The elements of a data set, its meta information left out."""
    buffer = DicomBytesIO()
    buffer.is_implicit_VR = wanted == syntaxes.IMPLICIT_VR_LITTLE_ENDIAN
    buffer.is_little_endian = True
    write_dataset(buffer, dataset)
    return buffer.getvalue()


def _pixel_data(image: Image, wanted: str) -> Iterator[bytes]:
    layout = image.layout
    if wanted in syntaxes.NATIVE:
        size = layout.frames * layout.frame_bytes
        if size + 1 >= _UNDEFINED:
            raise UnreadablePixels("more pixels than a native element holds")
        yield _head(wanted, b"OB" if layout.bits == 8 else b"OW", size + size % 2)
        yield from (frame.tobytes() for frame in image.frames())
        yield b"\0" * (size % 2)
        return
    yield _head(wanted, b"OB", _UNDEFINED)
    yield _ITEM.pack(*_FRAGMENT, 0)  # no Basic Offset Table: one fragment is one frame
    for frame in image.frames():
        data = encode(frame, wanted)
        yield _ITEM.pack(*_FRAGMENT, len(data) + len(data) % 2)
        yield data
        yield b"\0" * (len(data) % 2)
    yield _ITEM.pack(*_DELIMITER, 0)


def _head(wanted: str, vr: bytes, length: int) -> bytes:
    if wanted == syntaxes.IMPLICIT_VR_LITTLE_ENDIAN:
        return _IMPLICIT_HEAD.pack(*_PIXEL_DATA, length)
    return _EXPLICIT_HEAD.pack(*_PIXEL_DATA, vr, 0, length)


def encode(frame: Pixels, wanted: str) -> bytes:
    """A frame in one of the encapsulated syntaxes that are made here.

    Colours are not transformed, so that the Photometric Interpretation stays what it is.
    """
    frame = np.ascontiguousarray(frame)
    if wanted == syntaxes.RLE_LOSSLESS:
        return _encode_rle(frame)
    if frame.itemsize > 2:
        raise UnreadablePixels("pixels of 32 bits have no lossless syntax but RLE")
    if wanted == syntaxes.JPEG_LS_LOSSLESS:  # knows no signs: PS3.5 8.2.3 leaves them to the reader
        return bytes(imagecodecs.jpegls_encode(frame.view(f"u{frame.itemsize}")))
    if frame.dtype == np.int8:
        frame = frame.view(np.uint8)
    if wanted == syntaxes.HTJ2K_LOSSLESS:
        return bytes(imagecodecs.htj2k_encode(frame, reversible=True, rgb=False))
    if wanted == syntaxes.JPEG_2000_LOSSLESS:
        made = imagecodecs.jpeg2k_encode(frame, codecformat="J2K", reversible=True, mct=False)
        return bytes(made)
    raise UnreadablePixels("a transfer syntax that is not made here")


def _encode_rle(frame: Pixels) -> bytes:
    """PS3.5 Annex G: see ``imaging_source.pixels``; each row of a plane is packed by itself."""
    rows, columns = frame.shape[:2]
    planes = frame.reshape(rows, columns, -1).view(np.uint8)  # samples and their bytes, low first
    depth = frame.itemsize
    segments = []
    for number in range(planes.shape[2]):
        sample, byte = divmod(number, depth)
        plane = planes[:, :, sample * depth + depth - 1 - byte].copy()
        data = bytes(imagecodecs.packbits_encode(plane))
        segments.append(data + b"\0" * (len(data) % 2))
    offsets, position = [], 64
    for segment in segments:
        offsets.append(position)
        position += len(segment)
    head = struct.pack("<16I", len(segments), *offsets, *([0] * (15 - len(offsets))))
    return head + b"".join(segments)
