"""What is true of a store of blobs on an object store alone: see ``test_blobs.py`` for the rest."""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import obstore
import pytest

from soap.message import InMemory
from storage import bucket as bucket_module
from storage import multipart, objects
from storage.bucket import Bucket, SignedRequests, judge
from storage.errors import (
    BlobCorrupt,
    BlobStoreBusy,
    BlobStoreUnavailable,
    OutOfSpace,
    StorageError,
)
from storage.multipart import MultipartUploads
from storage.objects import HeldContent, ObjectBlob, ObjectStore
from tests.storage.object_server import ObjectServer
from tests.storage.shelves import NO_LIMIT, ObjectShelf
from tests.waiting import wait_for

DAY = 86_400.0
# The least that S3 allows a part that is not the last.
SMALLEST_PART = 5 * 1024 * 1024
DATA = b"precious"
ADDRESS = hashlib.sha256(DATA).hexdigest()


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(multipart, "PART_BYTES", SMALLEST_PART)
    monkeypatch.setattr(objects, "PART_BYTES", SMALLEST_PART)


@pytest.fixture
def uploads(object_shelf: ObjectShelf) -> MultipartUploads:
    return MultipartUploads(object_shelf.bucket)


@pytest.fixture
def large(tmp_path: Path) -> Path:
    file = tmp_path / "large"
    file.write_bytes(os.urandom(2 * SMALLEST_PART + 17))
    return file


def there(shelf: ObjectShelf, name: str) -> bool:
    try:
        obstore.head(shelf.objects, name)
    except FileNotFoundError:
        return False
    return True


# Large blobs, in parts


@pytest.mark.usefixtures("small_parts")
def test_a_large_blob_is_sent_in_parts_and_served_whole(
    object_shelf: ObjectShelf, uploads: MultipartUploads, large: Path
) -> None:
    data = large.read_bytes()
    blob = object_shelf.store.keep(InMemory(data))
    sent = obstore.head(object_shelf.objects, f"blobs/{blob.sha256}")
    assert (sent["size"], str(sent["e_tag"])[-3:]) == (len(data), '-3"')
    assert b"".join(blob.chunks()) == data
    proved = blob.verified()  # more than is held in memory
    assert (proved.size, b"".join(proved.chunks())) == (len(data), data)
    assert list(uploads.unfinished()) == []


@pytest.mark.usefixtures("small_parts")
def test_an_object_in_parts_is_created_once(uploads: MultipartUploads, large: Path) -> None:
    size = large.stat().st_size
    assert uploads.create("large", large, size, replace=False)
    assert not uploads.create("large", large, size, replace=False)
    assert uploads.create("large", large, size, replace=True)
    assert list(uploads.unfinished()) == []


@pytest.mark.usefixtures("small_parts")
def test_a_part_that_cannot_be_sent_aborts_the_upload(
    object_shelf: ObjectShelf,
    uploads: MultipartUploads,
    large: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    send = MultipartUploads._send

    def fail(self: MultipartUploads, key: str, upload_id: str, file: Path, number: int) -> object:
        if number == 2:
            raise BlobStoreBusy("away")
        return send(self, key, upload_id, file, number)

    monkeypatch.setattr(MultipartUploads, "_send", fail)
    with pytest.raises(BlobStoreBusy):
        object_shelf.store.keep(InMemory(large.read_bytes()))
    assert list(uploads.unfinished()) == []
    assert list(object_shelf.store.inventory()) == []
    assert os.listdir(object_shelf.temporary) == []


def test_only_an_upload_that_nobody_finishes_is_swept(
    object_shelf: ObjectShelf, uploads: MultipartUploads
) -> None:
    key = object_shelf.bucket.key("blobs/begun")
    uploads._begin(key)
    assert [upload.key for upload in uploads.unfinished()] == [key]
    assert object_shelf.store.sweep_temporary(0) == 0
    object_shelf.later = 2 * DAY
    assert object_shelf.store.sweep_temporary(DAY) == 1
    assert list(uploads.unfinished()) == []


def test_many_proved_blobs_are_not_all_held_in_memory(
    object_shelf: ObjectShelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(objects, "HELD_BYTES", 2500)
    monkeypatch.setattr(objects, "_memory", objects._Memory())
    blobs = [object_shelf.store.keep(InMemory(os.urandom(1000))) for _ in range(4)]
    proved = [blob.verified() for blob in blobs]
    assert [type(content) for content in proved] == [HeldContent] * 2 + [ObjectBlob] * 2
    for blob, content in zip(blobs, proved, strict=True):
        assert b"".join(content.chunks()) == b"".join(blob.chunks())
    del proved, content
    assert type(blobs[3].verified()) is HeldContent


# Created once; believed when proved


def test_a_fresh_blob_is_not_sent_again(
    object_shelf: ObjectShelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    object_shelf.store.keep(InMemory(DATA))

    def refuse(*_: object) -> bool:
        raise AssertionError("it was sent again")

    monkeypatch.setattr(ObjectStore, "_replace", refuse)
    object_shelf.store.keep(InMemory(DATA))


def test_the_store_judges_the_checksum_that_goes_along(object_shelf: ObjectShelf) -> None:
    wrong = base64.b64encode(hashlib.sha256(b"other").digest()).decode()
    right = base64.b64encode(hashlib.sha256(DATA).digest()).decode()
    requests = SignedRequests(object_shelf.bucket)
    key = object_shelf.bucket.key("probe")
    for checksum, status in ((wrong, 400), (right, 200)):
        headers = {"x-amz-checksum-sha256": checksum}
        assert requests.send("PUT", key, {}, DATA, headers).status == status


def test_a_store_without_checksums_is_believed_only_when_it_gives_the_bytes_back(
    object_server: ObjectServer, object_shelf: ObjectShelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = object_server.bucket(object_shelf.bucket.prefix, checksums=False)
    store = ObjectStore(plain, object_shelf.temporary, NO_LIMIT)
    store.keep(InMemory(b"well kept"))
    create = ObjectStore._create

    def lose_a_bit(self: ObjectStore, name: str, data: bytes) -> bool:
        return create(self, name, data[:-1] + b"?" if data else data)

    monkeypatch.setattr(ObjectStore, "_create", lose_a_bit)
    with pytest.raises(BlobCorrupt):
        store.keep(InMemory(DATA))


def test_a_store_that_does_what_is_asked_of_it_is_proved_and_left_as_it_was(
    object_shelf: ObjectShelf,
) -> None:
    object_shelf.store.answers()
    object_shelf.store.prove()
    assert [page for page in obstore.list(object_shelf.objects) if page] == []


@pytest.mark.parametrize(
    ("promise", "words"),
    [
        ((ObjectStore, "_create"), "If-None-Match"),
        ((MultipartUploads, "checksums_are_judged"), "checksums = false"),
    ],
)
def test_a_store_that_breaks_a_promise_is_told_of(
    object_shelf: ObjectShelf,
    monkeypatch: pytest.MonkeyPatch,
    promise: tuple[type, str],
    words: str,
) -> None:
    create = ObjectStore._create
    broken = {
        "_create": lambda self, name, data: create(self, name, data) or True,
        "checksums_are_judged": lambda self, name: False,
    }
    monkeypatch.setattr(*promise, broken[promise[1]])
    with pytest.raises(BlobStoreUnavailable, match=words):
        object_shelf.store.prove()
    assert [page for page in obstore.list(object_shelf.objects) if page] == []


# A removal by age and a keeper of the same bytes


def test_a_keeper_waits_for_a_removal_and_puts_the_bytes_again(object_shelf: ObjectShelf) -> None:
    obstore.put(object_shelf.objects, f"removing/{ADDRESS}", b"")
    with ThreadPoolExecutor(1) as pool:
        keeping = pool.submit(object_shelf.store.keep, InMemory(DATA))
        wait_for(lambda: there(object_shelf, f"blobs/{ADDRESS}"))
        # The removal had looked before the bytes came, and strikes now.
        obstore.delete(object_shelf.objects, f"blobs/{ADDRESS}")
        obstore.delete(object_shelf.objects, f"removing/{ADDRESS}")
        assert b"".join(keeping.result().chunks()) == DATA


def test_a_keeper_notices_a_removal_that_struck_and_ended_before_it_looked(
    object_shelf: ObjectShelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    head, strikes = ObjectStore._head, [1]

    def strike_first(self: ObjectStore, name: str) -> object:
        if name == f"removing/{ADDRESS}" and strikes:
            strikes.pop()
            obstore.delete(object_shelf.objects, f"blobs/{ADDRESS}")
        return head(self, name)

    monkeypatch.setattr(ObjectStore, "_head", strike_first)
    blob = object_shelf.store.keep(InMemory(DATA))
    assert not strikes
    assert b"".join(blob.chunks()) == DATA


def test_a_removal_that_never_ends_keeps_keepers_out_until_it_is_swept(
    object_shelf: ObjectShelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(objects, "FIRST_PAUSE_SECONDS", 0.0)
    obstore.put(object_shelf.objects, f"removing/{ADDRESS}", b"")
    with pytest.raises(BlobStoreBusy, match="removal"):
        object_shelf.store.keep(InMemory(DATA))
    assert object_shelf.store.sweep_temporary(0) == 0
    object_shelf.later = DAY
    assert object_shelf.store.sweep_temporary(0) == 1
    object_shelf.store.keep(InMemory(DATA))


def test_of_two_removals_one_does_it(object_shelf: ObjectShelf) -> None:
    object_shelf.store.keep(InMemory(DATA))
    object_shelf.later = DAY
    with ThreadPoolExecutor(8) as pool:
        done = list(pool.map(object_shelf.store.delete_if_older, [ADDRESS] * 8, [0.0] * 8))
    assert done.count(True) == 1
    assert list(object_shelf.store.inventory()) == []
    assert not there(object_shelf, f"removing/{ADDRESS}")


def test_a_removal_whose_outcome_is_unknown_leaves_its_mark(
    object_shelf: ObjectShelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    object_shelf.store.keep(InMemory(DATA))
    object_shelf.later = DAY

    def lose_the_answer(*_: object) -> None:
        raise BlobStoreBusy("no answer")

    monkeypatch.setattr(ObjectStore, "_delete", lose_the_answer)
    with pytest.raises(BlobStoreBusy):
        object_shelf.store.delete_if_older(ADDRESS, 0)
    assert there(object_shelf, f"removing/{ADDRESS}")


# The store away


def everything(store: ObjectStore) -> Iterator[Callable[[], object]]:
    yield lambda: store.keep(InMemory(b"new"))
    yield lambda: store.open(ADDRESS)
    yield lambda: list(store.inventory())
    yield lambda: store.delete(ADDRESS)
    yield lambda: store.delete_if_older(ADDRESS, 0)
    yield lambda: store.sweep_temporary(0)


def test_a_store_that_is_away_is_busy_and_comes_back_by_itself(
    object_server: ObjectServer, object_shelf: ObjectShelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bucket_module, "RETRIES", 0)
    store = object_shelf.again()
    blob = store.keep(InMemory(DATA))
    object_server.stop()
    try:
        for attempt in everything(store):
            with pytest.raises(BlobStoreBusy):
                attempt()
        with pytest.raises(BlobStoreBusy):
            list(blob.chunks())
        assert os.listdir(object_shelf.temporary) == []
        assert ObjectStore(object_shelf.bucket, object_shelf.temporary, NO_LIMIT)
    finally:
        object_server.start()
    assert b"".join(blob.chunks()) == DATA
    store.keep(InMemory(b"new"))


def test_a_store_that_is_silent_is_given_up(
    object_server: ObjectServer, object_shelf: ObjectShelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    object_shelf.store.keep(InMemory(DATA))
    monkeypatch.setattr(bucket_module, "SILENCE_SECONDS", 0.3)
    monkeypatch.setattr(bucket_module, "RETRIES", 0)
    store = object_shelf.again()
    object_server.pause()
    try:
        for attempt in everything(store):
            with pytest.raises(BlobStoreBusy):
                attempt()
    finally:
        object_server.go_on()
    assert b"".join(store.open(ADDRESS).chunks()) == DATA


@pytest.mark.parametrize("wrong", ["access_key", "secret_key"])
def test_a_store_that_refuses_us_is_told_apart_and_no_secret_is_told(
    object_server: ObjectServer, object_shelf: ObjectShelf, wrong: str
) -> None:
    bucket = object_server.bucket(object_shelf.bucket.prefix, **{wrong: "s3cr3t"})
    store = ObjectStore(bucket, object_shelf.temporary, NO_LIMIT)
    for attempt in everything(store):
        with pytest.raises(BlobStoreUnavailable) as refused:
            attempt()
        assert "s3cr3t" not in str(refused.value)
    assert "s3cr3t" not in repr(bucket)


@pytest.mark.parametrize(
    ("status", "text", "kind"),
    [
        (None, "connection refused", BlobStoreBusy),
        (503, "<Code>SlowDown</Code>", BlobStoreBusy),
        (429, "", BlobStoreBusy),
        (507, "", OutOfSpace),
        (403, "<Error><Code>XMinioAdminBucketQuotaExceeded</Code></Error>", OutOfSpace),
        (403, "AccessDenied", BlobStoreUnavailable),
        (404, "NoSuchBucket", BlobStoreUnavailable),
    ],
)
def test_answers_are_told_apart(status: int | None, text: str, kind: type[StorageError]) -> None:
    assert type(judge(status, text, "testing")) is kind


# Where it is


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("s3://documents", ("documents", "")),
        ("s3://documents/", ("documents", "")),
        ("s3://documents/region/one/", ("documents", "region/one")),
    ],
)
def test_a_place_is_a_bucket_and_a_prefix(url: str, place: tuple[str, str]) -> None:
    assert Bucket.split(url) == place


@pytest.mark.parametrize("url", ["s3:/documents", "s3://", "s3://Documents", "s3://a/b?c", "x"])
def test_what_is_no_place_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="s3://bucket"):
        Bucket.split(url)
