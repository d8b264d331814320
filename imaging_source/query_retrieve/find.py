"""C-FIND, the provider (PS3.4 C.4.1): one statement for a query, its rows as responses.

The unique keys of the levels above the one that is asked must be given, so a query is served
by an index of the study, or by those of the studies. All rows are read before the first
response leaves: a slow peer never keeps the database from its checkpoints.

Where something is hidden from whoever asks, matches are counted, and patients told, by what it may
see alone; how many studies a patient has is not told then.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, exists, select

from imaging_source.encoded import Value, encode
from imaging_source.evicted import INSTANCE_AVAILABILITY
from imaging_source.query_retrieve.identifier import Identifier, read_identifier
from imaging_source.query_retrieve.keys import (
    AVAILABILITY,
    KEYS,
    MODALITIES_IN_STUDY,
    SERIES_OF_STUDY,
    STUDIES_OF_PATIENT,
    Key,
)
from imaging_source.query_retrieve.matching import Match, match
from imaging_source.query_retrieve.models import (
    QUERY_RETRIEVE_LEVEL,
    TOP_LEVEL,
    UNIQUE_KEY,
    Level,
)
from imaging_source.schema import INSTANCE, SERIES, STUDY
from imaging_source.service import (
    CANCELLED,
    NOT_OF_THE_CLASS,
    OUT_OF_RESOURCES,
    PENDING,
    SUCCESS,
    Exchange,
    Refused,
)
from imaging_source.shown import (
    SERIES_IS_SHOWN,
    SHOWN,
    STUDY_IS_SHOWN,
    Unseen,
    Veil,
    no_veil,
)
from storage.database import Database

_RETRIEVE_AE_TITLE = 0x00080054
_KNOWN = frozenset({*KEYS, _RETRIEVE_AE_TITLE, INSTANCE_AVAILABILITY})

# How often a cancel is looked for, in responses: looking costs a system call.
_LISTEN_EVERY = 32

# Rows read at once where some may be hidden.
_PORTION = 1000

_SOURCE = {
    Level.PATIENT: STUDY,
    Level.STUDY: STUDY,
    Level.SERIES: SERIES.join(STUDY, SERIES_OF_STUDY),
    Level.IMAGE: INSTANCE.join(
        SERIES, SERIES.c.series_instance_uid == INSTANCE.c.series_instance_uid
    ).join(STUDY, STUDY.c.study_instance_uid == INSTANCE.c.study_instance_uid),
}
_IS_SHOWN: Mapping[Level, ColumnElement[bool]] = {
    Level.PATIENT: STUDY_IS_SHOWN,
    Level.STUDY: STUDY_IS_SHOWN,
    Level.SERIES: SERIES_IS_SHOWN,
    Level.IMAGE: SHOWN,
}


class Finder:
    """Answers C-FIND from an index that may be open for reading only.

    ``ae_title`` is where the instances are retrieved from, ``most`` how many matches a query
    may have: one with more is refused, so that no answer is taken for a complete one.
    """

    def __init__(self, database: Database, ae_title: str, most: int, veil: Veil = no_veil) -> None:
        self._database = database
        self._veil = veil
        self._ae_title = ae_title
        self._most = most

    def answer(self, exchange: Exchange) -> None:
        """A response for each match, then the last one; handles one C-FIND request."""
        context = exchange.context
        top, syntax = TOP_LEVEL[context.abstract_syntax], context.transfer_syntax
        identifier = read_identifier(exchange.data_set, syntax, _KNOWN, top)
        unseen = self._veil(exchange.records.asker)
        for number, values in enumerate(self.find(identifier, top, unseen)):
            if number % _LISTEN_EVERY == 0 and exchange.is_cancelled():
                exchange.respond(CANCELLED)
                return
            exchange.respond(PENDING, encode(values, syntax))
        exchange.respond(CANCELLED if exchange.is_cancelled() else SUCCESS)

    def find(
        self, identifier: Identifier, top: Level, unseen: Unseen | None = None
    ) -> Iterator[dict[int, tuple[str, Value]]]:
        """The elements of each match that is not ``unseen``, VR and value by tag.

        Raises Refused for keys that cannot be served and for too many matches, and StorageError.
        """
        query = _Query(identifier, top, unseen)
        with self._database.read() as connection:
            rows = query.rows(connection, self._most)
        about: dict[int, tuple[str, Value]] = {QUERY_RETRIEVE_LEVEL: ("CS", identifier.level.name)}
        if _RETRIEVE_AE_TITLE in identifier.keys:
            about[_RETRIEVE_AE_TITLE] = ("AE", self._ae_title)
        return (about | query.elements(row) for row in rows)


class _Query:
    """The statement for one identifier."""

    def __init__(self, identifier: Identifier, top: Level, unseen: Unseen | None) -> None:
        level = identifier.level
        _check_unique_keys(identifier, top)
        self._unseen = unseen
        asked = {UNIQUE_KEY[level], *identifier.keys} & KEYS.keys()
        if unseen is not None:
            asked -= {STUDIES_OF_PATIENT}
        self._keys = [KEYS[tag] for tag in sorted(asked) if KEYS[tag].level <= level]
        if INSTANCE_AVAILABILITY in identifier.keys and level in AVAILABILITY:
            self._keys.append(AVAILABILITY[level])
        matches = [_match(key, identifier) for key in self._keys]
        self._tests = [(place, one.test) for place, one in enumerate(matches) if one and one.test]
        conditions = [one.condition for one in matches if one]
        self._statement = self._select(level, conditions)

    def _select(self, level: Level, conditions: list[ColumnElement[bool]]) -> Select[Any]:
        columns = [key.column.label(f"k{key.tag:08x}") for key in self._keys]
        if self._unseen is not None:
            columns.append(STUDY.c.study_instance_uid.label("study"))
        query = select(*columns).select_from(_SOURCE[level]).where(*conditions, _IS_SHOWN[level])
        if level is Level.PATIENT:
            return query.distinct()
        return query

    def rows(self, connection: Connection, most: int) -> Sequence[Sequence[Any]]:
        """What matches; Refused if that is more than ``most``."""
        found: Sequence[Sequence[Any]]
        if self._unseen is None:
            found = connection.execute(self._statement.limit(most + 1)).all()
        else:
            found = self._seen(connection, most, self._unseen)
        if len(found) > most:
            raise Refused(OUT_OF_RESOURCES, f"more than {most} matches: ask more narrowly")
        return [row for row in found if all(test(row[at] or "") for at, test in self._tests)]

    def _seen(self, connection: Connection, most: int, unseen: Unseen) -> list[Sequence[Any]]:
        """What matches and may be seen; a patient once, whatever the number of his studies."""
        found: dict[Sequence[Any], None] = {}
        some = False
        with connection.execute(self._statement, execution_options={"yield_per": _PORTION}) as all_:
            for portion in all_.partitions():
                some = True
                hidden = unseen({row.study for row in portion})
                found |= {row[:-1]: None for row in portion if row.study not in hidden}
                if len(found) > most:
                    break
        if not some:
            unseen(())  # what is not there takes as long as what is hidden
        return list(found)

    def elements(self, row: Sequence[Any]) -> dict[int, tuple[str, Value]]:
        """A row's values by tag, with their VR."""
        return {
            key.tag: (key.vr, "" if value is None else str(value))
            for key, value in zip(self._keys, row, strict=True)
        }


def _check_unique_keys(identifier: Identifier, top: Level) -> None:
    """The hierarchical search needs one value of each unique key above (PS3.4 C.4.1.2.1)."""
    for level in Level:
        if top <= level < identifier.level:
            values = identifier.values(UNIQUE_KEY[level])
            if not values or any("*" in value or "?" in value for value in values):
                name = f"{level.name.lower()}'s unique key"
                raise Refused(NOT_OF_THE_CLASS, f"a {name} must be given above the level")


def _match(key: Key, identifier: Identifier) -> Match | None:
    values = identifier.values(key.tag)
    if key.tag == MODALITIES_IN_STUDY:
        return _any_series(values)
    return match(key.kind, key.column, values)


def _any_series(values: list[str]) -> Match | None:
    """A study matches if one of its series does (PS3.4 C.2.2.2, Modalities in Study)."""
    found = match(KEYS[0x00080060].kind, SERIES.c.modality, values)
    if found is None:
        return None
    within = exists().where(SERIES_OF_STUDY, found.condition, SERIES_IS_SHOWN).correlate(STUDY)
    test: Callable[[str], bool] | None = None
    if (one := found.test) is not None:
        test = _any_of(one)
    return Match(within, test)


def _any_of(test: Callable[[str], bool]) -> Callable[[str], bool]:
    return lambda text: any(test(part) for part in text.split("\\"))
