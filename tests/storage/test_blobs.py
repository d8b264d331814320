from __future__ import annotations

import errno
import hashlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from soap.message import InMemory, Received, Spool
from storage import blobs as blobs_module
from storage.blobs import CHUNK_BYTES, BlobStore, SpooledFile
from storage.errors import BlobCorrupt, BlobMissing, BlobStoreUnavailable, OutOfSpace
from storage.space import LowWaterMark

NO_LIMIT = LowWaterMark(minimum_free_bytes=0)
DAY = 86_400.0


@pytest.fixture
def store(tmp_path: Path) -> BlobStore:
    return BlobStore(tmp_path / "blobs", NO_LIMIT)


def spooled(store: BlobStore, data: bytes) -> SpooledFile:
    spool = store.spool()
    spool.write(data)
    return spool.finish()


def temporary_files(store: BlobStore) -> list[str]:
    return os.listdir(store.root / "tmp")


def grow_old(store: BlobStore, sha256: str) -> None:
    os.utime(store.root / sha256[:2] / sha256, (0, 0))


# Each example is a new store with its 256 folders: on a busy disk that takes its time.
@settings(max_examples=40, deadline=None)
@given(st.lists(st.binary(max_size=CHUNK_BYTES // 2), max_size=8))
def test_what_is_written_in_any_pieces_is_what_is_read(pieces: list[bytes]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = BlobStore(Path(folder), NO_LIMIT)
        spool = store.spool()
        for piece in pieces:
            spool.write(piece)
        received = spool.finish()
        data = b"".join(pieces)
        assert received.size == len(data)
        assert received.sha1 == hashlib.sha1(data).hexdigest()
        assert received.sha256 == hashlib.sha256(data).hexdigest()
        blob = store.keep(received)
        assert b"".join(store.open(blob.sha256).chunks()) == data
        assert b"".join(blob.verified().chunks()) == data


def test_a_spool_and_what_it_gives_are_those_of_the_message_contract(store: BlobStore) -> None:
    spool: Spool = store.spool()
    spool.write(b"x")
    received: Received = spool.finish()
    assert list(received.chunks()) == [b"x"]


def test_pieces_are_bounded(store: BlobStore) -> None:
    data = os.urandom(3 * CHUNK_BYTES + 1)
    blob = store.keep(spooled(store, data))
    assert [len(piece) for piece in blob.chunks()] == [CHUNK_BYTES] * 3 + [1]


def test_equal_bytes_kept_by_many_threads_are_one_file(store: BlobStore) -> None:
    received = [spooled(store, b"the same") for _ in range(16)]
    with ThreadPoolExecutor(16) as pool:
        addresses = {blob.sha256 for blob in pool.map(store.keep, received)}
    assert addresses == {hashlib.sha256(b"the same").hexdigest()}
    assert [blob.sha256 for blob in store.inventory()] == list(addresses)
    assert temporary_files(store) == []


def test_bytes_held_elsewhere_are_copied_in(store: BlobStore) -> None:
    blob = store.keep(InMemory(b"small"))
    assert b"".join(blob.chunks()) == b"small"
    assert temporary_files(store) == []


def test_discarding_removes_the_temporary_file_but_never_a_kept_blob(store: BlobStore) -> None:
    lost = spooled(store, b"lost")
    lost.discard()
    lost.discard()
    kept = spooled(store, b"kept")
    blob = store.keep(kept)
    kept.discard()
    assert temporary_files(store) == []
    assert b"".join(store.open(blob.sha256).chunks()) == b"kept"
    assert b"".join(kept.chunks()) == b"kept"


def test_an_aborted_spool_leaves_nothing(store: BlobStore) -> None:
    spool = store.spool()
    spool.write(b"half")
    spool.abort()
    spool.abort()
    assert temporary_files(store) == []


@pytest.mark.parametrize("address", ["0" * 64, "../../etc/passwd", "", "A" * 64])
def test_an_unknown_address_is_missing(store: BlobStore, address: str) -> None:
    with pytest.raises(BlobMissing):
        store.open(address)


def test_a_blob_deleted_under_a_reader_that_has_not_begun_is_missing(store: BlobStore) -> None:
    blob = store.keep(InMemory(b"here"))
    store.delete(blob.sha256)
    store.delete(blob.sha256)
    with pytest.raises(BlobMissing):
        list(blob.chunks())


@pytest.mark.parametrize("size", [1, CHUNK_BYTES, 2 * CHUNK_BYTES + 5])
@pytest.mark.parametrize("change", ["flip", "cut", "grow"])
def test_a_changed_blob_is_never_served_to_its_end(
    store: BlobStore, size: int, change: str
) -> None:
    blob = store.keep(InMemory(os.urandom(size)))
    damage(blob.path, change)
    served: list[bytes] = []
    with pytest.raises(BlobCorrupt):
        served.extend(store.open(blob.sha256).chunks())
    # extend() keeps what came before the error: the last piece never did.
    assert sum(map(len, served)) < max(blob.path.stat().st_size, 1)
    with pytest.raises(BlobCorrupt):
        store.open(blob.sha256).verified()


def damage(path: Path, change: str) -> None:
    data = bytearray(path.read_bytes())
    match change:
        case "flip":
            data[-1] ^= 1
        case "cut":
            del data[-1:]
        case "grow":
            data += b"!"
    path.write_bytes(data)


def test_keeping_the_bytes_again_heals_a_damaged_blob(store: BlobStore) -> None:
    blob = store.keep(InMemory(b"precious"))
    damage(blob.path, "flip")
    store.keep(InMemory(b"precious"))
    assert b"".join(store.open(blob.sha256).chunks()) == b"precious"


def test_bytes_and_name_are_synced_before_keep_returns(
    store: BlobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    fsync, replace = os.fsync, os.replace

    def note_fsync(descriptor: int) -> None:
        steps.append(f"sync {os.path.basename(os.readlink(f'/proc/self/fd/{descriptor}'))}")
        fsync(descriptor)

    def note_replace(source: Path, target: Path) -> None:
        steps.append(f"move to {target.parent.name}")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", note_fsync)
    monkeypatch.setattr(os, "replace", note_replace)
    received = spooled(store, b"durable")
    temporary = received.path.name
    blob = store.keep(received)
    shard = blob.sha256[:2]
    assert steps == [f"sync {temporary}", f"move to {shard}", f"sync {shard}"]


def test_a_failed_sync_keeps_nothing_and_a_second_one_stops_writing(
    store: BlobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    blob = store.keep(InMemory(b"before"))

    def fail(_: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as broken:
        broken.setattr(os, "fsync", fail)
        for _ in range(2):
            with pytest.raises(BlobStoreUnavailable, match="syncing"):
                spooled(store, b"after")
    assert temporary_files(store) == []
    with pytest.raises(BlobStoreUnavailable, match="takes no more"):
        store.spool()
    assert b"".join(store.open(blob.sha256).chunks()) == b"before"
    BlobStore(store.root, NO_LIMIT).spool().abort()


def test_two_failed_syncs_far_apart_do_not_stop_writing(
    store: BlobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blobs_module, "SYNC_FAILURE_WINDOW_SECONDS", -1.0)
    store.sync_failed()
    store.sync_failed()
    store.spool().abort()


@pytest.mark.parametrize(
    "mark",
    [
        LowWaterMark(minimum_free_bytes=2**62),
        LowWaterMark(minimum_free_bytes=0, minimum_free_percent=100.0),
    ],
)
def test_below_the_low_water_mark_new_bytes_are_refused_and_old_ones_served(
    store: BlobStore, mark: LowWaterMark
) -> None:
    blob = store.keep(InMemory(b"old"))
    full = BlobStore(store.root, mark)
    with pytest.raises(OutOfSpace):
        full.spool()
    assert b"".join(full.open(blob.sha256).chunks()) == b"old"


_GROW_BEYOND_LIMIT = """
import resource, sys
from pathlib import Path
from storage.blobs import BlobStore
from storage.errors import OutOfSpace
from storage.space import LowWaterMark
store = BlobStore(Path(sys.argv[1]), LowWaterMark(minimum_free_bytes=0))
resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))
spool = store.spool()
try:
    spool.write(bytes(2_000_000))
except OutOfSpace:
    small = store.spool()
    small.write(b"fits")
    print(store.keep(small.finish()).sha256)
"""


def test_a_file_that_may_not_grow_is_out_of_space_and_leaves_nothing(store: BlobStore) -> None:
    root = Path(__file__).parents[2]
    child = subprocess.run(
        [sys.executable, "-c", _GROW_BEYOND_LIMIT, store.root],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True,
        check=True,
    )
    assert child.stdout.decode().strip() == hashlib.sha256(b"fits").hexdigest()
    assert temporary_files(store) == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MiB, where the machine lets us mount one."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small file system needs root")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_refuses_new_bytes_and_recovers_when_there_is_room(small_disk: Path) -> None:
    store = BlobStore(small_disk / "blobs", NO_LIMIT)
    kept = [store.keep(InMemory(os.urandom(1_000_000))) for _ in range(3)]
    with pytest.raises(OutOfSpace):
        store.keep(InMemory(os.urandom(2_000_000)))
    assert temporary_files(store) == []
    assert all(sum(map(len, blob.chunks())) == 1_000_000 for blob in kept)
    store.delete(kept[0].sha256)
    store.delete(kept[1].sha256)
    store.keep(InMemory(os.urandom(2_000_000)))


def test_the_inventory_lists_address_and_size(store: BlobStore) -> None:
    kept = {store.keep(InMemory(bytes(size))).sha256: size for size in range(20)}
    assert {blob.sha256: blob.size for blob in store.inventory()} == kept


def test_only_old_temporary_files_are_swept(store: BlobStore) -> None:
    old, young = spooled(store, b"old"), spooled(store, b"young")
    os.utime(old.path, (0, 0))
    assert store.sweep_temporary(DAY) == 1
    assert temporary_files(store) == [young.path.name]


def test_only_an_old_blob_is_removed_by_age(store: BlobStore) -> None:
    blob = store.keep(InMemory(b"aged"))
    assert not store.delete_if_older(blob.sha256, DAY)
    grow_old(store, blob.sha256)
    assert store.delete_if_older(blob.sha256, DAY)
    assert not store.delete_if_older(blob.sha256, DAY)
    assert list(store.inventory()) == []


def test_keeping_an_old_blob_again_protects_it_from_removal_by_age(store: BlobStore) -> None:
    blob = store.keep(InMemory(b"aged"))
    grow_old(store, blob.sha256)
    store.keep(InMemory(b"aged"))
    assert not store.delete_if_older(blob.sha256, DAY)
    assert b"".join(store.open(blob.sha256).chunks()) == b"aged"


def test_a_removal_interrupted_by_a_crash_is_taken_back(store: BlobStore) -> None:
    blob = store.keep(InMemory(b"saved"))
    os.rename(blob.path, store.root / "tmp" / f"removing-{blob.sha256}")
    again = BlobStore(store.root, NO_LIMIT)
    assert b"".join(again.open(blob.sha256).chunks()) == b"saved"
    assert temporary_files(again) == []


def test_a_store_that_cannot_be_made_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(BlobStoreUnavailable, match="opening the blob store"):
        BlobStore(tmp_path / "file" / "blobs")
