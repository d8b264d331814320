"""Eviction: the bytes of studies that their archive has go, the rows stay (mode cache and proxy).

The longest unused goes first. A study goes only when the registry has it as it is now, nothing of
it waits that needs its bytes, and one archive whose bounds it has passed says at this moment that
it has every instance of it, online; one that is asked for storage commitment must have committed to
it besides. The word of an archive without bounds (mode archive) frees nothing. Before any goes,
that archive has to give one back byte by byte. The mark is committed, the archive is asked
once more, then the files go: of two nodes that are archives of each other, and let go at the same
time, one at least finds the mark of the other. What a crash leaves marked is no longer so after the
start. Who notes the use of a study before the mark prevents it; who does so after it finds it
(``imaging_source.recalling``). ``imaging_source.recall`` brings studies back.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass

import structlog
from sqlalchemy import (
    Connection,
    Float,
    and_,
    bindparam,
    case,
    exists,
    func,
    or_,
    select,
    update,
)
from sqlalchemy.exc import IntegrityError

from imaging_source.archive_commitment import is_committed
from imaging_source.archives import Archive
from imaging_source.commitment import GIVE_UP_SECONDS, awaited
from imaging_source.evicted import IS_EVICTED, hold_use, mark, unmark
from imaging_source.housekeeping import DAY_SECONDS, GRACE_SECONDS, PAGE_SIZE, pages
from imaging_source.outbox import State
from imaging_source.recalling import NOTE_SECONDS
from imaging_source.rejection import IS_KEPT
from imaging_source.reports import DOCUMENTS
from imaging_source.requestor import TROUBLES
from imaging_source.schema import (
    DESCRIPTION,
    ENCAPSULATED,
    EVICTED,
    INSTANCE,
    PUBLICATION,
    QUARANTINE,
    REPORT,
    STUDY,
    STUDY_USE,
)
from imaging_source.shown import SHOWN
from storage.blobs import BlobStore
from storage.database import Database
from storage.errors import StorageError
from storage.faultpoints import reach

_log = structlog.get_logger("kosmos.imaging_source")

# Use is noted once an hour, and whoever began at the end of that hour has another one.
_UNUSED_SECONDS = NOTE_SECONDS + GRACE_SECONDS
# Seconds between two rounds.
_ROUND_SECONDS = 600.0
# A study that its archive does not have, or that waits for something, is left alone for this long.
_PAUSE_SECONDS = 6 * 3600.0
# After an archive has given other bytes, it frees nothing for this long.
_DOUBT_SECONDS = DAY_SECONDS
# Studies looked up by one statement, for which all of them are sorted.
_STUDIES_AT_ONCE = 5000

# When a study was last touched: by an arrival, a correction, or whoever asked for it.
_TOUCHED = case(
    (STUDY_USE.c.used_at > STUDY.c.changed_at, STUDY_USE.c.used_at), else_=STUDY.c.changed_at
)
_PUBLISHED = and_(
    STUDY.c.published_entry.is_not(None), STUDY.c.revision <= STUDY.c.published_revision
)
_WITH_USE = STUDY.join(
    STUDY_USE, STUDY_USE.c.study_instance_uid == STUDY.c.study_instance_uid, isouter=True
)
# Published studies of which something may be here, the longest untouched first.
_CANDIDATES = (
    select(_TOUCHED.label("touched"), STUDY.c.study_instance_uid)
    .select_from(_WITH_USE)
    .where(
        _PUBLISHED,
        or_(STUDY_USE.c.evicted_at.is_(None), STUDY_USE.c.evicted_at < STUDY.c.changed_at),
        bindparam("before", type_=Float) > _TOUCHED,
        or_(
            bindparam("after", type_=Float) < _TOUCHED,
            and_(bindparam("after") == _TOUCHED, STUDY.c.study_instance_uid > bindparam("uid")),
        ),
    )
    .order_by(_TOUCHED, STUDY.c.study_instance_uid)
    .limit(_STUDIES_AT_ONCE)
)

_TOUCHED_AT = (
    select(_TOUCHED).select_from(_WITH_USE).where(STUDY.c.study_instance_uid == bindparam("study"))
)

_OTHER = INSTANCE.alias("other")
# What another row names; and documents, which are read again when they are rejected.
_NEEDED = or_(
    INSTANCE.c.sop_class_uid.in_(DOCUMENTS),
    exists().where(
        _OTHER.c.sha256 == INSTANCE.c.sha256,
        _OTHER.c.sop_instance_uid != INSTANCE.c.sop_instance_uid,
    ),
    exists().where(QUARANTINE.c.sha256 == INSTANCE.c.sha256),
    exists().where(REPORT.c.sha256 == INSTANCE.c.sha256),
)
_HERE = select(INSTANCE.c.sop_instance_uid, INSTANCE.c.sha256, INSTANCE.c.size).where(
    INSTANCE.c.study_instance_uid == bindparam("study"), SHOWN, ~IS_EVICTED, ~_NEEDED
)
_IN_QUARANTINE = exists().where(QUARANTINE.c.sop_instance_uid == INSTANCE.c.sop_instance_uid)
# Whether something waits that needs bytes of a study, or somebody who looks at them.
_WAITS = select(INSTANCE.c.sop_instance_uid).where(
    INSTANCE.c.study_instance_uid == bindparam("study"),
    SHOWN,
    or_(
        ~exists().where(DESCRIPTION.c.sop_instance_uid == INSTANCE.c.sop_instance_uid),
        exists().where(ENCAPSULATED.c.sop_instance_uid == INSTANCE.c.sop_instance_uid),
        _IN_QUARANTINE,
    ),
)
_PUT_ASIDE = select(INSTANCE.c.sop_instance_uid).where(
    INSTANCE.c.study_instance_uid == bindparam("study"), _IN_QUARANTINE
)
_SENDING = select(PUBLICATION.c.submission_set_unique_id).where(
    PUBLICATION.c.study_instance_uid == bindparam("study"), PUBLICATION.c.state == State.PENDING
)
_KEPT = select(func.coalesce(func.sum(INSTANCE.c.size), 0)).where(~IS_EVICTED, IS_KEPT)
# Marked instances and their files, page by page.
_MARKED = (
    select(EVICTED.c.sop_instance_uid, EVICTED.c.study_instance_uid, INSTANCE.c.sha256)
    .join(INSTANCE, INSTANCE.c.sop_instance_uid == EVICTED.c.sop_instance_uid)
    .where(EVICTED.c.sop_instance_uid > bindparam("after"))
    .order_by(EVICTED.c.sop_instance_uid)
    .limit(PAGE_SIZE)
)


@dataclass(frozen=True, slots=True)
class Leaving:
    """An instance whose bytes may go."""

    sop_instance_uid: str
    sha256: str
    size: int


class Evictor:
    """Lets go what one of ``archives`` has and has passed the bounds of that one."""

    def __init__(
        self,
        database: Database,
        blobs: BlobStore,
        archives: Sequence[Archive],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._database = database
        self._blobs = blobs
        self._archives = archives
        self._clock = clock
        self._not_before: dict[str, float] = {}
        self._tried: set[str] = set()
        self._doubted: dict[str, float] = {}

    def run(self, stop: threading.Event) -> None:
        """A round every ten minutes until ``stop``; never raises."""
        resumed = False
        while not stop.is_set():
            try:
                if not resumed:
                    self.take_back(stop)
                    resumed = True
                count = self.run_once(stop)
                _log.info("evicted", code="imaging-eviction", instances=count)
            except (StorageError, IntegrityError, OSError) as error:
                resumed = False  # it may have come between a mark and its file
                _log.error("eviction waits", code="imaging-eviction", error=type(error).__name__)
            stop.wait(_ROUND_SECONDS)

    def run_once(self, stop: threading.Event | None = None) -> int:
        """One round; how many instances went. Raises StorageError."""
        now = self._clock()
        self._not_before = {uid: at for uid, at in self._not_before.items() if at > now}
        kept, count = self._kept(), 0
        for touched, study in self._candidates(now - _UNUSED_SECONDS):
            willing = self._willing(now - touched, kept)
            if (stop is not None and stop.is_set()) or not willing:
                break  # what was used later passes no bounds either
            if study not in self._not_before:
                gone = self._evict(study, willing, now)
                kept -= sum(row.size for row in gone)
                count += len(gone)
        return count

    def take_back(self, stop: threading.Event) -> int:
        """Take the marks away whose files were still here when a process died: a round judges
        them anew. How many. Raises StorageError."""
        count = 0
        for row in pages(self._database, _MARKED):
            if stop.is_set():
                break
            if self._blobs.holds(row.sha256):
                self._unmark(row.study_instance_uid, {row.sop_instance_uid})
                count += 1
        return count

    def _kept(self) -> int:
        """The bytes that are here; nobody counts them where nobody asks."""
        if all(one.bounds is None or one.bounds.bytes is None for one in self._archives):
            return 0
        with self._database.read() as connection:
            return int(connection.execute(_KEPT).scalar_one())

    def _willing(self, unused: float, kept: int) -> list[Archive]:
        """The archives whose bounds a study has passed that was unused for so many seconds."""
        return [
            one
            for one in self._archives
            if one.bounds is not None and one.bounds.are_passed(unused, kept)
        ]

    def _candidates(self, before: float) -> Iterator[tuple[float, str]]:
        touched, uid = 0.0, ""
        while True:
            values = {"before": before, "after": touched, "uid": uid}
            with self._database.read() as connection:
                rows = connection.execute(_CANDIDATES, values).all()
            for touched, uid in rows:
                yield touched, uid
            if len(rows) < _STUDIES_AT_ONCE:
                return

    def _evict(self, study: str, willing: Sequence[Archive], now: float) -> list[Leaving]:
        """Let a study go if it may and one of the ``willing`` has it; the instances that went."""
        with self._database.read() as connection:
            rows = _leaving(connection, study, now - GIVE_UP_SECONDS)
        uids = {row.sop_instance_uid for row in rows}
        archive = self._archive_of(study, uids, willing) if rows else None
        if archive is None:
            self._not_before[study] = now + _PAUSE_SECONDS
            return []
        begun, now = now, self._clock()  # a round may last for hours
        marked = self._database.write(
            lambda connection: _mark(connection, study, uids, begun - GRACE_SECONDS, now)
        )
        reach("imaging.evicted")
        if marked and self._has_all(archive, study, uids):
            for row in marked:
                self._blobs.delete_if_older(row.sha256, GRACE_SECONDS)
        stayed = {row.sop_instance_uid for row in marked if self._blobs.holds(row.sha256)}
        if stayed:  # they have just come again, or the archive lets go as well
            self._unmark(study, stayed)
            self._not_before[study] = now + GRACE_SECONDS
        return [row for row in marked if row.sop_instance_uid not in stayed]

    def _unmark(self, study: str, uids: set[str]) -> None:
        self._database.write(lambda connection: unmark(connection, study, uids))

    def _archive_of(self, study: str, uids: set[str], willing: Sequence[Archive]) -> Archive | None:
        """One of them that has all of these instances, promises and gives what it is to."""
        for archive in willing:
            try:
                has_all = self._has_all(archive, study, uids)
                promised = has_all and self._is_promised(archive, study)
                if promised and self._gives_back(archive, study):
                    return archive
            except TROUBLES as error:
                _log.warning("archive not asked", code="imaging-eviction", reason=str(error))
        return None

    def _has_all(self, archive: Archive, study: str, uids: set[str]) -> bool:
        """Whether an archive says now that it has all of these instances, and has them itself;
        no where it does not answer."""
        try:
            with archive.asking() as asking:
                return uids <= asking.online(study)
        except TROUBLES as error:
            _log.warning("archive not asked", code="imaging-eviction", reason=str(error))
            return False

    def _is_promised(self, archive: Archive, study: str) -> bool:
        """Whether this archive has committed to the study, where it is to.

        Without one it is asked for: the study goes another time. Raises Unreachable and its kind.
        """
        if archive.assurance is None:
            return True
        archive.assurance.ask(study)
        with self._database.read() as connection:
            return is_committed(connection, archive.title, study)

    def _gives_back(self, archive: Archive, study: str) -> bool:
        """Whether an archive gives the bytes that we have: tried once, with a study that is here.

        That one has new files then, and goes another time. Raises Unreachable and its kind where
        it does not come whole.
        """
        if archive.title in self._tried:
            return True
        if self._clock() < self._doubted.get(archive.title, 0.0):
            return False
        try:
            archive.fetch(study)
        finally:
            with self._database.read() as connection:
                doubted = connection.execute(_PUT_ASIDE.limit(1), {"study": study}).first()
            if doubted:
                self._doubted[archive.title] = self._clock() + _DOUBT_SECONDS
                _log.error("archive gives other bytes", code="imaging-eviction-doubt")
        if not doubted:
            self._tried.add(archive.title)
        return False


def _leaving(connection: Connection, study: str, since: float) -> list[Leaving]:
    """The instances of a study whose bytes may go; none while something waits for them, of storage
    commitments what was requested ``since`` a time.
    """
    values = {"study": study}
    if any(connection.execute(query.limit(1), values).first() for query in (_WAITS, _SENDING)):
        return []
    rows = [Leaving(*row) for row in connection.execute(_HERE, values)]
    if awaited(connection, since).isdisjoint(row.sop_instance_uid for row in rows):
        return rows
    return []


def _mark(
    connection: Connection, study: str, uids: Collection[str], since: float, now: float
) -> list[Leaving]:
    """Mark those of some instances that may still go, if all that may are among them.

    None if somebody has asked for the study since it was found unused, or ``since`` a time for a
    storage commitment.
    """
    row = update(STUDY).where(STUDY.c.study_instance_uid == study, _PUBLISHED)
    # A write that changes nothing: whoever adds to the study waits, or has made it unpublished.
    if not connection.execute(row.values(revision=STUDY.c.revision)).rowcount:
        return []
    hold_use(connection, study)
    touched = connection.execute(_TOUCHED_AT, {"study": study}).scalar_one()
    if touched >= now - _UNUSED_SECONDS:
        return []
    rows = _leaving(connection, study, since)
    if not {row.sop_instance_uid for row in rows} <= set(uids):
        return []
    mark(connection, study, [row.sop_instance_uid for row in rows], now)
    return rows
