"""Blobs on an object store that speaks S3: created once, proved, never renamed.

Layout below the bucket's prefix: ``blobs/<sha256>``, ``sealed/<sha256>`` for what is sealed at
rest, and ``removing/<sha256>`` for the moment in which a blob is removed. Bytes arrive in a local
folder, where they are hashed, sealed if there are keys, and synced, and are then put under their
address if nothing is there (``If-None-Match: *``). The answer to the PUT is the store's promise
that they are durable; their SHA-256 goes along, and a store that takes no checksums is read again
before the promise is believed. A sealed object that goes takes its wrapped key with it: whether
the object store forgets what it deleted is its own matter.

An object store has no rename, so a removal and a keeper of the same bytes meet like this.
The removal puts its mark (created once: one removal at a time), looks at the object's age, deletes
it if it is old, and takes its mark away when the deletion is over. A removal for good asks, behind
the same mark, who needs the bytes in place of their age. The keeper makes the object
exist and young, looks for a mark, and then for the object. Without a mark every removal that began
earlier is over, and the object that stands is safe; one that begins later finds it young. Otherwise
the keeper waits and begins again. Needs a store whose reads see every write before them.
"""

from __future__ import annotations

import heapq
import secrets
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import S3Store

from storage.bucket import Bucket, failed
from storage.contract import Keys, ProvedContent, StoredBlob, check_address
from storage.errors import (
    BlobCorrupt,
    BlobMissing,
    BlobStoreBusy,
    BlobStoreUnavailable,
    KeyUnavailable,
    StorageError,
    from_os_error,
)
from storage.faultpoints import reach
from storage.files import CHUNK_BYTES, FileContent
from storage.multipart import PART_BYTES, MultipartUploads
from storage.proof import proved
from storage.sealed import HEADER_BYTES, Seal, key_ids, plain_size, proved_sealed, unsealed
from storage.space import LowWaterMark
from storage.spool import Content, FileSpool, SpooledFile, SpoolFolder

# An object younger than this is not put again when its bytes are kept again: a retry, or a rival
# with the same document. A removal by age adds it to the age it asks for.
FRESH_SECONDS = 600.0

# Proved documents are held in memory until they are served, for a second trip to the store costs
# more: so many bytes in all, however many a request asks for, and none larger than the second.
HELD_BYTES = 64 * 1024 * 1024
LARGEST_HELD_BYTES = 8 * 1024 * 1024

# A removal that has not come to its end in this time gives up: its mark may be swept after it.
REMOVAL_SECONDS = 30.0

# How often a keeper looks again while its blob is being removed, and the first pause between two
# looks; it doubles. A removal takes three requests.
LOOKS = 6
FIRST_PAUSE_SECONDS = 0.05

_BLOBS = "blobs/"
_SEALED = "sealed/"
_REMOVING = "removing/"
_PROBES = "probes/"


class _Memory:
    """The bytes of proved documents that this process holds, and whether there is room for more."""

    def __init__(self) -> None:
        self._held = 0
        self._lock = threading.Lock()

    def hold(self, data: bytes) -> HeldContent:
        """The data as content; its room is given back when nobody has the content any more."""
        content = HeldContent(data)
        self._change(len(data))
        weakref.finalize(content, self._change, -len(data))
        return content

    def has_room(self, size: int) -> bool:
        """Roughly, for others ask at the same time: one document for each worker at most."""
        return size <= LARGEST_HELD_BYTES and self._held + size <= HELD_BYTES

    def _change(self, size: int) -> None:
        with self._lock:
            self._held += size


_memory = _Memory()


@dataclass(frozen=True, slots=True, weakref_slot=True, eq=False)
class HeldContent:
    """Proved bytes in memory."""

    data: bytes

    @property
    def size(self) -> int:
        """How many there are."""
        return len(self.data)

    def chunks(self) -> Iterator[bytes]:
        """The bytes in one piece."""
        yield self.data


@dataclass(frozen=True, slots=True)
class ObjectBlob:
    """A kept object: see ``storage.contract.KeptBlob``."""

    store: S3Store
    sha256: str
    size: int
    seal: Seal | None = None

    def chunks(self, blake3: str = "") -> Iterator[bytes]:
        """The bytes in pieces of at most 256 KiB, proved on the way: see ``blobs.Blob``."""
        if self.seal is None:
            return proved(self._fetch(_BLOBS), self.sha256, blake3)
        return unsealed(self._fetch(_SEALED), self.seal)

    def stretches(self, blake3: str = "") -> Iterator[bytes]:
        """The bytes: none of them lie in a file."""
        return self.chunks(blake3)

    @property
    def sealed(self) -> bool:
        """See ``storage.contract.KeptBlob``."""
        return self.seal is not None

    def header(self) -> bytes:
        """See ``storage.contract.KeptBlob``."""
        with _missing_or_failed(self.sha256, "reading a header"):
            name = _SEALED + self.sha256
            return bytes(obstore.get_range(self.store, name, start=0, length=HEADER_BYTES))

    def as_stored(self) -> Iterator[bytes]:
        """See ``storage.contract.KeptBlob``."""
        if self.seal is None:
            return self.chunks()
        return proved_sealed(self._fetch(_SEALED), self.seal)

    def verified(self) -> ProvedContent:
        """The bytes, proved now; fetched, and proved, a second time when there is no room."""
        if _memory.has_room(self.size):
            return _memory.hold(b"".join(self.chunks()))
        for _ in self.chunks():
            pass
        return self

    def _fetch(self, prefix: str) -> Iterator[bytes]:
        with _missing_or_failed(self.sha256, "reading a blob"):
            answer = obstore.get(self.store, prefix + self.sha256)
            for piece in answer.stream(min_chunk_size=CHUNK_BYTES):
                yield bytes(piece)


class ObjectStore:
    """The blobs in a bucket: see ``storage.contract.Blobs``; any number of nodes may share it."""

    def __init__(
        self,
        bucket: Bucket,
        spool: Path,
        low_water: LowWaterMark | None = None,
        clock: Callable[[], float] = time.time,
        keys: Keys | None = None,
    ) -> None:
        """Open the store; ``spool`` is the local folder where bytes arrive, of this node alone.

        Asks nothing of the object store, which may be away when a node starts.
        """
        self._bucket = bucket
        self._store = bucket.objects()
        self._store_asked_once = bucket.objects(once=True)
        self._uploads = MultipartUploads(bucket)
        self._clock = clock
        try:
            spool.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise from_os_error(error, f"opening the spool folder {spool}") from error
        self._keeper = None if keys is None else keys.keeper
        sealing = self._keeper if keys is not None and keys.sealing else None
        self._spools = SpoolFolder(spool, low_water, sealing)

    def spool(self) -> FileSpool:
        """See ``Blobs``."""
        return self._spools.spool()

    def receive(self, content: Content) -> SpooledFile:
        """See ``Blobs``."""
        return self._spools.receive(content)

    def keep(self, content: Content) -> ObjectBlob:
        """See ``Blobs``; BlobStoreBusy, too, if a removal of the same bytes does not end."""
        spooled = self.receive(content)
        try:
            for look in range(LOOKS):
                self._make_young(spooled)
                if self._stands(spooled):
                    return ObjectBlob(self._store, spooled.sha256, spooled.size, spooled.seal)
                time.sleep(FIRST_PAUSE_SECONDS * 2**look)
        finally:
            if spooled is not content:
                spooled.discard()
        raise BlobStoreBusy("a removal of the same bytes is under way")

    def open(self, sha256: str) -> ObjectBlob:
        """See ``Blobs``."""
        found = self._find(check_address(sha256))
        if found is None:
            raise BlobMissing(sha256)
        return ObjectBlob(self._store, sha256, found.size, self._seal(sha256, found.sealed))

    def delete(self, sha256: str) -> None:
        """See ``Blobs``."""
        for prefix in (_SEALED, _BLOBS):
            self._delete(self._store, prefix + check_address(sha256))

    def holds(self, sha256: str) -> bool:
        """See ``Blobs``."""
        return self._safe(check_address(sha256), _SEALED, _BLOBS) is not None

    def delete_if_older(self, sha256: str, seconds: float) -> bool:
        """See ``Blobs``."""
        limit = seconds + FRESH_SECONDS

        def young() -> bool:
            found = self._find(sha256)
            return found is None or self._clock() - found.kept_at < limit

        return self._remove(sha256, young)

    def delete_unless(self, sha256: str, needed: Callable[[], bool]) -> bool:
        """See ``Blobs``."""
        return self._remove(sha256, lambda: self._find(sha256) is None or needed())

    def inventory(self) -> Iterator[StoredBlob]:
        """See ``Blobs``."""
        both = (self._list(_BLOBS), self._list(_SEALED))
        return heapq.merge(*both, key=lambda blob: blob.sha256)

    def seal(self, sha256: str) -> bool:
        """Seal a blob that lies as it is: see ``BlobStore.seal``.

        One that is removed at this moment may stay, sealed and without a row: a sweep finds it.
        """
        found = self._head(_BLOBS + check_address(sha256))
        if found is None:
            return False
        spooled = self.receive(ObjectBlob(self._store, sha256, found.size))
        try:
            reach("keys.sealing")
            self.keep(spooled)
        finally:
            spooled.discard()
        self._delete(self._store, _BLOBS + sha256)
        return True

    def rewrap(self, sha256: str) -> bool:
        """Seal a blob anew under the current key: an object has no place that can be written."""
        found = self._head(_SEALED + check_address(sha256))
        seal = self._seal(sha256, sealed=True)
        if seal is None or found is None:
            return False
        blob = ObjectBlob(self._store, sha256, found.size, seal)
        if key_ids(blob.header()) <= {seal.keeper.current}:
            return False
        spooled = self.receive(blob)
        try:
            return self._put(spooled, replace=True)
        finally:
            spooled.discard()

    def sweep_temporary(self, older_than: float) -> int:
        """See ``Blobs``: local files, unfinished uploads, and the marks of dead removals."""
        removed = self._spools.sweep(older_than)
        # Never younger than a removal or an upload under way can be.
        limit = self._clock() - max(older_than, FRESH_SECONDS)
        for upload in self._uploads.unfinished():
            if upload.begun_at < limit:
                self._uploads.abort(upload.key, upload.upload_id)
                removed += 1
        for mark in self._list(_REMOVING):
            if mark.kept_at < limit:
                self._delete(self._store, _REMOVING + mark.sha256)
                removed += 1
        return removed

    def answers(self) -> None:
        """Raise a StorageError unless the object store answers."""
        self._head(_PROBES + "none")

    def prove(self) -> None:
        """Raise a StorageError unless the object store does what this class stands on.

        It must take an object once only, and refuse bytes that are not those of the checksum
        sent with them, unless it is not asked to judge checksums. Leaves nothing behind.
        """
        name = _PROBES + secrets.token_hex(16)
        try:
            if not self._create(name, b"probe") or self._create(name, b"probe"):
                raise BlobStoreUnavailable("the object store does not honour If-None-Match")
        finally:
            self._delete(self._store, name)
        if self._bucket.checksums and not self._uploads.checksums_are_judged(name):
            self._delete(self._store, name)
            raise BlobStoreUnavailable(
                "the object store does not judge checksums: set object_store.checksums = false"
            )

    def _make_young(self, spooled: SpooledFile) -> None:
        """Put the object if it is not there, is old, or has not the size it must have."""
        if self._put(spooled, replace=False):
            return
        found = self._head(_name(spooled))
        fresh = found is not None and self._clock() - found.kept_at < FRESH_SECONDS
        if found is None or not fresh or found.size != spooled.size:
            self._put(spooled, replace=True)

    def _stands(self, spooled: SpooledFile) -> bool:
        """Whether the object is there, whole and safe from removals under way."""
        found = self._safe(spooled.sha256, _SEALED if spooled.seal else _BLOBS)
        return found is not None and found.size == spooled.size

    def _safe(self, sha256: str, *prefixes: str) -> StoredBlob | None:
        """The object, if no removal is under way and, asked after that, it is there.

        In this order: between two looks it could be deleted and the mark taken away.
        """
        if self._head(_REMOVING + sha256) is not None:
            return None
        return self._find(sha256, *prefixes)

    def _find(self, sha256: str, *prefixes: str) -> StoredBlob | None:
        """The object below one of the prefixes; without any, where it lies first if there are keys.

        Both are looked at in any case: what is sealed without keys here is not missing.
        """
        likely = (_BLOBS, _SEALED) if self._keeper is None else (_SEALED, _BLOBS)
        found = (self._head(prefix + sha256) for prefix in prefixes or likely)
        return next((one for one in found if one is not None), None)

    def _seal(self, sha256: str, sealed: bool) -> Seal | None:
        if not sealed:
            return None
        if self._keeper is None:
            raise KeyUnavailable(f"{sha256} is sealed, and at_rest.keys names no keys")
        return Seal(self._keeper, sha256)

    def _remove(self, sha256: str, stays: Callable[[], bool]) -> bool:
        """Remove an object unless it ``stays``, asked behind a mark; whether it went.

        See the module for how a keeper of the same bytes is met. If the outcome of the removal
        is unknown the mark stays, which keeps keepers waiting until ``sweep_temporary`` takes it
        away.
        """
        mark = _REMOVING + check_address(sha256)
        began = time.monotonic()
        if not self._create(mark, b""):
            return False
        try:
            goes = not stays() and time.monotonic() - began < REMOVAL_SECONDS
        except BaseException:
            self._delete(self._store, mark)
            raise
        if goes:
            # Not tried again by itself: a second DELETE could come after somebody's new PUT.
            for prefix in (_SEALED, _BLOBS):
                self._delete(self._store_asked_once, prefix + sha256)
        self._delete(self._store, mark)
        return goes

    def _put(self, spooled: SpooledFile, *, replace: bool) -> bool:
        """Whether the object was put; False if there is one, unless it is to be replaced."""
        name = _name(spooled)
        if spooled.stored <= PART_BYTES:
            data = b"".join(FileContent(spooled.path, spooled.stored).chunks())
            put = self._replace(name, data) if replace else self._create(name, data)
        else:
            put = self._uploads.create(name, spooled.path, spooled.stored, replace=replace)
        if put and not self._bucket.checksums:
            self._read_again(spooled)
        return put

    def _read_again(self, spooled: SpooledFile) -> None:
        """Believe the store only when it gives back what it was given."""
        blob = ObjectBlob(self._store, spooled.sha256, spooled.size, spooled.seal)
        size = sum(map(len, blob.chunks()))
        if size != spooled.size:
            raise BlobCorrupt(spooled.sha256)

    def _create(self, name: str, data: bytes) -> bool:
        try:
            with _failed(f"putting {name}"):
                obstore.put(self._store, name, data, mode="create", use_multipart=False)
        except AlreadyExistsError:
            return False
        return True

    def _replace(self, name: str, data: bytes) -> bool:
        with _failed(f"putting {name}"):
            obstore.put(self._store, name, data, use_multipart=False)
        return True

    def _head(self, name: str) -> StoredBlob | None:
        try:
            with _failed(f"looking for {name}"):
                found = obstore.head(self._store, name)
        except FileNotFoundError:
            return None
        return _stored(name, found["size"], found["last_modified"].timestamp())

    def _delete(self, store: S3Store, name: str) -> None:
        try:
            with _failed(f"deleting {name}"):
                obstore.delete(store, name)
        except FileNotFoundError:  # some stores say so, others do not
            return

    def _list(self, prefix: str) -> Iterator[StoredBlob]:
        with _failed(f"listing {prefix}"):
            for page in obstore.list(self._store, prefix.rstrip("/"), chunk_size=1000):
                for found in page:
                    kept_at = found["last_modified"].timestamp()
                    yield _stored(found["path"], found["size"], kept_at)


def _name(spooled: SpooledFile) -> str:
    """Where a spooled file is put."""
    return (_SEALED if spooled.seal else _BLOBS) + spooled.sha256


def _stored(name: str, size: int, kept_at: float) -> StoredBlob:
    """An object by its name; the size is that of the blob."""
    sealed = name.startswith(_SEALED)
    return StoredBlob(
        name.rpartition("/")[2], plain_size(size) if sealed else size, kept_at, sealed
    )


@contextmanager
def _failed(doing: str) -> Iterator[None]:
    """Errors of the store as StorageErrors; that there is none, or one already, passes."""
    try:
        yield
    except (AlreadyExistsError, FileNotFoundError, StorageError):
        raise
    except (BaseError, OSError, ValueError) as error:
        raise failed(error, doing) from None


@contextmanager
def _missing_or_failed(sha256: str, doing: str) -> Iterator[None]:
    try:
        with _failed(doing):
            yield
    except FileNotFoundError:
        raise BlobMissing(sha256) from None
