from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator

import pytest
from sqlalchemy import delete, text

from repository.documents import Document, Documents
from repository.reconciliation import Knows, Reconciliation, reconcile
from repository.schema import DOCUMENT
from soap.message import InMemory
from storage.contract import Blobs
from storage.database import Database
from tests.storage.shelves import Shelf
from transactions.registry_response import RegistryUnavailable

DAY = 86_400.0


@pytest.fixture
def documents(database: Database) -> Documents:
    return Documents(database)


def store(documents: Documents, blobs: Blobs, *unique_ids: str) -> None:
    """Leave documents as a crash between storing and registering leaves them."""
    for unique_id in unique_ids:
        data = unique_id.encode()
        blob = blobs.keep(InMemory(data))
        sha1 = hashlib.sha1(data).hexdigest()
        documents.claim([Document(unique_id, blob.sha256, sha1, blob.size, "text/plain")])


def address(unique_id: str) -> str:
    return hashlib.sha256(unique_id.encode()).hexdigest()


def grow_old(shelf: Shelf) -> None:
    for blob in list(shelf.store.inventory()):
        shelf.grow_old(blob.sha256)


def nothing(_: str) -> bool:
    raise AssertionError("the registry must not be asked")


def run(
    documents: Documents,
    blobs: Blobs,
    knows: Knows = nothing,
    *,
    grace: float = 0.0,
    sweep: bool = False,
    scrub: bool = False,
) -> Reconciliation:
    return reconcile(documents, blobs, knows, grace_seconds=grace, sweep=sweep, scrub=scrub)


def test_stored_documents_are_settled_by_what_the_registry_knows(
    documents: Documents, blobs: Blobs, shelf: Shelf
) -> None:
    store(documents, blobs, "1.1", "1.2")
    grow_old(shelf)
    report = run(documents, blobs, lambda unique_id: unique_id == "1.1", sweep=True)
    assert (report.confirmed, report.removed) == (["1.1"], ["1.2"])
    assert (len(report.unreferenced), report.swept, report.alarm) == (1, 1, False)
    assert set(documents.find(["1.1", "1.2"])) == {"1.1"}
    assert [blob.size for blob in blobs.inventory()] == [3]
    assert run(documents, blobs) == Reconciliation()


def test_a_registered_document_is_not_asked_about(documents: Documents, blobs: Blobs) -> None:
    store(documents, blobs, "1.1")
    documents.confirm(["1.1"])
    assert run(documents, blobs, sweep=True) == Reconciliation()


def test_what_is_young_is_left_alone(documents: Documents, blobs: Blobs) -> None:
    store(documents, blobs, "1.1")
    blobs.keep(InMemory(b"without a row"))
    assert run(documents, blobs, grace=DAY, sweep=True) == Reconciliation()


def test_a_registry_that_is_away_leaves_everything_undecided(
    documents: Documents, blobs: Blobs
) -> None:
    def away(_: str) -> bool:
        raise RegistryUnavailable

    store(documents, blobs, "1.1")
    assert run(documents, blobs, away, sweep=True).undecided == ["1.1"]
    assert set(documents.find(["1.1"])) == {"1.1"}


def test_a_document_claimed_while_the_registry_was_asked_stays(
    documents: Documents, blobs: Blobs, database: Database
) -> None:
    store(documents, blobs, "1.1")
    later = text("UPDATE stored_document SET claimed_at = claimed_at + 1")

    def claimed_meanwhile(_: str) -> bool:
        database.write(lambda connection: connection.execute(later).close())
        return False

    assert run(documents, blobs, claimed_meanwhile).undecided == ["1.1"]
    assert set(documents.find(["1.1"])) == {"1.1"}


def test_bytes_without_a_row_are_reported_and_kept_unless_a_sweep_is_asked_for(
    documents: Documents, blobs: Blobs, shelf: Shelf, database: Database
) -> None:
    store(documents, blobs, "1.1", "1.2")
    documents.confirm(["1.1", "1.2"])
    row = delete(DOCUMENT).where(DOCUMENT.c.unique_id == "1.1")
    database.write(lambda connection: connection.execute(row).close())
    lost = hashlib.sha256(b"1.1").hexdigest()
    assert run(documents, blobs) == Reconciliation(unreferenced=[lost])
    assert len(list(blobs.inventory())) == 2
    grow_old(shelf)
    assert run(documents, blobs, sweep=True) == Reconciliation(unreferenced=[lost], swept=1)
    assert run(documents, blobs) == Reconciliation()


def test_a_row_without_its_bytes_is_an_alarm_and_nothing_else_is_reported(
    documents: Documents, blobs: Blobs
) -> None:
    store(documents, blobs, "1.1", "1.2")
    documents.confirm(["1.1", "1.2"])
    blobs.delete(address("1.2"))
    report = run(documents, blobs)
    assert report == Reconciliation(missing=["1.2"])
    assert report.alarm


def test_damage_of_the_same_size_is_found_by_scrubbing_only(
    documents: Documents, blobs: Blobs, shelf: Shelf
) -> None:
    store(documents, blobs, "1.1", "1.2")
    documents.confirm(["1.1", "1.2"])
    shelf.write(address("1.1"), b"1.x")
    assert not run(documents, blobs).alarm
    report = run(documents, blobs, scrub=True)
    assert report == Reconciliation(damaged=["1.1"])
    assert report.alarm


def test_a_cut_document_is_found_without_scrubbing(
    documents: Documents, blobs: Blobs, shelf: Shelf
) -> None:
    store(documents, blobs, "1.1")
    documents.confirm(["1.1"])
    shelf.write(address("1.1"), b"1")
    assert run(documents, blobs).damaged == ["1.1"]


def test_abandoned_temporary_files_are_removed(documents: Documents, blobs: Blobs) -> None:
    spool = blobs.spool()
    spool.write(b"half a document")
    spool.finish()
    assert run(documents, blobs).temporary == 1
    assert run(documents, blobs).temporary == 0


def test_more_rows_than_a_page_are_all_looked_at(
    documents: Documents, blobs: Blobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("repository.documents._PAGE", 2)
    monkeypatch.setattr("repository.reconciliation._BATCH", 2)
    names = [f"1.{number}" for number in range(7)]
    store(documents, blobs, *names)
    documents.confirm(names)
    assert [document.unique_id for document in documents.all()] == names
    assert set(documents.find(names)) == set(names)
    for name in names:
        blobs.delete(address(name))
    assert run(documents, blobs).missing == names


class Entries:
    """What a registry has: uniqueIds, and whether their entries name this repository."""

    def __init__(self, **here: bool) -> None:
        self.here = {name.replace("_", "."): is_here for name, is_here in here.items()}

    def pages(self) -> Iterator[list[str]]:
        yield from ([unique_id] for unique_id in sorted(self.here))

    def known(self, unique_ids: Collection[str]) -> set[str]:
        return set(unique_ids) & self.here.keys()

    def expected_here(self, unique_ids: Collection[str]) -> set[str]:
        return {unique_id for unique_id in unique_ids if self.here[unique_id]}


def test_rows_and_entries_are_compared_both_ways(documents: Documents, blobs: Blobs) -> None:
    store(documents, blobs, "1.1", "1.2")
    documents.confirm(["1.1", "1.2"])
    entries = Entries(**{"1_1": True, "1_3": True, "1_4": False})
    steps: list[None] = []
    report = reconcile(
        documents, blobs, nothing, inventory=entries, step=lambda: steps.append(None)
    )
    assert (report.unheld, report.unregistered) == (["1.3"], ["1.2"])
    assert report.compared
    assert report.alarm
    assert len(steps) == documents.count() == 2


def test_a_document_that_only_the_registry_has_forgotten_is_no_alarm(
    documents: Documents, blobs: Blobs
) -> None:
    store(documents, blobs, "1.1")
    documents.confirm(["1.1"])
    report = reconcile(documents, blobs, nothing, inventory=Entries())
    assert report == Reconciliation(unregistered=["1.1"], compared=True)
    assert not report.alarm
