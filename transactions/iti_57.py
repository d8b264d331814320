"""ITI-57 Update Document Set: an administrator changes what the registry holds.

Covers the messages of Metadata Update 3.57 on the wire (lcm:SubmitObjectsRequest, simple SOAP,
the very body of ITI-42) and its audit record (3.57.5). Which operations a message asks for, and
whether they may be done, is judged by the registry (``registry.update``).
"""

from __future__ import annotations

from transactions.audit import AuditEvent, Scene
from transactions.audit_events import update_event
from transactions.iti_42 import ROOT, SubmitObjectsRequest, read_request, write_request
from transactions.registry_response import (
    RegistryResponse,
    failure,
    read_response,
    write_response,
)
from transactions.transaction import Transaction


def audit(
    request: SubmitObjectsRequest,
    response: RegistryResponse | None,
    scene: Scene,
) -> list[AuditEvent]:
    """The audit record of one update (Metadata Update 3.57.5)."""
    return [update_event(ITI_57, request.submission, response, scene)]


ITI_57: Transaction[SubmitObjectsRequest, RegistryResponse] = Transaction(
    number="ITI-57",
    name="Update Document Set",
    action="urn:ihe:iti:2010:UpdateDocumentSet",
    response_action="urn:ihe:iti:2010:UpdateDocumentSetResponse",
    root=ROOT,
    mtom=False,
    read_request=read_request,
    write_request=write_request,
    read_response=read_response,
    write_response=write_response,
    refuse=lambda text: failure("ITI-57", text),
)
