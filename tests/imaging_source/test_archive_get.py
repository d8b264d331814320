"""An archive that is fetched from by C-GET: ourselves, DCMTK's server, and liars."""

from __future__ import annotations

import socket
import subprocess
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from struct import pack
from typing import Any

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid
from pynetdicom import AE, evt
from sqlalchemy import RowMapping, select

from benchmarks.peers import free_port, running
from imaging_source.archive_dimse import FindUser
from imaging_source.archive_get import GetUser
from imaging_source.archives import Archive
from imaging_source.dimse import (
    C_FIND_RQ,
    C_GET_RQ,
    C_STORE_RQ,
    RESPONSE,
    write_data_set,
    write_request,
)
from imaging_source.elements import Unreadable
from imaging_source.encoded import Value
from imaging_source.evicted import mark
from imaging_source.guard import Limits, PduReader, PduType, PeerGone, ProtocolError
from imaging_source.index import MIGRATIONS
from imaging_source.intake import Intake
from imaging_source.ledger import End, Ledger, Question, Service
from imaging_source.negotiation import Accepted, Offer, Titles, negotiate
from imaging_source.query_retrieve.find import Finder
from imaging_source.query_retrieve.identifier import Identifier
from imaging_source.query_retrieve.models import STUDY_ROOT_FIND, STUDY_ROOT_GET, Level
from imaging_source.query_retrieve.retrieve import Retriever
from imaging_source.query_retrieve.services import query_retrieve
from imaging_source.receiver import Listening
from imaging_source.requestor import Peer, Unreachable
from imaging_source.schema import INSTANCE, QUARANTINE
from imaging_source.service import Services
from imaging_source.shown import Unseen
from imaging_source.variants import Variants
from imaging_source.workers import Workers
from storage.blobs import BlobStore
from storage.database import Database
from storage.errors import OutOfSpace
from tests.imaging_source.book import Book, about

Make = Callable[..., Dataset]
Store = Callable[..., int]
Start = Callable[[Listening], int]
CT_IMAGE, MR_IMAGE, CR_IMAGE, US_IMAGE = (
    f"1.2.840.10008.5.1.4.1.1.{number}" for number in ("2", "4", "1", "6.1")
)

MIB = 1024 * 1024
FINAL = ((0x00000900, 0),)


class House:
    """An index and its files, into which an archive is fetched."""

    def __init__(self, database: Database, blobs: BlobStore, clock: Any) -> None:
        self.database = database
        self.blobs = blobs
        self.door = Intake(database, blobs, clock)

    def archive(self, peer: Peer, ledger: Ledger | None = None) -> Archive:
        finder = FindUser(peer, "KOSMOS", ledger)
        return Archive(peer.title, finder, GetUser(peer, "KOSMOS", self.door, ledger))

    def stored(self) -> dict[str, RowMapping]:
        """The rows by SOP Instance UID."""
        with self.database.read() as connection:
            rows = connection.execute(select(INSTANCE)).mappings().all()
        return {row["sop_instance_uid"]: row for row in rows}


@pytest.fixture
def house(tmp_path: Path, clock: Any) -> Iterator[House]:
    with Database.open(f"sqlite:///{tmp_path / 'house.db'}") as database:
        database.migrate(MIGRATIONS)
        yield House(database, BlobStore(tmp_path / "house"), clock)


class Silent(Finder):
    """An archive that does not tell SOP classes."""

    def find(
        self, identifier: Identifier, top: Level, unseen: Unseen | None = None
    ) -> Iterator[dict[int, tuple[str, Value]]]:
        for found in super().find(identifier, top, unseen):
            yield {tag: found[tag] for tag in found if tag != 0x00080016}


@pytest.fixture
def serving(
    start_receiver: Start, intake: Intake, workers: Workers, tmp_path: Path
) -> Callable[..., Peer]:
    """Starts an archive over the index of the fixtures."""

    def start(find: type[Finder] = Finder, allowed: Callable[[str], bool] = bool) -> Peer:
        variants = Variants(tmp_path / "transcoded", workers, 10**9)
        retriever = Retriever(intake.database, intake.blobs, "PACS", {}, variants)
        made = query_retrieve(find(intake.database, "PACS", 100), retriever)
        offer = type(made.offer)(shown=frozenset(filter(allowed, made.offer.shown)))
        titles = Titles(called="PACS", querying=frozenset({"*"}))
        listening = Listening(port=0, titles=titles, services=Services(offer, made.handlers))
        return Peer("PACS", "127.0.0.1", start_receiver(listening))

    return start


def test_a_study_comes_over_the_association_that_asks(
    house: House, serving: Callable[..., Peer], store: Store, make_instance: Make
) -> None:
    made = [make_instance() for _ in range(3)]
    other = make_instance(StudyInstanceUID=generate_uid(), SeriesInstanceUID=generate_uid())
    assert [store(one) for one in (*made, other)] == [0] * 4
    archive = house.archive(serving())
    with archive.asking() as asking:
        assert asking.instances(made[0].StudyInstanceUID) == {one.SOPInstanceUID for one in made}
    archive.fetch(made[0].StudyInstanceUID)
    assert house.stored().keys() == {one.SOPInstanceUID for one in made}


def test_what_an_archive_has_not_with_itself_is_not_online(
    house: House,
    serving: Callable[..., Peer],
    store: Store,
    make_instance: Make,
    database: Database,
) -> None:
    here, away = make_instance(), make_instance()
    assert [store(one) for one in (here, away)] == [0, 0]
    uid = here.StudyInstanceUID
    database.write(lambda connection: mark(connection, uid, [away.SOPInstanceUID], 0.0))
    with house.archive(serving()).asking() as asking:
        assert asking.instances(uid) == {here.SOPInstanceUID, away.SOPInstanceUID}
        assert asking.online(uid) == {here.SOPInstanceUID}


def test_what_is_fetched_is_recorded_as_begun_and_as_ended(
    house: House, serving: Callable[..., Peer], store: Store, make_instance: Make, book: Book
) -> None:
    made = [make_instance(SOPClassUID=one) for one in (CT_IMAGE, CT_IMAGE, MR_IMAGE, CR_IMAGE)]
    assert [store(one) for one in made] == [0] * 4
    house.archive(serving(), book).fetch(made[0].StudyInstanceUID)
    assert [one for one in book.told if one[0] != "asked"] == [
        ("begins", Service.FETCH, about(made[0])),
        ("ended", Service.FETCH, about(made[0]), 4, 0, None),
    ]


class FilledByQuestions(Book):
    """Has no room any more once an archive has told of the images of a series."""

    @contextmanager
    def asking(self, archive: End, question: Question) -> Iterator[None]:
        with super().asking(archive, question):
            yield
        self.full = len(self.told) == 3


def test_what_cannot_be_recorded_is_not_acknowledged_to_the_archive(
    house: House, serving: Callable[..., Peer], store: Store, make_instance: Make
) -> None:
    instance = make_instance()
    assert store(instance) == 0
    archive = house.archive(serving(), FilledByQuestions())
    with pytest.raises(Unreachable, match="0 of 1 instances are taken in"):
        archive.fetch(instance.StudyInstanceUID)


def test_what_an_archive_is_asked_is_recorded_and_not_asked_where_it_cannot_be(
    house: House, serving: Callable[..., Peer], store: Store, make_instance: Make, book: Book
) -> None:
    image = make_instance()
    assert store(image) == 0
    archive = house.archive(serving(), book)
    with archive.asking() as asking:
        assert asking.instances(image.StudyInstanceUID) == {image.SOPInstanceUID}
    # It tells of the images of a series, and refuses to tell of those of a study at once.
    assert [one[:2] for one in book.told] == [("asked", archive.title)] * 3
    assert [done for *_, done in book.told] == [False, True, True]
    for _, _, question, _ in book.told:
        assert question.sop_class_uid == STUDY_ROOT_FIND
        assert image.StudyInstanceUID.encode() in question.asked
    book.full = True
    with archive.asking() as asking, pytest.raises(OutOfSpace):
        asking.instances(image.StudyInstanceUID)
    assert len(book.told) == 3


def test_an_archive_can_send_what_it_has_as_it_is(
    house: House,
    serving: Callable[..., Peer],
    intake: Intake,
    test_file: Callable[[str], Path],
    raw_data_set: Callable[[Path], bytes],
) -> None:
    path = test_file("JPEG2000.dcm")
    image = dcmread(path)
    syntax = str(image.file_meta.TransferSyntaxUID)
    arrival = intake.begin(image.SOPClassUID, image.SOPInstanceUID, syntax, "MODALITY")
    arrival.write(memoryview(raw_data_set(path)))
    assert arrival.finish().status == 0
    house.archive(serving()).fetch(image.StudyInstanceUID)
    (row,) = house.stored().values()
    assert row["transfer_syntax_uid"] == syntax
    kept = b"".join(house.blobs.open(row["sha256"]).chunks())
    assert kept.endswith(raw_data_set(path))


@pytest.mark.parametrize("find", [Finder, Silent])
def test_a_study_of_more_classes_than_an_association_carries_comes_whole(
    house: House, serving: Callable[..., Peer], store: Store, make_instance: Make, find: Any
) -> None:
    classes = (CT_IMAGE, MR_IMAGE, CR_IMAGE, US_IMAGE)
    made = [make_instance(SOPClassUID=one, SeriesInstanceUID=generate_uid()) for one in classes]
    assert [store(one) for one in made] == [0] * 4
    house.archive(serving(find)).fetch(made[0].StudyInstanceUID)
    assert house.stored().keys() == {one.SOPInstanceUID for one in made}


def test_an_archive_without_c_get_says_so(
    house: House, serving: Callable[..., Peer], store: Store, make_instance: Make
) -> None:
    instance = make_instance()
    assert store(instance) == 0
    peer = serving(allowed=lambda uid: not uid.endswith(".3"))
    with pytest.raises(Unreachable, match="PACS does not offer C-GET"):
        house.archive(peer).fetch(instance.StudyInstanceUID)


def test_other_bytes_under_a_uid_that_is_here_go_to_quarantine_as_by_c_store(
    house: House,
    serving: Callable[..., Peer],
    store: Store,
    make_instance: Make,
    encode: Callable[[Dataset], bytes],
) -> None:
    theirs, same = make_instance(), make_instance()
    assert (store(theirs), store(same)) == (0, 0)
    ours = make_instance(SOPInstanceUID=theirs.SOPInstanceUID, PixelData=b"\5" * 256)
    arrival = house.door.begin(
        ours.SOPClassUID, ours.SOPInstanceUID, ours.file_meta.TransferSyntaxUID, "MODALITY"
    )
    arrival.write(memoryview(encode(ours)))
    before = arrival.finish()
    assert before.status == 0
    archive = house.archive(serving())
    for _ in range(2):  # the second time changes nothing
        with pytest.raises(Unreachable, match="1 of 2 instances are taken in"):
            archive.fetch(ours.StudyInstanceUID)
    assert house.stored().keys() == {ours.SOPInstanceUID, same.SOPInstanceUID}
    with house.database.read() as connection:
        (row,) = connection.execute(select(QUARANTINE)).mappings()
    assert (row["sop_instance_uid"], row["sender"]) == (ours.SOPInstanceUID, "PACS")


@pytest.fixture
def lying() -> Iterator[Callable[..., Peer]]:
    """Starts an archive that sends what it is told to, whatever it was asked for."""
    with ExitStack() as stopping:

        def start(*sent: Dataset | None) -> Peer:
            """None stands for the end of the association."""

            def answer(event: Any) -> Iterator[Any]:
                yield len(sent)
                for one in sent:
                    if one is None:
                        event.assoc.abort()
                        return
                    yield 0xFF00, one

            ae = AE("PACS")
            ae.add_supported_context(STUDY_ROOT_GET)
            ae.add_supported_context(CT_IMAGE, scu_role=True, scp_role=True)
            here = ("127.0.0.1", 0)
            server = ae.start_server(here, block=False, evt_handlers=[(evt.EVT_C_GET, answer)])
            assert server is not None
            stopping.callback(server.shutdown)
            return Peer("PACS", "127.0.0.1", server.server_address[1])

        yield start


def test_images_of_another_study_do_not_stand_for_those_asked_for(
    house: House, lying: Callable[..., Peer], make_instance: Make
) -> None:
    asked, other = make_instance(), make_instance(StudyInstanceUID=generate_uid())
    other.SeriesInstanceUID = generate_uid()
    with pytest.raises(Unreachable, match="1 of 2 instances are taken in"):
        house.archive(lying(asked, other)).fetch(asked.StudyInstanceUID)


def test_what_came_before_an_association_broke_is_kept(
    house: House, lying: Callable[..., Peer], make_instance: Make
) -> None:
    first = make_instance()
    with pytest.raises(PeerGone):
        house.archive(lying(first, None)).fetch(first.StudyInstanceUID)
    assert house.stored().keys() == {first.SOPInstanceUID}


def test_a_large_instance_is_never_held_in_memory(
    house: House, serving: Callable[..., Peer], store: Store, make_instance: Make
) -> None:
    large = make_instance(PixelData=bytes(32 * MIB))
    assert store(large) == 0
    archive = house.archive(serving())
    tracemalloc.start()
    try:
        archive.fetch(large.StudyInstanceUID)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert house.stored().keys() == {large.SOPInstanceUID}
    assert most < 8 * MIB  # of both ends: the archive is in this process too


def _store_request(context_id: int, *, has_data_set: bool = True) -> bytes:
    elements = ((0x00000002, CT_IMAGE), (0x00000110, 1), (0x00001000, "1.2.3"))
    return write_request(context_id, C_STORE_RQ, elements, has_data_set)


_LIES = {
    "no data set": lambda one: _store_request(one, has_data_set=False),
    "another service": lambda one: write_request(one, C_FIND_RQ, ((0x00000110, 1),), False),
    "a data set alone": lambda one: write_data_set(one, b"data", 1024),
    "a command inside": lambda one: _store_request(one) * 2,
    "another context": lambda one: _store_request(one) + write_data_set(one + 2, b"data", 1024),
    "no such context": lambda _one: _store_request(255),
    "after the end": lambda one: write_request(one, C_GET_RQ | RESPONSE, FINAL, True) * 2,
    # A fragment that is marked as part of a command, and not as its last.
    "an endless command": lambda one: 2 * (pack(">BBIIBB", 4, 0, 9006, 9002, one, 1) + bytes(9000)),
}


@pytest.fixture
def saying() -> Iterator[Callable[[Callable[[int], bytes]], Peer]]:
    """Starts an archive that offers C-GET alone and answers with what is made for a context."""
    with ExitStack() as stopping:

        def serve(listening: socket.socket, answer: Callable[[int], bytes]) -> None:
            while True:
                try:
                    connection, _ = listening.accept()
                except OSError:
                    return
                with connection:
                    reader = PduReader(connection, Limits())
                    _, content = reader.read()
                    offer = Offer(shown=frozenset({STUDY_ROOT_GET}))
                    titles = Titles(any_called=True, querying=frozenset({"*"}))
                    accepted = negotiate(content, titles, MIB, offer)
                    assert isinstance(accepted, Accepted)
                    connection.sendall(accepted.pdu)
                    reader.associated()
                    storage = [one for one in accepted.contexts.items() if one[1].we_may_request]
                    with suppress(PeerGone):
                        if reader.read()[0] == PduType.P_DATA:
                            connection.sendall(answer(storage[0][0]))
                        reader.drain()

        def start(answer: Callable[[int], bytes]) -> Peer:
            listening = stopping.enter_context(socket.create_server(("127.0.0.1", 0)))
            thread = threading.Thread(target=serve, args=(listening, answer))
            thread.start()
            stopping.callback(thread.join)
            stopping.callback(listening.shutdown, socket.SHUT_RDWR)
            return Peer("PACS", "127.0.0.1", listening.getsockname()[1])

        yield start


@pytest.mark.parametrize("lie", _LIES)
def test_what_is_no_answer_to_the_request_ends_the_association(
    house: House, saying: Callable[..., Peer], lie: str
) -> None:
    with pytest.raises((ProtocolError, Unreadable)):
        house.archive(saying(_LIES[lie])).fetch("1.2.3.4")
    assert house.stored() == {}
    assert not any(path.is_file() for path in house.blobs.root.rglob("*"))


def test_an_instance_that_cannot_be_read_there_fails_alone(
    house: House, serving: Callable[..., Peer], store: Store, make_instance: Make, blobs: BlobStore
) -> None:
    good, lost = make_instance(), make_instance(InstanceNumber="7")
    assert store(good) == 0
    held = {blob.sha256 for blob in blobs.inventory()}
    assert store(lost) == 0
    (address,) = {blob.sha256 for blob in blobs.inventory()} - held
    blobs.open(address).path.unlink()
    with pytest.raises(Unreachable, match=r"1 of 2 instances .* status 0xb000, 1 of 2"):
        house.archive(serving()).fetch(good.StudyInstanceUID)
    assert house.stored().keys() == {good.SOPInstanceUID}


def test_a_study_that_is_not_there_is_no_trouble(
    house: House, serving: Callable[..., Peer], make_instance: Make
) -> None:
    house.archive(serving()).fetch(make_instance().StudyInstanceUID)
    assert house.stored() == {}


@pytest.fixture
def dcmqrscp(tmp_path: Path, tool: Callable[[str], str]) -> Callable[..., Any]:
    """DCMTK's archive."""

    def start(*options: str) -> Any:
        port, folder = free_port(), tmp_path / "dcmqrscp"
        folder.mkdir()
        lines = (
            "MaxPDUSize = 131072",
            "MaxAssociations = 16",
            "HostTable BEGIN",
            "HostTable END",
            "VendorTable BEGIN",
            "VendorTable END",
            "AETable BEGIN",
            f"PACS {folder} RW (10, 64mb) ANY",
            "AETable END",
        )
        file = tmp_path / "dcmqrscp.cfg"
        file.write_text("\n".join(lines) + "\n")
        command = [tool("dcmqrscp"), "-c", str(file), *options, str(port)]
        return port, running(command, tmp_path / "log", port, environment={"TCP_NODELAY": "1"})

    return start


def test_dcmtk_is_fetched_from(
    house: House,
    dcmqrscp: Callable[..., Any],
    tool: Callable[[str], str],
    tmp_path: Path,
    make_instance: Make,
) -> None:
    made = [make_instance(), make_instance(SOPClassUID=MR_IMAGE, SeriesInstanceUID=generate_uid())]
    for one in made:
        one.save_as(tmp_path / f"{one.SOPInstanceUID}.dcm", enforce_file_format=True)
    files = [str(tmp_path / f"{one.SOPInstanceUID}.dcm") for one in made]
    port, server = dcmqrscp()
    with server:
        command = [tool("storescu"), "-aec", "PACS", "127.0.0.1", str(port), *files]
        subprocess.run(command, check=True, capture_output=True, env={"TCP_NODELAY": "1"})
        house.archive(Peer("PACS", "127.0.0.1", port)).fetch(made[0].StudyInstanceUID)
    assert house.stored().keys() == {one.SOPInstanceUID for one in made}


def test_dcmtk_without_c_get_says_so(
    house: House, dcmqrscp: Callable[..., Any], make_instance: Make
) -> None:
    port, server = dcmqrscp("--disable-get")
    with server, pytest.raises(Unreachable, match="does not offer C-GET"):
        house.archive(Peer("PACS", "127.0.0.1", port)).fetch(make_instance().StudyInstanceUID)
