"""Where a node is reached: URLs and addresses, from its settings and the ports in use."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from dataclasses import dataclass

from node.config import ADMIN, AUDIT, DICOM, HTTP, MLLP, MLLPS, Settings

OFFSETS = {
    "http": HTTP,
    "admin": ADMIN,
    "mllp": MLLP,
    "mllps": MLLPS,
    "dicom": DICOM,
    "audit": AUDIT,
}
# An address that means "all of them" is reached from this machine by its loopback address.
WILDCARDS = {"0.0.0.0": "127.0.0.1", "::": "::1"}


@dataclass(frozen=True, slots=True)
class Endpoints:
    """The places of one node; None for what it does not offer."""

    registry: str | None
    subscriptions: str | None
    repository: str | None
    imaging: str | None
    dicomweb: str | None
    wado_uri: str | None
    admin: str
    mllp: str | None
    mllps: str | None
    dicom: str | None
    ae_title: str | None
    audit: str | None
    reports: str | None

    @classmethod
    def of(cls, settings: Settings, ports: Mapping[str, int] | None = None) -> Endpoints:
        """The endpoints of ``settings``; ``ports`` are those in use, where some were left open."""
        found = dict(ports or {})
        port = {name: found.get(name) or settings.port(at) for name, at in OFFSETS.items()}
        base = settings.node.public_url or web_url(settings, port["http"])
        base = base.rstrip("/")
        source, mllp = settings.imaging_source, settings.mllp
        feed = mllp.enabled and (settings.registry.enabled or source.enabled)
        return cls(
            registry=f"{base}/registry" if settings.registry.enabled else None,
            subscriptions=f"{base}/subscriptions" if takes_subscriptions(settings) else None,
            repository=f"{base}/repository" if settings.repository.enabled else None,
            imaging=f"{base}/imaging" if source.enabled else None,
            dicomweb=f"{base}/dicomweb" if source.enabled and source.dicomweb.enabled else None,
            wado_uri=f"{base}/wado" if source.enabled and source.dicomweb.enabled else None,
            admin=f"http://{authority(settings.node.admin_host, port['admin'])}",
            mllp=authority(mllp_host(settings), port["mllp"]) if feed else None,
            mllps=authority(settings.node.host, port["mllps"])
            if feed and settings.tls.enabled
            else None,
            dicom=authority(source.host or settings.node.host, port["dicom"])
            if source.enabled
            else None,
            ae_title=source.ae_title if source.enabled else None,
            audit=authority(settings.node.host, port["audit"]) if settings.audit.listen else None,
            reports=_reports(settings, found),
        )

    def line(self) -> str:
        """One line for people and scripts: ``ready registry=... repository=... dicom=...``."""
        named = {
            "registry": self.registry,
            "subscriptions": self.subscriptions,
            "repository": self.repository,
            "imaging": self.imaging,
            "dicomweb": self.dicomweb,
            "admin": self.admin,
            "mllp": self.mllp,
            "mllps": self.mllps,
            "dicom": self.dicom and f"{self.ae_title}@{self.dicom}",
            "audit": self.audit,
            "reports": self.reports,
        }
        return " ".join(["ready", *(f"{name}={where}" for name, where in named.items() if where)])


def _reports(settings: Settings, found: Mapping[str, int]) -> str | None:
    source = settings.imaging_source
    if not source.enabled or source.reports.port is None:
        return None
    return authority(source.host or settings.node.host, found.get("reports", source.reports.port))


def takes_subscriptions(settings: Settings) -> bool:
    """Whether the registry of this node takes subscriptions."""
    return settings.registry.enabled and settings.subscriptions.enabled


def broker_address(settings: Settings, port: int) -> str:
    """The address of the broker, as subscribers anywhere reach it.

    Where the node listens on every address and no ``public_url`` is set, by its host's name.
    """
    host = settings.node.host
    named = web_url(settings, port) if host not in WILDCARDS else _named_url(settings, port)
    return f"{(settings.node.public_url or named).rstrip('/')}/subscriptions"


def _named_url(settings: Settings, port: int) -> str:
    scheme = "https" if settings.tls.enabled else "http"
    return f"{scheme}://{socket.gethostname()}:{port}"


def web_url(settings: Settings, port: int) -> str:
    """The base URL under which this machine reaches the SOAP endpoints."""
    scheme = "https" if settings.tls.enabled else "http"
    return f"{scheme}://{authority(settings.node.host, port)}"


def mllp_host(settings: Settings) -> str:
    """Where MLLP without TLS listens: never beyond this machine unless asked by name."""
    if settings.mllp.host is not None:
        return settings.mllp.host
    return "127.0.0.1" if settings.tls.enabled else settings.node.host


def authority(host: str, port: int) -> str:
    """``host:port`` as it stands in a URL, reachable from this machine."""
    host = WILDCARDS.get(host, host)
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
