"""The DICOM services of the process ``dicom`` besides storage, and the peers it knows."""

from __future__ import annotations

import ssl
from urllib.parse import urlsplit

from imaging_source.query_retrieve.find import Finder
from imaging_source.query_retrieve.retrieve import Retriever
from imaging_source.query_retrieve.services import query_retrieve
from imaging_source.requestor import Peer
from imaging_source.service import Services
from node.config import Settings
from node.wiring.common import client_tls
from storage.blobs import BlobStore
from storage.database import Database


def dicom_services(settings: Settings, database: Database) -> Services:
    """What the provider does besides storage. Raises TlsError and ConfigError."""
    section = settings.imaging_source
    assert section.files is not None  # filled in when the configuration was read
    blobs, title = BlobStore(section.files), section.ae_title
    finder = Finder(database, title, settings.limits.query_results)
    return query_retrieve(finder, Retriever(database, blobs, title, dicom_peers(settings)))


def dicom_peers(settings: Settings) -> dict[str, Peer]:
    """The application entities of the configuration by title. Raises TlsError, ConfigError."""
    tls = client_tls(settings)
    return {title: _peer(title, url, tls) for title, url in settings.imaging_source.peers.items()}


def _peer(title: str, url: str, tls: ssl.SSLContext | None) -> Peer:
    parts = urlsplit(url)
    assert parts.hostname is not None  # the pattern of the configuration says so
    assert parts.port is not None
    return Peer(title, parts.hostname, parts.port, tls if parts.scheme == "dicoms" else None)
