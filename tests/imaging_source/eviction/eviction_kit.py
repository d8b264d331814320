"""A node beside an archive that stays, for tests of what it lets go and fetches again."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydicom.dataset import Dataset
from sqlalchemy import update

from imaging_source.archive_web import WebArchive
from imaging_source.archives import Archive, Asking, Bounds
from imaging_source.checking import Findings, check
from imaging_source.description.worker import Describer
from imaging_source.dicomweb import DicomWeb
from imaging_source.evicted import Figures, figures
from imaging_source.eviction import Evictor
from imaging_source.intake import Intake
from imaging_source.overview import study as overview_of
from imaging_source.parts import locate, under
from imaging_source.recall import Recaller
from imaging_source.recalling import Recalling
from imaging_source.requestor import Unreachable
from imaging_source.schema import (
    STUDY,
)
from soap.server import Router, running_server
from storage.blobs import BlobStore
from storage.database import Database
from tests.imaging_source.conftest import CT_IMAGE, Clock
from tests.imaging_source.test_stow import part10

Make = Callable[..., Dataset]
DAY = 86_400.0
PROXY = Bounds(days=0)
# The 256 bytes of pixels that instances have here.
PICTURE = {
    "Rows": 8,
    "Columns": 16,
    "BitsAllocated": 16,
    "BitsStored": 16,
    "HighBit": 15,
    "PixelRepresentation": 0,
    "SamplesPerPixel": 1,
    "PhotometricInterpretation": "MONOCHROME2",
}


class Pacs:
    """An archive that stays, which can be told to be away, or to take its time."""

    title, address = "PACS", "pacs"

    def __init__(self, archive: Archive) -> None:
        self.archive = archive
        self.away = False
        self.when_asked: Callable[[], object] = lambda: None
        self.when_answered: Callable[[], object] = lambda: None
        self.fetched: list[str] = []
        self.goes_on = threading.Event()
        self.goes_on.set()
        self.reached = Archive(self.title, self, self, bounds=PROXY)

    @contextmanager
    def asking(self) -> Iterator[Asking]:
        if self.away:
            raise Unreachable("away")
        self.when_asked()
        with self.archive.asking() as asked:
            yield asked
        self.when_answered()

    def fetch(self, study: str) -> None:
        self.fetched.append(study)
        assert self.goes_on.wait(10)
        if self.away:
            raise Unreachable("away")
        self.archive.fetch(study)


class Site:
    """A node beside an archive: what that has is fetched, and may be let go."""

    def __init__(self, folder: Path, database: Database, url: str, clock: Clock) -> None:
        self.database, self.clock = database, clock
        self.blobs = BlobStore(folder / "house")
        self.door = Intake(database, self.blobs, clock)
        self.pacs = self.archive(url)
        reached = [self.pacs.reached]
        self.recaller = Recaller(database, reached, seconds=10, clock=clock)
        self.shown = Recalling(folder / "house", database, self.recaller, noting=True, clock=clock)
        self.evictor = Evictor(database, self.blobs, reached, clock)
        self.evictor._tried.add(Pacs.title)

    def archive(self, url: str) -> Pacs:
        web = WebArchive("PACS", url, self.door)
        return Pacs(Archive(web.title, web, web))

    def fetch(self, *studies: str) -> None:
        """Have studies, published, described and untouched for three hours."""
        for one in studies:
            self.pacs.archive.fetch(one)
        self.settle()

    def settle(self) -> None:
        Describer(self.database, self.blobs).sweep()
        values = {"published_entry": "urn:uuid:1", "published_revision": STUDY.c.revision}
        self.write(update(STUDY).values(values))
        self.rest()

    def rest(self) -> None:
        """Three hours in which nobody comes by."""
        self.clock.now += 3 * 3600.0
        then = time.time() - 3 * 3600.0
        for path in self.blobs.root.rglob("*"):
            if path.is_file():
                os.utime(path, (then, then))

    def write(self, statement: Any) -> None:
        self.database.write(lambda connection: connection.execute(statement).close())

    def evict(self, bounds: Bounds | None = None) -> int:
        """A round; ``bounds`` become those of each archive."""
        if bounds is not None:
            archives = self.evictor._archives
            self.evictor._archives = [replace(one, bounds=bounds) for one in archives]
        self.evictor._not_before.clear()
        return self.evictor.run_once()

    def files(self) -> int:
        return sum(1 for _ in self.blobs.inventory())

    def rows(self, study: str) -> list[Any]:
        with self.database.read() as connection:
            return under(connection, study)

    def read(self, blobs: BlobStore, study: str) -> dict[str, bytes]:
        """The files of a study, as a door reads them."""
        parts = {row["sop_instance_uid"]: locate(blobs, row) for row in self.rows(study)}
        return {uid: b"".join(part.content.chunks()) for uid, part in parts.items() if part}

    def figures(self) -> Figures:
        with self.database.read() as connection:
            return figures(connection)

    def not_recalled(self, study: str) -> str | None:
        with self.database.read() as connection:
            found = overview_of(connection, study)
        assert found is not None
        return found.not_recalled

    def check(self) -> Findings:
        return check(self.database, self.blobs, set)


def put(site: Site, instance: Dataset) -> None:
    """Store an instance at a site as a modality does."""
    syntax = instance.file_meta.TransferSyntaxUID
    arrival = site.door.begin(CT_IMAGE, instance.SOPInstanceUID, syntax, "MODALITY")
    arrival.write(memoryview(data_set(part10(instance))))
    assert arrival.finish().status == 0


def data_set(file: bytes) -> bytes:
    """What follows the File Meta Information, which names who wrote the file."""
    return file[144 + int.from_bytes(file[140:144], "little") :]


@contextmanager
def serving(database: Database, blobs: BlobStore) -> Iterator[str]:
    """An index behind DICOMweb: what a PACS offers."""
    with ThreadPoolExecutor(4) as pool:
        service = DicomWeb(database, blobs, pool)
        with running_server(Router({}, {"/dicomweb": service})) as base:
            yield f"{base}/dicomweb"


def nobody(site: Site) -> Recaller:
    return Recaller(site.database, [], seconds=1)
