"""An Audit Record Repository in the kit's hands (ITI-20), on a port of this machine.

Syslog over TLS (RFC 5425; over TCP where the node is plain). It keeps what arrives, in order, and
can go away for a while. Records are told apart by what a case has made up: an identifier that
stands in them, in clear or in the base64 of a query.
"""

from __future__ import annotations

import base64
import binascii
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from typing import Any, cast

from lxml import etree

from conformance.seen import Compared
from security.audit.syslog import BadSyslog, Frames, read

# PRI of security messages that tell of what went well and of what failed; the version; MSGID.
_HEADER = re.compile(rb"<(?:84|85)>1 \S+ \S+ \S+ \S+ IHE\+RFC-3881 - ")
_BASE64 = ("ParticipantObjectQuery/text()", "ParticipantObjectDetail/@value")
_PIECE = 64 * 1024
# How long a connection is read at a time before it is looked whether the repository goes away.
_TICK_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class AuditRecord:
    """One record as it arrived."""

    message: bytes
    header: bool
    """Whether its syslog header is that of an audit message."""
    root: etree._Element | None = field(repr=False, default=None)

    @property
    def faults(self) -> list[str]:
        """What is wrong with its form: its header, its schema."""
        faults = [] if self.header else ["the syslog header"]
        if self.root is None:
            return [*faults, "no XML"]
        schema = _schema()
        schema.validate(self.root)
        return [*faults, *(entry.message for entry in list(schema.error_log))]  # type: ignore[call-overload]

    @property
    def kind(self) -> str:
        """The code of its EventTypeCode."""
        return self._first("EventIdentification/EventTypeCode/@csd-code")

    @property
    def event(self) -> tuple[str, str, bool]:
        """EventID, EventActionCode, and whether it went well."""
        outcome = self._first("EventIdentification/@EventOutcomeIndicator")
        return (
            self._first("EventIdentification/EventID/@csd-code"),
            self._first("EventIdentification/@EventActionCode"),
            outcome == "0",
        )

    @property
    def ends(self) -> list[tuple[str, bool]]:
        """The role of each end (Source, Destination), and whether it is the requestor."""
        ends = []
        for one in self._all("ActiveParticipant"):
            for role in one.iterfind("RoleIDCode"):
                if role.get("codeSystemName") == "DCM":
                    asks = one.get("UserIsRequestor") == "true"
                    ends.append((role.get("csd-code", ""), asks))
        return sorted(ends)

    @property
    def objects(self) -> list[tuple[str, str, str, str]]:
        """Type, role, kind of identifier and identifier of each object."""
        return sorted(
            (
                one.get("ParticipantObjectTypeCode", ""),
                one.get("ParticipantObjectTypeCodeRole", ""),
                _code(one.find("ParticipantObjectIDTypeCode")),
                one.get("ParticipantObjectID", ""),
            )
            for one in self._all("ParticipantObjectIdentification")
        )

    @property
    def users(self) -> list[str]:
        """The UserName of every participant who has one."""
        return [one.get("UserName", "") for one in self._all("ActiveParticipant")]

    def names(self, text: str) -> bool:
        """Whether ``text`` stands in it, in clear or in base64."""
        clear = [self.message]
        for path in _BASE64:
            for value in self._all(f"ParticipantObjectIdentification/{path}"):
                with suppress(binascii.Error, ValueError):
                    clear.append(base64.b64decode(str(value)))
        return any(text.encode() in one for one in clear)

    def _all(self, path: str) -> list[Any]:
        return cast(list[Any], [] if self.root is None else self.root.xpath(path))

    def _first(self, path: str) -> str:
        return str(next(iter(self._all(path)), ""))


def _code(element: etree._Element | None) -> str:
    return "" if element is None else element.get("csd-code", "")


@cache
def _schema() -> etree.XMLSchema:
    return etree.XMLSchema(
        etree.fromstring((resources.files(__package__) / "audit.xsd").read_bytes())
    )


def record_of(message: bytes) -> AuditRecord:
    """The record in a message by syslog."""
    try:
        body = read(message)
    except BadSyslog:
        return AuditRecord(message, False)
    header = _HEADER.match(message) is not None
    try:
        parser = etree.XMLParser(resolve_entities=False, no_network=True)
        return AuditRecord(body, header, etree.fromstring(body, parser))
    except etree.XMLSyntaxError:
        return AuditRecord(body, header)


class AuditRepository:
    """Takes records in, in threads, from ``start`` to ``close``."""

    read = staticmethod(record_of)

    def __init__(self, host: str, port: int, tls: ssl.SSLContext | None) -> None:
        self._place = (host, port)
        self._tls = tls
        self._records: list[AuditRecord] = []
        self._arrived = threading.Condition()
        self._leaving = threading.Event()
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Listen. Raises OSError where the port is taken."""
        self._leaving.clear()
        listener = socket.create_server(self._place)
        self._run(self._accept, listener)

    def close(self) -> None:
        """Listen no more; what has come is kept."""
        self._leaving.set()
        while self._threads:
            self._threads.pop().join()

    @contextmanager
    def away(self) -> Iterator[None]:
        """Nobody is there meanwhile."""
        self.close()
        try:
            yield
        finally:
            self.start()

    def count(self) -> int:
        """How many records have come so far."""
        with self._arrived:
            return len(self._records)

    def await_records(
        self, wanted: Callable[[AuditRecord], bool], count: int, seconds: float, since: int = 0
    ) -> list[AuditRecord]:
        """The records that are wanted, once there are ``count`` of them or time is over."""
        deadline = time.monotonic() + seconds
        with self._arrived:
            while True:
                found = [one for one in self._records[since:] if wanted(one)]
                left = deadline - time.monotonic()
                if len(found) >= count or left <= 0:
                    return found
                self._arrived.wait(left)

    def _run(self, work: Callable[[socket.socket], None], connection: socket.socket) -> None:
        thread = threading.Thread(target=work, args=(connection,), name="audit repository")
        self._threads.append(thread)
        thread.start()

    def _accept(self, listener: socket.socket) -> None:
        listener.settimeout(_TICK_SECONDS)
        with listener:
            while not self._leaving.is_set():
                with suppress(TimeoutError):
                    self._run(self._take, listener.accept()[0])

    def _take(self, connection: socket.socket) -> None:
        frames = Frames()
        try:
            with self._secured(connection) as secured:
                secured.settimeout(_TICK_SECONDS)
                while (data := self._received(secured)) is not None:
                    for message in frames.feed(data):
                        self._keep(self.read(message))
        except (OSError, BadSyslog):
            return  # gone, or nothing that is framed

    def _secured(self, connection: socket.socket) -> socket.socket:
        connection.settimeout(10)  # for the handshake
        if self._tls is None:
            return connection
        try:
            return self._tls.wrap_socket(connection, server_side=True)
        except BaseException:
            connection.close()
            raise

    def _received(self, connection: socket.socket) -> bytes | None:
        """The next bytes; None at the end, or when the repository goes away and nothing is due."""
        try:
            return connection.recv(_PIECE) or None
        except TimeoutError:
            return None if self._leaving.is_set() else b""

    def _keep(self, record: AuditRecord) -> None:
        with self._arrived:
            self._records.append(record)
            self._arrived.notify_all()


def form_of(records: list[AuditRecord]) -> Compared:
    """What is wrong with the form of records, which must be nothing."""
    return Compared("faults of form", [], [fault for one in records for fault in one.faults])
