"""ITI-62: objects are taken out of the registry as a whole, or not at all.

Covers Remove Metadata and Documents 3.62.4.1.3. Every row of an object goes, in every table; a
uniqueId that others share stands for one of them from then on, any other is free again. Of what
has several versions the latest that stays is shown, and its content is the document's again.
Documents themselves are the repository's to remove (ITI-86).
"""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import Connection, bindparam, delete, exists, or_, select, update

from metadata.catalogue import Fault
from metadata.identifiers import OFFLINE
from metadata.model import Association, DescribedObject, DocumentEntry
from registry import schema
from registry.held import Held, hold
from registry.lookup import RENEW_CONTENT, locate_unique_ids
from registry.removal import Removal, judge, look_around
from registry.rows import content_hash, content_size
from registry.schema import (
    association,
    attribute_value,
    document_entry,
    folder,
    identity,
    namesake,
    object_,
    revision,
    submission_set,
)
from registry.schema import (
    reach as reach_,
)
from registry.work import Refused, answer, write
from storage.database import Database
from storage.faultpoints import reach
from storage.statement import Statement
from transactions.iti_62 import RemoveObjectsRequest
from transactions.registry_response import RegistryResponse

_ITI_62 = "ITI-62"

_TABLES = {
    schema.DOCUMENT: document_entry,
    schema.FOLDER: folder,
    schema.SUBMISSION_SET: submission_set,
    schema.ASSOCIATION: association,
}
_DELETE_OBJECT = {
    kind: Statement(
        delete(table).where(
            table.c.patient == bindparam("of_patient"), table.c.entry_uuid == bindparam("id")
        )
    )
    for kind, table in _TABLES.items()
}
_DELETE_VALUES = Statement(
    delete(attribute_value).where(
        attribute_value.c.patient == bindparam("of_patient"),
        attribute_value.c.entry_uuid == bindparam("id"),
    )
)
_DELETE_PLACE = Statement(delete(object_).where(object_.c.entry_uuid == bindparam("id")))
_DELETE_REACH = Statement(delete(reach_).where(reach_.c.entry_uuid == bindparam("id")))
_DELETE_REVISION = Statement(
    delete(revision).where(
        revision.c.logical_id == bindparam("logical_id"), revision.c.entry_uuid == bindparam("id")
    )
)
# A patient whose last association with an object has gone reaches it no more.
_FORGET_REACH = Statement(
    delete(reach_).where(
        reach_.c.entry_uuid == bindparam("id"),
        reach_.c.patient == bindparam("of_patient"),
        ~exists(
            select(association.c.entry_uuid).where(
                association.c.patient == bindparam("of_patient"),
                or_(
                    association.c.source == bindparam("id"),
                    association.c.target == bindparam("id"),
                ),
            )
        ),
    )
)

_DELETE_NAMESAKE = Statement(
    delete(namesake).where(
        namesake.c.unique_id == bindparam("unique_id"), namesake.c.entry_uuid == bindparam("id")
    )
)
_NAMESAKES = Statement(
    select(namesake.c.entry_uuid, namesake.c.patient)
    .where(namesake.c.unique_id == bindparam("unique_id"))
    .order_by(namesake.c.entry_uuid)
)
_OWN = (identity.c.unique_id == bindparam("of_unique_id")) & (
    identity.c.entry_uuid == bindparam("id")
)
_HAND_ON_IDENTITY = Statement(
    update(identity)
    .where(_OWN)
    .values(entry_uuid=bindparam("heir"), patient=bindparam("heirs_patient"))
)
_DELETE_IDENTITY = Statement(delete(identity).where(_OWN))
_CONTENT = Statement(
    select(identity.c.hash, identity.c.size).where(identity.c.unique_id == bindparam("unique_id"))
)
_SHOW = {
    kind: Statement(
        update(table)
        .where(table.c.patient == bindparam("of_patient"), table.c.entry_uuid == bindparam("id"))
        .values(level=schema.SHOWN)
    )
    for kind, table in ((schema.DOCUMENT, document_entry), (schema.FOLDER, folder))
}


class Remover:
    """Removes metadata. Safe for use by many threads."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def remove(self, request: RemoveObjectsRequest) -> RegistryResponse:
        """Remove the objects named; when this returns Success, they are gone for good.

        Failure means that nothing was removed, and lists every fault found. Raises
        RegistryUnavailable when the database failed and the outcome is unknown.
        """
        names = list(dict.fromkeys(request.entry_uuids))
        return answer(_ITI_62, "the removal", lambda: self._remove(names))

    def _remove(self, names: list[str]) -> list[Fault]:
        try:
            write(self._database, lambda connection: _write(connection, names))
        except Refused as refused:
            return refused.faults
        return []


def _write(connection: Connection, names: list[str]) -> None:
    """Judge and remove within one transaction; raises Refused with the faults."""
    removal = look_around(connection, names, lock=True)
    if faults := judge(removal):
        raise Refused(faults)
    going = removal.going()
    _free_unique_ids(connection, going)
    for held in going:
        _delete(connection, held)
    for unique_id in {held.obj.unique_id for held in going if isinstance(held.obj, DocumentEntry)}:
        _recall_content(connection, unique_id or "")
    _forget_reach(connection, removal)
    _show_latest(connection, removal)
    reach("remove.before_commit")


def _delete(connection: Connection, held: Held) -> None:
    """Every row of one object but those of its uniqueId."""
    key = {"of_patient": held.place.patient, "id": held.place.entry_uuid}
    statements = [_DELETE_OBJECT[held.place.kind], _DELETE_VALUES, _DELETE_PLACE, _DELETE_REACH]
    for statement in statements:
        statement.run(connection, [key])
    if isinstance(held.obj, DescribedObject):
        logical_id = held.obj.logical_id or held.obj.entry_uuid
        _DELETE_REVISION.run(connection, [{**key, "logical_id": logical_id}])


def _free_unique_ids(connection: Connection, going: Iterable[Held]) -> None:
    """Hand each uniqueId on to an object that shares it and stays, or let go of it."""
    described = [held.obj for held in going if isinstance(held.obj, DescribedObject)]
    names = [{"unique_id": obj.unique_id, "id": obj.entry_uuid} for obj in described]
    _DELETE_NAMESAKE.run(connection, names)
    for name in names:
        own = {"of_unique_id": name["unique_id"], "id": name["id"]}
        heirs = _NAMESAKES.rows(connection, name)
        if not heirs:
            _DELETE_IDENTITY.run(connection, [own])
            continue
        heir, patient = heirs[0]
        if _HAND_ON_IDENTITY.run(connection, [{**own, "heir": heir, "heirs_patient": patient}]):
            _DELETE_NAMESAKE.run(connection, [{"unique_id": name["unique_id"], "id": heir}])


def _recall_content(connection: Connection, unique_id: str) -> None:
    """Let a uniqueId stand for what a latest version says that stays, if an update changed that."""
    places = locate_unique_ids(connection, [unique_id], schema.DOCUMENT)
    held = hold(connection, places, lock=False).values()
    documents = [one.obj for one in held if isinstance(one.obj, DocumentEntry)]
    documents.sort(key=lambda one: (int(one.version or 1), one.entry_uuid))
    latest = {one.logical_id: (content_hash(one), content_size(one)) for one in documents}
    contents = list(latest.values())
    if contents and tuple(_CONTENT.rows(connection, {"unique_id": unique_id})[0]) not in contents:
        renewed = {"id": unique_id, "new_hash": contents[0][0], "new_size": contents[0][1]}
        RENEW_CONTENT.run(connection, [renewed])


def _forget_reach(connection: Connection, removal: Removal) -> None:
    reached = [
        {"id": end, "of_patient": held.place.patient}
        for held in removal.going()
        if isinstance(held.obj, Association)
        for end in (held.obj.source, held.obj.target)
    ]
    _FORGET_REACH.run(connection, reached)


def _show_latest(connection: Connection, removal: Removal) -> None:
    """Show the latest version that stays, unless it is Offline."""
    names = set(removal.names)
    latest: dict[str, str] = {}
    for version in removal.versions:
        if version.entry_uuid not in names:
            latest[version.logical_id] = version.entry_uuid
    for entry_uuid in latest.values():
        held = removal.held[entry_uuid]
        is_offline = isinstance(held.obj, DocumentEntry) and (
            held.obj.document_availability == OFFLINE
        )
        if not is_offline:
            key = {"of_patient": held.place.patient, "id": entry_uuid}
            _SHOW[held.place.kind].run(connection, [key])
