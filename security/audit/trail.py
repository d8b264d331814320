"""One process's audit trail: records in a chain, durable before anybody is answered.

``append`` returns at once; its future is done when the records are synced. One thread takes
whatever waits and writes it in one commit, so that a trail costs one sync for many calls. Each
minute, and at the end, the head of the chain is signed and logged (``security.audit.chain``).
When the disk is nearly full, ``ready`` raises: an act that cannot be recorded is not performed.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import structlog
from sqlalchemy import Connection, Table, insert, select
from sqlalchemy.dialects import sqlite

from security.audit.chain import Signer, genesis, link
from security.audit.schema import HEAD, MENTION, RECORD
from storage.database import Database
from storage.errors import StorageError
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
        self._waiting: list[tuple[Sequence[Record], Future[None]]] = []
        self._changed = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._work, name="audit trail", daemon=True)
        self._thread.start()

    def ready(self) -> None:
        """Raise OutOfSpace when nothing more can be recorded."""
        self._low_water.check(self._folder)

    def append(self, records: Sequence[Record]) -> Future[None]:
        """Record; the future is done when that is durable, or has the StorageError."""
        future: Future[None] = Future()
        future.set_running_or_notify_cancel()  # nobody who goes away takes a record back
        with self._changed:
            self._waiting.append((records, future))
            self._changed.notify()
        return future

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
        return (row.number, row.chain) if row else (0, genesis(self.source))

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

    def _write(self, waiting: Sequence[tuple[Sequence[Record], Future[None]]]) -> None:
        rows: list[tuple[object, ...]] = []
        mentions: list[tuple[str, str, int]] = []
        number, chain = self._number, self._chain
        for record in (one for records, _ in waiting for one in records):
            number += 1
            chain = link(chain, number, record.message)
            at, told = moment(record.when), (record.type, record.action, record.outcome)
            rows.append((number, at, *told, record.message, chain))
            mentions.extend(_mentions(record, number))

        def work(connection: Connection) -> None:
            driver = driver_of(connection)  # a third of the time, at every call of a node
            driver.executemany(_INSERT_RECORD, rows)
            driver.executemany(_INSERT_MENTION, mentions)

        try:
            self.database.write(work)
        except StorageError as error:
            _log.critical("not recorded", code="AUDIT-LOST", error=type(error).__name__)
            for _, future in waiting:
                future.set_exception(error)
            return
        self._number, self._chain = number, chain
        for _, future in waiting:
            future.set_result(None)

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


_INSERT_RECORD, _INSERT_MENTION = _insert_into(RECORD), _insert_into(MENTION)


def _mentions(record: Record, number: int) -> list[tuple[str, str, int]]:
    named = [("patient", one) for one in record.patients] + [("user", one) for one in record.users]
    return [(kind, value, number) for kind, value in {*named} if value]
