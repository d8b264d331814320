"""Registered objects as they stand, their rows locked if need be.

For those who change what is registered: rows are locked in the order of
``registry.surroundings``, DocumentEntries, Folders, Associations, each by entryUUID.
SubmissionSets never change; they can only go.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from sqlalchemy import Connection, literal

from metadata import ebrim
from metadata.model import AnyObject
from registry import schema
from registry.lookup import Located, rows_at
from registry.schema import association, document_entry, folder, submission_set
from registry.surroundings import by_key, with_and_without_locks

_SHOWN = literal(schema.SHOWN)
_STATEMENTS = {
    kind: with_and_without_locks(
        by_key(table, table.c.entry_uuid, table.c.status, table.c.ebrim, level)
    )
    for kind, table, level in (
        (schema.DOCUMENT, document_entry, document_entry.c.level),
        (schema.FOLDER, folder, folder.c.level),
        (schema.ASSOCIATION, association, _SHOWN),
        (schema.SUBMISSION_SET, submission_set, _SHOWN),
    )
}


class Held(NamedTuple):
    """A registered object; ``status`` and ``level`` are those of its row."""

    place: Located
    status: str
    level: int
    obj: AnyObject


def hold(connection: Connection, places: Iterable[Located], lock: bool) -> dict[str, Held]:
    """The objects at these places, by entryUUID; with ``lock`` they stay so until the commit."""
    by_kind: dict[str, dict[str, Located]] = {kind: {} for kind in _STATEMENTS}
    for place in places:
        by_kind[place.kind][place.entry_uuid] = place
    return {
        entry_uuid: Held(by_kind[kind][entry_uuid], status, level, ebrim.read_fragment(fragment))
        for kind, statements in _STATEMENTS.items()
        for entry_uuid, status, fragment, level in rows_at(
            connection, statements[lock], by_kind[kind].values()
        )
    }
