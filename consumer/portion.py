"""What one C-GET or C-MOVE brings: written to disk as it arrives, handed on as it is taken.

Two threads meet here: that of an association, which writes, and the one that fetches. The first
waits for the second, and the source for the first.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from queue import Empty, Full, Queue

from consumer.association import Head
from consumer.errors import ConsumerError, NotWritten, TooLarge, TooSlow
from consumer.files import PartialFile
from consumer.ways import Arrival, Desk, Unasked
from manifest.encoding import part10_head

# Instances that may wait for the thread that fetches.
_WAITING = 4

# A thread that waits looks this often whether it is still wanted (seconds).
_LOOK = 0.1

# Statuses of a C-STORE (PS3.4 Table B.2-1; PS3.7 C.5.21: not authorized).
SUCCESS, NO_RESOURCES, NOT_WANTED = 0x0000, 0xA700, 0x0124


@dataclass(frozen=True, slots=True)
class Final:
    """The last response to a request: its status, and what the source says it could not send."""

    status: int
    failed: Collection[str] = ()


Item = Arrival | Unasked | Final | ConsumerError


class Portion:
    """The instances of one request, by UID; each is taken once."""

    def __init__(self, wanted: Collection[str], desk: Desk) -> None:
        self._wanted = frozenset(wanted)
        self._desk = desk
        self._lock = threading.Lock()
        self._begun: set[str] = set()
        self._arriving: set[Arriving] = set()
        self._items: Queue[Item | None] = Queue(_WAITING)
        self._closed = threading.Event()
        self._heard = time.monotonic()

    def __contains__(self, uid: str) -> bool:
        return uid in self._wanted

    def sink(self, head: Head) -> Arriving:
        """Where an instance goes: to a file, or nowhere when nobody asked for it."""
        uid = head.sop_instance_uid
        with self._lock:
            asked = uid in self._wanted - self._begun and not self._closed.is_set()
            arriving = Arriving(self, head, self._desk if asked else None)
            if asked:
                self._begun.add(uid)
                self._arriving.add(arriving)
        return arriving

    def put(self, item: Item | None) -> bool:
        """Hand on what came, None for the end; False when nobody takes it any more."""
        while not self._closed.is_set():
            with suppress(Full):
                self._items.put(item, timeout=_LOOK)
                return True
        return False

    def take(self, silence: float) -> Item | None:
        """What comes next; None when the source has ended, is silent so long, or we are to stop."""
        self.hear()
        while time.monotonic() < self._heard + silence and not self._desk.stopping.is_set():
            with suppress(Empty):
                return self._items.get(timeout=min(_LOOK, silence))
        return None

    def hear(self) -> None:
        """Take note that the source is alive."""
        self._heard = time.monotonic()

    def end(self, arriving: Arriving) -> None:
        """Take note that nothing more is written there."""
        with self._lock:
            self._arriving.discard(arriving)

    def close(self) -> None:
        """Give up what is on its way, and what nobody has taken."""
        self._closed.set()
        with self._lock:
            unfinished = list(self._arriving)
        for arriving in unfinished:
            arriving.abort()
        with suppress(Empty):
            while True:
                if isinstance(item := self._items.get_nowait(), Arrival):
                    item.file.discard()


class Arriving:
    """The data set of one C-STORE on its way to a file (association.Sink).

    Raises ValueError where its UIDs are no UIDs.
    """

    def __init__(self, portion: Portion, head: Head, desk: Desk | None) -> None:
        self._portion = portion
        self._uid = head.sop_instance_uid
        self._lock = threading.Lock()
        self._spool: PartialFile | None = None
        self._error: ConsumerError | None = None
        self._wanted = desk is not None
        if desk is not None:
            beginning = part10_head(*head)
            try:
                self._spool = desk.spool()
                self._spool.write(beginning)
            except ConsumerError as error:
                self._fail(error)

    def write(self, data: bytes) -> bool:
        """Write the next bytes; False once it has failed, and no more is to come."""
        with self._lock:
            if self._spool is None:
                return self._error is None
            try:
                self._spool.write(data)
            except (NotWritten, TooLarge, TooSlow) as error:
                self._fail(error)
                return False
            self._portion.hear()
            return True

    def finish(self) -> int:
        """Make it durable and hand it on."""
        if not self._wanted:
            self._portion.put(Unasked(self._uid))
            return NOT_WANTED
        with self._lock:
            spool, self._spool = self._spool, None
        self._portion.end(self)
        if spool is None:
            return NO_RESOURCES
        return self._handed_on(spool)

    def abort(self) -> None:
        """Forget what was written."""
        with self._lock:
            if self._spool is not None:
                self._spool.abort()
                self._spool = None
        self._portion.end(self)

    def _handed_on(self, spool: PartialFile) -> int:
        try:
            file = spool.finish()
        except NotWritten as error:
            spool.abort()
            self._portion.put(error)
            return NO_RESOURCES
        if self._portion.put(Arrival(self._uid, file)):
            return SUCCESS
        file.discard()
        return NO_RESOURCES

    def _fail(self, error: ConsumerError) -> None:
        self._error = error
        if self._spool is not None:
            self._spool.abort()
            self._spool = None
        self._portion.put(error)
