"""What a dead process left behind goes; what a row names stays."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

from pydicom.dataset import Dataset

from imaging_source.housekeeping import tidy
from soap.message import InMemory
from storage.blobs import BlobStore
from storage.database import Database

Make = Callable[..., Dataset]
Store = Callable[..., int]


def age(blobs: BlobStore) -> list[Path]:
    """All files, made two hours old."""
    then = time.time() - 7200
    found = [path for path in blobs.root.rglob("*") if path.is_file()]
    for path in found:
        os.utime(path, (then, then))
    return found


def test_a_file_that_no_row_names_is_removed_when_it_is_old(
    database: Database, blobs: BlobStore, store: Store, make_instance: Make
) -> None:
    first = make_instance()
    store(first)
    store(make_instance(SOPInstanceUID=first.SOPInstanceUID, PixelData=b"quarantined!"))
    named = {path for path in blobs.root.rglob("*") if path.is_file()}
    blobs.keep(InMemory(b"kept, and then the process died"))
    spool = blobs.spool()
    spool.write(b"half a transfer")
    age(blobs)
    blobs.keep(InMemory(b"kept a moment ago"))

    assert tidy(database, blobs, threading.Event()) == 2

    left = {path for path in blobs.root.rglob("*") if path.is_file()}
    assert named < left
    assert len(left - named) == 1
    spool.abort()


def test_tidying_ends_when_the_process_is_to_stop(database: Database, blobs: BlobStore) -> None:
    blobs.keep(InMemory(b"an orphan"))
    age(blobs)
    stop = threading.Event()
    stop.set()

    assert tidy(database, blobs, stop) == 0


def test_a_store_that_fails_does_not_end_the_process(database: Database, blobs: BlobStore) -> None:
    (blobs.root / "ab").rmdir()

    assert tidy(database, blobs, threading.Event()) == 0
