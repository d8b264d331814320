"""Document Registry: stored queries asked wrongly (Q07, Q08, Q09)."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from conformance.bench import Bench
from conformance.case import Actor, Cases
from conformance.corpus import corpus
from conformance.expectation import Exactly, failure
from conformance.seen import Seen
from metadata.datatypes import CX, new_oid, new_uuid_urn
from metadata.identifiers import APPROVED
from transactions.iti_18 import LEAF_CLASS, AdhocQueryRequest
from transactions.query_values import quote
from transactions.stored_query import (
    find_documents,
    find_documents_by_reference_id,
    find_submission_sets,
    get_associations,
    get_documents,
    get_submission_set_and_contents,
)

CASES = Cases(Actor.REGISTRY_QUERY, "registry patients")

REQUIRED_SPEC = "ITI TF-2 3.18.4.1.2.3.6, 3.18.4.1.2.3.7"

DE, SS = "$XDSDocumentEntry", "$XDSSubmissionSet"
ANYONE = CX.of("NOBODY", "2.25.7")

SOMETHING = {
    "FindDocuments": find_documents(ANYONE),
    "FindDocumentsByReferenceId": find_documents_by_reference_id(ANYONE, ["%"]),
    "FindSubmissionSets": find_submission_sets(ANYONE),
    "GetDocuments": get_documents(unique_id=["1.2.3"]),
    "GetAssociations": get_associations([new_uuid_urn()]),
    "GetSubmissionSetAndContents": get_submission_set_and_contents(unique_id="1.2.3"),
}
"""Each query with its required parameters and no others."""


def without(request: AdhocQueryRequest, slot: str) -> AdhocQueryRequest:
    """The same query without one of its slots."""
    slots = [(name, values) for name, values in request.parameters if name != slot]
    return AdhocQueryRequest(request.query_id, LEAF_CLASS, slots)


def adding(request: AdhocQueryRequest, slot: str, *values: str) -> AdhocQueryRequest:
    """The same query with one more slot."""
    slots = [*request.parameters, (slot, list(values))]
    return AdhocQueryRequest(request.query_id, LEAF_CLASS, slots)


def _parameter_missing(name: str, slot: str, bench: Bench) -> Iterator[Seen]:
    yield bench.query(without(SOMETHING[name], slot)).naming(slot)


for _name, _request in SOMETHING.items():
    for _slot, _ in _request.parameters:
        CASES.add(
            f"Q07-{_name}.{_slot.lstrip('$')}",
            f"{_name} without {_slot}",
            f"{_name} sans {_slot}",
            spec=REQUIRED_SPEC,
            expected=[failure("XDSStoredQueryMissingParam")],
            stimulus=partial(_parameter_missing, _name, _slot),
        )


@CASES.case(
    "Q07-status",
    "FindDocuments with no status but an unknown one",
    "FindDocuments sans autre statut qu'un inconnu",
    spec="ITI TF-2 3.18.4.1.2.3.6",
    expected=[failure("XDSStoredQueryMissingParam")],
)
def _bogus_status(bench: Bench) -> Iterator[Seen]:
    patient = bench.patient()
    yield bench.query(find_documents(patient, status=["urn:kit:status:Bogus"]))


@CASES.case(
    "Q08-patients",
    "Two patient ids in one query",
    "Deux patients dans une requête",
    spec="ITI TF-2 3.18.4.1.2.3.7",
    expected=[failure("XDSStoredQueryParamNumber")],
)
def _two_patient_ids(bench: Bench) -> Iterator[Seen]:
    slot = f"{DE}PatientId"
    ids = ",".join(quote(cx) for cx in bench.patients(2))
    slots = [(slot, [f"({ids})"]), (f"{DE}Status", [f"({quote(APPROVED)})"])]
    query = AdhocQueryRequest(SOMETHING["FindDocuments"].query_id, LEAF_CLASS, slots)
    yield bench.query(query).naming(slot)


@CASES.case(
    "Q08-alternatives",
    "entryUUID and uniqueId together: GetDocuments, GetSubmissionSetAndContents",
    "entryUUID et uniqueId ensemble : GetDocuments, GetSubmissionSetAndContents",
    spec="ITI TF-2 3.18.4.1.2.3.7",
    expected=[failure("XDSStoredQueryParamNumber"), failure("XDSStoredQueryParamNumber")],
)
def _both_alternatives(bench: Bench) -> Iterator[Seen]:
    yield bench.query(get_documents(entry_uuid=[new_uuid_urn()], unique_id=[new_oid()]))
    yield bench.query(
        get_submission_set_and_contents(entry_uuid=new_uuid_urn(), unique_id=new_oid())
    )


@CASES.case(
    "Q09-query",
    "A query nobody has defined",
    "Une requête que personne n'a définie",
    spec="ITI TF-2 3.18.4.1.3",
    expected=[failure("XDSUnknownStoredQuery")],
)
def _unknown_query(bench: Bench) -> Iterator[Seen]:
    unknown = new_uuid_urn()
    yield bench.query(AdhocQueryRequest(unknown, LEAF_CLASS, [])).naming(unknown)


@CASES.case(
    "Q09-parameter",
    "A parameter nobody has defined is ignored",
    "Un paramètre que personne n'a défini est ignoré",
    spec="ITI TF-2 3.18.4.1.3",
    expected=[Exactly()],
)
def _unknown_parameter(bench: Bench) -> Iterator[Seen]:
    one = corpus(bench)
    query = adding(find_documents(one.patient), "$KitUnknown", "('anything')")
    yield bench.found(query, *one.ids("ABC"), labels=one.labels)
