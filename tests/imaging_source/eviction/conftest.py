"""A node beside an archive that stays, with a study, and an archive that gives other bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pydicom.dataset import Dataset

from imaging_source.archives import Archive
from imaging_source.index import MIGRATIONS
from storage.blobs import BlobStore
from storage.database import Database
from tests.imaging_source.conftest import Clock
from tests.imaging_source.eviction.eviction_kit import (
    PICTURE,
    Site,
    put,
    serving,
)

Make = Callable[..., Dataset]
Store = Callable[..., int]


@pytest.fixture
def url(database: Database, blobs: BlobStore) -> Iterator[str]:
    """The PACS: the index and the files of the fixtures."""
    with serving(database, blobs) as found:
        yield found


@pytest.fixture
def site(tmp_path: Path, url: str, clock: Clock) -> Iterator[Site]:
    with Database.open(f"sqlite:///{tmp_path / 'test.db'}") as database:
        database.migrate(MIGRATIONS)
        yield Site(tmp_path, database, url, clock)


@pytest.fixture
def study(site: Site, store: Store, make_instance: Make) -> list[Dataset]:
    """Two instances that the PACS has, and the site has fetched and published."""
    instances = [make_instance(**PICTURE) for _ in range(2)]
    assert [store(one) for one in instances] == [0, 0]
    site.fetch(instances[0].StudyInstanceUID)
    return instances


@pytest.fixture
def liar(site: Site, study: list[Dataset], tmp_path: Path) -> Iterator[Archive]:
    """An archive that has the study with the name of its patient spelt otherwise."""
    with Database.open(f"sqlite:///{tmp_path / 'liar.db'}") as database:
        database.migrate(MIGRATIONS)
        there = Site(tmp_path / "liar", database, "", site.clock)
        for one in study:
            one.PatientName = "Other^Spelling"
            put(there, one)
        with serving(database, there.blobs) as url:
            yield site.archive(url).archive
