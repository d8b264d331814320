"""The coding of values in stored queries (ITI TF-2 3.18.4.1.2.3.5), both ways.

A Value holds one literal or a list of literals in parentheses: strings in single quotes with
``''`` for a quote, numbers bare. A list may continue in further Values, each with its own
parentheses. What a literal must be for a given parameter is ``transactions.stored_query``'s.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

# rim:Value is a LongName (rim.xsd); longer lists go on in the next Value.
VALUE_LIMIT = 256

# One literal with the blanks around it. Possessive, so that hostile input cannot backtrack.
_LITERAL = re.compile(r"\s*+(?:'((?:[^']|'')*+)'|([0-9]++(?:\.[0-9]++)?))\s*+")

_EXPECTED = "expected 'text' in single quotes, or a number"


class BadCoding(ValueError):
    """A value that does not follow the coding rules: ``problem`` says what was expected."""

    def __init__(self, value: str, problem: str) -> None:
        super().__init__(problem)
        self.value = value
        self.problem = problem


def read_value(value: str) -> list[str]:
    """The literals of one Value, unquoted, at least one; raises BadCoding.

    Tolerated though not foreseen: one literal without parentheses where a list may stand,
    a list of one where it may not, and quotes around numbers. Whether several are allowed
    is for the caller to say.
    """
    text = value.strip()
    if not text.startswith("("):
        match = _LITERAL.fullmatch(text)
        if match is None:
            raise BadCoding(value, f"{_EXPECTED}, or a list of them in parentheses")
        return [_unquoted(match)]
    if not text.endswith(")"):
        raise BadCoding(value, "a list that opens with ( must close with ) in the same Value")
    return list(_members(text[1:-1]))


def _members(inner: str) -> Iterator[str]:
    """The literals between the parentheses of a list."""
    position = 0
    while True:
        match = _LITERAL.match(inner, position)
        if match is None:
            raise BadCoding(inner, f"{_EXPECTED} between the commas of a list")
        yield _unquoted(match)
        position = match.end()
        if position == len(inner):
            return
        if inner[position] != ",":
            raise BadCoding(inner, "expected a comma between the members of a list")
        position += 1


def _unquoted(match: re.Match[str]) -> str:
    quoted, number = match.groups()
    literal: str = number if quoted is None else quoted.replace("''", "'")
    if not literal:
        raise BadCoding(match[0], "the value is empty")
    return literal


def quote(text: str) -> str:
    """``text`` as a string literal."""
    escaped = text.replace("'", "''")
    return f"'{escaped}'"


def write_lists(literals: Iterable[str]) -> list[str]:
    """Literals already coded, as lists that fit the Values they go into."""
    values: list[str] = []
    current = ""
    for literal in literals:
        if current and len(current) + len(literal) + len("(,)") > VALUE_LIMIT:
            values.append(f"({current})")
            current = ""
        current = f"{current},{literal}" if current else literal
    return [*values, f"({current})"] if current else values
