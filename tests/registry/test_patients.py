"""ITI-8 on the registry: registrations, merges, redeliveries."""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select

from hl7.adt import IdentityFeed
from metadata.datatypes import CX
from registry.schema import identity_message, patient, patient_merge


def state(house: Any) -> tuple[list[Any], list[Any]]:
    """Every patient and every merge."""
    with house.database.read() as connection:
        patients = sorted(connection.execute(select(patient)).all())
        merges = sorted(connection.execute(select(patient_merge)).all())
    return patients, merges


@pytest.mark.parametrize("event", ["A01", "A04", "A05"])
def test_an_admission_makes_an_identifier_usable(house: Any, event: str) -> None:
    assert not house.patients.known(house.cx("new"))
    assert house.feed(event, "new").ack_code == "AA"
    assert house.patients.known(house.cx("new"))


def test_an_admission_again_is_accepted_and_changes_nothing(house: Any) -> None:
    before = state(house)
    assert house.feed("A04", "P1").ack_code == "AA"
    assert state(house) == before


def test_every_identifier_of_the_domain_becomes_usable(house: Any) -> None:
    feed = IdentityFeed("A01", (house.cx("x"), house.cx("y")), None, "s", "1", "d")
    assert house.patients.apply(feed).ack_code == "AA"
    assert house.patients.known(house.cx("x"))
    assert house.patients.known(house.cx("y"))


def test_an_update_has_no_effect(house: Any) -> None:
    before = state(house)
    assert house.feed("A08", "unheard of").ack_code == "AA"
    assert state(house) == before


def test_an_identifier_of_another_domain_is_refused(house: Any) -> None:
    before = state(house)
    feed = IdentityFeed("A01", (CX("P9^^^&1.9.9&ISO"),), None, "s", "1", "d")
    assert house.patients.apply(feed).ack_code == "AE"
    assert state(house) == before


@pytest.mark.parametrize("value", ["y" * 300, "y\0", "y\x01z"], ids=["long", "nul", "control"])
@pytest.mark.parametrize("field", ["identifier", "control_id"])
def test_what_cannot_be_kept_is_refused_for_good(house: Any, field: str, value: str) -> None:
    before = state(house)
    given = {"identifier": "x", field: value}
    outcome = house.feed("A01", **given)
    assert (outcome.ack_code, outcome.error_code) == ("AE", "102")
    assert state(house) == before


def test_a_merge_is_recorded_with_its_message(house: Any, clock: Any) -> None:
    assert house.feed("A40", "P2", subsumed="P1", control_id="M1").ack_code == "AA"
    _, [merge] = state(house)
    assert merge.subsumed == house.cx("P1")
    assert merge.surviving == house.cx("P2")
    assert merge.control_id == "M1"
    assert merge.merged_at == f"{clock.now:%Y%m%d%H%M%S}"
    assert not house.patients.known(house.cx("P1"))
    assert house.patients.known(house.cx("P2"))


def test_a_chain_of_merges_resolves_in_one_step(house: Any) -> None:
    house.feed("A01", "P3")
    house.feed("A40", "P2", subsumed="P1")
    house.feed("A40", "P3", subsumed="P2")
    patients, _ = state(house)
    assert {row.survivor for row in patients} == {house.cx("P3")}


ILLEGAL = {
    "subsumed unknown": ("P2", "nobody"),
    "surviving unknown": ("nobody", "P1"),
    "both the same": ("P1", "P1"),
    "subsumed before": ("P1", "gone"),
    "surviving subsumed before": ("gone", "P1"),
}


@pytest.mark.parametrize(("surviving", "subsumed"), ILLEGAL.values(), ids=ILLEGAL)
def test_an_illegal_merge_is_refused_without_a_trace(
    house: Any, surviving: str, subsumed: str
) -> None:
    house.feed("A01", "gone")
    house.feed("A40", "P2", subsumed="gone")
    before = state(house)
    outcome = house.feed("A40", surviving, subsumed=subsumed)
    assert outcome.ack_code == "AE"
    assert outcome.error_code in ("204", "205")
    assert outcome.text
    assert state(house) == before


@pytest.mark.parametrize("foreign", ["surviving", "subsumed", "none"])
def test_a_merge_outside_the_domain_is_refused(house: Any, foreign: str) -> None:
    before = state(house)
    outside = CX("P1^^^&1.9.9&ISO")
    surviving = outside if foreign == "surviving" else house.cx("P2")
    subsumed = {"subsumed": outside, "none": None}.get(foreign, house.cx("P1"))
    feed = IdentityFeed("A40", (surviving,), subsumed, "s", "1", "d")
    assert house.patients.apply(feed).ack_code == "AE"
    assert state(house) == before


def test_a_merge_of_several_survivors_is_refused(house: Any) -> None:
    house.feed("A01", "P3")
    feed = IdentityFeed("A40", (house.cx("P2"), house.cx("P3")), house.cx("P1"), "s", "1", "d")
    assert house.patients.apply(feed).ack_code == "AE"


def test_a_subsumed_identifier_does_not_come_back(house: Any) -> None:
    house.feed("A40", "P2", subsumed="P1")
    before = state(house)
    assert house.feed("A01", "P1").ack_code == "AE"
    assert state(house) == before


# --- Redelivery ------------------------------------------------------------------------------


def test_a_redelivery_gets_the_first_answer_and_has_no_second_effect(house: Any) -> None:
    message = {"control_id": "M1", "digest": "same"}
    first = house.feed("A40", "P2", subsumed="P1", **message)
    before = state(house)
    again = house.feed("A40", "P2", subsumed="P1", **message)
    assert (first.ack_code, again) == ("AA", first)
    assert state(house) == before


def test_the_redelivery_of_a_refused_message_is_refused_again(house: Any) -> None:
    message = {"control_id": "M1", "digest": "same"}
    first = house.feed("A40", "P3", subsumed="P1", **message)
    house.feed("A01", "P3")
    assert house.feed("A40", "P3", subsumed="P1", **message) == first
    assert first.ack_code == "AE"


def test_a_used_control_id_with_other_bytes_is_a_new_message_and_an_alarm(
    house: Any, caplog: pytest.LogCaptureFixture
) -> None:
    house.feed("A01", "one", control_id="M1", digest="a")
    with caplog.at_level(logging.WARNING):
        assert house.feed("A01", "two", control_id="M1", digest="b").ack_code == "AA"
    assert house.patients.known(house.cx("two"))
    [record] = caplog.records
    text = f"{record.getMessage()} {vars(record)}"
    assert "control id" in record.getMessage()
    assert "two" not in text
    assert house.cx("two") not in text


def test_the_same_control_id_of_another_sender_is_another_message(
    house: Any, caplog: pytest.LogCaptureFixture
) -> None:
    for sender in ("A|A", "B|B"):
        feed = IdentityFeed("A01", (house.cx(sender),), None, sender, "M1", sender)
        assert house.patients.apply(feed).ack_code == "AA"
    assert not caplog.records


def test_old_messages_can_be_forgotten(house: Any, clock: Any) -> None:
    forgotten = house.patients.forget_messages(clock.now + timedelta(days=1))
    assert forgotten == 2  # the admissions of P1 and P2
    house.feed("A01", "P3")
    assert house.patients.forget_messages(clock.now) == 0
    with house.database.read() as connection:
        assert len(connection.execute(select(identity_message)).all()) == 1
