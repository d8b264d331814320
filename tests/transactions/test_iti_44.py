"""ITI-44 on the wire: three interactions, one answer."""

from __future__ import annotations

import pytest
from lxml import etree

from hl7.v3.acknowledgement import Acknowledgement
from hl7.v3.names import II
from hl7.v3.request import IdentityRequest, PatientRole, add, merge, revise
from soap.message import Incoming, Outgoing
from transactions.iti_44 import ITI_44, ITI_44_ADD, ITI_44_MERGE, ITI_44_REVISE
from transactions.transaction import InvalidBody, Transaction

ROLE = PatientRole([II("1.2.3", "4711")], "DUPONT")
REQUESTS = [
    (ITI_44_ADD, add(ROLE, "1.2.4", "1.2.5")),
    (ITI_44_REVISE, revise(ROLE, "1.2.4", "1.2.5")),
    (ITI_44_MERGE, merge(ROLE, II("1.2.3", "4712"), "1.2.4", "1.2.5")),
]


def arrived(message: Outgoing) -> Incoming:
    return Incoming(etree.fromstring(b"".join(message.body)))


@pytest.mark.parametrize(("exchange", "request_"), REQUESTS)
def test_a_request_travels_as_its_own_interaction(
    exchange: Transaction[IdentityRequest, Acknowledgement], request_: IdentityRequest
) -> None:
    assert ITI_44[request_.interaction] is exchange
    assert exchange.action == f"urn:hl7-org:v3:{request_.interaction}"
    assert exchange.response_action == "urn:hl7-org:v3:MCCI_IN000002UV01"
    incoming = arrived(exchange.write_request(request_))
    assert incoming.body.tag == exchange.root
    read = exchange.read_request(incoming)
    assert (read.identifiers, read.message_id) == (request_.identifiers, request_.message_id)


def test_an_acknowledgement_travels() -> None:
    answer = Acknowledgement("CA", II("1.2", "3"), (), II("1.4"), II("1.5"))
    assert ITI_44_ADD.read_response(arrived(ITI_44_ADD.write_response(answer))) == answer


def test_an_answer_without_acknowledgement_is_none() -> None:
    with pytest.raises(InvalidBody):
        ITI_44_ADD.read_response(Incoming(etree.fromstring(b"<x/>")))


def test_a_body_that_cannot_be_read_is_an_error_with_its_reason() -> None:
    refused = ITI_44_ADD.refuse("no such element")
    assert (refused.status, refused.problems[0].detail) == ("CE", "no such element")
