"""What a QIDO-RS request asks: its parameters, read strictly (PS3.18 8.3.4, 10.6.1.2).

A parameter that is no attribute, and an attribute that is not compared here, are passed over with
a warning that names them; a value that cannot be one of its attribute is refused (400).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from http import HTTPStatus

from pydicom.datadict import tag_for_keyword

from imaging_source.dicomweb.answer import Refusal, Request
from imaging_source.dicomweb.attributes import BY_TAG, MODALITIES_IN_STUDY, REQUESTS, Match

# Bound what one request can cost.
_MOST_PARAMETERS = 200
_MOST_CHARACTERS = 1024
_MOST_UIDS = 1000

_TAG = re.compile("[0-9A-Fa-f]{8}")
_NUMBER = re.compile("[0-9]{1,9}")
_INTEGER = re.compile("[+-]?[0-9]{1,9}")
_DATE = re.compile(r"[0-9]{4}\.?[0-9]{2}\.?[0-9]{2}")
_TIME = re.compile(r"[0-9]{2}(:?[0-9]{2}(:?[0-9]{2}(\.[0-9]{1,6})?)?)?")
_UID = re.compile(r"[0-9][0-9.]{0,63}")


@dataclass(slots=True)
class Query:
    """Values to match by the path of their attribute, and how much is to be told of the hits.

    ``included`` are the tags asked for beyond what every answer has.
    """

    keys: dict[str, str] = field(default_factory=dict)
    included: set[str] = field(default_factory=set)
    includes_all: bool = False
    limit: int | None = None
    offset: int = 0
    warnings: list[str] = field(default_factory=list)


def read_query(request: Request) -> Query:
    """The query of a request. Raises Refusal (400)."""
    if len(request.query) > _MOST_PARAMETERS:
        raise _bad("too many parameters")
    query = Query()
    for name, value in request.query:
        if len(value) > _MOST_CHARACTERS * (64 if "," in value else 1):
            raise _bad(f"the value of {_shown(name)} is too long")
        if "\0" in value:  # no text has one, and PostgreSQL compares none with it
            raise _bad(f"the value of {_shown(name)} has a NUL character")
        _PARAMETERS.get(name.lower(), _key(name))(query, value)
    return query


@lru_cache(maxsize=1024)  # names that clients send over and over
def path_of(name: str) -> str | None:
    """The path of tags of an attribute named by keyword or tag; None where it is none."""
    tags = []
    for part in name.split("."):
        tag = part.upper() if _TAG.fullmatch(part) else _tag_of(part)
        if tag is None:
            return None
        tags.append(tag)
    return ".".join(tags)


def _tag_of(keyword: str) -> str | None:
    tag = tag_for_keyword(keyword)
    return None if tag is None else f"{tag:08X}"


def _key(name: str) -> Callable[[Query, str], None]:
    def take(query: Query, value: str) -> None:
        path = path_of(name)
        if path is None:
            query.warnings.append(f"{_shown(name)} is no attribute and was ignored")
        elif not (path in BY_TAG or path in REQUESTS or path == MODALITIES_IN_STUDY):
            query.warnings.append(f"{_shown(name)} is not matched and was ignored")
            query.included.add(path.partition(".")[0])
        elif value:
            _match(query, name, path, value)
        else:  # universal matching: only asks for the attribute (PS3.4 C.2.2.2.3)
            query.included.add(path.partition(".")[0])

    return take


def _match(query: Query, name: str, path: str, value: str) -> None:
    attribute = BY_TAG.get(path)
    is_uid = attribute is not None and attribute.match is Match.UID
    if path in query.keys:
        if not is_uid:
            raise _bad(f"{_shown(name)} is given twice")
        value = f"{query.keys[path]},{value}"
    if attribute is not None and not _CHECKS[attribute.match](value):
        raise _bad(f"the value of {_shown(name)} is not one of {attribute.vr}")
    query.keys[path] = value
    query.included.add(path.partition(".")[0])


def uids_of(value: str) -> list[str]:
    """The UIDs of a list, with commas as PS3.18 has it or backslashes as PS3.4 has it."""
    return [uid.strip() for uid in re.split(r"[,\\]", value) if uid.strip()]


def _is_range(single: re.Pattern[str]) -> Callable[[str], bool]:
    """Whether a value is one date or time, or a range of them (PS3.4 C.2.2.2.5)."""

    def check(value: str) -> bool:
        low, dash, high = value.partition("-")
        ends = [end.strip() for end in (low, high) if end.strip()]
        return bool(ends) and (bool(dash) or len(ends) == 1) and all(map(single.fullmatch, ends))

    return check


def _are_uids(value: str) -> bool:
    uids = uids_of(value)
    return 0 < len(uids) <= _MOST_UIDS and all(map(_UID.fullmatch, uids))


_CHECKS: Mapping[Match, Callable[[str], bool]] = {
    Match.TEXT: lambda value: True,
    Match.NAME: lambda value: True,
    Match.DATE: _is_range(_DATE),
    Match.TIME: _is_range(_TIME),
    Match.UID: _are_uids,
    Match.NUMBER: lambda value: _INTEGER.fullmatch(value.strip()) is not None,
}


def _limit(query: Query, value: str) -> None:
    if not _NUMBER.fullmatch(value) or int(value) == 0:
        raise _bad("limit must be a positive number")
    query.limit = int(value)


def _offset(query: Query, value: str) -> None:
    if not _NUMBER.fullmatch(value):
        raise _bad("offset must be a number")
    query.offset = int(value)


def _include(query: Query, value: str) -> None:
    for name in value.split(","):
        path = path_of(name.strip())
        if name.strip().lower() == "all":
            query.includes_all = True
        elif path is None:
            raise _bad(f"includefield: {_shown(name)} is no attribute")
        else:
            query.included.add(path.partition(".")[0])


def _fuzzy(query: Query, value: str) -> None:
    if value.lower() not in ("true", "false"):
        raise _bad("fuzzymatching must be true or false")
    if value.lower() == "true":
        query.warnings.append(
            "The fuzzymatching parameter is not supported. "
            "Only literal matching has been performed."
        )


_PARAMETERS: Mapping[str, Callable[[Query, str], None]] = {
    "limit": _limit,
    "offset": _offset,
    "includefield": _include,
    "fuzzymatching": _fuzzy,
    "accept": lambda query, value: None,
}


def _shown(name: str) -> str:
    """A parameter's name as an answer may repeat it."""
    return "".join(character for character in name if character.isalnum() or character == ".")[:64]


def _bad(reason: str) -> Refusal:
    return Refusal(HTTPStatus.BAD_REQUEST, reason)
