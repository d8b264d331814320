"""The rules of an update that the registry's own state must judge.

Covers Metadata Update 3.57.4.1.3.3 and 3.57.4.1.3.4, and what Restricted Metadata Update 3.92.4.1.3
forbids beyond them. Pure: what the registry holds comes in as ``State``, every fault goes out,
named by the ids that the sender used. Two judgements wait for others: whether the outcome links
different patients (``registry.update.plan``) needs an outcome, and a conflict of versions
(``version_conflicts``) is told only to who did all else right.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from metadata import catalogue as rules
from metadata.catalogue import Fault
from metadata.identifiers import (
    APND,
    APPROVED,
    DEPRECATED,
    DOCUMENT_RELATIONSHIPS,
    HAS_MEMBER,
    IS_SNAPSHOT_OF,
    ON_DEMAND,
    ONLINE,
    REPLACEMENTS,
    STABLE,
)
from metadata.model import AnyObject, Association, DocumentEntry, Folder, RegistryObject
from registry import schema
from registry.held import Held
from registry.lookup import Located
from registry.rows import STATUSES, kind_of
from registry.rules import KIND_NAMES, entry_uuid_faults, patient_faults, unique_id_faults
from registry.update.operations import NewVersion, Operations
from registry.update.state import State

_URIS = {word: uri for uri, word in STATUSES.items()}


def status_uri(held: Held) -> str:
    """The status of a registered object as the standard spells it."""
    return _URIS[held.status]


class Future:
    """What statuses will be when every operation has been done.

    Objects are named as the message names them: a new version by its id there, all others by
    their entryUUID.
    """

    def __init__(self, asked: Operations, state: State) -> None:
        self._state = state
        self._logical_ids = {**state.logical_ids, **asked.logical_ids()}
        self._new = asked.logical_ids()
        updated = {version.logical_id for version in asked.versions}
        self._superseded = {
            latest.entry_uuid for name, latest in state.latest.items() if name in updated
        }
        self._changed = {
            self.subject(link.target): link.new_status or APPROVED for link in asked.statuses
        }

    def subject(self, name: str) -> str:
        """What a change of status is about: the logicalID of an object with versions."""
        return self._logical_ids.get(name, name)

    def status(self, name: str) -> str | None:
        """The status that an object will have; None for one that is not known."""
        if name in self._superseded:
            return DEPRECATED
        subject = self.subject(name)
        held = self._state.version(subject) if name in self._new else self._state.held.get(name)
        if held is None:
            return None
        return self._changed.get(subject, status_uri(held))


def judge(asked: Operations, state: State, restricted: bool) -> list[Fault]:
    """Every breach of a rule by the operations, but for patients linked and versions."""
    submission = asked.submission
    faults = [
        *patient_faults(submission, state.survivors),
        *entry_uuid_faults(submission, state.located),
        *unique_id_faults(submission.submission_sets, state.identities),
        *_propagation_faults(asked, state),
    ]
    for version in asked.versions:
        faults += _version_faults(version, asked, state, restricted)
    faults += _status_faults(asked, state)
    return [*faults, *_Links(asked, state).faults()]


def version_conflicts(asked: Operations, state: State) -> Iterator[Fault]:
    """Each new version follows the latest one: nobody else was faster (3.57.4.1.3.3.1.3)."""
    for version in asked.versions:
        latest = state.latest[version.logical_id].version
        previous = version.link.previous_version
        if previous != str(latest):
            yield Fault(
                rules.PREVIOUS_VERSION, version.obj.entry_uuid, value=previous, expected=latest
            )


# --- New versions ----------------------------------------------------------------------------


def _version_faults(
    version: NewVersion, asked: Operations, state: State, restricted: bool
) -> Iterator[Fault]:
    obj, old = version.obj, state.version(version.logical_id)
    kind = KIND_NAMES[kind_of(obj)]
    if old is None or not isinstance(old.obj, type(obj)):
        yield Fault(rules.LOGICAL_ID_UNKNOWN, obj.entry_uuid, kind=kind, value=version.logical_id)
        return
    yield from _identity_faults(obj, old.obj)
    if isinstance(obj, Folder) and old.status != schema.APPROVED:
        yield Fault(rules.DEPRECATED_FOLDER_UPDATED, obj.entry_uuid, value=old.obj.entry_uuid)
    expected = asked.submission.submission_sets[0].patient_id
    if obj.patient_id and expected and obj.patient_id.normalised() != expected.normalised():
        yield Fault(
            rules.PATIENT_DIFFERS,
            obj.entry_uuid,
            kind=kind,
            value=obj.patient_id,
            expected=expected,
        )
    if restricted and isinstance(obj, DocumentEntry) and isinstance(old.obj, DocumentEntry):
        yield from _restricted_faults(obj, old, old.obj)


def _identity_faults(obj: DocumentEntry | Folder, old: RegistryObject) -> Iterator[Fault]:
    """What makes versions versions of one thing stays as it is (3.57.4.1.3.3.1)."""
    for rule, attribute in (
        (rules.UNIQUE_ID_CHANGED, "unique_id"),
        (rules.OBJECT_TYPE_CHANGED, "object_type"),
    ):
        value, expected = getattr(obj, attribute, None), getattr(old, attribute, None)
        if value and value != expected:
            yield Fault(rule, obj.entry_uuid, value=value, expected=expected)


def _restricted_faults(obj: DocumentEntry, held: Held, old: DocumentEntry) -> Iterator[Fault]:
    """What a restricted update must leave alone (Restricted Metadata Update 3.92.4.1.3)."""
    status = status_uri(held)
    for attribute, value, expected in (
        ("availabilityStatus", obj.availability_status or status, status),
        (
            "documentAvailability",
            obj.document_availability or ONLINE,
            old.document_availability or ONLINE,
        ),
        ("repositoryUniqueId", obj.repository_unique_id, old.repository_unique_id),
        ("sourcePatientInfo", obj.source_patient_info, old.source_patient_info),
    ):
        if value != expected:
            yield Fault(
                rules.ATTRIBUTE_FROZEN,
                obj.entry_uuid,
                attribute=attribute,
                value=value,
                expected=expected,
            )
    if obj.patient_id and obj.patient_id.normalised() != held.place.survivor:
        expected = held.place.survivor
        yield Fault(rules.PATIENT_CHANGED, obj.entry_uuid, value=obj.patient_id, expected=expected)


def _propagation_faults(asked: Operations, state: State) -> Iterator[Fault]:
    """Objects linked to each other inherit their link together or not at all."""
    followers = {
        latest.entry_uuid: version
        for version in asked.versions
        if (latest := state.latest.get(version.logical_id))
    }
    for link in state.links:
        source, target = followers.get(link.source), followers.get(link.target)
        if source and target and source.propagates != target.propagates:
            yield Fault(
                rules.PROPAGATION_DIFFERS, source.obj.entry_uuid, value=target.obj.entry_uuid
            )


# --- Changes of status -----------------------------------------------------------------------


def _status_faults(asked: Operations, state: State) -> Iterator[Fault]:
    subjects: set[str] = set()
    new_versions = asked.logical_ids()
    for link in asked.statuses:
        logical_id = new_versions.get(link.target) or state.logical_ids.get(link.target)
        held = state.version(logical_id) if logical_id else state.held.get(link.target)
        yield from _target_faults(link, held, state, link.target in new_versions)
        subject = logical_id or link.target
        if subject in subjects:
            yield Fault(rules.UPDATED_TWICE, link.entry_uuid, value=link.target)
        subjects.add(subject)


def _target_faults(
    link: Association, held: Held | None, state: State, is_new: bool
) -> Iterator[Fault]:
    """A status change names the latest version, or an association, and its present status."""
    if held is None:
        if not is_new:  # else its logicalID is not known, which is told already
            yield Fault(
                rules.UNRESOLVED_REFERENCE,
                link.entry_uuid,
                attribute="targetObject",
                value=link.target,
            )
    elif held.place.kind == schema.SUBMISSION_SET:
        yield _wrong_target(link, "a SubmissionSet, which never changes")
    elif not is_new and held.place.entry_uuid != link.target:
        yield _wrong_target(link, f"which is not the latest version: {held.place.entry_uuid} is")
    elif not _has_changing_status(held, state.located):
        yield _wrong_target(link, "an association that lives as long as its SubmissionSet")
    elif link.original_status not in (None, status_uri(held)):
        yield Fault(
            rules.ORIGINAL_STATUS,
            link.entry_uuid,
            target=link.target,
            value=link.original_status,
            expected=status_uri(held),
        )


def _wrong_target(link: Association, problem: str) -> Fault:
    return Fault(rules.STATUS_TARGET, link.entry_uuid, value=link.target, problem=problem)


def _has_changing_status(held: Held, located: Mapping[str, Located]) -> bool:
    """Whether it is an object, a membership of a Folder or a relationship of documents."""
    link = held.obj
    if not isinstance(link, Association) or link.association_type in DOCUMENT_RELATIONSHIPS:
        return True
    source = located.get(link.source)
    return source is not None and source.kind == schema.FOLDER


# --- Submitted associations ------------------------------------------------------------------


class _Links:
    """The rules of submitted associations (3.57.4.1.3.3.6), which are those of a registration."""

    def __init__(self, asked: Operations, state: State) -> None:
        self._links = asked.links
        self._state = state
        self._future = Future(asked, state)
        self._new: dict[str, AnyObject] = {
            obj.entry_uuid: obj for obj in asked.submission.objects()
        }

    def faults(self) -> Iterator[Fault]:
        """Every fault, association by association."""
        replaced = [one.target for one in self._links if one.association_type in REPLACEMENTS]
        for link in self._links:
            source, target = self._end(link.source), self._end(link.target)
            if source is None or target is None:
                yield from self._unresolved(link)
            elif not _may_join(link, source, target):
                yield self._wrong_ends(link, source, target)
            else:
                yield from self._deprecated(link, replaced)
                yield from self._by_type(link, source, target)

    def _end(self, name: str) -> AnyObject | None:
        held = self._state.held.get(name)
        return self._new.get(name) or (held.obj if held else None)

    def _unresolved(self, link: Association) -> Iterator[Fault]:
        for attribute, end in (("sourceObject", link.source), ("targetObject", link.target)):
            if self._end(end) is None:
                yield Fault(
                    rules.UNRESOLVED_REFERENCE, link.entry_uuid, attribute=attribute, value=end
                )

    def _wrong_ends(self, link: Association, source: AnyObject, target: AnyObject) -> Fault:
        return Fault(
            rules.ASSOCIATION_ENDS,
            link.entry_uuid,
            type=link.type_name,
            source=type(source).__name__,
            target=type(target).__name__,
        )

    def _deprecated(self, link: Association, replaced: list[str]) -> Iterator[Fault]:
        """Both ends are Approved in the end, but for the one document that the link replaces."""
        for end in (link.source, link.target):
            own = end == link.target and link.association_type in REPLACEMENTS
            if self._future.status(end) == DEPRECATED or replaced.count(end) > own:
                yield Fault(rules.LINK_END_DEPRECATED, link.entry_uuid, value=end)

    def _by_type(self, link: Association, source: AnyObject, target: AnyObject) -> Iterator[Fault]:
        types = [getattr(end, "object_type", None) for end in (source, target)]
        if link.association_type == IS_SNAPSHOT_OF and types != [STABLE, ON_DEMAND]:
            yield Fault(rules.SNAPSHOT_TARGET, link.entry_uuid, value=link.target)
        if link.association_type == APND and link.target in self._state.transformations:
            yield Fault(rules.APPEND_TO_TRANSFORMATION, link.entry_uuid, value=link.target)


def _may_join(link: Association, source: AnyObject, target: AnyObject) -> bool:
    """Folders hold documents, documents are related to documents."""
    holder = Folder if link.association_type == HAS_MEMBER else DocumentEntry
    return isinstance(source, holder) and isinstance(target, DocumentEntry)
