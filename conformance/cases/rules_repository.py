"""Document Repository and Imaging Document Source: every rule of theirs, each broken once (C)."""

from __future__ import annotations

from typing import Any

from conformance import material
from conformance.bench import Bench
from conformance.case import Actor
from conformance.cases.imaging import UNHEARD_OF, ask, known
from conformance.cases.repository import NOBODY, prepared, sha1
from conformance.cases.simulated import facing_simulator
from conformance.rules import RuleCases
from conformance.seen import Answer
from conformance.targets import Study
from metadata import catalogue as rules
from metadata.datatypes import new_oid
from transactions.iti_43 import DocumentRequest, RetrieveDocumentSetResponse
from transactions.registry_response import RegistryResponse

PROVIDE = RuleCases(Actor.REPOSITORY, "ITI-41", "repository patients")
RETRIEVE = RuleCases(Actor.REPOSITORY, "ITI-43", "repository patients")
IMAGING = RuleCases(Actor.IMAGING, "RAD-69", "imaging imaging_unique_id study")

# --- Provide and Register ------------------------------------------------------------------------


def _provide(bench: Bench, names: str = "", **changes: Any) -> Answer[RegistryResponse]:
    submission, entry = prepared(bench, material.TEXT, **changes)
    answer = bench.provide(submission, {entry.entry_uuid: material.TEXT})
    return answer.naming(names or entry.entry_uuid)


def _document_missing(bench: Bench) -> Answer[RegistryResponse]:
    patient = bench.patient()
    entries = [material.provided(bench.entry(patient)) for _ in range(2)]
    submission = bench.submission(patient, *entries)
    answer = bench.provide(submission, {entries[0].entry_uuid: material.TEXT})
    return answer.naming(entries[1].entry_uuid)


def _metadata_missing(bench: Bench) -> Answer[RegistryResponse]:
    submission, entry = prepared(bench)
    documents = {entry.entry_uuid: material.TEXT, NOBODY: b"unannounced"}
    return bench.provide(submission, documents).naming(NOBODY)


def _document_empty(bench: Bench) -> Answer[RegistryResponse]:
    submission, entry = prepared(bench, b"")
    return bench.provide(submission, {entry.entry_uuid: b""}).naming(entry.entry_uuid)


def _registry_not_available(bench: Bench) -> Answer[RegistryResponse]:
    bench = facing_simulator(bench)
    submission, entry = prepared(bench)
    return bench.provide(submission, {entry.entry_uuid: material.TEXT})


PROVIDE.breaking(
    rules.DOCUMENT_MISSING,
    "A DocumentEntry without its document",
    "Une fiche sans son document",
    _document_missing,
)
PROVIDE.breaking(
    rules.DOCUMENT_METADATA_MISSING,
    "A document without its DocumentEntry",
    "Un document sans sa fiche",
    _metadata_missing,
)
PROVIDE.breaking(
    rules.DOCUMENT_EMPTY, "A document of no bytes", "Un document sans octets", _document_empty
)
PROVIDE.breaking(
    rules.DOCUMENT_UNIQUE_ID_MISSING,
    "A document without uniqueId",
    "Un document sans uniqueId",
    lambda bench: _provide(bench, unique_id=None),
    also="XDSRegistryMetadataError",
)
PROVIDE.breaking(
    rules.HASH_WRONG,
    "A hash that is not the document's",
    "Une empreinte qui n'est pas celle du document",
    lambda bench: _provide(bench, "hash", hash=sha1(b"something else")),
)
PROVIDE.breaking(
    rules.SIZE_WRONG,
    "A size that is not the document's",
    "Une taille qui n'est pas celle du document",
    lambda bench: _provide(bench, "size", size="1"),
)
PROVIDE.breaking(
    rules.REGISTRY_NOT_AVAILABLE,
    "The registry is down",
    "Le registre est arrêté",
    _registry_not_available,
    needs="repository_facing_simulator",
    about="",
)

# --- Retrieve ------------------------------------------------------------------------------------


def _unknown_document(bench: Bench) -> Answer[RetrieveDocumentSetResponse]:
    unknown = new_oid()
    return bench.retrieve_ids(unknown).naming(unknown).located(unknown)


def _unknown_repository(bench: Bench) -> Answer[RetrieveDocumentSetResponse]:
    elsewhere, unknown = new_oid(), new_oid()
    answer = bench.retrieve(DocumentRequest(elsewhere, unknown))
    return answer.naming(elsewhere).located(unknown)


RETRIEVE.breaking(
    rules.UNKNOWN_DOCUMENT,
    "A document that nobody provided",
    "Un document que personne n'a déposé",
    _unknown_document,
)
RETRIEVE.breaking(
    rules.UNKNOWN_REPOSITORY,
    "A document of another repository",
    "Un document d'un autre entrepôt",
    _unknown_repository,
)

# --- Images --------------------------------------------------------------------------------------


def _instance_elsewhere(bench: Bench) -> Answer[RetrieveDocumentSetResponse]:
    study, repository = known(bench)
    moved = Study(study.study_instance_uid, new_oid(), study.sop_instance_uid)
    uid = study.sop_instance_uid
    return ask(bench, [(moved, repository)]).naming(uid).located(uid)


def _place_unnamed(bench: Bench) -> Answer[RetrieveDocumentSetResponse]:
    study, repository = known(bench)
    unnamed = Study(study.study_instance_uid, "", study.sop_instance_uid)
    uid = study.sop_instance_uid
    return ask(bench, [(unnamed, repository)]).naming(uid).located(uid)


def _transfer_syntax(bench: Bench) -> Answer[RetrieveDocumentSetResponse]:
    study, repository = known(bench)
    uid = study.sop_instance_uid
    return ask(bench, [(study, repository)], (UNHEARD_OF,)).naming(uid).located(uid)


IMAGING.breaking(
    rules.INSTANCE_ELSEWHERE,
    "A known instance as part of another series",
    "Une instance connue, dans une autre série",
    _instance_elsewhere,
)
IMAGING.breaking(
    rules.PLACE_UNNAMED,
    "A known instance of a series with an empty UID",
    "Une instance connue d'une série dont l'UID est vide",
    _place_unnamed,
    also="XDSDocumentUniqueIdError",
)
IMAGING.breaking(
    rules.TRANSFER_SYNTAX_UNAVAILABLE,
    "A known instance in a transfer syntax that nobody has",
    "Une instance connue dans une syntaxe de transfert inexistante",
    _transfer_syntax,
    also="XDSDocumentUniqueIdError",
)
