"""Files sealed at rest: what is read is what was sealed, or an error; never anything else."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from soap.message import InMemory, read
from storage.blobs import BlobStore
from storage.contract import Keys
from storage.errors import BlobCorrupt, BlobMissing, KeyUnavailable
from storage.files import FileContent, stream, writing
from storage.keys import KEY_BYTES, Keeper, KeyFile, KnownKey, WrongKey, add_key
from storage.sealed import (
    HEADER_BYTES,
    SEALED_CHUNK_BYTES,
    SUFFIX,
    TAG_BYTES,
    Seal,
    Sealer,
    key_ids,
    plain_size,
    proved_sealed,
    read_header,
    rewrap,
    stored_size,
    unsealed,
)
from storage.sealed import (
    sealed as sealed_file,
)
from storage.spool import Content, SpooledFile

STORED = SEALED_CHUNK_BYTES + TAG_BYTES
ADDRESS = "a" * 64

# Sizes about the borders of chunks, where mistakes are.
sizes = st.builds(
    lambda chunks, more: max(0, chunks * SEALED_CHUNK_BYTES + more),
    st.integers(0, 5),
    st.integers(-2, 2) | st.integers(0, SEALED_CHUNK_BYTES),
)


@pytest.fixture(scope="module")
def keeper(tmp_path_factory: pytest.TempPathFactory) -> KeyFile:
    path = tmp_path_factory.mktemp("keys") / "keys"
    add_key(path)
    return KeyFile(path)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sealed") / f"file{SUFFIX}"


def sealed(keeper: Keeper, data: bytes, address: str = ADDRESS) -> bytes:
    return sealed_file(data, Seal(keeper, address))


def some_bytes(size: int) -> bytes:
    return hashlib.shake_128(size.to_bytes(8)).digest(size)


@settings(deadline=None, max_examples=60)
@given(size=sizes, cuts=st.lists(st.integers(0, 400_000), max_size=6), at=st.data())
def test_any_bytes_in_any_pieces_are_read_in_any_ranges(
    keeper: KeyFile, place: Path, size: int, cuts: list[int], at: st.DataObject
) -> None:
    data = some_bytes(size)
    edges = [0, *sorted(min(cut, size) for cut in cuts), size]
    sealer = Sealer(keeper)
    chunks = [c for a, b in pairwise(edges) for c in sealer.update(data[a:b])]
    stored = b"".join([*chunks, sealer.finish()])
    stored = sealer.header(ADDRESS) + stored
    place.write_bytes(stored)
    seal = Seal(keeper, ADDRESS)

    assert len(stored) == stored_size(size)
    assert plain_size(len(stored)) == size
    content = FileContent.at(place, seal)
    assert content.size == size
    assert b"".join(content.chunks()) == data
    pieces = [stored[n : n + 100_000] for n in range(0, len(stored), 100_000)]
    assert b"".join(unsealed(pieces, seal)) == data
    assert b"".join(proved_sealed(pieces, seal)) == stored
    start = at.draw(st.integers(0, size))
    length = at.draw(st.integers(0, size - start))
    assert b"".join(read(content.stretches([(start, length)]))) == data[start : start + length]
    with stream(content.reference()) as file:
        file.seek(start)
        assert file.read(length) == data[start : start + length]


@settings(deadline=None, max_examples=80)
@given(size=sizes, at=st.data())
def test_any_flipped_bit_is_seen(
    keeper: KeyFile, place: Path, size: int, at: st.DataObject
) -> None:
    stored = bytearray(sealed(keeper, some_bytes(size)))
    # Of the header alone what is unused may change.
    key = st.integers(64, 64 + 1 + 32 + 1 + 60 - 1)
    where = at.draw(st.integers(HEADER_BYTES, len(stored) - 1) | st.integers(0, 15) | key)
    was = bytes(stored)
    stored[where] ^= 1 << at.draw(st.integers(0, 7))
    place.write_bytes(stored)
    try:
        read = b"".join(FileContent.at(place, Seal(keeper, ADDRESS)).chunks())
    except (BlobCorrupt, BlobMissing, KeyUnavailable):
        return
    # Padding of the id: it is as long as its length says.
    assert 64 < where < 64 + 33
    assert key_ids(bytes(stored[:HEADER_BYTES])) == key_ids(was[:HEADER_BYTES])
    assert read == some_bytes(size)


def cut(chunks: list[bytes]) -> list[bytes]:
    return chunks[:-1]


def cut_inside(chunks: list[bytes]) -> list[bytes]:
    return [*chunks[:-1], chunks[-1][:-1]]


def swapped(chunks: list[bytes]) -> list[bytes]:
    return [chunks[1], chunks[0], *chunks[2:]]


def repeated(chunks: list[bytes]) -> list[bytes]:
    return [chunks[0], *chunks]


def dropped(chunks: list[bytes]) -> list[bytes]:
    return chunks[1:]


def continued(chunks: list[bytes]) -> list[bytes]:
    return [*chunks, chunks[-1]]


@pytest.mark.parametrize("harm", [cut, cut_inside, swapped, repeated, dropped, continued])
def test_chunks_have_their_place(keeper: KeyFile, place: Path, harm: object) -> None:
    stored = sealed(keeper, some_bytes(3 * SEALED_CHUNK_BYTES))
    header, body = stored[:HEADER_BYTES], stored[HEADER_BYTES:]
    chunks = [body[n : n + STORED] for n in range(0, len(body), STORED)]
    assert callable(harm)
    place.write_bytes(header + b"".join(harm(chunks)))
    with pytest.raises(BlobCorrupt):
        list(FileContent.at(place, Seal(keeper, ADDRESS)).chunks())
    with pytest.raises(BlobCorrupt):
        list(unsealed([place.read_bytes()], Seal(keeper, ADDRESS)))


def test_a_chunk_or_a_header_of_another_file_does_not_open(keeper: KeyFile, place: Path) -> None:
    one, two = (sealed(keeper, some_bytes(SEALED_CHUNK_BYTES) * 2) for _ in range(2))
    for border in (HEADER_BYTES, HEADER_BYTES + STORED):
        place.write_bytes(one[:border] + two[border:])
        with pytest.raises(BlobCorrupt):
            list(FileContent.at(place, Seal(keeper, ADDRESS)).chunks())


def test_a_file_does_not_open_under_the_name_of_another(keeper: KeyFile, place: Path) -> None:
    place.write_bytes(sealed(keeper, b"of somebody else", "b" * 64))
    with pytest.raises(BlobCorrupt):
        FileContent.at(place, Seal(keeper, ADDRESS)).open()


def test_what_looks_sealed_is_a_document_like_any_other(tmp_path: Path, keys: Keys) -> None:
    """Whoever sends the bytes of a sealed file, or any others, gets exactly them back."""
    posing = sealed(keys.keeper, b"hidden")
    for store in (BlobStore(tmp_path / "plain"), BlobStore(tmp_path / "sealed", keys=keys)):
        blob = store.keep(InMemory(posing))
        assert b"".join(store.open(blob.sha256).chunks()) == posing


def test_no_byte_of_a_document_lies_on_the_disk(tmp_path: Path, keys: Keys) -> None:
    store = BlobStore(tmp_path / "blobs", keys=keys)
    canary = b"CANARY^OF^THE^MINE"
    kept = store.keep(InMemory(canary * 10_000))
    arriving = store.spool()
    arriving.write(canary * 200_000)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) == 3  # the keys, the document, and what arrives
    assert not any(canary in path.read_bytes() for path in files)
    arriving.abort()
    assert b"".join(store.open(kept.sha256).chunks()) == canary * 10_000


def test_a_removed_document_cannot_be_read_with_its_key(tmp_path: Path, keys: Keys) -> None:
    """Somebody holds the file open, or finds its blocks: the key of it is gone."""
    store = BlobStore(tmp_path / "blobs", keys=keys)
    blob = store.keep(InMemory(b"to be forgotten"))
    other = tmp_path / f"other{SUFFIX}"
    os.link(blob.path, other)
    assert store.delete_unless(blob.sha256, lambda: False)
    assert not store.holds(blob.sha256)
    with pytest.raises(BlobMissing):
        FileContent.at(other, Seal(keys.keeper, blob.sha256)).open()


def test_a_store_without_keys_says_which_file_needs_them(tmp_path: Path, keys: Keys) -> None:
    blob = BlobStore(tmp_path / "blobs", keys=keys).keep(InMemory(b"x"))
    with pytest.raises(KeyUnavailable, match=r"at_rest\.keys"):
        BlobStore(tmp_path / "blobs").open(blob.sha256)


def test_sealing_what_lies_plain_keeps_address_size_and_age(tmp_path: Path, keys: Keys) -> None:
    plain = BlobStore(tmp_path / "blobs").keep(InMemory(b"from before"))
    os.utime(plain.path, (1e9, 1e9))
    store = BlobStore(tmp_path / "blobs", keys=keys)
    reading = store.open(plain.sha256).content
    assert store.seal(plain.sha256)
    assert not store.seal(plain.sha256)
    [found] = store.inventory()
    assert (found.sha256, found.size, found.sealed) == (plain.sha256, plain.size, True)
    assert found.kept_at == 1e9
    assert not plain.path.exists()
    assert b"".join(reading.chunks()) == b"from before"  # by who had found it plain


@pytest.mark.parametrize("kept_anew", [False, True])
def test_what_is_removed_while_it_is_sealed_stays_removed(
    tmp_path: Path, keys: Keys, monkeypatch: pytest.MonkeyPatch, kept_anew: bool
) -> None:
    plain = BlobStore(tmp_path / "blobs").keep(InMemory(b"contested"))
    store, other = (BlobStore(tmp_path / "blobs", keys=keys) for _ in range(2))
    receive = store.receive

    def meanwhile(content: Content) -> SpooledFile:
        spooled = receive(content)
        other.delete(plain.sha256)
        if kept_anew:
            other.keep(InMemory(b"contested"))
        return spooled

    monkeypatch.setattr(store, "receive", meanwhile)
    store.seal(plain.sha256)
    assert store.holds(plain.sha256) == kept_anew
    assert os.listdir(store.root / "tmp") == []


def test_rotation_leaves_no_trace_of_the_old_key(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    old = add_key(path)
    keeper = KeyFile(path)
    store = BlobStore(tmp_path / "blobs", keys=Keys(keeper))
    blob = store.keep(InMemory(b"kept"))
    assert not store.rewrap(blob.sha256)
    new = add_key(path)  # which is seen without a restart
    assert store.rewrap(blob.sha256)
    assert key_ids(read_header(blob.path)) == {new} != {old}
    path.write_text(path.read_text().splitlines()[1] + "\n")
    again = BlobStore(tmp_path / "blobs", keys=Keys(KeyFile(path)))
    assert b"".join(again.open(blob.sha256).chunks()) == b"kept"


@pytest.mark.parametrize("torn", [0, 1, 40, 100, 193])
def test_a_torn_new_slot_costs_nothing(tmp_path: Path, torn: int) -> None:
    path = tmp_path / "keys"
    add_key(path)
    keeper = KeyFile(path)
    place, seal = tmp_path / f"one{SUFFIX}", Seal(keeper, ADDRESS)
    place.write_bytes(sealed(keeper, b"data"))
    add_key(path)
    slot = sealed(keeper, b"other")[64 : 64 + torn]  # of the new key, not wholly written
    with place.open("r+b") as file:
        file.seek(512)
        file.write(slot)
    for _ in range(2):
        assert b"".join(FileContent.at(place, seal).chunks()) == b"data"
        rewrap(place, seal)
    assert key_ids(read_header(place)) == {keeper.current}


_STEP = """
import sys
from pathlib import Path
from storage.blobs import BlobStore
from storage.contract import Keys
from storage.keys import KeyFile
step, root, keys, address = sys.argv[1:]
store = BlobStore(Path(root), keys=Keys(KeyFile(Path(keys))))
{"seal": store.seal, "rewrap": store.rewrap, "delete": store.delete}[step](address)
"""


@pytest.mark.parametrize(
    ("step", "point"),
    [("seal", "keys.sealing"), ("rewrap", "keys.rewrapped"), ("delete", "storage.erased")],
)
def test_killed_at_any_point_nothing_is_lost(tmp_path: Path, step: str, point: str) -> None:
    keys, root = tmp_path / "keys", tmp_path / "blobs"
    add_key(keys)
    before = None if step == "seal" else Keys(KeyFile(keys))
    blob = BlobStore(root, keys=before).keep(InMemory(b"precious"))
    add_key(keys)
    command = [sys.executable, "-c", _STEP, step, str(root), str(keys), blob.sha256]
    fault = os.environ | {"KOSMOS_FAULT": f"{point}:kill"}
    killed = subprocess.run(command, env=fault, check=False)
    assert killed.returncode < 0

    store = BlobStore(root, keys=Keys(KeyFile(keys)))
    if step == "delete":
        with pytest.raises(BlobMissing):
            list(store.open(blob.sha256).chunks())
        store.delete(blob.sha256)
        assert not store.holds(blob.sha256)
        return
    assert b"".join(store.open(blob.sha256).chunks()) == b"precious"
    store.seal(blob.sha256)
    store.rewrap(blob.sha256)
    assert store.open(blob.sha256).sealed
    assert key_ids(store.open(blob.sha256).header()) == {KeyFile(keys).current}


def test_an_erased_file_left_by_a_removal_is_not_put_back(tmp_path: Path, keys: Keys) -> None:
    store = BlobStore(tmp_path / "blobs", keys=keys)
    blob = store.keep(InMemory(b"gone"))
    aside = store.root / "tmp" / f"removing-{blob.path.name}"
    os.rename(blob.path, aside)
    with open(aside, "r+b") as file:
        file.seek(16)
        file.write(bytes(HEADER_BYTES - 16))
    again = BlobStore(tmp_path / "blobs", keys=keys)
    assert not again.holds(blob.sha256)
    assert not aside.exists()


def test_another_process_writes_sealed_with_the_key_it_is_handed(
    keeper: KeyFile, tmp_path: Path
) -> None:
    target, data_key = tmp_path / f"made{SUFFIX}", os.urandom(KEY_BYTES)
    header = Sealer(keeper, data_key).header("made")
    data = some_bytes(200_000)
    with writing([str(target), data_key.hex(), header.hex()]) as out:
        out.write(data[:1000])
        out.write(data[1000:])
    assert b"".join(FileContent.at(target, Seal(keeper, "made")).chunks()) == data
    assert data_key.hex() not in repr(KnownKey(data_key))


def test_keys_that_are_added_at_once_are_all_there(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "keys"
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: add_key(path), range(16)))
    path.write_text(path.read_text().rstrip("\n"))  # as an editor leaves it
    made.append(add_key(path))
    assert sorted(line.split()[0] for line in path.read_text().splitlines()) == sorted(made)
    assert KeyFile(path).current == made[-1]
    assert os.listdir(path.parent) == ["keys"]


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        ("", "has no key"),
        ("one not-base64\n", "line 1"),
        ("one AAAA\n", "line 1"),
        ("a/b " + "A" * 43 + "=\n", "line 1"),
    ],
)
def test_a_key_file_that_is_none_is_refused(tmp_path: Path, lines: str, told: str) -> None:
    path = tmp_path / "keys"
    path.write_text(lines)
    path.chmod(0o600)
    with pytest.raises(KeyUnavailable, match=told):
        KeyFile(path)


def test_a_key_file_that_others_may_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    add_key(path)
    path.chmod(0o640)
    with pytest.raises(KeyUnavailable, match="chmod 600") as refused:
        KeyFile(path)
    assert path.read_text().split()[1] not in str(refused.value)


def test_another_key_under_the_same_id_is_told_from_a_missing_one(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    key_id = add_key(path)
    keeper = KeyFile(path)
    wrapped = keeper.wrap(key_id, bytes(32), b"context")
    add_key(other := tmp_path / "other")
    other.write_text(f"{key_id} {other.read_text().split()[1]}\n")
    with pytest.raises(WrongKey):
        KeyFile(other).unwrap(key_id, wrapped, b"context")
    with pytest.raises(WrongKey):
        keeper.unwrap(key_id, wrapped, b"another context")
    with pytest.raises(KeyUnavailable, match="no key elsewhere"):
        keeper.unwrap("elsewhere", wrapped, b"context")
