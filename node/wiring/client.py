"""The consumer of a node: its own actors and the peers it knows."""

from __future__ import annotations

from consumer.client import Consumer
from consumer.ways import WayName
from node.config import Settings
from node.endpoints import Endpoints
from node.wiring.common import client_tls, own_assertions, soap_client


def consumer(settings: Settings, user: str | None = None) -> Consumer:
    """The consumer of this node: its own actors first, then the peers it knows.

    It asks in the name of ``user``, or of the node.
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
        client=soap_client(settings, user),
        dicomweb={oid: url for oid, url in dicomweb.items() if url},
        ways=tuple(map(WayName, settings.peers.ways)),
        web_tls=client_tls(settings),
        token=own_assertions(settings, user),
    )
