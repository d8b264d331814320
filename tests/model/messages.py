"""Messages in labels: what is sent to a registry, before the labels become ids."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from metadata import identifiers as xds
from metadata.datatypes import CX, DTM, OID, CXi, LocalizedString
from metadata.model import (
    AnyObject,
    Association,
    Code,
    DocumentEntry,
    Folder,
    Submission,
    SubmissionSet,
)

SCHEME = "1.2.250.1"
REFERENCES = [CXi(f"{n}^^^&1.2.3&ISO^{xds.ACCESSION_REFERENCE}") for n in "AB"]


def code(value: str) -> Code:
    """A coded value."""
    return Code(value, SCHEME, LocalizedString(value))


@dataclass
class Draft:
    """A message of a patient in the making; ``label`` gives a fresh label for a kind.

    The title of each object is its label, by which it is known again in an answer.
    """

    patient: CX
    label: Callable[[str], str]
    unique_id: Callable[[], str]
    object_type: str = xds.STABLE
    submission: Submission = field(default_factory=Submission)

    def __post_init__(self) -> None:
        self.set = self.label("s")
        self.submission.submission_sets.append(
            SubmissionSet(
                entry_uuid=self.set,
                unique_id=self.unique_id(),
                patient_id=self.patient,
                title=LocalizedString(self.set),
                content_type_code=code("content"),
                source_id=OID("1.2.3"),
                submission_time=DTM("20260102"),
            )
        )

    def document(self, number: int, **attributes: Any) -> DocumentEntry:
        """A document with the content of that number, an Original member of the set."""
        label = self.label("d")
        given: dict[str, Any] = {
            "entry_uuid": label,
            "unique_id": self.unique_id(),
            "patient_id": self.patient,
            "title": LocalizedString(label),
            "object_type": self.object_type,
            "mime_type": "text/plain",
            "class_code": code("class"),
            "type_code": code("type"),
            "format_code": code("format"),
            "healthcare_facility_type_code": code("facility"),
            "practice_setting_code": code("practice"),
            "confidentiality_code": [code("N")],
            "language_code": "fr-FR",
            "source_patient_id": CX("local^^^&1.2.3&ISO"),
            "repository_unique_id": OID("1.2.3.4"),
            **(content(number) if self.object_type == xds.STABLE else {}),
            **attributes,
        }
        document = DocumentEntry(**given)
        self.submission.documents.append(document)
        self.link(xds.HAS_MEMBER, self.set, label, submission_set_status=xds.ORIGINAL)
        return document

    def folder(self) -> Folder:
        """A folder, a member of the set."""
        label = self.label("f")
        folder = Folder(
            entry_uuid=label,
            unique_id=self.unique_id(),
            patient_id=self.patient,
            title=LocalizedString(label),
            code_list=[code("folder")],
        )
        self.submission.folders.append(folder)
        self.link(xds.HAS_MEMBER, self.set, label)
        return folder

    def file(self, folder: str, document: str) -> None:
        """A document into a folder."""
        membership = self.link(xds.HAS_MEMBER, folder, document)
        self.link(xds.HAS_MEMBER, self.set, membership.entry_uuid)

    def submit(self, kind: str, source: str, target: str) -> None:
        """An association with the SubmitAssociation that asks for it."""
        link = self.link(kind, source, target)
        self.link(xds.SUBMIT_ASSOCIATION, self.set, link.entry_uuid)

    def version(self, stored: DocumentEntry | Folder, **slots: Any) -> Any:
        """A new version of what is stored, to be changed further."""
        label = self.label("d" if isinstance(stored, DocumentEntry) else "f")
        new = replace(
            stored,
            entry_uuid=label,
            title=LocalizedString(label),
            patient_id=self.patient,
            version=None,
            availability_status=None,
        )
        kind = self.submission.folders if isinstance(new, Folder) else self.submission.documents
        kind.append(new)  # type: ignore[arg-type]
        status = None if isinstance(new, Folder) else xds.ORIGINAL
        given = {"submission_set_status": status, "previous_version": stored.version, **slots}
        self.link(xds.HAS_MEMBER, self.set, label, **given)
        return new

    def link(self, kind: str, source: str, target: str, **attributes: Any) -> Association:
        """Any association."""
        association = Association(
            entry_uuid=self.label("a"),
            association_type=kind,
            source=source,
            target=target,
            **attributes,
        )
        self.submission.associations.append(association)
        return association


def content(number: int) -> dict[str, Any]:
    """What the document with this number says of its bytes; an On-Demand one has none."""
    return {"creation_time": DTM("2025"), "hash": f"{number:040x}", "size": str(number)}


def named(message: Submission, ids: Mapping[str, str]) -> Submission:
    """The message with ids in the place of labels; a label without one is a symbolic id."""

    def renamed(obj: Any) -> Any:
        return with_ids(obj, lambda label: ids.get(label, label))

    return Submission(
        [renamed(one) for one in message.submission_sets],
        [renamed(one) for one in message.documents],
        [renamed(one) for one in message.folders],
        [renamed(one) for one in message.associations],
    )


def with_ids(obj: AnyObject, rename: Callable[[str], str]) -> AnyObject:
    """An object with every id in it renamed."""
    entry_uuid = rename(obj.entry_uuid)
    if isinstance(obj, Association):
        return replace(
            obj, entry_uuid=entry_uuid, source=rename(obj.source), target=rename(obj.target)
        )
    logical_id = rename(obj.logical_id) if obj.logical_id else obj.logical_id
    return replace(obj, entry_uuid=entry_uuid, logical_id=logical_id)
