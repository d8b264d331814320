"""The records of messages of HL7 v2: those that come by MLLP, and the queries that a node asks.

Whatever comes leaves a record, durable before it is acknowledged: applied, without effect, or
refused (ITI-8, ITI-64); a report likewise (RAD-28). A query of ours (ITI-9) is recorded as well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from hl7.ack import ACCEPT
from hl7.adt import LINK_CHANGE, MERGE, FeedOutcome, IdentityFeed, Unapplied
from hl7.feed import Verdict
from hl7.pix import PixQuery
from metadata.datatypes import CX
from node.wiring.audit import Auditor
from storage.faultpoints import reach
from transactions import iti_8, iti_9, iti_64, rad_28
from transactions.audit import AuditEvent, Node, Outcome, Scene, Side

_FAILED = Outcome.SERIOUS_FAILURE


@dataclass(frozen=True, slots=True)
class Hl7Records:
    """Puts them into the trail of a process."""

    auditor: Auditor

    def feeding(
        self, apply: Callable[[IdentityFeed], FeedOutcome]
    ) -> Callable[[IdentityFeed, str], FeedOutcome]:
        """``apply`` with its records; the second argument is the peer."""

        def recorded(feed: IdentityFeed, peer: str) -> FeedOutcome:
            self.auditor.trail.ready()
            describe = partial(_feed_events, feed, peer)
            begun = self.auditor.keep(partial(describe, _FAILED))
            outcome = apply(feed)
            well = Outcome.SUCCESS if outcome.ack_code == ACCEPT else _FAILED
            reach("audit.before_record")
            self.auditor.record(partial(describe, well), begun).result()
            return outcome

        return recorded

    def unapplied(self, said: Unapplied, verdict: Verdict, peer: str) -> None:
        """Record, durably, a message that is refused before it could be applied, or that is
        accepted without effect. Raises StorageError."""
        self.auditor.trail.ready()
        self.auditor.record(partial(_unapplied_events, said, verdict, peer)).result()

    def reporting(self, said: Unapplied, peer: str) -> Callable[[Verdict], None]:
        """Keep that a report comes; what is given back records what became of it. Both are
        durable, and raise StorageError."""
        self.auditor.trail.ready()
        describe = partial(_report_events, said, peer)
        begun = self.auditor.keep(partial(describe, Verdict("")))

        def ended(verdict: Verdict) -> None:
            self.auditor.record(partial(describe, verdict), begun).result()

        return ended

    def asking(self, manager: Node, ask: Ask) -> Ask:
        """``ask``, which asks a PIX manager, with a record of each time."""

        def recorded(query: PixQuery, message: bytes) -> tuple[str, ...]:
            self.auditor.trail.ready()
            found = None
            try:
                found = ask(query, message)
                return found
            finally:
                describe = partial(_query_events, query, message, found, manager)
                self.auditor.record(describe).result()

        return recorded


Ask = Callable[[PixQuery, bytes], tuple[str, ...]]
"""Sends a query, as this message; the identifiers that are found."""


def _from(sender: str, peer: str, scene: Scene) -> Scene:
    """The scene of a message that somebody sends to this process."""
    return scene._replace(client=Node(sender, peer))


def _feed_events(feed: IdentityFeed, peer: str, outcome: Outcome, scene: Scene) -> list[AuditEvent]:
    scene, named = _from(feed.sender, peer, scene), [str(one) for one in feed.identifiers]
    if feed.event == LINK_CHANGE:
        local, previous = [str(one) for one in feed.local], str(feed.previous)
        return iti_64.audit([*named, *local], previous, feed.control_id, outcome, scene)
    subsumed = str(feed.subsumed) if feed.subsumed else None
    return iti_8.audit(feed.event, named, subsumed, feed.control_id, outcome, scene)


def _unapplied_events(
    said: Unapplied, verdict: Verdict, peer: str, scene: Scene
) -> list[AuditEvent]:
    events = identity_events(said, _outcome(verdict), _from(said.sender, peer, scene))
    return [*_described(events, said, verdict)]


def identity_events(said: Unapplied, outcome: Outcome, scene: Scene) -> list[AuditEvent]:
    """What an identity message leaves of which no more is known than it says; where it names no
    patient, they name the message."""
    told = (said.control_id, outcome, scene)
    if said.event == LINK_CHANGE:
        return iti_64.audit(said.identifiers, said.prior, *told)
    subsumed = said.prior if said.event == MERGE and said.prior else None
    return iti_8.audit(said.event, said.identifiers, subsumed, *told)


def _report_events(said: Unapplied, peer: str, verdict: Verdict, scene: Scene) -> list[AuditEvent]:
    seen = _from(said.sender, peer, scene)
    events = rad_28.audit(said.identifiers, said.control_id, _outcome(verdict), seen)
    return [*_described(events, said, verdict)]


def _query_events(
    query: PixQuery, message: bytes, found: tuple[str, ...] | None, manager: Node, scene: Scene
) -> list[AuditEvent]:
    asked = [(query.identifier, query.authority), *((one, query.target) for one in found or ())]
    outcome = Outcome.MAJOR_FAILURE if found is None else Outcome.SUCCESS
    seen = scene._replace(side=Side.CLIENT, server=manager)
    named = [str(CX.of(*one)) for one in asked]
    return iti_9.audit(named, _parameters(message), query.tag, outcome, seen)


def _parameters(message: bytes) -> bytes:
    """The segment QPD of a query (ITI TF-2 3.9.5.1)."""
    return next(one for one in message.split(b"\r") if one.startswith(b"QPD"))


def _outcome(verdict: Verdict) -> Outcome:
    return Outcome.SUCCESS if verdict.code == ACCEPT else _FAILED


def _described(events: list[AuditEvent], said: Unapplied, verdict: Verdict) -> Iterator[AuditEvent]:
    """The events with the faults that were told."""
    faults = "; ".join(f"{one.code} {one.detail}" for one in verdict.problems)
    description = f"{verdict.code} to {iti_8.CONTROL_ID} {said.control_id!r}: {faults}"
    for event in events:
        yield event._replace(outcome_description=description) if faults else event
