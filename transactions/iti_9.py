"""ITI-9 PIX Query: its audit record (ITI TF-2 3.9.5).

The messages are HL7 v2 and live in ``hl7.pix``; here is only what the audit trail says of them.
"""

from __future__ import annotations

from collections.abc import Iterable

from transactions.audit import AuditEvent, Coded, Outcome, Scene
from transactions.audit_events import hl7_query_event
from transactions.iti_8 import CONTROL_ID

TYPE = Coded("ITI-9", "IHE Transactions", "PIX Query")


def audit(
    identifiers: Iterable[str], query: bytes, control_id: str, outcome: Outcome, scene: Scene
) -> list[AuditEvent]:
    """The audit record of one query, the same on both sides.

    ``identifiers`` are the patient's: the one asked about, and those answered (CX). ``query`` is
    the QPD segment as it was sent, ``control_id`` the message's MSH-10.
    """
    return [hl7_query_event(TYPE, identifiers, query, (CONTROL_ID, control_id), scene, outcome)]
