from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from blake3 import blake3
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import update

from metadata.catalogue import RegistryError
from metadata.datatypes import OID
from metadata.ebrim import get_slot, set_slot
from metadata.identifiers import FAILURE, PARTIAL_SUCCESS, SUCCESS, WARNING
from metadata.model import DocumentEntry, Submission, SubmissionSet
from repository import MIGRATIONS, Repository
from repository import repository as repository_module
from repository.documents import Documents
from repository.schema import DOCUMENT
from soap.message import Content, InMemory
from storage import bucket
from storage.contract import Blobs
from storage.database import Database
from storage.errors import (
    BlobCorrupt,
    BlobStoreBusy,
    BlobStoreUnavailable,
    DatabaseBusy,
    DatabaseUnavailable,
    OutOfSpace,
)
from storage.faultpoints import InjectedFault
from storage.space import LowWaterMark
from tests.storage.object_server import ObjectServer
from tests.storage.shelves import ObjectShelf, Shelf
from transactions.iti_41 import ProvideAndRegisterRequest
from transactions.iti_42 import SubmitObjectsRequest
from transactions.iti_43 import (
    DocumentRequest,
    RetrieveDocumentSetRequest,
    RetrieveDocumentSetResponse,
)
from transactions.registry_response import RegistryResponse, RegistryUnavailable

OURS = "1.2.3.4"
REFUSED = RegistryError("XDSRegistryMetadataError", "classCode is not allowed")


class FakeRegistry:
    """Says what it is told to say, after doing what it is told to do."""

    def __init__(self) -> None:
        self.received: list[SubmitObjectsRequest] = []
        self.answer = RegistryResponse.of()
        self.before_answering: Callable[[], None] = lambda: None

    def register(self, request: SubmitObjectsRequest) -> RegistryResponse:
        self.received.append(request)
        self.before_answering()
        return self.answer

    def slots(self, name: str) -> list[list[str]]:
        """The values of a slot of the entries of the last submission."""
        _, *entries = self.received[-1].registry_objects
        return [get_slot(entry, name) for entry in entries]


@pytest.fixture
def registry() -> FakeRegistry:
    return FakeRegistry()


@pytest.fixture
def small_database(tmp_path: Path) -> Iterator[Database]:
    """The embedded engine only, for a test that is about the object store."""
    with Database.open(f"sqlite:///{tmp_path / 'repository.db'}") as opened:
        opened.migrate(MIGRATIONS)
        yield opened


@pytest.fixture
def repository(database: Database, blobs: Blobs, registry: FakeRegistry) -> Repository:
    return Repository(database, blobs, OURS, registry.register)


def request(
    *documents: tuple[str, bytes], mime_type: str = "text/plain"
) -> ProvideAndRegisterRequest:
    """A submission of documents given as uniqueId and bytes, with ids Document0, Document1 ..."""
    entries = [
        DocumentEntry(entry_uuid=f"Document{number}", unique_id=unique_id, mime_type=mime_type)
        for number, (unique_id, _) in enumerate(documents)
    ]
    submission_set = SubmissionSet(entry_uuid="SubmissionSet", unique_id="1.9")
    submission = Submission(submission_sets=[submission_set], documents=entries)
    contents: dict[str, Content] = {
        f"Document{number}": InMemory(data) for number, (_, data) in enumerate(documents)
    }
    return ProvideAndRegisterRequest(SubmitObjectsRequest.of(submission), contents)


def codes(response: RegistryResponse | RetrieveDocumentSetResponse) -> list[str]:
    return sorted(error.code for error in response.errors)


def fetch(repository: Repository, *unique_ids: str) -> RetrieveDocumentSetResponse:
    wanted = tuple(DocumentRequest(OURS, unique_id) for unique_id in unique_ids)
    return repository.retrieve(RetrieveDocumentSetRequest(wanted))


def bytes_of(response: RetrieveDocumentSetResponse) -> list[bytes]:
    return [b"".join(document.content.chunks()) for document in response.documents]


def inventory(shelf: Shelf) -> list[str]:
    assert os.listdir(shelf.temporary) == []
    return [blob.sha256 for blob in shelf.store.inventory()]


# ITI-41: the way that goes well


def test_a_document_provided_is_registered_and_served_as_it_came(
    database: Database, blobs: Blobs, registry: FakeRegistry
) -> None:
    repository = Repository(database, blobs, OURS, registry.register)
    response = repository.provide_and_register(request(("1.1", b"\r\n\x00caf\xe9\n")))
    assert response == RegistryResponse(SUCCESS)
    served = fetch(repository, "1.1")
    assert served.status == SUCCESS
    assert bytes_of(served) == [b"\r\n\x00caf\xe9\n"]
    assert served.documents[0].mime_type == "text/plain"


def test_the_registry_gets_hash_size_and_our_repository_unique_id(
    repository: Repository, registry: FakeRegistry
) -> None:
    repository.provide_and_register(request(("1.1", b"abc"), ("1.2", b"defg")))
    assert registry.slots("repositoryUniqueId") == [[OURS], [OURS]]
    assert registry.slots("size") == [["3"], ["4"]]
    expected = [[hashlib.sha1(data).hexdigest()] for data in (b"abc", b"defg")]
    assert registry.slots("hash") == expected
    assert registry.received[-1].submission.documents[0].repository_unique_id == OID(OURS)


def test_a_foreign_repository_unique_id_is_replaced(
    repository: Repository, registry: FakeRegistry
) -> None:
    provided = request(("1.1", b"abc"))
    set_slot(provided.submit.registry_objects[1], "repositoryUniqueId", ["9.9.9"])
    assert repository.provide_and_register(provided).status == SUCCESS
    assert registry.slots("repositoryUniqueId") == [[OURS]]


def test_a_document_can_be_retrieved_before_the_registry_has_answered(
    repository: Repository, registry: FakeRegistry
) -> None:
    seen: list[list[bytes]] = []
    registry.before_answering = lambda: seen.append(bytes_of(fetch(repository, "1.1")))
    repository.provide_and_register(request(("1.1", b"early")))
    assert seen == [[b"early"]]


def test_warnings_of_the_registry_are_relayed_with_success(
    repository: Repository, registry: FakeRegistry
) -> None:
    warning = RegistryError("XDSExtraMetadataNotSaved", "slot urn:x", WARNING)
    registry.answer = RegistryResponse.of([warning])
    response = repository.provide_and_register(request(("1.1", b"abc")))
    assert response == RegistryResponse(SUCCESS, (warning,))


def test_a_submission_without_documents_is_registered(
    repository: Repository, registry: FakeRegistry
) -> None:
    assert repository.provide_and_register(request()).status == SUCCESS
    assert len(registry.received) == 1


def test_hash_and_size_that_agree_in_other_spelling_are_accepted(
    repository: Repository, registry: FakeRegistry
) -> None:
    provided = request(("1.1", b"abc"))
    entry = provided.submit.registry_objects[1]
    set_slot(entry, "hash", [hashlib.sha1(b"abc").hexdigest().upper()])
    set_slot(entry, "size", ["003"])
    assert repository.provide_and_register(provided).status == SUCCESS


@settings(
    max_examples=20,  # each one syncs files to the disk
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    deadline=None,
)
@given(
    data=st.binary(min_size=1, max_size=300_000),
    mime_type=st.from_regex(r"[a-z]+/[a-z]+", fullmatch=True),
)
def test_any_bytes_come_back_exactly(repository: Repository, data: bytes, mime_type: str) -> None:
    unique_id = f"1.{int(hashlib.sha1(data + mime_type.encode()).hexdigest(), 16)}"
    provided = request((unique_id, data), mime_type=mime_type)
    assert repository.provide_and_register(provided).status == SUCCESS
    served = fetch(repository, unique_id)
    assert bytes_of(served) == [data]
    assert served.documents[0].mime_type == mime_type


# ITI-41: what the repository refuses, and then keeps nothing of


def refuse(
    repository: Repository,
    registry: FakeRegistry,
    shelf: Shelf,
    provided: ProvideAndRegisterRequest,
) -> list[str]:
    response = repository.provide_and_register(provided)
    assert response.status == FAILURE
    assert registry.received == []
    assert inventory(shelf) == []
    assert all(error.context for error in response.errors)
    return codes(response)


def test_an_entry_without_its_document_is_refused(
    repository: Repository, registry: FakeRegistry, shelf: Shelf
) -> None:
    provided = request(("1.1", b"abc"), ("1.2", b"def"))
    provided.documents = {"Document0": InMemory(b"abc")}
    assert refuse(repository, registry, shelf, provided) == ["XDSMissingDocument"]


def test_a_document_or_part_without_its_entry_is_refused(
    repository: Repository, registry: FakeRegistry, shelf: Shelf
) -> None:
    provided = request(("1.1", b"abc"))
    provided.documents = {**provided.documents, "Stranger": InMemory(b"?")}
    provided.unreferenced_parts = ["part@sender"]
    expected = ["XDSMissingDocumentMetadata"] * 2
    assert refuse(repository, registry, shelf, provided) == expected


@pytest.mark.parametrize(
    ("slot", "value"),
    [("hash", "0" * 40), ("hash", ""), ("size", "4"), ("size", "-3"), ("size", "three")],
)
def test_hash_or_size_of_other_bytes_is_refused(
    repository: Repository, registry: FakeRegistry, shelf: Shelf, slot: str, value: str
) -> None:
    provided = request(("1.1", b"abc"))
    set_slot(provided.submit.registry_objects[1], slot, [value])
    assert refuse(repository, registry, shelf, provided) == ["XDSRepositoryMetadataError"]


def test_one_unique_id_for_two_documents_of_a_message_is_refused(
    repository: Repository, registry: FakeRegistry, shelf: Shelf
) -> None:
    provided = request(("1.1", b"abc"), ("1.1", b"abc"))
    expected = ["XDSRepositoryDuplicateUniqueIdInMessage"]
    assert refuse(repository, registry, shelf, provided) == expected


@pytest.mark.parametrize("unique_id", ["", "1." * 128 + "1"])
def test_a_unique_id_that_cannot_be_kept_under_is_refused(
    repository: Repository, registry: FakeRegistry, shelf: Shelf, unique_id: str
) -> None:
    provided = request((unique_id, b"abc"))
    assert refuse(repository, registry, shelf, provided) == ["XDSRepositoryMetadataError"]


def test_a_document_without_bytes_is_refused(
    repository: Repository, registry: FakeRegistry, shelf: Shelf
) -> None:
    assert refuse(repository, registry, shelf, request(("1.1", b""))) == ["XDSMissingDocument"]


def test_all_faults_are_reported_at_once(
    repository: Repository, registry: FakeRegistry, shelf: Shelf
) -> None:
    provided = request(("1.1", b"abc"), ("1.1", b"def"), ("1.3", b"ghi"))
    set_slot(provided.submit.registry_objects[1], "hash", ["0" * 40])
    set_slot(provided.submit.registry_objects[2], "size", ["99"])
    documents = dict(provided.documents)
    documents["Stranger"] = documents.pop("Document2")
    provided.documents = documents
    assert refuse(repository, registry, shelf, provided) == [
        "XDSMissingDocument",
        "XDSMissingDocumentMetadata",
        "XDSRepositoryDuplicateUniqueIdInMessage",
        "XDSRepositoryMetadataError",
        "XDSRepositoryMetadataError",
    ]


def test_other_metadata_is_left_to_the_registry(
    repository: Repository, registry: FakeRegistry
) -> None:
    registry.answer = RegistryResponse.of([REFUSED])
    response = repository.provide_and_register(request(("1.1", b"abc")))
    assert response == RegistryResponse(FAILURE, (REFUSED,))


# ITI-41: the same uniqueId again


def test_the_same_document_can_be_provided_again(
    repository: Repository, registry: FakeRegistry, shelf: Shelf
) -> None:
    for _ in range(2):
        assert repository.provide_and_register(request(("1.1", b"abc"))).status == SUCCESS
    assert len(registry.received) == 2
    assert len(inventory(shelf)) == 1


@pytest.mark.parametrize(
    ("other", "expected"),
    [(b"xyz", ["XDSNonIdenticalHash"]), (b"long", ["XDSNonIdenticalHash", "XDSNonIdenticalSize"])],
)
def test_other_bytes_under_a_known_unique_id_are_refused_and_the_old_ones_served(
    repository: Repository, other: bytes, expected: list[str]
) -> None:
    repository.provide_and_register(request(("1.1", b"abc")))
    assert codes(repository.provide_and_register(request(("1.1", other)))) == expected
    assert bytes_of(fetch(repository, "1.1")) == [b"abc"]


def test_identical_documents_of_many_submissions_are_one_file_and_all_succeed(
    database: Database, blobs: Blobs, shelf: Shelf, registry: FakeRegistry
) -> None:
    repository = Repository(database, blobs, OURS, registry.register)
    requests = [request(("1.1", b"the same"), ("1.2", b"the same")) for _ in range(16)]
    with ThreadPoolExecutor(16) as pool:
        responses = list(pool.map(repository.provide_and_register, requests))
    assert [response.status for response in responses] == [SUCCESS] * 16
    assert len(inventory(shelf)) == 1
    assert {document.unique_id for document in Documents(database).all()} == {"1.1", "1.2"}


def test_of_different_documents_racing_for_one_unique_id_exactly_one_wins(
    database: Database,
    blobs: Blobs,
    registry: FakeRegistry,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """All look before any claims: the table decides, not the look."""
    everyone_has_looked = threading.Barrier(8)
    find = Documents.find
    looked = threading.local()

    def find_and_wait(self: Documents, unique_ids: Iterator[str]) -> object:
        found = find(self, unique_ids)
        if not getattr(looked, "once", False):
            looked.once = True
            everyone_has_looked.wait()
        return found

    monkeypatch.setattr(Documents, "find", find_and_wait)
    repository = Repository(database, blobs, OURS, registry.register)
    requests = [request(("1.1", b"bytes %d" % number)) for number in range(8)]
    with ThreadPoolExecutor(8) as pool:
        responses = list(pool.map(repository.provide_and_register, requests))
    monkeypatch.undo()
    winners = [number for number, answer in enumerate(responses) if answer.status == SUCCESS]
    losers = [codes(answer) for answer in responses if answer.status != SUCCESS]
    assert losers == [["XDSNonIdenticalHash"]] * 7
    assert bytes_of(fetch(repository, "1.1")) == [b"bytes %d" % winners[0]]
    assert len(registry.received) == 1


# ITI-41: a registry that refuses, or is away


def test_a_refused_document_is_not_served_and_its_unique_id_is_free_again(
    repository: Repository, registry: FakeRegistry
) -> None:
    registry.answer = RegistryResponse.of([REFUSED])
    repository.provide_and_register(request(("1.1", b"first try")))
    assert codes(fetch(repository, "1.1")) == ["XDSDocumentUniqueIdError"]
    registry.answer = RegistryResponse.of()
    response = repository.provide_and_register(request(("1.1", b"second try, other bytes")))
    assert response.status == SUCCESS


def test_a_refusal_does_not_take_away_a_document_registered_before(
    repository: Repository, registry: FakeRegistry
) -> None:
    repository.provide_and_register(request(("1.1", b"abc")))
    registry.answer = RegistryResponse.of([REFUSED])
    repository.provide_and_register(request(("1.1", b"abc"), ("1.2", b"new")))
    assert bytes_of(fetch(repository, "1.1")) == [b"abc"]
    assert codes(fetch(repository, "1.2")) == ["XDSDocumentUniqueIdError"]


def test_a_refusal_does_not_take_away_a_document_being_registered_by_another(
    database: Database, blobs: Blobs
) -> None:
    refused = Repository(database, blobs, OURS, lambda _: RegistryResponse.of([REFUSED]))

    def accept_after_the_other_was_refused(_: SubmitObjectsRequest) -> RegistryResponse:
        assert refused.provide_and_register(request(("1.1", b"abc"))).status == FAILURE
        assert bytes_of(fetch(refused, "1.1")) == [b"abc"]
        return RegistryResponse.of()

    accepted = Repository(database, blobs, OURS, accept_after_the_other_was_refused)
    assert accepted.provide_and_register(request(("1.1", b"abc"))).status == SUCCESS
    assert bytes_of(fetch(accepted, "1.1")) == [b"abc"]


@pytest.mark.parametrize("error", [RegistryUnavailable("away"), DatabaseBusy("in process")])
def test_a_registry_that_is_away_is_reported_and_the_document_kept_for_the_next_try(
    repository: Repository, registry: FakeRegistry, error: Exception
) -> None:
    def fail() -> None:
        raise error

    registry.before_answering = fail
    response = repository.provide_and_register(request(("1.1", b"abc")))
    assert codes(response) == ["XDSRegistryNotAvailable"]
    assert bytes_of(fetch(repository, "1.1")) == [b"abc"]
    registry.before_answering = lambda: None
    assert repository.provide_and_register(request(("1.1", b"abc"))).status == SUCCESS


def test_after_an_unknown_outcome_a_refused_retry_keeps_what_may_be_registered(
    repository: Repository, registry: FakeRegistry
) -> None:
    def lose_the_answer() -> None:
        raise RegistryUnavailable("the answer was lost")

    registry.before_answering = lose_the_answer
    repository.provide_and_register(request(("1.1", b"abc")))
    registry.before_answering = lambda: None
    registry.answer = RegistryResponse.of([RegistryError("XDSDuplicateUniqueIdInRegistry", "1.9")])
    assert repository.provide_and_register(request(("1.1", b"abc"))).status == FAILURE
    assert bytes_of(fetch(repository, "1.1")) == [b"abc"]


# Trouble of our own


@pytest.mark.parametrize("point", ["repository.kept", "repository.stored", "repository.registered"])
def test_an_unforeseen_error_at_any_step_leaves_a_submission_that_can_be_sent_again(
    repository: Repository, shelf: Shelf, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    def fail(name: str) -> None:
        if name == point:
            raise InjectedFault(name)

    with monkeypatch.context() as broken:
        broken.setattr(repository_module, "reach", fail)
        with pytest.raises(InjectedFault):
            repository.provide_and_register(request(("1.1", b"abc")))
    assert repository.provide_and_register(request(("1.1", b"abc"))).status == SUCCESS
    assert bytes_of(fetch(repository, "1.1")) == [b"abc"]
    assert len(inventory(shelf)) == 1


def test_a_full_disk_is_reported_and_documents_kept_before_are_served(
    database: Database, repository: Repository, shelf: Shelf, registry: FakeRegistry
) -> None:
    repository.provide_and_register(request(("1.1", b"abc")))
    full = shelf.again(LowWaterMark(minimum_free_bytes=2**62))
    crowded = Repository(database, full, OURS, registry.register)
    response = crowded.provide_and_register(request(("1.2", b"def")))
    assert codes(response) == ["XDSRepositoryOutOfResources"]
    assert bytes_of(fetch(crowded, "1.1")) == [b"abc"]


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (DatabaseBusy("queue"), "XDSRepositoryBusy"),
        (DatabaseUnavailable("/secret/path"), "XDSRepositoryError"),
    ],
)
def test_trouble_with_the_database_is_reported_without_details(
    repository: Repository,
    registry: FakeRegistry,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    code: str,
) -> None:
    def fail(*_: object) -> None:
        raise error

    with monkeypatch.context() as broken:
        broken.setattr(Documents, "claim", fail)
        provided = repository.provide_and_register(request(("1.1", b"abc")))
    with monkeypatch.context() as broken:
        broken.setattr(Documents, "find", fail)
        served = fetch(repository, "1.1", "1.2")
    assert codes(provided) == [code]
    assert codes(served) == [code] * 2
    assert served.status == FAILURE
    assert not any("secret" in item.context for item in (*provided.errors, *served.errors))
    assert registry.received == []


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (BlobStoreBusy("away"), "XDSRepositoryBusy"),
        (OutOfSpace("quota"), "XDSRepositoryOutOfResources"),
        (BlobStoreUnavailable("/secret/path"), "XDSRepositoryError"),
    ],
)
def test_trouble_with_the_bytes_is_reported_without_details(
    repository: Repository,
    blobs: Blobs,
    registry: FakeRegistry,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    code: str,
) -> None:
    def fail(*_: object) -> None:
        raise error

    repository.provide_and_register(request(("1.1", b"abc")))
    registry.received.clear()
    with monkeypatch.context() as broken:
        broken.setattr(type(blobs), "keep", fail)
        provided = repository.provide_and_register(request(("1.2", b"def")))
        broken.setattr(type(blobs), "open", fail)
        served = fetch(repository, "1.1")
    assert (codes(provided), codes(served)) == ([code], [code])
    assert not any("secret" in item.context for item in (*provided.errors, *served.errors))
    assert registry.received == []


def test_an_object_store_that_is_away_makes_the_repository_busy_until_it_is_back(
    small_database: Database,
    object_server: ObjectServer,
    object_shelf: ObjectShelf,
    registry: FakeRegistry,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bucket, "RETRIES", 0)
    repository = Repository(small_database, object_shelf.again(), OURS, registry.register)
    repository.provide_and_register(request(("1.1", b"abc")))
    object_server.stop()
    try:
        response = repository.provide_and_register(request(("1.2", b"def")))
        served = fetch(repository, "1.1")
    finally:
        object_server.start()
    assert (codes(response), codes(served)) == (["XDSRepositoryBusy"], ["XDSRepositoryBusy"])
    assert len(registry.received) == 1
    assert repository.provide_and_register(request(("1.2", b"def"))).status == SUCCESS
    assert bytes_of(fetch(repository, "1.1", "1.2")) == [b"abc", b"def"]


@pytest.mark.parametrize("answer", [RegistryResponse.of(), RegistryResponse.of([REFUSED])])
def test_an_outcome_that_cannot_be_noted_is_answered_all_the_same(
    repository: Repository,
    registry: FakeRegistry,
    monkeypatch: pytest.MonkeyPatch,
    answer: RegistryResponse,
) -> None:
    def fail(*_: object) -> None:
        raise DatabaseBusy("queue")

    monkeypatch.setattr(Documents, "confirm", fail)
    monkeypatch.setattr(Documents, "release", fail)
    registry.answer = answer
    assert repository.provide_and_register(request(("1.1", b"abc"))) == answer
    assert bytes_of(fetch(repository, "1.1")) == [b"abc"]


# ITI-43


def test_documents_are_served_in_the_order_asked_for(repository: Repository) -> None:
    repository.provide_and_register(request(("1.1", b"one"), ("1.2", b"two")))
    served = fetch(repository, "1.2", "1.1", "1.2")
    assert served.status == SUCCESS
    assert bytes_of(served) == [b"two", b"one", b"two"]


def test_an_unknown_document_is_an_error_at_its_unique_id(repository: Repository) -> None:
    served = fetch(repository, "1.1")
    assert (served.status, served.documents) == (FAILURE, ())
    assert codes(served) == ["XDSDocumentUniqueIdError"]
    assert served.errors[0].location == "1.1"


def test_what_can_be_had_is_served_beside_errors_for_the_rest(repository: Repository) -> None:
    repository.provide_and_register(request(("1.1", b"one")))
    served = fetch(repository, "1.0", "1.1")
    assert served.status == PARTIAL_SUCCESS
    assert bytes_of(served) == [b"one"]
    assert [error.location for error in served.errors] == ["1.0"]


def test_another_repository_is_not_answered_for(repository: Repository) -> None:
    repository.provide_and_register(request(("1.1", b"one")))
    elsewhere = DocumentRequest("9.9.9", "1.1")
    served = repository.retrieve(RetrieveDocumentSetRequest((elsewhere,)))
    assert served.status == FAILURE
    assert [(error.code, error.location) for error in served.errors] == [
        ("XDSUnknownRepositoryId", "1.1")
    ]


@pytest.mark.parametrize("home", [None, "urn:oid:1.2.3"])
def test_identifiers_are_echoed_as_they_were_asked(
    repository: Repository, home: str | None
) -> None:
    repository.provide_and_register(request(("1.1", b"one")))
    wanted = DocumentRequest(OURS, "1.1", home)
    served = repository.retrieve(RetrieveDocumentSetRequest((wanted,)))
    assert served.documents[0].request == wanted


def damage(shelf: Shelf) -> None:
    (blob,) = shelf.store.inventory()
    data = shelf.read(blob.sha256)
    shelf.write(blob.sha256, data[:-1] + bytes([data[-1] ^ 1]))


def test_a_damaged_document_is_an_error_of_its_own(repository: Repository, shelf: Shelf) -> None:
    repository.provide_and_register(request(("1.1", b"precious")))
    damage(shelf)
    served = fetch(repository, "1.1")
    assert (served.documents, codes(served)) == ((), ["XDSRepositoryError"])
    assert served.errors[0].location == "1.1"


@pytest.mark.parametrize("proof", ["blake3", "address"])
def test_a_damaged_large_document_is_broken_off_before_its_end(
    repository: Repository,
    database: Database,
    shelf: Shelf,
    monkeypatch: pytest.MonkeyPatch,
    proof: str,
) -> None:
    monkeypatch.setattr(repository_module, "VERIFIED_FIRST_BYTES", 10)
    large = b"precious" * 200_000
    repository.provide_and_register(request(("1.1", large)))
    (row,) = Documents(database).all()
    assert row.blake3 == blake3(large).hexdigest()
    if proof == "address":  # a document from before
        forget = update(DOCUMENT).values(blake3=None)
        database.write(lambda connection: connection.execute(forget))
    assert bytes_of(fetch(repository, "1.1")) == [large]
    damage(shelf)
    served = fetch(repository, "1.1")
    assert served.status == SUCCESS
    with pytest.raises(BlobCorrupt):
        bytes_of(served)


@pytest.mark.parametrize("what", ["cut", "delete"])
def test_a_document_whose_bytes_are_gone_is_an_error_of_its_own(
    repository: Repository, shelf: Shelf, what: str
) -> None:
    repository.provide_and_register(request(("1.1", b"precious")))
    (blob,) = shelf.store.inventory()
    if what == "cut":
        shelf.write(blob.sha256, b"pre")
    else:
        shelf.store.delete(blob.sha256)
    assert codes(fetch(repository, "1.1")) == ["XDSRepositoryError"]
