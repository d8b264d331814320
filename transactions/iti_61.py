"""ITI-61 Register On-Demand Document Entry: documents that are assembled when asked for.

Covers the messages of ITI TF-2 3.61 on the wire (lcm:SubmitObjectsRequest, simple SOAP), which
are those of ITI-42 under other actions, and its audit record (3.61.5).
"""

from __future__ import annotations

from dataclasses import replace

from transactions.audit import AuditEvent, Scene
from transactions.audit_events import submission_event
from transactions.iti_42 import ITI_42, SubmitObjectsRequest
from transactions.registry_response import RegistryResponse, failure
from transactions.transaction import Transaction

ITI_61: Transaction[SubmitObjectsRequest, RegistryResponse] = replace(
    ITI_42,
    number="ITI-61",
    name="Register On-Demand Document Entry",
    action="urn:ihe:iti:2010:RegisterOnDemandDocumentEntry",
    # Without "Entry", as the Framework has it (ITI TF-2 3.61.7).
    response_action="urn:ihe:iti:2010:RegisterOnDemandDocumentResponse",
    refuse=lambda text: failure("ITI-61", text),
)


def audit(
    request: SubmitObjectsRequest, response: RegistryResponse | None, scene: Scene
) -> list[AuditEvent]:
    """The audit record of one registration (ITI TF-2 3.61.5)."""
    return [submission_event(ITI_61, request.submission, response, scene)]
