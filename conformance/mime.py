"""Provide and Register messages in every shape that MTOM allows or senders are known to use.

The usual writer makes one shape; these cases need the others: documents inline, parts in
another order, odd boundaries and line ends, encodings (ITI TF-2 V.8; RFC 2046, 2387).
"""

from __future__ import annotations

import base64
import binascii
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote

from conformance.wire import Post, new_message_id
from metadata.identifiers import XDS
from metadata.model import Submission
from soap import envelope
from transactions.iti_41 import ITI_41
from transactions.iti_42 import SubmitObjectsRequest, write_request

XOP_INCLUDE = '<xop:Include xmlns:xop="http://www.w3.org/2004/08/xop/include" href="cid:{}"/>'
LINE = 76
"""Length of a base64 line (RFC 2045 6.8)."""


@dataclass(frozen=True, slots=True)
class Shape:
    """How a message is put together; the defaults are the usual way.

    ``start``: "brackets", "bare" or "" (left out). ``encoding``: the parts' transfer
    encoding, "binary", "base64" or "quoted-printable". ``include_space`` puts line breaks
    around nothing but the inline base64. ``chunked`` sends no Content-Length.
    """

    start: str = "brackets"
    root_last: bool = False
    parts_reversed: bool = False
    boundary: str = ""
    quoted: bool = True
    line_end: bytes = b"\r\n"
    preamble: bytes = b""
    lower_case: bool = False
    encoding: str = "binary"
    percent: bool = False
    chunked: bool = False
    byte_order_mark: bool = False


USUAL = Shape()


@dataclass(frozen=True, slots=True)
class MixedMessage:
    """An ITI-41 request; documents by the entryUUID they belong to, ``inline`` or as ``parts``.

    ``token`` says who asks (ITI-40).
    """

    submission: Submission
    inline: Mapping[str, bytes]
    parts: Mapping[str, bytes]
    shape: Shape = USUAL
    token: str = ""

    def post(self) -> Post:
        """The message as an HTTP POST."""
        shape = self.shape
        boundary = shape.boundary or f"kit_{uuid.uuid4().hex}"
        blocks = self._blocks()
        delimiter = b"--" + boundary.encode()
        end = shape.line_end
        body = shape.preamble
        for block in blocks:
            body += delimiter + end + block + end
        body += delimiter + b"--" + end
        pieces = [body[i : i + 1000] for i in range(0, len(body), 1000)]
        length = None if shape.chunked else len(body)
        return Post(self._content_type(boundary), pieces, length)

    def _content_type(self, boundary: str) -> str:
        start = {"brackets": '; start="<root@kit>"', "bare": '; start="root@kit"', "": ""}
        mark = '"' if self.shape.quoted else ""
        return (
            f"multipart/related; boundary={mark}{boundary}{mark}; type={mark}application/xop+xml"
            f'{mark}{start[self.shape.start]}; start-info="application/soap+xml"'
        )

    def _blocks(self) -> list[bytes]:
        root = self._block("root@kit", self.root(), "binary", "application/xop+xml")
        parts = [
            self._block(self._content_id(uuid), content, self.shape.encoding)
            for uuid, content in self.parts.items()
        ]
        if self.shape.parts_reversed:
            parts.reverse()
        return [*parts, root] if self.shape.root_last else [root, *parts]

    def _block(
        self, content_id: str, content: bytes, encoding: str, kind: str = "text/plain"
    ) -> bytes:
        headers = [
            f'Content-Type: {kind}; charset=UTF-8; type="application/soap+xml"',
            f"Content-Transfer-Encoding: {encoding}",
            f"Content-ID: <{content_id}>",
        ]
        if self.shape.lower_case:
            names = (header.partition(":") for header in headers)
            headers = [f"{name.lower()}:{value}" for name, _, value in names]
        end = self.shape.line_end
        return (
            end.join(header.encode() for header in headers)
            + end
            + end
            + _encoded(content, encoding)
        )

    def _content_id(self, entry_uuid: str) -> str:
        # With percent: characters that a cid URL must escape and a Content-ID need not.
        return f"{entry_uuid}{'/a b%c' if self.shape.percent else ''}@kit"

    def root(self) -> bytes:
        """The SOAP envelope alone."""
        submit = b"".join(write_request(SubmitObjectsRequest.of(self.submission)).body)
        documents = [
            f'<xds:Document id="{uuid}">{_lines(content)}</xds:Document>'
            for uuid, content in self.inline.items()
        ]
        documents += [
            f'<xds:Document id="{uuid}">{self._include(uuid)}</xds:Document>' for uuid in self.parts
        ]
        name = "xds:ProvideAndRegisterDocumentSetRequest"
        body = [
            f'<{name} xmlns:xds="{XDS}">'.encode(),
            submit,
            "".join(documents).encode(),
            f"</{name}>".encode(),
        ]
        pieces = envelope.write_request(
            body,
            action=ITI_41.action,
            message_id=new_message_id(),
            to="urn:kit",
            token=self.token,
        )
        mark = b"\xef\xbb\xbf" if self.shape.byte_order_mark else b""
        return mark + b"".join(pieces)

    def _include(self, entry_uuid: str) -> str:
        content_id = self._content_id(entry_uuid)
        safe = "" if self.shape.percent else ":@"
        return XOP_INCLUDE.format(quote(content_id, safe=safe))


def _encoded(content: bytes, encoding: str) -> bytes:
    if encoding == "base64":
        return _lines(content).encode()
    if encoding == "quoted-printable":
        return binascii.b2a_qp(content, istext=False)
    return content


def _lines(content: bytes) -> str:
    """Base64 in lines, with a line break before and after."""
    text = base64.b64encode(content).decode()
    lines = [text[i : i + LINE] for i in range(0, len(text), LINE)]
    return "\n" + "\n".join(lines) + "\n"
