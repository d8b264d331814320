"""Reports about studies as rows: taken in, found a study, waiting, put aside, published.

A report has one row, for the version that its sender has now. It is published once it is final and
its study is here: the one that it names, or the only one of its patient with its accession number.
A later version replaces the entry, a withdrawal takes it back. What comes by two ways, as an
instance and by HL7, is one report that has the names of both. A report that contradicts its study
about the patient is put in quarantine. The functions here are units of work;
``imaging_source.reporting`` strings them together, ``imaging_source.report_matching`` knows whose a
report is, and ``manifest.report`` says what is published.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any
from uuid import NAMESPACE_OID, uuid5

from sqlalchemy import (
    Connection,
    RowMapping,
    and_,
    delete,
    exists,
    insert,
    or_,
    select,
    update,
)

from hl7.demographics import Identifier
from imaging_source.outbox import State, wait_seconds
from imaging_source.schema import (
    ENCAPSULATED,
    INSTANCE,
    PUBLICATION,
    REPORT,
    REPORT_NAME,
)
from imaging_source.shown import SHOWN
from manifest.report import Form, Person, Report
from storage.operators import among
from storage.statement import Statement

ENCAPSULATED_PDF = "1.2.840.10008.5.1.4.1.1.104.1"
ENCAPSULATED_CDA = "1.2.840.10008.5.1.4.1.1.104.2"
DOCUMENTS = (ENCAPSULATED_PDF, ENCAPSULATED_CDA)
"""SOP classes of instances that hold a document (PS3.3 A.45)."""

INSTANCES = "DICOM"
"""The sender of reports that come as instances, which are called by their SOP Instance UID."""


class Status(StrEnum):
    """How far a report is, as its sender says."""

    PRELIMINARY = "preliminary"
    FINAL = "final"
    WITHDRAWN = "withdrawn"


class Taken(StrEnum):
    """What became of a version."""

    NEW = "new"
    CHANGED = "changed"
    UNCHANGED = "unchanged"
    """It is known, or older than what is known, or less than it."""
    UNKNOWN = "unknown"
    """A withdrawal of what never came."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """A version of a report, whose document is durable.

    ``numbers`` are what the sender calls it, and then what it replaces. ``issued_at`` is a DTM
    in UTC, empty where the sender does not say. A withdrawal needs no ``report``; one with a
    document takes back that version alone.
    """

    sender: str
    numbers: tuple[str, ...]
    status: Status
    issued_at: str
    report: Report | None
    sha256: str
    size: int
    received_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownReport:
    """One row; ``report`` is what it says of itself."""

    report_uid: str
    sender: str
    status: Status
    report: Report
    sha256: str
    study_instance_uid: str
    accession_number: str
    received_at: float
    revision: int
    published_entry: str | None
    attempts: int
    reason: str | None


def take_in(connection: Connection, version: Version) -> Taken:
    """Keep ``version`` as what its report is now; the same one again changes nothing."""
    known = _known(connection, version)
    if known is None:
        return _add(connection, version)
    _name(connection, version, known["report_uid"])
    if not _is_news(known, version):
        return Taken.UNCHANGED
    values = _values(version) | {"revision": known["revision"] + 1}
    if version.status is not Status.WITHDRAWN:
        values["sender"] = version.sender  # whose version is in force: see _is_news
    row = REPORT.c.report_uid == known["report_uid"]
    connection.execute(update(REPORT).where(row).values(**values))
    return Taken.CHANGED


_AMONG_IMAGES = Statement(
    select(REPORT.c.study_instance_uid, REPORT.c.published_entry)
    .join_from(REPORT, REPORT_NAME, REPORT_NAME.c.report_uid == REPORT.c.report_uid)
    .join(INSTANCE, INSTANCE.c.sop_instance_uid == REPORT_NAME.c.number)
    .where(
        among(REPORT.c.study_instance_uid, "studies"),
        REPORT.c.published_entry.is_not(None),
        REPORT_NAME.c.sender == INSTANCES,
        INSTANCE.c.study_instance_uid == REPORT.c.study_instance_uid,
        SHOWN,
    )
)


def among_images(connection: Connection, studies: Collection[str]) -> list[tuple[str, str]]:
    """Studies, of some, with the entryUUID of a published report that lies among their images:
    whoever sees the images sees it."""
    return [*_AMONG_IMAGES.rows(connection, {"studies": list(studies)})]


def note_instance(connection: Connection, sop_class_uid: str, sop_instance_uid: str) -> None:
    """Let an instance that has come be looked at, if it holds a document."""
    if sop_class_uid in DOCUMENTS:
        forget_instance(connection, sop_instance_uid)
        connection.execute(insert(ENCAPSULATED), {"sop_instance_uid": sop_instance_uid})


def note_rejected(connection: Connection, uids: Sequence[str]) -> None:
    """Let those of the instances that hold a document be looked at again."""
    query = select(INSTANCE.c.sop_instance_uid, INSTANCE.c.sop_class_uid).where(
        INSTANCE.c.sop_instance_uid.in_(uids), INSTANCE.c.sop_class_uid.in_(DOCUMENTS)
    )
    for uid, sop_class in connection.execute(query).all():
        note_instance(connection, sop_class, uid)


def instances(connection: Connection, limit: int) -> list[RowMapping]:
    """Instances that hold a document and are to be looked at."""
    columns = (
        INSTANCE.c.sop_instance_uid,
        INSTANCE.c.study_instance_uid,
        INSTANCE.c.sop_class_uid,
        INSTANCE.c.transfer_syntax_uid,
        INSTANCE.c.sha256,
        INSTANCE.c.rejection,
    )
    query = select(*columns).join(
        ENCAPSULATED, ENCAPSULATED.c.sop_instance_uid == INSTANCE.c.sop_instance_uid
    )
    return list(connection.execute(query.limit(limit)).mappings())


def forget_instance(connection: Connection, sop_instance_uid: str) -> None:
    """An instance has been looked at."""
    row = ENCAPSULATED.c.sop_instance_uid == sop_instance_uid
    connection.execute(delete(ENCAPSULATED).where(row))


_OPEN = exists().where(
    PUBLICATION.c.study_instance_uid == REPORT.c.report_uid,
    (PUBLICATION.c.state == State.PENDING)
    | ((PUBLICATION.c.state == State.FAILED) & (PUBLICATION.c.revision >= REPORT.c.revision)),
)


def due(connection: Connection, now: float, limit: int) -> list[KnownReport]:
    """Reports that are to be published or taken back, or may be, the longest waiting first."""
    query = (
        select(REPORT)
        .where(REPORT.c.next_attempt_at <= now, ~_OPEN)
        .order_by(REPORT.c.next_attempt_at)
        .limit(limit)
    )
    return [_report(row) for row in connection.execute(query).mappings()]


def place(connection: Connection, known: KnownReport, study_instance_uid: str) -> None:
    """Note which study a report is about."""
    row = REPORT.c.report_uid == known.report_uid
    connection.execute(
        update(REPORT).where(row).values(study_instance_uid=study_instance_uid, reason=None)
    )


def join(connection: Connection, known: KnownReport, study_instance_uid: str) -> bool:
    """Make one of a report that nothing was published of and the one that it is: whether it is one.

    That is a report of another sender about the same study, published or on its way, with the same
    bytes or the same identifier of its document. It keeps its place and gets the names of both, so
    that either sender can replace it or take it back. Taken back, it is signed again by a version
    that is later.
    """
    theirs = (
        select(REPORT)
        .where(
            REPORT.c.study_instance_uid == study_instance_uid,
            REPORT.c.sender != known.sender,
            _was_sent(REPORT.c.report_uid),
            ~_was_sent(known.report_uid),
        )
        .order_by(REPORT.c.report_uid)
        .with_for_update(of=REPORT)
    )
    rows = connection.execute(theirs).mappings().all()
    twin = next((row for row in rows if _is_same(row, known)), None)
    if twin is None:
        return False
    here = (REPORT.c.report_uid == known.report_uid) & (REPORT.c.revision == known.revision)
    issued_at = connection.execute(select(REPORT.c.issued_at).where(here)).scalar_one_or_none()
    if issued_at is None:  # another version has come meanwhile
        return False
    connection.execute(delete(REPORT).where(here))
    names = update(REPORT_NAME).where(REPORT_NAME.c.report_uid == known.report_uid)
    connection.execute(names.values(report_uid=twin["report_uid"]))
    if twin["status"] == Status.WITHDRAWN and twin["issued_at"] < issued_at:
        again = {"status": Status.FINAL, "issued_at": issued_at, "next_attempt_at": 0.0}
        row = update(REPORT).where(REPORT.c.report_uid == twin["report_uid"])
        connection.execute(row.values(**again, revision=REPORT.c.revision + 1))
    return True


def reissue(connection: Connection, study_instance_uid: str, now: float) -> None:
    """The patient of a study was corrected: its signed reports are published as it is now."""
    connection.execute(
        update(REPORT)
        .where(REPORT.c.study_instance_uid == study_instance_uid, REPORT.c.status == Status.FINAL)
        .values(revision=REPORT.c.revision + 1, attempts=0, next_attempt_at=now, reason=None)
    )


def pass_over(connection: Connection, known: KnownReport) -> None:
    """Nothing is to be done: what was taken back had not been published."""
    _same(connection, known, next_attempt_at=None, published_revision=known.revision)


def put_aside(connection: Connection, known: KnownReport, reason: str) -> None:
    """Quarantine: nothing is done until a person or a new version changes something."""
    _same(connection, known, next_attempt_at=None, reason=reason)


def wait(connection: Connection, known: KnownReport, reason: str, now: float) -> None:
    """Look again later, longer each time."""
    attempts = known.attempts + 1
    until = now + wait_seconds(attempts)
    _same(connection, known, attempts=attempts, next_attempt_at=until, reason=reason)


def wake(connection: Connection, study_instance_uid: str, accessions: Iterable[str]) -> None:
    """A study is about to be published: what waits for it is looked at."""
    numbers = [one for one in accessions if one]
    connection.execute(
        update(REPORT)
        .where(
            or_(
                REPORT.c.study_instance_uid == study_instance_uid,
                and_(REPORT.c.accession_number.in_(numbers), REPORT.c.study_instance_uid == ""),
            ),
            REPORT.c.next_attempt_at.is_not(None),
        )
        .values(next_attempt_at=0.0)
    )


def retry(connection: Connection, report_uid: str) -> bool:
    """Look again at a report in quarantine or refused: whether there is one."""
    row = REPORT.c.report_uid == report_uid
    failed = (PUBLICATION.c.study_instance_uid == report_uid) & (
        PUBLICATION.c.state == State.FAILED
    )
    again = update(PUBLICATION).where(failed).values(state=State.SUPERSEDED)
    refused = bool(connection.execute(again).rowcount)
    aside = REPORT.c.next_attempt_at.is_(None) & REPORT.c.reason.is_not(None)
    mended = connection.execute(
        update(REPORT).where(row, aside).values(next_attempt_at=0.0, reason=None)
    )
    return refused or bool(mended.rowcount)


def _known(connection: Connection, version: Version) -> RowMapping | None:
    """The row of the report, by the first of its names that is known; locked."""
    for number in version.numbers:
        query = (
            select(REPORT)
            .join(REPORT_NAME, REPORT_NAME.c.report_uid == REPORT.c.report_uid)
            .where(REPORT_NAME.c.sender == version.sender, REPORT_NAME.c.number == number)
        )
        row = connection.execute(query.with_for_update(of=REPORT)).mappings().first()
        if row is not None:
            return row
    return None


def _add(connection: Connection, version: Version) -> Taken:
    if version.status is Status.WITHDRAWN:
        return Taken.UNKNOWN
    uid = f"2.25.{uuid5(NAMESPACE_OID, json.dumps([version.sender, version.numbers[0]])).int}"
    counted = {"revision": 1, "published_revision": 0}
    row = {"report_uid": uid, "sender": version.sender} | counted | _values(version)
    connection.execute(insert(REPORT), row)
    _name(connection, version, uid)
    return Taken.NEW


def _name(connection: Connection, version: Version, report_uid: str) -> None:
    """Remember every name: a version that comes once more after the next is known by its own."""
    columns = REPORT_NAME.c
    known = select(columns.number).where(
        columns.sender == version.sender, columns.number.in_(version.numbers)
    )
    before = set(connection.execute(known).scalars())
    for number in dict.fromkeys(version.numbers):
        if number not in before:
            row = {"sender": version.sender, "number": number, "report_uid": report_uid}
            connection.execute(insert(REPORT_NAME), row)


def _values(version: Version) -> dict[str, Any]:
    """The columns that a version decides."""
    is_final = version.status is not Status.PRELIMINARY
    values = {
        "status": version.status,
        "issued_at": version.issued_at,
        "received_at": version.received_at,
        "changed_at": version.received_at,
        "attempts": 0,
        "next_attempt_at": version.received_at if is_final else None,
        "reason": None,
    }
    report = version.report
    if report is None or version.status is Status.WITHDRAWN:
        return values  # what is taken back stays what it was
    return values | {
        "content": json.dumps(asdict(report)).encode(),
        "sha256": version.sha256,
        "size": version.size,
        "study_instance_uid": report.study_instance_uid,
        "accession_number": report.accession_number,
    }


def _is_news(known: RowMapping, version: Version) -> bool:
    """Whether a version changes what is known: not if it is older, or takes back a signature."""
    if version.issued_at and known["issued_at"] and version.issued_at < known["issued_at"]:
        return False
    if version.status is Status.PRELIMINARY and known["status"] != Status.PRELIMINARY:
        return False
    if version.report is None or version.status is Status.WITHDRAWN:
        is_current = version.sha256 in ("", known["sha256"])
        return bool(known["status"] != version.status) and is_current
    if version.sender != known["sender"] and known["status"] == version.status:
        return bool(known["sha256"] != version.sha256)  # the other way of the same version
    content = json.dumps(asdict(version.report)).encode()
    now = version.status, version.sha256, content
    return (known["status"], known["sha256"], bytes(known["content"])) != now


def _was_sent(report_uid: Any) -> Any:
    """Whether something of a report was published, or is on its way."""
    return exists().where(
        PUBLICATION.c.study_instance_uid == report_uid, PUBLICATION.c.state != State.FAILED
    )


def _is_same(row: RowMapping, known: KnownReport) -> bool:
    if row["sha256"] == known.sha256:
        return True
    named = known.report.document_id
    return bool(named) and content_of(row["content"]).document_id == named


def _same(connection: Connection, known: KnownReport, **values: object) -> None:
    """Change the row, unless another version has come meanwhile."""
    row = (REPORT.c.report_uid == known.report_uid) & (REPORT.c.revision == known.revision)
    connection.execute(update(REPORT).where(row).values(**values))


def _report(row: RowMapping) -> KnownReport:
    return KnownReport(
        report_uid=row["report_uid"],
        sender=row["sender"],
        status=Status(row["status"]),
        report=content_of(row["content"]),
        sha256=row["sha256"],
        study_instance_uid=row["study_instance_uid"],
        accession_number=row["accession_number"],
        received_at=row["received_at"],
        revision=row["revision"],
        published_entry=row["published_entry"],
        attempts=row["attempts"],
        reason=row["reason"],
    )


def content_of(data: bytes) -> Report:
    """What a row's content says, which ``asdict`` made of a Report."""
    fields = json.loads(data)
    groups = tuple(tuple(Identifier(**one) for one in group) for group in fields["patients"])
    typed = {"form": Form(fields["form"]), "author": Person(**fields["author"])}
    return Report(**{**fields, **typed, "patients": groups})
