"""All sixteen queries: both return types, the schema, parameters nobody knows, hostile values."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from lxml import etree

from metadata import identifiers as xds
from metadata.datatypes import new_uuid_urn
from metadata.model import Submission
from transactions import stored_query as ask
from transactions.iti_18 import AdhocQueryRequest, AdhocQueryResponse, write_response
from transactions.query_catalogue import MULTI_PATIENT_QUERIES, STORED_QUERIES, Kind, Parameter
from transactions.query_values import quote

ALL_QUERIES = {**STORED_QUERIES, **MULTI_PATIENT_QUERIES}

Make = Callable[[Any], AdhocQueryRequest]


def content(house: Any) -> None:
    """A document in a folder, its replacement with an addendum, everything with codes."""
    code = house.code("code")
    draft = house.draft()
    old = draft.document("urn:uuid:00000000-0000-4000-8000-00000000000d", event_code_list=[code])
    folder = draft.folder("urn:uuid:00000000-0000-4000-8000-00000000000f", code_list=[code])
    draft.file(old.entry_uuid, folder.entry_uuid)
    house.accept(draft)
    update = house.draft()
    new = update.document(reference_id_list=["R^^^&1.2&ISO^urn:ihe:iti:xds:2013:order"])
    update.link(xds.RPLC, new.entry_uuid, old.entry_uuid)
    update.link(xds.APND, update.document().entry_uuid, new.entry_uuid)
    house.accept(update)


DOCUMENT = "urn:uuid:00000000-0000-4000-8000-00000000000d"
FOLDER = "urn:uuid:00000000-0000-4000-8000-00000000000f"
BOTH = [xds.APPROVED, xds.DEPRECATED]


def set_of(house: Any) -> str:
    """The entryUUID of the set that holds the document."""
    [found] = house.answer(ask.get_submission_sets([DOCUMENT])).submission_sets
    return str(found.entry_uuid)


MAKERS: dict[str, Make] = {
    "FindDocuments": lambda house: ask.find_documents(house.patient, status=BOTH),
    "FindDocumentsByReferenceId": lambda house: ask.find_documents_by_reference_id(
        house.patient, ["R^^^&1.2&ISO^urn:ihe:iti:xds:2013:order"]
    ),
    "FindSubmissionSets": lambda house: ask.find_submission_sets(house.patient),
    "FindFolders": lambda house: ask.find_folders(house.patient),
    "GetAll": lambda house: ask.get_all(house.patient),
    "GetDocuments": lambda _: ask.get_documents(entry_uuid=[DOCUMENT]),
    "GetFolders": lambda _: ask.get_folders(entry_uuid=[FOLDER]),
    "GetAssociations": lambda _: ask.get_associations([DOCUMENT]),
    "GetDocumentsAndAssociations": lambda _: ask.get_documents_and_associations(
        entry_uuid=[DOCUMENT]
    ),
    "GetSubmissionSets": lambda _: ask.get_submission_sets([DOCUMENT, FOLDER]),
    "GetSubmissionSetAndContents": lambda house: ask.get_submission_set_and_contents(
        entry_uuid=set_of(house)
    ),
    "GetFolderAndContents": lambda _: ask.get_folder_and_contents(entry_uuid=FOLDER),
    "GetFoldersForDocument": lambda _: ask.get_folders_for_document(entry_uuid=DOCUMENT),
    "GetRelatedDocuments": lambda _: ask.get_related_documents([xds.RPLC], entry_uuid=DOCUMENT),
    "FindDocumentsForMultiplePatients": lambda house: ask.find_documents_for_multiple_patients(
        event_code_list=[house.code("code")], status=BOTH
    ),
    "FindFoldersForMultiplePatients": lambda house: ask.find_folders_for_multiple_patients(
        code_list=[house.code("code")]
    ),
}

every_query = pytest.mark.parametrize("name", MAKERS)


def respond(house: Any, request: AdhocQueryRequest) -> AdhocQueryResponse:
    across = request.query_id in MULTI_PATIENT_QUERIES
    registry = house.registry
    response: AdhocQueryResponse = (registry.query_patients if across else registry.query)(request)
    return response


def found(house: Any, request: AdhocQueryRequest) -> Submission:
    response = respond(house, request)
    assert response.status == xds.SUCCESS, response.errors
    return response.objects()


def test_the_sixteen_queries_are_all_here() -> None:
    assert MAKERS.keys() == {query.name for query in ALL_QUERIES.values()}


@every_query
def test_references_name_what_whole_objects_are(house: Any, name: str) -> None:
    content(house)
    request = MAKERS[name](house)
    whole = [one.entry_uuid for one in found(house, request).objects()]
    refs = found(house, replace(request, return_type="ObjectRef")).object_refs
    assert whole
    assert len(set(whole)) == len(whole)
    assert sorted(refs) == sorted(whole)


@every_query
def test_every_answer_follows_the_official_schema(house: Any, name: str) -> None:
    standards = Path(__file__).parents[2].parent / "shared" / "standards"
    if not standards.is_dir():
        pytest.skip(f"the official schemas are not at {standards}")
    schema = etree.XMLSchema(
        etree.parse(standards / "xds-dcm4chee" / "schema" / "ebRS" / "query.xsd")
    )
    content(house)
    request = MAKERS[name](house)
    empty = replace(request, parameters=[])
    for asked in (request, replace(request, return_type="ObjectRef"), empty):
        message = b"".join(write_response(respond(house, asked)).body)
        schema.assertValid(etree.fromstring(message))


@every_query
def test_a_parameter_nobody_knows_is_ignored(house: Any, name: str) -> None:
    content(house)
    request = MAKERS[name](house)
    extended = replace(request, parameters=[*request.parameters, ("$Foo", ["not 'coded"])])
    assert list(found(house, extended).objects()) == list(found(house, request).objects())


def test_nothing_found_is_success_with_an_empty_list(house: Any) -> None:
    content(house)
    nothing = new_uuid_urn()
    for request in (
        ask.find_documents(house.cx("P2")),
        ask.find_documents_by_reference_id(house.patient, ["nothing"]),
        ask.find_submission_sets(house.cx("P2")),
        ask.find_folders(house.cx("P2")),
        ask.get_all(house.cx("P2")),
        ask.get_documents(entry_uuid=[nothing]),
        ask.get_folders(entry_uuid=[nothing]),
        ask.get_associations([nothing]),
        ask.get_documents_and_associations(entry_uuid=[nothing]),
        ask.get_submission_sets([nothing]),
        ask.get_submission_set_and_contents(entry_uuid=nothing),
        ask.get_folder_and_contents(entry_uuid=nothing),
        ask.get_folders_for_document(entry_uuid=nothing),
        ask.get_related_documents([xds.RPLC], entry_uuid=nothing),
        ask.find_documents_for_multiple_patients([house.cx("P2")]),
        ask.find_folders_for_multiple_patients(code_list=[house.code("nothing")]),
    ):
        response = respond(house, request)
        assert (response.status, list(response.fragments)) == (xds.SUCCESS, [])
        message = b"".join(write_response(response).body)
        assert b"<rim:RegistryObjectList></rim:RegistryObjectList>" in message


HOSTILE = ["' OR '1'='1", "'; DROP TABLE folder; --", '["a"]', "%", "\\", "?", ":patient", "é𝄞"]


@every_query
def test_no_value_of_any_parameter_means_anything_to_the_database(house: Any, name: str) -> None:
    content(house)
    request = MAKERS[name](house)
    before = sorted(map(str, found(house, request).objects()))
    for parameter in ALL_QUERIES[request.query_id].parameters:
        if parameter.kind in (Kind.FROM, Kind.TO, Kind.LEVEL, Kind.STATUS):
            continue  # nothing but digits, or known words, gets that far
        for value in HOSTILE:
            response = respond(house, instead(request, parameter, value))
            if parameter.kind is Kind.LIKE and value == "%":
                assert response.fragments
            elif parameter.key in ("format_code", "confidentiality_code", "type"):
                assert not response.objects().documents
            else:
                assert not response.fragments
    assert sorted(map(str, found(house, request).objects())) == before


def instead(request: AdhocQueryRequest, parameter: Parameter, value: str) -> AdhocQueryRequest:
    """The request with one parameter, or one of its alternatives, replaced by a value."""
    query = ALL_QUERIES[request.query_id]
    literal = quote(f"{value}^^1.2" if parameter.kind is Kind.CODE else value)
    rivals = {parameter.slot}
    if parameter.key in query.alternatives:
        rivals = {one.slot for one in query.parameters if one.key in query.alternatives}
    kept = [slot for slot in request.parameters if slot[0] not in rivals]
    return replace(request, parameters=[*kept, (parameter.slot, [literal])])
