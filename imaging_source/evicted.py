"""What is noted of instances whose bytes are with their archive alone, and of the use of studies.

Units of work inside ``Database.write``, and looks. Who evicts is ``imaging_source.eviction``, who
fetches ``imaging_source.recall``, and what has come back is told by ``imaging_source.index``.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy import Connection, delete, exists, func, insert, select, text, update

from imaging_source.schema import EVICTED, INSTANCE, SERIES, STUDY
from imaging_source.shown import SHOWN
from storage.errors import StorageError
from storage.statement import in_portions


class Away(StorageError):
    """The bytes are with an archive that does not give them now; the text names no study."""


class Hindrance(StrEnum):
    """Why an instance has not come back."""

    OTHER_BYTES = "other-bytes"
    """The archive gives other bytes than those that were published."""
    ABSENT = "absent"
    """The archive has answered, and did not bring it."""
    UNREACHED = "not-reached"
    """The archive has not answered, or broke off."""


@dataclass(frozen=True, slots=True)
class Figures:
    """How many instances are evicted, and how many of them have not come back when asked for."""

    instances: int
    hindered: int


IS_EVICTED = exists().where(EVICTED.c.sop_instance_uid == INSTANCE.c.sop_instance_uid)
"""Whether the bytes of the instance of the row are with its archive alone."""

_IS_OF_IT = EVICTED.c.sop_instance_uid == INSTANCE.c.sop_instance_uid
STUDY_IS_EVICTED = (
    exists()
    .where(EVICTED.c.study_instance_uid == STUDY.c.study_instance_uid, _IS_OF_IT, SHOWN)
    .correlate(STUDY)
)
"""Whether those of an instance that the study of the row shows are."""

SERIES_IS_EVICTED = (
    exists()
    .where(
        EVICTED.c.study_instance_uid == SERIES.c.study_instance_uid,
        INSTANCE.c.series_instance_uid == SERIES.c.series_instance_uid,
        _IS_OF_IT,
        SHOWN,
    )
    .correlate(SERIES)
)
"""The same of the series of the row."""

INSTANCE_AVAILABILITY = 0x00080056
ONLINE, NEARLINE = "ONLINE", "NEARLINE"
"""Instance Availability (0008,0056), PS3.3 C.4.23.1.1; NEARLINE as soon as a part is."""


def mark(connection: Connection, study: str, uids: Iterable[str], now: float) -> None:
    """Note that instances of a study, all that may go of it, are about to leave."""
    rows = [
        {"sop_instance_uid": uid, "study_instance_uid": study, "evicted_at": now} for uid in uids
    ]
    if rows:
        connection.execute(insert(EVICTED), rows)
    _note(connection, study, {"evicted_at": now}, now)


def unmark(connection: Connection, study: str, uids: Collection[str]) -> None:
    """Note that some instances of a study have stayed after all."""
    for portion in in_portions(uids):
        some = EVICTED.c.sop_instance_uid.in_(portion)
        connection.execute(delete(EVICTED).where(some))
    _note(connection, study, {"evicted_at": None})


def returned(connection: Connection, uid: str, study: str, now: float) -> None:
    """Note that the bytes of an instance are here, which they may have been all the time."""
    if connection.execute(delete(EVICTED).where(EVICTED.c.sop_instance_uid == uid)).rowcount:
        _note(connection, study, {"used_at": now, "evicted_at": None}, now)


def hinder(connection: Connection, uid: str, reason: Hindrance) -> None:
    """Note why an instance has not come back; does nothing to one that is here."""
    row = update(EVICTED).where(EVICTED.c.sop_instance_uid == uid)
    connection.execute(row.values(reason=reason.value))


def hinder_rest(connection: Connection, study: str, reason: Hindrance) -> None:
    """The same for all that has not come back of a study, unless it came with other bytes."""
    known = func.coalesce(EVICTED.c.reason, "") == Hindrance.OTHER_BYTES
    row = update(EVICTED).where(EVICTED.c.study_instance_uid == study, ~known)
    connection.execute(row.values(reason=reason.value))


def note_use(connection: Connection, study: str, now: float) -> None:
    """Note that somebody has asked for a study."""
    _note(connection, study, {"used_at": now}, now)


def hold_use(connection: Connection, study: str) -> None:
    """Have whoever notes the use of a study wait until this unit of work has ended."""
    connection.execute(_HOLD, {"study_instance_uid": study})


def hindrances(connection: Connection, study: str) -> list[str | None]:
    """For each instance of a study that is evicted, why it has not come back so far."""
    query = select(EVICTED.c.reason).where(EVICTED.c.study_instance_uid == study)
    return list(connection.execute(query).scalars())


def is_evicted(connection: Connection, uid: str) -> bool:
    """Whether the bytes of an instance are with its archive alone."""
    return bool(evicted_of(connection, [uid]))


def evicted_of(connection: Connection, uids: Iterable[str]) -> set[str]:
    """Those of some instances whose bytes are with their archive alone."""
    found = set[str]()
    for portion in in_portions(uids):
        some = EVICTED.c.sop_instance_uid.in_(portion)
        found.update(connection.execute(select(EVICTED.c.sop_instance_uid).where(some)).scalars())
    return found


def evicted_studies(connection: Connection, studies: Iterable[str]) -> set[str]:
    """Those of some studies of which something is with its archive alone."""
    found = set[str]()
    for portion in in_portions(studies):
        some = EVICTED.c.study_instance_uid.in_(portion)
        query = select(EVICTED.c.study_instance_uid).where(some).distinct()
        found.update(connection.execute(query).scalars())
    return found


def files_of_evicted(connection: Connection, study: str) -> list[str]:
    """The files (SHA-256) of the instances of a study that are with their archive alone."""
    query = (
        select(INSTANCE.c.sha256)
        .select_from(EVICTED)
        .join(INSTANCE, _IS_OF_IT)
        .where(EVICTED.c.study_instance_uid == study)
    )
    return list(connection.execute(query).scalars())


def figures(connection: Connection) -> Figures:
    """What is evicted in all, of what is shown."""
    query = (
        select(func.count(), func.count(EVICTED.c.reason))
        .select_from(EVICTED)
        .join(INSTANCE, INSTANCE.c.sop_instance_uid == EVICTED.c.sop_instance_uid)
        .where(SHOWN)
    )
    return Figures(*connection.execute(query).one())


def _note(
    connection: Connection, study: str, values: dict[str, float | None], used_at: float = 0.0
) -> None:
    """Change the row of a study, or add it, ``used_at`` then; whoever else does so meanwhile."""
    new = {"study_instance_uid": study, "used_at": used_at, **values}
    names, marks = ", ".join(new), ", ".join(f":{name}" for name in new)
    changes = ", ".join(f"{name} = excluded.{name}" for name in values)
    connection.execute(
        text(
            f"INSERT INTO study_use ({names}) VALUES ({marks})"
            f" ON CONFLICT (study_instance_uid) DO UPDATE SET {changes}"
        ),
        new,
    )


_HOLD = text(
    "INSERT INTO study_use (study_instance_uid, used_at) VALUES (:study_instance_uid, 0)"
    " ON CONFLICT (study_instance_uid) DO UPDATE SET used_at = study_use.used_at"
)
