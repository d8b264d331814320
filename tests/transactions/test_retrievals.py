"""ITI-43 and RAD-69 on the wire."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import etree

from metadata.catalogue import RegistryError
from metadata.identifiers import FAILURE, PARTIAL_SUCCESS, RAD, RS, SUCCESS, XDS
from soap.message import Incoming, InMemory, Outgoing
from transactions.iti_43 import (
    ITI_43,
    DocumentRequest,
    RetrievedDocument,
    RetrieveDocumentSetRequest,
    RetrieveDocumentSetResponse,
)
from transactions.rad_69 import (
    RAD_69,
    RetrieveImagingDocumentSetRequest,
    SeriesRequest,
    StudyRequest,
)
from transactions.transaction import InvalidBody

Carry = Callable[[Outgoing], Incoming]

uids = st.integers(1, 10**30).map("1.2.{}".format)
document_requests = st.builds(
    DocumentRequest, uids, uids, st.none() | uids.map(lambda uid: f"urn:oid:{uid}")
)
several = st.lists(document_requests, min_size=1, max_size=3).map(tuple)
imaging_requests = st.builds(
    RetrieveImagingDocumentSetRequest,
    st.lists(
        st.builds(
            StudyRequest,
            uids,
            st.lists(st.builds(SeriesRequest, uids, several), min_size=1, max_size=2).map(tuple),
        ),
        min_size=1,
        max_size=2,
    ).map(tuple),
    st.lists(uids, min_size=1, max_size=3).map(tuple),
)


@settings(max_examples=30)
@given(several)
def test_a_retrieval_is_read_as_it_was_written(
    carry: Carry,
    assert_valid: Callable[[Outgoing], None],
    documents: tuple[DocumentRequest, ...],
) -> None:
    request = RetrieveDocumentSetRequest(documents)
    message = ITI_43.write_request(request)
    assert_valid(message)
    assert ITI_43.read_request(carry(message)) == request


@settings(max_examples=30)
@given(imaging_requests)
def test_an_imaging_retrieval_is_read_as_it_was_written(
    carry: Carry,
    assert_valid: Callable[[Outgoing], None],
    request_: RetrieveImagingDocumentSetRequest,
) -> None:
    message = RAD_69.write_request(request_)
    assert_valid(message)
    assert RAD_69.read_request(carry(message)) == request_


def test_an_imaging_request_lists_all_its_instances() -> None:
    one, two, three = (DocumentRequest("1.2", f"1.2.{n}") for n in (1, 2, 3))
    study = StudyRequest("1.9", (SeriesRequest("1.8", (one, two)), SeriesRequest("1.7", (three,))))
    request = RetrieveImagingDocumentSetRequest((study, study), ("1.2.840.10008.1.2.1",))
    assert list(request.documents()) == [one, two, three, one, two, three]


def test_documents_come_back_with_all_that_was_said_of_them(
    carry: Carry, assert_valid: Callable[[Outgoing], None]
) -> None:
    response = RetrieveDocumentSetResponse.of(
        [RegistryError("XDSDocumentUniqueIdError", "unknown", location="1.2.9")],
        [
            RetrievedDocument(
                DocumentRequest("1.2", "1.3", "urn:oid:1.4"),
                "text/xml",
                InMemory(b"<a/>"),
                new_repository_unique_id="1.5",
                new_document_unique_id="1.6",
            ),
            RetrievedDocument(DocumentRequest("1.2", "1.7"), "application/dicom", InMemory(b"")),
        ],
    )
    message = ITI_43.write_response(response)
    assert_valid(message)
    assert ITI_43.read_response(carry(message)) == response
    assert response.status == PARTIAL_SUCCESS
    assert [part.content_type for part in message.parts] == ["text/xml", "application/dicom"]


def test_errors_alone_are_a_failure_and_documents_alone_a_success(
    assert_valid: Callable[[Outgoing], None],
) -> None:
    document = RetrievedDocument(DocumentRequest("1.2", "1.3"), "text/plain", InMemory(b"x"))
    failed = RetrieveDocumentSetResponse.of([RegistryError("XDSRepositoryError", "x")], [])
    assert failed.status == FAILURE
    assert RetrieveDocumentSetResponse.of([], [document]).status == SUCCESS
    assert_valid(ITI_43.write_response(failed))


def test_the_status_precedes_every_document() -> None:
    document = RetrievedDocument(DocumentRequest("1.2", "1.3"), "text/plain", InMemory(b"x"))
    body = etree.fromstring(
        b"".join(ITI_43.write_response(RetrieveDocumentSetResponse.of([], [document])).body)
    )
    assert [element.tag for element in body] == [
        f"{{{RS}}}RegistryResponse",
        f"{{{XDS}}}DocumentResponse",
    ]


def test_a_response_is_read_with_odd_prefixes_white_space_and_order() -> None:
    response = ITI_43.read_response(
        Incoming(
            etree.fromstring(
                f'<RetrieveDocumentSetResponse xmlns="{XDS}"><DocumentResponse>'
                "<Document>eHh4</Document><mimeType>\n text/plain </mimeType>"
                "<DocumentUniqueId> 1.3\t</DocumentUniqueId><HomeCommunityId/>"
                "<RepositoryUniqueId>1.2</RepositoryUniqueId></DocumentResponse>"
                f'<q:RegistryResponse xmlns:q="{RS}" status="{SUCCESS}"/>'
                "</RetrieveDocumentSetResponse>"
            )
        )
    )
    (document,) = response.documents
    assert document.request == DocumentRequest("1.2", "1.3")
    assert document.mime_type == "text/plain"
    assert b"".join(document.content.chunks()) == b"xxx"


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ("", "<RetrieveDocumentSetRequest> has no <DocumentRequest>"),
        ("<DocumentRequest/>", "<DocumentRequest> has no <RepositoryUniqueId>"),
        (
            "<DocumentRequest><RepositoryUniqueId>1</RepositoryUniqueId></DocumentRequest>",
            "<DocumentRequest> has no <DocumentUniqueId>",
        ),
    ],
)
def test_an_incomplete_retrieval_is_invalid(body: str, problem: str) -> None:
    xml = f'<RetrieveDocumentSetRequest xmlns="{XDS}">{body}</RetrieveDocumentSetRequest>'
    with pytest.raises(InvalidBody, match=problem):
        ITI_43.read_request(Incoming(etree.fromstring(xml)))


_DOCUMENT = (
    f'<x:DocumentRequest xmlns:x="{XDS}"><x:RepositoryUniqueId>1</x:RepositoryUniqueId>'
    "<x:DocumentUniqueId/></x:DocumentRequest>"
)
_SYNTAXES = (
    "<TransferSyntaxUIDList><TransferSyntaxUID>1.2</TransferSyntaxUID></TransferSyntaxUIDList>"
)


def imaging(body: str) -> RetrieveImagingDocumentSetRequest:
    root = "RetrieveImagingDocumentSetRequest"
    xml = f'<{root} xmlns="{RAD}">{body}</{root}>'
    return RAD_69.read_request(Incoming(etree.fromstring(xml)))


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (_SYNTAXES, "has no <StudyRequest>"),
        ("<StudyRequest/>", "<StudyRequest> has no <SeriesRequest>"),
        (
            '<StudyRequest studyInstanceUID="1"><SeriesRequest seriesInstanceUID="1"/>'
            "</StudyRequest>",
            "<SeriesRequest> has no <DocumentRequest>",
        ),
        (
            f"<StudyRequest><SeriesRequest>{_DOCUMENT}</SeriesRequest></StudyRequest>",
            "<SeriesRequest> has no attribute seriesInstanceUID",
        ),
        (
            '<StudyRequest studyInstanceUID="1"><SeriesRequest seriesInstanceUID="1">'
            f"{_DOCUMENT}</SeriesRequest></StudyRequest>",
            "has no <TransferSyntaxUIDList>",
        ),
    ],
)
def test_an_incomplete_imaging_retrieval_is_invalid(body: str, problem: str) -> None:
    with pytest.raises(InvalidBody, match=problem):
        imaging(body)


def test_empty_identifiers_are_left_to_the_source_to_judge() -> None:
    request = imaging(
        '<StudyRequest studyInstanceUID=""><SeriesRequest seriesInstanceUID=" ">'
        f"{_DOCUMENT}</SeriesRequest></StudyRequest>{_SYNTAXES}"
    )
    assert request.studies[0].series[0].series_instance_uid == ""
    assert list(request.documents()) == [DocumentRequest("1", "")]


def test_of_an_identifier_given_twice_the_first_counts() -> None:
    twice = _DOCUMENT.replace(
        "<x:DocumentUniqueId/>",
        "<x:DocumentUniqueId> 1.3\n</x:DocumentUniqueId>"
        "<x:DocumentUniqueId>1.4</x:DocumentUniqueId>",
    )
    request = imaging(
        '<StudyRequest studyInstanceUID="1"><SeriesRequest seriesInstanceUID="1">'
        f"{twice}</SeriesRequest></StudyRequest>{_SYNTAXES}"
    )
    assert list(request.documents()) == [DocumentRequest("1", "1.3")]


def test_images_are_answered_under_the_action_of_documents() -> None:
    assert RAD_69.action == "urn:ihe:rad:2009:RetrieveImagingDocumentSet"
    assert RAD_69.response_action == ITI_43.response_action
    assert RAD_69.refuse("why").errors[0].code == "XDSRepositoryError"


def test_the_samples_of_the_standard_are_read(standards: Path) -> None:
    folder = standards / "samples" / "xds-bodies"
    request = etree.parse(folder / "RetrieveDocumentSetRequest.xml").getroot()
    response = etree.parse(folder / "RetrieveDocumentSetResponse.xml").getroot()
    for document in response.iter(f"{{{XDS}}}Document"):
        document.text = "PD94bWw+"  # the sample's own text is not base64
    asked = ITI_43.read_request(Incoming(request)).documents
    (retrieved,) = ITI_43.read_response(Incoming(response)).documents
    assert (retrieved.request,) == asked
    assert b"".join(retrieved.content.chunks()) == b"<?xml>"
