"""What an operator is told of the studies: where each is on its way, what waits and why.

Reads only, so that it may run beside a node that serves. Reasons may quote what a registry
answered: they are for people who may see patient data, never for a log.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy import ColumnElement, Connection, case, exists, func, select

from imaging_source.evicted import IS_EVICTED
from imaging_source.outbox import State
from imaging_source.schema import (
    CORRECTION,
    EVICTED,
    INSTANCE,
    PUBLICATION,
    QUARANTINE,
    REJECTION,
    STUDY,
    UNIDENTIFIED,
)
from imaging_source.shown import SHOWN


class Stage(StrEnum):
    """Where a study is."""

    PUBLISHED = "published"
    """The registry has its manifest as the study is."""
    WITHDRAWN = "withdrawn"
    """It has nothing to show, and no manifest in force."""
    SETTLING = "settling"
    """It has changed, and is not complete yet."""
    SENDING = "sending"
    """Its publication is in the outbox."""
    UNIDENTIFIED = "unidentified"
    """Its patient is not known in the affinity domain."""
    FAILED = "failed"
    """The registry has refused it, or it cannot be published: a person is needed."""


@dataclass(frozen=True, slots=True)
class StudyOverview:
    """One study; times are seconds since the epoch, ``reason`` the last trouble.

    ``evicted`` counts the instances that are with their archive alone, ``not_recalled`` is why some
    of them have not come back (``imaging_source.evicted.Hindrance``).
    """

    study_instance_uid: str
    stage: Stage
    patient_id: str
    date: str
    description: str
    instances: int
    rejected: int
    evicted: int
    not_recalled: str | None
    corrected: bool
    changed_at: float
    published_entry: str | None
    attempts: int
    next_attempt_at: float | None
    reason: str


@dataclass(frozen=True, slots=True)
class PutAside:
    """What arrived, was kept and is shown to nobody; ``sha256`` is the name of its file.

    ``study_instance_uid`` is the study of the instance that is here under the same UID, where
    there is one.
    """

    sop_instance_uid: str
    study_instance_uid: str | None
    reason: str
    sender: str
    received_at: float
    size: int
    sha256: str


# The failed publication of a study that has not changed since, or its open one.
_STUCK = PUBLICATION.alias("stuck")
_ON_ITS_WAY = (_STUCK.c.study_instance_uid == STUDY.c.study_instance_uid) & (
    (_STUCK.c.state == State.PENDING)
    | ((_STUCK.c.state == State.FAILED) & (_STUCK.c.revision >= STUDY.c.revision))
)
_STAGE: ColumnElement[str] = case(
    (_STUCK.c.state == State.FAILED, Stage.FAILED),
    (_STUCK.c.state == State.PENDING, Stage.SENDING),
    (UNIDENTIFIED.c.reason.is_not(None), Stage.UNIDENTIFIED),
    (STUDY.c.revision > STUDY.c.published_revision, Stage.SETTLING),
    (STUDY.c.published_entry.is_(None), Stage.WITHDRAWN),
    else_=Stage.PUBLISHED,
)


def _count(*where: ColumnElement[bool]) -> Any:
    counted = select(func.count()).where(
        INSTANCE.c.study_instance_uid == STUDY.c.study_instance_uid, *where
    )
    return counted.scalar_subquery()


# The notes themselves are hidden as what they reject is.
_NAMED_BY_A_NOTE = exists().where(REJECTION.c.sop_instance_uid == INSTANCE.c.sop_instance_uid)
_NOT_RECALLED = (
    select(func.max(EVICTED.c.reason))
    .where(EVICTED.c.study_instance_uid == STUDY.c.study_instance_uid)
    .scalar_subquery()
)
_OVERVIEW = (
    select(
        STUDY.c.study_instance_uid,
        _STAGE.label("stage"),
        STUDY.c.patient_id,
        STUDY.c.date,
        STUDY.c.description,
        _count(SHOWN),
        _count(INSTANCE.c.rejection.is_not(None), _NAMED_BY_A_NOTE),
        _count(SHOWN, IS_EVICTED),
        _NOT_RECALLED,
        CORRECTION.c.study_instance_uid.is_not(None),
        STUDY.c.changed_at,
        STUDY.c.published_entry,
        func.coalesce(_STUCK.c.attempts, UNIDENTIFIED.c.attempts, 0),
        func.coalesce(_STUCK.c.next_attempt_at, UNIDENTIFIED.c.next_attempt_at),
        func.coalesce(_STUCK.c.error, UNIDENTIFIED.c.reason, ""),
    )
    .join_from(STUDY, _STUCK, _ON_ITS_WAY, isouter=True)
    .join(
        UNIDENTIFIED,
        UNIDENTIFIED.c.study_instance_uid == STUDY.c.study_instance_uid,
        isouter=True,
    )
    .join(CORRECTION, CORRECTION.c.study_instance_uid == STUDY.c.study_instance_uid, isouter=True)
)


def studies(
    connection: Connection, stage: Stage | None = None, after: str = "", limit: int = 100
) -> list[StudyOverview]:
    """A page of studies in the order of their UIDs, behind ``after``; of one stage, or all."""
    query = _OVERVIEW.where(STUDY.c.study_instance_uid > after)
    if stage is not None:
        query = query.where(_STAGE.in_([stage]))
    ordered = query.order_by(STUDY.c.study_instance_uid).limit(limit)
    return [_overview(row) for row in connection.execute(ordered)]


def study(connection: Connection, study_instance_uid: str) -> StudyOverview | None:
    """One study, None for one that is not here."""
    query = _OVERVIEW.where(STUDY.c.study_instance_uid == study_instance_uid)
    row = connection.execute(query).first()
    return None if row is None else _overview(row)


def waiting(connection: Connection) -> dict[Stage, int]:
    """How many studies are not as the registry has them, by stage."""
    unpublished = (
        select(_STAGE.label("stage"), func.count())
        .select_from(STUDY)
        .join(_STUCK, _ON_ITS_WAY, isouter=True)
        .join(
            UNIDENTIFIED,
            UNIDENTIFIED.c.study_instance_uid == STUDY.c.study_instance_uid,
            isouter=True,
        )
        .where(STUDY.c.revision > STUDY.c.published_revision)
        .group_by("stage")
    )
    found = {Stage(stage): count for stage, count in connection.execute(unpublished)}
    stages = (Stage.SETTLING, Stage.SENDING, Stage.UNIDENTIFIED, Stage.FAILED)
    return {stage: found.get(stage, 0) for stage in stages}


def put_aside(connection: Connection, limit: int = 100) -> list[PutAside]:
    """What is in quarantine, the newest first."""
    columns = [QUARANTINE.c[name] for name in ("reason", "sender", "received_at", "size", "sha256")]
    same = INSTANCE.c.sop_instance_uid == QUARANTINE.c.sop_instance_uid
    query = (
        select(QUARANTINE.c.sop_instance_uid, INSTANCE.c.study_instance_uid, *columns)
        .join_from(QUARANTINE, INSTANCE, same, isouter=True)
        .order_by(QUARANTINE.c.received_at.desc(), QUARANTINE.c.sop_instance_uid)
        .limit(limit)
    )
    return [PutAside(*row) for row in connection.execute(query)]


def count_put_aside(connection: Connection) -> int:
    """How much is in quarantine."""
    return connection.execute(select(func.count()).select_from(QUARANTINE)).scalar_one()


def _overview(row: Any) -> StudyOverview:
    uid, stage, *rest = row
    return StudyOverview(uid, Stage(stage), *rest)
