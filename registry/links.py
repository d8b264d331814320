"""Associations: what leads to an object, what leads from it, what a SubmissionSet holds.

An association is kept under the patient of its submission, so the way to those that touch an
object leads through ``lookup.patients_around``.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import NamedTuple

from sqlalchemy import Connection, bindparam, select

from metadata.identifiers import HAS_MEMBER
from registry.lookup import Located, patients_around
from registry.operators import among
from registry.schema import APPROVED, association
from registry.statement import Statement


class Link(NamedTuple):
    """A registered association."""

    entry_uuid: str
    source: str
    target: str
    ebrim: bytes


_ENDS = select(association.c.source, association.c.target).where(
    among(association.c.patient, "patients"),
    among(association.c.type, "types"),
    association.c.status == APPROVED,
)
_ENDS_BY_TARGET = Statement(_ENDS.where(among(association.c.target, "ids")))
_ENDS_BY_SOURCE = Statement(_ENDS.where(among(association.c.source, "ids")))

_LINKS = (
    select(
        association.c.entry_uuid, association.c.source, association.c.target, association.c.ebrim
    )
    .where(among(association.c.patient, "patients"))
    .limit(bindparam("limit"))
)
_FROM = Statement(_LINKS.where(among(association.c.source, "ids")))
_TO = Statement(_LINKS.where(among(association.c.target, "ids")))
_BY_ID = Statement(_LINKS.where(among(association.c.entry_uuid, "ids")))
_MEMBERS = Statement(
    _LINKS.where(among(association.c.source, "ids"), association.c.type == HAS_MEMBER)
)


def linked_to(
    connection: Connection, objects: Collection[Located], types: Collection[str]
) -> list[tuple[str, str]]:
    """Source and target of every association of ``types`` whose target is one of ``objects``.

    Of those in force: a deprecated association leads nowhere.
    """
    return _ends(connection, _ENDS_BY_TARGET, objects, types)


def linked_from(
    connection: Connection, objects: Collection[Located], types: Collection[str]
) -> list[tuple[str, str]]:
    """Source and target of every association of ``types`` whose source is one of ``objects``.

    Of those in force.
    """
    return _ends(connection, _ENDS_BY_SOURCE, objects, types)


def touching(connection: Connection, objects: Collection[Located], limit: int) -> list[Link]:
    """The associations with one of ``objects`` at either end, each once.

    At most ``limit`` from each end.
    """
    if not objects:
        return []
    patients = patients_around(connection, objects)
    found = [
        link
        for statement in (_FROM, _TO)
        for link in _links(connection, statement, patients, objects, limit)
    ]
    return list({link.entry_uuid: link for link in found}.values())


def members_of(connection: Connection, sets: Collection[Located], limit: int) -> list[Link]:
    """What ties the members of SubmissionSets to them: always kept under the set's patient."""
    return _links(connection, _MEMBERS, {one.patient for one in sets}, sets, limit)


def by_id(connection: Connection, found: Collection[Located], limit: int) -> list[Link]:
    """The associations at these places."""
    return _links(connection, _BY_ID, {one.patient for one in found}, found, limit)


def _ends(
    connection: Connection,
    statement: Statement,
    objects: Collection[Located],
    types: Collection[str],
) -> list[tuple[str, str]]:
    if not objects:
        return []
    parameters = {
        "patients": patients_around(connection, objects),
        "types": list(types),
        "ids": [found.entry_uuid for found in objects],
    }
    return [(source, target) for source, target in statement.rows(connection, parameters)]


def _links(
    connection: Connection,
    statement: Statement,
    patients: Iterable[str],
    objects: Collection[Located],
    limit: int,
) -> list[Link]:
    if not objects:
        return []
    parameters = {
        "patients": sorted(patients),
        "ids": [found.entry_uuid for found in objects],
        "limit": limit,
    }
    return [Link(*row) for row in statement.rows(connection, parameters)]
