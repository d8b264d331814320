"""What went over the wire in a case, kept for the report.

Each exchange is kept with its head only: enough to read any message whole, while documents
and images are cut and their size stated.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

KEPT = 32 * 1024
"""Bytes of a message that are kept: the longest metadata a case sends fits."""


class Head:
    """The first bytes of a stream and the count of all of them."""

    def __init__(self) -> None:
        self._kept = bytearray()
        self.size = 0

    def take(self, data: bytes) -> None:
        """Note the next bytes."""
        self.size += len(data)
        if len(self._kept) < KEPT:
            self._kept += data[: KEPT - len(self._kept)]

    @property
    def kept(self) -> bytes:
        """What has been kept."""
        return bytes(self._kept)

    def text(self) -> str:
        """The kept bytes as text, and how much is missing."""
        text = self._kept.decode("utf-8", "replace")
        readable = "".join(c if c.isprintable() or c in "\r\n\t" else "\ufffd" for c in text)
        missing = self.size - len(self._kept)
        return f"{readable}\n[… {missing} bytes]" if missing else readable


@dataclass(frozen=True, slots=True)
class Side:
    """A request or a response as it was on the wire."""

    line: str
    headers: Mapping[str, str]
    text: str
    size: int


@dataclass(frozen=True, slots=True)
class Exchange:
    """One request and what came back; ``problem`` is why nothing did."""

    name: str
    endpoint: str
    started: datetime
    seconds: float
    request: Side
    response: Side | None
    problem: str = ""


class Record:
    """The exchanges of one case, in order."""

    def __init__(self) -> None:
        self.exchanges: list[Exchange] = []

    def add(self, exchange: Exchange) -> None:
        """Note one exchange."""
        self.exchanges.append(exchange)


def now() -> datetime:
    """The current time, in UTC."""
    return datetime.now(UTC)
