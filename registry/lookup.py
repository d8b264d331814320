"""Where objects live: from entryUUIDs and uniqueIds to patients.

Every table of objects leads with the patient, so a question by entryUUID has two steps: find
the patients here, then read the objects with patient and entryUUID named.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any, NamedTuple

from sqlalchemy import Connection, bindparam, exists, select, text, update

from registry.schema import (
    SUBMISSION_SET,
    identity,
    namesake,
    object_,
    patient,
    reach,
    revision,
)
from storage.operators import among
from storage.statement import Statement

_LOCATED = select(
    object_.c.entry_uuid, object_.c.kind, object_.c.patient, patient.c.survivor
).join_from(object_, patient, patient.c.id == object_.c.patient)
_BY_ENTRY_UUID = Statement(_LOCATED.where(among(object_.c.entry_uuid, "ids")))
_BY_UNIQUE_ID = Statement(
    select(identity.c.entry_uuid, identity.c.kind, identity.c.patient, patient.c.survivor)
    .join_from(identity, patient, patient.c.id == identity.c.patient)
    .where(among(identity.c.unique_id, "ids"), identity.c.kind == bindparam("kind"))
)
_NAMESAKES = Statement(
    select(namesake.c.entry_uuid, identity.c.kind, namesake.c.patient, patient.c.survivor)
    .join_from(namesake, identity, identity.c.unique_id == namesake.c.unique_id)
    .join(patient, patient.c.id == namesake.c.patient)
    .where(among(namesake.c.unique_id, "ids"), identity.c.kind == bindparam("kind"))
)
_VERSIONS = Statement(
    _LOCATED.join(revision, revision.c.entry_uuid == object_.c.entry_uuid).where(
        among(revision.c.logical_id, "ids"), object_.c.kind == bindparam("kind")
    )
)
_ONLY_VERSIONS = Statement(
    _LOCATED.where(
        among(object_.c.entry_uuid, "ids"),
        object_.c.kind == bindparam("kind"),
        ~exists().where(revision.c.entry_uuid == object_.c.entry_uuid),
    )
)
# The versions of objects that have several, in their order: (logicalID, version, entryUUID).
REVISIONS = Statement(
    select(revision.c.logical_id, revision.c.version, revision.c.entry_uuid)
    .where(among(revision.c.logical_id, "ids"))
    .order_by(revision.c.logical_id, revision.c.version)
)
_REACH = Statement(select(reach.c.patient).distinct().where(among(reach.c.entry_uuid, "ids")))
# A rival that makes the same reach known serves as well.
ADD_REACH = Statement(
    text(
        "INSERT INTO reach (entry_uuid, patient) VALUES (:entry_uuid, :patient)"
        " ON CONFLICT DO NOTHING"
    )
)

# Delayed assembly and corrections: the uniqueId stands for what its latest version says.
RENEW_CONTENT = Statement(
    update(identity)
    .where(identity.c.unique_id == bindparam("id"))
    .values(hash=bindparam("new_hash"), size=bindparam("new_size"))
)


class Located(NamedTuple):
    """A registered object: what it is, whose it was when registered, and whose it is now."""

    entry_uuid: str
    kind: str
    patient: str
    survivor: str


NOWHERE = Located("", "", "", "")
"""Where an object is that is not registered: what is asked of it brings nothing."""


def locate(connection: Connection, entry_uuids: Collection[str]) -> dict[str, Located]:
    """Those of ``entry_uuids`` that are registered."""
    if not entry_uuids:
        return {}
    rows = _BY_ENTRY_UUID.rows(connection, {"ids": list(entry_uuids)})
    return {row[0]: Located(*row) for row in rows}


def locate_unique_ids(
    connection: Connection, unique_ids: Collection[str], kind: str
) -> list[Located]:
    """The objects of one kind with one of ``unique_ids``.

    Possibly several each: documents of one content, versions of one document or folder.
    """
    parameters = {"ids": list(unique_ids), "kind": kind}
    rows = _BY_UNIQUE_ID.rows(connection, parameters)
    if kind != SUBMISSION_SET:
        rows += _NAMESAKES.rows(connection, parameters)
    return [Located(*row) for row in rows]


def locate_versions(
    connection: Connection, logical_ids: Collection[str], kind: str
) -> list[Located]:
    """Every version of the objects of one kind with one of ``logical_ids``."""
    parameters = {"ids": list(logical_ids), "kind": kind}
    found = (statement.rows(connection, parameters) for statement in (_VERSIONS, _ONLY_VERSIONS))
    return [Located(*row) for rows in found for row in rows]


def patients_around(connection: Connection, objects: Iterable[Located]) -> list[str]:
    """The patients under which associations that touch ``objects`` are kept.

    Their own, and those that refer to them from outside (ITI TF-3 4.2.2.1.1 by reference, or
    across a merge).
    """
    located = list(objects)
    ids = [found.entry_uuid for found in located]
    reached = {patient_id for (patient_id,) in _REACH.rows(connection, {"ids": ids})}
    return sorted({found.patient for found in located} | reached)


def rows_at(
    connection: Connection, statement: Statement, objects: Collection[Located]
) -> list[Any]:
    """The rows of ``statement``, which takes ``keys_of``, for these objects."""
    if not objects:
        return []
    return statement.rows(connection, keys_of(objects))


def keys_of(objects: Collection[Located]) -> dict[str, list[str]]:
    """What a statement takes that names objects by ``:patients`` and ``:ids``."""
    return {
        "patients": list({found.patient for found in objects}),
        "ids": [found.entry_uuid for found in objects],
    }
