"""The consumer of a node: its own actors and the peers it knows."""

from __future__ import annotations

import ssl
from dataclasses import replace
from urllib.parse import urlsplit

from consumer.applications import Application, Ourselves
from consumer.client import Consumer
from consumer.ways import WayName
from node.config import Settings
from node.endpoints import Endpoints
from node.wiring.common import (
    Recording,
    client_tls,
    own_assertions,
    server_tls,
    soap_client,
    unrecorded,
)


def consumer(
    settings: Settings, user: str | None = None, recording: Recording = unrecorded
) -> Consumer:
    """The consumer of this node: its own actors first, then the peers it knows.

    It asks in the name of ``user``, or of the node; ``recording`` makes records of its SOAP calls.
    """
    places = Endpoints.of(settings)
    own_repository = {settings.repository.unique_id: places.repository}
    own_source = {settings.imaging_source.unique_id: places.imaging}
    repositories = {**settings.peers.repositories, **own_repository}
    sources = {**settings.peers.imaging_sources, **own_source}
    own_web = {settings.imaging_source.unique_id: places.dicomweb}
    dicomweb = {**settings.peers.dicomweb, **own_web}
    return Consumer(
        registry_url=places.registry or settings.repository.registry,
        repositories={oid: url for oid, url in repositories.items() if url},
        imaging_sources={oid: url for oid, url in sources.items() if url},
        client=soap_client(settings, user, recording),
        dicomweb={oid: url for oid, url in dicomweb.items() if url},
        dicom=_applications(settings, places.dicom, user),
        ourselves=_ourselves(settings),
        silence=settings.limits.call_seconds,
        ways=tuple(map(WayName, settings.peers.ways)),
        web_tls=client_tls(settings),
        token=own_assertions(settings, user),
    )


def _ourselves(settings: Settings) -> Ourselves:
    peers = settings.peers
    host = peers.move_host or settings.node.host
    tls = server_tls(settings, "dicom") if peers.move_port is not None else None
    return Ourselves(peers.ae_title, host, peers.move_port, tls)


def _applications(settings: Settings, own: str | None, user: str | None) -> dict[str, Application]:
    """The peers, and the imaging source of this node itself."""
    tls, source = client_tls(settings), settings.imaging_source
    found = {oid: _application(url, tls) for oid, url in settings.peers.dicom.items()}
    if own is not None:
        scheme = "dicoms" if settings.dicom_over_tls else "dicom"
        found[source.unique_id] = _application(f"{scheme}://{source.ae_title}@{own}", tls)
    token, told = own_assertions(settings, user), settings.peers.dicom_users
    return {oid: replace(one, token=token) if oid in told else one for oid, one in found.items()}


def _application(url: str, tls: ssl.SSLContext | None) -> Application:
    title, _, place = url.partition("://")[2].rpartition("@")
    parts = urlsplit(f"//{place}")
    assert parts.hostname is not None  # the pattern of the configuration says so
    assert parts.port is not None
    secured = tls if url.startswith("dicoms:") else None
    return Application(title, parts.hostname, parts.port, secured)
