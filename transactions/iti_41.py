"""ITI-41 Provide and Register Document Set-b: documents with their metadata to a repository.

Covers the messages of ITI TF-2 3.41 on the wire (xds:ProvideAndRegisterDocumentSetRequest,
MTOM both ways) and its audit record (3.41.5). Pairing documents with their metadata is the
repository's affair: this module reports what arrived.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from lxml import etree

from metadata.identifiers import XDS
from soap.message import Content, Incoming, Outgoing, Part, Received
from transactions import iti_42
from transactions.audit import AuditEvent, Scene
from transactions.audit_events import submission_event
from transactions.body import (
    attribute,
    child,
    content_of,
    escape_attribute,
    expect_root,
    include,
    new_content_ids,
    serialised,
)
from transactions.iti_42 import SubmitObjectsRequest
from transactions.registry_response import (
    RegistryResponse,
    failure,
    read_response,
    write_response,
)
from transactions.transaction import InvalidBody, Transaction

ROOT = f"{{{XDS}}}ProvideAndRegisterDocumentSetRequest"
_DOCUMENT = f"{{{XDS}}}Document"


@dataclass(slots=True)
class ProvideAndRegisterRequest:
    """A submission and its documents, keyed by the id of the ExtrinsicObject they belong to.

    ``documents`` are ``Received`` when the request came over the wire, any ``Content`` when
    it is to be sent. ``unreferenced_parts`` are Content-IDs that no Document includes.
    """

    submit: SubmitObjectsRequest
    documents: Mapping[str, Content]
    unreferenced_parts: Sequence[str] = field(default_factory=list)


def read_request(message: Incoming) -> ProvideAndRegisterRequest:
    """The submission in a message, with optimised, inline or mixed documents.

    InvalidBody for a message without SubmitObjectsRequest, a Document without id or sharing
    it with another, and a Document whose bytes cannot be had.
    """
    body = expect_root(message.body, ROOT)
    submit = SubmitObjectsRequest(child(body, iti_42.ROOT))
    documents = _read_documents(message, body)
    return ProvideAndRegisterRequest(submit, documents, message.unused_parts())


def _read_documents(message: Incoming, body: etree._Element) -> dict[str, Received]:
    documents: dict[str, Received] = {}
    for element in body.iterchildren(_DOCUMENT):
        document_id = attribute(element, "id")
        if document_id in documents:
            raise InvalidBody(f"two <Document> have the id {document_id[:128]!r}")
        documents[document_id] = content_of(message, element)
    return documents


def write_request(request: ProvideAndRegisterRequest) -> Outgoing:
    """The message that carries a submission, every document as a part of its own."""
    prefix = new_content_ids()
    body = [
        b'<xds:ProvideAndRegisterDocumentSetRequest xmlns:xds="%s">' % XDS.encode(),
        serialised(request.submit.element),
    ]
    parts = []
    for number, (document_id, content) in enumerate(request.documents.items(), start=1):
        part = Part(f"{number}.{prefix}@kosmos", content)
        parts.append(part)
        body.append(
            f'<xds:Document id="{escape_attribute(document_id)}">'
            f"{include(part.content_id)}</xds:Document>".encode()
        )
    body.append(b"</xds:ProvideAndRegisterDocumentSetRequest>")
    return Outgoing(body, parts)


def audit(
    request: ProvideAndRegisterRequest,
    response: RegistryResponse | None,
    scene: Scene,
) -> list[AuditEvent]:
    """The audit record of one submission with documents (ITI TF-2 3.41.5)."""
    return [submission_event(ITI_41, request.submit.submission, response, scene)]


ITI_41: Transaction[ProvideAndRegisterRequest, RegistryResponse] = Transaction(
    number="ITI-41",
    name="Provide and Register Document Set-b",
    action="urn:ihe:iti:2007:ProvideAndRegisterDocumentSet-b",
    response_action="urn:ihe:iti:2007:ProvideAndRegisterDocumentSet-bResponse",
    root=ROOT,
    mtom=True,
    read_request=read_request,
    write_request=write_request,
    read_response=read_response,
    write_response=write_response,
    refuse=lambda text: failure("ITI-41", text),
)
