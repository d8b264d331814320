"""Which study a report is about, and whether it is about that study's patient: it only reads.

A report is never filed by its accession number alone: the patient has to agree as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, select, union

from hl7.demographics import Identifier
from imaging_source.corrections import Authorities, is_same_patient
from imaging_source.schema import REQUEST, STUDY
from manifest.model import Patient
from manifest.report import Report

OTHER_PATIENT = "the report is about another patient than its study"
NO_PATIENT = "the report names its patient by no identifier that its study's patient has"
SEVERAL_STUDIES = "several studies of the patient have the report's accession number"


@dataclass(frozen=True, slots=True)
class Candidate:
    """A study that a report may be about."""

    study_instance_uid: str
    patient: Patient


def candidates(connection: Connection, report: Report, authorities: Authorities) -> list[Candidate]:
    """The studies here that a report may be about; none while it has to wait."""
    columns = (STUDY.c.study_instance_uid, STUDY.c.patient_id, STUDY.c.issuer_oid)
    query = select(*columns)
    if report.study_instance_uid:
        query = query.where(STUDY.c.study_instance_uid == report.study_instance_uid)
    elif report.accession_number:
        query = query.where(STUDY.c.study_instance_uid.in_(_by_accession(report, authorities)))
    else:
        return []
    return [
        Candidate(uid, Patient(patient_id=patient, issuer_oid=issuer))
        for uid, patient, issuer in connection.execute(query)
    ]


def is_about(
    connection: Connection,
    report: Report,
    patient: Patient,
    authorities: Authorities,
    domain: Identifier | None,
) -> bool | None:
    """Whether a report names ``patient``, or another; None where nobody can tell.

    ``domain`` is the identifier of the study's patient in the affinity domain, where it has one of
    its own. One place that names another patient is enough to refuse.
    """
    verdicts = {
        verdict
        for group in report.patients
        for verdict in _verdicts(connection, group, patient, authorities, domain)
    }
    return False if False in verdicts else (True if True in verdicts else None)


def _by_accession(report: Report, authorities: Authorities) -> Any:
    """The UIDs of the studies that answer the request; an issuer left out contradicts none."""
    issuer = report.accession_issuer_oid
    same = {"", issuer} | (authorities.own if issuer in authorities.own else set())
    found = []
    for table in (STUDY, REQUEST):
        query = select(table.c.study_instance_uid)
        query = query.where(table.c.accession_number == report.accession_number)
        if issuer:
            query = query.where(table.c.accession_issuer_oid.in_(sorted(same)))
        found.append(query)
    return union(*found)


def _verdicts(
    connection: Connection,
    group: Sequence[Identifier],
    patient: Patient,
    authorities: Authorities,
    domain: Identifier | None,
) -> list[bool]:
    """What one place of a report says: of the study's own authority, and of the domain."""
    said = []
    same = [one.value for one in group if patient.issuer_oid in authorities.issuers(one)]
    if same:
        named = (Patient(patient_id=one, issuer_oid=patient.issuer_oid) for one in same)
        merged = (is_same_patient(connection, one, patient.patient_id) for one in named)
        said.append(patient.patient_id in same or any(merged))
    if domain is not None:
        known = [one.value for one in group if one.authority == domain.authority]
        named = (Patient(patient_id=one, issuer_oid=domain.authority) for one in known)
        merged = (is_same_patient(connection, one, domain.value) for one in named)
        said += [domain.value in known or any(merged)] if known else []
    return said
