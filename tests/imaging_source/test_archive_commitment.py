"""Storage commitment as user: what archives vouch for, Orthanc as well as ourselves."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian
from sqlalchemy import Connection, Executable, select, update

from imaging_source.archive_commitment import (
    AGAIN_SECONDS,
    CommitmentReports,
    CommitmentUser,
    Tally,
    is_committed,
    tallies,
)
from imaging_source.archive_dimse import FindUser
from imaging_source.archive_get import GetUser
from imaging_source.archives import Archive, Archives
from imaging_source.commitment import STORAGE_COMMITMENT, Commitments
from imaging_source.dimse import EVENT_TYPE, MESSAGE_ID, N_EVENT_REPORT_RQ, SOP_CLASS_UID
from imaging_source.encoded import Values, encode
from imaging_source.index import MIGRATIONS
from imaging_source.intake import Intake
from imaging_source.ledger import Mention, Purpose
from imaging_source.negotiation import Titles
from imaging_source.receiver import Listening, Receiver
from imaging_source.references import Reference
from imaging_source.requestor import Peer, Requested, Unreachable
from imaging_source.schema import ARCHIVE_COMMITMENT, INSTANCE
from imaging_source.service import Exchange
from storage.blobs import BlobStore
from storage.database import Database
from storage.errors import OutOfSpace
from tests.imaging_source.book import Book, about
from tests.imaging_source.pacs import Pacs

Make = Callable[..., Dataset]
Store = Callable[..., int]
Start = Callable[[Listening], int]


class House:
    """A node that asks: its index, and the receiver at which it is told."""

    def __init__(self, database: Database, blobs: BlobStore, clock: Any, port: int = 0) -> None:
        self.database = database
        self.clock = clock
        self.door = Intake(database, blobs, clock)
        reports = CommitmentReports(database, clock)
        self.receiver = Receiver(self.door, Listening(port=port, services=reports.services))
        self.peer = Peer("KOSMOS", "127.0.0.1", self.receiver.port)

    def user(self, peer: Peer, stay: float = 0.0) -> CommitmentUser:
        return CommitmentUser(self.database, peer, "KOSMOS", stay=stay, clock=self.clock)

    def keep(self, instance: Dataset, data: bytes) -> None:
        arrival = self.door.begin(
            instance.SOPClassUID, instance.SOPInstanceUID, ExplicitVRLittleEndian, "MODALITY"
        )
        arrival.write(memoryview(data))
        assert arrival.finish().status == 0

    def is_committed(self, instance: Dataset, archive: str = "PACS") -> bool:
        with self.database.read() as connection:
            return is_committed(connection, archive, str(instance.StudyInstanceUID))

    def tallies(self) -> dict[str, Tally]:
        with self.database.read() as connection:
            return tallies(connection)


def _execute(statement: Executable, connection: Connection) -> None:
    connection.execute(statement)


@pytest.fixture
def house(database_url: str, tmp_path: Path, clock: Any) -> Iterator[House]:
    with Database.open(database_url) as database:
        database.migrate(MIGRATIONS)
        made = House(database, BlobStore(tmp_path / "house"), clock)
        with made.receiver:
            yield made


@pytest.fixture
def keep(house: House, encode: Callable[[Dataset], bytes]) -> Callable[..., None]:
    """Puts instances into the house."""

    def put(*instances: Dataset) -> None:
        for one in instances:
            house.keep(one, encode(one))

    return put


class Vouching:
    """An archive over the index of the fixtures; ``peers`` are those it can reach."""

    def __init__(self, commitments: Commitments, peer: Peer) -> None:
        self.commitments = commitments
        self.peer = peer


@pytest.fixture
def vouching(
    start_receiver: Start, database: Database, blobs: BlobStore, house: House
) -> Callable[..., Vouching]:
    def start(reaches: bool = True) -> Vouching:
        peers = {"KOSMOS": house.peer} if reaches else {}
        commitments = Commitments(database, blobs, "PACS", peers)
        titles = Titles(called="PACS")
        port = start_receiver(Listening(port=0, titles=titles, services=commitments.services))
        return Vouching(commitments, Peer("PACS", "127.0.0.1", port))

    return start


def test_an_archive_reports_on_an_association_of_its_own(
    house: House,
    keep: Callable[..., None],
    vouching: Callable[..., Vouching],
    store: Store,
    make_instance: Make,
) -> None:
    made = [make_instance() for _ in range(3)]
    assert [store(one) for one in made] == [0] * 3
    keep(*made)
    assert not house.is_committed(made[0])
    archive = vouching()
    assert house.user(archive.peer).ask(made[0].StudyInstanceUID)
    assert house.tallies() == {"PACS": Tally(asked=3)}
    assert not house.is_committed(made[0])

    assert archive.commitments.run_once() == 1

    assert house.tallies() == {"PACS": Tally(committed=3)}
    assert house.is_committed(made[0])
    assert not house.is_committed(made[0], "OTHER")
    assert not house.user(archive.peer).ask(made[0].StudyInstanceUID)  # nothing is left to ask
    assert archive.commitments.run_once() == 0


def test_what_an_archive_is_to_commit_to_is_recorded_and_not_asked_where_it_cannot_be(
    house: House, keep: Callable[..., None], vouching: Callable[..., Vouching], make_instance: Make
) -> None:
    made = [make_instance() for _ in range(3)]
    keep(*made)
    book, archive = Book(), vouching()
    user = CommitmentUser(house.database, archive.peer, "KOSMOS", stay=0.0, ledger=book)

    book.full = True
    with pytest.raises(OutOfSpace):
        user.ask(made[0].StudyInstanceUID)
    assert (archive.commitments.run_once(), house.tallies()) == (0, {})
    book.full = False
    assert user.ask(made[0].StudyInstanceUID)
    assert house.tallies() == {"PACS": Tally(asked=3)}
    mention = Mention(Purpose.COMMITMENT, about(made[0]), {made[0].SOPClassUID: 3})
    assert book.told == [("told", "PACS", mention, True)]


def test_an_archive_that_does_not_know_our_address_reports_on_the_association_that_asks(
    house: House,
    keep: Callable[..., None],
    vouching: Callable[..., Vouching],
    store: Store,
    make_instance: Make,
) -> None:
    instance = make_instance()
    assert store(instance) == 0
    keep(instance)
    house.user(vouching(reaches=False).peer, stay=10).ask(instance.StudyInstanceUID)
    assert house.is_committed(instance)


def test_what_an_archive_does_not_have_it_refuses_and_is_asked_about_again(
    house: House,
    keep: Callable[..., None],
    vouching: Callable[..., Vouching],
    store: Store,
    make_instance: Make,
    clock: Any,
) -> None:
    there, late = make_instance(), make_instance()
    assert store(there) == 0
    keep(there, late)
    user = house.user(vouching(reaches=False).peer, stay=10)
    user.ask(there.StudyInstanceUID)
    assert house.tallies() == {"PACS": Tally(committed=1, refused=1)}
    assert not house.is_committed(there)
    with house.database.read() as connection:
        reasons = select(ARCHIVE_COMMITMENT.c.reason, ARCHIVE_COMMITMENT.c.sop_instance_uid)
        told = {uid: why for why, uid in connection.execute(reasons)}
    assert told == {there.SOPInstanceUID: None, late.SOPInstanceUID: 0x0112}

    assert store(late) == 0
    user.ask(there.StudyInstanceUID)  # too soon
    assert not house.is_committed(there)
    clock.now += AGAIN_SECONDS
    user.ask(there.StudyInstanceUID)
    assert house.is_committed(there)


def test_a_commitment_covers_nothing_that_came_later(
    house: House,
    keep: Callable[..., None],
    vouching: Callable[..., Vouching],
    store: Store,
    make_instance: Make,
) -> None:
    first, second = make_instance(), make_instance()
    assert store(first) == 0
    keep(first)
    house.user(vouching(reaches=False).peer, stay=10).ask(first.StudyInstanceUID)
    assert house.is_committed(first)
    keep(second)
    assert not house.is_committed(first)

    for one in (second, first):
        this = INSTANCE.c.sop_instance_uid == str(one.SOPInstanceUID)
        other = update(INSTANCE).where(this).values(sha256=f"of other bytes {one.SOPInstanceUID}")
        house.database.write(partial(_execute, other))
        assert not house.is_committed(first)
    assert house.tallies() == {}


def report(peer: Peer, title: str, transaction: str, instance: Dataset, event: int = 1) -> int:
    """The status of the answer to a report that says an instance is safe."""
    named = Reference(instance.SOPClassUID, instance.SOPInstanceUID).values
    values: Values = {0x00081195: ("UI", transaction), 0x00081199: ("SQ", [named])}
    elements = (
        (SOP_CLASS_UID, STORAGE_COMMITMENT),
        (MESSAGE_ID, 1),
        (0x00001000, "1.2.840.10008.1.20.1.1"),
        (EVENT_TYPE, event),
    )
    contexts = [(STORAGE_COMMITMENT, ExplicitVRLittleEndian)]
    with Requested(peer, title, contexts, provided=[STORAGE_COMMITMENT]) as asked:
        data_set = encode(values, ExplicitVRLittleEndian)
        return asked.request(1, N_EVENT_REPORT_RQ, elements, data_set).command.status


def test_only_whoever_was_asked_can_commit(
    house: House,
    keep: Callable[..., None],
    vouching: Callable[..., Vouching],
    make_instance: Make,
) -> None:
    instance = make_instance()
    keep(instance)
    house.user(vouching().peer).ask(instance.StudyInstanceUID)
    with house.database.read() as connection:
        transaction = connection.execute(select(ARCHIVE_COMMITMENT.c.transaction_uid)).scalar_one()
    assert report(house.peer, "PACS", "1.2.3", instance) == 0x0115
    assert report(house.peer, "STRANGER", transaction, instance) == 0x0115
    assert report(house.peer, "PACS", transaction, instance, event=3) == 0x0113
    assert report(house.peer, "PACS", transaction, make_instance()) == 0x0000  # of nothing here
    assert not house.is_committed(instance)
    assert report(house.peer, "PACS", transaction, instance) == 0x0000
    assert house.is_committed(instance)


def test_an_archive_that_commits_to_nothing_says_so(
    house: House, keep: Callable[..., None], start_receiver: Start, make_instance: Make
) -> None:
    instance = make_instance()
    keep(instance)
    peer = Peer("KOSMOS", "127.0.0.1", start_receiver(Listening(port=0)))
    with pytest.raises(Unreachable, match="does not offer storage commitment"):
        house.user(peer).ask(instance.StudyInstanceUID)
    assert house.tallies() == {}


def test_a_study_that_is_not_here_is_not_committed_to(house: House, make_instance: Make) -> None:
    instance = make_instance()
    assert not house.user(Peer("AWAY", "127.0.0.1", 9)).ask(instance.StudyInstanceUID)
    assert not house.is_committed(instance)


def test_orthanc_commits_to_what_was_fetched_from_it(
    pacs_process: Pacs,
    database: Database,
    blobs: BlobStore,
    clock: Any,
    make_instance: Make,
) -> None:
    heard = threading.Event()

    class Reports(CommitmentReports):
        def hear(self, exchange: Exchange) -> None:
            super().hear(exchange)
            heard.set()

    today = f"{datetime.fromtimestamp(clock.now, UTC):%Y%m%d}"
    made = [make_instance(StudyDate=today) for _ in range(3)]
    door, peer = Intake(database, blobs, clock), pacs_process.peer
    user = CommitmentUser(database, peer, "KOSMOS", stay=0.0, clock=clock)
    sides = FindUser(peer, "KOSMOS"), GetUser(peer, "KOSMOS", door)
    archive = Archive(peer.title, *sides, user)
    archives = Archives(database, [archive], days=2, poll_seconds=60, clock=clock)
    services = Reports(database, clock).services
    with Receiver(door, Listening(port=pacs_process.sends_to, services=services)):
        pacs_process.put(*made)
        assert archives.run_once() == 1
        clock.now += 1000
        assert archives.run_once() == 0  # it is here whole: now it is asked for
        assert heard.wait(20)
        with database.read() as connection:
            assert is_committed(connection, peer.title, made[0].StudyInstanceUID)
            assert tallies(connection) == {peer.title: Tally(committed=3)}

        heard.clear()
        lost = made[0]
        pacs_process.remove(lost)
        forget = ARCHIVE_COMMITMENT.delete()
        database.write(lambda connection: connection.execute(forget).close())
        user.ask(lost.StudyInstanceUID)
        assert heard.wait(20)
    pacs_process.clear()
    with database.read() as connection:
        assert not is_committed(connection, peer.title, lost.StudyInstanceUID)
        assert tallies(connection) == {peer.title: Tally(committed=2, refused=1)}
