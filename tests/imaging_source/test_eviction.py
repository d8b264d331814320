"""Bytes that stay with their archive: let go here, and fetched again by whichever door is asked."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest
import urllib3
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid
from pynetdicom import AE, build_role, evt
from sqlalchemy import delete, insert, select, update

from imaging_source import media
from imaging_source.archive_commitment import AGAIN_SECONDS, CommitmentUser, Outcome
from imaging_source.archive_dimse import FindUser, MoveUser
from imaging_source.archive_web import WebArchive
from imaging_source.archives import Archive, Asking
from imaging_source.checking import Findings, check
from imaging_source.commitment import Commitments
from imaging_source.description.worker import Describer
from imaging_source.dicomweb import DicomWeb
from imaging_source.dicomweb.wado_uri import WadoUri
from imaging_source.evicted import Away, Figures, Hindrance, figures
from imaging_source.eviction import Bounds, Evictor
from imaging_source.handover import DistantRecaller, IndexDoor
from imaging_source.index import MIGRATIONS
from imaging_source.intake import Intake
from imaging_source.negotiation import Titles
from imaging_source.overview import study as overview_of
from imaging_source.parts import Part, locate, under
from imaging_source.query_retrieve.find import Finder
from imaging_source.query_retrieve.models import STUDY_ROOT_GET as GET
from imaging_source.query_retrieve.models import STUDY_ROOT_MOVE as MOVE
from imaging_source.query_retrieve.retrieve import Retriever
from imaging_source.query_retrieve.services import query_retrieve
from imaging_source.recall import Recaller
from imaging_source.recalling import Recalling
from imaging_source.receiver import Listening, Receiver
from imaging_source.reports import ENCAPSULATED_PDF
from imaging_source.requestor import Peer, Unreachable
from imaging_source.retrieve import ImagingSource
from imaging_source.schema import (
    ARCHIVE_COMMITMENT,
    COMMITMENT,
    DESCRIPTION,
    ENCAPSULATED,
    INSTANCE,
    PUBLICATION,
    QUARANTINE,
    STUDY,
)
from imaging_source.syntaxes import RLE_LOSSLESS
from imaging_source.variants import Variants
from imaging_source.workers import Workers
from metadata.identifiers import FAILURE, SUCCESS
from soap.server import Router, running_server
from storage.blobs import BlobStore
from storage.database import Database
from storage.errors import BlobMissing
from tests.imaging_source.conftest import CT_IMAGE, Clock
from tests.imaging_source.pacs import Pacs as Orthanc
from tests.imaging_source.test_retrieve import HERE, asking
from tests.imaging_source.test_stow import part10

Make = Callable[..., Dataset]
Store = Callable[..., int]
DAY = 86_400.0
PROXY = Bounds(days=0)
DICOM_PARTS = 'multipart/related; type="application/dicom"'
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
PROGRAM = Path(__file__).with_name("evicting_process.py")
ROOT = Path(__file__).parents[2]


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
        self.reached = Archive(self.title, self, self)

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
        self.evictor = Evictor(database, self.blobs, reached, PROXY, clock)
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

    def evict(self, bounds: Bounds = PROXY) -> int:
        self.evictor._bounds = bounds
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


@contextmanager
def serving(database: Database, blobs: BlobStore) -> Iterator[str]:
    """An index behind DICOMweb: what a PACS offers."""
    with ThreadPoolExecutor(4) as pool:
        service = DicomWeb(database, blobs, pool)
        with running_server(Router({}, {"/dicomweb": service})) as base:
            yield f"{base}/dicomweb"


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


def test_what_the_archive_has_goes_and_comes_back_as_it_was(
    tmp_path: Path,
    url: str,
    clock: Clock,
    database_url: str,
    store: Store,
    make_instance: Make,
) -> None:
    instances = [make_instance() for _ in range(3)]
    assert {store(one) for one in instances} == {0}
    uid = instances[0].StudyInstanceUID
    with Database.open(database_url) as database:
        database.migrate(MIGRATIONS)
        site = Site(tmp_path, database, url, clock)
        site.fetch(uid)
        before = site.read(site.blobs, uid)

        assert site.evict() == 3
        assert (site.files(), len(site.rows(uid))) == (0, 3)
        assert site.figures().instances == 3
        assert site.evict() == 0

        assert site.read(site.shown, uid) == before
        assert site.pacs.fetched == [uid]
        assert site.figures() == Figures(0, 0)
        site.rest()
        site.shown._noted.clear()
        assert site.evict() == 3


def unpublished(site: Site, _uid: str) -> None:
    site.write(update(STUDY).values(revision=STUDY.c.revision + 1))


def on_its_way(site: Site, uid: str) -> None:
    row: dict[str, Any] = {
        "submission_set_unique_id": "1.2",
        "study_instance_uid": uid,
        "revision": 1,
        "entry_uuid": "",
        "manifest_uid": "",
        "manifest": b"",
        "metadata": b"",
        "state": "pending",
        "attempts": 0,
        "next_attempt_at": 0.0,
        "created_at": 0.0,
    }
    site.write(insert(PUBLICATION).values(row))


def in_quarantine(site: Site, uid: str) -> None:
    row = {
        "sop_instance_uid": site.rows(uid)[0]["sop_instance_uid"],
        "sha256": "0" * 64,
        "size": 1,
        "reason": "other-bytes",
        "sender": "",
        "received_at": 0.0,
    }
    site.write(insert(QUARANTINE).values(row))


def to_be_committed_to(site: Site, uid: str) -> None:
    row = site.rows(uid)[1]
    named = json.dumps([[row["sop_class_uid"], row["sop_instance_uid"]]]).encode()
    times = {"requested_at": site.clock.now, "next_attempt_at": 0.0, "attempts": 0}
    commitment = {"peer": "P", "transaction_uid": "1", "named": named, "state": "pending", **times}
    site.write(insert(COMMITMENT).values(commitment))


def to_be_committed_to_meanwhile(site: Site, uid: str) -> None:
    site.pacs.when_asked = lambda: to_be_committed_to(site, uid)


def not_described(site: Site, _uid: str) -> None:
    site.write(delete(DESCRIPTION))


def used_an_hour_ago(site: Site, uid: str) -> None:
    site.read(site.shown, uid)
    site.clock.now += 3600.0


def asked_for_meanwhile(site: Site, uid: str) -> None:
    site.pacs.when_asked = lambda: site.read(site.shown, uid)


def archive_away(site: Site, _uid: str) -> None:
    site.pacs.away = True


def file_of_a_moment_ago(site: Site, _uid: str) -> None:
    for path in site.blobs.root.rglob("*"):
        if path.is_file():
            os.utime(path)


@pytest.mark.parametrize(
    "hindrance",
    [
        unpublished,
        on_its_way,
        in_quarantine,
        to_be_committed_to,
        to_be_committed_to_meanwhile,
        not_described,
        used_an_hour_ago,
        asked_for_meanwhile,
        archive_away,
        file_of_a_moment_ago,
    ],
)
def test_what_is_still_needed_stays(
    site: Site, study: list[Dataset], hindrance: Callable[[Site, str], None]
) -> None:
    hindrance(site, study[0].StudyInstanceUID)

    assert site.evict() == 0
    assert (site.files(), site.figures().instances) == (2, 0)


def test_what_the_archive_has_not_whole_stays(
    site: Site, study: list[Dataset], make_instance: Make
) -> None:
    own = make_instance()  # sent here alone
    put(site, own)
    site.settle()

    assert site.evict() == 0
    assert site.files() == 3


@pytest.fixture
def pair(tmp_path: Path, clock: Clock, make_instance: Make) -> Iterator[tuple[Site, Site]]:
    """Two nodes that have the same two instances, each the archive of the other."""
    sites: list[Site] = []
    with ExitStack() as stack:
        for name in ("first", "second"):
            database = stack.enter_context(Database.open(f"sqlite:///{tmp_path / name}.db"))
            database.migrate(MIGRATIONS)
            sites.append(Site(tmp_path / name, database, "", clock))
        instances = [make_instance() for _ in range(2)]
        first, second = sites
        for site, other in ((first, second), (second, first)):
            url = stack.enter_context(serving(other.database, other.blobs))
            site.pacs.archive = site.archive(url).archive
            for one in instances:
                put(site, one)
            site.settle()
        yield first, second


def test_of_two_nodes_that_are_archives_of_each_other_one_keeps_the_images(
    pair: tuple[Site, Site],
) -> None:
    first, second = pair
    assert [first.evict(), second.evict()] == [2, 0]
    assert [first.files(), second.files()] == [0, 2]


def test_of_two_that_let_go_at_the_same_moment_one_keeps_the_images(
    pair: tuple[Site, Site],
) -> None:
    first, second = pair
    gone: list[int] = []

    def meanwhile() -> None:
        first.pacs.when_answered = lambda: None
        gone.append(second.evict())

    first.pacs.when_answered = meanwhile
    assert (first.evict(), gone) == (0, [2])
    assert [one.files() for one in pair] == [2, 0]
    assert [one.figures().instances for one in pair] == [0, 2]


def test_a_document_among_the_images_stays(site: Site, store: Store, make_instance: Make) -> None:
    image = make_instance()
    document = make_instance(SOPClassUID=ENCAPSULATED_PDF, SeriesInstanceUID=generate_uid())
    assert [store(one) for one in (image, document)] == [0, 0]
    site.fetch(image.StudyInstanceUID)
    assert site.evict() == 0  # a report may be in it
    site.write(delete(ENCAPSULATED))

    site.clock.now += DAY
    assert site.evict() == 1
    assert site.files() == 1


def test_the_longest_unused_goes_first_until_the_rest_fits(
    site: Site, store: Store, make_instance: Make
) -> None:
    uids = [generate_uid() for _ in range(3)]
    for uid in uids:
        store(make_instance(StudyInstanceUID=uid, SeriesInstanceUID=generate_uid()))
        site.fetch(uid)
    total = sum(site.rows(uid)[0]["size"] for uid in uids)
    site.read(site.shown, uids[0])  # asked for after the others had come
    site.rest()

    assert site.evict(Bounds(bytes=total)) == 0
    assert site.evict(Bounds(bytes=total - 1)) == 1
    assert site.files() == 2
    assert site.read(site.blobs, uids[0])
    with pytest.raises(Away):
        site.read(Recalling(site.blobs.root, site.database, _nobody(site), noting=False), uids[1])
    assert site.evict(Bounds(days=1)) == 0
    site.clock.now += DAY
    assert site.evict(Bounds(days=1)) == 2


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


def _nobody(site: Site) -> Recaller:
    return Recaller(site.database, [], seconds=1)


@contextmanager
def doors(
    site: Site, folder: Path, workers: Workers, *destinations: Peer
) -> Iterator[tuple[str, int]]:
    """The doors of a web process, and of the process ``dicom``: a base URL and a port."""
    variants = Variants(folder / "transcoded", workers, 10**9)
    peers = {peer.title: peer for peer in destinations}
    retriever = Retriever(site.database, site.shown, "KOSMOS", peers, variants)
    services = query_retrieve(Finder(site.database, "KOSMOS", 20), retriever)
    titles = Titles(querying=frozenset({"*"}))
    with ExitStack() as stack:
        listening = Listening(port=0, titles=titles, services=services)
        port = stack.enter_context(Receiver(site.door, listening)).port
        pool = stack.enter_context(ThreadPoolExecutor(4))
        mounts = {
            "/dicomweb": DicomWeb(site.database, site.shown, pool, variants=variants),
            "/wado": WadoUri(site.database, site.shown, pool, variants),
        }
        yield stack.enter_context(running_server(Router({}, mounts))), port


def data_set(file: bytes) -> bytes:
    """What follows the File Meta Information, which names who wrote the file."""
    return file[144 + int.from_bytes(file[140:144], "little") :]


def moved(port: int, uid: str) -> tuple[int, int]:
    """Completed and failed sub-operations of a C-MOVE of a study to the peer DEST."""
    ae = AE("ASKER")
    ae.add_requested_context(MOVE)
    association = ae.associate("127.0.0.1", port, ae_title="KOSMOS")
    identifier = Dataset()
    identifier.QueryRetrieveLevel = "STUDY"
    identifier.StudyInstanceUID = uid
    *_, (last, _) = association.send_c_move(identifier, "DEST", MOVE)
    association.release()
    return last.NumberOfCompletedSuboperations, last.NumberOfFailedSuboperations


def test_what_is_away_comes_back_to_be_moved_to_a_peer(
    site: Site, study: list[Dataset], tmp_path: Path, workers: Workers, clock: Clock
) -> None:
    uid = study[0].StudyInstanceUID
    before = site.read(site.blobs, uid)
    assert site.evict() == 2
    with Database.open(f"sqlite:///{tmp_path / 'peer.db'}") as database:
        database.migrate(MIGRATIONS)
        there = Site(tmp_path / "peer", database, "", clock)
        with Receiver(there.door, Listening(port=0, titles=Titles("DEST"))) as receiver:
            peer = Peer("DEST", "127.0.0.1", receiver.port)
            with doors(site, tmp_path, workers, peer) as (_, port):
                site.pacs.away = True
                assert moved(port, uid) == (0, 2)
                assert there.files() == 0
                site.pacs.away = False
                site.clock.now += 60
                assert moved(port, uid) == (2, 0)
        assert {*map(data_set, there.read(there.blobs, uid).values())} == {
            *map(data_set, before.values())
        }
        assert site.figures().instances == 0


def got(port: int, uid: str) -> tuple[int, int]:
    """How many instances of a study come by C-GET, and the final status."""
    taken: list[str] = []

    def take(event: Any) -> int:
        taken.append(event.request.AffectedSOPInstanceUID)
        return 0

    ae = AE("ASKER")
    ae.add_requested_context(GET)
    ae.add_requested_context(CT_IMAGE, "1.2.840.10008.1.2.1")
    association = ae.associate(
        "127.0.0.1",
        port,
        ae_title="KOSMOS",
        ext_neg=[build_role(CT_IMAGE, scp_role=True)],
        evt_handlers=[(evt.EVT_C_STORE, take)],
    )
    identifier = Dataset()
    identifier.QueryRetrieveLevel = "STUDY"
    identifier.StudyInstanceUID = uid
    *_, (last, _) = association.send_c_get(identifier, GET)
    association.release()
    return len(taken), int(last.Status)


def test_every_door_brings_back_what_it_is_asked_for_and_none_tells_a_false_success(
    site: Site, study: list[Dataset], tmp_path: Path, workers: Workers
) -> None:
    first = study[0]
    uid = first.StudyInstanceUID
    files = site.read(site.blobs, uid)
    source = ImagingSource(site.database, site.shown, HERE)
    instance = f"requestType=WADO&studyUID={uid}&seriesUID={first.SeriesInstanceUID}"
    instance += f"&objectUID={first.SOPInstanceUID}&contentType=application/dicom"
    place = f"/studies/{uid}/series/{first.SeriesInstanceUID}/instances/{first.SOPInstanceUID}"

    def away() -> None:
        site.rest()
        site.rest()
        assert site.evict() == 2
        site.pacs.away = True

    with doors(site, tmp_path, workers) as (base, port):

        def ask(path: str, accept: str = "*/*") -> urllib3.BaseHTTPResponse:
            return urllib3.request("GET", base + path, headers={"Accept": accept}, retries=False)

        web = [
            (f"/dicomweb/studies/{uid}", DICOM_PARTS),
            (f"/dicomweb/studies/{uid}", "application/zip"),
            (f"/dicomweb{place}/frames/1", 'multipart/related; type="application/octet-stream"'),
            (f"/dicomweb{place}/rendered", "image/png"),
            (f"/wado?{instance}", "*/*"),
            (f"/dicomweb/studies/{uid}", f"{DICOM_PARTS}; transfer-syntax={RLE_LOSSLESS}"),
        ]
        for path, accept in web:
            away()
            refused = ask(path, accept)
            assert (refused.status, refused.headers["Retry-After"]) == (503, "30")
            assert ask("/dicomweb/studies").status == 200  # queries know no difference
            assert ask(f"/dicomweb/studies/{uid}/metadata").status == 200
            site.pacs.away = False
            site.clock.now += 60
            answer = ask(path, accept)
            assert answer.status == 200, (path, answer.data)
            if accept == "application/zip":
                with ZipFile(BytesIO(answer.data)) as zipped:
                    assert {*map(zipped.read, zipped.namelist())} == {*files.values()}

        away()
        refusal = source.retrieve(asking(*study))
        assert (refusal.status, len(refusal.errors)) == (FAILURE, 2)
        assert got(port, uid) == (0, 0xA702)
        assert site.not_recalled(uid) == Hindrance.UNREACHED
        with pytest.raises(Away):
            media.entries(site.database, site.shown, [uid])
        site.pacs.away = False
        site.clock.now += 60
        assert source.retrieve(asking(*study)).status == SUCCESS

        site.rest()
        assert site.evict() == 2
        assert got(port, uid) == (2, 0)
        site.rest()
        assert site.evict() == 2
        assert len(media.entries(site.database, site.shown, [uid])) == 5


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
        while not site.pacs.fetched or distant._places._value:
            time.sleep(0.005)
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
        while len(site.pacs.fetched) < 2 or len(site.recaller._under_way) < 3:
            assert not answer.done()
            time.sleep(0.005)
        site.pacs.goes_on.set()
        assert answer.result(10).status == SUCCESS
        assert sorted(site.pacs.fetched) == sorted(uids)

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


def test_what_an_archive_has_not_committed_to_stays_where_it_is_asked_to(
    site: Site,
    study: list[Dataset],
    database: Database,
    blobs: BlobStore,
    start_receiver: Callable[[Listening], int],
) -> None:
    def commits(reports_to: dict[str, Peer]) -> None:
        """Have the archive asked for commitments; it reports there, or on the same association."""
        services = Commitments(database, blobs, "PACS", reports_to).services
        listening = Listening(port=0, titles=Titles(called="PACS"), services=services)
        peer = Peer("PACS", "127.0.0.1", start_receiver(listening))
        stay = 0.0 if reports_to else 10.0
        user = CommitmentUser(site.database, peer, "KOSMOS", stay=stay, clock=site.clock)
        site.evictor._archives = [replace(site.pacs.reached, assurance=user)]

    commits({"KOSMOS": Peer("KOSMOS", "127.0.0.1", 9)})
    assert site.evict() == 0  # asked, and not answered yet
    commits({})
    assert site.evict() == 0  # asked a moment ago
    site.clock.now += AGAIN_SECONDS
    assert site.evict() == 2


def test_the_word_of_one_archive_does_not_stand_for_what_another_has(
    site: Site, study: list[Dataset]
) -> None:
    class Silent:
        """Is asked, and says nothing."""

        def ask(self, _study: str) -> bool:
            return True

    def said(archive: str, outcome: Outcome) -> None:
        rows = [
            {
                "sop_instance_uid": row["sop_instance_uid"],
                "archive": archive,
                "study_instance_uid": row["study_instance_uid"],
                "sha256": row["sha256"],
                "transaction_uid": "1",
                "state": outcome,
                "changed_at": site.clock.now,
            }
            for row in site.rows(study[0].StudyInstanceUID)
        ]
        site.write(insert(ARCHIVE_COMMITMENT).values(rows))

    site.evictor._archives = [replace(site.pacs.reached, assurance=Silent())]
    said("OTHER", Outcome.COMMITTED)
    assert site.evict() == 0
    said(Pacs.title, Outcome.COMMITTED)
    assert site.evict() == 2


def test_an_archive_that_does_not_give_back_what_we_have_frees_nothing(
    site: Site, study: list[Dataset], liar: Archive, store: Store, make_instance: Make
) -> None:
    other = make_instance(StudyInstanceUID=generate_uid(), SeriesInstanceUID=generate_uid())
    store(other)
    site.fetch(other.StudyInstanceUID)
    honest, site.pacs.archive = site.pacs.archive, liar
    site.evictor._tried.clear()
    assert site.evict() == 0
    site.clock.now += 3600
    site.pacs.archive = honest
    assert site.evict() == 0  # for a day
    assert site.pacs.fetched == [study[0].StudyInstanceUID]
    site.clock.now += DAY
    assert site.evict() == 0  # the file of a moment ago
    site.rest()
    assert site.evict() == 1
    assert site.pacs.fetched == [study[0].StudyInstanceUID, other.StudyInstanceUID]


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
        Recalling(site.blobs.root, site.database, _nobody(site), noting=False).recalled(
            uid, site.rows(uid)[0]["sop_instance_uid"], site.rows(uid)[0]["sha256"]
        )


def test_killed_between_the_mark_and_the_files_all_is_served_and_goes_later(
    site: Site, study: list[Dataset], tmp_path: Path, url: str
) -> None:
    uid = study[0].StudyInstanceUID
    now = site.clock.now + DAY
    site.database.close()  # an embedded database has one writing process

    def process(fault: str) -> int:
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "KOSMOS_FAULT": fault}
        command = [sys.executable, str(PROGRAM), str(tmp_path), url, str(now)]
        return subprocess.run(command, env=environment, check=False).returncode

    @contextmanager
    def restarted() -> Iterator[Site]:
        with Database.open(f"sqlite:///{tmp_path / 'test.db'}") as database:
            yield Site(tmp_path, database, url, site.clock)

    point = "imaging.evicted"
    assert process(f"{point}:kill") == -9
    with restarted() as again:
        assert (again.figures().instances, again.files()) == (2, 2)
        readonly = Recalling(again.blobs.root, again.database, again.recaller, noting=False)
        assert len(again.read(readonly, uid)) == 2
        assert not again.check().alarm
        assert again.pacs.fetched == []

    assert process("") == 0
    with restarted() as again:
        assert (again.figures().instances, again.files()) == (2, 0)
        assert len(again.read(again.shown, uid)) == 2
        assert again.figures().instances == 0


def test_what_orthanc_has_goes_and_comes_back_by_c_move(
    tmp_path: Path, clock: Clock, database: Database, make_instance: Make, pacs_process: Orthanc
) -> None:
    site, peer = Site(tmp_path, database, "", clock), pacs_process.peer
    instances = [make_instance() for _ in range(2)]
    pacs_process.put(*instances)
    with Receiver(site.door, Listening(port=pacs_process.sends_to)):
        sides = FindUser(peer, "KOSMOS"), MoveUser(peer, "KOSMOS")
        site.pacs.archive = Archive(peer.title, *sides)
        uid = instances[0].StudyInstanceUID
        site.fetch(uid)
        before = site.read(site.blobs, uid)

        assert site.evict() == len(before) == 2
        assert site.read(site.shown, uid) == before
    pacs_process.clear()


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


def test_nobody_waits_where_the_process_that_fetches_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    with socket.socket(socket.AF_UNIX) as nobody:
        nobody.bind(str(tmp_path / "run" / "index.sock"))
    distant = DistantRecaller(tmp_path / "run", seconds=10, most=1)
    distant.recall("1.2")
    distant.note_use("1.2")
