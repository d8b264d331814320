"""The On-Demand Document Source: documents that come into being when they are asked for.

Covers ITI-43 for On-Demand entries (ITI TF-2 3.43.4.2.2, 3.43.4.2.3) and for entries of Delayed
Document Assembly (3.43.4.1.3.2): the registry's entry says what is wanted, the provider that
serves such entries says what there is to tell now. What was assembled once is kept for ever:

- of an On-Demand entry under a uniqueId that follows from the entry and the substance, so that
  the same content has the same uniqueId, however often and wherever it is assembled, and the
  same uniqueId the same bytes. With ``Source.snapshots`` it is registered before it is handed
  over;
- of a delayed entry under the entry's own uniqueId. The registry is told hash and size by
  ``Source.versions`` (ITI-57); if that fails, the next retrieval tells it.

Nothing here opens a connection: what asks and tells the registry is handed in.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count
from typing import Protocol

import structlog

from metadata import catalogue as rules
from metadata.catalogue import Fault
from metadata.identifiers import APPROVED, EMPTY_SHA1, ON_DEMAND, SUCCESS
from metadata.model import DocumentEntry
from repository.documents import Document, Documents, OtherBytes
from repository.schema import ASSEMBLED, DELAYED
from repository.snapshots import SnapshotRefused, Snapshots, Versions, derived_uuid
from soap.message import InMemory
from storage.contract import Blobs
from storage.faultpoints import reach
from transactions.registry_response import RegistryUnavailable

_log = structlog.get_logger(__name__)


class NotAssembled(Exception):
    """A provider cannot tell at the moment; the text says why, without health data."""


@dataclass(frozen=True, slots=True)
class Assembly:
    """What a provider has to tell about an entry now.

    ``substance`` is what of it matters: equal substance is the same document, whenever it is
    rendered. ``render`` makes its bytes, given its uniqueId and the time of assembly.
    """

    substance: bytes
    render: Callable[[str, datetime], bytes]


class Provider(Protocol):
    """Assembles one kind of document."""

    def serves(self, entry: DocumentEntry) -> bool:
        """Whether documents of this entry are its to assemble."""

    def assemble(self, entry: DocumentEntry) -> Assembly:
        """What there is to tell now. Raises NotAssembled and RegistryUnavailable."""


# The entries with a uniqueId (GetDocuments); raises RegistryUnavailable.
Entries = Callable[[str], Sequence[DocumentEntry]]


# Nobody's uniqueId: the OID of the UUID that is all zeros.
_NOT_THERE = "2.25.0"


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Source:
    """What the wiring lends to a repository that assembles documents.

    Without ``snapshots`` nothing that is assembled on demand is registered; without ``versions``
    the entries of Delayed Document Assembly stay as they are.
    """

    entries: Entries
    providers: Sequence[Provider]
    snapshots: Snapshots | None = None
    versions: Versions | None = None
    clock: Callable[[], datetime] = _now


@dataclass(frozen=True, slots=True)
class Assembled:
    """A document that is there now; ``snapshot`` of an On-Demand one, registered or not."""

    document: Document
    snapshot: bool
    registered: bool = False


class OnDemand:
    """Assembles the documents of the repository ``unique_id``. Safe for use by many threads."""

    def __init__(self, documents: Documents, blobs: Blobs, unique_id: str, source: Source) -> None:
        self._documents = documents
        self._blobs = blobs
        self._unique_id = unique_id
        self._source = source

    def assemble(self, unique_id: str, *, hidden: bool = False) -> Assembled | Fault:
        """The document that the registry promises under ``unique_id``, made now.

        A fault if it promises none of this repository, if it is ``hidden`` from whoever asks, or
        if it cannot be made. Raises StorageError.
        """
        try:
            return self._assemble(unique_id, hidden)
        except RegistryUnavailable:
            problem = "the registry cannot be asked; try again later"
        except NotAssembled as error:
            problem = str(error)
        return Fault(rules.NOT_ASSEMBLED, unique_id, problem=problem)

    def tell(self, document: Document) -> None:
        """Have the registry know hash and size of a document that was assembled late.

        Whether it could be told or not: the document can be handed over. Raises StorageError.
        """
        if self._source.versions is None:
            return
        try:
            entry = self._entry(document.unique_id)
            if entry is None or _told(self._source.versions, entry, document):
                self._documents.confirm([document.unique_id])
        except RegistryUnavailable:
            _log.warning("repository.registry_not_told")

    def _assemble(self, unique_id: str, hidden: bool) -> Assembled | Fault:
        # For what is hidden the registry is asked as for what is not there.
        entry = self._entry(_NOT_THERE if hidden else unique_id)
        provider = self._provider(entry) if entry is not None else None
        if hidden or entry is None or provider is None:
            return Fault(rules.UNKNOWN_DOCUMENT, unique_id)
        assembly = provider.assemble(entry)
        if entry.object_type == ON_DEMAND:
            return self._snapshot(entry, assembly)
        document = self._keep(entry, unique_id, assembly, DELAYED)
        self.tell(document)
        return Assembled(document, snapshot=False)

    def _entry(self, unique_id: str) -> DocumentEntry | None:
        """The entry of a document of this repository that is still to be assembled."""
        candidates = [
            entry
            for entry in _latest(self._source.entries(unique_id))
            if entry.repository_unique_id == self._unique_id and _is_to_be_assembled(entry)
        ]
        approved = [one for one in candidates if one.availability_status == APPROVED]
        return next(iter(approved or candidates), None)

    def _provider(self, entry: DocumentEntry) -> Provider | None:
        return next((one for one in self._source.providers if one.serves(entry)), None)

    def _snapshot(self, entry: DocumentEntry, assembly: Assembly) -> Assembled:
        document = self._kept_snapshot(entry, assembly)
        if self._source.snapshots is None:
            return Assembled(document, snapshot=True)
        try:
            self._source.snapshots.publish(entry, document, self._unique_id)
        except SnapshotRefused as refused:
            # What is true is handed over all the same: only that it was not registered is told.
            _log.error("repository.snapshot_refused", codes=refused.codes)
            return Assembled(document, snapshot=True)
        reach("repository.snapshot_registered")
        self._documents.confirm([document.unique_id])
        return Assembled(document, snapshot=True, registered=True)

    def _kept_snapshot(self, entry: DocumentEntry, assembly: Assembly) -> Document:
        """The document of this substance; one that was removed is never brought back."""
        for generation in count():
            unique_id = self._snapshot_id(entry, assembly, generation)
            known = self._documents.find([unique_id]).get(unique_id)
            if known is None:
                return self._keep(entry, unique_id, assembly, ASSEMBLED)
            if not known.removed:
                return known
        raise AssertionError("counting never ends")

    def _snapshot_id(self, entry: DocumentEntry, assembly: Assembly, generation: int) -> str:
        substance = hashlib.sha256(assembly.substance).hexdigest()
        name = (self._unique_id, str(entry.unique_id), substance, str(generation))
        return f"2.25.{derived_uuid(*name).int}"

    def _keep(
        self, entry: DocumentEntry, unique_id: str, assembly: Assembly, state: str
    ) -> Document:
        """Render the document and make it durable; or take what a rival has kept first."""
        content = InMemory(assembly.render(unique_id, self._source.clock()))
        mime_type = entry.mime_type or ""
        document = Document(unique_id, content.sha256, content.sha1, content.size, mime_type, state)
        self._blobs.keep(content)
        reach("repository.assembled")
        try:
            self._documents.claim([document])
        except OtherBytes:
            rival = self._documents.here(unique_id)
            if rival is None:
                raise NotAssembled("the document has just been removed") from None
            return rival
        if not self._blobs.holds(document.sha256):
            self._blobs.keep(content)  # a removal of equal bytes came before the row was there
        return self._documents.here(unique_id) or document


def _told(versions: Versions, entry: DocumentEntry, document: Document) -> bool:
    response = versions.tell(entry, document)
    if response.status != SUCCESS:
        codes = [error.code for error in response.errors]
        _log.error("repository.update_refused", codes=codes)
    return response.status == SUCCESS


def _latest(entries: Sequence[DocumentEntry]) -> list[DocumentEntry]:
    """Of each logical entry its latest version, whether or not the registry shows the others."""
    newest: dict[str, DocumentEntry] = {}
    for entry in sorted(entries, key=_version):
        newest[entry.logical_id or entry.entry_uuid] = entry
    return list(newest.values())


def _version(entry: DocumentEntry) -> tuple[int, str]:
    """Sorts as the number does."""
    version = entry.version or "1"
    return len(version), version


def _is_to_be_assembled(entry: DocumentEntry) -> bool:
    """On demand, or delayed: registered as a document of no bytes (ITI TF-2 3.43.4.1.3.2)."""
    if entry.object_type == ON_DEMAND:
        return True
    return entry.size == "0" and (entry.hash or "").lower() == EMPTY_SHA1
