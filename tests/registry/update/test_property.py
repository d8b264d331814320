"""Whatever administrators and sources do, in whatever order, the registry stays whole."""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection

from metadata import ebrim
from metadata import identifiers as xds
from metadata.datatypes import new_uuid_urn
from registry import schema
from transactions.iti_62 import RemoveObjectsRequest

ACTIONS = ("register", "file", "replace", "update", "move", "deprecate", "restore", "remove")
# An action, which objects it is about, whether new versions inherit.
STEPS = st.lists(
    st.tuples(st.sampled_from(ACTIONS), st.integers(0, 30), st.integers(0, 30), st.booleans()),
    min_size=6,
    max_size=20,
)


class Play:
    """One sequence of steps over one registry."""

    def __init__(self, office: Any) -> None:
        self.office = office
        self.done = 0

    def pick(self, number: int, *tables: Any) -> Any:
        """Some object of these tables, None when they are empty."""
        found = sorted(row.entry_uuid for table in tables for row in self.office.rows(table))
        return self.office.stored(found[number % len(found)]) if found else None

    def step(self, action: str, one: int, other: int, propagate: bool) -> None:
        document = self.pick(one, schema.document_entry)
        folder = self.pick(other, schema.folder)
        if action == "register" or document is None or folder is None:
            self.register(one)
        elif action == "file":
            self.submit("file", document, folder)
        elif action == "replace":
            self.submit("replace", document, folder)
        elif action == "remove":
            self.remove(one, other)
        else:
            self.change(action, document if one % 2 else folder, propagate)

    def register(self, number: int) -> None:
        draft = self.office.house.draft(f"P{1 + number % 2}")
        document, folder = draft.document(), draft.folder()
        draft.file(document.entry_uuid, folder.entry_uuid)
        self.office.house.accept(draft)

    def submit(self, action: str, document: Any, folder: Any) -> None:
        draft = self.office.house.draft(document.patient_id.partition("^")[0])
        new = draft.document()
        if action == "file":
            draft.file(new.entry_uuid, folder.entry_uuid)
        else:
            draft.link(xds.RPLC, new.entry_uuid, document.entry_uuid)
        self.done += self.office.house.submit(draft).status == xds.SUCCESS

    def change(self, action: str, target: Any, propagate: bool) -> None:
        patient = target.patient_id.partition("^")[0]
        change = self.office.change(
            {"P1": "P2", "P2": "P1"}[patient] if action == "move" else patient
        )
        if action in ("update", "move"):
            change.version(
                target, entry_uuid=new_uuid_urn(), propagation="yes" if propagate else "no"
            )
        else:
            getattr(change, action)(target.entry_uuid)
        self.done += self.office.update(change).status == xds.SUCCESS

    def remove(self, one: int, other: int) -> None:
        """An object with all that refers to it, however far."""
        start = self.pick(one, schema.association, schema.document_entry, schema.submission_set)
        going, found = {start.entry_uuid}, {start.entry_uuid}
        while found:
            found = {
                row.entry_uuid
                for row in self.office.rows(schema.association)
                if {row.source, row.target} & going
            } - going
            going |= found
        names = sorted(going)[: None if other % 3 else -1] or sorted(going)
        response = self.office.house.registry.remove(RemoveObjectsRequest(names))
        self.done += response.status == xds.SUCCESS


def whole(office: Any) -> None:
    """What must be true of every registry."""
    places = {row.entry_uuid: row for row in office.rows(schema.object_)}
    links = office.rows(schema.association)
    sets = {row.entry_uuid for row in office.rows(schema.submission_set)}
    stored: dict[str, Any] = {
        row.entry_uuid: ebrim.read_fragment(row.ebrim)
        for table in (schema.document_entry, schema.folder, schema.submission_set)
        for row in office.rows(table)
    }
    held = {row.target for row in links if row.source in sets}
    for row in links:
        assert {row.source, row.target} <= places.keys()
        if row.type == xds.HAS_MEMBER and row.source not in sets:
            assert row.entry_uuid in held
    logical: dict[str, list[Any]] = {}
    for table in (schema.document_entry, schema.folder):
        for row in office.rows(table):
            assert row.entry_uuid in held
            logical.setdefault(stored[row.entry_uuid].logical_id, []).append(row)
    for name, rows in logical.items():
        rows.sort(key=lambda row: int(stored[row.entry_uuid].version))
        assert all(row.status == schema.DEPRECATED for row in rows[:-1])
        assert [row.level for row in rows] == [schema.HIDDEN] * (len(rows) - 1) + [schema.SHOWN]
        recorded = [entry_uuid for _, entry_uuid in office.versions(name)]
        assert recorded in ([row.entry_uuid for row in rows], [] if len(rows) == 1 else None)
    for row in links:
        if row.source in sets:
            continue
        ends = [stored[row.source], stored[row.target]]
        approved = [end.availability_status == xds.APPROVED for end in ends]
        if row.status == schema.APPROVED and all(approved):
            assert ends[0].patient_id == ends[1].patient_id
    for row in office.rows(schema.identity):
        assert stored[row.entry_uuid].unique_id == row.unique_id
    for table in (schema.namesake, schema.attribute_value, schema.reach, schema.revision):
        assert {row.entry_uuid for row in office.rows(table)} <= places.keys()


@given(steps=STEPS)
@settings(
    max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_a_registry_stays_whole(office: Any, steps: list[tuple[str, int, int, bool]]) -> None:
    def empty(connection: Connection) -> None:
        for table in schema.METADATA.sorted_tables:
            if table is not schema.patient:
                connection.execute(table.delete())

    office.house.database.write(empty)
    play = Play(office)
    play.register(0)
    for step in steps:
        play.step(*step)
        whole(office)
