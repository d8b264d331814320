"""Associations: submitted (Metadata Update 3.57.4.1.3.3.6), inherited by new versions or not."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from metadata import identifiers as xds
from metadata.datatypes import LocalizedString, new_uuid_urn
from registry import schema
from transactions.stored_query import find_submission_sets

# --- Submitted -------------------------------------------------------------------------------


def test_a_document_can_be_filed_later(office: Any) -> None:
    document, (_, folder) = office.house.registered(), office.house.filed()
    office.house.clock.now += timedelta(hours=1)
    change = office.change()
    change.submit(xds.HAS_MEMBER, folder.entry_uuid, document.entry_uuid)
    office.accept(change)
    assert ("HasMember", folder.entry_uuid, document.entry_uuid) in office.pairs(folder.entry_uuid)
    assert office.stored(folder.entry_uuid).last_update_time > folder.last_update_time
    [row] = office.rows(schema.association, type=xds.SUBMIT_ASSOCIATION)
    assert row.source == office.set_of(change).entry_uuid


@pytest.mark.parametrize("kind", [xds.APND, xds.XFRM, xds.SIGNS])
def test_documents_can_be_related_later(office: Any, kind: str) -> None:
    one, two = office.house.registered(), office.house.registered()
    change = office.change()
    change.submit(kind, one.entry_uuid, two.entry_uuid)
    office.accept(change)
    name = kind.rpartition(":")[2]
    assert office.pairs(one.entry_uuid) == {(name, one.entry_uuid, two.entry_uuid)}


def test_a_document_replaced_later_is_deprecated_and_leaves_its_folders_to_its_heir(
    office: Any,
) -> None:
    (old, folder), new = office.house.filed(), office.house.registered()
    change = office.change()
    change.submit(xds.RPLC, new.entry_uuid, old.entry_uuid)
    office.accept(change)
    assert office.stored(old.entry_uuid).availability_status == xds.DEPRECATED
    assert ("HasMember", folder.entry_uuid, new.entry_uuid) in office.pairs(folder.entry_uuid)


def test_documents_do_not_replace_each_other(office: Any) -> None:
    one, two = office.house.registered(), office.house.registered()
    change = office.change()
    change.submit(xds.RPLC, one.entry_uuid, two.entry_uuid)
    change.submit(xds.RPLC, two.entry_uuid, one.entry_uuid)
    assert office.errors(change) == ["XDSMetadataUpdateError"] * 2


@pytest.mark.parametrize("replaced_first", [True, False])
def test_nothing_is_linked_to_what_the_same_message_replaces(
    office: Any, replaced_first: bool
) -> None:
    (old, folder), other = office.house.filed(), office.house.registered()
    change = office.change()
    links = [
        (xds.RPLC, other.entry_uuid, old.entry_uuid),
        (xds.HAS_MEMBER, folder.entry_uuid, old.entry_uuid),
    ]
    for link in links if replaced_first else links[::-1]:
        change.submit(*link)
    assert office.errors(change) == ["XDSMetadataUpdateError"]


def test_a_new_version_goes_with_what_it_depends_on(office: Any) -> None:
    addendum, document = related(office, xds.APND)
    change = office.change()
    change.version(addendum)
    change.submit(xds.RPLC, office.house.registered().entry_uuid, document.entry_uuid)
    office.accept(change)
    assert office.latest(addendum.entry_uuid).availability_status == xds.DEPRECATED


def test_a_new_version_of_a_folder_holds_the_heir_of_its_member(office: Any) -> None:
    (old, folder), heir = office.house.filed(), office.house.registered()
    office.house.clock.now += timedelta(hours=1)
    change = office.change()
    change.version(folder)
    change.submit(xds.RPLC, heir.entry_uuid, old.entry_uuid)
    office.accept(change)
    latest = office.latest(folder.entry_uuid)
    assert ("HasMember", latest.entry_uuid, heir.entry_uuid) in office.pairs(latest.entry_uuid)
    assert office.stored(old.entry_uuid).availability_status == xds.DEPRECATED


def test_a_new_version_can_be_linked_in_the_same_request(office: Any) -> None:
    document, (_, folder) = office.house.registered(), office.house.filed()
    change = office.change()
    new = change.version(document)
    change.submit(xds.HAS_MEMBER, folder.entry_uuid, new.entry_uuid)
    office.accept(change)
    latest = office.latest(document.entry_uuid)
    assert ("HasMember", folder.entry_uuid, latest.entry_uuid) in office.pairs(folder.entry_uuid)


def test_nothing_deprecated_is_linked(office: Any) -> None:
    (document, folder), other = office.house.filed(), office.house.registered()
    change = office.change()
    change.version(document)
    change.deprecate(folder.entry_uuid)
    change.submit(xds.APND, other.entry_uuid, document.entry_uuid)
    change.submit(xds.HAS_MEMBER, folder.entry_uuid, other.entry_uuid)
    assert office.errors(change) == ["XDSMetadataUpdateError"] * 2


def test_what_is_linked_is_registered(office: Any) -> None:
    change = office.change()
    change.submit(xds.APND, office.house.registered().entry_uuid, new_uuid_urn())
    assert office.errors(change) == ["UnresolvedReferenceException"]


def test_only_documents_are_members_of_folders_and_related(office: Any) -> None:
    document, folder = office.house.filed()
    [package] = office.house.answer(find_submission_sets(office.house.patient)).submission_sets
    for kind, source, target in (
        (xds.HAS_MEMBER, document.entry_uuid, folder.entry_uuid),
        (xds.APND, folder.entry_uuid, document.entry_uuid),
        (xds.APND, "set", document.entry_uuid),
        (xds.HAS_MEMBER, package.entry_uuid, document.entry_uuid),
    ):
        change = office.change()
        change.submit(kind, source, target)
        assert office.errors(change) == ["XDSRegistryMetadataError"]


def test_documents_of_two_patients_are_not_linked(office: Any) -> None:
    draft = office.house.draft("P2")
    other = draft.document(new_uuid_urn()).entry_uuid
    office.house.accept(draft)
    change = office.change()
    change.submit(xds.APND, office.house.registered().entry_uuid, other)
    assert office.errors(change) == ["XDSPatientIDReconciliationError"]


def test_a_snapshot_is_one_of_an_on_demand_document(office: Any) -> None:
    one, two = office.house.registered(), office.house.registered()
    change = office.change()
    change.submit(xds.IS_SNAPSHOT_OF, one.entry_uuid, two.entry_uuid)
    assert office.errors(change) == ["XDSRegistryMetadataError"]


def test_nothing_is_appended_to_a_transformation(office: Any) -> None:
    source, _ = related(office, xds.XFRM)
    change = office.change()
    change.submit(xds.APND, office.house.registered().entry_uuid, source.entry_uuid)
    assert office.errors(change) == ["XDSRegistryMetadataError"]


def test_a_document_is_replaced_once(office: Any) -> None:
    old = office.house.registered()
    change = office.change()
    for _ in range(2):
        change.submit(xds.RPLC, office.house.registered().entry_uuid, old.entry_uuid)
    assert office.errors(change) == ["XDSMetadataUpdateError"] * 2


# --- One operation for each object -----------------------------------------------------------


def test_an_association_that_nobody_submits_is_no_operation(office: Any) -> None:
    document, folder = office.house.filed()
    change = office.change()
    link = change.draft.file(document.entry_uuid, folder.entry_uuid)
    response = office.update(change)
    assert {error.code for error in response.errors} == {"XDSMetadataUpdateOperationError"}
    assert link.entry_uuid in {error.location for error in response.errors}


def test_an_association_submitted_twice_is_two_operations(office: Any) -> None:
    change = office.change()
    one, two = office.house.registered(), office.house.registered()
    link = change.submit(xds.APND, one.entry_uuid, two.entry_uuid)
    change.draft.link(xds.SUBMIT_ASSOCIATION, "set", link.entry_uuid)
    assert office.errors(change) == ["XDSMetadataUpdateOperationError"]


@pytest.mark.parametrize("target", ["set", "document", "elsewhere"])
def test_only_an_association_of_the_message_is_submitted(office: Any, target: str) -> None:
    document = office.house.registered()
    change = office.change()
    new = change.version(document)
    names = {"set": "set", "document": new.entry_uuid, "elsewhere": document.entry_uuid}
    change.draft.link(xds.SUBMIT_ASSOCIATION, "set", names[target])
    assert office.errors(change) == [
        "XDSRegistryMetadataError" if target == "set" else "XDSMetadataUpdateOperationError"
    ]


def test_a_member_by_reference_belongs_to_a_registration(office: Any) -> None:
    change = office.change()
    change.draft.member(office.house.registered().entry_uuid, xds.REFERENCE)
    assert office.errors(change) == ["XDSMetadataUpdateOperationError"]


def test_an_unknown_symbol_is_no_end(office: Any) -> None:
    change = office.change()
    change.submit(xds.APND, office.house.registered().entry_uuid, "nothing")
    assert office.errors(change) == ["UnresolvedReferenceException"]


def test_an_unknown_type_is_refused(office: Any) -> None:
    document, folder = office.house.filed()
    change = office.change()
    change.draft.link("urn:example:type", folder.entry_uuid, document.entry_uuid)
    assert office.errors(change) == ["XDSRegistryMetadataError"]


# --- Inherited -------------------------------------------------------------------------------


def related(office: Any, kind: str) -> tuple[Any, Any]:
    """Two documents, the first related to the second."""
    target = office.house.registered()
    draft = office.house.draft()
    source = draft.document(new_uuid_urn())
    code = office.house.code("why")
    draft.link(kind, source.entry_uuid, target.entry_uuid, documentation=code)
    office.house.accept(draft)
    return office.stored(source.entry_uuid), office.stored(target.entry_uuid)


@pytest.mark.parametrize("propagation", [None, "yes"])
def test_a_new_version_stays_in_its_folders(office: Any, propagation: str | None) -> None:
    old, folder = office.house.filed()
    [before] = office.links(folder.entry_uuid)
    office.house.clock.now += timedelta(hours=1)
    change = office.change()
    change.version(old, propagation=propagation)
    office.accept(change)
    new = office.latest(old.entry_uuid)
    [link] = office.links(folder.entry_uuid)
    assert (link.source, link.target) == (folder.entry_uuid, new.entry_uuid)
    assert office.stored(before.entry_uuid).availability_status == xds.DEPRECATED
    assert office.held_by(change) == {new.entry_uuid, link.entry_uuid}
    assert office.stored(folder.entry_uuid).last_update_time > folder.last_update_time


@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize("kind", [xds.RPLC, xds.XFRM, xds.APND])
def test_a_new_version_keeps_its_relationships(office: Any, kind: str, which: int) -> None:
    ends = related(office, kind)
    new = office.updated(ends[which])
    expected = [end.entry_uuid for end in ends]
    expected[which] = new.entry_uuid
    [link] = office.links(new.entry_uuid)
    assert [link.source, link.target] == expected
    assert (link.association_type, link.documentation.code) == (kind, "why")
    [old] = office.links(ends[which].entry_uuid, status=schema.DEPRECATED)
    assert old.availability_status == xds.DEPRECATED


def test_both_ends_updated_together_are_linked_new_to_new(office: Any) -> None:
    document, folder = office.house.filed()
    change = office.change()
    change.version(document)
    change.version(folder)
    office.accept(change)
    new, kept = office.latest(document.entry_uuid), office.latest(folder.entry_uuid)
    assert office.pairs(new.entry_uuid, kept.entry_uuid) == {
        ("HasMember", kept.entry_uuid, new.entry_uuid)
    }
    assert not office.pairs(document.entry_uuid, folder.entry_uuid)


def test_two_related_documents_updated_together_are_linked_new_to_new(office: Any) -> None:
    source, target = related(office, xds.APND)
    change = office.change()
    change.version(source)
    change.version(target)
    office.accept(change)
    ends = [office.latest(end.entry_uuid).entry_uuid for end in (source, target)]
    assert office.pairs(*ends) == {("APND", *ends)}


def test_nothing_is_inherited_that_is_not_to_be(office: Any) -> None:
    document, folder = office.house.filed()
    new = office.updated(document, propagation="no")
    assert not office.pairs(new.entry_uuid)
    assert office.pairs(folder.entry_uuid) == {
        ("HasMember", folder.entry_uuid, document.entry_uuid)
    }


def test_linked_objects_are_not_updated_with_different_propagation(office: Any) -> None:
    document, folder = office.house.filed()
    change = office.change()
    change.version(document, propagation="no")
    change.version(folder, propagation="yes")
    assert office.errors(change) == ["XDSMetadataUpdateError"]


def test_unrelated_objects_may_differ_in_propagation(office: Any) -> None:
    document, other = office.house.registered(), office.house.registered()
    change = office.change()
    change.version(document, propagation="no")
    change.version(other, propagation="yes")
    office.accept(change)


def test_a_deprecated_link_is_not_inherited(office: Any) -> None:
    document, folder = office.house.filed()
    [link] = office.links(folder.entry_uuid)
    change = office.change()
    change.deprecate(link.entry_uuid)
    office.accept(change)
    new = office.updated(document, title=LocalizedString("New"))
    assert not office.pairs(new.entry_uuid, folder.entry_uuid)


def test_a_link_deprecated_in_the_same_request_is_not_inherited(office: Any) -> None:
    document, folder = office.house.filed()
    [link] = office.links(folder.entry_uuid)
    change = office.change()
    change.version(document)
    change.deprecate(link.entry_uuid)
    office.accept(change)
    assert not office.pairs(office.latest(document.entry_uuid).entry_uuid, folder.entry_uuid)


def test_a_deprecated_folder_keeps_its_old_members_only(office: Any) -> None:
    document, folder = office.house.filed()
    change = office.change()
    change.deprecate(folder.entry_uuid)
    office.accept(change)
    new = office.updated(document)
    assert not office.pairs(new.entry_uuid)


def test_a_replaced_document_takes_its_new_version_along(office: Any) -> None:
    """What was appended to a version depends on the version that follows it."""
    addendum, document = related(office, xds.APND)
    new = office.updated(document)
    draft = office.house.draft()
    draft.link(xds.RPLC, draft.document().entry_uuid, new.entry_uuid)
    office.house.accept(draft)
    assert office.stored(addendum.entry_uuid).availability_status == xds.DEPRECATED


def test_a_membership_said_to_be_approved_as_it_is_goes_on_with_a_new_version(office: Any) -> None:
    document, folder = office.house.filed()
    [membership] = office.links(folder.entry_uuid)
    change = office.change()
    change.version(folder)
    change.status(membership.entry_uuid, xds.APPROVED, xds.APPROVED)
    office.accept(change)
    new = office.latest(folder.entry_uuid)
    assert office.pairs(new.entry_uuid) == {("HasMember", new.entry_uuid, document.entry_uuid)}
    assert not office.pairs(folder.entry_uuid)
