"""Calls to other nodes' SOAP services, over kept-alive HTTP/1.1 connections (urllib3).

Streams both ways: attachments go from their content to the socket and from the socket to
their spools. Requests ask for the answer on the same connection (anonymous ReplyTo). Nothing
is retried here: after PeerTimeout and PeerProtocolError the outcome is unknown, and only the
caller knows whether asking again is safe.
"""

from __future__ import annotations

import contextlib
import re
import ssl
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar
from urllib.parse import urlsplit

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    NewConnectionError,
    ReadTimeoutError,
    SSLError,
)

from soap.envelope import read_envelope, read_fault, write_request
from soap.faults import (
    InvalidBody,
    MessageError,
    PeerFault,
    PeerProtocolError,
    PeerTimeout,
    PeerUnreachable,
    SoapFault,
)
from soap.limits import CLIENT, KIB, SMALL, Limits
from soap.media import MULTIPART, SOAP, MediaType, parse_media_type
from soap.message import ContentError, Incoming, MemorySpool, Outgoing, Received, Spool
from soap.mtom import Assembly, Ledger, package
from soap.operation import Exchange
from soap.xml import parse

Request = TypeVar("Request")
Response = TypeVar("Response")

READ_SIZE = 64 * KIB
"""Bytes asked of the socket at once; the multipart parser is fastest with such pieces."""

CONNECTIONS_PER_PEER = 16
"""Kept alive between calls; further simultaneous calls open connections of their own."""


_TRACE = re.compile(r"[0-9a-f]{32}")


class _Patient:
    """Gives sending the patience of reading, where urllib3 leaves the connect timeout set, and
    tells failures of the TLS handshake from failures after it.
    """

    patience: float

    def connect(self) -> None:
        try:
            super().connect()  # type: ignore[misc]
        except OSError as error:
            raise NewConnectionError(self, str(error)) from error  # type: ignore[arg-type]
        self.sock.settimeout(self.patience)  # type: ignore[attr-defined]


class _ContentUnreadable(Exception):
    """Reading our own attachment failed while it was sent."""

    def __init__(self, cause: Exception) -> None:
        super().__init__(cause)
        self.cause = cause


def connections(ssl_context: ssl.SSLContext | None, **options: Any) -> urllib3.PoolManager:
    """Kept connections to peers; a peer's certificate is compared with its host name only where
    ``ssl_context`` says so (ITI-19 makes that optional)."""
    checked = ssl_context is None or ssl_context.check_hostname
    return urllib3.PoolManager(
        ssl_context=ssl_context, assert_hostname=None if checked else False, **options
    )


class SoapClient:
    """Calls SOAP services; safe to share between threads.

    ``timeout``: seconds without a byte in either direction, the peer's thinking included.
    ``connect_timeout``: seconds for a connection and its TLS handshake. ``total``: seconds for
    a whole call. The host name is compared with the certificate when ``ssl_context`` says so
    (ITI-19 makes that optional). ``token`` gives, for each call, the XML of an assertion of who
    asks (ITI-40), or nothing.
    """

    def __init__(
        self,
        *,
        timeout: float = 60.0,
        connect_timeout: float = 5.0,
        total: float = 3600.0,
        ssl_context: ssl.SSLContext | None = None,
        limits: Limits = CLIENT,
        token: Callable[[], str] = str,
    ) -> None:
        self._token = token
        self._timeout = urllib3.Timeout(connect=connect_timeout, read=timeout)
        self._total = total
        self._limits = limits
        self._pool = connections(ssl_context, maxsize=CONNECTIONS_PER_PEER)
        self._pool.pool_classes_by_scheme = _patient_pools(timeout)

    def close(self) -> None:
        """Close the kept connections."""
        self._pool.clear()

    def call(
        self,
        url: str,
        exchange: Exchange[Request, Response],
        request: Request,
        *,
        spool: Callable[[], Spool] = MemorySpool,
        correlation_id: str | None = None,
    ) -> Response:
        """Send ``request`` to ``url`` and return the response.

        Attachments of the response lie in ``spool``s; they are the caller's to discard.
        ``correlation_id`` travels as the trace of ``traceparent`` when it is one.

        Raises PeerFault (a SoapFault) when the peer answers with a fault, PeerUnreachable,
        PeerTimeout, PeerProtocolError, and whatever reading the request's content raises.
        """
        message_id = f"urn:uuid:{uuid.uuid4()}"
        outgoing = exchange.write_request(request)
        content_type, length, body = _encode(outgoing, exchange, message_id, url, self._token())
        headers = {"Content-Type": content_type, "Accept-Encoding": "identity"}
        headers |= _trace(correlation_id)
        if length is not None:
            headers["Content-Length"] = str(length)
        ledger = Ledger(spool)
        with _mapped(url), _discarded_on_failure(ledger):
            answer = self._post(url, body, headers)
            with _connection_of(answer):
                incoming = self._read(answer, url, message_id, ledger)
            return exchange.read_response(incoming)

    def send(self, url: str, exchange: Exchange[Request, None], request: Request) -> None:
        """Send ``request`` of a one-way exchange; the peer has accepted it when this returns.

        Any status of success will do, whatever the body. Raises PeerFault, PeerUnreachable,
        PeerTimeout and PeerProtocolError; a redirection is the last of these, never followed.
        """
        message_id = f"urn:uuid:{uuid.uuid4()}"
        outgoing = exchange.write_request(request)
        content_type, length, body = _encode(outgoing, exchange, message_id, url, self._token())
        headers = {"Content-Type": content_type, "Content-Length": str(length)}
        with _mapped(url):
            answer = self._post(url, body, headers | {"Accept-Encoding": "identity"})
            with _connection_of(answer):
                if 200 <= answer.status < 300:
                    b"".join(self._pieces(answer, SMALL))  # read, so that the connection lives on
                else:
                    self._read(answer, url, message_id, Ledger(MemorySpool))
                    raise PeerProtocolError(f"{_place(url)} answered HTTP {answer.status}")

    def _post(
        self, url: str, body: bytes | Iterator[bytes], headers: dict[str, str]
    ) -> urllib3.BaseHTTPResponse:
        return self._pool.urlopen(
            "POST",
            url,
            body=body,
            headers=headers,
            timeout=self._timeout,
            retries=False,
            redirect=False,
            preload_content=False,
            decode_content=False,
        )

    def _read(
        self, answer: urllib3.BaseHTTPResponse, url: str, message_id: str, ledger: Ledger
    ) -> Incoming:
        media = parse_media_type(answer.headers.get("content-type", ""))
        if media.name not in (SOAP, MULTIPART):
            raise PeerProtocolError(
                f"{_place(url)} answered HTTP {answer.status} with {media.name[:80]!r}"
            )
        data, attachments = self._receive(answer, media, ledger)
        envelope = read_envelope(parse(data, self._limits))
        fault = read_fault(envelope.body)
        if fault is not None:
            fault.status = answer.status
            raise fault
        if envelope.relates_to not in (None, message_id):
            raise PeerProtocolError(f"{_place(url)} answered another request than ours")
        return Incoming(
            body=envelope.body,
            action=envelope.action,
            message_id=envelope.message_id,
            relates_to=envelope.relates_to,
            attachments=attachments,
            spool=ledger.spool,
            peer=urlsplit(url).hostname or "",
        )

    def _receive(
        self, answer: urllib3.BaseHTTPResponse, media: MediaType, ledger: Ledger
    ) -> tuple[bytes, Mapping[str, Received]]:
        """The envelope's bytes and the attachments."""
        if media.name != MULTIPART:
            return b"".join(self._pieces(answer, self._limits.envelope)), {}
        assembly = Assembly(media, ledger, self._limits)
        for piece in self._pieces(answer, self._limits.message):
            assembly.feed(piece)
        return assembly.finish()

    def _pieces(self, answer: urllib3.BaseHTTPResponse, limit: int) -> Iterator[bytes]:
        deadline = time.monotonic() + self._total
        received = 0
        # What has come, and not what would fill a piece: a peer that drips bytes is looked at.
        while piece := answer.read1(READ_SIZE, decode_content=False):
            received += len(piece)
            if received > limit:
                raise MessageError(f"the message is larger than {limit} bytes")
            if time.monotonic() > deadline:
                raise PeerTimeout("the answer did not end in time")
            yield piece


def _patient_pools(patience: float) -> dict[str, type[HTTPConnectionPool]]:
    plain = type("_Plain", (_Patient, HTTPConnection), {"patience": patience})
    secure = type("_Secure", (_Patient, HTTPSConnection), {"patience": patience})
    return {
        "http": type("_PlainPool", (HTTPConnectionPool,), {"ConnectionCls": plain}),
        "https": type("_SecurePool", (HTTPSConnectionPool,), {"ConnectionCls": secure}),
    }


def _encode(
    outgoing: Outgoing, exchange: Exchange[Any, Any], message_id: str, url: str, token: str
) -> tuple[str, int | None, bytes | Iterator[bytes]]:
    """Content-Type, length where known, and body of the request."""
    action = exchange.action
    envelope = write_request(
        outgoing.body, action=action, message_id=message_id, to=url, token=token
    )
    if not exchange.mtom:
        body = b"".join(envelope)
        return f'{SOAP}; charset=UTF-8; action="{action}"', len(body), body
    stream = package(envelope, outgoing.parts, action=action)
    if stream.length is not None and stream.length <= SMALL:
        return stream.content_type, stream.length, b"".join(stream.chunks())
    return stream.content_type, stream.length, _guarded(stream.chunks())


def _guarded(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Mark our own failure to read, so that it is not taken for the peer's."""
    try:
        yield from chunks
    except Exception as error:
        raise _ContentUnreadable(error) from error


def _trace(correlation_id: str | None) -> dict[str, str]:
    if correlation_id is None or not _TRACE.fullmatch(correlation_id):
        return {}
    return {"traceparent": f"00-{correlation_id}-{uuid.uuid4().hex[:16]}-01"}


def _place(url: str) -> str:
    """Scheme, host and port: what an error may say of a URL, which may carry more."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


@contextlib.contextmanager
def _discarded_on_failure(ledger: Ledger) -> Iterator[None]:
    try:
        yield
    except BaseException:
        ledger.close()
        raise


@contextlib.contextmanager
def _connection_of(answer: urllib3.BaseHTTPResponse) -> Iterator[None]:
    """Keep the connection when the whole answer was read, else close it."""
    try:
        yield
    except BaseException:
        answer.close()
        raise
    answer.release_conn()


@contextlib.contextmanager
def _mapped(url: str) -> Iterator[None]:
    """Say every failure in the words of ``faults``."""
    place = _place(url)
    try:
        yield
    except _ContentUnreadable as error:
        raise error.cause from None
    except (ConnectTimeoutError, NewConnectionError, SSLError) as error:
        raise PeerUnreachable(f"cannot connect to {place}: {error}") from error
    except ReadTimeoutError as error:
        raise PeerTimeout(f"{place} did not answer in time") from error
    except (HTTPError, OSError) as error:
        raise PeerProtocolError(f"the connection to {place} broke: {error}") from error
    except (MessageError, InvalidBody, ContentError) as error:
        raise PeerProtocolError(f"{place} sent a broken answer: {error}") from error
    except SoapFault as fault:
        if isinstance(fault, PeerFault):
            raise
        raise PeerProtocolError(f"{place} sent a broken answer: {fault.reason}") from fault
