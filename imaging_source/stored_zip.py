"""Files in a ZIP, stored and not compressed, made while it is sent (PKWARE APPNOTE 6.3.9).

Images do not shrink by deflate as they do by their own codecs, and deflate costs a hundred times
what storing does. The length is known before the first byte; the CRC of an entry stands in its
head, for readers that take a stored entry only so. So a file is read for its CRC (libdeflate's runs
at 16 GB/s, seven times zlib's) and then left to the kernel to send. No temporary file.
Archives and entries beyond 4 GiB and more than 65,535 entries are ZIP64.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from imagecodecs import deflate_crc32

from soap.message import Content, Piece, Stretch, length_of, pieces_of

_LOCAL = struct.Struct("<4s5H3L2H")
_CENTRAL = struct.Struct("<4s6H3L5H2L")
_END = struct.Struct("<4s4H2LH")
_END_64 = struct.Struct("<4sQ2H2L4Q")
_LOCATOR_64 = struct.Struct("<4sLQL")
_EXTRA_64 = 0x0001
_VERSION, _VERSION_64 = 20, 45
_UTF_8 = 0x0800
_LARGE, _MANY = 0xFFFFFFFF, 0xFFFF

# Files are read into one buffer for their CRC: new memory for each piece costs more than both.
_BUFFER_BYTES = 256 * 1024

# What the kernel cannot send is kept up to this size while its CRC is made, else read twice.
_WHOLE_BYTES = 8 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Entry:
    """A file of the archive, last changed ``at`` (epoch)."""

    name: str
    content: Content
    at: float = 0.0

    @property
    def size(self) -> int:
        """Its bytes."""
        return self.content.size


def length(entries: Sequence[Entry]) -> int:
    """Bytes of the archive of these entries."""
    names = sum(len(one.name.encode()) for one in entries)
    local = sum(_LOCAL.size + len(_sizes_64(one.size)) + one.size for one in entries) + names
    central, position = 0, 0
    for one in entries:
        central += _CENTRAL.size + len(_extra_64(one.size, position))
        position += _LOCAL.size + len(one.name.encode()) + len(_sizes_64(one.size)) + one.size
    central += names
    return local + central + len(_end(len(entries), central, local))


def archive(entries: Sequence[Entry]) -> Iterator[Piece]:
    """The bytes of the archive.

    Raises ValueError for content that is not of its size, and what reading it raises.
    """
    directory: list[bytes] = []
    position = 0
    buffer = bytearray(_BUFFER_BYTES)
    for one in entries:
        crc, pieces = _summed(one, buffer)
        head = _local(one, crc)
        directory.append(_central(one, crc, position))
        yield head
        yield from _exactly(one.size, pieces)
        position += len(head) + one.size
    central = b"".join(directory)
    yield central
    yield _end(len(entries), len(central), position)


def _summed(entry: Entry, buffer: bytearray) -> tuple[int, Iterable[Piece]]:
    """The CRC-32 of an entry, and its bytes."""
    crc, held = 0, []
    for piece in pieces_of(entry.content):
        if not isinstance(piece, bytes):
            crc = _crc_where_it_lies(piece, buffer, crc)
            continue
        crc = deflate_crc32(piece, crc)
        if entry.size <= _WHOLE_BYTES:
            held.append(piece)
    whole = sum(map(len, held)) == entry.size
    return crc, held if whole else pieces_of(entry.content)


def _crc_where_it_lies(stretch: Stretch, buffer: bytearray, crc: int) -> int:
    position, end = stretch.start, stretch.start + stretch.length
    while position < end:
        count = os.preadv(stretch.descriptor, [buffer], position)
        if not count:
            raise ValueError("a file ends too soon")
        of_it = min(count, end - position)
        crc = deflate_crc32(buffer if of_it == len(buffer) else buffer[:of_it], crc)
        position += of_it
    return crc


def _exactly(size: int, pieces: Iterable[Piece]) -> Iterator[Piece]:
    for piece in pieces:
        size -= length_of(piece)
        if size < 0:
            break
        yield piece
    if size:
        raise ValueError("a file changed while it was put into an archive")


def _local(entry: Entry, crc: int) -> bytes:
    name, extra = entry.name.encode(), _sizes_64(entry.size)
    size = min(entry.size, _LARGE)
    version = _VERSION_64 if extra else _VERSION
    time, date = _dos(entry.at)
    fields = (version, _UTF_8, 0, time, date, crc, size, size, len(name), len(extra))
    return _LOCAL.pack(b"PK\3\4", *fields) + name + extra


def _central(entry: Entry, crc: int, position: int) -> bytes:
    name, extra = entry.name.encode(), _extra_64(entry.size, position)
    size = min(entry.size, _LARGE)
    version = _VERSION_64 if extra else _VERSION
    time, date = _dos(entry.at)
    fields = (version, version, _UTF_8, 0, time, date, crc, size, size, len(name), len(extra))
    rest = (0, 0, 0, 0, min(position, _LARGE))
    return _CENTRAL.pack(b"PK\1\2", *fields, *rest) + name + extra


def _sizes_64(size: int) -> bytes:
    """The ZIP64 field of a local head: both sizes, when either is too large."""
    return struct.pack("<2H2Q", _EXTRA_64, 16, size, size) if size >= _LARGE else b""


def _extra_64(size: int, position: int) -> bytes:
    """The ZIP64 field in the directory: what does not fit into its place, in this order."""
    values = [size, size] if size >= _LARGE else []
    if position >= _LARGE:
        values.append(position)
    if not values:
        return b""
    return struct.pack(f"<2H{len(values)}Q", _EXTRA_64, 8 * len(values), *values)


def _end(count: int, size: int, position: int) -> bytes:
    end = (min(count, _MANY), min(count, _MANY), min(size, _LARGE), min(position, _LARGE), 0)
    last = _END.pack(b"PK\5\6", 0, 0, *end)
    if count < _MANY and size < _LARGE and position < _LARGE:
        return last
    record = (_END_64.size - 12, _VERSION_64, _VERSION_64, 0, 0, count, count, size, position)
    locator = _LOCATOR_64.pack(b"PK\6\7", 0, position + size, 1)
    return _END_64.pack(b"PK\6\6", *record) + locator + last


def _dos(at: float) -> tuple[int, int]:
    """Time and date as MS-DOS has them: seconds by two, years from 1980."""
    moment = datetime.fromtimestamp(at, UTC)
    if moment.year < 1980:
        return 0, 1 << 5 | 1
    time = moment.hour << 11 | moment.minute << 5 | moment.second // 2
    return time, (moment.year - 1980) << 9 | moment.month << 5 | moment.day
