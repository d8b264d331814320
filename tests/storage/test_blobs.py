"""What every store of blobs promises, asked of both kinds."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from soap.message import InMemory, Received, Spool, read
from storage.contract import Blobs, KeptBlob
from storage.errors import BlobCorrupt, BlobMissing, DatabaseBusy, OutOfSpace
from storage.files import CHUNK_BYTES, STRETCH_BYTES
from storage.space import LowWaterMark
from storage.spool import SpooledFile
from tests.storage.shelves import FileShelf, ObjectShelf, Shelf

DAY = 86_400.0
DATA = b"bytes of a document"
ADDRESS = hashlib.sha256(DATA).hexdigest()


@pytest.fixture(params=["files", "objects", "sealed files", "sealed objects"])
def shelf(request: pytest.FixtureRequest, tmp_path: Path) -> Shelf:
    """A store of each kind, as the bytes are and sealed at rest."""
    keys = request.getfixturevalue("keys") if request.param.startswith("sealed") else None
    if request.param.endswith("files"):
        return FileShelf(tmp_path / "blobs", keys)
    plain: ObjectShelf = request.getfixturevalue("object_shelf")
    return plain if keys is None else plain.sealed(keys)


@pytest.fixture
def store(shelf: Shelf) -> Blobs:
    return shelf.store


def spooled(store: Blobs, data: bytes) -> SpooledFile:
    spool = store.spool()
    spool.write(data)
    return spool.finish()


def temporary_files(shelf: Shelf) -> list[str]:
    return os.listdir(shelf.temporary)


# Each example syncs files: on a busy disk that takes its time.
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(pieces=st.lists(st.binary(max_size=CHUNK_BYTES // 2), max_size=8))
def test_what_is_written_in_any_pieces_is_what_is_read(store: Blobs, pieces: list[bytes]) -> None:
    spool = store.spool()
    for piece in pieces:
        spool.write(piece)
    received = spool.finish()
    data = b"".join(pieces)
    assert received.size == len(data)
    assert received.sha1 == hashlib.sha1(data).hexdigest()
    assert received.sha256 == hashlib.sha256(data).hexdigest()
    blob = store.keep(received)
    received.discard()
    assert b"".join(store.open(blob.sha256).chunks()) == data
    proved = blob.verified()
    assert (proved.size, b"".join(proved.chunks())) == (len(data), data)


def test_a_spool_and_what_it_gives_are_those_of_the_message_contract(store: Blobs) -> None:
    spool: Spool = store.spool()
    spool.write(b"x")
    received: Received = spool.finish()
    assert list(received.chunks()) == [b"x"]


def test_pieces_are_bounded(store: Blobs) -> None:
    data = os.urandom(5 * 1024 * 1024)
    blob = store.keep(InMemory(data))
    sizes = [len(piece) for piece in blob.chunks()]
    assert sum(sizes) == len(data)
    assert max(sizes) <= 4 * CHUNK_BYTES


def test_equal_bytes_kept_by_many_threads_are_one_blob(store: Blobs, shelf: Shelf) -> None:
    received = [spooled(store, b"the same") for _ in range(16)]
    with ThreadPoolExecutor(16) as pool:
        addresses = {blob.sha256 for blob in pool.map(store.keep, received)}
    for file in received:
        file.discard()
    assert addresses == {hashlib.sha256(b"the same").hexdigest()}
    assert [blob.sha256 for blob in store.inventory()] == list(addresses)
    assert temporary_files(shelf) == []


def test_bytes_held_elsewhere_are_copied_in(store: Blobs, shelf: Shelf) -> None:
    blob = store.keep(InMemory(b"small"))
    assert b"".join(blob.chunks()) == b"small"
    assert temporary_files(shelf) == []


def test_discarding_removes_the_temporary_file_but_never_a_kept_blob(
    store: Blobs, shelf: Shelf
) -> None:
    lost = spooled(store, b"lost")
    lost.discard()
    lost.discard()
    kept = spooled(store, b"kept")
    blob = store.keep(kept)
    assert b"".join(kept.chunks()) == b"kept"
    kept.discard()
    assert temporary_files(shelf) == []
    assert b"".join(store.open(blob.sha256).chunks()) == b"kept"


def test_the_same_file_can_be_kept_twice(store: Blobs) -> None:
    received = spooled(store, b"again")
    assert store.keep(received).sha256 == store.keep(received).sha256
    assert shelf_content(store) == [b"again"]


def shelf_content(store: Blobs) -> list[bytes]:
    return [b"".join(store.open(blob.sha256).chunks()) for blob in store.inventory()]


def test_an_aborted_spool_leaves_nothing(store: Blobs, shelf: Shelf) -> None:
    spool = store.spool()
    spool.write(b"half")
    spool.abort()
    spool.abort()
    assert temporary_files(shelf) == []


@pytest.mark.parametrize("address", ["0" * 64, "../../etc/passwd", "", "A" * 64])
def test_an_unknown_address_is_missing(store: Blobs, address: str) -> None:
    with pytest.raises(BlobMissing):
        store.open(address)


def test_a_blob_deleted_under_a_reader_that_has_not_begun_is_missing(store: Blobs) -> None:
    blob = store.keep(InMemory(b"here"))
    store.delete(blob.sha256)
    store.delete(blob.sha256)
    with pytest.raises(BlobMissing):
        list(blob.chunks())


WAYS: dict[str, Callable[[KeptBlob], Iterator[bytes]]] = {
    "read": lambda blob: blob.chunks(),
    "left to the kernel": lambda blob: read(blob.stretches()),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("size", [0, 1, CHUNK_BYTES, 2 * STRETCH_BYTES, 2 * STRETCH_BYTES + 5])
def test_a_blob_is_served_as_it_was_kept(store: Blobs, size: int, way: str) -> None:
    data = os.urandom(size)
    blob = store.open(store.keep(InMemory(data)).sha256)
    assert b"".join(WAYS[way](blob)) == data


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("size", [1, CHUNK_BYTES, 2 * CHUNK_BYTES + 5, STRETCH_BYTES + 1])
@pytest.mark.parametrize("change", ["flip", "cut", "grow"])
def test_a_changed_blob_is_never_served_to_its_end(
    shelf: Shelf, size: int, change: str, way: str
) -> None:
    blob = shelf.store.keep(InMemory(os.urandom(size)))
    changed = damaged(shelf.read(blob.sha256), change)
    shelf.write(blob.sha256, changed)
    served: list[bytes] = []
    with pytest.raises(BlobCorrupt):
        served.extend(WAYS[way](shelf.store.open(blob.sha256)))
    # extend() keeps what came before the error: the last piece never did.
    assert sum(map(len, served)) < max(len(changed), 1)
    with pytest.raises(BlobCorrupt):
        shelf.store.open(blob.sha256).verified()


def damaged(data: bytes, change: str) -> bytes:
    match change:
        case "flip":
            return data[:-1] + bytes([data[-1] ^ 1])
        case "cut":
            return data[:-1]
        case _:
            return data + b"!"


@pytest.mark.parametrize("change", ["flip", "cut"])
def test_keeping_the_bytes_of_an_old_blob_again_heals_its_damage(shelf: Shelf, change: str) -> None:
    blob = shelf.store.keep(InMemory(b"precious"))
    shelf.write(blob.sha256, damaged(b"precious", change))
    shelf.grow_old(blob.sha256)
    shelf.store.keep(InMemory(b"precious"))
    assert shelf.read(blob.sha256) == b"precious"


@pytest.mark.parametrize(
    "mark",
    [
        LowWaterMark(minimum_free_bytes=2**62),
        LowWaterMark(minimum_free_bytes=0, minimum_free_percent=100.0),
    ],
)
def test_below_the_low_water_mark_new_bytes_are_refused_and_old_ones_served(
    shelf: Shelf, mark: LowWaterMark
) -> None:
    blob = shelf.store.keep(InMemory(b"old"))
    full = shelf.again(mark)
    with pytest.raises(OutOfSpace):
        full.spool()
    assert b"".join(full.open(blob.sha256).chunks()) == b"old"


def test_the_inventory_lists_address_and_size_in_the_order_of_addresses(store: Blobs) -> None:
    kept = {store.keep(InMemory(bytes(size))).sha256: size for size in range(20)}
    found = [(blob.sha256, blob.size) for blob in store.inventory()]
    assert found == sorted(kept.items())


def test_only_old_temporary_files_are_swept(shelf: Shelf) -> None:
    old, young = spooled(shelf.store, b"old"), spooled(shelf.store, b"young")
    os.utime(old.path, (0, 0))
    assert shelf.store.sweep_temporary(DAY) == 1
    assert temporary_files(shelf) == [young.path.name]


def test_only_an_old_blob_is_removed_by_age(shelf: Shelf) -> None:
    blob = shelf.store.keep(InMemory(b"aged"))
    assert not shelf.store.delete_if_older(blob.sha256, DAY)
    shelf.grow_old(blob.sha256)
    assert shelf.store.delete_if_older(blob.sha256, DAY)
    assert not shelf.store.delete_if_older(blob.sha256, DAY)
    assert list(shelf.store.inventory()) == []


def test_a_blob_goes_unless_it_is_needed(shelf: Shelf) -> None:
    shelf.store.keep(InMemory(DATA))
    assert shelf.store.holds(ADDRESS)
    assert not shelf.store.delete_unless(ADDRESS, lambda: True)
    assert shelf.read(ADDRESS) == DATA
    assert shelf.store.delete_unless(ADDRESS, lambda: False)
    assert not shelf.store.holds(ADDRESS)
    assert not shelf.store.delete_unless(ADDRESS, lambda: False)


def test_a_blob_is_out_of_reach_while_it_is_asked_who_needs_it(shelf: Shelf) -> None:
    shelf.store.keep(InMemory(DATA))
    seen = []

    def needed() -> bool:
        seen.append(shelf.store.holds(ADDRESS))
        return True

    assert not shelf.store.delete_unless(ADDRESS, needed)
    assert seen == [False]
    assert shelf.store.holds(ADDRESS)


def test_a_blob_stays_when_it_cannot_be_asked_who_needs_it(shelf: Shelf) -> None:
    shelf.store.keep(InMemory(DATA))

    def needed() -> bool:
        raise DatabaseBusy("later")

    with pytest.raises(DatabaseBusy):
        shelf.store.delete_unless(ADDRESS, needed)
    assert shelf.store.holds(ADDRESS)
