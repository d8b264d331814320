"""ITI-18: GetDocuments, GetAssociations, GetSubmissionSetAndContents."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from lxml import etree

from metadata import identifiers as xds
from metadata.affinity_domain import AffinityDomain
from metadata.datatypes import new_uuid_urn
from registry import Registry
from registry.schema import ON_DEMAND, document_entry
from transactions.iti_18 import write_response
from transactions.stored_query import (
    get_associations,
    get_documents,
    get_submission_set_and_contents,
)

# --- GetDocuments ----------------------------------------------------------------------------


def test_documents_are_had_by_entry_uuid_and_by_unique_id(house: Any) -> None:
    one, two = house.registered(), house.registered()
    by_uuid = get_documents(entry_uuid=[one.entry_uuid, two.entry_uuid, new_uuid_urn()])
    by_unique_id = get_documents(unique_id=[two.unique_id, one.unique_id, "1.2.3.unknown"])
    for request in (by_uuid, by_unique_id):
        found = house.answer(request).documents
        assert sorted(found, key=str) == sorted([one, two], key=str)


def test_an_id_of_something_else_is_no_document(house: Any) -> None:
    _, folder = house.filed()
    assert house.answer(get_documents(entry_uuid=[folder.entry_uuid])).documents == []
    assert house.answer(get_documents(unique_id=[folder.unique_id])).documents == []


def test_deprecated_and_on_demand_documents_are_had_too(house: Any) -> None:
    document = house.registered()
    house.database.write(
        lambda connection: (
            connection.execute(
                document_entry.update().values(object_type=ON_DEMAND, status="Deprecated")
            ).rowcount
        )
    )
    assert len(house.answer(get_documents(entry_uuid=[document.entry_uuid])).documents) == 1


def test_neither_or_both_alternatives_are_refused(house: Any) -> None:
    assert house.query_errors(get_documents()) == ["XDSStoredQueryMissingParam"]
    both = get_documents(entry_uuid=[new_uuid_urn()], unique_id=["1.2.3"])
    assert house.query_errors(both) == ["XDSStoredQueryParamNumber"]


def test_several_hundred_ids_split_over_many_values(house: Any) -> None:
    draft = house.draft()
    ids = [draft.document(new_uuid_urn()).entry_uuid for _ in range(300)]
    house.accept(draft)
    found = house.answer(get_documents(entry_uuid=ids, return_type="ObjectRef")).object_refs
    assert sorted(found) == sorted(ids)


def test_leaf_class_of_two_patients_is_refused_and_references_are_given(house: Any) -> None:
    mine = house.registered()
    other = house.draft("P2")
    other.document(new_uuid_urn())
    house.accept(other)
    ids = [mine.entry_uuid, other.submission.documents[0].entry_uuid]
    assert house.query_errors(get_documents(entry_uuid=ids)) == ["XDSResultNotSinglePatient"]
    refs = house.answer(get_documents(entry_uuid=ids, return_type="ObjectRef")).object_refs
    assert sorted(refs) == sorted(ids)
    house.feed("A40", "P2", subsumed="P1")
    found = house.answer(get_documents(entry_uuid=ids)).documents
    assert [document.patient_id for document in found] == [house.cx("P2")] * 2


# --- GetAssociations -------------------------------------------------------------------------


def test_associations_are_those_that_touch_an_object_at_either_end(house: Any) -> None:
    document, folder = house.filed()
    links = house.links(document.entry_uuid)
    assert len(links) == 2
    assert {link.target for link in links} == {document.entry_uuid}
    [membership] = [link for link in links if link.source == folder.entry_uuid]
    around = house.links(folder.entry_uuid)
    assert {link.entry_uuid for link in around} >= {membership.entry_uuid}
    assert len(house.links(membership.entry_uuid)) == 1


def test_an_association_between_two_listed_objects_is_answered_once(house: Any) -> None:
    document, folder = house.filed()
    links = house.links(document.entry_uuid, folder.entry_uuid)
    assert len({link.entry_uuid for link in links}) == len(links) == 3


def test_associations_of_unknown_objects_are_none(house: Any) -> None:
    assert house.links(new_uuid_urn()) == []


def test_associations_need_an_id(house: Any) -> None:
    assert house.query_errors(get_associations([])) == ["XDSStoredQueryMissingParam"]


def test_a_document_by_reference_shows_the_other_patients_submission(house: Any) -> None:
    document = house.registered()
    draft = house.draft("P2")
    draft.member(document.entry_uuid, xds.REFERENCE)
    house.accept(draft)
    links = house.links(document.entry_uuid)
    assert len({link.source for link in links}) == len(links) == 2


# --- GetSubmissionSetAndContents -------------------------------------------------------------


def contents(house: Any, draft: Any, **filters: Any) -> Any:
    return house.answer(get_submission_set_and_contents(unique_id=draft.set.unique_id, **filters))


def full(house: Any) -> Any:
    """Two documents in a folder, of different format and confidentiality."""
    draft = house.draft()
    folder = draft.folder().entry_uuid
    for name in ("a", "b"):
        code = house.code(name)
        document = draft.document(format_code=code, confidentiality_code=[code])
        draft.file(document.entry_uuid, folder)
    house.accept(draft)
    return draft


def test_contents_are_complete(house: Any) -> None:
    answer = contents(house, full(house))
    kinds = (answer.submission_sets, answer.documents, answer.folders, answer.associations)
    # Three members, two memberships of the folder, each of them a member too.
    assert [len(kind) for kind in kinds] == [1, 2, 1, 7]


def test_contents_follow_the_official_schema_in_every_state(house: Any) -> None:
    standards = Path(__file__).parents[2].parent / "shared" / "standards"
    if not standards.is_dir():
        pytest.skip(f"the official schemas are not at {standards}")
    schema = etree.XMLSchema(
        etree.parse(standards / "xds-dcm4chee" / "schema" / "ebRS" / "query.xsd")
    )
    draft = full(house)
    replacing = house.draft()
    target = contents(house, draft).documents[0].entry_uuid
    replacing.link(xds.RPLC, replacing.document().entry_uuid, target)
    house.accept(replacing)
    house.feed("A40", "P2", subsumed="P1")
    for return_type in ("LeafClass", "ObjectRef"):
        for submitted in (draft, replacing):
            request = get_submission_set_and_contents(
                unique_id=submitted.set.unique_id, return_type=return_type
            )
            message = b"".join(write_response(house.registry.query(request)).body)
            schema.assertValid(etree.fromstring(message))
            assert message.count(b"<rim:") >= 4


def test_contents_by_entry_uuid_are_the_same(house: Any) -> None:
    by_unique_id = contents(house, full(house))
    entry_uuid = by_unique_id.submission_sets[0].entry_uuid
    by_uuid = house.answer(get_submission_set_and_contents(entry_uuid=entry_uuid))
    assert sorted(map(str, by_uuid.objects())) == sorted(map(str, by_unique_id.objects()))


@pytest.mark.parametrize("attribute", ["format_code", "confidentiality_code"])
def test_filters_leave_no_association_dangling(house: Any, attribute: str) -> None:
    draft = full(house)
    answer = contents(house, draft, **{attribute: [house.code("a")]})
    assert [document.format_code.code for document in answer.documents] == ["a"]
    shown = {obj.entry_uuid for obj in answer.objects()}
    assert all({link.source, link.target} <= shown for link in answer.associations)
    assert len(answer.associations) == 4


def test_a_filter_that_matches_nothing_leaves_set_and_folder(house: Any) -> None:
    answer = contents(house, full(house), format_code=[house.code("none")])
    assert answer.documents == []
    assert len(answer.associations) == len(answer.folders) == 1


def test_on_demand_members_appear_when_asked_for(house: Any) -> None:
    draft = full(house)
    house.database.write(
        lambda connection: (
            connection.execute(document_entry.update().values(object_type=ON_DEMAND)).rowcount
        )
    )
    assert contents(house, draft).documents == []
    assert len(contents(house, draft, type=[xds.ON_DEMAND]).documents) == 2


def test_references_name_every_object(house: Any) -> None:
    draft = full(house)
    whole = {obj.entry_uuid for obj in contents(house, draft).objects()}
    refs = contents(house, draft, return_type="ObjectRef").object_refs
    assert set(refs) == whole
    assert len(refs) == len(whole)


def test_a_set_with_another_patients_document_is_no_single_patients_result(house: Any) -> None:
    document = house.registered()
    draft = house.draft("P2")
    draft.member(document.entry_uuid, xds.REFERENCE)
    house.accept(draft)
    request = get_submission_set_and_contents(unique_id=draft.set.unique_id)
    assert house.query_errors(request) == ["XDSResultNotSinglePatient"]
    refs = contents(house, draft, return_type="ObjectRef").object_refs
    assert document.entry_uuid in refs


def test_filters_never_judge_a_part_of_the_members_for_the_whole(house: Any) -> None:
    draft = full(house)  # five members: two documents, a folder, two memberships in it
    request = get_submission_set_and_contents(
        unique_id=draft.set.unique_id, format_code=[house.code("none")]
    )
    for limit, status in ((5, xds.SUCCESS), (4, xds.FAILURE)):
        domain = AffinityDomain(house.domain.assigning_authority, max_results=limit)
        response = Registry(house.database, domain).query(request)
        assert response.status == status
    assert [error.code for error in response.errors] == ["XDSTooManyResults"]


def test_an_unknown_set_is_an_empty_answer(house: Any) -> None:
    response = house.registry.query(get_submission_set_and_contents(unique_id="1.2.3.4"))
    assert (response.status, list(response.fragments)) == (xds.SUCCESS, [])


def test_contents_of_a_merged_patient_are_shown_under_the_survivor(house: Any) -> None:
    draft = full(house)
    house.feed("A40", "P2", subsumed="P1")
    answer = contents(house, draft)
    described = [*answer.submission_sets, *answer.documents, *answer.folders]
    assert {obj.patient_id for obj in described} == {house.cx("P2")}
