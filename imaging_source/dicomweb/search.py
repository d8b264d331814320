"""QIDO-RS: one statement for the hits, one for what is counted of them (PS3.18 10.6; RAD-129).

Only what is shown is found: a study or series all of whose instances were rejected is not there.
Studies are listed the latest first; series and instances by their numbers within a scope, by UID
without one. The order is total, so pages neither overlap nor leave anything out.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple

from sqlalchemy import (
    ColumnElement,
    Connection,
    bindparam,
    exists,
    func,
    select,
)

from imaging_source.dicomweb.attributes import (
    ATTRIBUTES,
    BY_TAG,
    INSTANCE_AVAILABILITY,
    MODALITIES_IN_STUDY,
    REQUESTS,
    Attribute,
    Match,
)
from imaging_source.dicomweb.matching import Operator, comparison, condition
from imaging_source.dicomweb.paths import Level, Search
from imaging_source.dicomweb.query import Query
from imaging_source.evicted import SERIES_IS_EVICTED, STUDY_IS_EVICTED
from imaging_source.schema import (
    DESCRIPTION,
    EVICTED,
    INSTANCE,
    SERIES,
    SERIES_REQUEST,
    SERIES_STEP,
    STUDY,
    STUDY_NAME,
)
from imaging_source.shown import SERIES_IS_SHOWN, SHOWN, STUDY_IS_SHOWN
from storage.operators import among
from storage.statement import Statement

Rows = Sequence[tuple[Any, ...]]
"""What a statement has found, by columns."""

DEPTH = {Level.STUDY: 0, Level.SERIES: 1, Level.INSTANCE: 2}

# A key among these, matched as one value, finds few rows by an index.
_SELECTIVE = frozenset({"0020000D", "0020000E", "00080018", "00100020", "00080050", "00200010"})


class Shape(NamedTuple):
    """What of a search decides about its statement: everything but the values."""

    level: Level
    in_study: bool
    in_series: bool
    described: bool
    keys: tuple[tuple[str, Operator], ...]


def is_selective(search: Search, query: Query) -> bool:
    """Whether the answer is short whatever is stored: it may be made in the event loop."""
    wild = any(character in query.keys.get(tag, "") for tag in _SELECTIVE for character in "*?,\\")
    return not wild and (search.scope.study is not None or not _SELECTIVE.isdisjoint(query.keys))


def find(connection: Connection, search: Search, query: Query, backend: str, most: int) -> Rows:
    """Up to ``most`` hits, in order, from the offset on.

    The columns are those of ``columns_of``, and the description where more is asked for.
    """
    compared = {path: comparison(path, value, backend) for path, value in query.keys.items()}
    shape = Shape(
        search.level,
        search.scope.study is not None,
        search.scope.series is not None,
        needs_description(query),
        tuple((path, operator) for path, (operator, _) in compared.items()),
    )
    values: dict[str, Any] = {"study": search.scope.study, "series": search.scope.series}
    values |= {"most": most, "offset": query.offset}
    values |= {name: value for _, found in compared.values() for name, value in found.items()}
    return _statement(shape).rows(connection, values)


def columns_of(level: Level) -> list[Attribute]:
    """The attributes that a row of a level has, in the order of its columns."""
    return [one for one in ATTRIBUTES if DEPTH[one.level] <= DEPTH[level]]


_MODALITY = (
    select(SERIES.c.modality)
    .where(SERIES.c.series_instance_uid == INSTANCE.c.series_instance_uid)
    .scalar_subquery()
)
# Grouped as an index has them: nothing is sorted.
_FIGURES = Statement(
    select(
        INSTANCE.c.study_instance_uid,
        INSTANCE.c.series_instance_uid,
        _MODALITY,
        func.count(),
        exists().where(EVICTED.c.study_instance_uid == INSTANCE.c.study_instance_uid),
    )
    .where(among(INSTANCE.c.study_instance_uid, "studies"), SHOWN)
    .group_by(INSTANCE.c.study_instance_uid, INSTANCE.c.series_instance_uid)
)


@dataclass(slots=True)
class Figures:
    """Of one study: its modalities, how many instances each of its series shows, and whether bytes
    of it are with its archive alone.
    """

    modalities: set[str] = field(default_factory=set)
    series: dict[str, int] = field(default_factory=dict)
    evicted: bool = False


def figures(connection: Connection, studies: Iterable[str]) -> dict[str, Figures]:
    """What is counted of each study."""
    found: dict[str, Figures] = {}
    rows = _FIGURES.rows(connection, {"studies": studies})
    for study, series, modality, count, evicted in rows:
        known = found.get(study)
        if known is None:
            known = found[study] = Figures(evicted=bool(evicted))
        known.series[series] = count
        if modality:
            known.modalities.add(modality)
    return found


_NEARLINE = {
    Level.STUDY: Statement(
        select(STUDY.c.study_instance_uid).where(
            among(STUDY.c.study_instance_uid, "uids"), STUDY_IS_EVICTED
        )
    ),
    Level.SERIES: Statement(
        select(SERIES.c.series_instance_uid).where(
            among(SERIES.c.series_instance_uid, "uids"), SERIES_IS_EVICTED
        )
    ),
    Level.INSTANCE: Statement(
        select(EVICTED.c.sop_instance_uid).where(among(EVICTED.c.sop_instance_uid, "uids"))
    ),
}


def nearline(connection: Connection, level: Level, uids: Iterable[str]) -> set[str]:
    """Those of some studies, series or instances of which something is with its archive alone."""
    return {uid for (uid,) in _NEARLINE[level].rows(connection, {"uids": uids})}


_REQUESTS = Statement(
    select(
        SERIES_REQUEST.c.series_instance_uid,
        SERIES_REQUEST.c.scheduled_step_id,
        SERIES_REQUEST.c.requested_procedure_id,
    )
    .where(among(SERIES_REQUEST.c.series_instance_uid, "series"))
    .order_by(SERIES_REQUEST.c.series_instance_uid, SERIES_REQUEST.c.number)
)


def requests(connection: Connection, series: Iterable[str]) -> dict[str, list[tuple[str, str]]]:
    """By series: the scheduled steps and requested procedures that it was made for."""
    found: dict[str, list[tuple[str, str]]] = {}
    for uid, step, procedure in _REQUESTS.rows(connection, {"series": series}):
        found.setdefault(uid, []).append((step, procedure))
    return found


@lru_cache(maxsize=512)  # what clients ask has some dozens of shapes
def _statement(shape: Shape) -> Statement:
    columns = [one.column.label(one.tag) for one in columns_of(shape.level)]
    statement = select(*columns, *_described(shape)).select_from(_tables(shape))
    statement = statement.where(*_scoped(shape), *_matched(shape)).order_by(*_order(shape))
    return Statement(statement.offset(bindparam("offset")).limit(bindparam("most")))


def _tables(shape: Shape) -> Any:
    """The tables of a level, joined by their keys."""
    same_study = STUDY.c.study_instance_uid == SERIES.c.study_instance_uid
    same_step = SERIES_STEP.c.series_instance_uid == SERIES.c.series_instance_uid
    if shape.level is Level.STUDY:
        tables: Any = STUDY
    elif shape.level is Level.SERIES:
        tables = SERIES.join(STUDY, same_study).outerjoin(SERIES_STEP, same_step)
    else:
        same_series = SERIES.c.series_instance_uid == INSTANCE.c.series_instance_uid
        same_instance = DESCRIPTION.c.sop_instance_uid == INSTANCE.c.sop_instance_uid
        tables = INSTANCE.join(SERIES, same_series).join(STUDY, same_study)
        tables = tables.outerjoin(SERIES_STEP, same_step).outerjoin(DESCRIPTION, same_instance)
    if any(path in BY_TAG and BY_TAG[path].match is Match.NAME for path, _ in shape.keys):
        same_name = STUDY_NAME.c.study_instance_uid == STUDY.c.study_instance_uid
        tables = tables.join(STUDY_NAME, same_name)
    return tables


def needs_description(query: Query) -> bool:
    """Whether more is asked for than the columns of the index have."""
    return query.includes_all or not query.included <= _KNOWN


_KNOWN = BY_TAG.keys() | {MODALITIES_IN_STUDY, INSTANCE_AVAILABILITY, "00400275"}


def _described(shape: Shape) -> list[ColumnElement[Any]]:
    """The description of the instance, or of the first one of the study or series."""
    if not shape.described:
        return []
    if shape.level is Level.INSTANCE:
        return [DESCRIPTION.c.attributes.label("attributes")]
    instance, table = INSTANCE.alias(), DESCRIPTION.alias()
    same = table.c.sop_instance_uid == instance.c.sop_instance_uid
    of_study = instance.c.study_instance_uid == STUDY.c.study_instance_uid
    first = select(table.c.attributes).join(instance, same)
    first = first.where(of_study, instance.c.rejection.is_(None))
    if shape.level is Level.SERIES:
        first = first.where(instance.c.series_instance_uid == SERIES.c.series_instance_uid)
    return [first.limit(1).scalar_subquery().label("attributes")]


_SHOWN_AT = {Level.STUDY: STUDY_IS_SHOWN, Level.SERIES: SERIES_IS_SHOWN, Level.INSTANCE: SHOWN}
_TABLE_AT = {Level.STUDY: STUDY, Level.SERIES: SERIES, Level.INSTANCE: INSTANCE}


def _scoped(shape: Shape) -> list[ColumnElement[bool]]:
    """What lies in the scope and is shown."""
    found: list[ColumnElement[bool]] = [_SHOWN_AT[shape.level]]
    columns = _TABLE_AT[shape.level].c
    if shape.in_study:
        found.append(columns.study_instance_uid == bindparam("study"))
    if shape.in_series:
        found.append(columns.series_instance_uid == bindparam("series"))
    return found


def _matched(shape: Shape) -> list[ColumnElement[bool]]:
    """What the keys ask; one of a level below asks that there is one such series or instance."""
    found: list[ColumnElement[bool]] = []
    for path, operator in shape.keys:
        if path == MODALITIES_IN_STUDY:
            found.append(_some_series(condition(SERIES.c.modality, operator, path)))
        elif path in REQUESTS:
            request = select(SERIES_REQUEST.c.number).where(
                SERIES_REQUEST.c.series_instance_uid == SERIES.c.series_instance_uid,
                condition(REQUESTS[path], operator, path),
            )
            found.append(_at(Level.SERIES, request.exists(), shape))
        else:
            attribute = BY_TAG[path]
            column = attribute.column if attribute.searched is None else attribute.searched
            found.append(_at(attribute.level, condition(column, operator, path), shape))
    return found


def _at(level: Level, asked: ColumnElement[bool], shape: Shape) -> ColumnElement[bool]:
    if DEPTH[level] <= DEPTH[shape.level]:
        return asked
    return _some_series(asked) if level is Level.SERIES else _some_instance(asked, shape)


def _some_series(asked: ColumnElement[bool]) -> ColumnElement[bool]:
    """A series of the study that shows something and meets the condition."""
    step = SERIES_STEP.c.series_instance_uid == SERIES.c.series_instance_uid
    return (
        select(SERIES.c.series_instance_uid)
        .select_from(SERIES.outerjoin(SERIES_STEP, step))
        .where(SERIES.c.study_instance_uid == STUDY.c.study_instance_uid, SERIES_IS_SHOWN, asked)
        .correlate(STUDY)
        .exists()
    )


def _some_instance(asked: ColumnElement[bool], shape: Shape) -> ColumnElement[bool]:
    """An instance of the study, or series, that is shown and meets the condition."""
    same = DESCRIPTION.c.sop_instance_uid == INSTANCE.c.sop_instance_uid
    query = (
        select(INSTANCE.c.sop_instance_uid)
        .select_from(INSTANCE.outerjoin(DESCRIPTION, same))
        .where(INSTANCE.c.study_instance_uid == STUDY.c.study_instance_uid, SHOWN, asked)
    )
    if shape.level is Level.SERIES:
        query = query.where(INSTANCE.c.series_instance_uid == SERIES.c.series_instance_uid)
    return query.correlate(STUDY, SERIES).exists()


def _order(shape: Shape) -> list[ColumnElement[Any]]:
    if shape.level is Level.STUDY:
        return [STUDY.c.date.desc(), STUDY.c.time.desc(), STUDY.c.study_instance_uid.desc()]
    if shape.level is Level.SERIES:
        if not shape.in_study:
            return [SERIES.c.series_instance_uid.asc()]
        return [SERIES.c.series_number.asc(), SERIES.c.series_instance_uid.asc()]
    if not shape.in_series:
        return [INSTANCE.c.sop_instance_uid.asc()]
    return [INSTANCE.c.instance_number.asc(), INSTANCE.c.sop_instance_uid.asc()]
