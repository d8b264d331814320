"""Changes of availabilityStatus (Metadata Update 3.57.4.1.3.3.2, .4, .5)."""

from __future__ import annotations

from typing import Any

import pytest

from metadata import identifiers as xds
from metadata.datatypes import LocalizedString, new_uuid_urn
from registry import schema
from transactions.stored_query import find_documents


def membership(office: Any, folder: Any) -> Any:
    [link] = office.links(folder.entry_uuid)
    return link


@pytest.mark.parametrize("kind", ["document", "folder", "membership"])
def test_a_status_goes_down_and_up_again(office: Any, kind: str) -> None:
    document, folder = office.house.filed()
    target = {
        "document": document.entry_uuid,
        "folder": folder.entry_uuid,
        "membership": membership(office, folder).entry_uuid,
    }[kind]
    change = office.change()
    change.deprecate(target)
    office.accept(change)
    assert office.stored(target).availability_status == xds.DEPRECATED
    change = office.change()
    change.restore(target)
    office.accept(change)
    assert office.stored(target).availability_status == xds.APPROVED


def test_a_deprecated_document_is_found_by_its_status(office: Any) -> None:
    document = office.house.registered()
    change = office.change()
    change.deprecate(document.entry_uuid)
    office.accept(change)
    assert office.row(document.entry_uuid).level == schema.SHOWN
    patient = office.house.patient
    assert not office.house.answer(find_documents(patient)).documents
    found = office.house.answer(find_documents(patient, status=[xds.DEPRECATED])).documents
    assert [one.entry_uuid for one in found] == [document.entry_uuid]


def test_a_relationship_can_be_deprecated_and_then_counts_no_more(office: Any) -> None:
    old = office.house.registered()
    draft = office.house.draft()
    addendum = draft.document()
    draft.link(xds.APND, addendum.entry_uuid, old.entry_uuid)
    office.house.accept(draft)
    [link] = office.links(old.entry_uuid)
    change = office.change()
    change.deprecate(link.entry_uuid)
    office.accept(change)
    draft = office.house.draft()
    draft.link(xds.RPLC, draft.document().entry_uuid, old.entry_uuid)
    office.house.accept(draft)
    stored = office.house.document(addendum.unique_id)
    assert stored.availability_status == xds.APPROVED


def test_a_replacement_does_not_inherit_a_deprecated_membership(office: Any) -> None:
    document, folder = office.house.filed()
    change = office.change()
    change.deprecate(membership(office, folder).entry_uuid)
    office.accept(change)
    draft = office.house.draft()
    draft.link(xds.RPLC, draft.document().entry_uuid, document.entry_uuid)
    office.house.accept(draft)
    assert not office.links(folder.entry_uuid)


def test_the_change_is_kept_with_its_submission_set(office: Any) -> None:
    document = office.house.registered()
    change = office.change()
    change.deprecate(document.entry_uuid)
    office.accept(change)
    [row] = office.rows(schema.association, type=xds.UPDATE_AVAILABILITY_STATUS)
    kept = office.stored(row.entry_uuid)
    assert (kept.source, kept.target) == (office.set_of(change).entry_uuid, document.entry_uuid)
    assert (kept.original_status, kept.new_status) == (xds.APPROVED, xds.DEPRECATED)


def test_the_objects_of_another_patient_can_be_changed(office: Any) -> None:
    document = office.house.registered()
    change = office.change("P2")
    change.deprecate(document.entry_uuid)
    office.accept(change)
    assert office.stored(document.entry_uuid).availability_status == xds.DEPRECATED
    links = [link.type_name for link in office.house.links(document.entry_uuid)]
    assert "UpdateAvailabilityStatus" in links


def test_version_and_status_may_change_together(office: Any) -> None:
    old = office.house.registered()
    for target in ("new", "old"):
        old = office.latest(old.logical_id)
        change = office.change()
        new = change.version(old, title=LocalizedString("Both"), entry_uuid=new_uuid_urn())
        uuid = new.entry_uuid if target == "new" else old.entry_uuid
        original = old.availability_status
        change.status(uuid, original, xds.DEPRECATED)
        office.accept(change)
        assert office.stored(new.entry_uuid).availability_status == xds.DEPRECATED
        assert office.stored(old.entry_uuid).availability_status == xds.DEPRECATED
        assert office.latest(old.logical_id).entry_uuid == new.entry_uuid


def test_only_the_latest_version_has_a_status_to_change(office: Any) -> None:
    old = office.house.registered()
    office.updated(old)
    change = office.change()
    change.restore(old.entry_uuid)
    response = office.update(change)
    assert [error.code for error in response.errors] == ["XDSMetadataUpdateError"]
    assert "not the latest version" in response.errors[0].context


def test_the_original_status_must_be_the_present_one(office: Any) -> None:
    document, folder = office.house.filed()
    link = membership(office, folder)
    change = office.change()
    for target in (document.entry_uuid, folder.entry_uuid, link.entry_uuid):
        change.restore(target)
    assert office.errors(change) == ["XDSMetadataUpdateError"] * 3


def test_one_status_change_for_each_object(office: Any) -> None:
    document = office.house.registered()
    change = office.change()
    change.deprecate(document.entry_uuid)
    change.deprecate(document.entry_uuid)
    assert office.errors(change) == ["XDSMetadataUpdateError"]


def test_what_is_not_registered_has_no_status(office: Any) -> None:
    change = office.change()
    change.deprecate(new_uuid_urn())
    assert office.errors(change) == ["UnresolvedReferenceException"]


def test_submission_sets_and_their_links_never_change(office: Any) -> None:
    draft = office.house.draft()
    document = draft.document().unique_id
    office.house.accept(draft)
    stored = office.house.document(document)
    [link] = office.house.links(stored.entry_uuid)
    for target in (link.source, link.entry_uuid):
        change = office.change()
        change.deprecate(target)
        assert office.errors(change) == ["XDSMetadataUpdateError"]


@pytest.mark.parametrize(
    ("attributes", "code"),
    [
        ({"original_status": None}, "XDSMetadataUpdateOperationError"),
        ({"new_status": None}, "XDSMetadataUpdateOperationError"),
        ({"new_status": "Approved"}, "XDSMetadataUpdateError"),
        ({"original_status": "urn:x"}, "XDSMetadataUpdateError"),
    ],
)
def test_both_statuses_are_named(office: Any, attributes: dict[str, Any], code: str) -> None:
    change = office.change()
    target = office.house.registered().entry_uuid
    given = {"original_status": xds.APPROVED, "new_status": xds.DEPRECATED, **attributes}
    change.draft.link(xds.UPDATE_AVAILABILITY_STATUS, "set", target, **given)
    assert set(office.errors(change)) == {code}


def test_a_status_change_comes_from_the_submission_set(office: Any) -> None:
    document, folder = office.house.filed()
    change = office.change()
    link = change.deprecate(document.entry_uuid)
    link.source = folder.entry_uuid
    assert office.errors(change) == ["XDSMetadataUpdateOperationError"]
