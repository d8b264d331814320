"""What the registry holds that a submission touches, looked up in one go.

Inside a registration the rows are locked, always in this order, so that rivals wait for each
other and never in a circle: the patient (shared: a merge waits), then identities by uniqueId
(shared: who frees one waits), then DocumentEntries, Folders and Associations, each by entryUUID.
What a removal took away while its row was waited for is not there any more. SQLite has one
writer and needs no locks.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Connection, Select, Table, select

from metadata.datatypes import is_uuid_urn
from metadata.identifiers import APND, XFRM, XFRM_RPLC
from metadata.model import Submission
from registry.links import linked_from
from registry.lookup import Located, locate, rows_at
from registry.schema import DOCUMENT, FOLDER, document_entry, folder, identity, patient
from storage.operators import among
from storage.statement import Statement

# Types whose source is a transformation of their target.
TRANSFORMATIONS = (XFRM, XFRM_RPLC)


def with_and_without_locks(
    statement: Select[*tuple[Any, ...]], shared: bool = False
) -> dict[bool, Statement]:
    """A statement for looking (False) and for looking with the rows locked (True)."""
    locking = statement.with_for_update(read=shared)
    return {False: Statement(statement), True: Statement(locking)}


def by_key(table: Table, *columns: ColumnElement[Any]) -> Select[*tuple[Any, ...]]:
    """Rows of ``table`` at the places that ``lookup.rows_at`` gives, by entryUUID."""
    return (
        select(*columns)
        .where(among(table.c.patient, "patients"), among(table.c.entry_uuid, "ids"))
        .order_by(table.c.entry_uuid)
    )


_PATIENTS = with_and_without_locks(
    select(patient.c.id, patient.c.survivor)
    .where(among(patient.c.id, "ids"))
    .order_by(patient.c.id),
    shared=True,
)
_IDENTITIES = with_and_without_locks(
    select(identity.c.unique_id, identity.c.kind, identity.c.hash, identity.c.size)
    .where(among(identity.c.unique_id, "ids"))
    .order_by(identity.c.unique_id),
    shared=True,
)
_FOLDERS = with_and_without_locks(by_key(folder, folder.c.entry_uuid, folder.c.status))
_DOCUMENTS = with_and_without_locks(
    by_key(
        document_entry,
        document_entry.c.entry_uuid,
        document_entry.c.status,
        document_entry.c.object_type,
    )
)


class Identity(NamedTuple):
    """What a uniqueId has stood for ever since it was first registered."""

    unique_id: str
    kind: str
    hash: str | None
    size: int | None


class DocumentState(NamedTuple):
    """What the rules ask of a registered DocumentEntry."""

    entry_uuid: str
    status: str
    object_type: str


class FolderState(NamedTuple):
    """What the rules ask of a registered Folder."""

    entry_uuid: str
    status: str


@dataclass(frozen=True, slots=True)
class Surroundings:
    """The state of the registry around one submission.

    ``survivors`` maps the submission's patients that are known to who stands for them today;
    ``located`` every entryUUID in the submission that is registered; ``transformations`` are
    the targets of APND that are transformations of another document.
    """

    survivors: Mapping[str, str]
    located: Mapping[str, Located]
    identities: Mapping[str, Identity]
    folders: Mapping[str, FolderState]
    documents: Mapping[str, DocumentState]
    transformations: frozenset[str]

    def survivor(self, patient_id: str) -> str:
        """Who stands for ``patient_id`` today; itself when it is not known."""
        return self.survivors.get(patient_id, patient_id)


def look_around(connection: Connection, submission: Submission, lock: bool) -> Surroundings:
    """The state around ``submission``; with ``lock`` it holds still until the commit."""
    survivors = known_patients(connection, submission, lock)
    ids = {obj.entry_uuid for obj in submission.objects()}
    ends = {end for link in submission.associations for end in (link.source, link.target)}
    located = locate(connection, [name for name in ids | ends if is_uuid_urn(name)])
    identities = known_identities(connection, submission, lock)
    touched = [located[end] for end in sorted(ends) if end in located]
    documents = _documents(connection, touched, lock)
    folders = _folders(connection, touched, lock)
    present = documents.keys() | folders.keys()
    for found in touched:
        if found.kind in (DOCUMENT, FOLDER) and found.entry_uuid not in present:
            del located[found.entry_uuid]
    appended = [
        located[link.target]
        for link in submission.associations
        if link.association_type == APND and link.target in located
    ]
    return Surroundings(
        survivors=survivors,
        located=located,
        identities=identities,
        documents=documents,
        folders=folders,
        transformations=transformations(connection, appended),
    )


def known_patients(connection: Connection, submission: Submission, lock: bool) -> dict[str, str]:
    """The submission's patients that are known, each with who stands for it today."""
    ids = {
        package.patient_id.normalised()
        for package in submission.submission_sets
        if package.patient_id
    }
    return survivors_of(connection, ids, lock)


def survivors_of(connection: Connection, ids: Iterable[str], lock: bool) -> dict[str, str]:
    """Those of some patient identifiers that are known, each with who stands for it today."""
    return dict(_PATIENTS[lock].rows(connection, {"ids": list(ids)}))


def known_identities(
    connection: Connection, submission: Submission, lock: bool
) -> dict[str, Identity]:
    """What the uniqueIds of the submission stand for, where they are registered."""
    described = (*submission.submission_sets, *submission.documents, *submission.folders)
    ids = [obj.unique_id for obj in described if obj.unique_id]
    return identities_of(connection, ids, lock)


def identities_of(connection: Connection, ids: Iterable[str], lock: bool) -> dict[str, Identity]:
    """What some uniqueIds stand for, where they are registered."""
    rows = _IDENTITIES[lock].rows(connection, {"ids": list(ids)})
    return {row[0]: Identity(*row) for row in rows}


def _folders(connection: Connection, touched: list[Located], lock: bool) -> dict[str, FolderState]:
    rows = rows_at(connection, _FOLDERS[lock], _of_kind(touched, FOLDER))
    return {row[0]: FolderState(*row) for row in rows}


def _documents(
    connection: Connection, touched: list[Located], lock: bool
) -> dict[str, DocumentState]:
    rows = rows_at(connection, _DOCUMENTS[lock], _of_kind(touched, DOCUMENT))
    return {row[0]: DocumentState(*row) for row in rows}


def _of_kind(located: Iterable[Located], kind: str) -> list[Located]:
    return [found for found in located if found.kind == kind]


def transformations(connection: Connection, appended: list[Located]) -> frozenset[str]:
    """Those among documents to which something is to be appended that are transformations."""
    links = linked_from(connection, appended, TRANSFORMATIONS)
    return frozenset(source for source, _ in links)
