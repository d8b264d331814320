"""The outbox: publications as rows, from the decision to publish to the registry's answer.

A study has at most one open publication. Everything it will send is in its row before the
first attempt, so a process that dies at any point leaves either no row or all of it. The
functions here are the units of work; ``imaging_source.publisher`` strings them together.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy import ColumnElement, Connection, delete, exists, insert, select, update
from sqlalchemy.exc import NoResultFound

from imaging_source.completeness import Signal, is_told
from imaging_source.schema import FURTHER_MANIFEST, PUBLICATION, REPORT, STUDY, UNIDENTIFIED

_FIRST_RETRY_SECONDS = 5.0
_LAST_RETRY_SECONDS = 900.0


class Kind(StrEnum):
    """What a publication does to the entry of the study's manifest, or of a report."""

    MANIFEST = "manifest"
    """A new manifest, which replaces the one before."""
    REPORT = "report"
    """A new version of a report, which replaces the one before."""
    DEPRECATION = "deprecation"
    """No image is left: the entry is deprecated (ITI-57)."""
    REMOVAL = "removal"
    """No image is left: the study's entries are taken out of the registry (ITI-62)."""


PUBLISHING = (Kind.MANIFEST, Kind.REPORT)
"""Kinds that leave an entry in force."""


class State(StrEnum):
    """Where a publication is."""

    PENDING = "pending"
    """To be sent, for the first time or again."""
    PUBLISHED = "published"
    """The registry has it."""
    FAILED = "failed"
    """Refused for good; ``error`` says why. Waits for new images or for ``retry``."""
    SUPERSEDED = "superseded"
    """Failed, and a later publication has taken its place."""


@dataclass(frozen=True, slots=True)
class DueStudy:
    """A study that has been quiet long enough; ``replaces`` is the entry of its last manifest."""

    study_instance_uid: str
    revision: int
    replaces: str | None


@dataclass(frozen=True, slots=True)
class FurtherManifest:
    """A manifest of another family (``manifest.flavours``) in the same submission."""

    flavour: str
    entry_uuid: str
    manifest: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Publication:
    """One row: who, which version of the study, and the bytes to send.

    Of a report: its own UID in the place of the study's, its document in that of the manifest.

    ``entry_uuid``, ``manifest_uid`` and ``manifest`` are those of the family that speaks for
    the study; ``further`` are the others. ``attempts`` counts the one under way. ``error`` is the
    last answer, for people who may see patient data: never for a log.
    """

    submission_set_unique_id: str
    study_instance_uid: str
    revision: int
    entry_uuid: str
    manifest_uid: str
    manifest: bytes
    metadata: bytes
    state: State
    attempts: int
    next_attempt_at: float
    created_at: float
    error: str | None = None
    kind: Kind = Kind.MANIFEST
    content_hash: str | None = None
    further: tuple[FurtherManifest, ...] = ()


_STUDY_OF_ROW = PUBLICATION.c.study_instance_uid == STUDY.c.study_instance_uid
_BLOCKED = exists().where(
    _STUDY_OF_ROW,
    (PUBLICATION.c.state == State.PENDING)
    | ((PUBLICATION.c.state == State.FAILED) & (PUBLICATION.c.revision >= STUDY.c.revision)),
)


def due_studies(
    connection: Connection,
    quiet_since: float,
    limit: int,
    now: float = math.inf,
    believed: Sequence[Signal] = (),
) -> list[DueStudy]:
    """Studies with unpublished images that are complete and have no blocking row.

    Complete is what one of the ``believed`` signals says to be, or is unchanged since
    ``quiet_since``. A failed publication blocks until the study changes again, a patient who could
    not be identified until the next attempt is due at ``now``.
    """
    complete = STUDY.c.changed_at <= quiet_since
    if believed:
        complete = complete | is_told(believed, now)
    waits = exists().where(
        UNIDENTIFIED.c.study_instance_uid == STUDY.c.study_instance_uid,
        UNIDENTIFIED.c.next_attempt_at > now,
    )
    query = (
        select(STUDY.c.study_instance_uid, STUDY.c.revision, STUDY.c.published_entry)
        .where(STUDY.c.revision > STUDY.c.published_revision)
        .where(complete, ~_BLOCKED, ~waits)
        .order_by(STUDY.c.changed_at)
        .limit(limit)
    )
    return [DueStudy(*row) for row in connection.execute(query)]


def enqueue(connection: Connection, publication: Publication) -> None:
    """Add a publication, which takes the place of the study's failed ones.

    Does nothing if the study has been published as it is since it was found due, and raises
    sqlalchemy.exc.IntegrityError if it has an open publication (both: another publisher).
    """
    if _is_published(connection, publication.study_instance_uid, publication.revision):
        return
    _forget_troubles(connection, publication.study_instance_uid)
    row = {column.name: getattr(publication, column.name) for column in PUBLICATION.c}
    connection.execute(insert(PUBLICATION), row)
    key = {"submission_set_unique_id": publication.submission_set_unique_id}
    for one in publication.further:
        connection.execute(insert(FURTHER_MANIFEST), key | asdict(one))


def wait_for_patient(
    connection: Connection, study_instance_uid: str, reason: str, now: float
) -> None:
    """Let a study wait, longer each time, because its patient is not known in the domain."""
    row = UNIDENTIFIED.c.study_instance_uid == study_instance_uid
    before = connection.execute(select(UNIDENTIFIED.c.attempts).where(row)).scalar_one_or_none()
    attempts = (before or 0) + 1
    values = {
        "attempts": attempts,
        "next_attempt_at": now + wait_seconds(attempts),
        "reason": reason,
    }
    if before is None:
        key = {"study_instance_uid": study_instance_uid, "since": now}
        connection.execute(insert(UNIDENTIFIED), key | values)
    else:
        connection.execute(update(UNIDENTIFIED).where(row).values(**values))


def wait_seconds(attempts: int) -> float:
    """How long to wait after so many attempts: 5 s, then twice as long, 15 minutes at most."""
    return min(_FIRST_RETRY_SECONDS * 2.0 ** min(attempts - 1, 16), _LAST_RETRY_SECONDS)


def pass_over(connection: Connection, due: DueStudy) -> None:
    """Let a study be that has nothing to list and no entry: it is as published as it can be."""
    if not _is_published(connection, due.study_instance_uid, due.revision):
        _forget_troubles(connection, due.study_instance_uid)
        _published(connection, due.study_instance_uid, due.revision, None)


def manifest_entries(connection: Connection, study_instance_uid: str) -> list[list[str]]:
    """The entryUUIDs of each publication of a study that the registry took, oldest first."""
    query = (
        select(PUBLICATION.c.submission_set_unique_id, PUBLICATION.c.entry_uuid)
        .where(*_of_study(study_instance_uid, State.PUBLISHED))
        .where(PUBLICATION.c.kind.in_(PUBLISHING))
        .order_by(PUBLICATION.c.created_at)
    )
    return [
        [entry, *(one.entry_uuid for one in _further(connection, unique_id))]
        for unique_id, entry in connection.execute(query).all()
    ]


def document_ids(connection: Connection, uid: str) -> set[str]:
    """The uniqueIds under which a study's manifests, or a report, were sent or are to be."""
    query = select(PUBLICATION.c.manifest_uid).where(PUBLICATION.c.study_instance_uid == uid)
    return set(connection.execute(query).scalars())


def _forget_troubles(connection: Connection, study_instance_uid: str) -> None:
    """Nothing is wrong with a study any more: a publication of it has been made, or needs none."""
    retry(connection, study_instance_uid)
    waiting = UNIDENTIFIED.c.study_instance_uid == study_instance_uid
    connection.execute(delete(UNIDENTIFIED).where(waiting))


# What can be published, by UID: a study, or a report about one.
_SUBJECTS = ((STUDY, STUDY.c.study_instance_uid), (REPORT, REPORT.c.report_uid))


def _is_published(connection: Connection, uid: str, revision: int) -> bool:
    # Locked as ``settle`` locks it, so that one of the two sees what the other did.
    for table, key in _SUBJECTS:
        query = select(table.c.published_revision).where(key == uid).with_for_update()
        published = connection.execute(query).scalar_one_or_none()
        if published is not None:
            return bool(published >= revision)
    raise NoResultFound(uid)


def claim(connection: Connection, now: float, lease_until: float) -> Publication | None:
    """The next publication to send, counted as tried and kept from others until the lease ends.

    The count is durable before anything is sent: a row with attempts may have been received.
    """
    query = (
        select(PUBLICATION)
        .where(PUBLICATION.c.state == State.PENDING, PUBLICATION.c.next_attempt_at <= now)
        .order_by(PUBLICATION.c.next_attempt_at)
        .limit(1)
        .with_for_update(skip_locked=True)
    )
    row = connection.execute(query).mappings().first()
    if row is None:
        return None
    attempts = row["attempts"] + 1
    _change(
        connection, row["submission_set_unique_id"], attempts=attempts, next_attempt_at=lease_until
    )
    further = _further(connection, row["submission_set_unique_id"])
    return _publication({**row, "attempts": attempts, "further": further})


def resume(connection: Connection, now: float) -> None:
    """Let every pending publication be claimed at once, those claimed before included."""
    pending = PUBLICATION.c.state == State.PENDING
    connection.execute(update(PUBLICATION).where(pending).values(next_attempt_at=now))


def settle(connection: Connection, publication: Publication) -> None:
    """The registry has done it: the study is published up to the row's revision.

    The bytes are given up: the repository has them now.
    """
    entry = publication.entry_uuid if publication.kind in PUBLISHING else None
    _published(connection, publication.study_instance_uid, publication.revision, entry)
    _change(
        connection,
        publication.submission_set_unique_id,
        state=State.PUBLISHED,
        error=None,
        manifest=b"",
        metadata=b"",
    )
    unique_id = publication.submission_set_unique_id
    further = update(FURTHER_MANIFEST).where(
        FURTHER_MANIFEST.c.submission_set_unique_id == unique_id
    )
    connection.execute(further.values(manifest=b""))


def last_published(connection: Connection, study_instance_uid: str) -> Publication | None:
    """The publication of a study that the registry took last, without its bytes."""
    query = (
        select(PUBLICATION)
        .where(*_of_study(study_instance_uid, State.PUBLISHED))
        .order_by(PUBLICATION.c.revision.desc())
        .limit(1)
    )
    row = connection.execute(query).mappings().first()
    if row is None:
        return None
    return _publication({**row, "further": _further(connection, row["submission_set_unique_id"])})


def leave(connection: Connection, due: DueStudy) -> None:
    """Count a study as published as it is: its manifests would say nothing new."""
    retry(connection, due.study_instance_uid)  # what failed before is not wanted any more
    study = STUDY.c.study_instance_uid == due.study_instance_uid
    connection.execute(
        update(STUDY)
        .where(study, STUDY.c.published_revision < due.revision)
        .values(published_revision=due.revision)
    )


def postpone(connection: Connection, publication: Publication, until: float, error: str) -> None:
    """Try again at ``until``."""
    uid = publication.submission_set_unique_id
    _change(connection, uid, next_attempt_at=until, error=error)


def park(connection: Connection, publication: Publication, error: str) -> None:
    """Refused for good."""
    _change(connection, publication.submission_set_unique_id, state=State.FAILED, error=error)


def retry(connection: Connection, study_instance_uid: str) -> bool:
    """Let a person's correction take effect: whether the study had a failed publication.

    A new publication is made from the study and today's policy.
    """
    failed = _of_study(study_instance_uid, State.FAILED)
    changed = connection.execute(update(PUBLICATION).where(*failed).values(state=State.SUPERSEDED))
    return bool(changed.rowcount)


def republish(connection: Connection, study_instance_uid: str) -> bool:
    """Publish a study again as it is: whether it is here."""
    retry(connection, study_instance_uid)
    # What is published says nothing any more that a new manifest could be found equal to.
    published = _of_study(study_instance_uid, State.PUBLISHED)
    connection.execute(update(PUBLICATION).where(*published).values(content_hash=None))
    study = STUDY.c.study_instance_uid == study_instance_uid
    newer = update(STUDY).where(study).values(revision=STUDY.c.revision + 1)
    return bool(connection.execute(newer).rowcount)


def publications(
    connection: Connection, state: State | None = None, limit: int = 1000
) -> list[Publication]:
    """The newest publications, of one ``state`` or of all."""
    query = select(PUBLICATION).order_by(PUBLICATION.c.created_at.desc()).limit(limit)
    if state is not None:
        query = query.where(PUBLICATION.c.state == state)
    return [_publication(row) for row in connection.execute(query).mappings()]


def _published(connection: Connection, uid: str, revision: int, entry_uuid: str | None) -> None:
    values = {"published_revision": revision, "published_entry": entry_uuid}
    for table, key in _SUBJECTS:
        connection.execute(update(table).where(key == uid).values(**values))
    # A version that has come meanwhile is due.
    done = (REPORT.c.report_uid == uid) & (REPORT.c.revision == revision)
    connection.execute(update(REPORT).where(done).values(next_attempt_at=None, reason=None))


def _further(connection: Connection, submission_set_unique_id: str) -> tuple[FurtherManifest, ...]:
    columns = FURTHER_MANIFEST.c
    query = (
        select(columns.flavour, columns.entry_uuid, columns.manifest)
        .where(columns.submission_set_unique_id == submission_set_unique_id)
        .order_by(columns.flavour)
    )
    return tuple(FurtherManifest(*row) for row in connection.execute(query))


def _of_study(study_instance_uid: str, state: State) -> tuple[ColumnElement[bool], ...]:
    return (
        PUBLICATION.c.study_instance_uid == study_instance_uid,
        PUBLICATION.c.state == state,
    )


def _change(connection: Connection, submission_set_unique_id: str, **values: object) -> None:
    key = PUBLICATION.c.submission_set_unique_id
    row = update(PUBLICATION).where(key == submission_set_unique_id)
    connection.execute(row.values(values))


def _publication(row: Any) -> Publication:
    typed = {"state": State(row["state"]), "kind": Kind(row["kind"])}
    return Publication(**{**row, **typed})
