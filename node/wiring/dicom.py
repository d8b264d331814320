"""The DICOM services of the process ``dicom`` besides storage, and the peers it knows."""

from __future__ import annotations

import ssl
from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from urllib.parse import urlsplit

import structlog

from imaging_source.archive_commitment import CommitmentReports, CommitmentUser
from imaging_source.archive_dimse import FindUser, MoveUser
from imaging_source.archive_get import GetUser
from imaging_source.archive_web import WebArchive
from imaging_source.archives import Archive, Archives, Bounds, Questions, Supply
from imaging_source.commitment import Commitments
from imaging_source.eviction import Evictor
from imaging_source.ledger import End, Ledger
from imaging_source.notices import Notices
from imaging_source.notifying import Notifier
from imaging_source.query_retrieve.find import Finder
from imaging_source.query_retrieve.retrieve import Retriever
from imaging_source.query_retrieve.services import query_retrieve
from imaging_source.recall import Recaller
from imaging_source.requestor import Peer
from imaging_source.service import NOT_AUTHORIZED, OUT_OF_RESOURCES, Refused, Services
from imaging_source.shown import Unseen, Veil, no_veil
from imaging_source.variants import Variants
from node import metrics
from node.config import Settings
from node.config_imaging import ArchiveSection, ImagingSourceSection
from node.config_values import GIB
from node.migrate import open_database
from node.wiring.audit import Auditor
from node.wiring.blobs import open_images, open_recalling
from node.wiring.common import (
    Asked,
    UnseenDocuments,
    affinity_domain,
    client_tls,
    own_assertions,
    unrecorded,
)
from node.wiring.gate import terms_of
from node.wiring.pictures import intake
from node.wiring.sights import Caller, open_sights, unseen_by
from registry import Registry
from security.assertions.conditions import check_time
from security.assertions.refusal import TokenRefused
from soap.client import SoapClient
from storage.database import Database
from transactions.registry_response import RegistryUnavailable

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class DicomServices:
    """What the provider does besides storage, and what works on in threads of its own."""

    offered: Services
    commitments: Commitments
    archives: Archives
    notifier: Notifier
    recaller: Recaller
    evictor: Evictor | None

    def start(self) -> None:
        """Start the threads, once the schema is there and instances may arrive."""
        self.commitments.start()
        self.archives.start()
        self.notifier.start()

    def stop(self) -> None:
        """Stop them."""
        self.commitments.stop()
        self.archives.stop()
        self.notifier.stop()


def dicom_services(
    settings: Settings,
    database: Database,
    variants: Variants,
    ledger: Ledger,
    veil: Veil = no_veil,
) -> DicomServices:
    """The services of a node; ``ledger`` records what they fetch, ask and tell.

    Raises TlsError and ConfigError.
    """
    section = settings.imaging_source
    blobs, title, peers = open_images(settings), section.ae_title, dicom_peers(settings)
    stay = staying_archives(settings, database, ledger)
    recaller = Recaller(
        database,
        stay,
        seconds=section.recall_seconds,
        observe=lambda outcome: metrics.RECALLS.labels(outcome).inc(),
    )
    shown = open_recalling(settings, database, recaller)
    finder = Finder(database, title, settings.limits.query_results, veil)
    commitments = Commitments(database, blobs, title, peers)
    offered = query_retrieve(finder, Retriever(database, shown, title, peers, variants, veil))
    offered |= commitments.services | CommitmentReports(database).services
    offered |= Notices(database).services
    told = {one: peers[one] for one in section.notified}
    notifier = Notifier(database, title, told, ledger=ledger, veil=veil)
    fetching = archives(settings, database, stay)
    evictor = Evictor(database, blobs, stay) if section.lets_go else None
    return DicomServices(offered, commitments, fetching, notifier, recaller, evictor)


def open_veil(
    settings: Settings,
    stack: ExitStack,
    index: Database,
    client: SoapClient,
    auditor: Auditor | None = None,
) -> Veil:
    """What the access policy hides from application entities: from the user for whom one asks, or
    from the node where it brings no assertion. An association may outlast the assertion that it
    brought: nothing more is shown on it then.

    ``client`` asks a registry that is another node's. Raises ConfigError and StorageError.
    """
    if not settings.judges_assertions:
        return no_veil
    access = stack.enter_context(open_database(settings.access, "access", read_only=True))
    sights = open_sights(settings, stack, access, None)
    documents, terms = _unseen_documents(settings, stack, client, auditor), terms_of(settings)
    trusted = frozenset(settings.imaging_source.trusted_titles)

    def veil(asker: End) -> Unseen | None:
        if asker.user is None and asker.title in trusted:
            return None
        caller = None
        if asker.user is not None:
            try:
                check_time(asker.user, terms, datetime.now(UTC))
            except TokenRefused as refused:
                raise Refused(NOT_AUTHORIZED, refused.reason) from refused
            caller = Caller(asker.user)
        return partial(_known, unseen_by(caller, sights, documents, index))

    return veil


def _known(unseen: Unseen, studies: Collection[str]) -> Collection[str]:
    try:
        return unseen(studies)
    except RegistryUnavailable as error:
        log.error("nothing shown", code="ACCESS-UNKNOWN", error=type(error).__name__)
        text = "the registry, which knows what may be shown, is not available"
        raise Refused(OUT_OF_RESOURCES, text) from error


def _unseen_documents(
    settings: Settings, stack: ExitStack, client: SoapClient, auditor: Auditor | None
) -> UnseenDocuments:
    place = settings.imaging_source.registry
    if place != "local":
        return Asked.remote(place, client, auditor.calling if auditor else unrecorded).unseen
    database = stack.enter_context(open_database(settings.registry, "registry", read_only=True))
    return Registry(database, affinity_domain(settings)).unseen


def archives(settings: Settings, database: Database, stay: Sequence[Archive]) -> Archives:
    """What fetches from archives. Raises TlsError and ConfigError."""
    section = settings.imaging_source
    return Archives(
        database,
        stay,
        days=section.archive_days,
        poll_seconds=section.archive_seconds,
    )


def staying_archives(
    settings: Settings, database: Database, ledger: Ledger | None = None
) -> list[Archive]:
    """The ways to the archives of a node; ``ledger`` records what they are asked and give. Raises
    TlsError and ConfigError."""
    section = settings.imaging_source
    peers = dicom_peers(settings)
    assurance = partial(CommitmentUser, database, own_title=section.ae_title, ledger=ledger)
    return [
        Archive(
            one.title,
            _questions(settings, one, peers, ledger),
            _supply(settings, one, peers, ledger),
            assurance(peers[one.title]) if one.commit else None,
            _bounds(section, one),
        )
        for one in section.archives
    ]


def _bounds(section: ImagingSourceSection, archive: ArchiveSection) -> Bounds | None:
    """What is kept of the studies of an archive; None where all of them are, for ever."""
    match section.mode_of(archive):
        case "archive":
            return None
        case "proxy":
            return Bounds(days=0)
        case "cache":
            most = None if section.cache_gib is None else section.cache_gib * GIB
            return Bounds(archive.cache_days or section.cache_days, most)


def _questions(
    settings: Settings,
    archive: ArchiveSection,
    peers: Mapping[str, Peer],
    ledger: Ledger | None,
) -> Questions:
    if archive.find == "c-find":
        return FindUser(peers[archive.title], settings.imaging_source.ae_title, ledger)
    return _web(settings, archive, ledger)


def _supply(
    settings: Settings,
    archive: ArchiveSection,
    peers: Mapping[str, Peer],
    ledger: Ledger | None,
) -> Supply:
    if archive.pull == "wado-rs":
        return _web(settings, archive, ledger)
    peer, own_title = peers[archive.title], settings.imaging_source.ae_title
    if archive.pull == "c-get":
        return GetUser(peer, own_title, intake(settings), ledger)
    return MoveUser(peer, own_title)


def _web(settings: Settings, archive: ArchiveSection, ledger: Ledger | None) -> WebArchive:
    assert archive.url is not None  # the configuration was refused otherwise
    tls, token = client_tls(settings), own_assertions(settings, None)
    return WebArchive(
        archive.title, archive.url, intake(settings), ledger=ledger, ssl_context=tls, token=token
    )


def dicom_peers(settings: Settings) -> dict[str, Peer]:
    """The application entities of the configuration by title. Raises TlsError, ConfigError."""
    tls = client_tls(settings)
    return {title: _peer(title, url, tls) for title, url in settings.imaging_source.peers.items()}


def _peer(title: str, url: str, tls: ssl.SSLContext | None) -> Peer:
    parts = urlsplit(url)
    assert parts.hostname is not None  # the pattern of the configuration says so
    assert parts.port is not None
    return Peer(title, parts.hostname, parts.port, tls if parts.scheme == "dicoms" else None)
