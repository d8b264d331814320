"""ITI-57, ITI-92 and ITI-62 on the wire."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from metadata import ebrim
from metadata.identifiers import FAILURE, LCM, RIM
from metadata.model import Submission
from soap.message import Incoming, Outgoing
from transactions.iti_42 import ITI_42, SubmitObjectsRequest
from transactions.iti_57 import ITI_57
from transactions.iti_62 import ITI_62, RemoveObjectsRequest
from transactions.iti_92 import ITI_92
from transactions.registry_response import RegistryResponse
from transactions.transaction import InvalidBody, Transaction

Carry = Callable[[Outgoing], Incoming]
REFERENCES = '<i:ObjectRefList><i:ObjectRef id=" urn:uuid:1 "/></i:ObjectRefList>'


def removal(content: str, attributes: str = "") -> Incoming:
    return Incoming(
        etree.fromstring(
            f'<l:RemoveObjectsRequest xmlns:l="{LCM}" xmlns:i="{RIM}" {attributes}>{content}'
            "</l:RemoveObjectsRequest>"
        )
    )


@pytest.mark.parametrize("exchange", [ITI_57, ITI_92], ids=["ITI-57", "ITI-92"])
def test_an_update_has_the_body_of_a_registration_and_an_action_of_its_own(
    exchange: Transaction[SubmitObjectsRequest, RegistryResponse],
    submission: Submission,
    carry: Carry,
    assert_valid: Callable[[Outgoing], None],
) -> None:
    message = exchange.write_request(SubmitObjectsRequest.of(submission))
    assert_valid(message)
    read = exchange.read_request(carry(message)).submission
    assert ebrim.write_objects(read) == ebrim.write_objects(submission)


def test_updates_are_told_apart_by_their_actions() -> None:
    exchanges = [ITI_42, ITI_57, ITI_92]
    assert len({one.root for one in exchanges}) == 1
    assert len({one.action for one in exchanges}) == len({one.response_action for one in exchanges})
    assert ITI_57.action == "urn:ihe:iti:2010:UpdateDocumentSet"
    assert ITI_92.response_action == "urn:ihe:iti:2018:RestrictedUpdateDocumentSetResponse"


@given(st.lists(st.uuids().map(lambda one: one.urn), min_size=1))
def test_a_removal_is_read_as_it_was_written(entry_uuids: list[str]) -> None:
    body = etree.fromstring(b"".join(ITI_62.write_request(RemoveObjectsRequest(entry_uuids)).body))
    assert ITI_62.read_request(Incoming(body)).entry_uuids == entry_uuids


def test_a_removal_is_valid(assert_valid: Callable[[Outgoing], None]) -> None:
    assert_valid(ITI_62.write_request(RemoveObjectsRequest(["urn:uuid:1", "urn:uuid:2"])))


def test_a_removal_of_others_is_read() -> None:
    assert ITI_62.read_request(removal(REFERENCES)).entry_uuids == ["urn:uuid:1"]


@pytest.mark.parametrize(
    ("content", "attributes", "problem"),
    [
        (f'<i:AdhocQuery id="x"/>{REFERENCES}', "", "AdhocQuery"),
        (REFERENCES, f'deletionScope="{RIM}"', "deletionScope"),
        ("", "", "has no <ObjectRefList>"),
        ("<i:ObjectRefList/>", "", "has no <ObjectRef>"),
        ("<i:ObjectRefList><i:ObjectRef/></i:ObjectRefList>", "", "has no attribute id"),
    ],
)
def test_a_removal_names_its_objects_one_by_one(
    content: str, attributes: str, problem: str
) -> None:
    with pytest.raises(InvalidBody, match=problem):
        ITI_62.read_request(removal(content, attributes))


@pytest.mark.parametrize(
    ("refusal", "code"),
    [
        (ITI_57.refuse("why"), "XDSRegistryMetadataError"),
        (ITI_92.refuse("why"), "XDSRegistryMetadataError"),
        (ITI_62.refuse("why"), "XDSRegistryError"),
    ],
)
def test_what_cannot_be_read_fails(refusal: RegistryResponse, code: str) -> None:
    assert refusal.status == FAILURE
    [error] = refusal.errors
    assert (error.code, error.location) == (code, "")
