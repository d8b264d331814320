"""List parameters and patterns mean the same on both engines."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Column, Connection, MetaData, Table, Text, create_engine, insert, select

from storage.database import Database
from storage.operators import among, glob, matches

# What XML can carry, rich in everything that LIKE, GLOB, JSON and SQL treat specially.
SPECIAL = st.sampled_from(list("%_*?[]^-\\'\"\n\t;,{}aA(é𝄞"))
TEXTS = st.text(
    SPECIAL | st.characters(min_codepoint=32, exclude_categories=("Cs", "Cc")), max_size=12
)
WORDS = Table("words", MetaData(), Column("word", Text))


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    with Database.open(database_url) as opened:
        yield opened


def expected(pattern: str) -> re.Pattern[str]:
    """The meaning of a pattern of ITI-18, as a regular expression."""
    pieces = {"%": ".*", "_": "."}
    return re.compile("".join(pieces.get(c) or re.escape(c) for c in pattern), re.DOTALL)


@given(st.lists(TEXTS, max_size=4), st.lists(TEXTS, max_size=4))
@settings(max_examples=150, deadline=None)
def test_sqlite_finds_exactly_the_listed_and_the_matching_texts(
    words: list[str], sought: list[str]
) -> None:
    with create_engine("sqlite://").connect() as connection:
        WORDS.create(connection)
        if words:
            connection.execute(insert(WORDS), [{"word": word} for word in words])
        _check(connection, words, sought)


def _check(connection: Connection, words: list[str], sought: list[str]) -> None:
    listed = select(WORDS.c.word).where(among(WORDS.c.word, "sought"))
    found = connection.execute(listed, {"sought": sought}).scalars().all()
    assert sorted(found) == sorted(word for word in words if word in sought)
    patterned = select(WORDS.c.word).where(matches(WORDS.c.word, "sought"))
    found = connection.execute(patterned, {"sought": sought}).scalars().all()
    patterns = [expected(pattern) for pattern in sought]
    assert sorted(found) == sorted(
        word for word in words if any(pattern.fullmatch(word) for pattern in patterns)
    )


def _with_words(database: Database, words: list[str], check: Callable[[Connection], None]) -> None:
    """Run ``check`` on a table of ``words``."""

    def work(connection: Connection) -> None:
        WORDS.create(connection)
        connection.execute(insert(WORDS), [{"word": word} for word in words])
        check(connection)
        WORDS.drop(connection)

    database.write(work)


def test_both_engines_agree_on_hard_cases(database: Database) -> None:
    words = ["Welby", "welby", "WELBY", "50% of_all", "a*b", "a?b", "a[b]c", "back\\slash", "é", ""]
    sought = ["%elby", "W____", "50% of\\_all", "a*b", "a?b", "a[b]c", "back\\slash", "_", "%%%"]

    def check(connection: Connection) -> None:
        for pattern in sought:
            _check(connection, words, [pattern])
        _check(connection, words, sought)
        _check(connection, words, [])

    _with_words(database, words, check)


def test_a_list_has_no_limit_of_parameters(database: Database) -> None:
    many = [f"word {number}" for number in range(70_000)]

    def check(connection: Connection) -> None:
        statement = select(WORDS.c.word).where(among(WORDS.c.word, "sought"))
        assert connection.execute(statement, {"sought": many}).scalars().all() == [many[-1]]

    _with_words(database, [many[-1], "another"], check)


def test_a_pattern_of_many_wildcards_takes_no_time(database: Database) -> None:
    """A matcher that backtracks would need longer than the test suite's time limit."""

    def check(connection: Connection) -> None:
        statement = select(WORDS.c.word).where(matches(WORDS.c.word, "sought"))
        found = connection.execute(statement, {"sought": ["%a" * 120 + "b"]})
        assert found.scalars().all() == []

    _with_words(database, ["a" * 256], check)


def test_globs_own_wildcards_are_taken_literally() -> None:
    assert glob("a*b?[c]%_") == "a[*]b[?][[]c]*?"
