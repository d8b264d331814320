"""Document Registry: folders and relationships between documents (G15-G26)."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from functools import partial

from conformance.bench import Bench
from conformance.case import Actor, Cases
from conformance.evidence import now
from conformance.expectation import Same, Success, failure
from conformance.material import has_member, related
from conformance.seen import Compared, Seen
from metadata.datatypes import CX, DTM, new_uuid_urn
from metadata.identifiers import (
    APND,
    HAS_MEMBER,
    RPLC,
    SIGNS,
    XFRM,
)
from metadata.model import Association, DocumentEntry, Folder, Submission
from transactions.stored_query import (
    get_associations,
    get_submission_set_and_contents,
)

CASES = Cases(Actor.REGISTRY_SUBMIT, "registry patients")

FOLDERS = "ITI TF-3 4.2.2.1.5"
EFFECTS = "ITI TF-2 3.42.4.1.3.5"
DEPRECATED_ERROR = "XDSRegistryDeprecatedDocumentError"
UNRESOLVED = "UnresolvedReferenceException"
MISMATCH = "XDSPatientIdDoesNotMatch"

RACERS = 20
CLOCKS = timedelta(minutes=10)
"""How far the clocks of the kit and of the registry may be apart."""


def status(bench: Bench, entry: DocumentEntry) -> str:
    """The last word of a registered document's availabilityStatus."""
    stored = bench.stored_entry(entry.entry_uuid).availability_status or ""
    return stored.rpartition(":")[2]


def replacement(
    bench: Bench, patient: CX, target: DocumentEntry | str, kind: str = RPLC
) -> tuple[Submission, DocumentEntry]:
    """A submission that puts a new document in the place of ``target``."""
    entry = bench.entry(patient)
    associations = [related(kind, entry, target)]
    return bench.submission(patient, entry, associations=associations), entry


def linked(bench: Bench, kind: str, patient: CX, target: DocumentEntry) -> DocumentEntry:
    """A registered document related to ``target``."""
    submission, entry = replacement(bench, patient, target, kind)
    bench.registered(submission)
    return entry


def replaced(bench: Bench, patient: CX) -> DocumentEntry:
    """A registered document that has been deprecated by another."""
    old = bench.registered_entry(patient)
    linked(bench, RPLC, patient, old)
    return old


def registered_folder(bench: Bench, patient: CX, *members: DocumentEntry) -> Folder:
    """A registered folder holding registered documents."""
    folder = bench.folder(patient)
    links = [has_member(folder.entry_uuid, entry.entry_uuid) for entry in members]
    bench.registered(bench.submission(patient, folders=[folder], associations=links))
    return folder


def memberships(bench: Bench, folder: Folder) -> dict[str, Association]:
    """The folder's HasMember associations, by the document they name."""
    found = bench.objects(get_associations([folder.entry_uuid])).associations
    return {
        one.target: one
        for one in found
        if one.association_type == HAS_MEMBER and one.source == folder.entry_uuid
    }


@CASES.case(
    "G15",
    "New or existing folder with new or existing document: four ways",
    "Classeur nouveau ou existant, document nouveau ou existant : quatre façons",
    spec=FOLDERS,
    expected=[Success(), Success(), Success(), Success(), Same("members of both folders")],
)
def _folder_four_ways(bench: Bench) -> Iterator[Seen]:
    patient = bench.patient()
    old_document = bench.registered_entry(patient)
    first, second = bench.folder(patient), bench.folder(patient)
    documents = [bench.entry(patient) for _ in range(2)]

    def put(folder: Folder, entry: DocumentEntry) -> list[Association]:
        return [has_member(folder.entry_uuid, entry.entry_uuid)]

    for submission in (
        bench.submission(
            patient, documents[0], folders=[first], associations=put(first, documents[0])
        ),
        bench.submission(patient, folders=[second], associations=put(second, old_document)),
        bench.submission(patient, documents[1], associations=put(first, documents[1])),
        bench.submission(patient, associations=put(first, old_document)),
    ):
        yield bench.register(submission)
    seen = [set(memberships(bench, folder)) for folder in (first, second)]
    everything = {entry.entry_uuid for entry in (*documents, old_document)}
    yield Compared("members", [everything, {old_document.entry_uuid}], seen)


@CASES.case(
    "G16",
    "Folder.lastUpdateTime is the time of the registration, and of each new member",
    "Folder.lastUpdateTime est l'heure de l'enregistrement, puis de chaque ajout",
    spec="ITI TF-2 3.42.4.1.3.6",
    expected=[Success(), Same("the time of registration"), Success(), Same("a later time")],
)
def _folder_time(bench: Bench) -> Iterator[Seen]:
    patient = bench.patient()
    folder = bench.folder(patient, last_update_time=DTM("20010101000000"))
    submission = bench.submission(patient, folders=[folder])
    yield bench.register(submission)
    first = _last_update_time(bench, submission)
    yield Compared("lastUpdateTime near now", True, abs(first - now()) < CLOCKS)
    entry = bench.entry(patient)
    bench.next_second()
    link = [has_member(folder.entry_uuid, entry.entry_uuid)]
    yield bench.register(bench.submission(patient, entry, associations=link))
    yield Compared("lastUpdateTime later", True, _last_update_time(bench, submission) > first)


def _last_update_time(bench: Bench, submission: Submission) -> datetime:
    unique_id = submission.submission_sets[0].unique_id or ""
    folders = bench.objects(get_submission_set_and_contents(unique_id=unique_id)).folders
    times = [folder.last_update_time for folder in folders if folder.last_update_time]
    return times[0].earliest() if times else DTM("0001").earliest()


@CASES.case(
    "G17",
    "A document of another patient into a folder",
    "Un document d'un autre patient dans un classeur",
    spec="ITI TF-2 3.42.4.1.3.3.2",
    expected=[failure(MISMATCH)],
)
def _folder_other_patient(bench: Bench) -> Iterator[Seen]:
    one, other = bench.patients(2)
    folder = registered_folder(bench, one)
    entry = bench.entry(other)
    link = [has_member(folder.entry_uuid, entry.entry_uuid)]
    yield bench.register(bench.submission(other, entry, associations=link))


@CASES.case(
    "G18",
    "A deprecated document into a folder",
    "Un document obsolète dans un classeur",
    spec="ITI TF-2 3.42.4.1.3.4",
    expected=[failure(DEPRECATED_ERROR, about="the document")],
)
def _folder_deprecated(bench: Bench) -> Iterator[Seen]:
    patient = bench.patient()
    old, folder = replaced(bench, patient), registered_folder(bench, patient)
    link = [has_member(folder.entry_uuid, old.entry_uuid)]
    answer = bench.register(bench.submission(patient, associations=link))
    yield answer.naming(old.entry_uuid)


@CASES.case(
    "G19",
    "Replace: the old document is Deprecated, the new one Approved, the link is there",
    "Remplacement : l'ancien est obsolète, le nouveau approuvé, le lien existe",
    spec=EFFECTS,
    expected=[Success(), Same("both statuses"), Same("the RPLC association")],
)
def _replace(bench: Bench) -> Iterator[Seen]:
    patient = bench.patient()
    old = bench.registered_entry(patient)
    submission, new = replacement(bench, patient, old)
    yield bench.register(submission)
    seen = (status(bench, old), status(bench, new))
    yield Compared("old, new", ("Deprecated", "Approved"), seen)
    found = bench.objects(get_associations([old.entry_uuid])).associations
    links = [(a.source, a.target) for a in found if a.association_type == RPLC]
    yield Compared("RPLC", [(new.entry_uuid, old.entry_uuid)], links)


@CASES.case(
    "G20",
    "Replace: transformations and addenda of the old document are Deprecated too",
    "Remplacement : transformations et addenda de l'ancien deviennent obsolètes",
    spec=EFFECTS,
    expected=[Success(), Same("statuses of the children")],
)
def _replace_children(bench: Bench) -> Iterator[Seen]:
    patient = bench.patient()
    old = bench.registered_entry(patient)
    children = [linked(bench, kind, patient, old) for kind in (XFRM, APND)]
    submission, _ = replacement(bench, patient, old)
    yield bench.register(submission)
    seen = [status(bench, child) for child in children]
    yield Compared("XFRM, APND", ["Deprecated", "Deprecated"], seen)


@CASES.case(
    "G21",
    "Replace: the new document joins the folders of the old one, which stays in them",
    "Remplacement : le nouveau document rejoint les classeurs de l'ancien, qui y reste",
    spec=EFFECTS,
    expected=[Success(), Same("members of the folder"), Same("the membership's own membership")],
)
def _replace_in_folder(bench: Bench) -> Iterator[Seen]:
    patient = bench.patient()
    old = bench.registered_entry(patient)
    folder = registered_folder(bench, patient, old)
    submission, new = replacement(bench, patient, old)
    yield bench.register(submission)
    members = memberships(bench, folder)
    yield Compared("members", {old.entry_uuid, new.entry_uuid}, set(members))
    link = members[new.entry_uuid].entry_uuid
    found = bench.objects(get_associations([link])).associations
    sources = [one.source for one in found if one.target == link]
    yield Compared("SS-HM", [submission.submission_sets[0].entry_uuid], sources)


@CASES.case(
    "G22-deprecated",
    "Replace a document that is Deprecated already",
    "Remplacer un document déjà obsolète",
    spec=EFFECTS,
    expected=[failure(DEPRECATED_ERROR, about="the document")],
)
def _replace_deprecated(bench: Bench) -> Iterator[Seen]:
    patient = bench.patient()
    old = replaced(bench, patient)
    submission, _ = replacement(bench, patient, old)
    yield bench.register(submission).naming(old.entry_uuid)


@CASES.case(
    "G22-unknown",
    "Replace a document the registry does not have",
    "Remplacer un document inconnu du registre",
    spec=EFFECTS,
    expected=[failure(UNRESOLVED, about="the document")],
)
def _replace_unknown(bench: Bench) -> Iterator[Seen]:
    patient, unknown = bench.patient(), new_uuid_urn()
    submission, _ = replacement(bench, patient, unknown)
    yield bench.register(submission).naming(unknown)


@CASES.case(
    "G22-in-message",
    "Replace a document of the same submission",
    "Remplacer un document de la même soumission",
    spec=EFFECTS,
    expected=[failure(UNRESOLVED)],
)
def _replace_in_message(bench: Bench) -> Iterator[Seen]:
    patient = bench.patient()
    old, new = bench.entry(patient), bench.entry(patient)
    links = [related(RPLC, new, old)]
    yield bench.register(bench.submission(patient, old, new, associations=links))


@CASES.case(
    "G23",
    f"{RACERS} replacements of one document at the same time: exactly one wins",
    f"{RACERS} remplacements simultanés d'un document : un seul l'emporte",
    spec=EFFECTS,
    expected=[Same("one Success"), Same("the others' error")],
)
def _replace_race(bench: Bench) -> Iterator[Seen]:
    patient = bench.patient()
    old = bench.registered_entry(patient)
    submissions = [replacement(bench, patient, old)[0] for _ in range(RACERS)]
    with ThreadPoolExecutor(RACERS) as pool:
        answers = list(pool.map(bench.register, submissions))
    losers = [answer for answer in answers if not answer.status.endswith(":Success")]
    yield Compared("successes", 1, len(answers) - len(losers))
    reasons = {tuple(error.code for error in answer.errors) for answer in losers}
    yield Compared("reasons", {(DEPRECATED_ERROR,)}, reasons)


@CASES.case(
    "G24-patients",
    "Replace a document of another patient",
    "Remplacer le document d'un autre patient",
    spec=EFFECTS,
    expected=[failure(MISMATCH)],
)
def _replace_other_patient(bench: Bench) -> Iterator[Seen]:
    one, other = bench.patients(2)
    submission, _ = replacement(bench, other, bench.registered_entry(one))
    yield bench.register(submission)


@CASES.case(
    "G24-merged",
    "Replace a document registered under an id that was merged away since",
    "Remplacer un document enregistré sous un identifiant fusionné depuis",
    spec=EFFECTS,
    needs="feed",
    expected=[Success()],
)
def _replace_merged_patient(bench: Bench) -> Iterator[Seen]:
    survivor, subsumed = bench.patients(2)
    old = bench.registered_entry(subsumed)
    bench.merged(survivor, subsumed)
    submission, _ = replacement(bench, survivor, old)
    yield bench.register(submission)


def _relate(kind: str, bench: Bench) -> Iterator[Seen]:
    patient = bench.patient()
    existing = bench.registered_entry(patient)
    submission, _ = replacement(bench, patient, existing, kind)
    yield bench.register(submission)
    source, target = bench.entry(patient), bench.entry(patient)
    links = [related(kind, source, target)]
    yield bench.register(bench.submission(patient, source, target, associations=links))
    yield Compared("statuses", ["Approved"] * 2, [status(bench, one) for one in (existing, target)])


for _kind in (XFRM, APND, SIGNS):
    _name = _kind.rpartition(":")[2]
    CASES.add(
        f"G25-{_name}",
        f"{_name} with a target in the registry, then in the message: both stay Approved",
        f"{_name} vers une cible du registre, puis du message : elles restent approuvées",
        spec="ITI TF-3 4.2.2.2",
        expected=[Success(), Success(), Same("statuses of the targets")],
        stimulus=partial(_relate, _kind),
    )


@CASES.case(
    "G26",
    "An addendum to a transformation is refused",
    "Un addendum à une transformation est refusé",
    spec="ITI TF-3 4.2.2.2.1",
    expected=[failure("XDSRegistryMetadataError")],
)
def _append_to_transformation(bench: Bench) -> Iterator[Seen]:
    patient = bench.patient()
    transformation = linked(bench, XFRM, patient, bench.registered_entry(patient))
    submission, _ = replacement(bench, patient, transformation, APND)
    yield bench.register(submission)
