"""What messages of HL7 v2 leave in a trail: what images follow, reports, queries of ours."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from hl7.ack import ACCEPT, ERROR
from hl7.adt import Unapplied
from hl7.errors import Problem
from hl7.feed import Verdict
from hl7.message import FieldValue, Message, build
from hl7.pix import NoAnswer, PixQuery, write_query
from node.config_file import load
from node.migrate import script_location
from node.wiring.audit import INTERRUPTED, Auditor
from node.wiring.hl7_records import Hl7Records
from node.wiring.identity import handing_on, listener
from security.audit.chain import make_key
from security.audit.trail import Trail
from storage.errors import OutOfSpace
from storage.space import LowWaterMark
from transactions.audit import Node

PEER = "10.0.0.1"
OWN: FieldValue = ("P1", "", "", ("", "1.2.3.5", "ISO"))
FOREIGN: FieldValue = ("F1", "", "", ("", "1.9", "ISO"))
REPORT = Unapplied("R01", "H|RIS", "M1", ("P1^^^&1.2.3.5&ISO",), "")
Open = Callable[[Path], Hl7Records]


@pytest.fixture
def opened() -> Iterator[Open]:
    """Opens the trail of a folder, which is closed at the end."""
    trails: list[Trail] = []

    def at(folder: Path) -> Hl7Records:
        make_key(folder)
        with script_location("security") as scripts:
            trails.append(Trail(folder, "north", "web-0", LowWaterMark(1), scripts))
        return Hl7Records(Auditor(trails[-1], "north", ""))

    yield at
    for trail in trails:
        trail.close()


@pytest.fixture
def records(opened: Open, tmp_path: Path) -> Hl7Records:
    return opened(tmp_path / "audit")


def told(folder: Path) -> list[tuple[str, str, int, str]]:
    """Type, action, outcome and message of every record."""
    with closing(sqlite3.connect(folder / "audit" / "web-0.db")) as connection:
        return connection.execute(
            "SELECT type, action, outcome, CAST(message AS TEXT) FROM audit_record ORDER BY number"
        ).fetchall()


def adt(identifier: FieldValue, event: str = "A08") -> bytes:
    header = ("MSH", "K", "H", "K", "K", "20240101", "", ("ADT", event), "M7", "P", "2.3.1")
    return build([header, ("PID", "", "", identifier, "", ("DOE",))])


@pytest.mark.parametrize("identifier", [OWN, FOREIGN], ids=["own", "foreign"])
def test_a_node_without_registry_records_what_its_images_follow(
    identifier: FieldValue, records: Hl7Records, tmp_path: Path, write_config: Callable[..., Path]
) -> None:
    settings = load(write_config())
    handle = handing_on(listener(settings, records.auditor), settings, records.auditor)
    assert Message.read(handle(adt(identifier), PEER))["MSA-1"] == "AA"
    [(*kind, message)] = told(tmp_path)
    assert kind == ["ITI-8", "U", 0]
    for word in ("P1" if identifier is OWN else "F1", "H|K", PEER):
        assert word in message


def test_it_records_what_it_refuses(
    records: Hl7Records, tmp_path: Path, write_config: Callable[..., Path]
) -> None:
    handle = listener(load(write_config()), records.auditor)
    assert Message.read(handle(adt(OWN, "A99"), PEER))["MSA-1"] == "AR"
    assert Message.read(handle(b"no HL7", PEER))["MSA-1"] == "AE"
    assert [one[:3] for one in told(tmp_path)] == [("ITI-8", "E", 8)] * 2


def test_a_correction_that_could_not_be_kept_is_a_failure(
    records: Hl7Records, tmp_path: Path, write_config: Callable[..., Path]
) -> None:
    settings = load(write_config())
    settings.node.data_dir.mkdir()
    (settings.node.data_dir / "imaging-feed").write_bytes(b"")  # a file where the folder should be
    handle = handing_on(listener(settings, records.auditor), settings, records.auditor)
    assert Message.read(handle(adt(OWN), PEER))["MSA-1"] == "AR"
    assert [one[:3] for one in told(tmp_path)] == [("ITI-8", "U", 0), ("ITI-8", "U", 8)]


@pytest.mark.parametrize(
    ("verdict", "outcome"),
    [(Verdict(ACCEPT), 0), (Verdict(ERROR, [Problem("102", "no study is named")]), 8)],
    ids=["taken in", "refused"],
)
def test_a_report_is_recorded_with_its_patient_and_what_became_of_it(
    verdict: Verdict, outcome: int, records: Hl7Records, tmp_path: Path
) -> None:
    records.reporting(REPORT, PEER)(verdict)
    [(*kind, message)] = told(tmp_path)
    assert kind == ["RAD-28", "C", outcome]
    for word in ("P1^^^&amp;1.2.3.5&amp;ISO", "H|RIS", PEER, *(one.detail for one in verdict[1])):
        assert word in message


def test_a_report_that_a_kill_cut_off_is_recorded_by_the_next_start(
    records: Hl7Records, opened: Open, tmp_path: Path
) -> None:
    records.reporting(REPORT, PEER)
    shutil.copytree(tmp_path / "audit", tmp_path / "killed" / "audit")  # what is durable now
    opened(tmp_path / "killed" / "audit").auditor.trail.close()
    [(*kind, message)] = told(tmp_path / "killed")
    assert kind == ["RAD-28", "C", 12]
    assert INTERRUPTED in message


def test_where_nothing_can_be_recorded_no_report_is_taken_in(records: Hl7Records) -> None:
    records.auditor.trail._low_water = LowWaterMark(1 << 62)
    with pytest.raises(OutOfSpace):
        records.reporting(REPORT, PEER)


def test_a_query_of_ours_is_recorded_with_whom_it_asked_about_and_what_it_found(
    records: Hl7Records, tmp_path: Path
) -> None:
    query = PixQuery.about("P1", "1.2.3.8", "1.2.3.5")
    message = write_query(query, ("PIX", "HOSPITAL"))

    def unanswered(*_: object) -> tuple[str, ...]:
        raise NoAnswer("it is closed")

    manager = Node("HOSPITAL|PIX", "pix.example")
    assert records.asking(manager, lambda *_: ("D7",))(query, message) == ("D7",)
    with pytest.raises(NoAnswer):
        records.asking(manager, unanswered)(query, message)
    well, failed = told(tmp_path)
    assert [well[:3], failed[:3]] == [("ITI-9", "E", 0), ("ITI-9", "E", 12)]
    for word in ("P1^^^&amp;1.2.3.8&amp;ISO", "HOSPITAL|PIX", "pix.example"):
        assert word in well[3]
        assert word in failed[3]
    assert "D7^^^&amp;1.2.3.5&amp;ISO" in well[3]
