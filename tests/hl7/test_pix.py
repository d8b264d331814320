"""PIX queries as a consumer writes them, and the answers it may get."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hl7.message import FieldValue, Message, build
from hl7.pix import NoAnswer, PixQuery, read_answer, write_query

LOCAL, DOMAIN = "1.2.3", "1.2.9"
QUERY = PixQuery("L1", LOCAL, DOMAIN, "T1")


def answer(
    *identifiers: tuple[str, str], code: str = "AA", tag: str = "T1", error: str = ""
) -> Message:
    """An answer with identifiers and the OIDs of their domains."""
    segments: list[tuple[FieldValue, ...]] = [
        ("MSH", "PIX", "PIX", "K", "K", "20240101", "", ("RSP", "K23"), "9", "P", "2.5"),
        ("MSA", code, tag),
        ("QAK", tag, "OK" if identifiers else "NF"),
    ]
    if error:
        segments.append(("ERR", "", ("QPD", "1", "3", "1", "1"), error, "E"))
    if identifiers:
        repetitions: FieldValue = [(one, "", "", ("", oid, "ISO")) for one, oid in identifiers]
        segments.append(("PID", "", "", repetitions, "", ""))
    return Message.read(build(segments))


def test_a_query_names_the_patient_the_domain_and_itself() -> None:
    message = Message.read(write_query(QUERY, ("MPI", "REGION")))
    assert (message["MSH-9.1"], message["MSH-9.2"], message["MSH-9.3"]) == ("QBP", "Q23", "QBP_Q21")
    assert (message["MSH-5"], message["MSH-6"], message["MSH-10"]) == ("MPI", "REGION", "T1")
    assert (message["QPD-1"], message["QPD-2"]) == ("IHE PIX Query", "T1")
    assert message.field("QPD", 3) == "L1^^^&1.2.3&ISO"
    assert message.field("QPD", 4) == "^^^&1.2.9&ISO"
    assert message["RCP-1"] == "I"


def test_the_identifiers_of_the_domain_asked_for_are_the_answer() -> None:
    assert read_answer(answer(("A", "1.2.4"), ("D1", DOMAIN)), QUERY) == ("D1",)
    assert read_answer(answer(("D1", DOMAIN), ("D2", DOMAIN), ("D1", DOMAIN)), QUERY) == (
        "D1",
        "D2",
    )


def test_a_patient_without_identifier_there_and_one_who_is_not_known_have_none() -> None:
    assert read_answer(answer(), QUERY) == ()
    assert read_answer(answer(code="AE", error="204"), QUERY) == ()


@pytest.mark.parametrize(
    "other", [answer(code="AR"), answer(code="AE", error="207"), answer(("D1", DOMAIN), tag="T2")]
)
def test_what_is_no_answer_to_the_query_is_not_taken_for_one(other: Message) -> None:
    with pytest.raises(NoAnswer):
        read_answer(other, QUERY)


TEXT = st.text(st.characters(codec="utf-8", exclude_categories=["C"]), min_size=1, max_size=20)


@given(TEXT)
def test_any_identifier_is_asked_about_as_it_is(identifier: str) -> None:
    query = PixQuery.about(identifier, LOCAL, DOMAIN)
    message = Message.read(write_query(query, ("P", "P")))
    assert message["QPD-3.1"] == identifier
