"""Updates as an administrator sends them (ITI-57, ITI-92): right unless a case changes one.

Ids are fresh UUIDs chosen here, so that cases know what to ask for afterwards.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, TypeVar

from conformance.bench import Bench, must
from conformance.expectation import Mismatch, Success
from conformance.seen import Answer
from metadata.datatypes import CX, new_uuid_urn
from metadata.identifiers import (
    APPROVED,
    DEPRECATED,
    HAS_MEMBER,
    ORIGINAL,
    SUBMIT_ASSOCIATION,
    UPDATE_AVAILABILITY_STATUS,
)
from metadata.model import Association, DocumentEntry, Folder
from transactions.iti_42 import SubmitObjectsRequest
from transactions.iti_57 import ITI_57
from transactions.iti_62 import ITI_62, RemoveObjectsRequest
from transactions.iti_92 import ITI_92
from transactions.registry_response import RegistryResponse
from transactions.stored_query import get_associations, get_documents, get_folders

Versioned = TypeVar("Versioned", DocumentEntry, Folder)


class Change:
    """An update in the making: its SubmissionSet is of ``patient``."""

    def __init__(self, bench: Bench, patient: CX) -> None:
        self.submission = bench.submission(patient)
        self.set = self.submission.submission_sets[0]
        self._patient = patient

    def version(
        self,
        stored: Versioned,
        *,
        previous: str | None = "",
        propagation: str | None = None,
        member_status: str | None = ORIGINAL,
        **attributes: Any,
    ) -> Versioned:
        """A new version of ``stored``, which follows it; ``previous`` None leaves that out."""
        new = replace(
            stored,
            **{
                "entry_uuid": new_uuid_urn(),
                "logical_id": stored.logical_id or stored.entry_uuid,
                "availability_status": None,
                "patient_id": self._patient,
                **attributes,
            },
        )
        if isinstance(new, DocumentEntry):
            self.submission.documents.append(new)
        else:
            self.submission.folders.append(new)
        self.link(
            HAS_MEMBER,
            self.set.entry_uuid,
            new.entry_uuid,
            submission_set_status=member_status if isinstance(new, DocumentEntry) else None,
            previous_version=(stored.version or "1") if previous == "" else previous,
            association_propagation=propagation,
        )
        return new

    def status(self, target: str, original: str | None, new: str | None) -> Association:
        """An UpdateAvailabilityStatus of ``target``."""
        return self.link(
            UPDATE_AVAILABILITY_STATUS,
            self.set.entry_uuid,
            target,
            original_status=original,
            new_status=new,
        )

    def deprecate(self, target: str) -> Association:
        """From Approved to Deprecated."""
        return self.status(target, APPROVED, DEPRECATED)

    def restore(self, target: str) -> Association:
        """From Deprecated to Approved."""
        return self.status(target, DEPRECATED, APPROVED)

    def submit(self, kind: str, source: str, target: str) -> Association:
        """An association between what is registered, with the SubmitAssociation asking for it."""
        link = self.link(kind, source, target)
        self.link(SUBMIT_ASSOCIATION, self.set.entry_uuid, link.entry_uuid)
        return link

    def link(self, kind: str, source: str, target: str, **slots: Any) -> Association:
        """Any association."""
        made = Association(
            entry_uuid=new_uuid_urn(),
            association_type=kind,
            source=source,
            target=target,
            **slots,
        )
        self.submission.associations.append(made)
        return made

    def request(self) -> SubmitObjectsRequest:
        """The message."""
        return SubmitObjectsRequest.of(self.submission)


def update(bench: Bench, change: Change) -> Answer[RegistryResponse]:
    """ITI-57."""
    return bench.ask(ITI_57, change.request())


def restricted_update(bench: Bench, change: Change) -> Answer[RegistryResponse]:
    """ITI-92."""
    return bench.ask(ITI_92, change.request())


def remove(bench: Bench, *entry_uuids: str) -> Answer[RegistryResponse]:
    """ITI-62."""
    return bench.ask(ITI_62, RemoveObjectsRequest(entry_uuids))


def updated(bench: Bench, change: Change) -> None:
    """An update as preparation: it must succeed."""
    must(Success(), update(bench, change), "updating test metadata")


def removed(bench: Bench, *entry_uuids: str) -> None:
    """A removal as preparation: it must succeed."""
    must(Success(), remove(bench, *entry_uuids), "removing test metadata")


def stored_document(bench: Bench, entry_uuid: str) -> DocumentEntry:
    """A DocumentEntry as the registry has it, be it an older version."""
    found = bench.objects(get_documents(entry_uuid=[entry_uuid], metadata_level=2)).documents
    return _only(found, entry_uuid)


def stored_folder(bench: Bench, entry_uuid: str) -> Folder:
    """A Folder as the registry has it, be it an older version."""
    found = bench.objects(get_folders(entry_uuid=[entry_uuid], metadata_level=2)).folders
    return _only(found, entry_uuid)


def links_at(bench: Bench, entry_uuid: str, level: int = 1) -> list[Association]:
    """The associations at an object."""
    return bench.objects(get_associations([entry_uuid], metadata_level=level)).associations


Object = TypeVar("Object")


def _only(found: list[Object], entry_uuid: str) -> Object:
    if len(found) != 1:
        raise Mismatch(f"one object {entry_uuid}", f"{len(found)} of them")
    return found[0]
