"""Which addresses notifications may be sent to: a subscriber must not steer us where it likes.

A subscriber names the address that this node will call from inside its network, so only
addresses below the configured URLs are accepted (server-side request forgery).
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import SplitResult, unquote, urlsplit

from soap.address import is_loopback

_PORTS = {"http": 80, "https": 443}
_LONGEST = 2048  # what proxies and logs commonly take of a URL


@dataclass(frozen=True, slots=True)
class Consumers:
    """The addresses that may be notified: those below ``prefixes``, whole path segments.

    ``loopback`` also allows this machine by its loopback addresses, for test nodes.
    """

    prefixes: tuple[str, ...] = ()
    loopback: bool = False

    def allow(self, address: str) -> bool:
        """Whether notifications may be sent to ``address``."""
        parts = _split(address)
        if parts is None:
            return False
        if self.loopback and is_loopback(parts.hostname or ""):
            return True
        return any(_below(parts, prefix) for prefix in map(_split, self.prefixes) if prefix)


def _split(address: str) -> SplitResult | None:
    """The parts of an http(s) URL that can be read in one way only; None for any other."""
    if len(address) > _LONGEST or not address.isascii() or not address.isprintable():
        return None
    try:
        parts = urlsplit(address)
        known = parts.scheme in _PORTS and parts.hostname and (parts.port or 1)
    except ValueError:
        return None
    doubtful = "@" in parts.netloc or "\\" in address or " " in address or "#" in address
    return None if not known or doubtful or _climbs(parts.path) else parts


def _climbs(path: str) -> bool:
    return any(segment in (".", "..") for segment in unquote(path).split("/"))


def _below(parts: SplitResult, prefix: SplitResult) -> bool:
    if _origin(parts) != _origin(prefix):
        return False
    base = prefix.path.rstrip("/")
    return parts.path == base or parts.path.startswith(f"{base}/") or not base


def _origin(parts: SplitResult) -> tuple[str, str, int]:
    return parts.scheme, parts.hostname or "", parts.port or _PORTS[parts.scheme]
