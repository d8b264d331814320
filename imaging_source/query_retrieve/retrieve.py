"""C-MOVE and C-GET, the provider (PS3.4 C.4.2, C.4.3): a sub-operation for each instance.

Both select the same rows and send the same files; C-GET on the association that asks, C-MOVE
on one that we ask the destination for. An instance is sent as it is stored where the receiver
takes its transfer syntax, else losslessly transcoded to one that it takes (PS3.5 10.1 lets nobody
refuse Implicit VR Little Endian); where that cannot be made, the sub-operation fails and the
instance is named.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from operator import attrgetter

import structlog

from imaging_source.data_sets import data_set_of
from imaging_source.dimse import (
    C_STORE_RQ,
    MOVE_ORIGINATOR,
    MOVE_ORIGINATOR_MESSAGE_ID,
    Command,
    Counts,
)
from imaging_source.elements import Unreadable
from imaging_source.encoded import Values, encode
from imaging_source.guard import AbortReason, PeerGone, ProtocolError
from imaging_source.ledger import End, Service, Transfers
from imaging_source.line import Line
from imaging_source.parts import Part, ask_for
from imaging_source.query_retrieve.identifier import read_identifier
from imaging_source.query_retrieve.models import TOP_LEVEL, UNIQUE_KEY
from imaging_source.query_retrieve.selection import (
    Selected,
    part_of,
    select_instances,
)
from imaging_source.requestor import Peer, Requested, Unreachable, in_groups
from imaging_source.service import CANCELLED, PENDING, SUCCESS, Exchange, Refused
from imaging_source.shown import Veil, all_is_seen, no_veil
from imaging_source.variants import NoVariant, Variants
from storage.blobs import BlobStore
from storage.database import Database
from storage.errors import StorageError
from storage.spool import Content

_log = structlog.get_logger("kosmos.imaging_source")

# Final statuses of a retrieval (PS3.4 Tables C.4-2, C.4-3).
_NO_SUB_OPERATION_DONE = 0xA702
_SOME_FAILED = 0xB000
_DESTINATION_UNKNOWN = 0xA801

_FAILED_UIDS = 0x00080058

# A person who waits sees progress this often; each telling is a segment of its own.
_TELL_SECONDS = 1.0
# UI has a two-byte length (PS3.5 7.1.2): a longer list of failures is cut here.
_MOST_FAILED_UIDS = 1000


# One way to send a file of an instance in a context: the receiver's status.
_Send = Callable[[Selected, int, Content], int]


@dataclass(slots=True)
class _Progress:
    """How far a retrieval is."""

    remaining: int
    transfers: Transfers
    completed: int = 0
    warning: int = 0
    failed: list[str] = field(default_factory=list)
    told: float = 0.0

    @property
    def counts(self) -> Counts:
        """As responses tell them."""
        return Counts(self.remaining, self.completed, len(self.failed), self.warning)

    def add(self, one: Selected, status: int | None) -> None:
        """Count a sub-operation by the status of its response (PS3.4 B.2.3)."""
        self.remaining -= 1
        before = len(self.failed)
        self._count(one.sop_instance_uid, status)
        self.transfers.count(one.about, one.sop_class_uid, len(self.failed) == before)

    def _count(self, uid: str, status: int | None) -> None:
        if status == SUCCESS:
            self.completed += 1
        elif status is not None and (status >> 12 == 0xB or status in (0x0001, 0x0107, 0x0116)):
            self.warning += 1
        else:
            self.failed.append(uid)


class Retriever:
    """Answers C-MOVE and C-GET from an index that may be open for reading only.

    ``destinations`` are the peers that C-MOVE may send to, by title; ``title`` is our own.
    ``variants`` makes what a peer does not take as it is stored; what the ``veil`` hides from
    whoever asks is not there.
    """

    def __init__(
        self,
        database: Database,
        blobs: BlobStore,
        title: str,
        destinations: Mapping[str, Peer],
        variants: Variants,
        veil: Veil = no_veil,
    ) -> None:
        self._database = database
        self._blobs = blobs
        self._title = title
        self._destinations = destinations
        self._variants = variants
        self._veil = veil

    def get(self, exchange: Exchange) -> None:
        """Handle one C-GET request."""
        selected = self._select(exchange)
        line = exchange.line

        def send(one: Selected, context_id: int, content: Content) -> int:
            return _store(line, context_id, one, content, (), exchange.response_to)

        with closing(exchange.records.transfers(Service.GET)) as transfers:
            progress = _Progress(len(selected), transfers)
            self._send_all(exchange, line, selected, send, progress)
        _conclude(exchange, progress)

    def move(self, exchange: Exchange) -> None:
        """Handle one C-MOVE request."""
        destination = self._destinations.get(exchange.request.move_destination)
        if destination is None:
            raise Refused(_DESTINATION_UNKNOWN, "the move destination is not configured")
        selected = self._select(exchange)
        there = End(destination.title, destination.host)
        with closing(exchange.records.transfers(Service.MOVE, there)) as transfers:
            progress = _Progress(len(selected), transfers)
            for group in in_groups(selected, attrgetter("contexts")):
                if exchange.is_cancelled():
                    break
                self._move(exchange, destination, group, progress)
        _conclude(exchange, progress)

    def _move(
        self, exchange: Exchange, destination: Peer, group: list[Selected], progress: _Progress
    ) -> None:
        """Send ``group`` over one association; what is left when that breaks has failed."""
        wanted = dict.fromkeys(context for one in group for context in one.contexts)
        origin = (
            (MOVE_ORIGINATOR, exchange.line.name),
            (MOVE_ORIGINATOR_MESSAGE_ID, exchange.request.message_id),
        )
        before = progress.remaining
        try:
            with Requested(destination, self._title, wanted) as requested:
                line = requested.line

                def answered(_message_id: int) -> Command:
                    return requested.response_to(C_STORE_RQ).command

                def send(one: Selected, context_id: int, content: Content) -> int:
                    try:
                        return _store(line, context_id, one, content, origin, answered)
                    except (PeerGone, ProtocolError, Unreadable) as error:
                        raise Unreachable(f"{destination.title} broke off: {error}") from error

                self._send_all(exchange, line, group, send, progress)
        except Unreachable as error:
            _log.warning("destination not reached", code="dicom-move", reason=str(error))
            for one in group[before - progress.remaining :]:
                progress.add(one, None)

    def _select(self, exchange: Exchange) -> list[Selected]:
        context = exchange.context
        top = TOP_LEVEL[context.abstract_syntax]
        keys = UNIQUE_KEY.values()
        identifier = read_identifier(exchange.data_set, context.transfer_syntax, [*keys], top)
        unseen = self._veil(exchange.records.asker) or all_is_seen
        selected = select_instances(self._database, identifier, top, unseen)
        ask_for(self._blobs, (one.about.study_instance_uid for one in selected))
        return selected

    def _send_all(
        self,
        exchange: Exchange,
        line: Line,
        selected: list[Selected],
        send: _Send,
        progress: _Progress,
    ) -> None:
        for one in selected:
            if exchange.is_cancelled():
                return
            progress.transfers.begin(one.about)
            progress.add(one, self._send(line, one, send))
            now = time.monotonic()
            if progress.remaining and now - progress.told >= _TELL_SECONDS:
                progress.told = now
                exchange.respond(PENDING, counts=progress.counts)

    def _send(self, line: Line, one: Selected, send: _Send) -> int | None:
        """The receiver's status; None where there is nothing to send that it takes."""
        taken = _taken(line, one.sop_class_uid)
        try:
            part = self._part(one, taken)
        except NoVariant:
            syntax = one.transfer_syntax_uid
            _log.warning("instance not transcoded", code="imaging-retrieve", syntax=syntax)
            return None
        except (StorageError, Unreadable, OSError) as error:
            _log.error("instance not sent", code="imaging-retrieve", error=type(error).__name__)
            return None
        return send(one, taken[part.row["transfer_syntax_uid"]], part.content)

    def _part(self, one: Selected, taken: Collection[str]) -> Part:
        """The instance as it is stored, or in a syntax that is ``taken``."""
        part = part_of(self._blobs, one)
        return part if one.transfer_syntax_uid in taken else self._variants.part(part, taken)


def _taken(line: Line, sop_class_uid: str) -> dict[str, int]:
    """The transfer syntaxes in which the peer takes instances of a class, with their contexts."""
    return {
        context.transfer_syntax: context_id
        for context_id, context in line.contexts.items()
        if context.abstract_syntax == sop_class_uid and context.we_may_request
    }


def _store(
    line: Line,
    context_id: int,
    selected: Selected,
    content: Content,
    origin: Sequence[tuple[int, str | int]],
    answered: Callable[[int], Command],
) -> int:
    """Send one instance and wait for the status."""
    uids = selected.sop_class_uid, selected.sop_instance_uid
    try:
        message_id = line.send_instance(context_id, *uids, data_set_of(content), origin)
    except StorageError as error:  # half of it is sent: what follows would be taken for the rest
        text = f"a file broke while it was sent ({type(error).__name__})"
        raise ProtocolError(AbortReason.NOT_SPECIFIED, text) from error
    return answered(message_id).status


def _conclude(exchange: Exchange, progress: _Progress) -> None:
    """The last response: how it ended, and which instances were not sent."""
    failed = progress.failed[:_MOST_FAILED_UIDS]
    if progress.remaining:
        status = CANCELLED
    elif not progress.failed and not progress.warning:
        status = SUCCESS
    else:
        status = _SOME_FAILED if progress.completed or progress.warning else _NO_SUB_OPERATION_DONE
    identifier = None
    if failed:
        values: Values = {_FAILED_UIDS: ("UI", "\\".join(failed))}
        identifier = encode(values, exchange.context.transfer_syntax)
    exchange.respond(status, identifier, counts=progress.counts)
