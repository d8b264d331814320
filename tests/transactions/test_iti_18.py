from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from metadata import catalogue as rules
from metadata import ebrim
from metadata.catalogue import RegistryError
from metadata.identifiers import FAILURE, PARTIAL_SUCCESS, QUERY, RIM, RS, SUCCESS, WARNING
from metadata.model import Submission
from soap.message import Incoming, Outgoing
from transactions.iti_18 import (
    ITI_18,
    LEAF_CLASS,
    OBJECT_REF,
    AdhocQueryRequest,
    AdhocQueryResponse,
)
from transactions.query_decoding import decode
from transactions.transaction import InvalidBody

Carry = Callable[[Outgoing], Incoming]

# Values are trimmed by the reader, so those made here have nothing to trim.
values = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"], exclude_characters="\ufffe\uffff")
).filter(lambda text: text == text.strip(" \t\r\n") and len(text) <= 256)
requests = st.builds(
    AdhocQueryRequest,
    st.sampled_from(["urn:uuid:14d4debf-8f97-4251-9a74-a90016b0af0d", "urn:x:y"]),
    st.sampled_from([LEAF_CLASS, OBJECT_REF]),
    st.lists(
        st.tuples(values.map(lambda v: f"${v[:100]}"), st.lists(values, max_size=3)), max_size=3
    ),
    st.sampled_from([None, "urn:oid:1.2.3"]),
)


@given(requests)
def test_a_query_is_read_as_it_was_written(
    carry: Carry, assert_valid: Callable[[Outgoing], None], request_: AdhocQueryRequest
) -> None:
    message = ITI_18.write_request(request_)
    assert_valid(message)
    assert ITI_18.read_request(carry(message)) == request_


def test_repeated_slots_stay_repeated_in_order(carry: Carry) -> None:
    slots = [("$b", ["1"]), ("$a", ["2", "3"]), ("$b", ["4"])]
    request = AdhocQueryRequest("urn:x:y", OBJECT_REF, slots)
    assert ITI_18.read_request(carry(ITI_18.write_request(request))).parameters == slots


def asked(body: str) -> AdhocQueryRequest:
    xml = f'<q:AdhocQueryRequest xmlns:q="{QUERY}" xmlns="{RIM}">{body}</q:AdhocQueryRequest>'
    return ITI_18.read_request(Incoming(etree.fromstring(xml)))


def test_the_schemas_default_return_type_is_kept_for_decoding_to_refuse() -> None:
    assert asked('<q:ResponseOption/><AdhocQuery id="x"/>').return_type == "RegistryObject"


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ("<q:ResponseOption/>", "<AdhocQueryRequest> has no <AdhocQuery>"),
        ('<AdhocQuery id="x"/>', "<AdhocQueryRequest> has no <ResponseOption>"),
        ("<q:ResponseOption/><AdhocQuery/>", "<AdhocQuery> has no attribute id"),
        (
            '<q:ResponseOption/><AdhocQuery id="x"><Slot name="$a"/></AdhocQuery>',
            "<Slot> has no <ValueList>",
        ),
        (
            '<q:ResponseOption/><AdhocQuery id="x"><Slot><ValueList/></Slot></AdhocQuery>',
            "<Slot> has no attribute name",
        ),
    ],
)
def test_an_incomplete_query_is_invalid(body: str, problem: str) -> None:
    with pytest.raises(InvalidBody, match=problem):
        asked(body)


def test_stored_fragments_are_spliced_untouched(
    submission: Submission, assert_valid: Callable[[Outgoing], None], carry: Carry
) -> None:
    fragments = ebrim.write_objects(submission)
    message = ITI_18.write_response(AdhocQueryResponse.of(fragments))
    assert_valid(message)
    assert all(any(piece is fragment for piece in message.body) for fragment in fragments)
    read = ITI_18.read_response(carry(message))
    assert read.status == SUCCESS
    assert ebrim.write_objects(read.objects()) == fragments


def test_a_relayed_answer_keeps_its_objects(submission: Submission, carry: Carry) -> None:
    first = ITI_18.read_response(
        carry(ITI_18.write_response(AdhocQueryResponse.of(ebrim.write_objects(submission))))
    )
    again = ITI_18.read_response(carry(ITI_18.write_response(first)))
    assert ebrim.write_objects(again.objects()) == ebrim.write_objects(submission)


@pytest.mark.parametrize(
    ("fragments", "errors", "status"),
    [
        ([], [], SUCCESS),
        ([], [RegistryError("XDSRegistryError", "x")], FAILURE),
        ([], [RegistryError("XDSRegistryError", "x", WARNING)], SUCCESS),
        (
            [b'<rim:ObjectRef id="urn:x"/>'],
            [RegistryError("XDSRegistryError", "x")],
            PARTIAL_SUCCESS,
        ),
    ],
)
def test_errors_come_first_and_the_object_list_is_always_there(
    assert_valid: Callable[[Outgoing], None],
    fragments: list[bytes],
    errors: list[RegistryError],
    status: str,
) -> None:
    message = ITI_18.write_response(AdhocQueryResponse.of(fragments, errors))
    assert_valid(message)
    body = etree.fromstring(b"".join(message.body))
    assert body.get("status") == status
    assert body[-1].tag == f"{{{RIM}}}RegistryObjectList"


def test_an_answer_without_object_list_is_accepted() -> None:
    xml = (
        f'<AdhocQueryResponse xmlns="{QUERY}" status="{FAILURE}"><e:RegistryErrorList '
        f'xmlns:e="{RS}"><e:RegistryError errorCode="XDSRegistryBusy" codeContext="x"/>'
        "</e:RegistryErrorList></AdhocQueryResponse>"
    )
    answer = ITI_18.read_response(Incoming(etree.fromstring(xml)))
    assert answer.fragments == []
    assert list(answer.objects().objects()) == []
    assert answer.errors[0].code == "XDSRegistryBusy"


def test_a_body_that_cannot_be_read_is_answered_with_a_valid_failure(
    assert_valid: Callable[[Outgoing], None],
) -> None:
    answer = ITI_18.refuse("<AdhocQueryRequest> has no <AdhocQuery>")
    assert answer.errors[0].code == "XDSRegistryError"
    assert_valid(ITI_18.write_response(answer))


def test_the_sample_with_an_injected_quote_is_read_and_its_value_refused(standards: Path) -> None:
    sample = standards / "samples" / "xds-bodies" / "ipf_iti18request.xml"
    request = ITI_18.read_request(Incoming(etree.parse(sample).getroot()))
    assert request.query_id == "urn:uuid:14d4debf-8f97-4251-9a74-a90016b0af0d"
    faults = decode(request)
    assert isinstance(faults, list)
    assert [fault.details["parameter"] for fault in faults] == ["$XDSDocumentEntryPatientId"]
    assert faults[0].rule is rules.PARAMETER_CODING
