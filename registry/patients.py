"""The patients of the affinity domain: registered, merged, resolved (ITI-8 on the registry).

Covers the registry's part of ITI TF-2 3.8: A01, A04 and A05 make an identifier usable, A08
changes nothing here, A40 subsumes one identifier under another. A merge never touches a
document: it moves the ``survivor`` of the rows that stood for the subsumed patient, so that
one step resolves any chain, and keeps a row of history. Merges are not undone.

The bytes on the wire, their refusal and the answer belong to ``hl7``; ITI-44 may come here
with the same feed.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from sqlalchemy import Connection, bindparam, delete, insert, select, text, update

from hl7.ack import ACCEPT, ERROR
from hl7.adt import MERGE, UPDATE, FeedOutcome, IdentityFeed
from hl7.errors import DATA_TYPE, DUPLICATE_KEY, UNKNOWN_KEY
from metadata.affinity_domain import AffinityDomain
from metadata.datatypes import CX, DTM
from registry.operators import among
from registry.schema import identity_message, patient, patient_merge
from registry.statement import Statement
from registry.work import write
from storage.database import Database
from storage.faultpoints import reach

logger = logging.getLogger(__name__)

_ACCEPTED = FeedOutcome(ACCEPT)

# Longest identifier: an ExternalIdentifier's value has 256 characters (rim.xsd), so nothing
# could ever be submitted for a longer one, and PostgreSQL could not index it.
LONGEST_ID = 256

_OUTCOMES = Statement(
    select(
        identity_message.c.digest,
        identity_message.c.ack_code,
        identity_message.c.error_code,
        identity_message.c.text,
    ).where(
        identity_message.c.sender == bindparam("sender"),
        identity_message.c.control_id == bindparam("control_id"),
    )
)
_REMEMBER = Statement(insert(identity_message))
_FORGET = Statement(
    delete(identity_message).where(identity_message.c.received_at < bindparam("before"))
)
_SELECT_SURVIVORS = (
    select(patient.c.id, patient.c.survivor)
    .where(among(patient.c.id, "ids"))
    .order_by(patient.c.id)
)
_SURVIVORS = Statement(_SELECT_SURVIVORS)
# Every transaction that locks several patients takes them in the order of their ids.
_LOCKED = Statement(_SELECT_SURVIVORS.with_for_update())
# A rival's row serves as well as ours.
_REGISTER = Statement(
    text("INSERT INTO patient (id, survivor) VALUES (:id, :id) ON CONFLICT DO NOTHING")
)
_SUBSUME = Statement(
    update(patient)
    .where(patient.c.survivor == bindparam("subsumed"))
    .values(survivor=bindparam("surviving"))
)
_RECORD_MERGE = Statement(insert(patient_merge))


class Patients:
    """Who the patients are, and who stands for whom. Safe for use by many threads."""

    def __init__(
        self,
        database: Database,
        domain: AffinityDomain,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._database = database
        self._authority = domain.assigning_authority
        self._clock = clock

    def apply(self, feed: IdentityFeed) -> FeedOutcome:
        """Act on one identity message; when this returns, the effect is durable.

        A redelivery (same sender, control id and bytes) gets the first answer without a
        second effect; the same control id with other bytes is a new message, acted on and
        logged. Raises StorageError when nothing was done or the outcome is unknown: the
        sender must be left to send again, never answered AE.
        """
        if feed.event == UPDATE:
            return _ACCEPTED  # demographics: the registry keeps none
        if problem := _length_problem(feed):
            return problem
        return write(self._database, lambda connection: self._process(connection, feed))

    def known(self, identifier: CX) -> bool:
        """Whether ``identifier`` is a patient that was announced and not subsumed."""
        key = identifier.normalised()
        with self._database.read() as connection:
            return _survivors(connection, [key]).get(key) == key

    def forget_messages(self, before: datetime) -> int:
        """Drop the record of messages received before ``before``, and return how many.

        A redelivery of one of them would be acted on anew: harmless for a registration,
        refused for a merge. Keep them as long as any sender may repeat itself.
        """
        limit = DTM.of(before)
        return self._database.write(lambda connection: _FORGET.run(connection, [{"before": limit}]))

    def _process(self, connection: Connection, feed: IdentityFeed) -> FeedOutcome:
        outcome = _earlier_outcome(connection, feed)
        if outcome is not None:
            return outcome
        now = DTM.of(self._clock())
        if feed.event == MERGE:
            outcome = self._merge(connection, feed, now)
        else:
            outcome = self._register(connection, feed)
        _remember(connection, feed, outcome, now)
        reach("patients.before_commit")
        return outcome

    def _register(self, connection: Connection, feed: IdentityFeed) -> FeedOutcome:
        """Make the identifiers usable; an identifier once subsumed stays so."""
        ids = [key.normalised() for key in feed.identifiers if self._is_ours(key)]
        if not ids:
            return _refused(UNKNOWN_KEY, "PID-3 holds no identifier of the affinity domain")
        survivors = _survivors(connection, ids)
        if any(survivors.get(key, key) != key for key in ids):
            return _refused(DUPLICATE_KEY, "PID-3 holds an identifier that a merge has subsumed")
        missing = [{"id": key} for key in ids if key not in survivors]
        if missing:
            _REGISTER.run(connection, missing)
        return _ACCEPTED

    def _merge(self, connection: Connection, feed: IdentityFeed, now: str) -> FeedOutcome:
        """Let the survivor stand for the subsumed patient and all that it stood for."""
        if len(feed.identifiers) != 1 or not self._is_ours(feed.identifiers[0]):
            return _refused(UNKNOWN_KEY, "PID-3 must hold one identifier of the affinity domain")
        if feed.subsumed is None or not self._is_ours(feed.subsumed):
            return _refused(UNKNOWN_KEY, "MRG-1 must hold an identifier of the affinity domain")
        surviving, subsumed = feed.identifiers[0].normalised(), feed.subsumed.normalised()
        problem = _merge_problem(connection, surviving, subsumed)
        if problem is not None:
            return problem
        merge = {
            "subsumed": subsumed,
            "surviving": surviving,
            "merged_at": now,
            "sender": feed.sender,
            "control_id": feed.control_id,
        }
        _SUBSUME.run(connection, [merge])
        _RECORD_MERGE.run(connection, [merge])
        return _ACCEPTED

    def _is_ours(self, identifier: CX) -> bool:
        authority = identifier.assigning_authority
        return (authority.universal_id, authority.universal_id_type) == (
            self._authority.universal_id,
            self._authority.universal_id_type,
        )


def _refused(code: str, reason: str) -> FeedOutcome:
    return FeedOutcome(ERROR, code, reason)


def _length_problem(feed: IdentityFeed) -> FeedOutcome | None:
    """Why the message cannot even be remembered."""
    subsumed = [] if feed.subsumed is None else [feed.subsumed]
    texts = (*feed.identifiers, *subsumed, feed.sender, feed.control_id, feed.digest)
    if all(len(text) <= LONGEST_ID for text in texts):
        return None
    return _refused(DATA_TYPE, f"an identifier has more than {LONGEST_ID} characters")


def _survivors(connection: Connection, ids: Sequence[str]) -> dict[str, str]:
    return dict(_SURVIVORS.rows(connection, {"ids": ids}))


def _merge_problem(connection: Connection, surviving: str, subsumed: str) -> FeedOutcome | None:
    """Why the two may not be merged (ITI TF-2 3.8.4.2.4); both rows are locked from here on."""
    if surviving == subsumed:
        return _refused(DUPLICATE_KEY, "MRG-1 and PID-3 hold the same identifier")
    rows = _LOCKED.rows(connection, {"ids": [surviving, subsumed]})
    locked = dict(rows)
    for field, key in (("MRG-1", subsumed), ("PID-3", surviving)):
        if key not in locked:
            return _refused(UNKNOWN_KEY, f"the identifier in {field} is not known")
        if locked[key] != key:
            return _refused(UNKNOWN_KEY, f"the identifier in {field} was subsumed before")
    return None


def _earlier_outcome(connection: Connection, feed: IdentityFeed) -> FeedOutcome | None:
    """What was answered when this very message came before."""
    key = {"sender": feed.sender, "control_id": feed.control_id}
    outcomes = {digest: outcome for digest, *outcome in _OUTCOMES.rows(connection, key)}
    if feed.digest in outcomes:
        return FeedOutcome(*outcomes[feed.digest])
    if outcomes:
        logger.warning(
            "identity message with a used control id and other content: processed as new",
            extra={"sender": feed.sender, "control_id": feed.control_id},
        )
    return None


def _remember(connection: Connection, feed: IdentityFeed, outcome: FeedOutcome, now: str) -> None:
    message = {
        "sender": feed.sender,
        "control_id": feed.control_id,
        "digest": feed.digest,
        "received_at": now,
        "ack_code": outcome.ack_code,
        "error_code": outcome.error_code,
        "text": outcome.text,
    }
    _REMEMBER.run(connection, [message])
