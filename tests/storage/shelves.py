"""A store of blobs of each kind, with what a test does behind its back."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Protocol

import obstore

from storage.blobs import BlobStore
from storage.contract import Blobs, Keys
from storage.objects import ObjectStore
from storage.space import LowWaterMark
from tests.storage.object_server import ObjectServer

NO_LIMIT = LowWaterMark(minimum_free_bytes=0)
LONG_AGO = 10 * 86_400.0


class Shelf(Protocol):
    """One store, and another way to its bytes."""

    temporary: Path

    @property
    def store(self) -> Blobs:
        """The store."""

    def again(self, low_water: LowWaterMark = NO_LIMIT) -> Blobs:
        """The same store opened once more."""

    def read(self, sha256: str) -> bytes:
        """What lies there."""

    def write(self, sha256: str, data: bytes) -> None:
        """Put other bytes there."""

    def grow_old(self, sha256: str) -> None:
        """Let ten days pass for this blob, at least."""


class FileShelf:
    """A folder."""

    def __init__(self, root: Path, keys: Keys | None = None) -> None:
        self.keys = keys
        self.store = BlobStore(root, NO_LIMIT, keys)
        self.temporary = root / "tmp"

    def again(self, low_water: LowWaterMark = NO_LIMIT) -> BlobStore:
        return BlobStore(self.store.root, low_water, self.keys)

    def read(self, sha256: str) -> bytes:
        return b"".join(self.store.open(sha256).content.chunks())

    def write(self, sha256: str, data: bytes) -> None:
        self.store.open(sha256).path.write_bytes(data)

    def grow_old(self, sha256: str) -> None:
        path = self.store.open(sha256).path
        os.utime(path, (path.stat().st_mtime - LONG_AGO,) * 2)


class ObjectShelf:
    """A prefix in a bucket. Objects keep their own time, so the store's clock goes on instead."""

    def __init__(self, server: ObjectServer, prefix: str, temporary: Path) -> None:
        self.keys: Keys | None = None
        self.bucket = server.bucket(prefix)
        self.temporary = temporary
        self.later = 0.0
        self.store = self.again()
        self.objects = self.bucket.objects()

    def again(self, low_water: LowWaterMark = NO_LIMIT) -> ObjectStore:
        return ObjectStore(self.bucket, self.temporary, low_water, self.clock, self.keys)

    def sealed(self, keys: Keys) -> ObjectShelf:
        """The same with keys: what comes is sealed."""
        self.keys = keys
        self.store = self.again()
        return self

    def clock(self) -> float:
        return time.time() + self.later

    def read(self, sha256: str) -> bytes:
        if self.keys is not None:
            return b"".join(self.store.open(sha256).chunks())
        return bytes(obstore.get(self.objects, f"blobs/{sha256}").bytes())

    def write(self, sha256: str, data: bytes) -> None:
        folder = "blobs" if self.keys is None else "sealed"
        obstore.put(self.objects, f"{folder}/{sha256}", data)

    def grow_old(self, sha256: str) -> None:
        assert self.store.holds(sha256)
        self.later += LONG_AGO
