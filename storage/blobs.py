"""Bytes on disk: written once, found by their SHA-256, re-hashed when they are served.

Layout: ``root/tmp/<random>`` while bytes arrive, ``root/ab/<sha256>`` once kept, where
``ab`` are the first two hex digits. All 256 folders exist from the start, because a
folder made on the way costs a second fsync of its parent: 0.85k instead of 1.5k kept
documents of 100 KB per second.

What is kept is durable: the file's bytes are synced, then its name is moved into place,
then the folder is synced. Equal bytes have one address, so keeping them twice, even from
two machines, leaves one file. This module knows nothing of documents or identifiers.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from storage.errors import (
    BlobCorrupt,
    BlobMissing,
    BlobStoreUnavailable,
    StorageError,
    from_os_error,
)
from storage.space import LowWaterMark

# Pieces read from disk: large enough that hashing runs without the interpreter's lock
# and a system call is noise, small enough to stay in a core's cache.
CHUNK_BYTES = 256 * 1024

# Arriving pieces are gathered up to this size before they are hashed and written.
GATHER_BYTES = 1024 * 1024

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

_ADDRESS = re.compile(r"[0-9a-f]{64}")
_SHARDS = tuple(f"{number:02x}" for number in range(256))
_REMOVING = "removing-"


class Content(Protocol):
    """What can be kept: see ``soap.message.Content``."""

    def chunks(self) -> Iterator[bytes]:
        """The bytes, in pieces."""


def _read(path: Path) -> Iterator[bytes]:
    try:
        with open(path, "rb", buffering=0) as file:
            while piece := file.read(CHUNK_BYTES):
                yield piece
    except FileNotFoundError as error:
        raise BlobMissing(path.name) from error
    except OSError as error:
        raise from_os_error(error, f"reading {path.name}") from error


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@dataclass(frozen=True, slots=True)
class FileContent:
    """A file's bytes as they are, not hashed again."""

    path: Path
    size: int

    def chunks(self) -> Iterator[bytes]:
        """The bytes, in pieces of 256 KiB."""
        return _read(self.path)


@dataclass(frozen=True, slots=True)
class Blob:
    """Kept bytes; reading them proves that they still are what they were."""

    path: Path
    sha256: str
    size: int

    def chunks(self) -> Iterator[bytes]:
        """The bytes in pieces of 256 KiB, hashed on the way.

        Raises BlobCorrupt in place of the last piece if the hash is not the address, so
        that a reader who counts bytes never takes a corrupt blob for a complete one.
        """
        digest = hashlib.sha256()
        held: bytes | None = None
        for piece in _read(self.path):
            digest.update(piece)
            if held is not None:
                yield held
            held = piece
        if digest.hexdigest() != self.sha256:
            raise BlobCorrupt(self.sha256)
        if held is not None:
            yield held

    def verified(self) -> FileContent:
        """The bytes, proved now, for reading without hashing again.

        Raises BlobCorrupt if the hash is not the address, BlobMissing if the file is gone.
        """
        for _ in self.chunks():
            pass
        return FileContent(self.path, self.size)


@dataclass(frozen=True, slots=True)
class StoredBlob:
    """One line of the store's inventory; ``kept_at`` in seconds since the epoch."""

    sha256: str
    size: int
    kept_at: float


@dataclass(slots=True)
class SpooledFile:
    """Bytes that have arrived in a store's ``tmp``, synced, waiting to be kept or discarded."""

    root: Path
    path: Path
    size: int
    sha1: str
    sha256: str

    def chunks(self) -> Iterator[bytes]:
        """The bytes, in pieces of 256 KiB; still readable after ``keep`` moved them."""
        return _read(self.path)

    def discard(self) -> None:
        """Remove the temporary file; does nothing once the bytes are kept."""
        if self.path.name != self.sha256:
            self.path.unlink(missing_ok=True)


class FileSpool:
    """A temporary file being written, hashed (SHA-1 and SHA-256) on the way.

    Any failure removes the file; ``OutOfSpace`` or ``BlobStoreUnavailable`` tells why.
    """

    def __init__(self, store: BlobStore, path: Path) -> None:
        self._store = store
        self._path = path
        self._sha1 = hashlib.sha1(usedforsecurity=False)
        self._sha256 = hashlib.sha256()
        self._size = 0
        self._gathered = bytearray()
        self._filled = 0
        self._flushed = 0
        self._flush: Future[None] | None = None
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        try:
            self._descriptor = os.open(path, flags, 0o600)
        except OSError as error:
            raise from_os_error(error, "creating a temporary file") from error

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Take the next bytes."""
        if len(data) >= GATHER_BYTES and not self._filled:
            self._put(data)
            return
        end = self._filled + len(data)
        self._gathered[self._filled : end] = data  # in place, once the buffer has grown
        self._filled = end
        if end >= GATHER_BYTES:
            self._put_gathered()

    def finish(self) -> SpooledFile:
        """Sync the file and hand it over."""
        self._put_gathered()
        try:
            if self._flush is not None:
                self._flush.result()
            os.fsync(self._descriptor)
        except OSError as error:
            raise self._sync_failed(error) from error
        self._close()
        sha1, sha256 = self._sha1.hexdigest(), self._sha256.hexdigest()
        return SpooledFile(self._store.root, self._path, self._size, sha1, sha256)

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

    def _put_gathered(self) -> None:
        filled, self._filled = self._filled, 0
        if filled:
            with memoryview(self._gathered) as gathered, gathered[:filled] as data:
                self._put(data)

    def _put(self, data: bytes | bytearray | memoryview) -> None:
        beside = _hashers.submit(self._sha1.update, data) if len(data) >= BESIDE_BYTES else None
        try:
            self._sha256.update(data)
            self._write_out(data)
        finally:
            if beside is None:
                self._sha1.update(data)
            else:
                beside.result()

    def _write_out(self, data: bytes | bytearray | memoryview) -> None:
        self._size += len(data)
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]
        except OSError as error:
            self.abort()
            raise from_os_error(error, "writing a temporary file") from error
        self._flush_behind()

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
        self._store.sync_failed()
        return from_os_error(error, "syncing a temporary file")


class BlobStore:
    """The blobs below ``root``; any number of processes may use one folder."""

    def __init__(self, root: Path, low_water: LowWaterMark | None = None) -> None:
        """Open the store, making its folders on first use.

        Raises OutOfSpace or BlobStoreUnavailable if the folders cannot be made.
        """
        self.root = root
        self._temporary = root / "tmp"
        self._low_water = low_water or LowWaterMark()
        self._last_sync_failure: float | None = None
        self._read_only = False
        try:
            self._make_folders()
            self._restore_interrupted_removals()
        except OSError as error:
            raise from_os_error(error, f"opening the blob store {root}") from error

    def spool(self) -> FileSpool:
        """A new temporary file; OutOfSpace below the low-water mark."""
        if self._read_only:
            raise BlobStoreUnavailable("syncing failed twice: the store takes no more bytes")
        self._low_water.check(self.root)
        return FileSpool(self, self._temporary / secrets.token_hex(16))

    def receive(self, content: Content) -> SpooledFile:
        """The content as a file spooled in this store: itself, or a copy made now."""
        if isinstance(content, SpooledFile) and content.root == self.root:
            return content
        spool = self.spool()
        try:
            for piece in content.chunks():
                spool.write(piece)
        except BaseException:
            spool.abort()
            raise
        return spool.finish()

    def keep(self, content: Content) -> Blob:
        """Make bytes permanent under their address; idempotent.

        The new file takes the place of an equal one already there: that heals a copy the
        disk has damaged, and makes the blob young again in the eyes of a sweep. Content
        that was not spooled here is copied first.
        """
        spooled = self.receive(content)
        target = self._path(spooled.sha256)
        try:
            if spooled.path == target:  # kept before by the same caller
                os.utime(target)
            else:
                os.replace(spooled.path, target)
        except FileNotFoundError as error:
            raise BlobMissing(spooled.sha256) from error
        except OSError as error:
            raise from_os_error(error, "moving a blob into place") from error
        spooled.path = target
        self._sync(target.parent)
        return Blob(target, spooled.sha256, spooled.size)

    def open(self, sha256: str) -> Blob:
        """The blob of this address; raises BlobMissing."""
        path = self._path(sha256)
        try:
            return Blob(path, sha256, path.stat().st_size)
        except FileNotFoundError as error:
            raise BlobMissing(sha256) from error
        except OSError as error:
            raise from_os_error(error, f"opening {sha256}") from error

    def holds(self, sha256: str) -> bool:
        """Whether the blob is there, out of reach of any removal that is under way."""
        return self._path(sha256).exists()

    def delete(self, sha256: str) -> None:
        """Remove a blob; does nothing if there is none."""
        path = self._path(sha256)
        path.unlink(missing_ok=True)
        self._sync(path.parent)

    def delete_if_older(self, sha256: str, seconds: float) -> bool:
        """Remove a blob unless it was kept again in the last ``seconds``; whether it went."""
        return self._delete(sha256, lambda aside: time.time() - aside.stat().st_mtime < seconds)

    def delete_unless(self, sha256: str, needed: Callable[[], bool]) -> bool:
        """Remove a blob unless it is ``needed``, asked once it is out of reach; whether it went."""
        return self._delete(sha256, lambda _aside: needed())

    def inventory(self) -> Iterator[StoredBlob]:
        """Every blob, in the order of addresses within each of the 256 folders."""
        for shard in _SHARDS:
            for entry in sorted(os.scandir(self.root / shard), key=lambda entry: entry.name):
                with suppress(FileNotFoundError):  # deleted since the folder was listed
                    state = entry.stat()
                    yield StoredBlob(entry.name, state.st_size, state.st_mtime)

    def sweep_temporary(self, older_than: float) -> int:
        """Remove temporary files untouched for ``older_than`` seconds; how many there were.

        They are left by processes that died while bytes were arriving.
        """
        limit = time.time() - older_than
        removed = 0
        for entry in os.scandir(self._temporary):
            with suppress(FileNotFoundError):
                if not entry.name.startswith(_REMOVING) and entry.stat().st_mtime < limit:
                    os.unlink(entry.path)
                    removed += 1
        return removed

    def sync_failed(self) -> None:
        """Note a failed sync; the second within ten minutes makes the store read-only."""
        now = time.monotonic()
        last, self._last_sync_failure = self._last_sync_failure, now
        if last is not None and now - last < SYNC_FAILURE_WINDOW_SECONDS:
            self._read_only = True

    def _path(self, sha256: str) -> Path:
        if not _ADDRESS.fullmatch(sha256):
            raise BlobMissing("not a SHA-256 in lower-case hex")
        return self.root / sha256[:2] / sha256

    def _sync(self, folder: Path) -> None:
        try:
            _sync_folder(folder)
        except OSError as error:
            self.sync_failed()
            raise from_os_error(error, "syncing a folder of blobs") from error

    def _delete(self, sha256: str, stays: Callable[[Path], bool]) -> bool:
        """Remove a blob unless it ``stays``; whether it went.

        The name is first moved aside and the file that moved is judged: bytes that someone
        keeps at this very moment are a new file and are never lost.
        """
        aside = self._temporary / f"{_REMOVING}{sha256}"
        with suppress(FileNotFoundError):  # gone, or being removed or put back by another process
            os.rename(self._path(sha256), aside)
            try:
                if gone := not stays(aside):
                    aside.unlink()
                    self._sync(self._path(sha256).parent)
            finally:
                if aside.exists():
                    self._put_back(aside)
            return gone
        return False

    def _make_folders(self) -> None:
        if self._temporary.is_dir():  # made last: all others exist
            return
        self.root.mkdir(parents=True, exist_ok=True, mode=0o700)
        for shard in _SHARDS:
            (self.root / shard).mkdir(exist_ok=True, mode=0o700)
        self._temporary.mkdir(exist_ok=True, mode=0o700)
        _sync_folder(self.root)
        _sync_folder(self.root.parent)

    def _restore_interrupted_removals(self) -> None:
        for aside in self._temporary.glob(f"{_REMOVING}*"):
            self._put_back(aside)

    def _put_back(self, aside: Path) -> None:
        target = self._path(aside.name.removeprefix(_REMOVING))
        with suppress(FileExistsError):  # kept anew meanwhile: that file is as good
            os.link(aside, target)
        aside.unlink()
        self._sync(target.parent)
