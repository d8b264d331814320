"""What DICOM associations leave in a trail: who, whose, how many; also of a process that died."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from pathlib import Path

import pytest
from lxml import etree

from imaging_source.ledger import About, End, Mention, Purpose, Question, Service, Transfers
from metadata.datatypes import CX
from node.migrate import script_location
from node.wiring.audit import INTERRUPTED, Auditor
from node.wiring.ledger import TrailLedger
from security.audit.chain import make_key
from security.audit.trail import Trail
from storage.space import LowWaterMark

AUTHORITY, CT = "1.2.3.4", "1.2.840.10008.5.1.4.1.1.2"
ABOUT = About("1.2.9", "P^1", "")
MODALITY = End("MODALITY", "10.0.0.1")
Told = list[tuple[str, str, int]]


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as opened:
        yield opened


def opened(folder: Path, stack: ExitStack) -> TrailLedger:
    with script_location("security") as scripts:
        trail = stack.enter_context(Trail(folder, "north", "dicom", LowWaterMark(1), scripts))
    return TrailLedger(Auditor(trail, "north", ""), "KOSMOS", AUTHORITY)


def told(folder: Path) -> tuple[Told, list[str]]:
    """Type, action and outcome of every record, and their messages."""
    with closing(sqlite3.connect(folder / "dicom.db")) as connection:
        rows = connection.execute(
            "SELECT type, action, outcome, CAST(message AS TEXT) FROM audit_record ORDER BY number"
        ).fetchall()
    return [row[:3] for row in rows], [row[3] for row in rows]


def test_a_study_is_two_records_with_its_patient_and_its_number(tmp_path: Path) -> None:
    make_key(tmp_path)
    with ExitStack() as life:
        transfers = Transfers(opened(tmp_path, life), Service.STORE, MODALITY)
        for _ in range(300):
            transfers.begin(ABOUT)
            transfers.count(ABOUT, CT, True)
        transfers.close()
    kinds, messages = told(tmp_path)
    assert kinds == [("RAD-8", "E", 0), ("RAD-8", "C", 0)]
    patient = str(CX.of("P^1", AUTHORITY)).replace("&", "&amp;")
    assert all(patient in one and "MODALITY" in one and "10.0.0.1" in one for one in messages)
    assert 'NumberOfInstances="300"' in messages[1]


@pytest.mark.parametrize(
    ("service", "type_"), [(Service.FETCH, "RAD-16"), (Service.FETCH_BY_WEB, "RAD-107")]
)
def test_what_is_fetched_from_an_archive_is_recorded_as_ours_to_ask_for(
    tmp_path: Path, service: Service, type_: str
) -> None:
    make_key(tmp_path)
    with ExitStack() as life:
        transfers = Transfers(opened(tmp_path, life), service, End("PACS", "10.0.0.2"))
        transfers.begin(About(ABOUT.study_instance_uid))
        transfers.count(ABOUT, CT, True)
        transfers.count(ABOUT, CT, False)
        transfers.close()
    kinds, messages = told(tmp_path)
    assert kinds == [(type_, "E", 0), (type_, "C", 0), (type_, "C", 8)]
    for one in messages:
        participants = etree.fromstring(one.encode()).iter("ActiveParticipant")
        ends = {end.get("UserID"): end for end in participants}
        asks = {name: end.get("UserIsRequestor") for name, end in ends.items()}
        roles = {name: end.xpath("string(RoleIDCode/@csd-code)") for name, end in ends.items()}
        assert asks == {"PACS": "false", "KOSMOS": "true"}
        assert roles == {"PACS": "110153", "KOSMOS": "110152"}
    patient = str(CX.of("P^1", AUTHORITY)).replace("&", "&amp;")
    assert [patient in one for one in messages] == [False, True, True]


def test_what_a_killed_process_was_at_is_recorded_as_interrupted(
    tmp_path: Path, stack: ExitStack
) -> None:
    make_key(tmp_path / "alive")
    ledger = opened(tmp_path / "alive", stack)
    transfers = Transfers(ledger, Service.STORE, MODALITY)
    transfers.begin(ABOUT)
    shutil.copytree(tmp_path / "alive", tmp_path / "killed")  # what is durable now
    with ExitStack() as life:
        opened(tmp_path / "killed", life)
    kinds, messages = told(tmp_path / "killed")
    assert kinds == [("RAD-8", "E", 0), ("RAD-8", "C", 12)]
    assert INTERRUPTED in messages[1]


def test_of_a_query_the_record_names_who_asked(tmp_path: Path) -> None:
    make_key(tmp_path)
    with ExitStack() as life:
        opened(tmp_path, life).queried(MODALITY, "1.2.840.1", "1.2.840.10008.1.2", b"key", False)
    kinds, messages = told(tmp_path)
    assert kinds == [("RAD-14", "E", 8)]
    assert "a2V5" in messages[0]  # the identifier, in base64


@pytest.mark.parametrize(
    ("purpose", "type_"), [(Purpose.COMMITMENT, "RAD-10"), (Purpose.AVAILABILITY, "RAD-49")]
)
def test_what_a_peer_is_told_of_is_recorded_with_its_patient_and_as_told_by_this_node(
    tmp_path: Path, purpose: Purpose, type_: str
) -> None:
    make_key(tmp_path)
    mention, peer = Mention(purpose, ABOUT, {CT: 300}), End("PACS", "10.0.0.2")
    with ExitStack() as life:
        ledger = opened(tmp_path, life)
        with ledger.telling(peer, mention):
            pass
        with suppress(ConnectionResetError), ledger.telling(peer, mention):
            raise ConnectionResetError
    kinds, messages = told(tmp_path)
    assert kinds == [(type_, "R", 0), (type_, "R", 8)]
    patient = str(CX.of("P^1", AUTHORITY)).replace("&", "&amp;")
    for one in messages:
        assert patient in one
        assert ABOUT.study_instance_uid in one
        assert 'NumberOfInstances="300"' in one
        participants = list(etree.fromstring(one.encode()).iter("ActiveParticipant"))
        asks = {end.get("UserID"): end.get("UserIsRequestor") for end in participants}
        assert asks == {"PACS": "false", "KOSMOS": "true"}


@pytest.mark.parametrize(
    ("purpose", "type_", "event", "action"),
    [
        (Purpose.COMMITMENT, "RAD-10", "110103", "R"),
        (Purpose.AVAILABILITY, "RAD-49", "110103", "R"),
        (Purpose.STEP_BEGUN, "RAD-6", "110111", "C"),
        (Purpose.STEP_CHANGED, "RAD-7", "110111", "U"),
    ],
)
def test_what_a_peer_tells_is_recorded_with_its_patient_and_as_told_by_the_peer(
    tmp_path: Path, purpose: Purpose, type_: str, event: str, action: str
) -> None:
    make_key(tmp_path)
    mention = Mention(purpose, ABOUT, {CT: 300})
    with ExitStack() as life:
        ledger = opened(tmp_path, life)
        with ledger.hearing(MODALITY, purpose) as heard:
            heard([mention])
        with suppress(ValueError), ledger.hearing(MODALITY, purpose):
            raise ValueError  # it cannot be read
    kinds, messages = told(tmp_path)
    assert kinds == [(type_, action, 0), (type_, action, 8)]
    patient = str(CX.of("P^1", AUTHORITY)).replace("&", "&amp;")
    assert [patient in one for one in messages] == [True, False]
    assert [ABOUT.study_instance_uid in one for one in messages] == [True, False]
    for one in messages:
        record = etree.fromstring(one.encode())
        assert record.xpath("string(//EventID/@csd-code)") == event
        asks = {
            end.get("UserID"): end.get("UserIsRequestor")
            for end in record.iter("ActiveParticipant")
        }
        assert asks == {"MODALITY": "true", "KOSMOS": "false"}


def test_what_a_peer_told_a_killed_process_is_recorded_as_interrupted(
    tmp_path: Path, stack: ExitStack
) -> None:
    make_key(tmp_path / "alive")
    ledger = opened(tmp_path / "alive", stack)
    with ledger.hearing(MODALITY, Purpose.STEP_BEGUN) as heard:
        heard([Mention(Purpose.STEP_BEGUN, ABOUT)])
        shutil.copytree(tmp_path / "alive", tmp_path / "killed")  # what is durable now
    with ExitStack() as life:
        opened(tmp_path / "killed", life)
    kinds, messages = told(tmp_path / "killed")
    assert kinds == [("RAD-6", "C", 12)]
    assert INTERRUPTED in messages[0]
    assert ABOUT.study_instance_uid in messages[0]
    assert told(tmp_path / "alive")[0] == [("RAD-6", "C", 0)]


@pytest.mark.parametrize(
    ("question", "type_"),
    [(Question(b"key", "1.2.840.1"), "RAD-14"), (Question(b"key"), "RAD-129")],
)
def test_a_query_of_ours_is_recorded_as_asked_by_this_node(
    tmp_path: Path, question: Question, type_: str
) -> None:
    make_key(tmp_path)
    with ExitStack() as life:
        ledger = opened(tmp_path, life)
        with ledger.asking(End("PACS", "10.0.0.2"), question):
            pass
        with (
            suppress(ConnectionResetError),
            ledger.asking(End("PACS", "10.0.0.2"), question),
        ):
            raise ConnectionResetError
    kinds, messages = told(tmp_path)
    assert kinds == [(type_, "E", 0), (type_, "E", 8)]
    for one in messages:
        assert "a2V5" in one  # what was asked, in base64
        participants = list(etree.fromstring(one.encode()).iter("ActiveParticipant"))
        asks = {end.get("UserID"): end.get("UserIsRequestor") for end in participants}
        assert asks == {"PACS": "false", "KOSMOS": "true"}
