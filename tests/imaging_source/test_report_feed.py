"""Messages with reports and their answers: AA is durable, AE is for good, AR is to come again."""

from __future__ import annotations

import base64
from collections.abc import Callable
from datetime import UTC
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hl7.adt import Unapplied
from hl7.feed import Verdict
from hl7.message import Message, build
from imaging_source import report_feed, report_overview, reports
from imaging_source.corrections import Authorities
from imaging_source.report_feed import ReportFeed
from imaging_source.report_overview import ReportOverview, Stage
from imaging_source.reporting import Reporting
from manifest.entry import PublicationPolicy
from storage.blobs import BlobStore
from storage.database import Database
from storage.errors import OutOfSpace
from tests.imaging_source.reports_kit import PDF, cda

STUDY, OTHER = "1.2.3.4.5", "1.2.3.4.6"


@pytest.fixture
def feed(database: Database, blobs: BlobStore, policy: PublicationPolicy, clock: Any) -> ReportFeed:
    reporting = Reporting(database, blobs, policy, Authorities(frozenset({"1.2.3.4"})))
    return ReportFeed(database, blobs, reporting, clock=clock)


def oru(
    document: bytes = PDF,
    *,
    study: str = STUDY,
    accession: str = "",
    status: str = "F",
    at: str = "20240115100000",
    filler: str = "F1",
) -> bytes:
    header = ("MSH", "RIS", "H", "K", "K", at, "", ("ORU", "R01"), "1", "P", "2.5")
    order = ("OBR", "1", "", filler, "CT", *[""] * 13, accession, *[""] * 6, status)
    data = ("", "Application", "X", "Base64", base64.b64encode(document).decode())
    held = ("OBX", "1", "ED", "R", "", data, "", "", "", "", "", status)
    patient = ("PID", "", "", ("P1", "", "", ("", "1.2.3.4", "ISO")))
    return build([header, patient, order, held, ("ZDS", study)])


def code(answer: bytes) -> str:
    return Message.read(answer)["MSA-1"]


def known(database: Database) -> list[ReportOverview]:
    with database.read() as connection:
        return report_overview.reports(connection)


def test_what_is_acknowledged_is_there_with_its_document(
    feed: ReportFeed, database: Database, blobs: BlobStore
) -> None:
    assert code(feed.answer(oru())) == "AA"
    (one,) = known(database)
    assert (one.stage, one.study_instance_uid) == (Stage.WAITING, STUDY)
    assert b"".join(blobs.open(next(blobs.inventory()).sha256).chunks()) == PDF
    assert code(feed.answer(oru())) == "AA"
    assert len(known(database)) == 1


def test_a_preliminary_report_becomes_final_and_never_preliminary_again(
    feed: ReportFeed, database: Database
) -> None:
    for status, stage in [
        ("P", Stage.PRELIMINARY),
        ("F", Stage.WAITING),
        ("P", Stage.WAITING),
        ("X", Stage.WAITING),  # until it has been seen that nothing is to be taken back
    ]:
        assert code(feed.answer(oru(status=status))) == "AA"
        assert [one.stage for one in known(database)] == [stage]


def test_an_older_message_changes_nothing(feed: ReportFeed, database: Database) -> None:
    feed.answer(oru(at="20240115100000+0000", status="C"))
    feed.answer(oru(PDF + b"old", at="20240115103000+0100", status="X"))
    with database.read() as connection:
        (one,) = reports.due(connection, 2e9, 10)
    assert one.status is reports.Status.FINAL
    assert one.revision == 1


def test_a_withdrawal_of_what_never_came_is_accepted(feed: ReportFeed, database: Database) -> None:
    assert code(feed.answer(oru(status="X"))) == "AA"
    assert known(database) == []


@pytest.mark.parametrize(
    ("message", "text"),
    [
        (oru(b"<ClinicalDocument/>"), "no ClinicalDocument of CDA"),
        (oru(b"<ClinicalDocument"), "cannot be read"),
        (oru(b"<!DOCTYPE a><ClinicalDocument/>"), "document type"),
        (oru(cda(body="")), "no body"),
        (oru(cda(study=OTHER)), "different studies"),
        (oru(study="", filler="F1").replace(b"||F1|", b"|F2||"), "no study is named"),
        (b"nonsense", "MSH"),
    ],
)
def test_a_fault_is_told_and_nothing_is_kept(
    feed: ReportFeed, database: Database, message: bytes, text: str
) -> None:
    answer = Message.read(feed.answer(message))
    assert answer["MSA-1"] == "AE"
    assert text in answer["ERR-8"]
    assert known(database) == []


def test_the_accession_number_is_what_says_most(feed: ReportFeed, database: Database) -> None:
    feed.answer(oru(study="", accession="A1", filler="F1"))
    feed.answer(oru(cda(accession="A2"), study="", filler="F2"))
    feed.answer(oru(study="", filler="F3"))
    assert {one.accession_number for one in known(database)} == {"A1", "A2", "F3"}


def test_what_cannot_be_kept_is_to_be_sent_again(
    feed: ReportFeed, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OutOfSpace("full")

    with monkeypatch.context() as patch:
        patch.setattr(report_feed, "keep", full)
        assert code(feed.answer(oru())) == "AR"
    assert known(database) == []
    assert code(feed.answer(oru())) == "AA"


def test_a_witness_knows_of_every_message_before_and_after(
    database: Database, blobs: BlobStore, policy: PublicationPolicy
) -> None:
    told: list[tuple[object, ...]] = []

    def witness(said: Unapplied, peer: str) -> Callable[[Verdict], None]:
        told.append((said.control_id, peer, len(known(database))))
        return lambda verdict: told.append((verdict.code, len(known(database))))

    reporting = Reporting(database, blobs, policy, Authorities(frozenset({"1.2.3.4"})))
    feed = ReportFeed(database, blobs, reporting, witness=witness)
    for message in (oru(), oru(b"<ClinicalDocument/>"), b"nonsense"):
        feed.answer(message, "ris")
    assert told == [
        ("1", "ris", 0),
        ("AA", 1),
        ("1", "ris", 1),
        ("AE", 1),
        ("", "ris", 1),
        ("AE", 1),
    ]


@pytest.mark.parametrize("late", [False, True], ids=["before", "afterwards"])
def test_what_cannot_be_recorded_is_to_be_sent_again(
    database: Database, blobs: BlobStore, policy: PublicationPolicy, late: bool
) -> None:
    def full(_verdict: object) -> None:
        raise OutOfSpace("full")

    def witness(_said: Unapplied, _peer: str) -> Callable[[Verdict], None]:
        if not late:
            full(None)
        return full

    reporting = Reporting(database, blobs, policy, Authorities(frozenset({"1.2.3.4"})))
    feed = ReportFeed(database, blobs, reporting, witness=witness)
    assert code(feed.answer(oru())) == "AR"
    assert len(known(database)) == late


@pytest.fixture(scope="module")
def one_feed(
    tmp_path_factory: pytest.TempPathFactory, empty_database: Path
) -> Callable[[bytes], bytes]:
    """A feed for whatever may come."""
    folder = tmp_path_factory.mktemp("feed")
    (folder / "imaging.db").write_bytes(empty_database.read_bytes())
    database, blobs = Database.open(f"sqlite:///{folder}/imaging.db"), BlobStore(folder / "blobs")
    policy: Any = type("Policy", (), {"time_zone": UTC})()
    feed = ReportFeed(database, blobs, Reporting(database, blobs, policy, Authorities(frozenset())))
    return feed.answer


@settings(deadline=None)  # a commit takes as long as the disk takes
@given(st.binary(max_size=300))
def test_every_document_gets_an_answer(one_feed: Callable[[bytes], bytes], data: bytes) -> None:
    for document in (data, b"<ClinicalDocument" + data, b"%PDF-" + data):
        assert code(one_feed(oru(document))) in ("AA", "AE")


@settings(deadline=None)  # a commit takes as long as the disk takes
@given(st.binary(max_size=300))
def test_every_message_gets_an_answer(one_feed: Callable[[bytes], bytes], data: bytes) -> None:
    right = oru()
    for message in (data, right[:60] + data + right[60:], right + data):
        assert code(one_feed(message)) in ("AA", "AE", "AR")
