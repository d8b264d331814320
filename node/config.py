"""The configuration of a node: one ``kosmos.toml``, overridden by the environment.

Every key is declared here once, with its meaning, unit and default; ``docs/configuration.md``
is generated from these declarations. A key that does not exist is an error that names the
nearest one that does. Relative paths count from the folder of the file. It does not open,
create or judge anything outside the file: ``kosmos check`` does.
"""

from __future__ import annotations

from datetime import UTC, tzinfo
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from metadata.datatypes import LocalizedString
from metadata.model import Code
from node.texts import tr
from soap.address import is_loopback

ENVIRONMENT_PREFIX = "KOSMOS__"
# Offsets from node.port_base: the contract of the command line.
HTTP, ADMIN, MLLP, MLLPS, DICOM, AUDIT = range(6)
# Without a port base: 8080 and 8081 by custom, 2575 as registered for HL7, 2576 beside it,
# 11112 as registered for DICOM, 6514 for syslog over TLS.
STANDARD_PORTS = {HTTP: 8080, ADMIN: 8081, MLLP: 2575, MLLPS: 2576, DICOM: 11112, AUDIT: 6514}

Listener = Literal["http", "mllp", "dicom", "syslog"]
LISTENERS: tuple[Listener, ...] = get_args(Listener)

# Below the data folder: the ids of the processes, for operators, and how they reach each other.
PID_FOLDER = "run"


def zone_of(name: str) -> tzinfo:
    """The zone called ``name``. UTC needs no zone files. Raises ZoneInfoNotFoundError."""
    return UTC if name == "UTC" else ZoneInfo(name)


def _time_zone(name: str) -> str:
    try:
        zone_of(name)
    except (ZoneInfoNotFoundError, ValueError):
        raise ValueError(tr("{name} is no IANA time zone, as Europe/Paris is", name=name)) from None
    return name


def _with_a_port(url: str) -> str:
    try:
        urlsplit(url).port  # noqa: B018 (it is the reading that judges)
    except ValueError:
        raise ValueError(tr("{url} has no port below 65536", url=url)) from None
    return url


def _plain_hex(value: object) -> object:
    """A fingerprint as openssl prints it, without colons and in lower case."""
    return value.replace(":", "").lower() if isinstance(value, str) else value


def _oid_of(value: object) -> object:
    """``urn:oid:`` before an OID is allowed in the file and dropped here."""
    return value.removeprefix("urn:oid:") if isinstance(value, str) else value


# ITI TF-3 4.2.3.1.7 (OID): at most 64 characters, no leading zeros.
OID_PATTERN = r"^[0-2](\.(0|[1-9][0-9]*)){1,}$"
# 0 lets the operating system choose: for tests.
Port = Annotated[int, Field(ge=0, le=65535)]
# DICOM PS3.5 6.2, VR AE: at most 16 characters, no backslash.
AeTitle = Annotated[str, Field(pattern=r"^[!-\[\]-~]([ -\[\]-~]{0,14}[!-\[\]-~])?$")]
# dicoms is DICOM over TLS; the AE title is the key of the table.
_DICOM_URL = r"^dicoms?://(\[[0-9a-fA-F:]+\]|[^\s/:\[\]]+):[0-9]{1,5}$"
DicomUrl = Annotated[str, Field(pattern=_DICOM_URL), AfterValidator(_with_a_port)]
TokenUri = Annotated[str, Field(pattern=r"^pkcs11:")]
# The same with the AE title in it, where the key is something else.
_DICOM_PLACE = r"^dicoms?://[^\s/@?#\\]{1,16}@(\[[0-9a-fA-F:]+\]|[^\s/:@\[\]]+):[0-9]{1,5}$"
DicomPlace = Annotated[str, Field(pattern=_DICOM_PLACE), AfterValidator(_with_a_port)]
HttpUrl = Annotated[str, Field(pattern=r"^https?://[^\s/]+(/\S*)?$")]
AuditTarget = Annotated[
    str, Field(pattern=r"^(tls|tcp|udp)://[^\s/]+$"), AfterValidator(_with_a_port)
]
TimeZone = Annotated[str, AfterValidator(_time_zone)]
Text = Annotated[str, Field(min_length=1)]
Positive = Annotated[int, Field(gt=0)]
Seconds = Annotated[float, Field(gt=0)]


# A bucket's name as S3 allows it, and a prefix that every store takes.
BucketUrl = Annotated[str, Field(pattern=r"^s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[\w./-]*)?$")]
Oid = Annotated[str, BeforeValidator(_oid_of), Field(pattern=OID_PATTERN, max_length=64)]


class Section(BaseModel):
    """A table of the file: strict about its keys, never changed after reading."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class NodeSection(Section):
    """The node itself."""

    name: str = "kosmos"
    """What logs and pages call this node."""
    data_dir: Path = Path("data")
    """Folder of the embedded databases, documents and images."""
    host: str = "127.0.0.1"
    """Address to listen on. Without TLS only a loopback address is accepted."""
    port_base: Port | None = None
    """N gives HTTP N, admin N+1, MLLP N+2, MLLP over TLS N+3, DICOM N+4, where a section does
    not set its own port. Without it: 8080, 8081, 2575, 2576, 11112."""
    http_port: Port | None = None
    """Port of the SOAP endpoints and pages."""
    admin_host: str = "127.0.0.1"
    """Address of the admin port, which has no access control."""
    admin_port: Port | None = None
    """Port of /healthz, /readyz and /metrics."""
    public_url: HttpUrl | None = None
    """How others reach the SOAP endpoints, where a proxy or another name stands before them."""
    home_community_id: Oid
    """OID of this community (homeCommunityId)."""
    language: Literal["en", "fr"] | None = None
    """Language of the pages and messages of the node; without it, that of the environment."""
    time_zone: TimeZone = "UTC"
    """Zone of the dates and times of images that do not name their own (Europe/Paris)."""
    log_format: Literal["auto", "json", "console"] = "auto"
    """One JSON object a line, or lines for a person; auto: for a person on a terminal only."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """The least severe event that is written."""
    web_processes: Positive = 1
    """Processes that share the HTTP port. More than one needs PostgreSQL: an embedded database
    has exactly one writing process."""


class AffinityDomainSection(Section):
    """What the affinity domain has agreed on."""

    assigning_authority: Oid
    """OID of the authority that assigns the patient identifiers of the domain."""
    namespace: str = ""
    """Its HL7 namespace, for feeds that send only that (PID-3.4.1)."""
    codes: Path | Literal["default-fr"] = "default-fr"
    """File of the code sets (TOML, or the codes.xml of XDS toolkits), or default-fr for the
    French-flavoured set that ships. A node takes over a changed file by itself."""
    unknown_patient: Literal["error", "empty"] = "error"
    """Answer to a query for a patient who was never announced: XDSUnknownPatientId, or nothing
    found (ITI TF-2 3.18.4.1.3 leaves the choice to the domain)."""
    foreign_patients: Literal["error", "ignore"] = "error"
    """Answer to an identity message without an identifier of the domain: refused (AE, code 204),
    or accepted without effect, for sources that send every domain's patients alike."""
    merged_patient: Literal["error", "empty"] | None = None
    """Answer to a query for a patient who was merged into another; without it, as for one who
    was never announced (ITI TF-2 3.18.4.1.2.3.9)."""
    extra_metadata: Literal["save", "warn"] = "save"
    """Slots that XDS does not know: saved, or dropped with the warning XDSExtraMetadataNotSaved
    (ITI TF-3 4.2.3.1.6)."""
    source_ids: tuple[Oid, ...] = ()
    """The sources (sourceId) that may submit; without any, those of the codes file, else all."""


class RegistrySection(Section):
    """Document Registry: ITI-42, ITI-18 and the patients it knows."""

    enabled: bool = True
    """Whether this node is a Document Registry."""
    administration: bool = False
    """Whether administrators may change and remove what is registered (ITI-57, ITI-62, ITI-92);
    whoever may connect is one. Without it these transactions are not offered."""
    database: str = ""
    """SQLAlchemy URL; without one, registry.db in the data folder."""
    database_password_file: Path | None = None
    """File that holds the password of the database user."""


class CodeValue(Section):
    """A coded value."""

    code: Text
    """The code."""
    scheme: Text
    """The coding scheme, usually an OID."""
    display_name: Text
    """What a person reads."""

    @property
    def coded(self) -> Code:
        """The same as metadata carry it."""
        return Code(self.code, self.scheme, LocalizedString(self.display_name))


LOINC = "2.16.840.1.113883.6.1"


class OnDemandSection(Section):
    """Documents assembled when asked for: a patient's imaging summary (`kosmos summary`)."""

    enabled: bool = True
    """Whether this repository assembles documents."""
    persist: bool = True
    """Whether what was assembled on demand is registered as a snapshot (ITI-42) before it is
    handed over."""
    replace_previous: bool = True
    """Whether a snapshot replaces the one before (RPLC)."""
    type_code: CodeValue = CodeValue(code="60591-5", scheme=LOINC, display_name="Synthèse médicale")
    """typeCode by which entries of a summary are known."""
    report_types: tuple[CodeValue, ...] = (
        CodeValue(code="18748-4", scheme=LOINC, display_name="CR d'imagerie médicale"),
    )
    """typeCodes of the imaging reports that a summary lists, beside the imaging studies."""


class RepositorySection(Section):
    """Document Repository: ITI-41, ITI-43 and, for administrators, ITI-86."""

    enabled: bool = True
    """Whether this node is a Document Repository."""
    unique_id: Oid = ""
    """OID of the repository (repositoryUniqueId); required where it is enabled."""
    database: str = ""
    """SQLAlchemy URL; without one, repository.db in the data folder."""
    database_password_file: Path | None = None
    """File that holds the password of the database user."""
    blobs: BucketUrl | Path | None = Field(default=None, union_mode="left_to_right")
    """Folder of the documents, or s3://bucket/prefix; without one, documents in the data folder."""
    registry: Literal["local"] | HttpUrl = "local"
    """The registry to which documents are registered: that of this node, or its ITI-42 URL."""
    administration: bool = False
    """Whether documents may be removed by ITI-86; otherwise each is refused
    (XDSRemoveDocumentsError)."""
    on_demand: OnDemandSection = OnDemandSection()
    """The section repository.on_demand."""


class ObjectStoreSection(Section):
    """The object store (S3 or compatible) of documents that lie at s3://bucket/prefix."""

    endpoint: HttpUrl | None = None
    """Its base URL; without one, that of AWS for the region. Without TLS only a loopback address
    is accepted."""
    region: Text = "us-east-1"
    """Its region; stores that have none take the default."""
    access_key_file: Path | None = None
    """File that holds the access key."""
    secret_key_file: Path | None = None
    """File that holds the secret key."""
    trust: Path | None = None
    """Certificates of authorities that are trusted besides those of the system (PEM)."""
    checksums: bool = True
    """Whether the store judges the SHA-256 that is sent with the bytes; without it every
    document is read again before it is acknowledged. `kosmos check` tries it."""

    @property
    def base_url(self) -> str:
        """The endpoint that is meant."""
        return self.endpoint or f"https://s3.{self.region}.amazonaws.com"


class SubscriptionsSection(Section):
    """Document Metadata Notification Broker (DSUB): ITI-52 and ITI-54 in, ITI-53 out, or
    ITI-70 at a pull point of ITI-69."""

    enabled: bool = True
    """Whether the registry of this node takes subscriptions."""
    consumers: tuple[HttpUrl, ...] = ()
    """URLs below which notifications may be sent; a subscriber that names another address is
    refused. A node without TLS may notify this machine too."""
    longest_days: Positive = 366
    """Days a subscription lasts that does not say when it ends, and may last at most."""
    most: Positive = 10_000
    """Subscriptions that there may be at once."""
    send_seconds: Seconds = 10.0
    """Time for a consumer to accept a notification."""
    give_up_hours: Positive = 72
    """Hours after which a notification that was not accepted becomes a dead letter."""
    pull_points: Positive = 1_000
    """Pull points that there may be at once."""
    pull_messages: Positive = 10_000
    """Notifications that a pull point holds; of more the oldest are dropped."""
    pull_days: Positive = 30
    """Days after which a notification that nobody fetched is dropped, and a pull point that nobody
    asked, with its subscriptions."""


ManifestFamily = Literal["xds-i", "mado-kos", "mado-fhir", "national"]


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
    archive whose images these are. Others see what a node without a user may."""
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
    alone in a list are peers."""
    archive_days: Positive = 2
    """Days before today whose studies are looked for in the archives."""
    archive_seconds: Seconds = 60.0
    """Seconds between two looks at the archives."""
    mode: Literal["archive", "cache", "proxy"] = "archive"
    """What becomes of images once they are published: kept for ever, kept as cache_days and
    cache_gib say, or let go two hours after they were last asked for. What is let go stays in
    index and registry, and is fetched again from the archive that has it when it is asked for."""
    cache_days: Positive | None = None
    """Days since it came or was last asked for after which a study is let go (mode cache)."""
    cache_gib: Positive | None = None
    """Gigabytes of images that are kept, the longest unused let go first (mode cache)."""
    recall_seconds: Seconds = 60.0
    """Seconds for which who asks for images waits while they are fetched again."""
    notified: tuple[AeTitle, ...] = ()
    """Titles of peers that are told of each published study (instance availability, N-CREATE)."""
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


class MllpSection(Section):
    """Patient identity feed: HL7 v2 over MLLP (ITI-8)."""

    enabled: bool = True
    """Whether this node listens for HL7 messages."""
    host: str | None = None
    """Address of the listener without TLS; without it, that of the node on a node without TLS,
    else 127.0.0.1."""
    port: Port | None = None
    """Port of the listener without TLS."""
    tls_port: Port | None = None
    """Port of the listener with TLS, open where the section tls is enabled."""


class ListenerTrustSection(Section):
    """Whom the listeners of one protocol trust, where that is not what the whole node trusts."""

    trust: Path | None = None
    """As tls.trust, for these listeners."""
    crl: Path | None = None
    """As tls.crl, for these listeners; where they have a trust of their own, only this counts."""


Sha256 = Annotated[str, BeforeValidator(_plain_hex), Field(pattern=r"^[0-9a-f]{64}$")]


class NamedNodeSection(Section):
    """A node known by its certificate. Exactly one of certificate, subject and san says which it
    is."""

    name: Text
    """What the log and the audit trail call it."""
    certificate: Sha256 | None = None
    """SHA-256 of its certificate in hex, colons or not."""
    subject: str | None = None
    """The subject of its certificate as RFC 4514 writes it: CN=pacs,O=Hospital."""
    san: str | None = None
    """A DNS name, address or URI among the alternative names of its certificate."""

    @model_validator(mode="after")
    def _known_by_one_thing(self) -> Self:
        if [self.certificate, self.subject, self.san].count(None) != 2:
            raise ValueError(tr("one of certificate, subject and san"))
        return self


class ProxySection(NamedNodeSection):
    """A proxy that is believed who its client is."""


class KnownNodeSection(NamedNodeSection):
    """A node that may connect."""

    transactions: tuple[NodeTransaction, ...] = ()
    """What it may do: ITI-18, RAD-69, C-STORE, ITI-20 and so on; without any, everything."""
    ae_titles: tuple[AeTitle, ...] = ()
    """Titles by which it may call the DICOM listener; without any, every title that is listened
    to."""


class TlsSection(Section):
    """Node authentication (ITI-19): both ends of a connection show a certificate."""

    enabled: bool = True
    """Whether the endpoints demand TLS and a trusted client certificate."""
    certificate: Path = Path("pki/node.pem")
    """Certificate of this node, its chain behind it (PEM)."""
    key: Path = Path("pki/node.key")
    """Its private key (PEM)."""
    key_password_file: Path | None = None
    """File that holds the password of the key."""
    trust: Path = Path("pki/ca.pem")
    """Certificates that are trusted: of authorities, or of single nodes. A file (PEM or DER), or
    a folder of such files."""
    crl: Path | None = None
    """What the trusted authorities have revoked: a file of CRLs (PEM or DER), or a folder of such
    files. A revoked peer is refused, and everybody of an authority whose CRL has expired."""
    minimum: Literal["1.2", "1.3"] = "1.2"
    """The oldest version of TLS that is spoken."""
    http: ListenerTrustSection = ListenerTrustSection()
    """The section tls.http."""
    mllp: ListenerTrustSection = ListenerTrustSection()
    """The section tls.mllp."""
    dicom: ListenerTrustSection = ListenerTrustSection()
    """The section tls.dicom."""
    syslog: ListenerTrustSection = ListenerTrustSection()
    """The section tls.syslog."""
    nodes: tuple[KnownNodeSection, ...] = ()
    """Nodes that may connect; without any, everybody who is trusted. Tables [[tls.nodes]] with a
    name, one of certificate (SHA-256 in hex), subject (RFC 4514) and san, and where not everything
    is allowed transactions (ITI-18, RAD-107, C-STORE ...) and ae_titles."""
    proxies: tuple[ProxySection, ...] = ()
    """Proxies that end TLS before this node and are believed who their client is, by the header
    Client-Cert (RFC 9440). Tables [[tls.proxies]] with a name and one of certificate, subject and
    san of the proxy's own certificate, as in tls.nodes."""
    check_host: bool = False
    """Whether a peer's certificate must also name the host that was called (RFC 6125)."""


class AtRestSection(Section):
    """Encryption at rest: documents and images are sealed while they arrive (AES-256-GCM)."""

    enabled: bool = False
    """Whether what arrives is sealed. What is sealed stays readable when it is turned off, while
    `keys` is set."""
    keys: TokenUri | Path | None = Field(default=None, union_mode="left_to_right")
    """File of the keys (`kosmos keys new` makes it), or a PKCS#11 token:
    pkcs11:token=NAME;object=KEY?module-path=/LIB.so&pin-source=/FILE."""


MIB = 1024 * 1024
GIB = 1024 * MIB


class LimitsSection(Section):
    """Bounds that keep one peer from starving the others."""

    xml_bytes: Positive = 64 * MIB
    """Largest SOAP envelope, in bytes; documents inline in it count."""
    message_bytes: Positive = 64 * GIB
    """Largest message with its attachments, in bytes."""
    header_seconds: Seconds = 10.0
    """Time for a peer to send an HTTP header."""
    idle_seconds: Seconds = 30.0
    """Longest silence within a message, and between two on a kept connection."""
    call_seconds: Seconds = 60.0
    """Time for a peer that this node calls to answer."""
    workers: Positive = 8
    """Threads for work that may wait: writes, other machines, large bodies."""
    queue: Positive = 64
    """Requests that may wait for a worker; one more is answered 503."""
    connections: Positive = 512
    """Connections that a listener holds at once."""
    query_results: Positive = 25_000
    """Objects that a query may return in full; more are XDSTooManyResults."""
    hl7_message_bytes: Positive = MIB
    """Largest HL7 message, in bytes."""


class AuditSection(Section):
    """The audit trail (ITI-20): what this node did with health data, for whom."""

    enabled: bool = True
    """Whether every call leaves a record before it is answered."""
    folder: Path | None = None
    """Folder of the trails, one file a process, and of the key that signs them; without it,
    "audit" in the data folder."""
    source_id: str = ""
    """AuditSourceID of the records; without it, the node's name."""
    site_id: str = ""
    """AuditEnterpriseSiteID of the records."""
    send_to: tuple[AuditTarget, ...] = ()
    """Audit record repositories that get every record too: tls://host:6514; on this machine,
    where nobody listens, also tcp://127.0.0.1:601 and udp://127.0.0.1:514."""
    listen: bool = False
    """Whether this node is an audit record repository for others: syslog over TLS (TCP on a plain
    node) and UDP."""
    port: Port | None = None
    """Port of that listener; without it, port_base + 5, or 6514."""
    keep_days: Positive | None = None
    """How many days records are to be kept; `kosmos audit prune` lets older ones go, and never a
    younger one. Without it, records leave only by its option --before."""


# What a node may be permitted to do, or a person asked who he is for.
Transaction = Literal[
    "ITI-18",
    "ITI-41",
    "ITI-42",
    "ITI-43",
    "ITI-44",
    "ITI-51",
    "ITI-52",
    "ITI-54",
    "ITI-57",
    "ITI-61",
    "ITI-62",
    "ITI-69",
    "ITI-70",
    "ITI-86",
    "ITI-92",
    "RAD-55",
    "RAD-69",
    "RAD-107",
    "RAD-129",
]
# What a node may be allowed besides: what comes by other ways than SOAP, and what only machines do.
NodeTransaction = (
    Transaction
    | Literal[
        "ITI-8",
        "ITI-20",
        "ITI-64",
        "RAD-108",
        "ORU",
        "C-ECHO",
        "C-STORE",
        "C-FIND",
        "C-MOVE",
        "C-GET",
        "N-ACTION",
        "N-CREATE",
        "N-SET",
        "N-EVENT-REPORT",
    ]
)
# What a person asks for. A registration speaks for a system, which the node's certificate names.
ASKED_BY_PEOPLE: tuple[Transaction, ...] = (
    "ITI-18",
    "ITI-43",
    "ITI-51",
    "RAD-55",
    "RAD-69",
    "RAD-107",
    "RAD-129",
)


class IssuerSection(Section):
    """One whose assertions are believed."""

    name: Text
    """What it calls itself (Issuer)."""
    certificates: Path
    """Its certificates (PEM): several while its key changes."""


class OwnAssertionsSection(Section):
    """Assertions that this node makes, for its commands and for its own calls to other nodes."""

    name: str = ""
    """Under which name (Issuer); without one, none are made."""
    certificate: Path = Path("pki/issuer.pem")
    """Certificate of the issuer (PEM)."""
    key: Path = Path("pki/issuer.key")
    """Its private key (PEM)."""
    key_password_file: Path | None = None
    """File that holds the password of the key."""
    minutes: Positive = 60
    """How long such an assertion holds."""
    role: CodeValue | None = None
    """The role of whoever runs a command of this node."""
    purpose: CodeValue = CodeValue(
        code="TREATMENT", scheme="2.16.840.1.113883.3.18.7.1", display_name="Treatment"
    )
    """Why (PurposeOfUse) such a command looks at health data."""


class AssertionsSection(Section):
    """User assertions (ITI-40, XUA): who is asking, by the word of an issuer that is believed."""

    enabled: bool | None = None
    """Whether assertions are judged, and required; without it, as the node has TLS."""
    issuers: tuple[IssuerSection, ...] = ()
    """Those whose assertions are believed, at least one: tables [[assertions.issuers]] with a name
    (Issuer) and the file of its certificates (PEM)."""
    audiences: tuple[Text, ...] = ()
    """What assertions for this node name as their audience; without any, urn:oid: and the
    homeCommunityId."""
    profile: Path | Literal["xua"] = "xua"
    """File of the assertion profile (TOML), or xua for that of IHE, which ships."""
    required: tuple[Transaction, ...] = ASKED_BY_PEOPLE
    """Transactions that nobody may ask for without an assertion."""
    exempt: tuple[Text, ...] = ()
    """Nodes that may ask without one: SHA-256 (hex) of their certificates, or their subjects as
    RFC 4514 writes them."""
    reuse: Literal["same-node", "never"] = "same-node"
    """Who may bring an assertion again while it holds."""
    skew_seconds: Annotated[int, Field(ge=0, le=60)] = 60
    """How far the clocks of two nodes may be apart."""
    longest_hours: Positive = 12
    """Longest time for which an assertion may hold: a day's work."""
    own: OwnAssertionsSection = OwnAssertionsSection()
    """The section assertions.own."""


class PolicySection(Section):
    """Who may see which documents, where assertions say who asks."""

    file: Path | Literal["default"] = "default"
    """File of the policy (TOML), or default for the one that ships: docs/security.md."""


class ChoicesSection(Section):
    """What patients have decided, and what operators know of them (`kosmos access`)."""

    database: str = ""
    """SQLAlchemy URL; without one, choices.db in the data folder."""
    database_password_file: Path | None = None
    """File that holds the password of the database user."""


class AccessSection(Section):
    """What this node remembers of users: the assertions it has met, emergencies."""

    database: str = ""
    """SQLAlchemy URL; without one, access.db in the data folder. With several web processes it
    must be PostgreSQL."""
    database_password_file: Path | None = None
    """File that holds the password of the database user."""


class PeersSection(Section):
    """Where the consumer finds documents and images that this node does not hold."""

    repositories: dict[Oid, HttpUrl] = {}
    """repositoryUniqueId = URL of its ITI-43 endpoint."""
    imaging_sources: dict[Oid, HttpUrl] = {}
    """Unique id of an imaging document source = URL of its RAD-69 endpoint."""
    dicomweb: dict[Oid, HttpUrl] = {}
    """Unique id of an imaging document source = base URL of its DICOMweb (WADO-RS)."""
    dicom: dict[Oid, DicomPlace] = {}
    """Unique id of an imaging document source = dicom://AE@host:port, or dicoms://AE@host:port over
    TLS, for C-GET and C-MOVE."""
    ae_title: AeTitle = "KOSMOS_CONSUMER"
    """Application entity title under which the consumer asks for images by C-GET and C-MOVE."""
    move_host: str | None = None
    """Address at which it takes what it asked for by C-MOVE; without it, that of the node."""
    move_port: Port | None = None
    """Port at which it does, over TLS where the section tls is enabled; sources must know title,
    address and port. Without one, nothing can be moved here."""
    ways: tuple[Literal["rad69", "wado", "cget", "cmove"], ...] = ("rad69", "wado")
    """Ways by which images are fetched, in the order in which they are tried."""


class Settings(BaseSettings):
    """The whole file. ``folder`` is where it lies; relative paths have been made absolute."""

    model_config = SettingsConfigDict(
        extra="forbid",
        frozen=True,
        env_prefix=ENVIRONMENT_PREFIX,
        env_nested_delimiter="__",
        use_attribute_docstrings=True,
    )

    node: NodeSection
    affinity_domain: AffinityDomainSection
    registry: RegistrySection = RegistrySection(enabled=False)
    subscriptions: SubscriptionsSection = SubscriptionsSection()
    repository: RepositorySection = RepositorySection(enabled=False)
    object_store: ObjectStoreSection = ObjectStoreSection()
    imaging_source: ImagingSourceSection = ImagingSourceSection(enabled=False)
    mllp: MllpSection = MllpSection()
    tls: TlsSection = TlsSection()
    limits: LimitsSection = LimitsSection()
    audit: AuditSection = AuditSection()
    at_rest: AtRestSection = AtRestSection()
    assertions: AssertionsSection = AssertionsSection()
    access: AccessSection = AccessSection()
    policy: PolicySection = PolicySection()
    choices: ChoicesSection = ChoicesSection()
    peers: PeersSection = PeersSection()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment first, then the file (handed in as initial values)."""
        return env_settings, init_settings

    @model_validator(mode="after")
    def _actors_have_an_identity(self) -> Settings:
        for name in ("repository", "imaging_source"):
            section = getattr(self, name)
            if section.enabled and not section.unique_id:
                raise ValueError(
                    tr("{key} is required where the actor is enabled", key=f"{name}.unique_id")
                )
        return self

    @model_validator(mode="after")
    def _sealed_by_some_key(self) -> Settings:
        if self.at_rest.enabled and self.at_rest.keys is None:
            raise ValueError(tr("{key} is required where it is enabled", key="at_rest.keys"))
        return self

    @model_validator(mode="after")
    def _local_means_here(self) -> Settings:
        """``local`` names an actor of this node, so that actor must be on."""
        for key, here, section in (
            ("repository.registry", self.registry.enabled, self.repository),
            ("imaging_source.registry", self.registry.enabled, self.imaging_source),
            ("imaging_source.repository", self.repository.enabled, self.imaging_source),
        ):
            if section.enabled and not here and getattr(section, key.partition(".")[2]) == "local":
                raise ValueError(tr("{key} needs a URL: this node has no such actor", key=key))
        return self

    @model_validator(mode="after")
    def _plain_stays_at_home(self) -> Settings:
        """Without TLS nothing may listen where another machine could reach it (ITI-19)."""
        if self.tls.enabled:
            return self
        for key, host in (
            ("node.host", self.node.host),
            ("imaging_source.host", self.imaging_source.host),
            ("mllp.host", self.mllp.host),
            ("peers.move_host", self.peers.move_host),
        ):
            if host is not None and not is_loopback(host):
                raise ValueError(
                    tr("{key} must be a loopback address, or tls.enabled true", key=key)
                )
        return self

    @model_validator(mode="after")
    def _revocation_has_no_gap(self) -> Settings:
        """A listener with trust of its own does not silently lose the revocations of the node."""
        for name in LISTENERS:
            own = getattr(self.tls, name)
            if self.tls.crl is not None and own.trust is not None and own.crl is None:
                raise ValueError(tr("tls.{name}.crl: name one for tls.{name}.trust", name=name))
        for key in ("nodes", "proxies"):
            if getattr(self.tls, key) and not self.tls.enabled:
                raise ValueError(
                    tr("tls.{key} are known by their certificates: set tls.enabled", key=key)
                )
        return self

    @model_validator(mode="after")
    def _records_leave_safely(self) -> Settings:
        """An audit record names patients: it crosses a network over TLS alone."""
        for url in self.audit.send_to:
            parts = urlsplit(url)
            if parts.scheme != "tls" and not is_loopback(parts.hostname or ""):
                raise ValueError(tr("audit.send_to: write tls:// for {url}", url=url))
            if parts.scheme == "tls" and not self.tls.enabled:
                raise ValueError(tr("audit.send_to: {url} needs tls.enabled", url=url))
        return self

    @model_validator(mode="after")
    def _somebody_is_believed(self) -> Settings:
        """Where assertions are required, somebody's must be good."""
        if self.judges_assertions and not self.assertions.issuers:
            raise ValueError(
                tr("assertions.issuers: name at least one, or set assertions.enabled = false")
            )
        return self

    @model_validator(mode="after")
    def _archives_are_peers(self) -> Settings:
        source = self.imaging_source
        titles = [one.title for one in source.archives]
        spoken = [one.title for one in source.archives if one.is_peer]
        for key, named in (("archives", spoken), ("notified", source.notified)):
            for title in named:
                if title not in source.peers:
                    raise ValueError(
                        tr(
                            "imaging_source.{key}: {title} is not one of the peers",
                            key=key,
                            title=title,
                        )
                    )
        for one in source.archives:
            if titles.count(one.title) > 1:
                raise ValueError(
                    tr("imaging_source.archives: {title} is named twice", title=one.title)
                )
            if one.is_web != (one.url is not None):
                raise ValueError(
                    tr(
                        "imaging_source.archives: {title} needs a url for QIDO-RS or WADO-RS, "
                        "and for nothing else",
                        title=one.title,
                    )
                )
        return self

    @model_validator(mode="after")
    def _what_goes_can_come_back(self) -> Settings:
        source = self.imaging_source
        bounded = source.cache_days is not None or source.cache_gib is not None
        if source.mode != "archive" and not source.archives:
            raise ValueError(
                tr("imaging_source.mode: {mode} needs an archive that stays", mode=source.mode)
            )
        if (source.mode == "cache") != bounded:
            raise ValueError(
                tr("imaging_source.mode: cache needs cache_days or cache_gib, no other mode does")
            )
        titles = {one.title for one in source.archives}
        if source.mode != "archive" and source.ae_title in titles:
            raise ValueError(tr("imaging_source.mode: this node is no archive of its own"))
        return self

    @model_validator(mode="after")
    def _peers_over_tls_need_a_certificate(self) -> Settings:
        secured = [
            title
            for title, url in self.imaging_source.peers.items()
            if url.startswith("dicoms:") and not self.tls.enabled
        ]
        if secured:
            raise ValueError(
                tr("imaging_source.peers: {title} needs tls.enabled", title=secured[0])
            )
        for oid, url in self.peers.dicom.items():
            if url.startswith("dicoms:") and not self.tls.enabled:
                raise ValueError(tr("peers.dicom: {oid} needs tls.enabled", oid=oid))
        return self

    @model_validator(mode="after")
    def _documents_are_reached_safely(self) -> Settings:
        """Health data and keys go to an object store over TLS, or to this machine."""
        if isinstance(self.repository.blobs, Path) and str(self.repository.blobs)[:3] == "s3:":
            raise ValueError(tr("repository.blobs: write s3://bucket or s3://bucket/prefix"))
        url = urlsplit(self.object_store.base_url)
        if url.scheme == "http" and not is_loopback(url.hostname or ""):
            raise ValueError(tr("object_store.endpoint: https, or http to a loopback address"))
        return self

    @model_validator(mode="after")
    def _one_writer_for_a_file(self) -> Settings:
        """An embedded database has exactly one writing process."""
        embedded = any(
            section.enabled and not section.database.startswith("postgresql")
            for section in (self.registry, self.repository)
        )
        embedded |= self.judges_assertions and not self.access.database.startswith("postgresql")
        if self.node.web_processes > 1 and embedded:
            raise ValueError(tr("node.web_processes above 1 needs PostgreSQL"))
        return self

    @property
    def judges_assertions(self) -> bool:
        """Whether user assertions are judged, and required: as said, else as the node has TLS."""
        chosen = self.assertions.enabled
        return self.tls.enabled if chosen is None else chosen

    @property
    def dicom_over_tls(self) -> bool:
        """Whether the DICOM listener demands TLS: as it says itself, else as the node."""
        chosen = self.imaging_source.dicom_tls
        return self.tls.enabled if chosen is None else chosen and self.tls.enabled

    def port(self, offset: int) -> int:
        """The port of a listener (``HTTP``, ``ADMIN`` ...), by its own key or the base."""
        explicit = {
            HTTP: self.node.http_port,
            ADMIN: self.node.admin_port,
            MLLP: self.mllp.port,
            MLLPS: self.mllp.tls_port,
            DICOM: self.imaging_source.port,
            AUDIT: self.audit.port,
        }[offset]
        if explicit is not None:
            return explicit
        if self.node.port_base is None:
            return STANDARD_PORTS[offset]
        return self.node.port_base + offset if self.node.port_base else 0
