"""On-Demand documents: their entries in a registry (G30, G31, Q13), their assembly (R23-R25).

The registry's part is ITI-61 and the queries that show On-Demand entries. The repository's part
needs to know which documents it assembles: the kit registers entries of a typeCode that it serves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

from conformance.bench import Bench, must
from conformance.case import Actor, Cases
from conformance.cases.every_query import needs
from conformance.cases.repository import contents, sha1
from conformance.expectation import Exactly, Refusal, Same, Success, failure
from conformance.material import has_member, related
from conformance.seen import Answer, Compared, Seen
from conformance.targets import NotRun
from conformance.text import Text
from metadata.datatypes import CX, DTM, OID, CXi, LocalizedString
from metadata.identifiers import (
    EMPTY_SHA1,
    IS_SNAPSHOT_OF,
    ON_DEMAND,
    ORDER_REFERENCE,
    STABLE,
)
from metadata.model import Code, DocumentEntry, Submission
from transactions import stored_query as ask
from transactions.iti_18 import AdhocQueryRequest
from transactions.iti_42 import SubmitObjectsRequest
from transactions.iti_43 import DocumentRequest, RetrieveDocumentSetResponse
from transactions.iti_61 import ITI_61
from transactions.registry_response import RegistryResponse

ENTRIES = Cases(Actor.REGISTRY_SUBMIT, "registry patients on_demand")
QUERIES = Cases(Actor.REGISTRY_QUERY, "registry patients on_demand")
ASSEMBLY = Cases(Actor.REPOSITORY, "registry repository patients on_demand_type")

METADATA_ERROR = "XDSRegistryMetadataError"
REGISTER = "ITI TF-2 3.61.4.1"
ASSEMBLED_TYPE = "text/xml"
"""The mime type of assembled documents: CDA, as structured documents made on demand are."""


def entry_of(bench: Bench, patient: CX, **changes: Any) -> DocumentEntry:
    """An On-Demand entry that is right but for ``changes``."""
    bytes_have = dict.fromkeys(("creation_time", "hash", "size"))
    return bench.entry(patient, object_type=ON_DEMAND, **{**bytes_have, **changes})


def register(bench: Bench, submission: Submission) -> Answer[RegistryResponse]:
    """ITI-61."""
    return bench.ask(ITI_61, SubmitObjectsRequest.of(submission))


def registered(bench: Bench, patient: CX, **changes: Any) -> DocumentEntry:
    """An On-Demand entry, once the registry has accepted it."""
    entry = entry_of(bench, patient, **changes)
    answer = register(bench, bench.submission(patient, entry))
    must(Success(), answer, "registering an On-Demand entry")
    return entry


# --- G30 Entries ---------------------------------------------------------------------------------


@ENTRIES.case(
    "G30-entry",
    "An On-Demand entry without creationTime, hash and size comes back without them",
    "Une fiche On-Demand sans creationTime, hash ni size revient sans eux",
    spec=REGISTER,
    expected=[Success(), Same("type, and no creationTime, hash, size")],
)
def _register_entry(bench: Bench) -> Iterator[Seen]:
    patient = bench.patient()
    entry = entry_of(bench, patient)
    yield register(bench, bench.submission(patient, entry))
    stored = bench.stored_entry(entry.entry_uuid)
    seen = (stored.object_type, stored.creation_time, stored.hash, stored.size)
    yield Compared("objectType, creationTime, hash, size", (ON_DEMAND, None, None, None), seen)


@ENTRIES.case(
    "G30-again",
    "The uniqueId of an On-Demand entry again: accepted for another On-Demand entry",
    "Le uniqueId d'une fiche On-Demand, à nouveau : accepté pour une autre fiche On-Demand",
    spec=REGISTER,
    expected=[Success(), Exactly("both entries")],
)
def _register_again(bench: Bench) -> Iterator[Seen]:
    patient = bench.patient()
    first = registered(bench, patient)
    second = entry_of(bench, patient, unique_id=first.unique_id)
    yield register(bench, bench.submission(patient, second))
    request = ask.get_documents(unique_id=[first.unique_id or ""])
    yield bench.found(request, first.entry_uuid, second.entry_uuid)


def _stable_unique_id(bench: Bench, patient: CX) -> Submission:
    stable = bench.registered_entry(patient)
    return bench.submission(patient, entry_of(bench, patient, unique_id=stable.unique_id))


def _entry_with(**changes: Any) -> Callable[[Bench, CX], Submission]:
    return lambda bench, patient: bench.submission(patient, entry_of(bench, patient, **changes))


WRONG: dict[str, tuple[str, str, Callable[[Bench, CX], Submission], Refusal]] = {
    "creationTime": (
        "An On-Demand entry with creationTime",
        "Une fiche On-Demand avec creationTime",
        _entry_with(creation_time=DTM("20260301")),
        failure(METADATA_ERROR, names="creationTime"),
    ),
    "hash": (
        "An On-Demand entry with hash",
        "Une fiche On-Demand avec hash",
        _entry_with(hash=EMPTY_SHA1),
        failure(METADATA_ERROR, names="hash"),
    ),
    "size": (
        "An On-Demand entry with size",
        "Une fiche On-Demand avec size",
        _entry_with(size="1"),
        failure(METADATA_ERROR, names="size"),
    ),
    "repository": (
        "An On-Demand entry without repositoryUniqueId",
        "Une fiche On-Demand sans repositoryUniqueId",
        _entry_with(repository_unique_id=None),
        failure(METADATA_ERROR, names="repositoryUniqueId"),
    ),
    "stable-id": (
        "An On-Demand entry under the uniqueId of a Stable one",
        "Une fiche On-Demand sous le uniqueId d'une fiche Stable",
        _stable_unique_id,
        failure(METADATA_ERROR, "XDSDuplicateUniqueIdInRegistry"),
    ),
    "mixed": (
        "A Stable entry beside an On-Demand one",
        "Une fiche Stable à côté d'une fiche On-Demand",
        lambda bench, patient: bench.submission(
            patient, entry_of(bench, patient), bench.entry(patient)
        ),
        failure(METADATA_ERROR),
    ),
    "none": (
        "A folder and no entry",
        "Un classeur et aucune fiche",
        lambda bench, patient: bench.submission(patient, folders=[bench.folder(patient)]),
        failure(METADATA_ERROR),
    ),
}
"""What ITI-61 may not register."""


def _wrong(make: Callable[[Bench, CX], Submission], bench: Bench) -> Iterator[Seen]:
    yield register(bench, make(bench, bench.patient()))


for _variant, (_en, _fr, _make, _refusal) in WRONG.items():
    ENTRIES.add(
        f"G30-{_variant}",
        f"{_en} is refused",
        f"{_fr} : refus",
        spec=REGISTER,
        expected=[_refusal],
        stimulus=partial(_wrong, _make),
    )


@ENTRIES.case(
    "G30-iti42",
    "An On-Demand entry by ITI-42 is refused",
    "Une fiche On-Demand par ITI-42 : refus",
    spec="ITI TF-2 3.42.4.1.2",
    expected=[failure(METADATA_ERROR)],
)
def _by_iti_42(bench: Bench) -> Iterator[Seen]:
    patient = bench.patient()
    yield bench.register(bench.submission(patient, entry_of(bench, patient)))


# --- G31 Snapshots -------------------------------------------------------------------------------


@ENTRIES.case(
    "G31",
    "IsSnapshotOf: of an On-Demand entry accepted, of a Stable one refused",
    "IsSnapshotOf : d'une fiche On-Demand accepté, d'une fiche Stable refusé",
    spec="ITI TF-2 3.42.4.1.3.5",
    expected=[Success(), Same("Approved still"), failure(METADATA_ERROR)],
)
def _snapshot(bench: Bench) -> Iterator[Seen]:
    patient = bench.patient()
    for target in (registered(bench, patient), bench.registered_entry(patient)):
        snapshot = bench.entry(patient)
        link = related(IS_SNAPSHOT_OF, snapshot, target)
        yield bench.register(bench.submission(patient, snapshot, associations=[link]))
        if target.object_type == ON_DEMAND:
            stored = bench.stored_entry(target.entry_uuid).availability_status or ""
            yield Compared("status", "Approved", stored.rpartition(":")[2])


# --- Q13 Types -----------------------------------------------------------------------------------

REFERENCE = CXi(f"TYPE-1^^^&2.25.7&ISO^{ORDER_REFERENCE}")


class Pair(NamedTuple):
    """A Stable and an On-Demand document in one folder, which came with the latter."""

    patient: CX
    stable: str
    on_demand: str
    folder: str
    submission_set: str


def pair(bench: Bench) -> Pair:
    """The pair of this run; made by the first case that asks."""
    return bench.session.shared("pair", lambda: _make_pair(bench))


def _make_pair(bench: Bench) -> Pair:
    patient = bench.patient()
    folder = bench.folder(patient)
    on_demand = entry_of(bench, patient, reference_id_list=[REFERENCE])
    stable = bench.entry(patient, reference_id_list=[REFERENCE])
    links = [has_member(folder.entry_uuid, one.entry_uuid) for one in (on_demand, stable)]
    first = bench.submission(patient, on_demand, folders=[folder], associations=links[:1])
    must(Success(), register(bench, first), "registering an On-Demand entry")
    bench.registered(bench.submission(patient, stable, associations=links[1:]))
    return Pair(
        patient,
        stable.entry_uuid,
        on_demand.entry_uuid,
        folder.entry_uuid,
        first.submission_sets[0].entry_uuid,
    )


BY_TYPE: dict[str, Callable[..., AdhocQueryRequest]] = {
    "FindDocuments": lambda one, **type: ask.find_documents(one.patient, **type),
    "FindDocumentsByReferenceId": lambda one, **type: ask.find_documents_by_reference_id(
        one.patient, [REFERENCE], **type
    ),
    "GetAll": lambda one, **type: ask.get_all(one.patient, **type),
    "GetSubmissionSetAndContents": lambda one, **type: ask.get_submission_set_and_contents(
        entry_uuid=one.submission_set, **type
    ),
    "GetFolderAndContents": lambda one, **type: ask.get_folder_and_contents(
        entry_uuid=one.folder, **type
    ),
    "FindDocumentsForMultiplePatients": lambda one, **type: (
        ask.find_documents_for_multiple_patients([one.patient], **type)
    ),
}
"""The queries with a Type parameter. (GetRelatedDocuments starts from a document of any type.)"""


def _by_type(name: str, bench: Bench) -> Iterator[Seen]:
    one = pair(bench)
    names = {one.on_demand: "On-Demand"}
    if name != "GetSubmissionSetAndContents":  # the Stable one came in another set
        names[one.stable] = "Stable"
    for types, wanted in (
        ({}, {"Stable"}),
        ({"type": [ON_DEMAND]}, {"On-Demand"}),
        ({"type": [STABLE, ON_DEMAND]}, {"Stable", "On-Demand"}),
    ):
        documents = bench.objects(BY_TYPE[name](one, **types)).documents
        seen = {names.get(entry.entry_uuid, "another") for entry in documents}
        yield Compared("documents", wanted & set(names.values()), seen)


for _name in BY_TYPE:
    QUERIES.add(
        f"Q13-{_name}",
        f"{_name}: On-Demand entries only when $XDSDocumentEntryType asks for them",
        f"{_name} : fiches On-Demand seulement si $XDSDocumentEntryType les demande",
        spec="ITI TF-2 3.18.4.1.2.3.6.2",
        needs=needs(_name),
        expected=[Same("Stable ones alone"), Same("On-Demand ones alone"), Same("both entries")],
        stimulus=partial(_by_type, _name),
    )


# --- R23-R25 Assembly ----------------------------------------------------------------------------


def _served(bench: Bench) -> dict[str, Any]:
    """What an entry needs so that the repository assembles its document."""
    assembled = bench.targets.on_demand_type
    assert assembled is not None
    return {
        "type_code": Code(assembled.code, assembled.scheme, LocalizedString(assembled.code)),
        "mime_type": ASSEMBLED_TYPE,
        "repository_unique_id": OID(bench.repository_unique_id()),
    }


def _retrieved(bench: Bench, entry: DocumentEntry) -> Answer[RetrieveDocumentSetResponse]:
    return bench.retrieve_ids(entry.unique_id)


def _new_ids(answer: Answer[RetrieveDocumentSetResponse]) -> list[tuple[str | None, str | None]]:
    """NewDocumentUniqueId and NewRepositoryUniqueId of each document."""
    documents = answer.response.documents if answer.response else ()
    return [(one.new_document_unique_id, one.new_repository_unique_id) for one in documents]


@ASSEMBLY.case(
    "R23",
    "An On-Demand document twice: a uniqueId of its own, the same one for the same bytes",
    "Un document On-Demand deux fois : un uniqueId propre, le même pour les mêmes octets",
    spec="ITI TF-2 3.43.4.2.2",
    needs="on_demand",
    expected=[
        Success(mtom=True),
        Same("one NewDocumentUniqueId, another than asked for"),
        Success(mtom=True),
        Same("the same bytes under the same uniqueId"),
    ],
)
def _assemble_twice(bench: Bench) -> Iterator[Seen]:
    patient = bench.patient()
    entry = registered(bench, patient, **_served(bench))
    first = _retrieved(bench, entry)
    yield first
    own = [new not in (None, "", entry.unique_id) for new, _ in _new_ids(first)]
    yield Compared("NewDocumentUniqueId of its own", [True], own)
    second = _retrieved(bench, entry)
    yield second
    by_id = dict(zip(_new_ids(first), contents(first), strict=True))
    again = dict(zip(_new_ids(second), contents(second), strict=True))
    differing = [new for new, bytes_ in again.items() if by_id.get(new, bytes_) != bytes_]
    yield Compared("uniqueIds with two contents", (1, []), (len(again), differing))


@ASSEMBLY.case(
    "R24",
    "A persisted On-Demand document: its snapshot is registered and retrievable at once",
    "Un document On-Demand conservé : son instantané est enregistré et récupérable aussitôt",
    spec="ITI TF-2 3.43.4.2.3",
    needs="on_demand",
    expected=[
        Success(mtom=True),
        Same("one Stable snapshot of the entry"),
        Same("the same bytes retrieved"),
    ],
)
def _assemble_and_persist(bench: Bench) -> Iterator[Seen]:
    patient = bench.patient()
    entry = registered(bench, patient, **_served(bench))
    answer = _retrieved(bench, entry)
    yield answer
    if not any(repository for _, repository in _new_ids(answer)):
        raise NotRun(
            Text(
                "the repository does not persist (no NewRepositoryUniqueId)",
                "l'entrepôt ne conserve pas (pas de NewRepositoryUniqueId)",
            )
        )
    [(unique_id, repository)] = _new_ids(answer)
    found = bench.objects(ask.get_documents(unique_id=[unique_id or ""])).documents
    seen = [(one.object_type, _snapshots_of(bench, one)) for one in found]
    yield Compared("objectType, target of IsSnapshotOf", [(STABLE, [entry.entry_uuid])], seen)
    kept = bench.retrieve(DocumentRequest(repository or "", unique_id or ""))
    yield Compared("documents", contents(answer), contents(kept))


def _snapshots_of(bench: Bench, snapshot: DocumentEntry) -> list[str]:
    links = bench.objects(ask.get_associations([snapshot.entry_uuid])).associations
    return [one.target for one in links if one.association_type == IS_SNAPSHOT_OF]


@ASSEMBLY.case(
    "R25",
    "Delayed Document Assembly: bytes at the first retrieve, then their hash and size",
    "Assemblage différé : des octets à la première récupération, puis leur empreinte et taille",
    spec="ITI TF-2 3.43.4.1.3.2",
    expected=[Success(mtom=True), Same("hash and size of what was retrieved")],
)
def _assemble_late(bench: Bench) -> Iterator[Seen]:
    patient = bench.patient()
    promised = {"hash": EMPTY_SHA1, "size": "0"}
    entry = bench.registered_entry(patient, **_served(bench), **promised)
    answer = _retrieved(bench, entry)
    yield answer
    found = bench.objects(ask.get_documents(unique_id=[entry.unique_id or ""])).documents
    seen = [((one.hash or "").lower(), one.size) for one in found]
    wanted = [(sha1(document), str(len(document))) for document in contents(answer)]
    yield Compared("hash and size", wanted, seen)
