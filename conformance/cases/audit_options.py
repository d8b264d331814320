"""Secure nodes: a record of each transaction that a node may have or not (S03), ITI-20.

ITI-44, ITI-51, ITI-52, ITI-53, ITI-57, ITI-61, ITI-62, ITI-86, ITI-92 and RAD-69 of an image that
is there. Each is judged as in ``audit_trail``; ITI-53 is the broker's own record, for the kit is
told.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from conformance.bench import Bench
from conformance.case import Actor, Cases
from conformance.cases import on_demand, remove_documents
from conformance.cases.audit_trail import (
    ANY_KIND,
    EXPORT,
    IMPORT,
    PATIENT_RECORD,
    QUERY,
    SUBMISSION_SET,
    TRANSFERRED,
    Audited,
    Done,
    add_to,
    patient_object,
    went,
)
from conformance.cases.imaging import ask, place_of
from conformance.cases.query_faults import without
from conformance.cases.registry_update import TITLE
from conformance.changes import Change, remove, restricted_update, update
from conformance.expectation import Mismatch
from conformance.identity_v3 import ADD, MERGE, message_of, renamed
from conformance.seen import Answer
from conformance.source import Source
from conformance.subscribing import (
    listening,
    of_patient,
    subscribe,
    told,
    unsubscribe,
)
from metadata.datatypes import CX, new_oid, new_uuid_urn
from metadata.model import Submission
from transactions.iti_43 import DocumentRequest
from transactions.iti_52 import SubscribeRequest, TopicExpression, id_in
from transactions.registry_response import RegistryResponse
from transactions.stored_query import encode, find_documents_for_multiple_patients
from transactions.subscription_filters import DOCUMENT_FILTER

CASES = Cases(Actor.AUDIT, "audit_listener")

NOT_THE_LAST = "0"
"""A version that nothing has had."""

UNKNOWN_TOPIC = "ihe:NoSuchTopic"


def _fed(bench: Bench, number: str, code: str, *patients: CX) -> str:
    """An interaction by ITI-44 with an id of its own, which tells its records; it must be answered
    ``code``."""
    marker = new_oid()
    answer = bench.feed_v3(number, renamed(message_of(number, *patients), marker))
    if answer.response != code:
        raise Mismatch(f"acknowledgement {code}", answer.describe())
    return marker


def _added(bench: Bench, well: bool) -> Done:
    patient = bench.unknown_patient()
    return Done(_fed(bench, ADD, "CA", patient), [patient_object(str(patient))])


def _merged(bench: Bench, well: bool) -> Done:
    """A wrong one merges a patient with himself."""
    survivor, subsumed = bench.unknown_patient(), bench.unknown_patient()
    for one in (survivor, subsumed):
        _fed(bench, ADD, "CA", one)
    if well:
        return Done(_fed(bench, MERGE, "CA", survivor, subsumed), [])
    return Done(_fed(bench, MERGE, "CE", survivor, survivor), [patient_object(str(survivor))])


def _queried(bench: Bench, well: bool) -> Done:
    marker = bench.session.identifier()
    request = find_documents_for_multiple_patients([bench.patient()], author_person=[marker])
    if not well:
        request = without(request, "$XDSDocumentEntryStatus")
    went(bench.query(request), well)
    return Done(marker, [("2", "24", "ITI-51", request.query_id)])


def _about(submission: Submission) -> Done:
    """What the record of a submission names."""
    [one] = submission.submission_sets
    unique_id = str(one.unique_id)
    set_object = ("2", "20", SUBMISSION_SET, unique_id)
    return Done(unique_id, [patient_object(str(one.patient_id)), set_object])


def _on_demand(bench: Bench, well: bool) -> Done:
    patient = bench.patient() if well else bench.unknown_patient()
    submission = bench.submission(patient, on_demand.entry_of(bench, patient))
    went(on_demand.register(bench, submission), well)
    return _about(submission)


def _changed(
    send: Callable[[Bench, Change], Answer[RegistryResponse]],
) -> Callable[[Bench, bool], Done]:
    """A new title for a document; a wrong change follows a version that there never was."""

    def perform(bench: Bench, well: bool) -> Done:
        patient = bench.patient()
        change = Change(bench, patient)
        entry = bench.registered_entry(patient)
        previous: dict[str, Any] = {} if well else {"previous": NOT_THE_LAST}
        change.version(entry, title=TITLE, **previous)
        went(send(bench, change), well)
        return _about(change.submission)

    return perform


def _metadata_removed(bench: Bench, well: bool) -> Done:
    """All of a submission; or what nobody has registered."""
    names = [new_uuid_urn()]
    if well:
        patient = bench.patient()
        submission = bench.registered(bench.submission(patient, bench.entry(patient)))
        names = [one.entry_uuid for one in submission.objects()]
    went(remove(bench, *names), well)
    return Done(names[0], [("2", "3", ANY_KIND, name) for name in names])


def _document_removed(bench: Bench, well: bool) -> Done:
    document = (
        remove_documents.provided(bench)
        if well
        else DocumentRequest(bench.repository_unique_id(), new_oid())
    )
    went(remove_documents.remove(bench, document), well)
    unique_id = document.document_unique_id
    return Done(unique_id, [("2", "3", ANY_KIND, unique_id)])


def _image_fetched(bench: Bench, well: bool) -> Done:
    image = Source(bench).stored_study(bench.patient())[0]
    study = place_of(image)
    answer = ask(bench, [(study, bench.targets.imaging_unique_id or "")])
    went(answer, well)
    return Done(study.study_instance_uid, [("2", "3", "110180", study.study_instance_uid)])


def _subscribed_and_not_any_more(bench: Bench, well: bool) -> Done:
    with listening(bench) as here:
        subscription = of_patient(bench, here.inbox(), bench.patient())
    answer = unsubscribe(bench, subscription)
    if answer.response is None:
        raise Mismatch("the end of a subscription", answer.describe())
    name = id_in(subscription)
    return Done(name, [("2", "20", ANY_KIND, name)])


def _refused_subscription(bench: Bench, well: bool) -> Done:
    patient = bench.patient()
    with listening(bench) as here:
        filter_ = encode(DOCUMENT_FILTER, {"patient_id": patient})
        topic = TopicExpression(UNKNOWN_TOPIC)
        answer = subscribe(bench, SubscribeRequest(here.inbox().address, [topic], [filter_], ""))
    if answer.fault is None:
        raise Mismatch("a fault", answer.describe())
    return Done(patient.id, [patient_object(str(patient))])


def _notified(bench: Bench, well: bool) -> Done:
    """The kit is told of a document."""
    patient = bench.patient()
    with listening(bench) as here:
        inbox = here.inbox()
        of_patient(bench, inbox, patient)
        entry = bench.registered_entry(patient)
        if not told(bench, inbox):
            raise Mismatch("a notification", "none in time")
    name = entry.entry_uuid
    return Done(name, [patient_object(str(patient)), ("2", "3", ANY_KIND, name)])


_UPDATES, _SUBSCRIBES = "registry patients administration", "subscriptions listener feed"
_OK, _FAILED = [True], [False]

OPTIONS = (
    Audited("ITI-44", PATIENT_RECORD, "C", _added, "identity_v3", True, _OK),
    Audited("ITI-44", PATIENT_RECORD, "DU", _merged, "identity_v3", True, variant="merge"),
    Audited("ITI-51", QUERY, "E", _queried, "registry patients multi_patient", True),
    Audited("ITI-52", QUERY, "CD", _subscribed_and_not_any_more, _SUBSCRIBES, True, _OK),
    Audited("ITI-52", QUERY, "C", _refused_subscription, _SUBSCRIBES, True, _FAILED),
    Audited("ITI-53", EXPORT, "R", _notified, f"registry {_SUBSCRIBES}", True, _OK, by_user=False),
    Audited("ITI-57", IMPORT, "U", _changed(update), _UPDATES, True),
    Audited("ITI-61", IMPORT, "C", _on_demand, "registry patients on_demand", True),
    Audited("ITI-62", PATIENT_RECORD, "D", _metadata_removed, _UPDATES, True),
    Audited("ITI-86", PATIENT_RECORD, "D", _document_removed, f"repository {_UPDATES}", True),
    Audited("ITI-92", IMPORT, "U", _changed(restricted_update), _UPDATES, True),
    Audited(
        "RAD-69",
        TRANSFERRED,
        "R",
        _image_fetched,
        "imaging imaging_unique_id images registry patients publishes",
        outcomes=_OK,
    ),
)

add_to(CASES, OPTIONS)
