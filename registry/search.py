"""The statements behind the stored queries, one for each shape of request.

A shape is the set of criteria a request uses: the same shape is the same statement, built
once and then only given its values. Every value is a bound parameter.

A row of an answer is ``(entry_uuid, patient, survivor)``, with the object's ebRIM as a fourth
member where the answer is to hold whole objects.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from sqlalchemy import Column, ColumnElement, Select, Table, bindparam, func, or_, select

from metadata.datatypes import DTM
from registry import schema
from registry.operators import among, matches
from registry.rows import OBJECT_TYPES, STATUSES, coded
from registry.schema import attribute_value, document_entry, folder, patient, submission_set
from registry.statement import Statement
from transactions.stored_query import DecodedQuery

# A condition on the rows of one table, given the name of the parameter it compares with.
Condition = Callable[[str], ColumnElement[bool]]

# Shapes kept: the six queries and the combinations of criteria that real clients use are a
# few dozen; one statement weighs some 10 KiB.
SHAPES = 512

# Criteria of one request: beyond it a statement would meet SQLite's limit of 1,000 levels of
# expression. The catalogue of queries names 18, of which three may be repeated.
MOST_CRITERIA = 100


def _equal(column: Column[str]) -> Condition:
    return lambda name: among(column, name)


def _from(column: Column[str]) -> Condition:
    """``from <= time``; an object without the time is not filtered (3.18.4.1.2.3.7.1)."""
    return lambda name: or_(column.is_(None), column >= bindparam(name))


def _to(column: Column[str]) -> Condition:
    """``time < to``; an object without the time is not filtered."""
    return lambda name: or_(column.is_(None), column < bindparam(name))


def _value(
    table: Table,
    attribute: str,
    comparison: Callable[[ColumnElement[str], str], ColumnElement[bool]],
) -> Condition:
    """Some value of a multi-valued attribute compares.

    Counted, though EXISTS would say it better: PostgreSQL turns each EXISTS into a join and
    takes minutes to plan some dozens of them; a count it looks up row by row, by the key.
    """

    def condition(name: str) -> ColumnElement[bool]:
        values = attribute_value.c
        found = select(func.count()).where(
            values.patient == table.c.patient,
            values.entry_uuid == table.c.entry_uuid,
            values.attribute == attribute,
            comparison(values.value, name),
        )
        return found.correlate(table).scalar_subquery() > 0

    return condition


_DOCUMENT = document_entry.c
_DOCUMENT_CONDITIONS: Mapping[str, Condition] = {
    "status": _equal(_DOCUMENT.status),
    "type": _equal(_DOCUMENT.object_type),
    "class_code": _equal(_DOCUMENT.class_code),
    "type_code": _equal(_DOCUMENT.type_code),
    "format_code": _equal(_DOCUMENT.format_code),
    "healthcare_facility_type_code": _equal(_DOCUMENT.healthcare_facility_type_code),
    "practice_setting_code": _equal(_DOCUMENT.practice_setting_code),
    "creation_time_from": _from(_DOCUMENT.creation_time),
    "creation_time_to": _to(_DOCUMENT.creation_time),
    "service_start_time_from": _from(_DOCUMENT.service_start_time),
    "service_start_time_to": _to(_DOCUMENT.service_start_time),
    "service_stop_time_from": _from(_DOCUMENT.service_stop_time),
    "service_stop_time_to": _to(_DOCUMENT.service_stop_time),
    "event_code_list": _value(document_entry, schema.EVENT, among),
    "confidentiality_code": _value(document_entry, schema.CONFIDENTIALITY, among),
    "author_person": _value(document_entry, schema.AUTHOR, matches),
    "reference_id_list": _value(document_entry, schema.REFERENCE, matches),
}

_SET = submission_set.c
_SUBMISSION_SET_CONDITIONS: Mapping[str, Condition] = {
    "status": _equal(_SET.status),
    "source_id": _equal(_SET.source_id),
    "content_type": _equal(_SET.content_type_code),
    "submission_time_from": _from(_SET.submission_time),
    "submission_time_to": _to(_SET.submission_time),
    "author_person": _value(submission_set, schema.AUTHOR, matches),
}


def _words(words: Mapping[str, str]) -> Callable[[Sequence[str]], list[str]]:
    """URIs as the words that stand in a column; those that mean nothing here match nothing."""
    return lambda uris: [words[uri] for uri in uris if uri in words]


def _padded(times: Sequence[str]) -> str:
    """The one time of a bound, as columns keep it."""
    return DTM(times[0]).padded()


# How columns spell the values of a criterion; any other is compared as it came.
_READINGS: Mapping[str, Callable[[Sequence[str]], Any]] = {
    "status": _words(STATUSES),
    "type": _words(OBJECT_TYPES),
    **dict.fromkeys(
        (
            f"{time}_{bound}"
            for time in (
                "creation_time",
                "service_start_time",
                "service_stop_time",
                "submission_time",
            )
            for bound in ("from", "to")
        ),
        _padded,
    ),
}

# The criteria of one request, as pairs of key and parameter name.
Shape = tuple[tuple[str, str], ...]


class TooManyCriteria(Exception):
    """A request repeats the parameter ``key`` so that it has ``count`` criteria in all."""

    def __init__(self, key: str, count: int) -> None:
        super().__init__(f"{count} criteria, at most {MOST_CRITERIA} are allowed")
        self.key = key
        self.count = count


@dataclass(frozen=True, slots=True, eq=False)
class Search:
    """A table as it is searched: by patient or by entryUUID, under further conditions.

    Both statements raise TooManyCriteria.
    """

    table: Table
    conditions: Mapping[str, Condition]

    def of_patient(self, decoded: DecodedQuery, parameters: dict[str, Any]) -> Statement:
        """Objects of the whole merge chain of ``:patient`` that meet the query's criteria."""
        return _of_patient(self, self._shape(decoded, parameters), decoded.leaf_class)

    def by_id(self, decoded: DecodedQuery, parameters: dict[str, Any]) -> Statement:
        """Objects among ``:ids`` of ``:patients`` that meet the query's criteria."""
        return _by_id(self, self._shape(decoded, parameters), decoded.leaf_class)

    def _shape(self, decoded: DecodedQuery, parameters: dict[str, Any]) -> Shape:
        """The criteria on this table; their values are added to ``parameters``."""
        shape = []
        for key, number, values in _criteria(decoded):
            if key in self.conditions:
                name = f"{key}_{number}"
                parameters[name] = values
                shape.append((key, name))
        if len(shape) > MOST_CRITERIA:
            raise TooManyCriteria(shape[-1][0], len(shape))
        return tuple(shape)


def _criteria(decoded: DecodedQuery) -> Iterator[tuple[str, int, Any]]:
    """Each criterion's key, its number among those to be met together, and its values."""
    for key, code_groups in decoded.code_criteria.items():
        for number, codes in enumerate(code_groups):
            yield key, number, [coded(code) for code in codes]
    for key, groups in decoded.text_criteria.items():
        read = _READINGS.get(key, list)
        for number, texts in enumerate(groups):
            yield key, number, read(texts)


DOCUMENTS = Search(document_entry, _DOCUMENT_CONDITIONS)
SUBMISSION_SETS = Search(submission_set, _SUBMISSION_SET_CONDITIONS)
FOLDERS = Search(folder, {})


@lru_cache(SHAPES)
def _of_patient(search: Search, shape: Shape, leaf_class: bool) -> Statement:
    statement = _base(search, shape, leaf_class)
    return Statement(statement.where(patient.c.survivor == bindparam("patient")))


@lru_cache(SHAPES)
def _by_id(search: Search, shape: Shape, leaf_class: bool) -> Statement:
    columns = search.table.c
    statement = _base(search, shape, leaf_class)
    return Statement(
        statement.where(among(columns.patient, "patients"), among(columns.entry_uuid, "ids"))
    )


def _base(search: Search, shape: Shape, leaf_class: bool) -> Select[Any]:
    columns = search.table.c
    selected = [columns.entry_uuid, columns.patient, patient.c.survivor]
    return (
        select(*selected, *([columns.ebrim] if leaf_class else []))
        .join_from(patient, search.table, columns.patient == patient.c.id)
        .where(*(search.conditions[key](name) for key, name in shape))
        .limit(bindparam("limit"))
    )
