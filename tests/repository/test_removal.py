"""ITI-86: what is removed is never served again, and its uniqueId never means anything else."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from metadata.catalogue import RegistryError
from metadata.identifiers import FAILURE, PARTIAL_SUCCESS, SUCCESS
from metadata.model import DocumentEntry, Submission, SubmissionSet
from repository import MIGRATIONS, Repository, removal
from repository.documents import Documents
from repository.schema import DOCUMENT, REMOVED, REMOVING
from soap.client import SoapClient
from soap.endpoint import Endpoint, Operation
from soap.media import parse_media_type
from soap.message import Content, InMemory
from soap.server import Router, running_server
from storage.blobs import BlobStore
from storage.contract import Keys
from storage.database import Database
from storage.errors import BlobMissing, BlobStoreUnavailable, DatabaseBusy
from storage.faultpoints import InjectedFault
from storage.files import FileContent
from storage.sealed import Seal
from storage.space import LowWaterMark
from transactions.iti_41 import ProvideAndRegisterRequest
from transactions.iti_42 import SubmitObjectsRequest
from transactions.iti_43 import (
    DocumentRequest,
    RetrieveDocumentSetRequest,
    RetrieveDocumentSetResponse,
)
from transactions.iti_86 import ITI_86, RemoveDocumentsRequest
from transactions.registry_response import RegistryResponse

OURS = "1.2.3.4"
UNKNOWN = ["XDSDocumentUniqueIdError"]


@pytest.fixture
def blobs(tmp_path: Path) -> BlobStore:
    return BlobStore(tmp_path / "blobs", LowWaterMark(minimum_free_bytes=0))


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    with Database.open(database_url) as opened:
        opened.migrate(MIGRATIONS)
        yield opened


@pytest.fixture
def repository(database: Database, blobs: BlobStore) -> Repository:
    """A repository that may remove; its registry accepts everything."""
    return Repository(database, blobs, OURS, lambda _: RegistryResponse.of(), administration=True)


def provide(repository: Repository, unique_id: str, data: bytes) -> RegistryResponse:
    entry = DocumentEntry(entry_uuid="Document", unique_id=unique_id, mime_type="text/plain")
    submission = Submission(
        submission_sets=[SubmissionSet(entry_uuid="Set", unique_id="1.9")], documents=[entry]
    )
    contents: dict[str, Content] = {"Document": InMemory(data)}
    return repository.provide_and_register(
        ProvideAndRegisterRequest(SubmitObjectsRequest.of(submission), contents)
    )


def remove(repository: Repository, *unique_ids: str, of: str = OURS) -> RegistryResponse:
    wanted = tuple(DocumentRequest(of, unique_id) for unique_id in unique_ids)
    return repository.remove(RemoveDocumentsRequest(wanted))


def fetch(repository: Repository, unique_id: str) -> RetrieveDocumentSetResponse:
    wanted = (DocumentRequest(OURS, unique_id),)
    return repository.retrieve(RetrieveDocumentSetRequest(wanted))


def served(repository: Repository, unique_id: str) -> bytes | None:
    """The bytes of a document; None when it is not known here."""
    response = fetch(repository, unique_id)
    if response.errors:
        assert codes(response) == UNKNOWN
        return None
    return b"".join(response.documents[0].content.chunks())


def codes(response: RegistryResponse | RetrieveDocumentSetResponse) -> list[str]:
    return [error.code for error in response.errors]


def kept(blobs: BlobStore) -> list[str]:
    assert os.listdir(blobs.root / "tmp") == []
    return [blob.sha256 for blob in blobs.inventory()]


def reconcile(repository: Repository, *, knows: bool = True) -> bool:
    """Whether reconciliation finds cause for an alarm."""
    return repository.reconcile(lambda _: knows, grace_seconds=0).alarm


def test_a_removed_document_is_gone_with_its_bytes(
    repository: Repository, blobs: BlobStore
) -> None:
    provide(repository, "1.1", b"private")
    assert remove(repository, "1.1") == RegistryResponse(SUCCESS)
    assert served(repository, "1.1") is None
    assert kept(blobs) == []
    assert not reconcile(repository)


def test_a_removed_document_leaves_its_memory(repository: Repository, database: Database) -> None:
    provide(repository, "1.1", b"private")
    remove(repository, "1.1")
    memory = Documents(database).find(["1.1"])["1.1"]
    assert (memory.state, memory.size) == (REMOVED, len(b"private"))
    assert memory.sha1 == hashlib.sha1(b"private").hexdigest()


def test_what_is_not_here_cannot_be_removed(repository: Repository) -> None:
    provide(repository, "1.1", b"private")
    remove(repository, "1.1")
    for unique_id in ("1.1", "never"):
        response = remove(repository, unique_id)
        assert (response.status, codes(response)) == (FAILURE, UNKNOWN)
        assert unique_id in response.errors[0].context.split()
        assert response.errors[0].location == unique_id


def test_a_document_of_another_repository_cannot_be_removed(repository: Repository) -> None:
    provide(repository, "1.1", b"private")
    response = remove(repository, "1.1", of="9.9")
    assert (response.status, codes(response)) == (FAILURE, ["XDSUnknownRepositoryId"])
    assert served(repository, "1.1") == b"private"


def test_each_document_has_its_own_outcome(repository: Repository) -> None:
    provide(repository, "1.1", b"one")
    provide(repository, "1.2", b"two")
    response = remove(repository, "1.1", "never", "1.2")
    assert (response.status, codes(response)) == (PARTIAL_SUCCESS, UNKNOWN)
    assert served(repository, "1.1") is None
    assert served(repository, "1.2") is None


def test_nothing_is_removed_where_administration_is_off(
    database: Database, blobs: BlobStore
) -> None:
    repository = Repository(database, blobs, OURS, lambda _: RegistryResponse.of())
    provide(repository, "1.1", b"private")
    response = remove(repository, "1.1", "never")
    assert response.status == FAILURE
    assert codes(response) == ["XDSRemoveDocumentsError"] * 2
    assert served(repository, "1.1") == b"private"


def test_bytes_stay_as_long_as_another_document_has_them(
    repository: Repository, blobs: BlobStore
) -> None:
    provide(repository, "1.1", b"shared")
    provide(repository, "1.2", b"shared")
    remove(repository, "1.1")
    assert served(repository, "1.1") is None
    assert served(repository, "1.2") == b"shared"
    remove(repository, "1.2")
    assert kept(blobs) == []


# What becomes of the uniqueId


def test_the_unique_id_of_a_removed_document_is_never_given_to_other_bytes(
    repository: Repository, blobs: BlobStore
) -> None:
    provide(repository, "1.1", b"private")
    remove(repository, "1.1")
    response = provide(repository, "1.1", b"other")
    assert response.status == FAILURE
    assert codes(response) == ["XDSNonIdenticalHash", "XDSNonIdenticalSize"]
    assert kept(blobs) == []


def test_the_same_bytes_may_be_provided_again_and_removed_again(
    repository: Repository, blobs: BlobStore
) -> None:
    provide(repository, "1.1", b"private")
    remove(repository, "1.1")
    assert provide(repository, "1.1", b"private").status == SUCCESS
    assert served(repository, "1.1") == b"private"
    assert not reconcile(repository)
    assert remove(repository, "1.1").status == SUCCESS
    assert kept(blobs) == []
    assert codes(provide(repository, "1.1", b"PRIVATE")) == ["XDSNonIdenticalHash"]


@pytest.mark.parametrize("answered", [True, False])
def test_what_the_registry_refuses_stays_removed(
    database: Database, blobs: BlobStore, repository: Repository, answered: bool
) -> None:
    provide(repository, "1.1", b"private")
    remove(repository, "1.1")

    def refuse(_: SubmitObjectsRequest) -> RegistryResponse:
        if not answered:
            raise InjectedFault("killed before the answer came")
        return RegistryResponse.of([RegistryError("XDSRegistryMetadataError", "no")])

    strict = Repository(database, blobs, OURS, refuse)
    if answered:
        assert provide(strict, "1.1", b"private").status == FAILURE
    else:
        with pytest.raises(InjectedFault):
            provide(strict, "1.1", b"private")
    assert not reconcile(repository, knows=False)
    assert served(repository, "1.1") is None
    assert kept(blobs) == []
    assert codes(provide(repository, "1.1", b"PRIVATE")) == ["XDSNonIdenticalHash"]


def test_a_document_removed_while_it_is_registered_stays_removed(
    database: Database, blobs: BlobStore, repository: Repository
) -> None:
    def register(_: SubmitObjectsRequest) -> RegistryResponse:
        assert remove(repository, "1.1").status == SUCCESS
        return RegistryResponse.of()

    assert provide(Repository(database, blobs, OURS, register), "1.1", b"x").status == SUCCESS
    assert served(repository, "1.1") is None
    assert kept(blobs) == []


# Crashes and troubles


def test_a_crash_before_the_bytes_are_deleted_is_made_good(
    repository: Repository,
    blobs: BlobStore,
    database: Database,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    provide(repository, "1.1", b"private")

    def crash(name: str) -> None:
        raise InjectedFault(name)

    with monkeypatch.context() as patched:
        patched.setattr(removal, "reach", crash)
        with pytest.raises(InjectedFault):
            remove(repository, "1.1")
    assert served(repository, "1.1") is None
    assert Documents(database).find(["1.1"])["1.1"].state == REMOVING
    assert not reconcile(repository)
    assert kept(blobs) == []
    assert Documents(database).find(["1.1"])["1.1"].state == REMOVED


def test_bytes_that_cannot_be_deleted_now_are_deleted_later(
    repository: Repository, blobs: BlobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    provide(repository, "1.1", b"private")

    def fail(*_: object) -> bool:
        raise BlobStoreUnavailable("the disk is away")

    with monkeypatch.context() as patched:
        patched.setattr(BlobStore, "delete_unless", fail)
        assert remove(repository, "1.1").status == SUCCESS
    assert served(repository, "1.1") is None
    reconcile(repository)
    assert kept(blobs) == []


def test_a_database_in_trouble_leaves_the_document_where_it_is(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    provide(repository, "1.1", b"private")

    def fail(*_: object) -> bool:
        raise DatabaseBusy("queue full")

    with monkeypatch.context() as patched:
        patched.setattr(Documents, "remove", fail)
        assert codes(remove(repository, "1.1")) == ["XDSRemoveDocumentsError"]
    assert served(repository, "1.1") == b"private"


# Rivals


def test_no_retrieve_after_a_removal_serves(repository: Repository) -> None:
    """Readers go on all the time; each notes what it began after the removal was answered."""
    for number in range(10):
        unique_id = f"1.1.{number}"
        provide(repository, unique_id, f"private {number}".encode())
        removed, done = threading.Event(), threading.Event()

        def read(
            unique_id: str = unique_id,
            removed: threading.Event = removed,
            done: threading.Event = done,
        ) -> list[bool]:
            late = []
            while not done.is_set():
                after = removed.is_set()
                response = fetch(repository, unique_id)
                assert codes(response) in ([], UNKNOWN)
                if after:
                    late.append(bool(response.documents))
            return late

        with ThreadPoolExecutor(3) as pool:
            readers = [pool.submit(read) for _ in range(3)]
            assert remove(repository, unique_id).status == SUCCESS
            removed.set()
            assert served(repository, unique_id) is None
            done.set()
            assert not any(late for reader in readers for late in reader.result())


def test_a_removal_never_takes_the_bytes_from_under_a_rival(
    repository: Repository, blobs: BlobStore
) -> None:
    """Whoever was told Success while equal bytes were removed is served."""
    for number in range(20):
        data = f"the same {number}".encode()
        first, second = f"1.1.{number}", f"1.2.{number}"
        provide(repository, first, data)
        with ThreadPoolExecutor(2) as pool:
            removing = pool.submit(remove, repository, first)
            providing = pool.submit(provide, repository, second, data)
        assert removing.result().status == SUCCESS
        answer = providing.result()
        assert codes(answer) in ([], ["XDSRepositoryBusy"])
        assert served(repository, second) == (data if answer.status == SUCCESS else None)
    assert not reconcile(repository)


def test_a_submission_that_lost_its_bytes_to_a_removal_is_told_to_come_again(
    repository: Repository, blobs: BlobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The removal takes the bytes after they were kept and before they were claimed."""
    provide(repository, "1.1", b"same")
    claim = Documents.claim

    def late(self: Documents, documents: object) -> None:
        remove(repository, "1.1")
        claim(self, documents)  # type: ignore[arg-type]

    with monkeypatch.context() as patched:
        patched.setattr(Documents, "claim", late)
        assert codes(provide(repository, "1.2", b"same")) == ["XDSRepositoryBusy"]
    assert served(repository, "1.2") is None
    assert provide(repository, "1.2", b"same").status == SUCCESS
    assert served(repository, "1.2") == b"same"


# On the wire


def test_both_messages_name_their_action_in_the_content_type(
    repository: Repository,
) -> None:
    seen: list[str] = []

    async def listening(scope: Any, receive: Any, send: Any) -> None:
        async def watched(event: Any) -> None:
            seen.extend(value for name, value in _headers(event) if name == "content-type")
            await send(event)

        seen.extend(value for name, value in _headers(scope) if name == "content-type")
        await endpoint(scope, receive, watched)

    provide(repository, "1.1", b"private")
    with ThreadPoolExecutor(1) as pool:
        endpoint = Endpoint(
            [Operation(ITI_86, lambda given, _: repository.remove(given))],
            pool=pool,
            title="repository",
            service_name="DocumentRepository",
        )
        with running_server(Router({"/repository": listening})) as base:
            client = SoapClient()
            wanted = RemoveDocumentsRequest((DocumentRequest(OURS, "1.1"),))
            assert client.call(f"{base}/repository", ITI_86, wanted).status == SUCCESS
            client.close()
    asked, answered = map(parse_media_type, seen)
    assert asked.parameters["action"] == "urn:ihe:iti:2017:RemoveDocuments"
    assert answered.parameters["action"] == "urn:ihe:iti:2017:RemoveDocumentsResponse"


def _headers(event: Any) -> list[tuple[str, str]]:
    return [(name.decode().lower(), value.decode()) for name, value in event.get("headers", [])]


def test_of_a_sealed_document_only_the_memory_is_left(
    database: Database, tmp_path: Path, keys: Keys
) -> None:
    """Nobody reads it again, whatever copy of its file there is on this disk."""
    blobs = BlobStore(tmp_path / "sealed", LowWaterMark(minimum_free_bytes=0), keys)
    repository = Repository(
        database, blobs, OURS, lambda _: RegistryResponse.of(), administration=True
    )
    data = b"to be forgotten"
    assert provide(repository, "1.1", data).status == SUCCESS
    blob = blobs.open(hashlib.sha256(data).hexdigest())
    os.link(blob.path, tmp_path / "block.sealed")
    wanted = RemoveDocumentsRequest((DocumentRequest(OURS, "1.1"),))
    assert repository.remove(wanted).status == SUCCESS
    with pytest.raises(BlobMissing):
        FileContent.at(tmp_path / "block.sealed", Seal(keys.keeper, blob.sha256)).open()
    with database.read() as connection:
        memory = connection.execute(select(DOCUMENT)).mappings().one()
    assert (memory["unique_id"], memory["sha256"], memory["state"]) == ("1.1", blob.sha256, REMOVED)
    assert memory["removed_at"]
    assert memory["removed_by"] == "ITI-86"
