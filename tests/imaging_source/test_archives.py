"""A PACS that stays where it is: what it has comes here, from Orthanc as well as from ourselves."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid
from sqlalchemy import insert, select

from benchmarks.orthanc import TITLE, is_installed, orthanc
from imaging_source.archives import Archives, Condition
from imaging_source.intake import Intake
from imaging_source.receiver import Listening
from imaging_source.requestor import Peer
from imaging_source.schema import AVAILABILITY, INSTANCE
from storage.blobs import BlobStore
from storage.database import Database

Make = Callable[..., Dataset]
Start = Callable[[Listening], int]


def stored(database: Database) -> set[str]:
    with database.read() as connection:
        return set(connection.execute(select(INSTANCE.c.sop_instance_uid)).scalars())


def fetching(database: Database, clock: Any, *archives: Peer) -> Archives:
    return Archives(database, "KOSMOS", archives, days=2, poll_seconds=60, clock=clock)


@pytest.fixture
def today(clock: Any) -> str:
    return f"{datetime.fromtimestamp(clock.now, UTC):%Y%m%d}"


@pytest.fixture
def pacs(tmp_path: Path, port: int) -> Any:
    if not is_installed():
        pytest.skip("Orthanc is not installed")
    with ExitStack() as running:
        modalities = {"kosmos": ["KOSMOS", "127.0.0.1", port]}
        started = running.enter_context(orthanc(tmp_path / "orthanc", DicomModalities=modalities))
        yield Peer(TITLE, "127.0.0.1", started.dicom)


@pytest.fixture
def archive(pacs: Peer, tmp_path: Path, tool: Callable[[str], str]) -> Callable[..., None]:
    """Puts instances into Orthanc with DCMTK's sender."""

    def put(*instances: Dataset) -> None:
        folder = tmp_path / generate_uid()
        folder.mkdir()
        for one in instances:
            one.save_as(folder / f"{one.SOPInstanceUID}.dcm", enforce_file_format=True)
        command = [tool("storescu"), "-aec", TITLE, "+sd", pacs.host, str(pacs.port), str(folder)]
        subprocess.run(command, check=True, capture_output=True, env={"TCP_NODELAY": "1"})

    return put


def test_what_an_archive_has_of_the_last_days_is_fetched_once(
    pacs: Peer,
    archive: Callable[..., None],
    database: Database,
    clock: Any,
    today: str,
    make_instance: Make,
) -> None:
    new = [make_instance(StudyDate=today) for _ in range(3)]
    old = make_instance(StudyDate="19990101", StudyInstanceUID=generate_uid())
    old.SeriesInstanceUID = generate_uid()
    archive(*new, old)
    archives = fetching(database, clock, pacs)
    address = f"{pacs.host}:{pacs.port}"
    assert list(archives.conditions()) == [Condition(TITLE, address, True, 1, 1)]

    assert archives.run_once() == 1
    assert stored(database) == {one.SOPInstanceUID for one in new}
    assert archives.run_once() == 0
    assert list(archives.conditions()) == [Condition(TITLE, address, True, 1, 0)]

    late = make_instance(StudyDate=today)
    archive(late)
    clock.now += 1000  # a study that was fetched is left alone for a while
    assert archives.run_once() == 1
    assert stored(database) == {one.SOPInstanceUID for one in (*new, late)}


def test_a_study_that_an_archive_tells_of_is_fetched_whatever_its_date(
    pacs: Peer,
    archive: Callable[..., None],
    database: Database,
    clock: Any,
    make_instance: Make,
) -> None:
    old = make_instance(StudyDate="19990101")
    archive(old)
    row = {
        "study_instance_uid": old.StudyInstanceUID,
        "sender": TITLE,
        "retrieve_ae_title": TITLE,
        "instances": 1,
        "told_at": clock.now,
    }
    database.write(lambda connection: connection.execute(insert(AVAILABILITY), row).close())

    assert fetching(database, clock, pacs).run_once() == 1
    assert stored(database) == {old.SOPInstanceUID}


def test_an_archive_that_is_away_keeps_no_other_from_being_read(
    pacs: Peer,
    archive: Callable[..., None],
    database: Database,
    clock: Any,
    today: str,
    make_instance: Make,
) -> None:
    one = make_instance(StudyDate=today)
    archive(one)
    with socket.create_server(("127.0.0.1", 0)) as closed:
        away = Peer("AWAY", "127.0.0.1", closed.getsockname()[1])
    archives = fetching(database, clock, away, pacs)

    assert [condition.answers for condition in archives.conditions()] == [False, True]
    assert archives.run_once() == 1
    assert stored(database) == {one.SOPInstanceUID}


def test_an_archive_that_does_not_offer_queries_is_told_apart(
    start_receiver: Start, database: Database, blobs: BlobStore, intake: Intake, clock: Any
) -> None:
    port = start_receiver(Listening(port=0))
    peer = Peer("KOSMOS", "127.0.0.1", port)

    assert [one.answers for one in fetching(database, clock, peer).conditions()] == [False]
