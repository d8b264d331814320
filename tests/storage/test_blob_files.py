"""What is true of a store of blobs on a file system alone: see ``test_blobs.py`` for the rest."""

from __future__ import annotations

import errno
import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from soap.message import InMemory
from storage import spool as spool_module
from storage.blobs import BlobStore
from storage.errors import BlobStoreUnavailable, OutOfSpace
from storage.files import CHUNK_BYTES
from storage.space import LowWaterMark
from storage.spool import SpooledFile

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


def test_pieces_are_bounded(store: BlobStore) -> None:
    data = os.urandom(3 * CHUNK_BYTES + 1)
    blob = store.keep(spooled(store, data))
    assert [len(piece) for piece in blob.chunks()] == [CHUNK_BYTES] * 3 + [1]


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
    monkeypatch.setattr(spool_module, "SYNC_FAILURE_WINDOW_SECONDS", -1.0)
    store.sync_failed()
    store.sync_failed()
    store.spool().abort()


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


def test_keeping_an_old_blob_again_protects_it_from_removal_by_age(store: BlobStore) -> None:
    blob = store.keep(InMemory(b"aged"))
    os.utime(blob.path, (0, 0))
    store.keep(InMemory(b"aged"))
    lain = blob.path.stat().st_ctime_ns
    assert not store.delete_if_older(blob.sha256, DAY)
    assert blob.path.stat().st_ctime_ns == lain  # not moved aside for a moment, when it is missed
    assert b"".join(store.open(blob.sha256).chunks()) == b"aged"


def addressed(store: BlobStore, *pieces: bytes) -> SpooledFile:
    spool = store.spool_addressed()
    for piece in pieces:
        spool.write(piece)
    return spool.finish()


@pytest.mark.parametrize("sizes", [(), (1,), (400, 70_000, 70_000, 3), (2_000_000,), (9,) * 50])
def test_bytes_known_by_their_address_alone_are_kept_whole(
    store: BlobStore, sizes: tuple[int, ...]
) -> None:
    pieces = [os.urandom(size) for size in sizes]
    blob = store.keep(addressed(store, *pieces))

    data = b"".join(pieces)
    assert blob.sha256 == hashlib.sha256(data).hexdigest()
    assert b"".join(store.open(blob.sha256).chunks()) == data
    assert temporary_files(store) == []


def test_such_bytes_get_their_name_first_and_are_synced_with_it(
    store: BlobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    fsync, link = os.fsync, os.link

    def note_fsync(descriptor: int) -> None:
        steps.append(f"sync {os.path.basename(os.readlink(f'/proc/self/fd/{descriptor}'))}")
        fsync(descriptor)

    def note_link(source: Path, target: Path) -> None:
        steps.append(f"name in {target.parent.name}")
        link(source, target)

    monkeypatch.setattr(os, "fsync", note_fsync)
    monkeypatch.setattr(os, "link", note_link)
    received = addressed(store, b"durable")
    temporary = received.path.name
    blob = store.keep(received)
    shard = blob.sha256[:2]
    assert steps == [f"name in {shard}", f"sync {temporary}", f"sync {shard}"]


def test_a_name_that_is_taken_is_left_alone_until_the_bytes_are_synced(
    store: BlobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = store.keep(InMemory(b"acknowledged"))
    before = first.path.stat().st_ino

    def fail(_: int) -> None:
        assert first.path.stat().st_ino == before
        raise OSError(errno.EIO, "Input/output error")

    received = addressed(store, b"acknowledged")
    with monkeypatch.context() as broken:
        broken.setattr(os, "fsync", fail)
        with pytest.raises(BlobStoreUnavailable):
            store.keep(received)
    received.discard()
    assert first.path.stat().st_ino == before
    assert b"".join(first.chunks()) == b"acknowledged"
    store.keep(addressed(store, b"acknowledged"))
    assert temporary_files(store) == []


def test_a_name_whose_bytes_could_not_be_synced_is_taken_back(
    store: BlobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    received = addressed(store, b"lost")
    with monkeypatch.context() as broken:
        broken.setattr(os, "fsync", fail)
        with pytest.raises(BlobStoreUnavailable):
            store.keep(received)
    received.discard()
    assert not store.holds(received.sha256)
    assert temporary_files(store) == []


def test_a_file_system_without_links_keeps_such_bytes_too(
    store: BlobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unsupported(_source: Path, _target: Path) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", unsupported)
    blob = store.keep(addressed(store, b"plain"))
    assert b"".join(store.open(blob.sha256).chunks()) == b"plain"
    assert temporary_files(store) == []
