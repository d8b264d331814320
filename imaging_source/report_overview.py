"""Where each report is on its way, for an operator: it only looks."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy import Connection, RowMapping, select

from imaging_source.outbox import State
from imaging_source.reports import Status, content_of
from imaging_source.schema import PUBLICATION, REPORT


class Stage(StrEnum):
    """Where a report is on its way."""

    PRELIMINARY = "preliminary"
    """It is not signed: nothing is published."""
    WAITING = "waiting"
    """It is final; its study, or its patient's identifier, is not here yet."""
    QUARANTINE = "quarantine"
    """It cannot belong to its study as it is: a person is needed."""
    SENDING = "sending"
    """It is on its way to the registry."""
    FAILED = "failed"
    """The registry has refused it: a person is needed."""
    PUBLISHED = "published"
    """The registry has it."""
    WITHDRAWN = "withdrawn"
    """Its sender has taken it back, and so has the registry."""


_STUCK = PUBLICATION.alias("stuck")


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportOverview:
    """One report for an operator; ``reason`` is the last trouble."""

    report_uid: str
    stage: Stage
    sender: str
    form: str
    title: str
    study_instance_uid: str
    accession_number: str
    received_at: float
    reason: str


def reports(
    connection: Connection, stage: Stage | None = None, limit: int = 100
) -> list[ReportOverview]:
    """The newest reports, of one stage or of all."""
    on_its_way = (_STUCK.c.study_instance_uid == REPORT.c.report_uid) & (
        (_STUCK.c.state == State.PENDING)
        | ((_STUCK.c.state == State.FAILED) & (_STUCK.c.revision >= REPORT.c.revision))
    )
    query = (
        select(REPORT, _STUCK.c.state.label("sending"), _STUCK.c.error.label("error"))
        .join_from(REPORT, _STUCK, on_its_way, isouter=True)
        .order_by(REPORT.c.received_at.desc(), REPORT.c.report_uid)
    )
    found = (_overview(row) for row in connection.execute(query).mappings())
    chosen = (one for one in found if stage in (None, one.stage))
    return [one for one, _ in zip(chosen, range(limit), strict=False)]


def _overview(row: RowMapping) -> ReportOverview:
    report = content_of(row["content"])
    return ReportOverview(
        report_uid=row["report_uid"],
        stage=_stage(row),
        sender=row["sender"],
        form=report.form,
        title=report.title,
        study_instance_uid=row["study_instance_uid"],
        accession_number=row["accession_number"],
        received_at=row["received_at"],
        reason=row["error"] or row["reason"] or "",
    )


def _stage(row: RowMapping) -> Stage:
    if row["sending"] is not None:
        return Stage.FAILED if row["sending"] == State.FAILED else Stage.SENDING
    if row["status"] == Status.PRELIMINARY:
        return Stage.PRELIMINARY
    if row["next_attempt_at"] is not None:
        return Stage.WAITING
    if row["reason"] is not None:
        return Stage.QUARANTINE
    return Stage.PUBLISHED if row["status"] == Status.FINAL else Stage.WITHDRAWN
