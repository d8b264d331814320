"""From the bytes of a message with a report to those of its acknowledgement (ORU, MDM).

The document is synced, the row committed and the record of it written before AA is: what was
acknowledged is published in time, or waits where an operator sees it. What cannot be read is
answered AE; after trouble of our own AR, so that the sender comes again.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from datetime import tzinfo
from functools import partial

import structlog
from sqlalchemy.exc import IntegrityError

from hl7.ack import ACCEPT, ERROR, REJECT, acknowledge, header_of
from hl7.adt import Refused, Unapplied, refuse
from hl7.errors import DATA_TYPE, INTERNAL, REQUIRED_FIELD_MISSING, InvalidMessage, Problem
from hl7.feed import Verdict
from hl7.message import DEFAULT_LIMITS, Limits, Message
from hl7.reports import ReportMessage, read_report
from imaging_source import reports
from imaging_source.reporting import Reporting, keep
from imaging_source.reports import Status, Taken, Version
from manifest.cda import moment, read_cda
from manifest.model import ManifestError
from manifest.report import Form, Person, Report, completed
from metadata.datatypes import is_oid
from storage.blobs import BlobStore
from storage.database import Database
from storage.errors import StorageError
from storage.faultpoints import reach

_log = structlog.get_logger("kosmos.imaging_source")


Witness = Callable[[Unapplied, str], Callable[[Verdict], None]]
"""Is told of a message and its peer before anything is done, and by what it gives back how the
message is to be acknowledged; both may raise StorageError and OSError."""


def unwitnessed(_said: Unapplied, _peer: str) -> Callable[[Verdict], None]:
    """Nobody keeps records."""
    return lambda _verdict: None


class ReportFeed:
    """Takes messages in; safe for use by many threads.

    ``reporting`` is asked for the policy in force, whose time zone is that of times without one.
    """

    def __init__(
        self,
        database: Database,
        blobs: BlobStore,
        reporting: Reporting,
        limits: Limits = DEFAULT_LIMITS,
        clock: Callable[[], float] = time.time,
        witness: Witness = unwitnessed,
    ) -> None:
        self._database = database
        self._blobs = blobs
        self._reporting = reporting
        self._limits = limits
        self._clock = clock
        self._witness = witness

    def answer(self, raw: bytes, peer: str = "") -> bytes:
        """The acknowledgement for ``raw``. Never raises: whatever a peer sends gets an answer."""
        try:
            message = Message.read(raw, limits=self._limits)
        except InvalidMessage as error:
            unread = Verdict(ERROR, [error.problem])
            return self._witnessed(header_of(raw), peer, lambda: unread)
        return self._witnessed(message, peer, lambda: self._verdict(message))

    def _witnessed(self, message: Message, peer: str, judge: Callable[[], Verdict]) -> bytes:
        try:
            ended = self._witness(Unapplied.of(message), peer)
            verdict = judge()
            ended(verdict)
        except (StorageError, OSError) as error:  # it cannot be recorded
            verdict = _to_be_repeated(error)
        return acknowledge(message, *verdict)

    def _verdict(self, message: Message) -> Verdict:
        try:
            taken = self._take_in(read_report(message))
        except Refused as refusal:
            return Verdict(refusal.ack_code, refusal.problems)
        except Exception as error:  # noqa: BLE001 - logged with a code and answered AR
            return _to_be_repeated(error)
        _log.info("report taken in", code="report-taken", outcome=taken.value)
        return Verdict(ACCEPT)

    def _take_in(self, said: ReportMessage) -> Taken:
        zone = self._reporting.policy.time_zone
        version = Version(
            sender=said.sender,
            numbers=said.numbers,
            status=Status(said.completion.value),
            issued_at=moment(said.sent_at, zone),
            report=None,
            sha256="",
            size=0,
            received_at=self._clock(),
        )
        if version.status is not Status.WITHDRAWN:
            report = self._report(said)
            kept = keep(self._blobs, said.document)
            version = replace(version, report=report, sha256=kept.sha256, size=kept.size)
        reach("reports.kept")
        taken = self._write(version)
        reach("reports.taken")
        return taken

    def _write(self, version: Version) -> Taken:
        """Keep the row; two deliveries of one new report may both insert it (PostgreSQL)."""
        work = partial(reports.take_in, version=version)
        try:
            return self._database.write(work)
        except IntegrityError:
            return self._database.write(work)

    def _report(self, said: ReportMessage) -> Report:
        """What the message and its document say together. Raises Refused."""
        zone = self._reporting.policy.time_zone
        identifier, authority, family, given = said.author
        issuer = said.accession_authority
        report = Report(
            form=Form.PDF,
            title=said.title,
            created=moment(said.created, zone),
            author=Person(identifier, authority if is_oid(authority) else "", family, given),
            study_instance_uid=said.study_instance_uid,
            accession_number=said.accession_number,
            accession_issuer_oid=issuer if is_oid(issuer) else "",
            patients=(said.patient,),
        )
        if not said.is_pdf:
            report = _with_cda(report, said.document, zone)
        if not report.accession_number:
            report = replace(report, accession_number=said.filler_number)
        if not report.study_instance_uid and not report.accession_number:
            text = "no study is named: ZDS-1, IPC-3 or IPC-1, OBR-18, or the CDA document"
            refuse([Problem(REQUIRED_FIELD_MISSING, text, "OBR^1^18")])
        return report


def _to_be_repeated(error: Exception) -> Verdict:
    """Trouble of our own; the type only: the error's text may hold what the message says."""
    _log.error("report not taken in", code="HL7-207", error=type(error).__name__)
    return Verdict(REJECT, [Problem(INTERNAL, "not kept; send it again")])


def _with_cda(report: Report, document: bytes, zone: tzinfo) -> Report:
    """``report``, completed by what its document says. Raises Refused."""
    try:
        read = read_cda(document, zone)
    except ManifestError as error:
        refuse([Problem(DATA_TYPE, str(error), "OBX^1^5")])
        raise
    studies = {report.study_instance_uid, read.study_instance_uid} - {""}
    if len(studies) > 1:
        text = "the message and the CDA document name different studies"
        refuse([Problem(DATA_TYPE, text, "OBX^1^5")])
    return completed(report, read)
