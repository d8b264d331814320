"""A study and its manifest as plain data: what KOS files and XDS entries are made from.

Texts are decoded, without control characters; dates and times are valid or empty, and keep the
DICOM form (``YYYYMMDD``, ``HHMMSS.FFFFFF``) in the study's own time zone. An empty string
means "not known" throughout, as an empty type 2 element does in DICOM.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

KEY_OBJECT_SELECTION = "1.2.840.10008.5.1.4.1.1.88.59"
"""SOP Class UID of Key Object Selection Document Storage."""

PRIVATE_CREATOR = "IHE_MADO_PRIVATE"
"""Who reserves the block of group 000D that the Display URI of a MADO manifest is in."""


class ManifestError(ValueError):
    """Bytes that are not a usable manifest, or a manifest that cannot be written."""


class Concept(NamedTuple):
    """A coded concept of DICOM: value, coding scheme designator, meaning (PS3.3 8.1)."""

    code: str
    scheme: str
    meaning: str


MANIFEST = Concept("113030", "DCM", "Manifest")
"""Document title of XDS-I.b manifests (PS3.16 CID 7010)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Patient:
    """The patient as the images name them (PS3.3 C.7.1.1)."""

    patient_id: str = ""
    issuer: str = ""
    """Issuer of Patient ID (0010,0021): a local name of the authority."""
    issuer_oid: str = ""
    """Universal Entity ID of the issuer (0010,0024): the authority's OID."""
    name: str = ""
    birth_date: str = ""
    sex: str = ""
    domain_id: str = field(default="", compare=False)
    """The identifier in the affinity domain, where the one above is of another; no KOS has it."""


class PatientIdentifier(NamedTuple):
    """An identifier and the OID of the authority that issued it."""

    patient_id: str
    issuer_oid: str


@dataclass(frozen=True, slots=True)
class Request:
    """One imaging request that the study answers: accession and order (PS3.3 10.6)."""

    accession_number: str = ""
    accession_issuer_oid: str = ""
    placer_order_number: str = ""
    placer_issuer_oid: str = ""
    requested_procedure_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Study:
    """The study as the images describe it (PS3.3 C.7.2.1) and the order it answers."""

    study_instance_uid: str
    patient: Patient = field(default_factory=Patient)
    date: str = ""
    time: str = ""
    timezone_offset: str = ""
    """Timezone Offset From UTC (0008,0201), ``+HHMM`` or ``-HHMM``."""
    description: str = ""
    study_id: str = ""
    accession_number: str = ""
    accession_issuer_oid: str = ""
    placer_order_number: str = ""
    placer_issuer_oid: str = ""
    requested_procedure_id: str = ""
    referring_physician: str = ""
    institution: str = ""
    manufacturer: str = ""
    further_requests: tuple[Request, ...] = ()
    """The requests that it answers beside the one named above."""

    @property
    def requests(self) -> tuple[Request, ...]:
        """Every request that the study answers; one without content where none is known."""
        own = Request(
            self.accession_number,
            self.accession_issuer_oid,
            self.placer_order_number,
            self.placer_issuer_oid,
            self.requested_procedure_id,
        )
        return (own, *self.further_requests)


# Not frozen, though nobody changes one: a study has thousands, and frozen ones take twice as long
# to make.
@dataclass(slots=True, unsafe_hash=True)
class ManifestInstance:
    """One instance that can be retrieved.

    What describes it to a person takes no part in a comparison, for a KOS has no place for it.
    """

    sop_class_uid: str
    sop_instance_uid: str
    instance_number: int | None = field(default=None, compare=False)
    number_of_frames: int = field(default=1, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class ManifestSeries:
    """One series and where its instances are retrieved from (RAD TF-3 4.68.4.1.2).

    ``retrieve_location_uid`` is the imaging source's repositoryUniqueId for RAD-69,
    ``retrieve_ae_title`` its name for C-MOVE, ``retrieve_url`` its WADO-RS address.
    The rest describes the series to the XDS entry and in a manifest with descriptions (MADO);
    the evidence sequence of a KOS has no place for it, so it takes no part in a comparison.
    """

    series_instance_uid: str
    retrieve_location_uid: str = ""
    retrieve_ae_title: str = ""
    retrieve_url: str = ""
    instances: tuple[ManifestInstance, ...] = ()
    modality: str = field(default="", compare=False)
    body_part: str = field(default="", compare=False)
    series_number: int | None = field(default=None, compare=False)
    description: str = field(default="", compare=False)
    date: str = field(default="", compare=False)
    time: str = field(default="", compare=False)
    region: Concept | None = field(default=None, compare=False)
    """The anatomic region, a code of ``manifest.regions``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """The content of one manifest.

    ``created`` knows its time zone; the times of the study are in the same zone (PS3.3
    C.12.1.1.8 allows one per object). ``other_patient_ids`` are the patient's
    identifiers of other authorities, that of the affinity domain first; ``display_url`` opens
    the study in a viewer. ``remarks`` says what a reader met that is odd but usable.
    """

    sop_instance_uid: str
    series_instance_uid: str
    study: Study
    series: tuple[ManifestSeries, ...]
    created: datetime | None = None
    other_patient_ids: tuple[PatientIdentifier, ...] = ()
    display_url: str = ""
    remarks: tuple[str, ...] = field(default=(), compare=False)

    @property
    def study_instance_uid(self) -> str:
        """The study that is listed."""
        return self.study.study_instance_uid

    @property
    def patient(self) -> Patient:
        """Whose study it is."""
        return self.study.patient

    @property
    def instance_count(self) -> int:
        """How many instances are listed."""
        return sum(len(series.instances) for series in self.series)
