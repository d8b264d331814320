"""What an operator may see of the patients, and the one thing the feeds cannot do: undo a merge.

Beyond the standard, which calls a merge irreversible (ITI TF-2 3.8.4.2.4): a merge made in error
mixes two people's documents, and somebody must be able to part them. Who did it, when and why is
kept in ``patient_unmerge``. What the feeds can do (announce, merge) an operator does through
``registry.patients``, under the same refusals.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import Connection, Table, bindparam, func, or_, select

from metadata.datatypes import CX, DTM
from registry.merges import Merge, Undone, merges_of, survivors, unmerge
from registry.schema import (
    document_entry,
    folder,
    link_change,
    patient,
    patient_unmerge,
    submission_set,
)
from registry.work import write
from storage.database import Database
from storage.operators import among
from storage.statement import Statement

_CHAIN = Statement(
    select(patient.c.id).where(patient.c.survivor == bindparam("survivor")).order_by(patient.c.id)
)
_PAGE = Statement(
    select(patient.c.id, patient.c.survivor)
    .where(patient.c.id > bindparam("after"))
    .order_by(patient.c.id)
    .limit(bindparam("limit"))
)
_UNMERGES = Statement(
    select(
        patient_unmerge.c.subsumed,
        patient_unmerge.c.surviving,
        patient_unmerge.c.merged_at,
        patient_unmerge.c.unmerged_at,
        patient_unmerge.c.operator,
        patient_unmerge.c.reason,
    )
    .where(or_(among(patient_unmerge.c.subsumed, "ids"), among(patient_unmerge.c.surviving, "ids")))
    .order_by(patient_unmerge.c.unmerged_at, patient_unmerge.c.id)
)
_LINK_CHANGES = Statement(
    select(
        link_change.c.local,
        link_change.c.previous,
        link_change.c.current,
        link_change.c.changed_at,
        link_change.c.sender,
    )
    .where(or_(among(link_change.c.previous, "ids"), among(link_change.c.current, "ids")))
    .order_by(link_change.c.changed_at, link_change.c.id, link_change.c.local)
)


def _counting(table: Table) -> Statement:
    return Statement(
        select(table.c.patient, func.count())
        .where(among(table.c.patient, "ids"))
        .group_by(table.c.patient)
    )


_COUNTS = tuple(map(_counting, (document_entry, submission_set, folder)))


@dataclass(frozen=True, slots=True)
class Known:
    """An identifier of the domain, and who stands for it today: itself while it is active."""

    id: str
    survivor: str


@dataclass(frozen=True, slots=True)
class Holding:
    """How many objects are kept under one identifier of a chain."""

    id: str
    documents: int
    submission_sets: int
    folders: int


@dataclass(frozen=True, slots=True)
class Unmerged:
    """A merge that was undone; times are 14 digits of UTC."""

    subsumed: str
    surviving: str
    merged_at: str
    unmerged_at: str
    operator: str
    reason: str


@dataclass(frozen=True, slots=True)
class Relinked:
    """A local identifier that came to a patient of the chain, or went from one (ITI-64)."""

    local: str
    previous: str
    current: str
    changed_at: str
    sender: str


@dataclass(frozen=True, slots=True)
class PatientRecord:
    """All there is to say of a patient: the whole chain of its survivor, and how it came about."""

    id: str
    survivor: str
    chain: list[Holding]
    merges: list[Merge]
    unmerged: list[Unmerged]
    relinked: list[Relinked]


class Administration:
    """The patients as an operator sees them. Safe for use by many threads."""

    def __init__(
        self, database: Database, clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self._database = database
        self._clock = clock

    def show(self, identifier: CX) -> PatientRecord | None:
        """What is known of a patient, from one snapshot; None when nothing is."""
        key = identifier.normalised()
        with self._database.read() as connection:
            survivor = survivors(connection, [key]).get(key)
            if survivor is None:
                return None
            ids = [one for (one,) in _CHAIN.rows(connection, {"survivor": survivor})]
            return PatientRecord(
                id=key,
                survivor=survivor,
                chain=_holdings(connection, ids),
                merges=merges_of(connection, ids),
                unmerged=[Unmerged(*row) for row in _UNMERGES.rows(connection, {"ids": ids})],
                relinked=[Relinked(*row) for row in _LINK_CHANGES.rows(connection, {"ids": ids})],
            )

    def page(self, after: str, limit: int) -> list[Known]:
        """At most ``limit`` identifiers in the order of their text, from behind ``after``."""
        with self._database.read() as connection:
            rows = _PAGE.rows(connection, {"after": after, "limit": limit})
        return [Known(*row) for row in rows]

    def unmerge(self, subsumed: CX, operator: str, reason: str) -> Undone:
        """Undo the merge that subsumed an identifier; durable when it returns.

        ``operator`` is who does it, ``reason`` why; both are kept. Raises NotMerged, and
        StorageError when it was not done.
        """
        now = DTM.of(self._clock())
        key = subsumed.normalised()
        return write(
            self._database, lambda connection: unmerge(connection, key, now, operator, reason)
        )


def _holdings(connection: Connection, ids: Sequence[str]) -> list[Holding]:
    counts = [dict(statement.rows(connection, {"ids": ids})) for statement in _COUNTS]
    return [Holding(one, *(count.get(one, 0) for count in counts)) for one in ids]
