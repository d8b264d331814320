"""What a person may have got wrong, found before anything starts: files, folders, ports.

Each process reads the files and binds the ports again; here their faults become one line for a
person instead of a log of each process.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import ExitStack

from node.config import ADMIN, AUDIT, DICOM, HTTP, MLLP, MLLPS, Settings
from node.config_file import ConfigError, Problem
from node.endpoints import Endpoints, authority, mllp_host
from node.texts import tr
from node.wiring.common import affinity_domain, server_tls
from node.wiring.sights import policy_of
from node.wiring.tokens import issuers_of, own_issuer, profile_of
from soap.server import listen


class CannotListen(Exception):
    """Ports that the node cannot have; the text names each with its key and the reason."""


def refuse_mistakes(settings: Settings) -> None:
    """Look at all that processes would not start without.

    Raises ConfigError, TlsError, CannotListen.
    """
    _require_folder(settings)
    affinity_domain(settings)
    server_tls(settings, "http")
    if settings.judges_assertions:
        profile_of(settings)
        issuers_of(settings)
        policy_of(settings)
        if settings.assertions.own.name:
            own_issuer(settings)
    _require_ports(settings)


def _require_folder(settings: Settings) -> None:
    folder = settings.node.data_dir
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError([Problem("node.data_dir", str(folder), _reason(error))]) from None
    if not os.access(folder, os.W_OK | os.X_OK):
        raise ConfigError([Problem("node.data_dir", str(folder), os.strerror(errno.EACCES))])


def _require_ports(settings: Settings) -> None:
    troubles = []
    with ExitStack() as held:  # until the end, for two keys may name the same port
        for key, host, port in _listeners(settings):
            try:
                held.enter_context(listen(host, port))
            except OSError as error:
                troubles.append(f"{authority(host, port)} ({key}: {_reason(error)})")
    if troubles:
        places = ", ".join(troubles)
        raise CannotListen(tr("cannot listen at {places}", places=places))


def _listeners(settings: Settings) -> Iterator[tuple[str, str, int]]:
    """Key, host and port of every listener; port 0 is for the system to choose."""
    node, source = settings.node, settings.imaging_source
    places, images = Endpoints.of(settings), source.host or node.host
    yield "node.http_port", node.host, settings.port(HTTP)
    yield "node.admin_port", node.admin_host, settings.port(ADMIN)
    if places.mllp:
        yield "mllp.port", mllp_host(settings), settings.port(MLLP)
    if places.mllps:
        yield "mllp.tls_port", node.host, settings.port(MLLPS)
    if places.dicom:
        yield "imaging_source.port", images, settings.port(DICOM)
    if places.reports:
        yield "imaging_source.reports.port", images, source.reports.port or 0
    if places.audit:
        yield "audit.port", node.host, settings.port(AUDIT)


def _reason(error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return tr("taken")
    return os.strerror(error.errno) if error.errno else str(error)
