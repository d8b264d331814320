"""ITI-43 Retrieve Document Set: the bytes of documents from a repository.

Covers the messages of ITI TF-2 3.43 on the wire (xds:RetrieveDocumentSetRequest, MTOM both
ways, one part for each document) and its audit records (3.43.5). RAD-69 answers with the
same response.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from lxml import etree

from metadata.catalogue import RegistryError
from metadata.identifiers import XDS
from soap.message import Content, Incoming, Outgoing, Part
from transactions.audit import AuditEvent, Scene
from transactions.audit_events import retrieval_events
from transactions.body import (
    child,
    child_text,
    child_texts,
    children,
    content_of,
    escape_text,
    expect_root,
    include,
    lacking,
    new_content_ids,
    optional_text,
)
from transactions.registry_response import (
    REGISTRY_RESPONSE,
    failure,
    read_registry_response,
    status_of,
    write_registry_response,
)
from transactions.transaction import Transaction

ROOT = f"{{{XDS}}}RetrieveDocumentSetRequest"
_RESPONSE = f"{{{XDS}}}RetrieveDocumentSetResponse"
_DOCUMENT_REQUEST = f"{{{XDS}}}DocumentRequest"
_DOCUMENT_RESPONSE = f"{{{XDS}}}DocumentResponse"
_HOME = f"{{{XDS}}}HomeCommunityId"
_REPOSITORY = f"{{{XDS}}}RepositoryUniqueId"
_DOCUMENT_ID = f"{{{XDS}}}DocumentUniqueId"
_NEW_REPOSITORY = f"{{{XDS}}}NewRepositoryUniqueId"
_NEW_DOCUMENT_ID = f"{{{XDS}}}NewDocumentUniqueId"
_MIME_TYPE = f"{{{XDS}}}mimeType"
_DOCUMENT = f"{{{XDS}}}Document"


# A study is thousands of these: named tuples are made in half the time.
class DocumentRequest(NamedTuple):
    """One document asked for: where it is, which it is, and its community at gateways."""

    repository_unique_id: str
    document_unique_id: str
    home_community_id: str | None = None


@dataclass(frozen=True, slots=True)
class RetrieveDocumentSetRequest:
    """The documents asked for, in the sender's order; at least one."""

    documents: tuple[DocumentRequest, ...]


class RetrievedDocument(NamedTuple):
    """One document handed over: the request it answers (echoed as it came) and its bytes.

    The two ``new_`` identifiers belong to On-Demand documents (ITI TF-2 3.43.4.2.3).
    """

    request: DocumentRequest
    mime_type: str
    content: Content
    new_repository_unique_id: str | None = None
    new_document_unique_id: str | None = None


@dataclass(frozen=True, slots=True)
class RetrieveDocumentSetResponse:
    """What could be handed over, and one error for each document that could not."""

    status: str
    errors: tuple[RegistryError, ...] = ()
    documents: tuple[RetrievedDocument, ...] = ()

    @classmethod
    def of(
        cls, errors: Iterable[RegistryError], documents: Iterable[RetrievedDocument]
    ) -> RetrieveDocumentSetResponse:
        """The response with these errors and documents, the status following from both."""
        listed, retrieved = tuple(errors), tuple(documents)
        return cls(status_of(listed, results=bool(retrieved)), listed, retrieved)


def read_document_requests(parent: etree._Element) -> tuple[DocumentRequest, ...]:
    """The DocumentRequest children of ``parent``; InvalidBody when one is incomplete."""
    return tuple(map(_read_identifiers, children(parent, _DOCUMENT_REQUEST)))


def write_document_request(request: DocumentRequest) -> str:
    """One xds:DocumentRequest; the prefix ``xds`` is bound above it."""
    return f"<xds:DocumentRequest>{_identifiers(request)}</xds:DocumentRequest>"


def read_request(message: Incoming) -> RetrieveDocumentSetRequest:
    """The documents asked for by a message."""
    return RetrieveDocumentSetRequest(
        read_document_requests(expect_root(message.body, ROOT)),
    )


def write_request(request: RetrieveDocumentSetRequest) -> Outgoing:
    """The message that asks for documents."""
    rendered = "".join(map(write_document_request, request.documents))
    return Outgoing(
        [
            f'<xds:RetrieveDocumentSetRequest xmlns:xds="{XDS}">{rendered}'
            "</xds:RetrieveDocumentSetRequest>".encode()
        ]
    )


def read_response(message: Incoming) -> RetrieveDocumentSetResponse:
    """The documents and errors in a message; InvalidBody when a document is incomplete."""
    body = expect_root(message.body, _RESPONSE)
    outcome = read_registry_response(child(body, REGISTRY_RESPONSE))
    documents = tuple(
        _read_document(message, element) for element in body.iterchildren(_DOCUMENT_RESPONSE)
    )
    return RetrieveDocumentSetResponse(outcome.status, outcome.errors, documents)


def write_response(response: RetrieveDocumentSetResponse) -> Outgoing:
    """The message that hands documents over, each as a part of its own.

    The status and all errors precede the first byte of any document.
    """
    prefix = new_content_ids()
    parts, documents = [], []
    for number, document in enumerate(response.documents, start=1):
        part = Part(f"{number}.{prefix}@kosmos", document.content, document.mime_type)
        parts.append(part)
        documents.append(_write_document(document, part.content_id))
    body = [
        b'<xds:RetrieveDocumentSetResponse xmlns:xds="%s">' % XDS.encode(),
        write_registry_response(response.status, response.errors),
        "".join(documents).encode(),  # as one: each piece is a write to the socket
        b"</xds:RetrieveDocumentSetResponse>",
    ]
    return Outgoing(body, parts)


def refuse(number: str, text: str) -> RetrieveDocumentSetResponse:
    """The Failure of transaction ``number`` for a body that could not be read."""
    outcome = failure(number, text)
    return RetrieveDocumentSetResponse(outcome.status, outcome.errors)


def audit(
    request: RetrieveDocumentSetRequest,
    response: RetrieveDocumentSetResponse | None,
    scene: Scene,
) -> list[AuditEvent]:
    """The audit records of one retrieval: one for success, one for failure, or both."""
    return retrieval_events(ITI_43, request.documents, response, scene)


def _read_identifiers(element: etree._Element) -> DocumentRequest:
    told = child_texts(element)
    for tag in (_REPOSITORY, _DOCUMENT_ID):
        if tag not in told:
            raise lacking(element, tag)
    return DocumentRequest(told[_REPOSITORY], told[_DOCUMENT_ID], told.get(_HOME) or None)


def _read_document(message: Incoming, element: etree._Element) -> RetrievedDocument:
    return RetrievedDocument(
        request=_read_identifiers(element),
        mime_type=child_text(element, _MIME_TYPE),
        content=content_of(message, child(element, _DOCUMENT)),
        new_repository_unique_id=optional_text(element, _NEW_REPOSITORY),
        new_document_unique_id=optional_text(element, _NEW_DOCUMENT_ID),
    )


def _optional(name: str, value: str | None) -> str:
    return f"<xds:{name}>{escape_text(value)}</xds:{name}>" if value else ""


def _identifiers(request: DocumentRequest) -> str:
    """The three identifiers in the schema's order."""
    return (
        f"{_optional('HomeCommunityId', request.home_community_id)}<xds:RepositoryUniqueId>"
        f"{escape_text(request.repository_unique_id)}</xds:RepositoryUniqueId>"
        f"<xds:DocumentUniqueId>{escape_text(request.document_unique_id)}</xds:DocumentUniqueId>"
    )


def _write_document(document: RetrievedDocument, content_id: str) -> str:
    """One DocumentResponse in the schema's order, which differs from the prose of 3.43."""
    return (
        f"<xds:DocumentResponse>{_identifiers(document.request)}"
        f"{_optional('NewRepositoryUniqueId', document.new_repository_unique_id)}"
        f"{_optional('NewDocumentUniqueId', document.new_document_unique_id)}"
        f"<xds:mimeType>{escape_text(document.mime_type)}</xds:mimeType>"
        f"<xds:Document>{include(content_id)}</xds:Document></xds:DocumentResponse>"
    )


ITI_43: Transaction[RetrieveDocumentSetRequest, RetrieveDocumentSetResponse] = Transaction(
    number="ITI-43",
    name="Retrieve Document Set",
    action="urn:ihe:iti:2007:RetrieveDocumentSet",
    response_action="urn:ihe:iti:2007:RetrieveDocumentSetResponse",
    root=ROOT,
    mtom=True,
    read_request=read_request,
    write_request=write_request,
    read_response=read_response,
    write_response=write_response,
    refuse=lambda text: refuse("ITI-43", text),
)
