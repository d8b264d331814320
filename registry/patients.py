"""The patients of the affinity domain: registered, merged, resolved (the identity feeds).

Covers the registry's part of ITI TF-2 3.8, 3.44 and 3.64: A01, A04 and A05 make an identifier
usable, A08 changes nothing here, A40 subsumes one identifier under another
(``registry.merges``), A43 gives a local identifier's documents to another patient
(``registry.link_change``). What an operator may do beside is in ``registry.administration``.

The bytes on the wire, their refusal and the answer belong to ``hl7``, whose feed is the same
whether it came by ITI-8 or ITI-44.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import UTC, datetime

from sqlalchemy import Connection, bindparam, delete, insert, select, text

from hl7.ack import ACCEPT
from hl7.adt import LINK_CHANGE, MERGE, UPDATE, FeedOutcome, IdentityFeed
from hl7.errors import DATA_TYPE, DUPLICATE_KEY, UNKNOWN_KEY
from metadata.affinity_domain import AffinityDomain
from metadata.datatypes import CX, DTM
from registry.link_change import LinkChange, change_link
from registry.merges import Merge, merge, refused, survivors
from registry.schema import identity_message
from registry.work import write
from storage.database import Database
from storage.faultpoints import reach
from storage.statement import Statement
from transactions.body import NOT_XML

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
# A rival's row serves as well as ours.
_REGISTER = Statement(
    text("INSERT INTO patient (id, survivor) VALUES (:id, :id) ON CONFLICT DO NOTHING")
)


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
        if problem := _unkeepable(feed):
            return problem
        outcome = write(self._database, lambda connection: self._process(connection, feed))
        reach("patients.committed")
        return outcome

    def known(self, identifier: CX) -> bool:
        """Whether ``identifier`` is a patient that was announced and not subsumed."""
        key = identifier.normalised()
        with self._database.read() as connection:
            return survivors(connection, [key]).get(key) == key

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
        elif feed.event == LINK_CHANGE:
            outcome = self._change_link(connection, feed, now)
        else:
            outcome = self._register(connection, feed)
        _remember(connection, feed, outcome, now)
        reach("patients.before_commit")
        return outcome

    def _register(self, connection: Connection, feed: IdentityFeed) -> FeedOutcome:
        """Make the identifiers usable; an identifier once subsumed stays so."""
        ids = [key.normalised() for key in feed.identifiers if self._is_ours(key)]
        if not ids:
            return refused(UNKNOWN_KEY, "no identifier is of the affinity domain")
        known = survivors(connection, ids)
        if any(known.get(key, key) != key for key in ids):
            return refused(DUPLICATE_KEY, "a merge has subsumed one of the identifiers")
        missing = [{"id": key} for key in ids if key not in known]
        if missing:
            _REGISTER.run(connection, missing)
        return _ACCEPTED

    def _merge(self, connection: Connection, feed: IdentityFeed, now: str) -> FeedOutcome:
        pair = self._pair(feed, feed.subsumed)
        if isinstance(pair, FeedOutcome):
            return pair
        surviving, subsumed = pair
        new = Merge(subsumed, surviving, now, feed.sender, feed.control_id)
        return merge(connection, new) or _ACCEPTED

    def _change_link(self, connection: Connection, feed: IdentityFeed, now: str) -> FeedOutcome:
        pair = self._pair(feed, feed.previous)
        if isinstance(pair, FeedOutcome):
            return pair
        current, previous = pair
        local = tuple(one.normalised() for one in feed.local)
        change = LinkChange(local, previous, current, now, feed.sender, feed.control_id)
        return change_link(connection, change) or _ACCEPTED

    def _pair(self, feed: IdentityFeed, former: CX | None) -> tuple[CX, CX] | FeedOutcome:
        """The two identifiers of the domain that a message names, or why there are not two."""
        if len(feed.identifiers) != 1 or not self._is_ours(feed.identifiers[0]):
            return refused(UNKNOWN_KEY, "one identifier of the affinity domain must be the new one")
        if former is None or not self._is_ours(former):
            return refused(UNKNOWN_KEY, "an identifier of the affinity domain must be the former")
        return feed.identifiers[0].normalised(), former.normalised()

    def _is_ours(self, identifier: CX) -> bool:
        authority = identifier.assigning_authority
        return (authority.universal_id, authority.universal_id_type) == (
            self._authority.universal_id,
            self._authority.universal_id_type,
        )


def _unkeepable(feed: IdentityFeed) -> FeedOutcome | None:
    """Why the message cannot even be remembered."""
    former = [one for one in (feed.subsumed, feed.previous) if one is not None]
    named = (*feed.identifiers, *former, *feed.local, feed.sender, feed.control_id, feed.digest)
    if any(len(text) > LONGEST_ID for text in named):
        return refused(DATA_TYPE, f"an identifier has more than {LONGEST_ID} characters")
    # Nothing could be submitted for such an identifier, no answer could name it as a survivor, and
    # PostgreSQL does not store NUL.
    if any(NOT_XML.search(text) for text in named):
        return refused(DATA_TYPE, "an identifier has a control character")
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
