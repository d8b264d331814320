"""Whether a trail is what was written: every record, in its place, unaltered.

The chain is computed anew from the first record on and compared link by link; signed heads are
compared with the links they were signed over. Where old records have left, it begins with the link
that the node's key has signed for that. What is found first is told, with its place.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from urllib.parse import quote

from security.audit.chain import Verifier, genesis, link
from security.audit.trail import SUFFIX

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
    file: Path, node: str, verifier: Verifier, step: Callable[[int], object] = lambda _rows: None
) -> Verified:
    """Prove the trail in ``file`` of the node ``node``; it may be in use.

    ``step`` is told of records proved, by the thousand. Raises sqlite3.Error for a file that
    cannot be read.
    """
    source = f"{node}/{file.stem}"
    with closing(open_read_only(file)) as connection:
        connection.execute("BEGIN")  # one snapshot for records and heads
        return _verify(connection, source, verifier, step)


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
    """Moved, when another record has the message that belongs here; altered, else."""
    for _, message, _ in _records(connection, number):
        if link(before, number, message) == stored:
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
