"""Bytes in, effect, acknowledgement out."""

from __future__ import annotations

import logging
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hl7.adt import FeedOutcome, IdentityFeed
from hl7.feed import answer
from hl7.message import Message
from metadata.datatypes import HD

Adt = Callable[..., bytes]


def accept(feed: IdentityFeed) -> FeedOutcome:
    return FeedOutcome("AA")


def never(feed: IdentityFeed) -> FeedOutcome:
    raise AssertionError("a refused message must not be applied")


def test_the_effect_comes_before_the_acknowledgement(adt: Adt, authority: HD) -> None:
    applied: list[IdentityFeed] = []

    def apply(feed: IdentityFeed) -> FeedOutcome:
        applied.append(feed)
        return FeedOutcome("AA")

    ack = Message.read(answer(adt(), apply, authority))
    assert ack["MSA-1"] == "AA"
    assert ack["MSA-2"] == "42"
    assert ack.count("ERR") == 0
    assert [feed.identifiers[0].id for feed in applied] == ["4711"]


def test_a_verdict_against_the_event_is_told(adt: Adt, authority: HD) -> None:
    refused = FeedOutcome("AE", "204", "already subsumed")
    ack = Message.read(answer(adt(), lambda feed: refused, authority))
    assert [ack["MSA-1"], ack["ERR-3.1"], ack["ERR-8"]] == ["AE", "204", "already subsumed"]


@pytest.mark.parametrize("failure", [OSError("disk full"), RuntimeError("locked"), KeyError("x")])
def test_trouble_of_our_own_is_never_answered_ae(
    failure: Exception, adt: Adt, authority: HD
) -> None:
    def apply(feed: IdentityFeed) -> FeedOutcome:
        raise failure

    ack = Message.read(answer(adt(), apply, authority))
    assert [ack["MSA-1"], ack["ERR-3.1"]] == ["AR", "207"]


def test_no_health_data_reaches_the_log(
    adt: Adt, authority: HD, caplog: pytest.LogCaptureFixture
) -> None:
    def apply(feed: IdentityFeed) -> FeedOutcome:
        raise RuntimeError(f"INSERT {feed.identifiers[0]}")

    with caplog.at_level(logging.DEBUG):
        answer(adt(MSH_10="a\nb"), apply, authority)
    assert "HL7-207" in caplog.text
    assert "4711" not in caplog.text
    assert "a\nb" not in caplog.text


def test_a_refused_message_has_no_effect(adt: Adt, authority: HD) -> None:
    ack = Message.read(answer(adt(MSH_9=("ORU", "R01")), never, authority))
    assert [ack["MSA-1"], ack["ERR-3.1"], ack["ERR-2.3"]] == ["AR", "200", "9"]


def test_a_message_with_a_readable_header_is_answered_by_it(authority: HD) -> None:
    raw = b"MSH|^~\\&|HIS|G|K|R|2026||ADT^A01|77|P|2.3.1\rnonsense\r"
    ack = Message.read(answer(raw, never, authority))
    assert [ack["MSA-1"], ack["MSA-2"], ack["ERR-3.1"]] == ["AE", "77", "100"]


@given(st.binary(max_size=300))
def test_whatever_comes_in_gets_an_answer(raw: bytes) -> None:
    ack = Message.read(answer(raw, accept, HD("", "1.2.3", "ISO")))
    assert ack["MSA-1"] in {"AE", "AR"}


@pytest.mark.parametrize(("ignore", "code"), [(True, "AA"), (False, "AE")])
def test_a_deployment_may_ignore_foreign_patients(
    ignore: bool, code: str, adt: Adt, authority: HD
) -> None:
    raw = adt(PID_3=("1", "", "", ("", "1.2.3", "ISO")))
    ack = Message.read(answer(raw, never, authority, ignore_foreign=ignore))
    assert ack["MSA-1"] == code
    wrong = adt(PID_3=("1", "", "", ("", "1.2.3", "ISO")), PID_5="")
    assert Message.read(answer(wrong, never, authority, ignore_foreign=ignore))["MSA-1"] == "AE"
