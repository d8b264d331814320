"""The statements behind the stored queries, one for each shape of request.

A shape is the set of criteria a request uses: the same shape is the same statement, built
once and then only given its values. Every value is a bound parameter.

A table is entered by patient, by entryUUID, or, where no patient is named, by a code; references
to an order or a study lead straight to the documents of a patient that hold them. The indexes
for the last two hold some attributes only, so the statement must name the attribute as a
constant, or neither engine would see that the index serves it.

A row of an answer is ``(entry_uuid, patient, survivor)``, with the object's ebRIM as a fourth
member where the answer is to hold whole objects.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from sqlalchemy import (
    Column,
    ColumnElement,
    Integer,
    Select,
    Table,
    bindparam,
    func,
    literal_column,
    or_,
    select,
    tuple_,
)

from metadata.datatypes import CX, DTM
from metadata.identifiers import ONLINE
from registry import schema
from registry.rows import OBJECT_TYPES, STATUSES, coded
from registry.schema import attribute_value, document_entry, folder, patient, submission_set
from storage.operators import among, matches
from storage.statement import Statement
from transactions.query_decoding import DecodedQuery

# A condition on the rows of one table, given the name of the parameter it compares with.
Condition = Callable[[str], ColumnElement[bool]]

# A comparison of a column with a list parameter, given its name.
Comparison = Callable[[ColumnElement[str], str], ColumnElement[bool]]

# Criteria by which a table can be entered: the attribute they are about, how it compares.
Entrances = Mapping[str, tuple[str, Comparison]]

# Shapes kept: the sixteen queries and the combinations of criteria that real clients use are a
# few dozen; one statement weighs some 10 KiB.
SHAPES = 512

# Criteria of one request: beyond it a statement would meet SQLite's limit of 1,000 levels of
# expression. The catalogue of queries names 21, of which three may be repeated.
MOST_CRITERIA = 100


def _equal(column: Column[str]) -> Condition:
    return lambda name: among(column, name)


def _from(column: Column[str]) -> Condition:
    """``from <= time``; an object without the time is not filtered (3.18.4.1.2.3.7.1)."""
    return lambda name: or_(column.is_(None), column >= bindparam(name))


def _to(column: Column[str]) -> Condition:
    """``time < to``; an object without the time is not filtered."""
    return lambda name: or_(column.is_(None), column < bindparam(name))


def _shown(level: Column[int]) -> Condition:
    """Shown at the $MetadataLevel asked for."""
    return lambda name: level <= bindparam(name, type_=Integer)


def _value(table: Table, attribute: str, comparison: Comparison) -> Condition:
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


def _available(name: str) -> ColumnElement[bool]:
    """The documentAvailability compares; only that of Offline documents is kept."""
    values = attribute_value.c
    kept = select(func.max(values.value)).where(
        values.patient == document_entry.c.patient,
        values.entry_uuid == document_entry.c.entry_uuid,
        values.attribute == schema.AVAILABILITY,
    )
    return among(func.coalesce(kept.correlate(document_entry).scalar_subquery(), ONLINE), name)


_DOCUMENT = document_entry.c
_DOCUMENT_CONDITIONS: Mapping[str, Condition] = {
    "status": _equal(_DOCUMENT.status),
    "document_status": _equal(_DOCUMENT.status),
    "metadata_level": _shown(_DOCUMENT.level),
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
    "document_availability": _available,
    "reference_id": _value(document_entry, schema.REFERENCE, among),
    "reference_id_list": _value(document_entry, schema.REFERENCE, matches),
}

_SET = submission_set.c
_SUBMISSION_SET_CONDITIONS: Mapping[str, Condition] = {
    "status": _equal(_SET.status),
    "submission_set_status": _equal(_SET.status),
    "source_id": _equal(_SET.source_id),
    "content_type": _equal(_SET.content_type_code),
    "submission_time_from": _from(_SET.submission_time),
    "submission_time_to": _to(_SET.submission_time),
    "author_person": _value(submission_set, schema.AUTHOR, matches),
}

_FOLDER = folder.c
_FOLDER_CONDITIONS: Mapping[str, Condition] = {
    "status": _equal(_FOLDER.status),
    "folder_status": _equal(_FOLDER.status),
    "metadata_level": _shown(_FOLDER.level),
    "code_list": _value(folder, schema.CODE, among),
    "last_update_time_from": _from(_FOLDER.last_update_time),
    "last_update_time_to": _to(_FOLDER.last_update_time),
}


def _current_folder(name: str) -> ColumnElement[bool]:
    """Shown, where no status is asked for: deprecated Folders belong to level 2."""
    deprecated = bindparam(name, type_=Integer) >= schema.HIDDEN
    return _shown(_FOLDER.level)(name) & or_(_FOLDER.status == schema.APPROVED, deprecated)


# Multi-valued attributes that lead to objects: those of one patient, and those of any.
_OF_PATIENT: Entrances = {
    "reference_id": (schema.REFERENCE, among),
    "reference_id_list": (schema.REFERENCE, matches),
}
_OF_ANY: Entrances = {
    "event_code_list": (schema.EVENT, among),
    "code_list": (schema.CODE, among),
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
    "document_status": _words(STATUSES),
    "submission_set_status": _words(STATUSES),
    "folder_status": _words(STATUSES),
    "type": _words(OBJECT_TYPES),
    "metadata_level": lambda texts: int(texts[0]),
    **dict.fromkeys(
        (
            f"{time}_{bound}"
            for time in (
                "creation_time",
                "service_start_time",
                "service_stop_time",
                "submission_time",
                "last_update_time",
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
    """A table as it is searched, under further conditions.

    Every statement raises TooManyCriteria.
    """

    table: Table
    conditions: Mapping[str, Condition]
    kind: str

    def of_patient(self, decoded: DecodedQuery, parameters: dict[str, Any]) -> Statement:
        """Objects of the whole merge chain of ``:patient`` that meet the query's criteria."""
        return _of_patient(self, self._shape(decoded, parameters), decoded.leaf_class)

    def across_patients(self, decoded: DecodedQuery, parameters: dict[str, Any]) -> Statement:
        """Objects of the patients asked for, or of any, that meet the query's criteria."""
        shape = self._shape(decoded, parameters)
        if patient_ids := decoded.texts("patient_id"):
            parameters["patients"] = normalised(patient_ids)
            return _of_patients(self, shape, decoded.leaf_class)
        return _of_any(self, shape, decoded.leaf_class)

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
            name = "reference_id" if key == "reference_id_list" and _exact(texts) else key
            yield name, number, read(texts)


def _exact(texts: Sequence[str]) -> bool:
    """Whether none is a pattern: such references are looked up, not compared one by one."""
    return not any("%" in text or "_" in text for text in texts)


def normalised(patient_ids: Sequence[str]) -> list[str]:
    """Patient identifiers in the form in which they are kept."""
    return [CX(patient_id).normalised() for patient_id in patient_ids]


DOCUMENTS = Search(document_entry, _DOCUMENT_CONDITIONS, schema.DOCUMENT)
SUBMISSION_SETS = Search(submission_set, _SUBMISSION_SET_CONDITIONS, schema.SUBMISSION_SET)
FOLDERS = Search(folder, _FOLDER_CONDITIONS, schema.FOLDER)
CURRENT_FOLDERS = Search(folder, {"metadata_level": _current_folder}, schema.FOLDER)


@lru_cache(SHAPES)
def _of_patient(search: Search, shape: Shape, leaf_class: bool) -> Statement:
    of_patient = patient.c.survivor == bindparam("patient")
    chain = attribute_value.c.patient.in_(select(patient.c.id).where(of_patient))
    return Statement(_entered(search, shape, leaf_class, _OF_PATIENT, chain).where(of_patient))


@lru_cache(SHAPES)
def _of_patients(search: Search, shape: Shape, leaf_class: bool) -> Statement:
    statement = _base(search, shape, leaf_class)
    return Statement(statement.where(among(patient.c.survivor, "patients")))


@lru_cache(SHAPES)
def _of_any(search: Search, shape: Shape, leaf_class: bool) -> Statement:
    return Statement(_entered(search, shape, leaf_class, _OF_ANY, schema.ACROSS_PATIENTS))


@lru_cache(SHAPES)
def _by_id(search: Search, shape: Shape, leaf_class: bool) -> Statement:
    columns = search.table.c
    statement = _base(search, shape, leaf_class)
    return Statement(
        statement.where(among(columns.patient, "patients"), among(columns.entry_uuid, "ids"))
    )


def _base(
    search: Search, shape: Shape, leaf_class: bool, *more: ColumnElement[bool]
) -> Select[Any]:
    columns = search.table.c
    selected = [columns.entry_uuid, columns.patient, patient.c.survivor]
    return (
        select(*selected, *([columns.ebrim] if leaf_class else []))
        .join_from(patient, search.table, columns.patient == patient.c.id)
        .where(*(search.conditions[key](name) for key, name in shape), *more)
        .limit(bindparam("limit"))
    )


def _entered(
    search: Search, shape: Shape, leaf_class: bool, entrances: Entrances, within: Any
) -> Select[Any]:
    """The same, where the first criterion that is one of ``entrances`` leads to the objects.

    Its values are looked up ``within`` part of their table. One criterion only: PostgreSQL
    would take too long to plan many (see ``_value``).
    """
    for key, name in shape:
        if key in entrances:
            attribute, comparison = entrances[key]
            values = attribute_value.c
            holders = select(values.patient, values.entry_uuid).where(
                values.attribute == literal_column(f"'{attribute}'"),
                comparison(values.value, name),
                within,
            )
            columns = search.table.c
            led = tuple_(columns.patient, columns.entry_uuid).in_(holders)
            rest = tuple(one for one in shape if one != (key, name))
            return _base(search, rest, leaf_class, led)
    return _base(search, shape, leaf_class)
