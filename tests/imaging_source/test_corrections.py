"""The identity feed reaches the index: corrected patients, merged ones, and what leaves of them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any, TypedDict, Unpack

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid
from sqlalchemy import select

from hl7.demographics import Demographics, Identifier
from hl7.message import FieldValue, build
from imaging_source import following
from imaging_source.corrections import Authorities, are_astray, correct, corrections_of
from imaging_source.following import apply_waiting
from imaging_source.index import MIGRATIONS
from imaging_source.intake import Status
from imaging_source.publisher import Place, Publisher
from imaging_source.retrieve import ImagingSource
from imaging_source.schema import QUARANTINE, STUDY
from manifest.entry import PublicationPolicy
from metadata.identifiers import RPLC
from metadata.model import Submission
from storage.blobs import BlobStore
from storage.database import Database
from storage.inbox import Inbox
from transactions.iti_41 import ProvideAndRegisterRequest
from transactions.iti_43 import DocumentRequest
from transactions.rad_69 import (
    RetrieveImagingDocumentSetRequest,
    SeriesRequest,
    StudyRequest,
)
from transactions.registry_response import RegistryResponse

Make = Callable[..., Dataset]
Store = Callable[..., int]

DOMAIN = "1.2.3.4"
AUTHORITIES = Authorities(frozenset({DOMAIN}), "HOSPITAL")
NOW = 1_700_000_500.0


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    with Database.open(database_url) as opened:
        opened.migrate(MIGRATIONS)
        yield opened


@pytest.fixture
def say(database: Database) -> Callable[[Demographics], int]:
    def said(demographics: Demographics) -> int:
        return database.write(lambda one: correct(one, demographics, AUTHORITIES, NOW))

    return said


def of(value: str, authority: str = DOMAIN) -> Identifier:
    return Identifier(value, authority, "")


class Person(TypedDict, total=False):
    name: str
    birth_date: str
    sex: str


def update(value: str, authority: str = DOMAIN, **person: Unpack[Person]) -> Demographics:
    return Demographics(identifiers=(of(value, authority),), source="H|ADT", **person)


def merge(gone: str, survivor: str, **person: Unpack[Person]) -> Demographics:
    return Demographics(identifiers=(of(survivor),), merged=(of(gone),), **person)


def studies(database: Database) -> dict[str, Any]:
    with database.read() as connection:
        rows = connection.execute(select(STUDY)).mappings()
        return {row["study_instance_uid"]: row for row in rows}


def test_an_update_corrects_every_study_of_the_patient_and_no_other(
    say: Callable[[Demographics], int], database: Database, store: Store, make_instance: Make
) -> None:
    mine, other = (
        make_instance(),
        make_instance(
            StudyInstanceUID=generate_uid(), SeriesInstanceUID=generate_uid(), PatientID="P9"
        ),
    )
    store(mine)
    store(other)
    before = studies(database)

    assert say(update("P1", name="Martin^Anne", sex="F")) == 1

    after = studies(database)
    assert after[mine.StudyInstanceUID]["patient_name"] == "Martin^Anne"
    assert after[mine.StudyInstanceUID]["sex"] == "F"
    assert after[mine.StudyInstanceUID]["revision"] == 2
    assert after[other.StudyInstanceUID] == before[other.StudyInstanceUID]
    with database.read() as connection:
        ((uid, correction),) = corrections_of(connection, after).items()
    assert uid == mine.StudyInstanceUID
    assert (correction.patient_name, correction.birth_date) == ("Martin^Anne", None)
    assert (correction.source, correction.corrected_at) == ("H|ADT", NOW)


def test_the_same_message_again_changes_nothing(
    say: Callable[[Demographics], int], database: Database, store: Store, make_instance: Make
) -> None:
    store(make_instance())
    for message in (update("P1", name="Martin^Anne"), merge("P1", "P2")):
        assert say(message) == 1
        once = studies(database)
        assert say(message) == 0
        assert studies(database) == once


def test_an_identifier_of_another_authority_is_another_person(
    say: Callable[[Demographics], int], database: Database, store: Store, make_instance: Make
) -> None:
    store(make_instance())
    assert say(update("P1", "9.9.9", name="Stranger")) == 0
    assert say(Demographics(identifiers=(Identifier("P1", "", "OTHER"),), name="Stranger")) == 0
    assert say(Demographics(identifiers=(Identifier("P1", "", "HOSPITAL"),), name="Martin")) == 1


def test_what_was_corrected_before_stays_corrected(
    say: Callable[[Demographics], int], database: Database, store: Store, make_instance: Make
) -> None:
    store(make_instance())
    say(update("P1", name="Martin^Anne"))
    say(update("P1", sex="F"))
    with database.read() as connection:
        (correction,) = corrections_of(connection, studies(database)).values()
    assert (correction.patient_name, correction.sex) == ("Martin^Anne", "F")


def test_after_a_merge_late_images_of_the_study_are_taken_and_new_studies_follow(
    say: Callable[[Demographics], int], database: Database, store: Store, make_instance: Make
) -> None:
    store(make_instance())
    say(merge("P1", "P2", name="Martin^Anne"))

    assert store(make_instance()) == Status.SUCCESS
    late = make_instance(StudyInstanceUID=generate_uid(), SeriesInstanceUID=generate_uid())
    assert store(late) == Status.SUCCESS
    with database.read() as connection:
        assert are_astray(connection)
    assert say(merge("P1", "P2")) == 1
    assert {row["patient_id"] for row in studies(database).values()} == {"P2"}
    with database.read() as connection:
        assert not are_astray(connection)
        assert connection.execute(select(QUARANTINE)).all() == []


def test_merges_follow_one_another_and_an_identifier_may_live_again(
    say: Callable[[Demographics], int], database: Database, store: Store, make_instance: Make
) -> None:
    store(make_instance())
    say(merge("P1", "P2"))
    say(merge("P2", "P3"))
    assert [row["patient_id"] for row in studies(database).values()] == ["P3"]
    assert store(make_instance()) == Status.SUCCESS  # one more, still as P1

    say(merge("P3", "P1"))
    assert [row["patient_id"] for row in studies(database).values()] == ["P1"]
    assert say(merge("P3", "P1")) == 0


def pieces(database: Database, root: Path, image: Dataset) -> bytes:
    """The image as RAD-69 hands it over."""
    document = DocumentRequest("1.2.9", image.SOPInstanceUID)
    series = SeriesRequest(image.SeriesInstanceUID, (document,))
    study = StudyRequest(image.StudyInstanceUID, (series,))
    request = RetrieveImagingDocumentSetRequest((study,), (ExplicitVRLittleEndian,))
    (answer,) = ImagingSource(database, BlobStore(root), "1.2.9").retrieve(request).documents
    return b"".join(answer.content.chunks())


def test_what_is_retrieved_after_a_correction_says_so(
    say: Callable[[Demographics], int],
    database: Database,
    blobs: BlobStore,
    store: Store,
    make_instance: Make,
) -> None:
    image = make_instance()
    store(image)
    received = pieces(database, blobs.root, image)
    say(merge("P1", "P2", name="Martin^Anne"))

    leaving = dcmread(BytesIO(pieces(database, blobs.root, image)))
    assert (leaving.PatientID, leaving.PatientName) == ("P2", "Martin^Anne")
    assert leaving.PixelData == image.PixelData
    (kept,) = [path.read_bytes() for path in blobs.root.glob("??/*")]
    assert kept == received


@pytest.fixture
def submissions() -> list[Submission]:
    return []


@pytest.fixture
def publisher(
    database: Database, policy: PublicationPolicy, submissions: list[Submission], clock: Any
) -> Publisher:
    def provide(request: ProvideAndRegisterRequest) -> RegistryResponse:
        submissions.append(request.submit.submission)
        return RegistryResponse.of()

    place = Place(repository_unique_id="1.2.9")
    return Publisher(database, policy, place, provide, lambda _uid: False, clock=clock)


def test_a_correction_replaces_the_manifest_with_one_of_the_right_patient(
    say: Callable[[Demographics], int],
    publisher: Publisher,
    submissions: list[Submission],
    store: Store,
    make_instance: Make,
    clock: Any,
) -> None:
    store(make_instance())
    clock.now += 60
    publisher.run_once()
    say(merge("P1", "P2", name="Martin^Anne"))
    clock.now = NOW + 60
    publisher.run_once()

    first, second = submissions
    assert second.documents[0].patient_id == "P2^^^&1.2.3.4&ISO"
    assert "PID-5|Martin^Anne" in second.documents[0].source_patient_info
    replaced = [one for one in second.associations if one.association_type == RPLC]
    assert [one.target for one in replaced] == [first.documents[0].entry_uuid]


def test_nothing_is_published_under_an_identifier_that_was_merged(
    say: Callable[[Demographics], int],
    publisher: Publisher,
    submissions: list[Submission],
    store: Store,
    make_instance: Make,
    clock: Any,
) -> None:
    say(merge("P1", "P2"))
    store(make_instance())
    clock.now += 60
    publisher.run_once()
    clock.now += 60
    publisher.run_once()
    (only,) = submissions
    assert only.documents[0].patient_id == "P2^^^&1.2.3.4&ISO"


def test_messages_wait_in_order_and_go_when_they_have_had_their_effect(
    database: Database, store: Store, make_instance: Make, tmp_path: Path, clock: Any
) -> None:
    store(make_instance())
    inbox = Inbox(tmp_path / "feed")
    inbox.put(b"no HL7")
    for event, fields in (
        ("A08", [pid("P1", ("MARTIN", "Anne"))]),
        ("A40", [pid("P2", ("MARTIN", "Anna")), ("MRG", ("P1", "", "", ("", DOMAIN, "ISO")))]),
        ("A04", [pid("P2", ("NOBODY",))]),
    ):
        header = ("MSH", "ADT", "H", "X", "Y", "20240101", "", ("ADT", event), "1", "P", "2.3.1")
        inbox.put(build([header, *fields]))

    assert apply_waiting(database, inbox, AUTHORITIES, clock) == 3
    assert list(inbox.waiting()) == []
    (study,) = studies(database).values()
    assert (study["patient_id"], study["patient_name"]) == ("P2", "MARTIN^Anna")


def test_whatever_goes_wrong_the_message_waits_and_is_tried_again(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop, attempts = threading.Event(), []

    def failing(*_: object) -> int:
        attempts.append(1)
        if len(attempts) == 1:
            raise ValueError("nobody thought of this")
        stop.set()
        return 0

    monkeypatch.setattr(following, "correct", failing)
    monkeypatch.setattr(following, "_POLL_SECONDS", 0.01)
    inbox = Inbox(tmp_path / "feed")
    header = ("MSH", "ADT", "H", "X", "Y", "20240101", "", ("ADT", "A08"), "1", "P", "2.3.1")
    inbox.put(build([header, pid("P1", ("MARTIN",))]))
    following.follow(database, inbox, AUTHORITIES, stop)
    assert len(attempts) == 2
    assert list(inbox.waiting()) == []


def pid(identifier: str, name: tuple[str, ...]) -> tuple[FieldValue, ...]:
    return ("PID", "", "", (identifier, "", "", ("", DOMAIN, "ISO")), "", name)
