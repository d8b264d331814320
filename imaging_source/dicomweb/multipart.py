"""Multipart/related bodies of known length, and single parts (PS3.18 8.6, RFC 2387)."""

from __future__ import annotations

import hashlib
import re
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from http import HTTPStatus

from imaging_source.coercion import Coerced
from imaging_source.data_sets import Deflated
from imaging_source.dicomweb.answer import Answer, Refusal, Request
from imaging_source.parts import Part
from soap import message
from soap.asgi import Headers

# Positions of any file; also of two of them written one after the other.
_POSITION = re.compile("[0-9]{1,38}")

Ranges = Sequence[tuple[int, int]]
"""Start and length of pieces of a file, in order."""


@dataclass(frozen=True, slots=True)
class Piece:
    """One part of an answer: these ranges of a stored file, and what they are."""

    part: Part
    ranges: Ranges
    content_type: str
    location: str
    name: str = ""
    """What tells it from other pieces of the file, for its ETag."""

    @property
    def size(self) -> int:
        """Its bytes."""
        return sum(length for _, length in self.ranges)

    @property
    def etag(self) -> str:
        """The same as long as its bytes are: files are kept under their hash, never changed."""
        name = self.name.replace("/", "-")
        if isinstance(self.part.content, Deflated):
            name = hashlib.sha256(b"".join(self.part.content.chunks())).hexdigest()
        if isinstance(self.part.content, Coerced):
            new = (piece for piece in self.part.content.pieces if isinstance(piece, bytes))
            name = hashlib.sha256(b"".join(new)).hexdigest()
        return f'"{self.part.row["sha256"]}{"-" + name if name else ""}"'


def multipart(parts: Sequence[Piece], media: str, status: HTTPStatus = HTTPStatus.OK) -> Answer:
    """All parts in one body; the boundary is random, so no content can hold it."""
    boundary = uuid.uuid4().hex
    heads = [_head(boundary, part) for part in parts]
    tail = f"\r\n--{boundary}--\r\n".encode()
    length = sum(map(len, heads)) + sum(part.size for part in parts) + len(tail)
    content_type = f'multipart/related; type="{media}"; boundary="{boundary}"'
    stream = _stream(list(zip(heads, parts, strict=True)), tail)
    return Answer(status, content_type, stream=stream, length=length)


def single(request: Request, part: Piece) -> Answer:
    """One part as the whole body, or the range of it that is asked for (RFC 9110 13, 14)."""
    headers: Headers = [
        (b"accept-ranges", b"bytes"),
        (b"etag", part.etag.encode()),
        (b"content-location", part.location.encode()),
    ]
    if part.etag in _tags(request.headers.get("if-none-match", "")):
        return Answer(HTTPStatus.NOT_MODIFIED, part.content_type, headers=headers)
    wanted = _asked_range(request, part)
    status, ranges, length = HTTPStatus.OK, part.ranges, part.size
    if wanted is not None:
        start, end = wanted
        status, ranges, length = HTTPStatus.PARTIAL_CONTENT, _cut(part.ranges, wanted), end - start
        headers.append((b"content-range", f"bytes {start}-{end - 1}/{part.size}".encode()))
    stream = part.part.content.stretches(ranges)
    return Answer(status, part.content_type, stream=stream, length=length, headers=headers)


def _head(boundary: str, part: Piece) -> bytes:
    return (
        f"\r\n--{boundary}\r\nContent-Type: {part.content_type}\r\n"
        f"Content-Length: {part.size}\r\nContent-Location: {part.location}\r\n\r\n"
    ).encode()


def _stream(parts: Sequence[tuple[bytes, Piece]], tail: bytes) -> Iterator[message.Piece]:
    for head, part in parts:
        yield head
        yield from part.part.content.stretches(part.ranges)
    yield tail


def _tags(header: str) -> set[str]:
    return {tag.strip().removeprefix("W/") for tag in header.split(",")}


def _asked_range(request: Request, part: Piece) -> tuple[int, int] | None:
    """Start and end of the one range asked for; None for the whole.

    Several ranges at once, and units that are not bytes, are answered by the whole, as any
    server may. Raises Refusal (416) for a range beyond the end.
    """
    unit, _, spec = request.headers.get("range", "").partition("=")
    condition = request.headers.get("if-range")
    if unit.strip().lower() != "bytes" or "," in spec or condition not in (None, part.etag):
        return None
    first, dash, last = (text.strip() for text in spec.partition("-"))
    if not dash or not _POSITION.fullmatch(first + last):
        return None
    size = part.size
    start = int(first) if first else max(0, size - int(last))
    end = min(size, int(last) + 1) if first and last else size
    if first and last and int(last) < start:
        return None
    if start >= size:
        raise Refusal(
            HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE,
            "the range begins beyond the end",
            [(b"content-range", f"bytes */{size}".encode())],
        )
    return start, end


def _cut(ranges: Ranges, wanted: tuple[int, int]) -> Ranges:
    """The pieces of the file that are ``wanted`` of what ``ranges`` are together."""
    found, position = [], 0
    start, end = wanted
    for place, length in ranges:
        low, high = max(start, position), min(end, position + length)
        if low < high:
            found.append((place + low - position, high - low))
        position += length
    return found
