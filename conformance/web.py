"""DICOMweb as the kit speaks it: one request, one connection, the answer as it came.

Covers GET and POST of RAD-55, RAD-107, RAD-108 and RAD-129; multipart bodies are taken apart by
their boundary alone (RFC 2046 5.1), so that what is malformed shows.
"""

from __future__ import annotations

import http.client
import json
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from io import BytesIO
from typing import Any

from pydicom import dcmread
from pydicom.dataset import FileDataset

from conformance.evidence import Exchange, Head, Record, Side, now
from conformance.seen import Answer
from conformance.wire import Post, connect
from security.assertions.http import authorization
from soap.media import MULTIPART, parse_media_type

DICOM, JSON = "application/dicom", "application/dicom+json"


class Malformed(Exception):
    """A body is not what its Content-Type says."""


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a multipart body: its headers, names in lower case, and its content."""

    headers: Mapping[str, str]
    content: bytes


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer as it came; ``status`` 0 and a ``problem`` where none did."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    seconds: float = 0.0
    problem: str = ""

    @property
    def media(self) -> str:
        """The media type; of a multipart body ``multipart/related, TYPE OF ITS PARTS``."""
        media = parse_media_type(self.headers.get("content-type", ""))
        inner = media.parameters.get("type", "") if media.name == MULTIPART else ""
        return f"{media.name}, {inner}" if inner else media.name

    def parts(self) -> list[Part]:
        """The parts of a multipart body. Raises Malformed."""
        boundary = parse_media_type(self.headers.get("content-type", "")).parameters.get("boundary")
        if not boundary:
            raise Malformed("no boundary")
        before, *pieces = (b"\r\n" + self.body).split(b"\r\n--" + boundary.encode())
        if before.strip() or not pieces or not pieces[-1].startswith(b"--"):
            raise Malformed("the body does not begin and end with the boundary")
        return [_part(piece) for piece in pieces[:-1]]

    def images(self) -> list[FileDataset]:
        """The DICOM instances of the body, of one part or many. Raises Malformed."""
        if parse_media_type(self.headers.get("content-type", "")).name == MULTIPART:
            return [dcmread(BytesIO(part.content)) for part in self.parts()]
        return [dcmread(BytesIO(self.body))]

    def json(self) -> Any:
        """The body, which is JSON. Raises ValueError."""
        return json.loads(self.body) if self.body else []

    def answer(self) -> Answer[Any]:
        """What expectations of an HTTP status judge."""
        text = self.problem or self.body[:200].decode("utf-8", "replace").strip()
        return Answer(self.status, self.headers, self.seconds, problem=text, body=self.body)


class Web:
    """Asks DICOMweb services; records what was said. ``token`` tells who asks (ITI-40)."""

    def __init__(
        self,
        record: Record,
        timeout: float,
        context: ssl.SSLContext | None,
        token: Callable[[], str] = str,
    ) -> None:
        self._record = record
        self._timeout = timeout
        self._ssl = context
        self._token = token

    def get(self, url: str, accept: str = "") -> Reply:
        """GET with this Accept header, or without one."""
        return self._exchange("GET", url, {"Accept": accept} if accept else {}, b"")

    def post(self, url: str, post: Post, accept: str) -> Reply:
        """POST a body; it must fit in memory."""
        headers = {"Accept": accept, "Content-Type": post.content_type}
        return self._exchange("POST", url, headers, b"".join(post.body))

    def _exchange(self, method: str, url: str, headers: Mapping[str, str], body: bytes) -> Reply:
        started, clock = now(), time.monotonic()
        headers = {**headers, **authorization(self._token())}
        connection, path = connect(url, self._timeout, self._ssl)
        try:
            connection.request(method, path, body or None, dict(headers))
            response = connection.getresponse()
            said = {name.lower(): value for name, value in response.getheaders()}
            reply = Reply(response.status, said, response.read(), time.monotonic() - clock)
        except (OSError, http.client.HTTPException) as error:
            problem = f"no answer: {type(error).__name__}: {error}"
            reply = Reply(0, {}, b"", time.monotonic() - clock, problem)
        finally:
            connection.close()
        sent = Side(f"{method} {url}", headers, _text(body), len(body))
        answer = Side(f"HTTP {reply.status}", reply.headers, _text(reply.body), len(reply.body))
        name, came = f"DICOMweb {method}", None if reply.problem else answer
        self._record.add(Exchange(name, url, started, reply.seconds, sent, came, reply.problem))
        return reply


def _part(piece: bytes) -> Part:
    head, gap, content = piece.removeprefix(b"\r\n").partition(b"\r\n\r\n")
    if not gap:
        raise Malformed("a part has no end of its headers")
    lines = (line.partition(":") for line in head.decode("latin-1").split("\r\n"))
    return Part({name.strip().lower(): value.strip() for name, _, value in lines}, content)


def _text(data: bytes) -> str:
    head = Head()
    head.take(data)
    return head.text()
