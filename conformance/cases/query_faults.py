"""Document Registry: stored queries asked wrongly (Q07, Q08, Q09)."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from conformance.bench import Bench
from conformance.case import Actor, Cases
from conformance.cases.every_query import needs
from conformance.corpus import corpus
from conformance.expectation import Exactly, failure
from conformance.seen import Seen
from metadata.datatypes import CX, new_uuid_urn
from metadata.identifiers import RPLC
from transactions import stored_query as ask
from transactions.iti_18 import LEAF_CLASS, AdhocQueryRequest
from transactions.query_catalogue import (
    MULTI_PATIENT_QUERIES,
    STORED_QUERIES,
    Kind,
    Parameter,
    StoredQuery,
)
from transactions.query_values import quote
from transactions.stored_query import find_documents

CASES = Cases(Actor.REGISTRY_QUERY, "registry patients")

REQUIRED_SPEC = "ITI TF-2 3.18.4.1.2.3.6, 3.18.4.1.2.3.7"

ANYONE = CX.of("NOBODY", "2.25.7")
QUERIES = {one.name: one for one in (*STORED_QUERIES.values(), *MULTI_PATIENT_QUERIES.values())}

SOMETHING = {
    "FindDocuments": find_documents(ANYONE),
    "FindDocumentsByReferenceId": ask.find_documents_by_reference_id(ANYONE, ["%"]),
    "FindSubmissionSets": ask.find_submission_sets(ANYONE),
    "FindFolders": ask.find_folders(ANYONE),
    "GetAll": ask.get_all(ANYONE),
    "GetDocuments": ask.get_documents(unique_id=["1.2.3"]),
    "GetFolders": ask.get_folders(unique_id=["1.2.3"]),
    "GetAssociations": ask.get_associations([new_uuid_urn()]),
    "GetDocumentsAndAssociations": ask.get_documents_and_associations(unique_id=["1.2.3"]),
    "GetSubmissionSets": ask.get_submission_sets([new_uuid_urn()]),
    "GetSubmissionSetAndContents": ask.get_submission_set_and_contents(unique_id="1.2.3"),
    "GetFolderAndContents": ask.get_folder_and_contents(unique_id="1.2.3"),
    "GetFoldersForDocument": ask.get_folders_for_document(unique_id="1.2.3"),
    "GetRelatedDocuments": ask.get_related_documents([RPLC], unique_id="1.2.3"),
    "FindDocumentsForMultiplePatients": ask.find_documents_for_multiple_patients([ANYONE]),
    "FindFoldersForMultiplePatients": ask.find_folders_for_multiple_patients([ANYONE]),
}
"""Each query with its required parameters and no others."""


def without(request: AdhocQueryRequest, *slots: str) -> AdhocQueryRequest:
    """The same query without some of its slots."""
    kept = [(name, values) for name, values in request.parameters if name not in slots]
    return AdhocQueryRequest(request.query_id, LEAF_CLASS, kept)


def adding(request: AdhocQueryRequest, slot: str, *values: str) -> AdhocQueryRequest:
    """The same query with one more slot."""
    slots = [*request.parameters, (slot, list(values))]
    return AdhocQueryRequest(request.query_id, LEAF_CLASS, slots)


def alternatives(query: StoredQuery) -> list[Parameter]:
    """The parameters of which exactly one must be given."""
    return [one for one in query.parameters if one.key in query.alternatives]


def _parameter_missing(name: str, slot: str, bench: Bench) -> Iterator[Seen]:
    yield bench.query(without(SOMETHING[name], slot)).naming(slot)


for _name, _request in SOMETHING.items():
    for _slot, _ in _request.parameters:
        CASES.add(
            f"Q07-{_name}.{_slot.lstrip('$')}",
            f"{_name} without {_slot}",
            f"{_name} sans {_slot}",
            spec=REQUIRED_SPEC,
            needs=needs(_name),
            expected=[failure("XDSStoredQueryMissingParam", about="the parameter")],
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


def single_valued(query: StoredQuery) -> list[Parameter]:
    """The parameters that take one value; which level is asked for came later (MU)."""
    return [one for one in query.parameters if not one.multiple and one.kind is not Kind.LEVEL]


def _two_values(query: StoredQuery, bench: Bench) -> Iterator[Seen]:
    others = [one.slot for one in alternatives(query)]
    for parameter in single_valued(query):
        slots = [parameter.slot, *(others if parameter.slot in others else ())]
        is_time = parameter.kind in (Kind.FROM, Kind.TO)
        values = ("2025", "2026") if is_time else (quote(ANYONE), quote("NOBODY^^^&2.25.8&ISO"))
        request = without(SOMETHING[query.name], *slots)
        yield bench.query(adding(request, parameter.slot, f"({','.join(values)})")).naming(
            parameter.slot
        )


for _name, _query in QUERIES.items():
    if _several := single_valued(_query):
        CASES.add(
            f"Q08-{_name}",
            f"{_name} with two values for each parameter that takes one",
            f"{_name} avec deux valeurs pour chaque paramètre qui en prend une",
            spec="ITI TF-2 3.18.4.1.2.3.7",
            needs=needs(_name),
            expected=[failure("XDSStoredQueryParamNumber", about="the parameter")] * len(_several),
            stimulus=partial(_two_values, _query),
        )


WITH_ALTERNATIVES = [query for query in QUERIES.values() if query.alternatives]


@CASES.case(
    "Q08-alternatives",
    "entryUUID and uniqueId together, in every query that takes either",
    "entryUUID et uniqueId ensemble, dans chaque requête qui prend l'un ou l'autre",
    spec="ITI TF-2 3.18.4.1.2.3.7",
    expected=[failure("XDSStoredQueryParamNumber", about="the parameter")] * len(WITH_ALTERNATIVES),
)
def _both_alternatives(bench: Bench) -> Iterator[Seen]:
    for query in WITH_ALTERNATIVES:
        slot = alternatives(query)[0].slot
        literal = quote(new_uuid_urn())
        value = f"({literal})" if alternatives(query)[0].multiple else literal
        yield bench.query(adding(SOMETHING[query.name], slot, value)).naming(slot)


@CASES.case(
    "Q09-query",
    "A query nobody has defined",
    "Une requête que personne n'a définie",
    spec="ITI TF-2 3.18.4.1.3",
    expected=[failure("XDSUnknownStoredQuery", about="the query")],
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
