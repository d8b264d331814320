"""Bytes arriving: a temporary file, hashed on the way, synced before it is handed over.

With a keeper of keys the file is sealed while it is written (``storage.sealed``): hashes and sizes
are those of the bytes that arrived, which never lie on the disk as they are.

Every store of blobs has one folder of such files, on a local disk, from which it keeps them
under their address. This module counts failed syncs and watches the room on that disk.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeGuard

from blake3 import blake3

from storage.errors import BlobStoreUnavailable, StorageError, from_os_error
from storage.files import FileContent
from storage.keys import Keeper
from storage.sealed import HEADER_BYTES, SUFFIX, Seal, Sealer, stored_size
from storage.space import LowWaterMark

# Arriving pieces are gathered up to this size before they are hashed and written.
GATHER_BYTES = 1024 * 1024

# Content that gets nothing but its address is written in pieces of this size, while its sender
# makes the next ones: a C-STORE of 512 KiB is on its way to the disk before its last byte came.
ADDRESSED_BYTES = 64 * 1024

# Pieces of this size get their SHA-1 in another thread, beside SHA-256 and the writing: each
# hash takes 0.8 ms for 1 MiB, the hand-over 0.05 ms.
BESIDE_BYTES = 1024 * 1024

# The interpreter's lock is not held while a large piece is hashed: every core can work.
_hashers = ThreadPoolExecutor(os.cpu_count(), "hash")

# What has been written is sent to the disk in the background each time it comes to this much,
# so that the sync at the end of a large file finds little left to do.
FLUSH_BYTES = 64 * 1024 * 1024

# Two at a time keep a disk busy; more would only queue up there.
_flushers = ThreadPoolExecutor(2, "flush")

# A second failing sync within this time stops all writing until the store is opened
# anew: after a failed sync the kernel may drop the pages it could not write.
SYNC_FAILURE_WINDOW_SECONDS = 600.0


class Content(Protocol):
    """What can be kept: see ``soap.message.Content``."""

    def chunks(self) -> Iterator[bytes]:
        """The bytes, in pieces."""


@dataclass(slots=True)
class SpooledFile:
    """Bytes that have arrived in a store's ``tmp``, waiting to be kept or discarded.

    ``blake3`` is empty for content of less than GATHER_BYTES. Without a ``descriptor`` the bytes
    are synced; with one they are to be synced by it. With a ``seal`` they are sealed by it.
    """

    folder: Path
    path: Path
    size: int
    sha1: str
    sha256: str
    blake3: str = ""
    descriptor: int | None = None
    seal: Seal | None = None

    @property
    def name(self) -> str:
        """What the file is called once it is kept."""
        return self.sha256 if self.seal is None else self.sha256 + SUFFIX

    @property
    def stored(self) -> int:
        """The size of the file."""
        return self.size if self.seal is None else stored_size(self.size)

    def sync(self) -> None:
        """Sync the bytes if that has not been done; OSError when it fails."""
        if self.descriptor is not None:
            descriptor, self.descriptor = self.descriptor, None
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    @property
    def content(self) -> FileContent:
        """The bytes, where they are now."""
        return FileContent(self.path, self.size, self.seal)

    def chunks(self) -> Iterator[bytes]:
        """The bytes, in pieces of 256 KiB; still readable after ``keep`` moved them."""
        return self.content.chunks()

    def discard(self) -> None:
        """Remove the temporary file; does nothing once the bytes are kept."""
        if self.descriptor is not None:
            os.close(self.descriptor)
            self.descriptor = None
        if self.path.name != self.name:
            self.path.unlink(missing_ok=True)


class FileSpool:
    """A temporary file being written, hashed (SHA-1 and SHA-256) on the way.

    Large content gets a BLAKE3, too, by which it is proved whenever it is read: SHA-256, the
    address, takes four times as long (0.58 against 0.15 ms for 1 MiB).

    With ``addressed`` it gets no hash but its address, and is handed over before it is synced;
    with a ``keeper`` it is sealed.

    Any failure removes the file; ``OutOfSpace`` or ``BlobStoreUnavailable`` tells why.
    """

    def __init__(
        self,
        folder: SpoolFolder,
        path: Path,
        addressed: bool = False,
        keeper: Keeper | None = None,
    ) -> None:
        self._folder = folder
        self._path = path
        self._addressed = addressed
        self._piece = ADDRESSED_BYTES if addressed else GATHER_BYTES
        self._sha1 = hashlib.sha1(usedforsecurity=False)
        self._sha256 = hashlib.sha256()
        self._blake3: blake3 | None = None
        self._size = 0
        self._keeper = keeper
        self._sealer = None if keeper is None else Sealer(keeper)
        self._gathered = bytearray()
        self._filled = 0
        self._flushed = 0
        self._flush: Future[None] | None = None
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        try:
            self._descriptor = os.open(path, flags, 0o600)
        except OSError as error:
            raise from_os_error(error, "creating a temporary file") from error
        if self._sealer is not None:
            self._put_out(bytes(HEADER_BYTES))  # its place: it is made when the address is known

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Take the next bytes."""
        if len(data) >= self._piece and not self._filled:
            self._put(data)
            return
        end = self._filled + len(data)
        self._gathered[self._filled : end] = data  # in place, once the buffer has grown
        self._filled = end
        if end >= self._piece:
            self._put_gathered()

    def finish(self) -> SpooledFile:
        """Hand the file over, synced; an ``addressed`` one with the descriptor that syncs it."""
        self._put_gathered()
        seal = self._finish_seal()
        descriptor = None
        try:
            if self._flush is not None:
                self._flush.result()
            if self._addressed:
                descriptor, self._descriptor = self._descriptor, -1
            else:
                os.fsync(self._descriptor)
                self._close()
        except OSError as error:
            raise self._sync_failed(error) from error
        return SpooledFile(
            self._folder.path,
            self._path,
            self._size,
            "" if self._addressed else self._sha1.hexdigest(),
            self._sha256.hexdigest(),
            self._blake3.hexdigest() if self._blake3 else "",
            descriptor,
            seal,
        )

    def abort(self) -> None:
        """Forget what was written; safe to call twice."""
        if self._descriptor >= 0:
            self._close()
            self._path.unlink(missing_ok=True)

    def _close(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        if self._flush is not None:
            wait([self._flush])
        os.close(descriptor)

    def _finish_seal(self) -> Seal | None:
        """Write the last chunk and the header of a file that is sealed."""
        if self._sealer is None or self._keeper is None:
            return None
        address = self._sha256.hexdigest()
        self._put_out(self._sealer.finish())
        try:
            os.pwrite(self._descriptor, self._sealer.header(address), 0)
        except OSError as error:
            self.abort()
            raise from_os_error(error, "writing a temporary file") from error
        except StorageError:
            self.abort()
            raise
        return Seal(self._keeper, address)

    def _put_gathered(self) -> None:
        filled, self._filled = self._filled, 0
        if filled:
            with memoryview(self._gathered) as gathered, gathered[:filled] as data:
                self._put(data)

    def _put(self, data: bytes | bytearray | memoryview) -> None:
        if self._addressed:
            self._sha256.update(data)
            self._write_out(data)
            return
        if not self._size and len(data) >= GATHER_BYTES:
            self._blake3 = blake3()
        beside = _hashers.submit(self._hash, data) if len(data) >= BESIDE_BYTES else None
        try:
            self._sha256.update(data)
            self._write_out(data)
        finally:
            if beside is None:
                self._hash(data)
            else:
                beside.result()

    def _hash(self, data: bytes | bytearray | memoryview) -> None:
        """The hashes that are taken beside the address."""
        self._sha1.update(data)
        if self._blake3 is not None:
            self._blake3.update(data)

    def _write_out(self, data: bytes | bytearray | memoryview) -> None:
        self._size += len(data)
        for piece in [data] if self._sealer is None else self._sealer.update(data):
            self._put_out(piece)
        self._flush_behind()

    def _put_out(self, data: bytes | bytearray | memoryview) -> None:
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]
        except OSError as error:
            self.abort()
            raise from_os_error(error, "writing a temporary file") from error

    def _flush_behind(self) -> None:
        """Begin to sync what has gathered in memory, unless the last time is not over."""
        idle = self._flush is None or self._flush.done()
        if idle and self._size - self._flushed >= FLUSH_BYTES:
            error = self._flush.exception() if self._flush is not None else None
            if isinstance(error, OSError):
                raise self._sync_failed(error) from error
            self._flushed = self._size
            self._flush = _flushers.submit(os.fdatasync, self._descriptor)

    def _sync_failed(self, error: OSError) -> StorageError:
        self.abort()
        self._folder.sync_failed()
        return from_os_error(error, "syncing a temporary file")


class SpoolFolder:
    """The temporary files of one store; any number of processes may use one folder."""

    def __init__(
        self, path: Path, low_water: LowWaterMark | None = None, keeper: Keeper | None = None
    ) -> None:
        self.path = path
        self._keeper = keeper
        self._low_water = low_water or LowWaterMark()
        self._last_sync_failure: float | None = None
        self._read_only = False

    def spool(self, addressed: bool = False) -> FileSpool:
        """A new temporary file: see ``FileSpool``; OutOfSpace below the low-water mark."""
        if self._read_only:
            raise BlobStoreUnavailable("syncing failed twice: the store takes no more bytes")
        self._low_water.check(self.path)
        name = secrets.token_hex(16) + ("" if self._keeper is None else SUFFIX)
        return FileSpool(self, self.path / name, addressed, self._keeper)

    def receive(self, content: Content) -> SpooledFile:
        """The content as a file spooled in this folder: itself, or a copy made now."""
        if self.owns(content):
            return content
        spool = self.spool()
        try:
            for piece in content.chunks():
                spool.write(piece)
        except BaseException:
            spool.abort()
            raise
        return spool.finish()

    def owns(self, content: Content) -> TypeGuard[SpooledFile]:
        """Whether the content was spooled in this folder."""
        return isinstance(content, SpooledFile) and content.folder == self.path

    def sweep(self, older_than: float, spare: str = "") -> int:
        """Remove files untouched for ``older_than`` seconds; how many there were.

        Names that begin with ``spare`` are not ours.
        """
        limit = time.time() - older_than
        removed = 0
        for entry in os.scandir(self.path):
            with suppress(FileNotFoundError):
                if not (spare and entry.name.startswith(spare)) and entry.stat().st_mtime < limit:
                    os.unlink(entry.path)
                    removed += 1
        return removed

    def sync_failed(self) -> None:
        """Note a failed sync; the second within ten minutes makes the store read-only."""
        now = time.monotonic()
        last, self._last_sync_failure = self._last_sync_failure, now
        if last is not None and now - last < SYNC_FAILURE_WINDOW_SECONDS:
            self._read_only = True
