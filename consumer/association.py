"""DICOM associations as the consumer has them (PS3.7, PS3.8): pynetdicom behind a guard.

pynetdicom negotiates and speaks. What it lacks is here: a PDU is no longer than we said and comes
within its time, a message without a data set has an end, and the data set of a C-STORE goes where
it is wanted while it arrives, never into memory.
"""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, NamedTuple, Protocol

from pynetdicom import AE, Association, evt
from pynetdicom.dimse_messages import C_STORE_RQ
from pynetdicom.pdu_primitives import (
    P_DATA,
    SCP_SCU_RoleSelectionNegotiation,
    UserIdentityNegotiation,
)
from pynetdicom.presentation import PresentationContext
from pynetdicom.transport import AssociationSocket

from consumer.applications import Application

# Larger PDUs cost less each; this is what one association holds in memory.
PDU_BYTES = 256 * 1024

# Everything but data sets of C-STORE: a response may list some thousand UIDs, of 65 bytes each.
_MESSAGE_BYTES = 1024 * 1024

# User-Identity-Type (PS3.7 Table D.3-14).
_SAML = 4

# Seconds for a connection, and for the answer to an association or a release.
CONNECT_SECONDS = 10.0

# What pynetdicom and pydicom let through when the bytes are no message.
_UNREADABLE = (
    *(ValueError, TypeError, KeyError, IndexError, AttributeError, AssertionError),
    *(NotImplementedError, struct.error, OSError),
)


class Head(NamedTuple):
    """What a C-STORE request says of the data set that follows."""

    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str


class Sink(Protocol):
    """Where a data set goes while it arrives."""

    def write(self, data: bytes) -> bool:
        """Take the next bytes; False to hear no more from this association."""

    def finish(self) -> int:
        """All has come: the status of the C-STORE (PS3.4 B.2.3)."""

    def abort(self) -> None:
        """The rest will not come."""


MakeSink = Callable[[Association, Head], Sink]


def handlers(make_sink: MakeSink, silence: float) -> list[evt.EventHandlerType]:
    """What guards an association: for whoever asks for it, and for whoever takes it."""
    return [
        (evt.EVT_CONN_OPEN, _guard, [make_sink, silence]),
        (evt.EVT_CONN_CLOSE, _closed),
        (evt.EVT_C_STORE, _taken),
    ]


def associate(
    peer: Application,
    calling: str,
    contexts: list[PresentationContext],
    *,
    roles: Sequence[SCP_SCU_RoleSelectionNegotiation] = (),
    make_sink: MakeSink,
    silence: float,
) -> Association:
    """Ask for an association, for the user of the peer's token; ``is_established`` says whether
    there is one.

    The time that answers may take is for whoever asks something over it.
    """
    user = _User(calling)
    user.connection_timeout = user.acse_timeout = min(CONNECT_SECONDS, silence)
    user.dimse_timeout = user.network_timeout = None
    return user.associate(
        peer.host,
        peer.port,
        contexts=contexts,
        ae_title=peer.title,
        max_pdu=PDU_BYTES,
        ext_neg=[*roles, *_identities(peer.token())],
        evt_handlers=handlers(make_sink, silence),
        tls_args=None if peer.tls is None else (peer.tls, peer.host),
    )


def _identities(assertion: str) -> list[UserIdentityNegotiation]:
    """For whom we ask; nobody without an assertion."""
    if not assertion:
        return []
    item = UserIdentityNegotiation()
    item.user_identity_type = _SAML
    item.primary_field = assertion.encode()
    return [item]


def hang_up(association: Association) -> None:
    """End an association at once; whoever waits for something from it waits no longer."""
    connection = association.dul.socket
    raw = None if connection is None else connection.socket
    if raw is not None:
        with suppress(OSError):
            raw.shutdown(socket.SHUT_RDWR)


def end(association: Association) -> None:
    """Hang up, and close what pynetdicom leaves open."""
    raw = association.dul.socket.socket if association.dul.socket is not None else None
    hang_up(association)
    if association.is_alive():
        association.join(CONNECT_SECONDS)
    if raw is not None:
        raw.close()


class _User(AE):
    """pynetdicom's, which does not close a socket that was never connected."""

    def _create_socket(self, *wanted: Any) -> AssociationSocket:
        connection = super()._create_socket(*wanted)

        def close() -> None:
            if connection.socket is not None:
                with suppress(OSError):
                    connection.socket.shutdown(socket.SHUT_RDWR)
                connection.socket.close()

        connection._shutdown_socket = close  # type: ignore[method-assign]
        return connection


class _Incoming:
    """Stands before ``receive_primitive`` of an association: opens a sink for each data set."""

    def __init__(self, association: Association, make_sink: MakeSink) -> None:
        self._association = association
        self._dimse = association.dimse
        self._receive = association.dimse.receive_primitive
        self._make_sink = make_sink
        self._held = 0
        self.feed: _Feed | None = None

    def __call__(self, primitive: P_DATA) -> None:
        """Take what a P-DATA brings, fragment by fragment: two messages may share one."""
        for value in primitive.presentation_data_value_list:
            try:
                self._take(value)
            except _UNREADABLE:
                hang_up(self._association)
                return

    def _take(self, value: Any) -> None:
        if self._dimse.message is None:
            self._held, self.feed = 0, None
        if self.feed is None:
            self._held += len(value[1])
        fragment = P_DATA()
        fragment.presentation_data_value_list = [list(value)]  # type: ignore[list-item]
        self._receive(fragment)
        message = self._dimse.message
        if self.feed is None and isinstance(message, C_STORE_RQ):
            self.feed = _Feed(self._sink(message))
            message._data_set_file = self.feed  # type: ignore[assignment]
            message._data_set_path = self.feed  # type: ignore[assignment]
        if self._held > _MESSAGE_BYTES or (self.feed is not None and not self.feed.is_wanted):
            hang_up(self._association)

    def _sink(self, message: C_STORE_RQ) -> Sink:
        command = message.command_set
        assert message.context_id is not None  # pynetdicom sets it with the command
        context = self._association._accepted_cx[message.context_id]
        uids = command.AffectedSOPClassUID, command.AffectedSOPInstanceUID
        syntax = context.transfer_syntax[0]
        return self._make_sink(self._association, Head(*map(str, (*uids, syntax))))


class _Feed:
    """A sink as pynetdicom writes into it: into a temporary file, it thinks."""

    def __init__(self, sink: Sink) -> None:
        self.sink = sink
        self.is_wanted = True
        self.file = self

    def write(self, data: bytes) -> None:
        if self.is_wanted:
            self.is_wanted = self.sink.write(data)

    def flush(self) -> None:
        """A sink flushes itself when it is finished."""


def _guard(event: evt.Event, make_sink: MakeSink, silence: float) -> None:
    connection = event.assoc.dul.socket
    if connection is None or connection.socket is None:
        return
    # Without this every message waits 40 ms for a delayed acknowledgement of TCP.
    connection.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.socket.settimeout(silence)

    def receive(count: int) -> bytearray:
        raw = connection.socket
        return bytearray() if raw is None else _received(raw, count, silence)

    connection.recv = receive  # type: ignore[method-assign, assignment]
    incoming = _Incoming(event.assoc, make_sink)
    event.assoc.dimse.receive_primitive = incoming  # type: ignore[method-assign]


def _received(raw: socket.socket, count: int, seconds: float) -> bytearray:
    """``count`` bytes, or what came before the end. Raises OSError for too many and too late."""
    if count > PDU_BYTES:
        raise OSError("the PDU is longer than the longest that we take")
    deadline = time.monotonic() + seconds
    received = bytearray(count)
    at = 0
    while at < count:
        read = raw.recv_into(memoryview(received)[at:])
        if not read:
            return received[:at]
        if time.monotonic() > deadline:
            raise TimeoutError("the PDU takes too long")
        at += read
    return received


def _closed(event: evt.Event) -> None:
    incoming = event.assoc.dimse.receive_primitive
    if isinstance(incoming, _Incoming) and incoming.feed is not None:
        incoming.feed.sink.abort()


def _taken(event: evt.Event) -> int:
    """The status of a C-STORE whose data set has come, or that has none."""
    feed, event.request._dataset_file = event.request._dataset_file, None
    return feed.sink.finish() if isinstance(feed, _Feed) else _CANNOT_UNDERSTAND


# PS3.4 Table B.2-1.
_CANNOT_UNDERSTAND = 0xC000
