"""QIDO-RS: one statement for the hits, one for what is counted of them (PS3.18 10.6; RAD-129).

Only what is shown is found: a study or series all of whose instances were rejected is not there.
Studies are listed the latest first; series and instances by their numbers within a scope, by UID
without one. The order is total, so pages neither overlap nor leave anything out.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, RowMapping, Select, func, select

from imaging_source.dicomweb.attributes import (
    ATTRIBUTES,
    BY_TAG,
    MODALITIES_IN_STUDY,
    REQUESTS,
)
from imaging_source.dicomweb.matching import Matcher
from imaging_source.dicomweb.paths import Level, Search
from imaging_source.dicomweb.query import Query
from imaging_source.parts import SHOWN
from imaging_source.schema import (
    DESCRIPTION,
    INSTANCE,
    SERIES,
    SERIES_REQUEST,
    SERIES_STEP,
    STUDY,
    STUDY_NAME,
)

DEPTH = {Level.STUDY: 0, Level.SERIES: 1, Level.INSTANCE: 2}

# A key among these, matched as one value, finds few rows by an index.
_SELECTIVE = frozenset({"0020000D", "0020000E", "00080018", "00100020", "00080050", "00200010"})

_SHOWN_OF_STUDY = (
    select(INSTANCE.c.sop_instance_uid)
    .where(INSTANCE.c.study_instance_uid == STUDY.c.study_instance_uid, SHOWN)
    .exists()
)
_SHOWN_OF_SERIES = (
    select(INSTANCE.c.sop_instance_uid)
    .where(
        INSTANCE.c.study_instance_uid == SERIES.c.study_instance_uid,
        INSTANCE.c.series_instance_uid == SERIES.c.series_instance_uid,
        SHOWN,
    )
    .exists()
)


def is_selective(search: Search, query: Query) -> bool:
    """Whether the answer is short whatever is stored: it may be made in the event loop."""
    wild = any(character in query.keys.get(tag, "") for tag in _SELECTIVE for character in "*?,\\")
    return not wild and (search.scope.study is not None or not _SELECTIVE.isdisjoint(query.keys))


def find(
    connection: Connection, search: Search, query: Query, matcher: Matcher, most: int
) -> Sequence[RowMapping]:
    """Up to ``most`` hits, in order, from the offset on."""
    statement = _statement(search, query, matcher)
    return connection.execute(statement.offset(query.offset).limit(most)).mappings().all()


def figures(connection: Connection, studies: Iterable[str]) -> dict[str, dict[str, Any]]:
    """By study: how many instances each of its series shows, and the modality of each."""
    statement = (
        select(
            INSTANCE.c.study_instance_uid,
            INSTANCE.c.series_instance_uid,
            SERIES.c.modality,
            func.count().label("count"),
        )
        .join(SERIES, SERIES.c.series_instance_uid == INSTANCE.c.series_instance_uid)
        .where(INSTANCE.c.study_instance_uid.in_(list(studies)), SHOWN)
        .group_by(INSTANCE.c.study_instance_uid, INSTANCE.c.series_instance_uid, SERIES.c.modality)
    )
    found: dict[str, dict[str, Any]] = {}
    for study, series, modality, count in connection.execute(statement):
        known = found.setdefault(study, {"modalities": set(), "series": {}})
        known["series"][series] = count
        known["modalities"] |= {modality} - {""}
    return found


def requests(connection: Connection, series: Iterable[str]) -> dict[str, list[RowMapping]]:
    """By series: what it was requested by."""
    statement = (
        select(SERIES_REQUEST)
        .where(SERIES_REQUEST.c.series_instance_uid.in_(list(series)))
        .order_by(SERIES_REQUEST.c.series_instance_uid, SERIES_REQUEST.c.number)
    )
    found: dict[str, list[RowMapping]] = {}
    for row in connection.execute(statement).mappings():
        found.setdefault(row["series_instance_uid"], []).append(row)
    return found


def _statement(search: Search, query: Query, matcher: Matcher) -> Select[Any]:
    columns = [
        attribute.column.label(attribute.tag)
        for attribute in ATTRIBUTES
        if DEPTH[attribute.level] <= DEPTH[search.level]
    ]
    statement = select(*columns, *_described(search, query)).select_from(_tables(search, query))
    statement = statement.where(*_scoped(search), *_matched(search, query, matcher))
    return statement.order_by(*_order(search))


def _tables(search: Search, query: Query) -> Any:
    """The tables of a level, joined by their keys."""
    same_study = STUDY.c.study_instance_uid == SERIES.c.study_instance_uid
    same_step = SERIES_STEP.c.series_instance_uid == SERIES.c.series_instance_uid
    if search.level is Level.STUDY:
        tables: Any = STUDY
    elif search.level is Level.SERIES:
        tables = SERIES.join(STUDY, same_study).outerjoin(SERIES_STEP, same_step)
    else:
        same_series = SERIES.c.series_instance_uid == INSTANCE.c.series_instance_uid
        same_instance = DESCRIPTION.c.sop_instance_uid == INSTANCE.c.sop_instance_uid
        tables = INSTANCE.join(SERIES, same_series).join(STUDY, same_study)
        tables = tables.outerjoin(SERIES_STEP, same_step).outerjoin(DESCRIPTION, same_instance)
    if any(_by_name(path) for path in query.keys):
        same_name = STUDY_NAME.c.study_instance_uid == STUDY.c.study_instance_uid
        tables = tables.join(STUDY_NAME, same_name)
    return tables


def _by_name(path: str) -> bool:
    return path in BY_TAG and BY_TAG[path].searched is not None


def needs_description(search: Search, query: Query) -> bool:
    """Whether more is asked for than the columns of the index have."""
    return query.includes_all or not query.included <= BY_TAG.keys() | _COUNTED


_COUNTED = {MODALITIES_IN_STUDY, "00400275"}


def _described(search: Search, query: Query) -> list[ColumnElement[Any]]:
    """The description of the instance, or of the first one of the study or series."""
    if not needs_description(search, query):
        return []
    if search.level is Level.INSTANCE:
        return [DESCRIPTION.c.attributes.label("attributes")]
    instance, table = INSTANCE.alias(), DESCRIPTION.alias()
    same = table.c.sop_instance_uid == instance.c.sop_instance_uid
    of_study = instance.c.study_instance_uid == STUDY.c.study_instance_uid
    first = select(table.c.attributes).join(instance, same)
    first = first.where(of_study, instance.c.rejection.is_(None))
    if search.level is Level.SERIES:
        first = first.where(instance.c.series_instance_uid == SERIES.c.series_instance_uid)
    return [first.limit(1).scalar_subquery().label("attributes")]


def _scoped(search: Search) -> list[ColumnElement[bool]]:
    """What lies in the scope and is shown."""
    of = {Level.STUDY: STUDY, Level.SERIES: SERIES, Level.INSTANCE: INSTANCE}[search.level]
    shown = {
        Level.STUDY: _SHOWN_OF_STUDY,
        Level.SERIES: _SHOWN_OF_SERIES,
        Level.INSTANCE: SHOWN,
    }
    found: list[ColumnElement[bool]] = [shown[search.level]]
    if search.scope.study is not None:
        found.append(of.c.study_instance_uid == search.scope.study)
    if search.scope.series is not None:
        found.append(of.c.series_instance_uid == search.scope.series)
    return found


def _matched(search: Search, query: Query, matcher: Matcher) -> list[ColumnElement[bool]]:
    return [
        condition
        for path, value in query.keys.items()
        for condition in _condition(path, value, search, matcher)
    ]


def _condition(
    path: str, value: str, search: Search, matcher: Matcher
) -> list[ColumnElement[bool]]:
    """What a key asks of the rows of a level.

    A key of a level below the one listed asks that there is one such series or instance.
    """
    if path == MODALITIES_IN_STUDY:
        return [_some_series(matcher.text(SERIES.c.modality, value))]
    if path in REQUESTS:
        request = select(SERIES_REQUEST.c.number).where(
            SERIES_REQUEST.c.series_instance_uid == SERIES.c.series_instance_uid,
            matcher.text(REQUESTS[path], value),
        )
        return _at(Level.SERIES, request.exists(), search)
    attribute = BY_TAG[path]
    return _at(attribute.level, matcher.condition(attribute, value), search)


def _at(level: Level, condition: ColumnElement[bool], search: Search) -> list[ColumnElement[bool]]:
    if DEPTH[level] <= DEPTH[search.level]:
        return [condition]
    if level is Level.SERIES:
        return [_some_series(condition)]
    return [_some_instance(condition, search)]


def _some_series(condition: ColumnElement[bool]) -> ColumnElement[bool]:
    """A series of the study that shows something and meets the condition."""
    step = SERIES_STEP.c.series_instance_uid == SERIES.c.series_instance_uid
    return (
        select(SERIES.c.series_instance_uid)
        .select_from(SERIES.outerjoin(SERIES_STEP, step))
        .where(
            SERIES.c.study_instance_uid == STUDY.c.study_instance_uid, _SHOWN_OF_SERIES, condition
        )
        .correlate(STUDY)
        .exists()
    )


def _some_instance(condition: ColumnElement[bool], search: Search) -> ColumnElement[bool]:
    """An instance of the study, or series, that is shown and meets the condition."""
    same = DESCRIPTION.c.sop_instance_uid == INSTANCE.c.sop_instance_uid
    query = (
        select(INSTANCE.c.sop_instance_uid)
        .select_from(INSTANCE.outerjoin(DESCRIPTION, same))
        .where(INSTANCE.c.study_instance_uid == STUDY.c.study_instance_uid, SHOWN, condition)
    )
    if search.level is Level.SERIES:
        query = query.where(INSTANCE.c.series_instance_uid == SERIES.c.series_instance_uid)
    return query.correlate(STUDY, SERIES).exists()


def _order(search: Search) -> list[ColumnElement[Any]]:
    if search.level is Level.STUDY:
        return [STUDY.c.date.desc(), STUDY.c.time.desc(), STUDY.c.study_instance_uid.desc()]
    if search.level is Level.SERIES:
        if search.scope.study is None:
            return [SERIES.c.series_instance_uid.asc()]
        return [SERIES.c.series_number.asc(), SERIES.c.series_instance_uid.asc()]
    if search.scope.series is None:
        return [INSTANCE.c.sop_instance_uid.asc()]
    return [INSTANCE.c.instance_number.asc(), INSTANCE.c.sop_instance_uid.asc()]


def studies_of(rows: Iterable[RowMapping]) -> set[str]:
    """The studies that rows belong to."""
    return {row["0020000D"] for row in rows}
