"""Taking over a changed file of code sets while a process serves.

A thread looks at the file's date every few seconds and reads it when it has changed and then
stood still, so that one that is being written is left alone; a signal makes it look at once.
A file that cannot be used is refused in the log, and what was in force stays in force.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

import structlog

from node.config_file import ConfigError

log = structlog.get_logger(__name__)

# One look costs some microseconds; a change is in force in twice this time.
LOOK_SECONDS = 1.0

Signature = tuple[int, int, int] | None
"""What tells one state of a file from another; None where there is no file."""


class CodesWatch:
    """Calls ``take_over`` whenever ``file`` has changed, or when told to.

    ``take_over`` reads the file and puts it in force, or raises ConfigError.
    """

    def __init__(self, file: Path | str, take_over: Callable[[], object]) -> None:
        self._file = file
        self._take_over = take_over
        self._stopping = threading.Event()
        self._told = False
        # The file may have changed since the process read it first: the first look reads again.
        self._taken: Signature = None
        self._seen = _signature(file)
        self._thread = threading.Thread(target=self._run, name="codes watch", daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def tell(self) -> None:
        """Read the file at the next look whether it has changed or not; for signal handlers."""
        self._told = True

    def stop(self) -> None:
        """Look no more."""
        self._stopping.set()
        self._thread.join()

    def look(self) -> None:
        """Take the file over if there is reason to."""
        before, self._seen = self._seen, _signature(self._file)
        settled = self._seen == before and self._seen != self._taken
        if settled or self._told:
            self._told = False
            self._taken = self._seen
            self._read()

    def _run(self) -> None:
        while not self._stopping.wait(LOOK_SECONDS):
            self.look()

    def _read(self) -> None:
        try:
            self._take_over()
        except ConfigError as error:
            log.error(
                "code sets refused, the old ones stay",
                code="NODE-CODES-REFUSED",
                problem=str(error),
            )
        else:
            log.info("code sets in force", code="NODE-CODES", file=str(self._file))


def _signature(file: Path | str) -> Signature:
    try:
        found = os.stat(file)
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns
