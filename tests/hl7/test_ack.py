"""Acknowledgements, also as a library nobody here wrote reads them."""

from __future__ import annotations

import warnings
from datetime import UTC, datetime

import pytest

from hl7.ack import UNREADABLE, acknowledge
from hl7.errors import Problem
from hl7.message import Message

ADT = (
    "MSH|^~\\&|HIS|GENERAL^1.2.3^ISO|KOSMOS|REGION|20261122080000||ADT^A04^ADT_A01|42|T|2.5"
    "||||||8859/1\rPID|||4711\r"
)
NOW = datetime(2026, 11, 22, 8, 0, 1, tzinfo=UTC)


def ack_of(text: str, code: str = "AA", *problems: Problem) -> Message:
    message = Message.read(text.encode("latin-1"))
    return Message.read(acknowledge(message, code, problems, control_id="7", now=NOW))


def test_sender_and_receiver_change_places() -> None:
    ack = ack_of(ADT)
    assert [ack.field("MSH", number) for number in range(3, 7)] == [
        "KOSMOS",
        "REGION",
        "HIS",
        "GENERAL^1.2.3^ISO",
    ]


def test_it_echoes_what_the_sender_chose() -> None:
    ack = ack_of(ADT)
    assert [ack[f"MSH-{number}"] for number in (7, 10, 11, 12, 18)] == [
        "20261122080001",
        "7",
        "T",
        "2.5",
        "8859/1",
    ]
    assert ack.segments[1] == "MSA|AA|42"


@pytest.mark.parametrize(
    ("version", "kind"), [("2.3.1", "ACK^A04"), ("", "ACK^A04"), ("2.5", "ACK^A04^ACK")]
)
def test_the_structure_is_named_where_the_version_asks_for_it(version: str, kind: str) -> None:
    ack = ack_of(ADT.replace("|2.5|", f"|{version}|"))
    assert ack.field("MSH", 9) == kind


def test_unusual_delimiters_come_back() -> None:
    text = ADT.translate(str.maketrans("|^~\\&", "$*+!%"))
    ack = ack_of(text, "AE", Problem("101", "PID-3 | missing", "PID^1^3"))
    assert ack.segments[0].startswith("MSH$*+!%$KOSMOS")
    assert ack["ERR-2.3"] == "3"
    assert ack["ERR-8"] == "PID-3 | missing"


def test_each_problem_becomes_an_error_segment() -> None:
    ack = ack_of(
        ADT, "AE", Problem("101", "PID-3 is required", "PID^1^3"), Problem("102", "no time")
    )
    assert ack.segments[1] == "MSA|AE|42"
    assert ack.segments[2:] == [
        "ERR||PID^1^3|101^Required field missing^HL70357|E||||PID-3 is required",
        "ERR|||102^Data type error^HL70357|E||||no time",
    ]


def test_a_message_without_version_or_event_is_still_answered() -> None:
    ack = ack_of("MSH|^~\\&|HIS\r", "AE", Problem("101", "MSH-9 is required"))
    assert [ack["MSH-9"], ack["MSH-11"], ack["MSH-12"]] == ["ACK", "P", "2.3.1"]


def test_what_has_no_header_is_still_answered() -> None:
    ack = Message.read(acknowledge(UNREADABLE, "AE", [Problem("100", "no MSH")]))
    assert ack["MSA-1"] == "AE"
    assert ack["MSA-2"] == ""


def test_control_ids_differ_and_fit_the_oldest_version() -> None:
    message = Message.read(ADT.encode())
    ids = {Message.read(acknowledge(message, "AA"))["MSH-10"] for _ in range(100)}
    assert len(ids) == 100
    assert max(map(len, ids)) <= 20


def test_the_answer_is_in_the_senders_charset() -> None:
    text = ADT.replace("HIS", "HÔPITAL")
    raw = acknowledge(Message.read(text.encode("latin-1")), "AA")
    assert "HÔPITAL".encode("latin-1") in raw


@pytest.mark.parametrize("code", ["AA", "AE", "AR"])
def test_a_foreign_validator_accepts_it(code: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the library's own, not ours
        parser = pytest.importorskip("hl7apy.parser")
    problems = [] if code == "AA" else [Problem("201", "event 'A99'", "MSH^1^9^1^2")]
    text = ADT.replace("GENERAL^1.2.3^ISO", "GENERAL")
    raw = acknowledge(Message.read(text.encode()), code, problems)
    parsed = parser.parse_message(raw.decode())
    assert parsed.validate()
    assert parsed.msa.msa_1.value == code


@pytest.mark.parametrize(
    ("accept", "application", "code"),
    [
        ("", "", "AE"),
        ("AL", "", "CE"),
        ("AL", "NE", "CE"),
        ("ER", "NE", "CE"),
        ("AL", "AL", "AE"),
        ("NE", "AL", "AE"),
        ("NE", "NE", "AE"),
        ("", "AL", "AE"),
    ],
)
def test_who_wants_an_accept_acknowledgement_alone_gets_one(
    accept: str, application: str, code: str
) -> None:
    text = ADT.replace("||||||8859/1", f"|||{accept}|{application}||8859/1")
    assert ack_of(text, "AE")["MSA-1"] == code
