"""A PACS that stays where it is: what it has comes here, from Orthanc as well as from ourselves."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid
from sqlalchemy import Table, Text, insert, select

from benchmarks.orthanc import TITLE
from imaging_source.archive_dimse import FindUser, MoveUser
from imaging_source.archive_get import GetUser
from imaging_source.archives import Archive, Archives, Condition
from imaging_source.encoded import Value
from imaging_source.index import MIGRATIONS
from imaging_source.intake import Intake
from imaging_source.negotiation import Titles
from imaging_source.query_retrieve.find import Finder
from imaging_source.query_retrieve.identifier import Identifier
from imaging_source.query_retrieve.models import Level
from imaging_source.query_retrieve.retrieve import Retriever
from imaging_source.query_retrieve.services import query_retrieve
from imaging_source.receiver import Listening
from imaging_source.requestor import Peer
from imaging_source.schema import AVAILABILITY, INSTANCE, QUARANTINE
from imaging_source.shown import Unseen
from imaging_source.variants import Variants
from imaging_source.workers import Workers
from storage.blobs import BlobStore
from storage.database import Database
from tests.imaging_source.pacs import Pacs

Make = Callable[..., Dataset]
Start = Callable[[Listening], int]


def stored(database: Database) -> set[str]:
    with database.read() as connection:
        return set(connection.execute(select(INSTANCE.c.sop_instance_uid)).scalars())


def fetching(database: Database, clock: Any, *archives: Peer) -> Archives:
    reached = [
        Archive(one.title, FindUser(one, "KOSMOS"), MoveUser(one, "KOSMOS")) for one in archives
    ]
    return Archives(database, reached, days=2, poll_seconds=60, clock=clock)


@pytest.fixture
def today(clock: Any) -> str:
    return f"{datetime.fromtimestamp(clock.now, UTC):%Y%m%d}"


def test_what_an_archive_has_of_the_last_days_is_fetched_once(
    pacs: Pacs,
    database: Database,
    clock: Any,
    today: str,
    make_instance: Make,
) -> None:
    new = [make_instance(StudyDate=today) for _ in range(3)]
    old = make_instance(StudyDate="19990101", StudyInstanceUID=generate_uid())
    old.SeriesInstanceUID = generate_uid()
    pacs.put(*new, old)
    archives = fetching(database, clock, pacs.peer)
    address = f"{pacs.peer.host}:{pacs.peer.port}"
    assert list(archives.conditions()) == [Condition(TITLE, address, True, 1, 1)]

    assert archives.run_once() == 1
    assert stored(database) == {one.SOPInstanceUID for one in new}
    assert archives.run_once() == 0
    assert list(archives.conditions()) == [Condition(TITLE, address, True, 1, 0)]

    late = make_instance(StudyDate=today)
    pacs.put(late)
    clock.now += 1000  # a study that was fetched is left alone for a while
    assert archives.run_once() == 1
    assert stored(database) == {one.SOPInstanceUID for one in (*new, late)}


def test_a_study_that_an_archive_tells_of_is_fetched_whatever_its_date(
    pacs: Pacs,
    database: Database,
    clock: Any,
    make_instance: Make,
) -> None:
    old = make_instance(StudyDate="19990101")
    pacs.put(old)
    row = {
        "study_instance_uid": old.StudyInstanceUID,
        "sender": TITLE,
        "retrieve_ae_title": TITLE,
        "instances": 1,
        "told_at": clock.now,
    }
    database.write(lambda connection: connection.execute(insert(AVAILABILITY), row).close())

    assert fetching(database, clock, pacs.peer).run_once() == 1
    assert stored(database) == {old.SOPInstanceUID}


def test_what_is_here_alone_hides_nothing_that_is_missing(
    pacs: Pacs,
    database: Database,
    clock: Any,
    today: str,
    make_instance: Make,
    store: Callable[..., int],
) -> None:
    ours, first, second = (make_instance(StudyDate=today) for _ in range(3))
    assert store(ours) == 0
    pacs.put(first)
    archives = fetching(database, clock, pacs.peer)
    assert archives.run_once() == 1
    assert archives.run_once() == 0
    pacs.put(second)  # now the archive has two, and the index has two
    clock.now += 1000
    assert archives.run_once() == 1
    assert stored(database) == {one.SOPInstanceUID for one in (ours, first, second)}


class Asked(Finder):
    """A strict archive, which answers by the hierarchy alone; it may leave counts out."""

    levels: list[Level]
    counts = True

    def find(
        self, identifier: Identifier, top: Level, unseen: Unseen | None = None
    ) -> Iterator[dict[int, tuple[str, Value]]]:
        self.levels.append(identifier.level)
        for found in super().find(identifier, top, unseen):
            yield found if self.counts else {tag: found[tag] for tag in found if tag != 0x00201208}


@pytest.fixture
def strict(
    start_receiver: Start, intake: Intake, workers: Workers, tmp_path: Path
) -> tuple[Asked, Peer]:
    """An archive over the index of this house, for an index elsewhere."""
    finder = Asked(intake.database, "KOSMOS", 20)
    finder.levels = []
    variants = Variants(tmp_path / "transcoded", workers, 10**9)
    retriever = Retriever(intake.database, intake.blobs, "KOSMOS", {}, variants)
    here = Listening(
        port=0,
        titles=Titles(querying=frozenset({"*"})),
        services=query_retrieve(finder, retriever),
    )
    return finder, Peer("KOSMOS", "127.0.0.1", start_receiver(here))


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[Database]:
    with Database.open(f"sqlite:///{tmp_path / 'elsewhere.db'}") as opened:
        opened.migrate(MIGRATIONS)
        yield opened


def put(database: Database, table: Table, instance: Dataset) -> None:
    """A row for an instance; what does not matter here is empty."""
    row: dict[str, Any] = {
        column.name: "" if isinstance(column.type, Text) else 0
        for column in table.c
        if not column.nullable
    }
    row["sop_instance_uid"] = row["sha256"] = str(instance.SOPInstanceUID)
    if "study_instance_uid" in row:
        row["study_instance_uid"] = str(instance.StudyInstanceUID)
    database.write(lambda connection: connection.execute(insert(table), row).close())


@pytest.mark.parametrize("counts", [True, False])
def test_instances_are_compared_by_their_uids(
    strict: tuple[Asked, Peer],
    elsewhere: Database,
    clock: Any,
    today: str,
    make_instance: Make,
    store: Callable[..., int],
    counts: bool,
) -> None:
    finder, peer = strict
    finder.counts = counts
    theirs, shared, ours = (make_instance(StudyDate=today) for _ in range(3))
    assert (store(theirs), store(shared)) == (0, 0)
    archives = fetching(elsewhere, clock, peer)
    missing: list[int] = []

    def look() -> None:
        missing.extend(one.missing for one in archives.conditions())

    look()
    put(elsewhere, INSTANCE, shared)
    put(elsewhere, INSTANCE, ours)
    look()
    put(elsewhere, QUARANTINE, theirs)
    look()
    assert missing == [1, 1, 0]


@pytest.mark.parametrize("counts", [True, False])
def test_a_study_that_has_not_changed_is_not_compared_at_every_look(
    strict: tuple[Asked, Peer],
    elsewhere: Database,
    clock: Any,
    today: str,
    make_instance: Make,
    store: Callable[..., int],
    counts: bool,
) -> None:
    finder, peer = strict
    finder.counts = counts
    instance = make_instance(StudyDate=today)
    assert store(instance) == 0
    put(elsewhere, INSTANCE, instance)
    archives = fetching(elsewhere, clock, peer)
    assert archives.run_once() == 0
    assert Level.IMAGE in finder.levels
    finder.levels.clear()
    assert archives.run_once() == 0
    assert finder.levels == [Level.STUDY]
    clock.now += 4000
    assert archives.run_once() == 0
    assert Level.IMAGE in finder.levels


@pytest.mark.parametrize("counts", [True, False])
def test_a_new_image_is_noticed_at_once_where_images_are_counted_else_within_an_hour(
    strict: tuple[Asked, Peer],
    elsewhere: Database,
    clock: Any,
    today: str,
    make_instance: Make,
    store: Callable[..., int],
    counts: bool,
) -> None:
    finder, peer = strict
    finder.counts = counts
    first, late = (make_instance(StudyDate=today) for _ in range(2))
    assert store(first) == 0
    put(elsewhere, INSTANCE, first)
    archives = fetching(elsewhere, clock, peer)
    assert archives.run_once() == 0
    assert store(late) == 0
    assert archives.run_once() == (1 if counts else 0)
    clock.now += 4000
    assert archives.run_once() == 1


def test_what_one_archive_cannot_give_is_fetched_from_another_at_once(
    strict: tuple[Asked, Peer],
    elsewhere: Database,
    clock: Any,
    today: str,
    tmp_path: Path,
    make_instance: Make,
    store: Callable[..., int],
) -> None:
    _, peer = strict  # it does not know where to move to
    instance = make_instance(StudyDate=today)
    assert store(instance) == 0
    questions = FindUser(peer, "KOSMOS")
    door = Intake(elsewhere, BlobStore(tmp_path / "elsewhere"), clock)
    first = Archive("FIRST", questions, MoveUser(peer, "KOSMOS"))
    second = Archive("SECOND", questions, GetUser(peer, "KOSMOS", door))
    archives = Archives(elsewhere, [first, second], days=2, poll_seconds=60, clock=clock)
    assert archives.run_once() == 2
    assert stored(elsewhere) == {instance.SOPInstanceUID}
    assert archives.run_once() == 0


def test_what_both_have_whole_is_to_be_committed_to_some_studies_at_a_look(
    strict: tuple[Asked, Peer],
    elsewhere: Database,
    clock: Any,
    today: str,
    make_instance: Make,
    store: Callable[..., int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Recorder:
        """Is asked for each study once."""

        asked: list[str]

        def ask(self, study: str) -> bool:
            is_new = study not in self.asked
            self.asked += [study] * is_new
            return is_new

    monkeypatch.setattr("imaging_source.archives._ASKED_AT_ONCE", 2)
    made = [
        make_instance(
            StudyDate=today, **dict.fromkeys(("StudyInstanceUID", "SeriesInstanceUID"), uid)
        )
        for uid in ("1.2.1", "1.2.2", "1.2.3", "1.2.4")
    ]
    assert [store(one) for one in made] == [0] * 4
    for one in made[:3]:
        put(elsewhere, INSTANCE, one)
    _, peer = strict
    recorder = Recorder()
    recorder.asked = []
    sides = FindUser(peer, "KOSMOS"), MoveUser(peer, "KOSMOS")
    archive = Archive("PACS", *sides, recorder)
    archives = Archives(elsewhere, [archive], days=2, poll_seconds=60, clock=clock)
    assert archives.run_once() == 1
    assert len(recorder.asked) == 2
    assert archives.run_once() == 0
    assert set(recorder.asked) == {"1.2.1", "1.2.2", "1.2.3"}


def test_a_notice_of_fewer_instances_than_are_here_is_looked_at(
    strict: tuple[Asked, Peer],
    elsewhere: Database,
    clock: Any,
    make_instance: Make,
    store: Callable[..., int],
) -> None:
    old, late = (make_instance(StudyDate="19990101") for _ in range(2))
    assert (store(old), store(late)) == (0, 0)
    put(elsewhere, INSTANCE, old)
    row = {
        "study_instance_uid": old.StudyInstanceUID,
        "sender": "KOSMOS",
        "retrieve_ae_title": "KOSMOS",
        "instances": 1,
        "told_at": clock.now,
    }
    elsewhere.write(lambda connection: connection.execute(insert(AVAILABILITY), row).close())
    assert fetching(elsewhere, clock, strict[1]).run_once() == 1


def test_an_archive_that_is_away_keeps_no_other_from_being_read(
    pacs: Pacs,
    database: Database,
    clock: Any,
    today: str,
    make_instance: Make,
) -> None:
    one = make_instance(StudyDate=today)
    pacs.put(one)
    with socket.create_server(("127.0.0.1", 0)) as closed:
        away = Peer("AWAY", "127.0.0.1", closed.getsockname()[1])
    archives = fetching(database, clock, away, pacs.peer)

    assert [condition.answers for condition in archives.conditions()] == [False, True]
    assert archives.run_once() == 1
    assert stored(database) == {one.SOPInstanceUID}


def test_an_archive_that_does_not_offer_queries_is_told_apart(
    start_receiver: Start, database: Database, blobs: BlobStore, intake: Intake, clock: Any
) -> None:
    port = start_receiver(Listening(port=0))
    peer = Peer("KOSMOS", "127.0.0.1", port)

    assert [one.answers for one in fetching(database, clock, peer).conditions()] == [False]
