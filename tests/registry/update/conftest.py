"""Words to change what a registry holds, and to see what came of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import count
from typing import Any

import pytest
from sqlalchemy import Table, select

from metadata import ebrim
from metadata import identifiers as xds
from metadata.model import Association, DocumentEntry, Folder
from registry import schema
from transactions.registry_response import RegistryResponse
from transactions.stored_query import find_submission_sets

_numbers = count(1)
_TABLES = {
    schema.DOCUMENT: schema.document_entry,
    schema.FOLDER: schema.folder,
    schema.SUBMISSION_SET: schema.submission_set,
    schema.ASSOCIATION: schema.association,
}


@dataclass
class Change:
    """An update in the making; ``draft`` is the submission that carries it."""

    draft: Any

    def version(
        self,
        stored: DocumentEntry | Folder,
        *,
        previous: str | None = "",
        propagation: str | None = None,
        member: dict[str, Any] | None = None,
        **attributes: Any,
    ) -> Any:
        """A new version of ``stored``, which follows it unless told otherwise."""
        given = {"entry_uuid": f"new-{next(_numbers)}", "patient_id": self.draft.patient}
        new: Any = replace(stored, **{**given, **attributes})
        is_document = isinstance(new, DocumentEntry)
        kind = self.draft.submission.documents if is_document else self.draft.submission.folders
        kind.append(new)
        slots = {
            "submission_set_status": xds.ORIGINAL if is_document else None,
            "previous_version": stored.version if previous == "" else previous,
            "association_propagation": propagation,
            **(member or {}),
        }
        self.draft.link(xds.HAS_MEMBER, "set", new.entry_uuid, **slots)
        return new

    def status(self, target: str, original: str, new: str, **attributes: Any) -> Association:
        """An UpdateAvailabilityStatus."""
        slots = {"original_status": original, "new_status": new, **attributes}
        link: Association = self.draft.link(xds.UPDATE_AVAILABILITY_STATUS, "set", target, **slots)
        return link

    def deprecate(self, target: str) -> Association:
        return self.status(target, xds.APPROVED, xds.DEPRECATED)

    def restore(self, target: str) -> Association:
        return self.status(target, xds.DEPRECATED, xds.APPROVED)

    def submit(self, kind: str, source: str, target: str) -> Association:
        """An association with the SubmitAssociation that asks for it."""
        link: Association = self.draft.link(kind, source, target)
        self.draft.link(xds.SUBMIT_ASSOCIATION, "set", link.entry_uuid)
        return link


class Office:
    """An administrator's view of a registry."""

    def __init__(self, house: Any) -> None:
        self.house = house

    def change(self, patient: str = "P1") -> Change:
        return Change(self.house.draft(patient))

    def update(self, change: Change, restricted: bool = False) -> RegistryResponse:
        registry = self.house.registry
        perform = registry.restricted_update if restricted else registry.update
        response: RegistryResponse = perform(change.draft.request())
        return response

    def accept(self, change: Change, restricted: bool = False) -> None:
        response = self.update(change, restricted)
        assert response.status == xds.SUCCESS, response.errors

    def errors(self, change: Change, restricted: bool = False) -> list[str]:
        """Update, insist on failure without a trace, and return the error codes."""
        before = self.everything()
        response = self.update(change, restricted)
        assert response.status == xds.FAILURE
        assert self.everything() == before
        return [error.code for error in response.errors]

    def updated(self, stored: Any, patient: str = "P1", **attributes: Any) -> Any:
        """The version that follows ``stored``, as it is registered."""
        change = self.change(patient)
        change.version(stored, **attributes)
        self.accept(change)
        return self.latest(stored.logical_id)

    # --- What is in the tables -----------------------------------------------------------------

    def everything(self) -> dict[str, list[Any]]:
        with self.house.database.read() as connection:
            return {
                table.name: sorted(map(tuple, connection.execute(select(table))))
                for table in schema.METADATA.sorted_tables
            }

    def rows(self, table: Table, **columns: Any) -> list[Any]:
        with self.house.database.read() as connection:
            conditions = [table.c[name] == value for name, value in columns.items()]
            return list(connection.execute(select(table).where(*conditions)))

    def row(self, entry_uuid: str) -> Any:
        """The row of an object, which lies where the table of objects says."""
        [place] = self.rows(schema.object_, entry_uuid=entry_uuid)
        [row] = self.rows(_TABLES[place.kind], entry_uuid=entry_uuid, patient=place.patient)
        return row

    def stored(self, entry_uuid: str) -> Any:
        """An object as it is answered, which must agree with its row."""
        row = self.row(entry_uuid)
        obj = ebrim.read_fragment(row.ebrim)
        assert (obj.availability_status or "").endswith(f":{row.status}")
        return obj

    def versions(self, logical_id: str) -> list[tuple[int, str]]:
        rows = self.rows(schema.revision, logical_id=logical_id)
        return sorted((row.version, row.entry_uuid) for row in rows)

    def latest(self, logical_id: str) -> Any:
        versions = self.versions(logical_id)
        return self.stored(versions[-1][1] if versions else logical_id)

    def links(self, *ends: str, status: str = schema.APPROVED) -> list[Association]:
        """The memberships of Folders and relationships at these objects, with one status."""
        found: dict[str, Association] = {}
        for column in ("source", "target"):
            for end in ends:
                for row in self.rows(schema.association, **{column: end}, status=status):
                    [source] = self.rows(schema.object_, entry_uuid=row.source)
                    if source.kind != schema.SUBMISSION_SET:
                        found[row.entry_uuid] = self.stored(row.entry_uuid)
        return list(found.values())

    def pairs(self, *ends: str, status: str = schema.APPROVED) -> set[tuple[str, str, str]]:
        """The same as type, source and target."""
        return {
            (link.type_name, link.source, link.target) for link in self.links(*ends, status=status)
        }

    def set_of(self, change: Change) -> Any:
        """The SubmissionSet of an update."""
        found = self.house.answer(find_submission_sets(change.draft.patient)).submission_sets
        [package] = [one for one in found if one.unique_id == change.draft.set.unique_id]
        return package

    def held_by(self, change: Change) -> set[str]:
        """What the SubmissionSet of an update holds by HasMember."""
        package = self.set_of(change).entry_uuid
        rows = self.rows(schema.association, source=package, type=xds.HAS_MEMBER)
        return {row.target for row in rows}


@pytest.fixture
def office(house: Any) -> Office:
    return Office(house)
