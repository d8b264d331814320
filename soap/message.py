"""What travels: a SOAP message's body, its attachments, and how they are handed on.

The types in this module are the whole contract between the wire (``soap``), the
transactions that give it meaning and the actors that act on it. Nothing here does I/O:
attachments are handles whose bytes live wherever the receiver's spool put them, so an
image study crosses the house without ever being held in memory.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol
from urllib.parse import unquote

from lxml import etree

XOP_INCLUDE = "{http://www.w3.org/2004/08/xop/include}Include"


class Content(Protocol):
    """Bytes that can be read again and again, in pieces."""

    @property
    def size(self) -> int:
        """Number of bytes."""

    def chunks(self) -> Iterator[bytes]:
        """The bytes from the start, in pieces of at most 1 MiB."""


class Stretch(Protocol):
    """``length`` bytes from ``start`` of an open file, which the kernel can send by itself.

    The file is open until the next piece is asked for.
    """

    @property
    def descriptor(self) -> int:
        """That of the open file."""

    @property
    def start(self) -> int:
        """Where the bytes begin."""

    @property
    def length(self) -> int:
        """How many there are."""

    def chunks(self) -> Iterator[bytes]:
        """The bytes, read, in pieces of at most 1 MiB."""


Piece = bytes | Stretch
"""Of what goes out: bytes at hand, or where they lie."""


def length_of(piece: Piece) -> int:
    """How many bytes a piece is."""
    return len(piece) if isinstance(piece, bytes) else piece.length


def read(pieces: Iterable[Piece]) -> Iterator[bytes]:
    """The pieces as bytes at hand, for whoever cannot let the kernel send them."""
    for piece in pieces:
        if isinstance(piece, bytes):
            yield piece
        else:
            yield from piece.chunks()


def pieces_of(content: Content) -> Iterator[Piece]:
    """All of ``content``; what lies in files has ``stretches``, so that the kernel can send it."""
    # Not a protocol that is checked at run time: that takes 30 us, for every instance of a study.
    stretches: Callable[[], Iterator[Piece]] | None = getattr(content, "stretches", None)
    return content.chunks() if stretches is None else stretches()


class Received(Content, Protocol):
    """Content that has arrived: spooled durably, hashed on the way (hex, lower case)."""

    @property
    def sha1(self) -> str:
        """SHA-1, the hash of XDS metadata."""

    @property
    def sha256(self) -> str:
        """SHA-256, the address in our own store."""

    def discard(self) -> None:
        """Give the bytes up, unless someone has kept them; safe to call twice."""


class Spool(Protocol):
    """Where the bytes of one attachment go while they arrive."""

    def write(self, data: bytes) -> None:
        """Take the next bytes."""

    def finish(self) -> Received:
        """Make what was written durable and hand it over."""

    def abort(self) -> None:
        """Forget what was written."""


@dataclass(slots=True)
class InMemory:
    """Content held in memory: small documents, manifests, tests."""

    data: bytes

    @property
    def size(self) -> int:
        """Number of bytes."""
        return len(self.data)

    @property
    def sha1(self) -> str:
        """SHA-1 in lower-case hex."""
        return hashlib.sha1(self.data, usedforsecurity=False).hexdigest()

    @property
    def sha256(self) -> str:
        """SHA-256 in lower-case hex."""
        return hashlib.sha256(self.data).hexdigest()

    def chunks(self) -> Iterator[bytes]:
        """The bytes, in one piece."""
        yield self.data

    def discard(self) -> None:
        """Nothing to give up."""


class MemorySpool:
    """A spool for small messages and tests: keeps everything in memory."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def write(self, data: bytes) -> None:
        """Take the next bytes."""
        self._pieces.append(bytes(data))

    def finish(self) -> InMemory:
        """Hand over what was written."""
        return InMemory(b"".join(self._pieces))

    def abort(self) -> None:
        """Forget what was written."""
        self._pieces.clear()


class ContentError(Exception):
    """A Document element whose bytes cannot be had: the sender's message is broken."""


@dataclass(slots=True)
class Incoming:
    """A message as it arrived: parsed body, headers we act on, spooled attachments.

    ``attachments`` maps Content-IDs without angle brackets; ``peer`` is the sender's
    network address for logs and audit; ``sent_to`` tells where it was sent, by wsa:To and by
    the target of the HTTP request, where a service has an address for each of its resources.
    """

    body: etree._Element
    action: str = ""
    message_id: str | None = None
    relates_to: str | None = None
    attachments: Mapping[str, Received] = field(default_factory=dict)
    spool: Callable[[], Spool] = MemorySpool
    peer: str = ""
    sent_to: Sequence[str] = ()
    _used: set[str] = field(default_factory=set)

    def content(self, element: etree._Element) -> Received:
        """The bytes that ``element`` stands for, optimised (XOP) or inline base64.

        Raises ContentError for an Include that names no part, a part named twice, an
        Include beside other content, or text that is not base64 (XOP 3.2; ITI TF-2 V.8).
        """
        include = element.find(XOP_INCLUDE)
        if include is None:
            return self._inline(element)
        if len(element) > 1 or (element.text or "").strip() or (include.tail or "").strip():
            raise ContentError("xop:Include must be the only content of its element")
        href = include.get("href", "")
        if not href.lower().startswith("cid:"):
            raise ContentError(f"xop:Include/@href must be a cid: URL, not {href[:64]!r}")
        content_id = href[4:]
        if content_id not in self.attachments:  # some senders escape the header alike
            content_id = unquote(content_id)
        if content_id in self._used:
            raise ContentError(f"two elements include the same part {content_id!r}")
        received = self.attachments.get(content_id)
        if received is None:
            raise ContentError(f"no MIME part has the Content-ID <{content_id}>")
        self._used.add(content_id)
        return received

    def unused_parts(self) -> list[str]:
        """Content-IDs of the parts that no element has asked for."""
        return [content_id for content_id in self.attachments if content_id not in self._used]

    def _inline(self, element: etree._Element) -> Received:
        if len(element):
            raise ContentError("expected base64 text or one xop:Include")
        text = "".join((element.text or "").split())
        try:
            data = base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError) as error:
            raise ContentError(f"the element's text is not base64: {error}") from error
        spool = self.spool()
        spool.write(data)
        return spool.finish()


class Part(NamedTuple):
    """One attachment on its way out; a study has thousands."""

    content_id: str
    content: Content
    content_type: str = "application/octet-stream"


@dataclass(slots=True)
class Outgoing:
    """A message to send: the body's serialised XML, in pieces, and its attachments.

    ``body`` holds exactly one element in UTF-8 without an XML declaration; pieces are
    joined on the wire, never copied into one another. A response's body may be an iterator:
    then it is sent while it is made, and breaks off if making it fails.
    """

    body: Iterable[bytes]
    parts: Iterable[Part] = ()
