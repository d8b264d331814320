"""Archives that stay where they are: what they have and the index lacks is fetched from them.

Asks each archive for the studies of the last days, compares the instances of each with the index,
and fetches a study that lacks some. It is asked by C-FIND (``archive_dimse``) or QIDO-RS
(``archive_web``), and fetched from by C-MOVE, C-GET (``archive_get``) or WADO-RS, whichever is
asked. A study that an archive tells of (IAN) is fetched whatever its date. Compared are UIDs, for
numbers prove nothing where the index has instances that the archive lacks. Nothing is noted: the
index itself tells what is missing, so a process that dies loses nothing. What both have, an archive
can be asked to commit to (``archive_commitment``). What of it is kept here (``Bounds``) is carried
out by ``eviction``.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol

import structlog
from sqlalchemy import select

from imaging_source.housekeeping import DAY_SECONDS
from imaging_source.notices import available
from imaging_source.requestor import TROUBLES
from imaging_source.schema import INSTANCE, QUARANTINE
from storage.database import Database
from storage.errors import StorageError
from storage.statement import in_portions

_log = structlog.get_logger("kosmos.imaging_source")

# A study that was fetched is left alone for this long: by the archive that it came from, for
# another may have what that one could not give.
_PAUSE_SECONDS = 900.0
# What was compared and found whole is compared again after this time, unchanged as it may seem;
# where an archive counts no instances, a new one is noticed only then, or upon a notice (IAN).
_SURE_SECONDS = 3600.0
# Studies that an archive is asked to commit to in one look: each takes a second or two, and what
# is missing is not to wait for long.
_ASKED_AT_ONCE = 20
# A fetch under way must not keep the process from stopping.
_STOP_SECONDS = 3.0


@dataclass(frozen=True, slots=True)
class Held:
    """A study that an archive has: how many ``instances``, or when it told of some.

    Both are None where it counts none: then nothing shows that the study has changed, and it is
    compared again each hour.
    """

    study_instance_uid: str
    instances: int | None = None
    told_at: float | None = None


class Asking(Protocol):
    """Questions to an archive, one after the other. All raise Unreachable and its kind."""

    def studies(self, first: str) -> list[Held]:
        """The studies that it has from the day ``first`` (YYYYMMDD) on."""

    def instances(self, study: str) -> set[str]:
        """The SOP Instance UIDs that it has of a study; none where it does not tell."""

    def online(self, study: str) -> set[str]:
        """Those that it does not say are anywhere but with itself (Instance Availability)."""


class Questions(Protocol):
    """The side of an archive that is asked."""

    @property
    def address(self) -> str:
        """Where it is, for a person."""

    def asking(self) -> AbstractContextManager[Asking]:
        """A time in which to ask it. Raises Unreachable and its kind."""


class Supply(Protocol):
    """The side of an archive that studies are fetched from."""

    def fetch(self, study: str) -> None:
        """Have all of a study brought into the index. Raises Unreachable and its kind."""


class Assurance(Protocol):
    """The side of an archive that vouches for what it has."""

    def ask(self, study: str) -> bool:
        """Whether there was something to ask it for. Raises Unreachable and its kind."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """What is kept here of the studies that an archive has: those unused for less than ``days``,
    and of all that is here, whatever it has, ``bytes`` at most; 0 days keep nothing.
    """

    days: float | None = None
    bytes: int | None = None

    def are_passed(self, unused: float, kept: int) -> bool:
        """Whether a study unused for so many seconds may go, where so many bytes are kept."""
        too_old = self.days is not None and unused > self.days * DAY_SECONDS
        return too_old or (self.bytes is not None and kept > self.bytes)


@dataclass(frozen=True, slots=True)
class Archive:
    """An archive: how it is asked and how it is fetched from, put together.

    ``title`` is by which its notices (IAN) name it; with an ``assurance``, it is asked to commit
    to what it and the index both have. Without ``bounds`` it lets nothing go: what it has is kept.
    """

    title: str
    questions: Questions
    supply: Supply
    assurance: Assurance | None = None
    bounds: Bounds | None = None

    @property
    def address(self) -> str:
        """Where it is asked, for a person."""
        return self.questions.address

    def asking(self) -> AbstractContextManager[Asking]:
        """See ``Questions``."""
        return self.questions.asking()

    def fetch(self, study: str) -> None:
        """See ``Supply``."""
        self.supply.fetch(study)


@dataclass(frozen=True, slots=True)
class Condition:
    """An archive as it is now: whether it answers, and the studies of the last days."""

    title: str
    address: str
    answers: bool
    studies: int = 0
    missing: int = 0


class Archives:
    """Fetches from ``archives`` what is missing.

    ``days`` before today are looked at each ``poll_seconds``.
    """

    def __init__(
        self,
        database: Database,
        archives: Sequence[Archive],
        *,
        days: int,
        poll_seconds: float,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._database = database
        self._archives = archives
        self._days = days
        self._poll_seconds = poll_seconds
        self._clock = clock
        self._not_before: dict[tuple[str, str], float] = {}
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
            title, address = archive.title, archive.address
            try:
                with archive.asking() as asking:
                    held = asking.studies(self._first())
                    missing = sum(self._lacks(title, asking, one) for one in held)
            except TROUBLES:
                yield Condition(title, address, answers=False)
            else:
                yield Condition(title, address, True, len(held), missing)

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self.run_once()
            except StorageError as error:
                _log.error("archives wait", code="dicom-archives", error=type(error).__name__)
            self._stopping.wait(self._poll_seconds)

    def _fetch_missing(self, archive: Archive) -> int:
        now = self._clock()
        self._not_before = {one: at for one, at in self._not_before.items() if at > now}
        self._whole = {known: at for known, at in self._whole.items() if at > now}
        title = archive.title
        missing: dict[str, None] = {}  # in the order in which they were told
        whole: dict[str, None] = {}
        try:
            with archive.asking() as asking:
                for one in (*self._told(archive), *asking.studies(self._first())):
                    if self._stopping.is_set():
                        break
                    study = one.study_instance_uid
                    if (title, study) not in self._not_before:
                        kept = missing if self._lacks(title, asking, one) else whole
                        kept[study] = None
        except TROUBLES as error:
            _log.warning("archive not read", code="dicom-archives", reason=str(error))
        for number, study in enumerate(missing):
            if self._stopping.is_set():
                return number
            self._not_before[title, study] = now + _PAUSE_SECONDS
            self._try_to_fetch(archive, study)
        if archive.assurance is not None:
            self._assure(archive.assurance, whole)
        return len(missing)

    def _assure(self, assurance: Assurance, studies: Iterable[str]) -> None:
        """Ask to commit to ``studies``; who does not answer once is left alone until next time."""
        asked = 0
        try:
            for study in studies:
                if self._stopping.is_set() or asked == _ASKED_AT_ONCE:
                    return
                asked += assurance.ask(study)
        except TROUBLES as error:
            _log.warning("no commitment asked for", code="dicom-archives", reason=str(error))

    def _try_to_fetch(self, archive: Archive, study: str) -> None:
        try:
            archive.fetch(study)
        except TROUBLES as error:
            _log.warning("study not fetched whole", code="dicom-archives", reason=str(error))

    def _told(self, archive: Archive) -> list[Held]:
        """What the archive has told of in the days that are looked at: a notice tells of some
        instances, not of how many the study has."""
        with self._database.read() as connection:
            told = available(connection, self._clock() - self._days * DAY_SECONDS)
        return [
            Held(one.study_instance_uid, told_at=one.told_at)
            for one in told
            if archive.title in (one.sender, one.retrieve_ae_title)
        ]

    def _first(self) -> str:
        """The first of the days that are looked at."""
        return f"{datetime.fromtimestamp(self._clock(), UTC) - timedelta(days=self._days):%Y%m%d}"

    def _lacks(self, title: str, asking: Asking, held: Held) -> bool:
        """Whether the archive has instances of a study that are not here; those that were
        rejected, or are in quarantine, are not wanted again."""
        query = select(INSTANCE.c.sop_instance_uid)
        here = query.where(INSTANCE.c.study_instance_uid == held.study_instance_uid)
        with self._database.read() as connection:
            had = set(connection.execute(here).scalars())
        known = (title, held, len(had))
        if known in self._whole:
            return False
        there = asking.instances(held.study_instance_uid)
        if there:
            lacking = there - had
            lacks = bool(lacking) and not self._in_quarantine(lacking)
        else:  # it tells of none: its number has to do
            lacks = len(had) < (held.instances or 1)
        if not lacks:
            self._whole[known] = self._clock() + _SURE_SECONDS
        return lacks

    def _in_quarantine(self, uids: set[str]) -> bool:
        """Whether all of these instances are."""
        with self._database.read() as connection:
            for portion in in_portions(uids):
                query = select(QUARANTINE.c.sop_instance_uid).distinct()
                kept = query.where(QUARANTINE.c.sop_instance_uid.in_(portion))
                if len(connection.execute(kept).all()) < len(portion):
                    return False
        return True
