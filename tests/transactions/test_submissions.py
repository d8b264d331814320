"""ITI-42, ITI-41 and RAD-68 on the wire."""

from __future__ import annotations

import base64
from collections.abc import Callable
from pathlib import Path

import pytest
from lxml import etree

from metadata import ebrim
from metadata.identifiers import FAILURE, LCM, RIM, XDS
from metadata.model import Submission
from soap.message import Content, Incoming, InMemory, Outgoing
from transactions.iti_41 import ITI_41, ProvideAndRegisterRequest
from transactions.iti_42 import ITI_42, SubmitObjectsRequest
from transactions.iti_61 import ITI_61
from transactions.rad_68 import RAD_68
from transactions.registry_response import RegistryResponse
from transactions.transaction import InvalidBody, Transaction

Carry = Callable[[Outgoing], Incoming]
XOP = 'xmlns:xop="http://www.w3.org/2004/08/xop/include"'
SUBMIT = (
    f'<s:SubmitObjectsRequest xmlns:s="{LCM}" xmlns:i="{RIM}">'
    "<i:RegistryObjectList/></s:SubmitObjectsRequest>"
)


def provided(
    documents: str, attachments: dict[str, InMemory] | None = None
) -> ProvideAndRegisterRequest:
    body = (
        f'<p:ProvideAndRegisterDocumentSetRequest xmlns:p="{XDS}" {XOP}>{SUBMIT}{documents}'
        "</p:ProvideAndRegisterDocumentSetRequest>"
    )
    return ITI_41.read_request(Incoming(etree.fromstring(body), attachments=attachments or {}))


def bytes_of(content: Content) -> bytes:
    return b"".join(content.chunks())


def test_a_registration_is_valid_and_read_as_it_was_written(
    submission: Submission, carry: Carry, assert_valid: Callable[[Outgoing], None]
) -> None:
    message = ITI_42.write_request(SubmitObjectsRequest.of(submission))
    assert_valid(message)
    read = ITI_42.read_request(carry(message)).submission
    assert ebrim.write_objects(read) == ebrim.write_objects(submission)
    assert read.faults == []


def test_on_demand_entries_travel_under_actions_of_their_own(
    submission: Submission, carry: Carry, assert_valid: Callable[[Outgoing], None]
) -> None:
    message = ITI_61.write_request(SubmitObjectsRequest.of(submission))
    assert_valid(message)
    assert len(ITI_61.read_request(carry(message)).submission.documents) == 1
    assert ITI_61.action == "urn:ihe:iti:2010:RegisterOnDemandDocumentEntry"
    assert ITI_61.response_action == "urn:ihe:iti:2010:RegisterOnDemandDocumentResponse"
    [error] = ITI_61.refuse("x").errors
    assert error.code == "XDSRegistryMetadataError"


def test_a_submission_edited_in_place_is_sent_as_edited(
    submission: Submission, carry: Carry
) -> None:
    request = SubmitObjectsRequest.of(submission)
    (document,) = request.registry_objects.iterchildren(f"{{{RIM}}}ExtrinsicObject")
    ebrim.set_slot(document, "size", ["12"])
    read = ITI_42.read_request(carry(ITI_42.write_request(request))).submission
    assert read.documents[0].size == "12"


def test_a_submission_from_inside_another_message_keeps_its_namespaces() -> None:
    provide = provided("")
    body = b"".join(ITI_42.write_request(provide.submit).body)
    assert etree.fromstring(body).tag == ITI_42.root


def test_a_registration_without_object_list_is_invalid() -> None:
    with pytest.raises(InvalidBody, match="<SubmitObjectsRequest> has no <RegistryObjectList>"):
        ITI_42.read_request(Incoming(etree.fromstring(f'<SubmitObjectsRequest xmlns="{LCM}"/>')))


@pytest.mark.parametrize("exchange", [ITI_41, RAD_68], ids=["ITI-41", "RAD-68"])
def test_documents_travel_as_parts_beside_their_metadata(
    exchange: Transaction[ProvideAndRegisterRequest, RegistryResponse],
    submission: Submission,
    carry: Carry,
    assert_valid: Callable[[Outgoing], None],
) -> None:
    request = ProvideAndRegisterRequest(
        SubmitObjectsRequest.of(submission),
        {"Document01": InMemory(b"one"), 'id with "&"': InMemory(b"two")},
    )
    message = exchange.write_request(request)
    assert_valid(message)
    read = exchange.read_request(carry(message))
    assert {key: bytes_of(content) for key, content in read.documents.items()} == {
        "Document01": b"one",
        'id with "&"': b"two",
    }
    assert read.submit.submission.documents[0].unique_id == "1.2.3.4.5"
    assert read.unreferenced_parts == []


def test_content_ids_of_two_messages_differ(submission: Submission) -> None:
    request = ProvideAndRegisterRequest(
        SubmitObjectsRequest.of(submission), {"a": InMemory(b""), "b": InMemory(b"")}
    )
    parts = [part.content_id for _ in range(2) for part in ITI_41.write_request(request).parts]
    assert len(set(parts)) == 4


def test_inline_and_optimised_documents_may_be_mixed() -> None:
    read = provided(
        '<p:Document id="a"><xop:Include href="cid:one%40x"/></p:Document>'
        '<p:Document id=" b ">\n YWI\n=\n</p:Document>',
        {"one@x": InMemory(b"optimised")},
    )
    assert bytes_of(read.documents["a"]) == b"optimised"
    assert bytes_of(read.documents["b"]) == b"ab"


def test_parts_that_no_document_includes_are_reported() -> None:
    read = provided(
        '<p:Document id="a"><xop:Include href="cid:one"/></p:Document>',
        {"one": InMemory(b""), "two": InMemory(b"")},
    )
    assert read.unreferenced_parts == ["two"]


@pytest.mark.parametrize(
    ("documents", "problem"),
    [
        ("<p:Document>YWI=</p:Document>", "<Document> has no attribute id"),
        ('<p:Document id="a"/><p:Document id="a"/>', "two <Document> have the id 'a'"),
        ('<p:Document id="a"><xop:Include href="cid:gone"/></p:Document>', "gone"),
        ('<p:Document id="a">not base64!</p:Document>', "base64"),
    ],
)
def test_documents_that_cannot_be_had_are_refused(documents: str, problem: str) -> None:
    with pytest.raises(InvalidBody, match=problem):
        provided(documents)


def test_documents_without_a_submission_are_refused() -> None:
    body = etree.fromstring(f'<ProvideAndRegisterDocumentSetRequest xmlns="{XDS}"/>')
    with pytest.raises(InvalidBody, match="has no <SubmitObjectsRequest>"):
        ITI_41.read_request(Incoming(body))


def test_the_imaging_transaction_is_the_general_one_on_the_wire() -> None:
    assert (RAD_68.action, RAD_68.response_action) == (ITI_41.action, ITI_41.response_action)
    assert RAD_68.number == "RAD-68"
    assert RAD_68.refuse("why").status == ITI_41.refuse("why").status == FAILURE


def test_the_sample_submission_of_the_standard_is_read(standards: Path) -> None:
    sample = standards / "samples" / "xds-bodies" / "ProvideAndRegisterDocumentSet-bRequest.xml"
    body = etree.parse(sample).getroot()
    for element in body.iter(f"{{{XDS}}}Document"):
        element.text = base64.b64encode(b"text").decode()  # the sample holds a placeholder
    read = ITI_41.read_request(Incoming(body))
    assert set(read.documents) == {one.entry_uuid for one in read.submit.submission.documents}
