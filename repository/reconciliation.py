"""Bringing rows, bytes and registry together again after crashes and lost answers.

The order of ITI-41 leaves only harmless remains: documents stored but perhaps not
registered, bytes without a row, temporary files. This module settles the first with the
registry's help, and sweeps the others when told to. What it can not mend it reports: a row
whose bytes are missing or damaged is an alarm, for the registry may promise that document, and
so is a document that the registry promises and no row is there for.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Protocol, TypedDict

import structlog

from repository.documents import Document, Documents, Unconfirmed
from repository.removal import delete_bytes
from storage.contract import Blobs
from storage.errors import BlobCorrupt, BlobMissing
from transactions.registry_response import RegistryUnavailable

# A day: longer than any sender keeps trying, so that nobody still means what is removed.
GRACE_SECONDS = 86_400.0

# Addresses looked up in one statement.
_BATCH = 500

_log = structlog.get_logger(__name__)

# Whether the registry has a DocumentEntry with this uniqueId (ITI-18 GetDocuments); raises
# RegistryUnavailable if it cannot say.
Knows = Callable[[str], bool]


class Inventory(Protocol):
    """What a registry at hand says of its documents: see ``registry.inventory``."""

    def pages(self) -> Iterable[list[str]]:
        """The uniqueIds of all documents."""

    def known(self, unique_ids: Collection[str]) -> set[str]:
        """Those that some document has."""

    def expected_here(self, unique_ids: Collection[str]) -> set[str]:
        """Those that some DocumentEntry says are in this repository."""


Step = Callable[[], object]


def _nothing() -> None:
    """The step of who shows no progress."""


class Options(TypedDict, total=False):
    """What may be chosen for ``reconcile``."""

    grace_seconds: float
    sweep: bool
    scrub: bool
    inventory: Inventory | None
    step: Step


@dataclass(slots=True)
class Reconciliation:
    """What was found and done; the lists hold uniqueIds, ``unreferenced`` addresses.

    ``confirmed``: stored documents that the registry knows. ``removed``: those it does not
    know. ``undecided``: it could not say, or a new submission came. ``unreferenced``: bytes
    without a row, ``swept`` of them removed. ``temporary``: abandoned temporary files
    removed. ``missing`` and ``damaged``: documents whose bytes are gone or are not what they
    were. ``unheld``: documents that the registry says are here and no row is there for.
    ``unregistered``: documents that it had and knows no more, as after ITI-62. The last two
    are found only with the registry's database at hand (``compared``).
    """

    confirmed: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    undecided: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)
    unheld: list[str] = field(default_factory=list)
    unregistered: list[str] = field(default_factory=list)
    unreferenced: list[str] = field(default_factory=list)
    swept: int = 0
    temporary: int = 0
    compared: bool = False

    @property
    def alarm(self) -> bool:
        """Whether a document that was accepted cannot be served: a person must act."""
        return bool(self.missing or self.damaged or self.unheld)


def reconcile(
    documents: Documents,
    blobs: Blobs,
    knows: Knows,
    *,
    grace_seconds: float = GRACE_SECONDS,
    sweep: bool = False,
    scrub: bool = False,
    inventory: Inventory | None = None,
    step: Step = _nothing,
) -> Reconciliation:
    """Settle what is older than ``grace_seconds``; safe while submissions go on.

    ``sweep`` removes bytes without a row: leave it off after a database was restored from
    a backup, for the bytes of newer documents have no row then and are their only copy.
    ``scrub`` hashes the bytes of every document again, at the cost of reading them all.
    ``inventory`` is what the registry has, where it is at hand; ``step`` is called after each
    document that was looked at.
    """
    report = Reconciliation()
    for unconfirmed in documents.unconfirmed(time.time() - grace_seconds):
        _settle(documents, knows, unconfirmed, report)
    report.temporary = blobs.sweep_temporary(grace_seconds)
    for address in _unreferenced(documents, blobs, grace_seconds):
        report.unreferenced.append(address)
        if sweep:
            report.swept += blobs.delete_if_older(address, grace_seconds)
    for unique_id in documents.removing():
        delete_bytes(documents, blobs, unique_id)
    inspect(documents, blobs, report, scrub=scrub, inventory=inventory, step=step)
    return report


def inspect(
    documents: Documents,
    blobs: Blobs,
    report: Reconciliation,
    *,
    scrub: bool = False,
    inventory: Inventory | None = None,
    step: Step = _nothing,
) -> None:
    """Only look, and add to ``report`` what cannot be served: see ``reconcile``."""
    for document in documents.all():
        if not document.removed:
            _inspect(documents, blobs, document, scrub, report)
        step()
    if inventory is not None:
        _compare(documents, inventory, report)
    if report.alarm:
        _log.error(
            "repository.bytes_lost",
            missing=len(report.missing),
            damaged=len(report.damaged),
            unheld=len(report.unheld),
        )


def _compare(documents: Documents, inventory: Inventory, report: Reconciliation) -> None:
    """Rows against DocumentEntries, both ways.

    Whoever is second is asked second: what was registered meanwhile has its row before.
    """
    report.compared = True
    for page in inventory.pages():
        without_row = set(page) - documents.find(page).keys()
        if without_row:
            report.unheld += sorted(inventory.expected_here(without_row))
    registered = documents.registered()
    while batch := list(islice(registered, _BATCH)):
        report.unregistered += sorted(set(batch) - inventory.known(batch))


def _settle(
    documents: Documents, knows: Knows, document: Unconfirmed, report: Reconciliation
) -> None:
    try:
        registered = knows(document.unique_id)
    except RegistryUnavailable:
        report.undecided.append(document.unique_id)
        return
    if not documents.settle(document, registered):
        report.undecided.append(document.unique_id)
    elif registered:
        report.confirmed.append(document.unique_id)
    else:
        report.removed.append(document.unique_id)


def _unreferenced(documents: Documents, blobs: Blobs, age: float) -> Iterator[str]:
    """Addresses of blobs at least ``age`` seconds old that no row names."""
    limit = time.time() - age
    old = (blob.sha256 for blob in blobs.inventory() if blob.kept_at <= limit)
    while batch := list(islice(old, _BATCH)):
        in_use = documents.addresses_in_use(batch)
        yield from (address for address in batch if address not in in_use)


def _inspect(
    documents: Documents, blobs: Blobs, document: Document, scrub: bool, report: Reconciliation
) -> None:
    try:
        blob = blobs.open(document.sha256)
        if blob.size != document.size:
            raise BlobCorrupt(document.sha256)
        if scrub:
            for _ in blob.chunks():
                pass
    except BlobMissing:
        # Unless the row went, too, while we looked: a refused submission takes its own away.
        if documents.here(document.unique_id):
            report.missing.append(document.unique_id)
    except BlobCorrupt:
        report.damaged.append(document.unique_id)
