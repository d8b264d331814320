"""Taking over changed files while a process serves: code sets, certificates.

A thread looks at the files' dates every few seconds and has them read when one has changed and
then all have stood still, so that what is being written is left alone; a signal makes it look at
once. What cannot be used is refused in the log, and what was in force stays in force.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import structlog

from node.config_file import ConfigError
from security.trust import TlsError

log = structlog.get_logger(__name__)

# One look costs some microseconds; a change is in force in twice this time.
LOOK_SECONDS = 1.0

Signature = tuple[int, int, int] | None
"""What tells one state of a file from another; None where there is no file."""


class Watch:
    """Calls ``take_over`` whenever one of ``files`` has changed, or when told to.

    ``take_over`` reads them and puts them in force, or raises ConfigError or TlsError. ``what``
    they are is said in the log, under ``code`` or ``refused``. Of a folder the files in it count.
    """

    def __init__(
        self,
        what: str,
        code: str,
        refused: str,
        files: Sequence[Path | str],
        take_over: Callable[[], object],
    ) -> None:
        self._what = what
        self._code, self._refused = code, refused
        self._files = files
        self._take_over = take_over
        self.then: Callable[[], object] = lambda: None
        """What is called when they are in force."""
        self._stopping = threading.Event()
        self._told = False
        # They may have changed since the process read them first: the first look reads again.
        self._taken: list[Signature] = []
        self._seen = _signatures(files)
        self._thread = threading.Thread(target=self._run, name=f"{what} watch", daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def tell(self) -> None:
        """Read at the next look whether something has changed or not; for signal handlers."""
        self._told = True

    def stop(self) -> None:
        """Look no more."""
        self._stopping.set()
        self._thread.join()

    def look(self) -> None:
        """Take the files over if there is reason to."""
        before, self._seen = self._seen, _signatures(self._files)
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
        except (ConfigError, TlsError) as error:
            log.error(
                f"{self._what} refused, the old ones stay",
                code=self._refused,
                problem=str(error),
            )
        else:
            log.info(f"{self._what} in force", code=self._code, file=str(self._files[0]))
            self.then()


def _signatures(files: Sequence[Path | str]) -> list[Signature]:
    found = []
    for file in files:
        found.append(_signature(file))
        if os.path.isdir(file):
            found += [_signature(one) for one in sorted(Path(file).iterdir())]
    return found


def _signature(file: Path | str) -> Signature:
    try:
        state = os.stat(file)
    except OSError:
        return None
    return state.st_ino, state.st_size, state.st_mtime_ns


@contextmanager
def watching(
    *watches: Watch, then: Callable[[], object] | None = None
) -> Iterator[Callable[[], None]]:
    """Look until the block ends; gives what tells all of them, for a signal handler. ``then`` is
    called whenever something was taken over."""

    def tell() -> None:
        for watch in watches:
            watch.tell()

    for watch in watches:
        if then is not None:
            watch.then = then
        watch.start()
    try:
        yield tell
    finally:
        for watch in watches:
            watch.stop()
