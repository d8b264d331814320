"""ITI-18: the queries that follow what links known objects."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from metadata import identifiers as xds
from metadata.affinity_domain import AffinityDomain
from metadata.datatypes import new_uuid_urn
from metadata.model import Submission
from registry import Registry
from registry.schema import ON_DEMAND, document_entry
from transactions import stored_query as ask
from transactions.iti_18 import AdhocQueryRequest


def uuids(objects: Any) -> set[str]:
    return {one.entry_uuid for one in objects}


def closed(answer: Submission) -> bool:
    """Whether every association has both its ends in the answer."""
    shown = uuids(answer.objects())
    return all({link.source, link.target} <= shown for link in answer.associations)


def on_demand(house: Any, *entry_uuids: str) -> None:
    """Make documents On-Demand ones, as far as the columns say."""
    house.database.write(
        lambda connection: (
            connection.execute(
                document_entry.update()
                .where(document_entry.c.entry_uuid.in_(entry_uuids))
                .values(object_type=ON_DEMAND)
            ).rowcount
        )
    )


# --- GetFolders ------------------------------------------------------------------------------


def test_folders_are_had_by_entry_uuid_and_by_unique_id(house: Any) -> None:
    (_, one), (_, two) = house.filed(), house.filed()
    by_uuid = ask.get_folders(entry_uuid=[one.entry_uuid, two.entry_uuid, new_uuid_urn()])
    by_unique_id = ask.get_folders(unique_id=[two.unique_id, one.unique_id, "1.2.3.unknown"])
    for request in (by_uuid, by_unique_id):
        found = house.answer(request)
        assert sorted(found.folders, key=str) == sorted([one, two], key=str)
        assert not found.documents


def test_the_id_of_a_document_is_no_folders(house: Any) -> None:
    document, _ = house.filed()
    assert not house.answer(ask.get_folders(entry_uuid=[document.entry_uuid])).folders
    assert not house.answer(ask.get_folders(unique_id=[document.unique_id])).folders


# --- GetDocumentsAndAssociations ---------------------------------------------------------------


def test_documents_come_with_whatever_touches_them(house: Any) -> None:
    document, folder = house.filed()
    for request in (
        ask.get_documents_and_associations(entry_uuid=[document.entry_uuid]),
        ask.get_documents_and_associations(unique_id=[document.unique_id]),
    ):
        answer = house.answer(request)
        assert answer.documents == [document]
        assert not answer.folders
        assert uuids(answer.associations) == uuids(house.links(document.entry_uuid))
        assert folder.entry_uuid in {link.source for link in answer.associations}


# --- GetSubmissionSets -------------------------------------------------------------------------


def test_the_sets_of_documents_and_folders_come_with_what_ties_them(house: Any) -> None:
    document, folder = house.filed()
    other = house.registered()
    answer = house.answer(ask.get_submission_sets([document.entry_uuid, folder.entry_uuid]))
    [submission_set] = answer.submission_sets
    ends = {(link.source, link.target) for link in answer.associations}
    assert ends == {
        (submission_set.entry_uuid, one.entry_uuid) for one in (document, folder)
    }  # the folder's own membership is none of a set
    both = house.answer(ask.get_submission_sets([document.entry_uuid, other.entry_uuid]))
    assert len(both.submission_sets) == len(both.associations) == 2
    assert not both.documents


def test_a_set_that_refers_to_a_document_is_one_of_its_sets(house: Any) -> None:
    document = house.registered()
    draft = house.draft("P2")
    draft.member(document.entry_uuid, xds.REFERENCE)
    house.accept(draft)
    request = ask.get_submission_sets([document.entry_uuid])
    assert house.query_errors(request) == ["XDSResultNotSinglePatient"]
    house.feed("A40", "P2", subsumed="P1")
    answer = house.answer(request)
    assert len(answer.submission_sets) == len(answer.associations) == 2
    assert {one.patient_id for one in answer.submission_sets} == {house.cx("P2")}


def test_only_documents_and_folders_have_sets(house: Any) -> None:
    document, _ = house.filed()
    [submission_set] = house.answer(ask.get_submission_sets([document.entry_uuid])).submission_sets
    links = house.links(document.entry_uuid)
    asked = ask.get_submission_sets([submission_set.entry_uuid, links[0].entry_uuid])
    assert not list(house.answer(asked).objects())


# --- GetFolderAndContents ----------------------------------------------------------------------


def full(house: Any) -> Any:
    """A folder with two documents of different format and confidentiality."""
    draft = house.draft()
    folder = draft.folder()
    for name in ("a", "b"):
        code = house.code(name)
        document = draft.document(format_code=code, confidentiality_code=[code])
        draft.file(document.entry_uuid, folder.entry_uuid)
    house.accept(draft)
    return folder


def contents(house: Any, folder: Any, **filters: Any) -> Submission:
    request = ask.get_folder_and_contents(unique_id=folder.unique_id, **filters)
    answer: Submission = house.answer(request)
    assert closed(answer)
    return answer


def test_a_folder_comes_with_its_documents_and_their_memberships(house: Any) -> None:
    answer = contents(house, full(house))
    kinds = (answer.folders, answer.documents, answer.associations, answer.submission_sets)
    assert [len(kind) for kind in kinds] == [1, 2, 2, 0]
    by_uuid = ask.get_folder_and_contents(entry_uuid=answer.folders[0].entry_uuid)
    assert uuids(house.answer(by_uuid).objects()) == uuids(answer.objects())


@pytest.mark.parametrize("attribute", ["format_code", "confidentiality_code"])
def test_filters_leave_no_membership_dangling(house: Any, attribute: str) -> None:
    answer = contents(house, full(house), **{attribute: [house.code("a")]})
    assert [document.format_code.code for document in answer.documents] == ["a"]  # type: ignore[union-attr]
    assert len(answer.associations) == 1


def test_on_demand_documents_of_a_folder_appear_when_asked_for(house: Any) -> None:
    folder = full(house)
    [first, _] = contents(house, folder).documents
    on_demand(house, first.entry_uuid)
    assert len(contents(house, folder).documents) == 1
    assert len(contents(house, folder, type=[xds.STABLE, xds.ON_DEMAND]).documents) == 2


def test_what_was_filed_after_a_merge_is_in_the_folder_too(house: Any) -> None:
    folder = full(house)
    house.feed("A40", "P2", subsumed="P1")
    [stored] = house.answer(ask.get_folders(unique_id=[folder.unique_id])).folders
    draft = house.draft("P2")
    draft.file(draft.document().entry_uuid, stored.entry_uuid)
    house.accept(draft)
    answer = contents(house, folder)
    assert len(answer.documents) == len(answer.associations) == 3
    assert {one.patient_id for one in answer.documents} == {house.cx("P2")}


def test_a_part_of_the_members_is_never_judged_for_the_whole(house: Any) -> None:
    folder = full(house)
    request = ask.get_folder_and_contents(
        unique_id=folder.unique_id, format_code=[house.code("none")]
    )
    for limit, status in ((2, xds.SUCCESS), (1, xds.FAILURE)):
        domain = AffinityDomain(house.domain.assigning_authority, max_results=limit)
        assert Registry(house.database, domain).query(request).status == status


# --- GetFoldersForDocument ---------------------------------------------------------------------


def test_the_folders_of_a_document_come_alone(house: Any) -> None:
    document, folder = house.filed()
    draft = house.draft()
    second = draft.folder()
    draft.file(document.entry_uuid, second.entry_uuid)
    house.accept(draft)
    for request in (
        ask.get_folders_for_document(entry_uuid=document.entry_uuid),
        ask.get_folders_for_document(unique_id=document.unique_id),
    ):
        answer = house.answer(request)
        assert {one.unique_id for one in answer.folders} == {folder.unique_id, second.unique_id}
        assert len(list(answer.objects())) == 2


def test_a_document_in_no_folder_has_none(house: Any) -> None:
    request = ask.get_folders_for_document(entry_uuid=house.registered().entry_uuid)
    assert not list(house.answer(request).objects())


# --- GetRelatedDocuments -----------------------------------------------------------------------


@pytest.fixture
def related(house: Any) -> dict[str, str]:
    """A document that was replaced, and its replacement with an addendum: uuids by name."""
    old = house.registered()
    draft = house.draft()
    new, addendum = draft.document(new_uuid_urn()), draft.document(new_uuid_urn())
    draft.link(xds.RPLC, new.entry_uuid, old.entry_uuid)
    draft.link(xds.APND, addendum.entry_uuid, new.entry_uuid)
    house.accept(draft)
    return {"old": old.entry_uuid, "new": new.entry_uuid, "addendum": addendum.entry_uuid}


def relations(
    house: Any, start: str, *types: str, **filters: Any
) -> tuple[set[str], list[str | None]]:
    """The documents found, and the types of what links them."""
    answer = house.answer(ask.get_related_documents(types, entry_uuid=start, **filters))
    assert closed(answer)
    return uuids(answer.documents), sorted(link.association_type for link in answer.associations)


def test_related_documents_are_those_so_linked_in_either_direction(
    house: Any, related: dict[str, str]
) -> None:
    old, new, addendum = (related[name] for name in ("old", "new", "addendum"))
    assert relations(house, new, xds.RPLC) == ({old, new}, [xds.RPLC])
    assert relations(house, old, xds.RPLC) == ({old, new}, [xds.RPLC])
    assert relations(house, new, xds.APND) == ({new, addendum}, [xds.APND])
    assert relations(house, new, xds.APND, xds.RPLC) == (
        {old, new, addendum},
        sorted([xds.APND, xds.RPLC]),
    )


def test_without_a_relation_there_is_nothing(house: Any, related: dict[str, str]) -> None:
    assert relations(house, related["old"], xds.XFRM, xds.HAS_MEMBER) == (set(), [])
    assert relations(house, new_uuid_urn(), xds.RPLC) == (set(), [])


def test_a_related_on_demand_document_appears_when_asked_for(
    house: Any, related: dict[str, str]
) -> None:
    on_demand(house, related["old"])
    assert relations(house, related["new"], xds.RPLC) == (set(), [])
    both = [xds.STABLE, xds.ON_DEMAND]
    assert relations(house, related["new"], xds.RPLC, type=both)[0] == {
        related["old"],
        related["new"],
    }


def test_relations_need_a_type_and_one_document(house: Any) -> None:
    no_type = ask.get_related_documents([], entry_uuid="x")
    assert house.query_errors(no_type) == ["XDSStoredQueryMissingParam"]
    no_document = ask.get_related_documents([xds.RPLC])
    assert house.query_errors(no_document) == ["XDSStoredQueryMissingParam"]
    both = ask.get_related_documents([xds.RPLC], entry_uuid="x", unique_id="y")
    assert house.query_errors(both) == ["XDSStoredQueryParamNumber"]


# --- All of them -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "make",
    [
        lambda ids: ask.get_documents(entry_uuid=ids),
        lambda ids: ask.get_folders(entry_uuid=ids),
        lambda ids: ask.get_documents_and_associations(entry_uuid=ids),
        lambda ids: ask.get_submission_sets(ids),
    ],
    ids=["GetDocuments", "GetFolders", "GetDocumentsAndAssociations", "GetSubmissionSets"],
)
def test_whole_objects_of_two_patients_are_refused_and_references_are_given(
    house: Any, make: Callable[[list[str]], AdhocQueryRequest]
) -> None:
    ids = []
    for patient in ("P1", "P2"):
        draft = house.draft(patient)
        folder, document = draft.folder(new_uuid_urn()), draft.document(new_uuid_urn())
        draft.file(document.entry_uuid, folder.entry_uuid)
        house.accept(draft)
        ids += [folder.entry_uuid, document.entry_uuid]
    request = make(ids)
    assert house.query_errors(request) == ["XDSResultNotSinglePatient"]
    refs = AdhocQueryRequest(request.query_id, "ObjectRef", request.parameters)
    assert len(house.answer(refs).object_refs) >= 2
    house.feed("A40", "P2", subsumed="P1")
    assert list(house.answer(request).objects())
