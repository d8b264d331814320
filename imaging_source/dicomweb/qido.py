"""QIDO-RS: the answer to a query as DICOM JSON or XML (PS3.18 10.6.3; RAD-129)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from http import HTTPStatus
from itertools import islice
from typing import Any

from sqlalchemy import Connection

from imaging_source.dicomweb.accept import first
from imaging_source.dicomweb.answer import Answer, Request, json_answer
from imaging_source.dicomweb.hits import UID, Hits, place_of_study, studies_of
from imaging_source.dicomweb.metadata import JSON_TYPES
from imaging_source.dicomweb.native import XML, xml_answer
from imaging_source.dicomweb.paths import Level, Search
from imaging_source.dicomweb.query import Query
from imaging_source.dicomweb.search import Rows, figures, find, nearline, requests
from imaging_source.shown import Unseen
from soap.asgi import Headers
from storage.database import Database


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

    def answer(self, search: Search, query: Query, request: Request) -> Answer:
        """The hits. Raises Refusal (406) and StorageError."""
        wish = first(request.accept, *JSON_TYPES, XML)
        limit = min(query.limit or self._paging.default, self._paging.most)
        with self._database.read() as connection:
            rows = self._find(connection, search, query, limit + 1, request.unseen)
            hits = Hits(search, query, request.root, rows[:limit])
            if hits.rows:
                hits.figures = figures(connection, hits.column("0020000D"))
                if hits.tells_availability() and any(one.evicted for one in hits.figures.values()):
                    hits.nearline = nearline(
                        connection, search.level, hits.column(UID[search.level])
                    )
                if search.level is not Level.STUDY and search.scope.series is None:
                    hits.requests = requests(connection, hits.column("0020000E"))
        headers = _warnings(query, request.root, is_more=len(rows) > limit)
        if not hits.rows:
            return Answer(HTTPStatus.NO_CONTENT, "", headers=headers)
        text = hits.text()
        for media in JSON_TYPES:
            if wish.covers(media):
                return json_answer(request, text.encode(), headers, media)
        answer = xml_answer(json.loads(text))
        answer.headers += headers
        return answer

    def _find(
        self, connection: Connection, search: Search, query: Query, most: int, unseen: Unseen | None
    ) -> Rows:
        """Up to ``most`` hits from the offset on, of those that are not ``unseen``."""
        if unseen is None:
            return find(connection, search, query, self._database.backend, most)
        # Pages are cut of what is seen, or their gaps would tell of the rest.
        portion = min(query.offset + most, _PORTION)
        seen = self._seen(connection, search, query, portion, unseen)
        return list(islice(seen, query.offset, query.offset + most))

    def _seen(
        self, connection: Connection, search: Search, query: Query, portion: int, unseen: Unseen
    ) -> Iterator[tuple[Any, ...]]:
        """All hits that are not ``unseen``, in order, read in portions of at least so many."""
        at, start = place_of_study(search), 0
        while True:
            asked = replace(query, offset=start)
            rows = find(connection, search, asked, self._database.backend, portion)
            hidden = unseen(studies_of(search, rows))
            yield from (row for row in rows if row[at] not in hidden)
            if len(rows) < portion:
                return
            start += portion
            portion = min(2 * portion, _PORTION)


# Rows read at once where some may be hidden: an index of any size is walked in some megabytes.
_PORTION = 10_000


def _warnings(query: Query, root: str, *, is_more: bool) -> Headers:
    texts = [*query.warnings]
    if is_more:
        texts.append("There are additional results that can be requested")
    return [(b"warning", f'299 {root}: "{text}"'.encode("latin-1", "replace")) for text in texts]
