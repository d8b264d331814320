"""Application entities (PS3.8): those of the sources and our own, as they are configured."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from dataclasses import dataclass

# Seconds without an instance, or word of one, after which a source is silent.
SILENCE_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Application:
    """Another application entity: how it is called, where it is, how it is spoken to.

    ``token`` makes the assertion of the user for whom we ask it (PS3.7 D.3.3.7); empty ones where
    it is not told.
    """

    title: str
    host: str
    port: int
    tls: ssl.SSLContext | None = None
    token: Callable[[], str] = str


def _known(_port: int) -> None:
    """The sources know the port from their configuration."""


@dataclass(frozen=True, slots=True)
class Ourselves:
    """How sources know us: the title under which we ask, and where we take what is moved.

    Without ``port`` nothing can be moved here. Port 0 is chosen by the system, and told to
    ``opened``, which makes it known to the sources. ``tls`` is the context of a server.
    """

    title: str = "KOSMOS_CONSUMER"
    host: str = "127.0.0.1"
    port: int | None = None
    tls: ssl.SSLContext | None = None
    opened: Callable[[int], None] = _known
