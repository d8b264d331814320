"""The frames of a stored image, one at a time: what rendering and transcoding read.

Covers the encodings of pixel data of PS3.5 8 and Annex A: native in any byte order, RLE, JPEG,
JPEG-LS, JPEG 2000 and HTJ2K. A frame is decoded only when its own head says what the data set
says of it, so that a few bytes cannot ask for gigabytes. One frame is held at a time. Decoders
are written in C and the bytes come from anybody: call this in a process of its own
(``imaging_source.workers``).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.encaps import generate_frames, get_frame
from pydicom.filereader import read_dataset

from imaging_source import syntaxes
from imaging_source.data_sets import opened
from storage.files import Reference

Pixels = NDArray[Any]

# Memory that one frame may take decoded: a mammogram of 16 bits has 60 MB, a tile far less.
FRAME_LIMIT_BYTES = 1024 * 1024 * 1024

_LONG_HEAD = struct.Struct("<HH2xxI")
_PIXEL_DATA = (0x7FE0, 0x0010)
_UNDEFINED = 0xFFFFFFFF

# Markers of JPEG and JPEG-LS: those of a frame's head (SOF, without DHT, JPG and DAC), and those
# that have no length.
_FRAME_HEADS = (frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}) | {0xF7}
_BARE = frozenset(range(0xD0, 0xDA)) | {0x01}
_SOF = struct.Struct(">BHHB")
_SIZ = struct.Struct(">IIII")
# SOC and SIZ, which begin a codestream; what a JP2 file has before it fits into this.
_CODESTREAM, _BOX_BYTES = b"\xff\x4f\xff\x51", 4096


class UnreadablePixels(Exception):
    """The pixel data are not what the data set says, or of a kind that is not read here."""


@dataclass(frozen=True, slots=True)
class Layout:
    """How the pixels are laid out (PS3.3 C.7.6.3)."""

    rows: int
    columns: int
    samples: int
    bits: int
    """Bits Allocated."""
    signed: bool
    planar: bool
    """Whether native frames have one colour after the other."""
    photometric: str
    frames: int

    @classmethod
    def of(cls, dataset: Dataset) -> Layout:
        """The layout that the data set tells. Raises UnreadablePixels."""
        layout = cls(
            rows=int(dataset.get("Rows", 0)),
            columns=int(dataset.get("Columns", 0)),
            samples=int(dataset.get("SamplesPerPixel", 1)),
            bits=int(dataset.get("BitsAllocated", 0)),
            signed=dataset.get("PixelRepresentation", 0) == 1,
            planar=dataset.get("PlanarConfiguration", 0) == 1,
            photometric=str(dataset.get("PhotometricInterpretation", "")),
            frames=int(dataset.get("NumberOfFrames", 1) or 1),
        )
        layout._check()
        return layout

    def _check(self) -> None:
        if self.rows <= 0 or self.columns <= 0 or self.frames <= 0 or self.samples not in (1, 3):
            raise UnreadablePixels("an image without rows, columns or frames")
        if self.bits not in (8, 16, 32) or ("422" in self.photometric and self.samples != 3):
            raise UnreadablePixels(f"pixels of {self.bits} bits are not read here")
        if self.frame_bytes > FRAME_LIMIT_BYTES:
            raise UnreadablePixels("a frame larger than what is decoded here")

    @property
    def frame_bytes(self) -> int:
        """Bytes of a native frame."""
        return self.rows * self.columns * self.samples * self.bits // 8

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of a frame as an array: colours last."""
        return (self.rows, self.columns) + ((self.samples,) if self.samples > 1 else ())

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of a pixel."""
        return np.dtype(f"<{'i' if self.signed else 'u'}{self.bits // 8}")


class Image:
    """A Part 10 file with pixel data; use as a context manager.

    ``dataset`` is everything before the pixel data. Raises UnreadablePixels where there are none
    that can be read, and whatever pydicom raises for a file that is none.
    """

    def __init__(self, source: Path | Reference, syntax: str) -> None:
        self._file = opened(source, syntax)
        try:
            self.dataset = dcmread(self._file, stop_before_pixels=True, force=True)
            self.syntax = syntax
            self.layout = Layout.of(self.dataset)
            self._find_pixels()
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._file.close()

    @property
    def decoded_photometric(self) -> str:
        """The Photometric Interpretation of decoded frames: decoders undo colour transforms."""
        undone = ("YBR_RCT", "YBR_ICT", "YBR_FULL_422")
        if self.syntax in syntaxes.JPEG_LOSSY and self.layout.samples > 1:
            return "RGB"
        return "RGB" if self.layout.photometric in undone else self.layout.photometric

    def frame(self, index: int) -> Pixels:
        """Frame ``index`` from 0, decoded. Raises UnreadablePixels, IndexError."""
        if not 0 <= index < self.layout.frames:
            raise IndexError(index)
        if self._encapsulated:
            self._file.seek(self._start)
            data = get_frame(
                self._file,
                index,
                number_of_frames=self.layout.frames,
                extended_offsets=self._extended_offsets(),
            )
            return self._decode(data)
        return self._native(index)

    def frames(self) -> Iterator[Pixels]:
        """Every frame in turn, decoded."""
        if not self._encapsulated:
            yield from map(self._native, range(self.layout.frames))
            return
        self._file.seek(self._start)
        made = 0
        for data in generate_frames(
            self._file,
            number_of_frames=self.layout.frames,
            extended_offsets=self._extended_offsets(),
        ):
            made += 1
            yield self._decode(data)
        if made != self.layout.frames:
            raise UnreadablePixels(f"{made} frames of {self.layout.frames}")

    def after(self) -> Dataset:
        """The elements behind the pixel data of a native image; there are hardly ever any."""
        if self._encapsulated:
            return Dataset()
        self._file.seek(self._start + self._length)
        implicit = self.syntax == syntaxes.IMPLICIT_VR_LITTLE_ENDIAN
        return read_dataset(self._file, implicit, self.syntax != syntaxes.EXPLICIT_VR_BIG_ENDIAN)

    def _find_pixels(self) -> None:
        """Where the value of (7FE0,0010) is; the file stands before its tag."""
        order = ">" if self.syntax == syntaxes.EXPLICIT_VR_BIG_ENDIAN else "<"
        implicit = self.syntax == syntaxes.IMPLICIT_VR_LITTLE_ENDIAN
        head = struct.Struct(f"{order}HHI" if implicit else f"{order}HH2s2xI")
        data = self._file.read(head.size)
        found = head.unpack(data) if len(data) == head.size else (0, 0, 0)
        if found[:2] != _PIXEL_DATA:
            raise UnreadablePixels("no pixel data")
        self._start, self._length = self._file.tell(), found[-1]
        self._words = implicit or found[2] == b"OW"
        self._encapsulated = self.syntax not in syntaxes.NATIVE
        if self._encapsulated != (self._length == _UNDEFINED):
            raise UnreadablePixels("pixel data of another encoding than announced")
        if not self._encapsulated and self._length < self.layout.frames * self.layout.frame_bytes:
            raise UnreadablePixels("fewer pixels than announced")

    def _extended_offsets(self) -> tuple[bytes, bytes] | None:
        offsets = self.dataset.get("ExtendedOffsetTable")
        lengths = self.dataset.get("ExtendedOffsetTableLengths")
        return (offsets, lengths) if offsets and lengths else None

    def _native(self, index: int) -> Pixels:
        layout = self.layout
        array: Pixels = np.frombuffer(self._native_bytes(index), dtype=layout.dtype)
        if layout.planar and layout.samples > 1:
            planes = array.reshape(layout.samples, layout.rows, layout.columns)
            # Copied: encoders take the strides as they find them, odd ones of thin frames too.
            return planes.transpose(1, 2, 0).copy()
        return array.reshape(layout.shape)

    def _native_bytes(self, index: int) -> bytes:
        """A native frame, low bytes first."""
        size = self.layout.frame_bytes
        start = index * size
        swapped = self.layout.bits // 8 if self.layout.bits > 8 else 2 if self._words else 1
        if self.syntax != syntaxes.EXPLICIT_VR_BIG_ENDIAN or swapped == 1:
            return self._read(start, size)
        first = start - start % swapped  # frames of odd length begin inside a word
        whole = self._read(first, -(-(start + size - first) // swapped) * swapped)
        words = np.frombuffer(whole, f"u{swapped}").byteswap().tobytes()
        return words[start - first :][:size]

    def _read(self, start: int, size: int) -> bytes:
        self._file.seek(self._start + start)
        data = self._file.read(size)
        if len(data) != size:
            raise UnreadablePixels("the file ends inside its pixels")
        return data

    def _decode(self, data: bytes) -> Pixels:
        if self.syntax == syntaxes.RLE_LOSSLESS:
            return _decode_rle(data, self.layout)
        if self.syntax in syntaxes.JPEG_2000:  # some wrap the codestream into a JP2 box
            data = data[max(0, data.find(_CODESTREAM, 0, _BOX_BYTES)) :]
        bits = _declared_bits(data, self.layout, is_j2k=self.syntax in syntaxes.JPEG_2000)
        decoded = self._decoder(data)
        if decoded.shape != self.layout.shape:
            raise UnreadablePixels("a frame of another shape than announced")
        return _as_announced(decoded, self.layout, bits)

    def _decoder(self, data: bytes) -> Pixels:
        if self.syntax in syntaxes.JPEG_LS:
            decoded: Pixels = imagecodecs.jpegls_decode(data)
        elif self.syntax in syntaxes.HTJ2K:
            # Otherwise colours that were not transformed come one after the other.
            planar = False if self.layout.samples > 1 else None
            decoded = imagecodecs.htj2k_decode(data, planar=planar)
        elif self.syntax in syntaxes.JPEG_2000:
            decoded = imagecodecs.jpeg2k_decode(data)
        elif self.syntax in syntaxes.JPEG_LOSSY and self.layout.samples > 1:
            space = "RGB" if self.layout.photometric == "RGB" else "YCBCR"
            decoded = imagecodecs.jpeg8_decode(data, colorspace=space, outcolorspace="RGB")
        elif self.syntax in syntaxes.JPEG:
            decoded = imagecodecs.jpeg8_decode(data)
        else:
            raise UnreadablePixels("a transfer syntax that is not decoded here")
        return decoded


def _declared_bits(data: bytes, layout: Layout, *, is_j2k: bool) -> int:
    """The precision that a frame's own head tells.

    Raises UnreadablePixels if that head tells another size than the data set.
    """
    bits, rows, columns, samples = _siz(data) if is_j2k else _sof(data)
    if (rows, columns, samples) != (layout.rows, layout.columns, layout.samples):
        raise UnreadablePixels("a frame of another size than announced")
    if not 0 < bits <= layout.bits:
        raise UnreadablePixels("pixels of more bits than announced")
    return bits


def _sof(data: bytes) -> tuple[int, int, int, int]:
    """Precision, rows, columns and samples of a JPEG or JPEG-LS frame (ISO 10918-1 B.2.2)."""
    position = 2
    while position + 4 <= len(data):
        marker = data[position + 1]
        if data[position] != 0xFF:
            break
        if marker == 0xFF or marker in _BARE:
            position += 1 if marker == 0xFF else 2
            continue
        if marker in _FRAME_HEADS and position + 4 + _SOF.size <= len(data):
            bits, rows, columns, samples = _SOF.unpack_from(data, position + 4)
            return bits, rows, columns, samples
        position += 2 + int.from_bytes(data[position + 2 : position + 4])
    raise UnreadablePixels("not a JPEG frame")


def _siz(data: bytes) -> tuple[int, int, int, int]:
    """The same of a JPEG 2000 codestream (ISO 15444-1 A.5.1)."""
    if data[:4] != _CODESTREAM or len(data) < 43:
        raise UnreadablePixels("not a JPEG 2000 codestream")
    right, bottom, left, top = _SIZ.unpack_from(data, 8)
    samples = int.from_bytes(data[40:42])
    return (data[42] & 0x7F) + 1, bottom - top, right - left, samples


def _as_announced(decoded: Pixels, layout: Layout, bits: int) -> Pixels:
    """Decoded pixels in the type of the data set; ``bits`` of them mean something."""
    if layout.signed and decoded.dtype.kind == "u":
        shift = layout.bits - bits
        wide = decoded.astype(f"u{layout.bits // 8}") << shift
        return (wide.view(f"i{layout.bits // 8}") >> shift).astype(layout.dtype)
    if not layout.signed and decoded.dtype.kind == "i":
        return (decoded.astype(f"u{layout.bits // 8}") & ((1 << bits) - 1)).astype(layout.dtype)
    return decoded.astype(layout.dtype, copy=False)


def _decode_rle(data: bytes, layout: Layout) -> Pixels:
    """PS3.5 Annex G: a plane for each byte of a pixel, colours apart, high bytes first."""
    depth = layout.bits // 8
    count, *offsets = struct.unpack_from("<16I", data)
    if count != layout.samples * depth:
        raise UnreadablePixels(f"{count} RLE segments")
    ends = [*offsets[1:count], len(data)]
    planes = np.empty((layout.samples, depth, layout.rows * layout.columns), np.uint8)
    for number, (start, end) in enumerate(zip(offsets[:count], ends, strict=True)):
        plane = planes[number // depth, depth - 1 - number % depth]
        plane[:] = _unpacked(data[start:end], plane.size)
    samples = planes.transpose(2, 0, 1).copy().view(layout.dtype)
    return samples.reshape(layout.shape)


def _unpacked(segment: bytes, size: int) -> Pixels:
    """A PackBits segment of ``size`` bytes; it may have more behind them, by padding."""
    unpacked = imagecodecs.packbits_decode(segment, out=bytearray(size + 128))
    if len(unpacked) < size:
        raise UnreadablePixels("an RLE segment is too short")
    return np.frombuffer(unpacked, np.uint8, size)
