"""What every door shows of the index, and in which order instances stand.

A row that a rejection note names (IOCM) is behind no door; neither is a series or a study all of
whose instances are.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

from sqlalchemy import Connection, exists, select

from imaging_source.ledger import End
from imaging_source.schema import INSTANCE, SERIES, STUDY

Unseen = Callable[[Collection[str]], Collection[str]]
"""Gives those of some studies (UIDs) that whoever asks may not see."""


Veil = Callable[[End], Unseen | None]
"""By the application entity that asks: what is hidden from it, or from the user for whom it asks;
None for nothing."""


def no_veil(_asker: End) -> None:
    """Nothing is hidden from any application entity."""


def all_is_seen(_studies: Collection[str]) -> Collection[str]:
    """Nobody in particular asks, or nothing is hidden from him."""
    return ()


def published_entries(connection: Connection, studies: Collection[str]) -> dict[str, str]:
    """The entryUUID of the manifest that stands, for those of some studies that have one."""
    query = select(STUDY.c.study_instance_uid, STUDY.c.published_entry).where(
        STUDY.c.study_instance_uid.in_(list(studies)), STUDY.c.published_entry.is_not(None)
    )
    return {row.study_instance_uid: row.published_entry for row in connection.execute(query)}


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
