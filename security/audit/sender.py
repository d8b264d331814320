"""Sends a trail to an audit record repository elsewhere: syslog over TLS, or over UDP.

At least once and in order: what the other side's kernel has not acknowledged when a connection
breaks is sent again. How far it is, is kept in the trail, so that a repository that was away for a
day gets everything after it. UDP promises nothing and is sent once.
"""

from __future__ import annotations

import socket
import ssl
import struct
import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, closing, suppress
from dataclasses import dataclass
from fcntl import ioctl
from termios import TIOCOUTQ
from typing import Protocol
from urllib.parse import urlsplit

import structlog
from sqlalchemy import Connection, select

from security.audit.schema import RECORD, SENT
from security.audit.syslog import Sender, frame
from security.audit.trail import Trail
from storage.errors import StorageError

_log = structlog.get_logger("kosmos.audit")

# IANA: syslog over TLS, over TCP (RFC 6587), over UDP.
_PORTS = {"tls": 6514, "tcp": 601, "udp": 514}

# How long records are gathered for one connection: a TLS handshake costs as much as many of them.
_GATHER_SECONDS = 0.2
# Between attempts: doubled each time, five minutes at most.
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 300.0
_PEER_SECONDS = 10.0
_BATCH = 100
# The largest datagram that crosses IPv4; a longer message is cut, as RFC 5426 3.2 allows.
_DATAGRAM_BYTES = 65_507


@dataclass(frozen=True, slots=True)
class Target:
    """A repository: ``tls``, ``tcp`` or ``udp``, host and port."""

    scheme: str
    host: str
    port: int

    @classmethod
    def parse(cls, url: str) -> Target:
        """Of ``tls://host:port``, and so on; raises ValueError."""
        parts = urlsplit(url)
        if parts.scheme not in _PORTS or not parts.hostname or parts.path.strip("/"):
            raise ValueError("write tls://host:port, tcp://host:port or udp://host:port")
        return cls(parts.scheme, parts.hostname, parts.port or _PORTS[parts.scheme])

    def __str__(self) -> str:
        return f"{self.scheme}://{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class _Due:
    number: int
    at: str
    outcome: int
    message: bytes


class Kept(Protocol):
    """Where the records of a trail are, and how far each repository is: its ``Database``, or that
    of a trail at rest (``security.audit.resting``)."""

    def read(self) -> AbstractContextManager[Connection]:
        """See ``Database.read``."""

    def write(self, work: Callable[[Connection], None]) -> None:
        """See ``Database.write``."""


class Delivery:
    """What of one trail one repository has not got yet, brought there by ``send_now``."""

    def __init__(
        self, kept: Kept, target: Target, sender: Sender, tls: ssl.SSLContext | None
    ) -> None:
        self._kept = kept
        self._target = target
        self._sender = sender
        self._tls = tls
        self._stopping = threading.Event()

    def is_due(self) -> bool:
        """Whether there is anything to send. Raises StorageError."""
        return bool(self._due())

    def give_up(self) -> None:
        """End ``send_now`` after what is on its way, in whatever thread it is."""
        self._stopping.set()

    def send_now(self) -> bool:
        """Send what is due, in the thread of who calls; whether it got there."""
        try:
            self._send_all()
        except (OSError, StorageError) as error:
            _log.warning(
                "audit record repository not reached",
                code="AUDIT-SEND",
                target=str(self._target),
                error=type(error).__name__,
            )
            return False
        return True

    def _send_all(self) -> None:
        """Send what is due, over one connection."""
        if not (due := self._due()):
            return
        with closing(self._connect()) as connection:
            while due and not self._stopping.is_set():
                self._send(connection, due)
                self._remember(due[-1].number)
                due = self._due()

    def _due(self) -> list[_Due]:
        columns = (RECORD.c.number, RECORD.c.at, RECORD.c.outcome, RECORD.c.message)
        with self._kept.read() as connection:
            key = SENT.c.target == str(self._target)
            done = connection.execute(select(SENT.c.number).where(key)).scalar() or 0
            statement = select(*columns).where(RECORD.c.number > done).order_by(RECORD.c.number)
            return [_Due(*row) for row in connection.execute(statement.limit(_BATCH))]

    def _connect(self) -> socket.socket:
        address = (self._target.host, self._target.port)
        if self._target.scheme == "udp":
            family, kind, protocol, _, place = socket.getaddrinfo(*address, type=socket.SOCK_DGRAM)[
                0
            ]
            datagrams = socket.socket(family, kind, protocol)
            datagrams.connect(place)
            return datagrams
        plain = socket.create_connection(address, _PEER_SECONDS)
        if self._target.scheme == "tcp" or self._tls is None:
            return plain
        try:
            return self._tls.wrap_socket(plain, server_hostname=self._target.host)
        except BaseException:
            plain.close()
            raise

    def _send(self, connection: socket.socket, due: Sequence[_Due]) -> None:
        messages = [self._sender.write(one.message, one.at, one.outcome != 0) for one in due]
        if self._target.scheme == "udp":
            for message in messages:
                connection.send(message[:_DATAGRAM_BYTES])
            return
        connection.sendall(b"".join(map(frame, messages)))
        self._await_acknowledged(connection)

    def _await_acknowledged(self, connection: socket.socket) -> None:
        """Wait until the peer's kernel has every byte: syslog itself acknowledges nothing."""
        waited = threading.Event()
        for _ in range(int(_PEER_SECONDS / 0.01)):
            if not struct.unpack("I", ioctl(connection.fileno(), TIOCOUTQ, b"\0" * 4))[0]:
                break
            waited.wait(0.01)
        else:
            raise TimeoutError("not acknowledged")
        self._refuse_closed(connection)

    @staticmethod
    def _refuse_closed(connection: socket.socket) -> None:
        """Raise ConnectionError when the peer has closed, and may have thrown away what came."""
        connection.setblocking(False)
        try:
            with suppress(BlockingIOError, ssl.SSLWantReadError):
                if not connection.recv(1):
                    raise ConnectionResetError("the repository has closed the connection")
        finally:
            connection.settimeout(_PEER_SECONDS)

    def _remember(self, number: int) -> None:
        target = str(self._target)

        def work(connection: Connection) -> None:
            ours = SENT.c.target == target
            if not connection.execute(SENT.update().where(ours).values(number=number)).rowcount:
                connection.execute(SENT.insert(), {"target": target, "number": number})

        self._kept.write(work)


class Sending(Delivery):
    """Keeps one repository up to date with one trail, in a thread, until ``stop``."""

    def __init__(
        self, trail: Trail, target: Target, sender: Sender, tls: ssl.SSLContext | None
    ) -> None:
        super().__init__(trail.database, target, sender, tls)
        self._news = trail.news()
        self._thread = threading.Thread(target=self._work, name="audit sender", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End; what was not sent is sent after the next start."""
        self.give_up()
        self._news.set()
        self._thread.join(_PEER_SECONDS)

    def _work(self) -> None:
        pause = FIRST_PAUSE
        while not self._stopping.is_set():
            self._news.clear()
            if self.send_now():
                pause = FIRST_PAUSE
                self._stopping.wait(_GATHER_SECONDS)
                self._news.wait()
            else:
                self._stopping.wait(pause)
                pause = min(pause * 2, LONGEST_PAUSE)
