"""The same behaviour on both database engines, under contention."""

from __future__ import annotations

import resource
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
import urllib3
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian
from sqlalchemy import Connection, Text, func, insert, select

from imaging_source import outbox, reports
from imaging_source.corrections import Authorities
from imaging_source.evicted import hold_use, note_use
from imaging_source.handover import DistantIntake, IndexDoor, _short
from imaging_source.importing import Importer, Journal, sources
from imaging_source.index import MIGRATIONS
from imaging_source.intake import Intake, Status
from imaging_source.ledger import About
from imaging_source.outbox import State
from imaging_source.publisher import Place, Publisher
from imaging_source.reconciliation import Identities
from imaging_source.rejection import SAFETY
from imaging_source.report_feed import ReportFeed
from imaging_source.reporting import Reporting
from imaging_source.schema import (
    INSTANCE,
    METADATA,
    QUARANTINE,
    REPORT,
    REPORT_NAME,
    SERIES,
    STUDY,
    STUDY_USE,
)
from imaging_source.stow import Stow
from manifest.entry import PublicationPolicy
from soap.limits import Limits
from soap.server import running_server
from storage.blobs import BlobStore
from storage.database import Database
from storage.migrations import metadata_differs
from tests.imaging_source.test_report_feed import oru
from transactions.registry_response import RegistryResponse

Make = Callable[..., Dataset]
THREADS = 8


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    with Database.open(database_url) as opened:
        opened.migrate(MIGRATIONS)
        yield opened


def put(intake: Intake, instance: Dataset, encode: Callable[[Dataset], bytes]) -> int:
    arrival = intake.begin(
        instance.SOPClassUID, instance.SOPInstanceUID, ExplicitVRLittleEndian, "AE"
    )
    arrival.write(memoryview(encode(instance)))
    return int(arrival.finish().status)


def count(database: Database, table: Any) -> int:
    with database.read() as connection:
        return int(connection.execute(select(func.count()).select_from(table)).scalar_one())


def test_the_schema_is_the_same(database: Database) -> None:
    assert metadata_differs(database, METADATA) == []


def test_all_who_note_the_use_of_a_study_at_once_do(database: Database) -> None:
    together = threading.Barrier(THREADS)

    def note(number: int) -> None:
        study = f"1.2.{number}"

        def work(connection: Connection) -> None:
            hold_use(connection, study)
            note_use(connection, study, 7.0)

        together.wait(30)
        database.write(work)

    with ThreadPoolExecutor(THREADS) as pool:
        for number in range(20):
            list(pool.map(note, [number] * THREADS))
    assert count(database, STUDY_USE) == 20


def test_a_new_study_sent_by_many_at_once_is_one_study(
    database: Database,
    intake: Intake,
    make_instance: Make,
    encode: Callable[[Dataset], bytes],
) -> None:
    instances = [make_instance() for _ in range(3 * THREADS)]
    with ThreadPoolExecutor(THREADS) as pool:
        statuses = set(pool.map(lambda one: put(intake, one, encode), instances))

    assert statuses == {Status.SUCCESS}
    assert (count(database, STUDY), count(database, SERIES)) == (1, 1)
    assert count(database, INSTANCE) == 3 * THREADS
    with database.read() as connection:
        assert connection.execute(select(STUDY.c.revision)).scalar_one() == 3 * THREADS


def test_of_different_bytes_for_one_instance_exactly_one_is_kept(
    database: Database,
    intake: Intake,
    make_instance: Make,
    encode: Callable[[Dataset], bytes],
) -> None:
    first = make_instance()
    rivals = [
        make_instance(SOPInstanceUID=first.SOPInstanceUID, PixelData=bytes([n]) * 8)
        for n in range(THREADS)
    ]
    with ThreadPoolExecutor(THREADS) as pool:
        statuses = sorted(pool.map(lambda one: put(intake, one, encode), rivals))

    assert statuses == [Status.SUCCESS] + [Status.COERCED] * (THREADS - 1)
    assert (count(database, INSTANCE), count(database, QUARANTINE)) == (1, THREADS - 1)


def test_a_note_that_races_its_instances_hides_them_all(
    database: Database,
    intake: Intake,
    make_instance: Make,
    make_note: Make,
    encode: Callable[[Dataset], bytes],
) -> None:
    instances = [make_instance() for _ in range(THREADS)]
    put(intake, make_instance(), encode)  # the study is there: nobody starts again for its row
    arriving = [*instances[:4], make_note(SAFETY, *instances), *instances[4:]]
    with ThreadPoolExecutor(THREADS) as pool:
        statuses = set(pool.map(lambda one: put(intake, one, encode), arriving))

    assert statuses == {Status.SUCCESS}
    with database.read() as connection:
        hidden = select(func.count()).where(INSTANCE.c.rejection == SAFETY)
        assert connection.execute(hidden).scalar_one() == THREADS + 1


def test_publishers_that_race_send_each_study_once(
    database: Database,
    blobs: BlobStore,
    intake: Intake,
    policy: PublicationPolicy,
    make_instance: Make,
    encode: Callable[[Dataset], bytes],
    clock: Any,
) -> None:
    for number in range(6):
        put(
            intake,
            make_instance(StudyInstanceUID=f"1.9.{number}", SeriesInstanceUID=f"1.9.{number}.1"),
            encode,
        )
    clock.now += 60
    sent: list[str] = []

    def provide(request: Any) -> RegistryResponse:
        sent.append(request.submit.submission.documents[0].reference_id_list[-1].id)
        return RegistryResponse.of()

    publishers = [
        Publisher(
            database,
            policy,
            Place(repository_unique_id="1.2.9"),
            provide,
            lambda unique_id: False,
            clock=clock,
        )
        for _ in range(4)
    ]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda one: one.run_once(), publishers))

    assert sorted(sent) == [f"1.9.{number}" for number in range(6)]
    with database.read() as connection:
        states = {row.state for row in outbox.publications(connection)}
    assert states == {State.PUBLISHED}


@pytest.fixture
def door(intake: Intake, blobs: BlobStore, tmp_path: Path) -> Iterator[DistantIntake]:
    """The door of a process that does not write the index."""
    with IndexDoor(intake, tmp_path / "run"):
        yield DistantIntake(blobs, tmp_path / "run")


def test_what_many_hand_over_at_once_is_indexed_once(
    database: Database,
    door: DistantIntake,
    make_instance: Make,
    encode: Callable[[Dataset], bytes],
) -> None:
    one = make_instance()

    def hand_over(_number: int) -> int:
        arrival = door.begin(one.SOPClassUID, one.SOPInstanceUID, ExplicitVRLittleEndian, "WEB")
        arrival.write(memoryview(encode(one)))
        return int(arrival.finish().status)

    with ThreadPoolExecutor(THREADS) as pool:
        statuses = set(pool.map(hand_over, range(THREADS)))

    assert statuses == {Status.SUCCESS}
    assert (count(database, INSTANCE), count(database, QUARANTINE)) == (1, 0)


def test_the_door_of_the_index_opens_again_once_there_are_descriptors(
    database: Database,
    door: DistantIntake,
    make_instance: Make,
    encode: Callable[[Dataset], bytes],
    tmp_path: Path,
) -> None:
    one = make_instance()
    usual = resource.getrlimit(resource.RLIMIT_NOFILE)
    with socket.socket(socket.AF_UNIX) as waiting, _short(tmp_path / "run") as place:
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, usual[1]))
        try:
            waiting.connect(place)  # the door has no descriptor for it
            threading.Event().wait(0.05)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, usual)
    arrival = door.begin(one.SOPClassUID, one.SOPInstanceUID, ExplicitVRLittleEndian, "WEB")
    arrival.write(memoryview(encode(one)))
    assert arrival.finish().status == Status.SUCCESS
    assert count(database, INSTANCE) == 1


def test_what_is_posted_is_indexed_and_other_bytes_for_it_are_put_aside(
    database: Database, door: DistantIntake, make_instance: Make
) -> None:
    one = make_instance()
    other = make_instance(SOPInstanceUID=one.SOPInstanceUID, PixelData=b"\7" * 8)
    with ThreadPoolExecutor(2) as pool, running_server(Stow(door, pool, Limits())) as base:
        statuses = [post(f"{base}/dicomweb/studies", each) for each in (one, one, other)]

    assert statuses[:2] == [200, 200]
    assert (count(database, INSTANCE), count(database, QUARANTINE)) == (1, 1)


def post(url: str, instance: Dataset) -> int:
    """Store by STOW-RS (PS3.18 10.5); the status."""
    file = BytesIO()
    instance.save_as(file, enforce_file_format=True)
    body = b"--b\r\nContent-Type: application/dicom\r\n\r\n" + file.getvalue() + b"\r\n--b--\r\n"
    media = 'multipart/related; type="application/dicom"; boundary=b'
    answer = urllib3.request("POST", url, body=body, headers={"content-type": media}, timeout=30.0)
    return answer.status


def test_a_medium_is_imported_once(
    database: Database, door: DistantIntake, make_instance: Make, tmp_path: Path
) -> None:
    folder = tmp_path / "cd"
    folder.mkdir()
    for number in range(3):
        make_instance().save_as(folder / f"IM{number}", enforce_file_format=True)

    counted = []
    for name in ("first", "second"):
        journal = Journal.of(folder, tmp_path / name)
        with sources(folder, 10**9) as files:
            done = Importer(door, Identities(), tmp_path / "aside", journal).run(
                files, lambda: None
            )
        journal.close(complete=True)
        counted.append(dict(done.counts))

    assert counted == [{"stored": 3}, {"duplicate": 3}]
    assert count(database, INSTANCE) == 3


def test_a_report_that_comes_several_times_at_once_is_one_report(
    database: Database, blobs: BlobStore, policy: PublicationPolicy
) -> None:
    feed = ReportFeed(database, blobs, Reporting(database, blobs, policy, Authorities(frozenset())))
    with ThreadPoolExecutor(THREADS) as pool:
        answers = list(pool.map(lambda _: feed.answer(oru()), range(THREADS)))
    assert all(b"|AA|" in one for one in answers)
    with database.read() as connection:
        (found,) = reports.due(connection, 1e12, 10)
    assert found.revision == 1


def test_whose_a_study_is_and_which_reports_lie_in_it(
    database: Database, blobs: BlobStore, make_instance: Make, encode: Callable[[Dataset], bytes]
) -> None:
    image = make_instance(PatientID="P1")
    assert put(Intake(database, blobs), image, encode) == Status.SUCCESS
    study, uid = str(image.StudyInstanceUID), str(image.SOPInstanceUID)

    def publish(connection: Connection) -> None:
        """Reports of the study: one is the instance, one came by HL7, one of each is not out."""
        for name, sender, number, entry in (
            ("1", reports.INSTANCES, uid, "urn:uuid:1"),
            ("2", "RIS|HOSPITAL", uid, "urn:uuid:2"),
            ("3", reports.INSTANCES, "2.999", "urn:uuid:3"),
            ("4", reports.INSTANCES, f"{uid}.4", None),
        ):
            row = {
                one.name: "" if isinstance(one.type, Text) else b"" if one.name == "content" else 0
                for one in REPORT.columns
            }
            given = {"report_uid": name, "study_instance_uid": study, "published_entry": entry}
            connection.execute(insert(REPORT), {**row, **given})
            named = {"sender": sender, "number": number, "report_uid": name}
            connection.execute(insert(REPORT_NAME), named)

    database.write(publish)
    with database.read() as connection:
        assert reports.among_images(connection, [study, "1.2"]) == [(study, "urn:uuid:1")]
        [about] = About.all_in_index(connection, [study, "1.2"])
    assert (about.study_instance_uid, about.patient_id) == (study, "P1")
