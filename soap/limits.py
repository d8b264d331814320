"""How much of everything one message may bring, and how long it may take to come.

One value holds every number a stranger could abuse (reliability: size, depth, counts,
time). Servers use the defaults; a client that expects very large answers widens them.
"""

from __future__ import annotations

from dataclasses import dataclass

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB

SMALL = 64 * KIB
"""Below this a message is parsed in the event loop: at the measured 125 MB/s that holds the
loop for half a millisecond at most, about what handing it to a thread and back costs."""

BATCH = MIB
"""Bytes handed at once from the socket to the spool, or from a file to the socket: large
enough that the hand-over (about 0.1 ms) vanishes beside the write, small enough that a
thousand transfers at once need no more than a few GiB."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds on one incoming message; sizes in bytes, times in seconds.

    ``envelope``: the XML, inline base64 documents included (larger ones belong in MTOM
    parts). ``message``: everything, attachments included. ``elements`` and ``attributes``:
    upper bounds of what is parsed, together about 200 MB of memory at the default.
    ``parts``: attachments of one message. ``idle``: silence while the body is awaited.
    ``grace`` and ``rate``: a body of N bytes may take grace + N / rate seconds, so a peer
    that drips bytes is cut while a slow line is not.
    """

    envelope: int = 64 * MIB
    message: int = 64 * GIB
    elements: int = 250_000
    attributes: int = 250_000
    parts: int = 10_000
    idle: float = 15.0
    grace: float = 15.0
    rate: int = 16 * KIB


SERVER = Limits()
CLIENT = Limits(elements=2_000_000, attributes=2_000_000, parts=100_000)
"""Answers of peers we chose to ask: a query may return thousands of entries."""
