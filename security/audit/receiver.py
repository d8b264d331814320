"""An audit record repository of our own: takes syslog over TLS and UDP into a trail (ITI-20).

What arrives is kept byte for byte; messages that are no audit messages are counted in the log and
dropped, whoever sent them. A stream that is not framed ends its connection, nobody else's. The
protocol has no acknowledgement: what is not durable when a connection ends is lost to nobody who
sends again what it cannot be sure of.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial

import structlog

from security.audit.reading import BadAuditMessage, read_message
from security.audit.syslog import BadSyslog, Frames, read
from security.audit.trail import Trail
from soap.tls_listener import (
    Places,
    Refused,
    TlsListener,
    peer_certificate,
    start_streams,
    stop_streams,
)

_log = structlog.get_logger("kosmos.audit")

_PIECE = 64 * 1024
# A sender keeps its connection; one that is silent for an hour may come again.
_IDLE_SECONDS = 3600.0
# One that says nothing at all, or does not end what it has begun, only holds a place.
_BEGUN_SECONDS = 15.0
_HANDSHAKE_SECONDS = 10.0
# Senders at once, as many as a listener of SOAP has connections; a sender keeps one.
_CONNECTIONS = 512


class Receiver:
    """The listeners of the repository: one port, TCP (under TLS, where the node has it) and UDP."""

    def __init__(
        self,
        trail: Trail,
        host: str,
        port: int,
        tls: ssl.SSLContext | None,
        *,
        admits: Callable[[bytes | None, str], bool] = lambda certificate, address: True,
        refused: Refused | None = None,
        patience: float = _BEGUN_SECONDS,
        handshake: float = _HANDSHAKE_SECONDS,
        connections: int = _CONNECTIONS,
        udp: bool = True,
    ) -> None:
        """``admits`` judges a sender by certificate (DER) and address; ``refused`` is told of
        handshakes that fail. ``patience``: seconds for a first message, and for a whole one;
        ``handshake``: for that of TLS. Beyond ``connections``, one that has not brought a whole
        message yet makes room. Without ``udp`` nothing is taken by UDP."""
        self._udp = udp
        self._patience = patience
        self._handshake = handshake
        self._places = Places(connections)
        self._trail = trail
        self._host = host
        self._port = port
        self._tls = tls
        self._admits = admits
        self._refused = refused
        self._server: asyncio.Server | TlsListener | None = None
        self._datagrams: asyncio.DatagramTransport | None = None
        self.port = port

    async def start(self) -> None:
        """Listen. Raises OSError when the port is taken."""
        family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
        listener = socket.create_server((self._host, self._port), family=family)
        self.port = listener.getsockname()[1]
        self._server = await start_streams(
            self._serve, listener, self._tls, self._handshake, self._refused
        )
        if self._udp:
            await self._start_datagrams(family)

    async def _start_datagrams(self, family: int) -> None:
        datagrams = socket.socket(family, socket.SOCK_DGRAM)
        try:
            datagrams.bind((self._host, self.port))
        except OSError:
            datagrams.close()
            raise
        loop = asyncio.get_running_loop()
        self._datagrams, _ = await loop.create_datagram_endpoint(
            lambda: _Datagrams(self, self._admits), sock=datagrams
        )

    async def stop(self) -> None:
        """Listen no more."""
        if self._datagrams is not None:
            self._datagrams.close()
        if self._server is not None:
            await stop_streams(self._server)

    def take(self, data: bytes) -> asyncio.Future[None] | None:
        """Take one syslog message in; done when it is durable. None when it is none of ours."""
        now = datetime.now(UTC)
        try:
            record = read_message(read(data), now)
        except (BadSyslog, BadAuditMessage) as error:
            _log.warning("message dropped", code="AUDIT-FOREIGN", reason=str(error))
            return None
        return asyncio.wrap_future(self._trail.append([record]))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self._admits(peer_certificate(writer), writer.get_extra_info("peername")[0]):
            writer.close()
            return
        if not self._places.enter(writer, writer.transport.abort):
            _log.warning("connection refused", code="AUDIT-FULL")
            writer.close()
            return
        try:
            await self._take_all(reader, partial(self._places.heard, writer))
        except TimeoutError:
            writer.transport.abort()  # who is silent answers no farewell either
        except BadSyslog as error:
            _log.warning("connection closed", code="AUDIT-FRAMING", reason=str(error))
        except OSError:
            pass  # gone
        finally:
            self._places.leave(writer)
            writer.close()

    async def _take_all(self, reader: asyncio.StreamReader, heard: Callable[[], None]) -> None:
        """Take the messages of one connection in; each calls ``heard``.

        Raises TimeoutError, OSError and BadSyslog.
        """
        frames, clock = Frames(), asyncio.get_running_loop().time
        begun: float | None = clock()  # since when a message is waited for that must come
        while True:
            left = _IDLE_SECONDS if begun is None else begun + self._patience - clock()
            data = await asyncio.wait_for(reader.read(_PIECE), max(left, 0))
            if not data:
                return
            taken = [self.take(message) for message in frames.feed(data)]
            # No faster than it is durable: the sender's window fills instead.
            await asyncio.gather(*(one for one in taken if one is not None))
            if taken:  # what is behind them has just begun
                heard()
                begun = None
            if frames.is_within_one:
                begun = begun or clock()


class _Datagrams(asyncio.DatagramProtocol):
    """One message a datagram (RFC 5426)."""

    def __init__(self, receiver: Receiver, admits: Callable[[bytes | None, str], bool]) -> None:
        self._receiver = receiver
        self._admits = admits

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        """Take it in; nobody hears whether that went well. It comes without a certificate."""
        if not self._admits(None, addr[0]):
            return
        if (taken := self._receiver.take(data)) is not None:
            taken.add_done_callback(lambda done: done.exception())
