"""Secure nodes: a record of every transaction (S03), and of none lost in an outage (S04), ITI-20.

The node under test sends its records to the kit (``--audit-listener``). A record is judged by its
form, its event, the two ends, its objects, and by the person behind the call where there is one.
Here are the transactions that every node has, alerts and outages; what is optional is in
``audit_options``. Covers the server's side of what the kit asks; the client's records (but of a
broker that notifies the kit), UDP, and the receiving side of ITI-20 are not judged.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

from conformance import material
from conformance.auditing import AuditRecord, AuditRepository, form_of
from conformance.bench import Bench, must
from conformance.case import Actor, Cases
from conformance.cases.imaging import ask, nobodys
from conformance.cases.query_faults import without
from conformance.cases.repository import prepared
from conformance.cases.secure_nodes import nobody
from conformance.cases.user_assertions import INTERRUPTED
from conformance.expectation import Mismatch, Same, Success
from conformance.seen import Answer, Compared, Seen
from conformance.tokens import USER, unsigned
from metadata.datatypes import new_oid, new_uuid_urn
from security.assertions.issuing import Issuer
from transactions.stored_query import (
    find_documents_by_reference_id,
    get_associations,
    get_documents,
)

CASES = Cases(Actor.AUDIT, "audit_listener")

SPEC = "ITI TF-2 3.20"
QUERY, EXPORT, IMPORT, PATIENT_RECORD, ALERT = "110112", "110106", "110107", "110110", "110113"
TRANSFERRED = "110104"
"""DICOM Instances Transferred, where images are what is handed over (RAD TF-2 4.69.5)."""
NODE_AUTHENTICATION = "110126"
SOURCE, DESTINATION = "110153", "110152"
SUBMISSION_SET = "urn:uuid:a54d6aa5-d40d-43f9-88c5-b4633d873bdd"
LARGE = 64 * 1024
"""Bytes that a record must be able to have."""

FORM, FIELDS, PERSON = "records of the right form", "the fields of the record", "the user's name"
ARRIVED = "every record after the outage"


ANY_KIND = ""
"""Where the standard leaves open, or to each system, how an object's identifier is called."""


class Done(NamedTuple):
    """A transaction: what in its record tells it, and the objects the record names (type, role,
    kind of identifier or ``ANY_KIND``, identifier)."""

    marker: str
    objects: Sequence[tuple[str, str, str, str]]

    def named_in(self, record: AuditRecord) -> bool:
        """Whether the record has all the objects."""
        seen = {*record.objects, *((*one[:2], ANY_KIND, one[3]) for one in record.objects)}
        return set(self.objects) <= seen


def patient_object(patient: str) -> tuple[str, str, str, str]:
    """The object that a patient is."""
    return ("1", "1", "2", patient)


def _document_object(unique_id: str) -> tuple[str, str, str, str]:
    return ("2", "3", "9", unique_id)


def _registered(bench: Bench, known: bool) -> Done:
    patient = bench.patient() if known else bench.unknown_patient()
    submission = bench.submission(patient, bench.entry(patient))
    went(bench.register(submission), known)
    unique_id = str(submission.submission_sets[0].unique_id)
    set_object = ("2", "20", SUBMISSION_SET, unique_id)
    return Done(unique_id, [patient_object(str(patient)), set_object])


def _provided(bench: Bench, known: bool) -> Done:
    if known:
        submission, entry = prepared(bench)
        patient = submission.submission_sets[0].patient_id
    else:
        patient = bench.unknown_patient()
        entry = material.provided(bench.entry(patient))
        submission = bench.submission(patient, entry)
    went(bench.provide(submission, {entry.entry_uuid: material.TEXT}), known)
    unique_id = str(submission.submission_sets[0].unique_id)
    set_object = ("2", "20", SUBMISSION_SET, unique_id)
    return Done(unique_id, [patient_object(str(patient)), set_object])


def _queried(bench: Bench, known: bool) -> Done:
    patient, marker = bench.patient(), bench.session.identifier()
    request = find_documents_by_reference_id(patient, [marker])
    if not known:
        request = without(request, "$XDSDocumentEntryStatus")
    went(bench.query(request), known)
    query = ("2", "24", "ITI-18", request.query_id)
    return Done(marker, [patient_object(str(patient)), query])


def _retrieved(bench: Bench, known: bool) -> Done:
    unique_id = str(bench.provided_entry(bench.patient()).unique_id) if known else new_oid()
    went(bench.retrieve_ids(unique_id), known)
    return Done(unique_id, [_document_object(unique_id)])


def _fetched(bench: Bench, known: bool) -> Done:
    """RAD-69 of an instance that nobody holds."""
    study = nobodys()
    answer = ask(bench, [(study, bench.targets.imaging_unique_id or "")])
    went(answer, known)
    return Done(study.study_instance_uid, [("2", "3", "110180", study.study_instance_uid)])


def _announced(bench: Bench, known: bool) -> Done:
    patient = bench.announced(bench.unknown_patient())
    return Done(patient.id, [patient_object(str(patient))])


def _merged(bench: Bench, known: bool) -> Done:
    """ITI-8, A40; a wrong one merges into a patient who has been merged himself."""
    (survivor, subsumed), marker = bench.patients(2), bench.session.identifier()
    if not known:
        bench.merged(subsumed, survivor)
    ack = bench.feed(bench.merge(survivor.id, subsumed.id, MSH_10=marker))
    if (ack.code == "AA") is not known:
        raise Mismatch("AA" if known else "AE or AR", ack.describe())
    return Done(marker, [])


def went(answer: Answer[Any], well: bool) -> None:
    """The answer that was to be brought about; another one is not judged here."""
    if (answer.status.endswith(":Success") and not answer.errors) is not well:
        raise Mismatch("success" if well else "a failure", answer.describe())


@dataclass(frozen=True, slots=True)
class Audited:
    """A transaction, how it is brought about, and what its records say at the server: one for each
    of ``actions``."""

    number: str
    event: str
    actions: str
    perform: Callable[[Bench, bool], Done]
    needs: str
    asker_is_source: bool = False
    outcomes: Sequence[bool] = (True, False)
    variant: str = ""
    by_user: bool = True
    """Whether there is a person behind the call, where assertions say who asks."""


AUDITED = (
    Audited("ITI-42", IMPORT, "C", _registered, "registry patients", asker_is_source=True),
    Audited("ITI-41", IMPORT, "C", _provided, "repository patients", asker_is_source=True),
    Audited("ITI-18", QUERY, "E", _queried, "registry patients", asker_is_source=True),
    Audited("ITI-43", EXPORT, "R", _retrieved, "repository registry patients"),
    Audited("RAD-69", TRANSFERRED, "R", _fetched, "imaging imaging_unique_id", outcomes=[False]),
    Audited("ITI-8", PATIENT_RECORD, "C", _announced, "mllp", True, [True], by_user=False),
    Audited("ITI-8", PATIENT_RECORD, "DU", _merged, "mllp", True, variant="merge", by_user=False),
)


def _repository(bench: Bench) -> AuditRepository:
    return bench.session.audit_repository()


def _judged(one: Audited, well: bool, bench: Bench) -> Iterator[Seen]:
    repository = _repository(bench)
    done = one.perform(bench, well)
    found = repository.await_records(
        lambda record: record.kind == one.number and record.names(done.marker),
        len(one.actions),
        bench.targets.timeout,
    )
    yield form_of(found)
    ends = sorted([(SOURCE, one.asker_is_source), (DESTINATION, not one.asker_is_source)])
    fields = [((one.event, action, well), ends, True) for action in one.actions]
    seen = sorted((record.event, record.ends, done.named_in(record)) for record in found)
    yield Compared("event, ends, objects", fields, seen)
    named = bench.targets.issuer is None or not one.by_user or _names_user(found)
    yield Compared("the user's name", True, named)


def _names_user(records: Sequence[AuditRecord]) -> bool:
    return all(any(USER.subject in name for name in record.users) for record in records)


def add_to(cases: Cases, rows: Iterable[Audited]) -> None:
    """Make a case of each outcome of each row."""
    for one, well in ((row, outcome) for row in rows for outcome in row.outcomes):
        name = f"{one.number}-{one.variant}" if one.variant else one.number
        en, fr = ("ok", "réussie") if well else ("failed", "en échec")
        cases.add(
            f"S03-{name}-{en}",
            f"A record of {name}, {en}",
            f"Une trace de {name}, {fr}",
            spec=f"{SPEC}; {one.number}, Security Audit Considerations",
            expected=[Same(FORM), Same(FIELDS), Same(PERSON)],
            stimulus=partial(_judged, one, well),
            needs=one.needs,
        )


add_to(CASES, AUDITED)


@CASES.case(
    "S03-ITI-43-partial",
    "A retrieval of which one half failed: a record of each half",
    "Une récupération à moitié en échec : une trace de chaque moitié",
    spec=f"{SPEC}; ITI TF-2 3.43.6",
    needs="repository registry patients",
    expected=[Same(FORM), Same(FIELDS)],
)
def _partial(bench: Bench) -> Iterator[Seen]:
    there, absent = str(bench.provided_entry(bench.patient()).unique_id), new_oid()
    bench.retrieve_ids(there, absent)
    found = _repository(bench).await_records(
        lambda record: record.kind == "ITI-43" and (record.names(there) or record.names(absent)),
        2,
        bench.targets.timeout,
    )
    yield form_of(found)
    wanted = {(absent, False), (there, True)}
    seen = {
        (unique_id, record.event[2])
        for record in found
        for unique_id in (there, absent)
        if _document_object(unique_id) in record.objects
    }
    yield Compared("document, outcome", wanted, seen)


def _alert(bench: Bench, before: int) -> Iterator[Seen]:
    found = _repository(bench).await_records(
        lambda record: record.kind == NODE_AUTHENTICATION, 1, bench.targets.timeout, before
    )
    yield form_of(found)
    seen = {(record.event[0], record.event[2]) for record in found}
    yield Compared("event, outcome", {(ALERT, False)}, seen)


@CASES.case(
    "S03-connection",
    "A record of a client without certificate who was sent away",
    "Une trace d'un client sans certificat, éconduit",
    spec="ITI TF-2 3.19.6, 3.20",
    needs="registry secured",
    expected=[Same(FORM), Same(FIELDS)],
)
def _connection(bench: Bench) -> Iterator[Seen]:
    before = _repository(bench).count()
    bench.connecting_as(nobody()).query(get_associations([new_uuid_urn()]))
    yield from _alert(bench, before)


@CASES.case(
    "S03-assertion",
    "A record of a call with a forged assertion",
    "Une trace d'un appel avec une assertion forgée",
    spec="ITI TF-2 3.40.4.1.3, 3.20",
    needs="registry issuer",
    expected=[Same(FORM), Same(FIELDS)],
)
def _assertion(bench: Bench) -> Iterator[Seen]:
    before, issuer = _repository(bench).count(), bench.targets.issuer
    assert issuer is not None
    bench.asking(lambda: unsigned(issuer)).query(get_associations([new_uuid_urn()]))
    yield from _alert(bench, before)


def _in_full(make: Callable[[Issuer], str], bench: Bench) -> Iterator[Seen]:
    issuer, marker = bench.targets.issuer, new_uuid_urn()
    assert issuer is not None
    answer = bench.asking(partial(make, issuer)).query(get_associations([marker]))
    yield answer
    whole = answer.fault is not None or _named(bench, marker)
    yield Compared("the user's name", True, whole)


def _named(bench: Bench, marker: str) -> bool:
    """Whether the one record that names ``marker`` names the user."""
    found = _repository(bench).await_records(
        lambda record: record.names(marker), 1, bench.targets.timeout
    )
    return bool(found) and _names_user(found)


for _name, (_en, _fr, _make, _expected) in INTERRUPTED.items():
    CASES.add(
        f"S03-{_name}",
        f"{_en}: whoever is admitted is recorded by his whole name",
        f"{_fr} : qui est admis est tracé sous son nom entier",
        spec="ITI TF-2 3.40.4.2, 3.20",
        needs="registry issuer",
        expected=[_expected, Same(PERSON)],
        stimulus=partial(_in_full, _make),
    )


@CASES.case(
    "S03-large",
    "A record of 64 KiB",
    "Une trace de 64 Kio",
    spec="ITI TF-2 3.20.4.1.2",
    needs="registry",
    expected=[Same(FORM), Same(FIELDS)],
)
def _large(bench: Bench) -> Iterator[Seen]:
    marker = new_uuid_urn()
    bench.query(get_documents(entry_uuid=[marker, *(new_uuid_urn() for _ in range(LARGE // 45))]))
    found = _repository(bench).await_records(
        lambda record: record.names(marker), 1, bench.targets.timeout
    )
    yield form_of(found)
    yield Compared("large records", 1, sum(len(record.message) >= LARGE for record in found))


OUTAGE_CALLS = 3


@CASES.case(
    "S04",
    "The repository goes away and comes back: calls go on, and no record is lost",
    "Le dépôt de traces s'absente et revient : les appels continuent, aucune trace n'est perdue",
    spec="ITI TF-2 3.20.4.1",
    needs="registry",
    expected=[*[Success()] * OUTAGE_CALLS, Same(ARRIVED), Same(FORM)],
)
def _outage(bench: Bench) -> Iterator[Seen]:
    repository, before = _repository(bench), new_uuid_urn()
    must(Success(), bench.query(get_associations([before])), "asking before the outage")
    # What was under way when it goes is the network's to lose.
    repository.await_records(lambda record: record.names(before), 1, bench.targets.timeout)
    markers = [new_uuid_urn() for _ in range(OUTAGE_CALLS)]
    with repository.away():
        for marker in markers:
            yield bench.query(get_associations([marker]))
    found = repository.await_records(
        lambda record: any(record.names(one) for one in markers),
        OUTAGE_CALLS,
        bench.targets.timeout,
    )
    named = [one for one in markers if any(record.names(one) for record in found)]
    yield Compared("records of calls", markers, named)
    yield form_of(found)
