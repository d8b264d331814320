"""ITI-64: a local identifier goes from one patient of the domain to another, with its objects.

Covers the registry's part of ITI TF-2 3.64 (XAD-PID Link Change). What moves:

- every DocumentEntry of the previous patient whose sourcePatientId is the local identifier;
- a Folder, when all the documents it holds move; one that keeps a document stays;
- a SubmissionSet, when all its documents and Folders of the previous patient move; one that
  keeps a member stays, and still holds what moved: it tells who submitted it, and with what;
- an Association, with the SubmissionSet that lists it, or when both its ends move.

A membership of a Folder, or a relationship of documents, that would join two patients afterwards
is deprecated, for neither may (ITI TF-3 4.2.2.1.2, ITI TF-2 3.42.4.1.3.5). What moves is rendered
anew with the new patientId, and rows move in every table, for the patient leads their keys;
``link_change_object`` keeps whose each object was. sourcePatientId and all else stay as they are.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, cast

from sqlalchemy import BindParameter, Connection, Table, bindparam, insert, or_, select, update

from hl7.adt import FeedOutcome
from metadata import ebrim
from metadata.datatypes import CX, new_uuid_urn
from metadata.identifiers import DEPRECATED, HAS_MEMBER
from metadata.model import Association, DocumentEntry, Folder, SubmissionSet
from registry import schema
from registry.links import linked_from, linked_to
from registry.lookup import ADD_REACH, Located, locate, patients_around, rows_at
from registry.merges import lock_chains, pair_problem
from registry.surroundings import by_key
from storage.operators import among
from storage.statement import Statement

_KEPT = {
    schema.DOCUMENT: schema.document_entry,
    schema.FOLDER: schema.folder,
    schema.SUBMISSION_SET: schema.submission_set,
}

_DOCUMENTS = Statement(
    select(
        schema.document_entry.c.patient,
        schema.document_entry.c.entry_uuid,
        schema.document_entry.c.ebrim,
    )
    .where(among(schema.document_entry.c.patient, "patients"))
    .order_by(schema.document_entry.c.entry_uuid)
    .with_for_update()
)


def _reading(table: Table) -> Statement:
    columns = (table.c.patient, table.c.entry_uuid, table.c.ebrim)
    return Statement(by_key(table, *columns).with_for_update())


def _moving(table: Table, **changes: BindParameter[Any]) -> Statement:
    """An object's rows in a table that leads with the patient."""
    return Statement(
        update(table)
        .where(table.c.patient == bindparam("of_patient"), table.c.entry_uuid == bindparam("id"))
        .values(patient=bindparam("to"), **changes)
    )


def _moving_by(table: Table, key: str) -> Statement:
    """An object's rows in a global table whose key begins with ``key``."""
    return Statement(
        update(table)
        .where(table.c[key] == bindparam("of_key"), table.c.entry_uuid == bindparam("id"))
        .values(patient=bindparam("to"))
    )


_READ = {kind: _reading(table) for kind, table in _KEPT.items()}
_MOVE = {kind: _moving(table, ebrim=bindparam("fragment")) for kind, table in _KEPT.items()}
_MOVE_VALUES = _moving(schema.attribute_value)
_MOVE_ASSOCIATION = _moving(schema.association)
_MOVE_PLACE = Statement(
    update(schema.object_)
    .where(schema.object_.c.entry_uuid == bindparam("id"))
    .values(patient=bindparam("to"))
)
_MOVE_BY_UNIQUE_ID = (
    _moving_by(schema.identity, "unique_id"),
    _moving_by(schema.namesake, "unique_id"),
)
_MOVE_VERSION = _moving_by(schema.revision, "logical_id")

_LINKS = Statement(
    select(
        schema.association.c.entry_uuid,
        schema.association.c.patient,
        schema.association.c.source,
        schema.association.c.target,
        schema.association.c.status,
        schema.association.c.ebrim,
    ).where(
        among(schema.association.c.patient, "patients"),
        or_(
            among(schema.association.c.entry_uuid, "ids"),
            among(schema.association.c.source, "ids"),
            among(schema.association.c.target, "ids"),
        ),
    )
)
_DEPRECATE = Statement(
    update(schema.association)
    .where(
        schema.association.c.patient == bindparam("of_patient"),
        schema.association.c.entry_uuid == bindparam("id"),
    )
    .values(status=schema.DEPRECATED, ebrim=bindparam("fragment"))
)
_RECORD = Statement(insert(schema.link_change))
_RECORD_OBJECT = Statement(insert(schema.link_change_object))

# Objects by entryUUID.
Places = dict[str, Located]


@dataclass(frozen=True, slots=True)
class LinkChange:
    """``local`` identifiers go from ``previous`` to ``current``; by which message, and when."""

    local: tuple[CX, ...]
    previous: str
    current: str
    changed_at: str
    sender: str
    control_id: str


class _Link(NamedTuple):
    entry_uuid: str
    patient: str
    source: str
    target: str
    status: str
    ebrim: bytes


def change_link(connection: Connection, change: LinkChange) -> FeedOutcome | None:
    """Move what belongs to the local identifiers; why that cannot be, None when it is done.

    Refused as a merge is (ITI TF-2 3.8.4.2.4): both patients known, active, and not the same.
    """
    chains = lock_chains(connection, [change.previous, change.current])
    problem = pair_problem(chains, {"previous": change.previous, "new": change.current})
    if problem is not None:
        return problem
    chain = [key for key, survivor in chains.items() if survivor == change.previous]
    moved = _moved(connection, _documents(connection, chain, change.local), change.previous)
    moved |= _associations(connection, moved)
    around = patients_around(connection, moved.values())
    _record(connection, change, moved)
    _move(connection, moved, change.current)
    _separate(connection, _links(connection, [*around, change.current], moved))
    return None


def _documents(connection: Connection, chain: list[str], local: Collection[CX]) -> set[str]:
    """The entryUUIDs of the chain's documents that have one of the local identifiers."""
    found = set()
    for _, entry_uuid, fragment in _DOCUMENTS.rows(connection, {"patients": chain}):
        source = cast(DocumentEntry, ebrim.read_fragment(fragment)).source_patient_id
        if source is not None and source.normalised() in local:
            found.add(entry_uuid)
    return found


def _moved(connection: Connection, documents: set[str], previous: str) -> Places:
    """The documents, and the Folders and SubmissionSets of which nothing stays behind."""
    moved = locate(connection, documents)
    for kind in (schema.FOLDER, schema.SUBMISSION_SET):  # a set holds Folders, never the reverse
        holders = {holder for holder, _ in linked_to(connection, moved.values(), [HAS_MEMBER])}
        candidates = {
            name: found
            for name, found in locate(connection, holders).items()
            if found.kind == kind and found.survivor == previous
        }
        members = _members(connection, candidates.values(), previous)
        moved |= {
            name: found for name, found in candidates.items() if members[name] <= moved.keys()
        }
    return moved


def _members(
    connection: Connection, holders: Collection[Located], previous: str
) -> Mapping[str, set[str]]:
    """The previous patient's documents and Folders in each of ``holders``."""
    pairs = linked_from(connection, holders, [HAS_MEMBER])
    located = locate(connection, {member for _, member in pairs})
    members: dict[str, set[str]] = defaultdict(set)
    for holder, member in pairs:
        if located[member].kind != schema.ASSOCIATION and located[member].survivor == previous:
            members[holder].add(member)
    return members


def _associations(connection: Connection, moved: Places) -> Places:
    """The associations between what moves, and those that a moving SubmissionSet lists."""
    links = _links(connection, patients_around(connection, moved.values()), moved)
    names = {link.entry_uuid for link in links if {link.source, link.target} <= moved.keys()}
    for link in links:
        if link.source in moved and moved[link.source].kind == schema.SUBMISSION_SET:
            names |= {link.entry_uuid, link.target}
    located = locate(connection, names)
    return {name: found for name, found in located.items() if found.kind == schema.ASSOCIATION}


def _links(connection: Connection, patients: Iterable[str], names: Collection[str]) -> list[_Link]:
    """The associations of ``patients`` that are, or touch, one of ``names``."""
    parameters = {"patients": sorted(set(patients)), "ids": list(names)}
    return [_Link(*row) for row in _LINKS.rows(connection, parameters)]


def _of_kind(places: Places, kind: str) -> list[Located]:
    return [found for found in places.values() if found.kind == kind]


def _record(connection: Connection, change: LinkChange, moved: Places) -> None:
    number = new_uuid_urn()
    message = {
        "id": number,
        "previous": change.previous,
        "current": change.current,
        "changed_at": change.changed_at,
        "sender": change.sender,
        "control_id": change.control_id,
    }
    _RECORD.run(connection, [{**message, "local": local} for local in sorted(change.local)])
    rows = [
        {"change": number, "entry_uuid": name, "previous": found.patient}
        for name, found in moved.items()
    ]
    if rows:
        _RECORD_OBJECT.run(connection, rows)


def _move(connection: Connection, moved: Places, current: str) -> None:
    for kind in _KEPT:  # documents before Folders: the order of every lock
        for row in rows_at(connection, _READ[kind], _of_kind(moved, kind)):
            _move_object(connection, _MOVE[kind], row, current)
    places = [
        {"of_patient": found.patient, "id": name, "to": current} for name, found in moved.items()
    ]
    links = [row for row in places if moved[row["id"]].kind == schema.ASSOCIATION]
    for statement, rows in (
        (_MOVE_ASSOCIATION, links),
        (_MOVE_VALUES, places),
        (_MOVE_PLACE, [{"id": row["id"], "to": current} for row in places]),
    ):
        if rows:
            statement.run(connection, rows)


def _move_object(
    connection: Connection, statement: Statement, row: tuple[str, str, bytes], current: str
) -> None:
    """One object of the model, with what its identifiers lead to."""
    patient, entry_uuid, fragment = row
    obj = cast(DocumentEntry | SubmissionSet | Folder, ebrim.read_fragment(fragment))
    rendered = ebrim.write_object(replace(obj, patient_id=CX(current)))
    place = {"of_patient": patient, "id": entry_uuid, "to": current}
    statement.run(connection, [{**place, "fragment": rendered}])
    for by_unique_id in _MOVE_BY_UNIQUE_ID:
        by_unique_id.run(connection, [{"of_key": obj.unique_id, "id": entry_uuid, "to": current}])
    _MOVE_VERSION.run(connection, [{"of_key": obj.logical_id, "id": entry_uuid, "to": current}])


def _separate(connection: Connection, links: Collection[_Link]) -> None:
    """Deprecate what may not join two patients; let the rest be found from both."""
    located = locate(connection, {end for link in links for end in (link.source, link.target)})
    for link in links:
        ends = (located[link.source], located[link.target])
        if link.status == schema.APPROVED and _may_not_join(*ends):
            _deprecate(connection, link)
        reached = [
            {"entry_uuid": end.entry_uuid, "patient": link.patient}
            for end in ends
            if end.patient != link.patient
        ]
        if reached:
            ADD_REACH.run(connection, reached)


def _may_not_join(source: Located, target: Located) -> bool:
    """A SubmissionSet may hold what is another patient's, by reference; nothing else may."""
    by_reference = source.kind == schema.SUBMISSION_SET or target.kind == schema.ASSOCIATION
    return source.survivor != target.survivor and not by_reference


def _deprecate(connection: Connection, link: _Link) -> None:
    association = cast(Association, ebrim.read_fragment(link.ebrim))
    deprecated = replace(association, availability_status=DEPRECATED)
    row = {"of_patient": link.patient, "id": link.entry_uuid}
    _DEPRECATE.run(connection, [{**row, "fragment": ebrim.write_object(deprecated)}])
