"""What a registry must hold: its state as plain dictionaries, in the words of the standard.

Written from ITI TF-2 3.18, 3.42, 3.61, ITI TF-3 4.2, Metadata Update and Remove Metadata and
Documents, not from the registry. Objects are those of ``metadata.model``, but every id is a
*label*: "d1", "f2", "s3", "a4". Rules and effects are in the modules named after what is done.

Where the standard is silent, the model says what users would want:

- A uniqueId stands for the content that the latest versions of its documents tell. After the
  removal of the version that changed it, it stands for the former content again.
- What is deprecated with a replaced document is found however deep, through documents that are
  deprecated already too, along Approved associations.
- A replacement has its effects on what stood in the registry before the message: what the same
  message appends to the replaced document, or files it in, is left alone.
- The links that an update submits have Approved ends when all is done, but for what they replace.
- The operations of one update are done in this order: new versions and statuses, then what new
  versions inherit, then submitted associations with the effects of replacements.
- A replacement submitted by an update is of the patient of what it replaces, though that will be
  Deprecated; the rule that links join objects of one patient is judged before replacements.
- A document's new version stays in those Folders only that are Approved in the end. A membership
  that is not taken over stays as it is, and so does a relationship.
- What is taken over was Approved before and is not deprecated by the message; what the message
  restores stays where it is.
- A membership that is taken over leaves a Deprecated one behind, and so does a relationship.
- A version may be removed from between two others; the first may not while others stay, for their
  logicalID names it. The number of a removed latest version is given again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

from metadata import identifiers as xds
from metadata.datatypes import CX
from metadata.model import AnyObject, Association, DocumentEntry, Folder, SubmissionSet

Content = tuple[str | None, int | None]
Versioned = DocumentEntry | Folder


@dataclass
class World:
    """The objects of a registry by label, in the order in which they came, and its patients.

    ``merged`` maps a subsumed patient to the one that stands for it. ``touched`` tells at which
    step a Folder got its lastUpdateTime, which is left out of the objects. ``own`` counts the
    associations that the registry added by itself.
    """

    patients: set[CX] = field(default_factory=set)
    merged: dict[CX, CX] = field(default_factory=dict)
    objects: dict[str, AnyObject] = field(default_factory=dict)
    touched: dict[str, int] = field(default_factory=dict)
    own: int = 0

    def copy(self) -> World:
        """The same, to be changed apart."""
        return World(
            set(self.patients),
            dict(self.merged),
            dict(self.objects),
            dict(self.touched),
            self.own,
        )

    def own_label(self) -> str:
        """A label for an association that the registry adds by itself."""
        self.own += 1
        return f"own{self.own}"

    # --- Patients ----------------------------------------------------------------------------

    def survivor(self, patient: CX | None) -> CX | None:
        """Who stands for a patient today."""
        while patient in self.merged:
            patient = self.merged[patient]
        return patient

    def is_active(self, patient: CX | None) -> bool:
        """Whether a patient was announced and not subsumed (ITI TF-2 3.42.4.1.3.3.2)."""
        return patient in self.patients and patient not in self.merged

    def merge(self, surviving: CX, subsumed: CX) -> bool:
        """Whether the merge could be and was done (ITI TF-2 3.8.4.2.4)."""
        allowed = surviving != subsumed and self.is_active(surviving) and self.is_active(subsumed)
        if allowed:
            self.merged[subsumed] = surviving
        return allowed

    def patient_of(self, label: str) -> CX | None:
        """Who an object is about today; nobody for an association."""
        obj = self.objects[label]
        return None if isinstance(obj, Association) else self.survivor(obj.patient_id)

    # --- Objects -----------------------------------------------------------------------------

    def links(self, wanted: Callable[[Association], bool] = bool) -> list[Association]:
        """The associations that are ``wanted``."""
        found = [obj for obj in self.objects.values() if isinstance(obj, Association)]
        return [link for link in found if wanted(link)]

    def is_approved(self, label: str) -> bool:
        """Whether an object is Approved."""
        return self.objects[label].availability_status == xds.APPROVED

    def set_status(self, label: str, status: str) -> None:
        """Give an object another availabilityStatus."""
        self.objects[label] = replace(self.objects[label], availability_status=status)

    def versions(self, logical_id: str | None) -> list[Versioned]:
        """The versions of a document or folder, the latest last."""
        found = [
            obj
            for obj in self.objects.values()
            if isinstance(obj, DocumentEntry | Folder) and obj.logical_id == logical_id
        ]
        return sorted(found, key=lambda obj: int(obj.version or ""))

    def latest(self, label: str) -> Versioned | None:
        """The latest version of what has a version with this label."""
        obj = self.objects.get(label)
        if not isinstance(obj, DocumentEntry | Folder):
            return None
        return self.versions(obj.logical_id)[-1]

    def is_latest(self, obj: AnyObject) -> bool:
        """Whether no version follows; what has no versions is always the latest."""
        latest = self.latest(obj.entry_uuid)
        return latest is None or latest.entry_uuid == obj.entry_uuid

    def folders_of(self, document: str) -> list[Association]:
        """The Approved memberships of a document in Folders."""
        return self.links(
            lambda link: (
                link.association_type == xds.HAS_MEMBER
                and link.target == document
                and isinstance(self.objects[link.source], Folder)
                and link.availability_status == xds.APPROVED
            )
        )

    def unique_ids(self) -> set[str | None]:
        """The uniqueIds that stand for something."""
        return {obj.unique_id for obj in self.described()}

    def described(self) -> Iterator[DocumentEntry | SubmissionSet | Folder]:
        """What has attributes of its own."""
        for obj in self.objects.values():
            if not isinstance(obj, Association):
                yield obj

    def namesakes(self, unique_id: str | None) -> list[DocumentEntry]:
        """The latest versions of the documents with a uniqueId, in the order they came."""
        return [
            obj
            for obj in self.objects.values()
            if isinstance(obj, DocumentEntry) and obj.unique_id == unique_id and self.is_latest(obj)
        ]


def content(document: DocumentEntry) -> Content:
    """What a document's bytes are known by."""
    digest = document.hash.lower() if document.hash else None
    return digest, int(document.size) if document.size else None
