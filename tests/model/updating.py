"""ITI-57: which operations a message asks for, whether they may be, what comes of them.

Written from Metadata Update 3.57.4.1.3.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from metadata import identifiers as xds
from metadata.model import (
    AnyObject,
    Association,
    DocumentEntry,
    Folder,
    Submission,
    SubmissionSet,
)
from tests.model.registering import (
    METADATA as ATTRIBUTES,
)
from tests.model.registering import (
    TRANSFORMATIONS,
    UNRESOLVED,
    attributes,
    file,
    is_approved,
    keep_links,
    package,
    replace_documents,
    submitter,
    unused,
)
from tests.model.world import Versioned, World

UPDATE = "XDSMetadataUpdateError"
OPERATION = "XDSMetadataUpdateOperationError"
RECONCILIATION = "XDSPatientIDReconciliationError"
VERSION = "XDSMetadataVersionError"


@dataclass
class Asked:
    """The operations of a message: new versions with the HasMember that asks for each, changes
    of status, submitted associations."""

    versions: list[tuple[Versioned, Association]] = field(default_factory=list)
    statuses: list[Association] = field(default_factory=list)
    links: list[Association] = field(default_factory=list)


def update(world: World, message: Submission, step: int) -> set[str]:
    """Do all that a message asks for, or tell every rule that it breaks."""
    asked, codes = _decode(message)
    codes |= {
        *package(message),
        *(code for obj in message.objects() for code in attributes(obj)),
        *(ATTRIBUTES for obj in message.objects() if obj.entry_uuid in world.objects),
        *(code for one in message.submission_sets for code in submitter(world, one)),
        *(code for one in message.submission_sets for code in unused(world, one)),
    }
    if message.submission_sets:
        codes |= {*_Judge(world, message, asked).codes()}
    if codes:
        return codes
    future = world.copy()
    change = _Change(future, message, asked, step)
    change.do()
    if _links_different_patients(future):
        return {RECONCILIATION}
    change.replace()
    if any(_is_conflict(world, obj, link) for obj, link in asked.versions):
        return {VERSION}
    vars(world).update(vars(future))
    return set()


def _is_conflict(world: World, obj: Versioned, link: Association) -> bool:
    """Somebody else was faster; only told to who did all else right (3.57.4.1.3.3.1.3)."""
    latest = world.latest(obj.logical_id or "")
    return latest is None or link.previous_version != latest.version


def _links_different_patients(world: World) -> bool:
    """Approved objects that an Approved association joins are of one patient (3.57.4.1.3.4).

    What SubmissionSets hold may be by reference.
    """
    return any(
        world.patient_of(link.source) != world.patient_of(link.target)
        for link in world.links(is_approved)
        if world.is_approved(link.source)
        and world.is_approved(link.target)
        and isinstance(world.objects[link.source], DocumentEntry | Folder)
        and isinstance(world.objects[link.target], DocumentEntry | Folder)
    )


# --- What a message asks for -------------------------------------------------------------------


def _decode(message: Submission) -> tuple[Asked, set[str]]:
    """Each object but the SubmissionSet and what it holds triggers exactly one operation."""
    asked, codes = Asked(), set[str]()
    sets = {one.entry_uuid for one in message.submission_sets}
    if sets:
        versions: list[Versioned] = [*message.documents, *message.folders]
        for obj in versions:
            codes |= _decode_version(obj, message, sets, asked)
        for link in message.associations:
            codes |= _decode_link(link, message, sets, asked)
    return asked, codes


def _decode_link(link: Association, message: Submission, sets: set[str], asked: Asked) -> set[str]:
    own = link.source in sets
    target = next((obj for obj in message.objects() if obj.entry_uuid == link.target), None)
    if link.source == link.target:
        return {ATTRIBUTES}  # whatever else it may be
    if link.association_type == xds.HAS_MEMBER and own:
        return set() if isinstance(target, DocumentEntry | Folder) else {OPERATION}
    if link.association_type == xds.UPDATE_AVAILABILITY_STATUS:
        asked.statuses += [link] if own else []
        return set() if own and link.original_status and link.new_status else {OPERATION}
    if link.association_type == xds.SUBMIT_ASSOCIATION:
        return set() if own and _is_submittable(target, sets) else {OPERATION}
    if not _is_submittable(link, sets):
        return {ATTRIBUTES}
    if _submissions(link, message, sets) != 1:
        return {OPERATION}
    asked.links.append(link)
    return set()


def _decode_version(obj: Versioned, message: Submission, sets: set[str], asked: Asked) -> set[str]:
    holders = [
        link
        for link in message.associations
        if link.association_type == xds.HAS_MEMBER
        and link.source in sets
        and link.target == obj.entry_uuid
    ]
    if obj.logical_id in (None, obj.entry_uuid):
        return {UPDATE}
    if len(holders) != 1:
        return {OPERATION}
    asked.versions.append((obj, holders[0]))
    return set() if holders[0].previous_version else {OPERATION}


def _is_submittable(obj: AnyObject | None, sets: set[str]) -> bool:
    if not isinstance(obj, Association):
        return False
    filed = obj.association_type == xds.HAS_MEMBER and obj.source not in sets
    return filed or obj.association_type in xds.DOCUMENT_RELATIONSHIPS


def _submissions(link: Association, message: Submission, sets: set[str]) -> int:
    return sum(
        one.association_type == xds.SUBMIT_ASSOCIATION
        and one.source in sets
        and one.target == link.entry_uuid
        for one in message.associations
    )


def propagates(link: Association) -> bool:
    """Whether a new version inherits the links of the one it follows."""
    return link.association_propagation != xds.DO_NOT_PROPAGATE


# --- Whether it may be -------------------------------------------------------------------------


class _Judge:
    """The rules of operations against the state of the registry."""

    def __init__(self, world: World, message: Submission, asked: Asked) -> None:
        self.world = world
        self.asked = asked
        self.submission_set = message.submission_sets[0]
        self.new: dict[str, AnyObject] = {obj.entry_uuid: obj for obj in message.objects()}
        self.replaced = Counter(
            link.target for link in asked.links if link.association_type in xds.REPLACEMENTS
        )
        self.settled = world.copy()
        _Change(self.settled, message, asked, 0).settle()
        self.followed = {
            latest.entry_uuid: link
            for obj, link in asked.versions
            if (latest := world.latest(obj.logical_id or "")) is not None
        }

    def codes(self) -> Iterator[str]:
        for obj, _ in self.asked.versions:
            yield from self._version(obj)
        for link in self.asked.statuses:
            yield from self._status(link)
        yield from self._once()
        yield from self._propagation()
        for link in self.asked.links:
            yield from self._link(link)

    def _version(self, obj: Versioned) -> Iterator[str]:
        first = self.world.objects.get(obj.logical_id or "")
        old = self.world.latest(obj.logical_id or "")
        is_first = first is not None and old is not None and old.logical_id == first.entry_uuid
        if old is None or not is_first or type(old) is not type(obj):
            yield UPDATE
            return
        if obj.unique_id and obj.unique_id != old.unique_id:
            yield UPDATE
        if isinstance(obj, DocumentEntry) and isinstance(old, DocumentEntry):
            if obj.object_type and obj.object_type != old.object_type:
                yield UPDATE
        elif old.availability_status != xds.APPROVED:
            yield UPDATE
        if obj.patient_id and obj.patient_id != self.submission_set.patient_id:
            yield RECONCILIATION

    def _once(self) -> Iterator[str]:
        """At most one new version and one status for each document, folder or association."""
        subjects = [
            [obj.logical_id for obj, _ in self.asked.versions],
            [self._subject(link.target) for link in self.asked.statuses],
        ]
        if any(len(set(some)) < len(some) for some in subjects):
            yield UPDATE

    def _subject(self, label: str) -> str | None:
        obj = self.new.get(label) or self.world.objects.get(label)
        return obj.logical_id if isinstance(obj, DocumentEntry | Folder) else label

    def _status(self, link: Association) -> Iterator[str]:
        new = self.new.get(link.target)
        is_version = isinstance(new, DocumentEntry | Folder)
        target = self.world.objects.get(link.target)
        if isinstance(new, DocumentEntry | Folder):
            target = self.world.latest(new.logical_id or "")
        if target is None:
            if not is_version:
                yield UNRESOLVED
        elif not self._may_change(target) or link.original_status not in (
            None,
            target.availability_status,
        ):
            yield UPDATE

    def _may_change(self, target: AnyObject) -> bool:
        """Latest versions, memberships of Folders and relationships have a changing status."""
        if not isinstance(target, Association):
            return not isinstance(target, SubmissionSet) and self.world.is_latest(target)
        filed = target.association_type == xds.HAS_MEMBER and isinstance(
            self.world.objects[target.source], Folder
        )
        return filed or target.association_type in xds.DOCUMENT_RELATIONSHIPS

    def _propagation(self) -> Iterator[str]:
        """Linked objects inherit together or not at all."""
        for link in _inheritable(self.world):
            ends = [self.followed.get(end) for end in (link.source, link.target)]
            if len({propagates(end) for end in ends if end is not None}) > 1:
                yield UPDATE

    # --- Submitted associations ----------------------------------------------------------------

    def _link(self, link: Association) -> Iterator[str]:
        source, target = self._end(link.source), self._end(link.target)
        holder = Folder if link.association_type == xds.HAS_MEMBER else DocumentEntry
        if source is None or target is None:
            yield UNRESOLVED
        elif not isinstance(source, holder) or not isinstance(target, DocumentEntry):
            yield ATTRIBUTES
        else:
            own = link.association_type in xds.REPLACEMENTS
            if self._ends_deprecated(link.source, 0) or self._ends_deprecated(link.target, own):
                yield UPDATE
            yield from self._by_type(link, source, target)

    def _end(self, label: str) -> AnyObject | None:
        return self.new.get(label) or self.world.objects.get(label)

    def _ends_deprecated(self, label: str, replacements: int) -> bool:
        """Whether an end is Deprecated when all is done, by more than its own replacement."""
        deprecated = label in self.settled.objects and not self.settled.is_approved(label)
        return deprecated or self.replaced[label] > replacements

    def _by_type(
        self, link: Association, source: AnyObject, target: DocumentEntry
    ) -> Iterator[str]:
        types = [getattr(end, "object_type", None) for end in (source, target)]
        if link.association_type == xds.IS_SNAPSHOT_OF and types != [xds.STABLE, xds.ON_DEMAND]:
            yield ATTRIBUTES
        made_of = self.world.links(
            lambda one: (
                one.source == link.target
                and one.association_type in TRANSFORMATIONS
                and is_approved(one)
            )
        )
        if link.association_type == xds.APND and made_of:
            yield ATTRIBUTES


def _inheritable(world: World) -> list[Association]:
    """The Approved memberships of Folders and relationships of documents."""
    return world.links(
        lambda link: (
            is_approved(link) and isinstance(world.objects[link.source], DocumentEntry | Folder)
        )
    )


# --- What comes of it --------------------------------------------------------------------------


class _Change:
    """Does the operations, which are free of faults, one kind after the other."""

    def __init__(self, world: World, message: Submission, asked: Asked, step: int) -> None:
        self.world = world
        self.message = message
        self.asked = asked
        self.step = step
        self.submission_set = message.submission_sets[0]
        # The label of each version that is followed, with that of the one that follows.
        self.followers: dict[str, tuple[str, bool]] = {}

    def do(self) -> None:
        links = _inheritable(self.world)
        self._submission_set()
        self.settle()
        for link in links:
            self._inherit(link)
        keep_links(self.world, self.asked.links, self.step)

    def replace(self) -> None:
        """The effects of submitted replacements."""
        own = self.submission_set.entry_uuid
        replace_documents(self.world, self.asked.links, own, self.step)

    def settle(self) -> None:
        """New versions, then statuses."""
        for obj, link in self.asked.versions:
            self._follow(obj, propagates(link))
        for change in self.asked.statuses:
            self._set_status(change)

    def _submission_set(self) -> None:
        one = self.submission_set
        self.world.objects[one.entry_uuid] = replace(
            one, logical_id=one.entry_uuid, version="1", availability_status=xds.APPROVED
        )
        for link in self.message.associations:
            if link.source == one.entry_uuid:
                self.world.objects[link.entry_uuid] = self._own(link)

    def _own(self, link: Association) -> Association:
        """What the SubmissionSet holds by: a new version of a document is Original."""
        documents = {one.entry_uuid for one in self.message.documents}
        status = link.submission_set_status
        if link.association_type == xds.HAS_MEMBER and link.target in documents:
            status = status or xds.ORIGINAL
        return replace(link, availability_status=xds.APPROVED, submission_set_status=status)

    def _follow(self, obj: Versioned, propagate: bool) -> None:
        """The new version has the status of the old one, which is Deprecated (3.57.4.1.3.3.1)."""
        old = self.world.latest(obj.logical_id or "")
        if old is None:
            return  # a fault
        self.world.set_status(old.entry_uuid, xds.DEPRECATED)
        self.world.objects[obj.entry_uuid] = replace(
            obj,
            version=str(int(old.version or "") + 1),
            availability_status=old.availability_status,
        )
        self.followers[old.entry_uuid] = obj.entry_uuid, propagate
        if isinstance(obj, Folder):
            self.world.touched[obj.entry_uuid] = self.step

    def _set_status(self, change: Association) -> None:
        target = self.world.latest(change.target) or self.world.objects.get(change.target)
        if target is not None and change.new_status:
            self.world.set_status(target.entry_uuid, change.new_status)

    def _inherit(self, link: Association) -> None:
        """Lead a link of what was followed to what follows (AssociationPropagation)."""
        follower = self.followers.get(link.source) or self.followers.get(link.target)
        if follower is None or not follower[1] or not self.world.is_approved(link.entry_uuid):
            return
        source, target = self._now(link.source), self._now(link.target)
        if link.association_type != xds.HAS_MEMBER:
            new = replace(link, entry_uuid=self.world.own_label(), source=source, target=target)
            keep_links(self.world, [new], self.step)
        elif not self._stays(link, source, target):
            return
        else:
            own = self.submission_set.entry_uuid
            file(self.world, source, target, own, self.step)
        self.world.set_status(link.entry_uuid, xds.DEPRECATED)

    def _stays(self, link: Association, folder: str, document: str) -> bool:
        """A new Folder keeps Approved documents, a document stays in Approved Folders."""
        return self.world.is_approved(document if link.source in self.followers else folder)

    def _now(self, label: str) -> str:
        return self.followers[label][0] if label in self.followers else label
