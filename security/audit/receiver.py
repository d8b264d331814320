"""An audit record repository of our own: takes syslog over TLS and UDP into a trail (ITI-20).

What arrives is kept byte for byte; messages that are no audit messages are counted in the log and
dropped, whoever sent them. A stream that is not framed ends its connection, nobody else's. The
protocol has no acknowledgement: what is not durable when a connection ends is lost to nobody who
sends again what it cannot be sure of.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from datetime import UTC, datetime

import structlog

from security.audit.reading import BadAuditMessage, read_message
from security.audit.syslog import BadSyslog, Frames, read
from security.audit.trail import Trail

_log = structlog.get_logger("kosmos.audit")

_PIECE = 64 * 1024
# A sender keeps its connection; one that is silent for an hour may come again.
_IDLE_SECONDS = 3600.0
_HANDSHAKE_SECONDS = 10.0


class Receiver:
    """The listeners of the repository: one port, TCP (under TLS, where the node has it) and UDP."""

    def __init__(self, trail: Trail, host: str, port: int, tls: ssl.SSLContext | None) -> None:
        self._trail = trail
        self._host = host
        self._port = port
        self._tls = tls
        self._server: asyncio.Server | None = None
        self._datagrams: asyncio.DatagramTransport | None = None
        self.port = port

    async def start(self) -> None:
        """Listen. Raises OSError when the port is taken."""
        self._server = await asyncio.start_server(
            self._serve,
            self._host,
            self._port,
            ssl=self._tls,
            ssl_handshake_timeout=_HANDSHAKE_SECONDS if self._tls else None,
        )
        self.port = self._server.sockets[0].getsockname()[1]
        datagrams = socket.socket(self._server.sockets[0].family, socket.SOCK_DGRAM)
        try:
            datagrams.bind((self._host, self.port))
        except OSError:
            datagrams.close()
            raise
        loop = asyncio.get_running_loop()
        self._datagrams, _ = await loop.create_datagram_endpoint(
            lambda: _Datagrams(self), sock=datagrams
        )

    async def stop(self) -> None:
        """Listen no more."""
        if self._datagrams is not None:
            self._datagrams.close()
        if self._server is not None:
            self._server.close()

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
        frames = Frames()
        with contextlib.suppress(OSError, TimeoutError):
            try:
                while data := await asyncio.wait_for(reader.read(_PIECE), _IDLE_SECONDS):
                    taken = [self.take(message) for message in frames.feed(data)]
                    # No faster than it is durable: the sender's window fills instead.
                    await asyncio.gather(*(one for one in taken if one is not None))
            except BadSyslog as error:
                _log.warning("connection closed", code="AUDIT-FRAMING", reason=str(error))
        writer.close()


class _Datagrams(asyncio.DatagramProtocol):
    """One message a datagram (RFC 5426)."""

    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver

    def datagram_received(self, data: bytes, addr: object) -> None:
        """Take it in; nobody hears whether that went well."""
        if (taken := self._receiver.take(data)) is not None:
            taken.add_done_callback(lambda done: done.exception())
