"""What an operator sees and does: what waits, what is wrong, what is let go."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

from imaging_source import outbox
from imaging_source.checking import Findings, check
from imaging_source.housekeeping import DAY_SECONDS
from imaging_source.index import MIGRATIONS, describe
from imaging_source.intake import Status
from imaging_source.outbox import Kind
from imaging_source.overview import Stage, count_put_aside, put_aside, studies, study, waiting
from imaging_source.publisher import Place, Publisher
from imaging_source.rejection import SAFETY
from imaging_source.retention import evict, expire
from imaging_source.withdrawal import Withdrawal
from manifest.entry import PublicationPolicy
from metadata.catalogue import RegistryError
from storage.blobs import BlobStore
from storage.database import Database
from transactions.registry_response import RegistryResponse

Make = Callable[..., Dataset]
Store = Callable[..., int]


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    with Database.open(database_url) as opened:
        opened.migrate(MIGRATIONS)
        yield opened


@dataclass
class Registry:
    """Answers what it is told to."""

    refuse: list[str] = field(default_factory=list)
    asked: int = 0

    def answer(self, _request: object) -> RegistryResponse:
        self.asked += 1
        return RegistryResponse.of([RegistryError(code, "no") for code in self.refuse])


@pytest.fixture
def registry() -> Registry:
    return Registry()


@pytest.fixture
def publisher(
    database: Database, policy: PublicationPolicy, registry: Registry, clock: Any
) -> Publisher:
    return Publisher(
        database,
        policy,
        Place(repository_unique_id="1.2.9"),
        registry.answer,
        lambda _uid: False,
        withdrawal=Withdrawal(
            kind=Kind.DEPRECATION, update=registry.answer, remove=registry.answer, around=list
        ),
        clock=clock,
    )


def publish(publisher: Publisher, clock: Any) -> None:
    clock.now += 60
    publisher.run_once()


def stages(database: Database) -> list[Stage]:
    with database.read() as connection:
        return [one.stage for one in studies(connection)]


def test_a_study_is_seen_at_every_stage_of_its_way(
    publisher: Publisher,
    registry: Registry,
    database: Database,
    store: Store,
    make_instance: Make,
    make_note: Make,
    clock: Any,
) -> None:
    image = make_instance()
    store(image)
    assert stages(database) == [Stage.SETTLING]
    registry.refuse = ["XDSRegistryBusy"]
    publish(publisher, clock)
    assert stages(database) == [Stage.SENDING]
    registry.refuse = ["XDSRegistryMetadataError"]
    publish(publisher, clock)
    assert stages(database) == [Stage.FAILED]
    with database.read() as connection:
        found = study(connection, image.StudyInstanceUID)
        assert waiting(connection)[Stage.FAILED] == 1
    assert found is not None
    assert (found.instances, found.attempts) == (1, 2)
    assert found.reason == "XDSRegistryMetadataError: no"

    registry.refuse = []
    assert database.write(lambda one: outbox.retry(one, image.StudyInstanceUID))
    publish(publisher, clock)
    assert stages(database) == [Stage.PUBLISHED]
    store(make_note(SAFETY, image))
    publish(publisher, clock)
    assert stages(database) == [Stage.WITHDRAWN]
    with database.read() as connection:
        assert set(waiting(connection).values()) == {0}


def test_a_study_whose_patient_is_not_known_says_so(
    database: Database, store: Store, make_instance: Make, clock: Any
) -> None:
    uid = make_instance().StudyInstanceUID
    store(make_instance())
    database.write(lambda one: outbox.wait_for_patient(one, uid, "nobody knows", clock.now))
    with database.read() as connection:
        (found,) = studies(connection, Stage.UNIDENTIFIED)
        assert waiting(connection)[Stage.UNIDENTIFIED] == 1
    assert found.reason == "nobody knows"


def test_rejected_are_the_images_that_notes_name_and_not_the_notes(
    database: Database, store: Store, make_instance: Make, make_note: Make
) -> None:
    first, second = make_instance(), make_instance()
    for one in (first, second, make_note(SAFETY, first), make_note(SAFETY, first)):
        store(one)

    with database.read() as connection:
        seen = study(connection, first.StudyInstanceUID)
    assert seen is not None
    assert (seen.instances, seen.rejected) == (1, 1)


def test_what_was_put_aside_is_listed_with_who_sent_it_and_why(
    database: Database, store: Store, make_instance: Make
) -> None:
    first = make_instance()
    store(first)
    again = make_instance(SOPInstanceUID=first.SOPInstanceUID, StudyDescription="Other")
    stranger = make_instance(PatientID="P2")
    assert [store(again, "CT1"), store(stranger, "CT2")] == [Status.COERCED] * 2

    with database.read() as connection:
        found = put_aside(connection)
        assert count_put_aside(connection) == 2
        assert len(put_aside(connection, limit=1)) == 1

    told = {(one.sop_instance_uid, one.study_instance_uid): one for one in found}
    same = told[first.SOPInstanceUID, first.StudyInstanceUID]
    assert (same.reason, same.sender) == ("other-bytes", "CT1")
    other = told[stranger.SOPInstanceUID, None]
    assert (other.reason, other.sender) == ("other-patient", "CT2")


def test_pages_follow_one_another(database: Database, store: Store, make_instance: Make) -> None:
    for number in range(5):
        uid = f"1.2.{number}"
        store(make_instance(StudyInstanceUID=uid, SeriesInstanceUID=f"{uid}.1"))
    with database.read() as connection:
        first = studies(connection, limit=3)
        rest = studies(connection, after=first[-1].study_instance_uid)
    assert [one.study_instance_uid for one in first + rest] == [f"1.2.{n}" for n in range(5)]


def test_a_study_is_published_again_on_request(
    publisher: Publisher,
    registry: Registry,
    database: Database,
    store: Store,
    make_instance: Make,
    clock: Any,
) -> None:
    uid = make_instance().StudyInstanceUID
    store(make_instance())
    publish(publisher, clock)
    assert database.write(lambda one: outbox.republish(one, uid))
    assert not database.write(lambda one: outbox.republish(one, "1.2.3"))
    publish(publisher, clock)
    assert registry.asked == 2


def look(database: Database, blobs: BlobStore, known: set[str], hashes: bool = False) -> Findings:
    return check(database, blobs, lambda entries: known & set(entries), hashes=hashes)


def test_a_check_names_exactly_what_is_wrong(
    publisher: Publisher,
    database: Database,
    blobs: BlobStore,
    store: Store,
    make_instance: Make,
    clock: Any,
) -> None:
    images = [make_instance() for _ in range(4)]
    for image in images:
        store(image)
    publish(publisher, clock)
    with database.read() as connection:
        (seen,) = studies(connection)
    known = {seen.published_entry or ""}
    assert not look(database, blobs, known, hashes=True).alarm

    places = {}
    for path in blobs.root.glob("??/*"):
        content = path.read_bytes()
        places.update(
            {one.SOPInstanceUID: path for one in images if one.SOPInstanceUID.encode() in content}
        )
    gone, cut, rotten, _ = (one.SOPInstanceUID for one in images)
    places[gone].unlink()
    places[cut].write_bytes(b"short")
    flipped = bytearray(places[rotten].read_bytes())
    flipped[-1] ^= 1
    places[rotten].write_bytes(flipped)
    stray = blobs.root / "ab" / ("ab" + 62 * "0")
    stray.write_bytes(b"")

    found = look(database, blobs, set(), hashes=True)
    assert (found.missing, set(found.damaged)) == ([gone], {cut, rotten})
    assert found.unregistered == [images[0].StudyInstanceUID]
    assert found.orphans == [stray.name]
    assert (found.instances, found.studies) == (4, 1)
    assert look(database, blobs, known).damaged == [cut]


def test_an_old_study_goes_its_files_a_day_later_and_it_may_come_back(
    database: Database,
    blobs: BlobStore,
    store: Store,
    make_instance: Make,
    clock: Any,
) -> None:
    old = make_instance()
    store(old)
    clock.now += 20 * DAY_SECONDS
    young = make_instance(StudyInstanceUID=generate_uid(), SeriesInstanceUID=generate_uid())
    store(young)

    assert expire(database, 30, clock) == 0
    clock.now += 11 * DAY_SECONDS
    assert expire(database, 30, clock) == 1
    assert expire(database, 30, clock) == 0
    with database.read() as connection:
        assert describe(connection, old.StudyInstanceUID)[1] == ()
        assert describe(connection, young.StudyInstanceUID)[1] != ()

    assert evict(database, blobs, clock) == 0
    clock.now += 2 * DAY_SECONDS
    for path in blobs.root.glob("??/*"):  # the files are as old as they look to the clock
        os.utime(path, (1, 1))
    assert evict(database, blobs, clock) == 1
    assert len(list(blobs.root.glob("??/*"))) == 1
    assert not look(database, blobs, set()).missing

    assert store(old) == Status.SUCCESS
    assert evict(database, blobs, clock) == 0
    with database.read() as connection:
        assert describe(connection, old.StudyInstanceUID)[1] != ()


def test_a_study_with_a_young_image_stays_whole(
    database: Database, store: Store, make_instance: Make, clock: Any
) -> None:
    store(make_instance())
    clock.now += 40 * DAY_SECONDS
    store(make_instance())
    assert expire(database, 30, clock) == 0
