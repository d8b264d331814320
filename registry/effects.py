"""What a registration changes in the registry, beyond adding its own objects.

Covers ITI TF-2 3.42.4.1.3.4 to 3.42.4.1.3.6: a replaced document is deprecated, and with it
all that was transformed from it or appended to it; its replacement joins the Folders that hold
it; a Folder that gains a member gets the time of the commit. An object that changes is
rendered anew, so that queries go on copying.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import cast

from sqlalchemy import Connection, Table, bindparam, select, update

from metadata import ebrim
from metadata.datatypes import DTM
from metadata.identifiers import APND, DEPRECATED, HAS_MEMBER, REPLACEMENTS, XFRM
from metadata.model import Association, Folder
from registry import schema
from registry.links import linked_to
from registry.lookup import Located, locate, rows_at
from registry.registration import Registration, has_member, updated_at
from registry.schema import document_entry, folder
from storage.operators import among
from storage.statement import Statement

# What goes with its document when that is replaced (ITI TF-2 3.42.4.1.3.5).
_DEPENDANTS = (XFRM, APND)


def _reading(table: Table) -> Statement:
    """Patient, entryUUID and ebRIM of the Approved objects among some, locked in order."""
    return Statement(
        select(table.c.patient, table.c.entry_uuid, table.c.ebrim)
        .where(
            among(table.c.patient, "patients"),
            among(table.c.entry_uuid, "ids"),
            table.c.status == schema.APPROVED,
        )
        .order_by(table.c.entry_uuid)
        .with_for_update()
    )


_APPROVED_DOCUMENTS = _reading(document_entry)
_APPROVED_FOLDERS = _reading(folder)

_DEPRECATE = Statement(
    update(document_entry)
    .where(
        document_entry.c.patient == bindparam("of_patient"),
        document_entry.c.entry_uuid == bindparam("id"),
    )
    .values(status=schema.DEPRECATED, ebrim=bindparam("rendered"))
)
_TOUCH = Statement(
    update(folder)
    .where(folder.c.patient == bindparam("of_patient"), folder.c.entry_uuid == bindparam("id"))
    .values(last_update_time=bindparam("time"), ebrim=bindparam("rendered"))
)


def replacements(registration: Registration) -> dict[str, str]:
    """The documents that the registration replaces, each with its replacement."""
    return {
        link.target: link.source
        for link in registration.associations
        if link.association_type in REPLACEMENTS
    }


def deprecate(connection: Connection, replaced: Collection[Located]) -> None:
    """Deprecate ``replaced`` and, however far down, what depends on them."""
    doomed: dict[str, Located] = {}
    level = {found.entry_uuid: found for found in replaced}
    while level:
        doomed |= level
        dependants = {source for source, _ in linked_to(connection, level.values(), _DEPENDANTS)}
        level = locate(connection, dependants - doomed.keys())
    _deprecate_rows(connection, doomed.values())


def inherit_folders(
    connection: Connection,
    registration: Registration,
    replaced_by: Mapping[str, str],
    replaced: Collection[Located],
) -> tuple[list[Association], dict[str, Located]]:
    """The memberships that replacements inherit, with the SubmissionSet's links to them.

    Beside them the Folders they belong to. A Folder and its members are always of one
    patient, and so are a document and its replacement: there is nothing to compare again.
    """
    held = linked_to(connection, replaced, [HAS_MEMBER])
    folders = _approved_folders(connection, {holder for holder, _ in held})
    known = {(link.source, link.target) for link in registration.associations}
    inherited = {
        (holder, replaced_by[document]) for holder, document in held if holder in folders
    } - known
    memberships = [has_member(*pair) for pair in sorted(inherited)]
    submission_set = registration.submission_set.entry_uuid
    listed = [has_member(submission_set, membership.entry_uuid) for membership in memberships]
    return memberships + listed, folders


def touch_folders(connection: Connection, folders: Collection[Located], now: DTM) -> list[Folder]:
    """Give ``folders`` the time of the commit as lastUpdateTime; the Folders as they are now."""
    found = []
    for patient, entry_uuid, fragment in rows_at(connection, _APPROVED_FOLDERS, folders):
        touched = updated_at(cast(Folder, ebrim.read_fragment(fragment)), now)
        parameters = {
            "of_patient": patient,
            "id": entry_uuid,
            "time": now.padded(),
            "rendered": ebrim.write_object(touched),
        }
        _TOUCH.run(connection, [parameters])
        found.append(touched)
    return found


def _deprecate_rows(connection: Connection, documents: Collection[Located]) -> None:
    for patient, entry_uuid, fragment in rows_at(connection, _APPROVED_DOCUMENTS, documents):
        deprecated = replace(ebrim.read_fragment(fragment), availability_status=DEPRECATED)
        parameters = {
            "of_patient": patient,
            "id": entry_uuid,
            "rendered": ebrim.write_object(deprecated),
        }
        _DEPRECATE.run(connection, [parameters])


def _approved_folders(connection: Connection, holders: Collection[str]) -> dict[str, Located]:
    """The Approved Folders among objects that hold members."""
    located = locate(connection, holders)
    folders = [found for found in located.values() if found.kind == schema.FOLDER]
    approved = rows_at(connection, _APPROVED_FOLDERS, folders)
    return {entry_uuid: located[entry_uuid] for _, entry_uuid, _ in approved}
