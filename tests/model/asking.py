"""What a registry shows: the stored queries of ITI-18 over a ``World`` (ITI TF-2 3.18.4.1.2.3.7).

An answer is the labels of its objects, or the codes of what is wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass

from metadata import identifiers as xds
from metadata.datatypes import CX
from metadata.model import AnyObject, Association, DocumentEntry, Folder, SubmissionSet
from tests.model.world import World

UNKNOWN_PATIENT = "XDSUnknownPatientId"
SEVERAL_PATIENTS = "XDSResultNotSinglePatient"
STATUSES = (xds.APPROVED, xds.DEPRECATED)
TYPES = (xds.STABLE, xds.ON_DEMAND)


class Wrong(Exception):
    """The query is refused with these codes."""

    @property
    def codes(self) -> set[str]:
        return set(self.args)


def answer_of(ask: Callable[[], set[str]]) -> tuple[set[str], set[str]]:
    """The labels that an answer holds, and the codes with which it is refused."""
    try:
        return ask(), set()
    except Wrong as wrong:
        return set(), wrong.codes


@dataclass
class Eye:
    """Somebody who looks at a world at a $MetadataLevel, for Documents of some types."""

    world: World
    level: int = 1
    types: Collection[str] = TYPES

    # --- Queries by patient ----------------------------------------------------------------------

    def get_all(self, patient: CX, statuses: Collection[str] = STATUSES) -> set[str]:
        """Everything of a patient, and every association that touches any of it."""
        found = {
            obj.entry_uuid
            for obj in self._of(patient)
            if obj.availability_status in statuses and self._may_see(obj)
        }
        return found | self._touching(found)

    def find_documents(
        self, patient: CX, statuses: Collection[str], references: Collection[str] = ()
    ) -> set[str]:
        """Documents, by what they refer to if ``references`` are given."""
        return {
            obj.entry_uuid
            for obj in self._of(patient)
            if isinstance(obj, DocumentEntry)
            and obj.availability_status in statuses
            and self._may_see(obj)
            and (not references or set(references) & set(obj.reference_id_list))
        }

    def find(
        self, kind: type[SubmissionSet | Folder], patient: CX, statuses: Collection[str]
    ) -> set[str]:
        """Submission sets or folders."""
        return {
            obj.entry_uuid
            for obj in self._of(patient)
            if isinstance(obj, kind) and obj.availability_status in statuses and self._may_see(obj)
        }

    def _of(self, patient: CX) -> Iterable[AnyObject]:
        """What is about a patient who is known and was not subsumed (3.18.4.1.2.3.9)."""
        if not self.world.is_active(patient):
            raise Wrong(UNKNOWN_PATIENT)
        return [
            obj
            for label, obj in self.world.objects.items()
            if self.world.patient_of(label) == patient
        ]

    # --- Queries by what is known already ----------------------------------------------------

    def get_documents(self, named: Collection[str]) -> set[str]:
        """Documents, Stable and On-Demand."""
        return self._seen(named, DocumentEntry, xds.STABLE, xds.ON_DEMAND)

    def get_folders(self, named: Collection[str]) -> set[str]:
        """Folders."""
        return {label for label in self._seen(named, Folder) if self._is_current(label)}

    def get_associations(self, named: Collection[str]) -> set[str]:
        """Whatever touches some objects."""
        return self._touching(named)

    def get_documents_and_associations(self, named: Collection[str]) -> set[str]:
        """Documents and whatever touches them."""
        documents = self.get_documents(named)
        return documents | self._touching(documents)

    def get_submission_sets(self, named: Collection[str]) -> set[str]:
        """The sets that hold documents or folders, and what ties them together."""
        members = {label for label in named if isinstance(self._at(label), DocumentEntry | Folder)}
        links = [
            link
            for link in self._links(xds.HAS_MEMBER)
            if link.target in members and isinstance(self._at(link.source), SubmissionSet)
        ]
        return {link.source for link in links} | {link.entry_uuid for link in links}

    def get_submission_set_and_contents(self, named: Collection[str]) -> set[str]:
        """A set, what it holds, and what links that."""
        sets = self._seen(named, SubmissionSet)
        held = [link for link in self._links(xds.HAS_MEMBER) if link.source in sets]
        members = {link.target for link in held}
        shown = sets | self._seen(members, DocumentEntry, *self.types) | self.get_folders(members)
        shown |= {
            link.entry_uuid
            for link in self._links()
            if link.entry_uuid in members and {link.source, link.target} <= shown
        }
        return shown | {link.entry_uuid for link in held if link.target in shown}

    def get_folder_and_contents(self, named: Collection[str]) -> set[str]:
        """A folder, its documents, and their memberships."""
        folders = self.get_folders(named)
        links = [link for link in self._links(xds.HAS_MEMBER) if link.source in folders]
        members = {link.target for link in links}
        documents = self._seen(members, DocumentEntry, *self.types)
        listed = {link.entry_uuid for link in links if link.target in documents}
        return folders | documents | listed

    def get_folders_for_document(self, named: Collection[str]) -> set[str]:
        """The folders that hold a document."""
        documents = self.get_documents(named)
        links = [link for link in self._links(xds.HAS_MEMBER) if link.target in documents]
        return self.get_folders({link.source for link in links})

    def get_related_documents(self, named: Collection[str], kinds: Collection[str]) -> set[str]:
        """A document with those related to it; nothing at all without a relation."""
        start = {label for label in named if isinstance(self._at(label), DocumentEntry)}
        links = [link for link in self._links(*kinds) if {link.source, link.target} & start]
        ends = {end for link in links for end in (link.source, link.target)}
        shown = self._seen(ends, DocumentEntry, *self.types)
        between = [link for link in links if {link.source, link.target} <= shown]
        joined = {end for link in between for end in (link.source, link.target)}
        return joined | {link.entry_uuid for link in between}

    def single_patient(self, labels: set[str]) -> set[str]:
        """Whole objects of one patient at most."""
        if len({self.world.patient_of(label) for label in labels} - {None}) > 1:
            raise Wrong(SEVERAL_PATIENTS)
        return labels

    # --- What is shown (Metadata Update 3.18.4.1.2.3.5.1) ---------------------------------

    def _may_see(self, obj: AnyObject) -> bool:
        if isinstance(obj, DocumentEntry) and obj.object_type not in self.types:
            return False
        offline = isinstance(obj, DocumentEntry) and obj.document_availability == xds.OFFLINE
        return self.level > 1 or (self.world.is_latest(obj) and not offline)

    def _is_current(self, label: str) -> bool:
        """Deprecated Folders are shown at level 1 to those only who ask by status."""
        return self.level > 1 or self.world.is_approved(label)

    def _at(self, label: str) -> AnyObject | None:
        return self.world.objects.get(label)

    def _seen(self, named: Collection[str], kind: type, *types: str) -> set[str]:
        eye = Eye(self.world, self.level, types)
        found = [obj for label in named if isinstance(obj := self._at(label), kind)]
        return {obj.entry_uuid for obj in found if obj is not None and eye._may_see(obj)}

    def _links(self, *kinds: str) -> list[Association]:
        return [
            link
            for link in self.world.links()
            if (not kinds or link.association_type in kinds)
            and (self.level > 1 or link.availability_status == xds.APPROVED)
        ]

    def _touching(self, labels: Collection[str]) -> set[str]:
        return {
            link.entry_uuid
            for link in self._links()
            if link.source in labels or link.target in labels
        }
