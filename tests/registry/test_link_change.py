"""ITI-64: what moves with a local identifier, what stays, and what queries say of both after."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import select

from metadata import identifiers as xds
from metadata.datatypes import CX
from metadata.model import DocumentEntry
from registry import schema
from registry.administration import Administration
from transactions.stored_query import (
    find_documents,
    find_submission_sets,
    get_documents,
    get_submission_set_and_contents,
)

MINE, OTHER = CX("mine^^^&1.2.3&ISO"), CX("other^^^&1.2.3&ISO")
KEPT_BY_PATIENT = (
    schema.object_,
    schema.identity,
    schema.document_entry,
    schema.submission_set,
    schema.folder,
    schema.association,
    schema.attribute_value,
)


def found(house: Any, patient: str, **filters: Any) -> set[str]:
    """uniqueIds of a patient's documents, each shown with the patient's own id."""
    documents = house.answer(find_documents(house.cx(patient), **filters)).documents
    assert {one.patient_id for one in documents} <= {house.cx(patient)}
    return {one.unique_id for one in documents}


def sets(house: Any, patient: str) -> set[str]:
    found = house.answer(find_submission_sets(house.cx(patient))).submission_sets
    assert {one.patient_id for one in found} <= {house.cx(patient)}
    return {one.unique_id for one in found}


def rows(house: Any, patient: str) -> int:
    """How many rows anywhere are kept under a patient."""
    with house.database.read() as connection:
        return sum(
            len(connection.execute(select(table).where(table.c.patient == house.cx(patient))).all())
            for table in KEPT_BY_PATIENT
        )


def of(house: Any, source: CX, patient: str = "P1", **attributes: Any) -> Any:
    """A draft with one document of a local identifier."""
    draft = house.draft(patient)
    draft.document(source_patient_id=source, **attributes)
    return draft


def accepted(house: Any, draft: Any) -> DocumentEntry:
    house.accept(draft)
    return draft.submission.documents[0]  # type: ignore[no-any-return]


def test_a_submission_of_the_local_id_goes_as_a_whole(house: Any) -> None:
    draft = of(house, MINE)
    moved = accepted(house, draft)
    before = rows(house, "P1")
    assert house.relink("P1", "P2", MINE).ack_code == "AA"
    assert (found(house, "P1"), sets(house, "P1")) == (set(), set())
    assert found(house, "P2") == {moved.unique_id}
    assert sets(house, "P2") == {draft.set.unique_id}
    assert (rows(house, "P1"), rows(house, "P2")) == (0, before)
    contents = house.answer(get_submission_set_and_contents(unique_id=draft.set.unique_id))
    assert contents.submission_sets[0].patient_id == house.cx("P2")
    assert [one.unique_id for one in contents.documents] == [moved.unique_id]
    assert len(contents.associations) == 1


def test_all_but_the_patient_id_stays_as_it_was(house: Any) -> None:
    unique_id = accepted(house, of(house, MINE)).unique_id
    before = house.document(unique_id)
    house.relink("P1", "P2", MINE)
    after = house.document(unique_id)
    assert (after.patient_id, after.source_patient_id) == (house.cx("P2"), MINE)
    before.patient_id = after.patient_id
    assert before == after


def test_what_is_of_another_local_id_or_patient_stays(house: Any) -> None:
    stays = {accepted(house, of(house, OTHER)).unique_id}
    theirs = {accepted(house, of(house, MINE, "P2")).unique_id}
    house.feed("A01", "P3")
    assert house.relink("P1", "P3", MINE).ack_code == "AA"
    assert (found(house, "P1"), found(house, "P2"), found(house, "P3")) == (stays, theirs, set())


def test_every_way_to_find_a_document_finds_it_under_its_new_patient(house: Any) -> None:
    draft = of(house, MINE, event_code_list=[house.code("event")])
    unique_id = accepted(house, draft).unique_id
    house.relink("P1", "P2", MINE)
    coded = {"event_code_list": [house.code("event")]}
    assert found(house, "P2", **coded) == {unique_id}
    assert found(house, "P1", **coded) == set()
    [by_uuid] = house.answer(
        get_documents(entry_uuid=[house.document(unique_id).entry_uuid])
    ).documents
    assert by_uuid.patient_id == house.cx("P2")
    links = house.links(by_uuid.entry_uuid)
    assert [link.association_type for link in links] == [xds.HAS_MEMBER]


def test_a_second_entry_of_one_unique_id_moves_alone(house: Any) -> None:
    first = accepted(house, of(house, OTHER, hash="ab" * 20, size="3"))
    again = of(house, MINE, hash="ab" * 20, size="3", unique_id=first.unique_id)
    house.accept(again)
    house.relink("P1", "P2", MINE)
    with house.database.read() as connection:
        [identity] = connection.execute(
            select(schema.identity).where(schema.identity.c.unique_id == first.unique_id)
        ).all()
        [namesake] = connection.execute(select(schema.namesake)).all()
    assert (identity.patient, namesake.patient) == (house.cx("P1"), house.cx("P2"))


def test_a_folder_whose_documents_all_move_moves(house: Any) -> None:
    draft = of(house, MINE)
    folder = draft.folder()
    draft.file(draft.submission.documents[0].entry_uuid, folder.entry_uuid)
    house.accept(draft)
    house.relink("P1", "P2", MINE)
    assert rows(house, "P1") == 0
    contents = house.answer(get_submission_set_and_contents(unique_id=draft.set.unique_id))
    assert [one.patient_id for one in contents.folders] == [house.cx("P2")]
    assert len(contents.associations) == 4
    assert {one.availability_status for one in contents.associations} == {xds.APPROVED}


def test_a_folder_that_keeps_a_document_stays_and_lets_go_of_the_other(house: Any) -> None:
    draft = of(house, MINE)
    kept = draft.document(source_patient_id=OTHER)
    folder = draft.folder()
    for one in draft.submission.documents:
        draft.file(one.entry_uuid, folder.entry_uuid)
    house.accept(draft)
    house.relink("P1", "P2", MINE)
    assert found(house, "P1") == {kept.unique_id}
    stored = house.document(draft.submission.documents[0].unique_id)
    memberships = {
        link.source: link.availability_status
        for link in house.links(stored.entry_uuid)
        if link.target == stored.entry_uuid
    }
    assert sorted(memberships.values()) == [xds.APPROVED, xds.DEPRECATED]
    [holder] = house.folders_of(house.document(kept.unique_id))
    assert memberships[holder] == xds.DEPRECATED


def test_a_replacement_after_the_move_does_not_inherit_the_folder_left_behind(house: Any) -> None:
    draft = of(house, MINE)
    kept = draft.document(source_patient_id=OTHER)
    folder = draft.folder()
    for one in draft.submission.documents:
        draft.file(one.entry_uuid, folder.entry_uuid)
    house.accept(draft)
    house.relink("P1", "P2", MINE)
    old = house.document(draft.submission.documents[0].unique_id)
    replacing = house.draft("P2")
    new = replacing.document()
    replacing.link(xds.RPLC, new.entry_uuid, old.entry_uuid)
    house.accept(replacing)
    [holder] = house.folders_of(house.document(kept.unique_id))
    holders = {link.source for link in house.links(house.document(new.unique_id).entry_uuid)}
    assert holder not in holders


def test_a_submission_set_that_keeps_a_member_stays_and_still_holds_both(house: Any) -> None:
    draft = of(house, MINE)
    kept = draft.document(source_patient_id=OTHER)
    house.accept(draft)
    house.relink("P1", "P2", MINE)
    assert sets(house, "P1") == {draft.set.unique_id}
    assert sets(house, "P2") == set()
    assert found(house, "P1") == {kept.unique_id}
    moved = house.document(draft.submission.documents[0].unique_id)
    [link] = house.links(moved.entry_uuid)
    assert (link.target, link.availability_status) == (moved.entry_uuid, xds.APPROVED)
    whole = get_submission_set_and_contents(unique_id=draft.set.unique_id)
    assert house.query_errors(whole) == ["XDSResultNotSinglePatient"]


def test_documents_related_across_the_move_part(house: Any) -> None:
    old = house.registered(source_patient_id=OTHER)
    draft = of(house, MINE)
    draft.link(xds.APND, draft.submission.documents[0].entry_uuid, old.entry_uuid)
    house.accept(draft)
    house.relink("P1", "P2", MINE)
    [relation] = [link for link in house.links(old.entry_uuid) if link.association_type == xds.APND]
    assert relation.availability_status == xds.DEPRECATED
    replacing = house.draft()
    replacing.link(xds.RPLC, replacing.document().entry_uuid, old.entry_uuid)
    house.accept(replacing)
    appended = house.document(draft.submission.documents[0].unique_id)
    assert appended.availability_status == xds.APPROVED


def test_documents_related_and_moved_together_stay_related(house: Any) -> None:
    old = house.registered(source_patient_id=MINE)
    draft = of(house, MINE)
    draft.link(xds.RPLC, draft.submission.documents[0].entry_uuid, old.entry_uuid)
    house.accept(draft)
    house.relink("P1", "P2", MINE)
    [relation] = [link for link in house.links(old.entry_uuid) if link.association_type == xds.RPLC]
    assert relation.availability_status == xds.APPROVED
    assert house.document(old.unique_id).availability_status == xds.DEPRECATED
    assert rows(house, "P1") == 0


def test_what_a_merged_patient_brought_moves_too(house: Any) -> None:
    unique_id = accepted(house, of(house, MINE)).unique_id
    house.feed("A01", "P3")
    house.feed("A40", "P2", subsumed="P1")
    assert house.relink("P2", "P3", MINE).ack_code == "AA"
    assert found(house, "P3") == {unique_id}
    assert found(house, "P2") == set()


def test_a_document_held_by_reference_elsewhere_is_still_found_from_there(house: Any) -> None:
    stored = house.document(accepted(house, of(house, MINE)).unique_id)
    by_reference = house.draft("P2")
    by_reference.document()
    by_reference.link(xds.HAS_MEMBER, "set", stored.entry_uuid, submission_set_status=xds.REFERENCE)
    house.accept(by_reference)
    house.feed("A01", "P3")
    house.relink("P1", "P3", MINE)
    assert len(house.links(stored.entry_uuid)) == 2
    assert found(house, "P3") == {stored.unique_id}
    assert sets(house, "P2") == {by_reference.set.unique_id}


def test_an_id_may_go_back(house: Any) -> None:
    draft = of(house, MINE)
    unique_id = accepted(house, draft).unique_id
    before = house.document(unique_id)
    house.relink("P1", "P2", MINE)
    assert house.relink("P2", "P1", MINE).ack_code == "AA"
    assert house.document(unique_id) == before
    assert rows(house, "P2") == 0


def test_the_registry_goes_on_with_what_moved(house: Any) -> None:
    unique_id = accepted(house, of(house, MINE)).unique_id
    house.relink("P1", "P2", MINE)
    old = house.document(unique_id)
    for patient, errors in (("P1", ["XDSPatientIdDoesNotMatch"]), ("P2", [])):
        draft = house.draft(patient)
        draft.link(xds.RPLC, draft.document().entry_uuid, old.entry_uuid)
        assert [error.code for error in house.submit(draft).errors] == errors


# --- Refusals and evidence -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("previous", "current", "code"),
    [
        ("nobody", "P2", "204"),
        ("P1", "nobody", "204"),
        ("P1", "P1", "205"),
        ("gone", "P2", "204"),
        ("P1", "gone", "204"),
    ],
)
def test_an_illegal_link_change_is_refused_without_a_trace(
    house: Any, previous: str, current: str, code: str
) -> None:
    house.feed("A01", "gone")
    house.feed("A40", "P2", subsumed="gone")
    unique_id = accepted(house, of(house, MINE)).unique_id
    outcome = house.relink(previous, current, MINE)
    assert (outcome.ack_code, outcome.error_code) == ("AE", code)
    assert found(house, "P1") == {unique_id}
    with house.database.read() as connection:
        assert connection.execute(select(schema.link_change)).all() == []


def test_a_link_change_is_kept_with_all_it_moved(house: Any, clock: Any) -> None:
    draft = of(house, MINE)
    house.accept(draft)
    house.relink("P1", "P2", MINE, control_id="M9")
    with house.database.read() as connection:
        [change] = connection.execute(select(schema.link_change)).all()
        moved = connection.execute(select(schema.link_change_object)).all()
    assert (change.local, change.previous, change.current) == (
        MINE,
        house.cx("P1"),
        house.cx("P2"),
    )
    assert (change.control_id, change.changed_at) == ("M9", f"{clock.now:%Y%m%d%H%M%S}")
    assert {(row.change, row.previous) for row in moved} == {(change.id, house.cx("P1"))}
    assert len(moved) == 3  # document, set, and what joins them
    record = Administration(house.database, clock).show(house.cx("P2"))
    assert record is not None
    assert [one.local for one in record.relinked] == [MINE]


def test_a_redelivered_link_change_has_no_second_effect(house: Any) -> None:
    unique_id = accepted(house, of(house, MINE)).unique_id
    first = house.relink("P1", "P2", MINE, control_id="M9")
    house.relink("P2", "P1", MINE)
    assert house.relink("P1", "P2", MINE, control_id="M9") == first
    assert found(house, "P1") == {unique_id}


def test_a_link_change_of_nothing_is_accepted(house: Any) -> None:
    assert house.relink("P1", "P2", MINE).ack_code == "AA"
