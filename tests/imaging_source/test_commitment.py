"""Storage commitment: the report says what was seen on disk, and reaches the peer in the end."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, generate_uid
from pynetdicom import AE, evt
from sqlalchemy import select, update

from imaging_source.commitment import STORAGE_COMMITMENT, Commitments, State, awaited
from imaging_source.dimse import (
    ACTION_TYPE,
    MESSAGE_ID,
    N_ACTION_RQ,
    N_EVENT_REPORT_RQ,
    REQUESTED_SOP_CLASS_UID,
    REQUESTED_SOP_INSTANCE_UID,
    write_response,
)
from imaging_source.encoded import encode
from imaging_source.evicted import mark
from imaging_source.index import MIGRATIONS
from imaging_source.ledger import UNKNOWN, Mention, Purpose
from imaging_source.parts import look_up
from imaging_source.receiver import Listening
from imaging_source.references import Reference
from imaging_source.requestor import Peer, Requested
from imaging_source.schema import COMMITMENT, INSTANCE
from storage.blobs import BlobStore
from storage.database import Database
from tests.imaging_source.book import Book, about

WELL_KNOWN = "1.2.840.10008.1.20.1.1"
Make = Callable[..., Dataset]
Store = Callable[..., int]
Start = Callable[[Listening], int]


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    with Database.open(database_url) as opened:
        opened.migrate(MIGRATIONS)
        yield opened


class Modality:
    """Asks for commitment, and listens for reports at a port of its own."""

    def __init__(self, status: int = 0x0000) -> None:
        self.reports: list[tuple[int, Dataset]] = []
        self.arrived = threading.Event()
        self.status = status
        ae = AE("MODALITY")
        ae.add_supported_context(STORAGE_COMMITMENT, scu_role=True, scp_role=True)
        server = ae.start_server(
            ("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_N_EVENT_REPORT, self.take)]
        )
        assert server is not None
        self.server = server
        self.peer = Peer("MODALITY", "127.0.0.1", server.server_address[1])

    def take(self, event: Any) -> tuple[int, None]:
        self.reports.append((event.event_type, event.event_information))
        self.arrived.set()
        return self.status, None

    def ask(
        self, port: int, *named: Dataset, action: int = 1, syntax: str = ExplicitVRLittleEndian
    ) -> int:
        """The status of the answer."""
        ae = AE("MODALITY")
        ae.add_requested_context(STORAGE_COMMITMENT, syntax)
        association = ae.associate(
            "127.0.0.1",
            port,
            ae_title="KOSMOS",
            evt_handlers=[(evt.EVT_N_EVENT_REPORT, self.take)],
        )
        information = Dataset()
        information.TransactionUID = generate_uid()
        information.ReferencedSOPSequence = [_reference(one) for one in named]
        status, _ = association.send_n_action(information, action, STORAGE_COMMITMENT, WELL_KNOWN)
        association.release()
        return int(status.Status)


def _reference(instance: Dataset) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID = instance.SOPClassUID
    item.ReferencedSOPInstanceUID = instance.SOPInstanceUID
    return item


@pytest.fixture
def modality() -> Iterator[Modality]:
    running = Modality()
    yield running
    running.server.shutdown()


@pytest.fixture
def commitments(
    database: Database, blobs: BlobStore, modality: Modality, clock: Any
) -> Commitments:
    return Commitments(database, blobs, "KOSMOS", {"MODALITY": modality.peer}, clock)


@pytest.fixture
def provider(start_receiver: Start, commitments: Commitments, book: Book) -> int:
    return start_receiver(Listening(port=0, services=commitments.services, ledger=book))


def states(database: Database) -> list[str]:
    with database.read() as connection:
        return list(connection.execute(select(COMMITMENT.c.state)).scalars())


def test_what_is_with_an_archive_alone_is_not_available_and_no_alarm(
    provider: int,
    commitments: Commitments,
    modality: Modality,
    database: Database,
    blobs: BlobStore,
    store: Store,
    make_instance: Make,
) -> None:
    here, away = make_instance(), make_instance()
    assert store(here) == store(away) == 0
    assert modality.ask(provider, here, away) == 0x0000
    with database.read() as connection:
        assert awaited(connection, 0.0) == {here.SOPInstanceUID, away.SOPInstanceUID}
        file = look_up(connection, [away.SOPInstanceUID])[away.SOPInstanceUID]["sha256"]
    study, uid = away.StudyInstanceUID, away.SOPInstanceUID
    database.write(lambda connection: mark(connection, study, [uid], 0.0))
    blobs.delete(file)

    assert commitments.run_once() == 1
    ((event, report),) = modality.reports
    assert event == 2
    (failed,) = report.FailedSOPSequence
    assert (failed.ReferencedSOPInstanceUID, failed.FailureReason) == (uid, 0x0112)
    with database.read() as connection:
        assert awaited(connection, 0.0) == set()


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
def test_what_is_stored_is_committed_to(
    provider: int,
    commitments: Commitments,
    modality: Modality,
    database: Database,
    store: Store,
    make_instance: Make,
    syntax: str,
) -> None:
    sent = [make_instance(), make_instance()]
    for one in sent:
        assert store(one) == 0

    assert modality.ask(provider, *sent, syntax=syntax) == 0x0000
    assert states(database) == [State.PENDING]
    assert commitments.run_once() == 1

    ((event, report),) = modality.reports
    assert event == 1
    assert "FailedSOPSequence" not in report
    named = [item.ReferencedSOPInstanceUID for item in report.ReferencedSOPSequence]
    assert named == [one.SOPInstanceUID for one in sent]
    assert states(database) == [State.REPORTED]
    assert commitments.run_once() == 0


def test_who_asks_for_which_studies_is_recorded_before_the_answer(
    provider: int,
    modality: Modality,
    database: Database,
    store: Store,
    make_instance: Make,
    book: Book,
) -> None:
    first, second, never = make_instance(), make_instance(), make_instance()
    other = make_instance(StudyInstanceUID=generate_uid(), SeriesInstanceUID=generate_uid())
    for one in (first, second, other):
        assert store(one) == 0

    def recorded() -> list[tuple[Any, ...]]:
        return [one for one in book.told if one[1] == "MODALITY"]

    assert modality.ask(provider, first, never, second, other) == 0x0000
    ct, why = first.SOPClassUID, Purpose.COMMITMENT
    said = [Mention(why, about(first), {ct: 2}), Mention(why, UNKNOWN, {ct: 1})]
    said.append(Mention(why, about(other), {ct: 1}))
    assert recorded() == [("hears", "MODALITY", *said), ("heard", "MODALITY", *said, True)]

    assert modality.ask(provider, first, action=2) == 0x0123
    assert recorded()[2:] == [("heard", "MODALITY", Mention(why, UNKNOWN), False)]
    book.full = True
    assert modality.ask(provider, first) == 0xA700
    assert len(states(database)) == 1


def test_what_is_not_stored_is_named_with_its_reason(
    provider: int,
    commitments: Commitments,
    modality: Modality,
    database: Database,
    blobs: BlobStore,
    store: Store,
    make_instance: Make,
) -> None:
    kept = make_instance()
    assert store(kept) == 0
    held = {blob.sha256 for blob in blobs.inventory()}
    rotten, rejected, other = (make_instance(InstanceNumber=str(number)) for number in range(3))
    for one in (rotten, rejected, other):
        assert store(one) == 0
    hide = update(INSTANCE).where(INSTANCE.c.sop_instance_uid == rejected.SOPInstanceUID)
    database.write(lambda connection: connection.execute(hide.values(rejection="113037")))
    with database.read() as connection:
        query = select(INSTANCE.c.sha256).where(
            INSTANCE.c.sop_instance_uid == rotten.SOPInstanceUID
        )
        file = blobs.open(connection.execute(query).scalar_one()).path
    assert file.name not in held
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    other.SOPClassUID = "1.2.840.10008.5.1.4.1.1.4"
    never = make_instance()

    assert modality.ask(provider, kept, rotten, rejected, other, never) == 0x0000
    commitments.run_once()

    ((event, report),) = modality.reports
    assert event == 2
    (good,) = report.ReferencedSOPSequence
    assert good.ReferencedSOPInstanceUID == kept.SOPInstanceUID
    reasons = {
        item.ReferencedSOPInstanceUID: item.FailureReason for item in report.FailedSOPSequence
    }
    assert reasons == {
        rotten.SOPInstanceUID: 0x0110,
        rejected.SOPInstanceUID: 0x0112,
        other.SOPInstanceUID: 0x0119,
        never.SOPInstanceUID: 0x0112,
    }


def test_a_report_is_sent_until_it_is_taken(
    provider: int,
    commitments: Commitments,
    modality: Modality,
    clock: Any,
    database: Database,
    make_instance: Make,
) -> None:
    modality.status = 0x0110
    assert modality.ask(provider, make_instance()) == 0x0000
    assert commitments.run_once() == 1
    assert commitments.run_once() == 0

    modality.status = 0x0000
    clock.now += 6
    assert commitments.run_once() == 1
    assert len(modality.reports) == 2
    assert states(database) == [State.REPORTED]


def test_a_report_is_given_up_after_three_days(
    provider: int,
    commitments: Commitments,
    modality: Modality,
    clock: Any,
    database: Database,
    make_instance: Make,
) -> None:
    modality.status = 0x0110
    assert modality.ask(provider, make_instance()) == 0x0000
    clock.now += 73 * 3600
    assert commitments.run_once() == 1
    assert states(database) == [State.FAILED]


def test_the_thread_reports_by_itself(
    provider: int, commitments: Commitments, modality: Modality, make_instance: Make
) -> None:
    commitments.start()
    assert modality.ask(provider, make_instance()) == 0x0000
    assert modality.arrived.wait(10)
    commitments.stop()


def test_a_peer_without_an_address_is_told_on_its_own_association(
    start_receiver: Start,
    database: Database,
    blobs: BlobStore,
    store: Store,
    make_instance: Make,
) -> None:
    one = make_instance()
    assert store(one) == 0
    commitments = Commitments(database, blobs, "KOSMOS", {})
    port = start_receiver(Listening(port=0, services=commitments.services))
    elements = (
        (REQUESTED_SOP_CLASS_UID, STORAGE_COMMITMENT),
        (MESSAGE_ID, 1),
        (REQUESTED_SOP_INSTANCE_UID, WELL_KNOWN),
        (ACTION_TYPE, 1),
    )
    named = Reference(one.SOPClassUID, one.SOPInstanceUID).values
    information = encode(
        {0x00081195: ("UI", "1.2.3"), 0x00081199: ("SQ", [named])}, ExplicitVRLittleEndian
    )
    provider = Peer("KOSMOS", "127.0.0.1", port)
    contexts = [(STORAGE_COMMITMENT, ExplicitVRLittleEndian)]
    with Requested(provider, "STRANGER", contexts) as asked:
        assert asked.request(1, N_ACTION_RQ, elements, information).command.status == 0x0000
        report = asked.line.read()
        asked.line.send(write_response(1, report.command, 0x0000))

    assert (report.command.field, report.command.kind) == (N_EVENT_REPORT_RQ, 1)
    assert one.SOPInstanceUID.encode() in report.data_set
    assert states(database) == [State.REPORTED]


@pytest.mark.parametrize(("action", "number", "status"), [(2, 1, 0x0123), (1, 0, 0x0115)])
def test_a_request_that_cannot_be_understood_is_refused(
    provider: int,
    modality: Modality,
    make_instance: Make,
    database: Database,
    action: int,
    number: int,
    status: int,
) -> None:
    named = [make_instance() for _ in range(number)]
    assert modality.ask(provider, *named, action=action) == status
    assert states(database) == []
