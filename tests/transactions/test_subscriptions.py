"""ITI-52, ITI-53 and ITI-54 on the wire: valid, read as written, refused by the right fault."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from metadata import ebrim
from metadata.model import Code, Submission
from soap.envelope import write_fault
from soap.faults import SoapFault
from soap.message import Incoming, Outgoing
from transactions import iti_52, iti_53, iti_54, iti_69, iti_70, wsn
from transactions.audit import Action, Outcome, Scene, Side, to_xml
from transactions.iti_18 import AdhocQueryRequest
from transactions.iti_52 import (
    ITI_52,
    ITI_52_UNSUBSCRIBE,
    SubscribeRequest,
    SubscribeResponse,
    TopicExpression,
    UnsubscribeRequest,
    UnsubscribeResponse,
    address_of,
    id_in,
)
from transactions.iti_53 import ITI_53, Notification, Notify
from transactions.iti_54 import ITI_54
from transactions.iti_69 import CreateRequest, CreateResponse, DestroyRequest, DestroyResponse
from transactions.iti_70 import PullRequest, PullResponse
from transactions.query_catalogue import Kind, StoredQuery
from transactions.stored_query import encode
from transactions.subscription_filters import (
    ANY_PATIENT_DOCUMENT_FILTER,
    DOCUMENT_FILTER,
    FILTERS,
    SUBMISSION_SET_FILTER,
    TOPIC_FILTERS,
)
from transactions.subscription_terms import read_filter, terms_of, write_filter
from transactions.transaction import InvalidBody
from transactions.wsn import Topic

Carry = Callable[[Outgoing], Incoming]
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
YEAR = timedelta(days=365)
PATIENT = "MRN-1^^^&1.2.3.4&ISO"
CONSUMER = "http://consumer.example/notify?x=1&y=2"
BROKER = "http://broker.example/subscriptions"
POINT = iti_69.address_of(BROKER, "4711")


@pytest.fixture(scope="session")
def wsn_schema(standards: Path) -> etree.XMLSchema:
    """The official schemas of WS-Notification, and those of ebXML that filters and contents use."""
    folder = standards.as_uri()
    imports = {
        "http://docs.oasis-open.org/wsn/b-2": f"{folder}/wsn/b-2.xsd",
        "http://docs.oasis-open.org/wsrf/r-2": f"{folder}/wsn/r-2.xsd",
        "urn:oasis:names:tc:ebxml-regrep:xsd:lcm:3.0": (
            f"{folder}/xds-dcm4chee/schema/ebRS/lcm.xsd"
        ),
    }
    lines = "".join(
        f'<xs:import namespace="{name}" schemaLocation="{place}"/>'
        for name, place in imports.items()
    )
    xsd = f'<xs:schema xmlns:xs="http://www.w3.org/2001/XMLSchema">{lines}</xs:schema>'
    return etree.XMLSchema(etree.fromstring(xsd))


@pytest.fixture
def valid(wsn_schema: etree.XMLSchema) -> Callable[[Outgoing], None]:
    def check(message: Outgoing) -> None:
        wsn_schema.assertValid(etree.fromstring(b"".join(message.body)))

    return check


def subscribing(
    topic: str = Topic.FULL_DOCUMENT_ENTRY,
    filter_: StoredQuery = DOCUMENT_FILTER,
    termination: str = "",
    **criteria: object,
) -> SubscribeRequest:
    given = {"patient_id": PATIENT, **criteria}
    return SubscribeRequest(
        CONSUMER, [TopicExpression(topic)], [encode(filter_, given)], termination
    )


def told(submission: Submission) -> Notify:
    fragments = [ebrim.write_object(one) for one in submission.documents]
    address = address_of(BROKER, "4711")
    return Notify([Notification(fragments, Topic.FULL_DOCUMENT_ENTRY, address, "urn:oid:1.2.3")])


def fetched(submission: Submission) -> PullResponse:
    return PullResponse(told(submission).notifications, 7)


# --- the messages -------------------------------------------------------------------------------


def test_every_message_is_valid(valid: Callable[[Outgoing], None], submission: Submission) -> None:
    valid(iti_52.write_subscribe(subscribing(termination="P1D", class_code=Code("1", "1.2"))))
    valid(iti_52.write_subscribe(subscribing()))
    moment = wsn.write_time(NOW)
    valid(iti_52.write_subscribe_response(SubscribeResponse(BROKER, moment, moment)))
    valid(iti_52.write_unsubscribe(UnsubscribeRequest("x")))
    valid(iti_52.write_unsubscribe_response(UnsubscribeResponse()))
    valid(iti_53.write_request(told(submission)))
    references = [ebrim.object_ref("urn:uuid:00000000-0000-4000-8000-000000000000")]
    valid(iti_53.write_request(Notify([Notification(references)])))
    package = [ebrim.write_object(submission.submission_sets[0])]
    valid(iti_53.write_request(Notify([Notification(package, Topic.SUBMISSION_SET_METADATA)])))
    valid(iti_69.write_create(CreateRequest()))
    valid(iti_69.write_create_response(CreateResponse(POINT)))
    valid(iti_69.write_destroy(DestroyRequest("4711")))
    valid(iti_69.write_destroy_response(DestroyResponse()))
    valid(iti_70.write_request(PullRequest("4711", 5, 7)))
    valid(iti_70.write_request(PullRequest("4711")))
    valid(iti_70.write_response(fetched(submission)))
    valid(iti_70.write_response(PullResponse([])))


def test_messages_are_read_as_they_were_written(carry: Carry, submission: Submission) -> None:
    request = subscribing("ihe:y", termination="P1D", author=["a&b", "c%"])
    assert iti_52.read_subscribe(carry(iti_52.write_subscribe(request))) == request
    response = SubscribeResponse("http://b/?a=1&b=2", "t1", "t2")
    written = iti_52.write_subscribe_response(response)
    assert iti_52.read_subscribe_response(carry(written)) == response
    notify = told(submission)
    found = iti_53.read_request(carry(iti_53.write_request(notify)))
    assert found.objects().documents == notify.objects().documents
    (one,) = found.notifications
    assert (one.topic, one.producer) == (Topic.FULL_DOCUMENT_ENTRY, "urn:oid:1.2.3")
    assert id_in(one.subscription or "") == "4711"
    assert isinstance(
        iti_52.read_unsubscribe_response(
            carry(iti_52.write_unsubscribe_response(UnsubscribeResponse()))
        ),
        UnsubscribeResponse,
    )


def test_messages_of_pull_points_are_read_as_they_were_written(
    carry: Carry, submission: Submission
) -> None:
    made = CreateResponse(POINT)
    assert iti_69.read_create_response(carry(iti_69.write_create_response(made))) == made
    for request in (PullRequest("", 5, 7), PullRequest("", 0, 0), PullRequest("")):
        found = iti_70.read_request(carry(iti_70.write_request(request)))
        assert (found.maximum, found.received) == (request.maximum, request.received)
    response = iti_70.read_response(carry(iti_70.write_response(fetched(submission))))
    assert response.receipt == 7
    assert response.objects().documents == fetched(submission).objects().documents
    assert iti_70.read_response(carry(iti_70.write_response(PullResponse([])))).receipt is None


def test_a_pull_point_is_told_by_the_address_and_a_repetition_by_its_id() -> None:
    body = etree.fromstring(b"".join(iti_70.write_request(PullRequest("")).body))
    message = Incoming(body, message_id="urn:uuid:1", sent_to=(BROKER, POINT))
    assert iti_70.read_request(message) == PullRequest("4711", message_id="urn:uuid:1")
    body = etree.fromstring(b"".join(iti_69.write_destroy(DestroyRequest("")).body))
    assert iti_69.read_destroy(Incoming(body, sent_to=(POINT,))) == DestroyRequest("4711")


@pytest.mark.parametrize("number", ["-1", "one", "1.5", "9" * 19, "²"])
def test_a_number_of_messages_that_is_none_is_refused(number: str) -> None:
    body = etree.fromstring(
        f'<w:GetMessages xmlns:w="{wsn.WSNT}"><w:MaximumNumber>{number}</w:MaximumNumber>'
        "</w:GetMessages>"
    )
    with pytest.raises(InvalidBody, match="whole numbers"):
        iti_70.read_request(Incoming(body))


@pytest.mark.parametrize(
    ("sent_to", "expected"),
    [
        ((address_of(BROKER, "1"), ""), "1"),
        (("", "/subscriptions?subscription=2"), "2"),
        ((BROKER, "/subscriptions?wsdl&subscription=3"), "3"),
        ((BROKER, "/subscriptions?"), ""),
        ((), ""),
    ],
)
def test_the_subscription_to_end_is_the_one_addressed(
    sent_to: tuple[str, ...], expected: str
) -> None:
    body = etree.fromstring(b"".join(iti_52.write_unsubscribe(UnsubscribeRequest("")).body))
    assert iti_52.read_unsubscribe(Incoming(body, sent_to=sent_to)).id == expected


def test_both_exchanges_and_the_notification_have_their_actions() -> None:
    prefix = "http://docs.oasis-open.org/wsn/bw-2/"
    assert [ITI_52.action, ITI_52.response_action] == [
        f"{prefix}NotificationProducer/SubscribeRequest",
        f"{prefix}NotificationProducer/SubscribeResponse",
    ]
    assert [ITI_52_UNSUBSCRIBE.action, ITI_52_UNSUBSCRIBE.response_action] == [
        f"{prefix}SubscriptionManager/UnsubscribeRequest",
        f"{prefix}SubscriptionManager/UnsubscribeResponse",
    ]
    assert ITI_53.action == ITI_54.action == f"{prefix}NotificationConsumer/Notify"
    assert ITI_53.response_action == ""


@pytest.mark.parametrize(
    "body",
    [
        b'<w:Notify xmlns:w="http://docs.oasis-open.org/wsn/b-2"/>',
        b'<w:Notify xmlns:w="http://docs.oasis-open.org/wsn/b-2"><w:NotificationMessage>'
        b"<w:Message/></w:NotificationMessage></w:Notify>",
        b'<w:Notify xmlns:w="http://docs.oasis-open.org/wsn/b-2"><w:NotificationMessage>'
        b'<w:Message><l:SubmitObjectsRequest xmlns:l="urn:oasis:names:tc:ebxml-regrep:xsd:lcm:3.0">'
        b'<r:RegistryObjectList xmlns:r="urn:oasis:names:tc:ebxml-regrep:xsd:rim:3.0"/>'
        b"</l:SubmitObjectsRequest></w:Message></w:NotificationMessage></w:Notify>",
    ],
)
def test_a_notification_of_nothing_is_no_notification(body: bytes) -> None:
    with pytest.raises(InvalidBody):
        iti_53.read_request(Incoming(etree.fromstring(body)))


def test_a_body_that_cannot_be_read_is_a_fault() -> None:
    for transaction in (ITI_52, ITI_52_UNSUBSCRIBE, ITI_53, ITI_54):
        with pytest.raises(SoapFault):
            transaction.refuse("why")


# --- topics, filters, times ---------------------------------------------------------------------


def refused(request: SubscribeRequest) -> str:
    """The name of the fault that ``request`` deserves."""
    with pytest.raises(SoapFault) as raised:
        terms_of(request, NOW, YEAR)
    return (raised.value.subcode or "").rpartition("}")[2]


def with_topic(text: str, dialect: str = wsn.SIMPLE_DIALECT, namespace: str | None = None) -> str:
    topic = TopicExpression(text, dialect, namespace)
    queries = subscribing().queries
    return refused(SubscribeRequest(CONSUMER, [topic], queries))


def test_a_topic_that_is_not_understood_gets_the_fault_for_it() -> None:
    assert with_topic("ihe:FullDocumentEntry", "urn:x") == "TopicExpressionDialectUnknownFault"
    assert with_topic("ihe:Full*") == "InvalidTopicExpressionFault"
    assert with_topic("") == "InvalidTopicExpressionFault"
    assert with_topic("a:b:c") == "InvalidTopicExpressionFault"
    assert with_topic("ihe:Everything") == "TopicNotSupportedFault"
    assert with_topic("FullDocumentEntry") == "TopicNotSupportedFault"
    assert with_topic("x:FullDocumentEntry", namespace="urn:x") == "TopicNotSupportedFault"


@pytest.mark.parametrize("prefix", ["ihe:", "x:", ""])
def test_a_topic_is_known_by_its_namespace_whatever_the_prefix(prefix: str) -> None:
    topic = TopicExpression(f"{prefix}MinimalDocumentEntry")
    request = SubscribeRequest(CONSUMER, [topic], subscribing().queries)
    assert terms_of(request, NOW, YEAR).topic is Topic.MINIMAL_DOCUMENT_ENTRY


def test_the_prefix_of_a_topic_need_not_be_bound(carry: Carry) -> None:
    topic = TopicExpression("ihe:FullDocumentEntry", namespace=None)
    request = SubscribeRequest(CONSUMER, [topic], subscribing().queries)
    found = iti_52.read_subscribe(carry(iti_52.write_subscribe(request)))
    assert terms_of(found, NOW, YEAR).topic is Topic.FULL_DOCUMENT_ENTRY


BAD_FILTERS: dict[str, SubscribeRequest] = {
    "unknown filter": SubscribeRequest(
        CONSUMER, [TopicExpression(Topic.FULL_DOCUMENT_ENTRY)], [AdhocQueryRequest("urn:uuid:x")]
    ),
    "the filter of another topic": subscribing(filter_=SUBMISSION_SET_FILTER),
    "no patient": subscribing(patient_id=""),
    "two patients": SubscribeRequest(
        CONSUMER,
        [TopicExpression(Topic.FULL_DOCUMENT_ENTRY)],
        [
            AdhocQueryRequest(
                DOCUMENT_FILTER.id, parameters=[("$XDSDocumentEntryPatientId", ["('a','b')"])]
            )
        ],
    ),
    "a patient without an authority": subscribing(patient_id="MRN-1"),
    "a code without a scheme": subscribing(class_code="1"),
    "an unknown parameter": SubscribeRequest(
        CONSUMER,
        [TopicExpression(Topic.FULL_DOCUMENT_ENTRY)],
        [
            AdhocQueryRequest(
                ANY_PATIENT_DOCUMENT_FILTER.id,
                parameters=[("$XDSDocumentEntryPatientId", [f"'{PATIENT}'"])],
            )
        ],
    ),
    "no topic": SubscribeRequest(CONSUMER, [], subscribing().queries),
    "two topics": SubscribeRequest(
        CONSUMER, [TopicExpression(Topic.FULL_DOCUMENT_ENTRY)] * 2, subscribing().queries
    ),
    "no query": SubscribeRequest(CONSUMER, [TopicExpression(Topic.FULL_DOCUMENT_ENTRY)], []),
    "another kind of filter": SubscribeRequest(
        CONSUMER,
        [TopicExpression(Topic.FULL_DOCUMENT_ENTRY)],
        subscribing().queries,
        other_filters=["{urn:x}MessageContent"],
    ),
}


@pytest.mark.parametrize("request_", BAD_FILTERS.values(), ids=BAD_FILTERS.keys())
def test_a_wrong_filter_is_refused(request_: SubscribeRequest) -> None:
    assert refused(request_) == "InvalidFilterFault"


def test_a_policy_is_refused_by_its_name(carry: Carry) -> None:
    body = b"".join(iti_52.write_subscribe(subscribing()).body).replace(
        b"</wsnt:Subscribe>",
        b"<wsnt:SubscriptionPolicy><wsnt:UseRaw/></wsnt:SubscriptionPolicy></wsnt:Subscribe>",
    )
    request = iti_52.read_subscribe(Incoming(etree.fromstring(body)))
    assert refused(request) == "UnrecognizedPolicyRequestFault"


@pytest.mark.parametrize(
    ("termination", "expected"),
    [
        ("", NOW + YEAR),
        ("PT1M", NOW + timedelta(minutes=1)),
        ("P1DT2H", NOW + timedelta(days=1, hours=2)),
        ("P1Y", NOW + YEAR),
        ("P2M", NOW + timedelta(days=60)),
        ("PT0.5S", NOW + timedelta(milliseconds=500)),
        ("2026-01-03T00:00:00Z", datetime(2026, 1, 3, tzinfo=UTC)),
        ("2026-01-03T00:00:00+02:00", datetime(2026, 1, 2, 22, tzinfo=UTC)),
        ("2026-01-03T00:00:00.250", datetime(2026, 1, 3, microsecond=250_000, tzinfo=UTC)),
    ],
)
def test_a_termination_time_is_a_moment_or_a_duration(termination: str, expected: datetime) -> None:
    assert terms_of(subscribing(termination=termination), NOW, YEAR).expires == expected


@pytest.mark.parametrize(
    "termination",
    ["P", "PT", "P1", "-P1D", "PT0S", "P2Y", "P999999Y", "2026-01-01T00:00:00Z", "9999-12-31", "x"],
)
def test_any_other_termination_time_is_refused(termination: str) -> None:
    assert refused(subscribing(termination=termination)) == (
        "UnacceptableInitialTerminationTimeFault"
    )


@pytest.mark.parametrize("topic", Topic)
def test_every_topic_has_its_filters(topic: Topic) -> None:
    for filter_id in TOPIC_FILTERS[topic]:
        filter_ = FILTERS[filter_id]
        terms = terms_of(subscribing(topic, filter_), NOW, YEAR)
        across = not any(one.kind is Kind.PATIENT for one in filter_.parameters)
        assert terms.patient == ("" if across else PATIENT)


_TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=["C"]), min_size=1, max_size=300)
_CODES = st.builds(
    Code,
    st.text(st.sampled_from("ab'&<é( )"), min_size=1).filter(str.strip),
    st.text(st.sampled_from("12.'"), min_size=1),
)


@st.composite
def criteria(draw: st.DrawFn) -> tuple[StoredQuery, dict[str, Any]]:
    """A filter with values for some of its parameters."""
    known = draw(st.sampled_from(list(FILTERS.values())))
    given: dict[str, Any] = {}
    for parameter in known.parameters:
        values = st.lists(_CODES if parameter.kind is Kind.CODE else _TEXTS, min_size=1, max_size=4)
        if parameter.kind is Kind.PATIENT:
            given[parameter.key] = PATIENT
        elif parameter.conjunctive:
            given[parameter.key] = draw(st.lists(values, max_size=3))
        else:
            given[parameter.key] = draw(st.just([]) | values)
    return known, given


@given(criteria())
def test_a_filter_means_the_same_after_the_wire_and_after_being_kept(
    drawn: tuple[StoredQuery, dict[str, Any]],
) -> None:
    known, given = drawn
    query = encode(known, given)
    request = SubscribeRequest(CONSUMER, [TopicExpression("ihe:x")], [query])
    written = b"".join(iti_52.write_subscribe(request).body)
    (arrived,) = iti_52.read_subscribe(Incoming(etree.fromstring(written))).queries
    decoded = read_filter(write_filter(arrived))
    assert decoded.query is known
    expected = {key: _groups(value) for key, value in given.items() if value}
    assert {**decoded.text_criteria, **decoded.code_criteria} == expected


def _groups(value: Any) -> Any:
    if isinstance(value, str):
        return ((value,),)
    if isinstance(value[0], list):
        return tuple(tuple(group) for group in value)
    return (tuple(value),)


def test_a_filter_kept_by_another_version_is_told_apart() -> None:
    with pytest.raises(ValueError, match="judged"):
        read_filter('["urn:uuid:x",[]]')
    with pytest.raises(ValueError, match="judged"):
        read_filter(f'["{DOCUMENT_FILTER.id}",[]]')


# --- faults -------------------------------------------------------------------------------------

FAULTS = [
    wsn.fault(kind, "a reason with & and <")
    for kind in (
        wsn.DIALECT_UNKNOWN,
        wsn.INVALID_TOPIC,
        wsn.TOPIC_NOT_SUPPORTED,
        wsn.CREATION_FAILED,
        wsn.RESOURCE_UNKNOWN,
        wsn.UNABLE_TO_DESTROY,
        wsn.UNABLE_TO_CREATE_PULL_POINT,
        wsn.NOTHING_TO_GET_FROM,
        wsn.NOTHING_TO_DESTROY,
        wsn.UNABLE_TO_DESTROY_PULL_POINT,
    )
] + [
    wsn.invalid_filter("why", iti_52.ADHOC_QUERY, "Local"),
    wsn.unrecognized_policy("why", "{urn:x}Policy"),
    wsn.unacceptable_time("why", NOW, NOW + YEAR),
]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.subcode.rpartition("}")[2])
def test_the_detail_of_every_fault_is_valid(fault: SoapFault, wsn_schema: etree.XMLSchema) -> None:
    detail = etree.fromstring(fault.detail)
    wsn_schema.assertValid(detail)
    assert detail.tag == fault.subcode
    assert detail.findtext("{*}Timestamp")
    assert detail.findtext("{*}Description") == fault.reason
    assert fault.action.startswith("http://docs.oasis-open.org/wsn/bw-2/")
    assert fault.action.endswith(f"/Fault/{etree.QName(detail).localname}")
    etree.fromstring(b"".join(write_fault(fault, relates_to="urn:uuid:1")))


# --- audit --------------------------------------------------------------------------------------

SeenFrom = Callable[[Side], Scene]


@pytest.fixture(scope="session")
def audit_schema(standards: Path) -> etree.XMLSchema:
    return etree.XMLSchema(etree.parse(standards / "dicom-audit" / "dicom2017c.xsd"))


@pytest.mark.parametrize("side", Side)
def test_every_audit_record_is_valid(
    side: Side, scene: SeenFrom, submission: Submission, audit_schema: etree.XMLSchema
) -> None:
    response = SubscribeResponse(address_of(BROKER, "4711"), "", "")
    for event in (
        *iti_52.audit(subscribing(), response, scene(side)),
        *iti_52.audit(subscribing(), None, scene(side)),
        *iti_52.audit(UnsubscribeRequest("4711"), UnsubscribeResponse(), scene(side)),
        *iti_53.audit(told(submission), True, scene(side)),
        *iti_54.audit(told(submission), False, scene(side)),
        *iti_69.audit(CreateRequest(), CreateResponse(POINT), scene(side)),
        *iti_69.audit(DestroyRequest("4711"), None, scene(side)),
        *iti_70.audit(PullRequest("4711"), fetched(submission), scene(side)),
        *iti_70.audit(PullRequest("4711"), None, scene(side)),
    ):
        audit_schema.assertValid(etree.fromstring(to_xml(event)))


def test_a_subscription_is_recorded_with_patient_and_id(scene: SeenFrom) -> None:
    response = SubscribeResponse(address_of(BROKER, "4711"), "", "")
    (made,) = iti_52.audit(subscribing(), response, scene(Side.SERVER))
    assert (made.id.code, made.action, made.outcome) == ("110112", Action.CREATE, Outcome.SUCCESS)
    assert [(one.id, one.role) for one in made.objects] == [(PATIENT, 1), ("4711", 20)]
    (ended,) = iti_52.audit(UnsubscribeRequest("4711"), None, scene(Side.CLIENT))
    assert (ended.action, ended.outcome) == (Action.DELETE, Outcome.SERIOUS_FAILURE)
    assert [(one.id, one.role) for one in ended.objects] == [("4711", 20)]


def test_what_is_fetched_is_recorded_as_given_and_nothing_is_not(
    scene: SeenFrom, submission: Submission
) -> None:
    (event,) = iti_70.audit(PullRequest("4711"), fetched(submission), scene(Side.SERVER))
    assert (event.type.code, event.id.code, event.action) == ("ITI-70", "110106", Action.READ)
    assert [one.id for one in event.objects] == [PATIENT, "Document01", "4711"]
    assert event.participants[0].roles[0].code == "110152"  # whoever asks is the destination
    assert iti_70.audit(PullRequest("4711"), PullResponse([]), scene(Side.SERVER)) == []
    (failed,) = iti_70.audit(PullRequest("4711"), None, scene(Side.CLIENT))
    assert failed.outcome is Outcome.MAJOR_FAILURE


def test_a_notification_is_recorded_with_what_it_tells(
    scene: SeenFrom, submission: Submission
) -> None:
    (sent,) = iti_53.audit(told(submission), True, scene(Side.CLIENT))
    (received,) = iti_54.audit(told(submission), True, scene(Side.SERVER))
    assert (sent.type.code, sent.id.code, sent.action) == ("ITI-53", "110106", Action.READ)
    assert (received.type.code, received.id.code) == ("ITI-54", "110107")
    assert received.action is Action.CREATE
    patient, document = sent.objects
    assert (patient.id, document.id, document.role) == (PATIENT, "Document01", 3)
    assert document.id_type.code == "urn:uuid:7edca82f-054d-47f2-a032-9b2a5b5186c1"
