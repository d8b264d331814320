"""Finding records: by patient, person, transaction and time, over all trails of a node."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from security.audit.reading import read_message
from security.audit.trail import Record, moment
from security.audit.verification import open_read_only


class UnreadableTrail(Exception):
    """A file that is no trail any more; the text names it."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to find; what is None does not matter.

    ``patient`` is a CX, ``user`` an id or name as the record has it, ``type`` a transaction's
    number ("ITI-18") or the code of an EventID.
    """

    patient: str | None = None
    user: str | None = None
    type: str | None = None
    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class Found:
    """A record, its trail and its place there."""

    trail: str
    number: int
    record: Record


def find(files: Sequence[Path], wanted: Wanted, most: int) -> list[Found]:
    """The newest ``most`` records that are wanted, the newest first.

    What is told of a record is read from its message. Raises UnreadableTrail.
    """
    newest = [one for file in files for one in _in_trail(file, wanted, most)]
    return sorted(newest, key=lambda one: one.record.when, reverse=True)[:most]


def _in_trail(file: Path, wanted: Wanted, most: int) -> list[Found]:
    statement, values = _statement(wanted, most)
    try:
        with closing(open_read_only(file)) as connection:
            rows = connection.execute(statement, values).fetchall()
    except sqlite3.DatabaseError as error:
        raise UnreadableTrail(str(file)) from error
    return [
        Found(file.stem, number, read_message(message, datetime.fromisoformat(at)))
        for number, at, message in rows
    ]


def _statement(wanted: Wanted, most: int) -> tuple[str, list[object]]:
    conditions: list[str] = []
    values: list[object] = []
    for kind, value in (("patient", wanted.patient), ("user", wanted.user)):
        if value is not None:
            conditions.append(
                "number IN (SELECT number FROM audit_mention WHERE kind = ? AND value = ?)"
            )
            values += [kind, value]
    for condition, text in (
        ("type = ?", wanted.type),
        ("at >= ?", wanted.since and moment(wanted.since)),
        ("at < ?", wanted.until and moment(wanted.until)),
    ):
        if text is not None:
            conditions.append(condition)
            values.append(text)
    where = f"WHERE {' AND '.join(conditions)} " if conditions else ""
    newest = "ORDER BY at DESC, number DESC LIMIT ?"
    return f"SELECT number, at, CAST(message AS BLOB) FROM audit_record {where}{newest}", [
        *values,
        most,
    ]
