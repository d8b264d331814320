"""Whether index, files, published manifests and reports agree: a look, which changes nothing.

Every instance that may be shown has its file with all its bytes; every manifest that the index
takes for published is in the registry, in force. What is with its archive alone is counted apart.
Files that no row names are told too: they are removed by themselves an hour after they came
(``imaging_source.housekeeping``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Select, select

from imaging_source.evicted import IS_EVICTED
from imaging_source.housekeeping import orphans
from imaging_source.rejection import IS_KEPT
from imaging_source.schema import INSTANCE, REPORT, STUDY
from storage.blobs import BlobStore
from storage.database import Database
from storage.errors import BlobCorrupt, BlobMissing

# Rows looked up by one statement, and entries asked for by one query.
_AT_ONCE = 500


@dataclass(slots=True)
class Findings:
    """What was found wrong: instances, studies and reports by their UID, files by their address."""

    instances: int = 0
    evicted: int = 0
    studies: int = 0
    missing: list[str] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)
    unregistered: list[str] = field(default_factory=list)
    orphans: list[str] = field(default_factory=list)

    @property
    def alarm(self) -> bool:
        """Whether something is lost that was acknowledged or published."""
        return bool(self.missing or self.damaged or self.unregistered)


def check(
    database: Database,
    blobs: BlobStore,
    in_force: Callable[[Sequence[str]], set[str]],
    *,
    hashes: bool = False,
    step: Callable[[], object] = lambda: None,
) -> Findings:
    """Look at everything; ``in_force`` tells which entries the registry has, Approved.

    With ``hashes`` every byte is read and proved, otherwise the sizes are compared.
    """
    findings = Findings()
    for uid, sha256, size, evicted in _rows(database, _INSTANCES):
        findings.instances += 1
        if evicted and not blobs.holds(sha256):
            findings.evicted += 1
        else:
            _check_file(blobs, uid, sha256, size, hashes, findings)
        step()
    for uid, sha256, size in _rows(database, _REPORTS):
        _check_file(blobs, uid, sha256, size, hashes, findings)
    published: dict[str, str] = dict(_rows(database, _STUDIES))
    findings.studies = len(published)
    published |= dict(_rows(database, _PUBLISHED_REPORTS))
    uids = list(published)
    for start in range(0, len(uids), _AT_ONCE):
        part = uids[start : start + _AT_ONCE]
        known = in_force([published[uid] for uid in part])
        findings.unregistered += [uid for uid in part if published[uid] not in known]
    findings.orphans = list(orphans(database, blobs))
    return findings


def _check_file(
    blobs: BlobStore, uid: str, sha256: str, size: int, hashes: bool, findings: Findings
) -> None:
    try:
        blob = blobs.open(sha256)
        if blob.size != size:
            findings.damaged.append(uid)
        elif hashes:
            blob.verified()
    except BlobMissing:
        findings.missing.append(uid)
    except BlobCorrupt:
        findings.damaged.append(uid)


_INSTANCES = select(
    INSTANCE.c.sop_instance_uid, INSTANCE.c.sha256, INSTANCE.c.size, IS_EVICTED
).where(IS_KEPT)
_STUDIES = select(STUDY.c.study_instance_uid, STUDY.c.published_entry).where(
    STUDY.c.published_entry.is_not(None)
)
_REPORTS = select(REPORT.c.report_uid, REPORT.c.sha256, REPORT.c.size)
_PUBLISHED_REPORTS = select(REPORT.c.report_uid, REPORT.c.published_entry).where(
    REPORT.c.published_entry.is_not(None)
)


def _rows(database: Database, query: Select[Any]) -> Iterator[Any]:
    """Every row, a page at a time in the order of the first column."""
    key = query.selected_columns[0]
    after = ""
    while True:
        page = query.where(key > after).order_by(key).limit(_AT_ONCE)
        with database.read() as connection:
            rows = connection.execute(page).all()
        yield from rows
        if len(rows) < _AT_ONCE:
            return
        after = rows[-1][0]
