"""Archives that stay where they are: what they have and the index lacks is fetched from them.

Asks each archive by C-FIND for the studies of the last days, compares the instances of each with
the index, and has the missing ones sent by C-MOVE to this node's own receiver (PS3.4 C.4.1,
C.4.2, as user). A study that an archive tells of (IAN) is fetched whatever its date. Nothing is
noted: the index itself tells what is missing, so a process that dies loses nothing. Not here:
C-GET, DICOMweb, caching and handing through.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import structlog
from sqlalchemy import func, select

from imaging_source.dimse import (
    C_FIND_RQ,
    C_MOVE_RQ,
    MESSAGE_ID,
    MOVE_DESTINATION,
    PRIORITY,
    SOP_CLASS_UID,
    write_data_set,
    write_request,
)
from imaging_source.elements import EXPLICIT_VR_LITTLE_ENDIAN, Elements, Encoding, Unreadable
from imaging_source.encoded import Values, encode
from imaging_source.guard import Limits, PeerGone, ProtocolError
from imaging_source.header import is_uid
from imaging_source.notices import available
from imaging_source.query_retrieve.models import (
    QUERY_RETRIEVE_LEVEL,
    STUDY_INSTANCE_UID,
    STUDY_ROOT_FIND,
    STUDY_ROOT_MOVE,
)
from imaging_source.references import texts_of
from imaging_source.requestor import Peer, Requested, Unreachable
from imaging_source.schema import INSTANCE
from imaging_source.service import SUCCESS
from storage.database import Database
from storage.errors import StorageError

_log = structlog.get_logger("kosmos.imaging_source")

_STUDY_DATE = 0x00080020
_INSTANCES = 0x00201208
_PENDING = (0xFF00, 0xFF01)
_MEDIUM = 0

# An archive that reads from tape says nothing for minutes between two instances.
_LIMITS = Limits(idle_seconds=600.0)
# A study that could not be fetched whole is left alone for this long.
_PAUSE_SECONDS = 900.0
# A fetch under way must not keep the process from stopping.
_STOP_SECONDS = 3.0

_TROUBLES = (Unreachable, PeerGone, ProtocolError, Unreadable)


@dataclass(frozen=True, slots=True)
class Held:
    """A study that an archive has; ``instances`` is None where it does not count them."""

    study_instance_uid: str
    instances: int | None


@dataclass(frozen=True, slots=True)
class Condition:
    """An archive as it is now: whether it answers, and the studies of the last days."""

    title: str
    address: str
    answers: bool
    studies: int = 0
    missing: int = 0


class Archives:
    """Fetches from ``archives`` what is missing; ``title`` is our own, by which they know us.

    ``days`` before today are looked at each ``poll_seconds``.
    """

    def __init__(
        self,
        database: Database,
        title: str,
        archives: Sequence[Peer],
        *,
        days: int,
        poll_seconds: float,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._database = database
        self._title = title
        self._archives = archives
        self._days = days
        self._poll_seconds = poll_seconds
        self._clock = clock
        self._not_before: dict[str, float] = {}
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="archives", daemon=True)

    def start(self) -> None:
        """Fetch from a thread until ``stop``."""
        if self._archives:
            self._thread.start()

    def stop(self) -> None:
        """End the thread after the study under way, or leave it to the next process."""
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join(_STOP_SECONDS)

    def run_once(self) -> int:
        """Fetch what is missing now; how many studies were asked for. Raises StorageError."""
        return sum(self._fetch_missing(archive) for archive in self._archives)

    def conditions(self) -> Iterator[Condition]:
        """How each archive is; asks them. Raises StorageError."""
        for archive in self._archives:
            address = f"{archive.host}:{archive.port}"
            try:
                held = self._held(archive)
            except _TROUBLES:
                yield Condition(archive.title, address, answers=False)
            else:
                missing = sum(self._is_missing(one) for one in held)
                yield Condition(archive.title, address, True, len(held), missing)

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self.run_once()
            except StorageError as error:
                _log.error("archives wait", code="dicom-archives", error=type(error).__name__)
            self._stopping.wait(self._poll_seconds)

    def _fetch_missing(self, archive: Peer) -> int:
        now = self._clock()
        self._not_before = {uid: at for uid, at in self._not_before.items() if at > now}
        try:
            held = [*self._told(archive), *self._held(archive)]
        except _TROUBLES as error:
            _log.warning("archive not read", code="dicom-archives", reason=str(error))
            return 0
        fetched = 0
        for one in held:
            paused = one.study_instance_uid in self._not_before
            if self._stopping.is_set() or paused or not self._is_missing(one):
                continue
            self._not_before[one.study_instance_uid] = now + _PAUSE_SECONDS
            self._try_to_fetch(archive, one)
            fetched += 1
        return fetched

    def _try_to_fetch(self, archive: Peer, held: Held) -> None:
        try:
            self._fetch(archive, held)
        except _TROUBLES as error:
            _log.warning("study not fetched whole", code="dicom-archives", reason=str(error))

    def _told(self, archive: Peer) -> list[Held]:
        """What the archive has told of in the days that are looked at."""
        with self._database.read() as connection:
            told = available(connection, self._clock() - self._days * 86_400.0)
        return [
            Held(one.study_instance_uid, one.instances)
            for one in told
            if archive.title in (one.sender, one.retrieve_ae_title)
        ]

    def _held(self, archive: Peer) -> list[Held]:
        """The studies of the last days that the archive has."""
        first = datetime.fromtimestamp(self._clock(), UTC) - timedelta(days=self._days)
        identifier: Values = {
            QUERY_RETRIEVE_LEVEL: ("CS", "STUDY"),
            _STUDY_DATE: ("DA", f"{first:%Y%m%d}-"),
            STUDY_INSTANCE_UID: ("UI", ""),
            _INSTANCES: ("IS", ""),
        }
        with self._ask(archive, STUDY_ROOT_FIND) as asked:
            _send(asked, C_FIND_RQ, STUDY_ROOT_FIND, identifier)
            found = list(_answers(asked, C_FIND_RQ))
        return [one for one in map(_held, found) if one is not None]

    def _is_missing(self, held: Held) -> bool:
        """Whether the index has fewer instances; those that were rejected are not wanted again."""
        query = select(func.count()).select_from(INSTANCE)
        here = query.where(INSTANCE.c.study_instance_uid == held.study_instance_uid)
        with self._database.read() as connection:
            count: int = connection.execute(here).scalar_one()
        return count < (1 if held.instances is None else held.instances)

    def _fetch(self, archive: Peer, held: Held) -> None:
        """Have a study sent to us; it arrives at the receiver, on associations of the archive."""
        identifier: Values = {
            QUERY_RETRIEVE_LEVEL: ("CS", "STUDY"),
            STUDY_INSTANCE_UID: ("UI", held.study_instance_uid),
        }
        with self._ask(archive, STUDY_ROOT_MOVE) as asked:
            destination = (MOVE_DESTINATION, self._title)
            _send(asked, C_MOVE_RQ, STUDY_ROOT_MOVE, identifier, destination)
            for _ in _answers(asked, C_MOVE_RQ):
                pass

    def _ask(self, archive: Peer, sop_class: str) -> Requested:
        contexts = [(sop_class, EXPLICIT_VR_LITTLE_ENDIAN)]
        asked = Requested(archive, self._title, contexts, limits=_LIMITS)
        if not asked.line.contexts:
            with asked:
                raise Unreachable(f"{archive.title} does not offer query and retrieve")
        return asked


def _send(
    asked: Requested, field: int, sop_class: str, identifier: Values, *more: tuple[int, str]
) -> None:
    line = asked.line
    elements: tuple[tuple[int, str | int], ...] = (
        (SOP_CLASS_UID, sop_class),
        (MESSAGE_ID, 1),
        (PRIORITY, _MEDIUM),
        *more,
    )
    (context_id,) = line.contexts
    data_set = encode(identifier, EXPLICIT_VR_LITTLE_ENDIAN)
    request = write_request(context_id, field, elements, has_data_set=True)
    line.send(request + write_data_set(context_id, data_set, line.pdu_bytes))


def _answers(asked: Requested, field: int) -> Iterator[bytes]:
    """The data sets of the pending responses; Unreachable when the last one tells of failure."""
    while (message := asked.response_to(field)).command.status in _PENDING:
        yield message.data_set
    if message.command.status != SUCCESS:
        text = f"{asked.line.name} answers with status {message.command.status:#06x}"
        raise Unreachable(text)


def _held(data: bytes) -> Held | None:
    uid, count = texts_of(Elements(data, Encoding.EXPLICIT), STUDY_INSTANCE_UID, _INSTANCES)
    return Held(uid, int(count) if count.isdecimal() else None) if is_uid(uid) else None
