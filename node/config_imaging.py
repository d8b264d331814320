"""The section ``imaging_source`` of ``kosmos.toml`` (``node.config``): where images come from, what
is made of them, and who may see them over DICOM.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from node.config_values import (
    LOINC,
    AeTitle,
    CodeValue,
    DicomUrl,
    HttpUrl,
    Oid,
    Port,
    Positive,
    Seconds,
    Section,
    Text,
)
from node.texts import tr

ManifestFamily = Literal["xds-i", "mado-kos", "mado-fhir", "national"]
Mode = Literal["archive", "cache", "proxy"]


def _each_once(families: tuple[str, ...]) -> tuple[str, ...]:
    if not families or len(set(families)) < len(families):
        raise ValueError(tr("imaging_source.document.flavours: each family once, and at least one"))
    return families


class DocumentSection(Section):
    """What the manifests of this source say of themselves (DocumentEntry of RAD-68)."""

    flavours: Annotated[tuple[ManifestFamily, ...], AfterValidator(_each_once)] = ("xds-i",)
    """Families of manifests that are published of a study, side by side; the first one speaks for
    it: xds-i (every consumer reads it), mado-kos and mado-fhir (IHE RAD MADO: strict readers of
    XDS-I.b refuse the first), national (xds-i as national_profile changes it)."""
    national_profile: Path | Literal["drim-m"] = "drim-m"
    """File of the national profile (TOML), or drim-m for the French one that ships."""
    fhir_release: Literal["R4", "R5"] = "R4"
    """Release of FHIR in which mado-fhir is written."""
    wado_url: HttpUrl | None = None
    """Base URL of the WADO-RS service of the images, for manifests to say (Retrieve URL)."""
    viewer_url: HttpUrl | None = None
    """Address that opens a study in a viewer, for MADO manifests to say (Display URI); {study} in
    it stands for the study's UID."""
    class_code: CodeValue = CodeValue(
        code="31", scheme="1.2.250.1.213.1.1.4.1", display_name="Imagerie médicale"
    )
    """classCode."""
    type_code: CodeValue = CodeValue(
        code="IMG-KOS",
        scheme="1.2.250.1.213.1.1.4.12",
        display_name="Référence d'objets d'un examen d'imagerie",
    )
    """typeCode."""
    content_type_code: CodeValue = CodeValue(
        code="07", scheme="1.2.250.1.213.2.2", display_name="Consultation"
    )
    """contentTypeCode of the SubmissionSet."""
    healthcare_facility_type_code: CodeValue = CodeValue(
        code="SA01", scheme="1.2.250.1.71.4.2.4", display_name="Etablissement public de santé"
    )
    """healthcareFacilityTypeCode."""
    practice_setting_code: CodeValue = CodeValue(
        code="ETABLISSEMENT",
        scheme="1.2.250.1.213.1.1.4.9",
        display_name="Etablissement de santé",
    )
    """practiceSettingCode."""
    confidentiality_code: CodeValue = CodeValue(
        code="N", scheme="2.16.840.1.113883.5.25", display_name="Normal"
    )
    """confidentialityCode."""
    language_code: Annotated[str, Field(pattern=r"^[a-z]{2}(-[A-Z]{2})?$")] = "fr-FR"
    """languageCode."""
    institution: Text = "Kosmos"
    """Name of the institution (authorInstitution) where the images do not name one."""
    institution_oid: Oid | None = None
    """OID of that institution."""


class DicomWebSection(Section):
    """DICOMweb of the imaging source at /dicomweb: QIDO-RS, WADO-RS and STOW-RS; WADO-URI at
    /wado."""

    enabled: bool = True
    """Whether what is stored can be queried and retrieved by DICOMweb."""
    store: bool = True
    """Whether images may come in by STOW-RS."""
    query_limit: Positive = 100
    """Matches in the answer to a query that names no limit."""
    query_most: Positive = 1000
    """Matches in any answer to a query."""


class IdentitySection(Section):
    """How patients of other domains are known in the affinity domain; without either key, a study
    of a foreign patient is not published."""

    table: Path | None = None
    """File with the columns authority, id and domain_id (CSV), or a table for each authority
    (TOML); a changed file is read again by itself."""
    pix_manager: Annotated[str, Field(pattern=r"^\S+:[0-9]{1,5}$")] | None = None
    """HOST:PORT of a PIX manager that is asked by ITI-9, over TLS where the section tls is
    enabled; the table goes before it."""
    pix_application: str = "PIX"
    """Its receiving application (MSH-5)."""
    pix_facility: str = "PIX"
    """Its receiving facility (MSH-6)."""


class ReportsSection(Section):
    """Reports about the studies of this source, published beside their manifests (XDS-I.b)."""

    enabled: bool = True
    """Whether documents among the images are published as reports (Encapsulated PDF and CDA)."""
    port: Port | None = None
    """Port on which reports are taken in as HL7 messages (ORU^R01, MDM^T02, T10 and T11) by MLLP,
    over TLS where the section tls is enabled; without one, nobody listens. The address is that of
    the DICOM listener."""
    message_bytes: Positive = 64 * 1024 * 1024
    """Largest message with a report, in bytes."""
    class_code: CodeValue = CodeValue(
        code="31", scheme="1.2.250.1.213.1.1.4.1", display_name="Imagerie médicale"
    )
    """classCode."""
    type_code: CodeValue = CodeValue(
        code="18748-4", scheme=LOINC, display_name="CR d'imagerie médicale"
    )
    """typeCode."""


class ArchiveSection(Section):
    """An archive whose studies are fetched."""

    title: AeTitle
    """Title by which its notices (IAN) name it; one of the peers, where it speaks DIMSE."""
    url: HttpUrl | None = None
    """Its DICOMweb address, for QIDO-RS and WADO-RS."""
    find: Literal["c-find", "qido-rs"] = "c-find"
    """How it is asked; by QIDO-RS where it has a url."""
    pull: Literal["c-move", "c-get", "wado-rs"] = "c-move"
    """How it is fetched from; by WADO-RS where it has a url."""
    commit: bool = False
    """Whether it is asked to commit to what it and this node both have (storage commitment)."""
    mode: Mode | None = None
    """What becomes of its images here; without it, as the node's (``mode_of``)."""
    cache_days: Positive | None = None
    """Days after which a study that it has is let go (mode cache); without it, the node's."""

    @model_validator(mode="before")
    @classmethod
    def _usual_ways(cls, said: Any) -> Any:
        """A title alone is a peer's; what has an address is spoken to there."""
        if isinstance(said, str):
            said = {"title": said}
        if not isinstance(said, dict) or said.get("url") is None:
            return said
        return {"find": "qido-rs", "pull": "wado-rs", **said}

    @property
    def is_peer(self) -> bool:
        """Whether it is spoken to by DIMSE."""
        return self.find == "c-find" or self.pull != "wado-rs" or self.commit

    @property
    def is_web(self) -> bool:
        """Whether it is spoken to by DICOMweb."""
        return self.find == "qido-rs" or self.pull == "wado-rs"


class ImagingSourceSection(Section):
    """Imaging Document Source: images in by DICOM, manifests out by RAD-68, RAD-69 served."""

    enabled: bool = True
    """Whether this node is an Imaging Document Source."""
    unique_id: Oid = ""
    """OID under which manifests say that the images are retrieved (RAD-69); required where it
    is enabled."""
    host: str | None = None
    """Address of the DICOM listener; without it, that of the node."""
    port: Port | None = None
    """Port of the DICOM listener."""
    ae_title: AeTitle = "KOSMOS"
    """Application entity title that senders must call."""
    calling_titles: tuple[AeTitle, ...] = ()
    """Titles of the senders that are listened to; without any, everybody is."""
    peers: dict[AeTitle, DicomUrl] = {}
    """Title = dicom://host:port, or dicoms://host:port over TLS. Peers may query and retrieve
    (C-FIND, C-GET, C-MOVE), and images may be moved to them."""
    query_titles: tuple[AeTitle, ...] = ()
    """Titles that may query and retrieve besides the peers; `*` for whoever is listened to."""
    trusted_titles: tuple[AeTitle, ...] = ()
    """Titles that the access policy hides nothing from, on a node that asks who is asking: the
    archive whose images these are. Others see what a node without a user may, or what the user may
    whose assertion the association brings."""
    user_titles: tuple[AeTitle, ...] = ()
    """Titles whose associations must bring the assertion of a user (PS3.7 D.3.3.7), on a node that
    judges assertions; `*` for all."""
    dicom_tls: bool | None = None
    """Whether the DICOM listener demands TLS and a trusted certificate; without it, as the node."""
    database: str = ""
    """SQLAlchemy URL of the index; without one, imaging.db in the data folder."""
    database_password_file: Path | None = None
    """File that holds the password of the database user."""
    files: Path | None = None
    """Folder of the images; without one, images in the data folder."""
    transcoded_gib: Positive = 10
    """Gigabytes of transcoded images that are kept in the data folder for the next time; 1 GiB
    holds a study of 2,000 CT images."""
    archives: tuple[ArchiveSection, ...] = ()
    """Archives whose studies are fetched. Tables [[imaging_source.archives]] with a title, by which
    their notices (IAN) name them, and where they differ find = "c-find" or "qido-rs" and pull =
    "c-move" (to this node's title), "c-get" or "wado-rs". DIMSE is spoken with the peer of that
    title, DICOMweb at url (https://pacs.example/dicom-web); whoever has a url is asked and fetched
    from there. With commit = true it is asked for storage commitment to what both have. Titles
    alone in a list are peers. mode and cache_days of an archive go before those of the node."""
    archive_days: Positive = 2
    """Days before today whose studies are looked for in the archives."""
    archive_seconds: Seconds = 60.0
    """Seconds between two looks at the archives."""
    mode: Mode = "archive"
    """What becomes of images once they are published, where an archive has no mode of its own: kept
    for ever, kept as cache_days and cache_gib say, or let go two hours after they were last asked
    for. What is let go stays in index and registry, and is fetched again from the archive that has
    it when it is asked for."""
    cache_days: Positive | None = None
    """Days since it came or was last asked for after which a study is let go (mode cache), where
    the archive that has it says no others."""
    cache_gib: Positive | None = None
    """Gigabytes of images that are kept in all, the longest unused that may go let go first (mode
    cache)."""
    recall_seconds: Seconds = 60.0
    """Seconds for which who asks for images waits while they are fetched again."""
    notified: tuple[AeTitle, ...] = ()
    """Titles of peers that are told of each published study that they may see (instance
    availability, N-CREATE)."""
    quiet_seconds: Seconds = 60.0
    """Seconds without a new image after which a study is published."""
    repository: Literal["local"] | HttpUrl = "local"
    """Repository to which manifests are sent (RAD-68): that of this node, or its URL."""
    registry: Literal["local"] | HttpUrl = "local"
    """Registry asked whether an attempt with no answer had arrived: of this node, or its URL."""
    source_assigning_authority: Oid | None = None
    """OID of the department's authority for sourcePatientId, accession and order numbers, where
    an image does not name one; without it, the domain's."""
    same_authorities: tuple[Oid, ...] = ()
    """OIDs of further issuers of DICOM patient identifiers that are the domain's own."""
    document: DocumentSection = DocumentSection()
    """Codes of the manifests."""
    dicomweb: DicomWebSection = DicomWebSection()
    """The section imaging_source.dicomweb."""
    identity: IdentitySection = IdentitySection()
    """The section imaging_source.identity."""
    reports: ReportsSection = ReportsSection()
    """The section imaging_source.reports."""
    complete_by: tuple[Literal["mpps", "ian", "report"], ...] = ()
    """What says that a study is complete before it has been quiet: a completed procedure step, a
    notification of availability, a signed report; in the order in which they are believed."""
    retention_days: Positive | None = None
    """Days after which a study of which no image has come is rejected as a whole (113039), its
    manifest withdrawn, and a day later its files removed; without it, studies are kept for ever."""
    withdrawal: Literal["deprecate", "remove"] = "deprecate"
    """What becomes of the entry of a study that has no image left: deprecated (ITI-57), or removed
    with every earlier one of the study (ITI-62). The registry must take orders
    (registry.administration); until it does, the withdrawal waits."""

    def mode_of(self, archive: ArchiveSection) -> Mode:
        """What becomes here of the images that an archive has: as it says itself, or the node."""
        return archive.mode or self.mode

    @property
    def lets_go(self) -> bool:
        """Whether some archive has a mode in which images are let go."""
        return any(self.mode_of(one) != "archive" for one in self.archives)
