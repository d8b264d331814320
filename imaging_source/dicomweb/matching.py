"""How a value matches a column (PS3.4 C.2.2.2): single values, wildcards, ranges, lists of UIDs.

Wildcards are GLOB on SQLite and LIKE on PostgreSQL: both compare case and let an index serve what
is known by its beginning.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from sqlalchemy import ColumnElement, and_

from imaging_source.dicomweb.attributes import Attribute, Match
from imaging_source.dicomweb.query import uids_of
from imaging_source.names import folded

# The last moment that a time of fewer digits stands for (PS3.4 C.2.2.2.5.2).
_LAST_MOMENT = "235959.999999"


class Matcher:
    """Conditions for one engine (``sqlite`` or ``postgresql``)."""

    def __init__(self, backend: str) -> None:
        self._wildcard = _glob if backend == "sqlite" else _like

    def condition(self, attribute: Attribute, value: str) -> ColumnElement[bool]:
        """Whether an attribute matches a value that ``query`` has accepted."""
        searched = attribute.column if attribute.searched is None else attribute.searched
        match attribute.match:
            case Match.NAME:
                return self.text(searched, _folded_pattern(value))
            case Match.UID:
                return searched.in_(uids_of(value))
            case Match.NUMBER:
                return searched == int(value)
            case Match.DATE:
                return _between(searched, value, _date, _date)
            case Match.TIME:
                return _between(searched, value, _time, _end_of_time)
        return self.text(searched, value.strip())

    def text(self, column: ColumnElement[Any], value: str) -> ColumnElement[bool]:
        """A single value or one with wildcards."""
        if "*" in value or "?" in value:
            return self._wildcard(column, value)
        return column == value


def _glob(column: ColumnElement[Any], pattern: str) -> ColumnElement[bool]:
    return column.op("GLOB", is_comparison=True)(pattern.replace("[", "[[]"))


def _like(column: ColumnElement[Any], pattern: str) -> ColumnElement[bool]:
    escaped = re.sub(r"([\\%_])", r"\\\1", pattern)
    return column.like(escaped.replace("*", "%").replace("?", "_"), escape="\\")


def _folded_pattern(value: str) -> str:
    """A name as it is compared; what stands around the wildcards is folded, they are kept."""
    if "*" in value or "?" in value:
        return "".join(
            part if part in ("*", "?") else _inner(part) for part in re.split(r"([*?])", value)
        )
    return folded(value)


def _inner(part: str) -> str:
    """A piece of a name, of which neither end is the end of the name."""
    return folded(f"{part}.")[:-1] if part else ""


def _between(
    column: ColumnElement[Any],
    value: str,
    low_end: Callable[[str], str],
    high_end: Callable[[str], str],
) -> ColumnElement[bool]:
    """A range with both ends in it, open where an end is empty; or one value as its own range.

    What is not known is in no range.
    """
    low, dash, high = (part.strip() for part in value.partition("-"))
    high = high if dash else low
    conditions = [column >= low_end(low) if low else column > ""]
    if high:
        conditions.append(column <= high_end(high))
    return and_(*conditions)


def _date(text: str) -> str:
    return text.replace(".", "")


def _time(text: str) -> str:
    return text.replace(":", "")


def _end_of_time(text: str) -> str:
    digits = _time(text)
    if "." in digits:
        return digits.ljust(len(_LAST_MOMENT), "9")
    return digits + _LAST_MOMENT[len(digits) :]
