"""Describes what has been stored, behind the back of whoever stores.

C-STORE answers when file and index row are durable; what viewers ask of an instance is made
afterwards, by one thread of the same process: when images have stopped coming for a second, or a
fifth of the time while they go on coming. Rows are committed many at a time. What a crash left
undone is found again at the start and every hour; until then doors describe from the file.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import structlog
from sqlalchemy import Connection, RowMapping, insert, select
from sqlalchemy.exc import IntegrityError

from imaging_source.description.describe import Description, describe
from imaging_source.description.frames import number_of
from imaging_source.schema import DESCRIPTION, INSTANCE, SERIES_REQUEST, SERIES_STEP
from storage.blobs import BlobStore
from storage.database import Database
from storage.errors import BlobCorrupt, BlobMissing, BlobStoreUnavailable, StorageError
from storage.faultpoints import reach

_log = structlog.get_logger("kosmos.imaging_source")

# Images follow one another within milliseconds; after a second without one a sender is done.
_QUIET_SECONDS = 1.0

# A sender that never pauses does not keep the first of its images waiting for longer.
_LONGEST_WAIT_SECONDS = 20.0

# Of the time in which images go on coming, a fifth: 1 part of work, 4 of rest.
_REST = 4.0

# Described before they are written together: about 50 ms of work.
_BATCH = 50

# Waiting to be described; beyond it they are found by looking.
_WAITING_LIMIT = 100_000

_SWEEP_SECONDS = 3600.0

_UNDESCRIBED = (
    select(INSTANCE)
    .outerjoin(DESCRIPTION, DESCRIPTION.c.sop_instance_uid == INSTANCE.c.sop_instance_uid)
    .where(DESCRIPTION.c.sop_instance_uid.is_(None))
    .order_by(INSTANCE.c.sop_instance_uid)
    .limit(_BATCH)
)


class Describer:
    """The thread; ``notice`` is all that whoever stores has to do with it."""

    def __init__(self, database: Database, blobs: BlobStore) -> None:
        self._database = database
        self._blobs = blobs
        self._waiting: dict[str, None] = {}
        self._wake = threading.Condition()
        self._last_arrival = 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="describe", daemon=True)

    def start(self) -> None:
        """Begin with what is found undone."""
        self._thread.start()

    def stop(self) -> None:
        """End after what is being described."""
        self._stop.set()
        with self._wake:
            self._wake.notify()
        if self._thread.is_alive():
            self._thread.join()

    def notice(self, sop_instance_uid: str) -> None:
        """An instance has been stored: its row is committed."""
        with self._wake:
            self._last_arrival = time.monotonic()
            if len(self._waiting) < _WAITING_LIMIT:
                self._waiting[sop_instance_uid] = None
            self._wake.notify()

    def sweep(self) -> int:
        """Describe every instance that has no description; how many there were.

        Raises StorageError.
        """
        count, last = 0, ""
        while not self._stop.is_set():
            with self._database.read() as connection:
                query = _UNDESCRIBED.where(INSTANCE.c.sop_instance_uid > last)
                rows = connection.execute(query).mappings().all()
            if not rows:
                break
            last = rows[-1]["sop_instance_uid"]
            count += self._work(rows)
        return count

    # -- the thread

    def _run(self) -> None:
        next_sweep = 0.0
        while not self._stop.is_set():
            try:
                if time.monotonic() >= next_sweep:
                    next_sweep = time.monotonic() + _SWEEP_SECONDS
                    self.sweep()
                self._describe_waiting(next_sweep)
            except (StorageError, OSError) as error:
                _log.warning("not described", code="imaging-describe", error=type(error).__name__)
                self._stop.wait(_LONGEST_WAIT_SECONDS)
                next_sweep = 0.0  # finds again what was taken and not written

    def _describe_waiting(self, until: float) -> None:
        with self._wake:
            if not self._waiting and not self._stop.is_set():
                self._wake.wait(max(0.0, until - time.monotonic()))
        self._let_images_pass()
        while (uids := self._take()) and not self._stop.is_set():
            with self._database.read() as connection:
                query = select(INSTANCE).where(INSTANCE.c.sop_instance_uid.in_(uids))
                rows = connection.execute(query).mappings().all()
            self._work(rows)

    def _let_images_pass(self) -> None:
        latest = time.monotonic() + _LONGEST_WAIT_SECONDS
        while (rest := self._quiet_at() - time.monotonic()) > 0 and not self._stop.is_set():
            if time.monotonic() + rest > latest:
                return
            self._stop.wait(rest)

    def _quiet_at(self) -> float:
        with self._wake:
            return self._last_arrival + _QUIET_SECONDS if self._waiting else 0.0

    def _take(self) -> list[str]:
        with self._wake:
            uids = list(islice(self._waiting, _BATCH))
            for uid in uids:
                del self._waiting[uid]
            return uids

    def _work(self, rows: Sequence[RowMapping]) -> int:
        """Describe and write a batch; how many. Rests while images are coming."""
        started = time.monotonic()
        described = list(self._described(rows))
        try:
            self._database.write(lambda connection: _write(connection, described))
        except IntegrityError:  # another process described one of them: for the next sweep
            return 0
        reach("imaging.described")
        if time.monotonic() < self._last_arrival + _QUIET_SECONDS:
            self._stop.wait(_REST * (time.monotonic() - started))
        return len(described)

    def _described(self, rows: Sequence[RowMapping]) -> Iterator[tuple[RowMapping, Description]]:
        for row in rows:
            try:
                yield row, description_of(self._blobs, row)
            except (BlobCorrupt, BlobMissing, BlobStoreUnavailable, OSError) as error:
                name = type(error).__name__
                _log.error("instance not described", code="imaging-describe", error=name)


def description_of(blobs: BlobStore, row: RowMapping) -> Description:
    """The description of an instance, from its file.

    Raises StorageError and OSError.
    """
    known = {
        "00080016": {"vr": "UI", "Value": [row["sop_class_uid"]]},
        "00080018": {"vr": "UI", "Value": [row["sop_instance_uid"]]},
        "0020000D": {"vr": "UI", "Value": [row["study_instance_uid"]]},
        "0020000E": {"vr": "UI", "Value": [row["series_instance_uid"]]},
    }
    return describe(blobs.open(row["sha256"]).content, row["transfer_syntax_uid"], known)


def _write(connection: Connection, described: Sequence[tuple[RowMapping, Description]]) -> None:
    if not described:
        return
    connection.execute(
        insert(DESCRIPTION),
        [
            {
                "sop_instance_uid": row["sop_instance_uid"],
                **one.packed(),
                "pixel_rows": number_of(one.attributes, "00280010") or None,
                "pixel_columns": number_of(one.attributes, "00280011") or None,
                "bits_allocated": number_of(one.attributes, "00280100") or None,
            }
            for row, one in described
        ],
    )
    series = {row["series_instance_uid"]: one.attributes for row, one in described}
    known = select(SERIES_STEP.c.series_instance_uid)
    known = known.where(SERIES_STEP.c.series_instance_uid.in_(list(series)))
    for uid in series.keys() - set(connection.execute(known).scalars()):
        _write_series(connection, uid, series[uid])


def _write_series(connection: Connection, uid: str, attributes: Mapping[str, Any]) -> None:
    step = {
        "series_instance_uid": uid,
        "start_date": _text_of(attributes, "00400244"),
        "start_time": _text_of(attributes, "00400245"),
    }
    connection.execute(insert(SERIES_STEP), step)
    requests = attributes.get("00400275", {}).get("Value", ())
    rows = [
        {
            "series_instance_uid": uid,
            "number": number,
            "scheduled_step_id": _text_of(item, "00400009"),
            "requested_procedure_id": _text_of(item, "00401001"),
        }
        for number, item in enumerate(requests, 1)
    ]
    if rows:
        connection.execute(insert(SERIES_REQUEST), rows)


def _text_of(attributes: Mapping[str, Any], tag: str) -> str:
    values = attributes.get(tag, {}).get("Value", ())
    return values[0] if values and isinstance(values[0], str) else ""
