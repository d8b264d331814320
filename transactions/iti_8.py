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
_ACTIONS = {
    **dict.fromkeys(("A01", "A04", "A05"), Action.CREATE),
    "A08": Action.UPDATE,
}


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
    merged away (A40), ``control_id`` its MSH-10. Of a message that was refused unread an event may
    be unknown, and identifiers missing.
    """

    def record(action: Action, about: Iterable[str]) -> AuditEvent:
        return identity_event(TYPE, action, about, (CONTROL_ID, control_id), scene, outcome)

    if subsumed is not None:
        return [record(Action.DELETE, [subsumed]), record(Action.UPDATE, identifiers)]
    return [record(_ACTIONS.get(event, Action.EXECUTE), identifiers)]
