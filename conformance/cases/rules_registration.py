"""Document Registry: every rule about what a registration links and names, each broken once (C).

Structure of the message, patients, uniqueness, and what the registry holds already.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from conformance.bench import Bench
from conformance.case import Actor
from conformance.cases import on_demand
from conformance.cases.registry_links import linked, registered_folder, replaced, replacement
from conformance.changes import Change, updated
from conformance.material import has_member, related
from conformance.rules import RuleCases
from conformance.seen import Answer
from metadata import catalogue as rules
from metadata.catalogue import Rule
from metadata.datatypes import CX, new_uuid_urn
from metadata.identifiers import APND, HAS_MEMBER, IS_SNAPSHOT_OF, RPLC, XFRM
from metadata.model import Association, Submission
from transactions.registry_response import RegistryResponse

CASES = RuleCases(Actor.REGISTRY_SUBMIT, "ITI-42", "registry patients")

Make = Callable[[Bench, CX], tuple[Submission, str]]
"""Makes a wrong registration of a patient, and says what the error must name."""


def _two_sets(bench: Bench, patient: CX) -> tuple[Submission, str]:
    submission = bench.submission(patient, bench.entry(patient))
    other = bench.submission(patient, bench.entry(patient))
    submission.submission_sets += other.submission_sets
    return submission, other.submission_sets[0].entry_uuid


def _empty(bench: Bench, patient: CX) -> tuple[Submission, str]:
    submission = bench.submission(patient)
    return submission, submission.submission_sets[0].entry_uuid


def _not_in_set(bench: Bench, patient: CX) -> tuple[Submission, str]:
    first, second = bench.entry(patient), bench.entry(patient)
    submission = bench.submission(patient, first, second)
    submission.associations.pop()
    return submission, second.entry_uuid


def _no_status(bench: Bench, patient: CX) -> tuple[Submission, str]:
    submission = bench.submission(patient, bench.entry(patient))
    submission.associations[0].submission_set_status = None
    return submission, submission.associations[0].entry_uuid


def _linked(
    kind: str, source: str, target: str, bench: Bench, patient: CX
) -> tuple[Submission, str]:
    """An association; ``document``, ``folder`` and ``set`` stand for those of the message."""
    entry, folder = bench.entry(patient), bench.folder(patient)
    submission = bench.submission(patient, entry, folders=[folder])
    names = {
        "document": entry.entry_uuid,
        "folder": folder.entry_uuid,
        "set": submission.submission_sets[0].entry_uuid,
    }
    link = Association(
        entry_uuid=new_uuid_urn(),
        association_type=kind,
        source=names.get(source, source),
        target=names.get(target, target),
    )
    submission.associations.append(link)
    return submission, link.entry_uuid


def _documented(bench: Bench, patient: CX) -> tuple[Submission, str]:
    submission = bench.submission(patient, bench.entry(patient))
    link = submission.associations[0]
    link.documentation = bench.targets.codes("documentation")[0]
    return submission, link.entry_uuid


def _old_source(bench: Bench, patient: CX) -> tuple[Submission, str]:
    old, new = bench.registered_entry(patient), bench.entry(patient)
    link = related(APND, old, new)
    return bench.submission(patient, new, associations=[link]), old.entry_uuid


def _new_target(bench: Bench, patient: CX) -> tuple[Submission, str]:
    old, new = bench.entry(patient), bench.entry(patient)
    link = related(RPLC, new, old)
    return bench.submission(patient, old, new, associations=[link]), old.entry_uuid


def _lonely_membership(bench: Bench, patient: CX) -> tuple[Submission, str]:
    entry, folder = bench.entry(patient), bench.folder(patient)
    link = has_member(folder.entry_uuid, entry.entry_uuid)
    submission = bench.submission(patient, entry, folders=[folder], associations=[link])
    submission.associations.pop()
    return submission, link.entry_uuid


def _to_transformation(bench: Bench, patient: CX) -> tuple[Submission, str]:
    transformation = linked(bench, XFRM, patient, bench.registered_entry(patient))
    submission, _ = replacement(bench, patient, transformation, APND)
    return submission, transformation.entry_uuid


def _same_unique_id(bench: Bench, patient: CX) -> tuple[Submission, str]:
    first, second = bench.entry(patient), bench.entry(patient)
    second.unique_id = first.unique_id
    return bench.submission(patient, first, second), first.unique_id or ""


def _same_id(bench: Bench, patient: CX) -> tuple[Submission, str]:
    first, second = bench.entry(patient), bench.entry(patient)
    second.entry_uuid = first.entry_uuid
    return bench.submission(patient, first, second), first.entry_uuid


STRUCTURE: tuple[tuple[Rule, str, str, Make], ...] = (
    (rules.ID_REPEATED, "Two documents with one id", "Deux documents au même id", _same_id),
    (rules.SUBMISSION_SET_COUNT, "Two SubmissionSets", "Deux lots de soumission", _two_sets),
    (
        rules.SUBMISSION_EMPTY,
        "A SubmissionSet of nothing",
        "Un lot de soumission vide",
        _empty,
    ),
    (
        rules.NOT_IN_SUBMISSION_SET,
        "A document that no HasMember holds",
        "Un document qu'aucun HasMember ne contient",
        _not_in_set,
    ),
    (
        rules.SUBMISSION_SET_STATUS,
        "A HasMember without SubmissionSetStatus",
        "Un HasMember sans SubmissionSetStatus",
        _no_status,
    ),
    (
        rules.ASSOCIATION_TYPE,
        "An association of an unknown type",
        "Une association de type inconnu",
        partial(_linked, "urn:kit:association", "document", "folder"),
    ),
    (
        rules.ASSOCIATION_TO_ITSELF,
        "A document appended to itself",
        "Un document ajouté à lui-même",
        partial(_linked, APND, "document", "document"),
    ),
    (
        rules.ASSOCIATION_ENDS,
        "A document with a folder as its member",
        "Un document dont un classeur est membre",
        partial(_linked, HAS_MEMBER, "document", "folder"),
    ),
    (
        rules.DOCUMENTATION_NOT_ALLOWED,
        "A HasMember with a documentation code",
        "Un HasMember doté d'un code de documentation",
        _documented,
    ),
    (
        rules.UNRESOLVED_SYMBOL,
        "An association to a symbolic id that nothing has",
        "Une association vers un identifiant symbolique inconnu",
        partial(_linked, APND, "document", "Nothing01"),
    ),
    (
        rules.RELATIONSHIP_SOURCE,
        "A registered document appended to a new one",
        "Un document enregistré ajouté à un nouveau",
        _old_source,
    ),
    (
        rules.RELATIONSHIP_TARGET_NEW,
        "A replacement of a document of the same message",
        "Le remplacement d'un document du même message",
        _new_target,
    ),
    (
        rules.MEMBERSHIP_NOT_IN_SUBMISSION_SET,
        "A folder's membership that is no member of the submission",
        "Une appartenance à un classeur hors du lot de soumission",
        _lonely_membership,
    ),
    (
        rules.APPEND_TO_TRANSFORMATION,
        "An addendum to a transformation",
        "Un addendum à une transformation",
        _to_transformation,
    ),
    (
        rules.UNIQUE_ID_REPEATED,
        "Two documents with one uniqueId",
        "Deux documents au même uniqueId",
        _same_unique_id,
    ),
)
"""Rules that the message alone breaks, or nearly."""


# --- Patients ------------------------------------------------------------------------------------


def _patient_differs(bench: Bench, patient: CX) -> tuple[Submission, str]:
    other = bench.unknown_patient()
    return bench.submission(patient, bench.entry(other)), other.id


def _foreign_patient(bench: Bench, patient: CX) -> tuple[Submission, str]:
    foreign = CX.of(patient.id, "2.25.7")
    return bench.submission(foreign, bench.entry(foreign)), "2.25.7"


def _unknown_patient(bench: Bench, patient: CX) -> tuple[Submission, str]:
    nobody = bench.unknown_patient()
    return bench.submission(nobody, bench.entry(nobody)), nobody.id


def _merged_patient(bench: Bench, patient: CX) -> tuple[Submission, str]:
    gone = bench.patient()
    bench.merged(patient, gone)
    return bench.submission(gone, bench.entry(gone)), gone.id


def _related_patient(bench: Bench, patient: CX) -> tuple[Submission, str]:
    one, other = bench.patients(2)
    submission, _ = replacement(bench, other, bench.registered_entry(one), APND)
    return submission, submission.associations[-1].entry_uuid


def _folder_patient(bench: Bench, patient: CX) -> tuple[Submission, str]:
    one, other = bench.patients(2)
    folder, entry = registered_folder(bench, one), bench.entry(other)
    link = has_member(folder.entry_uuid, entry.entry_uuid)
    return bench.submission(other, entry, associations=[link]), folder.entry_uuid


# --- What is registered already ------------------------------------------------------------------


def _registered_uuid(bench: Bench, patient: CX) -> tuple[Submission, str]:
    name = bench.registered_entry(patient).entry_uuid
    return bench.submission(patient, bench.entry(patient, entry_uuid=name)), name


def _registered_unique_id(bench: Bench, patient: CX) -> tuple[Submission, str]:
    used = bench.registered_entry(patient).unique_id or ""
    return bench.submission(patient, bench.entry(patient), unique_id=used), used


def _other_content(changes: dict[str, Any], bench: Bench, patient: CX) -> tuple[Submission, str]:
    used = bench.registered_entry(patient).unique_id or ""
    return bench.submission(patient, bench.entry(patient, unique_id=used, **changes)), used


def _unregistered(bench: Bench, patient: CX) -> tuple[Submission, str]:
    unknown = new_uuid_urn()
    return replacement(bench, patient, unknown)[0], unknown


def _deprecated(bench: Bench, patient: CX) -> tuple[Submission, str]:
    old = replaced(bench, patient)
    return replacement(bench, patient, old)[0], old.entry_uuid


def _deprecated_folder(bench: Bench, patient: CX) -> tuple[Submission, str]:
    folder, entry = registered_folder(bench, patient), bench.entry(patient)
    change = Change(bench, patient)
    change.deprecate(folder.entry_uuid)
    updated(bench, change)
    link = has_member(folder.entry_uuid, entry.entry_uuid)
    return bench.submission(patient, entry, associations=[link]), folder.entry_uuid


def _foreign_set(bench: Bench, patient: CX) -> tuple[Submission, str]:
    old = bench.registered(bench.submission(patient, bench.entry(patient)))
    name = old.submission_sets[0].entry_uuid
    return _linked(HAS_MEMBER, name, "document", bench, patient)[0], name


def _snapshot_of_stable(bench: Bench, patient: CX) -> tuple[Submission, str]:
    stable = bench.registered_entry(patient)
    return replacement(bench, patient, stable, IS_SNAPSHOT_OF)[0], stable.entry_uuid


REGISTERED: tuple[tuple[Rule, str, str, Make, str], ...] = (
    (
        rules.PATIENT_DIFFERS,
        "A document of another patient than its SubmissionSet's",
        "Un document d'un autre patient que son lot",
        _patient_differs,
        "",
    ),
    (
        rules.PATIENT_AUTHORITY,
        "A patient of another assigning authority",
        "Un patient d'une autre autorité d'affectation",
        _foreign_patient,
        "",
    ),
    (
        rules.UNKNOWN_PATIENT,
        "A patient that no feed has announced",
        "Un patient qu'aucun flux n'a annoncé",
        _unknown_patient,
        "",
    ),
    (
        rules.MERGED_PATIENT,
        "A patient that was merged into another",
        "Un patient fusionné dans un autre",
        _merged_patient,
        "mllp",
    ),
    (
        rules.RELATED_PATIENT_DIFFERS,
        "An addendum to a document of another patient",
        "Un addendum au document d'un autre patient",
        _related_patient,
        "",
    ),
    (
        rules.FOLDER_PATIENT_DIFFERS,
        "A document into the folder of another patient",
        "Un document dans le classeur d'un autre patient",
        _folder_patient,
        "",
    ),
    (
        rules.ENTRY_UUID_REGISTERED,
        "An entryUUID that is registered already",
        "Un entryUUID déjà enregistré",
        _registered_uuid,
        "",
    ),
    (
        rules.DUPLICATE_UNIQUE_ID,
        "A SubmissionSet under the uniqueId of a document",
        "Un lot sous le uniqueId d'un document",
        _registered_unique_id,
        "",
    ),
    (
        rules.HASH_DIFFERS,
        "A registered document with another hash",
        "Un document enregistré à l'empreinte différente",
        partial(_other_content, {"hash": "0" * 40}),
        "",
    ),
    (
        rules.SIZE_DIFFERS,
        "A registered document with another size",
        "Un document enregistré à la taille différente",
        partial(_other_content, {"size": "1"}),
        "",
    ),
    (
        rules.UNRESOLVED_REFERENCE,
        "A replacement of a document that is not registered",
        "Le remplacement d'un document qui n'est pas enregistré",
        _unregistered,
        "",
    ),
    (
        rules.DEPRECATED_DOCUMENT,
        "A replacement of a Deprecated document",
        "Le remplacement d'un document obsolète",
        _deprecated,
        "",
    ),
    (
        rules.DEPRECATED_FOLDER,
        "A document into a Deprecated folder",
        "Un document dans un classeur obsolète",
        _deprecated_folder,
        "administration",
    ),
    (
        rules.FOREIGN_SUBMISSION_SET,
        "A member more for a SubmissionSet of before",
        "Un membre de plus pour un lot déjà enregistré",
        _foreign_set,
        "",
    ),
    (
        rules.SNAPSHOT_TARGET,
        "A snapshot of a Stable document",
        "Un instantané d'un document Stable",
        _snapshot_of_stable,
        "",
    ),
)
"""Rules that a message breaks because of what the registry knows, and what that takes."""


def _wrong(make: Make, bench: Bench) -> Answer[RegistryResponse]:
    submission, named = make(bench, bench.patient())
    return bench.register(submission).naming(named)


for _rule, _en, _fr, _make in STRUCTURE:
    CASES.breaking(_rule, _en, _fr, partial(_wrong, _make))

for _rule, _en, _fr, _make, _needs in REGISTERED:
    CASES.breaking(_rule, _en, _fr, partial(_wrong, _make), needs=_needs)


# --- On-Demand -----------------------------------------------------------------------------------


def _no_entry(bench: Bench) -> Answer[RegistryResponse]:
    patient = bench.patient()
    return on_demand.register(bench, bench.submission(patient, folders=[bench.folder(patient)]))


def _id_of_stable(bench: Bench) -> Answer[RegistryResponse]:
    patient = bench.patient()
    used = bench.registered_entry(patient).unique_id or ""
    entry = on_demand.entry_of(bench, patient, unique_id=used)
    return on_demand.register(bench, bench.submission(patient, entry)).naming(used)


CASES.breaking(
    rules.NO_ON_DEMAND_ENTRY,
    "ITI-61 with a folder alone",
    "ITI-61 avec un seul classeur",
    _no_entry,
    needs="on_demand",
)
CASES.breaking(
    rules.UNIQUE_ID_OF_OTHER_TYPE,
    "An On-Demand entry under the uniqueId of a Stable one",
    "Une fiche On-Demand sous le uniqueId d'une fiche Stable",
    _id_of_stable,
    needs="on_demand",
    also="XDSDuplicateUniqueIdInRegistry",
)
