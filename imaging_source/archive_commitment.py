"""Storage commitment, the user (PS3.4 Annex J, push model): an archive vouches for what we hold.

The request (N-ACTION) names the instances of a study. The report (N-EVENT-REPORT) comes on the
same association, or on one that the archive asks for, at any time: the outcome of each instance is
kept. A commitment is to a UID; it is kept with the hash that the instance had here when it was
asked for, and covers no other bytes. Whether the archive has the same bytes it does not say. Not
here: the provider (``commitment``), and what may be removed here because of it.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

import structlog
from pydicom.uid import generate_uid
from sqlalchemy import (
    ColumnElement,
    Connection,
    RowMapping,
    and_,
    bindparam,
    delete,
    exists,
    func,
    insert,
    or_,
    select,
    update,
)
from sqlalchemy.exc import IntegrityError

from imaging_source.commitment import (
    ALL_STORED,
    FAILED_SOP_SEQUENCE,
    FAILURE_REASON,
    INVALID_ARGUMENT,
    REFERENCED_SOP_SEQUENCE,
    REQUEST,
    SOME_FAILED,
    STORAGE_COMMITMENT,
    TRANSACTION_UID,
    WELL_KNOWN_INSTANCE,
)
from imaging_source.dimse import (
    ACTION_TYPE,
    MESSAGE_ID,
    N_ACTION_RQ,
    N_EVENT_REPORT_RQ,
    REQUESTED_SOP_CLASS_UID,
    REQUESTED_SOP_INSTANCE_UID,
)
from imaging_source.elements import (
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
    Elements,
    encoding_of,
)
from imaging_source.encoded import Values, encode
from imaging_source.guard import AbortReason, PeerGone, ProtocolError
from imaging_source.ledger import About, End, Ledger, Mention, NoLedger, Purpose
from imaging_source.negotiation import Offer
from imaging_source.references import (
    REFERENCED_SOP_INSTANCE_UID,
    Reference,
    items_of,
    references_of,
    texts_of,
)
from imaging_source.requestor import Peer, Requested, Unreachable
from imaging_source.schema import ARCHIVE_COMMITMENT, INSTANCE
from imaging_source.service import SUCCESS, Exchange, Refused, Services, answer
from imaging_source.shown import SHOWN
from storage.database import Database

_log = structlog.get_logger("kosmos.imaging_source")

# Status of an answer (PS3.7 Annex C).
_NO_SUCH_EVENT = 0x0113

# Instances of one request: its 600 KB are what archives are used to from large CTs.
_PORTION = 4000
# How long the association stays open for a report: an archive that looks into its database has
# made it by then, another asks for an association of its own.
_STAY_SECONDS = 1.0
# What was asked for, or refused, is asked for again after this time: an archive may take hours,
# and what it refuses it may have tomorrow.
AGAIN_SECONDS = 6 * 3600.0


# The outcome of an instance and its reason, as they are bound to a statement.
_Said = dict[str, str | int | None]


class Outcome(StrEnum):
    """What an archive says of an instance."""

    ASKED = "asked"
    """It has not said anything yet."""
    COMMITTED = "committed"
    """It is responsible for its safekeeping."""
    REFUSED = "refused"
    """It does not have it, or not as it should."""


@dataclass(frozen=True, slots=True)
class Tally:
    """Of how many instances an archive has said what."""

    asked: int = 0
    committed: int = 0
    refused: int = 0


def is_committed(connection: Connection, archive: str, study: str) -> bool:
    """Whether the archive of that title has committed to every instance of a study shown here.

    Not to one that came, or was replaced by other bytes, since it was asked; nothing is said of
    those that were rejected (IOCM), which an archive hides too.
    """
    held = select(INSTANCE.c.sop_instance_uid).where(INSTANCE.c.study_instance_uid == study, SHOWN)
    covered = exists().where(
        _of_this_instance(), ARCHIVE_COMMITMENT.c.archive == archive, _is(Outcome.COMMITTED)
    )
    if connection.execute(held.limit(1)).first() is None:
        return False
    return connection.execute(held.where(~covered).limit(1)).first() is None


def tallies(connection: Connection) -> dict[str, Tally]:
    """What each archive has said of what is here, by its title."""
    table = ARCHIVE_COMMITMENT.c
    here = select(table.archive, table.state, func.count()).where(_of_this_instance())
    query = here.group_by(table.archive, table.state)
    found: dict[str, dict[str, int]] = {}
    for archive, state, count in connection.execute(query):
        found.setdefault(archive, {})[state] = count
    return {archive: Tally(**counts) for archive, counts in found.items()}


class CommitmentUser:
    """Asks the archive ``peer``, which knows us as ``own_title`` and where we listen.

    ``stay`` seconds the association is kept for a report; ``ledger`` records each request.
    """

    def __init__(
        self,
        database: Database,
        peer: Peer,
        own_title: str,
        *,
        stay: float = _STAY_SECONDS,
        clock: Callable[[], float] = time.time,
        ledger: Ledger | None = None,
    ) -> None:
        self._database = database
        self._ledger = ledger or NoLedger()
        self._peer = peer
        self._own_title = own_title
        self._stay = stay
        self._clock = clock
        self._reports = CommitmentReports(database, clock)

    def ask(self, study: str) -> bool:
        """Ask to commit to what is shown here of a study, but for what was asked for of late.

        Whether anything was asked for. Raises Unreachable and its kind, and StorageError.
        """
        with self._database.read() as connection:
            rows = self._uncommitted(connection, study)
            if not rows:
                return False
            about = About.in_index(connection, study)
        for first in range(0, len(rows), _PORTION):
            self._ask(about, rows[first : first + _PORTION])
        return True

    def _uncommitted(self, connection: Connection, study: str) -> Sequence[RowMapping]:
        """The instances to ask about: neither committed to, nor asked about of late."""
        since = self._clock() - AGAIN_SECONDS
        known = and_(
            _of_this_instance(),
            ARCHIVE_COMMITMENT.c.archive == self._peer.title,
            or_(_is(Outcome.COMMITTED), ARCHIVE_COMMITMENT.c.changed_at > since),
        )
        columns = INSTANCE.c.sop_class_uid, INSTANCE.c.sop_instance_uid, INSTANCE.c.sha256
        held = select(*columns).where(INSTANCE.c.study_instance_uid == study, SHOWN)
        query = held.where(~exists().where(known)).order_by(INSTANCE.c.sop_instance_uid)
        return connection.execute(query).mappings().all()

    def _ask(self, about: About, rows: Sequence[RowMapping]) -> None:
        transaction = str(generate_uid())
        syntaxes = (EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN)
        contexts = [(STORAGE_COMMITMENT, syntax) for syntax in syntaxes]
        with Requested(self._peer, self._own_title, contexts) as asked:
            context_id = asked.line.context_of(STORAGE_COMMITMENT)
            if context_id is None:
                raise Unreachable(f"{self._peer.title} does not offer storage commitment")
            named = [Reference(row["sop_class_uid"], row["sop_instance_uid"]) for row in rows]
            values: Values = {
                TRANSACTION_UID: ("UI", transaction),
                REFERENCED_SOP_SEQUENCE: ("SQ", [one.values for one in named]),
            }
            data_set = encode(values, asked.line.contexts[context_id].transfer_syntax)
            elements: tuple[tuple[int, str | int], ...] = (
                (REQUESTED_SOP_CLASS_UID, STORAGE_COMMITMENT),
                (MESSAGE_ID, asked.line.next_message_id()),
                (REQUESTED_SOP_INSTANCE_UID, WELL_KNOWN_INSTANCE),
                (ACTION_TYPE, REQUEST),
            )
            classes = Counter(row["sop_class_uid"] for row in rows)
            mention = Mention(Purpose.COMMITMENT, about, classes)
            with self._ledger.telling(End(self._peer.title, self._peer.host), mention):
                # Noted before: the report may be there at once.
                self._note(about.study_instance_uid, transaction, rows)
                response = asked.request(context_id, N_ACTION_RQ, elements, data_set).command
                if response.status != SUCCESS:
                    text = f"{self._peer.title} commits to nothing: status {response.status:#06x}"
                    raise Unreachable(text)
            self._hear(asked)

    def _note(self, study: str, transaction: str, rows: Sequence[RowMapping]) -> None:
        archive, now = self._peer.title, self._clock()
        keys = [{"uid": row["sop_instance_uid"]} for row in rows]
        noted = [
            {
                "sop_instance_uid": row["sop_instance_uid"],
                "archive": archive,
                "study_instance_uid": study,
                "sha256": row["sha256"],
                "transaction_uid": transaction,
                "state": Outcome.ASKED,
                "changed_at": now,
            }
            for row in rows
        ]
        table = ARCHIVE_COMMITMENT.c
        earlier = delete(ARCHIVE_COMMITMENT).where(
            table.sop_instance_uid == bindparam("uid"), table.archive == archive
        )

        def work(connection: Connection) -> None:
            connection.execute(earlier, keys)
            connection.execute(insert(ARCHIVE_COMMITMENT), noted)

        try:
            self._database.write(work)
        except IntegrityError as error:
            raise Unreachable(f"{archive} is being asked already") from error

    def _hear(self, asked: Requested) -> None:
        """Take a report that comes on the association of the request."""
        try:
            if not asked.line.has_news(self._stay):
                return
            message = asked.line.read()
        except PeerGone:  # it has nothing more to say here
            return
        if message.command.field != N_EVENT_REPORT_RQ:
            raise ProtocolError(AbortReason.UNEXPECTED_PDU, "not a report")
        exchange = Exchange(asked.line, message.context_id, message.command, message.data_set)
        answer(self._reports.hear, exchange)


class CommitmentReports:
    """Takes the reports of archives, on any association."""

    def __init__(self, database: Database, clock: Callable[[], float] = time.time) -> None:
        self._database = database
        self._clock = clock

    @property
    def services(self) -> Services:
        """The service as it is offered to archives, which are its providers."""
        handlers = {(STORAGE_COMMITMENT, N_EVENT_REPORT_RQ): self.hear}
        offered = frozenset({STORAGE_COMMITMENT})
        return Services(Offer(classes=offered, reported=offered), handlers)

    def hear(self, exchange: Exchange) -> None:
        """Handle one N-EVENT-REPORT: only whoever was asked knows the transaction."""
        if exchange.request.kind not in (ALL_STORED, SOME_FAILED):
            raise Refused(_NO_SUCH_EVENT, "only events 1 and 2 are known")
        elements = Elements(exchange.data_set, encoding_of(exchange.context.transfer_syntax))
        (transaction,) = texts_of(elements, TRANSACTION_UID)
        said: list[_Said] = [
            {"uid": one.sop_instance_uid, "said": Outcome.COMMITTED, "why": None}
            for one in references_of(elements, REFERENCED_SOP_SEQUENCE)
        ]
        said += [
            {"uid": uid, "said": Outcome.REFUSED, "why": why} for uid, why in _failed(elements)
        ]
        if not self._database.write(
            lambda connection: self._settle(connection, exchange.line.name, transaction, said)
        ):
            raise Refused(INVALID_ARGUMENT, "this was not asked for, or was asked for again")
        if refused := sum(one["said"] is Outcome.REFUSED for one in said):
            _log.warning("archive does not commit", code="dicom-commitment", instances=refused)
        exchange.respond(SUCCESS)

    def _settle(
        self,
        connection: Connection,
        archive: str,
        transaction: str,
        said: Sequence[_Said],
    ) -> bool:
        """Note what an archive said of the instances of a transaction; whether there is one."""
        table = ARCHIVE_COMMITMENT.c
        asked = and_(table.transaction_uid == transaction, table.archive == archive)
        if connection.execute(select(table.archive).where(asked).limit(1)).first() is None:
            return False
        settled = update(ARCHIVE_COMMITMENT).where(
            asked, table.sop_instance_uid == bindparam("uid")
        )
        columns = {
            "state": bindparam("said"),
            "reason": bindparam("why"),
            "changed_at": self._clock(),
        }
        if said:
            in_order = sorted(
                said, key=lambda one: str(one["uid"])
            )  # as they are noted: no deadlock
            connection.execute(settled.values(columns), in_order)
        return True


def _of_this_instance() -> ColumnElement[bool]:
    """That a row is about the instance as it is here."""
    return and_(
        ARCHIVE_COMMITMENT.c.sop_instance_uid == INSTANCE.c.sop_instance_uid,
        ARCHIVE_COMMITMENT.c.sha256 == INSTANCE.c.sha256,
    )


def _is(outcome: Outcome) -> ColumnElement[bool]:
    return ARCHIVE_COMMITMENT.c.state == outcome


def _failed(elements: Elements) -> list[tuple[str, int]]:
    """The instances that an archive does not commit to, and why not (PS3.3 C.14.1.1)."""
    found = []
    for item in items_of(elements, FAILED_SOP_SEQUENCE):
        (uid,) = texts_of(item, REFERENCED_SOP_INSTANCE_UID)
        start, stop = item.find({FAILURE_REASON}).get(FAILURE_REASON, (0, 0))
        found.append((uid, int.from_bytes(item.data[start:stop], "little")))
    return found
