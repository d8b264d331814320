"""ITI-51: the messages of ITI-18 under actions of their own."""

from __future__ import annotations

from collections.abc import Callable

from metadata.catalogue import RegistryError
from metadata.identifiers import FAILURE
from soap.message import Incoming, Outgoing
from transactions.iti_18 import ITI_18, AdhocQueryResponse
from transactions.iti_51 import ITI_51
from transactions.stored_query import find_documents_for_multiple_patients

Carry = Callable[[Outgoing], Incoming]


def test_the_actions_are_its_own() -> None:
    assert ITI_51.action == "urn:ihe:iti:2009:MultiPatientStoredQuery"
    assert ITI_51.response_action == "urn:ihe:iti:2009:MultiPatientStoredQueryResponse"
    assert ITI_51.root == ITI_18.root
    assert not ITI_51.mtom


def test_a_query_and_its_answer_are_read_as_they_were_written(
    carry: Carry, assert_valid: Callable[[Outgoing], None]
) -> None:
    request = find_documents_for_multiple_patients(["A^^^&1.2&ISO", "B^^^&1.2&ISO"])
    message = ITI_51.write_request(request)
    assert_valid(message)
    assert ITI_51.read_request(carry(message)) == request
    response = AdhocQueryResponse.of(errors=[RegistryError("XDSUnknownPatientId", "A")])
    message = ITI_51.write_response(response)
    assert_valid(message)
    read = ITI_51.read_response(carry(message))
    assert (read.status, read.errors) == (FAILURE, response.errors)


def test_a_body_that_cannot_be_read_is_refused_with_a_code_of_the_registry() -> None:
    [error] = ITI_51.refuse("<AdhocQuery> is missing").errors
    assert error.code == "XDSRegistryError"
    assert "ITI-51" in error.context
