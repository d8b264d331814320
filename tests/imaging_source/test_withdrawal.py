"""A study without images: its manifest is withdrawn, once, and comes back with them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from pydicom.dataset import Dataset
from sqlalchemy import select

from imaging_source import outbox
from imaging_source.outbox import Kind, Publication, State
from imaging_source.publisher import Place, Publisher
from imaging_source.rejection import EXPIRED, SAFETY
from imaging_source.schema import STUDY
from imaging_source.withdrawal import Withdrawal
from manifest.entry import PublicationPolicy
from manifest.flavours import Flavour
from metadata.catalogue import RegistryError
from metadata.identifiers import APPROVED, DEPRECATED, RPLC
from metadata.model import Submission
from storage.database import Database
from transactions.iti_41 import ProvideAndRegisterRequest
from transactions.iti_42 import SubmitObjectsRequest
from transactions.iti_62 import RemoveObjectsRequest
from transactions.registry_response import RegistryResponse

Make = Callable[..., Dataset]
Store = Callable[..., int]


@dataclass
class Registry:
    """Entries with their status; a change whose number is in ``silent`` is done unheard."""

    status: dict[str, str] = field(default_factory=dict)
    submissions: list[Submission] = field(default_factory=list)
    orders: list[Submission | tuple[str, ...]] = field(default_factory=list)
    silent: set[int] = field(default_factory=set)

    def provide_and_register(self, request: ProvideAndRegisterRequest) -> RegistryResponse:
        submission = request.submit.submission
        for association in submission.associations:
            if association.association_type == RPLC:
                assert self.status[association.target] == APPROVED
                self.status[association.target] = DEPRECATED
        self.status |= dict.fromkeys((one.entry_uuid for one in submission.documents), APPROVED)
        self.submissions.append(submission)
        return RegistryResponse.of()

    def update(self, request: SubmitObjectsRequest) -> RegistryResponse:
        submission = request.submission
        changes = submission.associations
        if any(self.status[one.target] != one.original_status for one in changes):
            return RegistryResponse.of([RegistryError("XDSRegistryMetadataError", "status")])
        self.status |= {one.target: one.new_status or "" for one in changes}
        self.submissions.append(submission)
        return self._answer(submission)

    def remove(self, request: RemoveObjectsRequest) -> RegistryResponse:
        for name in request.entry_uuids:
            del self.status[name]
        return self._answer(tuple(request.entry_uuids))

    def around(self, entries: Sequence[str]) -> list[str]:
        return [one for one in entries if one in self.status]

    def knows(self, submission_set_unique_id: str) -> bool:
        return any(
            one.submission_sets[0].unique_id == submission_set_unique_id for one in self.submissions
        )

    def _answer(self, order: Submission | tuple[str, ...]) -> RegistryResponse:
        self.orders.append(order)
        if len(self.orders) in self.silent:
            raise TimeoutError
        return RegistryResponse.of()


@pytest.fixture
def registry() -> Registry:
    return Registry()


@pytest.fixture
def start(
    database: Database, policy: PublicationPolicy, registry: Registry, clock: Any
) -> Callable[[Kind], Publisher]:
    def started(kind: Kind) -> Publisher:
        return Publisher(
            database,
            policy,
            Place(repository_unique_id="1.2.250.1.9.9"),
            registry.provide_and_register,
            registry.knows,
            withdrawal=Withdrawal(
                kind=kind, update=registry.update, remove=registry.remove, around=registry.around
            ),
            quiet_seconds=30,
            clock=clock,
        )

    return started


def rows(database: Database) -> list[Publication]:
    with database.read() as connection:
        return outbox.publications(connection)


def publish(publisher: Publisher, clock: Any) -> int:
    clock.now += 60
    return publisher.run_once()


def test_images_that_are_rejected_leave_the_manifest_and_the_last_one_takes_it_along(
    start: Callable[[Kind], Publisher],
    registry: Registry,
    database: Database,
    store: Store,
    make_instance: Make,
    make_note: Make,
    clock: Any,
) -> None:
    publisher = start(Kind.DEPRECATION)
    first, second = make_instance(), make_instance()
    store(first)
    store(second)
    publish(publisher, clock)
    store(make_note(SAFETY, first))
    assert publish(publisher, clock) == 1
    assert list(registry.status.values()) == [DEPRECATED, APPROVED]

    store(make_note(SAFETY, second))
    assert publish(publisher, clock) == 1

    assert list(registry.status.values()) == [DEPRECATED, DEPRECATED]
    (order,) = registry.orders
    assert isinstance(order, Submission)
    assert order.submission_sets[0].patient_id == "P1^^^&1.2.3.4&ISO"
    newest = rows(database)[0]
    assert (newest.kind, newest.state) == (Kind.DEPRECATION, State.PUBLISHED)
    assert publish(publisher, clock) == 0


def test_a_removal_names_every_entry_of_the_study(
    start: Callable[[Kind], Publisher],
    registry: Registry,
    store: Store,
    make_instance: Make,
    make_note: Make,
    clock: Any,
) -> None:
    publisher = start(Kind.REMOVAL)
    images = [make_instance(), make_instance()]
    for image in images:
        store(image)
        publish(publisher, clock)
    entries = tuple(registry.status)
    store(make_note(SAFETY, *images))
    publish(publisher, clock)

    assert registry.orders == [entries]
    assert registry.status == {}


@pytest.mark.parametrize(
    ("kind", "left"), [(Kind.DEPRECATION, [DEPRECATED] * 4), (Kind.REMOVAL, [])]
)
def test_every_family_of_a_manifest_is_withdrawn(
    start: Callable[[Kind], Publisher],
    registry: Registry,
    store: Store,
    make_instance: Make,
    make_note: Make,
    clock: Any,
    kind: Kind,
    left: list[str],
) -> None:
    publisher = start(kind)
    publisher.policy = replace(publisher.policy, flavours=(Flavour.XDS_I, Flavour.MADO_KOS))
    images = [make_instance(), make_instance()]
    for image in images:
        store(image)
        publish(publisher, clock)
    assert sorted(registry.status.values()) == [APPROVED] * 2 + [DEPRECATED] * 2
    store(make_note(SAFETY, *images))
    publish(publisher, clock)
    assert list(registry.status.values()) == left


@pytest.mark.parametrize("kind", [Kind.DEPRECATION, Kind.REMOVAL])
def test_a_withdrawal_whose_answer_is_lost_is_not_done_twice(
    start: Callable[[Kind], Publisher],
    registry: Registry,
    database: Database,
    store: Store,
    make_instance: Make,
    make_note: Make,
    clock: Any,
    kind: Kind,
) -> None:
    publisher = start(kind)
    image = make_instance()
    store(image)
    publish(publisher, clock)
    store(make_note(SAFETY, image))
    registry.silent = {1}

    assert publish(publisher, clock) == 1
    assert rows(database)[0].state is State.PENDING
    assert publish(publisher, clock) == 1
    assert len(registry.orders) == 1
    assert rows(database)[0].state is State.PUBLISHED


def test_images_that_come_back_are_published_as_a_first_manifest(
    start: Callable[[Kind], Publisher],
    registry: Registry,
    store: Store,
    make_instance: Make,
    make_note: Make,
    clock: Any,
) -> None:
    publisher = start(Kind.DEPRECATION)
    image = make_instance()
    store(image)
    publish(publisher, clock)
    store(make_note(EXPIRED, image))
    publish(publisher, clock)
    store(image)
    publish(publisher, clock)

    assert list(registry.status.values()) == [DEPRECATED, APPROVED]
    assert [one.association_type for one in registry.submissions[-1].associations] != [RPLC]


def test_a_study_that_never_had_an_image_to_show_is_not_published(
    start: Callable[[Kind], Publisher],
    registry: Registry,
    database: Database,
    store: Store,
    make_instance: Make,
    make_note: Make,
    clock: Any,
) -> None:
    publisher = start(Kind.DEPRECATION)
    store(make_note(SAFETY, make_instance()))

    assert publish(publisher, clock) == 0
    assert rows(database) == []
    with database.read() as connection:
        study = connection.execute(select(STUDY)).mappings().one()
    assert study["published_revision"] == study["revision"]
