"""What becomes of an instance: stored, known, put aside or refused, and what stays behind."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from sqlalchemy import Table, select

from imaging_source import intake as intake_module
from imaging_source.index import describe
from imaging_source.intake import Intake, Status
from imaging_source.schema import INSTANCE, METADATA, QUARANTINE, STUDY
from storage.blobs import BlobStore
from storage.database import Database
from storage.errors import BlobStoreUnavailable, DatabaseBusy, OutOfSpace
from storage.faultpoints import InjectedFault
from storage.migrations import metadata_differs

EXPLICIT = "1.2.840.10008.1.2.1"
Make = Callable[..., Dataset]
Store = Callable[..., int]


def rows(database: Database, table: Table) -> list[dict[str, Any]]:
    with database.read() as connection:
        return [dict(row) for row in connection.execute(select(table)).mappings()]


def files(blobs: BlobStore) -> list[Path]:
    return [path for path in blobs.root.rglob("*") if path.is_file()]


def test_the_migrations_make_the_tables_of_the_schema(database: Database) -> None:
    assert metadata_differs(database, METADATA) == []


def test_a_stored_instance_is_a_part_10_file_with_the_bytes_received(
    store: Store,
    make_instance: Make,
    encode: Callable[[Dataset], bytes],
    database: Database,
    blobs: BlobStore,
) -> None:
    instance = make_instance(InstanceNumber=5)

    assert store(instance) == Status.SUCCESS

    (row,) = rows(database, INSTANCE)
    data = b"".join(blobs.open(row["sha256"]).chunks())
    assert data.endswith(encode(instance))
    assert data[:132] == bytes(128) + b"DICM"
    assert row["size"] == len(data)
    path = blobs.open(row["sha256"]).path
    meta = dcmread(path).file_meta
    assert meta.MediaStorageSOPInstanceUID == instance.SOPInstanceUID
    assert meta.TransferSyntaxUID == EXPLICIT
    assert row["instance_number"] == 5


def test_no_file_is_named_after_a_uid(store: Store, make_instance: Make, blobs: BlobStore) -> None:
    instance = make_instance()
    store(instance)

    (path,) = files(blobs)
    assert len(path.name) == 64
    assert instance.SOPInstanceUID not in str(path)


def test_the_same_bytes_again_change_nothing(
    store: Store, make_instance: Make, database: Database, blobs: BlobStore
) -> None:
    instance = make_instance()

    assert store(instance) == Status.SUCCESS
    before = rows(database, STUDY)
    assert store(instance, sender="OTHER_AE") == Status.SUCCESS

    assert rows(database, STUDY) == before
    assert len(rows(database, INSTANCE)) == len(files(blobs)) == 1


def test_other_bytes_for_a_known_instance_go_to_quarantine_and_the_first_stay(
    store: Store, make_instance: Make, database: Database, blobs: BlobStore
) -> None:
    first = make_instance()
    second = make_instance(SOPInstanceUID=first.SOPInstanceUID, PixelData=b"other bytes!")

    assert store(first) == Status.SUCCESS
    (kept,) = rows(database, INSTANCE)
    assert store(second, sender="LIAR") == Status.COERCED
    assert store(second, sender="LIAR") == Status.COERCED

    assert rows(database, INSTANCE) == [kept]
    (aside,) = rows(database, QUARANTINE)
    assert (aside["reason"], aside["sender"]) == ("other-bytes", "LIAR")
    assert b"other bytes!" in b"".join(blobs.open(aside["sha256"]).chunks())


def test_an_instance_of_another_patient_does_not_join_a_study(
    store: Store, make_instance: Make, database: Database
) -> None:
    store(make_instance())

    assert store(make_instance(PatientID="P2")) == Status.COERCED

    (aside,) = rows(database, QUARANTINE)
    assert aside["reason"] == "other-patient"
    assert rows(database, STUDY)[0]["revision"] == 1


@pytest.mark.parametrize(
    ("first", "second", "status"),
    [
        ("", "1.2.3.4", Status.SUCCESS),
        ("1.2.3.4", "", Status.SUCCESS),
        ("1.2.3.4", "1.2.3.5", Status.COERCED),
    ],
    ids=["named later", "left out later", "another one"],
)
def test_an_issuer_that_one_device_leaves_out_makes_no_other_patient(
    store: Store, make_instance: Make, first: str, second: str, status: Status
) -> None:
    for issuer, expected in ((first, Status.SUCCESS), (second, status)):
        instance = make_instance()
        if issuer:
            qualifiers = Dataset()
            qualifiers.UniversalEntityID = issuer
            instance.IssuerOfPatientIDQualifiersSequence = [qualifiers]
        assert store(instance) == expected


def test_a_series_cannot_be_in_two_studies(
    store: Store, make_instance: Make, database: Database
) -> None:
    store(make_instance())

    assert store(make_instance(StudyInstanceUID="1.2.3.4")) == Status.COERCED

    (aside,) = rows(database, QUARANTINE)
    assert aside["reason"] == "other-study"
    assert len(rows(database, STUDY)) == 1


@pytest.mark.parametrize(
    ("data", "status"),
    [(b"", 0xC000), (b"not a data set at all", 0xC000), (struct.pack("<HH", 8, 0x16), 0xC000)],
)
def test_what_cannot_be_read_leaves_nothing(
    intake: Intake, database: Database, blobs: BlobStore, data: bytes, status: int
) -> None:
    arrival = intake.begin("1.2.840.10008.5.1.4.1.1.2", "1.2.3", EXPLICIT, "AE")
    arrival.write(memoryview(data))

    assert arrival.finish().status == status
    assert rows(database, INSTANCE) == []
    assert files(blobs) == []


def test_a_data_set_that_is_not_the_instance_announced_is_refused(
    intake: Intake, make_instance: Make, encode: Callable[[Dataset], bytes], blobs: BlobStore
) -> None:
    instance = make_instance()
    arrival = intake.begin(instance.SOPClassUID, "1.2.3.4.5", EXPLICIT, "AE")
    arrival.write(memoryview(encode(instance)))

    assert arrival.finish().status == Status.WRONG_CLASS
    assert files(blobs) == []


def test_a_header_longer_than_what_is_kept_in_memory_is_read_from_the_file(
    store: Store, make_instance: Make, database: Database
) -> None:
    instance = make_instance()
    block = instance.private_block(0x0009, "ACME", create=True)
    block.add_new(0x10, "OB", bytes(300_000))

    assert store(instance) == Status.SUCCESS
    assert rows(database, STUDY)[0]["patient_id"] == "P1"


def test_a_header_beyond_the_limit_is_refused(
    store: Store, make_instance: Make, monkeypatch: pytest.MonkeyPatch, blobs: BlobStore
) -> None:
    monkeypatch.setattr(intake_module, "HEADER_LIMIT_BYTES", 400_000)
    instance = make_instance()
    block = instance.private_block(0x0009, "ACME", create=True)
    block.add_new(0x10, "OB", bytes(3_000_000))

    assert store(instance) == Status.CANNOT_UNDERSTAND
    assert files(blobs) == []


def test_an_interrupted_instance_leaves_nothing(
    intake: Intake, make_instance: Make, encode: Callable[[Dataset], bytes], blobs: BlobStore
) -> None:
    instance = make_instance()
    arrival = intake.begin(instance.SOPClassUID, instance.SOPInstanceUID, EXPLICIT, "AE")
    arrival.write(memoryview(encode(instance))[:100])

    arrival.abort()

    assert files(blobs) == []


@pytest.mark.parametrize("error", [DatabaseBusy("busy"), OutOfSpace("full")])
def test_a_database_that_cannot_take_it_is_a_shortage_of_resources(
    store: Store,
    make_instance: Make,
    database: Database,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
) -> None:
    def fail(work: object) -> None:
        raise error

    monkeypatch.setattr(database, "write", fail)

    assert store(make_instance()) == Status.OUT_OF_RESOURCES


@pytest.mark.parametrize(
    "error", [BlobStoreUnavailable("sync failed"), InjectedFault("imaging.kept")]
)
def test_a_disk_that_fails_is_a_shortage_of_resources(
    store: Store,
    make_instance: Make,
    blobs: BlobStore,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
) -> None:
    def fail(received: object) -> None:
        raise error

    monkeypatch.setattr(blobs, "keep", fail)

    assert store(make_instance()) == Status.OUT_OF_RESOURCES
    assert files(blobs) == []


def test_a_study_is_described_in_the_order_of_its_numbers(
    store: Store, make_instance: Make, database: Database
) -> None:
    for series, number in (("1.9.2", 2), ("1.9.1", 10), ("1.9.1", 9)):
        store(
            make_instance(
                SeriesInstanceUID=series,
                SeriesNumber=int(series[-1]),
                InstanceNumber=number,
                SOPInstanceUID=f"{series}.{number}",
                BodyPartExamined="CHEST",
            )
        )
    uid = make_instance().StudyInstanceUID

    with database.read() as connection:
        study, series_list = describe(connection, uid)

    assert (study.patient.name, study.description) == ("Durand^Anne", "Thorax")
    assert [one.series_instance_uid for one in series_list] == ["1.9.1", "1.9.2"]
    assert [one.sop_instance_uid for one in series_list[0].instances] == ["1.9.1.9", "1.9.1.10"]
    assert (series_list[0].modality, series_list[0].body_part) == ("CT", "CHEST")


def test_a_study_keeps_every_request_that_its_series_name(
    store: Store, make_instance: Make, database: Database
) -> None:
    first = make_instance(PlacerOrderNumberImagingServiceRequest="O1")
    uid = first.StudyInstanceUID
    store(first)
    for series, accession in (("1.9.2", "A2"), ("1.9.3", "A3"), ("1.9.3", "A3"), ("1.9.4", "")):
        store(make_instance(SeriesInstanceUID=series, AccessionNumber=accession))

    with database.read() as connection:
        study, _ = describe(connection, uid)

    assert [(one.accession_number, one.placer_order_number) for one in study.requests] == [
        ("", "O1"),
        ("A2", ""),
        ("A3", ""),
    ]


def test_a_study_whose_first_instance_names_no_request_has_that_of_a_later_one(
    store: Store, make_instance: Make, database: Database
) -> None:
    store(make_instance())
    later = make_instance(SeriesInstanceUID="1.9.2", AccessionNumber="A1")
    store(later)

    with database.read() as connection:
        study, _ = describe(connection, later.StudyInstanceUID)

    assert [one.accession_number for one in study.requests] == ["A1"]
