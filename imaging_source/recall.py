"""Fetching again what was evicted: from the archive that has it, once for however many ask.

Done in the process that writes the index and talks to archives; the others ask it
(``imaging_source.handover``). What comes back goes the way of whatever arrives: the index judges
whether it is what was there before (``imaging_source.index``).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

import structlog
from sqlalchemy.exc import IntegrityError

from imaging_source.archives import Archive
from imaging_source.evicted import Hindrance, hinder_rest, hindrances, note_use
from imaging_source.requestor import TROUBLES
from storage.database import Database
from storage.errors import StorageError

_log = structlog.get_logger("kosmos.imaging_source")

# Studies fetched at the same time: an archive gives one about as fast as two.
_AT_ONCE = 2
# Studies under way and waiting; who asks for one more is told "not now".
_MOST_STUDIES = 64
# Studies that are begun for one who is going to wait for them: a quarter, the rest is for others.
_MOST_AHEAD = 16
# A study that did not come whole is not asked for again for this long.
_PAUSE_SECONDS = 30.0
# The same where the archive has said all it has to say.
_LONG_PAUSE_SECONDS = 3600.0
# Studies whose pause is remembered.
_MOST_REMEMBERED = 10_000


class Recaller:
    """Fetches from ``archives``, the first that gives all; who asks waits ``seconds`` at most.

    Those that let something go come first: what is evicted is with one of them.

    ``observe`` is told how each fetch ended: whole, part or failed.
    """

    def __init__(
        self,
        database: Database,
        archives: Sequence[Archive],
        *,
        seconds: float,
        clock: Callable[[], float] = time.time,
        observe: Callable[[str], None] = lambda _outcome: None,
    ) -> None:
        self._database = database
        self._archives = sorted(archives, key=lambda one: one.bounds is None)
        self._seconds = seconds
        self._clock = clock
        self._observe = observe
        self._lock = threading.Lock()
        self._under_way: dict[str, threading.Event] = {}
        self._not_before: dict[str, float] = {}
        self._places = threading.Semaphore(_AT_ONCE)

    def recall(self, study: str) -> None:
        """See ``Asker``."""
        if self._archives and (done := self._fetching(study)) is not None:
            done.wait(self._seconds)

    def begin(self, studies: Sequence[str]) -> None:
        """See ``Asker``."""
        for one in studies[:_MOST_AHEAD] if self._archives else ():
            self._fetching(one)

    def note_use(self, study: str) -> None:
        """See ``Asker``."""
        now = self._clock()
        try:
            self._database.write(lambda connection: note_use(connection, study, now))
        except (StorageError, IntegrityError) as error:  # or another process was first
            _log.warning("use not noted", code="imaging-recall", error=type(error).__name__)

    def _fetching(self, study: str) -> threading.Event | None:
        """What is set when the study has been fetched; None where it is not going to be."""
        with self._lock:
            if (known := self._under_way.get(study)) is not None:
                return known
            if self._clock() < self._not_before.get(study, 0.0):
                return None
            if len(self._under_way) >= _MOST_STUDIES:
                return None
            done = self._under_way[study] = threading.Event()
        # A fetch under way must not keep the process from ending.
        threading.Thread(target=self._run, args=(study, done), name="recall", daemon=True).start()
        return done

    def _run(self, study: str, done: threading.Event) -> None:
        pause = _PAUSE_SECONDS
        try:
            with self._places:
                pause = self._fetch(study)
        except (StorageError, OSError) as error:
            _log.error("study not recalled", code="imaging-recall", error=type(error).__name__)
            self._observe("failed")
        finally:
            self._end(study, pause, done)

    def _end(self, study: str, pause: float, done: threading.Event) -> None:
        now = self._clock()
        with self._lock:
            if len(self._not_before) >= _MOST_REMEMBERED:
                self._not_before = {uid: at for uid, at in self._not_before.items() if at > now}
            self._not_before[study] = now + pause
            del self._under_way[study]
        done.set()

    def _fetch(self, study: str) -> float:
        """Fetch a study; for how long it is to be left alone then. Raises StorageError."""
        answered, marked = True, bool(self._rest(study))
        for archive in self._archives:
            try:
                archive.fetch(study)
            except TROUBLES as error:
                answered = False
                _log.warning("study not recalled whole", code="imaging-recall", reason=str(error))
            if marked and not self._rest(study):
                break
        if rest := self._rest(study):
            return self._hinder(study, rest, answered)
        self._observe("whole" if marked or answered else "failed")
        return _PAUSE_SECONDS

    def _hinder(self, study: str, rest: list[str | None], answered: bool) -> float:
        self._observe("part" if answered else "failed")
        if all(reason == Hindrance.OTHER_BYTES for reason in rest):
            return _LONG_PAUSE_SECONDS
        reason = Hindrance.ABSENT if answered else Hindrance.UNREACHED
        self._database.write(lambda connection: hinder_rest(connection, study, reason))
        return _LONG_PAUSE_SECONDS if answered else _PAUSE_SECONDS

    def _rest(self, study: str) -> list[str | None]:
        with self._database.read() as connection:
            return hindrances(connection, study)
