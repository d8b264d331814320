"""Whether a trail is what was written: every record, in its place, unaltered.

The chain is computed anew from the first record on and compared link by link; signed heads are
compared with the links they were signed over, those that a log elsewhere has kept as well. Where
old records have left, it begins with the link that the node's key has signed for that. What is
found first is told, with its place.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import datetime
from enum import Enum
from pathlib import Path
from urllib.parse import quote

from security.audit.chain import Verifier, genesis, link
from security.audit.heads import Head
from security.audit.reading import read_message
from security.audit.trail import SUFFIX, mentions, moment

# Rows between two steps of a progress bar.
STEP = 10_000


class Fault(Enum):
    """What is wrong with a trail."""

    ALTERED = "altered"
    REMOVED = "removed"
    REORDERED = "reordered"
    FORKED = "forked"  # a whole history, but not the one whose heads were signed
    CUT = "cut"  # the end is missing
    UNSIGNED = "unsigned"  # a head that the node's key did not sign
    UNFINDABLE = "unfindable"  # what it is searched by is not what it says
    UNREADABLE = "unreadable"  # no trail at all


@dataclass(frozen=True, slots=True)
class Verified:
    """A trail, how many of its records are proved, and the first thing that is wrong with it.

    ``number`` is the record where it is wrong.
    """

    source: str
    records: int
    fault: Fault | None = None
    number: int = 0
    left: int = 0
    """How many records have left it before the first of these, as its key has signed."""


def trails(folder: Path) -> list[Path]:
    """The files of all trails of a node."""
    return sorted(folder.glob(f"*{SUFFIX}"))


def verify(
    file: Path,
    node: str,
    verifier: Verifier,
    step: Callable[[int], object] = lambda _rows: None,
    *,
    kept: Sequence[Head] = (),
    index: bool = False,
) -> Verified:
    """Prove the trail in ``file`` of the node ``node``; it may be in use.

    ``step`` is told of records proved, by the thousand. ``kept`` are heads of the trail that were
    kept elsewhere. With ``index`` it is proved as well that a search finds each record by what it
    says, for which each has to be read.
    """
    source = f"{node}/{file.stem}"
    try:
        with closing(open_read_only(file)) as connection:
            connection.execute("BEGIN")  # one snapshot for records and heads
            found = _verify(connection, source, verifier, step)
            if found.fault is None:
                found = _against(connection, found, verifier, kept)
            if found.fault is None and index:
                found = _findable(connection, found)
            return found
    except sqlite3.DatabaseError:
        return Verified(source, 0, Fault.UNREADABLE)


def missing(source: str, verifier: Verifier, kept: Sequence[Head]) -> Verified:
    """A trail that is not there, of which heads were kept elsewhere."""
    true = [one.number for one in kept if verifier.is_true(source, *one)]
    if not true:
        return Verified(source, 0, Fault.UNSIGNED, kept[-1].number)
    return Verified(source, 0, Fault.CUT, true[-1])


def _against(
    connection: sqlite3.Connection, found: Verified, verifier: Verifier, kept: Sequence[Head]
) -> Verified:
    """The same, or what a head that was kept elsewhere says against it."""
    for number, signed, signature in kept:
        if not verifier.is_true(found.source, number, signed, signature):
            return replace(found, fault=Fault.UNSIGNED, number=number)
        if number <= found.left:
            continue
        if number > found.left + found.records:
            return replace(found, fault=Fault.CUT, number=kept[-1].number)
        query = "SELECT CAST(chain AS BLOB) FROM audit_record WHERE number = ?"
        if connection.execute(query, (number,)).fetchone() != (signed,):
            return replace(found, fault=Fault.FORKED, number=number)
    return found


def _findable(connection: sqlite3.Connection, found: Verified) -> Verified:
    """The same, or the first record that a search would miss, or find by what it does not say."""
    columns = "number, at, type, action, outcome, CAST(message AS BLOB)"
    mentioned = "SELECT 1 FROM audit_mention WHERE kind = ? AND value = ? AND number = ?"
    for number, at, *said, message in connection.execute(
        f"SELECT {columns} FROM audit_record ORDER BY number"
    ):
        try:
            record = read_message(message, datetime.fromisoformat(at))
        except ValueError:  # of a time that is none, too
            return replace(found, fault=Fault.UNFINDABLE, number=number)
        told = [record.type, record.action, record.outcome]
        rows = (connection.execute(mentioned, one).fetchone() for one in mentions(record, number))
        if moment(record.when) != at or told != said or not all(rows):
            return replace(found, fault=Fault.UNFINDABLE, number=number)
    return found


def _verify(
    connection: sqlite3.Connection,
    source: str,
    verifier: Verifier,
    step: Callable[[int], object],
) -> Verified:
    heads = _Heads(connection, source, verifier)
    left, chain, signature = _beginning(connection) or (0, genesis(source), None)
    if signature is not None and not verifier.is_beginning(source, left, chain, signature):
        return Verified(source, 0, Fault.UNSIGNED, left)
    if (fault := heads.fault_at(left, chain)) is not None:
        return Verified(source, 0, fault, left)
    found = _proved(connection, source, heads, (left, chain), step)
    return replace(found, records=found.records - left, left=left)


def _proved(
    connection: sqlite3.Connection,
    source: str,
    heads: _Heads,
    beginning: tuple[int, bytes],
    step: Callable[[int], object],
) -> Verified:
    """The same of the records behind ``beginning``; those before it count as proved."""
    expected, chain = beginning
    for number, message, stored in _records(connection):
        expected += 1
        if number != expected:
            return Verified(source, expected - 1, Fault.REMOVED, expected)
        before, chain = chain, link(chain, number, message)
        if chain != stored:
            return Verified(source, number - 1, _which(connection, before, number, stored), number)
        if (fault := heads.fault_at(number, chain)) is not None:
            return Verified(source, number - 1, fault, number)
        if number % STEP == 0:
            step(STEP)
    step(expected % STEP)
    if (beyond := heads.beyond()) is not None:
        return Verified(source, expected, Fault.CUT, beyond)
    return Verified(source, expected)


class _Heads:
    """The signed heads, in the order of their records."""

    def __init__(self, connection: sqlite3.Connection, source: str, verifier: Verifier) -> None:
        columns = "number, CAST(chain AS BLOB), CAST(signature AS BLOB)"
        rows = f"SELECT {columns} FROM audit_head ORDER BY number"
        self._rows: Iterator[tuple[int, bytes, bytes]] = iter(connection.execute(rows))
        self._source = source
        self._verifier = verifier
        self._next = next(self._rows, None)

    def fault_at(self, number: int, chain: bytes) -> Fault | None:
        """What the head at a record says against its link."""
        if self._next is None or self._next[0] != number:
            return None
        _, signed, signature = self._next
        self._next = next(self._rows, None)
        if not self._verifier.is_true(self._source, number, signed, signature):
            return Fault.UNSIGNED
        return None if signed == chain else Fault.FORKED

    def beyond(self) -> int | None:
        """The record of a head behind the last record there is."""
        return None if self._next is None else self._next[0]


def _beginning(connection: sqlite3.Connection) -> tuple[int, bytes, bytes | None] | None:
    """Behind which record, and which link, the trail begins; None for a whole one."""
    tables = "SELECT 1 FROM sqlite_master WHERE name = 'audit_pruned'"
    if connection.execute(tables).fetchone() is None:
        return None  # a trail that was not opened since such a thing exists
    columns = "number, CAST(chain AS BLOB), CAST(signature AS BLOB)"
    row: tuple[int, bytes, bytes] | None = connection.execute(
        f"SELECT {columns} FROM audit_pruned ORDER BY number DESC"
    ).fetchone()
    return row


def _which(connection: sqlite3.Connection, before: bytes, number: int, stored: bytes) -> Fault:
    """Moved, when another record has the message that belongs here, with or without its link;
    altered, else."""
    for _, message, own in _records(connection, number):
        if link(before, number, message) in (stored, own):
            return Fault.REORDERED
    return Fault.ALTERED


def _records(connection: sqlite3.Connection, since: int = 0) -> Iterator[tuple[int, bytes, bytes]]:
    # Whatever type somebody may have given them.
    columns = "number, CAST(message AS BLOB), CAST(chain AS BLOB)"
    rows = f"SELECT {columns} FROM audit_record WHERE number > ? ORDER BY number"
    return iter(connection.execute(rows, (since,)))


def open_read_only(file: Path) -> sqlite3.Connection:
    """A trail, which may be in use, to be read."""
    return sqlite3.connect(f"file:{quote(str(file))}?mode=ro", uri=True, isolation_level=None)
