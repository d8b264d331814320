"""Rejection notes: what they take out of use, when, and what brings it back."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from io import BytesIO

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.filewriter import dcmwrite
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, generate_uid
from sqlalchemy import select

from imaging_source.elements import Unreadable
from imaging_source.index import describe
from imaging_source.intake import Intake, Status
from imaging_source.rejection import CODES, EXPIRED, QUALITY, SAFETY, WORKLIST, read_note
from imaging_source.schema import INSTANCE, QUARANTINE, STUDY
from storage.database import Database

Make = Callable[..., Dataset]
Store = Callable[..., int]


def rejections(database: Database) -> dict[str, str | None]:
    """The rejection of every instance, by its UID."""
    with database.read() as connection:
        rows = connection.execute(select(INSTANCE)).mappings()
        return {row["sop_instance_uid"]: row["rejection"] for row in rows}


def listed(database: Database, instance: Dataset) -> set[str]:
    """The instances that a manifest of the instance's study would list."""
    with database.read() as connection:
        _, series = describe(connection, instance.StudyInstanceUID)
    return {one.sop_instance_uid for group in series for one in group.instances}


def revision(database: Database) -> int:
    with database.read() as connection:
        return int(connection.execute(select(STUDY.c.revision)).scalar_one())


@pytest.mark.parametrize("code", CODES)
def test_a_note_takes_what_it_names_out_of_the_manifest_and_is_not_listed_itself(
    store: Store, database: Database, make_instance: Make, make_note: Make, code: str
) -> None:
    kept, rejected = make_instance(), make_instance()
    store(kept)
    store(rejected)
    before = revision(database)
    note = make_note(code, rejected)

    assert store(note) == Status.SUCCESS

    assert listed(database, kept) == {kept.SOPInstanceUID}
    assert rejections(database) == {
        kept.SOPInstanceUID: None,
        rejected.SOPInstanceUID: code,
        note.SOPInstanceUID: code,
    }
    assert revision(database) == before + 1


def test_a_key_object_selection_with_another_title_rejects_nothing(
    store: Store, database: Database, make_instance: Make, make_note: Make
) -> None:
    image = make_instance()
    store(image)
    selection = make_note("113000", image)  # Of Interest

    assert store(selection) == Status.SUCCESS
    assert listed(database, image) == {image.SOPInstanceUID, selection.SOPInstanceUID}


@pytest.mark.parametrize("code", CODES)
def test_an_instance_that_comes_after_its_note_is_born_rejected(
    store: Store, database: Database, make_instance: Make, make_note: Make, code: str
) -> None:
    late = make_instance()
    store(make_note(code, late))

    assert store(late) == Status.SUCCESS
    assert rejections(database)[late.SOPInstanceUID] == code
    assert listed(database, late) == set()


@pytest.mark.parametrize("code", [QUALITY, WORKLIST, SAFETY])
def test_a_rejected_instance_sent_again_stays_hidden(
    store: Store, database: Database, make_instance: Make, make_note: Make, code: str
) -> None:
    image = make_instance()
    store(image)
    store(make_note(code, image))

    assert store(image) == Status.SUCCESS
    assert listed(database, image) == set()


def test_what_had_merely_expired_is_taken_in_as_new(
    store: Store, database: Database, make_instance: Make, make_note: Make
) -> None:
    image = make_instance()
    store(image)
    store(make_note(EXPIRED, image))
    before = revision(database)

    image.InstitutionName = "Archive"  # other bytes than those that went
    assert store(image) == Status.SUCCESS

    assert listed(database, image) == {image.SOPInstanceUID}
    assert revision(database) == before + 1
    assert store(image) == Status.SUCCESS  # and is a duplicate like any other from then on
    assert revision(database) == before + 1
    image.InstitutionName = "Elsewhere"
    assert store(image) == Status.COERCED


def test_what_had_expired_does_not_come_back_as_another_patients(
    store: Store, database: Database, make_instance: Make, make_note: Make
) -> None:
    image = make_instance()
    store(image)
    store(make_note(EXPIRED, image))
    image.PatientID = "SOMEBODY"

    assert store(image) == Status.COERCED
    assert listed(database, image) == set()


def test_the_weightiest_of_several_notes_counts(
    store: Store, database: Database, make_instance: Make, make_note: Make
) -> None:
    image = make_instance()
    store(image)
    for code in (QUALITY, SAFETY, EXPIRED):
        store(make_note(code, image))

    assert rejections(database)[image.SOPInstanceUID] == SAFETY
    store(image)
    assert listed(database, image) == set()


def test_a_note_touches_no_other_study_and_no_other_series(
    store: Store, database: Database, make_instance: Make, make_note: Make
) -> None:
    elsewhere = make_instance(StudyInstanceUID=generate_uid(), SeriesInstanceUID=generate_uid())
    here = make_instance()
    store(elsewhere)
    store(here)
    misplaced = Dataset()
    misplaced.update(here)
    misplaced.SeriesInstanceUID = generate_uid()

    assert store(make_note(SAFETY, elsewhere, misplaced)) == Status.SUCCESS
    assert listed(database, elsewhere) == {elsewhere.SOPInstanceUID}
    assert listed(database, here) == {here.SOPInstanceUID}


def test_a_note_about_a_study_of_another_patient_is_put_aside_without_effect(
    store: Store, database: Database, make_instance: Make, make_note: Make
) -> None:
    image = make_instance()
    store(image)

    assert store(make_note(SAFETY, image, PatientID="SOMEBODY")) == Status.COERCED
    assert listed(database, image) == {image.SOPInstanceUID}
    with database.read() as connection:
        assert len(connection.execute(select(QUARANTINE)).all()) == 1


def test_a_note_that_breaks_off_is_refused(
    intake: Intake,
    database: Database,
    make_instance: Make,
    make_note: Make,
    encode: Callable[[Dataset], bytes],
) -> None:
    note = make_note(SAFETY, make_instance())
    arrival = intake.begin(
        note.SOPClassUID, note.SOPInstanceUID, ExplicitVRLittleEndian, "MODALITY"
    )
    arrival.write(memoryview(encode(note)[:-40]))

    assert arrival.finish().status == Status.CANNOT_UNDERSTAND
    assert rejections(database) == {}


def test_a_note_about_more_instances_than_one_statement_takes_rejects_them_all(
    store: Store, database: Database, make_instance: Make, make_note: Make
) -> None:
    last = make_instance()
    store(last)
    store(make_note(SAFETY, *(make_instance() for _ in range(1500)), last))
    assert rejections(database)[last.SOPInstanceUID] == SAFETY


@pytest.mark.parametrize("implicit", [True, False])
def test_a_note_is_read_in_either_encoding(
    make_instance: Make, make_note: Make, implicit: bool
) -> None:
    image = make_instance()
    buffer = BytesIO()
    dcmwrite(buffer, Dataset(make_note(WORKLIST, image)), implicit_vr=implicit, little_endian=True)
    syntax = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian
    note = read_note(buffer.getvalue(), syntax)
    assert note is not None
    assert (note.code, note.study_instance_uid) == (WORKLIST, image.StudyInstanceUID)
    assert [one.sop_instance_uid for one in note.references] == [image.SOPInstanceUID]


@given(st.binary(max_size=200))
def test_whatever_the_bytes_they_are_a_note_or_none_or_unreadable(data: bytes) -> None:
    with suppress(Unreadable):
        assert read_note(data, ExplicitVRLittleEndian) is None
