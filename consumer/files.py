"""Bytes on their way to a file: written beside it, made durable, then renamed into place.

A file that has its final name is complete: whoever was interrupted can go on from what is
there. Nothing here knows what the bytes mean, except for the one look into a DICOM file.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import struct
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from consumer.errors import NotWritten

_CHUNK = 1 << 20  # soap.message.Content hands out at most 1 MiB at a time

# Where PS3.10 7.1 puts the magic word, and enough of the file to hold what follows it up to
# (0002,0003), the fourth element of the File Meta Information.
_MAGIC = slice(128, 132)
_HEAD = 4096
_LONG_FORM = (b"OB", b"UN", b"OW", b"UT")  # VRs of group 0002 with a 32-bit length
_SOP_INSTANCE_UID = (0x0002, 0x0003)


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
    """A spool that writes into a nameless file of ``folder`` (soap.message.Spool).

    ``finished`` is told the size when all bytes have arrived.
    """

    def __init__(self, folder: Path, finished: Callable[[int], None] | None = None) -> None:
        with _writing_to(folder):
            handle, name = tempfile.mkstemp(prefix=".part-", dir=folder)
        self._file = os.fdopen(handle, "wb")
        self._path = Path(name)
        self._finished = finished

    def write(self, data: bytes) -> None:
        """Take the next bytes."""
        with _writing_to(self._path.parent):
            self._file.write(data)

    def finish(self) -> CompleteFile:
        """Make the bytes durable and hand them over."""
        with _writing_to(self._path.parent), self._file as file:
            file.flush()
            os.fsync(file.fileno())
            size = file.tell()
        if self._finished is not None:
            self._finished(size)
        return CompleteFile(self._path, size)

    def abort(self) -> None:
        """Forget what was written."""
        with contextlib.suppress(OSError):  # what could not be written is not wanted any more
            self._file.close()
        self._path.unlink(missing_ok=True)


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


def sop_instance_uid(path: Path) -> str | None:
    """The SOP Instance UID that a DICOM file states in its File Meta Information.

    None for a file that is not in the form of PS3.10 7.1.
    """
    with path.open("rb") as file:
        head = file.read(_HEAD)
    if head[_MAGIC] != b"DICM":
        return None
    position = _MAGIC.stop
    try:
        while True:
            tag = struct.unpack_from("<HH", head, position)
            long_form = head[position + 4 : position + 6] in _LONG_FORM
            (length,) = struct.unpack_from(
                "<I" if long_form else "<H", head, position + (8 if long_form else 6)
            )
            start = position + (12 if long_form else 8)
            if tag >= _SOP_INSTANCE_UID:
                found = tag == _SOP_INSTANCE_UID
                return head[start : start + length].decode("ascii").rstrip("\0 ") if found else None
            position = start + length
    except (struct.error, UnicodeDecodeError):
        return None
