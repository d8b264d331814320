"""What a CDA document says of a report, and its times in UTC."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hl7.demographics import Identifier
from manifest.cda import moment, read_cda, version_set
from manifest.model import ManifestError
from manifest.report import Form, Person
from tests.imaging_source.reports_kit import cda

PARIS = ZoneInfo("Europe/Paris")


def test_the_header_says_what_it_is_about() -> None:
    ids = '<id root="1.2.9" extension="X1"/><id nullFlavor="UNK"/><id root="1.2.3.4"/>'
    said = read_cda(cda(patient=ids, study="1.2.5", accession="A1", document="2.999.4"))
    assert (said.form, said.document_id) == (Form.STRUCTURED, "2.999.4")
    assert (said.study_instance_uid, said.accession_number) == ("1.2.5", "A1")
    assert said.patients == ((Identifier("X1", "1.2.9", ""),),)
    assert said.author == Person("801", "1.2.250.1.71.4.2.1", "Curie", "Marie")
    assert version_set(cda()) == "2.999.7"


def test_a_header_that_says_nothing_is_read() -> None:
    body = b"<component><structuredBody/></component>"
    said = read_cda(b'<ClinicalDocument xmlns="urn:hl7-org:v3">' + body + b"</ClinicalDocument>")
    assert said.patients == ((),)
    assert (said.title, said.created, said.author, said.document_id) == ("", "", Person(), "")


def test_an_extension_too_long_for_an_entry_is_not_taken_for_its_identifier() -> None:
    long = cda().replace(
        b'<id root="2.999.1"/>', b'<id root="2.999.1" extension="%s"/>' % (b"9" * 17)
    )
    assert read_cda(long).document_id == ""
    short = long.replace(b"9" * 17, b"9" * 16)
    assert read_cda(short).document_id == "2.999.1^" + "9" * 16


@pytest.mark.parametrize("data", [b"", b"<a/>", b"<ClinicalDocument/>", cda(body="<other/>")])
def test_what_is_no_report_is_refused(data: bytes) -> None:
    with pytest.raises(ManifestError):
        read_cda(data)


@pytest.mark.parametrize(
    ("value", "utc"),
    [
        ("20240115093000+0100", "20240115083000"),
        ("20240115093000", "20240115083000"),
        ("20240715093000", "20240715073000"),
        ("20240115093000.123-0500", "20240115143000"),
        ("202401150930", "202401150830"),
        ("2024011509+0530", "202401150330"),
        ("20240115", "20240115"),
        ("202401", ""),
        ("20240199", ""),
        ("yesterday", ""),
    ],
)
def test_a_time_is_in_utc_as_precise_as_it_is(value: str, utc: str) -> None:
    assert moment(value, PARIS) == utc


@given(
    st.datetimes(datetime(1900, 1, 1), datetime(2200, 1, 1)),
    st.integers(-12 * 60, 14 * 60),
)
def test_every_moment_is_the_same_moment(local: datetime, minutes: int) -> None:
    at = local.replace(microsecond=0, tzinfo=timezone(timedelta(minutes=minutes)))
    text = moment(f"{at:%Y%m%d%H%M%S%z}")
    assert datetime.strptime(text, "%Y%m%d%H%M%S").replace(tzinfo=UTC) == at


@given(st.text(max_size=40))
def test_whatever_a_time_is_it_is_read_or_not_known(text: str) -> None:
    assert moment(text) == "" or len(moment(text)) in (8, 12, 14)
