"""The same behaviour on both database engines, under contention."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian
from sqlalchemy import func, select

from imaging_source import outbox, reports
from imaging_source.corrections import Authorities
from imaging_source.index import MIGRATIONS
from imaging_source.intake import Intake, Status
from imaging_source.outbox import State
from imaging_source.publisher import Place, Publisher
from imaging_source.rejection import SAFETY
from imaging_source.report_feed import ReportFeed
from imaging_source.reporting import Reporting
from imaging_source.schema import INSTANCE, METADATA, QUARANTINE, SERIES, STUDY
from manifest.entry import PublicationPolicy
from storage.blobs import BlobStore
from storage.database import Database
from storage.migrations import metadata_differs
from tests.imaging_source.test_report_feed import oru
from transactions.registry_response import RegistryResponse

Make = Callable[..., Dataset]
THREADS = 8


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    with Database.open(database_url) as opened:
        opened.migrate(MIGRATIONS)
        yield opened


def put(intake: Intake, instance: Dataset, encode: Callable[[Dataset], bytes]) -> int:
    arrival = intake.begin(
        instance.SOPClassUID, instance.SOPInstanceUID, ExplicitVRLittleEndian, "AE"
    )
    arrival.write(memoryview(encode(instance)))
    return int(arrival.finish().status)


def count(database: Database, table: Any) -> int:
    with database.read() as connection:
        return int(connection.execute(select(func.count()).select_from(table)).scalar_one())


def test_the_schema_is_the_same(database: Database) -> None:
    assert metadata_differs(database, METADATA) == []


def test_a_new_study_sent_by_many_at_once_is_one_study(
    database: Database,
    intake: Intake,
    make_instance: Make,
    encode: Callable[[Dataset], bytes],
) -> None:
    instances = [make_instance() for _ in range(3 * THREADS)]
    with ThreadPoolExecutor(THREADS) as pool:
        statuses = set(pool.map(lambda one: put(intake, one, encode), instances))

    assert statuses == {Status.SUCCESS}
    assert (count(database, STUDY), count(database, SERIES)) == (1, 1)
    assert count(database, INSTANCE) == 3 * THREADS
    with database.read() as connection:
        assert connection.execute(select(STUDY.c.revision)).scalar_one() == 3 * THREADS


def test_of_different_bytes_for_one_instance_exactly_one_is_kept(
    database: Database,
    intake: Intake,
    make_instance: Make,
    encode: Callable[[Dataset], bytes],
) -> None:
    first = make_instance()
    rivals = [
        make_instance(SOPInstanceUID=first.SOPInstanceUID, PixelData=bytes([n]) * 8)
        for n in range(THREADS)
    ]
    with ThreadPoolExecutor(THREADS) as pool:
        statuses = sorted(pool.map(lambda one: put(intake, one, encode), rivals))

    assert statuses == [Status.SUCCESS] + [Status.COERCED] * (THREADS - 1)
    assert (count(database, INSTANCE), count(database, QUARANTINE)) == (1, THREADS - 1)


def test_a_note_that_races_its_instances_hides_them_all(
    database: Database,
    intake: Intake,
    make_instance: Make,
    make_note: Make,
    encode: Callable[[Dataset], bytes],
) -> None:
    instances = [make_instance() for _ in range(THREADS)]
    put(intake, make_instance(), encode)  # the study is there: nobody starts again for its row
    arriving = [*instances[:4], make_note(SAFETY, *instances), *instances[4:]]
    with ThreadPoolExecutor(THREADS) as pool:
        statuses = set(pool.map(lambda one: put(intake, one, encode), arriving))

    assert statuses == {Status.SUCCESS}
    with database.read() as connection:
        hidden = select(func.count()).where(INSTANCE.c.rejection == SAFETY)
        assert connection.execute(hidden).scalar_one() == THREADS + 1


def test_publishers_that_race_send_each_study_once(
    database: Database,
    blobs: BlobStore,
    intake: Intake,
    policy: PublicationPolicy,
    make_instance: Make,
    encode: Callable[[Dataset], bytes],
    clock: Any,
) -> None:
    for number in range(6):
        put(
            intake,
            make_instance(StudyInstanceUID=f"1.9.{number}", SeriesInstanceUID=f"1.9.{number}.1"),
            encode,
        )
    clock.now += 60
    sent: list[str] = []

    def provide(request: Any) -> RegistryResponse:
        sent.append(request.submit.submission.documents[0].reference_id_list[-1].id)
        return RegistryResponse.of()

    publishers = [
        Publisher(
            database,
            policy,
            Place(repository_unique_id="1.2.9"),
            provide,
            lambda unique_id: False,
            clock=clock,
        )
        for _ in range(4)
    ]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda one: one.run_once(), publishers))

    assert sorted(sent) == [f"1.9.{number}" for number in range(6)]
    with database.read() as connection:
        states = {row.state for row in outbox.publications(connection)}
    assert states == {State.PUBLISHED}


def test_a_report_that_comes_several_times_at_once_is_one_report(
    database: Database, blobs: BlobStore, policy: PublicationPolicy
) -> None:
    feed = ReportFeed(database, blobs, Reporting(database, blobs, policy, Authorities(frozenset())))
    with ThreadPoolExecutor(THREADS) as pool:
        answers = list(pool.map(lambda _: feed.answer(oru()), range(THREADS)))
    assert all(b"|AA|" in one for one in answers)
    with database.read() as connection:
        (found,) = reports.due(connection, 1e12, 10)
    assert found.revision == 1
