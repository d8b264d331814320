"""Document Registry: new versions by Update Document Set, ITI-57 (M01-M03).

Changes of status, submitted associations and patients are in ``registry_status``; at which
$MetadataLevel queries show the outcome is in ``metadata_levels``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import Any

from conformance.bench import Bench
from conformance.case import Actor, Cases
from conformance.cases.registry_links import memberships, registered_folder, replaced
from conformance.changes import (
    Change,
    links_at,
    stored_document,
    stored_folder,
    update,
    updated,
)
from conformance.expectation import Exactly, Refusal, Same, Success, failure
from conformance.material import related
from conformance.seen import Compared, Seen
from metadata.datatypes import CX, LocalizedString, new_oid, new_uuid_urn
from metadata.identifiers import APND, DO_NOT_PROPAGATE, PROPAGATE
from metadata.model import DocumentEntry, Folder
from transactions.stored_query import get_documents

CASES = Cases(Actor.REGISTRY_ADMINISTRATION, "registry patients administration")

VERSIONS = "Metadata Update 3.57.4.1.3.3.1"
FOLDER_VERSIONS = "Metadata Update 3.57.4.1.3.3.3"
OPERATIONS = "Metadata Update 3.57.4.1.3.1, 3.57.4.1.3.2"

UPDATE_ERROR = "XDSMetadataUpdateError"
OPERATION_ERROR = "XDSMetadataUpdateOperationError"
VERSION_ERROR = "XDSMetadataVersionError"

TITLE = LocalizedString("Corrected", "en")
RACERS = 10
"""Updates of one document at the same time: enough to collide on any server."""


def state(obj: DocumentEntry | Folder) -> tuple[str, str | None]:
    """The last word of a status, and the version."""
    return (obj.availability_status or "").rpartition(":")[2], obj.version


def filed(bench: Bench, patient: CX) -> tuple[DocumentEntry, Folder]:
    """A document in a folder, both registered."""
    document = bench.registered_entry(patient)
    return document, registered_folder(bench, patient, document)


# --- M01 New versions ----------------------------------------------------------------------------


@CASES.case(
    "M01-document",
    "A new version of a document: Approved, the old one Deprecated, folder and links follow",
    "Nouvelle version d'un document : approuvée, l'ancienne obsolète, classeur et liens suivent",
    spec=VERSIONS,
    expected=[
        Success(),
        Same("status, version, lid, title of the new version"),
        Same("status and version of the old one"),
        Same("members of the folder"),
        Same("the addendum's target"),
    ],
)
def _document_version(bench: Bench) -> Iterator[Seen]:
    patient = bench.patient()
    old, folder = filed(bench, patient)
    addendum = bench.entry(patient)
    link = related(APND, addendum, old)
    bench.registered(bench.submission(patient, addendum, associations=[link]))
    change = Change(bench, patient)
    new = change.version(old, title=TITLE)
    yield update(bench, change)
    stored = bench.stored_entry(new.entry_uuid)
    seen = (*state(stored), stored.logical_id, stored.title)
    yield Compared("new version", ("Approved", "2", old.entry_uuid, TITLE), seen)
    yield Compared("old", ("Deprecated", "1"), state(stored_document(bench, old.entry_uuid)))
    yield Compared("members", {new.entry_uuid}, set(memberships(bench, folder)))
    links = links_at(bench, addendum.entry_uuid)
    targets = [one.target for one in links if one.association_type == APND]
    yield Compared("APND", [new.entry_uuid], targets)


@CASES.case(
    "M01-folder",
    "A new version of a folder keeps its Approved members, at a new time",
    "Une nouvelle version d'un classeur garde ses membres approuvés, à une nouvelle heure",
    spec=FOLDER_VERSIONS,
    expected=[
        Success(),
        Same("status, version, lid, title of the new version"),
        Same("status and version of the old one"),
        Same("members of the folder"),
        Same("a later time"),
    ],
)
def _folder_version(bench: Bench) -> Iterator[Seen]:
    patient = bench.patient()
    document, folder = filed(bench, patient)
    before = stored_folder(bench, folder.entry_uuid)
    bench.next_second()
    change = Change(bench, patient)
    new = change.version(folder, title=TITLE)
    yield update(bench, change)
    stored = stored_folder(bench, new.entry_uuid)
    seen = (*state(stored), stored.logical_id, stored.title)
    yield Compared("new version", ("Approved", "2", folder.entry_uuid, TITLE), seen)
    yield Compared("old", ("Deprecated", "1"), state(stored_folder(bench, folder.entry_uuid)))
    yield Compared("members", {document.entry_uuid}, set(memberships(bench, new)))
    times = [one.last_update_time for one in (before, stored)]
    later = all(times) and str(times[0]) < str(times[1])
    yield Compared("lastUpdateTime later", True, later)


@CASES.case(
    "M01-together",
    "Document and folder updated together: the new version is a member of the new version",
    "Document et classeur mis à jour ensemble : la nouvelle version est dans la nouvelle",
    spec=VERSIONS,
    expected=[Success(), Same("members of the folder")],
)
def _versions_together(bench: Bench) -> Iterator[Seen]:
    patient = bench.patient()
    document, folder = filed(bench, patient)
    change = Change(bench, patient)
    new, kept = change.version(document), change.version(folder, propagation=PROPAGATE)
    yield update(bench, change)
    yield Compared("members", {new.entry_uuid}, set(memberships(bench, kept)))


@CASES.case(
    "M01-alone",
    "AssociationPropagation no: the new version has no links but its submission's",
    "AssociationPropagation no : la nouvelle version n'a de lien que celui de son lot",
    spec=VERSIONS,
    expected=[Success(), Same("the links of the new version")],
)
def _version_alone(bench: Bench) -> Iterator[Seen]:
    patient = bench.patient()
    document, _ = filed(bench, patient)
    change = Change(bench, patient)
    new = change.version(document, propagation=DO_NOT_PROPAGATE)
    yield update(bench, change)
    sources = [link.source for link in links_at(bench, new.entry_uuid)]
    yield Compared("sources", [change.set.entry_uuid], sources)


@CASES.case(
    "M01-deprecated",
    "A new version of a Deprecated document is Deprecated, and shown",
    "Une nouvelle version d'un document obsolète est obsolète, et visible",
    spec=VERSIONS,
    expected=[Success(), Same("status, version, lid, title of the new version")],
)
def _deprecated_version(bench: Bench) -> Iterator[Seen]:
    patient = bench.patient()
    old = replaced(bench, patient)
    change = Change(bench, patient)
    new = change.version(old, title=TITLE)
    yield update(bench, change)
    stored = bench.stored_entry(new.entry_uuid)
    seen = (*state(stored), stored.logical_id, stored.title)
    yield Compared("new version", ("Deprecated", "2", old.entry_uuid, TITLE), seen)


# --- M02 Conflicts -------------------------------------------------------------------------------


@CASES.case(
    "M02-stale",
    "A version that follows one which is no longer the latest",
    "Une version qui suit une version qui n'est plus la dernière",
    spec="Metadata Update 3.57.4.1.3.3.1.3",
    expected=[failure(VERSION_ERROR, about="the new version")],
)
def _stale_version(bench: Bench) -> Iterator[Seen]:
    patient = bench.patient()
    first = bench.registered_entry(patient)
    changes = [Change(bench, patient) for _ in range(2)]
    versions = [change.version(first) for change in changes]
    updated(bench, changes[0])
    yield update(bench, changes[1]).located(versions[1].entry_uuid)


@CASES.case(
    "M02-race",
    f"{RACERS} updates of one document at the same time: exactly one wins",
    f"{RACERS} mises à jour simultanées d'un document : une seule l'emporte",
    spec="Metadata Update 3.57.4.1.3.3.1.3",
    expected=[Same("one Success"), Same("the others' error")],
)
def _version_race(bench: Bench) -> Iterator[Seen]:
    patient = bench.patient()
    first = bench.registered_entry(patient)
    changes = [Change(bench, patient) for _ in range(RACERS)]
    for change in changes:
        change.version(first)
    with ThreadPoolExecutor(RACERS) as pool:
        answers = list(pool.map(partial(update, bench), changes))
    losers = [answer for answer in answers if not answer.status.endswith(":Success")]
    yield Compared("successes", 1, len(answers) - len(losers))
    reasons = {tuple(error.code for error in answer.errors) for answer in losers}
    yield Compared("reasons", {(VERSION_ERROR,)}, reasons)


# --- M03 Illegal updates -------------------------------------------------------------------------

Spoil = Callable[[Change, DocumentEntry], str]
"""Asks for what is no right update; returns the entryUUID that its error must be located at."""


def _with(**attributes: Any) -> Spoil:
    """A new version with something wrong about it."""
    return lambda change, document: change.version(document, **attributes).entry_uuid


def _first_version(change: Change, document: DocumentEntry) -> str:
    name = new_uuid_urn()
    return change.version(document, entry_uuid=name, logical_id=name).entry_uuid


def _twice(change: Change, document: DocumentEntry) -> str:
    change.version(document)
    return change.version(document).entry_uuid


def _no_member(change: Change, document: DocumentEntry) -> str:
    change.version(document)
    other = change.version(document, unique_id=new_oid())
    change.submission.associations.pop()
    return other.entry_uuid


def _half_wrong(change: Change, document: DocumentEntry) -> str:
    change.version(document)
    return change.deprecate(new_uuid_urn()).entry_uuid


def _no_set(change: Change, document: DocumentEntry) -> str:
    change.version(document)
    change.submission.submission_sets.clear()
    return NOWHERE


def _loose_link(change: Change, document: DocumentEntry) -> str:
    new = change.version(document)
    return change.link(APND, new.entry_uuid, document.entry_uuid).entry_uuid


NOWHERE = ""
"""Of a fault of the whole message."""

ILLEGAL: tuple[tuple[str, str, str, Spoil, Refusal], ...] = (
    (
        "no-lid",
        "A new version without logicalID",
        "Une nouvelle version sans logicalID",
        _with(logical_id=None),
        failure(UPDATE_ERROR),
    ),
    (
        "first-version",
        "A version whose logicalID is its own entryUUID",
        "Une version dont le logicalID est son propre entryUUID",
        _first_version,
        failure(UPDATE_ERROR),
    ),
    (
        "symbolic-lid",
        "A logicalID that is no UUID",
        "Un logicalID qui n'est pas un UUID",
        _with(logical_id="Document01"),
        failure(OPERATION_ERROR, UPDATE_ERROR),
    ),
    (
        "unknown-lid",
        "A logicalID that nothing has",
        "Un logicalID inconnu",
        _with(logical_id=new_uuid_urn()),
        failure(UPDATE_ERROR),
    ),
    (
        "unique-id",
        "A version with another uniqueId",
        "Une version au uniqueId différent",
        _with(unique_id=new_oid()),
        failure(UPDATE_ERROR),
    ),
    (
        "no-previous",
        "A HasMember without PreviousVersion",
        "Un HasMember sans PreviousVersion",
        _with(previous=None),
        failure(OPERATION_ERROR),
    ),
    (
        "propagation",
        "An AssociationPropagation that is neither yes nor no",
        "Un AssociationPropagation autre que yes ou no",
        _with(propagation="maybe"),
        failure(UPDATE_ERROR),
    ),
    (
        "twice",
        "Two new versions of one document in one request",
        "Deux nouvelles versions d'un document dans une requête",
        _twice,
        failure(UPDATE_ERROR),
    ),
    (
        "no-operation",
        "A document that no HasMember of the SubmissionSet leads to",
        "Un document vers lequel ne mène aucun HasMember du lot",
        _no_member,
        failure(OPERATION_ERROR),
    ),
    (
        "loose-link",
        "An association that no SubmitAssociation asks for",
        "Une association qu'aucun SubmitAssociation ne demande",
        _loose_link,
        failure(OPERATION_ERROR),
    ),
    (
        "no-set",
        "A request without SubmissionSet",
        "Une requête sans lot de soumission",
        _no_set,
        failure("XDSRegistryMetadataError", UPDATE_ERROR),
    ),
    (
        "attribute",
        "A version without a required attribute",
        "Une version sans attribut obligatoire",
        _with(class_code=None),
        failure("XDSRegistryMetadataError", names="classCode"),
    ),
    (
        "atomic",
        "A right version beside a status change of what is not registered",
        "Une version juste à côté d'un changement de statut d'un inconnu",
        _half_wrong,
        failure("UnresolvedReferenceException", UPDATE_ERROR),
    ),
)
"""What is no right update, and its error."""


def _illegal(spoil: Spoil, bench: Bench) -> Iterator[Seen]:
    patient = bench.patient()
    document = bench.registered_entry(patient)
    change = Change(bench, patient)
    location = spoil(change, document)
    yield update(bench, change).located(location)
    everything = get_documents(logical_id=[document.entry_uuid], metadata_level=2)
    yield bench.found(everything, document.entry_uuid)


for _variant, _en, _fr, _spoil, _refusal in ILLEGAL:
    _about = "" if _spoil is _no_set else "the object"
    CASES.add(
        f"M03-{_variant}",
        f"{_en}: refused, and nothing changes",
        f"{_fr} : refus, et rien ne change",
        spec=OPERATIONS,
        expected=[replace(_refusal, about=_about), Exactly("the first version alone")],
        stimulus=partial(_illegal, _spoil),
    )


@CASES.case(
    "M03-propagations",
    "Document and folder updated together, one with its links, the other without",
    "Document et classeur mis à jour ensemble, l'un avec ses liens, l'autre sans",
    spec=VERSIONS,
    expected=[failure(UPDATE_ERROR)],
)
def _propagations_differ(bench: Bench) -> Iterator[Seen]:
    patient = bench.patient()
    document, folder = filed(bench, patient)
    change = Change(bench, patient)
    change.version(document, propagation=DO_NOT_PROPAGATE)
    change.version(folder, propagation=PROPAGATE)
    yield update(bench, change)
