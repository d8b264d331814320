"""Which operations an update asks for (Metadata Update 3.57.4.1.3.1, 3.57.4.1.3.2).

Every object of the message but the SubmissionSet and its HasMember must trigger exactly one
operation: a DocumentEntry or Folder becomes a new version, an UpdateAvailabilityStatus changes a
status, a SubmitAssociation adds the association it leads to. A restricted update (ITI-92) holds
new versions of DocumentEntries only. Pure: the message alone is judged here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from metadata import catalogue as rules
from metadata.catalogue import Fault
from metadata.datatypes import is_uuid_urn
from metadata.identifiers import (
    APPROVED,
    DEPRECATED,
    DO_NOT_PROPAGATE,
    DOCUMENT_RELATIONSHIPS,
    HAS_MEMBER,
    ORIGINAL,
    PROPAGATE,
    SUBMIT_ASSOCIATION,
    UPDATE_AVAILABILITY_STATUS,
)
from metadata.model import AnyObject, Association, DocumentEntry, Folder, Submission
from metadata.structure import ends_resolve

_PROPAGATION = (None, PROPAGATE, DO_NOT_PROPAGATE)
_STATUSES = (APPROVED, DEPRECATED)


@dataclass(frozen=True, slots=True)
class NewVersion:
    """A DocumentEntry or Folder that follows the latest version of its logicalID.

    ``link`` is the SubmissionSet's HasMember that asks for it.
    """

    obj: DocumentEntry | Folder
    link: Association

    @property
    def logical_id(self) -> str:
        """What its versions have in common."""
        return self.obj.logical_id or ""

    @property
    def propagates(self) -> bool:
        """Whether it inherits the associations of the version it follows."""
        return self.link.association_propagation != DO_NOT_PROPAGATE


@dataclass(frozen=True, slots=True)
class Operations:
    """What a message asks for.

    ``statuses`` are its UpdateAvailabilityStatus associations, ``links`` those that a
    SubmitAssociation leads to.
    """

    submission: Submission
    versions: list[NewVersion] = field(default_factory=list)
    statuses: list[Association] = field(default_factory=list)
    links: list[Association] = field(default_factory=list)

    def logical_ids(self) -> dict[str, str]:
        """The logicalID of each new version, by the id it has in the message."""
        return {version.obj.entry_uuid: version.logical_id for version in self.versions}


def decode(submission: Submission, restricted: bool) -> tuple[Operations, list[Fault]]:
    """The operations of a message, and why some of its objects trigger none or several.

    What cannot be told from the message without a SubmissionSet is left out: that it has none
    is a fault already (``metadata.validation``).
    """
    if not submission.submission_sets:
        return Operations(submission), []
    decoder = _Decoder(submission, restricted)
    decoder.run()
    return decoder.asked, decoder.faults


class _Decoder:
    """Decodes one message."""

    def __init__(self, submission: Submission, restricted: bool) -> None:
        self.asked = Operations(submission)
        self.faults: list[Fault] = []
        self._restricted = restricted
        self._set = submission.submission_sets[0].entry_uuid
        self._objects: dict[str, AnyObject] = {obj.entry_uuid: obj for obj in submission.objects()}
        self._members: dict[str, list[Association]] = {}
        for link in submission.associations:
            if link.association_type == HAS_MEMBER and link.source == self._set:
                self._members.setdefault(link.target, []).append(link)
        self._submitted = Counter(
            link.target
            for link in submission.associations
            if link.association_type == SUBMIT_ASSOCIATION and link.source == self._set
        )

    def run(self) -> None:
        submission = self.asked.submission
        for document in submission.documents:
            self._version(document)
        for folder in submission.folders:
            self._version(folder)
        for link in submission.associations:
            if ends_resolve(link, self._objects, self.faults):
                self._association(link)

    def _fault(self, rule: rules.Rule, obj: AnyObject, **details: object) -> None:
        self.faults.append(Fault(rule, obj.entry_uuid, **details))

    def _operation(self, obj: AnyObject, problem: str) -> None:
        self._fault(rules.OPERATION, obj, problem=problem)

    # --- New versions -------------------------------------------------------------------------

    def _version(self, obj: DocumentEntry | Folder) -> None:
        links = self._members.get(obj.entry_uuid, [])
        logical_id = obj.logical_id
        if self._restricted and isinstance(obj, Folder):
            self._operation(obj, "a restricted update changes DocumentEntries only")
        elif logical_id is None or logical_id == obj.entry_uuid:
            kind = type(obj).__name__
            self._fault(rules.INITIAL_VERSION, obj, kind=kind, value=logical_id or "absent")
        elif not is_uuid_urn(logical_id):
            self._operation(obj, f"its lid {logical_id!r} is no urn:uuid in lower case")
        elif len(links) != 1:
            self._operation(obj, f"{len(links)} HasMember of the SubmissionSet lead to it")
        else:
            self.faults += self._slots(obj, links[0])
            if any(logical_id == version.logical_id for version in self.asked.versions):
                self._fault(rules.UPDATED_TWICE, obj, value=logical_id)
            self.asked.versions.append(NewVersion(obj, links[0]))

    def _slots(self, obj: DocumentEntry | Folder, link: Association) -> Iterator[Fault]:
        """What is wrong with the slots of the HasMember that asks for a new version."""
        if not link.previous_version:
            yield Fault(rules.PREVIOUS_VERSION_MISSING, obj.entry_uuid)
        propagation = link.association_propagation
        if propagation not in _PROPAGATION:
            yield Fault(rules.PROPAGATION_VALUE, obj.entry_uuid, value=propagation)
        status = link.submission_set_status
        if isinstance(obj, DocumentEntry) and status not in (None, ORIGINAL):
            yield Fault(rules.MEMBER_STATUS, link.entry_uuid, value=status)

    # --- Associations -------------------------------------------------------------------------

    def _association(self, link: Association) -> None:
        kind = link.association_type
        if link.documentation and kind not in DOCUMENT_RELATIONSHIPS:
            self._fault(rules.DOCUMENTATION_NOT_ALLOWED, link)
        if kind == HAS_MEMBER and link.source == self._set:
            self._member(link)
        elif self._restricted:
            self._operation(link, "a restricted update changes DocumentEntries only")
        elif kind == UPDATE_AVAILABILITY_STATUS:
            self._status(link)
        elif kind == SUBMIT_ASSOCIATION:
            self._submission(link)
        elif kind == HAS_MEMBER or kind in DOCUMENT_RELATIONSHIPS:
            self._submitted_link(link)
        else:
            self._fault(rules.ASSOCIATION_TYPE, link, value=kind)

    def _member(self, link: Association) -> None:
        if not isinstance(self._objects.get(link.target), DocumentEntry | Folder):
            self._operation(link, f"{link.target} is no DocumentEntry or Folder of the message")

    def _status(self, link: Association) -> None:
        if link.source != self._set:
            self._operation(link, "its sourceObject is not the SubmissionSet of the message")
            return
        for attribute, value in (
            ("OriginalStatus", link.original_status),
            ("NewStatus", link.new_status),
        ):
            if value is None:
                self._operation(link, f"it has no Slot {attribute}")
            elif value not in _STATUSES:
                self._fault(rules.STATUS_VALUE, link, attribute=attribute, value=value)
        self.asked.statuses.append(link)

    def _submission(self, link: Association) -> None:
        """A SubmitAssociation, which asks for the association at its target."""
        target = self._objects.get(link.target)
        if link.source != self._set:
            self._operation(link, "its sourceObject is not the SubmissionSet of the message")
        elif not isinstance(target, Association) or not self._is_submittable(target):
            self._operation(link, f"{link.target} is no association that it could submit")

    def _is_submittable(self, link: Association) -> bool:
        is_membership = link.association_type == HAS_MEMBER and link.source != self._set
        return is_membership or link.association_type in DOCUMENT_RELATIONSHIPS

    def _submitted_link(self, link: Association) -> None:
        count = self._submitted[link.entry_uuid]
        if count != 1:
            self._operation(link, f"{count} SubmitAssociation of the SubmissionSet lead to it")
        else:
            self.asked.links.append(link)
