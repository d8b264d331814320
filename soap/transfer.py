"""Content-Transfer-Encodings of MIME parts, decoded as the bytes arrive (RFC 2045, 6).

MTOM parts are binary, but some senders encode them all the same. White space inside base64
is skipped; any other stray character means damage and is refused.
"""

from __future__ import annotations

import binascii
from typing import Protocol

from soap.faults import MessageError

_WHITE_SPACE = b" \t\r\n"
_QP_LINE_LIMIT = 1 << 16
"""RFC 2045 allows 76 characters; longer lines are tolerated up to this many bytes."""


class Decoder(Protocol):
    """Decodes one part: bytes in, bytes out."""

    def feed(self, data: bytes) -> bytes:
        """What ``data`` adds to the decoded content."""

    def finish(self) -> bytes:
        """The rest; raises MessageError when the content is cut short."""


class Identity:
    """binary, 8bit and 7bit: the bytes are what they are."""

    def feed(self, data: bytes) -> bytes:
        """``data`` itself."""
        return data

    def finish(self) -> bytes:
        """Nothing remains."""
        return b""


class Base64:
    """RFC 2045, 6.8."""

    def __init__(self) -> None:
        self._rest = b""
        self._padded = False

    def feed(self, data: bytes) -> bytes:
        """Decode all complete groups of four characters."""
        text = self._rest + data.translate(None, _WHITE_SPACE)
        whole = len(text) & ~3
        self._rest = text[whole:]
        if whole == 0:
            return b""
        if self._padded:
            raise MessageError("base64 goes on after its padding")
        self._padded = text[whole - 1 : whole] == b"="
        try:
            return binascii.a2b_base64(text[:whole], strict_mode=True)
        except binascii.Error as error:
            raise MessageError(f"a part is not base64 as declared: {error}") from error

    def finish(self) -> bytes:
        """Nothing remains, or the part was cut."""
        if self._rest:
            raise MessageError("a base64 part ends inside a group of four characters")
        return b""


class QuotedPrintable:
    """RFC 2045, 6.7, line by line."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> bytes:
        """Decode all complete lines."""
        text = self._rest + data
        whole = text.rfind(b"\n") + 1
        self._rest = text[whole:]
        if len(self._rest) > _QP_LINE_LIMIT:
            raise MessageError("a quoted-printable line is too long")
        return binascii.a2b_qp(text[:whole])

    def finish(self) -> bytes:
        """The last line, which needs no line end."""
        return binascii.a2b_qp(self._rest)


_DECODERS: dict[str, type[Decoder]] = {
    "": Identity,
    "binary": Identity,
    "8bit": Identity,
    "7bit": Identity,
    "base64": Base64,
    "quoted-printable": QuotedPrintable,
}


def decoder(encoding: str) -> Decoder:
    """The decoder for a Content-Transfer-Encoding; raises MessageError for an unknown one."""
    found = _DECODERS.get(encoding.strip().lower())
    if found is None:
        raise MessageError(f"unknown Content-Transfer-Encoding {encoding[:40]!r}")
    return found()
