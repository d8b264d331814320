"""A submission in the form in which it is registered (ITI TF-2 3.42.4.1.3.7).

Symbolic ids become fresh UUIDs in every reference, everything is Approved, a first version
of itself, and rendered. That takes no database, so it is done before a transaction begins;
only Folders, whose lastUpdateTime is the time of the commit, are rendered inside it.
The sender's objects are left as they are.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TypeVar

from metadata import catalogue as rules
from metadata.catalogue import Fault
from metadata.datatypes import CX, DTM, is_uuid_urn, new_uuid_urn
from metadata.identifiers import APPROVED, HAS_MEMBER
from metadata.model import (
    AnyObject,
    Association,
    DocumentEntry,
    Folder,
    Submission,
    SubmissionSet,
    changed,
)
from registry import rows
from registry.rows import Row

_FIRST_VERSION = "1"

Described = TypeVar("Described", bound=DocumentEntry | SubmissionSet | Folder)


@dataclass(frozen=True, slots=True)
class Registration:
    """A valid submission, ready to be written; nothing in it depends on the database.

    ``patient`` is the submission's, as the sender named it.
    """

    patient: str
    submission_set: SubmissionSet
    documents: list[DocumentEntry]
    folders: list[Folder]
    associations: list[Association]
    submission_set_row: Row
    document_rows: list[Row]
    association_rows: list[Row]

    def described(self) -> Iterator[DocumentEntry | SubmissionSet | Folder]:
        """Every object that has attributes of its own."""
        yield self.submission_set
        yield from self.documents
        yield from self.folders

    def objects(self) -> Iterator[AnyObject]:
        """Every object."""
        yield from self.described()
        yield from self.associations


def prepare(submission: Submission) -> Registration:
    """``submission``, which must be free of faults, ready to be written."""
    ids = RegisteredIds(submission)
    [package] = submission.submission_sets
    return rendered(
        ids.first_version(package),
        [ids.first_version(document) for document in submission.documents],
        [ids.first_version(folder) for folder in submission.folders],
        [ids.relinked(link) for link in submission.associations],
    )


def rendered(
    submission_set: SubmissionSet,
    documents: list[DocumentEntry],
    folders: list[Folder],
    associations: list[Association],
) -> Registration:
    """These objects, complete with registered ids, as they are written."""
    patient = CX(submission_set.patient_id or "").normalised()
    return Registration(
        patient=patient,
        submission_set=submission_set,
        documents=documents,
        folders=folders,
        associations=associations,
        submission_set_row=rows.submission_set_row(submission_set, patient),
        document_rows=[rows.document_row(document, patient) for document in documents],
        association_rows=[rows.association_row(link, patient) for link in associations],
    )


def without_extra_metadata(submission: Submission) -> tuple[Submission, list[Fault]]:
    """``submission`` without the slots that XDS does not know, and a warning for each of them.

    For domains that do not save such slots (ITI TF-3 4.2.3.1.6, XDSExtraMetadataNotSaved).
    """
    warnings = [
        Fault(rules.EXTRA_METADATA_NOT_SAVED, obj.entry_uuid, what=f"Slot {name}")
        for obj in submission.objects()
        for name in obj.extra_slots
    ]
    if not warnings:
        return submission, []
    kept = replace(
        submission,
        submission_sets=[replace(obj, extra_slots={}) for obj in submission.submission_sets],
        documents=[replace(obj, extra_slots={}) for obj in submission.documents],
        folders=[replace(obj, extra_slots={}) for obj in submission.folders],
        associations=[replace(obj, extra_slots={}) for obj in submission.associations],
    )
    return kept, warnings


def has_member(source: str, target: str) -> Association:
    """A new HasMember that the registry adds by itself."""
    return Association(
        entry_uuid=new_uuid_urn(),
        availability_status=APPROVED,
        association_type=HAS_MEMBER,
        source=source,
        target=target,
    )


def updated_at(folder: Folder, time: DTM) -> Folder:
    """``folder`` with the time of its last change (ITI TF-2 3.42.4.1.3.6)."""
    return replace(folder, last_update_time=time)


class RegisteredIds:
    """The registered id of every object of one submission: ``registered``, by the sender's id."""

    def __init__(self, submission: Submission) -> None:
        self.registered = {
            obj.entry_uuid: obj.entry_uuid if is_uuid_urn(obj.entry_uuid) else new_uuid_urn()
            for obj in submission.objects()
        }

    def first_version(self, obj: Described) -> Described:
        """``obj`` as it is registered; what a sender says of status and version is ignored."""
        entry_uuid = self.registered[obj.entry_uuid]
        return self.version(obj, entry_uuid, _FIRST_VERSION, APPROVED)

    def version(self, obj: Described, logical_id: str, version: str, status: str) -> Described:
        """``obj`` as the version of ``logical_id`` that it is registered as."""
        return changed(
            obj,
            entry_uuid=self.registered[obj.entry_uuid],
            logical_id=logical_id,
            version=version,
            availability_status=status,
        )

    def relinked(self, link: Association) -> Association:
        """``link`` between registered ids."""
        return changed(
            link,
            entry_uuid=self.registered[link.entry_uuid],
            source=self.registered.get(link.source, link.source),
            target=self.registered.get(link.target, link.target),
            availability_status=APPROVED,
        )
