"""What the registry is told of assembled documents: snapshots by ITI-42, new versions by ITI-57.

Covers the Persistence of Retrieved Documents option (ITI TF-2 3.43.4.2.3): a SubmissionSet, the
Stable DocumentEntry of the snapshot, IsSnapshotOf the On-Demand entry, and RPLC of the snapshot
before where that is wanted; and for Delayed Document Assembly the next version of the entry,
with the hash and size of the document there is now (MU 3.57.4.1.3.3.1).

Every identifier follows from what is submitted. So a submission made again, after a crash or by
a rival, is the same submission: the registry takes it once, and looking shows that it has.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from metadata.datatypes import DTM, OID
from metadata.identifiers import (
    APPROVED,
    HAS_MEMBER,
    IS_SNAPSHOT_OF,
    ORIGINAL,
    RPLC,
    STABLE,
    SUCCESS,
)
from metadata.model import Association, Code, DocumentEntry, Submission, SubmissionSet
from repository.documents import Document
from transactions.iti_18 import AdhocQueryRequest
from transactions.iti_42 import SubmitObjectsRequest
from transactions.registry_response import RegistryResponse
from transactions.stored_query import find_documents, get_associations, get_documents

# A rival may register the same snapshot, or another one, between our look and our submission:
# each further try needs one more rival in the same instant.
ATTEMPTS = 4

# ITI-42 and ITI-57; both raise RegistryUnavailable.
Register = Callable[[SubmitObjectsRequest], RegistryResponse]
Update = Callable[[SubmitObjectsRequest], RegistryResponse]
# The objects that answer a stored query; raises RegistryUnavailable.
Ask = Callable[[AdhocQueryRequest], Submission]


class SnapshotRefused(Exception):
    """The registry does not take the snapshot: ``codes`` are those of its errors."""

    def __init__(self, response: RegistryResponse) -> None:
        self.codes = [error.code for error in response.errors]
        super().__init__(", ".join(self.codes))


@dataclass(frozen=True, slots=True)
class Snapshots:
    """Registers snapshots. ``replace_previous`` deprecates the one before (RPLC).

    ``source_id`` and ``content_type_code`` are those of the SubmissionSets.
    """

    register: Register
    ask: Ask
    source_id: str
    content_type_code: Code
    replace_previous: bool = True

    def publish(self, entry: DocumentEntry, document: Document, repository_unique_id: str) -> None:
        """Have the registry show ``document`` as a snapshot of ``entry``; done when it returns.

        Raises SnapshotRefused, and RegistryUnavailable when what it did is not known: then the
        same call may be made again.
        """
        response = RegistryResponse.of()
        for _ in range(ATTEMPTS):
            same = self.ask(get_documents(unique_id=[document.unique_id])).documents
            if self._shown(same):
                return
            snapshot = _snapshot(entry, document, repository_unique_id, len(same))
            replaced = self._current(entry) if self.replace_previous else []
            submission = self._submission(entry, snapshot, replaced)
            response = self.register(SubmitObjectsRequest.of(submission))
            if response.status == SUCCESS:
                return
        raise SnapshotRefused(response)

    def _shown(self, same: Sequence[DocumentEntry]) -> bool:
        """Whether the registry has the document; where snapshots replace each other, as current."""
        if not self.replace_previous:
            return bool(same)
        return any(one.availability_status == APPROVED for one in same)

    def _current(self, entry: DocumentEntry) -> list[str]:
        """The Approved snapshots of ``entry``."""
        links = self.ask(get_associations([entry.entry_uuid])).associations
        snapshots = {
            link.source
            for link in links
            if link.association_type == IS_SNAPSHOT_OF and link.target == entry.entry_uuid
        }
        if not snapshots:
            return []
        types = [entry.type_code] if entry.type_code else []
        found = self.ask(find_documents(str(entry.patient_id), type_code=types)).documents
        return sorted({one.entry_uuid for one in found} & snapshots)

    def _submission(
        self, entry: DocumentEntry, snapshot: DocumentEntry, replaced: Sequence[str]
    ) -> Submission:
        moment = snapshot.creation_time
        submission_set = _set(snapshot, self.source_id, self.content_type_code, moment)
        links = [
            _link(snapshot, IS_SNAPSHOT_OF, entry.entry_uuid),
            *(_link(snapshot, RPLC, one) for one in replaced),
        ]
        return Submission(
            [submission_set], [snapshot], [], [_member(submission_set, snapshot), *links]
        )


@dataclass(frozen=True, slots=True)
class Versions:
    """Tells the registry of documents that were assembled later than they were registered.

    ``update`` is Update Document Set, ITI-57; ``source_id`` and ``content_type_code`` are those
    of its SubmissionSets.
    """

    update: Update
    source_id: str
    content_type_code: Code

    def tell(self, entry: DocumentEntry, document: Document) -> RegistryResponse:
        """Give ``entry`` hash and size of ``document`` in a new version.

        Raises RegistryUnavailable.
        """
        return self.update(SubmitObjectsRequest.of(self._new_version(entry, document)))

    def _new_version(self, entry: DocumentEntry, document: Document) -> Submission:
        version = entry.version or "1"
        updated = replace(
            entry,
            entry_uuid=derived_uuid(entry.entry_uuid, version, document.sha256).urn,
            logical_id=entry.logical_id or entry.entry_uuid,
            version=None,
            hash=document.sha1,
            size=str(document.size),
        )
        moment = _created(document)
        submission_set = _set(updated, self.source_id, self.content_type_code, moment)
        member = replace(_member(submission_set, updated), previous_version=version)
        return Submission([submission_set], [updated], [], [member])


def derived_uuid(*names: str) -> uuid.UUID:
    """The UUID that follows from ``names`` (RFC 9562 5.8, version 8: of their SHA-256)."""
    digest = hashlib.sha256("\0".join(names).encode()).digest()
    value = int.from_bytes(digest[:16], "big")
    value = value & ~(0xF << 76) | (8 << 76)  # the version
    value = value & ~(0b11 << 62) | (0b10 << 62)  # the variant
    return uuid.UUID(int=value)


def _snapshot(
    entry: DocumentEntry, document: Document, repository_unique_id: str, number: int
) -> DocumentEntry:
    """The Stable entry of a document assembled for ``entry``; ``number`` tells it from others
    of the same document, which were replaced meanwhile."""
    names = (entry.entry_uuid, document.unique_id, str(number))
    return replace(
        entry,
        entry_uuid=derived_uuid(*names).urn,
        logical_id=None,
        version=None,
        availability_status=None,
        object_type=STABLE,
        unique_id=document.unique_id,
        creation_time=_created(document),
        hash=document.sha1,
        size=str(document.size),
        repository_unique_id=OID(repository_unique_id),
    )


def _set(
    entry: DocumentEntry, source_id: str, content_type_code: Code, moment: DTM | None
) -> SubmissionSet:
    return SubmissionSet(
        entry_uuid=_derived(entry, "set"),
        unique_id=f"2.25.{derived_uuid(entry.entry_uuid, 'submission').int}",
        patient_id=entry.patient_id,
        title=entry.title,
        author=entry.author,
        content_type_code=content_type_code,
        source_id=OID(source_id),
        submission_time=moment,
    )


def _created(document: Document) -> DTM:
    return DTM.of(datetime.fromtimestamp(document.claimed_at / 1000, UTC))


def _derived(entry: DocumentEntry, name: str) -> str:
    return derived_uuid(entry.entry_uuid, name).urn


def _link(snapshot: DocumentEntry, association_type: str, target: str) -> Association:
    return Association(
        entry_uuid=_derived(snapshot, f"{association_type} {target}"),
        association_type=association_type,
        source=snapshot.entry_uuid,
        target=target,
    )


def _member(submission_set: SubmissionSet, entry: DocumentEntry) -> Association:
    return Association(
        entry_uuid=_derived(entry, "member"),
        association_type=HAS_MEMBER,
        source=submission_set.entry_uuid,
        target=entry.entry_uuid,
        submission_set_status=ORIGINAL,
    )
