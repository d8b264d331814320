"""The hits of a query as DICOM JSON text (PS3.18 F.2), written column by column.

Eighty studies are 1,300 attributes, most of which say the same: each value of a column is written
once. As dictionaries and with their encoder they would take ten times as long.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from json.encoder import encode_basestring as quoted
from typing import Any

from imaging_source.description.describe import unpack_attributes
from imaging_source.dicomweb.attributes import (
    INSTANCE_AVAILABILITY,
    MODALITIES_IN_STUDY,
    SERIES_MODULES,
    STUDY_MODULES,
)
from imaging_source.dicomweb.paths import Level, Search
from imaging_source.dicomweb.query import Query
from imaging_source.dicomweb.search import DEPTH, Figures, Rows, columns_of
from imaging_source.evicted import NEARLINE, ONLINE

_UTF_8 = ',"00080005":{"vr":"CS","Value":["ISO_IR 192"]}'
_NAME_GROUPS = ("Alphabetic", "Ideographic", "Phonetic")
_MODULES = {Level.STUDY: STUDY_MODULES, Level.SERIES: STUDY_MODULES | SERIES_MODULES}
UID = {Level.STUDY: "0020000D", Level.SERIES: "0020000E", Level.INSTANCE: "00080018"}
"""The attribute that tells a hit from all others."""
_DOWN_TO = {level: list(UID.items())[: depth + 1] for level, depth in DEPTH.items()}
_ALWAYS = frozenset({UID[Level.STUDY], UID[Level.SERIES]})

# An attribute of each hit as JSON behind a comma, empty where a hit does not have it.
_Texts = Sequence[str]


@dataclass(slots=True)
class Hits:
    """The rows of an answer and what else is told of them.

    ``requests`` are pairs of scheduled step and requested procedure by series; ``nearline`` the
    UIDs of those of which something is with its archive alone.
    """

    search: Search
    query: Query
    root: str
    rows: Rows
    figures: Mapping[str, Figures] = field(default_factory=dict)
    requests: Mapping[str, Sequence[tuple[str, str]]] = field(default_factory=dict)
    nearline: Collection[str] = frozenset()
    _values: Sequence[tuple[Any, ...]] = field(init=False)  # by columns

    def __post_init__(self) -> None:
        self._values = list(zip(*self.rows, strict=True))

    def text(self) -> str:
        """The JSON array."""
        columns = self._columns()
        hits: Iterable[Sequence[str]] = zip(*map(columns.__getitem__, sorted(columns)), strict=True)
        if self._is_described():
            hits = self._described(columns)
        return f"[{','.join([_object(hit) for hit in hits])}]"

    def tells_availability(self) -> bool:
        """Whether Instance Availability is told: that of series where it is asked for."""
        query = self.query
        asked = query.includes_all or INSTANCE_AVAILABILITY in query.included
        return asked or self.search.level is not Level.SERIES

    def column(self, tag: str) -> Sequence[str]:
        """The values of a column."""
        return self._values[_places(self.search.level)[tag]]

    def _columns(self) -> dict[str, _Texts]:
        """What every hit has, by tag."""
        search, query = self.search, self.query
        written = _written(
            search.level,
            search.scope.study is None,
            search.scope.series is None,
            query.includes_all,
            frozenset(query.included),
        )
        values = self._values
        found = {tag: _each(values[at], write) for tag, at, write in written}
        found["00080005"] = [_UTF_8] * len(self.rows)
        found["00081190"] = self._urls()
        if search.scope.study is None:
            found |= self._of_studies()
        if search.level is not Level.STUDY and search.scope.series is None:
            found |= self._of_series()
        if self.tells_availability():
            is_nearline = map(self.nearline.__contains__, self.column(UID[search.level]))
            found[INSTANCE_AVAILABILITY] = [_AVAILABILITY[one] for one in is_nearline]
        return found

    def _urls(self) -> _Texts:
        """Where each hit is retrieved."""
        urls = [self.root] * len(self.rows)
        for level, tag in _DOWN_TO[self.search.level]:
            urls = [f"{url}/{level}/{uid}" for url, uid in zip(urls, self.column(tag), strict=True)]
        return [f',"00081190":{{"vr":"UR","Value":[{quoted(url)}]}}' for url in urls]

    def _of_studies(self) -> dict[str, _Texts]:
        """What is counted of the study of each hit."""
        known = list(map(self.figures.__getitem__, self.column(UID[Level.STUDY])))
        modalities = [tuple(sorted(one.modalities)) for one in known]
        return {
            MODALITIES_IN_STUDY: _each(modalities, _modalities),
            "00201206": _each([len(one.series) for one in known], _SERIES),
            "00201208": _each([sum(one.series.values()) for one in known], _INSTANCES),
        }

    def _of_series(self) -> dict[str, _Texts]:
        """What is counted of the series of each hit, and what it was requested by."""
        studies, series = (self.column(UID[level]) for level in (Level.STUDY, Level.SERIES))
        pairs = zip(studies, series, strict=True)
        counts = [self.figures[study].series[one] for study, one in pairs]
        asked = [self.requests.get(one, ()) for one in series]
        return {
            "00201209": _each(counts, _INSTANCES_OF_SERIES),
            "00400275": [_requests(pairs) if pairs else "" for pairs in asked],
        }

    def _is_described(self) -> bool:
        return len(self.rows[0]) > len(columns_of(self.search.level))

    def _described(self, columns: Mapping[str, _Texts]) -> Iterable[Sequence[str]]:
        """Each hit with what its description has of the attributes asked for."""
        for row, texts in zip(self.rows, zip(*columns.values(), strict=True), strict=True):
            found = self._more(row[-1]) | dict(zip(columns, texts, strict=True))
            yield [found[tag] for tag in sorted(found)]

    def _more(self, attributes: bytes | None) -> dict[str, str]:
        """Of a description what is asked for; nothing where there is none yet."""
        if attributes is None:
            return {}
        query, modules = self.query, _MODULES.get(self.search.level)
        return {
            tag: f',"{tag}":{json.dumps(value, ensure_ascii=False)}'
            for tag, value in json.loads(unpack_attributes(attributes)).items()
            if (query.includes_all or tag in query.included)
            and (modules is None or tag in modules)
            and "BulkDataURI" not in value
        }


@lru_cache(maxsize=8)  # there are three levels
def _places(level: Level) -> dict[str, int]:
    return {attribute.tag: at for at, attribute in enumerate(columns_of(level))}


def place_of_study(search: Search) -> int:
    """Which column of a hit names its study."""
    return _places(search.level)["0020000D"]


def studies_of(search: Search, rows: Rows) -> set[str]:
    """The studies that hits are of, or in."""
    at = place_of_study(search)
    return {row[at] for row in rows}


@lru_cache(maxsize=512)  # what clients ask has some dozens of forms
def _written(
    level: Level,
    tells_study: bool,
    tells_series: bool,
    includes_all: bool,
    included: frozenset[str],
) -> list[tuple[str, int, Callable[[Any], str]]]:
    """The columns that an answer has: its level's, those of levels the scope does not name,
    the UIDs always, and what was asked for.
    """
    told = {Level.STUDY: tells_study, Level.SERIES: tells_series, Level.INSTANCE: True}
    return [
        (attribute.tag, at, _writer(attribute.tag, attribute.vr))
        for at, attribute in enumerate(columns_of(level))
        if (attribute.is_default and told[attribute.level])
        or attribute.tag in _ALWAYS
        or includes_all
        or attribute.tag in included
    ]


def _writer(tag: str, vr: str) -> Callable[[Any], str]:
    """How a column's value becomes an attribute."""
    empty, start = f',"{tag}":{{"vr":"{vr}"}}', f',"{tag}":{{"vr":"{vr}","Value":['
    if vr == "PN":
        return lambda value: f"{start}{_name(value)}]}}" if value.strip("=^ ") else empty
    if vr in ("IS", "US"):
        return lambda value: empty if value is None else f"{start}{value}]}}"
    return lambda value: f"{start}{quoted(value)}]}}" if value else empty


def _name(value: str) -> str:
    if "=" not in value:
        return f'{{"Alphabetic":{quoted(value)}}}'
    groups = zip(_NAME_GROUPS, value.split("="), strict=False)
    told = (f'"{name}":{quoted(text)}' for name, text in groups if text.strip())
    return f"{{{','.join(told)}}}"


def _object(attributes: Iterable[str]) -> str:
    return f"{{{''.join(attributes)[1:]}}}"


def _each(values: Sequence[Any], write: Callable[[Any], str]) -> _Texts:
    """Every value as it is written, each different one written once."""
    different = set(values)
    if len(different) == len(values):
        return list(map(write, values))
    written = {value: write(value) for value in different}
    return list(map(written.__getitem__, values))


def _modalities(values: Sequence[str]) -> str:
    """The modalities of a study."""
    told = f',"Value":[{",".join(map(quoted, values))}]' if values else ""
    return f',"{MODALITIES_IN_STUDY}":{{"vr":"CS"{told}}}'


def _requests(asked: Iterable[tuple[str, str]]) -> str:
    """The Request Attributes Sequence of a series."""
    items = (_object((_SCHEDULED_STEP(step), _PROCEDURE(procedure))) for step, procedure in asked)
    return f',"00400275":{{"vr":"SQ","Value":[{",".join(items)}]}}'


_SERIES, _INSTANCES = _writer("00201206", "IS"), _writer("00201208", "IS")
_INSTANCES_OF_SERIES = _writer("00201209", "IS")
_SCHEDULED_STEP, _PROCEDURE = _writer("00400009", "SH"), _writer("00401001", "SH")
_AVAILABILITY = [_writer(INSTANCE_AVAILABILITY, "CS")(one) for one in (ONLINE, NEARLINE)]
