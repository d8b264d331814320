"""How a key's value selects (PS3.4 C.2.2.2): a condition for the database, a test for the rest.

The condition may let too much through where engines differ (case, letters beyond ASCII); then
``Match.test`` says what really matches. Single values, lists of UIDs, wildcards and ranges are
covered; names match without regard to case, each of their groups by itself.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any

from sqlalchemy import ColumnElement, and_, func, or_

from imaging_source.service import NOT_OF_THE_CLASS, Refused

# UIDs of one list; SQLite takes 32,766 values in a statement.
_LIST_LIMIT = 10_000

_DATE = re.compile(r"[0-9]{8}")
_TIME = re.compile(r"[0-9]{2}(?:[0-9]{2}(?:[0-9]{2}(?:\.[0-9]{1,6})?)?)?")
_NUMBER = re.compile(r"[+-]?[0-9]{1,9}")
_FULL_HOURS = re.compile(r"(?<=..)(00)+$")
# The last moment that a time of fewer digits stands for: made of digits, for what is none may
# come before them where a database sorts by a language.
_LAST_MOMENT = "235959.999999"
_LIKE_SPECIAL = re.compile(r"[%_~]")


class Kind(Enum):
    """How the values of an attribute match."""

    UID = "uid"
    TEXT = "text"
    NAME = "name"
    DATE = "date"
    TIME = "time"
    NUMBER = "number"
    RETURNED = "returned"
    """Only told, never matched: an optional key (PS3.4 C.2.2.1.3)."""


@dataclass(frozen=True, slots=True)
class Match:
    """The rows where ``condition`` holds and ``test``, if there is one, accepts the value."""

    condition: ColumnElement[bool]
    test: Callable[[str], bool] | None = None


def match(kind: Kind, column: ColumnElement[Any], values: list[str]) -> Match | None:
    """What selects by ``values``; None where everything matches (universal matching).

    Raises Refused for a value that its VR does not allow.
    """
    if not values or kind is Kind.RETURNED or (kind is not Kind.UID and set(values) == {"*"}):
        return None
    if kind is Kind.UID:
        if len(values) > _LIST_LIMIT:
            raise Refused(NOT_OF_THE_CLASS, f"a list has {len(values)} UIDs")
        return Match(column.in_(values))
    if kind in (Kind.DATE, Kind.TIME):
        return Match(and_(*_range(kind, column, values[0])))
    if kind is Kind.NUMBER:
        if not _NUMBER.fullmatch(values[0]):
            raise Refused(NOT_OF_THE_CLASS, f"{values[0][:12]!r} is no integer")
        return Match(column == int(values[0]))
    return _name(column, values[0]) if kind is Kind.NAME else _text(column, values)


def _range(kind: Kind, column: ColumnElement[Any], value: str) -> list[ColumnElement[bool]]:
    """The bounds that ``value`` sets; what has no date is in no range."""
    first, dash, last = (part.strip() for part in value.replace(":", "").partition("-"))
    if not dash:
        last = first
    form = _DATE if kind is Kind.DATE else _TIME
    if not (first or last) or any(not form.fullmatch(part) for part in (first, last) if part):
        raise Refused(NOT_OF_THE_CLASS, f"{value[:24]!r} is no {kind.value} or range of them")
    if kind is Kind.TIME:  # 08:00 includes what says only 08, and up to 09:30 is 09:30:59
        first, last = _FULL_HOURS.sub("", first), last and _end_of_time(last)
    bounds = [column != ""]
    bounds += [column >= first] if first else []
    bounds += [column <= last] if last else []
    return bounds


def _end_of_time(text: str) -> str:
    if "." in text:
        return text.ljust(len(_LAST_MOMENT), "9")
    return text + _LAST_MOMENT[len(text) :]


def _text(column: ColumnElement[Any], values: list[str]) -> Match:
    """One of ``values``, each a pattern; in upper and lower case as it is written."""
    if not any(_is_pattern(value) for value in values):
        return Match(column.in_(values))
    patterns = [_pattern(value) for value in values]
    condition = or_(*(column.like(_like(value), escape="~") for value in values))
    return Match(condition, lambda text: any(one.fullmatch(text) for one in patterns))


def _name(column: ColumnElement[Any], value: str) -> Match:
    """A name, without regard to case; the empty components at its end do not count."""
    wanted = _pattern(value.rstrip("^").casefold())
    begins = _like(re.sub(r"[^\0-\x7f]+", "*", value.rstrip("^").lower()))
    folded = func.lower(column)
    condition: ColumnElement[bool] = folded.like(f"{begins}%", escape="~")
    if not value.isascii():  # then it may stand in the ideographic or phonetic group
        condition = or_(condition, folded.like(f"%={begins}%", escape="~"))

    def test(text: str) -> bool:
        groups = (group.strip(" ").rstrip("^") for group in text.casefold().split("="))
        return any(wanted.fullmatch(group) for group in groups)

    return Match(condition, test)


def _is_pattern(value: str) -> bool:
    return "*" in value or "?" in value


def _pattern(value: str) -> re.Pattern[str]:
    """``*`` and ``?`` as an expression that tries nothing twice.

    What stands between two stars is taken where it comes first, for good: no later place could
    match more. Left to itself the engine would try every place with every other.
    """
    first, *others = (
        "".join("." if char == "?" else re.escape(char) for char in piece)
        for piece in value.split("*")
    )
    inner = "".join(f"(?>.*?{piece})" for piece in others[:-1])
    return re.compile(first + inner + (f".*{others[-1]}" if others else ""), re.DOTALL)


def _like(value: str) -> str:
    escaped = _LIKE_SPECIAL.sub(lambda found: f"~{found[0]}", value)
    return escaped.replace("*", "%").replace("?", "_")
