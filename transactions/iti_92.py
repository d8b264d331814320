"""ITI-92 Restricted Update Document Set: corrections that leave identity and origin alone.

Covers the messages of Restricted Metadata Update 3.92 on the wire (lcm:SubmitObjectsRequest,
simple SOAP, the very body of ITI-42) and its audit record (3.92.5). What may be changed is judged
by the registry (``registry.update``).
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
    """The audit record of one update (Restricted Metadata Update 3.92.5)."""
    return [update_event(ITI_92, request.submission, response, scene)]


ITI_92: Transaction[SubmitObjectsRequest, RegistryResponse] = Transaction(
    number="ITI-92",
    name="Restricted Update Document Set",
    action="urn:ihe:iti:2018:RestrictedUpdateDocumentSet",
    response_action="urn:ihe:iti:2018:RestrictedUpdateDocumentSetResponse",
    root=ROOT,
    mtom=False,
    read_request=read_request,
    write_request=write_request,
    read_response=read_response,
    write_response=write_response,
    refuse=lambda text: failure("ITI-92", text),
)
