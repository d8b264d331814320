"""Metadata Update as queries see it: levels, versions, availability, status of associations."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import Connection, insert

from metadata import identifiers as xds
from metadata.datatypes import new_uuid_urn
from metadata.model import DocumentEntry, Folder
from registry import rows, schema
from transactions import stored_query as ask
from transactions.iti_18 import AdhocQueryRequest

ALL = [xds.APPROVED, xds.DEPRECATED]


def supersede(house: Any, old: DocumentEntry | Folder) -> Any:
    """A second version of a document or a folder, in the state an update leaves behind."""
    new = replace(old, entry_uuid=new_uuid_urn(), version="2")
    patient = str(house.patient)
    document = isinstance(old, DocumentEntry)
    table = schema.document_entry if document else schema.folder
    row = rows.document_row(new, patient) if document else rows.folder_row(new, patient)  # type: ignore[arg-type]
    name = {"unique_id": new.unique_id, "entry_uuid": new.entry_uuid, "patient": patient}
    versions = [
        {"logical_id": old.entry_uuid, "version": version, "entry_uuid": one.entry_uuid}
        for version, one in ((1, old), (2, new))
    ]

    def work(connection: Connection) -> None:
        retired = table.update().where(table.c.entry_uuid == old.entry_uuid)
        connection.execute(retired.values(level=schema.HIDDEN, status=schema.DEPRECATED))
        connection.execute(insert(schema.object_), [rows.object_row(new, patient)])
        connection.execute(insert(schema.namesake), [name])
        connection.execute(insert(table), [row])
        connection.execute(
            insert(schema.revision), [{**one, "patient": patient} for one in versions]
        )

    house.database.write(work)
    return new


def set_status(house: Any, table: Any, *entry_uuids: str) -> None:
    deprecate = table.update().where(table.c.entry_uuid.in_(entry_uuids))
    house.database.write(
        lambda connection: connection.execute(deprecate.values(status="Deprecated")).rowcount
    )


def refs(house: Any, request: AdhocQueryRequest) -> set[str]:
    asked = replace(request, return_type="ObjectRef")
    return set(house.answer(asked).object_refs)


def at_both_levels(house: Any, make: Callable[..., AdhocQueryRequest]) -> tuple[set[str], set[str]]:
    """What a query names at level 1 and what only level 2 adds; 1 is the default."""
    absent, first, second = (
        refs(house, make(**level)) for level in ({}, {"metadata_level": 1}, {"metadata_level": 2})
    )
    assert absent == first <= second
    return first, second - first


# --- Versions of documents ---------------------------------------------------------------------


def test_an_older_version_of_a_document_is_shown_at_level_2_alone(house: Any) -> None:
    old, _ = house.filed()
    new = supersede(house, old)
    uuids = [old.entry_uuid, new.entry_uuid]
    for make in (
        lambda **level: ask.find_documents(house.patient, status=ALL, **level),
        lambda **level: ask.get_documents(entry_uuid=uuids, **level),
        lambda **level: ask.get_documents(unique_id=[old.unique_id], **level),
    ):
        assert at_both_levels(house, make) == ({new.entry_uuid}, {old.entry_uuid})
    for make in (
        lambda **level: ask.get_all(house.patient, document_status=ALL, **level),
        lambda **level: ask.get_documents_and_associations(entry_uuid=uuids, **level),
    ):
        shown, hidden = at_both_levels(house, make)
        assert new.entry_uuid in shown
        assert old.entry_uuid in hidden


def test_containers_hide_older_versions_and_what_ties_them(house: Any) -> None:
    old, folder = house.filed()
    supersede(house, old)
    [submission_set] = house.answer(ask.get_submission_sets([old.entry_uuid])).submission_sets
    for make, kept in (
        (ask.get_folder_and_contents, {folder.entry_uuid}),
        (ask.get_submission_set_and_contents, {submission_set.entry_uuid, folder.entry_uuid}),
    ):
        start = folder if len(kept) == 1 else submission_set
        shown, hidden = at_both_levels(
            house, lambda make=make, start=start, **level: make(unique_id=start.unique_id, **level)
        )
        assert shown >= kept
        assert old.entry_uuid in hidden
        assert len(hidden) >= 2  # the document and its memberships
    by_document = lambda **level: ask.get_folders_for_document(entry_uuid=old.entry_uuid, **level)  # noqa: E731
    assert at_both_levels(house, by_document) == (set(), {folder.entry_uuid})


def test_a_replaced_document_is_no_older_version(house: Any) -> None:
    old = house.registered()
    draft = house.draft()
    draft.link(xds.RPLC, draft.document(new_uuid_urn()).entry_uuid, old.entry_uuid)
    house.accept(draft)
    shown, hidden = at_both_levels(
        house, lambda **level: ask.find_documents(house.patient, status=ALL, **level)
    )
    assert (len(shown), hidden) == (2, set())
    related, _ = at_both_levels(
        house,
        lambda **level: ask.get_related_documents([xds.RPLC], entry_uuid=old.entry_uuid, **level),
    )
    assert old.entry_uuid in related


def test_relations_of_an_older_version_are_shown_at_level_2(house: Any) -> None:
    old = house.registered()
    draft = house.draft()
    addendum = draft.document(new_uuid_urn()).entry_uuid
    draft.link(xds.APND, addendum, old.entry_uuid)
    house.accept(draft)
    supersede(house, old)
    shown, hidden = at_both_levels(
        house,
        lambda **level: ask.get_related_documents([xds.APND], entry_uuid=addendum, **level),
    )
    assert shown == set()
    assert hidden > {old.entry_uuid, addendum}


@pytest.mark.parametrize("kind", ["document", "folder"])
def test_all_versions_are_had_by_logical_id(house: Any, kind: str) -> None:
    document, folder = house.filed()
    first, get = (document, ask.get_documents) if kind == "document" else (folder, ask.get_folders)
    both: Any = get
    assert refs(house, both(logical_id=[first.entry_uuid])) == {first.entry_uuid}
    second = supersede(house, first)
    assert second.logical_id == first.entry_uuid
    versions = {first.entry_uuid, second.entry_uuid}
    assert refs(house, both(logical_id=[first.entry_uuid])) == versions
    assert refs(house, both(logical_id=[first.entry_uuid], metadata_level=2)) == versions
    latest = both(logical_id=[first.entry_uuid], metadata_level=1)
    assert refs(house, latest) == {second.entry_uuid}
    assert refs(house, both(logical_id=[second.entry_uuid])) == set()
    assert refs(house, both(logical_id=[new_uuid_urn()])) == set()


def test_a_logical_id_of_the_other_kind_is_none(house: Any) -> None:
    document, folder = house.filed()
    supersede(house, document)
    supersede(house, folder)
    assert refs(house, ask.get_folders(logical_id=[document.entry_uuid])) == set()
    assert refs(house, ask.get_documents(logical_id=[folder.entry_uuid])) == set()


def test_logical_ids_are_one_of_three_alternatives(house: Any) -> None:
    both = ask.get_documents(logical_id=["x"], unique_id=["y"])
    assert house.query_errors(both) == ["XDSStoredQueryParamNumber"]


# --- Folders -----------------------------------------------------------------------------------


def test_versions_of_a_folder_share_its_unique_id(house: Any) -> None:
    _, old = house.filed()
    new = supersede(house, old)
    by_unique_id = lambda **level: ask.get_folders(unique_id=[old.unique_id], **level)  # noqa: E731
    assert at_both_levels(house, by_unique_id) == ({new.entry_uuid}, {old.entry_uuid})
    find = lambda **level: ask.find_folders(house.patient, status=ALL, **level)  # noqa: E731
    assert at_both_levels(house, find) == ({new.entry_uuid}, {old.entry_uuid})
    assert not house.answer(ask.get_documents(unique_id=[old.unique_id])).documents


def test_a_deprecated_folder_is_shown_where_a_status_is_asked_for_or_at_level_2(
    house: Any,
) -> None:
    document, folder = house.filed()
    [submission_set] = house.answer(ask.get_submission_sets([document.entry_uuid])).submission_sets
    set_status(house, schema.folder, folder.entry_uuid)
    name = folder.entry_uuid
    for make in (
        lambda **level: ask.get_folders(entry_uuid=[name], **level),
        lambda **level: ask.get_folder_and_contents(entry_uuid=name, **level),
        lambda **level: ask.get_folders_for_document(entry_uuid=document.entry_uuid, **level),
    ):
        shown, hidden = at_both_levels(house, make)
        assert shown == set()
        assert name in hidden
    _, hidden = at_both_levels(
        house,
        lambda **level: ask.get_submission_set_and_contents(
            entry_uuid=submission_set.entry_uuid, **level
        ),
    )
    assert name in hidden
    find = ask.find_folders(house.patient, status=[xds.DEPRECATED])
    everything = ask.get_all(house.patient, folder_status=[xds.DEPRECATED])
    assert refs(house, find) == {name}
    assert name in refs(house, everything)


# --- Associations ------------------------------------------------------------------------------


def test_a_deprecated_association_is_shown_at_level_2(house: Any) -> None:
    document, folder = house.filed()
    [membership] = [
        link for link in house.links(document.entry_uuid) if link.source == folder.entry_uuid
    ]
    name = membership.entry_uuid
    set_status(house, schema.association, name)
    for make in (
        lambda **level: ask.get_associations([document.entry_uuid], **level),
        lambda **level: ask.get_documents_and_associations(
            entry_uuid=[document.entry_uuid], **level
        ),
        lambda **level: ask.get_all(house.patient, **level),
        lambda **level: ask.get_folder_and_contents(entry_uuid=folder.entry_uuid, **level),
    ):
        shown, hidden = at_both_levels(house, make)
        assert shown
        assert name in hidden
    by_document = lambda **level: ask.get_folders_for_document(  # noqa: E731
        entry_uuid=document.entry_uuid, **level
    )
    assert at_both_levels(house, by_document) == (set(), {folder.entry_uuid})


def test_associations_are_narrowed_by_their_status(house: Any) -> None:
    document, folder = house.filed()
    links = {link.source: link.entry_uuid for link in house.links(document.entry_uuid)}
    set_status(house, schema.association, links[folder.entry_uuid])

    def found(level: int, *statuses: str) -> set[str]:
        request = ask.get_associations(
            [document.entry_uuid], metadata_level=level, association_status=statuses
        )
        return refs(house, request)

    approved = set(links.values()) - {links[folder.entry_uuid]}
    assert found(2) == set(links.values())
    assert found(2, xds.DEPRECATED) == {links[folder.entry_uuid]}
    assert found(2, xds.APPROVED) == found(1) == found(1, *ALL) == approved
    assert found(1, xds.DEPRECATED) == set()


def test_deprecated_relations_do_not_relate_at_level_1(house: Any) -> None:
    old = house.registered()
    draft = house.draft()
    addendum = draft.document(new_uuid_urn()).entry_uuid
    link = draft.link(xds.APND, addendum, old.entry_uuid, entry_uuid=new_uuid_urn()).entry_uuid
    house.accept(draft)
    set_status(house, schema.association, link)
    related = lambda **level: ask.get_related_documents([xds.APND], entry_uuid=addendum, **level)  # noqa: E731
    assert at_both_levels(house, related) == (set(), {old.entry_uuid, addendum, link})


# --- Availability ------------------------------------------------------------------------------


def test_an_offline_document_is_shown_at_level_2_and_found_by_its_availability(house: Any) -> None:
    draft = house.draft()
    offline = draft.document(new_uuid_urn(), document_availability=xds.OFFLINE)
    online = draft.document(new_uuid_urn(), document_availability=xds.ONLINE)
    silent = draft.document(new_uuid_urn())
    house.accept(draft)
    there = {online.entry_uuid, silent.entry_uuid}
    find = lambda **level: ask.find_documents(house.patient, **level)  # noqa: E731
    assert at_both_levels(house, find) == (there, {offline.entry_uuid})

    def found(*availability: str, level: int = 2) -> set[str]:
        return refs(
            house,
            ask.find_documents(
                house.patient, document_availability=availability, metadata_level=level
            ),
        )

    assert found(xds.OFFLINE) == {offline.entry_uuid}
    assert found(xds.ONLINE) == there
    assert found(xds.ONLINE, xds.OFFLINE) == there | {offline.entry_uuid}
    assert found("urn:unknown") == set()
    assert found(xds.OFFLINE, level=1) == set()


def test_the_levels_of_queries_across_patients(house: Any) -> None:
    old, folder = house.filed()
    new, newer = supersede(house, old), supersede(house, folder)
    for status in ([xds.DEPRECATED], ALL):
        for make, hidden, shown in (
            (ask.find_documents_for_multiple_patients, old, new),
            (ask.find_folders_for_multiple_patients, folder, newer),
        ):
            both: Any = make
            for level in (1, 2):
                request = both([house.patient], status=status, metadata_level=level)
                response = house.registry.query_patients(request)
                found = {one.entry_uuid for one in response.objects().objects()}
                assert (hidden.entry_uuid in found) == (level == 2)
                assert (shown.entry_uuid in found) == (status == ALL)


@pytest.mark.parametrize("level", ["0", "'high'"])
def test_what_is_no_level_is_refused(house: Any, level: str) -> None:
    request = ask.find_documents(house.patient)
    wrong = replace(request, parameters=[*request.parameters, ("$MetadataLevel", [level])])
    assert house.query_errors(wrong) == ["XDSRegistryError"]
