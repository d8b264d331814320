"""Document Registry: what queries show at each $MetadataLevel (M06).

Level 1, the default, hides what only Metadata Update knows of: versions that are not the latest,
Deprecated folders and associations, documents that are Offline. Level 2 shows all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

from conformance.bench import Bench
from conformance.case import Actor, Cases
from conformance.cases.every_query import needs
from conformance.changes import Change, updated
from conformance.expectation import Exactly, Same
from conformance.material import has_member, related
from conformance.seen import Compared, Seen
from metadata.datatypes import CX, CXi
from metadata.identifiers import (
    APND,
    APPROVED,
    DEPRECATED,
    DO_NOT_PROPAGATE,
    OFFLINE,
    ORDER_REFERENCE,
)
from transactions import stored_query as ask
from transactions.iti_18 import OBJECT_REF, AdhocQueryRequest
from transactions.stored_query import Level

CASES = Cases(Actor.REGISTRY_QUERY, "registry patients administration")

SPEC = "Metadata Update 3.18.4.1.2.3.5.1"
BOTH = [APPROVED, DEPRECATED]
REFERENCE = CXi(f"LEVEL-1^^^&2.25.7&ISO^{ORDER_REFERENCE}")


@dataclass(frozen=True, slots=True)
class History:
    """Objects with a past, by name, all of one patient and, but for updates, one submission.

    Document V and folder G are first versions, W and H follow them. Folder F holds K; that it
    held L is Deprecated (``FL``), and so is that M was an addendum to K (``MK``).
    """

    patient: CX
    submission_set: str
    names: dict[str, str]

    def __getitem__(self, name: str) -> str:
        return self.names[name]


def history(bench: Bench) -> History:
    """The history of this run; made by the first case that asks."""
    return bench.session.shared("history", lambda: _make(bench))


def _make(bench: Bench) -> History:
    patient = bench.patient()
    documents = {letter: bench.entry(patient) for letter in "VKLM"}
    documents["V"].reference_id_list = [REFERENCE]
    folders = {letter: bench.folder(patient) for letter in "GF"}
    kept, left = (
        has_member(folders["F"].entry_uuid, documents[letter].entry_uuid) for letter in "KL"
    )
    addendum = related(APND, documents["M"], documents["K"])
    submission = bench.submission(
        patient,
        *documents.values(),
        folders=list(folders.values()),
        associations=[kept, left, addendum],
    )
    bench.registered(submission)
    change = Change(bench, patient)
    new = change.version(documents["V"], propagation=DO_NOT_PROPAGATE)
    new_folder = change.version(folders["G"], propagation=DO_NOT_PROPAGATE)
    change.deprecate(left.entry_uuid)
    change.deprecate(addendum.entry_uuid)
    updated(bench, change)
    objects = {**documents, **folders, "W": new, "H": new_folder, "FL": left, "MK": addendum}
    names = {name: obj.entry_uuid for name, obj in objects.items()}
    return History(patient, submission.submission_sets[0].entry_uuid, names)


class Shown(NamedTuple):
    """A question, what of the history it shows at level 1, and what more at level 2."""

    ask: Callable[..., AdhocQueryRequest]
    first: str
    second: str


EACH_QUERY: dict[str, Shown] = {
    "FindDocuments": Shown(
        lambda one, **level: ask.find_documents(one.patient, status=BOTH, **level), "W K L M", "V"
    ),
    "FindDocumentsByReferenceId": Shown(
        lambda one, **level: ask.find_documents_by_reference_id(
            one.patient, [REFERENCE], status=BOTH, **level
        ),
        "W",
        "V",
    ),
    "FindFolders": Shown(
        lambda one, **level: ask.find_folders(one.patient, status=BOTH, **level), "F H", "G"
    ),
    "GetAll": Shown(
        lambda one, **level: ask.get_all(
            one.patient, document_status=BOTH, folder_status=BOTH, **level
        ),
        "W K L M F H",
        "V G FL MK",
    ),
    "GetDocuments": Shown(
        lambda one, **level: ask.get_documents(entry_uuid=[one["V"], one["W"]], **level), "W", "V"
    ),
    "GetFolders": Shown(
        lambda one, **level: ask.get_folders(entry_uuid=[one["G"], one["H"]], **level), "H", "G"
    ),
    "GetAssociations": Shown(
        lambda one, **level: ask.get_associations([one["L"], one["K"]], **level), "", "FL MK"
    ),
    "GetDocumentsAndAssociations": Shown(
        lambda one, **level: ask.get_documents_and_associations(
            entry_uuid=[one["L"], one["K"], one["V"]], **level
        ),
        "L K",
        "V FL MK",
    ),
    "GetSubmissionSetAndContents": Shown(
        lambda one, **level: ask.get_submission_set_and_contents(
            entry_uuid=one.submission_set, **level
        ),
        "K L M F",
        "V G FL",
    ),
    "GetFolderAndContents": Shown(
        lambda one, **level: ask.get_folder_and_contents(entry_uuid=one["F"], **level),
        "F K",
        "L FL",
    ),
    "GetFoldersForDocument": Shown(
        lambda one, **level: ask.get_folders_for_document(entry_uuid=one["L"], **level), "", "F"
    ),
    "GetRelatedDocuments": Shown(
        lambda one, **level: ask.get_related_documents([APND], entry_uuid=one["M"], **level),
        "",
        "M K MK",
    ),
    "FindDocumentsForMultiplePatients": Shown(
        lambda one, **level: ask.find_documents_for_multiple_patients(
            [one.patient], status=BOTH, **level
        ),
        "W K L M",
        "V",
    ),
    "FindFoldersForMultiplePatients": Shown(
        lambda one, **level: ask.find_folders_for_multiple_patients(
            [one.patient], status=BOTH, **level
        ),
        "F H",
        "G",
    ),
}
"""All queries but those for SubmissionSets, which have neither versions nor a status to change."""


def _levels(shown: Shown, bench: Bench) -> Iterator[Seen]:
    one = history(bench)
    first, second = set(shown.first.split()), set(shown.second.split())
    levels: tuple[Level, ...] = ({}, {"metadata_level": 1}, {"metadata_level": 2})
    for level, wanted in zip(levels, (first, first, first | second), strict=True):
        request = shown.ask(one, **level, return_type=OBJECT_REF)
        found = set(bench.objects(request).object_refs)
        seen = {name for name, entry_uuid in one.names.items() if entry_uuid in found}
        yield Compared("shown of the history", wanted, seen)


for _name, _shown in EACH_QUERY.items():
    CASES.add(
        f"M06-{_name}",
        f"{_name}: without $MetadataLevel, at level 1, at level 2",
        f"{_name} : sans $MetadataLevel, au niveau 1, au niveau 2",
        spec=SPEC,
        needs=needs(_name),
        expected=[Same("the latest alone"), Same("the latest alone"), Same("everything")],
        stimulus=partial(_levels, _shown),
    )


@CASES.case(
    "M06-logical-id",
    "GetDocuments and GetFolders by logicalID: every version",
    "GetDocuments et GetFolders par logicalID : toutes les versions",
    spec="Metadata Update 3.18.4.1.2.3.7.5, 3.18.4.1.2.3.7.6",
    expected=[Exactly(), Exactly()],
)
def _logical_ids(bench: Bench) -> Iterator[Seen]:
    one = history(bench)
    for get, old, new in ((ask.get_documents, "V", "W"), (ask.get_folders, "G", "H")):
        yield bench.found(get(logical_id=[one[old]], metadata_level=2), one[old], one[new])


@CASES.case(
    "M06-status",
    "GetAssociations by $XDSAssociationStatus: the Deprecated ones alone",
    "GetAssociations par $XDSAssociationStatus : seulement les obsolètes",
    spec=SPEC,
    expected=[Exactly()],
)
def _association_status(bench: Bench) -> Iterator[Seen]:
    one = history(bench)
    request = ask.get_associations(
        [one["L"], one["K"]], association_status=[DEPRECATED], metadata_level=2
    )
    yield bench.found(request, one["FL"], one["MK"])


@CASES.case(
    "M06-offline",
    "A document that is Offline: hidden at level 1, found by its availability at level 2",
    "Un document hors ligne : caché au niveau 1, trouvé par sa disponibilité au niveau 2",
    spec=SPEC,
    expected=[Exactly("nothing"), Exactly(), Exactly("nothing")],
)
def _offline(bench: Bench) -> Iterator[Seen]:
    patient = bench.patient()
    document = bench.registered_entry(patient, document_availability=OFFLINE)
    name = document.entry_uuid
    yield bench.found(ask.get_documents(entry_uuid=[name]))
    yield bench.found(ask.get_documents(entry_uuid=[name], metadata_level=2), name)
    request = ask.find_documents(
        patient, document_availability=[OFFLINE], metadata_level=1, return_type=OBJECT_REF
    )
    yield bench.found(request)
