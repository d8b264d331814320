"""Document Registry: statuses, associations and patients by Update Document Set (M04, M05)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from conformance.bench import Bench
from conformance.case import Actor, Cases
from conformance.cases.patient_feed import UNKNOWN
from conformance.cases.registry_links import memberships, replaced, status
from conformance.cases.registry_update import UPDATE_ERROR, filed
from conformance.changes import Change, links_at, stored_document, stored_folder, update, updated
from conformance.expectation import Same, Success, failure
from conformance.material import related
from conformance.seen import Compared, Seen
from metadata.datatypes import CX, new_uuid_urn
from metadata.identifiers import (
    APND,
    APPROVED,
    DEPRECATED,
    DO_NOT_PROPAGATE,
    HAS_MEMBER,
    RPLC,
)
from transactions.iti_18 import OBJECT_REF
from transactions.stored_query import find_documents

CASES = Cases(Actor.REGISTRY_ADMINISTRATION, "registry patients administration")

STATUSES = "Metadata Update 3.57.4.1.3.3.2, 3.57.4.1.3.3.4, 3.57.4.1.3.3.5"
LINKS = "Metadata Update 3.57.4.1.3.3.6"
PATIENTS = "Metadata Update 3.57.4.1.3.4"
RECONCILIATION = "XDSPatientIDReconciliationError"

Status = Callable[[], str | None]
Target = tuple[str, Status]
"""An entryUUID, and a way to see its availabilityStatus."""


# --- M04 Statuses --------------------------------------------------------------------------------


def _document(bench: Bench, patient: CX) -> Target:
    name = bench.registered_entry(patient).entry_uuid
    return name, lambda: stored_document(bench, name).availability_status


def _folder(bench: Bench, patient: CX) -> Target:
    name = filed(bench, patient)[1].entry_uuid
    return name, lambda: stored_folder(bench, name).availability_status


def _membership(bench: Bench, patient: CX) -> Target:
    document, folder = filed(bench, patient)
    name = memberships(bench, folder)[document.entry_uuid].entry_uuid
    return name, lambda: _link_status(bench, name, folder.entry_uuid)


def _relationship(bench: Bench, patient: CX) -> Target:
    target, addendum = bench.registered_entry(patient), bench.entry(patient)
    link = related(APND, addendum, target)
    bench.registered(bench.submission(patient, addendum, associations=[link]))
    return link.entry_uuid, lambda: _link_status(bench, link.entry_uuid, target.entry_uuid)


def _link_status(bench: Bench, name: str, end: str) -> str | None:
    found = links_at(bench, end, level=2)
    return next((link.availability_status for link in found if link.entry_uuid == name), None)


def _down_and_up(make: Callable[[Bench, CX], Target], bench: Bench) -> Iterator[Seen]:
    patient = bench.patient()
    name, seen = make(bench, patient)
    for original, new in ((APPROVED, DEPRECATED), (DEPRECATED, APPROVED)):
        change = Change(bench, patient)
        change.status(name, original, new)
        yield update(bench, change)
        yield Compared("status", new, seen())


def _original_wrong(make: Callable[[Bench, CX], Target], bench: Bench) -> Iterator[Seen]:
    patient = bench.patient()
    name, seen = make(bench, patient)
    change = Change(bench, patient)
    link = change.restore(name)
    yield update(bench, change).located(link.entry_uuid)
    yield Compared("status", APPROVED, seen())


for _kind, _en, _fr, _make in (
    ("document", "A document", "Un document", _document),
    ("folder", "A folder", "Un classeur", _folder),
    ("membership", "A folder's membership", "Une appartenance à un classeur", _membership),
    ("relationship", "A relationship of documents", "Un lien entre documents", _relationship),
):
    CASES.add(
        f"M04-{_kind}",
        f"{_en} is Deprecated, then Approved again",
        f"{_fr} : statut Deprecated, puis de nouveau Approved",
        spec=STATUSES,
        expected=[Success(), Same("the new status"), Success(), Same("the new status")],
        stimulus=partial(_down_and_up, _make),
    )
    CASES.add(
        f"M04-{_kind}-original",
        f"{_en} whose OriginalStatus is not the one it has",
        f"{_fr} dont l'OriginalStatus n'est pas le sien",
        spec=STATUSES,
        expected=[failure(UPDATE_ERROR, about="the association"), Same("the old status")],
        stimulus=partial(_original_wrong, _make),
    )


@CASES.case(
    "M04-targets",
    "Status of an old version, of a SubmissionSet, of nothing, and twice of one document",
    "Statut d'une ancienne version, d'un lot, de rien, et deux fois d'un document",
    spec=STATUSES,
    expected=[
        failure(UPDATE_ERROR),
        failure(UPDATE_ERROR),
        failure("UnresolvedReferenceException", UPDATE_ERROR),
        failure(UPDATE_ERROR),
    ],
)
def _wrong_targets(bench: Bench) -> Iterator[Seen]:
    patient = bench.patient()
    document = bench.entry(patient)
    first = bench.registered(bench.submission(patient, document))
    change = Change(bench, patient)
    new = change.version(document)
    updated(bench, change)
    for targets in (
        [document.entry_uuid],
        [first.submission_sets[0].entry_uuid],
        [new_uuid_urn()],
        [new.entry_uuid, new.entry_uuid],
    ):
        change = Change(bench, patient)
        for target in targets:
            change.status(target, None if target == document.entry_uuid else APPROVED, DEPRECATED)
        yield update(bench, change)


@CASES.case(
    "M04-submit",
    "SubmitAssociation: a document is filed later, one replaces another later",
    "SubmitAssociation : un document est classé plus tard, un autre remplacé plus tard",
    spec=LINKS,
    expected=[
        Success(),
        Same("members of the folder"),
        Success(),
        Same("both statuses"),
    ],
)
def _submit_associations(bench: Bench) -> Iterator[Seen]:
    patient = bench.patient()
    (first, folder), second = filed(bench, patient), bench.registered_entry(patient)
    change = Change(bench, patient)
    change.submit(HAS_MEMBER, folder.entry_uuid, second.entry_uuid)
    yield update(bench, change)
    members = {first.entry_uuid, second.entry_uuid}
    yield Compared("members", members, set(memberships(bench, folder)))
    change = Change(bench, patient)
    change.submit(RPLC, second.entry_uuid, first.entry_uuid)
    yield update(bench, change)
    seen = (status(bench, first), status(bench, second))
    yield Compared("old, new", ("Deprecated", "Approved"), seen)


@CASES.case(
    "M04-submit-wrong",
    "SubmitAssociation to a Deprecated document, and to one that is not registered",
    "SubmitAssociation vers un document obsolète, puis vers un document inconnu",
    spec=LINKS,
    expected=[
        failure(UPDATE_ERROR, about="the document"),
        failure("UnresolvedReferenceException", UPDATE_ERROR, about="the document"),
    ],
)
def _submit_wrongly(bench: Bench) -> Iterator[Seen]:
    patient = bench.patient()
    document = bench.registered_entry(patient)
    for target in (replaced(bench, patient).entry_uuid, new_uuid_urn()):
        change = Change(bench, patient)
        change.submit(APND, document.entry_uuid, target)
        yield update(bench, change).naming(target)


# --- M05 Patients --------------------------------------------------------------------------------


@CASES.case(
    "M05-document",
    "A document goes to another patient: found there, no longer here",
    "Un document passe à un autre patient : trouvé là, plus ici",
    spec=PATIENTS,
    expected=[Success(), Same("with the new patient alone")],
)
def _move_document(bench: Bench) -> Iterator[Seen]:
    one, other = bench.patients(2)
    document = bench.registered_entry(one)
    change = Change(bench, other)
    new = change.version(document)
    yield update(bench, change)
    seen = [
        {document.entry_uuid, new.entry_uuid} & _documents_of(bench, patient)
        for patient in (one, other)
    ]
    yield Compared("documents of the old and of the new patient", [set(), {new.entry_uuid}], seen)


def _documents_of(bench: Bench, patient: CX) -> set[str]:
    found = bench.objects(find_documents(patient, return_type=OBJECT_REF))
    return set(found.object_refs)


@CASES.case(
    "M05-linked",
    "A document alone out of its folder, the folder alone: the patients would differ",
    "Un document seul hors de son classeur, le classeur seul : les patients différeraient",
    spec=PATIENTS,
    expected=[failure(RECONCILIATION), failure(RECONCILIATION)],
)
def _move_one_end(bench: Bench) -> Iterator[Seen]:
    one, other = bench.patients(2)
    document, folder = filed(bench, one)
    change = Change(bench, other)
    change.version(document)
    yield update(bench, change)
    change = Change(bench, other)
    change.version(folder)
    yield update(bench, change)


@CASES.case(
    "M05-together",
    "A document goes with its folder",
    "Un document part avec son classeur",
    spec=PATIENTS,
    expected=[Success(), Same("members of the folder")],
)
def _move_together(bench: Bench) -> Iterator[Seen]:
    one, other = bench.patients(2)
    document, folder = filed(bench, one)
    change = Change(bench, other)
    new, kept = change.version(document), change.version(folder)
    yield update(bench, change)
    yield Compared("members", {new.entry_uuid}, set(memberships(bench, kept)))


@CASES.case(
    "M05-repaired",
    "Without propagation: the document goes alone, or is linked anew in the request",
    "Sans propagation : le document part seul, ou est relié à nouveau dans la requête",
    spec=PATIENTS,
    expected=[Success(), Success(), Same("members of the folder")],
)
def _move_and_repair(bench: Bench) -> Iterator[Seen]:
    one, other = bench.patients(2)
    document, _ = filed(bench, one)
    change = Change(bench, other)
    change.version(document, propagation=DO_NOT_PROPAGATE)
    yield update(bench, change)
    document, folder = filed(bench, one)
    change = Change(bench, other)
    new = change.version(document, propagation=DO_NOT_PROPAGATE)
    kept = change.version(folder, propagation=DO_NOT_PROPAGATE)
    change.submit(HAS_MEMBER, kept.entry_uuid, new.entry_uuid)
    yield update(bench, change)
    yield Compared("members", {new.entry_uuid}, set(memberships(bench, kept)))


@CASES.case(
    "M05-repaired-wrongly",
    "A document of the new patient linked to the folder of the old one",
    "Un document du nouveau patient relié au classeur de l'ancien",
    spec=PATIENTS,
    expected=[failure(RECONCILIATION, about="the association")],
)
def _repair_wrongly(bench: Bench) -> Iterator[Seen]:
    one, other = bench.patients(2)
    document, folder = filed(bench, one)
    change = Change(bench, other)
    new = change.version(document, propagation=DO_NOT_PROPAGATE)
    link = change.submit(HAS_MEMBER, folder.entry_uuid, new.entry_uuid)
    yield update(bench, change).located(link.entry_uuid)


@CASES.case(
    "M05-unknown",
    "A document goes to a patient never announced",
    "Un document passe à un patient jamais annoncé",
    spec=PATIENTS,
    expected=[failure(UNKNOWN, about="the patient")],
)
def _move_to_nobody(bench: Bench) -> Iterator[Seen]:
    nobody = bench.unknown_patient()
    document = bench.registered_entry(bench.patient())
    change = Change(bench, nobody)
    change.version(document)
    yield update(bench, change).naming(nobody.id)


@CASES.case(
    "M05-set",
    "A SubmissionSet of another patient than the new version's",
    "Un lot d'un autre patient que celui de la nouvelle version",
    spec=PATIENTS,
    expected=[failure(RECONCILIATION)],
)
def _set_of_another(bench: Bench) -> Iterator[Seen]:
    one, other = bench.patients(2)
    change = Change(bench, other)
    change.version(bench.registered_entry(one), patient_id=one)
    yield update(bench, change)
