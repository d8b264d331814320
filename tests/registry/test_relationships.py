"""ITI-42: associations between documents, and what they do to what is registered."""

from __future__ import annotations

from typing import Any

import pytest

from metadata import identifiers as xds
from metadata.datatypes import new_uuid_urn
from registry.schema import DEPRECATED, ON_DEMAND, document_entry
from transactions.stored_query import find_documents

ALL = [xds.APPROVED, xds.DEPRECATED]


def related(house: Any, kind: str, target: str, patient: str = "P1", **attributes: Any) -> Any:
    """A draft of one document in relation ``kind`` to ``target``."""
    draft = house.draft(patient)
    draft.link(kind, draft.document(**attributes).entry_uuid, target)
    return draft


def statuses(house: Any) -> dict[str, str]:
    documents = house.answer(find_documents(house.patient, status=ALL)).documents
    return {document.unique_id: document.availability_status for document in documents}


@pytest.mark.parametrize("kind", [xds.RPLC, xds.XFRM_RPLC])
def test_a_replacement_deprecates_its_target(house: Any, kind: str) -> None:
    old = house.registered()
    house.accept(related(house, kind, old.entry_uuid))
    assert sorted(statuses(house).values()) == sorted(ALL)
    assert house.document(old.unique_id).availability_status == xds.DEPRECATED
    [new] = house.answer(find_documents(house.patient)).documents
    assert kind in {link.association_type for link in house.links(new.entry_uuid)}


@pytest.mark.parametrize("kind", [xds.XFRM, xds.APND, xds.SIGNS])
def test_other_relationships_change_nothing(house: Any, kind: str) -> None:
    old = house.registered()
    house.accept(related(house, kind, old.entry_uuid))
    assert set(statuses(house).values()) == {xds.APPROVED}


@pytest.mark.parametrize("kind", [xds.XFRM, xds.APND, xds.SIGNS])
def test_other_relationships_may_lead_to_a_document_of_the_message(house: Any, kind: str) -> None:
    draft = house.draft()
    draft.link(kind, draft.document().entry_uuid, draft.document().entry_uuid)
    house.accept(draft)
    assert len(statuses(house)) == 2


@pytest.mark.parametrize("kind", [xds.RPLC, xds.XFRM_RPLC, xds.IS_SNAPSHOT_OF])
def test_replacements_and_snapshots_need_a_registered_target(house: Any, kind: str) -> None:
    draft = house.draft()
    draft.link(kind, draft.document().entry_uuid, draft.document().entry_uuid)
    assert house.errors(draft) == ["UnresolvedReferenceException"]


@pytest.mark.parametrize("kind", sorted(xds.DOCUMENT_RELATIONSHIPS))
def test_an_unknown_target_is_unresolved(house: Any, kind: str) -> None:
    missing = new_uuid_urn()
    response = house.submit(related(house, kind, missing))
    assert [error.code for error in response.errors] == ["UnresolvedReferenceException"]
    assert missing in response.errors[0].context


@pytest.mark.parametrize("kind", sorted(xds.DOCUMENT_RELATIONSHIPS - {xds.IS_SNAPSHOT_OF}))
def test_a_deprecated_document_cannot_be_a_target(house: Any, kind: str) -> None:
    old = house.registered()
    house.accept(related(house, xds.RPLC, old.entry_uuid))
    assert house.errors(related(house, kind, old.entry_uuid)) == [
        "XDSRegistryDeprecatedDocumentError"
    ]


def test_two_replacements_of_one_document_in_one_message_are_refused(house: Any) -> None:
    old = house.registered()
    draft = related(house, xds.RPLC, old.entry_uuid)
    draft.link(xds.RPLC, draft.document().entry_uuid, old.entry_uuid)
    assert house.errors(draft) == ["XDSRegistryDeprecatedDocumentError"]


def test_one_document_may_replace_two(house: Any) -> None:
    first, second = house.registered(), house.registered()
    draft = related(house, xds.RPLC, first.entry_uuid, "P1", name="new")
    draft.link(xds.RPLC, "new", second.entry_uuid)
    house.accept(draft)
    assert sorted(statuses(house).values()) == sorted([xds.APPROVED, *[xds.DEPRECATED] * 2])


@pytest.mark.parametrize("kind", sorted(xds.DOCUMENT_RELATIONSHIPS - {xds.IS_SNAPSHOT_OF}))
def test_related_documents_are_of_one_patient(house: Any, kind: str) -> None:
    old = house.registered()
    draft = related(house, kind, old.entry_uuid, "P2")
    assert house.errors(draft) == ["XDSPatientIdDoesNotMatch"]


def test_a_document_of_a_merged_patient_can_be_replaced(house: Any) -> None:
    old = house.registered()
    house.feed("A40", "P2", subsumed="P1")
    house.accept(related(house, xds.RPLC, old.entry_uuid, "P2"))
    found = house.answer(find_documents(house.cx("P2"), status=ALL)).documents
    assert {one.availability_status for one in found} == set(ALL)
    kinds = {link.association_type for link in house.links(old.entry_uuid)}
    assert kinds == {xds.HAS_MEMBER, xds.RPLC}


@pytest.mark.parametrize("target", ["folder", "set", "association"])
def test_a_relationship_leads_to_a_document(house: Any, target: str) -> None:
    document, folder = house.filed()
    [membership, *_] = [
        link for link in house.links(folder.entry_uuid) if link.target == document.entry_uuid
    ]
    [submission_set, *_] = {
        link.source for link in house.links(document.entry_uuid) if link.source != folder.entry_uuid
    }
    ends = {
        "folder": folder.entry_uuid,
        "set": submission_set,
        "association": membership.entry_uuid,
    }
    [error] = house.submit(related(house, xds.APND, ends[target])).errors
    assert error.code == "XDSRegistryMetadataError"
    # A SubmissionSet is refused as one that can no longer change.
    assert target == "set" or "(APND) links a DocumentEntry to a" in error.context


# --- Cascades --------------------------------------------------------------------------------


def test_a_replacement_deprecates_all_that_depends_on_its_target(house: Any) -> None:
    old = house.registered()
    for kind in (xds.XFRM, xds.APND):
        draft = related(
            house, kind, old.entry_uuid, unique_id=f"1.{len(kind)}{kind[-1:].encode()[0]}"
        )
        house.accept(draft)
        child = house.document(draft.submission.documents[0].unique_id)
        house.accept(related(house, xds.XFRM, child.entry_uuid))
    signature = related(house, xds.SIGNS, old.entry_uuid)
    house.accept(signature)
    house.accept(related(house, xds.RPLC, old.entry_uuid, unique_id="1.2.999"))
    after = statuses(house)
    approved = {unique_id for unique_id, status in after.items() if status == xds.APPROVED}
    assert approved == {"1.2.999", signature.submission.documents[0].unique_id}
    assert len(after) == 7


def test_a_cycle_of_dependants_ends(house: Any) -> None:
    draft = house.draft()
    first, second = draft.document(), draft.document()
    draft.link(xds.XFRM, first.entry_uuid, second.entry_uuid)
    draft.link(xds.XFRM, second.entry_uuid, first.entry_uuid)
    house.accept(draft)
    target = house.document(first.unique_id)
    house.accept(related(house, xds.RPLC, target.entry_uuid))
    assert sorted(statuses(house).values()) == sorted([xds.APPROVED, *[xds.DEPRECATED] * 2])


def test_a_deprecated_document_is_otherwise_returned_as_it_was(house: Any) -> None:
    old = house.registered(extra_slots={"urn:example:x": ["y"]})
    house.accept(related(house, xds.RPLC, old.entry_uuid))
    now = house.document(old.unique_id)
    assert now.availability_status == xds.DEPRECATED
    now.availability_status = xds.APPROVED
    assert now == old


# --- Addenda and snapshots -------------------------------------------------------------------


@pytest.mark.parametrize("kind", [xds.XFRM, xds.XFRM_RPLC])
def test_nothing_is_appended_to_a_transformation(house: Any, kind: str) -> None:
    draft = related(house, kind, house.registered().entry_uuid)
    house.accept(draft)
    transformation = house.document(draft.submission.documents[0].unique_id)
    assert house.errors(related(house, xds.APND, transformation.entry_uuid)) == [
        "XDSRegistryMetadataError"
    ]


def test_a_snapshot_of_a_stable_document_is_refused(house: Any) -> None:
    stable = house.registered()
    assert house.errors(related(house, xds.IS_SNAPSHOT_OF, stable.entry_uuid)) == [
        "XDSRegistryMetadataError"
    ]


def test_a_snapshot_of_an_on_demand_document_is_registered(house: Any) -> None:
    entry = house.registered()
    house.database.write(
        lambda connection: (
            connection.execute(document_entry.update().values(object_type=ON_DEMAND)).rowcount
        )
    )
    house.accept(related(house, xds.IS_SNAPSHOT_OF, entry.entry_uuid))
    kinds = {link.association_type for link in house.links(entry.entry_uuid)}
    assert xds.IS_SNAPSHOT_OF in kinds


def test_the_documentation_of_an_association_is_kept(house: Any) -> None:
    old = house.registered()
    draft = house.draft()
    code = house.code("reason")
    new = draft.document().entry_uuid
    draft.link(xds.RPLC, new, old.entry_uuid, documentation=code)
    house.accept(draft)
    [link] = [one for one in house.links(old.entry_uuid) if one.association_type == xds.RPLC]
    assert link.documentation == code
    assert link.availability_status == xds.APPROVED


# --- By reference, and what no one may touch -------------------------------------------------


def test_a_document_of_another_patient_may_be_referred_to(house: Any) -> None:
    old = house.registered()
    draft = house.draft("P2")
    draft.member(old.entry_uuid, xds.REFERENCE)
    house.accept(draft)
    links = house.links(old.entry_uuid)
    assert {link.submission_set_status for link in links} == {xds.ORIGINAL, xds.REFERENCE}


def test_a_deprecated_document_may_be_referred_to(house: Any) -> None:
    old = house.registered()
    house.accept(related(house, xds.RPLC, old.entry_uuid))
    draft = house.draft()
    draft.member(old.entry_uuid, xds.REFERENCE)
    house.accept(draft)
    with_status = {link.submission_set_status for link in house.links(old.entry_uuid)}
    assert xds.REFERENCE in with_status


def test_an_unknown_document_cannot_be_referred_to(house: Any) -> None:
    draft = house.draft()
    draft.member(new_uuid_urn(), xds.REFERENCE)
    assert house.errors(draft) == ["UnresolvedReferenceException"]


def test_a_registered_submission_set_can_no_longer_grow(house: Any) -> None:
    document = house.registered()
    [link] = house.links(document.entry_uuid)
    draft = house.draft()
    new = draft.document()
    draft.link(xds.HAS_MEMBER, link.source, new.entry_uuid)
    assert "XDSRegistryMetadataError" in house.errors(draft)
    draft = house.draft()
    draft.document()
    draft.member(link.source, xds.REFERENCE)
    assert house.errors(draft) == ["XDSRegistryMetadataError"]


def test_a_registered_folder_is_no_member_by_reference(house: Any) -> None:
    _, folder = house.filed()
    draft = house.draft()
    draft.member(folder.entry_uuid, xds.REFERENCE)
    assert house.errors(draft) == ["XDSRegistryMetadataError"]


def test_only_approved_rows_change_their_status(house: Any) -> None:
    """The column and the fragment say the same."""
    old = house.registered()
    house.accept(related(house, xds.RPLC, old.entry_uuid))
    with house.database.read() as connection:
        rows = connection.execute(document_entry.select()).all()
    for row in rows:
        deprecated = xds.DEPRECATED.encode() in row.ebrim
        assert deprecated == (row.status == DEPRECATED)
