"""Identifiers survive their encoding, and values match as PS3.4 C.2.2.2 says."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from io import BytesIO

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import dcmread
from sqlalchemy import Column, MetaData, Table, Text, create_engine, insert, select
from sqlalchemy.engine import Connection

from imaging_source.elements import Unreadable
from imaging_source.encoded import encode
from imaging_source.query_retrieve.identifier import read_identifier
from imaging_source.query_retrieve.keys import KEYS
from imaging_source.query_retrieve.matching import Kind, match
from imaging_source.query_retrieve.models import Level
from imaging_source.service import Refused

EXPLICIT, IMPLICIT = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2"
NAME, STUDY_UID, DESCRIPTION = 0x00100010, 0x0020000D, 0x00081030

VALUES = Table("value", MetaData(), Column("text", Text))


@pytest.fixture(scope="module")
def connection() -> Iterator[Connection]:
    engine = create_engine("sqlite://")
    VALUES.create(engine)
    with engine.connect() as opened:
        yield opened
    engine.dispose()


def matches(connection: Connection, kind: Kind, stored: str, *asked: str) -> bool:
    """Whether ``stored`` is found by ``asked``, as a query would find it."""
    with connection.begin_nested():
        connection.execute(VALUES.delete())
        connection.execute(insert(VALUES), {"text": stored})
        found = match(kind, VALUES.c.text, list(asked))
        if found is None:
            return True
        rows = connection.execute(select(VALUES.c.text).where(found.condition)).scalars()
        return any(found.test is None or found.test(row) for row in rows)


TEXTS = st.text(st.sampled_from("aAbé_%~^= *?.山"), max_size=8)


@given(stored=TEXTS.filter(lambda text: "*" not in text and "?" not in text))
def test_a_text_is_found_by_itself_and_by_its_beginning(
    connection: Connection, stored: str
) -> None:
    assert matches(connection, Kind.TEXT, stored, stored) or not stored
    assert matches(connection, Kind.TEXT, stored, f"{stored[:3]}*")
    assert matches(connection, Kind.TEXT, stored, "?" * len(stored)) or not stored


@given(stored=TEXTS, asked=TEXTS)
def test_a_pattern_finds_what_it_spells(connection: Connection, stored: str, asked: str) -> None:
    def spells(pattern: str, text: str) -> bool:
        if not pattern:
            return not text
        if pattern[0] == "*":
            return spells(pattern[1:], text) or bool(text and spells(pattern, text[1:]))
        return bool(text) and pattern[0] in ("?", text[0]) and spells(pattern[1:], text[1:])

    expected = spells(asked, stored)
    assert matches(connection, Kind.TEXT, stored, asked) == expected


@pytest.mark.parametrize("kind", [Kind.TEXT, Kind.NAME])
@pytest.mark.parametrize("asked", ["*a" * 30, "*a?" * 20, "a*" * 30 + "a", "*" * 300 + "a"])
def test_a_pattern_of_many_stars_is_answered_at_once(
    connection: Connection, kind: Kind, asked: str
) -> None:
    began = time.process_time()
    matches(connection, kind, "a" * 60 + "b", asked)
    assert time.process_time() - began < 1


@pytest.mark.parametrize(
    ("stored", "asked", "expected"),
    [
        ("080000", "08", True),
        ("08", "0800", True),
        ("08", "080000-0900", True),
        ("0759", "08-", False),
        ("093000.5", "-0930", True),
        ("0931", "-0930", False),
        ("", "-0930", False),
        ("12:30".replace(":", ""), "12:00-13:00", True),
    ],
)
def test_times_match_as_far_as_they_say(
    connection: Connection, stored: str, asked: str, expected: bool
) -> None:
    assert matches(connection, Kind.TIME, stored, asked) is expected


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (Kind.DATE, "2024"),
        (Kind.DATE, "-"),
        (Kind.DATE, "20240101-20240201-20240301"),
        (Kind.TIME, "late"),
        (Kind.NUMBER, "seven"),
        (Kind.NUMBER, "99999999999"),
    ],
)
def test_a_value_that_its_vr_does_not_allow_is_refused(kind: Kind, value: str) -> None:
    with pytest.raises(Refused) as caught:
        match(kind, VALUES.c.text, [value])
    assert caught.value.status == 0xA900


# What the oracle takes as it is: no delimiters, no more characters than the VR allows.
VALUE = st.text(
    st.characters(codec="utf-8", exclude_characters="\\=^", min_codepoint=32), max_size=64
).map(lambda text: "".join(char for char in text if char.isprintable()).strip())


@given(name=VALUE, description=VALUE, syntax=st.sampled_from([EXPLICIT, IMPLICIT]))
def test_elements_are_read_as_they_were_written(name: str, description: str, syntax: str) -> None:
    written = encode(
        {
            0x00080052: ("CS", "STUDY"),
            NAME: ("PN", name),
            STUDY_UID: ("UI", "1.2.3"),
            DESCRIPTION: ("LO", description),
        },
        syntax,
    )
    identifier = read_identifier(written, syntax, KEYS, Level.STUDY)
    assert identifier.level is Level.STUDY
    assert identifier.keys == {NAME: name, STUDY_UID: "1.2.3", DESCRIPTION: description}
    theirs = dcmread(BytesIO(written), force=True)
    assert str(theirs.PatientName) == name
    assert (theirs.StudyDescription or "") == description


@given(data=st.binary(max_size=200), syntax=st.sampled_from([EXPLICIT, IMPLICIT]))
def test_whatever_arrives_is_read_or_refused(data: bytes, syntax: str) -> None:
    with contextlib.suppress(Unreadable, Refused):
        read_identifier(data, syntax, KEYS, Level.PATIENT)
