"""A body that arrives at a full disk: its sender gets the answer of ITI-41, not a SOAP fault."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from metadata.identifiers import FAILURE
from metadata.model import DocumentEntry, Submission, SubmissionSet
from repository import MIGRATIONS, Repository
from soap.client import SoapClient
from soap.endpoint import Endpoint, Operation
from soap.message import Content, InMemory, Received, Spool
from soap.server import Router, running_server
from storage.arrival import Arrival, Lost
from storage.blobs import BlobStore
from storage.database import Database
from storage.errors import OutOfSpace
from storage.space import LowWaterMark
from transactions.iti_41 import ITI_41, ProvideAndRegisterRequest
from transactions.iti_42 import SubmitObjectsRequest
from transactions.registry_response import RegistryResponse

NO_LIMIT = LowWaterMark(minimum_free_bytes=0)
FULL = LowWaterMark(minimum_free_bytes=2**62)


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


def refuse_to_register(_: SubmitObjectsRequest) -> RegistryResponse:
    raise AssertionError("nothing is to be registered")


def provide(blobs: BlobStore, folder: Path, data: bytes) -> RegistryResponse:
    """The answer over the wire to a submission of ``data``."""
    entry = DocumentEntry(entry_uuid="Document", unique_id="1.1", mime_type="text/plain")
    submission = Submission(
        submission_sets=[SubmissionSet(entry_uuid="Set", unique_id="1.9")], documents=[entry]
    )
    contents: dict[str, Content] = {"Document": InMemory(data)}
    request = ProvideAndRegisterRequest(SubmitObjectsRequest.of(submission), contents)
    with (
        Database.open(f"sqlite:///{folder / 'repository.db'}") as database,
        ThreadPoolExecutor(2) as pool,
    ):
        database.migrate(MIGRATIONS)
        repository = Repository(database, blobs, "1.2.3.4", refuse_to_register)
        endpoint = Endpoint(
            [Operation(ITI_41, lambda given, _: repository.provide_and_register(given))],
            pool=pool,
            title="repository",
            service_name="DocumentRepository",
            spool=partial(Arrival, blobs),
        )
        with running_server(Router({"/repository": endpoint})) as base:
            client = SoapClient()
            response = client.call(f"{base}/repository", ITI_41, request)
            client.close()
    return response


def assert_refused_for_want_of_room(response: RegistryResponse, blobs: BlobStore) -> None:
    assert response.status == FAILURE
    assert [error.code for error in response.errors] == ["XDSRepositoryOutOfResources"]
    assert os.listdir(blobs.root / "tmp") == []
    assert list(blobs.inventory()) == []


def test_a_document_that_fills_the_disk_is_refused_by_name(
    small_disk: Path, tmp_path: Path
) -> None:
    blobs = BlobStore(small_disk / "blobs", NO_LIMIT)
    assert_refused_for_want_of_room(provide(blobs, tmp_path, bytes(8_000_000)), blobs)


def test_a_document_below_the_low_water_mark_is_refused_by_name(tmp_path: Path) -> None:
    blobs = BlobStore(tmp_path / "blobs", FULL)
    assert_refused_for_want_of_room(provide(blobs, tmp_path, b"small"), blobs)


def test_what_finds_room_is_spooled_as_ever(tmp_path: Path) -> None:
    blobs = BlobStore(tmp_path / "blobs", NO_LIMIT)
    spool: Spool = Arrival(blobs)
    spool.write(b"here")
    received: Received = spool.finish()
    assert b"".join(blobs.keep(received).chunks()) == b"here"


def test_what_is_lost_says_how_much_it_was_and_why(tmp_path: Path) -> None:
    spool = Arrival(BlobStore(tmp_path / "blobs", FULL))
    spool.write(b"here")
    spool.write(b"there")
    lost = spool.finish()
    assert isinstance(lost, Lost)
    assert lost.size == len("herethere")
    with pytest.raises(OutOfSpace):
        list(lost.chunks())
    lost.discard()
    spool.abort()
