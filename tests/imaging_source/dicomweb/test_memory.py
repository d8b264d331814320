"""Memory stays flat whatever leaves: an instance of 1 GiB grows neither end by more than 32 MiB."""

from __future__ import annotations

import http.client
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from pydicom.dataset import Dataset
from sqlalchemy import select, update

from imaging_source.schema import INSTANCE
from storage.blobs import BlobStore
from storage.database import Database

Make = Callable[..., Dataset]
Store = Callable[..., int]
GIB = 1024**3
MOST_GROWTH_KIB = 32 * 1024


class Memory:
    """The growth of this process's peak since this was made, in KiB."""

    def __init__(self) -> None:
        try:
            Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
        except OSError:
            pytest.skip("the peak of memory cannot be reset here")
        self._before = self._kib("VmRSS")

    def growth(self) -> int:
        return self._kib("VmHWM") - self._before

    def _kib(self, name: str) -> int:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


@pytest.fixture
def huge(make_instance: Make, store: Store, database: Database, blobs: BlobStore) -> Dataset:
    """An instance whose file was made 1 GiB long, without taking the room of it on disk."""
    instance = make_instance()
    store(instance)
    with database.read() as connection:
        path = blobs.open(connection.execute(select(INSTANCE.c.sha256)).scalar_one()).path
    os.truncate(path, GIB)
    statement = update(INSTANCE).values(size=GIB)
    database.write(lambda connection: connection.execute(statement))
    return instance


@pytest.mark.parametrize("accept", ["application/dicom", "multipart/related"])
def test_a_huge_instance_leaves_in_little_memory(web: Any, huge: Dataset, accept: str) -> None:
    path = f"/studies/{huge.StudyInstanceUID}/series/{huge.SeriesInstanceUID}"
    parts = urlsplit(f"{web.root}{path}/instances/{huge.SOPInstanceUID}")
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=60)
    connection.request("GET", parts.path, headers={"Accept": accept})
    answer = connection.getresponse()
    assert answer.status == 200
    buffer = bytearray(1024 * 1024)
    memory, size = Memory(), 0
    while count := answer.readinto(buffer):
        size += count
    assert memory.growth() <= MOST_GROWTH_KIB
    assert size == int(answer.headers["content-length"]) >= GIB
    connection.close()
