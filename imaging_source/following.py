"""Following the identity feed: what the listener of the node was told, applied to the index.

The embedded index has one writing process, and it is not the one that listens for HL7: messages
come by way of a folder (``storage.inbox``), durable before they were acknowledged. Each takes
effect in one transaction and is then removed, so that a process that dies in between applies it
once more, which changes nothing.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import structlog

from hl7.demographics import read_demographics
from hl7.errors import InvalidMessage
from hl7.message import Message
from imaging_source.corrections import Authorities, correct
from storage.database import Database
from storage.faultpoints import reach
from storage.inbox import Inbox

_log = structlog.get_logger("kosmos.imaging_source")

_POLL_SECONDS = 1.0


def follow(
    database: Database, inbox: Inbox, authorities: Authorities, stop: threading.Event
) -> None:
    """Apply messages as they come, until ``stop``; never raises.

    After trouble of our own the message stays where it is, and those behind it wait: the order
    of merges matters.
    """
    while not stop.is_set():
        try:
            apply_waiting(database, inbox, authorities)
        except Exception as error:  # noqa: BLE001 - logged with a code, and tried again
            _log.error("corrections wait", code="imaging-feed", error=type(error).__name__)
        stop.wait(_POLL_SECONDS)


def apply_waiting(
    database: Database,
    inbox: Inbox,
    authorities: Authorities,
    clock: Callable[[], float] = time.time,
) -> int:
    """Apply what waits; how many studies changed. Raises StorageError, OSError."""
    changed = 0
    for name, raw in inbox.waiting():
        changed += _apply(database, raw, authorities, clock())
        reach("imaging.corrected")
        inbox.remove(name)
    return changed


def _apply(database: Database, raw: bytes, authorities: Authorities, now: float) -> int:
    try:
        said = read_demographics(Message.read(raw))
    except InvalidMessage:  # it was acknowledged by a reader that is the same
        _log.error("message not read", code="imaging-feed-unreadable")
        return 0
    if said is None:
        return 0
    changed = database.write(lambda connection: correct(connection, said, authorities, now))
    _log.info("patient corrected", code="imaging-corrected", studies=changed)
    return changed
