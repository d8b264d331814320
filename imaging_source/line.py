"""An established association as a line for messages: what both of its ends do (PS3.7 6.3).

Sends commands, small data sets and instances; reads whole messages, data set included, where
they are small. The data sets of C-STORE requests that arrive are not read here: they stream
through ``imaging_source.association``.
"""

from __future__ import annotations

import select
import socket
import ssl
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from imaging_source.dimse import (
    C_STORE_RQ,
    COMMAND_LIMIT_BYTES,
    FRAGMENT_OVERHEAD_BYTES,
    MEDIUM,
    MESSAGE_ID,
    PRIORITY,
    SOP_CLASS_UID,
    SOP_INSTANCE_UID,
    Command,
    Fragment,
    fragment_head,
    read_command,
    read_fragments,
    write_request,
)
from imaging_source.guard import AbortReason, Limits, PduReader, PduType, PeerGone, ProtocolError
from imaging_source.negotiation import Context, release_response
from imaging_source.negotiation import abort as abort_pdu

# The identifier of a query has some hundred bytes, a storage commitment of 10,000 instances
# 1.5 MB: what is held in memory of one message ends here.
DATA_SET_LIMIT_BYTES = 4 * 1024 * 1024

# Where a peer sets no limit to its PDUs (PS3.8 D.1.1), and the most that is made use of.
_LONGEST_PDU_BYTES = 1024 * 1024
# PS3.8 sets no least length. With this a piece of a file (256 KiB) makes 520 buffers at most,
# and Linux takes 1,024 in one call (IOV_MAX).
_SHORTEST_PDU_BYTES = 1024


@dataclass(frozen=True, slots=True)
class Message:
    """A command with the data set that came with it."""

    context_id: int
    command: Command
    data_set: bytes


class Line:
    """One association's connection, with the contexts and the PDU length of its peer."""

    def __init__(self, connection: socket.socket, reader: PduReader, limits: Limits) -> None:
        self._socket = connection
        self._reader = reader
        self._limits = limits
        self.name = ""
        """The AE title of the peer."""
        self.contexts: Mapping[int, Context] = {}
        self._pdu_bytes = _SHORTEST_PDU_BYTES
        self._message_id = 0

    def established(self, name: str, contexts: Mapping[int, Context], peer_pdu_bytes: int) -> None:
        """From now on messages pass; a peer's PDU length of 0 means any (PS3.8 D.1.1)."""
        self.name = name
        self.contexts = contexts
        wanted = peer_pdu_bytes or _LONGEST_PDU_BYTES
        self._pdu_bytes = max(_SHORTEST_PDU_BYTES, min(wanted, _LONGEST_PDU_BYTES))
        self._reader.associated()

    @property
    def pdu_bytes(self) -> int:
        """The longest PDU that the peer takes."""
        return self._pdu_bytes

    def context_of(self, sop_class_uid: str, transfer_syntax_uid: str | None = None) -> int | None:
        """The context of a SOP class, in this transfer syntax if one is given."""
        for context_id, context in self.contexts.items():
            same_syntax = transfer_syntax_uid in (None, context.transfer_syntax)
            if context.abstract_syntax == sop_class_uid and same_syntax:
                return context_id
        return None

    def next_message_id(self) -> int:
        """A Message ID of our own (PS3.7 E.1): 1 to 65,535, then again."""
        self._message_id = self._message_id % 0xFFFF + 1
        return self._message_id

    def send(self, data: bytes) -> None:
        """Send whole PDUs; PeerGone when that cannot be done in time."""
        try:
            self._socket.settimeout(self._limits.pdu_seconds)
            self._socket.sendall(data)
        except OSError as error:
            raise PeerGone(f"the connection broke: {type(error).__name__}") from error

    def stream(self, context_id: int, pieces: Iterable[bytes]) -> None:
        """Send a data set in PDUs as long as the peer takes them."""
        for buffers in _batches(context_id, pieces, self._pdu_bytes):
            self._send_buffers(buffers)

    def send_instance(
        self,
        context_id: int,
        sop_class_uid: str,
        sop_instance_uid: str,
        pieces: Iterable[bytes],
        origin: Iterable[tuple[int, str | int]] = (),
    ) -> int:
        """Send a C-STORE request (PS3.7 9.1.1) with the data set in ``pieces``; its Message ID.

        ``origin`` are the elements of the C-MOVE that it is for. Raises PeerGone, and what
        ``pieces`` raises: half of it is sent then.
        """
        message_id = self.next_message_id()
        elements: tuple[tuple[int, str | int], ...] = (
            (SOP_CLASS_UID, sop_class_uid),
            (MESSAGE_ID, message_id),
            (PRIORITY, MEDIUM),
            (SOP_INSTANCE_UID, sop_instance_uid),
            *origin,
        )
        self.send(write_request(context_id, C_STORE_RQ, elements, has_data_set=True))
        self.stream(context_id, pieces)
        return message_id

    def read(self) -> Message:
        """The next message; PeerGone when the association ends instead.

        Raises ProtocolError for a message longer than is held in memory, and Unreadable.
        """
        collected, data, context_id = bytearray(), bytearray(), 0
        command: Command | None = None
        while True:
            for fragment in self.fragments():
                context_id = fragment.context_id
                self._collect(fragment, data if command else collected)
                if fragment.is_last and command is None:
                    command = read_command(bytes(collected))
                    if not command.has_data_set:
                        return Message(context_id, command, b"")
                elif fragment.is_last and command is not None:
                    return Message(context_id, command, bytes(data))

    def fragments(self) -> Iterator[Fragment]:
        """Those of the next PDU, valid until the next call; PeerGone when the association ends."""
        kind, content = self._reader.read()
        if kind == PduType.RELEASE_RQ:
            self.send(release_response())
        if kind != PduType.P_DATA:
            raise PeerGone("the peer ended the association")
        return read_fragments(content)

    def has_news(self, within: float = 0.0) -> bool:
        """Whether the peer has said something that waits to be read, or does ``within`` seconds."""
        if self._reader.has_begun:
            return True
        if isinstance(self._socket, ssl.SSLSocket) and self._socket.pending():
            return True
        try:
            return bool(select.select([self._socket], [], [], within)[0])
        except (OSError, ValueError) as error:  # closed by the doorman
            raise PeerGone("the connection is closed") from error

    def abort(self, reason: AbortReason) -> None:
        """Say that the association is over, and why; PeerGone if nobody listens."""
        self.send(abort_pdu(reason))
        self._reader.drain()

    def _collect(self, fragment: Fragment, into: bytearray) -> None:
        limit = COMMAND_LIMIT_BYTES if fragment.is_command else DATA_SET_LIMIT_BYTES
        if len(into) + len(fragment.data) > limit:
            raise ProtocolError(AbortReason.INVALID_PARAMETER, "the message is too long")
        into += fragment.data

    def _send_buffers(self, buffers: list[bytes | memoryview]) -> None:
        if isinstance(self._socket, ssl.SSLSocket):
            self.send(b"".join(buffers))
            return
        try:
            self._socket.settimeout(self._limits.pdu_seconds)
            while buffers:
                buffers = _after(buffers, self._socket.sendmsg(buffers))
        except OSError as error:
            raise PeerGone(f"the connection broke: {type(error).__name__}") from error


def _batches(
    context_id: int, pieces: Iterable[bytes], pdu_bytes: int
) -> Iterator[list[bytes | memoryview]]:
    """The buffers of a data set's PDUs, for each piece those that one system call takes."""
    step = (pdu_bytes - FRAGMENT_OVERHEAD_BYTES) & ~1  # of even length (PS3.8 Annex E)
    whole = fragment_head(context_id, step, is_last=False)
    held: memoryview | None = None  # the last fragment is marked, so one is held back
    for piece in pieces:
        view = memoryview(piece)
        buffers: list[bytes | memoryview] = []
        for start in range(0, len(view), step):
            if held is not None:
                buffers += (whole if len(held) == step else _head(context_id, held), held)
            held = view[start : start + step]
        yield buffers
    last = held if held is not None else memoryview(b"")
    yield [fragment_head(context_id, len(last), is_last=True), last]


def _head(context_id: int, fragment: memoryview) -> bytes:
    return fragment_head(context_id, len(fragment), is_last=False)


def _after(buffers: list[bytes | memoryview], sent: int) -> list[bytes | memoryview]:
    """What is left of ``buffers`` once ``sent`` bytes of them are gone."""
    for number, buffer in enumerate(buffers):
        if sent < len(buffer):
            return [memoryview(buffer)[sent:], *buffers[number + 1 :]]
        sent -= len(buffer)
    return []
