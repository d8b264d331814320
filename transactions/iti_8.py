"""ITI-8 Patient Identity Feed: its audit record (ITI TF-2 3.8.5).

The messages are HL7 v2 and live in ``hl7``; here is only what the audit trail says of them.
"""

from __future__ import annotations

from collections.abc import Iterable

from transactions.audit import Action, AuditEvent, Coded, Outcome, Scene
from transactions.audit_events import identity_event

TYPE = Coded("ITI-8", "IHE Transactions", "Patient Identity Feed")

CONTROL_ID = "MSH-10"
"""What the detail with the message's control id is called."""

# ADT^A08 updates; A01, A04 and A05 create; of an A40 each side has a record of its own.
_UPDATES = frozenset({"A08"})


def audit(
    event: str,
    identifiers: Iterable[str],
    subsumed: str | None,
    control_id: str,
    outcome: Outcome,
    scene: Scene,
) -> list[AuditEvent]:
    """The audit records of one ADT message.

    ``event`` is its trigger ("A01"), ``identifiers`` the patient's (CX), ``subsumed`` the one
    merged away (A40), ``control_id`` its MSH-10.
    """

    def record(action: Action, about: Iterable[str]) -> AuditEvent:
        return identity_event(TYPE, action, about, (CONTROL_ID, control_id), scene, outcome)

    if subsumed is not None:
        return [record(Action.DELETE, [subsumed]), record(Action.UPDATE, identifiers)]
    return [record(Action.UPDATE if event in _UPDATES else Action.CREATE, identifiers)]
