"""Sends on what lies in trails that nobody writes: those of commands.

A command ends before a repository that was away is back, and an operator's does not wait for one at
all. So a process that stays looks at their trails, and sends what is due of those at rest, at
least once and in order, as ``security.audit.sender`` does. It reads them beside whoever comes to
write, and is their writer only for the moment in which it notes how far it is.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from itertools import chain
from pathlib import Path

import structlog
from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from security.audit.sender import LONGEST_PAUSE, Delivery, Kept
from security.audit.trail import SUFFIX
from storage.database import Database
from storage.errors import DatabaseLocked, StorageError

_log = structlog.get_logger("kosmos.audit")

# A look reads a row of each file; a command's record is with the repository so soon after it.
LOOK_SECONDS = 5.0
# How long ``stop`` waits for what is on its way.
_STOP_SECONDS = 10.0

Deliveries = Callable[[Kept], Sequence[Delivery]]
"""What brings a trail to each repository."""


class _AtRest:
    """A trail that is read, and written only for as long as a note takes (see ``Kept``)."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def read(self) -> AbstractContextManager[Connection]:
        return self._database.read()

    def write(self, work: Callable[[Connection], None]) -> None:
        """Raises DatabaseLocked while a process writes the trail."""
        with Database.open(self._database.url) as writing:
            writing.write(work)


class Resting:
    """Keeps the repositories up to date with trails in ``folder`` while nobody writes them, in a
    thread, until ``stop``; ``names`` are patterns."""

    def __init__(self, folder: Path, names: Sequence[str], deliveries: Deliveries) -> None:
        self._folder = folder
        self._names = names
        self._deliveries = deliveries
        self._stopping = threading.Event()
        self._under_way: Sequence[Delivery] = ()
        self._thread = threading.Thread(target=self._work, name="audit resting", daemon=True)

    def start(self) -> None:
        """Begin, with a look at once."""
        self._thread.start()

    def stop(self) -> None:
        """End; what was not sent is sent after the next start."""
        self._stopping.set()
        for delivery in self._under_way:
            delivery.give_up()
        self._thread.join(_STOP_SECONDS)

    def _work(self) -> None:
        pause = LOOK_SECONDS
        while not self._stopping.is_set():
            pause = LOOK_SECONDS if self._look() else min(pause * 2, LONGEST_PAUSE)
            self._stopping.wait(pause)

    def _look(self) -> bool:
        """Send what is due of every trail at rest; whether all of it got there."""
        files = chain.from_iterable(self._folder.glob(name + SUFFIX) for name in self._names)
        got_there = [self._sent(file) for file in sorted(files)]
        return all(got_there)

    def _sent(self, file: Path) -> bool:
        try:
            with Database.open(f"sqlite:///{file}", read_only=True) as database:
                return self._delivered(_AtRest(database))
        except DatabaseLocked:
            return True  # who writes it sends it, or it is at rest the next time
        except SQLAlchemyError:
            return True  # no tables yet; what never becomes a trail, ``kosmos audit verify`` names
        except StorageError as error:
            kind = type(error).__name__
            _log.warning("trail not sent on", code="AUDIT-RESTING", trail=file.stem, error=kind)
            return False

    def _delivered(self, kept: _AtRest) -> bool:
        self._under_way = [one for one in self._deliveries(kept) if one.is_due()]
        if not self._under_way or self._stopping.is_set():
            return True
        kept.write(lambda _connection: None)  # not beside a process that sends it itself
        got_there = [one.send_now() for one in self._under_way]
        return all(got_there)
