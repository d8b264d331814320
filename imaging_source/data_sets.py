"""The data sets of stored files: as they are, and those that are deflated (PS3.5 A.5) inflated.

A megabyte may inflate to a gigabyte, so an instance is taken in only when all of it inflates to
less than ``INFLATED_LIMIT_BYTES``; ``inflated`` holds a piece at a time. It is stored as it was
received. Whatever looks into it sees ``Inflated``; what was corrected leaves as ``Deflated``.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, Self

from imaging_source.elements import Elements, Encoding, Unreadable
from imaging_source.syntaxes import INFLATED
from manifest.encoding import part10_head
from storage.files import FileContent, Reference, stream
from storage.spool import Content

# Reports, waveforms and presentation states are what is deflated, not volumes.
INFLATED_LIMIT_BYTES = 256 * 1024 * 1024

_PIECE_BYTES = 256 * 1024

# Where a Part 10 file says how long its meta information is: 128 + "DICM" + (0002,0000).
_MAGIC_END, _META_LENGTH_AT, _META_AT = 132, 140, 144
_UIDS = (0x00020002, 0x00020003)


def data_set_of(content: Content) -> Iterator[bytes]:
    """The pieces of a Part 10 file that follow its File Meta Information."""
    return _parted(content)[1]


def inflated(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """A deflated data set inflated; a null byte may follow it (PS3.5 A.5).

    Raises Unreadable where it cannot be, does not end, or is larger than the limit.
    """
    stream, size = zlib.decompressobj(-zlib.MAX_WBITS), 0
    for piece in pieces:
        more = True
        while more and not stream.eof:
            try:
                data = stream.decompress(piece, _PIECE_BYTES)
            except zlib.error:
                raise Unreadable("the data set is not deflated") from None
            size += len(data)
            if size > INFLATED_LIMIT_BYTES:
                raise Unreadable("the data set inflates beyond what is taken in")
            piece = stream.unconsumed_tail
            more = bool(piece) or len(data) == _PIECE_BYTES
            yield data
    if not stream.eof:
        raise Unreadable("the deflated data set does not end")


@dataclass(frozen=True, slots=True)
class Inflated:
    """A Part 10 file whose data set is deflated, as the one that it was before."""

    source: FileContent
    size: int
    head: bytes

    @classmethod
    def of(cls, source: FileContent, transfer_syntax_uid: str) -> Self:
        """Raises Unreadable, and as reading ``source`` does."""
        head, pieces = _parted(source)
        plain = _head(head, INFLATED[transfer_syntax_uid])
        return cls(source, len(plain) + sum(map(len, inflated(pieces))), plain)

    def chunks(self) -> Iterator[bytes]:
        """The bytes. Raises as ``of`` does."""
        yield self.head
        yield from inflated(data_set_of(self.source))

    def stretches(self, ranges: Iterable[tuple[int, int]]) -> Iterator[bytes]:
        """The bytes of these ranges (start, length)."""
        for start, length in ranges:
            yield from _between(self.chunks(), start, start + length)

    def open(self) -> InMemory:
        """The bytes for reading at any place."""
        return InMemory(b"".join(self.chunks()))

    def reference(self) -> Reference:
        """What leads another process to the file as it is stored."""
        return self.source.reference()


@dataclass(frozen=True, slots=True)
class InMemory:
    """Random access to bytes, as ``FileContent.open`` gives it."""

    data: bytes

    @property
    def size(self) -> int:
        """How many there are."""
        return len(self.data)

    def at(self, start: int, length: int) -> bytes:
        """Up to ``length`` bytes from ``start``: fewer at the end."""
        return self.data[start : start + length]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        """Nothing to close."""


@dataclass(frozen=True, slots=True)
class Deflated:
    """``inner``, a Part 10 file, with its data set deflated and ``head`` for its own."""

    inner: Content
    source: FileContent
    size: int
    head: bytes

    @classmethod
    def of(cls, inner: Content, source: FileContent) -> Self:
        """``inner`` deflated as ``source`` is. Raises as reading them does."""
        made = cls(inner, source, 0, _parted(source)[0])
        return replace(made, size=sum(map(len, made.chunks())))

    def chunks(self) -> Iterator[bytes]:
        """The bytes. Raises as reading ``inner`` does."""
        yield self.head
        deflate, size = zlib.compressobj(1, wbits=-zlib.MAX_WBITS), 0
        for piece in data_set_of(self.inner):
            data = deflate.compress(piece)
            size += len(data)
            yield data
        last = deflate.flush()
        yield last + b"\0" * ((size + len(last)) % 2)

    def stretches(self, ranges: Iterable[tuple[int, int]] | None = None) -> Iterator[bytes]:
        """The bytes of these ranges (start, length), else all."""
        for start, length in [(0, self.size)] if ranges is None else ranges:
            yield from _between(self.chunks(), start, start + length)

    def reference(self) -> Reference:
        """What leads another process to the file as it is stored."""
        return self.source.reference()


def opened(source: Path | Reference, transfer_syntax_uid: str) -> BinaryIO:
    """A Part 10 file to read and seek in, inflated where it is deflated.

    Raises Unreadable, OSError, and BlobCorrupt where it is not as it was sealed.
    """
    if transfer_syntax_uid not in INFLATED:
        return stream(source)
    with stream(source) as file:
        pieces = iter(lambda: file.read(_PIECE_BYTES), b"")
        head, data_set = _divided(pieces)
        data = _head(head, INFLATED[transfer_syntax_uid]) + b"".join(inflated(data_set))
    return BytesIO(data)


def _parted(content: Content) -> tuple[bytes, Iterator[bytes]]:
    return _divided(content.chunks())


def _divided(pieces: Iterator[bytes]) -> tuple[bytes, Iterator[bytes]]:
    """The head of a Part 10 file, and the pieces of what follows it."""
    first = b""
    for piece in pieces:
        first += piece
        if len(first) >= _META_AT and len(first) >= (end := _end_of_head(first)):
            return first[:end], _chained(first[end:], pieces)
    raise Unreadable("a stored file ends within its meta information")


def _chained(first: bytes, pieces: Iterator[bytes]) -> Iterator[bytes]:
    yield first
    yield from pieces


def _end_of_head(file: bytes) -> int:
    return _META_AT + int.from_bytes(file[_META_LENGTH_AT:_META_AT], "little")


def _head(head: bytes, transfer_syntax_uid: str) -> bytes:
    """A head as ours, that names another transfer syntax."""
    found = Elements(head, Encoding.EXPLICIT, _MAGIC_END).find(_UIDS)
    sop_class_uid, sop_instance_uid = (
        head[slice(*found[tag])].strip(b"\0 ").decode("ascii", "replace") for tag in _UIDS
    )
    return part10_head(sop_class_uid, sop_instance_uid, transfer_syntax_uid)


def _between(pieces: Iterable[bytes], start: int, stop: int) -> Iterator[bytes]:
    position = 0
    for piece in pieces:
        yield piece[max(0, start - position) : max(0, stop - position)]
        position += len(piece)
        if position >= stop:
            break
