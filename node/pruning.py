"""Letting old audit records go: every trail of a node that stands still, and a record of it.

A trail has one writer: those of a node that serves are its own, and are left as they are.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import structlog

from node.config import Settings
from node.migrate import script_location
from node.texts import tr
from node.wiring.audit import RECEIVED, Auditor, trail_folder
from security.audit.chain import Verifier
from security.audit.sender import Target
from security.audit.trail import Trail
from security.audit.verification import trails, verify
from storage.errors import DatabaseLocked
from storage.space import LowWaterMark

log = structlog.get_logger(__name__)


class PruneRefused(Exception):
    """Records that may not leave; the text is for the person who asked."""


@dataclass(frozen=True, slots=True)
class PrunedTrail:
    """How many records have left a trail; None where a process is writing it."""

    source: str
    records: int | None


def limit(settings: Settings, before: datetime | None) -> datetime:
    """Before when records may leave: as asked, but what is to be kept is kept.

    Raises PruneRefused.
    """
    days = settings.audit.keep_days
    if before is None and days is None:
        raise PruneRefused(tr("say --before, or set audit.keep_days"))
    if days is None:
        assert before is not None
        return before
    kept_from = datetime.now(UTC) - timedelta(days=days)
    if before is not None and before > kept_from:
        raise PruneRefused(
            tr("records since {day:%Y-%m-%d} are to be kept (audit.keep_days)", day=kept_from)
        )
    return before or kept_from


def prune(
    settings: Settings, auditor: Auditor, operator: str, before: datetime
) -> Iterator[PrunedTrail]:
    """Let records older than ``before`` leave every trail; ``auditor`` is that of the command.

    Raises PruneRefused for a trail that is not what was written: it is evidence.
    """
    folder = trail_folder(settings)
    verifier = Verifier.of(folder)
    for file in trails(folder):
        source = f"{settings.node.name}/{file.stem}"
        if verify(file, settings.node.name, verifier).fault is not None:
            words = tr("{trail} is not what was written: nothing leaves it", trail=source)
            raise PruneRefused(words)
        try:
            with _opened(settings, auditor, file) as trail:
                auditor.pruned(operator, source, before)
                # What others have sent is sent on to nobody.
                theirs = file.stem == RECEIVED
                targets = [] if theirs else [str(Target.parse(x)) for x in settings.audit.send_to]
                gone = trail.prune(before, targets)
        except DatabaseLocked:
            yield PrunedTrail(source, None)
            continue
        log.info("audit records left", code="AUDIT-PRUNED", source=source, records=gone)
        yield PrunedTrail(source, gone)


@contextmanager
def _opened(settings: Settings, auditor: Auditor, file: Path) -> Iterator[Trail]:
    if auditor.trail.source == f"{settings.node.name}/{file.stem}":
        yield auditor.trail
        return
    with (
        script_location("security") as scripts,
        Trail(file.parent, settings.node.name, file.stem, LowWaterMark(), scripts) as trail,
    ):
        yield trail
