"""What an ADT message says of a person, in the form of DICOM."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hl7.demographics import Demographics, Identifier, read_demographics
from hl7.message import FieldValue, Message, build

HEADER: tuple[FieldValue, ...] = ("MSH", "ADT1", "HOSPITAL", "X", "Y", "20240101", "")


def message(event: str, *segments: tuple[FieldValue, ...]) -> Message:
    header = (*HEADER, ("ADT", event), "1", "P", "2.3.1")
    return Message.read(build([header, *segments]))


def read(event: str, *segments: tuple[FieldValue, ...]) -> Demographics:
    found = read_demographics(message(event, *segments))
    assert found is not None
    return found


def pid(*fields: FieldValue) -> tuple[FieldValue, ...]:
    return ("PID", "", "", *fields)


def test_an_update_states_every_identifier_and_the_person() -> None:
    identifiers: FieldValue = [("P1", "", "", ("", "1.2.3", "ISO")), ("L7", "", "", ("LOCAL",))]
    name = ("DURAND", "Anne", "Marie", "Jr", "Dr")
    found = read("A08", pid(identifiers, "", name, "", "19700203", "F"))
    assert found == Demographics(
        identifiers=(Identifier("P1", "1.2.3", ""), Identifier("L7", "", "LOCAL")),
        name="DURAND^Anne^Marie^Dr^Jr",
        birth_date="19700203",
        sex="F",
        source="HOSPITAL|ADT1",
    )


def test_a_merge_names_who_goes() -> None:
    here: FieldValue = ("P2", "", "", ("", "1.2.3", "ISO"))
    gone: FieldValue = ("P1", "", "", ("", "1.2.3", "ISO"))
    found = read("A40", pid(here, "", ("DURAND",)), ("MRG", gone))
    assert found.merged == (Identifier("P1", "1.2.3", ""),)


def test_what_is_absent_changes_nothing_and_what_is_deleted_is_not_known() -> None:
    absent = read("A08", pid("P1"))
    assert (absent.name, absent.birth_date, absent.sex) == (None, None, None)
    deleted = read("A08", pid("P1", "", '""', "", '""', '""'))
    assert (deleted.name, deleted.birth_date, deleted.sex) == ("", "", "")


@pytest.mark.parametrize(
    ("sex", "known"), [("M", "M"), ("f", "F"), ("O", "O"), ("U", ""), ("A", "")]
)
def test_a_sex_that_dicom_does_not_know_is_not_known(sex: str, known: str) -> None:
    assert read("A08", pid("P1", "", "X", "", "", sex)).sex == known


def test_a_birth_year_is_no_date() -> None:
    assert read("A08", pid("P1", "", "X", "", "1970")).birth_date is None


def test_control_characters_are_in_no_name_and_no_image_has_them_in_an_identifier() -> None:
    identifiers: FieldValue = ["P\x001", ("P2", "", "", ("", "1.2\x01", "ISO")), "P3"]
    found = read("A08", pid(identifiers, "", ("DU\0RAND", "An\nne")))
    assert found.identifiers == (Identifier("P3", "", ""),)
    assert found.name == "DURAND^Anne"


@pytest.mark.parametrize("event", ["A01", "A04", "A43", "A31"])
def test_other_events_correct_nothing(event: str) -> None:
    assert read_demographics(message(event, pid("P1", "", "X"))) is None


PART = st.text(st.characters(codec="utf-8", exclude_categories=["C"]), max_size=12)


@given(st.lists(PART, min_size=5, max_size=5))
def test_every_name_comes_out_as_it_went_in(parts: list[str]) -> None:
    family, given_name, middle, suffix, prefix = parts
    found = read("A08", pid("P1", "", (family, given_name, middle, suffix, prefix)))
    if not any(parts):
        assert found.name in (None, "")
    elif '""' not in parts and family != '""':
        expected = "^".join((family, given_name, middle, prefix, suffix)).rstrip("^")
        assert found.name == expected
