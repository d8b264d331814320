"""QIDO-RS answers: hits of a search as DICOM JSON or XML (PS3.18 10.6.3)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from sqlalchemy import RowMapping

from imaging_source.description.describe import json_text, unpack_attributes
from imaging_source.dicomweb.accept import first
from imaging_source.dicomweb.answer import Answer, Request, json_answer
from imaging_source.dicomweb.attributes import (
    ATTRIBUTES,
    MODALITIES_IN_STUDY,
    SERIES_MODULES,
    STUDY_MODULES,
    json_of,
)
from imaging_source.dicomweb.matching import Matcher
from imaging_source.dicomweb.metadata import JSON_TYPES
from imaging_source.dicomweb.native import XML, xml_answer
from imaging_source.dicomweb.paths import Level, Scope, Search
from imaging_source.dicomweb.query import Query
from imaging_source.dicomweb.search import DEPTH, figures, find, requests, studies_of
from soap.asgi import Headers
from storage.database import Database

_CONVERT = {attribute.tag: json_of(attribute.vr) for attribute in ATTRIBUTES}
_UTF_8 = {"vr": "CS", "Value": ["ISO_IR 192"]}
_ONLINE = {"vr": "CS", "Value": ["ONLINE"]}


@dataclass(frozen=True, slots=True)
class Paging:
    """How many hits an answer has where none were asked for, and at most."""

    default: int = 100
    most: int = 1000


DEFAULT_PAGING = Paging()


class Searcher:
    """Answers queries from the index; safe for many threads."""

    def __init__(self, database: Database, paging: Paging) -> None:
        self._database = database
        self._paging = paging
        self._matcher = Matcher(database.backend)

    def answer(self, search: Search, query: Query, request: Request) -> Answer:
        """The hits. Raises Refusal (406) and StorageError."""
        wish = first(request.accept, *JSON_TYPES, XML)
        limit = min(query.limit or self._paging.default, self._paging.most)
        with self._database.read() as connection:
            rows = find(connection, search, query, self._matcher, limit + 1)
            hits = _Hits(search, query, request.root, rows[:limit])
            hits.figures = figures(connection, studies_of(hits.rows)) if hits.rows else {}
            if search.level is not Level.STUDY and hits.rows:
                hits.requests = requests(connection, {row["0020000E"] for row in hits.rows})
        headers = _warnings(query, request.root, is_more=len(rows) > limit)
        if not hits.rows:
            return Answer(HTTPStatus.NO_CONTENT, "", headers=headers)
        found = hits.json()
        for media in JSON_TYPES:
            if wish.covers(media):
                return json_answer(request, json_text(found), headers, media)
        answer = xml_answer(found)
        answer.headers += headers
        return answer


@dataclass(slots=True)
class _Hits:
    """The rows of an answer and what else is told of them."""

    search: Search
    query: Query
    root: str
    rows: Sequence[RowMapping]
    figures: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    requests: Mapping[str, Sequence[RowMapping]] = field(default_factory=dict)

    def json(self) -> list[dict[str, Any]]:
        """The DICOM JSON objects, attributes in order."""
        tags = _told(self.search, self.query)
        return [dict(sorted(self._object(row, tags).items())) for row in self.rows]

    def _object(self, row: RowMapping, tags: Sequence[str]) -> dict[str, Any]:
        found = self._more(row)
        found |= {tag: _CONVERT[tag](row[tag]) for tag in tags}
        found["00080005"] = _UTF_8
        found["00081190"] = {"vr": "UR", "Value": [self._scope(row).url(self.root)]}
        return found | self._counted(row)

    def _more(self, row: RowMapping) -> dict[str, Any]:
        """What the description has of the attributes asked for."""
        packed = row.get("attributes")
        if packed is None:
            return {}
        level, query = self.search.level, self.query
        modules = _MODULES.get(level)
        return {
            tag: value
            for tag, value in json.loads(unpack_attributes(packed)).items()
            if (query.includes_all or tag in query.included)
            and (modules is None or tag in modules)
            and "BulkDataURI" not in value
        }

    def _scope(self, row: RowMapping) -> Scope:
        depth = DEPTH[self.search.level]
        return Scope(
            row["0020000D"],
            row["0020000E"] if depth > 0 else None,
            row["00080018"] if depth > 1 else None,
        )

    def _counted(self, row: RowMapping) -> dict[str, Any]:
        known = self.figures[row["0020000D"]]
        found: dict[str, Any] = {}
        if self.search.level is not Level.SERIES:
            found["00080056"] = _ONLINE
        if _tells(self.search, Level.STUDY):
            found[MODALITIES_IN_STUDY] = {"vr": "CS", "Value": sorted(known["modalities"])}
            if not known["modalities"]:
                found[MODALITIES_IN_STUDY] = {"vr": "CS"}
            found["00201206"] = {"vr": "IS", "Value": [len(known["series"])]}
            found["00201208"] = {"vr": "IS", "Value": [sum(known["series"].values())]}
        if _tells(self.search, Level.SERIES):
            series = row["0020000E"]
            found["00201209"] = {"vr": "IS", "Value": [known["series"][series]]}
            if asked := self.requests.get(series):
                found["00400275"] = {"vr": "SQ", "Value": [_request(one) for one in asked]}
        return found


_MODULES = {Level.STUDY: STUDY_MODULES, Level.SERIES: STUDY_MODULES | SERIES_MODULES}


def _tells(search: Search, level: Level) -> bool:
    """Whether an answer has the attributes of a level (PS3.18 10.6.1.3).

    It has those of its own, and of those above it that the scope does not name.
    """
    if DEPTH[level] > DEPTH[search.level]:
        return False
    named = {Level.STUDY: search.scope.study, Level.SERIES: search.scope.series}.get(level)
    return named is None


def _told(search: Search, query: Query) -> list[str]:
    """The tags of the columns that an answer has: by level, the UIDs always, and as asked."""
    return [
        attribute.tag
        for attribute in ATTRIBUTES
        if DEPTH[attribute.level] <= DEPTH[search.level]
        and (
            (attribute.is_default and _tells(search, attribute.level))
            or attribute.tag in ("0020000D", "0020000E")
            or query.includes_all
            or attribute.tag in query.included
        )
    ]


def _request(row: RowMapping) -> dict[str, Any]:
    text = json_of("SH")
    return {
        "00400009": text(row["scheduled_step_id"]),
        "00401001": text(row["requested_procedure_id"]),
    }


def _warnings(query: Query, root: str, *, is_more: bool) -> Headers:
    texts = [*query.warnings]
    if is_more:
        texts.append("There are additional results that can be requested")
    return [(b"warning", f'299 {root}: "{text}"'.encode("latin-1", "replace")) for text in texts]
