"""An identity message that is not applied leaves its record all the same."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest

from hl7.adt import LONGEST_NAME, MOST_NAMED, FeedOutcome, IdentityFeed
from hl7.feed import answer
from hl7.message import FieldValue, Message, build
from metadata.datatypes import HD
from node.migrate import script_location
from node.wiring.audit import Auditor
from node.wiring.hl7_records import Hl7Records
from security.audit.chain import make_key
from security.audit.trail import Trail
from storage.space import LowWaterMark

OURS = HD("", "1.2.3.4", "ISO")
Record = tuple[str, str, int, str]


def adt(event: str = "A04", pid_3: FieldValue = ("F1", "", "", ("", "1.9", "ISO"))) -> bytes:
    header = ("MSH", "ADT", "H", "K", "K", "20240101", "", ("ADT", event), "M7", "P", "2.3.1")
    return build([header, ("PID", "", "", pid_3, "", ("DOE",))])


@pytest.fixture
def trail(tmp_path: Path) -> Iterator[Trail]:
    make_key(tmp_path)
    with (
        script_location("security") as scripts,
        Trail(tmp_path, "north", "web-0", LowWaterMark(1), scripts) as trail,
    ):
        yield trail


def never(_feed: IdentityFeed) -> FeedOutcome:
    raise AssertionError("applied")


def refused(trail: Trail, raw: bytes, *, ignore_foreign: bool = False) -> Message:
    """The acknowledgement of a message that is not applied."""
    tell = partial(Hl7Records(Auditor(trail, "north", "")).unapplied, peer="10.0.0.1")
    told = answer(raw, never, OURS, ignore_foreign=ignore_foreign, unapplied=tell)
    return Message.read(told)


def records(folder: Path) -> list[Record]:
    """Type, action, outcome and message."""
    with closing(sqlite3.connect(folder / "web-0.db")) as connection:
        return connection.execute(
            "SELECT type, action, outcome, CAST(message AS TEXT) FROM audit_record ORDER BY number"
        ).fetchall()


@pytest.mark.parametrize(
    ("raw", "kinds", "known"),
    [
        (adt(), [("ITI-8", "C", 8)], ["AE", "PID-3", "M7", "F1^^^&amp;1.9&amp;ISO", "H|ADT"]),
        (adt("A08"), [("ITI-8", "U", 8)], ["AE", "M7"]),
        (adt("A99"), [("ITI-8", "E", 8)], ["AR", "A99", "M7"]),
        (adt("A43"), [("ITI-64", "U", 8)] * 2, ["AE", "MRG", "M7"]),
        (adt() + b"MRG|\r|\r", [("ITI-8", "C", 8)], ["AE", "M7", "H|ADT"]),
        (
            adt("A40") + b"MRG|F2^^^&1.9&ISO\r",
            [("ITI-8", "D", 8), ("ITI-8", "U", 8)],
            ["AE", "MRG-1", "M7"],
        ),
        (b"no HL7", [("ITI-8", "E", 8)], ["AE", "MSH"]),
        (b"MSH|^~\\&|A\x01|\xff", [("ITI-8", "E", 8)], ["AE"]),
        (b"", [("ITI-8", "E", 8)], ["AE"]),
    ],
    ids=["foreign", "update", "event", "link", "segments", "merge", "nothing", "bytes", "empty"],
)
def test_it_says_what_can_be_known(
    trail: Trail, tmp_path: Path, raw: bytes, kinds: list[tuple[str, str, int]], known: list[str]
) -> None:
    assert refused(trail, raw)["MSA-1"] == known[0]
    told = records(tmp_path)
    assert [one[:3] for one in told] == kinds
    for word in (*known, "10.0.0.1"):
        assert any(word in one[3] for one in told), word


def test_what_is_accepted_without_effect_is_a_success(trail: Trail, tmp_path: Path) -> None:
    assert refused(trail, adt(), ignore_foreign=True)["MSA-1"] == "AA"
    [(*kind, message)] = records(tmp_path)
    assert kind == ["ITI-8", "C", 0]
    assert "F1^^^&amp;1.9&amp;ISO" in message


def test_what_it_names_is_bounded(trail: Trail, tmp_path: Path) -> None:
    names: FieldValue = [("9" * 1_000, "", "", ("", "1.9", "ISO"))] * 900
    refused(trail, adt(pid_3=names))
    [(*_, message)] = records(tmp_path)
    assert message.count("ParticipantObjectID=") == MOST_NAMED
    assert "9" * LONGEST_NAME in message
    assert "9" * (LONGEST_NAME + 1) not in message


def test_where_nothing_can_be_recorded_the_sender_may_come_again(trail: Trail) -> None:
    trail._low_water = LowWaterMark(1 << 62)
    acknowledged = refused(trail, adt())
    assert (acknowledged["MSA-1"], acknowledged["ERR-3.1"]) == ("AR", "207")
