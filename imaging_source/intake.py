"""Taking an instance in: bytes to disk, hashed on the way, then into the index.

The order is what makes an acknowledgement true: the file is synced and moved into place,
then the index row is committed, only then may the sender hear "success" (PS3.4 B.2.3).
Whatever fails before leaves nothing that anybody can see. Used by the DICOM receiver; knows
nothing of associations.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum

import structlog
from sqlalchemy.exc import IntegrityError

from imaging_source.elements import Truncated, Unreadable
from imaging_source.header import HEADER_LIMIT_BYTES, Header, read_header
from imaging_source.index import Arrived, Verdict, add
from imaging_source.rejection import Note, read_note
from manifest.encoding import part10_head
from manifest.model import KEY_OBJECT_SELECTION
from storage.blobs import BlobStore
from storage.database import Database
from storage.errors import StorageError
from storage.faultpoints import reach
from storage.spool import FileSpool, SpooledFile

_log = structlog.get_logger("kosmos.imaging_source")

# Enough for the header of nearly every instance; the file is read again for the others.
_PREFIX_BYTES = 64 * 1024

# Two arrivals of one new study may both insert its row (PostgreSQL): the loser starts again,
# and finds the row. Three studies, series and instances could collide one after the other.
_INDEX_ATTEMPTS = 4


class Status(IntEnum):
    """Status of a C-STORE response (PS3.4 Table B.2-1, PS3.7 Annex C)."""

    SUCCESS = 0x0000
    COERCED = 0xB000
    OUT_OF_RESOURCES = 0xA700
    WRONG_CLASS = 0xA900
    CANNOT_UNDERSTAND = 0xC000


@dataclass(frozen=True, slots=True)
class Outcome:
    """What to tell the sender; ``comment`` fits Error Comment (0000,0902), 64 characters."""

    status: int
    comment: str = ""


class Intake:
    """Where arriving instances go; safe for use by many threads.

    ``stored`` is told the SOP Instance UID of each new instance, once its row is committed.
    """

    def __init__(
        self,
        database: Database,
        blobs: BlobStore,
        clock: Callable[[], float] = time.time,
        stored: Callable[[str], None] = lambda _uid: None,
    ) -> None:
        self.database = database
        self.blobs = blobs
        self.clock = clock
        self.stored = stored

    def begin(
        self, sop_class_uid: str, sop_instance_uid: str, transfer_syntax_uid: str, sender: str
    ) -> Arrival:
        """Start taking an instance in; StorageError when there is no room for it."""
        spool = self.blobs.spool_addressed()
        spool.write(part10_head(sop_class_uid, sop_instance_uid, transfer_syntax_uid))
        return Arrival(self, spool, (sop_class_uid, sop_instance_uid), transfer_syntax_uid, sender)


class Arrival:
    """One instance while it arrives; end it with ``finish`` or ``abort``."""

    def __init__(
        self,
        intake: Intake,
        spool: FileSpool,
        announced: tuple[str, str],
        transfer_syntax_uid: str,
        sender: str,
    ) -> None:
        self._intake = intake
        self._spool = spool
        self._announced = announced
        self._syntax = transfer_syntax_uid
        self._sender = sender
        self._prefix = bytearray()
        self._size = 0

    def write(self, data: memoryview) -> None:
        """Take the next bytes of the data set; StorageError when they cannot be kept."""
        if len(self._prefix) < _PREFIX_BYTES:
            self._prefix += data[: _PREFIX_BYTES - len(self._prefix)]
        self._size += len(data)
        self._spool.write(data)

    def abort(self) -> None:
        """Forget the instance: its sender is gone or gave up."""
        self._spool.abort()

    def finish(self) -> Outcome:
        """Make the instance durable and index it; never raises for what a sender can cause."""
        spooled: SpooledFile | None = None
        try:
            spooled = self._spool.finish()
            return self._store(spooled)
        except Unreadable as error:
            return Outcome(Status.CANNOT_UNDERSTAND, str(error)[:64])
        except StorageError as error:
            _log.error("instance not stored", code="imaging-storage", error=type(error).__name__)
            return Outcome(Status.OUT_OF_RESOURCES, "no resources to store the instance")
        finally:
            if spooled is not None:
                spooled.discard()  # does nothing to a file that has been kept

    def _store(self, spooled: SpooledFile) -> Outcome:
        header = self._header(spooled)
        if (header.sop_class_uid, header.sop_instance_uid) != self._announced:
            return Outcome(Status.WRONG_CLASS, "the data set is not the instance announced")
        note = self._note(spooled) if header.sop_class_uid == KEY_OBJECT_SELECTION else None
        blob = self._intake.blobs.keep(spooled)
        arrived = Arrived(
            header=header,
            transfer_syntax_uid=self._syntax,
            sha256=blob.sha256,
            size=blob.size,
            sender=self._sender,
            received_at=self._intake.clock(),
            note=note,
        )
        verdict = self._index(arrived)
        reach("imaging.stored")
        if verdict.is_quarantine:
            _log.warning("instance in quarantine", code="imaging-quarantine", reason=verdict.value)
            return Outcome(Status.COERCED, f"put in quarantine: {verdict.value}")
        if verdict is Verdict.STORED:
            self._intake.stored(header.sop_instance_uid)
        return Outcome(Status.SUCCESS)

    def _index(self, arrived: Arrived) -> Verdict:
        for _ in range(_INDEX_ATTEMPTS - 1):
            try:
                return self._intake.database.write(lambda connection: add(connection, arrived))
            except IntegrityError:
                continue
        return self._intake.database.write(lambda connection: add(connection, arrived))

    def _header(self, spooled: SpooledFile) -> Header:
        """The header, from memory, or from the file where it is longer than the prefix."""
        try:
            more = self._size > len(self._prefix)
            return read_header(bytes(self._prefix), self._syntax, more)
        except Truncated:
            if not more:
                raise
        data = self._beginning(spooled)
        return read_header(data, self._syntax, len(data) < self._size)

    def _note(self, spooled: SpooledFile) -> Note | None:
        """What a Key Object Selection says, if it is a rejection note.

        One beyond 16 MiB names more than 50,000 instances: it is read as broken off.
        """
        return read_note(self._beginning(spooled), self._syntax)

    def _beginning(self, spooled: SpooledFile) -> bytes:
        """The data set from the file, up to the longest header there may be."""
        head = spooled.size - self._size
        read = bytearray()
        for piece in spooled.chunks():
            read += piece
            if len(read) >= head + HEADER_LIMIT_BYTES:
                break
        return bytes(read[head:])
