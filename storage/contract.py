"""What every store of blobs offers: bytes kept for ever under their SHA-256.

``storage.blobs`` has the store on a file system, ``storage.objects`` the one on an object store.
Whoever uses a store knows this contract alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from storage.errors import BlobMissing
from storage.files import Stretch
from storage.keys import Keeper
from storage.spool import Content, FileSpool, SpooledFile

_ADDRESS = re.compile(r"[0-9a-f]{64}")


class ProvedContent(Protocol):
    """Bytes that were proved to be those of their address."""

    @property
    def size(self) -> int:
        """How many there are."""

    def chunks(self) -> Iterator[bytes]:
        """The bytes, in pieces."""


class KeptBlob(Protocol):
    """Kept bytes; reading them proves that they still are what they were."""

    @property
    def sha256(self) -> str:
        """The address."""

    @property
    def size(self) -> int:
        """How many bytes the store says there are."""

    def chunks(self, blake3: str = "") -> Iterator[bytes]:
        """The bytes, hashed on the way: see ``storage.proof``."""

    def stretches(self, blake3: str = "") -> Iterator[bytes | Stretch]:
        """What ``chunks`` has, left to the kernel to send where it lies in a file as it is."""

    @property
    def sealed(self) -> bool:
        """Whether it is sealed at rest."""

    def header(self) -> bytes:
        """The header of one that is sealed: which keys open it, and how."""

    def as_stored(self) -> Iterator[bytes]:
        """What lies in the store, sealed or as it is, proved on the way: see ``storage.proof``."""

    def verified(self) -> ProvedContent:
        """The bytes, proved now, for reading afterwards.

        Raises BlobCorrupt if the hash is not the address, BlobMissing if they are gone.
        """


class Blobs(Protocol):
    """A store of bytes under their address.

    Safe for use by many threads; any number of processes may stand on one store. What cannot
    be done raises a StorageError: OutOfSpace, BlobStoreBusy (try again later: nothing was kept)
    or BlobStoreUnavailable.
    """

    def spool(self) -> FileSpool:
        """A new temporary file; OutOfSpace below the low-water mark."""

    def receive(self, content: Content) -> SpooledFile:
        """The content as a file spooled in this store: itself, or a copy made now.

        It is the caller's, who discards it once the bytes are kept or refused.
        """

    def keep(self, content: Content) -> KeptBlob:
        """Make bytes permanent under their address; idempotent, durable when it returns.

        A blob that was there and has aged becomes young again in the eyes of a sweep, and
        whole again if it was damaged. Content that was not spooled here is copied first.
        """

    def open(self, sha256: str) -> KeptBlob:
        """The blob of this address; raises BlobMissing."""

    def holds(self, sha256: str) -> bool:
        """Whether the blob is there, out of reach of any removal that is under way."""

    def delete(self, sha256: str) -> None:
        """Remove a blob; does nothing if there is none."""

    def delete_if_older(self, sha256: str, seconds: float) -> bool:
        """Remove a blob unless it was kept again in the last ``seconds``; whether it went.

        Bytes that someone keeps at this very moment are never lost.
        """

    def delete_unless(self, sha256: str, needed: Callable[[], bool]) -> bool:
        """Remove a blob unless it is ``needed``, asked once it is out of reach; whether it went.

        Who first makes ``needed`` true and then sees that the store ``holds`` the blob has it.
        """

    def inventory(self) -> Iterator[StoredBlob]:
        """Every blob, in the order of addresses; one that lies in both kinds twice."""

    def seal(self, sha256: str) -> bool:
        """Seal a blob that lies as it is; whether it did. Its bytes are proved on the way."""

    def rewrap(self, sha256: str) -> bool:
        """Have the key of a sealed blob wrapped by the current key alone; whether it was not so.

        Does nothing to a blob that is plain, or is gone. Raises KeyUnavailable.
        """

    def sweep_temporary(self, older_than: float) -> int:
        """Remove what arriving bytes left behind more than ``older_than`` seconds ago; how many.

        They are left by processes that died while bytes were arriving.
        """


@dataclass(frozen=True, slots=True)
class QuickProof:
    """A kept blob whose bytes are proved on the way by their BLAKE3."""

    blob: KeptBlob
    blake3: str

    @property
    def size(self) -> int:
        """How many bytes there are."""
        return self.blob.size

    def chunks(self) -> Iterator[bytes]:
        """The bytes: see ``storage.proof``."""
        return self.blob.chunks(self.blake3)

    def stretches(self) -> Iterator[bytes | Stretch]:
        """See ``KeptBlob.stretches``."""
        return self.blob.stretches(self.blake3)


@dataclass(frozen=True, slots=True)
class StoredBlob:
    """One line of a store's inventory; ``kept_at`` in seconds since the epoch."""

    sha256: str
    size: int
    kept_at: float
    sealed: bool = False


def check_address(sha256: str) -> str:
    """The address, if it is one; raises BlobMissing."""
    if not _ADDRESS.fullmatch(sha256):
        raise BlobMissing("not a SHA-256 in lower-case hex")
    return sha256


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys of a store: what is sealed opens by them; whether what arrives is sealed."""

    keeper: Keeper
    sealing: bool = True
