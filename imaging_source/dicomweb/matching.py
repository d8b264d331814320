"""How a value matches a column (PS3.4 C.2.2.2): single values, wildcards, ranges, lists of UIDs.

A value becomes an operator and parameters; the operator alone shapes the statement, which is
therefore made once for all values. Wildcards are GLOB on SQLite and LIKE on PostgreSQL: both
compare case and let an index serve what is known by its beginning.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from enum import Enum, auto
from typing import Any

from sqlalchemy import ColumnElement, bindparam

from imaging_source.dicomweb.attributes import BY_TAG, Match
from imaging_source.dicomweb.query import uids_of
from imaging_source.names import folded
from storage.operators import among

# The last moment that a time of fewer digits stands for (PS3.4 C.2.2.2.5.2).
_LAST_MOMENT = "235959.999999"


class Operator(Enum):
    """How a column and parameters are compared."""

    EQUAL = auto()
    GLOB = auto()
    LIKE = auto()
    ONE_OF = auto()
    BETWEEN = auto()
    FROM = auto()
    UNTIL = auto()


Comparison = tuple[Operator, dict[str, Any]]


def comparison(path: str, value: str, backend: str) -> Comparison:
    """The operator for a value that ``query`` has accepted, and its parameters by name."""
    attribute = BY_TAG.get(path)
    match attribute.match if attribute else Match.TEXT:
        case Match.NAME:
            return _text(path, _folded_pattern(value), backend)
        case Match.UID:
            return Operator.ONE_OF, {_name(path): uids_of(value)}
        case Match.NUMBER:
            return Operator.EQUAL, {_name(path): int(value)}
        case Match.DATE:
            return _between(path, value, _date, _date)
        case Match.TIME:
            return _between(path, value, _time, _end_of_time)
    return _text(path, value.strip(), backend)


def condition(column: ColumnElement[Any], operator: Operator, path: str) -> ColumnElement[bool]:
    """The comparison in SQL; what is not known is in no range."""
    value: ColumnElement[Any] = bindparam(_name(path))
    match operator:
        case Operator.EQUAL:
            return column == value
        case Operator.GLOB:
            return column.op("GLOB", is_comparison=True)(value)
        case Operator.LIKE:
            return column.like(value, escape="\\")
        case Operator.ONE_OF:
            return among(column, _name(path))
        case Operator.BETWEEN:
            return (column >= value) & (column <= bindparam(_end(path)))
        case Operator.FROM:
            return column >= value
        case Operator.UNTIL:
            return (column > "") & (column <= bindparam(_end(path)))


def _name(path: str) -> str:
    """The name of the parameter that a value, or the beginning of a range, is."""
    return path.replace(".", "_")


def _end(path: str) -> str:
    """The name of that which the end of a range is."""
    return f"{_name(path)}_end"


def _text(path: str, value: str, backend: str) -> Comparison:
    """A single value or one with wildcards."""
    if "*" not in value and "?" not in value:
        return Operator.EQUAL, {_name(path): value}
    if backend == "sqlite":
        return Operator.GLOB, {_name(path): value.replace("[", "[[]")}
    escaped = re.sub(r"([\\%_])", r"\\\1", value)
    return Operator.LIKE, {_name(path): escaped.replace("*", "%").replace("?", "_")}


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
    path: str, value: str, low_end: Callable[[str], str], high_end: Callable[[str], str]
) -> Comparison:
    """A range with both ends in it, open where an end is empty; or one value as its own range."""
    low, dash, high = (part.strip() for part in value.partition("-"))
    high = high if dash else low
    if not high:
        return Operator.FROM, {_name(path): low_end(low)}
    end = {_end(path): high_end(high)}
    return (Operator.BETWEEN, {_name(path): low_end(low), **end}) if low else (Operator.UNTIL, end)


def _date(text: str) -> str:
    return text.replace(".", "")


def _time(text: str) -> str:
    return text.replace(":", "")


def _end_of_time(text: str) -> str:
    digits = _time(text)
    if "." in digits:
        return digits.ljust(len(_LAST_MOMENT), "9")
    return digits + _LAST_MOMENT[len(digits) :]
