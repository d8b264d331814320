"""ITI-64 Notify XAD-PID Link Change: its audit record (ITI TF-2 3.64.5).

The message, ADT^A43, is HL7 v2 and lives in ``hl7``; here is only what the audit trail says of it.
"""

from __future__ import annotations

from collections.abc import Iterable

from transactions.audit import Action, AuditEvent, Coded, Outcome, Scene
from transactions.audit_events import identity_event
from transactions.iti_8 import CONTROL_ID

TYPE = Coded("ITI-64", "IHE Transactions", "Notify XAD-PID Link Change")


def audit(
    identifiers: Iterable[str],
    previous: str,
    control_id: str,
    outcome: Outcome,
    scene: Scene,
) -> list[AuditEvent]:
    """The audit records of one link change: both patients are updated.

    ``identifiers`` are those that belong together from now on (CX: the XAD-PID and the local
    ids), ``previous`` the XAD-PID they belonged to (empty where a refused message names none),
    ``control_id`` the message's MSH-10.
    """
    detail = (CONTROL_ID, control_id)
    return [
        identity_event(TYPE, Action.UPDATE, about, detail, scene, outcome)
        for about in ([previous] if previous else [], identifiers)
    ]
