"""The guard between the network and DICOM: limits on what a peer can make us hold or wait for.

Every byte from the network is read here. A protocol data unit is looked at before it is
read: type known, length within its limit; then it must arrive within a deadline. A
connection must ask for an association soon, may not be silent for long, and counts against
quotas, of which silent ones are the first to go. Covers PS3.8 9.3 (PDU structure); what the
PDUs mean is told by ``imaging_source.association``.
"""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import IntEnum

_HEAD = struct.Struct(">BxI")

_TCP = (socket.AF_INET, socket.AF_INET6)

# How long and how much is read from a peer that has been told to go: closing at once, with
# bytes unread, would make the kernel reset the connection and lose what it was told.
_DRAIN_SECONDS = 1.0
_DRAIN_BYTES = 4 * 1024 * 1024


class PduType(IntEnum):
    """PDU types (PS3.8 9.3.1)."""

    ASSOCIATE_RQ = 0x01
    ASSOCIATE_AC = 0x02
    ASSOCIATE_RJ = 0x03
    P_DATA = 0x04
    RELEASE_RQ = 0x05
    RELEASE_RP = 0x06
    ABORT = 0x07


REQUEST = frozenset({PduType.ASSOCIATE_RQ})
"""What an acceptor is told before there is an association."""
ANSWER = frozenset({PduType.ASSOCIATE_AC, PduType.ASSOCIATE_RJ})
"""What a requestor is told before there is one."""
_OPENING = REQUEST | ANSWER


class AbortReason(IntEnum):
    """Why the provider aborts (PS3.8 Table 9-26)."""

    NOT_SPECIFIED = 0
    UNRECOGNIZED_PDU = 1
    UNEXPECTED_PDU = 2
    INVALID_PARAMETER = 6


class PeerGone(Exception):
    """The peer closed the connection, or nothing arrived in time."""


class ProtocolError(Exception):
    """The peer broke PS3.8: the association is to be aborted for ``reason``."""

    def __init__(self, reason: AbortReason, text: str) -> None:
        super().__init__(text)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Limits:
    """What peers may take; times in seconds, sizes in bytes."""

    pdu_bytes: int = 1024 * 1024
    """Longest P-DATA PDU, also announced to peers: larger ones cost less per byte."""
    associate_bytes: int = 256 * 1024
    """Longest A-ASSOCIATE-RQ: all 128 contexts with every transfer syntax have some 160 KB."""
    associate_seconds: float = 15.0
    """From the connection to the whole A-ASSOCIATE-RQ (the ARTIM timer of PS3.8 9.1.5)."""
    pdu_seconds: float = 15.0
    """From a PDU's first byte to its last: 1 MiB takes 8 s at 1 Mbit/s."""
    idle_seconds: float = 60.0
    """Between two PDUs of an association."""
    connections: int = 256
    """Open connections, associated or not; each has a thread."""
    connections_per_peer: int = 64
    """Open connections from one address."""
    associations: int = 64
    """Associations at a time."""


class PduReader:
    """Reads the PDUs of one connection within ``limits``; the first is one of ``opening``."""

    def __init__(
        self,
        connection: socket.socket,
        limits: Limits,
        opening: frozenset[PduType] = REQUEST,
    ) -> None:
        self._socket = connection
        self._limits = limits
        self._opening = opening
        self._associated = False
        self._prompt = connection.family in _TCP and hasattr(socket, "TCP_QUICKACK")
        self._buffer = bytearray()
        self._ahead = b""  # of the next PDU's head: it comes with the end of the one before
        self._opened = time.monotonic()

    def associated(self) -> None:
        """From now on the PDUs of an established association are expected."""
        self._associated = True

    @property
    def has_begun(self) -> bool:
        """Whether the beginning of the next PDU is here already."""
        return bool(self._ahead)

    def read(self) -> tuple[PduType, memoryview]:
        """The next PDU's type and content, valid until the next call.

        Raises PeerGone at the end of the connection and at a deadline, ProtocolError for a
        PDU that may not come now or is too long; of that one only the head has been read.
        """
        kind, length = _HEAD.unpack(self._head())
        limit = self._limit(kind)
        if length > limit:
            text = f"PDU type {kind} of {length} bytes; at most {limit} are accepted"
            raise ProtocolError(AbortReason.INVALID_PARAMETER, text)
        room = length + _HEAD.size
        if len(self._buffer) < room:
            self._buffer = bytearray(room)
        into = memoryview(self._buffer)[:room]
        count = self._receive(into, length, self._deadline(self._limits.pdu_seconds))
        self._ahead = bytes(into[length:count])
        return PduType(kind), into[:length]

    def drain(self) -> None:
        """Say that nothing more will be sent, and let the peer read that: see _DRAIN_SECONDS."""
        deadline = time.monotonic() + _DRAIN_SECONDS
        scratch = memoryview(bytearray(64 * 1024))
        rest = _DRAIN_BYTES
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)
            while rest > 0 and (remaining := deadline - time.monotonic()) > 0:
                self._socket.settimeout(remaining)
                count = self._socket.recv_into(scratch)
                rest = rest - count if count else 0

    def _head(self) -> memoryview:
        ahead, self._ahead = self._ahead, b""
        head = memoryview(bytearray(_HEAD.size))
        head[: len(ahead)] = ahead
        rest = head[len(ahead) :]
        if not ahead:
            rest = rest[self._receive_some(rest, self._deadline(self._limits.idle_seconds)) :]
        self._receive(rest, len(rest), self._deadline(self._limits.pdu_seconds))
        return head

    def _deadline(self, seconds: float) -> float:
        if self._associated:
            return time.monotonic() + seconds
        return self._opened + self._limits.associate_seconds

    def _limit(self, kind: int) -> int:
        """The most bytes that a PDU of this type may have now."""
        if kind not in PduType._value2member_map_:
            raise ProtocolError(AbortReason.UNRECOGNIZED_PDU, f"PDU type {kind} does not exist")
        if kind == PduType.ABORT:
            return 4
        expected = self._associated if kind not in _OPENING else kind in self._opening_now()
        if not expected:
            raise ProtocolError(AbortReason.UNEXPECTED_PDU, f"PDU type {kind} is out of place")
        if kind in _OPENING:
            return self._limits.associate_bytes
        return self._limits.pdu_bytes if kind == PduType.P_DATA else 4

    def _opening_now(self) -> frozenset[PduType]:
        return frozenset() if self._associated else self._opening

    def _receive(self, into: memoryview, least: int, deadline: float) -> int:
        """Receive ``least`` bytes, and more if they are here; PeerGone if not by ``deadline``."""
        count = 0
        while count < least:
            count += self._receive_some(into[count:], deadline)
        return count

    def _receive_some(self, into: memoryview, deadline: float) -> int:
        """Receive what there is, up to the length of ``into``; PeerGone when nothing comes."""
        remaining = deadline - time.monotonic()
        if remaining <= 0:
            raise PeerGone("the peer was silent for too long")
        try:
            self._wait_for_at_most(remaining)
            count = self._socket.recv_into(into)
        except OSError as error:  # timeouts and resets
            raise PeerGone(f"the connection broke: {type(error).__name__}") from error
        if count == 0:
            raise PeerGone("the peer closed the connection")
        self._acknowledge()
        return count

    def _wait_for_at_most(self, seconds: float) -> None:
        """Bound the next wait, to a hundredth: a new bound for each costs a system call."""
        bound = self._socket.gettimeout()
        if bound is None or not seconds <= bound <= seconds * 1.01:
            self._socket.settimeout(seconds)

    def _acknowledge(self) -> None:
        """Let TCP acknowledge at once, where the system has a way to ask for it.

        A sender with Nagle's algorithm holds the end of a message back until then, and Linux lets
        it wait for 40 ms. The wish does not last: it is made again whenever something arrives.
        """
        if self._prompt:
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)


class Doorman:
    """Counts connections, and makes room by closing those that have not said anything yet."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._lock = threading.Lock()
        # In order of arrival; the value is the peer's address.
        self._waiting: dict[socket.socket, str] = {}
        self._associated: dict[socket.socket, str] = {}

    @contextmanager
    def admit(self, connection: socket.socket, address: str) -> Iterator[bool]:
        """Count ``connection`` while the block runs; False where there is no room for it."""
        try:
            yield self._enter(connection, address)
        finally:
            with self._lock:
                self._waiting.pop(connection, None)
                self._associated.pop(connection, None)

    def associate(self, connection: socket.socket) -> bool:
        """Count ``connection`` as an association; False where there are enough of them."""
        with self._lock:
            address = self._waiting.pop(connection, None)
            if address is None or len(self._associated) >= self._limits.associations:
                return False
            self._associated[connection] = address
            return True

    def close_waiting(self) -> None:
        """Shut the connections without an association, so that their threads end."""
        with self._lock:
            for connection in self._waiting:
                _shut(connection)

    def close_all(self) -> None:
        """Shut every connection."""
        with self._lock:
            for connection in (*self._waiting, *self._associated):
                _shut(connection)

    def _enter(self, connection: socket.socket, address: str) -> bool:
        with self._lock:
            everyone = [*self._waiting.values(), *self._associated.values()]
            if everyone.count(address) >= self._limits.connections_per_peer:
                admitted = self._evict(address)
            elif len(everyone) >= self._limits.connections:
                admitted = self._evict(None)
            else:
                admitted = True
            if admitted:
                self._waiting[connection] = address
            return admitted

    def _evict(self, address: str | None) -> bool:
        """Close the longest waiting connection, of ``address`` if given; whether there is one."""
        for connection, peer in self._waiting.items():
            if address in (None, peer):
                del self._waiting[connection]
                _shut(connection)
                return True
        return False


def _shut(connection: socket.socket) -> None:
    with suppress(OSError):  # closed by the other side already
        connection.shutdown(socket.SHUT_RDWR)
