"""New versions of documents and folders (Metadata Update 3.57.4.1.3.3.1, 3.57.4.1.3.3.3)."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from metadata import identifiers as xds
from metadata.affinity_domain import DomainInForce
from metadata.datatypes import LocalizedString, new_oid, new_uuid_urn
from registry import Registry, schema
from transactions.stored_query import find_documents

TITLE = LocalizedString("Corrected")


def test_a_new_version_takes_the_place_of_the_old_one(office: Any) -> None:
    old = office.house.registered()
    change = office.change()
    change.version(old, title=TITLE)
    office.accept(change)
    new = office.latest(old.entry_uuid)
    assert (new.logical_id, new.version, new.title) == (old.entry_uuid, "2", TITLE)
    assert new.availability_status == xds.APPROVED
    assert office.row(new.entry_uuid).level == schema.SHOWN
    assert office.stored(old.entry_uuid).availability_status == xds.DEPRECATED
    assert office.row(old.entry_uuid).level == schema.HIDDEN
    assert office.versions(old.entry_uuid) == [(1, old.entry_uuid), (2, new.entry_uuid)]
    assert office.held_by(change) == {new.entry_uuid}
    [found] = office.house.answer(find_documents(office.house.patient)).documents
    assert found == new


def test_versions_follow_each_other(office: Any) -> None:
    first = office.house.registered()
    second = office.updated(first)
    third = office.updated(second, title=TITLE)
    assert (third.version, third.logical_id) == ("3", first.entry_uuid)
    assert office.versions(first.entry_uuid) == [
        (1, first.entry_uuid),
        (2, second.entry_uuid),
        (3, third.entry_uuid),
    ]
    assert office.row(second.entry_uuid).level == schema.HIDDEN


def test_all_versions_are_found_by_their_unique_id(office: Any) -> None:
    old = office.house.registered()
    new = office.updated(old)
    rows = office.rows(schema.namesake, unique_id=old.unique_id)
    assert [row.entry_uuid for row in rows] == [new.entry_uuid]
    [identity] = office.rows(schema.identity, unique_id=old.unique_id)
    assert identity.entry_uuid == old.entry_uuid


def test_a_version_can_be_sent_with_its_own_uuid(office: Any) -> None:
    old = office.house.registered()
    entry_uuid = new_uuid_urn()
    assert office.updated(old, entry_uuid=entry_uuid).entry_uuid == entry_uuid


def test_the_latest_version_may_be_deprecated_and_stays_so(office: Any) -> None:
    old = office.house.registered()
    draft = office.house.draft()
    draft.link(xds.RPLC, draft.document().entry_uuid, old.entry_uuid)
    office.house.accept(draft)
    new = office.updated(office.stored(old.entry_uuid), title=TITLE)
    assert new.availability_status == xds.DEPRECATED
    assert office.row(new.entry_uuid).level == schema.SHOWN


def test_an_offline_document_is_hidden(office: Any) -> None:
    old = office.house.registered()
    offline = office.updated(old, document_availability=xds.OFFLINE)
    assert office.row(offline.entry_uuid).level == schema.HIDDEN
    assert offline.document_availability == xds.OFFLINE
    online = office.updated(offline, document_availability=xds.ONLINE)
    assert office.row(online.entry_uuid).level == schema.SHOWN


def test_an_unknown_availability_is_refused(office: Any) -> None:
    change = office.change()
    change.version(office.house.registered(), document_availability="Somewhere")
    assert office.errors(change) == ["XDSRegistryMetadataError"]


def test_the_content_of_a_document_may_be_made_known_later(office: Any) -> None:
    """Delayed Document Assembly: registered with the hash of nothing, then as it is."""
    delayed = office.house.registered(hash=xds.EMPTY_SHA1, size="0")
    office.updated(delayed, hash="ab" * 20, size="17")
    draft = office.house.draft()
    draft.document(unique_id=delayed.unique_id, hash="ab" * 20, size="17")
    office.house.accept(draft)
    draft = office.house.draft()
    draft.document(unique_id=delayed.unique_id, hash=xds.EMPTY_SHA1, size="0")
    assert set(office.house.errors(draft)) == {"XDSNonIdenticalHash", "XDSNonIdenticalSize"}


def test_what_a_sender_says_of_status_and_version_is_ignored(office: Any) -> None:
    old = office.house.registered()
    new = office.updated(old, version="7", availability_status=xds.DEPRECATED, previous="1")
    assert (new.version, new.availability_status) == ("2", xds.APPROVED)


def test_a_missing_submission_set_status_means_original(office: Any) -> None:
    old = office.house.registered()
    change = office.change()
    change.version(old, member={"submission_set_status": None})
    office.accept(change)
    new = office.latest(old.entry_uuid)
    [row] = office.rows(schema.association, target=new.entry_uuid)
    assert office.stored(row.entry_uuid).submission_set_status == xds.ORIGINAL


# --- Folders ---------------------------------------------------------------------------------


def test_a_folder_gets_a_new_version_at_the_time_of_the_commit(office: Any) -> None:
    document, old = office.house.filed()
    office.house.clock.now += timedelta(hours=1)
    change = office.change()
    change.version(old, title=TITLE)
    office.accept(change)
    new = office.latest(old.entry_uuid)
    assert (new.version, new.title, new.logical_id) == ("2", TITLE, old.entry_uuid)
    assert new.last_update_time > old.last_update_time
    assert office.stored(old.entry_uuid).availability_status == xds.DEPRECATED
    assert office.row(old.entry_uuid).level == schema.HIDDEN
    assert office.pairs(new.entry_uuid) == {("HasMember", new.entry_uuid, document.entry_uuid)}
    assert [row.entry_uuid for row in office.rows(schema.namesake, unique_id=old.unique_id)] == [
        new.entry_uuid
    ]
    assert office.held_by(change) == {
        new.entry_uuid,
        *(link.entry_uuid for link in office.links(new.entry_uuid)),
    }
    values = office.rows(schema.attribute_value, entry_uuid=new.entry_uuid)
    assert [row.value for row in values] == ["folder^^1.2.250.1.213.1.1.4.1"]


def test_a_new_folder_keeps_only_approved_members(office: Any) -> None:
    document, old = office.house.filed()
    draft = office.house.draft()
    replacement = draft.document()
    draft.link(xds.RPLC, replacement.entry_uuid, document.entry_uuid)
    office.house.accept(draft)
    new = office.updated(old)
    current = office.house.document(replacement.unique_id)
    assert office.pairs(new.entry_uuid) == {("HasMember", new.entry_uuid, current.entry_uuid)}


def test_a_deprecated_folder_gets_no_new_version(office: Any) -> None:
    _, folder = office.house.filed()
    change = office.change()
    change.deprecate(folder.entry_uuid)
    office.accept(change)
    change = office.change()
    change.version(folder)
    assert office.errors(change) == ["XDSMetadataUpdateError"]


def test_an_old_version_of_a_folder_takes_no_more_members(office: Any) -> None:
    _, old = office.house.filed()
    new = office.updated(old)
    draft = office.house.draft()
    draft.file(draft.document().entry_uuid, old.entry_uuid)
    assert office.house.errors(draft) == ["XDSRegistryMetadataError"]
    draft = office.house.draft()
    draft.file(draft.document().entry_uuid, new.entry_uuid)
    office.house.accept(draft)


# --- Refusals --------------------------------------------------------------------------------


def test_a_stale_previous_version_is_a_conflict(office: Any) -> None:
    first = office.house.registered()
    office.updated(first)
    change = office.change()
    change.version(first)
    response = office.update(change)
    [error] = response.errors
    assert error.code == "XDSMetadataVersionError"
    assert error.location == change.draft.submission.documents[0].entry_uuid
    assert "version 1" in error.context


@pytest.mark.parametrize("previous", ["0", "2", "1.0", "one"])
def test_a_version_that_is_not_the_latest_is_a_conflict(office: Any, previous: str) -> None:
    change = office.change()
    change.version(office.house.registered(), previous=previous)
    assert office.errors(change) == ["XDSMetadataVersionError"]


def test_a_conflict_is_only_told_when_all_else_is_right(office: Any) -> None:
    change = office.change()
    change.version(office.house.registered(), previous="5", unique_id=new_oid())
    assert office.errors(change) == ["XDSMetadataUpdateError"]


@pytest.mark.parametrize(
    ("attributes", "code"),
    [
        ({"logical_id": None}, "XDSMetadataUpdateError"),
        ({"logical_id": "new", "entry_uuid": "new"}, "XDSMetadataUpdateError"),
        ({"logical_id": "document"}, "XDSMetadataUpdateOperationError"),
        ({"logical_id": new_uuid_urn()}, "XDSMetadataUpdateError"),
        ({"unique_id": "1.2.3.4.99"}, "XDSMetadataUpdateError"),
        ({"previous": None}, "XDSMetadataUpdateOperationError"),
        ({"propagation": "maybe"}, "XDSMetadataUpdateError"),
        ({"member": {"submission_set_status": "Reference"}}, "XDSMetadataUpdateError"),
        ({"class_code": None}, "XDSRegistryMetadataError"),
        ({"language_code": "?"}, "XDSRegistryMetadataError"),
    ],
)
def test_what_is_no_right_version_is_refused(
    office: Any, attributes: dict[str, Any], code: str
) -> None:
    change = office.change()
    change.version(office.house.registered(), **attributes)
    assert office.errors(change) == [code]


def test_a_version_of_another_type_is_refused(office: Any) -> None:
    change = office.change()
    change.version(office.house.registered(), object_type=xds.ON_DEMAND)
    assert "XDSMetadataUpdateError" in office.errors(change)


def test_a_version_of_another_kind_is_refused(office: Any) -> None:
    document, folder = office.house.filed()
    change = office.change()
    change.version(document, logical_id=folder.entry_uuid)
    assert office.errors(change) == ["XDSMetadataUpdateError"]


def test_a_registered_uuid_is_no_id_of_a_new_version(office: Any) -> None:
    old, other = office.house.registered(), office.house.registered()
    change = office.change()
    change.version(old, entry_uuid=other.entry_uuid)
    assert office.errors(change) == ["XDSRegistryMetadataError"]


def test_a_version_that_no_submission_set_holds_is_no_operation(office: Any) -> None:
    change = office.change()
    change.version(office.house.registered())
    change.version(office.house.registered())
    del change.draft.submission.associations[1]
    assert office.errors(change) == ["XDSMetadataUpdateOperationError"]


def test_two_versions_of_one_document_are_one_too_many(office: Any) -> None:
    old = office.house.registered()
    change = office.change()
    change.version(old)
    change.version(old)
    assert office.errors(change) == ["XDSMetadataUpdateError"]


def test_versions_of_two_documents_with_one_unique_id_are_welcome(office: Any) -> None:
    one = office.house.registered()
    draft = office.house.draft()
    twin = draft.document(
        new_uuid_urn(), unique_id=one.unique_id, hash=one.hash, size=one.size
    ).entry_uuid
    office.house.accept(draft)
    change = office.change()
    change.version(one)
    change.version(office.stored(twin))
    office.accept(change)
    assert len(office.rows(schema.namesake, unique_id=one.unique_id)) == 3


def test_an_update_is_all_or_nothing(office: Any) -> None:
    change = office.change()
    change.version(office.house.registered(), title=TITLE)
    change.version(office.house.registered(), unique_id=new_oid())
    assert office.errors(change) == ["XDSMetadataUpdateError"]


def test_every_fault_is_told_at_once(office: Any) -> None:
    change = office.change()
    change.version(office.house.registered(), class_code=None)
    change.version(office.house.registered(), unique_id=new_oid())
    change.version(office.house.registered(), previous=None)
    assert set(office.errors(change)) == {
        "XDSRegistryMetadataError",
        "XDSMetadataUpdateError",
        "XDSMetadataUpdateOperationError",
    }


def test_the_submission_set_is_a_new_one(office: Any) -> None:
    draft = office.house.draft()
    draft.document()
    office.house.accept(draft)
    change = office.change()
    change.version(office.house.registered())
    change.draft.set.unique_id = draft.set.unique_id
    assert office.errors(change) == ["XDSDuplicateUniqueIdInRegistry"]


def test_a_message_without_a_submission_set_is_refused(office: Any) -> None:
    change = office.change()
    change.version(office.house.registered())
    change.draft.submission.submission_sets.clear()
    assert set(office.errors(change)) == {"XDSRegistryMetadataError"}


def test_an_empty_message_is_refused(office: Any) -> None:
    assert office.errors(office.change()) == ["XDSRegistryMetadataError"]


def test_a_further_version_is_not_registered_by_itself(office: Any) -> None:
    old = office.house.registered()
    draft = office.house.draft()
    draft.document(logical_id=old.entry_uuid)
    assert office.house.errors(draft) == ["XDSRegistryMetadataError"]


def test_updates_are_judged_by_the_affinity_domain_in_force(office: Any) -> None:
    old = office.house.registered()
    in_force = DomainInForce(office.house.domain)
    office.house.registry = Registry(office.house.database, in_force)
    in_force.current = replace(office.house.domain, languages=frozenset({"xx-xx"}))
    change = office.change()
    change.version(old, title=TITLE)
    assert office.errors(change) == ["XDSRegistryMetadataError"]
    in_force.current = office.house.domain
    assert office.updated(old).version == "2"


def test_slots_that_a_domain_does_not_save_are_dropped_from_updates_too(office: Any) -> None:
    old = office.house.registered()
    domain = replace(office.house.domain, extra_metadata="warn")
    office.house.registry = Registry(office.house.database, domain)
    change = office.change()
    change.version(old, extra_slots={"urn:mine": ["x"]})
    response = office.update(change)
    assert (response.status, [error.code for error in response.errors]) == (
        xds.SUCCESS,
        ["XDSExtraMetadataNotSaved"],
    )
    assert office.latest(old.entry_uuid).extra_slots == {}
