"""The DICOM provider: listens, and gives each connection a thread behind the guard.

Meant for a process of its own (``run``): images never share a heap with the registry, and
the embedded database has one writer. pynetdicom's codecs do the negotiation; the data path
is ours, because a queue and two threads for every PDU cost more than the disk does. Covers
PS3.4 Annex B (Storage, Verification) as provider.
"""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

import structlog

from imaging_source.association import Association, NotUnderstood, Permits, everything
from imaging_source.description.worker import Describer
from imaging_source.guard import Doorman, Limits
from imaging_source.handover import IndexDoor
from imaging_source.housekeeping import tidy
from imaging_source.index import MIGRATIONS
from imaging_source.intake import Intake
from imaging_source.ledger import End, Ledger, NoLedger, Records
from imaging_source.negotiation import Titles
from imaging_source.recalling import Asker
from imaging_source.service import Services
from imaging_source.users import Identify, nobody
from soap.tls_listener import why
from storage.blobs import BlobStore
from storage.database import Database

if TYPE_CHECKING:
    from imaging_source.publisher import Publisher

_log = structlog.get_logger("kosmos.imaging_source")

# DICOM's registered port without TLS (PS3.8 9.1.1).
DEFAULT_PORT = 11112
_BACKLOG = 128

# How long to wait when the system has no descriptors left for another connection.
_ACCEPT_PAUSE_SECONDS = 0.1

# An association that is cut ends at once, unless it waits for a third party (C-MOVE): that one
# ends with the process, and nothing that it was told is lost.
_LAST_SECONDS = 3.0

# Associations at work may finish in this time when the receiver stops.
STOP_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Listening:
    """Where and how to listen; port 0 lets the system choose."""

    host: str = "127.0.0.1"
    port: int = DEFAULT_PORT
    titles: Titles = field(default_factory=Titles)
    limits: Limits = field(default_factory=Limits)
    tls: ssl.SSLContext | None = None
    services: Services = field(default_factory=Services)
    permit: Permits = everything
    refused: Callable[[str, str], None] = lambda address, reason: None
    """Told the address of who fails in the TLS handshake, and why."""
    turned_away: Callable[[str, str], None] = lambda address, reason: None
    """Told the address of who asks for what it may not, and why it may not."""
    not_understood: NotUnderstood = lambda peer, reason: None
    ledger: Ledger = field(default_factory=NoLedger)
    identify: Identify = nobody
    """Judges for whom associations are."""


class Receiver:
    """A listening storage provider; use as a context manager."""

    def __init__(self, intake: Intake, listening: Listening) -> None:
        """Bind and start to accept; OSError when the address cannot be had."""
        self._intake = intake
        self._listening = listening
        self._doorman = Doorman(listening.limits)
        self._threads: set[threading.Thread] = set()
        self._stopping = threading.Event()
        self._socket = socket.create_server(
            (listening.host, listening.port), backlog=_BACKLOG, reuse_port=False
        )
        self._acceptor = threading.Thread(target=self._accept, name="dicom", daemon=True)
        self._acceptor.start()

    @property
    def port(self) -> int:
        """The port that is listened at."""
        return int(self._socket.getsockname()[1])

    def stop(self, grace: float = STOP_SECONDS) -> None:
        """Accept nothing more, let associations end for ``grace`` seconds, then cut them."""
        self._stopping.set()
        self._socket.shutdown(socket.SHUT_RDWR)
        self._acceptor.join()
        self._socket.close()
        deadline = time.monotonic() + grace
        self._doorman.close_waiting()
        for thread in list(self._threads):
            thread.join(max(0.0, deadline - time.monotonic()))
        self._doorman.close_all()
        deadline = time.monotonic() + _LAST_SECONDS
        for thread in list(self._threads):
            thread.join(max(0.0, deadline - time.monotonic()))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop(grace=0.0)

    def _accept(self) -> None:
        while True:
            try:
                connection, address = self._socket.accept()
            except OSError as error:
                if self._stopping.is_set():
                    return
                _log.error("connection not accepted", code="dicom-accept", error=str(error))
                self._stopping.wait(_ACCEPT_PAUSE_SECONDS)
                continue
            thread = threading.Thread(
                target=self._serve, args=(connection, address[0]), name="association", daemon=True
            )
            self._threads.add(thread)
            thread.start()

    def _serve(self, connection: socket.socket, address: str) -> None:
        try:
            with connection:
                # Without it each response waits 40 ms for the peer's delayed acknowledgement.
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._serve_secured(connection, address)
        except OSError as error:
            _log.info("connection lost", code="dicom-peer-gone", error=type(error).__name__)
        finally:
            self._threads.discard(threading.current_thread())

    def _serve_secured(self, connection: socket.socket, address: str) -> None:
        here = self._listening
        limits, titles = here.limits, here.titles
        with self._secured(connection) as secured, self._doorman.admit(secured, address) as ok:
            if ok:
                certificate = self._greet(secured, address)
                association = Association(
                    secured,
                    self._intake,
                    self._doorman,
                    limits,
                    titles,
                    here.services,
                    partial(here.permit, certificate, address),
                    partial(here.turned_away, address),
                    here.not_understood,
                    lambda title: Records(here.ledger, End(title, address, certificate)),
                    here.identify,
                )
                association.serve()
            else:
                _log.warning("connection refused", code="dicom-connections", peer=address)

    def _secured(self, connection: socket.socket) -> socket.socket:
        """The connection, under TLS if configured; the handshake is still to be made."""
        tls = self._listening.tls
        if tls is None:
            return connection
        return tls.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)

    def _greet(self, connection: socket.socket, address: str) -> bytes | None:
        """Make the TLS handshake, if any; the peer's certificate (DER). Raises OSError."""
        if not isinstance(connection, ssl.SSLSocket):
            return None
        connection.settimeout(self._listening.limits.associate_seconds)
        try:
            connection.do_handshake()
        except ssl.SSLError as error:
            if not isinstance(error, ssl.SSLEOFError):
                self._listening.refused(address, why(error))
            raise
        return connection.getpeercert(binary_form=True)


def run(
    database: Database,
    blobs: BlobStore,
    listening: Listening,
    *,
    handed_over: Path | None = None,
    asker: Asker | None = None,
    publisher: Publisher | None = None,
    ready: Callable[[int], None] = lambda port: None,
    stop: threading.Event,
) -> None:
    """The work of the imaging source's process: receive, and publish, until ``stop`` is set.

    ``database`` is this process's own to write; its schema is brought up to date first.
    ``blobs`` takes the files, ``handed_over`` the one where other processes reach
    the index (``imaging_source.handover``) and the ``asker``, ``ready`` is told the port when
    connections are accepted. Raises OSError when the address cannot be had and StorageError when
    the storage cannot be opened.
    """
    database.migrate(MIGRATIONS)
    describer = Describer(database, blobs)
    intake = Intake(database, blobs, stored=describer.notice)
    receiver = Receiver(intake, listening)
    tidying = threading.Thread(target=tidy, args=(database, blobs, stop), name="tidy")
    try:
        tidying.start()
        describer.start()
        if publisher is not None:
            publisher.start()
        _log.info("listening", code="dicom-listening", port=receiver.port)
        with _door(intake, handed_over, asker):
            ready(receiver.port)
            stop.wait()
    finally:
        stop.set()
        receiver.stop()
        describer.stop()
        tidying.join()
        if publisher is not None:
            publisher.stop()


def _door(
    intake: Intake, folder: Path | None, asker: Asker | None
) -> AbstractContextManager[object]:
    """The door for other processes, where there is to be one."""
    return nullcontext() if folder is None else IndexDoor(intake, folder, asker)
