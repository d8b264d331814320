"""Bytes that stay with their archives, where each of these has a mode of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

from imaging_source.archive_dimse import FindUser, MoveUser
from imaging_source.archives import Archive, Bounds
from imaging_source.eviction import Evictor
from imaging_source.index import MIGRATIONS
from imaging_source.recall import Recaller
from imaging_source.recalling import Recalling
from imaging_source.receiver import Listening, Receiver
from storage.database import Database
from tests.imaging_source.conftest import Clock
from tests.imaging_source.eviction.eviction_kit import DAY, PROXY, Pacs, Site, put, serving
from tests.imaging_source.pacs import Pacs as Orthanc

Make = Callable[..., Dataset]
Store = Callable[..., int]


class Old(Pacs):
    """A second archive, which is going to be switched off."""

    title = "OLD"


@pytest.fixture
def old(site: Site, tmp_path: Path, clock: Clock) -> Iterator[Site]:
    """The second archive, a PACS as the first one is; without bounds (mode archive)."""
    with Database.open(f"sqlite:///{tmp_path / 'old.db'}") as database:
        database.migrate(MIGRATIONS)
        there = Site(tmp_path / "old", database, "", clock)
        with serving(database, there.blobs) as url:
            there.pacs = Old(site.archive(url).archive)
            yield there


@pytest.fixture
def beside(site: Site, old: Site) -> Callable[..., None]:
    """Has the site stand before both archives, with such bounds for each."""

    def stand(old_bounds: Bounds | None, bounds: Bounds | None) -> None:
        reached = [
            Archive(one.title, one, one, bounds=of)
            for one, of in ((old.pacs, old_bounds), (site.pacs, bounds))
        ]
        site.recaller = Recaller(site.database, reached, seconds=10, clock=site.clock)
        house = site.blobs.root
        site.shown = Recalling(house, site.database, site.recaller, noting=True, clock=site.clock)
        site.evictor = Evictor(site.database, site.blobs, reached, site.clock)
        site.evictor._tried.update(one.title for one in reached)

    return stand


@pytest.fixture
def studies(site: Site, old: Site, store: Store, make_instance: Make) -> tuple[str, str, str]:
    """Studies that the old archive has alone, that both have, that the other has alone; all are
    here, and unused for equally long.
    """
    uids = (generate_uid(), generate_uid(), generate_uid())
    for number, uid in enumerate(uids):
        instance = make_instance(StudyInstanceUID=uid, SeriesInstanceUID=generate_uid())
        if number < 2:
            put(old, instance)
            old.settle()
        if number > 0:
            assert store(instance) == 0
        put(site, instance)
    site.settle()
    return uids


def gone(site: Site, studies: tuple[str, str, str]) -> list[bool]:
    """Of which studies the bytes are with their archive alone."""
    return [not any(site.blobs.holds(row["sha256"]) for row in site.rows(one)) for one in studies]


def test_what_a_pacs_in_mode_archive_alone_has_is_never_let_go(
    site: Site, studies: tuple[str, str, str], beside: Callable[..., None]
) -> None:
    beside(None, PROXY)
    assert site.evict() == 2
    assert gone(site, studies) == [False, True, True]
    site.clock.now += 1000 * DAY
    assert site.evict() == 0


def test_nothing_goes_where_every_archive_has_mode_archive(
    site: Site, studies: tuple[str, str, str], beside: Callable[..., None]
) -> None:
    beside(None, None)
    site.clock.now += 1000 * DAY
    assert site.evict() == 0
    assert gone(site, studies) == [False, False, False]


def test_each_archive_has_days_of_its_own_and_what_both_have_goes_after_the_fewer(
    site: Site, studies: tuple[str, str, str], beside: Callable[..., None]
) -> None:
    beside(Bounds(days=3), Bounds(days=1))
    assert site.evict() == 0
    site.clock.now += DAY
    assert site.evict() == 2
    assert gone(site, studies) == [False, True, True]
    site.clock.now += 2 * DAY
    assert site.evict() == 1
    assert gone(site, studies) == [True, True, True]


def test_beyond_the_gigabytes_goes_what_may_and_not_what_is_unused_longest(
    site: Site, studies: tuple[str, str, str], beside: Callable[..., None]
) -> None:
    total = sum(row["size"] for one in studies for row in site.rows(one))
    site.read(site.shown, studies[1])
    site.rest()
    site.read(site.shown, studies[2])  # the last to go
    site.rest()
    beside(None, Bounds(bytes=total - 1))
    assert site.evict() == 1
    assert gone(site, studies) == [False, True, False]


def test_what_was_let_go_comes_back_from_an_archive_that_lets_go(
    site: Site, old: Site, studies: tuple[str, str, str], beside: Callable[..., None]
) -> None:
    beside(None, PROXY)
    before = site.read(site.blobs, studies[1])
    site.evict()
    assert site.read(site.shown, studies[1]) == before
    assert (old.pacs.fetched, site.pacs.fetched) == ([], [studies[1]])


def test_orthanc_in_mode_archive_beside_one_that_stays(
    site: Site, url: str, store: Store, make_instance: Make, pacs_process: Orthanc
) -> None:
    peer = pacs_process.peer
    alone = make_instance(StudyInstanceUID=generate_uid(), SeriesInstanceUID=generate_uid())
    shared = make_instance()
    pacs_process.put(alone, shared)
    assert store(shared) == 0
    orthanc = Archive(peer.title, FindUser(peer, "KOSMOS"), MoveUser(peer, "KOSMOS"))
    with Receiver(site.door, Listening(port=pacs_process.sends_to)):
        for one in (alone, shared):
            orthanc.fetch(one.StudyInstanceUID)
    site.settle()
    site.evictor._archives = [orthanc, site.pacs.reached]
    site.evictor._tried.add(peer.title)
    before = site.read(site.blobs, shared.StudyInstanceUID)

    assert site.evict() == 1
    assert site.read(site.blobs, alone.StudyInstanceUID)
    assert site.read(site.shown, shared.StudyInstanceUID) == before
    pacs_process.clear()
