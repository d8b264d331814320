"""RAD-69 Retrieve Imaging Document Set: DICOM instances from an imaging document source.

Covers the messages of RAD TF-2 4.69 on the wire (iherad:RetrieveImagingDocumentSetRequest,
MTOM both ways; the answer is that of ITI-43, its action in the ITI namespace included) and
the audit records. Which error goes with which failure is the source's affair.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from lxml import etree

from metadata.identifiers import RAD, XDS
from soap.message import Incoming, Outgoing
from transactions import iti_43
from transactions.audit import AuditEvent, Scene
from transactions.audit_events import imaging_retrieval_events
from transactions.body import (
    SPACE,
    attribute,
    child,
    children,
    escape_attribute,
    escape_text,
    expect_root,
)
from transactions.iti_43 import DocumentRequest, RetrieveDocumentSetResponse
from transactions.transaction import Transaction

ROOT = f"{{{RAD}}}RetrieveImagingDocumentSetRequest"
_STUDY = f"{{{RAD}}}StudyRequest"
_SERIES = f"{{{RAD}}}SeriesRequest"
_SYNTAXES = f"{{{RAD}}}TransferSyntaxUIDList"
_SYNTAX = f"{{{RAD}}}TransferSyntaxUID"


@dataclass(frozen=True, slots=True)
class SeriesRequest:
    """Instances asked for in one series; their DocumentUniqueId is the SOP Instance UID."""

    series_instance_uid: str
    documents: tuple[DocumentRequest, ...]


@dataclass(frozen=True, slots=True)
class StudyRequest:
    """Series asked for in one study."""

    study_instance_uid: str
    series: tuple[SeriesRequest, ...]

    def documents(self) -> Iterator[DocumentRequest]:
        """Every instance asked for, in the sender's order."""
        for series in self.series:
            yield from series.documents


@dataclass(frozen=True, slots=True)
class RetrieveImagingDocumentSetRequest:
    """The instances asked for and the transfer syntaxes the sender can read."""

    studies: tuple[StudyRequest, ...]
    transfer_syntaxes: tuple[str, ...]

    def documents(self) -> Iterator[DocumentRequest]:
        """Every instance asked for, in the sender's order."""
        for study in self.studies:
            yield from study.documents()


def read_request(message: Incoming) -> RetrieveImagingDocumentSetRequest:
    """The instances asked for by a message; InvalidBody when a level of it is missing."""
    body = expect_root(message.body, ROOT)
    return RetrieveImagingDocumentSetRequest(
        tuple(map(_read_study, children(body, _STUDY))),
        _read_syntaxes(child(body, _SYNTAXES)),
    )


def write_request(request: RetrieveImagingDocumentSetRequest) -> Outgoing:
    """The message that asks for instances."""
    syntaxes = "".join(
        f"<iherad:TransferSyntaxUID>{escape_text(uid)}</iherad:TransferSyntaxUID>"
        for uid in request.transfer_syntaxes
    )
    return Outgoing(
        [
            f'<iherad:RetrieveImagingDocumentSetRequest xmlns:iherad="{RAD}"'
            f' xmlns:xds="{XDS}">{"".join(map(_write_study, request.studies))}'
            f"<iherad:TransferSyntaxUIDList>{syntaxes}</iherad:TransferSyntaxUIDList>"
            "</iherad:RetrieveImagingDocumentSetRequest>".encode()
        ]
    )


def audit(
    request: RetrieveImagingDocumentSetRequest,
    response: RetrieveDocumentSetResponse | None,
    scene: Scene,
) -> list[AuditEvent]:
    """The audit records of one retrieval: one for success, one for failure, or both."""
    studies = [(study.study_instance_uid, tuple(study.documents())) for study in request.studies]
    return imaging_retrieval_events(RAD_69, studies, response, scene)


def _read_study(element: etree._Element) -> StudyRequest:
    series = tuple(map(_read_series, children(element, _SERIES)))
    return StudyRequest(attribute(element, "studyInstanceUID"), series)


def _read_series(element: etree._Element) -> SeriesRequest:
    return SeriesRequest(
        attribute(element, "seriesInstanceUID"), iti_43.read_document_requests(element)
    )


def _read_syntaxes(element: etree._Element) -> tuple[str, ...]:
    return tuple((one.text or "").strip(SPACE) for one in children(element, _SYNTAX))


def _write_study(study: StudyRequest) -> str:
    uid = escape_attribute(study.study_instance_uid)
    series = "".join(map(_write_series, study.series))
    return f'<iherad:StudyRequest studyInstanceUID="{uid}">{series}</iherad:StudyRequest>'


def _write_series(series: SeriesRequest) -> str:
    uid = escape_attribute(series.series_instance_uid)
    documents = "".join(map(iti_43.write_document_request, series.documents))
    return f'<iherad:SeriesRequest seriesInstanceUID="{uid}">{documents}</iherad:SeriesRequest>'


RAD_69: Transaction[RetrieveImagingDocumentSetRequest, RetrieveDocumentSetResponse] = Transaction(
    number="RAD-69",
    name="Retrieve Imaging Document Set",
    action="urn:ihe:rad:2009:RetrieveImagingDocumentSet",
    response_action="urn:ihe:iti:2007:RetrieveDocumentSetResponse",
    root=ROOT,
    mtom=True,
    read_request=read_request,
    write_request=write_request,
    read_response=iti_43.read_response,
    write_response=iti_43.write_response,
    refuse=lambda text: iti_43.refuse("RAD-69", text),
)
