"""How instances are had: what a way is asked, what it answers, and where each source is.

A way (RAD-69, WADO-RS, C-GET, C-MOVE) only fetches; whether what came is what was wanted is
judged in one place, ``consumer.checking``, whatever the way.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from consumer.files import Allowance, CompleteFile, PartialFile
from consumer.plan import Wanted
from consumer.report import Fault
from metadata.catalogue import RegistryError


class WayName(StrEnum):
    """The ways to fetch.

    RAD-69 asks for many at once; WADO-RS can be resumed; C-GET and C-MOVE (RAD-16) are what every
    archive has.
    """

    RAD69 = "rad69"
    WADO = "wado"
    CGET = "cget"
    CMOVE = "cmove"


# The ways that are tried unless others are asked for, in this order.
USUAL_WAYS = (WayName.RAD69, WayName.WADO)


@dataclass(frozen=True, slots=True)
class Arrival:
    """Something came: ``file`` under the name of ``sop_instance_uid``, be it right or not."""

    sop_instance_uid: str
    file: CompleteFile


@dataclass(frozen=True, slots=True)
class Loss:
    """An instance that this way did not bring."""

    sop_instance_uid: str
    fault: Fault
    reason: str
    error: RegistryError | None = None


@dataclass(frozen=True, slots=True)
class Remark:
    """What a source said beside: an error or warning of its own."""

    error: RegistryError


class Unasked(str):
    """The UID of what came though nobody had asked for it."""


Answer = Arrival | Loss | Remark | Unasked
MakeSpool = Callable[[], PartialFile]


@dataclass(frozen=True, slots=True)
class Desk:
    """What a way works with: new files to write into, what one of them may cost, when to stop."""

    spool: MakeSpool
    allowance: Allowance
    stopping: threading.Event


class Way(Protocol):
    """One way to fetch; safe for several threads."""

    @property
    def name(self) -> WayName:
        """Which way it is."""

    def serves(self, wanted: Wanted) -> bool:
        """Whether an address is known by which the instance can be had."""

    def batches(self, wanted: Sequence[Wanted]) -> Iterator[Sequence[Wanted]]:
        """``wanted`` in portions of one source, each fetched by one thread."""

    def fetch(self, batch: Sequence[Wanted], desk: Desk) -> Generator[Answer, None, None]:
        """Fetch a portion, answering as things arrive; what is not answered is lost.

        Raises ConsumerError when the source gave no answer at all.
        """

    def close(self) -> None:
        """Give up connections and ports."""
