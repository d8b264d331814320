"""An archive that is asked by QIDO-RS and fetched from by WADO-RS: ourselves, and liars."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid
from sqlalchemy import select

from imaging_source.archive_web import WebArchive
from imaging_source.archives import Archive, Archives, Condition
from imaging_source.dicomweb import DicomWeb
from imaging_source.index import MIGRATIONS
from imaging_source.intake import Intake
from imaging_source.ledger import About, Service
from imaging_source.requestor import Unreachable
from imaging_source.schema import INSTANCE
from soap.asgi import Receive, Scope, Send, respond
from soap.server import Router, running_server
from storage.blobs import BlobStore
from storage.database import Database
from storage.errors import OutOfSpace
from tests.imaging_source.book import Book, about
from tests.imaging_source.test_stow import BOUNDARY, body, part10

Make = Callable[..., Dataset]
Store = Callable[..., int]
MEDIA = f'multipart/related; type="application/dicom"; boundary={BOUNDARY}'.encode()


class House:
    """An index and its files, into which an archive is fetched."""

    def __init__(self, database: Database, blobs: BlobStore, clock: Any) -> None:
        self.database = database
        self.blobs = blobs
        self.clock = clock
        self.door = Intake(database, blobs, clock)

    def archive(self, url: str, **settings: Any) -> WebArchive:
        return WebArchive("PACS", url, self.door, **settings)

    def archives(self, url: str) -> Archives:
        web = self.archive(url)
        reached = [Archive(web.title, web, web)]
        return Archives(self.database, reached, days=2, poll_seconds=60, clock=self.clock)

    def stored(self) -> dict[str, bytes]:
        """The data sets by SOP Instance UID."""
        with self.database.read() as connection:
            rows = connection.execute(select(INSTANCE)).all()
        files = {one.sop_instance_uid: self.blobs.open(one.sha256) for one in rows}
        return {uid: b"".join(file.chunks()) for uid, file in files.items()}


@pytest.fixture
def house(tmp_path: Path, clock: Any) -> Iterator[House]:
    with Database.open(f"sqlite:///{tmp_path / 'house.db'}") as database:
        database.migrate(MIGRATIONS)
        yield House(database, BlobStore(tmp_path / "house"), clock)


@pytest.fixture
def today(clock: Any) -> str:
    return f"{datetime.fromtimestamp(clock.now, UTC):%Y%m%d}"


@pytest.fixture
def ourselves(database: Database, blobs: BlobStore) -> Iterator[str]:
    """A DICOMweb service over the fixtures' own index, as an archive for the house."""
    with ThreadPoolExecutor(4) as pool:
        service = DicomWeb(database, blobs, pool)
        with running_server(Router({}, {"/dicomweb": service})) as base:
            yield f"{base}/dicomweb"


def test_what_an_archive_has_of_the_last_days_is_fetched_once(
    house: House, ourselves: str, store: Store, make_instance: Make, blobs: BlobStore, today: str
) -> None:
    new = [make_instance(StudyDate=today) for _ in range(3)]
    old = make_instance(StudyDate="19990101", StudyInstanceUID=generate_uid())
    old.SeriesInstanceUID = generate_uid()
    assert [store(one) for one in (*new, old)] == [0] * 4
    archives = house.archives(ourselves)
    assert list(archives.conditions()) == [Condition("PACS", ourselves, True, 1, 1)]

    assert archives.run_once() == 1

    assert house.stored().keys() == {one.SOPInstanceUID for one in new}
    assert archives.run_once() == 0
    late = make_instance(StudyDate=today)
    assert store(late) == 0
    house.clock.now += 1000  # a study that was fetched is left alone for a while
    assert archives.run_once() == 1
    assert late.SOPInstanceUID in house.stored()
    assert list(archives.conditions()) == [Condition("PACS", ourselves, True, 1, 0)]


def test_what_is_fetched_is_recorded_as_begun_and_as_ended(
    house: House, ourselves: str, store: Store, make_instance: Make, book: Book
) -> None:
    made = [make_instance() for _ in range(3)]
    assert [store(one) for one in made] == [0] * 3
    house.archive(ourselves, ledger=book).fetch(made[0].StudyInstanceUID)
    assert book.told == [
        ("begins", Service.FETCH_BY_WEB, About(made[0].StudyInstanceUID)),
        ("ended", Service.FETCH_BY_WEB, about(made[0]), 3, 0, None),
    ]


def test_what_cannot_be_recorded_is_not_taken_in(
    house: House, ourselves: str, store: Store, make_instance: Make, book: Book
) -> None:
    instance = make_instance()
    assert store(instance) == 0
    book.full = True
    with pytest.raises(OutOfSpace):
        house.archive(ourselves, ledger=book).fetch(instance.StudyInstanceUID)
    assert house.stored() == {}


def test_what_an_archive_is_asked_is_recorded_whatever_it_answers(
    house: House, ourselves: str, make_instance: Make, book: Book
) -> None:
    uid = make_instance().StudyInstanceUID
    assert house.archive(ourselves, ledger=book).instances(uid) == set()
    with answering(lambda _path: (500, b"text/plain", b"")) as url:
        assert house.archive(url, ledger=book).instances(uid) == set()
    paths = [question.asked.partition(b"?")[0] for _, _, question, _ in book.told]
    assert paths == [f"/studies/{uid}/instances".encode()] * 2
    assert [done for *_, done in book.told] == [True, False]


def test_of_an_answer_that_broke_off_what_came_is_recorded(
    house: House, make_instance: Make, book: Book
) -> None:
    first, second = make_instance(), make_instance()
    whole = body(part10(first), part10(second))
    with (
        answering(lambda _path: (200, b"broken " + MEDIA, whole[:-200])) as url,
        pytest.raises(Unreachable),
    ):
        house.archive(url, ledger=book).fetch(str(first.StudyInstanceUID))
    assert book.told[1:] == [("ended", Service.FETCH_BY_WEB, about(first), 1, 0, None)]


def test_a_study_of_more_instances_than_a_page_is_compared_whole(
    house: House,
    ourselves: str,
    store: Store,
    make_instance: Make,
    today: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("imaging_source.archive_web.PAGE", 2)
    made = [make_instance(StudyDate=today) for _ in range(5)]
    assert [store(one) for one in made] == [0] * 5
    found = house.archive(ourselves).instances(str(made[0].StudyInstanceUID))
    assert found == {one.SOPInstanceUID for one in made}


@contextmanager
def answering(answer: Callable[[str], tuple[int, bytes, bytes]]) -> Iterator[str]:
    """An archive that answers a path with status, media type and body; a media type that begins
    with ``broken`` announces more than comes."""

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        query = scope["query_string"].decode()
        status, media, data = answer(f"{scope['path'].removeprefix('/web')}?{query}")
        whole = media.removeprefix(b"broken ")
        if whole == media:
            await respond(send, status, data, content_type=media.decode())
            return
        head = [(b"content-type", whole), (b"content-length", str(len(data) + 9).encode())]
        await send({"type": "http.response.start", "status": status, "headers": head})
        await send({"type": "http.response.body", "body": data, "more_body": True})

    with running_server(Router({}, {"/web": application})) as base:
        yield f"{base}/web"


def hits(*uids: str, tag: str) -> bytes:
    return json.dumps([{tag: {"vr": "UI", "Value": [uid]}} for uid in uids]).encode()


def test_what_came_before_an_answer_broke_off_is_kept(house: House, make_instance: Make) -> None:
    first, second = make_instance(), make_instance()
    whole = body(part10(first), part10(second))
    with (
        answering(lambda _path: (200, b"broken " + MEDIA, whole[:-200])) as url,
        pytest.raises(Unreachable, match="no whole answer"),
    ):
        house.archive(url).fetch(str(first.StudyInstanceUID))
    assert house.stored().keys() == {first.SOPInstanceUID}


def test_images_of_another_study_are_not_taken_in(house: House, make_instance: Make) -> None:
    asked, other = make_instance(), make_instance(StudyInstanceUID=generate_uid())
    with (
        answering(lambda _path: (200, MEDIA, body(part10(asked), part10(other)))) as url,
        pytest.raises(Unreachable, match="1 of 2 instances"),
    ):
        house.archive(url).fetch(str(asked.StudyInstanceUID))
    assert house.stored().keys() == {asked.SOPInstanceUID}


@pytest.mark.parametrize(
    ("status", "media", "data"),
    [
        (500, b"text/plain", b"trouble"),
        (302, b"text/plain", b""),
        (200, b"text/html", b"<html>"),
        (200, b"application/dicom+json", b"[" * 100_000),
        (200, b"application/dicom+json", b'{"0020000D": 1}'),
        (200, b"broken application/dicom+json", b"["),
    ],
)
def test_an_answer_that_is_no_list_of_hits_is_an_archive_that_does_not_answer(
    house: House, status: int, media: bytes, data: bytes
) -> None:
    with answering(lambda _path: (status, media, data)) as url:
        archives = house.archives(url)
        assert [one.answers for one in archives.conditions()] == [False]
        assert archives.run_once() == 0


@pytest.mark.parametrize("hit", [b"[1]", b"[{}]", b'[{"0020000D": {"Value": []}}]', b"[null]"])
def test_a_hit_that_names_no_study_is_passed_over(house: House, hit: bytes) -> None:
    with answering(lambda _path: (200, b"application/dicom+json", hit)) as url:
        assert list(house.archives(url).conditions()) == [Condition("PACS", url, True, 0, 0)]


def test_an_archive_that_knows_no_pages_is_asked_twice_and_no_more(house: House) -> None:
    asked: list[str] = []

    def answer(path: str) -> tuple[int, bytes, bytes]:
        asked.append(path)
        return 200, b"application/dicom+json", hits("1.2", "1.3", tag="00080018")

    with answering(answer) as url:
        assert house.archive(url).instances("1.9") == {"1.2", "1.3"}
    assert len(asked) == 2


@pytest.mark.parametrize(("counted", "missing"), [(1, 0), (2, 1), (None, 0)])
def test_where_an_archive_names_no_instances_of_a_study_its_number_has_to_do(
    house: House, make_instance: Make, counted: int | None, missing: int
) -> None:
    instance = make_instance()
    study = str(instance.StudyInstanceUID)

    def answer(path: str) -> tuple[int, bytes, bytes]:
        if path.startswith("/studies?"):
            hit = {"0020000D": {"vr": "UI", "Value": [study]}}
            if counted is not None:
                hit["00201208"] = {"vr": "IS", "Value": [counted]}  # type: ignore[list-item]
            return 200, b"application/dicom+json", json.dumps([hit]).encode()
        if path.startswith(f"/studies/{study}?"):
            return 200, MEDIA, body(part10(instance))
        return 500, b"text/plain", b"trouble"

    with answering(answer) as url:
        house.archive(url).fetch(study)
        assert list(house.archives(url).conditions()) == [Condition("PACS", url, True, 1, missing)]


def test_silence_is_an_archive_that_does_not_answer(house: House) -> None:
    async def silent(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()  # the request, and then its end
        await receive()

    with running_server(Router({}, {"/web": silent})) as base:
        archive = house.archive(f"{base}/web", silence=0.2)
        with pytest.raises(Unreachable):
            archive.studies("20240101")
