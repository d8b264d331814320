"""What every door shows of the index, and in which order instances stand.

A row that a rejection note names (IOCM) is behind no door; neither is a series or a study all of
whose instances are.
"""

from __future__ import annotations

from sqlalchemy import exists

from imaging_source.schema import INSTANCE, SERIES, STUDY

SHOWN = INSTANCE.c.rejection.is_(None)
"""What every door asks of an instance."""

STUDY_IS_SHOWN = (
    exists()
    .where(INSTANCE.c.study_instance_uid == STUDY.c.study_instance_uid, SHOWN)
    .correlate(STUDY)
)
"""Whether the study of the row shows an instance."""

SERIES_IS_SHOWN = (
    exists()
    .where(
        INSTANCE.c.study_instance_uid == SERIES.c.study_instance_uid,
        INSTANCE.c.series_instance_uid == SERIES.c.series_instance_uid,
        SHOWN,
    )
    .correlate(SERIES)
)
"""Whether the series of the row shows an instance."""

IN_ORDER = (
    SERIES.c.series_number,
    INSTANCE.c.series_instance_uid,
    INSTANCE.c.instance_number,
    INSTANCE.c.sop_instance_uid,
)
"""The instances of a study as people count them; total, so that two answers agree."""
