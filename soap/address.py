"""What the host of a network address tells by itself, without asking anybody."""

from __future__ import annotations

import ipaddress
from urllib.parse import SplitResult

# Where a port of every address of the machine is listened to.
_EVERYWHERE = ("0.0.0.0", "::")


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach ``host``."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def port_of(url: SplitResult) -> int:
    """The port of an address of the web, said or usual."""
    return url.port or (443 if url.scheme == "https" else 80)


def reaches(url: SplitResult, host: str, port: int) -> bool:
    """Whether ``url`` leads to who listens at ``host`` and ``port``, as far as the texts tell.

    Two names of one machine are not known to be one.
    """
    there = url.hostname or ""
    nearby = is_loopback(there) and (is_loopback(host) or host in _EVERYWHERE)
    return port_of(url) == port and (there == host or nearby)
