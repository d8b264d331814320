"""Whose objects are (Metadata Update 3.57.4.1.3.4)."""

from __future__ import annotations

from typing import Any

import pytest

from metadata import identifiers as xds
from metadata.datatypes import CX
from registry import schema
from transactions.stored_query import find_documents


def moved(office: Any, *stored: Any, propagation: str | None = None) -> Any:
    """A request that gives objects of P1 to P2."""
    change = office.change("P2")
    for one in stored:
        change.version(one, propagation=propagation)
    return change


def test_a_document_moves_to_another_patient(office: Any) -> None:
    old = office.house.registered()
    office.accept(moved(office, old))
    new = office.latest(old.entry_uuid)
    assert new.patient_id == office.house.cx("P2")
    assert office.row(new.entry_uuid).patient == office.house.cx("P2")
    assert office.row(old.entry_uuid).patient == office.house.cx("P1")
    assert {row.patient for row in office.rows(schema.revision)} == {
        office.house.cx("P1"),
        office.house.cx("P2"),
    }
    found = office.house.answer(find_documents(office.house.cx("P2"))).documents
    assert found == [new]
    assert not office.house.answer(find_documents(office.house.patient)).documents
    back = office.updated(new, patient="P1")
    assert (back.version, office.row(back.entry_uuid).patient) == ("3", office.house.cx("P1"))


def test_a_document_does_not_move_out_of_a_folder_that_stays(office: Any) -> None:
    document, folder = office.house.filed()
    assert office.errors(moved(office, document)) == ["XDSPatientIDReconciliationError"]
    assert office.errors(moved(office, folder)) == ["XDSPatientIDReconciliationError"]


def test_a_document_moves_with_its_folder(office: Any) -> None:
    document, folder = office.house.filed()
    office.accept(moved(office, document, folder))
    new, kept = office.latest(document.entry_uuid), office.latest(folder.entry_uuid)
    assert office.pairs(kept.entry_uuid) == {("HasMember", kept.entry_uuid, new.entry_uuid)}


def test_a_document_leaves_its_folder_behind(office: Any) -> None:
    document, folder = office.house.filed()
    office.accept(moved(office, document, propagation="no"))
    assert not office.pairs(office.latest(document.entry_uuid).entry_uuid)
    assert office.stored(folder.entry_uuid).patient_id == office.house.patient


def test_links_can_be_repaired_by_hand(office: Any) -> None:
    document, folder = office.house.filed()
    change = office.change("P2")
    new = change.version(document, propagation="no")
    kept = change.version(folder, propagation="no")
    change.submit(xds.HAS_MEMBER, kept.entry_uuid, new.entry_uuid)
    office.accept(change)
    ends = [office.latest(one.entry_uuid).entry_uuid for one in (folder, document)]
    assert office.pairs(*ends) == {("HasMember", *ends)}


def test_links_repaired_wrongly_are_refused(office: Any) -> None:
    document, folder = office.house.filed()
    change = office.change("P2")
    new = change.version(document, propagation="no")
    link = change.submit(
        xds.HAS_MEMBER,
        folder.entry_uuid,
        new.entry_uuid,
    )
    response = office.update(change)
    [error] = response.errors
    assert error.code == "XDSPatientIDReconciliationError"
    assert error.location == link.entry_uuid
    assert new.entry_uuid in error.context


def test_the_submission_set_is_of_the_same_patient(office: Any) -> None:
    change = office.change("P2")
    change.version(office.house.registered(), patient_id=office.house.patient)
    assert office.errors(change) == ["XDSPatientIDReconciliationError"]


def test_a_restored_link_must_not_join_two_patients(office: Any) -> None:
    document, folder = office.house.filed()
    [link] = office.links(folder.entry_uuid)
    change = office.change()
    change.deprecate(link.entry_uuid)
    change.deprecate(document.entry_uuid)
    office.accept(change)
    change = office.change()
    change.restore(link.entry_uuid)
    office.accept(change)  # the document is deprecated: the rule is for what is Approved
    office.accept(moved(office, folder))
    change = office.change()
    change.restore(document.entry_uuid)
    office.accept(change)  # the folder of this patient is an old version


def test_a_restored_document_must_not_meet_another_patients_folder(office: Any) -> None:
    document, _ = office.house.filed()
    change = office.change()
    change.deprecate(document.entry_uuid)
    office.accept(change)
    change = moved(office, office.stored(document.entry_uuid))
    office.accept(change)  # the new version is deprecated, and in the folder of P1
    change = office.change("P2")
    change.restore(office.latest(document.entry_uuid).entry_uuid)
    assert office.errors(change) == ["XDSPatientIDReconciliationError"]


@pytest.mark.parametrize("patient", ["P9", "P3"])
def test_unknown_and_merged_patients_get_nothing(office: Any, patient: str) -> None:
    office.house.feed("A01", "P3")
    office.house.feed("A40", "P2", subsumed="P3")
    change = office.change(patient)
    change.version(office.house.registered())
    assert office.errors(change) == ["XDSUnknownPatientId"]


def test_merged_patients_are_one(office: Any) -> None:
    """The survivor's administrator corrects what was filed under the subsumed patient."""
    document, folder = office.house.filed()
    office.house.feed("A40", "P2", subsumed="P1")
    office.accept(moved(office, document))
    new = office.latest(document.entry_uuid)
    assert office.pairs(new.entry_uuid) == {("HasMember", folder.entry_uuid, new.entry_uuid)}
    assert new.entry_uuid in {link.target for link in office.house.links(folder.entry_uuid)}


def test_a_patient_of_another_authority_is_refused(office: Any) -> None:
    change = office.change()
    change.version(office.house.registered(), patient_id=CX.of("P1", "1.9.9"))
    assert set(office.errors(change)) == {
        "XDSUnknownPatientId",
        "XDSPatientIDReconciliationError",
    }
