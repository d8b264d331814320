"""What stands around objects that are to be removed, and whether they may go.

Covers the rules of Remove Metadata and Documents 3.62.4.1.3: every object named is registered;
nothing that stays refers to one that goes, be it an association by its ends or a further version
by its logicalID; every DocumentEntry, every Folder and every membership of a Folder that stays is
still held by a SubmissionSet.

All that goes is locked, with the ends of associations that go and the other versions of what has
several, in the order of ``registry.surroundings``; then the registry is looked at again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from sqlalchemy import Connection, select

from metadata import catalogue as rules
from metadata.catalogue import Fault
from metadata.identifiers import HAS_MEMBER, SUBMIT_ASSOCIATION
from metadata.model import AnyObject, Association, DescribedObject
from registry import schema
from registry.held import Held, hold
from registry.lookup import REVISIONS, Located, locate, patients_around
from registry.schema import association, identity
from storage.operators import among
from storage.statement import Statement

_LINKS = select(
    association.c.entry_uuid, association.c.type, association.c.source, association.c.target
).where(among(association.c.patient, "patients"))
_LINKS_BY_SOURCE = Statement(_LINKS.where(among(association.c.source, "ids")))
_LINKS_BY_TARGET = Statement(_LINKS.where(among(association.c.target, "ids")))
_LOCK_IDENTITIES = Statement(
    select(identity.c.unique_id)
    .where(among(identity.c.unique_id, "ids"))
    .order_by(identity.c.unique_id)
    .with_for_update()
)

# The associations by which a SubmissionSet holds what was submitted with it.
_HOLDING = (HAS_MEMBER, SUBMIT_ASSOCIATION)


class Link(NamedTuple):
    """A registered association."""

    entry_uuid: str
    type: str
    source: str
    target: str


class Version(NamedTuple):
    """One of several versions."""

    logical_id: str
    version: int
    entry_uuid: str


@dataclass(frozen=True, slots=True)
class Removal:
    """What is to go and what stands around it.

    ``held`` are the objects named, the ends of associations among them and all ``versions`` of
    what has several; ``links`` are the associations at any of these, ``sets`` the SubmissionSets
    at which those begin.
    """

    names: Sequence[str]
    located: Mapping[str, Located]
    held: Mapping[str, Held]
    versions: Sequence[Version]
    links: Sequence[Link]
    sets: frozenset[str]

    def going(self) -> list[Held]:
        """The objects that go."""
        return [self.held[name] for name in self.names]


def look_around(connection: Connection, names: Sequence[str], lock: bool) -> Removal:
    """The state around the objects called ``names``; with ``lock`` it holds still."""
    located, versions = _see(connection, names, lock)
    held = hold(connection, located.values(), lock)
    while lock and (again := _see(connection, names, lock)) != (located, versions):
        located, versions = again
        held = hold(connection, located.values(), lock)
    links = _links(connection, located)
    sources = {**located, **locate(connection, {link.source for link in links} - located.keys())}
    sets = frozenset(name for name, place in sources.items() if place.kind == schema.SUBMISSION_SET)
    return Removal(names, located, held, versions, links, sets)


def _see(
    connection: Connection, names: Sequence[str], lock: bool
) -> tuple[dict[str, Located], list[Version]]:
    """Where everything is; the uniqueIds of what goes are locked before any of it."""
    located = locate(connection, names)
    objects = [held.obj for held in hold(connection, located.values(), False).values()]
    described = [obj for obj in objects if isinstance(obj, DescribedObject)]
    if lock:
        _LOCK_IDENTITIES.rows(connection, {"ids": [obj.unique_id for obj in described]})
    logical_ids = sorted({obj.logical_id or obj.entry_uuid for obj in described})
    versions = [Version(*row) for row in REVISIONS.rows(connection, {"ids": logical_ids})]
    around = {one.entry_uuid for one in versions}
    for link in objects:
        if isinstance(link, Association):
            around |= {link.source, link.target}
    return located | locate(connection, around - located.keys()), versions


def _links(connection: Connection, located: Mapping[str, Located]) -> list[Link]:
    if not located:
        return []
    patients = patients_around(connection, located.values())
    parameters = {"patients": patients, "ids": list(located)}
    rows = [
        row
        for statement in (_LINKS_BY_SOURCE, _LINKS_BY_TARGET)
        for row in statement.rows(connection, parameters)
    ]
    return sorted({Link(*row) for row in rows})


def judge(removal: Removal) -> list[Fault]:
    """Every reason why the objects may not go."""
    unknown = [name for name in removal.names if name not in removal.located]
    return [
        *(Fault(rules.REMOVED_UNKNOWN, name) for name in unknown),
        *_reference_faults(removal),
        *_orphan_faults(removal),
    ]


def _reference_faults(removal: Removal) -> Iterator[Fault]:
    names = set(removal.names)
    referring: dict[str, list[str]] = {}
    for link in removal.links:
        if link.entry_uuid not in names:
            for end in (link.source, link.target):
                referring.setdefault(end, []).append(link.entry_uuid)
    for version in removal.versions:
        if version.entry_uuid not in names:
            referring.setdefault(version.logical_id, []).append(version.entry_uuid)
    for name in removal.names:
        if name in referring:
            yield Fault(rules.REFERENCE_EXISTS, name, value=", ".join(referring[name]))


def _orphan_faults(removal: Removal) -> Iterator[Fault]:
    names = set(removal.names)
    holding = [
        link for link in removal.links if link.type in _HOLDING and link.source in removal.sets
    ]
    lost = {link.target for link in holding if link.entry_uuid in names} - names
    kept = {link.target for link in holding if link.entry_uuid not in names}
    for target in sorted(lost - kept):
        if target in removal.held and _must_be_held(removal.held[target].obj):
            yield Fault(rules.LEFT_UNREFERENCED, target)


def _must_be_held(obj: AnyObject) -> bool:
    """Relationships of documents live without a SubmissionSet of their own."""
    return not isinstance(obj, Association) or obj.association_type == HAS_MEMBER
