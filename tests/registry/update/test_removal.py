"""ITI-62: what may go and what stays (Remove Metadata and Documents 3.62.4.1.3)."""

from __future__ import annotations

from typing import Any

import pytest

from metadata import identifiers as xds
from metadata.datatypes import new_uuid_urn
from registry import schema
from transactions.iti_62 import RemoveObjectsRequest
from transactions.registry_response import RegistryResponse
from transactions.stored_query import find_documents, get_documents, get_submission_set_and_contents


def remove(office: Any, *names: str) -> RegistryResponse:
    response: RegistryResponse = office.house.registry.remove(RemoveObjectsRequest(names))
    return response


def removed(office: Any, *names: str) -> None:
    response = remove(office, *names)
    assert response.status == xds.SUCCESS, response.errors


def refused(office: Any, *names: str) -> list[str]:
    """Remove, insist on failure without a trace, and return the error codes."""
    before = office.everything()
    response = remove(office, *names)
    assert response.status == xds.FAILURE
    assert office.everything() == before
    return [error.code for error in response.errors]


def ids_of(office: Any, draft: Any) -> list[str]:
    """Everything that a submission brought."""
    request = get_submission_set_and_contents(unique_id=draft.set.unique_id)
    return [obj.entry_uuid for obj in office.house.answer(request).objects()]


def submitted(office: Any, **attributes: Any) -> tuple[Any, list[str]]:
    """A document registered alone, and the ids of its whole submission."""
    draft = office.house.draft()
    unique_id = draft.document(**attributes).unique_id
    office.house.accept(draft)
    ids = ids_of(office, draft)
    [stored] = [
        office.stored(one) for one in ids if office.rows(schema.document_entry, entry_uuid=one)
    ]
    assert stored.unique_id == unique_id
    return stored, ids


def clean(office: Any) -> dict[str, list[Any]]:
    """Everything but the patients, who stay."""
    return {name: rows for name, rows in office.everything().items() if name != "patient" and rows}


def test_a_whole_submission_goes_without_a_trace(office: Any, reference: Any) -> None:
    before = clean(office)
    draft = office.house.draft()
    document = draft.document(
        event_code_list=[office.house.code("event")],
        reference_id_list=[reference("A1", xds.ACCESSION_REFERENCE)],
    )
    folder = draft.folder()
    draft.file(document.entry_uuid, folder.entry_uuid)
    office.house.accept(draft)
    ids = ids_of(office, draft)
    assert len(ids) == 7
    removed(office, *ids)
    assert clean(office) == before
    office.house.accept(draft)  # every id and uniqueId is free again


def test_a_part_of_a_submission_goes(office: Any) -> None:
    document, ids = submitted(office)
    [link] = [link.entry_uuid for link in office.house.links(document.entry_uuid)]
    removed(office, document.entry_uuid, link)
    assert not office.house.answer(find_documents(office.house.patient)).documents
    assert office.rows(schema.submission_set)
    assert len(ids) == 3


def test_an_object_named_twice_goes_once(office: Any) -> None:
    _, ids = submitted(office)
    removed(office, *ids, *ids)


def test_what_is_not_registered_cannot_go(office: Any) -> None:
    _, ids = submitted(office)
    unknown = new_uuid_urn()
    response = remove(office, *ids, unknown, "no uuid")
    assert [error.code for error in response.errors] == ["UnresolvedReferenceException"] * 2
    assert unknown in response.errors[0].context
    removed(office, *ids)
    assert refused(office, *ids) == ["UnresolvedReferenceException"] * 3


def test_what_is_referred_to_cannot_go(office: Any) -> None:
    document, ids = submitted(office)
    response = remove(office, document.entry_uuid)
    assert [error.code for error in response.errors] == ["ReferencesExistException"]
    [link] = office.house.links(document.entry_uuid)
    assert document.entry_uuid in response.errors[0].context
    assert link.entry_uuid in response.errors[0].context
    assert refused(office, link.source) == ["ReferencesExistException"]
    assert len(ids) == 3


def test_a_relationship_is_a_reference_from_either_end(office: Any) -> None:
    document, ids = submitted(office)
    draft = office.house.draft()
    draft.link(xds.APND, draft.document().entry_uuid, document.entry_uuid)
    office.house.accept(draft)
    assert refused(office, *ids) == ["ReferencesExistException"]
    [link] = [one for one in office.links(document.entry_uuid) if one.type_name == "APND"]
    removed(office, *ids, link.entry_uuid)


def test_a_reference_from_another_patient_counts(office: Any) -> None:
    document, ids = submitted(office)
    draft = office.house.draft("P2")
    draft.document()
    draft.member(document.entry_uuid, xds.REFERENCE)
    office.house.accept(draft)
    assert office.rows(schema.reach)
    assert refused(office, *ids) == ["ReferencesExistException"]
    [link] = [
        row.entry_uuid
        for row in office.rows(schema.association, target=document.entry_uuid)
        if row.patient == office.house.cx("P2")
    ]
    removed(office, *ids, link)
    assert not office.rows(schema.reach)


def test_a_reference_that_goes_leaves_no_reach(office: Any) -> None:
    document, _ = submitted(office)
    draft = office.house.draft("P2")
    for _ in range(2):
        draft.document()
    draft.member(document.entry_uuid, xds.REFERENCE)
    office.house.accept(draft)
    [link] = office.rows(
        schema.association, target=document.entry_uuid, patient=office.house.cx("P2")
    )
    removed(office, link.entry_uuid)
    assert not office.rows(schema.reach)


def test_a_document_is_not_left_without_a_submission_set(office: Any) -> None:
    document, ids = submitted(office)
    response = remove(office, *(one for one in ids if one != document.entry_uuid))
    [error] = response.errors
    assert error.code == "XDSUnreferencedObjectException"
    assert document.entry_uuid in error.context


def test_a_document_may_stay_with_those_who_refer_to_it(office: Any) -> None:
    document, ids = submitted(office)
    draft = office.house.draft()
    draft.member(document.entry_uuid, xds.REFERENCE)
    office.house.accept(draft)
    removed(office, *(one for one in ids if one != document.entry_uuid))
    assert office.stored(document.entry_uuid) == document


def test_a_membership_is_not_left_without_a_submission_set(office: Any) -> None:
    _, folder = office.house.filed()
    [membership] = office.links(folder.entry_uuid)
    [listing] = office.rows(schema.association, target=membership.entry_uuid)
    assert refused(office, listing.entry_uuid) == ["XDSUnreferencedObjectException"]
    assert refused(office, membership.entry_uuid) == ["ReferencesExistException"]
    removed(office, listing.entry_uuid, membership.entry_uuid)
    assert not office.links(folder.entry_uuid)


def test_a_submitted_relationship_may_lose_its_submit_association(office: Any) -> None:
    one, two = office.house.registered(), office.house.registered()
    change = office.change()
    change.submit(xds.APND, one.entry_uuid, two.entry_uuid)
    office.accept(change)
    [trigger] = office.rows(schema.association, type=xds.SUBMIT_ASSOCIATION)
    removed(office, trigger.entry_uuid)


def test_a_submitted_membership_is_held_by_its_submit_association(office: Any) -> None:
    document, (_, folder) = office.house.registered(), office.house.filed()
    change = office.change()
    change.submit(xds.HAS_MEMBER, folder.entry_uuid, document.entry_uuid)
    office.accept(change)
    [trigger] = office.rows(schema.association, type=xds.SUBMIT_ASSOCIATION)
    assert refused(office, trigger.entry_uuid) == ["XDSUnreferencedObjectException"]


def test_every_fault_is_told_at_once(office: Any) -> None:
    document, ids = submitted(office)
    other, others = submitted(office)
    [link] = office.house.links(other.entry_uuid)
    codes = refused(office, new_uuid_urn(), document.entry_uuid, link.entry_uuid)
    assert codes == [
        "UnresolvedReferenceException",
        "ReferencesExistException",
        "XDSUnreferencedObjectException",
    ]
    assert ids != others


# --- UniqueIds that several share ------------------------------------------------------------


@pytest.mark.parametrize("which", [0, 1])
def test_a_unique_id_goes_on_to_who_shares_it(office: Any, which: int) -> None:
    content = {"unique_id": "1.2.3.7", "hash": "cd" * 20, "size": "7"}
    pairs = [submitted(office, **content) for _ in range(2)]
    removed(office, *pairs[which][1])
    stays, ids = pairs[1 - which]
    found = office.house.answer(get_documents(unique_id=["1.2.3.7"])).documents
    assert [one.entry_uuid for one in found] == [stays.entry_uuid]
    [identity] = office.rows(schema.identity, unique_id="1.2.3.7")
    assert (identity.entry_uuid, identity.hash) == (stays.entry_uuid, "cd" * 20)
    assert not office.rows(schema.namesake)
    removed(office, *ids)
    submitted(office, unique_id="1.2.3.7", hash="ef" * 20, size="9")


# --- Versions --------------------------------------------------------------------------------


def everything_at(office: Any, change: Any, entry_uuid: str) -> list[str]:
    """A version and the associations that tie it to its SubmissionSet."""
    package = office.set_of(change).entry_uuid
    rows = office.rows(schema.association, source=package, target=entry_uuid)
    return [entry_uuid, package, *(row.entry_uuid for row in rows)]


def test_when_the_latest_version_goes_the_one_before_is_shown(office: Any) -> None:
    old = office.house.registered()
    change = office.change()
    change.version(old)
    office.accept(change)
    new = office.latest(old.entry_uuid)
    removed(office, *everything_at(office, change, new.entry_uuid))
    assert office.row(old.entry_uuid).level == schema.SHOWN
    assert office.versions(old.entry_uuid) == [(1, old.entry_uuid)]
    stored = office.stored(old.entry_uuid)
    assert stored.availability_status == xds.DEPRECATED
    change = office.change()
    change.restore(old.entry_uuid)
    office.accept(change)
    again = office.updated(stored)
    assert again.version == "2"
    assert [number for number, _ in office.versions(old.entry_uuid)] == [1, 2]


def test_an_offline_version_stays_hidden(office: Any) -> None:
    old = office.house.registered(document_availability=xds.OFFLINE)
    change = office.change()
    change.version(old, document_availability=xds.ONLINE)
    office.accept(change)
    new = office.latest(old.entry_uuid)
    removed(office, *everything_at(office, change, new.entry_uuid))
    assert office.row(old.entry_uuid).level == schema.HIDDEN


def test_a_first_version_stays_as_long_as_another_names_it(office: Any) -> None:
    old, ids = submitted(office)
    change = office.change()
    change.version(old)
    office.accept(change)
    new = office.latest(old.entry_uuid)
    assert refused(office, *ids) == ["ReferencesExistException"]
    removed(office, *ids, *everything_at(office, change, new.entry_uuid))
    assert not office.rows(schema.revision)
    assert not office.rows(schema.identity, unique_id=old.unique_id)


def test_a_folder_goes_with_all_its_versions(office: Any) -> None:
    before = clean(office)
    draft = office.house.draft()
    draft.folder()
    office.house.accept(draft)
    ids = ids_of(office, draft)
    folder = office.house.folder(draft.set.unique_id)
    change = office.change()
    change.version(folder)
    office.accept(change)
    new = office.latest(folder.entry_uuid)
    removed(office, *ids, *everything_at(office, change, new.entry_uuid))
    assert clean(office) == before


def test_a_document_has_its_former_content_again_when_the_version_that_changed_it_goes(
    office: Any,
) -> None:
    old = office.house.registered(hash=xds.EMPTY_SHA1, size="0")
    change = office.change()
    new = change.version(old, entry_uuid=new_uuid_urn(), hash="ab" * 20, size="17")
    office.accept(change)
    [link] = office.rows(schema.association, target=new.entry_uuid)
    removed(office, new.entry_uuid, link.entry_uuid)
    draft = office.house.draft()
    draft.document(unique_id=old.unique_id, hash="ab" * 20, size="17")
    assert set(office.house.errors(draft)) == {"XDSNonIdenticalHash", "XDSNonIdenticalSize"}
    draft = office.house.draft()
    draft.document(unique_id=old.unique_id, hash=xds.EMPTY_SHA1, size="0")
    office.house.accept(draft)
