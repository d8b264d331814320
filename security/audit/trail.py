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

import json
import threading
from collections.abc import Collection, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count, groupby
from operator import attrgetter
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import structlog
from sqlalchemy import Connection, Row, Table, bindparam, delete, insert, select
from sqlalchemy.dialects import sqlite

from security.audit.chain import Signer, genesis, link
from security.audit.pruning import prune
from security.audit.schema import BEGUN, HEAD, MENTION, PRUNED, RECORD
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

SUFFIX = ".db"


@dataclass(frozen=True, slots=True)
class Record:
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
    done: Future[None] = field(default_factory=Future)

    def __post_init__(self) -> None:
        self.done.set_running_or_notify_cancel()  # nobody who goes away takes a record back


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
        self._waiting = self._interrupted()
        # What is left from before is ended by the first commit of this trail.
        self._acts = count(1 + max((entry.ends or 0 for entry in self._waiting), default=0))
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

    def begin(self, records: Sequence[Record]) -> Begun:
        """Keep what is to be recorded of an act that is never ended."""
        entry = _Entry(records, begins=next(self._acts))
        return Begun(entry.begins or 0, self._put(entry))

    def _put(self, entry: _Entry) -> Future[None]:
        with self._changed:
            self._waiting.append(entry)
            self._changed.notify()
        return entry.done

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
                woken = self._changed.wait_for(lambda: self._waiting or self._closing, SEAL_SECONDS)
                waiting, self._waiting = self._waiting, []
                closing = self._closing
            if waiting:
                self._write(waiting)
            if closing or not woken or self._number - self._sealed >= SEAL_RECORDS:
                self._seal()

    def _write(self, waiting: Sequence[_Entry]) -> None:
        rows: list[tuple[object, ...]] = []
        mentions: list[tuple[str, str, int]] = []
        number, chain = self._number, self._chain
        ended = [entry for entry in waiting if entry.begins is None]
        for record in (one for entry in ended for one in entry.records):
            number += 1
            chain = link(chain, number, record.message)
            rows.append((number, *_columns(record), chain))
            mentions.extend(_mentions(record, number))
        begun = [row for entry in waiting if entry.begins for row in _begun(entry)]
        acts = [(entry.ends,) for entry in ended if entry.ends]

        def work(connection: Connection) -> None:
            driver = driver_of(connection)  # a third of the time, at every call of a node
            driver.executemany(_INSERT_RECORD, rows)
            driver.executemany(_INSERT_MENTION, mentions)
            driver.executemany(_INSERT_BEGUN, begun)
            driver.executemany(_DELETE_BEGUN, acts)
            reach("audit.before_commit")

        try:
            self.database.write(work)
        except (StorageError, OSError) as error:
            _log.critical("not recorded", code="AUDIT-LOST", error=type(error).__name__)
            for entry in waiting:
                entry.done.set_exception(error)
            return
        self._number, self._chain = number, chain
        for entry in waiting:
            entry.done.set_result(None)
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
            code="AUDIT-HEAD",
            source=self.source,
            number=self._number,
            chain=self._chain.hex(),
            signature=signature.hex(),
        )


def _insert_head(connection: Connection, head: dict[str, Any]) -> None:
    connection.execute(insert(HEAD), head)


def _insert_into(table: Table) -> str:
    """The statement that the driver takes."""
    return str(insert(table).compile(dialect=sqlite.dialect()))


_INSERT_RECORD, _INSERT_MENTION, _INSERT_BEGUN = map(_insert_into, (RECORD, MENTION, BEGUN))
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


def _mentions(record: Record, number: int) -> list[tuple[str, str, int]]:
    named = [("patient", one) for one in record.patients] + [("user", one) for one in record.users]
    return [(kind, value, number) for kind, value in {*named} if value]
