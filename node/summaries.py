"""Promising a patient's imaging summary to the registry: the ITI-61 request of ``kosmos summary``.

Two On-Demand entries, CDA and PDF, which the repository of this node assembles whenever they are
asked for (``repository.imaging_summary``).
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

from consumer.client import Consumer
from metadata.datatypes import CX, DTM, OID, XON, LocalizedString, escape, new_oid, new_uuid_urn
from metadata.identifiers import (
    HAS_MEMBER,
    IHE_FORMAT_SCHEME,
    MIME_TYPE_SUFFICIENT,
    ON_DEMAND,
    ORIGINAL,
)
from metadata.model import (
    Association,
    Author,
    Code,
    DocumentEntry,
    Submission,
    SubmissionSet,
)
from node.config import Settings
from repository.imaging_summary import CDA_MIME_TYPE, PDF_MIME_TYPE
from repository.summary import WORDS
from transactions.iti_42 import SubmitObjectsRequest

MIME_TYPES = (CDA_MIME_TYPE, PDF_MIME_TYPE)

_FORMAT_CODE = Code(
    MIME_TYPE_SUFFICIENT, IHE_FORMAT_SCHEME, LocalizedString("Le type MIME suffit", "fr")
)


def promised(consumer: Consumer, patient_id: CX, settings: Settings) -> list[DocumentEntry]:
    """The summaries of a patient that the registry knows already. Raises ConsumerError."""
    code = settings.repository.on_demand.type_code.coded
    return consumer.find_documents(patient_id, type_code=[code], type=[ON_DEMAND])


def missing(entries: Iterable[DocumentEntry], language: str, settings: Settings) -> list[str]:
    """The MIME types in which no entry of this repository promises a summary in ``language``."""
    known = {
        entry.mime_type
        for entry in entries
        if entry.repository_unique_id == settings.repository.unique_id
        and entry.language_code == language
    }
    return [mime_type for mime_type in MIME_TYPES if mime_type not in known]


def promise(
    patient_id: CX, mime_types: Iterable[str], language: str, settings: Settings
) -> SubmitObjectsRequest:
    """The request that registers summaries of a patient, one for each MIME type."""
    document = settings.imaging_source.document
    entries = [_entry(patient_id, mime_type, language, settings) for mime_type in mime_types]
    submission_set = SubmissionSet(
        entry_uuid=new_uuid_urn(),
        unique_id=new_oid(),
        patient_id=patient_id,
        title=entries[0].title,
        author=entries[0].author,
        content_type_code=document.content_type_code.coded,
        source_id=OID(settings.repository.unique_id),
        submission_time=DTM.of(datetime.now(UTC)),
    )
    links = [
        Association(
            entry_uuid=new_uuid_urn(),
            association_type=HAS_MEMBER,
            source=submission_set.entry_uuid,
            target=entry.entry_uuid,
            submission_set_status=ORIGINAL,
        )
        for entry in entries
    ]
    return SubmitObjectsRequest.of(Submission([submission_set], entries, [], links))


def _entry(patient_id: CX, mime_type: str, language: str, settings: Settings) -> DocumentEntry:
    document = settings.imaging_source.document
    words = WORDS["fr" if language.lower().startswith("fr") else "en"]
    return DocumentEntry(
        entry_uuid=new_uuid_urn(),
        unique_id=new_oid(),
        object_type=ON_DEMAND,
        patient_id=patient_id,
        source_patient_id=patient_id,
        title=LocalizedString(words["title"], language),
        mime_type=mime_type,
        author=[Author(institution=[XON(escape(document.institution))])],
        class_code=document.class_code.coded,
        type_code=settings.repository.on_demand.type_code.coded,
        format_code=_FORMAT_CODE,
        healthcare_facility_type_code=document.healthcare_facility_type_code.coded,
        practice_setting_code=document.practice_setting_code.coded,
        confidentiality_code=[document.confidentiality_code.coded],
        language_code=language,
        repository_unique_id=OID(settings.repository.unique_id),
    )
