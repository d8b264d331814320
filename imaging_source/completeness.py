"""When a study is complete: as others tell, and at the latest when it has been quiet for a while.

A modality closes its procedure step (MPPS), an archive says what is available (IAN), a report is
signed: whoever hears of it calls ``tell``. A site chooses which of these it believes, first to
last; the quiet time always stands at the end, for what nobody tells of. Not here: hearing.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

from sqlalchemy import ColumnElement, Connection, exists, func, or_, select, text

from imaging_source.schema import COMPLETION, INSTANCE, STUDY


class Signal(StrEnum):
    """Who tells that a study is complete."""

    MPPS = "mpps"
    """A performed procedure step was completed."""
    IAN = "ian"
    """Instances were notified to be available."""
    REPORT = "report"
    """A report was signed."""


# Images of one association follow one another within a second; the last may come after the word.
SETTLED_SECONDS = 5.0

_TELL = text(
    "INSERT INTO completion (study_instance_uid, signal, told_at, instances)"
    " VALUES (:study, :signal, :now, :instances) ON CONFLICT (study_instance_uid, signal)"
    " DO UPDATE SET told_at = excluded.told_at, instances = excluded.instances"
)


def tell(
    connection: Connection,
    study_instance_uid: str,
    signal: Signal,
    now: float,
    instances: int | None = None,
) -> None:
    """Note what was told of a study, which need not be here yet.

    With ``instances`` it is complete once it has that many; without, if none has come since.
    What the same signal told before is forgotten.
    """
    said = {"study": study_instance_uid, "signal": signal, "now": now, "instances": instances}
    connection.execute(_TELL, said)


def is_told(signals: Sequence[Signal], now: float) -> ColumnElement[bool]:
    """Whether a study is complete by one of ``signals``, and has settled."""
    received = (
        select(func.count())
        .where(INSTANCE.c.study_instance_uid == STUDY.c.study_instance_uid)
        .scalar_subquery()
    )
    expected = COMPLETION.c.instances
    told = exists().where(
        COMPLETION.c.study_instance_uid == STUDY.c.study_instance_uid,
        COMPLETION.c.signal.in_(signals),
        or_(
            expected.is_(None) & (COMPLETION.c.told_at >= STUDY.c.changed_at), received >= expected
        ),
    )
    return told & (STUDY.c.changed_at <= now - SETTLED_SECONDS)
