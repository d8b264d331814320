"""Instances handed to the process that writes the index by those that may not.

An embedded database has one writing process, and an index has one place where arrivals are
judged: the process ``dicom``. Whoever takes instances in elsewhere (STOW-RS, import) makes their
files durable in the common blob store, then hands what the index needs to know over a Unix
socket, and hears what became of each after the commit. One line of JSON each way: see ``_packed``.
By the same way studies are asked for that are with an archive alone (``imaging_source.recalling``):
an object names studies and what is wanted, and is answered when that is done.
"""

from __future__ import annotations

import json
import os
import socket
import struct
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import structlog

from imaging_source.header import Header
from imaging_source.index import Arrived, Verdict
from imaging_source.intake import Door
from imaging_source.recalling import Asker
from imaging_source.rejection import Note, Reference
from manifest.model import Patient, Study
from storage.blobs import BlobStore
from storage.errors import DatabaseBusy, StorageError
from storage.faultpoints import reach

_log = structlog.get_logger("kosmos.imaging_source")

NAME = "index.sock"

# A commit takes milliseconds; a database that is busy says so after 30 s at most.
SECONDS = 60.0

# What is asked of the process that writes the index.
_RECALL, _BEGIN, _NOTE_USE = "recall", "begin", "use"
# A commit, and the way there and back.
_MORE_SECONDS = 5.0

# How long the door rests when it could not open: the next moment may be no better.
_PAUSE_SECONDS = 0.1

# What is handed over at once: some 2 KB each.
MOST = 200
_LINE_LIMIT = 16 * 1024 * 1024

_CREDENTIALS = struct.Struct("3i")


class IndexDoor:
    """Listens in ``folder`` for instances to index through ``door``; use as a context manager.

    ``asker`` is given what other processes ask for.
    """

    def __init__(self, door: Door, folder: Path, asker: Asker | None = None) -> None:
        """Raises OSError when there can be no socket in ``folder``."""
        self._door = door
        self._asker = asker
        self._name = folder / NAME
        folder.mkdir(parents=True, exist_ok=True)
        self._name.unlink(missing_ok=True)  # of a process that has died
        self._socket = socket.socket(socket.AF_UNIX)
        with _short(folder) as place:
            self._socket.bind(place)
        self._socket.listen()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._accept, name="index door", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._closing.set()
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._name.unlink(missing_ok=True)
        self._thread.join()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:  # closed by us, or there are no descriptors left for now
                if self._closing.wait(_PAUSE_SECONDS):
                    return
                continue
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rwb") as stream, suppress(OSError):
            connection.settimeout(SECONDS)
            if not _is_ours(connection):
                return
            line = stream.readline(_LINE_LIMIT)
            if line.endswith(b"\n"):
                stream.write(json.dumps(self._answer(line)).encode() + b"\n")

    def _answer(self, line: bytes) -> list[str] | None:
        """The verdicts; None when the index could not take them."""
        message = json.loads(line)
        if isinstance(message, dict):
            self._ask(**message)
            return []
        arrived = [_unpacked(one) for one in message]
        try:
            verdicts = [verdict.value for verdict in self._door.index(arrived)]
            reach("handover.indexed")
        except (StorageError, OSError) as error:
            _log.error("instances not indexed", code="imaging-index", error=type(error).__name__)
            return None
        return verdicts

    def _ask(self, studies: list[str], wanted: str) -> None:
        if self._asker is None:
            return
        if wanted == _BEGIN:
            self._asker.begin(studies)
            return
        for one in studies:
            self._asker.recall(one) if wanted == _RECALL else self._asker.note_use(one)


class DistantIntake(Door):
    """The door of a process that does not write the index: hands over to the one that does."""

    def __init__(self, blobs: BlobStore, folder: Path) -> None:
        super().__init__(blobs)
        self._folder = folder

    def index(self, arrived: Sequence[Arrived]) -> list[Verdict]:
        """See ``Door``; DatabaseBusy too when the outcome is not known: hand over again."""
        verdicts: list[Verdict] = []
        for start in range(0, len(arrived), MOST):
            verdicts += self._hand_over(arrived[start : start + MOST])
        return verdicts

    def _hand_over(self, arrived: Sequence[Arrived]) -> list[Verdict]:
        try:
            answer = _told(self._folder, [_packed(one) for one in arrived], SECONDS)
        except (OSError, ValueError) as error:
            raise DatabaseBusy("the process that writes the index does not answer") from error
        if answer is None:
            raise DatabaseBusy("the index takes nothing now")
        return [Verdict(one) for one in answer]


class DistantRecaller:
    """The ``Asker`` of a process that does not write the index; ``seconds`` as its recaller's.

    At most ``most`` askers wait for a study at the same time; the others are told "not now".
    """

    def __init__(self, folder: Path, seconds: float, most: int) -> None:
        self._folder = folder
        self._seconds = seconds
        self._places = threading.BoundedSemaphore(most)

    def recall(self, study: str) -> None:
        """See ``Asker``."""
        if self._places.acquire(blocking=False):
            try:
                self._ask([study], _RECALL, self._seconds + _MORE_SECONDS)
            finally:
                self._places.release()

    def begin(self, studies: Sequence[str]) -> None:
        """See ``Asker``."""
        self._ask(studies, _BEGIN, _MORE_SECONDS)

    def note_use(self, study: str) -> None:
        """See ``Asker``."""
        self._ask([study], _NOTE_USE, _MORE_SECONDS)

    def _ask(self, studies: Sequence[str], wanted: str, seconds: float) -> None:
        try:
            _told(self._folder, {"studies": studies, "wanted": wanted}, seconds)
        except (OSError, ValueError) as error:
            _log.warning("not asked", code="imaging-recall", error=type(error).__name__)


def _told(folder: Path, message: Any, seconds: float) -> Any:
    """The answer of the process that writes the index. Raises OSError and ValueError."""
    with socket.socket(socket.AF_UNIX) as connection, _short(folder) as place:
        connection.settimeout(seconds)
        connection.connect(place)
        connection.sendall(json.dumps(message).encode() + b"\n")
        with connection.makefile("rb") as stream:
            return json.loads(stream.readline(_LINE_LIMIT))


@contextmanager
def _short(folder: Path) -> Iterator[str]:
    """The socket's name by way of a descriptor: the whole path may exceed its 107 bytes."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{descriptor}/{NAME}"
    finally:
        os.close(descriptor)


def _is_ours(connection: socket.socket) -> bool:
    """Whether the peer is a process of the same user: any path to the socket is open to more."""
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    return _CREDENTIALS.unpack(raw)[1] in (os.getuid(), 0)


def _packed(arrived: Arrived) -> dict[str, Any]:
    return asdict(arrived)


def _unpacked(data: dict[str, Any]) -> Arrived:
    header = data.pop("header")
    study = header.pop("study")
    patient = Patient(**study.pop("patient"))
    note = data.pop("note")
    return Arrived(
        header=Header(study=Study(patient=patient, **study), **header),
        note=None if note is None else _note(note),
        **data,
    )


def _note(data: dict[str, Any]) -> Note:
    references = tuple(Reference(**one) for one in data.pop("references"))
    return Note(references=references, **data)
