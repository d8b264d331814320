"""ITI-86 Remove Documents: an administrator has a repository forget documents for good.

Covers the messages of RMD 3.86 on the wire (rmd:RemoveDocumentsRequest, simple SOAP, the action
also in the Content-Type) and its audit records (3.86.5). The metadata of the documents is
another matter: ITI-62, to the registry.
"""

from __future__ import annotations

from dataclasses import dataclass

from metadata.identifiers import RMD, XDS
from soap.message import Incoming, Outgoing
from transactions.audit import AuditEvent, Scene
from transactions.audit_events import removal_events
from transactions.body import expect_root
from transactions.iti_43 import DocumentRequest, read_document_requests, write_document_request
from transactions.registry_response import (
    RegistryResponse,
    failure,
    read_response,
    write_response,
)
from transactions.transaction import Transaction

ROOT = f"{{{RMD}}}RemoveDocumentsRequest"


@dataclass(frozen=True, slots=True)
class RemoveDocumentsRequest:
    """The documents to remove, in the sender's order; at least one."""

    documents: tuple[DocumentRequest, ...]


def read_request(message: Incoming) -> RemoveDocumentsRequest:
    """The documents to remove; InvalidBody when one is incomplete or there is none."""
    return RemoveDocumentsRequest(read_document_requests(expect_root(message.body, ROOT)))


def write_request(request: RemoveDocumentsRequest) -> Outgoing:
    """The message that asks for the removal."""
    rendered = "".join(map(write_document_request, request.documents))
    return Outgoing(
        [
            f'<rmd:RemoveDocumentsRequest xmlns:rmd="{RMD}" xmlns:xds="{XDS}">{rendered}'
            "</rmd:RemoveDocumentsRequest>".encode()
        ]
    )


def audit(
    request: RemoveDocumentsRequest, response: RegistryResponse | None, scene: Scene
) -> list[AuditEvent]:
    """The audit records of one removal: of what is gone, of what is not, or both (3.86.5)."""
    return removal_events(ITI_86, request.documents, response, scene)


ITI_86: Transaction[RemoveDocumentsRequest, RegistryResponse] = Transaction(
    number="ITI-86",
    name="Remove Documents",
    action="urn:ihe:iti:2017:RemoveDocuments",
    response_action="urn:ihe:iti:2017:RemoveDocumentsResponse",
    root=ROOT,
    mtom=False,
    read_request=read_request,
    write_request=write_request,
    read_response=read_response,
    write_response=write_response,
    refuse=lambda text: failure("ITI-86", text),
)
