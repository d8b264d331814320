"""Storage commitment, the provider (PS3.4 Annex J, push model): what was asked for is looked at.

The request (N-ACTION) is answered once its row is committed. The report (N-EVENT-REPORT) is made
from the index and from the files themselves, read again and hashed: what it says is stored has
been seen. What is with an archive alone is not available, which is no alarm; what waits for a
report does not go there (``imaging_source.eviction``). The report goes to the peer's own address,
until the peer has taken it; to a peer without one, on the association of the request, right after
the answer to it. Asking others is ``archive_commitment``.
"""

from __future__ import annotations

import json
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

import structlog
from sqlalchemy import ColumnElement, Connection, RowMapping, and_, delete, insert, select, update

from imaging_source.dimse import (
    EVENT_TYPE,
    MESSAGE_ID,
    N_ACTION_RQ,
    N_EVENT_REPORT_RQ,
    RESPONSE,
    SOP_CLASS_UID,
    SOP_INSTANCE_UID,
    write_data_set,
    write_request,
)
from imaging_source.elements import (
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
    Elements,
    encoding_of,
)
from imaging_source.encoded import Value, encode
from imaging_source.evicted import evicted_of
from imaging_source.header import is_uid
from imaging_source.ledger import About, Mention, Purpose
from imaging_source.line import Line
from imaging_source.negotiation import Offer
from imaging_source.parts import Row, look_up
from imaging_source.references import Reference, references_of, texts_of
from imaging_source.requestor import TROUBLES, Peer, Requested
from imaging_source.schema import COMMITMENT
from imaging_source.service import PROCESSING_FAILURE, SUCCESS, Exchange, Refused, Services
from storage.blobs import BlobStore
from storage.database import Database
from storage.errors import StorageError

_log = structlog.get_logger("kosmos.imaging_source")

STORAGE_COMMITMENT = "1.2.840.10008.1.20.1"
WELL_KNOWN_INSTANCE = "1.2.840.10008.1.20.1.1"
REQUEST = 1
ALL_STORED, SOME_FAILED = 1, 2

TRANSACTION_UID = 0x00081195
FAILURE_REASON = 0x00081197
FAILED_SOP_SEQUENCE = 0x00081198
REFERENCED_SOP_SEQUENCE = 0x00081199

# Statuses of an answer (PS3.7 Annex C).
_NO_SUCH_ACTION = 0x0123
INVALID_ARGUMENT = 0x0115

# Failure reasons (PS3.3 C.14.1.1).
_NO_SUCH_INSTANCE = 0x0112
_OTHER_CLASS = 0x0119

# A request for more instances than any study has is a mistake, and would be read from disk.
_MOST_INSTANCES = 20_000

_POLL_SECONDS = 1.0
# Between two attempts: 5 s, then twice as long each time, 15 minutes at most, for three days:
# longer than a weekend that a modality is switched off.
_FIRST_RETRY_SECONDS = 5.0
_LAST_RETRY_SECONDS = 900.0
GIVE_UP_SECONDS = 72 * 3600.0
# A peer that does not answer must not keep the process from stopping.
_STOP_SECONDS = 3.0


class State(StrEnum):
    """Where a commitment is."""

    PENDING = "pending"
    """The report is to be sent, for the first time or again."""
    REPORTED = "reported"
    """The peer has taken the report."""
    FAILED = "failed"
    """The peer could not be told in three days, or has no address and has left."""


@dataclass(frozen=True, slots=True)
class Commitment:
    """What a peer wants to be sure of."""

    peer: str
    transaction_uid: str
    references: tuple[Reference, ...]


class Commitments:
    """Takes requests and sends reports; ``peers`` have addresses, ``title`` is our own."""

    def __init__(
        self,
        database: Database,
        blobs: BlobStore,
        title: str,
        peers: Mapping[str, Peer],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._database = database
        self._blobs = blobs
        self._title = title
        self._peers = peers
        self._clock = clock
        self._stopping = threading.Event()
        self._asked = threading.Event()
        self._thread = threading.Thread(target=self._run, name="commitment", daemon=True)

    @property
    def services(self) -> Services:
        """The service as the provider offers it, to everybody who may store."""
        handlers = {(STORAGE_COMMITMENT, N_ACTION_RQ): self.answer}
        return Services(Offer(frozenset({STORAGE_COMMITMENT})), handlers)

    def start(self) -> None:
        """Send reports from a thread until ``stop``."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread after the report under way; what is left is sent by the next process."""
        self._stopping.set()
        self._asked.set()
        if self._thread.ident is not None:
            self._thread.join(_STOP_SECONDS)

    def answer(self, exchange: Exchange) -> None:
        """Handle one N-ACTION request."""
        with exchange.records.hearing(Purpose.COMMITMENT) as heard:
            if exchange.request.kind != REQUEST:
                raise Refused(_NO_SUCH_ACTION, "only action 1, to request commitment, is known")
            commitment = _read(exchange)
            heard(self._mentions(commitment.references))
            self._database.write(lambda connection: self._put(connection, commitment))
        exchange.respond(SUCCESS)
        if commitment.peer in self._peers:
            self._asked.set()
        else:
            self._report_here(exchange.line, commitment)

    def run_once(self) -> int:
        """Send the reports that are due; how many were tried."""
        tried = 0
        for row in self._due():
            if self._stopping.is_set():
                break
            self._report(row)
            tried += 1
        return tried

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._asked.wait(_POLL_SECONDS)
            self._asked.clear()
            try:
                self.run_once()
            except StorageError as error:
                _log.error("reports wait", code="dicom-commitment", error=type(error).__name__)

    def _mentions(self, references: Iterable[Reference]) -> list[Mention]:
        """What is named, by study; what is not here, or not shown, as of a study unknown."""
        with self._database.read() as connection:
            rows = look_up(connection, (one.sop_instance_uid for one in references))
            named: defaultdict[str, Counter[str]] = defaultdict(Counter)
            for one in references:
                row = rows.get(one.sop_instance_uid)
                named[row["study_instance_uid"] if row else ""][one.sop_class_uid] += 1
            return [
                Mention(Purpose.COMMITMENT, About.in_index(connection, study), classes)
                for study, classes in named.items()
            ]

    def _put(self, connection: Connection, commitment: Commitment) -> None:
        """Note a request; one that comes again is answered again."""
        connection.execute(delete(COMMITMENT).where(_is(commitment)))
        now = self._clock()
        row = {
            "peer": commitment.peer,
            "transaction_uid": commitment.transaction_uid,
            "named": json.dumps(commitment.references).encode(),
            "state": State.PENDING,
            "attempts": 0,
            "next_attempt_at": now,
            "requested_at": now,
        }
        connection.execute(insert(COMMITMENT), row)

    def _due(self) -> list[RowMapping]:
        """The commitments whose report is due and whose peer has an address."""
        query = (
            select(COMMITMENT)
            .where(COMMITMENT.c.state == State.PENDING)
            .where(COMMITMENT.c.next_attempt_at <= self._clock())
            .where(COMMITMENT.c.peer.in_(list(self._peers)))
            .order_by(COMMITMENT.c.next_attempt_at)
        )
        with self._database.read() as connection:
            return list(connection.execute(query).mappings())

    def _report(self, row: RowMapping) -> None:
        commitment = _commitment(row)
        event, values = self._found(commitment)
        contexts = [
            (STORAGE_COMMITMENT, EXPLICIT_VR_LITTLE_ENDIAN),
            (STORAGE_COMMITMENT, IMPLICIT_VR_LITTLE_ENDIAN),
        ]
        try:
            with Requested(
                self._peers[commitment.peer], self._title, contexts, provided=[STORAGE_COMMITMENT]
            ) as asked:
                taken = _send(asked.line, event, values)
        except TROUBLES as error:
            _log.warning("report not taken", code="dicom-commitment", reason=str(error))
            taken = False
        self._note(row, taken)

    def _report_here(self, line: Line, commitment: Commitment) -> None:
        """Report on the association of the request, to a peer that can be reached nowhere else."""
        event, values = self._found(commitment)
        state = State.FAILED
        try:
            if _send(line, event, values):
                state = State.REPORTED
        finally:
            self._database.write(lambda connection: _settle(connection, commitment, state))

    def _note(self, row: RowMapping, taken: bool) -> None:
        now, attempts = self._clock(), row["attempts"] + 1
        commitment = _commitment(row)
        if taken or now - row["requested_at"] >= GIVE_UP_SECONDS:
            state = State.REPORTED if taken else State.FAILED
            self._database.write(lambda connection: _settle(connection, commitment, state))
            return
        pause = min(_FIRST_RETRY_SECONDS * 2 ** (attempts - 1), _LAST_RETRY_SECONDS)
        later = update(COMMITMENT).where(_is(commitment))
        values = {"attempts": attempts, "next_attempt_at": now + pause}
        self._database.write(lambda connection: connection.execute(later.values(values)).close())

    def _found(self, commitment: Commitment) -> tuple[int, dict[int, tuple[str, Value]]]:
        """The event type and information: what is stored, and what is not and why."""
        rows = self._look_up(commitment.references)
        stored, failed = [], []
        for one in commitment.references:
            reason = self._failure(one, rows.get(one.sop_instance_uid))
            if reason is None:
                stored.append(one.values)
            else:
                failed.append({**one.values, FAILURE_REASON: ("US", reason)})
        values: dict[int, tuple[str, Value]] = {
            TRANSACTION_UID: ("UI", commitment.transaction_uid),
            REFERENCED_SOP_SEQUENCE: ("SQ", stored),
        }
        if failed:
            values[FAILED_SOP_SEQUENCE] = ("SQ", failed)
        return (SOME_FAILED if failed else ALL_STORED), values

    def _failure(self, reference: Reference, row: Row | None) -> int | None:
        if row is None:
            return _NO_SUCH_INSTANCE
        if row["sop_class_uid"] != reference.sop_class_uid:
            return _OTHER_CLASS
        try:
            blob = self._blobs.open(row["sha256"])
            if blob.size != row["size"]:
                return PROCESSING_FAILURE
            blob.verified()
        except StorageError as error:
            _log.error("instance lost", code="imaging-lost", error=type(error).__name__)
            return PROCESSING_FAILURE
        return None

    def _look_up(self, references: Iterable[Reference]) -> dict[str, Row]:
        """The rows of those that are shown, by SOP Instance UID; none of those that are evicted."""
        with self._database.read() as connection:
            rows = look_up(connection, (one.sop_instance_uid for one in references))
            evicted = evicted_of(connection, rows)
        return {uid: row for uid, row in rows.items() if uid not in evicted}


def awaited(connection: Connection, since: float) -> set[str]:
    """The SOP Instance UIDs of those requests since a time that wait for their report."""
    query = select(COMMITMENT.c.named).where(
        COMMITMENT.c.state == State.PENDING, COMMITMENT.c.requested_at >= since
    )
    references = (json.loads(named) for named in connection.execute(query).scalars())
    return {Reference(*one).sop_instance_uid for named in references for one in named}


def _read(exchange: Exchange) -> Commitment:
    encoding = encoding_of(exchange.context.transfer_syntax)
    elements = Elements(exchange.data_set, encoding)
    (transaction,) = texts_of(elements, TRANSACTION_UID)
    references = tuple(references_of(elements, REFERENCED_SOP_SEQUENCE))
    if not is_uid(transaction) or not 0 < len(references) <= _MOST_INSTANCES:
        raise Refused(INVALID_ARGUMENT, "a Transaction UID and referenced instances are needed")
    return Commitment(exchange.line.name, transaction, references)


def _commitment(row: RowMapping) -> Commitment:
    references = tuple(Reference(*one) for one in json.loads(row["named"]))
    return Commitment(row["peer"], row["transaction_uid"], references)


def _is(commitment: Commitment) -> ColumnElement[bool]:
    return and_(
        COMMITMENT.c.peer == commitment.peer,
        COMMITMENT.c.transaction_uid == commitment.transaction_uid,
    )


def _settle(connection: Connection, commitment: Commitment, state: State) -> None:
    connection.execute(update(COMMITMENT).where(_is(commitment)).values(state=state))


def _send(line: Line, event: int, values: dict[int, tuple[str, Value]]) -> bool:
    """Send a report and say whether the peer has taken it."""
    context_id = line.context_of(STORAGE_COMMITMENT)
    if context_id is None:
        return False
    elements = (
        (SOP_CLASS_UID, STORAGE_COMMITMENT),
        (MESSAGE_ID, line.next_message_id()),
        (SOP_INSTANCE_UID, WELL_KNOWN_INSTANCE),
        (EVENT_TYPE, event),
    )
    request = write_request(context_id, N_EVENT_REPORT_RQ, elements, has_data_set=True)
    data_set = encode(values, line.contexts[context_id].transfer_syntax)
    line.send(request + write_data_set(context_id, data_set, line.pdu_bytes))
    command = line.read().command
    return command.field == N_EVENT_REPORT_RQ | RESPONSE and command.status == SUCCESS
