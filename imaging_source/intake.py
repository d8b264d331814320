"""Taking an instance in: bytes to disk, hashed on the way, then into the index.

The order is what makes an acknowledgement true: the file is synced and moved into place,
then the index row is committed, only then may the sender hear "success" (PS3.4 B.2.3).
Whatever fails before leaves nothing that anybody can see. Used by the DICOM receiver; knows
nothing of associations.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum

import structlog
from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from imaging_source.data_sets import data_set_of, inflated
from imaging_source.elements import Truncated, Unreadable
from imaging_source.extent import prove_end
from imaging_source.header import HEADER_LIMIT_BYTES, Header, read_header
from imaging_source.index import Arrived, Verdict, add
from imaging_source.ledger import UNKNOWN, About
from imaging_source.rejection import Note, read_note
from imaging_source.syntaxes import INFLATED
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
    about: About = UNKNOWN
    """Which study it was of, where that could be read."""


class Door(ABC):
    """Where arriving instances go; safe for use by many threads."""

    def __init__(self, blobs: BlobStore, clock: Callable[[], float] = time.time) -> None:
        self.blobs = blobs
        self.clock = clock

    @abstractmethod
    def index(self, arrived: Sequence[Arrived]) -> list[Verdict]:
        """Take instances whose files are durable into the index: all in one commit.

        What became of each, in their order. Raises StorageError, then of all of them.
        """

    def begin(
        self, sop_class_uid: str, sop_instance_uid: str, transfer_syntax_uid: str, sender: str
    ) -> Arrival:
        """Start taking an instance in; StorageError when there is no room for it."""
        spool = self.blobs.spool_addressed()
        spool.write(part10_head(sop_class_uid, sop_instance_uid, transfer_syntax_uid))
        return Arrival(self, spool, (sop_class_uid, sop_instance_uid), transfer_syntax_uid, sender)


class Intake(Door):
    """The door of the process that writes the index.

    ``stored`` is told the SOP Instance UID of each new instance, once its row is committed.
    """

    def __init__(
        self,
        database: Database,
        blobs: BlobStore,
        clock: Callable[[], float] = time.time,
        stored: Callable[[str], None] = lambda _uid: None,
    ) -> None:
        super().__init__(blobs, clock)
        self.database = database
        self.stored = stored

    def index(self, arrived: Sequence[Arrived]) -> list[Verdict]:
        """See ``Door``."""
        verdicts = self._add(arrived)
        reach("imaging.stored")
        for one, verdict in zip(arrived, verdicts, strict=True):
            if verdict.is_quarantine:
                _log.warning(
                    "instance in quarantine",
                    code="imaging-quarantine",
                    reason=verdict.value,
                    sender=one.sender,
                )
            elif verdict is Verdict.STORED:
                self.stored(one.header.sop_instance_uid)
        return verdicts

    def _add(self, arrived: Sequence[Arrived]) -> list[Verdict]:
        def work(connection: Connection) -> list[Verdict]:
            return [add(connection, one) for one in arrived]

        for _ in range(_INDEX_ATTEMPTS - 1):
            try:
                return self.database.write(work)
            except IntegrityError:
                continue
        return self.database.write(work)


class Refused(Exception):
    """The instance is not taken in; ``outcome`` tells its sender why."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(outcome.comment)
        self.outcome = outcome


class Arrival:
    """One instance while it arrives; end it with ``finish`` or ``abort``."""

    def __init__(
        self,
        door: Door,
        spool: FileSpool,
        announced: tuple[str, str],
        transfer_syntax_uid: str,
        sender: str,
    ) -> None:
        self._door = door
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
        try:
            arrived = self.keep()
            (verdict,) = self._door.index([arrived])
        except Refused as refused:
            return refused.outcome
        except (StorageError, OSError) as error:
            return out_of_resources(error)
        return replace(outcome_of(verdict), about=About.of(arrived.header.study))

    def keep(self) -> Arrived:
        """Make the file durable, for ``Door.index``; ends the arrival. Raises Refused."""
        spooled: SpooledFile | None = None
        try:
            spooled = self._spool.finish()
            arrived = self._kept(spooled)
            reach("imaging.kept")
            return arrived
        except Unreadable as error:
            raise refusal(Status.CANNOT_UNDERSTAND, str(error), self._sender) from error
        except (StorageError, OSError) as error:
            raise Refused(out_of_resources(error)) from error
        finally:
            if spooled is not None:
                spooled.discard()  # does nothing to a file that has been kept

    def _kept(self, spooled: SpooledFile) -> Arrived:
        header = self._header(spooled)
        if (header.sop_class_uid, header.sop_instance_uid) != self._announced:
            comment = "the data set is not the instance announced"
            raise refusal(Status.WRONG_CLASS, comment, self._sender)
        if self._syntax not in INFLATED:  # the end of what is deflated has been proved
            with spooled.content.open() as file:
                start = spooled.size - self._size + header.rest
                prove_end(file, start, self._syntax)
        note = self._note(spooled) if header.sop_class_uid == KEY_OBJECT_SELECTION else None
        blob = self._door.blobs.keep(spooled)
        return Arrived(
            header=header,
            transfer_syntax_uid=self._syntax,
            sha256=blob.sha256,
            size=blob.size,
            sender=self._sender,
            received_at=self._door.clock(),
            note=note,
        )

    def _header(self, spooled: SpooledFile) -> Header:
        """The header, from memory, or from the file where it is longer than the prefix."""
        if self._syntax not in INFLATED:
            more = self._size > len(self._prefix)
            try:
                return read_header(bytes(self._prefix), self._syntax, more)
            except Truncated:
                if not more:
                    raise
        data, more = self._beginning(spooled)
        return read_header(data, self._syntax, more)

    def _note(self, spooled: SpooledFile) -> Note | None:
        """What a Key Object Selection says, if it is a rejection note.

        One beyond 16 MiB names more than 50,000 instances: it is read as broken off.
        """
        return read_note(self._beginning(spooled)[0], self._syntax)

    def _beginning(self, spooled: SpooledFile) -> tuple[bytes, bool]:
        """The data set from the file, up to the longest header there may be; whether more follows.

        One that is deflated is inflated to its end, which proves that it can be.
        """
        is_deflated = self._syntax in INFLATED
        pieces = data_set_of(spooled)
        read, more = bytearray(), False
        for piece in inflated(pieces) if is_deflated else pieces:
            if len(read) < HEADER_LIMIT_BYTES:
                read += piece
                continue
            more = True
            if not is_deflated:
                break
        return bytes(read), more


def outcome_of(verdict: Verdict) -> Outcome:
    """What a sender is told of what became of its instance."""
    if verdict.is_quarantine:
        return Outcome(Status.COERCED, f"put in quarantine: {verdict.value}")
    return Outcome(Status.SUCCESS)


def refusal(status: int, comment: str, sender: str) -> Refused:
    """What a sender is told of an instance that is not taken in; people find it in the log."""
    _log.warning(
        "instance refused",
        code="imaging-refused",
        status=f"{status:04X}",
        reason=comment,
        sender=sender,
    )
    return Refused(Outcome(status, comment[:64]))


def out_of_resources(error: StorageError | OSError) -> Outcome:
    """What a sender is told when the node cannot store."""
    _log.error("instance not stored", code="imaging-storage", error=type(error).__name__)
    return Outcome(Status.OUT_OF_RESOURCES, "no resources to store the instance")
