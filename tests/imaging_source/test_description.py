"""What an instance says of itself: DICOM JSON judged by pydicom's own, frames, and who makes it."""

from __future__ import annotations

import json
import struct
import threading
import warnings
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.filewriter import dcmwrite
from sqlalchemy import func, select

from imaging_source.description import worker
from imaging_source.description.describe import (
    Description,
    describe,
    unpack_attributes,
    unpack_places,
)
from imaging_source.description.worker import Describer
from imaging_source.intake import Intake
from imaging_source.schema import DESCRIPTION, INSTANCE, SERIES_STEP
from storage.blobs import BlobStore
from storage.database import Database
from storage.faultpoints import InjectedFault
from storage.files import FileContent

Make = Callable[..., Dataset]
Store = Callable[..., int]
EXPLICIT, IMPLICIT = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2"
BIG_ENDIAN = "1.2.840.10008.1.2.2"

# No backslash, no control characters, no padding: what a value may hold and keep (PS3.5 6.2).
_LETTERS = st.characters(min_codepoint=33, max_codepoint=0x24F, exclude_characters="\\^=\x7f")
texts = st.text(_LETTERS, min_size=1, max_size=16).filter(lambda text: text.strip() == text)
unsigned = st.integers(0, 2**16 - 1)
ELEMENTS: dict[int, tuple[str, st.SearchStrategy[Any]]] = {
    0x00080008: ("CS", st.lists(st.sampled_from(["ORIGINAL", "AXIAL", "LOCALIZER"]), min_size=1)),
    0x00081030: ("LO", texts),
    0x00080090: ("PN", st.tuples(texts, texts).map("^".join)),
    0x00101010: ("AS", st.just("042Y")),
    0x00101030: ("DS", st.decimals(0, 999, places=2).map(str)),
    0x00104000: ("LT", st.lists(texts, min_size=1, max_size=3).map("\r\n".join)),
    0x00180050: ("DS", st.lists(st.integers(0, 10**6).map(str), min_size=1, max_size=4)),
    0x00189087: ("FD", st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1)),
    0x00189073: ("FD", st.floats(allow_nan=False, allow_infinity=False)),
    0x00200013: ("IS", st.integers(-(2**31), 2**31 - 1).map(str)),
    0x00280009: ("AT", st.integers(0, 2**32 - 1)),
    0x00280010: ("US", unsigned),
    0x00283002: ("US", st.lists(unsigned, min_size=3, max_size=3)),
    0x00420011: ("OB", st.binary(min_size=2, max_size=40).map(lambda data: data[: len(data) & ~1])),
    0x00720066: ("LO", st.lists(texts, min_size=1, max_size=3)),
}


@st.composite
def data_sets(draw: st.DrawFn, depth: int = 2) -> Dataset:
    dataset = Dataset()
    dataset.SpecificCharacterSet = "ISO_IR 192"
    for tag in draw(st.lists(st.sampled_from(sorted(ELEMENTS)), unique=True, max_size=8)):
        vr, values = ELEMENTS[tag]
        dataset.add_new(tag, vr, draw(values))
    if depth:
        dataset.ProcedureCodeSequence = draw(st.lists(data_sets(depth - 1), max_size=2))
    return dataset


def written(dataset: Dataset, syntax: str) -> bytes:
    """A Part 10 file as ours begin: preamble and a group length alone before the data set."""
    buffer = BytesIO()
    dcmwrite(buffer, dataset, implicit_vr=syntax == IMPLICIT, little_endian=syntax != BIG_ENDIAN)
    return bytes(128) + b"DICM" + struct.pack("<HH2sHI", 2, 0, b"UL", 4, 0) + buffer.getvalue()


def described(folder: Path, data: bytes, syntax: str) -> Description:
    file = folder / "file.dcm"
    file.write_bytes(data)
    return describe(FileContent.at(file), syntax, {})


def as_it_travels(value: object) -> Any:
    """A data set as JSON has it; an empty list of values is none (PS3.18 F.2.5)."""
    return json.loads(json.dumps(value).replace(', "Value": []', ""))


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(dataset=data_sets(), syntax=st.sampled_from([EXPLICIT, IMPLICIT, BIG_ENDIAN]))
def test_the_json_of_any_data_set_is_what_pydicom_makes_of_it(
    tmp_path: Path, dataset: Dataset, syntax: str
) -> None:
    found = described(tmp_path, written(dataset, syntax), syntax)
    assert found.attributes == as_it_travels(dataset.to_json_dict())


@pytest.mark.parametrize("name", ["CT_small.dcm", "MR_small.dcm", "rtplan.dcm", "JPEG2000.dcm"])
def test_the_json_of_real_files_is_what_pydicom_makes_of_them(
    test_file: Callable[[str], Path], name: str
) -> None:
    file = test_file(name)
    dataset = dcmread(file)
    found = describe(FileContent.at(file), dataset.file_meta.TransferSyntaxUID, {}).attributes
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = as_it_travels(
            dataset.to_json_dict(bulk_data_element_handler=lambda element: "elsewhere")
        )
    expected = {tag: value for tag, value in expected.items() if not tag.endswith("0000")}
    assert found.keys() == expected.keys()
    for tag, value in found.items():
        if "BulkDataURI" not in value and tag != "00080005":
            assert value == expected[tag], tag


def test_no_file_makes_describing_fail(test_file: Callable[[str], Path]) -> None:
    """Whatever it is given, it ends with what could be read, and never below what is known."""
    known = {"00080018": {"vr": "UI", "Value": ["1.2.3"]}}
    for file in test_file("CT_small.dcm").parent.glob("*.dcm"):
        assert "00080018" in describe(FileContent.at(file), EXPLICIT, known).attributes


@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    dataset=data_sets(), cut=st.integers(0, 400), flips=st.lists(st.integers(144, 500), max_size=4)
)
def test_damaged_files_are_described_as_far_as_they_go(
    tmp_path: Path, dataset: Dataset, cut: int, flips: list[int]
) -> None:
    data = bytearray(written(dataset, EXPLICIT))
    for place in flips:
        if place < len(data):
            data[place] ^= 0xFF
    described(tmp_path, bytes(data[: max(144, len(data) - cut)]), EXPLICIT)


def test_sequences_nested_without_end_end(tmp_path: Path) -> None:
    opening = struct.pack("<HH2sHI", 0x0040, 0xA730, b"SQ", 0, 0xFFFFFFFF)
    opening += struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF)
    data = written(Dataset(), EXPLICIT) + opening * 5000
    assert described(tmp_path, data, EXPLICIT).attributes == {}


def test_large_values_are_left_where_they_are(tmp_path: Path, make_instance: Make) -> None:
    instance = make_instance(PixelData=b"\1\2" * 4000)
    item = Dataset()
    item.add_new(0x00420011, "OB", b"x" * 5000)
    instance.ReferencedImageSequence = [item]
    data = written(Dataset(instance), EXPLICIT)
    found = described(tmp_path, data, EXPLICIT)
    assert found.attributes["7FE00010"] == {"vr": "OW", "BulkDataURI": "7FE00010"}
    [(start, length)] = found.places["7FE00010"]
    assert data[start : start + length] == instance.PixelData
    [(start, length)] = found.places["00081140/1/00420011"]
    assert data[start : start + length] == b"x" * 5000


def test_a_disk_that_fails_while_describing_does_not_end_it(
    database: Database, blobs: BlobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    describer, tries = Describer(database, blobs), threading.Semaphore(0)

    def fail() -> int:
        tries.release()
        raise InjectedFault("imaging.described")

    monkeypatch.setattr(describer, "sweep", fail)
    monkeypatch.setattr(worker, "_LONGEST_WAIT_SECONDS", 0.0)
    describer.start()
    assert tries.acquire(timeout=20)
    assert tries.acquire(timeout=20)
    describer.stop()


def test_what_was_stored_is_described_by_itself(
    database: Database, blobs: BlobStore, make_instance: Make, encode: Callable[[Dataset], bytes]
) -> None:
    describer = Describer(database, blobs)
    intake = Intake(database, blobs, stored=describer.notice)
    describer.start()
    instance = make_instance(PerformedProcedureStepStartDate="20240102")
    arrival = intake.begin(instance.SOPClassUID, instance.SOPInstanceUID, EXPLICIT, "MODALITY")
    arrival.write(memoryview(encode(instance)))
    arrival.finish()
    pause = threading.Event()
    for _ in range(200):
        if count(database, DESCRIPTION):
            break
        pause.wait(0.05)
    describer.stop()
    with database.read() as connection:
        row = connection.execute(select(DESCRIPTION)).mappings().one()
        assert connection.execute(select(SERIES_STEP.c.start_date)).scalar_one() == "20240102"
    attributes = json.loads(unpack_attributes(row["attributes"]))
    assert attributes["00100010"]["Value"] == [{"Alphabetic": "Durand^Anne"}]
    assert unpack_places(row["places"])[0].keys() == {"7FE00010"} & attributes.keys() - {
        tag for tag, value in attributes.items() if "BulkDataURI" not in value
    }


def count(database: Database, table: Any) -> int:
    with database.read() as connection:
        return int(connection.execute(select(func.count()).select_from(table)).scalar_one())


def test_what_a_crash_left_undone_is_found_again(
    database: Database, blobs: BlobStore, store: Store, make_instance: Make
) -> None:
    for _ in range(120):
        store(make_instance())
    assert Describer(database, blobs).sweep() == 120
    assert Describer(database, blobs).sweep() == 0
    assert count(database, DESCRIPTION) == count(database, INSTANCE) == 120


def test_a_file_that_is_gone_does_not_stop_the_others(
    database: Database, blobs: BlobStore, store: Store, make_instance: Make
) -> None:
    gone = make_instance()
    store(gone)
    with database.read() as connection:
        blobs.open(connection.execute(select(INSTANCE.c.sha256)).scalar_one()).path.unlink()
    store(make_instance(StudyTime="093000"))
    assert Describer(database, blobs).sweep() == 1
