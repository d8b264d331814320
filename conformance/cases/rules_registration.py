"""Document Registry: every rule about patients and what is registered, each broken once (C)."""

from __future__ import annotations

from functools import partial
from typing import Any

from conformance.bench import Bench
from conformance.case import Actor
from conformance.cases import on_demand
from conformance.cases.registry_links import registered_folder, replaced, replacement
from conformance.cases.rules_structure import Make, joining, wrong
from conformance.changes import Change, updated
from conformance.material import has_member
from conformance.rules import RuleCases
from conformance.seen import Answer
from metadata import catalogue as rules
from metadata.catalogue import Rule
from metadata.datatypes import CX, new_uuid_urn
from metadata.identifiers import APND, HAS_MEMBER, IS_SNAPSHOT_OF
from metadata.model import Submission
from transactions.registry_response import RegistryResponse

CASES = RuleCases(Actor.REGISTRY_SUBMIT, "ITI-42", "registry patients")


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
    return joining(HAS_MEMBER, name, "document", bench, patient)[0], name


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
        "feed",
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


for _rule, _en, _fr, _make, _needs in REGISTERED:
    CASES.breaking(_rule, _en, _fr, partial(wrong, _make), needs=_needs)


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
    about="",
)
CASES.breaking(
    rules.UNIQUE_ID_OF_OTHER_TYPE,
    "An On-Demand entry under the uniqueId of a Stable one",
    "Une fiche On-Demand sous le uniqueId d'une fiche Stable",
    _id_of_stable,
    needs="on_demand",
    also="XDSDuplicateUniqueIdInRegistry",
)
