"""ITI-42 and ITI-61: what may be registered, and what follows (ITI TF-2 3.42.4.1.3, 3.61.4.1.3)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

from metadata import identifiers as xds
from metadata.model import (
    AnyObject,
    Association,
    DocumentEntry,
    Folder,
    Submission,
    SubmissionSet,
)
from tests.model.world import World, content

METADATA = "XDSRegistryMetadataError"
UNRESOLVED = "UnresolvedReferenceException"
PATIENT_DIFFERS = "XDSPatientIdDoesNotMatch"
UNKNOWN_PATIENT = "XDSUnknownPatientId"
DEPRECATED = "XDSRegistryDeprecatedDocumentError"
REPEATED = "XDSRegistryDuplicateUniqueIdInMessage"
DUPLICATE = "XDSDuplicateUniqueIdInRegistry"
HASH_DIFFERS = "XDSNonIdenticalHash"
SIZE_DIFFERS = "XDSNonIdenticalSize"

# ITI TF-3 Table 4.3.1-3, column of the registry: what must be there.
REQUIRED: dict[type, tuple[str, ...]] = {
    DocumentEntry: (
        "class_code",
        "confidentiality_code",
        "format_code",
        "healthcare_facility_type_code",
        "language_code",
        "mime_type",
        "object_type",
        "patient_id",
        "practice_setting_code",
        "repository_unique_id",
        "source_patient_id",
        "type_code",
        "unique_id",
    ),
    SubmissionSet: (
        "content_type_code",
        "patient_id",
        "source_id",
        "submission_time",
        "unique_id",
    ),
    Folder: ("code_list", "patient_id", "title", "unique_id"),
    Association: ("association_type", "source", "target"),
}
CONTENT = ("creation_time", "hash", "size")

# Whose source is a transformation of its target, and what dies with its target.
TRANSFORMATIONS = {xds.XFRM, xds.XFRM_RPLC}
DEPENDENT = {xds.XFRM, xds.APND}


def faults(world: World, message: Submission, object_type: str = xds.STABLE) -> set[str]:
    """The codes of every rule that a registration of these documents breaks."""
    return {
        *_structure(message),
        *(code for obj in message.objects() for code in attributes(obj)),
        *_object_types(world, message, object_type),
        *_ids(world, message),
        *_patients(world, message),
        *_unique_ids(world, message),
        *_Links(world, message).faults(),
    }


def attributes(obj: AnyObject) -> Iterator[str]:
    """What one object lacks, or may not have."""
    required = REQUIRED[type(obj)]
    if isinstance(obj, DocumentEntry) and obj.object_type != xds.ON_DEMAND:
        required += CONTENT
    if not all(getattr(obj, name) for name in required):
        yield METADATA
    on_demand = isinstance(obj, DocumentEntry) and obj.object_type == xds.ON_DEMAND
    if on_demand and any(getattr(obj, name) for name in CONTENT):
        yield METADATA


def package(message: Submission) -> Iterator[str]:
    """One SubmissionSet, which is not empty, and every id once."""
    sets = message.submission_sets
    if len(sets) != 1 or len(list(message.objects())) == 1:
        yield METADATA
    ids = Counter(obj.entry_uuid for obj in message.objects())
    if max(ids.values(), default=0) > 1:
        yield METADATA


def _structure(message: Submission) -> Iterator[str]:
    yield from package(message)
    held = {link.target for link in message.associations if _is_listing(link, message)}
    if any(obj.entry_uuid not in held for obj in (*message.documents, *message.folders)):
        yield METADATA


def _is_listing(link: Association, message: Submission) -> bool:
    """Whether the SubmissionSet of the message holds something by it."""
    sets = {one.entry_uuid for one in message.submission_sets}
    return link.association_type == xds.HAS_MEMBER and link.source in sets


def _object_types(world: World, message: Submission, expected: str) -> Iterator[str]:
    if any(document.object_type != expected for document in message.documents):
        yield METADATA
    if expected == xds.ON_DEMAND and not message.documents:
        yield METADATA


def _ids(world: World, message: Submission) -> Iterator[str]:
    for obj in message.objects():
        if obj.entry_uuid in world.objects:
            yield METADATA
        if not isinstance(obj, Association) and obj.logical_id not in (None, obj.entry_uuid):
            yield METADATA


def _patients(world: World, message: Submission) -> Iterator[str]:
    for submission_set in message.submission_sets:
        yield from submitter(world, submission_set)
        for obj in (*message.documents, *message.folders):
            if obj.patient_id and obj.patient_id != submission_set.patient_id:
                yield PATIENT_DIFFERS


def submitter(world: World, submission_set: SubmissionSet) -> Iterator[str]:
    """The patient of a SubmissionSet is one that may be submitted for."""
    if submission_set.patient_id and not world.is_active(submission_set.patient_id):
        yield UNKNOWN_PATIENT


def _unique_ids(world: World, message: Submission) -> Iterator[str]:
    packages: list[SubmissionSet | Folder] = [*message.submission_sets, *message.folders]
    uses = Counter(obj.unique_id for obj in (*packages, *message.documents) if obj.unique_id)
    if any(count > 1 for count in uses.values()):
        yield REPEATED
    for package in packages:
        yield from unused(world, package)
    for document in message.documents:
        yield from _same_content(world, document)


def unused(world: World, obj: SubmissionSet | Folder) -> Iterator[str]:
    """The uniqueId of a SubmissionSet or Folder stands for nothing else."""
    if obj.unique_id in world.unique_ids():
        yield DUPLICATE


def _same_content(world: World, document: DocumentEntry) -> Iterator[str]:
    """A uniqueId stands for one content; what is no document has none (3.42.4.1.3.3.1)."""
    if document.unique_id is None or document.unique_id not in world.unique_ids():
        return
    namesakes = world.namesakes(document.unique_id)
    types = {one.object_type for one in namesakes} or {document.object_type}
    if types != {document.object_type} or not (namesakes or document.hash):
        yield METADATA  # Stable and On-Demand never share a uniqueId (3.61.4.1.3)
        return
    digest, size = content(namesakes[-1]) if namesakes else (None, None)
    if content(document)[0] != digest:
        yield HASH_DIFFERS
    if content(document)[1] != size:
        yield SIZE_DIFFERS


class _Links:
    """The rules of associations (ITI TF-3 4.2.2; ITI TF-2 3.42.4.1.3.4, 3.42.4.1.3.5)."""

    def __init__(self, world: World, message: Submission) -> None:
        self.world = world
        self.message = message
        self.new: dict[str, AnyObject] = {obj.entry_uuid: obj for obj in message.objects()}
        self.listed = {link.target for link in message.associations if _is_listing(link, message)}

    def faults(self) -> Iterator[str]:
        replaced: Counter[str] = Counter()
        for link in self.message.associations:
            if link.association_type in xds.REPLACEMENTS and link.target in self.world.objects:
                replaced[link.target] += 1
            yield from self._link(link)
        if any(count > 1 for count in replaced.values()):
            yield DEPRECATED  # the first replacement deprecates its target

    def _link(self, link: Association) -> Iterator[str]:
        ends = [self._end(link.source), self._end(link.target)]
        if not link.source or not link.target:
            return
        if link.source == link.target:
            yield METADATA
        if None in ends:
            yield UNRESOLVED
        elif any(isinstance(self._registered(end), SubmissionSet) for end in _ends(link)):
            yield METADATA
            yield from self._source(link)
        elif link.association_type == xds.HAS_MEMBER:
            yield from self._membership(link)
        elif link.association_type in xds.DOCUMENT_RELATIONSHIPS:
            yield from self._relationship(link)
        else:
            yield METADATA

    def _end(self, label: str) -> AnyObject | None:
        return self.new.get(label) or self.world.objects.get(label)

    def _registered(self, label: str) -> AnyObject | None:
        return None if label in self.new else self.world.objects.get(label)

    def _membership(self, link: Association) -> Iterator[str]:
        source, target = self._end(link.source), self._end(link.target)
        if isinstance(source, SubmissionSet):
            yield from self._held(link, target)
        elif isinstance(source, Folder) and isinstance(target, DocumentEntry):
            yield from self._filed(link)
        else:
            yield METADATA

    def _held(self, link: Association, target: AnyObject | None) -> Iterator[str]:
        """What the SubmissionSet holds: all that is new, and documents by reference."""
        if isinstance(target, DocumentEntry):
            expected = xds.ORIGINAL if link.target in self.new else xds.REFERENCE
            if link.submission_set_status != expected:
                yield METADATA
        elif link.target not in self.new:
            yield METADATA

    def _filed(self, link: Association) -> Iterator[str]:
        if link.entry_uuid not in self.listed:
            yield METADATA
        if self._is_deprecated(link.source):
            yield METADATA
        if self._is_deprecated(link.target):
            yield DEPRECATED
        if self._patient(link.source) != self._patient(link.target):
            yield PATIENT_DIFFERS

    def _relationship(self, link: Association) -> Iterator[str]:
        target = self._end(link.target)
        yield from self._source(link)
        if isinstance(target, SubmissionSet) and link.association_type == xds.SIGNS:
            return
        if not isinstance(target, DocumentEntry):
            yield METADATA
        elif link.target in self.new:
            yield from self._within_message(link)
        else:
            yield from self._to_registered(link, target)

    def _source(self, link: Association) -> Iterator[str]:
        """The source of a relationship is a document of the message."""
        is_new = isinstance(self.new.get(link.source), DocumentEntry)
        if link.association_type in xds.DOCUMENT_RELATIONSHIPS and not is_new:
            yield UNRESOLVED

    def _within_message(self, link: Association) -> Iterator[str]:
        if link.association_type in (*xds.REPLACEMENTS, xds.IS_SNAPSHOT_OF):
            yield UNRESOLVED
        if link.association_type == xds.APND and self._is_transformation(link.target):
            yield METADATA

    def _to_registered(self, link: Association, target: DocumentEntry) -> Iterator[str]:
        source = self._end(link.source)
        if self._is_deprecated(link.target):
            yield DEPRECATED
        if link.source in self.new and self._patient(link.source) != self._patient(link.target):
            yield PATIENT_DIFFERS
        types = (getattr(source, "object_type", None), target.object_type)
        if link.association_type == xds.IS_SNAPSHOT_OF and types != (xds.STABLE, xds.ON_DEMAND):
            yield METADATA
        if link.association_type == xds.APND and self._is_transformation(link.target):
            yield METADATA

    def _is_deprecated(self, label: str) -> bool:
        return self._registered(label) is not None and not self.world.is_approved(label)

    def _is_transformation(self, label: str) -> bool:
        known = (*self.message.associations, *self.world.links(is_approved))
        return any(
            link.source == label and link.association_type in TRANSFORMATIONS for link in known
        )

    def _patient(self, label: str) -> object:
        new = self.new.get(label)
        if isinstance(new, DocumentEntry | Folder | SubmissionSet):
            return self.world.survivor(new.patient_id)
        return self.world.patient_of(label)


def _ends(link: Association) -> tuple[str, str]:
    return link.source, link.target


def is_approved(link: Association) -> bool:
    """Whether an association is in force."""
    return link.availability_status == xds.APPROVED


def register(world: World, message: Submission, step: int) -> None:
    """Keep what is free of faults; ``step`` is the time."""
    described: list[Any] = [*message.submission_sets, *message.documents, *message.folders]
    for obj in described:
        world.objects[obj.entry_uuid] = replace(
            obj, logical_id=obj.entry_uuid, version="1", availability_status=xds.APPROVED
        )
    [submission_set] = message.submission_sets
    replace_documents(world, message.associations, submission_set.entry_uuid, step)
    world.touched |= {folder.entry_uuid: step for folder in message.folders}
    keep_links(world, message.associations, step)


def keep_links(world: World, links: Iterable[Association], step: int) -> None:
    """Keep new associations; a Folder that gains a member is touched (3.42.4.1.3.6)."""
    for link in links:
        world.objects[link.entry_uuid] = replace(link, availability_status=xds.APPROVED)
        if link.association_type == xds.HAS_MEMBER and link.source in world.touched:
            world.touched[link.source] = step


def replace_documents(
    world: World, links: Iterable[Association], submission_set: str, step: int
) -> None:
    """The effects of RPLC and XFRM_RPLC among new ``links`` (3.42.4.1.3.5)."""
    replacing = [link for link in links if link.association_type in xds.REPLACEMENTS]
    inherited = {
        (membership.source, link.source)
        for link in replacing
        for membership in world.folders_of(link.target)
        if world.is_approved(membership.source)
    }
    filed = {(link.source, link.target) for link in links}
    for folder, document in sorted(inherited - filed):
        file(world, folder, document, submission_set, step)
    for link in replacing:
        _deprecate(world, link.target)


def file(world: World, folder: str, document: str, submission_set: str, step: int) -> None:
    """A membership that the registry adds by itself, listed in the SubmissionSet."""
    membership = _has_member(world, folder, document)
    keep_links(world, [membership], step)
    keep_links(world, [_has_member(world, submission_set, membership.entry_uuid)], step)


def _has_member(world: World, source: str, target: str) -> Association:
    return Association(
        entry_uuid=world.own_label(),
        association_type=xds.HAS_MEMBER,
        source=source,
        target=target,
    )


def _deprecate(world: World, document: str) -> None:
    """A document, and what was made from it, however far down."""
    doomed, found = {document}, [document]
    while found:
        target = found.pop()
        for link in world.links(is_approved):
            dies = link.association_type in DEPENDENT and link.target == target
            if dies and link.source not in doomed:
                doomed.add(link.source)
                found.append(link.source)
    for label in doomed:
        world.set_status(label, xds.DEPRECATED)
