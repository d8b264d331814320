"""The imaging summary of a patient: what the registry knows of their images and reports, now.

A ``Provider`` of two renderings of the same substance: CDA (``repository.summary_cda``) and PDF
(``repository.summary_pdf``), in French or English as the entry's languageCode says. One row for
each Approved imaging study (a manifest) and each report; deprecated documents do not appear.
It tells what the metadata tell and opens no document.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, tzinfo

from manifest.flavours import is_manifest
from metadata.datatypes import CX, DTM, unescape
from metadata.identifiers import (
    ACCESSION_REFERENCE,
    ACQUISITION_MODALITY_SCHEME,
    STUDY_INSTANCE_UID_REFERENCE,
)
from metadata.model import Code, DocumentEntry
from repository import summary_cda
from repository.on_demand import Assembly
from repository.summary import IMAGES, REPORT, Exam, Person, Summary

# Of what is written; a change of it is a change of every document (see ``Assembly``).
LAYOUT = "1"

CDA_MIME_TYPE, PDF_MIME_TYPE = "text/xml", "application/pdf"


def _pdf(summary: Summary, unique_id: str, moment: datetime) -> bytes:
    from repository.summary_pdf import render  # a tenth of a second, for who asks for a PDF

    return render(summary, unique_id, moment)


_RENDERINGS: Mapping[str, Callable[[Summary, str, datetime], bytes]] = {
    CDA_MIME_TYPE: summary_cda.render,
    PDF_MIME_TYPE: _pdf,
}

# Date and time as people write them, by the number of digits that are known of a DTM.
_FORMS: Mapping[str, Mapping[int, str]] = {
    "fr": {4: "%Y", 6: "%m/%Y", 8: "%d/%m/%Y", 14: "%d/%m/%Y %H:%M"},
    "en": {4: "%Y", 6: "%Y-%m", 8: "%Y-%m-%d", 14: "%Y-%m-%d %H:%M"},
}

# The Approved Stable documents of a patient (FindDocuments); raises RegistryUnavailable.
Find = Callable[[str], Sequence[DocumentEntry]]


@dataclass(frozen=True, slots=True, kw_only=True)
class ImagingSummary:
    """The provider of entries with ``type_code``, as CDA or PDF.

    ``report_types`` are the typeCodes (code and scheme) of imaging reports; ``institution``
    hands the summary out, known as ``institution_oid``; times are shown in ``time_zone``.
    """

    find: Find
    type_code: Code
    report_types: frozenset[Code]
    institution: str
    institution_oid: str
    time_zone: tzinfo = UTC

    def serves(self, entry: DocumentEntry) -> bool:
        """Whether ``entry`` is one of a summary, in a rendering there is."""
        return entry.type_code == self.type_code and entry.mime_type in _RENDERINGS

    def assemble(self, entry: DocumentEntry) -> Assembly:
        """The summary of the entry's patient. Raises RegistryUnavailable."""
        summary = self.summarise(entry, self.find(str(entry.patient_id)))
        render = _RENDERINGS[entry.mime_type or ""]
        substance = repr((LAYOUT, entry.mime_type, sorted(asdict(summary).items())))
        return Assembly(
            substance.encode("utf-8", "surrogatepass"),
            lambda unique_id, moment: render(summary, unique_id, moment.astimezone(self.time_zone)),
        )

    def summarise(self, entry: DocumentEntry, documents: Iterable[DocumentEntry]) -> Summary:
        """What ``documents`` tell, the latest exam first."""
        language = "fr" if (entry.language_code or "").lower().startswith("fr") else "en"
        imaging = [one for one in documents if self._is_imaging(one)]
        # What has the same time is told in the order of uniqueIds: always the same.
        imaging.sort(key=lambda one: (_time(one), one.unique_id or ""), reverse=True)
        imaging = _once_a_study(imaging)
        return Summary(
            title=str(entry.title or ""),
            type_code=self.type_code,
            language=language,
            language_code=entry.language_code or language,
            confidentiality=_confidentiality(entry),
            patient=_person(entry, imaging),
            exams=tuple(self._exam(one, language) for one in imaging),
            institution=self.institution,
            institution_oid=self.institution_oid,
        )

    def _is_imaging(self, document: DocumentEntry) -> bool:
        """Not a summary itself: with each snapshot there would be news to tell."""
        if document.type_code == self.type_code:
            return False
        return is_manifest(document) or document.type_code in self.report_types

    def _exam(self, document: DocumentEntry, language: str) -> Exam:
        return Exam(
            kind=IMAGES if is_manifest(document) else REPORT,
            date=self._date(_time(document), language),
            modality=", ".join(_modalities(document)),
            title=str(document.title or _name(document.type_code)),
            facility=_facility(document),
            accession=", ".join(
                reference.id
                for reference in document.reference_id_list
                if reference.type == ACCESSION_REFERENCE
            ),
        )

    def _date(self, time: DTM, language: str) -> str:
        """A date as people write it; a day stays the day that was named, whatever the zone."""
        if time.problem():
            return ""
        precision = min(time.precision, 8) if time.precision < 12 else 14
        moment = time.earliest()
        if precision == 14:
            moment = moment.astimezone(self.time_zone)
        return moment.strftime(_FORMS[language][precision])


def _time(document: DocumentEntry) -> DTM:
    """When the exam was, else when its document was made."""
    return document.service_start_time or document.creation_time or DTM("")


def _once_a_study(documents: Iterable[DocumentEntry]) -> list[DocumentEntry]:
    """The documents, but of a study with manifests of several families one alone."""
    kept: dict[str, DocumentEntry] = {}
    for document in documents:
        studies = [
            reference.id
            for reference in document.reference_id_list
            if reference.type == STUDY_INSTANCE_UID_REFERENCE
        ]
        study = studies[0] if is_manifest(document) and studies else ""
        kept.setdefault(study or f"document {len(kept)}", document)
    return list(kept.values())


def _modalities(document: DocumentEntry) -> list[str]:
    return [
        code.code for code in document.event_code_list if code.scheme == ACQUISITION_MODALITY_SCHEME
    ]


def _facility(document: DocumentEntry) -> str:
    """The institution of an author, else the kind of facility."""
    named = [one.name for author in document.author for one in author.institution if one.name]
    return named[0] if named else _name(document.healthcare_facility_type_code)


def _name(code: Code | None) -> str:
    return str(code.display_name or code.code) if code else ""


def _confidentiality(entry: DocumentEntry) -> Code:
    """The first of the entry's codes; a registered entry has one."""
    return entry.confidentiality_code[0]


def _person(entry: DocumentEntry, imaging: Iterable[DocumentEntry]) -> Person:
    """Who the patient is: by identifier, and as the latest documents that tell more call them."""
    patient = entry.patient_id or CX("")
    info: dict[str, str] = {}
    for document in (entry, *imaging):
        for value in document.source_patient_info:
            field, _, text = value.partition("|")
            info.setdefault(field, text)
    components = [unescape(part) for part in info.get("PID-5", "").partition("~")[0].split("^")]
    family, given = [*components, "", ""][:2]
    return Person(
        id=patient.id,
        authority=patient.assigning_authority.universal_id,
        family=family,
        given=given,
        birth_date=info.get("PID-7", "")[:8],
        sex=info.get("PID-8", ""),
    )
