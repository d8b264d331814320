"""What an update comes to: new objects, changed ones, and whether their patients agree.

Covers the results of the operations (Metadata Update 3.57.4.1.3.3): the version that is followed
is Deprecated and hidden, the new one has its status; with AssociationPropagation the links of the
old version lead to the new one, new to new where both ends are updated, and what they take the
place of is Deprecated. Pure: the state is that of ``registry.update.state``, and is free of faults.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from metadata import catalogue as rules
from metadata.catalogue import Fault
from metadata.datatypes import new_uuid_urn
from metadata.identifiers import (
    APPROVED,
    DEPRECATED,
    DOCUMENT_RELATIONSHIPS,
    HAS_MEMBER,
    ORIGINAL,
    REPLACEMENTS,
)
from metadata.model import Association, DocumentEntry, Folder
from registry import schema
from registry.held import Held
from registry.registration import RegisteredIds, Registration, has_member, rendered
from registry.rows import Row, revision_row
from registry.update.operations import NewVersion, Operations
from registry.update.rules import Future, status_uri
from registry.update.state import State


@dataclass(frozen=True, slots=True)
class Change:
    """What becomes of a registered object: its status (a URN) and the level it is shown at."""

    held: Held
    status: str
    level: int


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be written.

    ``changes`` are by entryUUID. ``followed`` are the new versions, each with what it follows;
    ``replaced`` the documents that a submitted RPLC or XFRM_RPLC replaces, each with its
    replacement. ``names`` are the ids by which the sender knows new objects, of an inherited
    link that of the link it comes from.
    """

    registration: Registration
    changes: Mapping[str, Change]
    followed: Sequence[tuple[DocumentEntry | Folder, Held]]
    revisions: Sequence[Row]
    replaced: Mapping[str, str]
    names: Mapping[str, str]


def make_plan(asked: Operations, state: State) -> Plan:
    """What the operations, which are free of faults, come to."""
    return _Planner(asked, state).plan()


def patient_faults(plan: Plan, state: State) -> Iterator[Fault]:
    """Approved objects that an Approved link joins are of one patient (3.57.4.1.3.4).

    What SubmissionSets hold is free of this rule: by reference it may be anybody's.
    """
    new = {obj.entry_uuid: obj for obj in plan.registration.described()}
    survivor = state.survivors[plan.registration.patient]

    def patient(end: str) -> str | None:
        """Whose an end is, if it is Approved when all is done."""
        if end in new:
            return survivor if new[end].availability_status == APPROVED else None
        held = state.held[end]
        if held.place.kind == schema.SUBMISSION_SET:
            return None  # a document signs it, whoever it is of
        status = plan.changes[end].status if end in plan.changes else status_uri(held)
        return held.place.survivor if status == APPROVED else None

    for link in _links_afterwards(plan, state):
        patients = {patient(link.source), patient(link.target)} - {None}
        if len(patients) > 1:
            yield Fault(
                rules.PATIENTS_LINKED,
                plan.names.get(link.entry_uuid, link.entry_uuid),
                source=plan.names.get(link.source, link.source),
                target=plan.names.get(link.target, link.target),
            )


def _links_afterwards(plan: Plan, state: State) -> Iterator[Association]:
    """The Approved links at everything that changes: new, restored, and those that stay."""
    for link in plan.registration.associations:
        is_link = link.association_type in (HAS_MEMBER, *DOCUMENT_RELATIONSHIPS)
        if is_link and link.source != plan.registration.submission_set.entry_uuid:
            yield link
    for change in plan.changes.values():
        if isinstance(change.held.obj, Association) and change.status == APPROVED:
            yield change.held.obj
    for link in state.links:
        if link.entry_uuid not in plan.changes:
            yield link


class _Planner:
    """Works out one update."""

    def __init__(self, asked: Operations, state: State) -> None:
        self._asked = asked
        self._state = state
        self._future = Future(asked, state)
        self._ids = RegisteredIds(asked.submission)
        self._names = {registered: name for name, registered in self._ids.registered.items()}
        self._documents = {one.entry_uuid for one in asked.submission.documents}
        self._changes: dict[str, Change] = {}
        self._followers = {
            state.latest[version.logical_id].entry_uuid: version for version in asked.versions
        }

    def plan(self) -> Plan:
        [package] = self._asked.submission.submission_sets
        followed = [self._follow(old, version) for old, version in self._followers.items()]
        self._change_statuses()
        links = [*map(self._submitted, self._asked.submission.associations)]
        links += self._inherited(self._ids.registered[package.entry_uuid])
        registration = rendered(
            self._ids.first_version(package),
            [obj for obj, _ in followed if isinstance(obj, DocumentEntry)],
            [obj for obj, _ in followed if isinstance(obj, Folder)],
            links,
        )
        return Plan(
            registration=registration,
            changes=self._changes,
            followed=followed,
            revisions=list(self._revisions(followed, registration.patient)),
            replaced=self._replaced(),
            names=self._names,
        )

    def _follow(self, followed: str, version: NewVersion) -> tuple[DocumentEntry | Folder, Held]:
        """A new version, and the one that it follows."""
        old = self._state.held[followed]
        self._changes[followed] = Change(old, DEPRECATED, schema.HIDDEN)
        number = self._state.latest[version.logical_id].version + 1
        status = self._future.status(version.obj.entry_uuid) or APPROVED
        new = self._ids.version(version.obj, version.logical_id, str(number), status)
        return new, old

    def _change_statuses(self) -> None:
        """What UpdateAvailabilityStatus does; a new version has its status already."""
        for link in self._asked.statuses:
            subject = self._future.subject(link.target)
            held = self._state.version(subject) or self._state.held[link.target]
            if held.place.entry_uuid not in self._changes:
                status = link.new_status or APPROVED
                self._changes[held.place.entry_uuid] = Change(held, status, held.level)

    def _submitted(self, link: Association) -> Association:
        """An association of the message; a new version is Original where nothing is said."""
        named = link.submission_set_status is not None or link.target not in self._documents
        if link.previous_version and not named:
            link = replace(link, submission_set_status=ORIGINAL)
        return self._ids.relinked(link)

    def _inherited(self, submission_set: str) -> Iterator[Association]:
        """The links of what is followed, led to what follows; memberships listed in the set."""
        for link in self._state.links:
            if not self._is_inherited(link):
                continue
            held = self._state.held[link.entry_uuid]
            self._changes[link.entry_uuid] = Change(held, DEPRECATED, held.level)
            new = replace(
                link,
                entry_uuid=new_uuid_urn(),
                source=self._registered(link.source),
                target=self._registered(link.target),
            )
            self._names[new.entry_uuid] = link.entry_uuid
            yield new
            if link.association_type == HAS_MEMBER:
                yield has_member(submission_set, new.entry_uuid)

    def _is_inherited(self, link: Association) -> bool:
        """Whether new versions take the link over.

        A Folder keeps its Approved members (3.57.4.1.3.3.3); a document stays in Folders that
        are Approved, whatever its own status.
        """
        source, target = self._followers.get(link.source), self._followers.get(link.target)
        version = source or target
        if version is None or not version.propagates or self._is_deprecated(link):
            return False
        if link.association_type != HAS_MEMBER:
            return True
        end, follower = (link.target, target) if source else (link.source, source)
        name = follower.obj.entry_uuid if follower else end
        return self._future.status(name) == APPROVED

    def _is_deprecated(self, link: Association) -> bool:
        """Whether the message deprecates a link."""
        change = self._changes.get(link.entry_uuid)
        return change is not None and change.status == DEPRECATED

    def _registered(self, end: str) -> str:
        """The new version of an end, itself where it has none."""
        follower = self._followers.get(end)
        return self._ids.registered[follower.obj.entry_uuid] if follower else end

    def _revisions(
        self, followed: Sequence[tuple[DocumentEntry | Folder, Held]], patient: str
    ) -> Iterator[Row]:
        """The rows of the new versions, and those of first versions, now that there are two."""
        for new, old in followed:
            latest = self._state.latest[new.logical_id or ""]
            if not latest.recorded and isinstance(old.obj, DocumentEntry | Folder):
                yield revision_row(old.obj, old.place.patient)
            yield revision_row(new, patient)

    def _replaced(self) -> dict[str, str]:
        return {
            link.target: self._ids.registered.get(link.source, link.source)
            for link in self._asked.links
            if link.association_type in REPLACEMENTS and link.target in self._state.located
        }
