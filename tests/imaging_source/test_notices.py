"""Performed procedure steps and availability: kept as they are told, by the rules of PS3.4."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid
from pynetdicom import AE, evt
from sqlalchemy import Connection, select, update

from imaging_source import schema
from imaging_source.evicted import mark
from imaging_source.index import MIGRATIONS
from imaging_source.ledger import UNKNOWN, About, End, Mention, Purpose
from imaging_source.notices import (
    INSTANCE_AVAILABILITY_NOTIFICATION,
    MODALITY_PERFORMED_PROCEDURE_STEP,
    Available,
    Notices,
    available,
    is_performed,
)
from imaging_source.notifying import Notifier
from imaging_source.receiver import Listening
from imaging_source.requestor import Peer
from imaging_source.schema import COMPLETION, INSTANCE, PERFORMED_STEP
from imaging_source.service import Refused
from imaging_source.shown import Unseen
from storage.database import Database
from storage.errors import OutOfSpace
from tests.imaging_source.book import Book, about

Start = Callable[[Listening], int]
STUDY, PATIENT = "1.2.3.4", "P^7"
CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    with Database.open(database_url) as opened:
        opened.migrate(MIGRATIONS)
        yield opened


@pytest.fixture
def provider(start_receiver: Start, database: Database, clock: Any, book: Book) -> int:
    services = Notices(database, clock).services
    return start_receiver(Listening(port=0, services=services, ledger=book))


@contextmanager
def associated(port: int, sop_class: str, sender: str = "MODALITY") -> Iterator[Any]:
    ae = AE(sender)
    ae.add_requested_context(sop_class)
    association = ae.associate("127.0.0.1", port, ae_title="KOSMOS")
    assert association.is_established
    yield association
    association.release()


def create(
    port: int,
    uid: str | None,
    status: str = "IN PROGRESS",
    study: str = STUDY,
    ready: Callable[[], object] = lambda: None,
) -> Any:
    scheduled = Dataset()
    scheduled.StudyInstanceUID = study
    step = Dataset()
    step.PerformedProcedureStepStatus = status
    step.PatientID = PATIENT
    step.ScheduledStepAttributesSequence = [scheduled] if study else []
    with associated(port, MODALITY_PERFORMED_PROCEDURE_STEP) as association:
        ready()
        answer, _ = association.send_n_create(step, MODALITY_PERFORMED_PROCEDURE_STEP, uid)
    return answer


def change(port: int, uid: str, status: str) -> int:
    step = Dataset()
    step.PerformedProcedureStepStatus = status
    with associated(port, MODALITY_PERFORMED_PROCEDURE_STEP) as association:
        answer, _ = association.send_n_set(step, MODALITY_PERFORMED_PROCEDURE_STEP, uid)
    return int(answer.Status)


def told(database: Database) -> list[Any]:
    """What is known of complete studies."""
    columns = (COMPLETION.c[name] for name in ("study_instance_uid", "signal", "instances"))
    with database.read() as connection:
        return [tuple(row) for row in connection.execute(select(*columns))]


def performed(database: Database) -> bool | None:
    with database.read() as connection:
        return is_performed(connection, STUDY)


AT_ONCE = 8


def at_once(ask: Callable[[int, threading.Barrier], int]) -> list[int]:
    """What each of several askers gets, who meet at a barrier before they ask."""
    barrier = threading.Barrier(AT_ONCE)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(lambda number: ask(number, barrier), range(AT_ONCE)))


def test_a_study_is_performed_when_its_last_step_has_ended(
    provider: int, database: Database
) -> None:
    first, second = generate_uid(), generate_uid()
    assert performed(database) is None
    assert create(provider, first).Status == create(provider, second).Status == 0x0000
    assert performed(database) is False

    assert change(provider, first, "COMPLETED") == 0x0000
    assert performed(database) is False
    assert told(database) == []
    assert change(provider, second, "DISCONTINUED") == 0x0000
    assert performed(database) is True
    assert told(database) == [(STUDY, "mpps", None)]


def heard(book: Book) -> list[tuple[Any, ...]]:
    """What was told to the ledger of what a peer said, without the peer, and forgotten there."""
    said = [one[:1] + one[2:] for one in book.told if one[1] == "MODALITY"]
    book.told.clear()
    return said


def test_what_a_modality_tells_of_a_step_is_recorded_with_study_and_patient(
    provider: int, store: Callable[..., int], make_instance: Any, book: Book
) -> None:
    image = make_instance()
    uid, study = generate_uid(), str(image.StudyInstanceUID)
    begun = Mention(Purpose.STEP_BEGUN, About(study, PATIENT), step=uid)
    assert create(provider, uid, study=study).Status == 0x0000
    assert heard(book) == [("hears", begun), ("heard", begun, True)]
    assert create(provider, uid, study=study).Status == 0x0111
    assert heard(book) == [("hears", begun), ("heard", begun, False)]

    assert store(image) == 0  # now the study is known, and whose it is
    ended = Mention(Purpose.STEP_CHANGED, about(image), step=uid)
    assert change(provider, uid, "COMPLETED") == 0x0000
    assert heard(book) == [("hears", ended), ("heard", ended, True)]
    other = generate_uid()
    unknown = Mention(Purpose.STEP_CHANGED, UNKNOWN, step=other)
    assert change(provider, other, "COMPLETED") == 0x0112
    assert heard(book) == [("hears", unknown), ("heard", unknown, False)]


def test_what_is_said_to_be_available_is_recorded_with_what_is_named(
    provider: int, store: Callable[..., int], make_instance: Any, book: Book
) -> None:
    image = make_instance()
    assert store(image) == 0
    study, one = str(image.StudyInstanceUID), (generate_uid(), "ONLINE")
    named = Mention(Purpose.AVAILABILITY, about(image), {CT_IMAGE: 1})
    assert notify(provider, one, study=study) == 0x0000
    assert heard(book) == [("hears", named), ("heard", named, True)]
    assert notify(provider, ("", "ONLINE"), study=study) == 0x0120
    assert heard(book) == [("hears", named), ("heard", named, False)]
    assert notify(provider, one, study="") == 0x0120
    assert heard(book) == [("heard", Mention(Purpose.AVAILABILITY, UNKNOWN), False)]


def test_nothing_is_noted_where_it_cannot_be_recorded(
    provider: int, database: Database, book: Book
) -> None:
    uid = generate_uid()
    assert create(provider, uid).Status == 0x0000
    book.full = True
    assert create(provider, generate_uid()).Status == 0xA700
    assert change(provider, uid, "COMPLETED") == 0xA700
    assert notify(provider, (generate_uid(), "ONLINE")) == 0xA700
    assert performed(database) is False
    assert told(database) == []


def test_a_step_without_a_uid_gets_one(provider: int, database: Database) -> None:
    assert create(provider, None).Status == 0x0000

    with database.read() as connection:
        uid = connection.execute(select(PERFORMED_STEP.c.sop_instance_uid)).scalar_one()
    assert change(provider, uid, "COMPLETED") == 0x0000
    assert performed(database) is True


@pytest.mark.parametrize(
    ("status", "study", "expected"),
    [("COMPLETED", STUDY, 0x0106), ("WHATEVER", STUDY, 0x0106), ("IN PROGRESS", "", 0x0120)],
)
def test_a_step_that_begins_wrongly_is_refused(
    provider: int, database: Database, status: str, study: str, expected: int
) -> None:
    assert create(provider, generate_uid(), status, study).Status == expected
    assert performed(database) is None


def test_a_step_begins_once_and_ends_once(provider: int) -> None:
    uid = generate_uid()
    assert change(provider, uid, "COMPLETED") == 0x0112
    assert create(provider, uid).Status == 0x0000
    assert create(provider, uid).Status == 0x0111
    assert change(provider, uid, "COMPLETED") == 0x0000
    assert change(provider, uid, "IN PROGRESS") == 0x0110


def test_a_step_that_is_begun_by_many_at_once_begins_once(provider: int) -> None:
    uid = generate_uid()

    def begin(_number: int, barrier: threading.Barrier) -> int:
        return int(create(provider, uid, ready=barrier.wait).Status)

    assert sorted(at_once(begin)) == [0x0000, *[0x0111] * (AT_ONCE - 1)]


def test_whichever_of_two_steps_ends_last_the_study_is_complete(
    provider: int, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    uids = [generate_uid() for _ in range(2)]
    for uid in uids:
        assert create(provider, uid).Status == 0x0000
    both = threading.Barrier(2)

    def looked(connection: Connection, study: str) -> bool | None:
        with suppress(threading.BrokenBarrierError):  # which is how it is where one waits
            both.wait(0.2)
        return is_performed(connection, study)

    monkeypatch.setattr("imaging_source.notices.is_performed", looked)
    with ThreadPoolExecutor(2) as pool:
        ended = pool.map(lambda uid: change(provider, uid, "COMPLETED"), uids)
        assert list(ended) == [0x0000] * 2
    assert told(database) == [(STUDY, "mpps", None)]


def notify(
    port: int,
    *instances: tuple[str, str],
    sender: str = "MODALITY",
    study: str = STUDY,
    ready: Callable[[], object] = lambda: None,
) -> int:
    """Tell of instances of the study, each with its availability, once it is ``ready``."""
    series, notice = Dataset(), Dataset()
    series.ReferencedSOPSequence = [Dataset() for _ in instances]
    for item, (uid, availability) in zip(series.ReferencedSOPSequence, instances, strict=True):
        item.ReferencedSOPClassUID = CT_IMAGE
        item.ReferencedSOPInstanceUID = uid
        item.RetrieveAETitle = "PACS"
        item.InstanceAvailability = availability
    notice.StudyInstanceUID = study
    notice.ReferencedSeriesSequence = [series]
    with associated(port, INSTANCE_AVAILABILITY_NOTIFICATION, sender) as association:
        ready()
        answer, _ = association.send_n_create(
            notice, INSTANCE_AVAILABILITY_NOTIFICATION, generate_uid()
        )
    return int(answer.Status)


def test_what_is_available_is_known_with_its_place(
    provider: int, database: Database, clock: Any
) -> None:
    for _ in range(2):
        assert notify(provider, ("1.1", "ONLINE"), ("1.2", "UNAVAILABLE")) == 0x0000

    with database.read() as connection:
        expected = Available(STUDY, "MODALITY", "PACS", 1, clock.now)
        assert available(connection, clock.now) == [expected]
        assert available(connection, clock.now + 1) == []
    assert told(database) == [(STUDY, "ian", 1)]


def test_the_notices_of_a_study_add_up(provider: int, database: Database) -> None:
    assert notify(provider, ("1.1", "ONLINE"), ("1.2", "ONLINE")) == 0x0000
    assert notify(provider, ("1.2", "NEARLINE"), ("1.3", "ONLINE")) == 0x0000
    assert told(database) == [(STUDY, "ian", 3)]

    assert notify(provider, ("1.1", "UNAVAILABLE")) == 0x0000
    with database.read() as connection:
        assert [one.instances for one in available(connection, 0)] == [2]


@pytest.mark.parametrize("senders", [1, AT_ONCE])
def test_first_notices_that_come_at_once_add_up(
    provider: int, database: Database, senders: int
) -> None:
    def tell(number: int, barrier: threading.Barrier) -> int:
        sender, instance = f"PACS{number % senders}", (f"1.{number}", "ONLINE")
        return notify(provider, instance, sender=sender, ready=barrier.wait)

    assert at_once(tell) == [0x0000] * AT_ONCE
    with database.read() as connection:
        found = [one.instances for one in available(connection, 0)]
    assert found == [AT_ONCE // senders] * senders
    assert len(told(database)) == 1


def test_each_sender_tells_for_itself(provider: int, database: Database) -> None:
    assert notify(provider, ("1.1", "ONLINE"), ("1.2", "ONLINE")) == 0x0000
    assert notify(provider, ("1.2", "UNAVAILABLE"), sender="OTHER") == 0x0000

    with database.read() as connection:
        found = {one.sender: one.instances for one in available(connection, 0)}
    assert found == {"MODALITY": 2, "OTHER": 0}


def test_a_notice_that_does_not_name_its_instances_is_refused(
    provider: int, database: Database
) -> None:
    assert notify(provider, ("", "ONLINE")) == 0x0120
    assert told(database) == []


def test_a_peer_is_told_of_each_published_revision_once(
    provider: int, database: Database, clock: Any, store: Callable[..., int], make_instance: Any
) -> None:
    """The peer is a node of our own, which keeps what it is told."""
    one, rejected = make_instance(), make_instance()
    assert store(one) == store(rejected) == 0
    hide = update(INSTANCE).where(INSTANCE.c.sop_instance_uid == rejected.SOPInstanceUID)
    database.write(lambda connection: connection.execute(hide.values(rejection="113037")).close())
    peer = Peer("KOSMOS", "127.0.0.1", provider)
    notifier = Notifier(database, "HERE", {"KOSMOS": peer}, clock)
    assert notifier.run_once() == 0  # nothing is published yet

    publish = update(schema.STUDY).values(published_revision=schema.STUDY.c.revision)
    database.write(lambda connection: connection.execute(publish).close())
    assert notifier.run_once() == 1
    assert notifier.run_once() == 0
    with database.read() as connection:
        assert available(connection, 0) == [
            Available(one.StudyInstanceUID, "HERE", "HERE", 1, clock.now)
        ]

    assert store(make_instance()) == 0
    database.write(lambda connection: connection.execute(publish).close())
    assert notifier.run_once() == 1
    with database.read() as connection:
        assert [told.instances for told in available(connection, 0)] == [2]


def test_a_peer_is_told_what_is_with_an_archive_alone(
    database: Database, clock: Any, store: Callable[..., int], make_instance: Any
) -> None:
    here, away = make_instance(), make_instance()
    assert store(here) == store(away) == 0
    publish = update(schema.STUDY).values(published_revision=schema.STUDY.c.revision)

    def go(connection: Connection) -> None:
        connection.execute(publish)
        mark(connection, away.StudyInstanceUID, [away.SOPInstanceUID], clock.now)

    database.write(go)
    told: list[Dataset] = []

    def take(event: Any) -> tuple[int, None]:
        told.append(event.attribute_list)
        return 0x0000, None

    ae = AE("PEER")
    ae.add_supported_context(INSTANCE_AVAILABILITY_NOTIFICATION)
    server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_N_CREATE, take)])
    assert server is not None
    peer = Peer("PEER", "127.0.0.1", server.server_address[1])
    try:
        assert Notifier(database, "HERE", {"PEER": peer}, clock).run_once() == 1
    finally:
        server.shutdown()
    (notice,) = told
    items = notice.ReferencedSeriesSequence[0].ReferencedSOPSequence
    assert {item.ReferencedSOPInstanceUID: item.InstanceAvailability for item in items} == {
        here.SOPInstanceUID: "ONLINE",
        away.SOPInstanceUID: "NEARLINE",
    }


def test_a_notice_is_recorded_with_its_answer_and_not_sent_where_it_cannot_be(
    provider: int, database: Database, clock: Any, store: Callable[..., int], make_instance: Any
) -> None:
    image = make_instance()
    assert store(image) == store(make_instance()) == 0
    publish = update(schema.STUDY).values(published_revision=schema.STUDY.c.revision)
    database.write(lambda connection: connection.execute(publish).close())
    mention = Mention(Purpose.AVAILABILITY, about(image), {image.SOPClassUID: 2})
    book, peer = Book(), Peer("KOSMOS", "127.0.0.1", provider)  # not that of the provider
    notifier = Notifier(database, "HERE", {"KOSMOS": peer}, clock, ledger=book)

    book.full = True
    with pytest.raises(OutOfSpace):
        notifier.run_once()
    assert (told(database), book.told) == ([], [])
    book.full = False
    assert notifier.run_once() == 1
    assert len(told(database)) == 1
    assert book.told == [("told", "KOSMOS", mention, True)]

    def refuse(_event: Any) -> tuple[int, None]:
        return 0x0110, None

    ae = AE("PEER")
    ae.add_supported_context(INSTANCE_AVAILABILITY_NOTIFICATION)
    handlers: list[Any] = [(evt.EVT_N_CREATE, refuse)]
    server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
    assert server is not None
    peer = Peer("PEER", "127.0.0.1", server.server_address[1])
    try:
        Notifier(database, "HERE", {"PEER": peer}, clock, ledger=book).run_once()
    finally:
        server.shutdown()
    assert book.told[1:] == [("told", "PEER", mention, False)]


def test_a_peer_is_not_told_of_what_it_may_not_see_and_waits_where_nobody_knows(
    provider: int, database: Database, clock: Any, store: Callable[..., int], make_instance: Any
) -> None:
    seen, hidden = (
        make_instance(),
        make_instance(StudyInstanceUID=generate_uid(), SeriesInstanceUID=generate_uid()),
    )
    assert store(seen) == store(hidden) == 0
    publish = update(schema.STUDY).values(published_revision=schema.STUDY.c.revision)
    database.write(lambda connection: connection.execute(publish).close())
    asked: list[End] = []
    known = False

    def veil(asker: End) -> Unseen:
        asked.append(asker)
        if not known:
            raise Refused(0xA700, "the registry is away")
        return {str(hidden.StudyInstanceUID)}.intersection

    peer = Peer("KOSMOS", "127.0.0.1", provider)
    notifier = Notifier(database, "HERE", {"KOSMOS": peer}, clock, veil=veil)
    assert notifier.run_once() == 2
    assert {(one.title, one.address, one.user) for one in asked} == {("KOSMOS", "127.0.0.1", None)}
    assert told(database) == []
    known = True
    clock.now += 6
    assert notifier.run_once() == 2
    assert [study for study, _, _ in told(database)] == [seen.StudyInstanceUID]
    clock.now += 3600
    assert notifier.run_once() == 0

    anew = update(schema.STUDY).values(revision=9, published_revision=9)
    database.write(lambda connection: connection.execute(anew).close())
    assert Notifier(database, "HERE", {"KOSMOS": peer}, clock).run_once() == 2
    assert hidden.StudyInstanceUID in {study for study, _, _ in told(database)}


def test_a_peer_that_is_away_is_told_later(
    provider: int, database: Database, clock: Any, store: Callable[..., int], make_instance: Any
) -> None:
    assert store(make_instance()) == 0
    publish = update(schema.STUDY).values(published_revision=schema.STUDY.c.revision)
    database.write(lambda connection: connection.execute(publish).close())
    peer = Peer("SOMEONE", "127.0.0.1", provider)  # the title that is called is not known there
    assert Notifier(database, "HERE", {"PEER": peer}, clock).run_once() == 1

    again = Notifier(database, "HERE", {"PEER": replace(peer, title="KOSMOS")}, clock)
    assert again.run_once() == 1
    away = Notifier(database, "HERE", {"PEER": peer}, clock)
    assert away.run_once() == 0
    clock.now += 6
    assert away.run_once() == 1
    clock.now += 6
    assert away.run_once() == 0  # twice as long
