"""Document Registry: every rule about updates and removals, each broken by one request (C)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from conformance.bench import Bench
from conformance.case import Actor
from conformance.cases.registry_links import memberships, registered_folder, replaced
from conformance.cases.registry_remove import ids_of, whole
from conformance.cases.registry_update import filed
from conformance.changes import Change, remove, restricted_update, update, updated
from conformance.rules import RuleCases
from conformance.seen import Answer
from metadata import catalogue as rules
from metadata.catalogue import Rule
from metadata.datatypes import OID, new_oid, new_uuid_urn
from metadata.identifiers import (
    APND,
    APPROVED,
    DO_NOT_PROPAGATE,
    ON_DEMAND,
    REFERENCE,
)
from transactions.registry_response import RegistryResponse

CASES = RuleCases(Actor.REGISTRY_ADMINISTRATION, "ITI-57", "registry patients administration")

Make = Callable[[Bench], tuple[Change, str]]
"""Makes a wrong update, and says which entryUUID the error must be located at."""


def _version(bench: Bench, **attributes: object) -> tuple[Change, str]:
    patient = bench.patient()
    change = Change(bench, patient)
    new = change.version(bench.registered_entry(patient), **attributes)  # type: ignore[arg-type]
    return change, new.entry_uuid


def _no_member(bench: Bench) -> tuple[Change, str]:
    change, name = _version(bench)
    change.submission.associations.clear()
    return change, name


def _member_status(bench: Bench) -> tuple[Change, str]:
    change, _ = _version(bench, member_status=REFERENCE)
    return change, change.submission.associations[0].entry_uuid


def _propagation_differs(bench: Bench) -> tuple[Change, str]:
    patient = bench.patient()
    document, folder = filed(bench, patient)
    change = Change(bench, patient)
    change.version(document, propagation=DO_NOT_PROPAGATE)
    return change, change.version(folder).entry_uuid


def _twice(bench: Bench) -> tuple[Change, str]:
    patient = bench.patient()
    change = Change(bench, patient)
    document = bench.registered_entry(patient)
    change.version(document)
    return change, change.version(document).entry_uuid


def _deprecated_folder(bench: Bench) -> tuple[Change, str]:
    patient = bench.patient()
    folder = registered_folder(bench, patient)
    change = Change(bench, patient)
    change.deprecate(folder.entry_uuid)
    updated(bench, change)
    change = Change(bench, patient)
    return change, change.version(folder).entry_uuid


def _status(original: str | None, new: str | None, bench: Bench) -> tuple[Change, str]:
    patient = bench.patient()
    change = Change(bench, patient)
    link = change.status(bench.registered_entry(patient).entry_uuid, original, new)
    return change, link.entry_uuid


def _status_of_set(bench: Bench) -> tuple[Change, str]:
    patient = bench.patient()
    first = bench.registered(bench.submission(patient, bench.entry(patient)))
    change = Change(bench, patient)
    return change, change.deprecate(first.submission_sets[0].entry_uuid).entry_uuid


def _original_status(bench: Bench) -> tuple[Change, str]:
    patient = bench.patient()
    change = Change(bench, patient)
    return change, change.restore(bench.registered_entry(patient).entry_uuid).entry_uuid


def _link_end(bench: Bench) -> tuple[Change, str]:
    patient = bench.patient()
    source, target = bench.registered_entry(patient), replaced(bench, patient)
    change = Change(bench, patient)
    return change, change.submit(APND, source.entry_uuid, target.entry_uuid).entry_uuid


def _patients_linked(bench: Bench) -> tuple[Change, str]:
    one, other = bench.patients(2)
    document, folder = filed(bench, one)
    membership = memberships(bench, folder)[document.entry_uuid]
    change = Change(bench, other)
    change.version(document)
    return change, membership.entry_uuid


UPDATES: tuple[tuple[Rule, str, str, Make], ...] = (
    (
        rules.INITIAL_VERSION,
        "A first version, which ITI-42 registers",
        "Une première version, qu'ITI-42 enregistre",
        partial(_version, logical_id=None),
    ),
    (
        rules.OPERATION,
        "A new version that no HasMember leads to",
        "Une nouvelle version vers laquelle ne mène aucun HasMember",
        _no_member,
    ),
    (
        rules.PREVIOUS_VERSION_MISSING,
        "A new version without PreviousVersion",
        "Une nouvelle version sans PreviousVersion",
        partial(_version, previous=None),
    ),
    (
        rules.PREVIOUS_VERSION,
        "A new version that does not follow the latest",
        "Une nouvelle version qui ne suit pas la dernière",
        partial(_version, previous="7"),
    ),
    (
        rules.PROPAGATION_VALUE,
        "An AssociationPropagation that is neither yes nor no",
        "Un AssociationPropagation autre que yes ou no",
        partial(_version, propagation="maybe"),
    ),
    (
        rules.MEMBER_STATUS,
        "A new version as a member by reference",
        "Une nouvelle version comme membre par référence",
        _member_status,
    ),
    (
        rules.PROPAGATION_DIFFERS,
        "A document without its links beside its folder with them",
        "Un document sans ses liens, à côté de son classeur avec les siens",
        _propagation_differs,
    ),
    (
        rules.UPDATED_TWICE,
        "Two new versions of one document",
        "Deux nouvelles versions d'un document",
        _twice,
    ),
    (
        rules.LOGICAL_ID_UNKNOWN,
        "A new version of a document that is not registered",
        "Une nouvelle version d'un document qui n'est pas enregistré",
        lambda bench: _version(bench, logical_id=new_uuid_urn()),
    ),
    (
        rules.UNIQUE_ID_CHANGED,
        "A new version under another uniqueId",
        "Une nouvelle version sous un autre uniqueId",
        lambda bench: _version(bench, unique_id=new_oid()),
    ),
    (
        rules.OBJECT_TYPE_CHANGED,
        "A new version of another objectType",
        "Une nouvelle version d'un autre objectType",
        partial(_version, object_type=ON_DEMAND),
    ),
    (
        rules.DEPRECATED_FOLDER_UPDATED,
        "A new version of a Deprecated folder",
        "Une nouvelle version d'un classeur obsolète",
        _deprecated_folder,
    ),
    (
        rules.STATUS_VALUE,
        "A NewStatus that is none",
        "Un NewStatus qui n'en est pas un",
        partial(_status, APPROVED, "urn:kit:status:Bogus"),
    ),
    (
        rules.STATUS_TARGET,
        "A change of a SubmissionSet's status",
        "Un changement de statut d'un lot de soumission",
        _status_of_set,
    ),
    (
        rules.ORIGINAL_STATUS,
        "An OriginalStatus that is not the present one",
        "Un OriginalStatus qui n'est pas l'actuel",
        _original_status,
    ),
    (
        rules.LINK_END_DEPRECATED,
        "A new association to a Deprecated document",
        "Une nouvelle association vers un document obsolète",
        _link_end,
    ),
    (
        rules.PATIENTS_LINKED,
        "A document to another patient, its folder left behind",
        "Un document vers un autre patient, son classeur restant",
        _patients_linked,
    ),
)
"""Rules of Metadata Update."""


def _updating(make: Make, bench: Bench) -> Answer[RegistryResponse]:
    change, location = make(bench)
    return update(bench, change).located(location)


for _rule, _en, _fr, _make in UPDATES:
    CASES.breaking(_rule, _en, _fr, partial(_updating, _make))


# --- Restricted updates --------------------------------------------------------------------------


def _frozen(bench: Bench) -> Answer[RegistryResponse]:
    change, _ = _version(bench, repository_unique_id=OID("2.25.404"))
    return restricted_update(bench, change).naming("repositoryUniqueId")


def _patient_changed(bench: Bench) -> Answer[RegistryResponse]:
    one, other = bench.patients(2)
    change = Change(bench, other)
    change.version(bench.registered_entry(one))
    return restricted_update(bench, change).naming(other.id)


CASES.breaking(
    rules.ATTRIBUTE_FROZEN,
    "Another repositoryUniqueId by a restricted update",
    "Un autre repositoryUniqueId par une mise à jour restreinte",
    _frozen,
    transaction="ITI-92",
)
CASES.breaking(
    rules.PATIENT_CHANGED,
    "Another patient by a restricted update",
    "Un autre patient par une mise à jour restreinte",
    _patient_changed,
    transaction="ITI-92",
)


# --- Removals ------------------------------------------------------------------------------------


def _unknown(bench: Bench) -> Answer[RegistryResponse]:
    unknown = new_uuid_urn()
    return remove(bench, unknown).naming(unknown)


def _referenced(bench: Bench) -> Answer[RegistryResponse]:
    document = whole(bench).documents[0].entry_uuid
    return remove(bench, document).naming(document)


def _orphan(bench: Bench) -> Answer[RegistryResponse]:
    submission = whole(bench)
    document = submission.documents[0].entry_uuid
    others = [one for one in ids_of(submission) if one != document]
    return remove(bench, *others).naming(document)


for _rule, _en, _fr, _breach in (
    (
        rules.REMOVED_UNKNOWN,
        "A removal of what is not registered",
        "La suppression de ce qui n'est pas enregistré",
        _unknown,
    ),
    (
        rules.REFERENCE_EXISTS,
        "A removal of what associations still name",
        "La suppression de ce que des associations nomment encore",
        _referenced,
    ),
    (
        rules.LEFT_UNREFERENCED,
        "A removal of all that holds a document, but not of the document",
        "La suppression de tout ce qui contient un document, sauf lui",
        _orphan,
    ),
):
    CASES.breaking(_rule, _en, _fr, _breach, transaction="ITI-62")
