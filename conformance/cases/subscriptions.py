"""Document Metadata Notification Broker: who is told of what (D01).

Wrong subscriptions are in ``subscription_faults``, delivery in trouble in
``subscription_delivery``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from conformance.bench import Bench
from conformance.case import Actor, Cases
from conformance.expectation import HttpStatus, Same
from conformance.seen import Compared, Seen
from conformance.subscribing import (
    FULL,
    QUIET_SECONDS,
    contents,
    entry_told,
    listening,
    of_patient,
    subscribed,
    told,
    unsubscribe,
)
from conformance.targets import NotRun
from conformance.text import Text
from metadata import ebrim
from metadata.datatypes import XCN, CXi, Recipient
from metadata.identifiers import ORDER_REFERENCE
from metadata.model import Author, Submission
from transactions.iti_53 import Notification, Notify
from transactions.iti_54 import ITI_54
from transactions.query_catalogue import StoredQuery
from transactions.subscription_filters import (
    ANY_PATIENT_DOCUMENT_FILTER,
    DOCUMENT_FILTER,
    FOLDER_FILTER,
    SUBMISSION_SET_FILTER,
)
from transactions.wsn import Topic

CASES = Cases(Actor.BROKER, "subscriptions registry patients listener")

TOLD = "ITI TF-2 3.53.4.1"
FILTERS = "ITI TF-2 3.52.5.2"


# --- D01 Topics ----------------------------------------------------------------------------------

TOPICS: dict[Topic, tuple[StoredQuery, str, Callable[[Submission], str]]] = {
    Topic.FULL_DOCUMENT_ENTRY: (
        DOCUMENT_FILTER,
        "ExtrinsicObject",
        lambda submission: submission.documents[0].entry_uuid,
    ),
    Topic.MINIMAL_DOCUMENT_ENTRY: (
        DOCUMENT_FILTER,
        "ObjectRef",
        lambda submission: submission.documents[0].entry_uuid,
    ),
    Topic.SUBMISSION_SET_METADATA: (
        SUBMISSION_SET_FILTER,
        "SubmissionSet",
        lambda submission: submission.submission_sets[0].entry_uuid,
    ),
    Topic.FOLDER_METADATA: (
        FOLDER_FILTER,
        "Folder",
        lambda submission: submission.folders[0].entry_uuid,
    ),
}
"""Each topic: its filter, as what objects are told, and which of a submission's it tells."""


def _topic(topic: Topic, bench: Bench) -> Iterator[Seen]:
    known, kind, which = TOPICS[topic]
    patient = bench.patient()
    with listening(bench) as here:
        inbox = here.inbox()
        subscription = subscribed(bench, inbox, topic, known, patient_id=patient)
        submissions = []
        for _ in range(2):
            folder = bench.folder(patient)
            submission = bench.submission(patient, bench.entry(patient), folders=[folder])
            submissions.append(bench.registered(submission))
        notifications = told(bench, inbox, len(submissions))
    wanted = [{kind: [which(submission)]} for submission in submissions]
    yield Compared("notifications", wanted, contents(notifications))
    names = {one.topic.rpartition(":")[2] for one in notifications if one.topic}
    addresses = {one.subscription for one in notifications if one.subscription}
    expected = (names & {topic.value.rpartition(":")[2]}, addresses & {subscription})
    yield Compared("Topic, SubscriptionReference where told", expected, (names, addresses))


for _known_topic in TOPICS:
    _name = _known_topic.value.rpartition(":")[2]
    CASES.add(
        f"D01-{_name}",
        f"Two submissions for a subscription to {_known_topic.value}: one notification each",
        f"Deux lots pour un abonnement à {_known_topic.value} : une notification chacun",
        spec=TOLD,
        expected=[Same("what the topic tells, once, in order"), Same("topic and subscription")],
        stimulus=partial(_topic, _known_topic),
    )


# --- D01 Filters ---------------------------------------------------------------------------------

REFERENCE = CXi(f"DSUB-1^^^&2.25.7&ISO^{ORDER_REFERENCE}")

Values = tuple[Any, dict[str, Any], dict[str, Any]]
"""A filter's value, attributes that do not fit it, and attributes that do."""


def _by_code(name: str, field: str, many: bool, bench: Bench) -> Values:
    # What fits is what all documents of the kit have: a broker that judges whom it tells tells it.
    fitting, other = bench.targets.codes(name)[:2]
    right, wrong = ([fitting], [other]) if many else (fitting, other)
    return [fitting], {field: wrong}, {field: right}


def _by_author(bench: Bench) -> Values:
    fitting = [Author(person=XCN("^SUBSCRIBED^ANN"))]
    return ["%SUBSCRIBED%"], {}, {"author": fitting}


def _by_reference(bench: Bench) -> Values:
    return [REFERENCE], {}, {"reference_id_list": [REFERENCE]}


BY: dict[str, tuple[str, Callable[[Bench], Values]]] = {
    "ClassCode": ("class_code", partial(_by_code, "classCode", "class_code", False)),
    "TypeCode": ("type_code", partial(_by_code, "typeCode", "type_code", False)),
    "FormatCode": ("format_code", partial(_by_code, "formatCode", "format_code", False)),
    "PracticeSettingCode": (
        "practice_setting_code",
        partial(_by_code, "practiceSettingCode", "practice_setting_code", False),
    ),
    "HealthcareFacilityTypeCode": (
        "healthcare_facility_type_code",
        partial(_by_code, "healthcareFacilityTypeCode", "healthcare_facility_type_code", False),
    ),
    "EventCodeList": (
        "event_code_list",
        partial(_by_code, "eventCodeList", "event_code_list", True),
    ),
    "ConfidentialityCode": (
        "confidentiality_code",
        partial(_by_code, "confidentialityCode", "confidentiality_code", True),
    ),
    "AuthorPerson": ("author", _by_author),
    "ReferenceIdList": ("reference_id_list", _by_reference),
}
"""The parameters of the DocumentEntry filter beside the patient: key, values."""


def _filtered(key: str, values: Callable[[Bench], Values], bench: Bench) -> Iterator[Seen]:
    patient = bench.patient()
    value, other, fitting = values(bench)
    with listening(bench) as here:
        inbox = here.inbox()
        of_patient(bench, inbox, patient, **{key: value})
        bench.registered_entry(patient, **other)
        entry = bench.registered_entry(patient, **fitting)
        seen = contents(told(bench, inbox))
    yield Compared("first notification", [entry_told(entry)], seen)


for _name, (_key, _values) in BY.items():
    CASES.add(
        f"D01-filter-{_name}",
        f"A subscription filtered by {_name}: told of what fits alone",
        f"Un abonnement filtré par {_name} : averti seulement de ce qui convient",
        spec=FILTERS,
        expected=[Same("what fits the filter")],
        stimulus=partial(_filtered, _key, _values),
    )


@CASES.case(
    "D01-set-filter",
    "A subscription to SubmissionSets filtered by author and intended recipient",
    "Un abonnement aux lots filtré par auteur et par destinataire",
    spec=FILTERS,
    expected=[Same("what fits the filter")],
)
def _filtered_sets(bench: Bench) -> Iterator[Seen]:
    patient = bench.patient()
    fitting: dict[str, Any] = {
        "author": [Author(person=XCN("^SUBSCRIBED^ANN"))],
        "intended_recipient": [Recipient("|^READER^RAY")],
    }
    with listening(bench) as here:
        inbox = here.inbox()
        subscribed(
            bench,
            inbox,
            Topic.SUBMISSION_SET_METADATA,
            SUBMISSION_SET_FILTER,
            patient_id=patient,
            author=["%SUBSCRIBED%"],
            intended_recipient=["%READER%"],
        )
        half = {"author": fitting["author"]}
        bench.registered(bench.submission(patient, bench.entry(patient), **half))
        last = bench.registered(bench.submission(patient, bench.entry(patient), **fitting))
        seen = contents(told(bench, inbox))
    yield Compared("first", [{"SubmissionSet": [last.submission_sets[0].entry_uuid]}], seen)


@CASES.case(
    "D01-patient",
    "A document of another patient is not told",
    "Un document d'un autre patient n'est pas annoncé",
    spec=FILTERS,
    expected=[Same("what fits the filter")],
)
def _other_patient(bench: Bench) -> Iterator[Seen]:
    one, other = bench.patients(2)
    with listening(bench) as here:
        inbox = here.inbox()
        of_patient(bench, inbox, one)
        bench.registered_entry(other)
        entry = bench.registered_entry(one)
        seen = contents(told(bench, inbox))
    yield Compared("first notification", [entry_told(entry)], seen)


@CASES.case(
    "D01-any-patient",
    "A patient-independent subscription is told of every patient's documents that fit",
    "Un abonnement sans patient est averti des documents de tout patient qui conviennent",
    spec=FILTERS,
    expected=[Same("what fits the filter")],
)
def _any_patient(bench: Bench) -> Iterator[Seen]:
    one, other = bench.patients(2)
    name = f"^{bench.session.identifier()}^ANN"  # nobody else's documents
    author = [Author(person=XCN(name))]
    with listening(bench) as here:
        inbox = here.inbox()
        subscribed(bench, inbox, FULL, ANY_PATIENT_DOCUMENT_FILTER, author=[name])
        bench.registered_entry(one)
        entries = [bench.registered_entry(patient, author=author) for patient in (one, other)]
        seen = contents(told(bench, inbox, len(entries)))
    yield Compared("notifications", [entry_told(entry) for entry in entries], seen)


@CASES.case(
    "D01-publish",
    "What is published by ITI-54 is told like a registration",
    "Ce qui est publié par ITI-54 est annoncé comme un enregistrement",
    spec="ITI TF-2 3.54.4.1",
    expected=[HttpStatus(202), Same("what was published")],
)
def _published(bench: Bench) -> Iterator[Seen]:
    patient = bench.patient()
    entry = bench.entry(patient)
    publication = Notify([Notification([ebrim.write_object(entry)], topic=FULL)])
    with listening(bench) as here:
        inbox = here.inbox()
        of_patient(bench, inbox, patient)
        answer = bench.wire.call(bench.targets.endpoint("subscriptions"), ITI_54, publication)
        if answer.fault is not None and "ActionNotSupported" in (answer.fault.subcode or ""):
            raise NotRun(Text("the broker takes no publications", "pas de publications ici"))
        yield answer
        seen = contents(told(bench, inbox))
    yield Compared("notification", [entry_told(entry)], seen)


@CASES.case(
    "D01-unsubscribed",
    "After Unsubscribe nothing more is told; another subscription is",
    "Après Unsubscribe plus rien n'est annoncé ; un autre abonnement l'est",
    spec="ITI TF-2 3.52.4.3",
    expected=[Same("UnsubscribeResponse"), Same("told alone who stayed")],
)
def _unsubscribed(bench: Bench) -> Iterator[Seen]:
    patient = bench.patient()
    with listening(bench) as here:
        leaving, staying = here.inbox(), here.inbox()
        subscription = of_patient(bench, leaving, patient)
        of_patient(bench, staying, patient)
        answer = unsubscribe(bench, subscription)
        yield Compared("UnsubscribeResponse", True, answer.response is not None)
        entry = bench.registered_entry(patient)
        seen = (contents(told(bench, staying)), leaving.next(QUIET_SECONDS))
    yield Compared("who stayed, who left", ([entry_told(entry)], None), seen)
