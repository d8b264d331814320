"""ITI-62: what may go (Remove Metadata and Documents 3.62.4.1.3)."""

from __future__ import annotations

from collections.abc import Iterator

from metadata import identifiers as xds
from metadata.model import Association, DocumentEntry, Folder, SubmissionSet
from tests.model.registering import UNRESOLVED
from tests.model.world import World

REFERENCED = "ReferencesExistException"
UNREFERENCED = "XDSUnreferencedObjectException"

HOLDING = {xds.HAS_MEMBER, xds.SUBMIT_ASSOCIATION}


def remove(world: World, labels: set[str]) -> set[str]:
    """Take objects out, or tell every rule that this would break."""
    codes = {*_faults(world, labels)}
    if not codes:
        for label in labels:
            del world.objects[label]
            world.touched.pop(label, None)
    return codes


def _faults(world: World, labels: set[str]) -> Iterator[str]:
    if not labels <= world.objects.keys():
        yield UNRESOLVED
    staying = [obj for label, obj in world.objects.items() if label not in labels]
    for obj in staying:
        if isinstance(obj, Association) and {obj.source, obj.target} & labels:
            yield REFERENCED
        if isinstance(obj, DocumentEntry | Folder) and obj.logical_id in labels:
            yield REFERENCED
    for obj in staying:
        holders = _holders(world, obj.entry_uuid)
        if holders and holders <= labels and _must_be_held(obj):
            yield UNREFERENCED


def _holders(world: World, label: str) -> set[str]:
    """The associations by which SubmissionSets hold an object."""
    return {
        link.entry_uuid
        for link in world.links()
        if link.target == label
        and link.association_type in HOLDING
        and isinstance(world.objects[link.source], SubmissionSet)
    }


def _must_be_held(obj: object) -> bool:
    """Relationships of documents live without a SubmissionSet."""
    return not isinstance(obj, Association) or obj.association_type == xds.HAS_MEMBER


def closure(world: World, label: str) -> set[str]:
    """An object with all that must go with it."""
    going, found = {label}, {label}
    while found:
        found = set()
        for name, obj in world.objects.items():
            if name in going:
                continue
            holders = _holders(world, name)
            refers = isinstance(obj, Association) and {obj.source, obj.target} & going
            follows = isinstance(obj, DocumentEntry | Folder) and obj.logical_id in going
            if refers or follows or (holders and holders <= going and _must_be_held(obj)):
                found.add(name)
        going |= found
    return going
