"""Publishing: when, what, how often, and what becomes of refusals and silence."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, NoReturn

import pytest
from lxml import etree
from pydicom.dataset import Dataset
from sqlalchemy import select, update

from imaging_source import outbox
from imaging_source import publisher as publisher_module
from imaging_source.index import describe
from imaging_source.outbox import DueStudy, Publication, State
from imaging_source.publisher import Place, Publisher
from imaging_source.schema import FURTHER_MANIFEST, STUDY
from manifest.engine import editions
from manifest.entry import PublicationPolicy
from manifest.flavours import Flavour
from manifest.kos import Manifest, read_manifest
from metadata.catalogue import RegistryError
from metadata.identifiers import RPLC
from metadata.model import DocumentEntry, Submission
from storage.database import Database
from storage.faultpoints import InjectedFault
from transactions.iti_41 import ProvideAndRegisterRequest
from transactions.registry_response import RegistryResponse

SOURCE = "1.2.250.1.9.9"
Make = Callable[..., Dataset]
Store = Callable[..., int]


@dataclass
class Registry:
    """A repository and registry in one, which refuses what it has and fails when told to.

    ``before`` and ``after`` are raised before and after the next submission is taken;
    ``refuse`` are codes to answer the next ones with.
    """

    submissions: list[Submission] = field(default_factory=list)
    manifests: list[Manifest] = field(default_factory=list)
    seen: list[tuple[bytes, ...]] = field(default_factory=list)
    before: list[Exception] = field(default_factory=list)
    after: list[Exception] = field(default_factory=list)
    refuse: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    deaf: bool = False
    heard: threading.Event = field(default_factory=threading.Event)

    def provide_and_register(self, request: ProvideAndRegisterRequest) -> RegistryResponse:
        contents = {name: b"".join(one.chunks()) for name, one in request.documents.items()}
        self.seen.append((etree.tostring(request.submit.element), *contents.values()))
        if self.before:
            raise self.before.pop()
        if self.refuse:
            return RegistryResponse.of([RegistryError(self.refuse.pop(), "no")])
        submission = request.submit.submission
        entries = [entry.entry_uuid for entry in submission.documents]
        assert set(contents) == set(entries)
        if self.knows(submission.submission_sets[0].unique_id or ""):
            codes = ("XDSDuplicateUniqueIdInRegistry", "XDSRegistryDeprecatedDocumentError")
            return RegistryResponse.of([RegistryError(code, "again") for code in codes])
        self.submissions.append(submission)
        self.manifests.append(read_manifest(contents[entries[0] or ""]))
        self.heard.set()
        request.submit.element.clear()  # a repository may edit what it is given
        if self.after:
            raise self.after.pop()
        return RegistryResponse.of()

    def already_registered(self, submission_set_unique_id: str) -> bool:
        self.asked.append(submission_set_unique_id)
        if self.deaf:
            raise TimeoutError
        return self.knows(submission_set_unique_id)

    def knows(self, submission_set_unique_id: str) -> bool:
        return any(
            one.submission_sets[0].unique_id == submission_set_unique_id for one in self.submissions
        )

    def entries(self) -> list[DocumentEntry]:
        return [one.documents[0] for one in self.submissions]


@pytest.fixture
def registry() -> Registry:
    return Registry()


@pytest.fixture
def publisher(
    database: Database, policy: PublicationPolicy, registry: Registry, clock: Any
) -> Publisher:
    return Publisher(
        database,
        policy,
        Place(repository_unique_id=SOURCE, ae_title="KOSMOS"),
        registry.provide_and_register,
        registry.already_registered,
        quiet_seconds=30,
        clock=clock,
    )


def throw(error: Exception) -> NoReturn:
    raise error


def outbox_rows(database: Database) -> list[Publication]:
    with database.read() as connection:
        return outbox.publications(connection)


def test_a_study_is_published_when_it_has_been_quiet(
    publisher: Publisher, registry: Registry, store: Store, make_instance: Make, clock: Any
) -> None:
    store(make_instance())
    clock.now += 20
    store(make_instance())
    clock.now += 20

    assert publisher.run_once() == 0
    clock.now += 11
    assert publisher.run_once() == 1
    assert publisher.run_once() == 0

    (manifest,) = registry.manifests
    assert manifest.instance_count == 2
    (series,) = manifest.series
    assert (series.retrieve_location_uid, series.retrieve_ae_title) == (SOURCE, "KOSMOS")
    (entry,) = registry.entries()
    assert entry.unique_id == manifest.sop_instance_uid
    assert entry.patient_id == "P1^^^&1.2.3.4&ISO"


def test_a_duplicate_does_not_publish_a_study_again(
    publisher: Publisher, registry: Registry, store: Store, make_instance: Make, clock: Any
) -> None:
    instance = make_instance()
    store(instance)
    clock.now += 60
    publisher.run_once()

    store(instance)
    clock.now += 60

    assert publisher.run_once() == 0
    assert len(registry.submissions) == 1


def test_new_images_replace_the_manifest_again_and_again(
    publisher: Publisher, registry: Registry, store: Store, make_instance: Make, clock: Any
) -> None:
    for _ in range(3):
        store(make_instance())
        clock.now += 60
        assert publisher.run_once() == 1

    first, second, third = registry.entries()
    assert [manifest.instance_count for manifest in registry.manifests] == [1, 2, 3]
    replacements = [
        association
        for one in registry.submissions
        for association in one.associations
        if association.association_type == RPLC
    ]
    assert [(one.source, one.target) for one in replacements] == [
        (second.entry_uuid, first.entry_uuid),
        (third.entry_uuid, second.entry_uuid),
    ]


def test_a_lost_answer_leads_to_the_identical_submission_and_one_entry(
    publisher: Publisher,
    registry: Registry,
    store: Store,
    make_instance: Make,
    clock: Any,
    database: Database,
) -> None:
    store(make_instance())
    clock.now += 60
    registry.after.append(TimeoutError())

    assert publisher.run_once() == 1
    (row,) = outbox_rows(database)
    assert (row.state, row.error) == (State.PENDING, "outcome unknown: TimeoutError")
    assert publisher.run_once() == 0  # not at once
    clock.now += 6
    assert publisher.run_once() == 1

    assert registry.seen[0] == registry.seen[1]
    assert len(registry.submissions) == 1
    (row,) = outbox_rows(database)
    assert (row.state, row.attempts, row.error) == (State.PUBLISHED, 2, None)


def test_a_lost_answer_of_a_replacement_is_recovered_too(
    publisher: Publisher, registry: Registry, store: Store, make_instance: Make, clock: Any
) -> None:
    store(make_instance())
    clock.now += 60
    publisher.run_once()
    store(make_instance())
    clock.now += 60
    registry.after.append(ConnectionResetError())
    publisher.run_once()
    clock.now += 60
    publisher.run_once()

    assert len(registry.submissions) == 2
    store(make_instance())
    clock.now += 60
    publisher.run_once()
    assert registry.submissions[2].associations[1].target == registry.entries()[1].entry_uuid


def test_images_that_arrive_while_an_outcome_is_unknown_wait_for_it(
    publisher: Publisher, registry: Registry, store: Store, make_instance: Make, clock: Any
) -> None:
    store(make_instance())
    clock.now += 60
    registry.after.append(TimeoutError())
    publisher.run_once()
    store(make_instance())
    clock.now += 60

    assert publisher.run_once() == 1
    assert [manifest.instance_count for manifest in registry.manifests] == [1]
    assert publisher.run_once() == 1
    assert [manifest.instance_count for manifest in registry.manifests] == [1, 2]
    assert registry.submissions[1].associations[1].association_type == RPLC


@pytest.mark.parametrize(
    "code", ["XDSRepositoryBusy", "XDSRegistryNotAvailable", "XDSUnknownPatientId"]
)
def test_what_time_may_cure_is_tried_again_later_and_later(
    publisher: Publisher,
    registry: Registry,
    store: Store,
    make_instance: Make,
    clock: Any,
    database: Database,
    code: str,
) -> None:
    store(make_instance())
    clock.now += 60
    registry.refuse = [code] * 3
    waits = []
    for _ in range(3):
        assert publisher.run_once() == 1
        (row,) = outbox_rows(database)
        assert (row.state, row.error) == (State.PENDING, f"{code}: no")
        waits.append(row.next_attempt_at - clock.now)
        clock.now = row.next_attempt_at

    assert waits == [5, 10, 20]
    assert publisher.run_once() == 1
    assert outbox_rows(database)[0].state is State.PUBLISHED
    assert len(registry.asked) == 2  # a first refusal needs no confirmation, later ones do


def test_the_longest_wait_is_a_quarter_of_an_hour(
    publisher: Publisher,
    registry: Registry,
    store: Store,
    make_instance: Make,
    clock: Any,
    database: Database,
) -> None:
    store(make_instance())
    clock.now += 60
    registry.before = [OSError("away")] * 12
    for _ in range(12):
        publisher.run_once()
        wait = outbox_rows(database)[0].next_attempt_at - clock.now
        clock.now += wait

    assert wait == 900


def test_a_refusal_for_good_is_parked_with_its_text(
    publisher: Publisher,
    registry: Registry,
    store: Store,
    make_instance: Make,
    clock: Any,
    database: Database,
) -> None:
    store(make_instance())
    clock.now += 60
    registry.refuse = ["XDSRegistryMetadataError"]
    publisher.run_once()
    clock.now += 100_000

    assert publisher.run_once() == 0
    (row,) = outbox_rows(database)
    assert (row.state, row.error) == (State.FAILED, "XDSRegistryMetadataError: no")
    assert registry.asked == [row.submission_set_unique_id]


def test_a_refusal_is_not_believed_while_the_registry_cannot_be_asked(
    publisher: Publisher,
    registry: Registry,
    store: Store,
    make_instance: Make,
    clock: Any,
    database: Database,
) -> None:
    store(make_instance())
    clock.now += 60
    registry.refuse = ["XDSRegistryMetadataError"]
    registry.deaf = True
    publisher.run_once()

    assert outbox_rows(database)[0].state is State.PENDING


def test_a_parked_study_is_published_again_after_a_correction(
    publisher: Publisher,
    registry: Registry,
    store: Store,
    make_instance: Make,
    clock: Any,
    database: Database,
) -> None:
    store(make_instance())
    uid = make_instance().StudyInstanceUID
    clock.now += 60
    registry.refuse = ["XDSRegistryMetadataError"]
    publisher.run_once()

    assert database.write(lambda connection: outbox.retry(connection, uid))
    assert not database.write(lambda connection: outbox.retry(connection, uid))
    clock.now += 1
    assert publisher.run_once() == 1

    states = [row.state for row in outbox_rows(database)]
    assert states == [State.PUBLISHED, State.SUPERSEDED]


def test_new_images_give_a_parked_study_another_chance(
    publisher: Publisher,
    registry: Registry,
    store: Store,
    make_instance: Make,
    clock: Any,
    database: Database,
) -> None:
    store(make_instance())
    clock.now += 60
    registry.refuse = ["XDSRegistryMetadataError"]
    publisher.run_once()
    store(make_instance())
    clock.now += 60

    assert publisher.run_once() == 1
    assert [manifest.instance_count for manifest in registry.manifests] == [2]


def test_a_study_without_patient_is_shown_as_failed_and_never_sent(
    publisher: Publisher,
    registry: Registry,
    store: Store,
    make_instance: Make,
    clock: Any,
    database: Database,
) -> None:
    store(make_instance(PatientID=""))
    clock.now += 60

    assert publisher.run_once() == 0
    assert publisher.run_once() == 0
    (row,) = outbox_rows(database)
    assert (row.state, row.error) == (State.FAILED, "the study has no Patient ID")
    assert registry.seen == []


def test_a_study_that_cannot_be_described_does_not_hold_up_the_others(
    publisher: Publisher,
    registry: Registry,
    store: Store,
    make_instance: Make,
    clock: Any,
    database: Database,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store(make_instance())
    clock.now += 1
    store(make_instance(StudyInstanceUID="1.9.1", SeriesInstanceUID="1.9.2"))
    clock.now += 60
    surprises = [OverflowError("Durand^Anne")]
    monkeypatch.setattr(
        "imaging_source.publisher.editions",
        lambda *given: throw(surprises.pop()) if surprises else editions(*given),
    )

    assert publisher.run_once() == 1
    assert registry.submissions[0].documents[0].reference_id_list[-1].id == "1.9.1"
    assert {row.error for row in outbox_rows(database)} == {None, "OverflowError"}


def test_a_surprise_does_not_end_the_thread(
    publisher: Publisher,
    registry: Registry,
    store: Store,
    make_instance: Make,
    clock: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store(make_instance())
    clock.now += 60
    surprises = [ArithmeticError()]
    monkeypatch.setattr("imaging_source.publisher._POLL_SECONDS", 0.01)
    monkeypatch.setattr(
        "imaging_source.publisher.describe",
        lambda *given: throw(surprises.pop()) if surprises else describe(*given),
    )
    publisher.start()
    try:
        assert registry.heard.wait(10)
    finally:
        publisher.stop()


def test_a_study_with_control_characters_in_its_texts_is_published(
    publisher: Publisher, registry: Registry, store: Store, make_instance: Make, clock: Any
) -> None:
    store(make_instance(StudyDescription="Tho\x01rax\x0bI", PatientName="Durand^Anne\x1f"))
    clock.now += 60

    assert publisher.run_once() == 1
    (entry,) = registry.entries()
    assert entry.title == "Tho rax I"
    assert "PID-5|Durand^Anne" in entry.source_patient_info


@pytest.mark.parametrize("code", ["XDSRegistryError", "XDSRepositoryError"])
def test_a_duplicate_that_a_registry_refuses_in_general_words_is_recognised(
    publisher: Publisher,
    registry: Registry,
    store: Store,
    make_instance: Make,
    clock: Any,
    database: Database,
    code: str,
) -> None:
    store(make_instance())
    clock.now += 60
    registry.after.append(ConnectionError("answer lost"))
    publisher.run_once()
    registry.refuse.append(code)
    clock.now += 60

    assert publisher.run_once() == 1
    assert len(registry.submissions) == 1
    assert [row.state for row in outbox_rows(database)] == [State.PUBLISHED]


def test_one_study_that_fails_does_not_hold_up_the_others(
    publisher: Publisher, registry: Registry, store: Store, make_instance: Make, clock: Any
) -> None:
    store(make_instance())
    store(make_instance(StudyInstanceUID="1.9.1", SeriesInstanceUID="1.9.2"))
    clock.now += 60
    registry.before.append(OSError("away"))

    assert publisher.run_once() == 2
    assert len(registry.submissions) == 1


def test_what_could_not_be_sent_for_a_fault_of_our_own_is_tried_again_soon(
    publisher: Publisher,
    registry: Registry,
    store: Store,
    make_instance: Make,
    clock: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(name: str) -> None:
        raise InjectedFault(name)

    store(make_instance())
    clock.now += 60
    with monkeypatch.context() as broken:
        broken.setattr(publisher_module, "reach", fail)
        assert publisher.run_once() == 1
    assert registry.submissions == []
    clock.now += 10  # the lease of a publisher that died lasts two minutes
    assert publisher.run_once() == 1
    assert len(registry.submissions) == 1


def test_two_publishers_of_one_database_publish_a_study_once(
    publisher: Publisher,
    database: Database,
    registry: Registry,
    store: Store,
    make_instance: Make,
    clock: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store(make_instance())
    clock.now += 60
    decide = publisher._publication

    def decide_twice(due: DueStudy, manifest: Manifest, last: None) -> Publication:
        other = decide(due, manifest, last)  # the other publisher decides at the same moment
        database.write(lambda connection: outbox.enqueue(connection, other))
        return decide(due, manifest, last)

    monkeypatch.setattr(publisher, "_publication", decide_twice)
    publisher.run_once()
    publisher.run_once()

    assert len(registry.submissions) == 1


def test_a_study_that_another_publisher_finishes_first_is_not_published_again(
    publisher: Publisher,
    registry: Registry,
    store: Store,
    make_instance: Make,
    clock: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store(make_instance())
    clock.now += 60
    others = [publisher]  # any publisher of this database: it keeps nothing in memory

    def overtaken(*given: Any) -> Any:
        description = describe(*given)
        if others:
            others.pop().run_once()
        return description

    monkeypatch.setattr("imaging_source.publisher.describe", overtaken)

    assert publisher.run_once() == 0
    assert len(registry.submissions) == 1


def test_a_publication_under_way_elsewhere_is_left_alone_until_its_lease_ends(
    publisher: Publisher,
    registry: Registry,
    database: Database,
    store: Store,
    make_instance: Make,
    clock: Any,
) -> None:
    store(make_instance())
    clock.now += 60
    publisher._make_ready()
    claimed = database.write(
        lambda connection: outbox.claim(connection, clock.now, clock.now + 300)
    )
    assert claimed is not None

    assert publisher.run_once() == 0
    clock.now += 301
    assert publisher.run_once() == 1
    assert len(registry.submissions) == 1


def test_a_publisher_that_starts_takes_up_what_a_dead_one_left(
    publisher: Publisher,
    registry: Registry,
    store: Store,
    make_instance: Make,
    clock: Any,
    database: Database,
) -> None:
    store(make_instance())
    clock.now += 60
    publisher._make_ready()
    database.write(lambda connection: outbox.claim(connection, clock.now, clock.now + 1000))

    publisher.start()
    assert registry.heard.wait(10)
    publisher.stop()

    assert outbox_rows(database)[0].state is State.PUBLISHED


def test_the_thread_publishes_and_stops(
    publisher: Publisher,
    registry: Registry,
    store: Store,
    make_instance: Make,
    clock: Any,
    database: Database,
) -> None:
    store(make_instance())
    clock.now += 60
    publisher.start()
    assert registry.heard.wait(10)
    publisher.stop()

    with database.read() as connection:
        row = connection.execute(select(STUDY)).mappings().one()
    assert row["published_revision"] == row["revision"] == 1
    assert row["published_entry"] == registry.entries()[0].entry_uuid


def test_bytes_are_given_up_once_the_repository_has_them(
    publisher: Publisher, store: Store, make_instance: Make, clock: Any, database: Database
) -> None:
    store(make_instance())
    clock.now += 60
    publisher.run_once()

    (row,) = outbox_rows(database)
    assert (row.manifest, row.metadata) == (b"", b"")
    assert row.state is State.PUBLISHED


def retitled(database: Database, description: str) -> None:
    """Change what is known of the study, and that it changed, as a correction would."""
    changed = update(STUDY).values(revision=STUDY.c.revision + 1, description=description)
    database.write(lambda connection: connection.execute(changed))


def test_a_change_that_no_manifest_shows_is_not_published(
    publisher: Publisher,
    registry: Registry,
    store: Store,
    make_instance: Make,
    clock: Any,
    database: Database,
) -> None:
    store(make_instance(StudyDescription="Thorax"))
    clock.now += 60
    publisher.run_once()

    retitled(database, "Thorax")
    clock.now += 60
    assert publisher.run_once() == 0
    assert publisher.run_once() == 0
    retitled(database, "Abdomen")
    assert publisher.run_once() == 1

    assert [entry.title for entry in registry.entries()] == ["Thorax", "Abdomen"]


def replacements(submission: Submission) -> dict[str, set[str]]:
    """The entries replaced by each new one."""
    found: dict[str, set[str]] = {}
    for association in submission.associations:
        if association.association_type == RPLC:
            found.setdefault(association.source, set()).add(association.target)
    return found


def entry_uuids(submission: Submission) -> list[str]:
    return [entry.entry_uuid or "" for entry in submission.documents]


def test_families_are_published_side_by_side_and_each_replaces_its_own(
    publisher: Publisher,
    registry: Registry,
    store: Store,
    make_instance: Make,
    clock: Any,
    database: Database,
) -> None:
    families = (Flavour.XDS_I, Flavour.MADO_KOS, Flavour.MADO_FHIR)
    publisher.policy = replace(publisher.policy, flavours=families)
    for _ in range(2):
        store(make_instance())
        clock.now += 60
        assert publisher.run_once() == 1

    first, second = registry.submissions
    assert [entry.mime_type for entry in second.documents] == [one.mime_type for one in families]
    assert len({entry.unique_id for entry in second.documents}) == 3
    assert replacements(second) == {
        new: {old} for new, old in zip(entry_uuids(second), entry_uuids(first), strict=True)
    }
    read = [read_manifest(data) for data in registry.seen[1][1:]]
    assert [one.instance_count for one in read] == [2, 2, 2]
    with database.read() as connection:
        kept = connection.execute(select(FURTHER_MANIFEST.c.manifest)).scalars().all()
    assert kept == [b""] * 4


def test_a_family_that_is_published_no_more_is_replaced_all_the_same(
    publisher: Publisher, registry: Registry, store: Store, make_instance: Make, clock: Any
) -> None:
    publisher.policy = replace(publisher.policy, flavours=(Flavour.XDS_I, Flavour.MADO_KOS))
    store(make_instance())
    clock.now += 60
    publisher.run_once()
    publisher.policy = replace(publisher.policy, flavours=(Flavour.XDS_I,))
    store(make_instance())
    clock.now += 60
    publisher.run_once()

    first, second = registry.submissions
    assert replacements(second) == {entry_uuids(second)[0]: set(entry_uuids(first))}
