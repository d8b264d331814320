"""RAD-68 Provide and Register Imaging Document Set: a manifest to the repository.

Covers RAD TF-2 4.68: on the wire it is ITI-41, actions included, so a repository cannot tell
the two apart; the sender knows, and its audit record says RAD-68. What a manifest and its
metadata hold is told by ``manifest``.
"""

from __future__ import annotations

from dataclasses import replace

from transactions.audit import AuditEvent, Scene
from transactions.audit_events import submission_event
from transactions.iti_41 import ITI_41, ProvideAndRegisterRequest
from transactions.registry_response import RegistryResponse, failure
from transactions.transaction import Transaction

RAD_68: Transaction[ProvideAndRegisterRequest, RegistryResponse] = replace(
    ITI_41,
    number="RAD-68",
    name="Provide and Register Imaging Document Set - MTOM/XOP",
    refuse=lambda text: failure("RAD-68", text),
)


def audit(
    request: ProvideAndRegisterRequest, response: RegistryResponse | None, scene: Scene
) -> list[AuditEvent]:
    """The audit record of one manifest sent (RAD TF-2 4.68.5)."""
    return [submission_event(RAD_68, request.submit.submission, response, scene)]
