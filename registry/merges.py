"""Who stands for whom: merges of patients, how they chain, and how an operator undoes one.

Covers the registry's part of ITI TF-2 3.8.4.2. ``patient_merge`` holds every merge in force;
``patient.survivor`` is what follows from them all, so that one step resolves any chain. A merge
touches no object. The standard knows no way back from a merge made in error; ``unmerge`` gives
the subsumed identifier back what was registered under it, and what it had itself subsumed. What
was registered for the survivor in between stays there; associations that were made across the
merge stay too, and are named, for only a person can tell what is right.

Whoever changes chains locks all of their rows first, in the order of the identifiers. A
registration holds its patient's row shared, so merges wait for it, and it for them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass

from sqlalchemy import Connection, and_, bindparam, delete, insert, or_, select, update

from hl7.ack import ERROR
from hl7.adt import FeedOutcome
from hl7.errors import DUPLICATE_KEY, UNKNOWN_KEY
from metadata.datatypes import new_uuid_urn
from registry.schema import association, object_, patient, patient_merge, patient_unmerge
from storage.operators import among
from storage.statement import Statement

_PATIENTS = select(patient.c.id, patient.c.survivor).order_by(patient.c.id)
_SURVIVORS = Statement(_PATIENTS.where(among(patient.c.id, "ids")))
_LOCKED_CHAINS = Statement(
    _PATIENTS.where(
        or_(among(patient.c.id, "ids"), among(patient.c.survivor, "ids"))
    ).with_for_update()
)
_SUBSUME = Statement(
    update(patient)
    .where(patient.c.survivor == bindparam("subsumed"))
    .values(survivor=bindparam("surviving"))
)
_RESOLVE = Statement(
    update(patient).where(patient.c.id == bindparam("one")).values(survivor=bindparam("stands_for"))
)
_RECORD_MERGE = Statement(insert(patient_merge))
_FORGET_MERGE = Statement(delete(patient_merge).where(patient_merge.c.subsumed == bindparam("one")))
_RECORD_UNMERGE = Statement(insert(patient_unmerge))
_MERGES = Statement(
    select(
        patient_merge.c.subsumed,
        patient_merge.c.surviving,
        patient_merge.c.merged_at,
        patient_merge.c.sender,
        patient_merge.c.control_id,
    )
    .where(among(patient_merge.c.subsumed, "ids"))
    .order_by(patient_merge.c.merged_at, patient_merge.c.subsumed)
)


# An association is kept under the patient of its submission, which is that of one of its ends.
_SOURCE, _TARGET = object_.alias(), object_.alias()
_JOINING = Statement(
    select(association.c.entry_uuid)
    .join_from(association, _SOURCE, _SOURCE.c.entry_uuid == association.c.source)
    .join(_TARGET, _TARGET.c.entry_uuid == association.c.target)
    .where(
        among(association.c.patient, "chain"),
        or_(
            and_(among(_SOURCE.c.patient, "one"), among(_TARGET.c.patient, "other")),
            and_(among(_SOURCE.c.patient, "other"), among(_TARGET.c.patient, "one")),
        ),
    )
    .order_by(association.c.entry_uuid)
)


@dataclass(frozen=True, slots=True)
class Merge:
    """A merge in force: when it was made (14 digits of UTC) and by which message."""

    subsumed: str
    surviving: str
    merged_at: str
    sender: str
    control_id: str


@dataclass(frozen=True, slots=True)
class Undone:
    """A merge undone, and the associations (entryUUIDs) that still join the two patients."""

    merge: Merge
    joining: list[str]


class NotMerged(Exception):
    """The identifier is not known, or nothing has subsumed it."""


def refused(code: str, reason: str) -> FeedOutcome:
    """The outcome of an identity message that asks for what cannot be."""
    return FeedOutcome(ERROR, code, reason)


def survivors(connection: Connection, ids: Sequence[str]) -> dict[str, str]:
    """Who stands today for each of ``ids`` that is known."""
    return dict(_SURVIVORS.rows(connection, {"ids": ids}))


def lock_chains(connection: Connection, ids: Sequence[str]) -> dict[str, str]:
    """``survivors`` of ``ids`` and of all for whom they stand, held still until the commit."""
    return dict(_LOCKED_CHAINS.rows(connection, {"ids": ids}))


def pair_problem(chains: Mapping[str, str], pair: Mapping[str, str]) -> FeedOutcome | None:
    """Why nothing may pass between the two identifiers of ``pair`` (ITI TF-2 3.8.4.2.4).

    ``pair`` maps what a person calls them ("surviving", "subsumed") to them.
    """
    if len(set(pair.values())) < len(pair):
        return refused(DUPLICATE_KEY, f"the {' and the '.join(pair)} identifier are the same")
    for role, key in pair.items():
        if key not in chains:
            return refused(UNKNOWN_KEY, f"the {role} identifier is not known")
        if chains[key] != key:
            return refused(UNKNOWN_KEY, f"the {role} identifier was subsumed before")
    return None


def merge(connection: Connection, new: Merge) -> FeedOutcome | None:
    """Let the survivor stand for the subsumed patient and all that it stood for.

    Returns why that cannot be, None when it is done.
    """
    chains = lock_chains(connection, [new.surviving, new.subsumed])
    problem = pair_problem(chains, {"subsumed": new.subsumed, "surviving": new.surviving})
    if problem is None:
        _SUBSUME.run(connection, [{"subsumed": new.subsumed, "surviving": new.surviving}])
        _RECORD_MERGE.run(connection, [_row(new)])
    return problem


def merges_of(connection: Connection, ids: Sequence[str]) -> list[Merge]:
    """The merges in force by which one of ``ids`` was subsumed, the oldest first."""
    return [Merge(*row) for row in _MERGES.rows(connection, {"ids": ids})]


def unmerge(connection: Connection, subsumed: str, now: str, operator: str, reason: str) -> Undone:
    """Undo the merge that subsumed ``subsumed``. Raises NotMerged."""
    chain: dict[str, str] = {}
    survivor: str | None = None
    # Another merge may pass before the lock is had: then the chain is a longer one.
    while (current := survivors(connection, [subsumed]).get(subsumed)) != survivor:
        survivor = current
        chain = lock_chains(connection, [current] if current else [])
    found = merges_of(connection, [subsumed])
    if not found:
        raise NotMerged
    _FORGET_MERGE.run(connection, [{"one": subsumed}])
    record = {"unmerged_at": now, "operator": operator, "reason": reason}
    _RECORD_UNMERGE.run(connection, [{"id": new_uuid_urn(), **_row(found[0]), **record}])
    parted = _resolve(connection, chain)
    return Undone(found[0], _joining(connection, parted, chain.keys() - parted))


def _resolve(connection: Connection, chain: Mapping[str, str]) -> set[str]:
    """Let every identifier of a locked chain stand for whom the merges in force say.

    Returns those that stand for somebody else than before.
    """
    into = {one.subsumed: one.surviving for one in merges_of(connection, list(chain))}
    parted = set()
    for key, stood_for in chain.items():
        end = key
        while end in into:
            end = into[end]
        if end != stood_for:
            parted.add(key)
            _RESOLVE.run(connection, [{"one": key, "stands_for": end}])
    return parted


def _joining(connection: Connection, one: Set[str], other: Set[str]) -> list[str]:
    """The associations between objects kept under ``one`` and objects kept under ``other``."""
    parameters = {"one": list(one), "other": list(other), "chain": [*one, *other]}
    return [entry_uuid for (entry_uuid,) in _JOINING.rows(connection, parameters)]


def _row(one: Merge) -> dict[str, str]:
    return {
        "subsumed": one.subsumed,
        "surviving": one.surviving,
        "merged_at": one.merged_at,
        "sender": one.sender,
        "control_id": one.control_id,
    }
