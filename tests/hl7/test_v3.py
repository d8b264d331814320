"""ITI-44: requests written and read, what they mean, how they are acknowledged."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from hl7.adt import FeedOutcome, IdentityFeed, Refused
from hl7.errors import TABLE_0357, Problem
from hl7.v3.acknowledgement import Acknowledgement, read_acknowledgement, write_acknowledgement
from hl7.v3.feed import answer, read_identity_feed
from hl7.v3.names import ACKNOWLEDGEMENT, ADD, II, MERGE, NS, REVISE, path
from hl7.v3.request import (
    EVENT,
    PATIENT,
    PRIOR,
    IdentityRequest,
    PatientRole,
    add,
    compose,
    merge,
    revise,
)
from metadata.datatypes import CX, HD

OID = "1.2.250.1.99.1"
SENDER, RECEIVER = "1.2.3.1", "1.2.3.2"
ROLE = PatientRole([II(OID, "4711")], "DUPONT", "ANNE", "19700101", "F")
REQUESTS = {
    ADD: add(ROLE, SENDER, RECEIVER),
    REVISE: revise(ROLE, SENDER, RECEIVER),
    MERGE: merge(ROLE, II(OID, "4712"), SENDER, RECEIVER),
}
EVENTS = {ADD: "A01", REVISE: "A08", MERGE: "A40"}


def fresh(interaction: str = ADD) -> IdentityRequest:
    """A right request, to be spoilt."""
    return IdentityRequest(etree.fromstring(etree.tostring(REQUESTS[interaction].element)))


def at(request: IdentityRequest, steps: str) -> etree._Element:
    found = request.element.find(path(steps))
    assert found is not None
    return found


def without(steps: str, interaction: str = ADD) -> IdentityRequest:
    request = fresh(interaction)
    element = at(request, steps)
    parent = element.getparent()
    assert parent is not None
    parent.remove(element)
    return request


def twice(steps: str, interaction: str = ADD) -> IdentityRequest:
    request = fresh(interaction)
    element = at(request, steps)
    element.addnext(etree.fromstring(etree.tostring(element)))
    return request


def saying(steps: str, interaction: str = ADD, **attributes: str) -> IdentityRequest:
    request = fresh(interaction)
    for name, value in attributes.items():
        at(request, steps).set(name, value)
    return request


def refusal(request: IdentityRequest, authority: HD) -> Refused:
    with pytest.raises(Refused) as caught:
        read_identity_feed(request, authority)
    return caught.value


# --- Schemas ---------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def validate(samples: Path) -> Callable[[bytes], None]:
    """Checks a message against the official schema of its interaction."""
    folder = samples.parents[1] / "hl7v3" / "schema" / "HL7V3" / "NE2008" / "multicacheschemas"
    schemas = {
        name: etree.XMLSchema(etree.parse(folder / f"{name}.xsd"))
        for name in (ADD, REVISE, MERGE, ACKNOWLEDGEMENT)
    }

    def check(message: bytes) -> None:
        element = etree.fromstring(message)
        schemas[etree.QName(element).localname].assertValid(element)

    return check


@pytest.mark.parametrize("role", [ROLE, PatientRole([II(OID, "1"), II("1.9", "2")])])
def test_every_request_is_valid(role: PatientRole, validate: Callable[[bytes], None]) -> None:
    for request in (
        add(role, SENDER, RECEIVER),
        revise(role, SENDER, RECEIVER),
        merge(role, II(OID, "x"), SENDER, RECEIVER),
    ):
        validate(etree.tostring(request.element))


@pytest.mark.parametrize(
    "answer",
    [
        Acknowledgement("CA", II("21acf7be-007c-41e6-b176-d0969794983b"), (), II("1.2"), II("1.3")),
        Acknowledgement("CE", II("1.2", "345"), (Problem("204", "a < b", "/x/id"),)),
        Acknowledgement("CE", problems=(Problem("101", "no id"), Problem("103", ""))),
    ],
)
def test_every_acknowledgement_is_valid(
    answer: Acknowledgement, validate: Callable[[bytes], None]
) -> None:
    validate(write_acknowledgement(answer))


def test_the_samples_of_the_standards_are_read(samples: Path) -> None:
    authority = HD("HIMSS2005", "1.3.6.1.4.1.21367.2005.1.1", "ISO")
    for name, event in (("REG", "A01"), ("REV", "A08")):
        file = samples / "pixfeed" / "v3" / f"PIX_FEED_{name}_Maximal_Request.xml"
        feed = read_identity_feed(IdentityRequest(etree.parse(file).getroot()), authority)
        assert (feed.event, [cx.id for cx in feed.identifiers]) == (event, ["PIX10515W3"])
        assert feed.control_id.endswith("@21acf7be-007c-41e6-b176-d0969794983b")
    sample = etree.parse(samples / "pixfeed" / "v3" / "Ack.xml").getroot()
    read = read_acknowledgement(sample)
    assert read is not None
    assert (read.status, read.target.root) == ("CA", "22a0f9e0-4454-11dc-a6be-3603d6866807")


# --- Meaning ---------------------------------------------------------------------------------


@pytest.mark.parametrize("interaction", REQUESTS)
def test_a_request_means_what_its_twin_of_iti_8_means(interaction: str, authority: HD) -> None:
    request = REQUESTS[interaction]
    feed = read_identity_feed(request, authority)
    assert feed.event == EVENTS[interaction]
    assert feed.identifiers == (CX.of("4711", OID),)
    assert feed.subsumed == (CX.of("4712", OID) if interaction == MERGE else None)
    assert (feed.sender, feed.control_id) == (SENDER, str(request.message_id))


def test_a_redelivery_in_another_envelope_has_the_same_digest(authority: HD) -> None:
    request = fresh()
    envelope = etree.fromstring(b'<e xmlns="urn:e" xmlns:a="urn:a"/>')
    envelope.append(etree.fromstring(etree.tostring(request.element)))
    again = IdentityRequest(envelope[0])
    changed = saying("creationTime", value="20260101")
    digests = [read_identity_feed(one, authority).digest for one in (request, again, changed)]
    assert digests[0] == digests[1] != digests[2]


@pytest.mark.parametrize(
    ("attributes", "known"),
    [
        ({"root": OID}, True),
        ({"root": OID, "assigningAuthorityName": "THEIRS"}, True),
        ({"root": "", "assigningAuthorityName": "KOSMOS"}, True),
        ({"root": "1.9"}, False),
        ({"root": "", "assigningAuthorityName": "OTHER"}, False),
        ({"root": OID, "extension": ""}, False),
        ({"nullFlavor": "UNK"}, False),
    ],
)
def test_only_identifiers_of_our_domain_count(
    attributes: dict[str, str], known: bool, authority: HD
) -> None:
    request = saying(f"{PATIENT}/id", **attributes)
    if known:
        assert read_identity_feed(request, authority).identifiers == (CX.of("4711", OID),)
    else:
        assert refusal(request, authority).error_code == "204"


def test_foreign_identifiers_beside_ours_are_ignored(authority: HD) -> None:
    ids = [II("1.9", "1"), II(OID, "4711"), II("1.8", "2"), II(OID, "4711")]
    feed = read_identity_feed(add(PatientRole(ids), SENDER, RECEIVER), authority)
    assert [cx.id for cx in feed.identifiers] == ["4711"]


def test_what_a_registry_does_not_read_may_be_absent(authority: HD) -> None:
    for steps in (f"{EVENT}/custodian", f"{PATIENT}/providerOrganization", f"{EVENT}/id"):
        assert read_identity_feed(without(steps), authority).event == "A01"


@pytest.mark.parametrize(
    ("request_", "code", "place"),
    [
        (without("id"), "101", "id/@root"),
        (without("creationTime"), "101", "creationTime/@value"),
        (without("interactionId"), "101", "interactionId/@extension"),
        (without("processingCode"), "101", "processingCode/@code"),
        (without("sender/device/id"), "101", "sender/device/id/@root"),
        (without("receiver/device/id"), "101", "receiver/device/id/@root"),
        (without(f"{PATIENT}/patientPerson/name"), "101", f"{PATIENT}/patientPerson/name"),
        (without("controlActProcess"), "100", "controlActProcess"),
        (without(PATIENT), "100", PATIENT),
        (without(f"{EVENT}/statusCode"), "100", f"{EVENT}/statusCode"),
        (twice("receiver"), "100", "receiver"),
        (twice("controlActProcess/subject"), "100", f"{EVENT}/statusCode"),
        (twice(f"{EVENT}/replacementOf", MERGE), "100", PRIOR),
        (without(f"{EVENT}/replacementOf", MERGE), "100", PRIOR),
        (saying("creationTime", value="yesterday"), "102", "creationTime/@value"),
        (saying("interactionId", extension=MERGE), "103", "interactionId/@extension"),
        (saying("processingModeCode", code="A"), "103", "processingModeCode/@code"),
        (
            saying("controlActProcess/code", code="PRPA_TE201302UV02"),
            "103",
            "controlActProcess/code/@code",
        ),
        (saying(f"{EVENT}/statusCode", code="nullified"), "103", f"{EVENT}/statusCode/@code"),
        (saying(f"{PATIENT}/statusCode", code="x"), "103", f"{PATIENT}/statusCode/@code"),
        (saying(f"{PRIOR}/statusCode", MERGE, code="active"), "103", f"{PRIOR}/statusCode/@code"),
    ],
)
def test_a_wrong_request_is_told_what_and_where(
    request_: IdentityRequest, code: str, place: str, authority: HD
) -> None:
    refused = refusal(request_, authority)
    assert (refused.ack_code, refused.error_code) == ("AE", code)
    assert refused.location == f"/{request_.interaction}/{place}"


def test_every_fault_is_told_at_once(authority: HD) -> None:
    request = saying("processingModeCode", code="A")
    at(request, "creationTime").set("value", "")
    at(request, "id").set("root", "")
    codes = [problem.code for problem in refusal(request, authority).problems]
    assert codes == ["101", "101", "103"]


def test_a_processing_id_of_nowhere_is_rejected(authority: HD) -> None:
    refused = refusal(saying("processingCode", code="X"), authority)
    assert (refused.ack_code, refused.error_code) == ("AR", "202")


@pytest.mark.parametrize(
    ("survivor", "gone", "code"),
    [
        (II("1.9", "1"), II(OID, "2"), "204"),
        (II(OID, "1"), II("1.9", "2"), "204"),
        (II(OID, "1"), II(OID, "1"), "205"),
    ],
)
def test_a_merge_needs_two_different_ids_of_our_domain(
    survivor: II, gone: II, code: str, authority: HD
) -> None:
    request = merge(PatientRole([survivor]), gone, SENDER, RECEIVER)
    assert refusal(request, authority).error_code == code


# --- Acknowledgement -------------------------------------------------------------------------


@pytest.mark.parametrize(("outcome", "code"), [("AA", "CA"), ("AE", "CE"), ("AR", "CR")])
def test_the_verdict_of_the_registry_becomes_the_acknowledgement(
    outcome: str, code: str, authority: HD
) -> None:
    told = "" if outcome == "AA" else "204"
    response = answer(fresh(), lambda feed: FeedOutcome(outcome, told, "why"), authority)
    assert response.status == code
    assert response.target == fresh().message_id
    assert (response.sender.root, response.receiver.root) == (RECEIVER, SENDER)
    assert [problem.code for problem in response.problems] == ([told] if told else [])


def test_trouble_of_our_own_is_never_answered_ce(authority: HD) -> None:
    def apply(feed: IdentityFeed) -> FeedOutcome:
        raise RuntimeError("locked")

    response = answer(fresh(), apply, authority)
    assert (response.status, response.problems[0].code) == ("CR", "207")


@pytest.mark.parametrize(("ignore", "code"), [(True, "CA"), (False, "CE")])
def test_a_deployment_may_ignore_foreign_patients(ignore: bool, code: str, authority: HD) -> None:
    def never(feed: IdentityFeed) -> FeedOutcome:
        raise AssertionError

    request = add(PatientRole([II("1.9", "1")]), SENDER, RECEIVER)
    assert answer(request, never, authority, ignore_foreign=ignore).status == code


# --- Properties ------------------------------------------------------------------------------

# What XML 1.0 can carry, but for the spaces that an attribute's value is trimmed of.
texts = st.text(
    st.characters(codec="utf-8", exclude_categories=("Cc", "Cs", "Zs", "Zl", "Zp"),
                  exclude_characters="\ufffe\uffff"),
    min_size=1,
    max_size=30,
)  # fmt: skip
oids = st.lists(st.integers(0, 99999), min_size=1, max_size=6).map(
    lambda arcs: "1.2." + ".".join(map(str, arcs))
)
ids = st.builds(II, oids, texts, st.just(""))


@given(
    interaction=st.sampled_from([ADD, REVISE, MERGE]),
    others=st.lists(ids, max_size=3),
    own=texts,
    gone=texts,
    name=st.text(texts, max_size=0) | texts,
    message_id=ids,
)
def test_any_request_is_read_as_it_was_written(
    interaction: str, others: list[II], own: str, gone: str, name: str, message_id: II
) -> None:
    identifiers = [*others, II(OID, own)]
    replaced = II(OID, gone) if interaction == MERGE else None
    role = PatientRole(identifiers, name)
    written = compose(interaction, role, SENDER, RECEIVER, replaced, message_id=message_id)
    request = IdentityRequest(etree.fromstring(etree.tostring(written.element, encoding="UTF-8")))
    assert request.identifiers == identifiers
    assert request.replaced == ([replaced] if replaced else [])
    assert request.message_id == message_id
    if own != gone or interaction != MERGE:
        feed = read_identity_feed(request, HD.of(OID))
        assert [cx.id for cx in feed.identifiers] == [own]
        assert (feed.subsumed and feed.subsumed.id) == (gone if replaced else None)


problems = st.builds(Problem, st.sampled_from(sorted(TABLE_0357)), texts, texts)


@given(
    st.builds(
        Acknowledgement,
        st.sampled_from(["CA", "CE", "CR"]),
        ids,
        st.lists(problems, max_size=3).map(tuple),
        ids,
        ids,
    )
)
def test_any_acknowledgement_is_read_as_it_was_written(answer: Acknowledgement) -> None:
    assert read_acknowledgement(etree.fromstring(write_acknowledgement(answer))) == answer


def test_an_acknowledgement_without_its_code_is_none() -> None:
    assert read_acknowledgement(etree.fromstring(f"<x xmlns='{NS[1:-1]}'/>")) is None
    empty = replace(Acknowledgement("CA"), status="")
    assert read_acknowledgement(etree.fromstring(write_acknowledgement(empty))) is not None


@given(
    st.recursive(
        st.sampled_from(["id", "sender", "device", "controlActProcess", "subject", "patient"]),
        lambda inner: st.lists(inner, max_size=4).map(lambda parts: ("receiver", parts)),
        max_leaves=12,
    )
)
def test_whatever_arrives_gets_an_answer(tree: object) -> None:
    def build(parent: etree._Element, part: object) -> None:
        name, parts = part if isinstance(part, tuple) else (part, [])
        element = etree.SubElement(parent, f"{NS}{name}")
        for one in parts:
            build(element, one)

    root = etree.Element(f"{NS}{ADD}")
    build(root, tree)
    response = answer(IdentityRequest(root), lambda feed: FeedOutcome("AA"), HD.of(OID))
    assert response.status == "CE"
    etree.fromstring(write_acknowledgement(response))
