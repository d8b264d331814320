"""Bytes on their way to a file: written beside it, made durable, then renamed into place.

A file that has its final name is complete: whoever was interrupted can go on from what is
there. Nothing here knows what the bytes mean: ``consumer.instance`` does.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from io import BufferedWriter
from pathlib import Path

from consumer.errors import NotWritten, TooLarge, TooSlow

_CHUNK = 1 << 20  # soap.message.Content hands out at most 1 MiB at a time


@dataclass(frozen=True, slots=True)
class Allowance:
    """What one file may cost: a body of N bytes may take ``grace + N / rate`` seconds.

    ``most_bytes`` is more than the largest multi-frame objects have; ``grace`` and ``rate`` cut a
    peer that drips bytes, and not a slow line (as ``soap.limits`` does for servers).
    """

    most_bytes: int = 16 * 1024**3
    grace: float = 30.0
    rate: int = 16 * 1024


@contextlib.contextmanager
def _writing_to(folder: Path) -> Iterator[None]:
    """Say a failure of the disk as our own, so that nobody takes it for the peer's."""
    try:
        yield
    except OSError as error:
        raise NotWritten(f"cannot write to {folder}: {error.strerror}") from error


def make_durable(folder: Path) -> None:
    """Make the names in ``folder`` survive a power cut."""
    with _writing_to(folder):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


class PartialFile:
    """A spool that writes into a nameless file of ``folder`` (soap.message.Spool)."""

    def __init__(self, folder: Path, allowance: Allowance | None = None) -> None:
        with _writing_to(folder):
            handle, name = tempfile.mkstemp(prefix=".part-", dir=folder)
        self._open(os.fdopen(handle, "wb"), Path(name), allowance)

    def _open(self, file: BufferedWriter, path: Path, allowance: Allowance | None) -> None:
        self._file = file
        self._path = path
        self._allowance = allowance or Allowance()
        self._started = time.monotonic()
        self._arrived = 0

    def write(self, data: bytes) -> None:
        """Take the next bytes. Raises NotWritten, TooLarge and TooSlow."""
        self._arrived += len(data)
        if self._arrived > self._allowance.most_bytes:
            raise TooLarge(f"more than {self._allowance.most_bytes} bytes came for one file")
        patience = self._allowance.grace + self._arrived / self._allowance.rate
        if time.monotonic() - self._started > patience:
            raise TooSlow(f"{self._arrived} bytes came in more than {patience:.0f} seconds")
        with _writing_to(self._path.parent):
            self._file.write(data)

    def finish(self) -> CompleteFile:
        """Make the bytes durable and hand them over."""
        with _writing_to(self._path.parent), self._file as file:
            file.flush()
            os.fsync(file.fileno())
            return CompleteFile(self._path, file.tell())

    def abort(self) -> None:
        """Forget what was written."""
        self._close()
        self._path.unlink(missing_ok=True)

    def _close(self) -> None:
        with contextlib.suppress(OSError):  # what could not be written is not wanted any more
            self._file.close()


class HalfFile(PartialFile):
    """A spool whose bytes outlive an interruption, to be continued by a Range request.

    Beside them lies the ETag of what they are the beginning of: what has another ETag by then is
    fetched anew.
    """

    def __init__(self, target: Path, etag: str, *, resume: bool, allowance: Allowance) -> None:
        path = _half(target)
        with _writing_to(target.parent):
            target.parent.mkdir(parents=True, exist_ok=True)
            _etag_of(target).write_text(etag)
            self._open(path.open("ab" if resume else "wb"), path, allowance)

    def abort(self) -> None:
        """Keep what was written for the next attempt."""
        self._close()

    @staticmethod
    def of(target: Path) -> tuple[int, str] | None:
        """Bytes and ETag of what is there of ``target`` already."""
        try:
            return _half(target).stat().st_size, _etag_of(target).read_text()
        except OSError:
            return None

    @staticmethod
    def forget(target: Path) -> None:
        """Remove what is there of ``target``."""
        _half(target).unlink(missing_ok=True)
        _etag_of(target).unlink(missing_ok=True)


def _half(target: Path) -> Path:
    return target.with_name(f".{target.name}.part")


def _etag_of(target: Path) -> Path:
    return target.with_name(f".{target.name}.etag")


class CompleteFile:
    """Content that has arrived in a file (soap.message.Received); hashed when asked."""

    def __init__(self, path: Path, size: int) -> None:
        self.path = path
        self.size = size
        self._kept = False

    @property
    def sha1(self) -> str:
        """SHA-1 in lower-case hex."""
        return self._digest("sha1")

    @property
    def sha256(self) -> str:
        """SHA-256 in lower-case hex."""
        return self._digest("sha256")

    def chunks(self) -> Iterator[bytes]:
        """The bytes from the start."""
        with self.path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                yield chunk

    def keep(self, target: Path) -> None:
        """Give the file its final name, replacing what is there.

        The name is durable after ``make_durable`` of its folder; the bytes are already.
        """
        with _writing_to(target.parent):
            target.parent.mkdir(parents=True, exist_ok=True)
            os.replace(self.path, target)
            self.path = target
            self._kept = True

    def discard(self) -> None:
        """Remove the file unless it was kept."""
        if not self._kept:
            self.path.unlink(missing_ok=True)

    def _digest(self, algorithm: str) -> str:
        digest = hashlib.new(algorithm, usedforsecurity=False)
        for chunk in self.chunks():
            digest.update(chunk)
        return digest.hexdigest()
