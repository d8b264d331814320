"""Associations: what leads to an object, what leads from it, what a SubmissionSet holds.

An association is kept under the patient of its submission, so the way to those that touch an
object leads through ``lookup.patients_around``.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from sqlalchemy import Connection, bindparam, select

from metadata.identifiers import HAS_MEMBER
from registry.lookup import Located, patients_around
from registry.schema import APPROVED, association
from storage.operators import among
from storage.statement import Statement

# More rows than any table has: what is hidden must not be counted, so all are looked at.
ALL = 2**31 - 1


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
    .where(among(association.c.patient, "patients"), among(association.c.status, "statuses"))
    .limit(bindparam("limit"))
)
_FROM = _LINKS.where(among(association.c.source, "ids"))
_TO = _LINKS.where(among(association.c.target, "ids"))
_TOUCHING = (Statement(_FROM), Statement(_TO))
_RELATING = tuple(Statement(end.where(among(association.c.type, "types"))) for end in (_FROM, _TO))
_BY_ID = Statement(_LINKS.where(among(association.c.entry_uuid, "ids")))
_MEMBERS = Statement(_FROM.where(association.c.type == HAS_MEMBER))
_HOLDERS = Statement(_TO.where(association.c.type == HAS_MEMBER))


def linked_to(
    connection: Connection, objects: Collection[Located], types: Collection[str]
) -> list[tuple[str, str]]:
    """Source and target of the Approved associations of ``types`` that lead to ``objects``."""
    return _ends(connection, _ENDS_BY_TARGET, objects, types)


def linked_from(
    connection: Connection, objects: Collection[Located], types: Collection[str]
) -> list[tuple[str, str]]:
    """Source and target of the Approved associations of ``types`` that lead from ``objects``."""
    return _ends(connection, _ENDS_BY_SOURCE, objects, types)


@dataclass(frozen=True, slots=True)
class Links:
    """The associations a query may show: those with one of ``statuses``.

    Every method gives at most ``limit``, from each end where it asks for both. ``veil`` leaves out
    those that the user may not see, before they are counted.
    """

    connection: Connection
    statuses: Sequence[str]
    limit: int
    veil: Callable[[list[Link]], list[Link]] | None = None

    def touching(self, objects: Collection[Located], types: Sequence[str] = ()) -> list[Link]:
        """Those with one of ``objects`` at either end, each once; of ``types``, if given."""
        patients = self._around(objects)
        found = [
            link
            for statement in (_RELATING if types else _TOUCHING)
            for link in self._links(statement, patients, objects, types)
        ]
        return list({link.entry_uuid: link for link in found}.values())

    def members_of_sets(self, sets: Collection[Located]) -> list[Link]:
        """What ties members to SubmissionSets: always kept under the set's patient."""
        return self._links(_MEMBERS, {one.patient for one in sets}, sets)

    def members_of_folders(self, folders: Collection[Located]) -> list[Link]:
        """What ties members to Folders."""
        return self._links(_MEMBERS, self._around(folders), folders)

    def holders_of(self, objects: Collection[Located]) -> list[Link]:
        """What ties ``objects`` to the SubmissionSets and Folders that hold them."""
        return self._links(_HOLDERS, self._around(objects), objects)

    def by_id(self, found: Collection[Located]) -> list[Link]:
        """Those at these places."""
        return self._links(_BY_ID, {one.patient for one in found}, found)

    def _around(self, objects: Collection[Located]) -> list[str]:
        return patients_around(self.connection, objects) if objects else []

    def _links(
        self,
        statement: Statement,
        patients: Iterable[str],
        objects: Collection[Located],
        types: Sequence[str] = (),
    ) -> list[Link]:
        if not objects or not self.statuses:
            return []
        parameters = {
            "patients": sorted(patients),
            "ids": [found.entry_uuid for found in objects],
            "statuses": self.statuses,
            "types": types,
            "limit": self.limit,
        }
        found = [Link(*row) for row in statement.many(self.connection, parameters)]
        if self.veil is None:
            return found
        if len(found) == self.limit:
            parameters["limit"] = ALL
            found = [Link(*row) for row in statement.many(self.connection, parameters)]
        return self.veil(found)[: self.limit]


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
