"""Bytes kept for ever under their SHA-256 on a file system, re-hashed when served.

``Blobs`` (``storage.contract``) is what every store of bytes offers; ``BlobStore`` is the one on a
file system. This module knows nothing of documents or identifiers.

Layout on disk: ``root/tmp/<random>`` while bytes arrive, ``root/ab/<sha256>`` once kept, where
``ab`` are the first two hex digits. All 256 folders exist from the start, because a
folder made on the way costs a second fsync of its parent: 0.85k instead of 1.5k kept
documents of 100 KB per second.

With keys the files are sealed while they arrive and lie as ``root/ab/<sha256>.sealed``; the
address stays that of the bytes. Both kinds may lie in one store, and a file is what its name says
it is: nobody's bytes can pass for a sealed file. The key of a sealed file is destroyed before the
file is removed.

What is kept is durable: the file's bytes are synced, then its name is moved into place,
then the folder is synced. Equal bytes have one address, so keeping them twice, even from
two machines, leaves one file.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from storage.contract import Keys, StoredBlob, check_address
from storage.errors import (
    BlobMissing,
    BlobStoreBusy,
    KeyUnavailable,
    StorageError,
    from_os_error,
)
from storage.faultpoints import reach
from storage.files import FileContent, Stretch
from storage.folders import sync_folder
from storage.keys import Keeper
from storage.proof import Proof, proved
from storage.sealed import (
    SUFFIX,
    Seal,
    erase,
    is_sealed,
    key_ids,
    plain_size,
    proved_sealed,
    read_header,
    rewrap,
    stored_size,
)
from storage.space import LowWaterMark
from storage.spool import Content, FileSpool, SpooledFile, SpoolFolder

_SHARDS = tuple(f"{number:02x}" for number in range(256))
_REMOVING = "removing-"


@dataclass(frozen=True, slots=True)
class Blob:
    """A kept file: see ``KeptBlob``. ``place`` is where it lies."""

    place: str | Path
    sha256: str
    size: int
    keeper: Keeper | None = None

    @property
    def path(self) -> Path:
        """Where it lies."""
        return Path(self.place)

    @property
    def content(self) -> FileContent:
        """The file, for reading without hashing."""
        seal = None if self.keeper is None else Seal(self.keeper, self.sha256)
        return FileContent(self.place, self.size, seal)

    @property
    def sealed(self) -> bool:
        """See ``KeptBlob``."""
        return is_sealed(self.place)

    def header(self) -> bytes:
        """See ``KeptBlob``."""
        try:
            return read_header(self.path)
        except FileNotFoundError as error:
            raise BlobMissing(self.sha256) from error
        except OSError as error:
            raise from_os_error(error, f"opening {self.sha256}") from error

    def as_stored(self) -> Iterator[bytes]:
        """See ``KeptBlob``."""
        if self.keeper is None or not self.sealed:
            return self.chunks()
        stored = FileContent(self.place, stored_size(self.size)).chunks()
        return proved_sealed(stored, Seal(self.keeper, self.sha256))

    def chunks(self, blake3: str = "") -> Iterator[bytes]:
        """The bytes in pieces of 256 KiB, hashed on the way: see ``storage.proof``.

        What is sealed is proved by its tags, each piece before it is handed on: they were made of
        these bytes, for this address.
        """
        pieces = self.content.chunks()
        return pieces if self.sealed else proved(pieces, self.sha256, blake3)

    def stretches(self, blake3: str = "") -> Iterator[bytes | Stretch]:
        """The bytes as they lie, proved while they leave: see ``FileContent.proved``."""
        if self.sealed:
            return self.chunks()
        return self.content.proved(Proof(self.sha256, blake3))

    def verified(self) -> FileContent:
        """The bytes, proved now, for reading without hashing again."""
        for _ in self.chunks():
            pass
        return self.content


class BlobStore:
    """The blobs below ``root``: see ``Blobs``; any number of processes may use one folder."""

    def __init__(
        self, root: Path, low_water: LowWaterMark | None = None, keys: Keys | None = None
    ) -> None:
        """Open the store, making its folders on first use.

        Raises OutOfSpace or BlobStoreUnavailable if the folders cannot be made.
        """
        self.root = root
        self._place = str(root)
        self._shards = {name: root / name for name in _SHARDS}
        self._temporary = root / "tmp"
        self._keeper = None if keys is None else keys.keeper
        sealing = self._keeper if keys is not None and keys.sealing else None
        self._spools = SpoolFolder(self._temporary, low_water, sealing)
        try:
            self._make_folders()
            self._restore_interrupted_removals()
        except OSError as error:
            raise from_os_error(error, f"opening the blob store {root}") from error

    def spool(self) -> FileSpool:
        """See ``Blobs``."""
        return self._spools.spool()

    def spool_addressed(self) -> FileSpool:
        """Like ``spool``, for bytes that are known by their address alone and only kept here.

        They are synced when they are kept, together with their name.
        """
        return self._spools.spool(addressed=True)

    def receive(self, content: Content) -> SpooledFile:
        """See ``Blobs``."""
        return self._spools.receive(content)

    def keep(self, content: Content) -> Blob:
        """See ``Blobs``.

        The new file takes the place of an equal one already there: that heals a copy the
        disk has damaged, and makes the blob young again in the eyes of a sweep.
        """
        spooled = self.receive(content)
        target = self._shard(spooled.sha256) / spooled.name
        try:
            if spooled.path == target:  # kept before by the same caller
                os.utime(target)
            elif not self._named_first(spooled, target):
                self._sync_file(spooled)
                os.replace(spooled.path, target)
            reach("blobs.kept")
        except FileNotFoundError as error:
            raise BlobMissing(spooled.sha256) from error
        except OSError as error:
            raise from_os_error(error, "moving a blob into place") from error
        spooled.path = target
        self._sync(target.parent)
        for path in self._paths(spooled.sha256):
            if path != target and os.access(path, os.F_OK):  # of the other kind, from before
                _remove(path)
        return Blob(target, spooled.sha256, spooled.size, self._keeper)

    def open(self, sha256: str) -> Blob:
        """See ``Blobs``."""
        content = self.content(sha256)
        return Blob(content.path, sha256, content.size, self._keeper)

    def content(self, sha256: str) -> FileContent:
        """The file of a blob, for reading without hashing. Raises as ``open`` does.

        A study asks for thousands: with a ``Path`` for each, the look at them takes twice as long.
        """
        folder = f"{self._place}/{check_address(sha256)[:2]}"
        seal = None if self._keeper is None else Seal(self._keeper, sha256)
        for name in self._names(sha256):
            try:
                found = FileContent.at(f"{folder}/{name}", seal)
            except FileNotFoundError:
                continue
            except OSError as error:
                raise from_os_error(error, f"opening {sha256}") from error
            if seal is None and is_sealed(name):
                raise KeyUnavailable(f"{sha256} is sealed, and at_rest.keys names no keys")
            return found
        raise BlobMissing(sha256)

    def holds(self, sha256: str) -> bool:
        """See ``Blobs``."""
        return any(path.exists() for path in self._paths(sha256))

    def delete(self, sha256: str) -> None:
        """See ``Blobs``."""
        for path in self._paths(sha256):
            _remove(path)
        self._sync(self._shard(sha256))

    def delete_if_older(self, sha256: str, seconds: float) -> bool:
        """See ``Blobs``. A young one is not moved aside either: it is there at every moment."""

        def is_young(path: Path) -> bool:
            return time.time() - path.stat().st_mtime < seconds

        for path in self._paths(sha256):
            with suppress(FileNotFoundError):
                if is_young(path):
                    return False
        return self._delete(sha256, is_young)

    def delete_unless(self, sha256: str, needed: Callable[[], bool]) -> bool:
        """See ``Blobs``."""
        return self._delete(sha256, lambda _aside: needed())

    def inventory(self) -> Iterator[StoredBlob]:
        """Every blob, in the order of addresses within each of the 256 folders."""
        for shard in self._shards.values():
            for entry in sorted(os.scandir(shard), key=lambda entry: entry.name):
                with suppress(FileNotFoundError):  # deleted since the folder was listed
                    state = entry.stat()
                    address = entry.name.removesuffix(SUFFIX)
                    sealed = address != entry.name
                    size = plain_size(state.st_size) if sealed else state.st_size
                    yield StoredBlob(address, size, state.st_mtime, sealed)

    def sweep_temporary(self, older_than: float) -> int:
        """See ``Blobs``."""
        return self._spools.sweep(older_than, spare=_REMOVING)

    def sync_failed(self) -> None:
        """Note a failed sync: see ``SpoolFolder.sync_failed``."""
        self._spools.sync_failed()

    def seal(self, sha256: str) -> bool:
        """Seal a blob that lies as it is; whether it did. Its bytes are proved on the way.

        The sealed file is durable before the other one goes. A blob that is removed meanwhile stays
        removed, and one that is kept anew stays kept. Raises StorageError.
        """
        plain = self._shard(sha256) / sha256
        sealed = plain.with_name(f"{sha256}{SUFFIX}")
        try:
            state = plain.stat()
        except FileNotFoundError:
            return False
        spooled = self.receive(Blob(plain, sha256, state.st_size))
        try:
            os.utime(spooled.path, (state.st_atime, state.st_mtime))
            ours = spooled.path.stat().st_ino
            with suppress(FileExistsError):  # kept anew meanwhile: that file is as good
                os.link(spooled.path, sealed)
            self._sync(sealed.parent)
        except OSError as error:
            raise from_os_error(error, f"sealing {sha256}") from error
        finally:
            spooled.discard()
        reach("keys.sealing")
        try:
            plain.unlink()
        except FileNotFoundError:
            self._delete_file(sealed, lambda aside: aside.stat().st_ino != ours)
        return True

    def rewrap(self, sha256: str) -> bool:
        """Wrap the key of a sealed blob by the current key alone; whether it was not so.

        Does nothing to a blob that is plain, or is gone. Raises StorageError.
        """
        if self._keeper is None:
            raise KeyUnavailable("no keys are configured")
        path = self._shard(sha256) / f"{sha256}{SUFFIX}"
        try:
            return rewrap(path, Seal(self._keeper, sha256))
        except (FileNotFoundError, BlobMissing):
            return False
        except OSError as error:
            raise from_os_error(error, f"rewrapping {sha256}") from error

    def _shard(self, sha256: str) -> Path:
        return self._shards[check_address(sha256)[:2]]

    def _names(self, sha256: str) -> tuple[str, str]:
        """What a blob may be called in its folder: sealed first if there are keys."""
        plain, sealed = sha256, f"{sha256}{SUFFIX}"
        return (plain, sealed) if self._keeper is None else (sealed, plain)

    def _paths(self, sha256: str) -> list[Path]:
        """Where a blob may lie."""
        shard = self._shard(sha256)
        return [shard / name for name in self._names(sha256)]

    def _named_first(self, spooled: SpooledFile, target: Path) -> bool:
        """Give bytes that are not synced yet their name and sync them then; whether it was done.

        The file system writes name and bytes in one commit, which saves one of two syncs. A name
        that is taken is left alone: whoever has it may rely on it already, and only what is
        synced may take its place.
        """
        if spooled.descriptor is None:
            return False
        try:
            os.link(spooled.path, target)
        except OSError:  # it is taken, or the file system knows no links
            return False
        try:
            self._sync_file(spooled)
        except StorageError:
            target.unlink()
            raise
        spooled.path.unlink()
        return True

    def _sync_file(self, spooled: SpooledFile) -> None:
        try:
            spooled.sync()
        except OSError as error:
            raise self._sync_failed(error, "syncing a blob") from error

    def _sync(self, folder: Path) -> None:
        try:
            sync_folder(folder)
        except OSError as error:
            raise self._sync_failed(error, "syncing a folder of blobs") from error

    def _sync_failed(self, error: OSError, doing: str) -> StorageError:
        """Where the folder could not even be opened, nothing is wrong with the disk."""
        failure = from_os_error(error, doing)
        if not isinstance(failure, BlobStoreBusy):
            self.sync_failed()
        return failure

    def _delete(self, sha256: str, stays: Callable[[Path], bool]) -> bool:
        """Remove a blob unless it ``stays``; whether it went.

        The name is first moved aside and the file that moved is judged: bytes that someone
        keeps at this very moment are a new file and are never lost.
        """
        gone = [self._delete_file(path, stays) for path in self._paths(sha256)]
        return any(gone)

    def _delete_file(self, path: Path, stays: Callable[[Path], bool]) -> bool:
        aside = self._temporary / f"{_REMOVING}{path.name}"
        with suppress(FileNotFoundError):  # gone, or being removed or put back by another process
            os.rename(path, aside)
            try:
                if gone := not stays(aside):
                    _remove(aside)
                    self._sync(path.parent)
            finally:
                if aside.exists():
                    self._put_back(aside)
            return gone
        return False

    def _make_folders(self) -> None:
        if self._temporary.is_dir():  # made last: all others exist
            return
        self.root.mkdir(parents=True, exist_ok=True, mode=0o700)
        for shard in self._shards.values():
            shard.mkdir(exist_ok=True, mode=0o700)
        self._temporary.mkdir(exist_ok=True, mode=0o700)
        sync_folder(self.root)
        sync_folder(self.root.parent)

    def _restore_interrupted_removals(self) -> None:
        for aside in self._temporary.glob(f"{_REMOVING}*"):
            self._put_back(aside)

    def _put_back(self, aside: Path) -> None:
        name = aside.name.removeprefix(_REMOVING)
        target = self._shard(name.removesuffix(SUFFIX)) / name
        erased = name.endswith(SUFFIX) and not key_ids(read_header(aside))
        with suppress(FileExistsError):  # kept anew meanwhile: that file is as good
            if not erased:
                os.link(aside, target)
        aside.unlink()
        self._sync(target.parent)


def _remove(path: Path) -> None:
    """Remove a file, the key of a sealed one before. Does nothing if there is none."""
    if is_sealed(path):
        erase(path)
    path.unlink(missing_ok=True)
