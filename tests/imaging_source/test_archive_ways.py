"""How an archive is asked and how it is fetched from, chosen apart: each pair, with Orthanc."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from pydicom.dataset import Dataset
from sqlalchemy import select

from imaging_source.archive_dimse import FindUser, MoveUser
from imaging_source.archive_get import GetUser
from imaging_source.archive_web import WebArchive
from imaging_source.archives import Archive, Archives, Questions, Supply
from imaging_source.intake import Intake
from imaging_source.schema import INSTANCE
from storage.blobs import BlobStore
from storage.database import Database
from tests.imaging_source.pacs import Pacs

Make = Callable[..., Dataset]


@pytest.fixture
def today(clock: Any) -> str:
    return f"{datetime.fromtimestamp(clock.now, UTC):%Y%m%d}"


@pytest.mark.parametrize("pull", ["c-move", "c-get", "wado-rs"])
@pytest.mark.parametrize("find", ["c-find", "qido-rs"])
def test_a_study_is_found_in_one_way_and_fetched_in_another(
    pacs: Pacs,
    intake: Intake,
    database: Database,
    blobs: BlobStore,
    clock: Any,
    today: str,
    make_instance: Make,
    find: str,
    pull: str,
) -> None:
    peer = pacs.peer
    questions: dict[str, Callable[[], Questions]] = {
        "c-find": lambda: FindUser(peer, "KOSMOS"),
        "qido-rs": lambda: WebArchive(peer.title, pacs.web, intake),
    }
    supplies: dict[str, Callable[[], Supply]] = {
        "c-move": lambda: MoveUser(peer, "KOSMOS"),
        "c-get": lambda: GetUser(peer, "KOSMOS", intake),
        "wado-rs": lambda: WebArchive(peer.title, pacs.web, intake),
    }
    archive = Archive(peer.title, questions[find](), supplies[pull]())
    made = [make_instance(StudyDate=today) for _ in range(3)]
    pacs.put(*made)
    archives = Archives(database, [archive], days=2, poll_seconds=60, clock=clock)

    assert [one.missing for one in archives.conditions()] == [1]
    assert archives.run_once() == 1
    assert archives.run_once() == 0
    assert [one.missing for one in archives.conditions()] == [0]

    with database.read() as connection:
        rows = connection.execute(select(INSTANCE)).all()
    files = {one.sop_instance_uid: b"".join(blobs.open(one.sha256).chunks()) for one in rows}
    assert files.keys() == {one.SOPInstanceUID for one in made}
    assert all(one.PixelData in files[one.SOPInstanceUID] for one in made)
