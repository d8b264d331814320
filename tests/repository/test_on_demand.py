"""Documents assembled when they are asked for, with a real registry beside the repository."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from hl7.adt import IdentityFeed
from metadata import identifiers as xds
from metadata.affinity_domain import AffinityDomain
from metadata.catalogue import RegistryError
from metadata.datatypes import CX, DTM, HD, OID, LocalizedString, new_oid, new_uuid_urn
from metadata.model import Association, Code, DocumentEntry, Submission, SubmissionSet
from registry import MIGRATIONS as REGISTRY_MIGRATIONS
from registry import Registry
from registry.patients import Patients
from repository import MIGRATIONS, Repository, on_demand
from repository.documents import Documents
from repository.on_demand import Assembly, NotAssembled, Source
from repository.snapshots import Snapshots, Versions, derived_uuid
from storage.blobs import BlobStore
from storage.database import Database
from storage.faultpoints import InjectedFault
from storage.space import LowWaterMark
from transactions.iti_18 import AdhocQueryRequest
from transactions.iti_42 import SubmitObjectsRequest
from transactions.iti_43 import (
    DocumentRequest,
    RetrievedDocument,
    RetrieveDocumentSetRequest,
    RetrieveDocumentSetResponse,
)
from transactions.iti_86 import RemoveDocumentsRequest
from transactions.registry_response import RegistryResponse, RegistryUnavailable
from transactions.stored_query import find_documents, get_associations, get_documents

OURS = "1.2.3.4"
AUTHORITY = "1.2.250.1.213.1.4.10"
PATIENT = CX.of("P1", AUTHORITY)
CODE = Code("1", "1.2.3", LocalizedString("one"))
OTHER = Code("2", "1.2.3", LocalizedString("two"))
UNKNOWN = ["XDSDocumentUniqueIdError"]


class Speaker:
    """A provider whose documents tell ``news``, and when they were made."""

    def __init__(self) -> None:
        self.news = "first"
        self.problem = ""

    def serves(self, entry: DocumentEntry) -> bool:
        return entry.type_code == CODE

    def assemble(self, entry: DocumentEntry) -> Assembly:
        if self.problem:
            raise NotAssembled(self.problem)
        news = self.news
        return Assembly(
            news.encode(), lambda unique_id, moment: f"{news} {unique_id} {moment}".encode()
        )


class Clock:
    """Goes on by a minute each time it is looked at."""

    def __init__(self) -> None:
        self.now = datetime(2026, 1, 2, 3, 4, tzinfo=UTC)

    def __call__(self) -> datetime:
        self.now += timedelta(minutes=1)
        return self.now


@dataclass
class House:
    """A registry and a repository that assembles, each over its database."""

    registry: Registry
    database: Database
    blobs: BlobStore
    speaker: Speaker = field(default_factory=Speaker)
    clock: Clock = field(default_factory=Clock)
    available: bool = True

    def repository(
        self,
        *,
        persist: bool = True,
        replace_previous: bool = True,
        register: Callable[[SubmitObjectsRequest], RegistryResponse] | None = None,
        update: Callable[[SubmitObjectsRequest], RegistryResponse] | None = None,
        entries: Callable[[str], Sequence[DocumentEntry]] | None = None,
    ) -> Repository:
        snapshots = Snapshots(
            register or self.registry.register, self.ask, OURS, CODE, replace_previous
        )
        source = Source(
            entries=entries or self.entries,
            providers=[self.speaker],
            snapshots=snapshots if persist else None,
            versions=Versions(update, OURS, CODE) if update else None,
            clock=self.clock,
        )
        return Repository(
            self.database,
            self.blobs,
            OURS,
            self.registry.register,
            administration=True,
            on_demand=source,
        )

    def ask(self, request: AdhocQueryRequest) -> Submission:
        if not self.available:
            raise RegistryUnavailable("switched off")
        response = self.registry.query(request)
        assert response.status == xds.SUCCESS, response.errors
        return response.objects()

    def entries(self, unique_id: str) -> Sequence[DocumentEntry]:
        return self.ask(get_documents(unique_id=[unique_id])).documents

    def promise(self, **attributes: object) -> DocumentEntry:
        """Register an On-Demand entry, or what ``attributes`` make of it."""
        given: dict[str, object] = {
            "entry_uuid": new_uuid_urn(),
            "unique_id": new_oid(),
            "object_type": xds.ON_DEMAND,
            "patient_id": PATIENT,
            "source_patient_id": PATIENT,
            "mime_type": "text/plain",
            "class_code": CODE,
            "type_code": CODE,
            "format_code": CODE,
            "healthcare_facility_type_code": CODE,
            "practice_setting_code": CODE,
            "confidentiality_code": [CODE],
            "language_code": "fr-FR",
            "repository_unique_id": OID(OURS),
            **attributes,
        }
        entry = DocumentEntry(**given)  # type: ignore[arg-type]
        submission_set = SubmissionSet(
            entry_uuid=new_uuid_urn(),
            unique_id=new_oid(),
            patient_id=PATIENT,
            content_type_code=CODE,
            source_id=OID("1.2.3.9"),
            submission_time=DTM("2026"),
        )
        member = Association(
            entry_uuid=new_uuid_urn(),
            association_type=xds.HAS_MEMBER,
            source=submission_set.entry_uuid,
            target=entry.entry_uuid,
            submission_set_status=xds.ORIGINAL,
        )
        request = SubmitObjectsRequest.of(Submission([submission_set], [entry], [], [member]))
        stable = entry.object_type == xds.STABLE
        register = self.registry.register if stable else self.registry.register_on_demand
        assert register(request).errors == ()
        return entry

    def delayed(self) -> DocumentEntry:
        """Register an entry whose document is to be assembled later."""
        return self.promise(
            object_type=xds.STABLE, creation_time=DTM("2026"), hash=xds.EMPTY_SHA1, size="0"
        )

    def snapshots(self, status: str = xds.APPROVED) -> list[DocumentEntry]:
        return self.ask(find_documents(PATIENT, status=[status])).documents


@pytest.fixture
def house(database_url: str, tmp_path: Path) -> Iterator[House]:
    blobs = BlobStore(tmp_path / "blobs", LowWaterMark(minimum_free_bytes=0))
    domain = AffinityDomain(assigning_authority=HD.of(AUTHORITY))
    postgresql = database_url.startswith("postgresql")
    registry_url = database_url if postgresql else f"sqlite:///{tmp_path / 'registry.db'}"
    with Database.open(database_url) as database, Database.open(registry_url) as other:
        database.migrate(MIGRATIONS)
        other.migrate(REGISTRY_MIGRATIONS)
        known = IdentityFeed("A01", (PATIENT,), None, "X|Y", "1", "1")
        assert Patients(other, domain).apply(known).ack_code == "AA"
        yield House(Registry(other, domain), database, blobs)


def retrieve(repository: Repository, unique_id: str | None) -> RetrieveDocumentSetResponse:
    wanted = (DocumentRequest(OURS, unique_id or ""),)
    return repository.retrieve(RetrieveDocumentSetRequest(wanted))


def fetch(repository: Repository, entry: DocumentEntry) -> tuple[RetrievedDocument, bytes]:
    response = retrieve(repository, entry.unique_id)
    assert response.errors == ()
    [document] = response.documents
    return document, b"".join(document.content.chunks())


def codes(response: RetrieveDocumentSetResponse) -> list[str]:
    return [error.code for error in response.errors]


# Identity of what is assembled


def test_the_same_content_has_the_same_new_id_and_the_same_bytes(house: House) -> None:
    entry, repository = house.promise(), house.repository(persist=False)
    first, data = fetch(repository, entry)
    again, same = fetch(repository, entry)
    assert first.new_document_unique_id not in (None, entry.unique_id)
    assert (again.new_document_unique_id, same) == (first.new_document_unique_id, data)
    assert first.request.document_unique_id == entry.unique_id
    assert (first.mime_type, first.new_repository_unique_id) == ("text/plain", None)
    assert house.snapshots() == []


def test_other_content_has_another_id_and_the_first_is_still_served(house: House) -> None:
    entry, repository = house.promise(), house.repository(persist=False)
    first, data = fetch(repository, entry)
    house.speaker.news = "second"
    second, other = fetch(repository, entry)
    assert second.new_document_unique_id != first.new_document_unique_id
    assert other != data
    served = retrieve(repository, first.new_document_unique_id)
    assert b"".join(served.documents[0].content.chunks()) == data


def test_two_entries_share_no_document(house: House) -> None:
    repository = house.repository(persist=False)
    ids = {fetch(repository, house.promise())[0].new_document_unique_id for _ in range(2)}
    assert len(ids) == 2


def test_what_was_assembled_is_kept_by_reconciliation(house: House) -> None:
    entry, repository = house.promise(), house.repository(persist=False)
    _, data = fetch(repository, entry)
    report = repository.reconcile(lambda _: False, grace_seconds=0, sweep=True)
    assert (report.removed, report.unreferenced, report.alarm) == ([], [], False)
    assert fetch(repository, entry)[1] == data


# What cannot be had


def test_what_no_entry_of_ours_promises_is_unknown(house: House) -> None:
    repository = house.repository()
    elsewhere = house.promise(repository_unique_id=OID("1.9.9"))
    nobodys = house.promise(type_code=OTHER)
    stable = house.promise(
        object_type=xds.STABLE, creation_time=DTM("2026"), hash="a" * 40, size="12"
    )
    for unique_id in ("never", elsewhere.unique_id, nobodys.unique_id, stable.unique_id):
        response = retrieve(repository, unique_id)
        assert codes(response) == UNKNOWN
        assert response.errors[0].location == unique_id


def test_what_is_hidden_from_who_asks_is_not_assembled_for_him(house: House) -> None:
    promised = house.promise(unique_id="1.2.3.99")
    wanted = DocumentRequest(OURS, "1.2.3.99", None)
    request = RetrieveDocumentSetRequest((wanted,))
    repository = house.repository()
    refused = repository.retrieve(request, lambda names: names)
    assert (refused.documents, [one.code for one in refused.errors]) == ((), UNKNOWN)
    assert len(house.ask(find_documents(PATIENT, type=[xds.STABLE])).documents) == 0
    assert len(repository.retrieve(request).documents) == 1, promised


def test_troubles_of_registry_and_provider_are_told(house: House) -> None:
    entry, repository = house.promise(), house.repository()
    house.speaker.problem = "out of words"
    response = retrieve(repository, entry.unique_id)
    assert codes(response) == ["XDSRepositoryError"]
    assert "out of words" in response.errors[0].context
    house.available = False
    assert codes(retrieve(repository, entry.unique_id)) == ["XDSRepositoryError"]


# Persistence of retrieved documents


def test_a_snapshot_is_registered_before_it_is_handed_over(house: House) -> None:
    entry, repository = house.promise(), house.repository()
    document, data = fetch(repository, entry)
    assert document.new_repository_unique_id == OURS
    [snapshot] = house.snapshots()
    assert snapshot.unique_id == document.new_document_unique_id
    assert (snapshot.hash, snapshot.size) == (hashlib.sha1(data).hexdigest(), str(len(data)))
    assert (snapshot.object_type, snapshot.repository_unique_id) == (xds.STABLE, OURS)
    assert snapshot.type_code == entry.type_code
    assert (snapshot.creation_time or DTM("")).problem() is None
    links = house.ask(get_associations([snapshot.entry_uuid])).associations
    ends = {(link.association_type, link.target) for link in links}
    assert (xds.IS_SNAPSHOT_OF, entry.entry_uuid) in ends
    assert {link.association_type for link in links} == {xds.HAS_MEMBER, xds.IS_SNAPSHOT_OF}


def test_unchanged_content_is_registered_once(house: House) -> None:
    entry, repository = house.promise(), house.repository()
    assert fetch(repository, entry) == fetch(repository, entry)
    assert len(house.snapshots()) == 1


def test_a_new_snapshot_replaces_the_one_before(house: House) -> None:
    entry, repository = house.promise(), house.repository()
    first, _ = fetch(repository, entry)
    house.speaker.news = "second"
    second, _ = fetch(repository, entry)
    [current], [old] = house.snapshots(), house.snapshots(xds.DEPRECATED)
    assert current.unique_id == second.new_document_unique_id
    assert old.unique_id == first.new_document_unique_id
    house.speaker.news = "first"
    assert fetch(repository, entry)[0].new_document_unique_id == old.unique_id
    assert [one.unique_id for one in house.snapshots()] == [old.unique_id]
    assert len(house.snapshots(xds.DEPRECATED)) == 2


def test_snapshots_may_stand_beside_each_other(house: House) -> None:
    entry, repository = house.promise(), house.repository(replace_previous=False)
    ids = []
    for news in ("first", "second", "first"):
        house.speaker.news = news
        ids.append(fetch(repository, entry)[0].new_document_unique_id)
    assert ids[0] == ids[2]
    assert {one.unique_id for one in house.snapshots()} == set(ids)
    assert len(house.snapshots()) == 2


def test_what_the_registry_refuses_is_handed_over_unregistered(house: House) -> None:
    def refuse(_: SubmitObjectsRequest) -> RegistryResponse:
        return RegistryResponse.of([RegistryError("XDSRegistryMetadataError", "no")])

    document, _ = fetch(house.repository(register=refuse), house.promise())
    assert document.new_document_unique_id is not None
    assert document.new_repository_unique_id is None


@pytest.mark.parametrize("arrives", [True, False])
def test_a_lost_answer_of_the_registry_is_made_good_by_asking_again(
    house: House, arrives: bool
) -> None:
    def lose(request: SubmitObjectsRequest) -> RegistryResponse:
        if arrives:
            house.registry.register(request)
        raise RegistryUnavailable("no answer")

    entry = house.promise()
    lost = retrieve(house.repository(register=lose), entry.unique_id)
    assert codes(lost) == ["XDSRepositoryError"]
    document, _ = fetch(house.repository(), entry)
    assert document.new_repository_unique_id == OURS
    assert [one.unique_id for one in house.snapshots()] == [document.new_document_unique_id]
    assert house.snapshots(xds.DEPRECATED) == []


@pytest.mark.parametrize("point", ["repository.assembled", "repository.snapshot_registered"])
def test_a_crash_at_any_step_leaves_a_retrieval_that_can_be_asked_again(
    house: House, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    def fail(name: str) -> None:
        if name == point:
            raise InjectedFault(name)

    entry, repository = house.promise(), house.repository()
    with monkeypatch.context() as broken:
        broken.setattr(on_demand, "reach", fail)
        with pytest.raises(InjectedFault):
            retrieve(repository, entry.unique_id)
    document, data = fetch(repository, entry)
    assert document.new_repository_unique_id == OURS
    [snapshot] = house.snapshots()
    assert snapshot.hash == hashlib.sha1(data).hexdigest()
    assert not repository.reconcile(lambda _: True, grace_seconds=0).alarm


def test_rivals_hand_over_one_document_and_register_it_once(house: House) -> None:
    entry, repository = house.promise(), house.repository()
    with ThreadPoolExecutor(6) as pool:
        got = list(pool.map(lambda _: fetch(repository, entry), range(12)))
    assert len({data for _, data in got}) == 1
    assert {one.new_repository_unique_id for one, _ in got} == {OURS}
    [snapshot] = house.snapshots()
    assert {one.new_document_unique_id for one, _ in got} == {snapshot.unique_id}
    assert house.snapshots(xds.DEPRECATED) == []


def test_a_removed_snapshot_is_not_brought_back(house: House) -> None:
    entry, repository = house.promise(), house.repository(persist=False)
    first, _ = fetch(repository, entry)
    gone = DocumentRequest(OURS, first.new_document_unique_id or "")
    assert repository.remove(RemoveDocumentsRequest((gone,))).status == xds.SUCCESS
    second, _ = fetch(repository, entry)
    assert second.new_document_unique_id != first.new_document_unique_id
    assert codes(retrieve(repository, first.new_document_unique_id)) == UNKNOWN


# Delayed Document Assembly


class Updates:
    """An ITI-57 that notes what it was sent."""

    def __init__(self, *errors: RegistryError) -> None:
        self.errors = errors
        self.received: list[Submission] = []

    def __call__(self, request: SubmitObjectsRequest) -> RegistryResponse:
        self.received.append(request.submission)
        return RegistryResponse.of(self.errors)


def test_a_delayed_document_is_assembled_once_under_its_own_id(house: House) -> None:
    entry, updates = house.delayed(), Updates()
    repository = house.repository(update=updates)
    first, data = fetch(repository, entry)
    assert (first.new_document_unique_id, first.new_repository_unique_id) == (None, None)
    house.speaker.news = "second"
    assert fetch(repository, entry)[1] == data
    assert len(updates.received) == 1


def test_the_registry_is_told_hash_and_size_in_a_new_version(house: House) -> None:
    entry, updates = house.delayed(), Updates()
    _, data = fetch(house.repository(update=updates), entry)
    [submission] = updates.received
    [updated], [member] = submission.documents, submission.associations
    assert (updated.hash, updated.size) == (hashlib.sha1(data).hexdigest(), str(len(data)))
    assert (updated.logical_id, updated.unique_id) == (entry.entry_uuid, entry.unique_id)
    assert updated.entry_uuid != entry.entry_uuid
    assert (member.association_type, member.previous_version) == (xds.HAS_MEMBER, "1")
    assert (member.source, member.target) == (
        submission.submission_sets[0].entry_uuid,
        updated.entry_uuid,
    )
    assert (
        replace(
            updated,
            entry_uuid=entry.entry_uuid,
            logical_id=None,
            hash=entry.hash,
            size=entry.size,
            availability_status=None,
        )
        == entry
    )


def test_an_update_that_fails_is_made_again_and_never_keeps_the_document_back(
    house: House,
) -> None:
    entry = house.delayed()
    refused = Updates(RegistryError("XDSMetadataUpdateError", "no"))
    _, data = fetch(house.repository(update=refused), entry)

    def lose(_: SubmitObjectsRequest) -> RegistryResponse:
        raise RegistryUnavailable("no answer")

    assert fetch(house.repository(update=lose), entry)[1] == data
    updates = Updates()
    assert fetch(house.repository(update=updates), entry)[1] == data
    assert [one.entry_uuid for one in updates.received[0].documents] == [
        one.entry_uuid for one in refused.received[0].documents
    ]
    assert fetch(house.repository(update=updates), entry)[1] == data
    assert len(updates.received) == 1


def test_the_registry_is_not_told_what_another_has_told_it(house: House) -> None:
    """The first version may still be shown beside the one that tells hash and size."""
    entry = house.delayed()
    refused = Updates(RegistryError("XDSMetadataVersionError", "no"))
    _, data = fetch(house.repository(update=refused), entry)
    [second] = refused.received[0].documents
    second.version, second.availability_status = "2", xds.APPROVED

    def both(unique_id: str) -> Sequence[DocumentEntry]:
        return [second, *house.entries(unique_id)]

    updates = Updates()
    assert fetch(house.repository(update=updates, entries=both), entry)[1] == data
    assert fetch(house.repository(update=updates), entry)[1] == data
    assert updates.received == []


def test_a_delayed_document_is_served_where_nothing_can_be_updated(house: House) -> None:
    entry, repository = house.delayed(), house.repository()
    assert fetch(repository, entry)[1] == fetch(repository, entry)[1]


def test_a_removed_delayed_document_is_not_assembled_again(house: House) -> None:
    entry, repository = house.delayed(), house.repository()
    fetch(repository, entry)
    gone = DocumentRequest(OURS, entry.unique_id or "")
    assert repository.remove(RemoveDocumentsRequest((gone,))).status == xds.SUCCESS
    assert codes(retrieve(repository, entry.unique_id)) == UNKNOWN


# Identifiers


@pytest.mark.parametrize("names", [("a",), ("a", "b"), ("", ""), ("é",)])
def test_a_derived_uuid_follows_from_its_names_alone(names: Sequence[str]) -> None:
    one = derived_uuid(*names)
    assert one == derived_uuid(*names)
    assert one != derived_uuid(*names, "")
    assert one.version == 8
    assert one.variant == "specified in RFC 4122"


def test_what_no_submission_relies_on_has_no_claim(house: House) -> None:
    """Else it would be asked for, and removed, when the registry denies knowing it."""
    document, _ = fetch(house.repository(persist=False), house.promise())
    assert Documents(house.database).unconfirmed(2**40) == []
    assert document.new_document_unique_id is not None
