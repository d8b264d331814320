"""MLLP client: one message out, its answer back (ITI TF-2 C.2.1).

The connection is kept between messages. A receiver may close an idle connection at any time;
the message is then sent again on a fresh one, which HL7 receivers must bear (a redelivery has
the same MSH-10). Anything else that goes wrong is raised and left to the caller.
"""

from __future__ import annotations

import socket
import ssl
import time
from types import TracebackType

from hl7.mllp import BlockTooLong, Framer, frame


class MllpError(Exception):
    """The message got no answer."""


class MllpUnreachable(MllpError):
    """No connection could be made, or TLS was refused; the message was not sent."""


class MllpTimeout(MllpError):
    """No answer in time; whether the message was taken in is unknown."""


class MllpClosed(MllpError):
    """The receiver closed without an answer: not taken in, or unknown; send it again later."""


class MllpClient:
    """A connection to an MLLP receiver, opened when first needed.

    ``timeout`` is for one answer, ``connect_timeout`` for the connection and the TLS
    handshake, both in seconds; ``max_answer`` in bytes. Not for use by several threads at
    once: MLLP has no way to tell whose answer comes back.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        timeout: float = 30.0,
        connect_timeout: float = 10.0,
        ssl_context: ssl.SSLContext | None = None,
        max_answer: int = 1024 * 1024,
    ) -> None:
        self._address = (host, port)
        self._timeout = timeout
        self._connect_timeout = connect_timeout
        self._ssl = ssl_context
        self._max_answer = max_answer
        self._socket: socket.socket | None = None

    def send(self, message: bytes) -> bytes:
        """Send one message and return its answer, both without framing. Raises MllpError."""
        reused = self._socket is not None
        try:
            return self._exchange(message)
        except MllpClosed:
            if not reused:
                raise
        return self._exchange(message)

    def close(self) -> None:
        """Close the connection; the next ``send`` opens another."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def __enter__(self) -> MllpClient:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _exchange(self, message: bytes) -> bytes:
        connection = self._socket or self._connect()
        try:
            connection.settimeout(self._timeout)
            connection.sendall(frame(message))
            return self._receive(connection)
        except TimeoutError as error:
            self.close()
            raise MllpTimeout(f"no answer within {self._timeout:g} s") from error
        except (OSError, BlockTooLong) as error:
            self.close()
            raise MllpClosed(f"connection lost: {error}") from error

    def _connect(self) -> socket.socket:
        host, port = self._address
        try:
            plain = socket.create_connection(self._address, self._connect_timeout)
        except OSError as error:
            raise MllpUnreachable(f"{host}:{port}: {error}") from error
        # A message is one small write waiting for its answer: Nagle would only delay it.
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket = self._secured(plain) if self._ssl else plain
        return self._socket

    def _secured(self, plain: socket.socket) -> socket.socket:
        assert self._ssl is not None
        host, port = self._address
        try:
            return self._ssl.wrap_socket(plain, server_hostname=host)
        except OSError as error:
            plain.close()
            raise MllpUnreachable(f"{host}:{port}: TLS: {error}") from error

    def _receive(self, connection: socket.socket) -> bytes:
        framer = Framer(self._max_answer)
        deadline = time.monotonic() + self._timeout
        while True:
            connection.settimeout(max(deadline - time.monotonic(), 0.001))
            data = connection.recv(65536)
            if not data:
                raise ConnectionResetError("closed by the receiver without an answer")
            answers = framer.receive(data)
            if answers:
                return answers[0]
