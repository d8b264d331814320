"""Finding the indexed attributes, in real files and in hostile ones."""

from __future__ import annotations

import struct
import warnings
from collections.abc import Callable
from contextlib import suppress
from io import BytesIO
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import data as pydicom_data
from pydicom import dcmread
from pydicom.config import disable_value_validation
from pydicom.dataset import Dataset
from pydicom.filewriter import dcmwrite
from pydicom.sequence import Sequence
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from imaging_source.elements import Truncated, Unreadable
from imaging_source.header import Header, read_header
from manifest.model import Patient, Study

ROOT = Path(pydicom_data.__file__).parent
FILES = sorted((ROOT / "test_files").rglob("*.dcm")) + sorted((ROOT / "charset_files").rglob("*"))


def real_files() -> list[Path]:
    """Files that say how they are encoded, hold an image's UIDs and are not deflated."""
    usable = []
    for path in FILES:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with suppress(Exception):  # some are broken on purpose
                dataset = dcmread(path, stop_before_pixels=True)
                syntax = dataset.file_meta.TransferSyntaxUID
                if "SeriesInstanceUID" in dataset and syntax != DeflatedExplicitVRLittleEndian:
                    usable.append(path)
    return usable


# A file whose meta information promises explicit VR and whose elements have none, and files
# without one of the UIDs that place an instance.
UNREADABLE = {"SC_rgb_jpeg.dcm"}


@pytest.mark.parametrize("path", real_files(), ids=lambda path: str(path.name))
def test_real_files_are_read_as_pydicom_reads_them(
    path: Path, raw_data_set: Callable[[Path], bytes]
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dataset = dcmread(path, stop_before_pixels=True)
        data, syntax = raw_data_set(path), str(dataset.file_meta.TransferSyntaxUID)
        if path.name in UNREADABLE or not dataset.get("SOPClassUID"):
            with pytest.raises(Unreadable):
                read_header(data, syntax)
            return
        header = read_header(data, syntax)

        def expected(keyword: str) -> str:
            return str(dataset.get(keyword) or "").strip()

        study = header.study
        assert header.sop_instance_uid == expected("SOPInstanceUID")
        assert header.series_instance_uid == expected("SeriesInstanceUID")
        assert study.study_instance_uid == expected("StudyInstanceUID")
        assert study.patient.patient_id == expected("PatientID")
        assert study.patient.name.rstrip("=") == expected("PatientName").rstrip("=")
        assert study.date == expected("StudyDate").replace(".", "")
        assert study.description == expected("StudyDescription")
        assert header.modality == expected("Modality")
        frames = expected("NumberOfFrames")  # "1A" in a file that is wrong on purpose
        assert header.number_of_frames == (int(frames) if frames.isdigit() else 1)


def encoded(dataset: Dataset, syntax: str) -> bytes:
    buffer = BytesIO()
    implicit, little = syntax == ImplicitVRLittleEndian, syntax != ExplicitVRBigEndian
    dcmwrite(buffer, dataset, implicit_vr=implicit, little_endian=little)
    return buffer.getvalue()


def full(undefined: bool = False) -> Dataset:
    dataset = Dataset()
    dataset.SpecificCharacterSet = "ISO_IR 100"
    dataset.SOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
    dataset.SOPInstanceUID = "1.2.3.1"
    dataset.StudyDate = "20240115"
    dataset.SeriesDate = "20240116"
    dataset.StudyTime = "083000.5"
    dataset.SeriesTime = "0831"
    dataset.IssuerOfAccessionNumberSequence = one_item(
        UniversalEntityID="1.5.1", undefined=undefined
    )
    dataset.Modality = "CT"
    dataset.Manufacturer = "ACME"
    dataset.InstitutionName = "Hôpital"
    dataset.ReferringPhysicianName = "House^Gregory"
    dataset.TimezoneOffsetFromUTC = "+0100"
    dataset.StudyDescription = "Crâne"
    dataset.SeriesDescription = "Série"
    dataset.PatientName = "Lefèvre^Zoë"
    dataset.PatientID = "42"
    dataset.IssuerOfPatientID = "HOSP"
    dataset.IssuerOfPatientIDQualifiersSequence = one_item(
        UniversalEntityID="1.5.2", undefined=undefined
    )
    dataset.PatientBirthDate = "19700101"
    dataset.PatientSex = "F"
    dataset.BodyPartExamined = "HEAD"
    dataset.StudyInstanceUID = "1.2.3"
    dataset.SeriesInstanceUID = "1.2.3.0"
    dataset.StudyID = "S"
    dataset.SeriesNumber = 3
    dataset.InstanceNumber = -7
    dataset.NumberOfFrames = 12
    dataset.OrderPlacerIdentifierSequence = one_item(UniversalEntityID="1.5.3", undefined=undefined)
    dataset.RequestAttributesSequence = one_item(
        AccessionNumber="A1", RequestedProcedureID="RP", undefined=undefined
    )
    dataset.PlacerOrderNumberImagingServiceRequest = "O1"
    dataset.PixelData = bytes(16)
    dataset["PixelData"].VR = "OW"
    return dataset


def one_item(undefined: bool, **values: str) -> Sequence:
    item = Dataset()
    for keyword, value in values.items():
        setattr(item, keyword, value)
    item.is_undefined_length_sequence_item = undefined
    items = Sequence([item])
    items.is_undefined_length = undefined
    return items


@pytest.mark.parametrize("undefined", [False, True], ids=["lengths", "delimiters"])
@pytest.mark.parametrize(
    "syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian]
)
def test_every_attribute_is_found_in_every_encoding(syntax: str, undefined: bool) -> None:
    header = read_header(encoded(full(undefined), syntax), syntax)

    assert header == expected_header()


def expected_header() -> Header:
    patient = Patient(
        patient_id="42",
        issuer="HOSP",
        issuer_oid="1.5.2",
        name="Lefèvre^Zoë",
        birth_date="19700101",
        sex="F",
    )
    study = Study(
        study_instance_uid="1.2.3",
        patient=patient,
        date="20240115",
        time="083000.5",
        timezone_offset="+0100",
        description="Crâne",
        study_id="S",
        accession_number="A1",
        accession_issuer_oid="1.5.1",
        placer_order_number="O1",
        placer_issuer_oid="1.5.3",
        requested_procedure_id="RP",
        referring_physician="House^Gregory",
        institution="Hôpital",
        manufacturer="ACME",
    )
    return Header(
        sop_class_uid="1.2.840.10008.5.1.4.1.1.2",
        sop_instance_uid="1.2.3.1",
        series_instance_uid="1.2.3.0",
        study=study,
        modality="CT",
        series_number=3,
        series_description="Série",
        body_part="HEAD",
        series_date="20240116",
        series_time="0831",
        instance_number=-7,
        number_of_frames=12,
    )


def test_a_beginning_asks_for_more_until_it_is_enough() -> None:
    data = encoded(full(), ExplicitVRLittleEndian)

    for length in range(len(data)):
        try:
            header = read_header(data[:length], ExplicitVRLittleEndian, more=True)
        except Truncated:
            continue
        assert header == expected_header()
        return
    pytest.fail("the whole header was not enough")


def test_nesting_without_end_costs_no_stack() -> None:
    depth = 100_000
    opened = (
        struct.pack("<HHI", 0x0008, 0x1111, 0xFFFFFFFF)
        + struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF)
    ) * depth
    closed = (
        struct.pack("<HHI", 0xFFFE, 0xE00D, 0) + struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
    ) * depth
    plain = encoded(full(), ImplicitVRLittleEndian)
    at = plain.index(struct.pack("<HH", 0x0010, 0x0010))

    header = read_header(plain[:at] + opened + closed + plain[at:], ImplicitVRLittleEndian)

    assert header == expected_header()
    with pytest.raises(Truncated):
        read_header(plain[:at] + opened, ImplicitVRLittleEndian)


def test_an_unknown_sequence_is_stepped_over_as_implicit_vr() -> None:
    inner = struct.pack("<HHI", 0x0008, 0x0100, 4) + b"CODE"
    item = (
        struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF)
        + inner
        + struct.pack("<HHI", 0xFFFE, 0xE00D, 0)
    )
    unknown = struct.pack("<HH2sHI", 0x0009, 0x1010, b"UN", 0, 0xFFFFFFFF) + item
    unknown += struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
    plain = encoded(full(), ExplicitVRLittleEndian)
    at = plain.index(struct.pack("<HH", 0x0010, 0x0010))

    assert (
        read_header(plain[:at] + unknown + plain[at:], ExplicitVRLittleEndian) == expected_header()
    )


@pytest.mark.parametrize(
    "keyword", ["SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID"]
)
def test_an_instance_without_its_place_is_unreadable(keyword: str) -> None:
    dataset = full()
    delattr(dataset, keyword)

    with pytest.raises(Unreadable, match="missing"):
        read_header(encoded(dataset, ExplicitVRLittleEndian), ExplicitVRLittleEndian)


@pytest.mark.parametrize(
    "uid", ["../../../../x", "..", ".1", "1.2.3/4", "1." + "2" * 63, "1.2 3", "é"]
)
def test_what_is_no_uid_is_unreadable(uid: str) -> None:
    plain = encoded(full(), ExplicitVRLittleEndian)
    value = uid.encode() + b"\0" * (len(uid.encode()) % 2)
    element = struct.pack("<HH2sH", 0x0020, 0x000D, b"UI", len(value)) + value
    at = plain.index(struct.pack("<HH2s", 0x0020, 0x000D, b"UI"))

    with pytest.raises(Unreadable, match="not a UID"):
        read_header(plain[:at] + element + plain[at + 14 :], ExplicitVRLittleEndian)


@settings(max_examples=300)
@given(
    data=st.binary(max_size=300),
    syntax=st.sampled_from([ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian]),
    more=st.booleans(),
)
def test_any_bytes_are_read_or_unreadable(data: bytes, syntax: str, more: bool) -> None:
    with pytest.raises(Unreadable):  # 300 random bytes never hold the four UIDs
        read_header(data, syntax, more)


_FULL = encoded(full(undefined=True), ExplicitVRLittleEndian)


@settings(max_examples=300)
@given(at=st.integers(0, len(_FULL)), junk=st.binary(min_size=1, max_size=8))
def test_a_damaged_header_is_read_or_unreadable(at: int, junk: bytes) -> None:
    damaged = _FULL[:at] + junk + _FULL[at + len(junk) :]
    with suppress(Unreadable):
        assert read_header(damaged, ExplicitVRLittleEndian).sop_instance_uid


@pytest.mark.parametrize(
    ("date", "time", "read"),
    [
        ("20240715", "143000.123", ("20240715", "143000.123")),
        ("2024.07.15", "14:30:05", ("20240715", "143005")),
        ("20240715", "14", ("20240715", "14")),
        ("00000000", "99:99", ("", "")),
        ("2024-07-15", "2:30 PM", ("", "")),
    ],
)
def test_a_date_or_time_is_normalised_or_not_known(
    date: str, time: str, read: tuple[str, str]
) -> None:
    dataset = full()
    with disable_value_validation(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dataset.StudyDate = dataset.PatientBirthDate = date
        dataset.StudyTime = time
        data = encoded(dataset, ImplicitVRLittleEndian)
    study = read_header(data, ImplicitVRLittleEndian).study

    assert (study.date, study.time, study.patient.birth_date) == (*read, read[0])


@pytest.mark.parametrize(("sex", "read"), [("F", "F"), ("m", "M"), ("FEMALE", ""), ("X", "")])
def test_a_sex_that_dicom_does_not_know_is_not_known(sex: str, read: str) -> None:
    dataset = full()
    with disable_value_validation(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dataset.PatientSex = sex
        data = encoded(dataset, ExplicitVRLittleEndian)

    assert read_header(data, ExplicitVRLittleEndian).study.patient.sex == read


def test_an_authority_without_oid_is_known_of_the_patient_alone() -> None:
    dataset = full()
    for sequence in (
        dataset.IssuerOfAccessionNumberSequence,
        dataset.OrderPlacerIdentifierSequence,
        dataset.IssuerOfPatientIDQualifiersSequence,
    ):
        sequence[0].UniversalEntityID = "ris.example.org"

    study = read_header(encoded(dataset, ExplicitVRLittleEndian), ExplicitVRLittleEndian).study

    assert (study.accession_issuer_oid, study.placer_issuer_oid) == ("", "")
    assert study.patient.issuer_oid == "ris.example.org"  # refused when it is to be published


def test_text_of_a_wrong_character_set_is_kept_readable() -> None:
    dataset = full()
    dataset.SpecificCharacterSet = "ISO_IR 192"
    data = encoded(dataset, ExplicitVRLittleEndian).replace("Zoë".encode(), b"Zo\xeb ")

    assert (
        read_header(data, ExplicitVRLittleEndian).study.patient.name
        == "Lefèvre^Zo\N{REPLACEMENT CHARACTER}"
    )
