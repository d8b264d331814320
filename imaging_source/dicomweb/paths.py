"""The resources of the service by their path (PS3.18 10.1.1 and Table 10.6.1-1)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from http import HTTPStatus

from imaging_source.dicomweb.answer import Refusal


class Level(StrEnum):
    """What an answer to a query lists."""

    STUDY = "studies"
    SERIES = "series"
    INSTANCE = "instances"


@dataclass(frozen=True, slots=True)
class Scope:
    """A study, a series or an instance; without any, everything."""

    study: str | None = None
    series: str | None = None
    instance: str | None = None

    def url(self, root: str) -> str:
        """Its Retrieve URL."""
        parts = (("studies", self.study), ("series", self.series), ("instances", self.instance))
        return root + "".join(f"/{name}/{uid}" for name, uid in parts if uid)


@dataclass(frozen=True, slots=True)
class Search:
    """A query for ``level`` within ``scope``."""

    level: Level
    scope: Scope


@dataclass(frozen=True, slots=True)
class Retrieval:
    """What of a scope is wanted: ``""`` (instances), ``metadata``, ``bulkdata`` or ``frames``.

    ``rest`` is the path of one element's bulk data, or the list of frames.
    """

    scope: Scope
    what: str
    rest: str = ""


_UID = "[0-9][0-9.]{0,63}"
_SEARCH = re.compile(
    rf"(?:/studies/(?P<study>{_UID})(?:/series/(?P<series>{_UID}))?)?"
    "/(?P<level>studies|series|instances)"
)
_RETRIEVAL = re.compile(
    rf"/studies/(?P<study>{_UID})(?:/series/(?P<series>{_UID})(?:/instances/(?P<instance>{_UID}))?)?"
    "(?:/(?P<what>metadata|bulkdata|frames)(?:/(?P<rest>[0-9A-Fa-f/,]+))?)?"
)
_UNDER = {Level.STUDY: 0, Level.SERIES: 1, Level.INSTANCE: 2}


def resource(path: str) -> Search | Retrieval:
    """The resource at ``path``; Refusal (404) where there is none."""
    path = path.rstrip("/")
    if found := _SEARCH.fullmatch(path):
        level, scope = Level(found["level"]), Scope(found["study"], found["series"])
        if _UNDER[level] >= (scope.study is not None) + (scope.series is not None):
            return Search(level, scope)
    if found := _RETRIEVAL.fullmatch(path):
        what, rest = found["what"] or "", found["rest"] or ""
        scope = Scope(found["study"], found["series"], found["instance"])
        if _is_whole(what, rest, scope):
            return Retrieval(scope, what, rest)
    raise Refusal(HTTPStatus.NOT_FOUND, "no such resource")


def _is_whole(what: str, rest: str, scope: Scope) -> bool:
    if what == "frames":
        return bool(rest) and scope.instance is not None
    return not rest or (what == "bulkdata" and scope.instance is not None)
