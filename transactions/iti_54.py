"""ITI-54 Document Metadata Publish: a registry tells a broker what it has registered.

Covers the message of ITI TF-2 3.54, which is that of ITI-53, and its audit record (3.54.6).
"""

from __future__ import annotations

from dataclasses import replace

from transactions.audit import AuditEvent, Scene
from transactions.audit_events import notification_event
from transactions.iti_53 import ITI_53, Notify
from transactions.transaction import Transaction


def audit(request: Notify, accepted: bool, scene: Scene) -> list[AuditEvent]:
    """The audit record of one publication (ITI TF-2 3.54.6)."""
    return [notification_event(ITI_54, request.objects(), accepted, scene)]


ITI_54: Transaction[Notify, None] = replace(
    ITI_53, number="ITI-54", name="Document Metadata Publish"
)
