"""Retention: studies older than a site keeps them go, as after a note 113039 (IOCM).

Two steps, a day apart. A study whose youngest image is old enough is rejected as a whole: no door
shows it from then on, and its manifest is withdrawn. A day later, when nobody can be in the midst
of fetching it, the files go; the rows stay and say why. What is sent again is taken in as new.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import partial

import structlog
from sqlalchemy import Connection, bindparam, exists, func, select, update

from imaging_source.housekeeping import DAY_SECONDS, GRACE_SECONDS, PAGE_SIZE, pages
from imaging_source.rejection import EXPIRED, Note, Reference, reject
from imaging_source.schema import INSTANCE, QUARANTINE, REJECTION, STUDY
from imaging_source.shown import SHOWN
from storage.blobs import BlobStore
from storage.database import Database
from storage.errors import StorageError

_log = structlog.get_logger("kosmos.imaging_source")

_OLD = (
    select(INSTANCE.c.study_instance_uid)
    .where(SHOWN, INSTANCE.c.study_instance_uid > bindparam("after"))
    .group_by(INSTANCE.c.study_instance_uid)
    .having(func.max(INSTANCE.c.received_at) < bindparam("before"))
    .order_by(INSTANCE.c.study_instance_uid)
    .limit(PAGE_SIZE)
)
_SHOWN_OF_STUDY = select(
    INSTANCE.c.study_instance_uid, INSTANCE.c.series_instance_uid, INSTANCE.c.sop_instance_uid
).where(INSTANCE.c.study_instance_uid == bindparam("study"), SHOWN)

_OTHER = INSTANCE.alias("other")
# Files of expired instances that no other row needs.
_EVICTED = (
    select(INSTANCE.c.sop_instance_uid, INSTANCE.c.sha256)
    .join(REJECTION, REJECTION.c.sop_instance_uid == INSTANCE.c.sop_instance_uid)
    .where(
        INSTANCE.c.rejection == EXPIRED,
        INSTANCE.c.sop_instance_uid > bindparam("after"),
        REJECTION.c.received_at < bindparam("before"),
        ~exists().where(
            _OTHER.c.sha256 == INSTANCE.c.sha256,
            _OTHER.c.sop_instance_uid != INSTANCE.c.sop_instance_uid,
        ),
        ~exists().where(QUARANTINE.c.sha256 == INSTANCE.c.sha256),
    )
    .order_by(INSTANCE.c.sop_instance_uid)
    .limit(PAGE_SIZE)
)


def keep_for(days: int, database: Database, blobs: BlobStore, stop: threading.Event) -> None:
    """Once a day, let go what is older than ``days``; until ``stop``, never raises."""
    while not stop.is_set():
        try:
            expired = expire(database, days)
            evicted = evict(database, blobs)
            _log.info("retention", code="imaging-retention", studies=expired, files=evicted)
        except (StorageError, OSError) as error:
            _log.error("retention waits", code="imaging-retention", error=type(error).__name__)
        stop.wait(DAY_SECONDS)


def expire(database: Database, days: int, clock: Callable[[], float] = time.time) -> int:
    """Reject the studies of which no image came in the last ``days``; how many there were."""
    now = clock()
    count = 0
    for study in pages(database, _OLD, before=now - days * DAY_SECONDS):
        count += database.write(partial(_expire, study=study[0], days=days, now=now))
    return count


def evict(database: Database, blobs: BlobStore, clock: Callable[[], float] = time.time) -> int:
    """Remove the files of what expired more than a day ago; how many went.

    One that arrives again at this moment is younger than an hour, and stays.
    """
    before = clock() - DAY_SECONDS
    files = pages(database, _EVICTED, before=before)
    return sum(blobs.delete_if_older(sha256, GRACE_SECONDS) for _, sha256 in files)


def _expire(connection: Connection, study: str, days: int, now: float) -> bool:
    """Reject what is shown of a study, unless an image has come since it was found old."""
    row = STUDY.c.study_instance_uid == study
    touched = update(STUDY).where(row).values(revision=STUDY.c.revision + 1, changed_at=now)
    connection.execute(touched)
    newest = select(func.max(INSTANCE.c.received_at)).where(
        INSTANCE.c.study_instance_uid == study, SHOWN
    )
    received_at = connection.execute(newest).scalar_one()
    if received_at is None or received_at >= now - days * DAY_SECONDS:
        return False
    references = [Reference(*one) for one in connection.execute(_SHOWN_OF_STUDY, {"study": study})]
    reject(connection, Note(EXPIRED, "", study, tuple(references)), now)
    return True
