"""The store that every door opens the files of images of (``imaging_source.parts``).

Where a file is missing, its study is asked for (``Asker``) and the file opened once more. Whoever
is first in an hour to open a file of a study notes that, and asks for the study too where files of
it are about to go: opened later they would be missed in the midst of an answer.
``imaging_source.recall`` fetches in the process that writes the index and talks to archives,
``imaging_source.handover.DistantRecaller`` asks it from every other.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from imaging_source.evicted import Away, evicted_studies, files_of_evicted, is_evicted
from storage.blobs import BlobStore
from storage.contract import Keys
from storage.database import Database
from storage.errors import BlobMissing
from storage.files import FileContent

NOTE_SECONDS = 3600.0
"""How often at most the use of a study is noted."""

# Who asked in vain for an instance of a study need not ask, nor wait, for its next one.
_VAIN_SECONDS = 5.0
# Studies of which something is remembered.
_MOST_REMEMBERED = 10_000


class Asker(Protocol):
    """Asks for studies to be fetched again; safe for many threads."""

    def recall(self, study: str) -> None:
        """Have a study fetched; returns when it has been, or cannot be for now. Never raises."""

    def begin(self, studies: Sequence[str]) -> None:
        """Have the first of some studies fetched, without waiting for them. Never raises."""

    def note_use(self, study: str) -> None:
        """Have it noted that a study is used. Never raises."""


class Recalling(BlobStore):
    """The images of a site whose archives stay: an evicted file comes back when it is opened.

    ``database`` tells what is evicted and may be open for reading only. With ``noting`` the use of
    studies is noted, which is what eviction goes by.
    """

    def __init__(
        self,
        root: Path,
        database: Database,
        asker: Asker,
        *,
        noting: bool,
        keys: Keys | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Raises OutOfSpace or BlobStoreUnavailable if the folders cannot be made."""
        super().__init__(root, keys=keys)
        self._database = database
        self._asker = asker
        self._noting = noting
        self._clock = clock
        self._noted: dict[str, float] = {}
        self._vain: dict[str, float] = {}

    def recalled(self, study: str, uid: str, sha256: str) -> FileContent:
        """The file of an instance of a study, fetched again if need be.

        Raises Away where it is evicted and its archive does not give it now, BlobMissing where it
        is lost, and BlobStoreUnavailable.
        """
        self._note(study)
        try:
            return self.content(sha256)
        except BlobMissing:
            self._ask(study)
        try:
            return self.content(sha256)
        except BlobMissing:
            self._remember(self._vain, study, _VAIN_SECONDS)
            with self._database.read() as connection:
                if not is_evicted(connection, uid):
                    raise
        raise Away("the images are with their archive, which does not give them now")

    def begin(self, studies: Sequence[str]) -> None:
        """Ask for all that is evicted of several studies, before each is waited for in turn."""
        if len(studies) > 1:
            with self._database.read() as connection:
                away = evicted_studies(connection, studies)
            asked = [one for one in studies if one in away]
            asked = [one for one in asked if not self._is_remembered(self._vain, one)]
            if len(asked) > 1:
                self._asker.begin(asked)

    def _ask(self, study: str) -> None:
        if not self._is_remembered(self._vain, study):
            self._asker.recall(study)

    def _note(self, study: str) -> None:
        """Note a use; nothing is marked after that, and what was marked before is asked for."""
        if self._noting and not self._is_remembered(self._noted, study):
            self._asker.note_use(study)
            if self._is_leaving(study):
                self._ask(study)
            self._remember(self._noted, study, NOTE_SECONDS)

    def _is_leaving(self, study: str) -> bool:
        """Whether files of a study that are marked have not gone yet."""
        with self._database.read() as connection:
            files = files_of_evicted(connection, study)
        return any(map(self.holds, files))

    def _is_remembered(self, until: dict[str, float], study: str) -> bool:
        return self._clock() < until.get(study, 0.0)

    def _remember(self, until: dict[str, float], study: str, seconds: float) -> None:
        now = self._clock()
        if len(until) >= _MOST_REMEMBERED:
            for uid in [uid for uid, at in list(until.items()) if at <= now]:
                until.pop(uid, None)
        until[study] = now + seconds
