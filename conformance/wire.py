"""HTTP and SOAP as the kit speaks them: every byte under its control, every byte recorded.

Messages that follow the standard are written with the same codecs as everywhere else; the
cases that demand broken ones hand over their own bytes. Requests and responses are streamed,
so that a document of any size passes. No retries, no redirects, one connection for each
exchange: what a case sees is what the peer did.
"""

from __future__ import annotations

import http.client
import ssl
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar
from urllib.parse import urlsplit

from lxml import etree

from conformance.evidence import Exchange, Head, Record, Side, now
from conformance.seen import Answer
from soap import envelope as soap_envelope
from soap import mtom
from soap.faults import InvalidBody as SoapInvalidBody
from soap.faults import MessageError, SoapFault
from soap.limits import CLIENT
from soap.media import MULTIPART, SOAP, parse_media_type
from soap.message import ContentError, Incoming, MemorySpool, Outgoing, Spool
from soap.xml import XMLRefused, parse
from transactions.transaction import InvalidBody, Transaction

Request = TypeVar("Request")
Response = TypeVar("Response")

CHUNK = 256 * 1024
"""Bytes read at once: large enough for documents of gigabytes to pass quickly."""


@dataclass(slots=True)
class Post:
    """An HTTP POST to be sent; ``length`` None sends it in chunked encoding."""

    content_type: str
    body: Iterable[bytes]
    length: int | None
    headers: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, content_type: str, body: bytes) -> Post:
        """A small message held in memory."""
        return cls(content_type, [body], len(body))


class Wire:
    """Posts to endpoints and reads what they answer; records both."""

    def __init__(
        self,
        record: Record,
        timeout: float,
        ssl_context: ssl.SSLContext | None,
        token: Callable[[], str] = str,
    ) -> None:
        self._record = record
        self._timeout = timeout
        self._ssl = ssl_context
        self.token = token

    def call(
        self,
        url: str,
        exchange: Transaction[Request, Response],
        request: Request,
        *,
        spool: Callable[[], Spool] = MemorySpool,
        token: str | None = None,
    ) -> Answer[Response]:
        """One transaction as the standard wants it; ``token`` stands in for who asks (ITI-40)."""
        who = self.token() if token is None else token
        post = post_of(exchange, exchange.write_request(request), url, token=who)
        return self.send(url, post, exchange, spool=spool)

    def send(
        self,
        url: str,
        post: Post,
        exchange: Transaction[Any, Response],
        *,
        spool: Callable[[], Spool] = MemorySpool,
    ) -> Answer[Response]:
        """Any bytes; the answer is read as that of ``exchange``.

        Never raises for what the peer did: an answer that makes no sense, or none at all,
        is an Answer with a ``problem``.
        """
        name = f"{exchange.number} {exchange.name}"
        sent, received = Head(), Head()
        started, clock = now(), time.monotonic()
        reply: _Reply | None = None
        problem = ""
        try:
            reply = self._exchange(url, post, sent, received, spool)
        except (OSError, http.client.HTTPException) as error:
            problem = f"no answer: {type(error).__name__}: {error}"
        seconds = time.monotonic() - clock
        self._record.add(
            Exchange(
                name,
                url,
                started,
                seconds,
                Side(f"POST {url}", _headers(post), sent.text(), sent.size),
                Side(reply.line, reply.headers, received.text(), received.size) if reply else None,
                problem,
            )
        )
        if reply is None:
            return Answer(0, {}, seconds, problem=problem)
        return _read(reply, exchange, seconds, received.kept, spool)

    def _exchange(
        self, url: str, post: Post, sent: Head, received: Head, spool: Callable[[], Spool]
    ) -> _Reply:
        connection, path = connect(url, self._timeout, self._ssl)
        try:
            body = _noted(post.body, sent)
            chunked = post.length is None
            # Refused before all was sent: the answer may be there all the same.
            with suppress(BrokenPipeError, ConnectionResetError):
                connection.request("POST", path, body, _headers(post), encode_chunked=chunked)
            response = connection.getresponse()
            return _receive(response, received, spool)
        finally:
            connection.close()


def connect(
    url: str, timeout: float, context: ssl.SSLContext | None
) -> tuple[http.client.HTTPConnection, str]:
    """A connection for ``url``, not open yet, and the path to ask for."""
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port
    path = parts.path + (f"?{parts.query}" if parts.query else "") or "/"
    if parts.scheme == "https":
        secured = http.client.HTTPSConnection(host, port, timeout=timeout, context=context)
        return secured, path
    return http.client.HTTPConnection(host, port, timeout=timeout), path


def post_of(
    exchange: Transaction[Any, Any],
    outgoing: Outgoing,
    url: str,
    message_id: str = "",
    token: str = "",
) -> Post:
    """The POST that carries a message: simple SOAP or MTOM, as the transaction wants."""
    body = soap_envelope.write_request(
        outgoing.body,
        action=exchange.action,
        message_id=message_id or new_message_id(),
        to=url,
        token=token,
    )
    if not exchange.mtom:
        return simple(body, exchange.action)
    package = mtom.package(body, list(outgoing.parts), action=exchange.action)
    return Post(package.content_type, package.chunks(), package.length)


def simple(envelope: Sequence[bytes], action: str, charset: str = "UTF-8") -> Post:
    """An envelope as simple SOAP."""
    content_type = f'{SOAP}; charset={charset}; action="{action}"'
    return Post(content_type, envelope, sum(map(len, envelope)))


def new_message_id() -> str:
    """A fresh wsa:MessageID."""
    return uuid.uuid4().urn


@dataclass(slots=True)
class _Reply:
    """An HTTP response; of a multipart the root part and the attachments."""

    line: str
    status: int
    headers: dict[str, str]
    root: bytes
    attachments: Mapping[str, Any]
    multipart: bool
    problem: str = ""


def _headers(post: Post) -> dict[str, str]:
    headers = {"Content-Type": post.content_type, **post.headers}
    if post.length is None:
        headers["Transfer-Encoding"] = "chunked"
    else:
        headers["Content-Length"] = str(post.length)
    return headers


def _noted(body: Iterable[bytes], head: Head) -> Iterator[bytes]:
    for chunk in body:
        head.take(chunk)
        yield chunk


def _receive(response: http.client.HTTPResponse, head: Head, spool: Callable[[], Spool]) -> _Reply:
    headers = dict(response.getheaders())
    media = parse_media_type(response.getheader("Content-Type", ""))
    multipart = media.name == MULTIPART
    reply = _Reply(
        f"HTTP {response.status} {response.reason}",
        response.status,
        headers,
        b"",
        {},
        multipart,
    )
    chunks = _noted(_body(response), head)
    try:
        if multipart:
            assembly = mtom.Assembly(media, mtom.Ledger(spool), CLIENT)
            for chunk in chunks:
                assembly.feed(chunk)
            reply.root, reply.attachments = assembly.finish()
        else:
            reply.root = b"".join(_bounded(chunks))
    except MessageError as error:
        reply.problem = str(error)
        for _ in chunks:
            pass
    return reply


def _body(response: http.client.HTTPResponse) -> Iterator[bytes]:
    """The body in pieces; raises IncompleteRead when the peer stops before its end."""
    while chunk := response.read(CHUNK):
        yield chunk
    if response.length:  # what is still owed: a short body is no error to the library
        raise http.client.IncompleteRead(b"", response.length)


def _bounded(chunks: Iterable[bytes]) -> Iterator[bytes]:
    size = 0
    for chunk in chunks:
        size += len(chunk)
        if size > CLIENT.envelope:
            raise MessageError(f"the answer is larger than {CLIENT.envelope} bytes")
        yield chunk


def _read(
    reply: _Reply,
    exchange: Transaction[Any, Response],
    seconds: float,
    body: bytes,
    spool: Callable[[], Spool],
) -> Answer[Response]:
    answer: Answer[Response] = Answer(
        reply.status, reply.headers, seconds, mtom=reply.multipart, body=body
    )
    if reply.problem:
        return replace(answer, problem=reply.problem)
    try:
        root = parse(reply.root, CLIENT)
        envelope = soap_envelope.read_envelope(root)
    except (XMLRefused, SoapFault, ValueError, etree.XMLSyntaxError) as error:
        return replace(answer, problem=f"no SOAP envelope: {error}")
    incoming = Incoming(
        envelope.body,
        action=envelope.action,
        message_id=envelope.message_id,
        relates_to=envelope.relates_to,
        attachments=reply.attachments,
        spool=spool,
    )
    answer = replace(answer, message=incoming, envelope=root)
    if (fault := soap_envelope.read_fault(envelope.body)) is not None:
        return replace(answer, fault=fault)
    try:
        return replace(answer, response=exchange.read_response(incoming))
    except (InvalidBody, SoapInvalidBody, ContentError) as error:
        return replace(answer, problem=f"not the response of {exchange.number}: {error}")
