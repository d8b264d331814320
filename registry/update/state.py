"""What the registry holds of the objects that an update names or reaches, looked up and locked.

The rows are locked in the order of ``registry.surroundings``. Which they are depends on what is
found: the latest version of a logicalID, the associations of that version, the objects at their
other ends. So the registry is looked at again once the locks are held, until nothing has changed
meanwhile; each further round needs a rival's commit in between.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import Connection, select

from metadata.datatypes import is_uuid_urn
from metadata.identifiers import APND, DOCUMENT_RELATIONSHIPS, HAS_MEMBER
from metadata.model import AnyObject, Association, DocumentEntry, Folder
from registry import schema
from registry.held import Held, hold
from registry.lookup import REVISIONS, Located, locate, patients_around
from registry.schema import association
from registry.surroundings import (
    Identity,
    known_identities,
    known_patients,
    transformations,
)
from registry.update.operations import Operations
from storage.operators import among
from storage.statement import Statement

_LINKS = select(association.c.entry_uuid, association.c.patient).where(
    among(association.c.patient, "patients"),
    among(association.c.type, "types"),
    association.c.status == schema.APPROVED,
)
_LINKS_BY_SOURCE = Statement(_LINKS.where(among(association.c.source, "ids")))
_LINKS_BY_TARGET = Statement(_LINKS.where(among(association.c.target, "ids")))

# The types of association that versions inherit and whose status may change.
_LINK_TYPES = [HAS_MEMBER, *sorted(DOCUMENT_RELATIONSHIPS)]


class Latest(NamedTuple):
    """The latest version of a logicalID; ``recorded`` if its versions have rows of their own."""

    entry_uuid: str
    version: int
    recorded: bool


@dataclass(frozen=True, slots=True)
class State:
    """The registry around one update.

    ``located`` are all objects that it names or reaches, ``held`` are these as they stand.
    ``latest`` is by logicalID; ``logical_ids`` are those of the targets of status
    changes. ``links`` are the Approved memberships of Folders and relationships of documents
    at the latest versions of what is changed; ``transformations`` are the targets of a submitted
    APND that are transformations of another document.
    """

    survivors: Mapping[str, str]
    identities: Mapping[str, Identity]
    located: Mapping[str, Located]
    held: Mapping[str, Held]
    latest: Mapping[str, Latest]
    logical_ids: Mapping[str, str]
    links: list[Association]
    transformations: frozenset[str]

    def version(self, logical_id: str) -> Held | None:
        """The latest version of ``logical_id``, if it is registered."""
        latest = self.latest.get(logical_id)
        return None if latest is None else self.held.get(latest.entry_uuid)


@dataclass(frozen=True, slots=True)
class _Seen:
    """What one look finds, without the states of the objects."""

    located: dict[str, Located]
    latest: dict[str, Latest]
    logical_ids: dict[str, str]
    links: list[str]


def look_around(connection: Connection, asked: Operations, lock: bool) -> State:
    """The state around an update; with ``lock`` it holds still until the commit."""
    survivors = known_patients(connection, asked.submission, lock)
    identities = known_identities(connection, asked.submission, lock)
    seen = _see(connection, asked)
    held = hold(connection, seen.located.values(), lock)
    while lock and (again := _see(connection, asked)) != seen:
        seen = again
        held = hold(connection, seen.located.values(), lock)
    links = [held[one].obj for one in seen.links if one in held]
    appended = [
        seen.located[link.target]
        for link in asked.links
        if link.association_type == APND and link.target in seen.located
    ]
    return State(
        survivors=survivors,
        identities=identities,
        located=seen.located,
        held=held,
        latest=seen.latest,
        logical_ids=seen.logical_ids,
        links=[link for link in links if isinstance(link, Association)],
        transformations=transformations(connection, appended),
    )


def _see(connection: Connection, asked: Operations) -> _Seen:
    located = locate(connection, _named(asked))
    targets = hold(
        connection, [located[one.target] for one in asked.statuses if one.target in located], False
    )
    logical_ids = {
        entry_uuid: target.obj.logical_id or entry_uuid
        for entry_uuid, target in targets.items()
        if isinstance(target.obj, DocumentEntry | Folder)
    }
    latest = _latest(connection, {*asked.logical_ids().values(), *logical_ids.values()}, located)
    located |= locate(connection, {one.entry_uuid for one in latest.values()} - located.keys())
    changed = [located[one.entry_uuid] for one in latest.values() if one.entry_uuid in located]
    links = _links_of(connection, changed, located)
    restored = [target.obj for target in targets.values() if isinstance(target.obj, Association)]
    _locate_ends(connection, restored, located)
    return _Seen(located, latest, logical_ids, links)


def _named(asked: Operations) -> set[str]:
    """Every entryUUID that the message holds, whatever it means by it."""
    names = {obj.entry_uuid for obj in asked.submission.objects()}
    names |= {end for link in asked.submission.associations for end in (link.source, link.target)}
    names |= set(asked.logical_ids().values())
    return {name for name in names if is_uuid_urn(name)}


def _latest(
    connection: Connection, logical_ids: set[str], located: Mapping[str, Located]
) -> dict[str, Latest]:
    """The latest version of each; one without rows is the only version of itself."""
    latest = {
        logical_id: Latest(logical_id, 1, recorded=False)
        for logical_id in sorted(logical_ids)
        if logical_id in located and located[logical_id].kind in (schema.DOCUMENT, schema.FOLDER)
    }
    for logical_id, version, entry_uuid in REVISIONS.rows(connection, {"ids": list(logical_ids)}):
        latest[logical_id] = Latest(entry_uuid, version, recorded=True)
    return latest


def _links_of(
    connection: Connection, changed: Collection[Located], located: dict[str, Located]
) -> list[str]:
    """The links at ``changed`` that are no SubmissionSet's; they and their ends are located."""
    if not changed:
        return []
    parameters: dict[str, Any] = {
        "patients": patients_around(connection, changed),
        "types": _LINK_TYPES,
        "ids": [place.entry_uuid for place in changed],
    }
    found = {
        entry_uuid: Located(entry_uuid, schema.ASSOCIATION, patient, patient)
        for statement in (_LINKS_BY_SOURCE, _LINKS_BY_TARGET)
        for entry_uuid, patient in statement.rows(connection, parameters)
    }
    links = [held.obj for held in hold(connection, found.values(), False).values()]
    _locate_ends(connection, links, located)
    names = sorted(
        link.entry_uuid
        for link in links
        if isinstance(link, Association)
        and link.source in located  # else a rival has just removed both
        and located[link.source].kind != schema.SUBMISSION_SET
    )
    located |= {name: found[name] for name in names}
    return names


def _locate_ends(
    connection: Connection, links: Iterable[AnyObject], located: dict[str, Located]
) -> None:
    ends = {
        end for link in links if isinstance(link, Association) for end in (link.source, link.target)
    }
    located |= locate(connection, ends - located.keys())
