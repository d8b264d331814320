"""An imaging report beside the manifest of its study: from what it says to a DocumentEntry.

Covers the report options of XDS-I.b (RAD TF-1 18.2, RAD TF-3 4.68.4.1.2.3): PDF, CDA with wrapped
text, CDA with structured headings; and a PDF wrapped in CDA (ITI TF-3 5.2, XDS-SD). Pure functions.
A report is found by what its study is found by: accession and order numbers, Study Instance UID.
It does not read documents: ``manifest.cda`` does.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from hl7.demographics import Identifier
from manifest.engine import as_announced
from manifest.entry import (
    PublicationPolicy,
    author_of,
    domain_patient_id,
    event_codes_of,
    patient_info,
    references_of,
    service_time,
    source_patient_id,
)
from manifest.model import ManifestSeries, Study
from metadata.datatypes import DTM, XCN, LocalizedString, escape
from metadata.identifiers import IHE_FORMAT_SCHEME, STABLE
from metadata.model import Code, DocumentEntry

PDF_MIME_TYPE = "application/pdf"
CDA_MIME_TYPE = "text/xml"

# ITI TF-3 4.2.3.2.24: a title has fewer than 128 characters.
_TITLE_LIMIT = 127
# What DICOM and HL7 allow for one part of a name or an identifier, cut before it is escaped.
_PART_LIMIT = 64
_LANGUAGE = re.compile(r"[a-z]{2}(-[A-Z]{2})?")


class Form(StrEnum):
    """A form of reports, by its formatCode."""

    PDF = "urn:ihe:rad:PDF"
    TEXT = "urn:ihe:rad:TEXT"
    """CDA whose body is text."""
    STRUCTURED = "urn:ihe:rad:CDA:ImagingReportStructuredHeadings:2013"
    """CDA whose body has sections."""
    WRAPPED_PDF = "urn:ihe:iti:xds-sd:pdf:2008"
    """CDA whose body is a PDF."""

    @property
    def mime_type(self) -> str:
        """The media type of its documents."""
        return PDF_MIME_TYPE if self is Form.PDF else CDA_MIME_TYPE

    @property
    def format_code(self) -> Code:
        """formatCode of its entries."""
        return Code(self.value, IHE_FORMAT_SCHEME, LocalizedString(_NAMES[self], "en"))


_NAMES = {
    Form.PDF: "Imaging report, PDF",
    Form.TEXT: "Imaging report, text in CDA",
    Form.STRUCTURED: "Imaging report, structured CDA",
    Form.WRAPPED_PDF: "PDF in CDA",
}


@dataclass(frozen=True, slots=True)
class Person:
    """Who answers for a report; ``authority`` is the OID that issued ``identifier``."""

    identifier: str = ""
    authority: str = ""
    family: str = ""
    given: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a report says of itself; empty is "not known".

    ``created`` is in UTC (DTM). ``patients`` are the identifiers of the one patient, a group for
    each place where they stand. ``accession_issuer_oid`` is empty where nobody is named.
    """

    form: Form
    title: str = ""
    language: str = ""
    created: str = ""
    author: Person = Person()
    study_instance_uid: str = ""
    accession_number: str = ""
    accession_issuer_oid: str = ""
    document_id: str = ""
    """The identifier that the document itself has: an OID, or one with an extension behind ^."""
    patients: tuple[tuple[Identifier, ...], ...] = ()


def completed(said: Report, document: Report) -> Report:
    """What was said of a document, completed by what it says itself; both name the patient."""
    known = {
        name: getattr(said, name) or getattr(document, name)
        for name in ("language", "created", "study_instance_uid", "document_id")
    }
    numbered = said if said.accession_number else document
    return replace(
        said,
        form=document.form,
        title=document.title or said.title,
        author=document.author if document.author != Person() else said.author,
        accession_number=numbered.accession_number,
        accession_issuer_oid=numbered.accession_issuer_oid,
        patients=(*said.patients, *document.patients),
        **known,
    )


def report_entry(
    report: Report,
    study: Study,
    series: Sequence[ManifestSeries],
    policy: PublicationPolicy,
    *,
    unique_id: str,
    entry_uuid: str,
    received: DTM,
) -> DocumentEntry:
    """The entry of a report about ``study``, whose codes are those of ``policy``.

    ``received`` is the time of creation of a report that does not say its own. Raises
    ManifestError if the patient is not known in the affinity domain.
    """
    study = as_announced(study, policy)
    language = report.language if _LANGUAGE.fullmatch(report.language) else policy.language_code
    title = report.title or study.description
    return DocumentEntry(
        entry_uuid=entry_uuid,
        unique_id=unique_id,
        object_type=STABLE,
        mime_type=report.form.mime_type,
        patient_id=domain_patient_id(study, policy),
        source_patient_id=source_patient_id(study, policy),
        source_patient_info=patient_info(study, policy),
        author=[replace(author_of(study, policy), person=_person(report.author))],
        title=LocalizedString(title[:_TITLE_LIMIT], language) if title else None,
        class_code=policy.class_code,
        type_code=policy.type_code,
        format_code=report.form.format_code,
        healthcare_facility_type_code=policy.healthcare_facility_type_code,
        practice_setting_code=policy.practice_setting_code,
        confidentiality_code=[policy.confidentiality_code],
        event_code_list=event_codes_of(series, policy),
        language_code=language,
        creation_time=DTM(report.created) if report.created else received,
        service_start_time=service_time(study, policy),
        legal_authenticator=_person(report.author),
        reference_id_list=references_of(study, policy),
    )


def _person(person: Person) -> XCN | None:
    """The person in XDS metadata (ITI TF-3 4.2.3.1.7); None for one without name and number."""
    identifier, family, given = (
        escape(part.strip()[:_PART_LIMIT])
        for part in (person.identifier, person.family, person.given)
    )
    if not identifier and not family:
        return None
    parts = [identifier, family, given, *[""] * 5]
    if identifier and person.authority:
        parts.append(f"&{escape(person.authority)}&ISO")
    return XCN("^".join(parts).rstrip("^"))
