"""The configuration of a node: one ``kosmos.toml``, overridden by the environment.

Every key is declared once, here or beside (``config_imaging``, ``config_trust``), with its meaning,
unit and default; ``docs/configuration.md`` is generated from these declarations. A key that does
not exist is an error that names the nearest one that does. Relative paths count from the folder of
the file. It does not open, create or judge anything outside the file: ``kosmos check`` does.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field, model_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from node.config_imaging import ArchiveSection, ImagingSourceSection
from node.config_trust import (
    AccessSection,
    AssertionsSection,
    AtRestSection,
    AuditSection,
    ChoicesSection,
    PolicySection,
    TlsSection,
)
from node.config_values import (
    GIB,
    LISTENERS,
    LOINC,
    MIB,
    AeTitle,
    BucketUrl,
    CodeValue,
    DicomPlace,
    HttpUrl,
    Oid,
    Port,
    Positive,
    Seconds,
    Section,
    Text,
    TimeZone,
)
from node.texts import tr
from soap.address import is_loopback, port_of, reaches

ENVIRONMENT_PREFIX = "KOSMOS__"
# Offsets from node.port_base: the contract of the command line.
HTTP, ADMIN, MLLP, MLLPS, DICOM, AUDIT = range(6)
# Without a port base: 8080 and 8081 by custom, 2575 as registered for HL7, 2576 beside it,
# 11112 as registered for DICOM, 6514 for syslog over TLS.
STANDARD_PORTS = {HTTP: 8080, ADMIN: 8081, MLLP: 2575, MLLPS: 2576, DICOM: 11112, AUDIT: 6514}
# Below the data folder: the ids of the processes, for operators, and how they reach each other.
PID_FOLDER = "run"


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
    dicom_users: tuple[Oid, ...] = ()
    """Unique ids of those of them that are told by assertion for whom images are asked for (PS3.7
    D.3.3.7; the section assertions.own)."""
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
    def _records_come_from_somebody(self) -> Settings:
        """By UDP anybody could write into the trail of a secure node: that is taken on purpose."""
        open_to_all = self.tls.enabled and self.audit.listen and not self.tls.nodes
        if open_to_all and self.audit.udp is None:
            raise ValueError(
                tr(
                    "audit.udp: by UDP nobody proves who sends a record; set it to false, or to "
                    "true to take them all the same"
                )
            )
        return self

    @model_validator(mode="after")
    def _somebody_is_believed(self) -> Settings:
        """Where assertions are required, somebody's must be good."""
        if self.judges_assertions and not self.assertions.issuers:
            raise ValueError(
                tr("assertions.issuers: name at least one, or set assertions.enabled = false")
            )
        if self.imaging_source.user_titles and not self.judges_assertions:
            raise ValueError(tr("imaging_source.user_titles: set assertions.enabled = true"))
        if self.peers.dicom_users and not self.assertions.own.name:
            raise ValueError(tr("peers.dicom_users: name the issuer of assertions.own"))
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
        for one in source.archives:
            mode, title = source.mode_of(one), one.title
            bounded = one.cache_days or source.cache_days or source.cache_gib
            if mode == "cache" and not bounded:
                raise ValueError(
                    tr(
                        "imaging_source.archives: {title} in mode cache needs cache_days, "
                        "or imaging_source.cache_gib",
                        title=title,
                    )
                )
            if mode != "cache" and one.cache_days:
                raise ValueError(
                    tr(
                        "imaging_source.archives: cache_days of {title} needs mode cache",
                        title=title,
                    )
                )
            if mode != "archive" and self._is_this_node(one):
                raise ValueError(
                    tr(
                        "imaging_source.archives: {title} is this node, which is no archive of its "
                        "own; it can have mode archive alone",
                        title=title,
                    )
                )
        return self

    @model_validator(mode="after")
    def _no_mode_is_in_vain(self) -> Settings:
        """What is said of the node is the default of its archives: one at least goes by it."""
        source = self.imaging_source
        modes = {source.mode_of(one) for one in source.archives}
        if source.mode not in {"archive", *modes}:
            raise ValueError(
                tr("imaging_source.mode: {mode} needs an archive that stays", mode=source.mode)
            )
        if (source.cache_days or source.cache_gib) and "cache" not in modes:
            raise ValueError(
                tr("imaging_source.mode: cache_days and cache_gib need an archive in mode cache")
            )
        return self

    def _is_this_node(self, archive: ArchiveSection) -> bool:
        """Whether an archive is this node by its title, or by an address at which it is asked."""
        source, node = self.imaging_source, self.node
        public = urlsplit(node.public_url or "")
        dicom = source.host or node.host, self.port(DICOM)
        web = {(node.host, self.port(HTTP)), (public.hostname or "", port_of(public))}
        places = {archive.url: web} if archive.url else {}
        if archive.is_peer:
            places[source.peers[archive.title]] = {dicom}
        return archive.title == source.ae_title or any(
            reaches(urlsplit(url), host, port) for url, own in places.items() for host, port in own
        )

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
