"""Archives that stay where they are: what they have and the index lacks is fetched from them.

Asks each archive by C-FIND for the studies of the last days, compares the instances of each with
the index, and has a study that lacks some sent by C-MOVE to this node's own receiver (PS3.4 C.4.1,
C.4.2, as user). A study that an archive tells of (IAN) is fetched whatever its date. Compared are
UIDs, for numbers prove nothing where the index has instances that the archive lacks. Nothing is
noted: the index itself tells what is missing, so a process that dies loses nothing. Not here:
C-GET, DICOMweb, caching and handing through.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice

import structlog
from sqlalchemy import select

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
from imaging_source.schema import INSTANCE, QUARANTINE
from imaging_source.service import SUCCESS
from storage.database import Database
from storage.errors import StorageError

_log = structlog.get_logger("kosmos.imaging_source")

_STUDY_DATE = 0x00080020
_INSTANCES = 0x00201208
_SERIES_INSTANCE_UID = 0x0020000E
_SOP_INSTANCE_UID = 0x00080018
_PENDING = (0xFF00, 0xFF01)
_MEDIUM = 0

# An archive that reads from tape says nothing for minutes between two instances.
_LIMITS = Limits(idle_seconds=600.0)
# A study that could not be fetched whole is left alone for this long.
_PAUSE_SECONDS = 900.0
# What was compared and found whole is compared again after this time, unchanged as it may seem.
_SURE_SECONDS = 3600.0
# Answers of one query: more than any study has instances, or any archive studies in some days.
_MOST_ANSWERS = 200_000
# UIDs in one statement: well below SQLite's limit of 32,766 values.
_PORTION = 10_000
# A fetch under way must not keep the process from stopping.
_STOP_SECONDS = 3.0

_TROUBLES = (Unreachable, PeerGone, ProtocolError, Unreadable)


class _Failed(Unreachable):
    """A query was answered with a status of failure; the association is as good as before."""


@dataclass(frozen=True, slots=True)
class Held:
    """A study that an archive has: how many ``instances``, or when it told of some.

    Both are None where it counts none: then nothing shows that the study has changed.
    """

    study_instance_uid: str
    instances: int | None = None
    told_at: float | None = None


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
        self._whole: dict[tuple[str, Held, int], float] = {}
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
                with self._ask(archive, STUDY_ROOT_FIND) as asked:
                    held = self._held(asked)
                    missing = sum(self._lacks(asked, one) for one in held)
            except _TROUBLES:
                yield Condition(archive.title, address, answers=False)
            else:
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
        self._whole = {known: at for known, at in self._whole.items() if at > now}
        missing: dict[str, None] = {}  # in the order in which they were told
        try:
            with self._ask(archive, STUDY_ROOT_FIND) as asked:
                for one in (*self._told(archive), *self._held(asked)):
                    if self._stopping.is_set():
                        break
                    if one.study_instance_uid not in self._not_before and self._lacks(asked, one):
                        missing[one.study_instance_uid] = None
        except _TROUBLES as error:
            _log.warning("archive not read", code="dicom-archives", reason=str(error))
        for number, study in enumerate(missing):
            if self._stopping.is_set():
                return number
            self._not_before[study] = now + _PAUSE_SECONDS
            self._try_to_fetch(archive, study)
        return len(missing)

    def _try_to_fetch(self, archive: Peer, study: str) -> None:
        try:
            self._fetch(archive, study)
        except _TROUBLES as error:
            _log.warning("study not fetched whole", code="dicom-archives", reason=str(error))

    def _told(self, archive: Peer) -> list[Held]:
        """What the archive has told of in the days that are looked at: a notice tells of some
        instances, not of how many the study has."""
        with self._database.read() as connection:
            told = available(connection, self._clock() - self._days * 86_400.0)
        return [
            Held(one.study_instance_uid, told_at=one.told_at)
            for one in told
            if archive.title in (one.sender, one.retrieve_ae_title)
        ]

    def _held(self, asked: Requested) -> list[Held]:
        """The studies of the last days that the archive has."""
        first = datetime.fromtimestamp(self._clock(), UTC) - timedelta(days=self._days)
        identifier: Values = {
            QUERY_RETRIEVE_LEVEL: ("CS", "STUDY"),
            _STUDY_DATE: ("DA", f"{first:%Y%m%d}-"),
            STUDY_INSTANCE_UID: ("UI", ""),
            _INSTANCES: ("IS", ""),
        }
        return [one for one in map(_held, _found(asked, identifier)) if one is not None]

    def _lacks(self, asked: Requested, held: Held) -> bool:
        """Whether the archive has instances of a study that are not here; those that were
        rejected, or are in quarantine, are not wanted again."""
        query = select(INSTANCE.c.sop_instance_uid)
        here = query.where(INSTANCE.c.study_instance_uid == held.study_instance_uid)
        with self._database.read() as connection:
            had = set(connection.execute(here).scalars())
        known = (asked.line.name, held, len(had))
        if known in self._whole:
            return False
        there = _instances(asked, held.study_instance_uid)
        if not there:  # it has none, or tells of none: what is here has to do
            return not had
        if (lacking := there - had) and not self._in_quarantine(lacking):
            return True
        if held.instances is not None or held.told_at is not None:
            self._whole[known] = self._clock() + _SURE_SECONDS
        return False

    def _in_quarantine(self, uids: set[str]) -> bool:
        """Whether all of these instances are."""
        rest = iter(uids)
        with self._database.read() as connection:
            while portion := list(islice(rest, _PORTION)):
                query = select(QUARANTINE.c.sop_instance_uid).distinct()
                kept = query.where(QUARANTINE.c.sop_instance_uid.in_(portion))
                if len(connection.execute(kept).all()) < len(portion):
                    return False
        return True

    def _fetch(self, archive: Peer, study: str) -> None:
        """Have a study sent to us; it arrives at the receiver, on associations of the archive."""
        identifier: Values = {
            QUERY_RETRIEVE_LEVEL: ("CS", "STUDY"),
            STUDY_INSTANCE_UID: ("UI", study),
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
    """The data sets of the pending responses; _Failed when the last one tells of failure."""
    while (message := asked.response_to(field)).command.status in _PENDING:
        yield message.data_set
    if message.command.status != SUCCESS:
        text = f"{asked.line.name} answers with status {message.command.status:#06x}"
        raise _Failed(text)


def _found(asked: Requested, identifier: Values) -> list[bytes]:
    """The matches of a query; Unreachable when there is no end of them."""
    _send(asked, C_FIND_RQ, STUDY_ROOT_FIND, identifier)
    found = list(islice(_answers(asked, C_FIND_RQ), _MOST_ANSWERS))
    if len(found) == _MOST_ANSWERS:
        raise Unreachable(f"{asked.line.name} has more than {_MOST_ANSWERS} answers to a query")
    return found


def _instances(asked: Requested, study: str) -> set[str]:
    """The SOP Instance UIDs that an archive has of a study.

    Asked for at once, which many archives answer; else series by series, which all of them must
    (PS3.4 C.4.1.2.1). None where it refuses both.
    """
    of_study = {STUDY_INSTANCE_UID: study}
    with suppress(_Failed):
        if found := _uids(asked, "IMAGE", of_study, _SOP_INSTANCE_UID):
            return found
    found = set()
    with suppress(_Failed):
        for series in _uids(asked, "SERIES", of_study, _SERIES_INSTANCE_UID):
            of_series = {**of_study, _SERIES_INSTANCE_UID: series}
            found |= _uids(asked, "IMAGE", of_series, _SOP_INSTANCE_UID)
    return found


def _uids(asked: Requested, level: str, above: Mapping[int, str], wanted: int) -> set[str]:
    """The unique keys of a level below those ``above``."""
    identifier: Values = {
        QUERY_RETRIEVE_LEVEL: ("CS", level),
        wanted: ("UI", ""),
        **{tag: ("UI", uid) for tag, uid in above.items()},
    }
    told = (texts_of(Elements(one, Encoding.EXPLICIT), wanted) for one in _found(asked, identifier))
    return {uid for (uid,) in told if is_uid(uid)}


def _held(data: bytes) -> Held | None:
    uid, count = texts_of(Elements(data, Encoding.EXPLICIT), STUDY_INSTANCE_UID, _INSTANCES)
    return Held(uid, int(count) if count.isdecimal() else None) if is_uid(uid) else None
