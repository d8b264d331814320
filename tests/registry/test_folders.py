"""ITI-42: folders gain members, and know when."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from metadata import identifiers as xds
from metadata.datatypes import DTM
from registry.schema import folder as folders
from transactions.stored_query import get_submission_set_and_contents

LATER = timedelta(hours=1)


@pytest.fixture
def later(clock: Any) -> DTM:
    """A moment after the registration of what is there, which is now."""

    def go_on() -> DTM:
        clock.now += LATER
        return DTM.of(clock.now)

    return go_on  # type: ignore[return-value]


def last_update(house: Any, entry_uuid: str) -> tuple[str, str]:
    """lastUpdateTime as the column has it and as the fragment shows it."""
    with house.database.read() as connection:
        [row] = connection.execute(folders.select().where(folders.c.entry_uuid == entry_uuid))
    shown = row.ebrim.partition(b'name="lastUpdateTime"><rim:ValueList><rim:Value>')[2][:14]
    return row.last_update_time, shown.decode()


def test_an_empty_folder_alone_is_registered(house: Any) -> None:
    draft = house.draft()
    draft.folder()
    house.accept(draft)
    assert house.folder(draft.set.unique_id).availability_status == xds.APPROVED


@pytest.mark.parametrize("submitted", [None, "19990101"])
def test_last_update_time_is_the_time_of_the_commit(
    house: Any, clock: Any, submitted: str | None
) -> None:
    draft = house.draft()
    draft.folder(last_update_time=DTM(submitted) if submitted else None)
    house.accept(draft)
    folder = house.folder(draft.set.unique_id)
    assert folder.last_update_time == DTM.of(clock.now)


@pytest.mark.parametrize("new_folder", [True, False])
@pytest.mark.parametrize("new_document", [True, False])
def test_any_folder_takes_any_document(
    house: Any, later: Any, new_folder: bool, new_document: bool
) -> None:
    old_document, old_folder = house.registered(), house.filed()[1]
    now = later()
    draft = house.draft()
    folder = draft.folder(unique_id="1.2.77").entry_uuid if new_folder else old_folder.entry_uuid
    document = draft.document().entry_uuid if new_document else old_document.entry_uuid
    draft.file(document, folder)
    house.accept(draft)
    if new_folder:
        folder = house.folder(draft.set.unique_id).entry_uuid
    assert last_update(house, folder) == (now, now)
    assert len([link for link in house.links(folder) if link.source == folder]) == (
        1 if new_folder else 2
    )


def test_a_folder_that_gains_nothing_keeps_its_time(house: Any, later: Any, clock: Any) -> None:
    before = DTM.of(clock.now)
    _, folder = house.filed()
    later()
    house.registered()
    assert last_update(house, folder.entry_uuid) == (before, before)


def test_a_document_of_another_patient_is_refused(house: Any) -> None:
    _, folder = house.filed()
    draft = house.draft("P2")
    draft.file(draft.document().entry_uuid, folder.entry_uuid)
    assert house.errors(draft) == ["XDSPatientIdDoesNotMatch"]


def test_a_registered_document_of_another_patient_is_refused(house: Any) -> None:
    document = house.registered()
    draft = house.draft("P2")
    draft.file(document.entry_uuid, draft.folder().entry_uuid)
    assert house.errors(draft) == ["XDSPatientIdDoesNotMatch"]


def test_a_document_of_a_merged_patient_may_join(house: Any) -> None:
    _, folder = house.filed()
    house.feed("A40", "P2", subsumed="P1")
    draft = house.draft("P2")
    draft.file(draft.document().entry_uuid, folder.entry_uuid)
    house.accept(draft)
    links = [link for link in house.links(folder.entry_uuid) if link.source == folder.entry_uuid]
    assert len(links) == 2


def test_a_deprecated_document_is_refused(house: Any) -> None:
    document, folder = house.registered(), house.filed()[1]
    draft = house.draft()
    draft.link(xds.RPLC, draft.document().entry_uuid, document.entry_uuid)
    house.accept(draft)
    draft = house.draft()
    draft.file(document.entry_uuid, folder.entry_uuid)
    assert house.errors(draft) == ["XDSRegistryDeprecatedDocumentError"]


def test_a_deprecated_folder_is_refused(house: Any) -> None:
    _, folder = house.filed()
    house.database.write(
        lambda connection: connection.execute(folders.update().values(status="Deprecated")).rowcount
    )
    draft = house.draft()
    draft.file(draft.document().entry_uuid, folder.entry_uuid)
    assert house.errors(draft) == ["XDSRegistryMetadataError"]


def test_a_folder_holds_no_folder(house: Any) -> None:
    _, folder = house.filed()
    _, other = house.filed()
    draft = house.draft()
    draft.document()
    draft.file(folder.entry_uuid, other.entry_uuid)
    assert house.errors(draft) == ["XDSRegistryMetadataError"]


def test_a_replacement_joins_the_folders_of_its_target(house: Any, later: Any) -> None:
    document, folder = house.filed()
    second = house.draft()
    second.folder("second")
    second.file(document.entry_uuid, "second")
    house.accept(second)
    now = later()
    draft = house.draft()
    draft.link(xds.RPLC, draft.document(unique_id="1.2.3.77").entry_uuid, document.entry_uuid)
    house.accept(draft)
    replacement = house.document("1.2.3.77")
    holders = house.folders_of(document)
    assert folder.entry_uuid in holders
    assert len(holders) == 2
    assert house.folders_of(replacement) == holders
    assert all(last_update(house, holder) == (now, now) for holder in holders)


def test_an_inherited_membership_is_a_member_of_the_submission_set(house: Any) -> None:
    document, folder = house.filed()
    draft = house.draft()
    draft.link(xds.RPLC, draft.document(unique_id="1.2.3.78").entry_uuid, document.entry_uuid)
    house.accept(draft)
    replacement = house.document("1.2.3.78")
    [membership] = [
        link for link in house.links(replacement.entry_uuid) if link.source == folder.entry_uuid
    ]
    [listing] = house.links(membership.entry_uuid)
    [own] = [link for link in house.links(replacement.entry_uuid) if link.submission_set_status]
    assert listing.source == own.source
    assert listing.association_type == xds.HAS_MEMBER


def test_a_membership_that_is_submitted_is_not_added_again(house: Any) -> None:
    document, folder = house.filed()
    draft = house.draft()
    new = draft.document(unique_id="1.2.3.79").entry_uuid
    draft.link(xds.RPLC, new, document.entry_uuid)
    draft.file(new, folder.entry_uuid)
    house.accept(draft)
    replacement = house.document("1.2.3.79")
    links = house.links(replacement.entry_uuid)
    assert len([link for link in links if link.source == folder.entry_uuid]) == 1


def test_a_deprecated_folder_is_not_inherited(house: Any) -> None:
    document, _ = house.filed()
    house.database.write(
        lambda connection: connection.execute(folders.update().values(status="Deprecated")).rowcount
    )
    draft = house.draft()
    draft.link(xds.RPLC, draft.document(unique_id="1.2.3.80").entry_uuid, document.entry_uuid)
    house.accept(draft)
    assert house.folders_of(house.document("1.2.3.80")) == set()


def test_the_contents_of_a_submission_set_show_the_folder_as_it_is_now(
    house: Any, later: Any
) -> None:
    first = house.draft()
    folder = first.folder()
    house.accept(first)
    now = later()
    second = house.draft()
    stored = house.folder(first.set.unique_id)
    second.file(second.document().entry_uuid, stored.entry_uuid)
    house.accept(second)
    request = get_submission_set_and_contents(unique_id=first.set.unique_id)
    [shown] = house.answer(request).folders
    assert (shown.unique_id, shown.last_update_time) == (folder.unique_id, now)
