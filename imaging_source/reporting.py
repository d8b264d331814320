"""From a report that has come to its publication.

Reads the documents that instances hold (PS3.3 A.45: Encapsulated PDF, Encapsulated CDA), finds the
study of each final report, compares the patients, and makes the row that the publisher sends
(``imaging_source.outbox``): a document, its successor, or the withdrawal of one. Not here: HL7.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, tzinfo
from functools import partial
from io import BytesIO

import structlog
from lxml import etree
from pydicom import dcmread
from pydicom.dataset import Dataset
from sqlalchemy import Connection, RowMapping
from sqlalchemy.exc import IntegrityError

from hl7.demographics import Identifier
from imaging_source import outbox, reports
from imaging_source.completeness import Signal, tell
from imaging_source.corrections import Authorities
from imaging_source.data_sets import Inflated
from imaging_source.identity import Crossing, Unidentified
from imaging_source.index import describe
from imaging_source.outbox import Kind, Publication, State
from imaging_source.report_matching import (
    NO_PATIENT,
    OTHER_PATIENT,
    SEVERAL_STUDIES,
    Candidate,
    candidates,
    is_about,
)
from imaging_source.reports import ENCAPSULATED_CDA, INSTANCES, KnownReport, Status, Version
from imaging_source.syntaxes import INFLATED
from imaging_source.withdrawal import Withdrawal
from manifest.cda import moment, read_cda, version_set
from manifest.entry import Identifiers, PublicationPolicy, build_submission
from manifest.model import ManifestError, ManifestSeries, Patient, Study
from manifest.report import Form, Report, report_entry
from metadata.datatypes import DTM, new_oid, new_uuid_urn
from metadata.model import SubmissionSet
from storage.blobs import BlobStore
from storage.database import Database
from storage.errors import BlobCorrupt, BlobMissing, StorageError
from storage.faultpoints import reach
from transactions.iti_42 import SubmitObjectsRequest

_log = structlog.get_logger("kosmos.imaging_source")

# Documents are held in memory, a few at a time.
_REPORTS_PER_ROUND = 10
# A report with pictures has some megabytes; what is larger is none that a person reads.
DOCUMENT_LIMIT_BYTES = 128 * 1024 * 1024

_NO_STUDY = "its study is not here yet"


class NotADocument(Exception):
    """An instance holds nothing that can be published; the text quotes no patient."""


class Reporting:
    """Makes the reports of one database ready to be sent.

    ``policy`` gives the codes of their entries; it may be replaced at any time. ``authorities``
    are those of the images. With ``instances``, documents among the images are reports.
    ``crossing`` and ``withdrawal`` are those of the publisher.
    """

    def __init__(
        self,
        database: Database,
        blobs: BlobStore,
        policy: PublicationPolicy,
        authorities: Authorities,
        *,
        instances: bool = True,
        withdrawal: Withdrawal | None = None,
        crossing: Crossing | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._database = database
        self._blobs = blobs
        self.policy = policy
        self._authorities = authorities
        self._instances = instances
        self._withdrawal = withdrawal
        self._crossing = crossing
        self._clock = clock

    def make_ready(self) -> None:
        """Put everything in the outbox that can go there now."""
        if self._instances:
            self._read_instances()
        with self._database.read() as connection:
            due = reports.due(connection, self._clock(), _REPORTS_PER_ROUND)
        for known in due:
            if known.status is Status.WITHDRAWN and known.published_entry is None:
                self._database.write(partial(reports.pass_over, known=known))
            elif (found := self._study_of(known)) is not None and not self._joined(known, found[0]):
                self._queue(known, found)

    # --- documents in instances

    def _read_instances(self) -> None:
        with self._database.read() as connection:
            waiting = reports.instances(connection, _REPORTS_PER_ROUND)
        for row in waiting:
            version = self._version_of(row)
            reach("reporting.read")

            uid = row["sop_instance_uid"]
            self._database.write(partial(_take_in_instance, uid=uid, version=version))

    def _version_of(self, row: RowMapping) -> Version | None:
        """The report that an instance holds, its document durable; None where there is none.

        Of a rejected instance the withdrawal of what it held.
        """
        try:
            dataset = self._dataset(row)
            zone = self.policy.time_zone
            report, document = _read_instance(dataset, row["sop_class_uid"], zone)
        except (BlobMissing, BlobCorrupt) as error:
            _log.error("no report", code="report-unreadable", error=type(error).__name__)
            return None
        except StorageError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever an instance can hold, the others go on
            _log.warning("no report", code="report-unreadable", error=type(error).__name__)
            return None
        patient = Identifier(
            str(dataset.get("PatientID", "")).strip(), _issuer(dataset), self._authorities.namespace
        )
        kept = keep(self._blobs, document)
        status = _status(dataset, is_rejected=row["rejection"] is not None)
        return Version(
            sender=INSTANCES,
            numbers=_numbers(row, document),
            status=status,
            issued_at="" if status is Status.WITHDRAWN else report.created,
            report=replace(
                report,
                study_instance_uid=row["study_instance_uid"],
                patients=((patient,), *report.patients),
            ),
            sha256=kept.sha256,
            size=kept.size,
            received_at=self._clock(),
        )

    def _dataset(self, row: RowMapping) -> Dataset:
        """The instance, in memory."""
        blob, syntax = self._blobs.open(row["sha256"]), row["transfer_syntax_uid"]
        size = Inflated.of(blob.verified(), syntax).size if syntax in INFLATED else blob.size
        if size > DOCUMENT_LIMIT_BYTES:
            raise NotADocument("it is too large")
        return dcmread(BytesIO(b"".join(blob.chunks())))

    # --- the study

    def _study_of(self, known: KnownReport) -> tuple[Study, tuple[ManifestSeries, ...]] | None:
        """The study of a report, its patient identified; None if it waits or is put aside."""
        try:
            uid = self._placed(known)
            if uid is None:
                return None
            with self._database.read() as connection:
                study, series = describe(connection, uid)
            return replace(study, patient=self._identified(study.patient)), series
        except Unidentified as error:
            self._wait(known, str(error))
            return None

    def _placed(self, known: KnownReport) -> str | None:
        """The study of a report, which is complete now that it is signed (where that counts)."""
        if known.status is Status.WITHDRAWN:
            return known.study_instance_uid
        uid, now = self._found(known), self._clock()

        def work(connection: Connection, uid: str) -> None:
            reports.place(connection, known, uid)
            tell(connection, uid, Signal.REPORT, now)

        if uid is not None:
            self._database.write(partial(work, uid=uid))
        return uid

    def _found(self, known: KnownReport) -> str | None:
        with self._database.read() as connection:
            found = candidates(connection, known.report, self._authorities)
        if not found:
            self._wait(known, _NO_STUDY)
            return None
        verdicts = {one.study_instance_uid: self._is_about(known, one) for one in found}
        right = [uid for uid, verdict in verdicts.items() if verdict]
        if len(right) == 1:
            return right[0]
        contradicted = False in verdicts.values()
        reason = SEVERAL_STUDIES if right else OTHER_PATIENT if contradicted else NO_PATIENT
        _log.error("report in quarantine", code="report-quarantine", reason=reason)
        self._database.write(lambda connection: reports.put_aside(connection, known, reason))
        return None

    def _is_about(self, known: KnownReport, candidate: Candidate) -> bool | None:
        domain_id = self._identified(candidate.patient).domain_id
        authority = self.policy.assigning_authority
        domain = Identifier(domain_id, authority, "") if domain_id else None
        with self._database.read() as connection:
            return is_about(connection, known.report, candidate.patient, self._authorities, domain)

    def _identified(self, patient: Patient) -> Patient:
        """The patient with its identifier in the domain. Raises Unidentified."""
        if self._crossing is None:
            return patient
        return replace(patient, domain_id=self._crossing.domain_id(patient))

    def _wait(self, known: KnownReport, reason: str) -> None:
        now = self._clock()
        self._database.write(lambda connection: reports.wait(connection, known, reason, now))

    # --- the row

    def _joined(self, known: KnownReport, study: Study) -> bool:
        """Whether the report came before, by another way."""
        if known.status is Status.WITHDRAWN or known.published_entry is not None:
            return False
        uid = study.study_instance_uid
        joined = self._database.write(lambda connection: reports.join(connection, known, uid))
        if joined:
            _log.info("report known by another way", code="report-joined")
        return joined

    def _queue(self, known: KnownReport, found: tuple[Study, tuple[ManifestSeries, ...]]) -> None:
        row = self._publication(known, *found)
        reach("reporting.made")
        with suppress(IntegrityError):  # another publisher was faster
            self._database.write(lambda connection: outbox.enqueue(connection, row))

    def _publication(
        self, known: KnownReport, study: Study, series: tuple[ManifestSeries, ...]
    ) -> Publication:
        """All that will be sent; a failed row for what cannot be, so that somebody sees it."""
        now = self._clock()
        row = Publication(
            submission_set_unique_id=new_oid(),
            study_instance_uid=known.report_uid,
            kind=Kind.REPORT,
            revision=known.revision,
            entry_uuid=new_uuid_urn(),
            manifest_uid=self._unique_id(known),
            manifest=b"",
            metadata=b"",
            state=State.PENDING,
            attempts=0,
            next_attempt_at=now,
            created_at=now,
        )
        try:
            return self._filled(row, known, study, series)
        except StorageError as error:
            if not isinstance(error, BlobMissing | BlobCorrupt):
                raise
            _log.error("no document", code="report-document", error=type(error).__name__)
            return replace(row, state=State.FAILED, error=type(error).__name__)
        except Exception as error:  # noqa: BLE001 - whatever a report can hold, the others go on
            _log.error("report cannot be published", code="report-unpublishable", exc_info=error)
            reason = str(error) if isinstance(error, ManifestError) else type(error).__name__
            return replace(row, state=State.FAILED, error=reason)

    def _unique_id(self, known: KnownReport) -> str:
        """The document's own identifier, unless a version before was published under it."""
        own = known.report.document_id
        with self._database.read() as connection:
            taken = own in outbox.document_ids(connection, known.report_uid)
        return new_oid() if taken or not own else own

    def _filled(
        self,
        row: Publication,
        known: KnownReport,
        study: Study,
        series: tuple[ManifestSeries, ...],
    ) -> Publication:
        policy = self.policy
        entry = report_entry(
            known.report,
            study,
            series,
            policy,
            unique_id=row.manifest_uid,
            entry_uuid=row.entry_uuid,
            received=DTM.of(datetime.fromtimestamp(known.received_at, UTC)),
        )
        replaced = {entry.entry_uuid: [known.published_entry] if known.published_entry else []}
        names = Identifiers(
            submission_set_uuid=new_uuid_urn(),
            submission_set_unique_id=row.submission_set_unique_id,
        )
        submission = build_submission(study, [entry], policy, names, replaced)
        submission.submission_sets[0].submission_time = DTM.of(
            datetime.fromtimestamp(row.created_at, UTC)
        )
        if known.status is Status.WITHDRAWN:
            return self._withdrawn(row, submission.submission_sets[0])
        document = b"".join(self._blobs.open(known.sha256).chunks())
        metadata = etree.tostring(SubmitObjectsRequest.of(submission).element)
        return replace(row, manifest=document, metadata=metadata)

    def _withdrawn(self, row: Publication, named: SubmissionSet) -> Publication:
        if self._withdrawal is None:
            raise ManifestError("the report was taken back, and its entry cannot be withdrawn")
        with self._database.read() as connection:
            entries = outbox.manifest_entries(connection, row.study_instance_uid)
        return replace(
            row, kind=self._withdrawal.kind, metadata=self._withdrawal.message(entries, named)
        )


def _take_in_instance(connection: Connection, uid: str, version: Version | None) -> None:
    if version is not None:
        reports.take_in(connection, version)
    reports.forget_instance(connection, uid)


@dataclass(frozen=True, slots=True)
class Kept:
    """A durable document."""

    sha256: str
    size: int


def keep(blobs: BlobStore, document: bytes) -> Kept:
    """Make the bytes of a document durable. Raises StorageError."""
    spool = blobs.spool_addressed()
    spool.write(document)
    blob = blobs.keep(spool.finish())
    return Kept(blob.sha256, blob.size)


def _read_instance(dataset: Dataset, sop_class_uid: str, zone: tzinfo) -> tuple[Report, bytes]:
    """What an instance says of its document, and the document."""
    document = bytes(dataset.get("EncapsulatedDocument", b""))
    length = dataset.get("EncapsulatedDocumentLength")
    # Without its length, what makes it even cannot be told from the document (PS3.3 C.24.2).
    document = document[: int(length)] if length is not None else document.removesuffix(b"\0")
    if not document:
        raise NotADocument("it is empty")
    date, of_day = (str(dataset.get(name, "")) for name in ("ContentDate", "ContentTime"))
    said = Report(
        form=Form.PDF,
        title=str(dataset.get("DocumentTitle", "")).strip(),
        created=moment(_in_zone(f"{date}{of_day}", dataset), zone),
        accession_number=str(dataset.get("AccessionNumber", "")).strip(),
    )
    if sop_class_uid != ENCAPSULATED_CDA:
        if not document.startswith(b"%PDF-"):
            raise NotADocument("it is no PDF")
        return said, document
    inner = read_cda(document, zone)
    title, created = inner.title or said.title, inner.created or said.created
    return replace(inner, title=title, created=created), document


def _status(dataset: Dataset, *, is_rejected: bool) -> Status:
    """How final the document of an instance is (Verification Flag, PS3.3 C.24.2)."""
    if is_rejected:
        return Status.WITHDRAWN
    is_signed = dataset.get("VerificationFlag", "") != "UNVERIFIED"
    return Status.FINAL if is_signed else Status.PRELIMINARY


def _numbers(row: RowMapping, document: bytes) -> tuple[str, ...]:
    """What the report is called: as its instance, and as every version of a CDA document is."""
    common = version_set(document) if row["sop_class_uid"] == ENCAPSULATED_CDA else ""
    return (row["sop_instance_uid"], *filter(None, [common]))


def _in_zone(value: str, dataset: Dataset) -> str:
    """A date and time of an instance as HL7 writes it, with its zone where it names one."""
    return value.partition(".")[0] + str(dataset.get("TimezoneOffsetFromUTC", "")).strip()


def _issuer(dataset: Dataset) -> str:
    for item in dataset.get("IssuerOfPatientIDQualifiersSequence", []):
        return str(item.get("UniversalEntityID", "")).strip()
    return ""
