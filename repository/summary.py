"""What an imaging summary says, before it is written as CDA or PDF, and the words it says it in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from metadata.model import Code

IMAGES, REPORT = "images", "report"


@dataclass(frozen=True, slots=True)
class Person:
    """The patient. ``birth_date`` is YYYYMMDD or a part of it, ``sex`` of HL7 table 0001."""

    id: str
    authority: str
    family: str
    given: str
    birth_date: str
    sex: str

    @property
    def name(self) -> str:
        """Family name, then given name, as lists of patients have it."""
        return f"{self.family} {self.given}".strip()


@dataclass(frozen=True, slots=True)
class Exam:
    """One row: an imaging study or a report, every part as people read it."""

    kind: str
    date: str
    modality: str
    title: str
    facility: str
    accession: str


@dataclass(frozen=True, slots=True)
class Summary:
    """The whole of it; ``language`` is that of the words, ``fr`` or ``en``."""

    title: str
    type_code: Code
    language: str
    language_code: str
    confidentiality: Code
    patient: Person
    exams: tuple[Exam, ...]
    institution: str
    institution_oid: str

    @property
    def words(self) -> Mapping[str, str]:
        """Every word beside what the registry tells, in the summary's language."""
        return WORDS[self.language]

    @property
    def heading(self) -> str:
        """The title of the document: the entry's own, else that of all summaries."""
        return self.title or self.words["title"]

    def birth_date(self) -> str:
        """The date of birth as people write it, or as it came where it is none."""
        text = self.patient.birth_date
        if len(text) != 8 or not text.isdigit():
            return text
        year, month, day = text[:4], text[4:6], text[6:]
        return f"{day}/{month}/{year}" if self.language == "fr" else f"{year}-{month}-{day}"

    def sex(self) -> str:
        """The administrative sex in words."""
        return self.words.get(f"sex {self.patient.sex}", self.patient.sex)

    def row(self, exam: Exam) -> tuple[str, ...]:
        """An exam in the order of ``COLUMNS``; what is not known is a dash."""
        texts = (
            exam.date,
            self.words[exam.kind],
            exam.modality,
            exam.title,
            exam.facility,
            exam.accession,
        )
        return tuple(text or "\N{EN DASH}" for text in texts)

    def assembled(self, moment: datetime) -> str:
        """When and by whom it was assembled, in a sentence; ``moment`` in the zone of readers."""
        form = "%d/%m/%Y %H:%M" if self.language == "fr" else "%Y-%m-%d %H:%M"
        zone = moment.tzname() or ""
        return self.words["assembled"].format(
            moment=f"{moment.strftime(form)} {zone}".strip(), institution=self.institution
        )


COLUMNS = ("date", "kind", "modality", "exam", "facility", "accession")

WORDS: Mapping[str, Mapping[str, str]] = {
    "en": {
        "title": "Imaging summary",
        "patient": "Patient",
        "identifier": "Identifier",
        "authority": "Assigned by",
        "born": "Date of birth",
        "sex": "Sex",
        "sex F": "female",
        "sex M": "male",
        "sex O": "other",
        "sex U": "unknown",
        "exams": "Imaging studies and reports",
        "date": "Date",
        "kind": "Kind",
        "modality": "Modality",
        "exam": "Title",
        "facility": "Facility",
        "accession": "Accession number",
        "images": "Images",
        "report": "Report",
        "none": "The registry holds no imaging study and no report of this patient.",
        "assembled": "Assembled on {moment} by {institution} from what the registry held then.",
        "page": "Page {page} of {pages}",
    },
    "fr": {
        "title": "Synthèse d'imagerie",
        "patient": "Patient",
        "identifier": "Identifiant",
        "authority": "Attribué par",
        "born": "Date de naissance",
        "sex": "Sexe",
        "sex F": "féminin",
        "sex M": "masculin",
        "sex O": "autre",
        "sex U": "inconnu",
        "exams": "Examens d'imagerie et comptes rendus",
        "date": "Date",
        "kind": "Nature",
        "modality": "Modalité",
        "exam": "Titre",
        "facility": "Établissement",
        "accession": "N° d'examen",
        "images": "Images",
        "report": "Compte rendu",
        "none": "Le registre ne contient ni examen d'imagerie ni compte rendu de ce patient.",
        "assembled": "Établi le {moment} par {institution} d'après le registre à cette date.",
        "page": "Page {page} sur {pages}",
    },
}
