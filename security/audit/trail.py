"""One process's audit trail: records in a chain, durable before anybody is answered.

``append`` returns at once; its future is done when the records are synced. One thread takes
whatever waits and writes it in one commit, so that a trail costs one sync for many calls. Each
minute, and at the end, the head of the chain is signed and logged (``security.audit.chain``).
When the disk is nearly full, ``ready`` raises: an act that cannot be recorded is not performed.

An act is performed in another database than its record is written in. ``begin`` keeps, before the
act, what is to be recorded should the process die before ``append`` ends it: whoever opens the
trail next records that. So whatever was done is in the trail, acknowledged or not.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
import threading
from collections.abc import Collection, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from itertools import chain, count, groupby
from operator import attrgetter
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import structlog
from sqlalchemy import Connection, Row, Table, bindparam, delete, insert, select
from sqlalchemy.dialects import sqlite

from security.audit.chain import Signer, genesis, link
from security.audit.heads import CODE
from security.audit.pruning import prune
from security.audit.schema import BEGUN, HEAD, MENTION, PRUNED, RECORD
from security.audit.turns import Turns
from storage.database import Database
from storage.errors import StorageError
from storage.faultpoints import reach
from storage.space import LowWaterMark
from storage.sqlite import driver_of

_log = structlog.get_logger("kosmos.audit")

# What an intruder may cut off the end unseen, in time.
SEAL_SECONDS = 60.0

# ... and in records, under load.
SEAL_RECORDS = 1000

# Rows of one statement: the driver keeps 512 statements, of three tables here.
_AT_ONCE = 64

SUFFIX = ".db"


class Record(NamedTuple):
    """One record: the DICOM AuditMessage, and what it is found by.

    ``type`` is the transaction's number, or the EventID's code where there is none; ``patients``
    are CX, ``users`` the ids and names of whoever took part.
    """

    message: bytes
    when: datetime
    type: str
    action: str
    outcome: int
    patients: Sequence[str] = ()
    users: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Begun:
    """An act that was begun; ``durable`` is done when that is certain, or has the StorageError."""

    act: int
    durable: Future[None]


@dataclass(frozen=True, slots=True)
class _Entry:
    """What waits to be written: records, or with ``begins`` what is kept until an act ends."""

    records: Sequence[Record]
    begins: int | None = None
    ends: int | None = None


@dataclass(frozen=True, slots=True)
class _Group:
    """What is written in one commit, and then done together."""

    entries: list[_Entry] = field(default_factory=list)
    written: Future[None] = field(default_factory=Future)

    def __post_init__(self) -> None:
        self.written.set_running_or_notify_cancel()  # who goes away takes no record back


def moment(when: datetime) -> str:
    """A time as trails write it."""
    return when.astimezone(UTC).isoformat(timespec="milliseconds")


class Trail:
    """The trail ``name`` in ``folder``, of the node ``node``; safe for many threads."""

    def __init__(
        self, folder: Path, node: str, name: str, low_water: LowWaterMark, migrations: Path
    ) -> None:
        """Open it, its schema brought up to date by ``migrations``.

        Raises StorageError, also when another process writes it, and OSError or ValueError when
        the node's key cannot be had.
        """
        self.source = f"{node}/{name}"
        self._low_water = low_water
        self._folder = folder
        self._signer = Signer(folder)
        self.database = Database.open(f"sqlite:///{folder / name}{SUFFIX}", low_water=low_water)
        self.database.migrate(migrations)
        self._number, self._chain = self._last()
        self._sealed = self._number
        self._waiting = _Group(self._interrupted())
        # What is left from before is ended by the first commit of this trail.
        left = (entry.ends or 0 for entry in self._waiting.entries)
        self._acts = count(1 + max(left, default=0))
        self._turns = Turns(self._wake)
        self._changed = threading.Condition()
        self._news: list[threading.Event] = []
        self._closing = False
        self._thread = threading.Thread(target=self._work, name="audit trail", daemon=True)
        self._thread.start()

    def ready(self) -> None:
        """Raise OutOfSpace when nothing more can be recorded."""
        self._low_water.check(self._folder)

    def append(self, records: Sequence[Record], begun: Begun | None = None) -> Future[None]:
        """Record, and end the act that was ``begun``; the future is done when that is durable,
        or has the StorageError."""
        return self._put(_Entry(records, ends=begun.act if begun else None))

    def appended(self, records: Sequence[Record]) -> asyncio.Future[None]:
        """``append`` in the thread of an event loop: with whatever else it has meanwhile."""
        with self._changed:
            group = self._waiting
            group.entries.append(_Entry(records))
        return self._turns.until(group.written)

    def begin(self, records: Sequence[Record]) -> Begun:
        """Keep what is to be recorded of an act that is never ended."""
        entry = _Entry(records, begins=next(self._acts))
        return Begun(entry.begins or 0, self._put(entry))

    def _put(self, entry: _Entry) -> Future[None]:
        with self._changed:
            self._waiting.entries.append(entry)
            self._changed.notify()
            return self._waiting.written

    def _wake(self) -> None:
        with self._changed:
            self._changed.notify()

    def news(self) -> threading.Event:
        """What is set from now on whenever records have been written; who waits clears it."""
        event = threading.Event()
        self._news.append(event)
        return event

    def prune(self, before: datetime, targets: Collection[str]) -> int:
        """Let records older than ``before`` go that every target has; how many did.

        Raises StorageError.
        """
        return prune(self.database, self.source, self._signer, moment(before), targets)

    def close(self) -> None:
        """Write what waits, sign the head, give the file back."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join()
        self.database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _last(self) -> tuple[int, bytes]:
        with self.database.read() as connection:
            newest = select(RECORD.c.number, RECORD.c.chain).order_by(RECORD.c.number.desc())
            row = connection.execute(newest.limit(1)).first()
            row = row or connection.execute(select(PRUNED.c.number, PRUNED.c.chain)).first()
        return (row.number, row.chain) if row else (0, genesis(self.source))

    def _interrupted(self) -> list[_Entry]:
        """The records of the acts that were begun and never ended."""
        with self.database.read() as connection:
            rows = connection.execute(select(BEGUN).order_by(BEGUN.c.act, BEGUN.c.place)).all()
        acts = groupby(rows, attrgetter("act"))
        found = [_Entry([_kept(row) for row in of_act], ends=act) for act, of_act in acts]
        if found:
            _log.warning("acts were interrupted", code="AUDIT-INTERRUPTED", acts=len(found))
        return found

    def _work(self) -> None:
        closing = False
        while not closing:
            with self._changed:
                woken = self._changed.wait_for(self._is_due, SEAL_SECONDS)
                group, self._waiting = self._waiting, _Group()
                closing = self._closing
            if group.entries:
                self._write(group)
            if closing or not woken or self._number - self._sealed >= SEAL_RECORDS:
                self._seal()

    def _is_due(self) -> bool:
        return bool(self._waiting.entries) or self._closing

    def _write(self, group: _Group) -> None:
        rows: list[tuple[object, ...]] = []
        mentioned: list[tuple[str, str, int]] = []
        number, newest = self._number, self._chain
        ended = [entry for entry in group.entries if entry.begins is None]
        for record in (one for entry in ended for one in entry.records):
            number += 1
            newest = link(newest, number, record.message)
            rows.append((number, *_columns(record), newest))
            mentioned.extend(mentions(record, number))
        begun = [row for entry in group.entries if entry.begins for row in _begun(entry)]
        acts = [(entry.ends,) for entry in ended if entry.ends]

        def work(connection: Connection) -> None:
            driver = driver_of(connection)  # a third of the time, at every call of a node
            _insert(driver, RECORD, rows)
            _insert(driver, MENTION, mentioned)
            _insert(driver, BEGUN, begun)
            if acts:
                driver.executemany(_DELETE_BEGUN, acts)
            reach("audit.before_commit")

        try:
            self.database.write(work)
        except (StorageError, OSError) as error:
            _log.critical("not recorded", code="AUDIT-LOST", error=type(error).__name__)
            group.written.set_exception(error)
            return
        self._number, self._chain = number, newest
        group.written.set_result(None)
        for event in self._news:
            event.set()

    def _seal(self) -> None:
        """Sign the head, when it has moved since the last time."""
        if self._sealed == self._number:
            return
        signature = self._signer.sign(self.source, self._number, self._chain)
        head = {
            "number": self._number,
            "at": moment(datetime.now(UTC)),
            "chain": self._chain,
            "signature": signature,
        }
        try:
            self.database.write(lambda connection: _insert_head(connection, head))
        except StorageError as error:
            _log.error("head not signed", code="AUDIT-HEAD", error=type(error).__name__)
            return
        self._sealed = self._number
        _log.info(
            "audit head",
            code=CODE,
            source=self.source,
            number=self._number,
            chain=self._chain.hex(),
            signature=signature.hex(),
        )


def _insert_head(connection: Connection, head: dict[str, Any]) -> None:
    connection.execute(insert(HEAD), head)


def _insert(driver: sqlite3.Connection, table: Table, rows: Sequence[tuple[object, ...]]) -> None:
    """Insert rows, many by each statement: at every single one this thread would give the
    interpreter away, and wait until the thread that answers lets it have it again."""
    for start in range(0, len(rows), _AT_ONCE):
        some = rows[start : start + _AT_ONCE]
        driver.execute(_inserting(table, len(some)), [*chain.from_iterable(some)])


@cache
def _inserting(table: Table, rows: int) -> str:
    """The statement that inserts so many rows, as the driver takes it."""
    row = f"({', '.join('?' * len(table.columns))})"
    return f"INSERT INTO {table.name} VALUES {', '.join([row] * rows)}"


_DELETE_BEGUN = str(
    delete(BEGUN).where(BEGUN.c.act == bindparam("act")).compile(dialect=sqlite.dialect())
)


def _columns(record: Record) -> tuple[object, ...]:
    """What a record and one that is kept for an act have in common, in the tables' order."""
    return (
        moment(record.when),
        record.type,
        record.action,
        record.outcome,
        record.message,
    )


def _begun(entry: _Entry) -> list[tuple[object, ...]]:
    return [
        (entry.begins, place, *_columns(one), json.dumps([[*one.patients], [*one.users]]))
        for place, one in enumerate(entry.records)
    ]


def _kept(row: Row[Any]) -> Record:
    patients, users = json.loads(row.mentions)
    when = datetime.fromisoformat(row.at)
    return Record(row.message, when, row.type, row.action, row.outcome, patients, users)


def mentions(record: Record, number: int) -> list[tuple[str, str, int]]:
    """The rows by which a record is found: whom it is about, and who took part."""
    named = [("patient", one) for one in record.patients] + [("user", one) for one in record.users]
    return [(kind, value, number) for kind, value in {*named} if value]
