"""What was let go is fetched again: once, as it was, or not at all."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid
from sqlalchemy import delete, select

from imaging_source import media
from imaging_source.archives import Archive
from imaging_source.evicted import Away, Hindrance
from imaging_source.handover import DistantRecaller, IndexDoor
from imaging_source.parts import Part, locate
from imaging_source.recall import Recaller
from imaging_source.recalling import Recalling
from imaging_source.retrieve import ImagingSource
from imaging_source.schema import (
    INSTANCE,
    QUARANTINE,
)
from metadata.identifiers import SUCCESS
from storage.blobs import BlobStore
from storage.database import Database
from storage.errors import BlobMissing
from tests.imaging_source.eviction.eviction_kit import (
    Site,
    nobody,
)
from tests.imaging_source.test_retrieve import HERE, asking
from tests.waiting import wait_for

Make = Callable[..., Dataset]
Store = Callable[..., int]


class Interrupted(BlobStore):
    """A store where something happens before the first file goes."""

    def __init__(self, root: Path, before: Callable[[], None]) -> None:
        super().__init__(root)
        self._before: list[Callable[[], None]] = [before]

    def delete_if_older(self, sha256: str, seconds: float) -> bool:
        while self._before:
            self._before.pop()()
        return super().delete_if_older(sha256, seconds)


def test_a_read_begun_between_the_mark_and_the_files_does_not_break_off(
    site: Site, study: list[Dataset]
) -> None:
    uid = study[0].StudyInstanceUID
    before = site.read(site.blobs, uid)
    begun: list[Part | None] = []

    def read() -> None:
        assert site.figures().instances == 2
        begun.extend(locate(site.shown, row) for row in site.rows(uid))

    site.evictor._blobs = Interrupted(site.blobs.root, read)
    assert site.evict() == 0
    assert [b"".join(one.content.chunks()) for one in begun if one] == [*before.values()]
    assert site.figures().instances == 0
    assert site.pacs.fetched == [uid]


def test_many_ask_and_the_study_is_fetched_once(
    site: Site, study: list[Dataset], tmp_path: Path
) -> None:
    uid = study[0].StudyInstanceUID
    before = site.read(site.blobs, uid)
    assert site.evict() == 2
    site.pacs.goes_on.clear()
    with IndexDoor(site.door, tmp_path / "run", site.recaller), ThreadPoolExecutor(4) as pool:
        distant = DistantRecaller(tmp_path / "run", seconds=10, most=2)
        web = Recalling(site.blobs.root, site.database, distant, noting=True)
        here = [pool.submit(site.read, site.shown, uid) for _ in range(2)]
        there = [pool.submit(site.read, web, uid) for _ in range(2)]
        wait_for(lambda: site.pacs.fetched and not distant._places._value)
        with pytest.raises(Away):  # no more may wait at this door
            site.read(Recalling(site.blobs.root, site.database, distant, noting=False), uid)
        site.pacs.goes_on.set()
        assert [one.result(10) for one in (*here, *there)] == [before] * 4
    assert site.pacs.fetched == [uid]


def test_who_asks_for_several_studies_has_them_fetched_at_the_same_time(
    site: Site, store: Store, make_instance: Make, tmp_path: Path
) -> None:
    asked = [
        make_instance(StudyInstanceUID=generate_uid(), SeriesInstanceUID=generate_uid())
        for _ in range(3)
    ]
    assert [store(one) for one in asked] == [0, 0, 0]
    uids = [one.StudyInstanceUID for one in asked]
    site.fetch(*uids)
    assert site.evict() == 3
    site.pacs.goes_on.clear()
    with IndexDoor(site.door, tmp_path / "run", site.recaller), ThreadPoolExecutor(1) as pool:
        distant = DistantRecaller(tmp_path / "run", seconds=10, most=2)
        web = Recalling(site.blobs.root, site.database, distant, noting=False)
        answer = pool.submit(ImagingSource(site.database, web, HERE).retrieve, asking(*asked))
        # Two at the same time, and the third waits its turn.
        wait_for(lambda: (len(site.pacs.fetched), len(site.recaller._under_way)) == (2, 3))
        site.pacs.goes_on.set()
        assert answer.result(10).status == SUCCESS
        assert sorted(site.pacs.fetched) == sorted(uids)

        # A file can be read before the commit that takes its mark away.
        wait_for(lambda: not site.figures().instances)
        site.rest()
        assert site.evict() == 3
        assert len(media.entries(site.database, web, uids)) == 6


def test_who_has_waited_long_enough_is_told_and_the_fetch_goes_on(
    site: Site, study: list[Dataset], tmp_path: Path
) -> None:
    uid = study[0].StudyInstanceUID
    assert site.evict() == 2
    site.pacs.goes_on.clear()
    hasty = Recaller(site.database, [site.pacs.reached], seconds=0.01, clock=site.clock)
    with pytest.raises(Away):
        site.read(Recalling(site.blobs.root, site.database, hasty, noting=False), uid)
    (done,) = hasty._under_way.values()
    site.pacs.goes_on.set()
    assert done.wait(10)
    assert len(site.read(site.blobs, uid)) == 2


def test_other_bytes_are_put_aside_and_not_served(
    site: Site, study: list[Dataset], liar: Archive
) -> None:
    uid = study[0].StudyInstanceUID
    assert site.evict() == 2
    site.pacs.archive = liar
    with pytest.raises(Away):
        site.read(site.shown, uid)
    with site.database.read() as connection:
        aside = connection.execute(select(QUARANTINE.c.sop_instance_uid)).scalars().all()
    assert study[0].SOPInstanceUID in aside
    assert site.not_recalled(uid) == Hindrance.OTHER_BYTES
    site.rest()
    assert site.evict() == 0  # there is somebody who has to look at it first


def test_an_archive_that_has_it_no_more_says_so_to_the_operator(
    site: Site, study: list[Dataset], database: Database
) -> None:
    uid = study[0].StudyInstanceUID
    assert site.evict() == 2
    gone = INSTANCE.c.sop_instance_uid == study[1].SOPInstanceUID
    database.write(lambda connection: connection.execute(delete(INSTANCE).where(gone)).close())
    for _ in range(2):  # the second time it is not asked
        site.shown._vain.clear()
        with pytest.raises(Away):
            site.read(site.shown, uid)

    assert site.pacs.fetched == [uid]
    assert site.figures().hindered == 1
    assert site.not_recalled(uid) == Hindrance.ABSENT
    assert site.check().evicted == 1
    assert not site.check().alarm


def test_what_a_disk_has_lost_comes_back_too(site: Site, study: list[Dataset]) -> None:
    uid = study[0].StudyInstanceUID
    before = site.read(site.blobs, uid)
    site.blobs.delete(site.rows(uid)[0]["sha256"])
    assert site.check().missing

    assert site.read(site.shown, uid) == before
    assert not site.check().alarm
    site.blobs.delete(site.rows(uid)[0]["sha256"])
    with pytest.raises(BlobMissing):  # what nothing says is evicted is lost, once nobody has it
        Recalling(site.blobs.root, site.database, nobody(site), noting=False).recalled(
            uid, site.rows(uid)[0]["sop_instance_uid"], site.rows(uid)[0]["sha256"]
        )


def test_the_use_of_a_study_is_noted_once_an_hour(site: Site, study: list[Dataset]) -> None:
    noted: list[str] = []

    class Counting:
        def recall(self, _study: str) -> None:
            raise AssertionError

        def begin(self, _studies: Sequence[str]) -> None:
            raise AssertionError

        def note_use(self, study: str) -> None:
            noted.append(study)

    shown = Recalling(site.blobs.root, site.database, Counting(), noting=True, clock=site.clock)
    uid = study[0].StudyInstanceUID
    for _ in range(3):
        site.read(shown, uid)
    assert noted == [uid]
    site.clock.now += 3600
    site.read(shown, uid)
    assert noted == [uid, uid]


def testnobody_waits_where_the_process_that_fetches_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    with socket.socket(socket.AF_UNIX) as nobody:
        nobody.bind(str(tmp_path / "run" / "index.sock"))
    distant = DistantRecaller(tmp_path / "run", seconds=10, most=1)
    distant.recall("1.2")
    distant.note_use("1.2")
