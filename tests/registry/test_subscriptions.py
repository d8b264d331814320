"""Subscriptions: made and ended, compared with what is registered, whose notifications follow."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select, text

from metadata import ebrim
from metadata import identifiers as xds
from metadata.datatypes import XCN, CXi, LocalizedString, Recipient
from metadata.model import Author, Code, DocumentEntry, Submission
from registry.subscriptions import matching, records
from registry.subscriptions.broker import Broker
from registry.subscriptions.consumers import Consumers
from registry.subscriptions.notifier import Notifier
from registry.subscriptions.tables import notification, subscription
from soap.faults import SoapFault
from tests.registry.update.conftest import Office
from transactions.iti_52 import SubscribeRequest, TopicExpression, UnsubscribeRequest, id_in
from transactions.iti_53 import Notification, Notify
from transactions.query_catalogue import Kind
from transactions.stored_query import encode, get_documents
from transactions.subscription_filters import (
    ANY_PATIENT_DOCUMENT_FILTER,
    ANY_PATIENT_SUBMISSION_SET_FILTER,
    DOCUMENT_FILTER,
    FOLDER_FILTER,
    SUBMISSION_SET_FILTER,
)
from transactions.subscription_terms import read_filter, write_filter
from transactions.wsn import Topic

MANAGER = "http://broker.example/subscriptions"
CONSUMER = "http://consumer.example/notify"
FULL, MINIMAL = Topic.FULL_DOCUMENT_ENTRY, Topic.MINIMAL_DOCUMENT_ENTRY


class Desk:
    """A broker over the house's database, and a notifier that keeps what it sends."""

    def __init__(self, house: Any) -> None:
        self.house = house
        self.broker = Broker(
            house.database,
            MANAGER,
            Consumers(("http://consumer.example",)),
            longest=timedelta(days=366),
            most=20,
            clock=house.clock,
        )
        self.sent: list[tuple[str, Notification]] = []
        self.notifier = Notifier(
            house.database,
            lambda address, notify: self.sent.extend((address, n) for n in notify.notifications),
            MANAGER,
            give_up_seconds=3600,
            clock=lambda: house.clock.now.timestamp(),
        )

    def subscribe(
        self, topic: str, filter_: Any, termination: str = "", consumer: str = CONSUMER, **by: Any
    ) -> str:
        """Subscribe; the subscription's id."""
        request = SubscribeRequest(
            consumer, [TopicExpression(topic)], [encode(filter_, by)], termination
        )
        return id_in(self.broker.subscribe(request).subscription)

    def told(self) -> list[Submission]:
        """What is delivered now."""
        self.sent.clear()
        self.notifier.run_once()
        return [one.objects() for _, one in self.sent]


@pytest.fixture
def desk(house: Any) -> Desk:
    return Desk(house)


def fault_name(raised: pytest.ExceptionInfo[SoapFault]) -> str:
    return (raised.value.subcode or "").rpartition("}")[2]


# --- what is told -------------------------------------------------------------------------------


def test_a_full_subscription_is_told_whole_entries(house: Any, desk: Desk) -> None:
    identifier = desk.subscribe(FULL, DOCUMENT_FILTER, patient_id=house.patient)
    draft = house.draft()
    documents = {draft.document().unique_id, draft.document().unique_id}
    house.accept(draft)
    (told,) = desk.told()
    assert {one.unique_id for one in told.documents} == documents
    assert [*told.submission_sets, *told.folders, *told.associations] == []
    registered = house.document(told.documents[0].unique_id)
    assert told.documents[0] == registered
    ((address, sent),) = desk.sent
    assert address == CONSUMER
    assert sent.topic == "ihe:FullDocumentEntry"
    assert id_in(sent.subscription or "") == identifier
    assert sent.producer == "urn:oid:1.2.3.4"
    assert desk.told() == []


def test_a_minimal_subscription_is_told_references_alone(house: Any, desk: Desk) -> None:
    desk.subscribe(MINIMAL, DOCUMENT_FILTER, patient_id=house.patient)
    document = house.registered()
    (told,) = desk.told()
    assert told.object_refs == [document.entry_uuid]
    assert told.documents == []


def test_a_submission_set_subscription_is_told_one_package(house: Any, desk: Desk) -> None:
    desk.subscribe(Topic.SUBMISSION_SET_METADATA, SUBMISSION_SET_FILTER, patient_id=house.patient)
    draft = house.draft()
    draft.document()
    draft.folder()
    house.accept(draft)
    (told,) = desk.told()
    assert [one.unique_id for one in told.submission_sets] == [draft.set.unique_id]
    assert [*told.documents, *told.folders] == []


def test_a_folder_subscription_is_told_of_new_and_of_grown_folders(house: Any, desk: Desk) -> None:
    desk.subscribe(Topic.FOLDER_METADATA, FOLDER_FILTER, patient_id=house.patient)
    _, folder = house.filed()
    (told,) = desk.told()
    assert told.folders == [folder]
    house.clock.now += timedelta(minutes=1)
    draft = house.draft()
    draft.file(draft.document().entry_uuid, folder.entry_uuid)
    house.accept(draft)
    (told,) = desk.told()
    assert [one.entry_uuid for one in told.folders] == [folder.entry_uuid]
    assert told.folders[0].last_update_time != folder.last_update_time


def test_a_new_version_is_told_of_as_what_is_new(house: Any, desk: Desk) -> None:
    old = house.registered()
    desk.subscribe(FULL, DOCUMENT_FILTER, patient_id=house.patient)
    new = Office(house).updated(old, title=LocalizedString("Corrected"))
    (told,) = desk.told()
    assert told.documents == [new]


def test_an_on_demand_entry_is_told_of(house: Any, desk: Desk) -> None:
    desk.subscribe(MINIMAL, DOCUMENT_FILTER, patient_id=house.patient, type=[xds.ON_DEMAND])
    draft = house.draft()
    document = draft.document(object_type=xds.ON_DEMAND, hash=None, size=None, creation_time=None)
    house.registry.register_on_demand(draft.request())
    (told,) = desk.told()
    found = house.answer(get_documents(unique_id=[document.unique_id])).documents
    assert told.object_refs == [one.entry_uuid for one in found]


def test_a_refused_submission_is_told_to_nobody(house: Any, desk: Desk) -> None:
    desk.subscribe(FULL, DOCUMENT_FILTER, patient_id=house.patient)
    draft = house.draft()
    draft.document()
    draft.link(xds.RPLC, "document", "urn:uuid:00000000-0000-4000-8000-000000000000")
    house.errors(draft)
    assert desk.told() == []


def test_nobody_is_told_of_another_patient(house: Any, desk: Desk) -> None:
    desk.subscribe(FULL, DOCUMENT_FILTER, patient_id=house.cx("P2"))
    house.registered()
    assert desk.told() == []


def test_subscriptions_across_patients_are_told_of_every_patient(house: Any, desk: Desk) -> None:
    desk.subscribe(FULL, ANY_PATIENT_DOCUMENT_FILTER)
    desk.subscribe(
        Topic.SUBMISSION_SET_METADATA, ANY_PATIENT_SUBMISSION_SET_FILTER, source_id="1.2.3.4"
    )
    for patient in ("P1", "P2"):
        draft = house.draft(patient)
        draft.document()
        house.accept(draft)
    told = desk.told()
    assert sum(len(one.documents) for one in told) == 2
    assert sum(len(one.submission_sets) for one in told) == 2


@pytest.mark.parametrize("subscribed", ["P1", "P2", "P3"])
def test_a_subscription_follows_the_survivor_of_its_patient(
    subscribed: str, house: Any, desk: Desk
) -> None:
    house.feed("A01", "P3")
    desk.subscribe(FULL, DOCUMENT_FILTER, patient_id=house.cx(subscribed))
    house.feed("A40", "P2", subsumed="P1")
    house.feed("A40", "P3", subsumed="P2")
    draft = house.draft("P3")
    draft.document()
    house.accept(draft)
    assert len(desk.told()) == 1


# --- filters ------------------------------------------------------------------------------------


def code(value: str, scheme: str = "1.2") -> Code:
    return Code(value, scheme)


FILTERS: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"class_code": code("a")}, {"class_code": code("a")}),
    ({"type_code": [code("b"), code("a")]}, {"type_code": code("a")}),
    ({"practice_setting_code": code("a")}, {"practice_setting_code": code("a")}),
    ({"healthcare_facility_type_code": code("a")}, {"healthcare_facility_type_code": code("a")}),
    ({"format_code": code("a")}, {"format_code": code("a")}),
    ({"event_code_list": [[code("a")], [code("b")]]}, {"event_code_list": [code("a"), code("b")]}),
    ({"confidentiality_code": [code("N"), code("R")]}, {"confidentiality_code": [code("R")]}),
    (
        {"reference_id_list": "1.2^^^^urn:ihe:iti:xds:2016:studyInstanceUID"},
        {"reference_id_list": [CXi("1.2^^^^urn:ihe:iti:xds:2016:studyInstanceUID")]},
    ),
    ({"author": "%Curie%"}, {"author": [Author(person=XCN("^Curie^Marie"))]}),
    ({"author": ["x", "_Curie^Mar__"]}, {"author": [Author(person=XCN("^Curie^Marie"))]}),
    ({"author": "^Cur*e[1]?%"}, {"author": [Author(person=XCN("^Cur*e[1]?^M"))]}),
]


@pytest.mark.parametrize(("criteria", "attributes"), FILTERS)
def test_a_document_meets_a_filter_by_its_attributes(
    criteria: dict[str, Any], attributes: dict[str, Any], house: Any, desk: Desk
) -> None:
    desk.subscribe(FULL, DOCUMENT_FILTER, patient_id=house.patient, **criteria)
    house.registered()  # none of these attributes
    assert desk.told() == []
    names = {key: _named(value) for key, value in attributes.items()}
    house.registered(**names)
    assert len(desk.told()) == 1


def _named(value: Any) -> Any:
    """Codes with the display name that a submission must have."""
    if isinstance(value, Code):
        return Code(value.code, value.scheme, LocalizedString("x"))
    if isinstance(value, list):
        return [_named(one) for one in value]
    return value


@pytest.mark.parametrize(
    ("criteria", "expected"),
    [
        ({"class_code": code("a", "9.9")}, False),  # the scheme counts
        ({"event_code_list": [[code("a")], [code("c")]]}, False),  # one of each group
        ({"event_code_list": [[code("a"), code("c")], [code("b")]]}, True),
        ({"author": "%welby%"}, False),  # the case counts
        ({"author": "Welby"}, False),  # the whole person
        ({"author": "%"}, True),
    ],
)
def test_comparisons_are_those_of_stored_queries(criteria: dict[str, Any], expected: bool) -> None:
    document = DocumentEntry(
        class_code=code("a"),
        event_code_list=[code("a"), code("b")],
        author=[Author(), Author(person=XCN("^Welby^Marcus"))],
    )
    decoded = read_filter(write_filter(encode(ANY_PATIENT_DOCUMENT_FILTER, criteria)))
    assert matching.meets(document, decoded) is expected


@pytest.mark.parametrize(
    ("criteria", "expected"),
    [
        ({"source_id": ["1.2.3.4", "9"]}, True),
        ({"source_id": "9"}, False),
        ({"author": "%Marcus%"}, True),
        ({"intended_recipient": "%Marie%"}, True),
        ({"intended_recipient": "nobody"}, False),
    ],
)
def test_submission_sets_meet_filters(
    criteria: dict[str, Any], expected: bool, house: Any, desk: Desk
) -> None:
    topic = Topic.SUBMISSION_SET_METADATA
    desk.subscribe(topic, SUBMISSION_SET_FILTER, patient_id=house.patient, **criteria)
    draft = house.draft()
    draft.set.intended_recipient = [Recipient("|^Curie^Marie")]
    draft.document()
    house.accept(draft)
    assert bool(desk.told()) is expected


def test_folders_meet_filters_by_their_codes(house: Any, desk: Desk) -> None:
    topic, codes = Topic.FOLDER_METADATA, house.code("folder")
    desk.subscribe(topic, FOLDER_FILTER, patient_id=house.patient, code_list=codes)
    desk.subscribe(topic, FOLDER_FILTER, patient_id=house.patient, code_list=code("other"))
    house.filed()
    assert len(desk.told()) == 1


@given(st.text(st.sampled_from("ab%_*?[]-!"), max_size=8), st.text(st.sampled_from("ab*?[]-!")))
def test_patterns_match_what_like_matches(pattern: str, value: str) -> None:
    """Compared with a naive reading of LIKE."""
    assert matching._compare(Kind.LIKE, [value], [pattern]) is _like(pattern, value)


def _like(pattern: str, value: str) -> bool:
    if not pattern:
        return not value
    if pattern[0] == "%":
        return any(_like(pattern[1:], value[i:]) for i in range(len(value) + 1))
    return bool(value) and pattern[0] in ("_", value[0]) and _like(pattern[1:], value[1:])


# --- making and ending --------------------------------------------------------------------------


def test_a_subscription_ends_at_its_termination_time(house: Any, desk: Desk) -> None:
    desk.subscribe(FULL, DOCUMENT_FILTER, "PT1H", patient_id=house.patient)
    house.clock.now += timedelta(minutes=59)
    house.registered()
    assert len(desk.told()) == 1
    house.clock.now += timedelta(minutes=2)
    house.registered()
    assert desk.told() == []
    assert records.tidy(house.database, house.clock.now) == 0  # a registration may be on its way
    house.clock.now += timedelta(hours=1)
    assert records.tidy(house.database, house.clock.now) == 1


def test_what_was_registered_before_the_end_is_delivered_after_it(house: Any, desk: Desk) -> None:
    desk.subscribe(FULL, DOCUMENT_FILTER, "PT1H", patient_id=house.patient)
    house.registered()
    house.clock.now += timedelta(hours=3)
    assert records.tidy(house.database, house.clock.now) == 0
    assert len(desk.told()) == 1


def test_the_answer_names_address_and_times(house: Any, desk: Desk) -> None:
    request = SubscribeRequest(
        CONSUMER, [TopicExpression(FULL)], [encode(DOCUMENT_FILTER, {"patient_id": house.patient})]
    )
    answer = desk.broker.subscribe(request)
    assert answer.subscription.startswith(f"{MANAGER}?subscription=")
    assert answer.current_time == "2026-01-02T03:04:05.000Z"
    assert answer.termination_time == "2027-01-03T03:04:05.000Z"


def test_unsubscribing_ends_it_with_all_that_waits(house: Any, desk: Desk) -> None:
    identifier = desk.subscribe(FULL, DOCUMENT_FILTER, patient_id=house.patient)
    house.registered()
    desk.broker.unsubscribe(UnsubscribeRequest(identifier))
    house.registered()
    assert desk.told() == []
    with house.database.read() as connection:
        assert connection.execute(select(notification)).all() == []
    with pytest.raises(SoapFault) as raised:
        desk.broker.unsubscribe(UnsubscribeRequest(identifier))
    assert fault_name(raised) == "ResourceUnknownFault"


def test_what_was_kept_for_a_subscription_ended_meanwhile_is_dropped(
    house: Any, desk: Desk
) -> None:
    desk.subscribe(FULL, DOCUMENT_FILTER, patient_id=house.patient)
    house.registered()
    house.database.write(lambda c: c.execute(subscription.delete()))
    assert desk.told() == []
    records.tidy(house.database, house.clock.now)
    with house.database.read() as connection:
        assert connection.execute(select(notification)).all() == []


@pytest.mark.parametrize("consumer", ["http://elsewhere.example/", "ftp://consumer.example/", ""])
def test_a_consumer_beyond_the_configuration_is_refused(
    consumer: str, house: Any, desk: Desk
) -> None:
    with pytest.raises(SoapFault) as raised:
        desk.subscribe(FULL, DOCUMENT_FILTER, patient_id=house.patient, consumer=consumer)
    assert fault_name(raised) == "SubscribeCreationFailedFault"
    assert records.subscriptions(house.database) == []


def test_there_are_no_more_subscriptions_than_may_be(house: Any, desk: Desk) -> None:
    for _ in range(20):
        desk.subscribe(FULL, DOCUMENT_FILTER, patient_id=house.patient)
    with pytest.raises(SoapFault) as raised:
        desk.subscribe(FULL, DOCUMENT_FILTER, patient_id=house.patient)
    assert fault_name(raised) == "SubscribeCreationFailedFault"


# --- the cost -----------------------------------------------------------------------------------


def test_a_registration_finds_subscriptions_by_indexes(house: Any) -> None:
    """By the keys of patients and subscriptions alone; PostgreSQL is kept from reading the
    whole of what is empty here."""
    bound = matching._LIVE.clause.params(patient="p", now="2026")  # type: ignore[attr-defined]
    with house.database.read() as connection:
        sqlite = connection.dialect.name == "sqlite"
        if not sqlite:
            connection.execute(text("SET LOCAL enable_seqscan = off"))
        explain = "EXPLAIN QUERY PLAN" if sqlite else "EXPLAIN"
        literal = {"literal_binds": True}
        statement = bound.compile(dialect=connection.dialect, compile_kwargs=literal)
        plan = [row[-1] for row in connection.execute(text(f"{explain} {statement}"))]
    steps = [step for step in plan if "CONSTANT" not in step]
    assert any("ix_patient_survivor" in step for step in steps)
    assert not [step for step in steps if "SCAN" in step or "Seq Scan" in step], steps


def test_a_row_of_another_version_stops_no_registration(house: Any, desk: Desk) -> None:
    identifier = desk.subscribe(FULL, DOCUMENT_FILTER, patient_id=house.patient)
    desk.subscribe(MINIMAL, DOCUMENT_FILTER, patient_id=house.patient)
    house.database.write(
        lambda connection: connection.execute(
            text("UPDATE subscription SET filter = '[\"urn:uuid:x\",[]]' WHERE id = :id"),
            {"id": identifier},
        )
    )
    house.registered()
    assert len(desk.told()) == 1


# --- publications -------------------------------------------------------------------------------


def published(house: Any, draft: Any, producer: str | None = "urn:oid:1.9") -> Notify:
    return Notify([Notification(ebrim.write_objects(draft.submission), "x", None, producer)])


def test_a_publication_is_told_like_a_registration(house: Any, desk: Desk) -> None:
    desk.subscribe(FULL, DOCUMENT_FILTER, patient_id=house.patient)
    desk.subscribe(FULL, DOCUMENT_FILTER, patient_id=house.cx("P2"))
    draft = house.draft()
    document = draft.document()
    desk.broker.publish(published(house, draft))
    (told,) = desk.told()
    assert [one.unique_id for one in told.documents] == [document.unique_id]
    assert desk.sent[0][1].producer == "urn:oid:1.9"


def test_a_publication_without_a_producer_is_of_its_source(house: Any, desk: Desk) -> None:
    desk.subscribe(FULL, DOCUMENT_FILTER, patient_id=house.patient)
    draft = house.draft()
    draft.document()
    desk.broker.publish(published(house, draft, None))
    desk.told()
    assert desk.sent[0][1].producer == "urn:oid:1.2.3.4"


def test_a_publication_that_cannot_be_read_is_refused(house: Any, desk: Desk) -> None:
    broken = Notify([Notification([b"<rim:RegistryPackage id='x'/>"])])
    with pytest.raises(SoapFault) as raised:
        desk.broker.publish(broken)
    assert raised.value.code == "Sender"
