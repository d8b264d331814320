"""What the objects of one submission owe each other (ITI TF-3 4.2.1, 4.2.2).

Covers the rules of ITI TF-2 3.42.4.1.3.3 to 3.42.4.1.3.5 that one message can show: exactly
one SubmissionSet linked to every document and folder, ids and unique ids used once, one
patient, associations between objects that may be linked. References to objects outside the
message are the registry's to resolve.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection

from metadata import catalogue as rules
from metadata.catalogue import Fault
from metadata.datatypes import is_uuid_urn
from metadata.identifiers import (
    APND,
    DOCUMENT_RELATIONSHIPS,
    HAS_MEMBER,
    IS_SNAPSHOT_OF,
    ORIGINAL,
    REFERENCE,
    REPLACEMENTS,
    SIGNS,
    XFRM,
    XFRM_RPLC,
)
from metadata.model import Association, DocumentEntry, Folder, Submission, SubmissionSet

# Their target must have been registered before (ITI TF-2 3.42.4.1.3.5).
_TARGET_REGISTERED = REPLACEMENTS | {IS_SNAPSHOT_OF}
_TRANSFORMATIONS = frozenset({XFRM, XFRM_RPLC})

# What a HasMember may link; None is an object outside the message (ITI TF-3 Table 4.2.2-1).
# An outside source can only be an existing Folder: existing SubmissionSets never change.
_MEMBERSHIPS: dict[type | None, frozenset[type | None]] = {
    SubmissionSet: frozenset({DocumentEntry, Folder, Association, None}),
    Folder: frozenset({DocumentEntry, None}),
    None: frozenset({DocumentEntry, None}),
}
# SubmissionSetStatus of a SubmissionSet's HasMember, by its target (ITI TF-3 4.2.2.1.1).
_SUBMISSION_SET_STATUS: dict[type | None, str] = {DocumentEntry: ORIGINAL, None: REFERENCE}


def structure_faults(submission: Submission, faults: list[Fault]) -> None:
    """Add every structural fault of the submission to ``faults``."""
    package_faults(submission, faults)
    _check_unique_ids(submission, faults)
    _check_members(submission, faults)
    _check_patients(submission, faults)
    if submission.associations:
        _Associations(submission, faults).check()


def package_faults(submission: Submission, faults: list[Fault]) -> None:
    """Add the faults of a message as a whole: one SubmissionSet, not empty, ids used once."""
    _check_submission_sets(submission, faults)
    ids = Counter(obj.entry_uuid for obj in submission.objects() if obj.entry_uuid)
    faults += [Fault(rules.ID_REPEATED, one) for one, count in ids.items() if count > 1]


def _check_submission_sets(submission: Submission, faults: list[Fault]) -> None:
    sets = submission.submission_sets
    if len(sets) != 1:
        named = ", ".join(one.entry_uuid for one in sets) or "none"
        faults.append(Fault(rules.SUBMISSION_SET_COUNT, named, count=len(sets)))
    elif not (submission.documents or submission.folders or submission.associations):
        faults.append(Fault(rules.SUBMISSION_EMPTY, sets[0].entry_uuid))


def _check_unique_ids(submission: Submission, faults: list[Fault]) -> None:
    owners: dict[str, list[str]] = {}
    for obj in (*submission.submission_sets, *submission.documents, *submission.folders):
        if obj.unique_id:
            owners.setdefault(obj.unique_id, []).append(obj.entry_uuid)
    faults += [
        Fault(rules.UNIQUE_ID_REPEATED, ", ".join(users), value=unique_id)
        for unique_id, users in owners.items()
        if len(users) > 1
    ]


def _check_members(submission: Submission, faults: list[Fault]) -> None:
    sets = {one.entry_uuid for one in submission.submission_sets}
    members = {
        link.target
        for link in submission.associations
        if link.association_type == HAS_MEMBER and link.source in sets
    }
    for kind, objects in (("DocumentEntry", submission.documents), ("Folder", submission.folders)):
        faults += [
            Fault(rules.NOT_IN_SUBMISSION_SET, obj.entry_uuid, kind=kind)
            for obj in objects
            if obj.entry_uuid not in members
        ]


def _check_patients(submission: Submission, faults: list[Fault]) -> None:
    if not submission.submission_sets or submission.submission_sets[0].patient_id is None:
        return  # reported already
    expected = submission.submission_sets[0].patient_id
    normalised = expected.normalised()
    for kind, objects in (("DocumentEntry", submission.documents), ("Folder", submission.folders)):
        for obj in objects:
            patient = obj.patient_id
            if patient is not None and patient.normalised() != normalised:
                faults.append(
                    Fault(
                        rules.PATIENT_DIFFERS,
                        obj.entry_uuid,
                        kind=kind,
                        value=patient,
                        expected=expected,
                    )
                )


def ends_resolve(link: Association, known: Collection[str], faults: list[Fault]) -> bool:
    """Whether both ends are ``known`` ids of the message or UUIDs that a registry may know."""
    found: list[Fault] = []
    for attribute, value in (("sourceObject", link.source), ("targetObject", link.target)):
        if not value:
            name = f"Association.{attribute}"
            found.append(Fault(rules.ATTRIBUTE_REQUIRED, link.entry_uuid, attribute=name))
        elif value not in known and not is_uuid_urn(value):
            found.append(
                Fault(rules.UNRESOLVED_SYMBOL, link.entry_uuid, attribute=attribute, value=value)
            )
    if not found and link.source == link.target:
        found.append(Fault(rules.ASSOCIATION_TO_ITSELF, link.entry_uuid, value=link.source))
    faults += found
    return not found


class _Associations:
    """Checks the associations of one submission."""

    def __init__(self, submission: Submission, faults: list[Fault]) -> None:
        self.links = submission.associations
        self.faults = faults
        self.kinds: dict[str, type] = {obj.entry_uuid: type(obj) for obj in submission.objects()}
        self.member_targets = {
            link.target
            for link in self.links
            if link.association_type == HAS_MEMBER and self.kinds.get(link.source) is SubmissionSet
        }
        self.transformations = {
            link.source for link in self.links if link.association_type in _TRANSFORMATIONS
        }

    def check(self) -> None:
        for link in self.links:
            if link.documentation and link.association_type not in DOCUMENT_RELATIONSHIPS:
                self._fault(rules.DOCUMENTATION_NOT_ALLOWED, link)
            if not ends_resolve(link, self.kinds, self.faults):
                continue
            if link.association_type == HAS_MEMBER:
                self._membership(link)
            elif link.association_type in DOCUMENT_RELATIONSHIPS:
                self._relationship(link)
            else:
                self._fault(rules.ASSOCIATION_TYPE, link, value=link.association_type)

    def _membership(self, link: Association) -> None:
        source, target = self.kinds.get(link.source), self.kinds.get(link.target)
        if target not in _MEMBERSHIPS.get(source, ()):
            self._ends_fault(link)
        elif source is SubmissionSet:
            self._submission_set_status(link, target)
        elif link.entry_uuid not in self.member_targets:
            self._fault(rules.MEMBERSHIP_NOT_IN_SUBMISSION_SET, link)

    def _submission_set_status(self, link: Association, target: type | None) -> None:
        expected = _SUBMISSION_SET_STATUS.get(target)
        status = link.submission_set_status
        if expected is not None and status != expected:
            self._fault(rules.SUBMISSION_SET_STATUS, link, value=status or "", expected=expected)

    def _relationship(self, link: Association) -> None:
        kind, target = link.association_type, self.kinds.get(link.target)
        if self.kinds.get(link.source) is not DocumentEntry:
            self._fault(rules.RELATIONSHIP_SOURCE, link, value=link.source, type=link.type_name)
        # A signature may also sign the SubmissionSet as a whole (ITI TF-3 5.5, DSG).
        if target not in (DocumentEntry, None) and not (kind == SIGNS and target is SubmissionSet):
            self._ends_fault(link)
        elif target is not None and kind in _TARGET_REGISTERED:
            self._fault(rules.RELATIONSHIP_TARGET_NEW, link, value=link.target, type=link.type_name)
        elif kind == APND and link.target in self.transformations:
            self._fault(rules.APPEND_TO_TRANSFORMATION, link, value=link.target)

    def _ends_fault(self, link: Association) -> None:
        source, target = self.kinds.get(link.source), self.kinds.get(link.target)
        self._fault(
            rules.ASSOCIATION_ENDS,
            link,
            type=link.type_name,
            source=source.__name__ if source else "registered object",
            target=target.__name__ if target else "registered object",
        )

    def _fault(self, rule: rules.Rule, link: Association, **details: object) -> None:
        self.faults.append(Fault(rule, link.entry_uuid, **details))
