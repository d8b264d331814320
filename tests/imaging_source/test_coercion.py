"""Corrected images on their way out: the patient is right, everything else as it was received."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.filewriter import dcmwrite
from pydicom.sequence import Sequence
from pydicom.uid import (
    UID,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from imaging_source.coercion import Coerced, coerced
from imaging_source.corrections import Correction
from imaging_source.elements import Unreadable
from manifest.encoding import part10_head
from soap.message import read
from storage.files import FileContent

Make = Callable[..., Dataset]
SYNTAXES = [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian]
NOTHING = Correction(
    patient_id=None, patient_name=None, birth_date=None, sex=None, corrected_at=0.0, source=""
)
MARRIED = replace(
    NOTHING, patient_name="Martin^Anne", patient_id="P2", birth_date="19700203", sex="F"
)


def written(folder: Path, dataset: Dataset, syntax: str = ExplicitVRLittleEndian) -> FileContent:
    """A Part 10 file as the intake writes it."""
    buffer = BytesIO()
    dcmwrite(
        buffer,
        Dataset(dataset),
        implicit_vr=syntax == ImplicitVRLittleEndian,
        little_endian=syntax != ExplicitVRBigEndian,
    )
    head = part10_head(dataset.SOPClassUID, dataset.SOPInstanceUID, syntax)
    path = folder / "image"
    path.write_bytes(head + buffer.getvalue())
    return FileContent(path, path.stat().st_size)


def result(
    folder: Path, dataset: Dataset, correction: Correction, syntax: str = ExplicitVRLittleEndian
) -> Dataset:
    """The image that leaves; its size is the one announced, and the file is as it was."""
    content = written(folder, dataset, syntax)
    before = Path(content.path).read_bytes()
    leaving = coerced(correction, content, syntax)
    assert isinstance(leaving, Coerced)
    data = b"".join(leaving.chunks())
    assert len(data) == leaving.size
    assert Path(content.path).read_bytes() == before
    return dcmread(BytesIO(data))


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_the_patient_is_right_and_all_the_rest_untouched(
    tmp_path: Path, make_instance: Make, syntax: UID
) -> None:
    image = make_instance(PatientSex="O", RequestAttributesSequence=[Dataset()])
    leaving = result(tmp_path, image, MARRIED, syntax)

    assert (leaving.PatientName, leaving.PatientID) == ("Martin^Anne", "P2")
    assert (leaving.PatientBirthDate, leaving.PatientSex) == ("19700203", "F")
    assert leaving.file_meta.TransferSyntaxUID == syntax
    changed = {"PatientName", "PatientID", "PatientBirthDate", "PatientSex"}
    added = {"PatientBirthDate", "OriginalAttributesSequence"}
    assert {one.keyword for one in leaving} == {one.keyword for one in image} | added
    for one in leaving:
        if one.keyword not in changed | added:
            assert one == image[one.tag]


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_what_there_was_before_is_kept_in_the_image(
    tmp_path: Path, make_instance: Make, syntax: UID
) -> None:
    leaving = result(tmp_path, make_instance(), replace(MARRIED, corrected_at=1.0), syntax)

    (item,) = leaving.OriginalAttributesSequence
    (before,) = item.ModifiedAttributesSequence
    assert (before.PatientName, before.PatientID) == ("Durand^Anne", "P1")
    assert (before.PatientBirthDate, before.PatientSex) == ("", "")
    assert item.AttributeModificationDateTime == "19700101000001+0000"
    assert (item.ModifyingSystem, item.ReasonForTheAttributeModification) == ("KOSMOS", "COERCE")


@pytest.mark.parametrize("undefined", [True, False])
def test_earlier_modifications_stay_before_ours(
    tmp_path: Path, make_instance: Make, undefined: bool
) -> None:
    earlier = Dataset()
    earlier.ModifyingSystem = "PACS"
    earlier.is_undefined_length_sequence_item = undefined
    image = make_instance(OriginalAttributesSequence=Sequence([earlier]))
    image["OriginalAttributesSequence"].is_undefined_length = undefined
    leaving = result(tmp_path, image, MARRIED)
    systems = [one.ModifyingSystem for one in leaving.OriginalAttributesSequence]
    assert systems == ["PACS", "KOSMOS"]


def test_only_what_differs_is_written(tmp_path: Path, make_instance: Make) -> None:
    leaving = result(tmp_path, make_instance(), replace(NOTHING, patient_id="P2"))
    (item,) = leaving.OriginalAttributesSequence
    assert [one.keyword for one in item.ModifiedAttributesSequence[0]] == ["PatientID"]
    assert leaving.PatientName == "Durand^Anne"


@pytest.mark.parametrize(
    "correction", [None, NOTHING, replace(NOTHING, patient_name="Durand^Anne", patient_id="P1")]
)
def test_an_image_that_says_so_already_leaves_as_it_is(
    tmp_path: Path, make_instance: Make, correction: Correction | None
) -> None:
    content = written(tmp_path, make_instance())
    assert coerced(correction, content, ExplicitVRLittleEndian) is content


def test_a_range_of_a_corrected_image_is_that_of_the_whole(
    tmp_path: Path, make_instance: Make
) -> None:
    content = written(tmp_path, make_instance())
    leaving = coerced(MARRIED, content, ExplicitVRLittleEndian)
    assert isinstance(leaving, Coerced)
    whole = b"".join(leaving.chunks())
    for start in range(0, leaving.size, 7):
        ranges = [(start, 5), (start + 5, leaving.size - start - 5)]
        if start + 5 <= leaving.size:
            assert b"".join(read(leaving.stretches(ranges))) == whole[start:]


def test_a_name_beyond_ascii_makes_an_image_without_character_set_utf_8(
    tmp_path: Path, make_instance: Make
) -> None:
    leaving = result(tmp_path, make_instance(), replace(NOTHING, patient_name="Łęcki^Zoë"))
    assert leaving.SpecificCharacterSet == "ISO_IR 192"
    assert leaving.PatientName == "Łęcki^Zoë"


@pytest.mark.parametrize(
    ("character_set", "name", "read"),
    [
        ("ISO_IR 100", "Lefèvre^Zoë", "Lefèvre^Zoë"),
        ("ISO_IR 192", "Łęcki^Zoë", "Łęcki^Zoë"),
        ("ISO_IR 144", "Люкceмбypг", "Люкceмбypг"),
        (["", "ISO 2022 IR 87"], "山田^太郎", "山田^太郎"),
        ("ISO_IR 100", "Świt^Ewa", "Swit^Ewa"),
        ("ISO_IR 100", "山田", "??"),
    ],
)
def test_a_name_is_written_in_the_character_set_of_the_image(
    tmp_path: Path, make_instance: Make, character_set: str, name: str, read: str
) -> None:
    image = make_instance(SpecificCharacterSet=character_set)
    leaving = result(tmp_path, image, replace(NOTHING, patient_name=name))
    leaving.decode()
    assert leaving.SpecificCharacterSet == character_set
    assert leaving.PatientName == read


def test_an_image_whose_last_element_is_the_patient_gets_what_follows_it(
    tmp_path: Path, make_instance: Make
) -> None:
    image = make_instance()
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "PixelData"):
        del image[keyword]
    assert result(tmp_path, image, MARRIED).PatientSex == "F"


def test_a_file_that_is_no_longer_an_image_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "image").write_bytes(bytes(400))
    content = FileContent(tmp_path / "image", 400)
    with pytest.raises(Unreadable):
        coerced(MARRIED, content, ExplicitVRLittleEndian)


NAME = st.text(
    st.characters(codec="utf-8", exclude_categories=["C", "Z"], exclude_characters="\\^=")
)


@given(NAME.filter(lambda name: 0 < len(name) < 40), st.sampled_from(SYNTAXES))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
def test_any_name_leaves_as_it_was_said(
    tmp_path: Path, make_instance: Make, name: str, syntax: UID
) -> None:
    leaving = result(tmp_path, make_instance(), replace(NOTHING, patient_name=name), syntax)
    assert str(leaving.PatientName) == name
    assert leaving.PixelData == b"\1\2\3\4" * 64
