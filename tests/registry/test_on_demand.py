"""ITI-61: On-Demand entries, their snapshots, and the queries that show or hide them."""

from __future__ import annotations

from typing import Any

import pytest

from metadata import identifiers as xds
from metadata.model import DocumentEntry
from transactions.iti_42 import SubmitObjectsRequest
from transactions.stored_query import (
    find_documents,
    find_documents_by_reference_id,
    get_documents,
    get_submission_set_and_contents,
)

BOTH = (xds.STABLE, xds.ON_DEMAND)


def draft_of(house: Any, **attributes: Any) -> Any:
    """A submission of one On-Demand entry called "entry"."""
    draft = house.draft()
    draft.document(
        "entry",
        **{
            "object_type": xds.ON_DEMAND,
            "creation_time": None,
            "hash": None,
            "size": None,
            **attributes,
        },
    )
    return draft


def register(house: Any, draft: Any) -> list[str]:
    """Submit by ITI-61; the error codes."""
    response = house.registry.register_on_demand(SubmitObjectsRequest.of(draft.submission))
    assert (response.status == xds.SUCCESS) == (not response.errors)
    return [error.code for error in response.errors]


def registered(house: Any, **attributes: Any) -> DocumentEntry:
    draft = draft_of(house, **attributes)
    assert register(house, draft) == []
    return house.answer(  # type: ignore[no-any-return]
        get_submission_set_and_contents(unique_id=draft.set.unique_id, type=[xds.ON_DEMAND])
    ).documents[0]


def test_an_on_demand_entry_is_registered_without_time_hash_and_size(house: Any) -> None:
    entry = registered(house)
    assert entry.object_type == xds.ON_DEMAND
    assert entry.availability_status == xds.APPROVED
    assert (entry.creation_time, entry.hash, entry.size) == (None, None, None)


@pytest.mark.parametrize("attribute", ["creation_time", "hash", "size"])
def test_what_only_bytes_have_is_refused(house: Any, attribute: str) -> None:
    stable = house.registered()
    draft = draft_of(house, **{attribute: getattr(stable, attribute)})
    assert register(house, draft) == ["XDSRegistryMetadataError"]


def test_a_submission_is_all_on_demand_or_all_stable(house: Any) -> None:
    mixed = draft_of(house)
    mixed.document()
    assert "XDSRegistryMetadataError" in register(house, mixed)
    assert "XDSRegistryMetadataError" in house.errors(mixed)
    assert house.answer(find_documents(house.patient, type=BOTH)).documents == []


def test_a_submission_without_entries_is_refused(house: Any) -> None:
    draft = house.draft()
    draft.folder()
    assert register(house, draft) == ["XDSRegistryMetadataError"]


def test_the_unique_id_of_an_on_demand_entry_may_be_used_again_for_one(house: Any) -> None:
    first = registered(house)
    second = registered(house, unique_id=first.unique_id)
    assert first.entry_uuid != second.entry_uuid
    found = house.answer(get_documents(unique_id=[str(first.unique_id)])).documents
    assert {one.entry_uuid for one in found} == {first.entry_uuid, second.entry_uuid}


def test_one_unique_id_never_stands_for_both_types(house: Any) -> None:
    stable, on_demand = house.registered(), registered(house)
    draft = draft_of(house, unique_id=stable.unique_id)
    assert register(house, draft) == ["XDSRegistryMetadataError"]
    other = house.draft()
    other.document(unique_id=on_demand.unique_id)
    assert house.errors(other) == ["XDSRegistryMetadataError"]


def test_an_on_demand_entry_cannot_take_the_unique_id_of_a_submission_set(house: Any) -> None:
    draft = house.draft()
    draft.document()
    house.accept(draft)
    taken = draft_of(house, unique_id=draft.set.unique_id)
    assert register(house, taken) == ["XDSRegistryMetadataError"]


def test_the_other_rules_of_a_registration_hold(house: Any) -> None:
    draft = draft_of(house)
    draft.set.patient_id = house.cx("nobody")
    draft.submission.documents[0].patient_id = house.cx("nobody")
    assert register(house, draft) == ["XDSUnknownPatientId"]


# --- Snapshots -----------------------------------------------------------------------------------


def test_a_snapshot_leads_from_a_stable_to_an_on_demand_entry(house: Any) -> None:
    entry = registered(house)
    snapshot = house.draft()
    document = snapshot.document()
    snapshot.link(xds.IS_SNAPSHOT_OF, document.entry_uuid, entry.entry_uuid)
    house.accept(snapshot)
    kinds = {link.association_type for link in house.links(entry.entry_uuid)}
    assert xds.IS_SNAPSHOT_OF in kinds
    [still] = house.answer(get_documents(entry_uuid=[entry.entry_uuid])).documents
    assert still.availability_status == xds.APPROVED


def test_a_snapshot_of_a_stable_entry_is_refused(house: Any) -> None:
    stable = house.registered()
    draft = house.draft()
    document = draft.document()
    draft.link(xds.IS_SNAPSHOT_OF, document.entry_uuid, stable.entry_uuid)
    assert house.errors(draft) == ["XDSRegistryMetadataError"]


def test_an_on_demand_entry_is_no_snapshot(house: Any) -> None:
    entry = registered(house)
    draft = draft_of(house)
    draft.link(xds.IS_SNAPSHOT_OF, "entry", entry.entry_uuid)
    assert register(house, draft) == ["XDSRegistryMetadataError"]


def test_an_on_demand_entry_may_replace_another(house: Any) -> None:
    entry = registered(house)
    draft = draft_of(house)
    draft.link(xds.RPLC, "entry", entry.entry_uuid)
    assert register(house, draft) == []
    [old] = house.answer(get_documents(entry_uuid=[entry.entry_uuid])).documents
    assert old.availability_status == xds.DEPRECATED


# --- Queries: shown only when asked for by type -------------------------------------------------


def uuids(documents: list[DocumentEntry]) -> set[str]:
    return {one.entry_uuid for one in documents}


def test_find_documents_shows_on_demand_entries_when_asked_by_type(house: Any) -> None:
    stable, entry = house.registered().entry_uuid, registered(house).entry_uuid

    def found(**filters: Any) -> set[str]:
        return uuids(house.answer(find_documents(house.patient, **filters)).documents)

    assert found() == {stable}
    assert found(type=[xds.ON_DEMAND]) == {entry}
    assert found(type=BOTH) == {stable, entry}


def test_creation_times_do_not_filter_on_demand_entries(house: Any) -> None:
    entry = registered(house).entry_uuid
    house.registered()
    request = find_documents(house.patient, type=BOTH, creation_time_to="19000101")
    assert uuids(house.answer(request).documents) == {entry}


def test_find_by_reference_shows_on_demand_entries_when_asked_by_type(
    house: Any, reference: Any
) -> None:
    order = reference("42", xds.ORDER_REFERENCE)
    entry = registered(house, reference_id_list=[order]).entry_uuid
    asked = find_documents_by_reference_id(house.patient, [order])
    assert house.answer(asked).documents == []
    asked = find_documents_by_reference_id(house.patient, [order], type=[xds.ON_DEMAND])
    assert uuids(house.answer(asked).documents) == {entry}


def test_a_submission_set_shows_on_demand_entries_when_asked_by_type(house: Any) -> None:
    draft = draft_of(house)
    assert register(house, draft) == []
    unique_id = draft.set.unique_id
    plain = house.answer(get_submission_set_and_contents(unique_id=unique_id))
    assert (plain.documents, plain.associations) == ([], [])
    full = house.answer(get_submission_set_and_contents(unique_id=unique_id, type=BOTH))
    assert (len(full.documents), len(full.associations)) == (1, 1)


def test_get_documents_returns_what_is_named_whatever_its_type(house: Any) -> None:
    entry = registered(house)
    for request in (
        get_documents(entry_uuid=[entry.entry_uuid]),
        get_documents(unique_id=[str(entry.unique_id)]),
    ):
        assert uuids(house.answer(request).documents) == {entry.entry_uuid}
