from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transactions.query_values import VALUE_LIMIT, BadCoding, quote, read_value, write_lists

tricky = st.text(
    st.sampled_from("'(),\"^% a1\n\té") | st.characters(exclude_categories=["Cs"]), min_size=1
)


@given(st.lists(tricky, min_size=1, max_size=20))
def test_strings_are_read_as_they_were_written(texts: list[str]) -> None:
    values = write_lists(map(quote, texts))
    assert [literal for value in values for literal in read_value(value)] == texts


@given(tricky)
def test_a_single_string_is_read_as_it_was_written(text: str) -> None:
    assert read_value(quote(text)) == [text]


@given(st.lists(st.text("ab'", max_size=60), min_size=1))
def test_a_value_is_not_longer_than_it_may_be(texts: list[str]) -> None:
    assert all(len(value) <= VALUE_LIMIT for value in write_lists(map(quote, texts)))


def test_three_hundred_uuids_go_into_many_values() -> None:
    uuids = [f"urn:uuid:00000000-0000-0000-0000-{number:012}" for number in range(300)]
    values = write_lists(map(quote, uuids))
    assert len(values) == 60
    assert [literal for value in values for literal in read_value(value)] == uuids


@pytest.mark.parametrize(
    ("value", "literals"),
    [
        ("'a'", ["a"]),
        ("20050102", ["20050102"]),
        ("2.5", ["2.5"]),
        ("  \n'a'\t", ["a"]),
        ("('a')", ["a"]),
        ("( 'a' ,\n'b' )", ["a", "b"]),
        ("('a',2,'c')", ["a", "2", "c"]),
        ("'it''s'", ["it's"]),
        ("'O''Brien''s'", ["O'Brien's"]),
        ("''''", ["'"]),
        ("('a,b','c)','(d')", ["a,b", "c)", "(d"]),
        ("' a '", [" a "]),
    ],
)
def test_the_coding_is_understood(value: str, literals: list[str]) -> None:
    assert read_value(value) == literals


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("", "single quotes"),
        ("abc", "single quotes"),
        ('"abc"', "single quotes"),
        ("'abc", "single quotes"),
        ("abc'", "single quotes"),
        ("'a'b'", "single quotes"),
        ("'a','b'", "list of them in parentheses"),
        ("-1", "single quotes"),
        ("()", "between the commas"),
        ("('a',)", "between the commas"),
        ("(,'a')", "between the commas"),
        ("('a' 'b')", "comma"),
        ("('a'", "must close"),
        ("('a','b',", "must close"),
        ("('a'),('b')", "comma"),
        ("''", "empty"),
        ("('a','')", "empty"),
    ],
)
def test_other_codings_are_refused(value: str, problem: str) -> None:
    with pytest.raises(BadCoding, match=problem) as caught:
        read_value(value)
    assert caught.value.problem == str(caught.value)


@pytest.mark.parametrize("value", ["'" * 100_001, "(" + "'a'x" * 50_000 + ")", "(" + " " * 100_000])
def test_hostile_values_are_refused_at_once(value: str) -> None:
    with pytest.raises(BadCoding):
        read_value(value)
