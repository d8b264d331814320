"""The four listeners of a node, SOAP, MLLP, DICOM and syslog, in this process, with and without
TLS: how to reach each, what a message to it begins with, and whether it serves an honest peer.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import func, select

from hl7.client import MllpClient, MllpError
from hl7.mllp import MllpLimits, MllpServer, frame
from imaging_source.association import NotUnderstood, Permits, everything
from imaging_source.guard import Limits as DicomLimits
from imaging_source.guard import PeerGone
from imaging_source.index import MIGRATIONS
from imaging_source.intake import Intake
from imaging_source.receiver import Listening
from imaging_source.receiver import Receiver as DicomReceiver
from imaging_source.requestor import Peer, Requested, Unreachable
from node.migrate import script_location
from security.audit import syslog
from security.audit.chain import make_key
from security.audit.receiver import Receiver as SyslogReceiver
from security.audit.schema import RECORD
from security.audit.trail import Trail
from soap.client import SoapClient
from soap.endpoint import Endpoint, Operation
from soap.faults import PeerError
from soap.limits import Limits
from soap.server import Deadlines, running_server
from soap.tls_listener import Refused
from storage.blobs import BlobStore
from storage.database import Database
from storage.space import LowWaterMark
from tests.security.audit.conftest import message
from tests.soap.conftest import Say

PROTOCOLS = ("soap", "mllp", "dicom", "syslog")
VERIFICATION, IMPLICIT = "1.2.840.10008.1.1", "1.2.840.10008.1.2"
C_ECHO = 0x0030
# Loopback answers at once: only a fault, or a machine at its limits, takes longer.
PATIENCE_SECONDS = 10.0
ADT = b"MSH|^~\\&|A|B|C|D|20260101||ADT^A04^ADT_A01|77|P|2.3.1\r"


@dataclass(frozen=True, slots=True)
class Door:
    """One listener: its port, beginnings of messages that never end, and an honest exchange."""

    port: int
    beginnings: tuple[bytes, ...]
    serves: Callable[[ssl.SSLContext | None], bool]

    def connect(self) -> socket.socket:
        """A connection that has said nothing."""
        return socket.create_connection(("127.0.0.1", self.port), PATIENCE_SECONDS)


@dataclass(frozen=True, slots=True)
class Terms:
    """How long the listeners wait for whatever is due, how many they hold, whom they tell; whom
    that of DICOM permits what, and whom that of syslog admits."""

    seconds: float = 15.0
    connections: int = 100
    refused: Refused = field(default=lambda address, reason: None)
    permit: Permits = everything
    turned_away: Refused = field(default=lambda address, reason: None)
    not_understood: NotUnderstood = field(default=lambda peer, reason: None)
    admits: Callable[[bytes | None, str], bool] = field(default=lambda certificate, address: True)


class Listeners:
    """Opens listeners that end with ``stack``; what they need lies in ``folder``."""

    def __init__(self, stack: ExitStack, folder: Path) -> None:
        self._stack = stack
        self._loop = stack.enter_context(event_loop())
        self._pool = stack.enter_context(ThreadPoolExecutor(4))
        database = stack.enter_context(Database.open(f"sqlite:///{folder}/imaging.db"))
        database.migrate(MIGRATIONS)
        self._intake = Intake(database, BlobStore(folder / "blobs"))
        make_key(folder / "audit")
        with script_location("security") as scripts:
            self._trail = stack.enter_context(
                Trail(folder / "audit", "here", "received", LowWaterMark(1), scripts)
            )

    def open(self, protocol: str, tls: ssl.SSLContext | None, terms: Terms) -> Door:
        """The listener of ``protocol``."""
        door: Door = getattr(self, f"_{protocol}")(tls, terms)
        return door

    def _soap(self, tls: ssl.SSLContext | None, terms: Terms) -> Door:
        said = Operation(Say(), lambda text, _context: text, inline=True)
        patience = Limits(idle=terms.seconds, grace=terms.seconds)
        endpoint = Endpoint([said], pool=self._pool, title="t", service_name="T", limits=patience)
        deadlines = Deadlines(terms.seconds, terms.seconds, keep_alive=5, shutdown=1)
        url = self._stack.enter_context(
            running_server(
                endpoint,
                tls=tls,
                deadlines=deadlines,
                connections=terms.connections,
                refused=terms.refused,
            )
        )

        def serves(calling: ssl.SSLContext | None) -> bool:
            client = SoapClient(ssl_context=calling, timeout=PATIENCE_SECONDS)
            try:
                return client.call(url, Say(), "well?") == "well?"
            except PeerError:
                return False
            finally:
                client.close()

        head = b"POST / HTTP/1.1\r\nHost: here\r\nContent-Type: application/soap+xml\r\n"
        begun = (head, head + b"Content-Length: 5000\r\n\r\n<Envelope")
        return Door(int(url.rpartition(":")[2]), begun, serves)

    def _mllp(self, tls: ssl.SSLContext | None, terms: Terms) -> Door:
        limits = MllpLimits(
            connections=terms.connections, block=terms.seconds, handshake=terms.seconds
        )
        server = MllpServer(
            lambda raw, _peer: raw, ssl_context=tls, limits=limits, refused=terms.refused
        )
        self._run(server.start(), server.stop)

        def serves(calling: ssl.SSLContext | None) -> bool:
            try:
                with MllpClient("127.0.0.1", server.port, ssl_context=calling) as client:
                    return client.send(ADT) == ADT
            except MllpError:
                return False

        return Door(server.port, (frame(ADT)[:20],), serves)

    def _dicom(self, tls: ssl.SSLContext | None, terms: Terms) -> Door:
        limits = DicomLimits(
            associate_seconds=terms.seconds,
            connections=terms.connections,
            connections_per_peer=terms.connections,
        )
        listening = Listening(
            port=0,
            limits=limits,
            tls=tls,
            permit=terms.permit,
            refused=terms.refused,
            turned_away=terms.turned_away,
            not_understood=terms.not_understood,
        )
        port = self._stack.enter_context(DicomReceiver(self._intake, listening)).port

        def serves(calling: ssl.SSLContext | None) -> bool:
            peer = Peer("KOSMOS", "127.0.0.1", port, calling)
            echo: list[tuple[int, str | int]] = [(0x0002, VERIFICATION), (0x0110, 1)]
            try:
                with Requested(peer, "THERE", [(VERIFICATION, IMPLICIT)]) as association:
                    association.request(1, C_ECHO, echo)
            except (Unreachable, PeerGone):
                return False
            return True

        return Door(port, (struct.pack(">BBI", 1, 0, 5000) + b"\0\1",), serves)

    def _syslog(self, tls: ssl.SSLContext | None, terms: Terms) -> Door:
        receiver = SyslogReceiver(
            self._trail,
            "127.0.0.1",
            0,
            tls,
            admits=terms.admits,
            refused=terms.refused,
            patience=terms.seconds,
            handshake=terms.seconds,
            connections=terms.connections,
        )
        self._run(receiver.start(), receiver.stop)
        sender = syslog.Sender("there", "test", "1")

        def serves(calling: ssl.SSLContext | None) -> bool:
            before = self.records()
            sent = sender.write(message(1), "2026-03-02T08:00:00Z", failed=False)
            try:
                with secured(door.connect(), calling) as connection:
                    connection.sendall(syslog.frame(sent))
                    return self._grows(before, connection)
            except OSError:
                return False

        door = Door(receiver.port, (b"5000 <85>1 2026",), serves)
        return door

    def records(self) -> int:
        """How many audit records have come."""
        with self._trail.database.read() as connection:
            return connection.execute(select(func.count()).select_from(RECORD)).scalar_one()

    def _grows(self, before: int, connection: socket.socket) -> bool:
        """Whether a record arrives before the connection ends."""
        connection.settimeout(0.02)
        ends = time.monotonic() + PATIENCE_SECONDS
        while self.records() == before and time.monotonic() < ends:
            try:
                if not connection.recv(1):
                    break
            except TimeoutError:
                continue
        return self.records() > before

    def _run(self, starting: object, stop: Callable[[], object]) -> None:
        self._await(starting)
        self._stack.callback(lambda: self._await(stop()))

    def _await(self, work: object) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result()  # type: ignore[arg-type]


def secured(plain: socket.socket, tls: ssl.SSLContext | None) -> socket.socket:
    """``plain``, or TLS over it; raises OSError, and closes it, where that cannot be had."""
    if tls is None:
        return plain
    try:
        return tls.wrap_socket(plain, server_hostname="localhost")
    except OSError:
        plain.close()
        raise


@contextmanager
def event_loop() -> Iterator[asyncio.AbstractEventLoop]:
    """An event loop in a thread."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield loop
    finally:
        asyncio.run_coroutine_threadsafe(_end_all(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _end_all() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
