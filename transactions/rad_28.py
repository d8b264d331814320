"""RAD-28 Structured Report Export: its audit record (RAD TF-2 4.28).

The messages are HL7 v2 and live in ``hl7.reports``; here is only what the audit trail says of them.
Documents that come as MDM messages are recorded as the same: to whom they come, they are.
"""

from __future__ import annotations

from collections.abc import Iterable

from transactions.audit import AuditEvent, Coded, Outcome, Scene
from transactions.audit_events import report_event
from transactions.iti_8 import CONTROL_ID

TYPE = Coded("RAD-28", "IHE Transactions", "Structured Report Export")


def audit(
    identifiers: Iterable[str], control_id: str, outcome: Outcome, scene: Scene
) -> list[AuditEvent]:
    """The audit record of one report, on the side of who takes it in.

    ``identifiers`` are the patient's (CX), ``control_id`` the message's MSH-10.
    """
    return [report_event(TYPE, identifiers, (CONTROL_ID, control_id), scene, outcome)]
