"""What a DIMSE service other than storage sees of an association.

A handler is given one request whole and answers it through its ``Exchange``: once, or with
pending responses first. It runs in the thread of the association.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import structlog

from imaging_source.dimse import (
    C_CANCEL_RQ,
    C_STORE_RQ,
    RESPONSE,
    Command,
    Counts,
    write_data_set,
    write_response,
)
from imaging_source.elements import Unreadable
from imaging_source.guard import AbortReason, ProtocolError
from imaging_source.ledger import Records
from imaging_source.line import Line, Message
from imaging_source.negotiation import Context, Offer
from storage.errors import StorageError

_log = structlog.get_logger("kosmos.imaging_source")

# Statuses that services share (PS3.4 Tables C.4-1 to C.4-3, PS3.7 Annex C).
SUCCESS = 0x0000
PENDING = 0xFF00
CANCELLED = 0xFE00
OUT_OF_RESOURCES = 0xA700
NOT_OF_THE_CLASS = 0xA900
UNABLE_TO_PROCESS = 0xC000
PROCESSING_FAILURE = 0x0110
NOT_AUTHORIZED = 0x0124

# Error Comment (0000,0902) has the VR LO.
_COMMENT_CHARACTERS = 64

# Responses that are ready are sent together up to this size: one segment each would cost more.
_GATHERED_BYTES = 64 * 1024


class Refused(Exception):
    """The request cannot be done; the status says why, the text what to change."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


class Exchange:
    """One request of a peer, and the way to answer it."""

    def __init__(
        self,
        line: Line,
        context_id: int,
        request: Command,
        data_set: bytes,
        records: Records | None = None,
    ) -> None:
        self.line = line
        self.context: Context = line.contexts[context_id]
        self.request = request
        self.data_set = data_set
        self.records = records or Records()
        self.before_answer: Callable[[int], None] = lambda _status: None
        """Done once, with the status of the first response, before that is sent."""
        self._context_id = context_id
        self._gathered = bytearray()
        self._is_cancelled = False

    def respond(
        self,
        status: int,
        data_set: bytes | None = None,
        *,
        comment: str = "",
        counts: Counts | None = None,
    ) -> None:
        """Send a response; one that is pending may wait for the next to go with it."""
        before, self.before_answer = self.before_answer, lambda _status: None
        before(status)
        self._gathered += write_response(
            self._context_id,
            self.request,
            status,
            comment[:_COMMENT_CHARACTERS],
            counts=counts,
            has_data_set=data_set is not None,
        )
        if data_set is not None:
            self._gathered += write_data_set(self._context_id, data_set, self.line.pdu_bytes)
        if status != PENDING or counts is not None or len(self._gathered) >= _GATHERED_BYTES:
            self.line.send(bytes(self._gathered))
            self._gathered.clear()

    def is_cancelled(self) -> bool:
        """Whether the peer has sent a C-CANCEL for this request by now."""
        while not self._is_cancelled and self.line.has_news():
            self._hear(self.line.read())
        return self._is_cancelled

    def response_to(self, message_id: int) -> Command:
        """The peer's response to our own request on this association (C-GET)."""
        while True:
            message = self.line.read()
            if message.command.field == C_STORE_RQ | RESPONSE:
                if message.command.responded_to == message_id:
                    return message.command
                raise ProtocolError(AbortReason.UNEXPECTED_PDU, "a response to nothing")
            self._hear(message)

    def _hear(self, message: Message) -> None:
        """The only request that may come before the last one is answered is to cancel it."""
        if message.command.field != C_CANCEL_RQ:
            raise ProtocolError(AbortReason.UNEXPECTED_PDU, "a request before the last response")
        if message.command.responded_to == self.request.message_id:
            self._is_cancelled = True


Handler = Callable[[Exchange], None]
"""Answers one request. Refused, Unreadable and StorageError become its final response."""


@dataclass(frozen=True, slots=True)
class Services:
    """What a provider does besides storage: handlers by SOP class and command field."""

    offer: Offer = field(default_factory=Offer)
    handlers: Mapping[tuple[str, int], Handler] = field(default_factory=dict)

    def __or__(self, other: Services) -> Services:
        """The services of both."""
        offer = Offer(
            self.offer.classes | other.offer.classes,
            self.offer.shown | other.offer.shown,
            self.offer.reported | other.offer.reported,
        )
        return Services(offer, {**self.handlers, **other.handlers})


def recorded(handler: Handler) -> Handler:
    """``handler`` of queries, which are recorded before they are answered."""

    def handle(exchange: Exchange) -> None:
        def record(status: int) -> None:
            done = status in (SUCCESS, PENDING, CANCELLED)
            context, records = exchange.context, exchange.records
            asked = (context.abstract_syntax, context.transfer_syntax, exchange.data_set)
            try:
                records.ledger.queried(records.asker, *asked, done)
            except StorageError as error:
                if done:
                    raise
                _log.error("refusal not recorded", code="imaging-service", error=str(error))

        exchange.before_answer = record
        handler(exchange)

    return handle


def answer(handler: Handler, exchange: Exchange) -> None:
    """Let ``handler`` answer; whatever it cannot do becomes a response too."""
    try:
        handler(exchange)
    except Refused as error:
        exchange.respond(error.status, comment=str(error))
    except Unreadable as error:
        exchange.respond(UNABLE_TO_PROCESS, comment=str(error))
    except StorageError as error:
        _log.error("request not served", code="imaging-service", error=type(error).__name__)
        exchange.respond(OUT_OF_RESOURCES, comment="no resources to serve the request")
