"""Every statement of the hot paths says where its rows lie: see docs/scale.md.

The statements are caught as they are run, whatever the engine; the document's table of what is
placed by which column is the one that they are judged by.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import bindparam, select
from sqlalchemy.dialects import postgresql

from metadata import identifiers as xds
from metadata.datatypes import CXi
from registry.schema import METADATA, attribute_value, document_entry, patient
from registry.subscriptions import outbox
from repository import documents
from repository import schema as repository_schema
from storage.operators import among
from storage.statement import Statement
from tests.registry.placement import Placement, unplaced
from tests.registry.update.conftest import Office
from transactions.iti_18 import AdhocQueryRequest
from transactions.iti_62 import RemoveObjectsRequest
from transactions.stored_query import (
    find_documents,
    find_documents_by_reference_id,
    find_folders,
    find_submission_sets,
    get_all,
    get_associations,
    get_documents,
    get_documents_and_associations,
    get_folder_and_contents,
    get_folders,
    get_folders_for_document,
    get_related_documents,
    get_submission_set_and_contents,
)

PAGE = Path(__file__).parents[2] / "docs" / "scale.md"


def placement() -> dict[str, str | None]:
    """The table of the page: | `table` | `column` or everywhere | ... |."""
    rows = re.findall(r"^\| `(\w+)` \| (?:`(\w+)`|everywhere) \|", PAGE.read_text(), re.MULTILINE)
    return {table: column or None for table, column in rows}


def sql(clause: Any) -> str:
    """The statement as PostgreSQL gets it."""
    return str(clause.compile(dialect=postgresql.dialect()))  # type: ignore[no-untyped-call]


def astray(clauses: Iterable[Any]) -> dict[str, set[str]]:
    """The statements that do not say where their rows lie, and in which tables."""
    return {sql(one): found for one in clauses if (found := unplaced(one, placement()))}


def test_the_page_places_every_table() -> None:
    tables = {**METADATA.tables, **repository_schema.METADATA.tables}
    assert set(placement()) == set(tables)
    assert all(column is None or column in tables[name].c for name, column in placement().items())


def test_a_table_is_placed_by_the_first_column_of_its_key() -> None:
    """So that what a machine of a distributed database must be told is what the key begins with."""
    tables = {**METADATA.tables, **repository_schema.METADATA.tables}
    for name, column in placement().items():
        if column is not None:
            assert next(iter(tables[name].primary_key)).name == column


# Run by a notifier, which other tests of this process may share all the while, in whichever thread
# commits at that moment.
_OF_NOTIFIERS = {id(one.clause) for one in vars(outbox).values() if isinstance(one, Statement)}


@pytest.fixture
def caught(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The clause of every statement that the registry runs from now on, not those of a notifier."""
    clauses: list[Any] = []
    rows, run = Statement.rows, Statement.run

    def catch(clause: Any) -> None:
        if id(clause) not in _OF_NOTIFIERS:
            clauses.append(clause)

    def catch_rows(self: Statement, connection: Any, parameters: Any) -> Any:
        catch(self.clause)
        return rows(self, connection, parameters)

    def catch_run(self: Statement, connection: Any, new: Any) -> Any:
        catch(self.clause)
        return run(self, connection, new)

    monkeypatch.setattr(Statement, "rows", catch_rows)
    monkeypatch.setattr(Statement, "run", catch_run)
    return clauses


def register(house: Any) -> None:
    """A document in a folder, its replacement, an addendum to that."""
    old, shelf = house.filed()
    draft = house.draft()
    new = draft.document()
    draft.link(xds.RPLC, new.entry_uuid, old.entry_uuid)
    house.accept(draft)
    replaced = house.document(new.unique_id)
    addition = house.draft()
    addition.link(xds.APND, addition.document().entry_uuid, replaced.entry_uuid)
    addition.file(addition.document().entry_uuid, shelf.entry_uuid)
    house.accept(addition)


def ask(house: Any, request: AdhocQueryRequest) -> None:
    response = house.registry.query(request)
    assert response.status == xds.SUCCESS, response.errors


def find(house: Any) -> None:
    for leaf_class in (True, False):
        kind = "LeafClass" if leaf_class else "ObjectRef"
        ask(
            house,
            find_documents(
                house.patient,
                class_code=[house.code("class")],
                event_code_list=[house.code("event")],
                author_person=["%Welby%"],
                creation_time_from="2020",
                return_type=kind,
            ),
        )
    reference = CXi.of("1", xds.ACCESSION_REFERENCE, None)
    ask(house, find_documents_by_reference_id(house.patient, [reference]))
    ask(house, find_submission_sets(house.patient))
    ask(house, find_folders(house.patient))
    ask(house, get_all(house.patient))
    assert house.query_errors(find_documents(house.cx("nobody"))) == ["XDSUnknownPatientId"]


def get(house: Any) -> None:
    document, shelf = house.filed()
    ask(house, get_documents(unique_id=[document.unique_id]))
    ask(house, get_documents(entry_uuid=[document.entry_uuid]))
    ask(house, get_associations([document.entry_uuid]))
    ask(house, get_documents_and_associations(entry_uuid=[document.entry_uuid]))
    ask(house, get_folders(entry_uuid=[shelf.entry_uuid]))
    ask(house, get_folder_and_contents(entry_uuid=shelf.entry_uuid))
    ask(house, get_folders_for_document(entry_uuid=document.entry_uuid))
    ask(house, get_related_documents([xds.RPLC], entry_uuid=document.entry_uuid))
    [one] = house.answer(find_submission_sets(house.patient)).submission_sets
    ask(house, get_submission_set_and_contents(unique_id=one.unique_id))


def administer(house: Any) -> None:
    """A document with a new version, deprecated and approved again; another submission removed."""
    office = Office(house)
    old, _ = house.filed()
    new = office.updated(old)
    gone, back = office.change(), office.change()
    gone.deprecate(new.entry_uuid)
    office.accept(gone)
    back.restore(new.entry_uuid)
    office.accept(back)
    draft = house.draft()
    draft.document()
    house.accept(draft)
    submission = house.answer(get_submission_set_and_contents(unique_id=draft.set.unique_id))
    names = tuple(obj.entry_uuid for obj in submission.objects())
    response = house.registry.remove(RemoveObjectsRequest(names))
    assert response.status == xds.SUCCESS, response.errors


def feed(house: Any) -> None:
    house.feed("A01", "P7")
    house.feed("A08", "P7")


@pytest.mark.parametrize(
    ("way", "least"), [(register, 15), (find, 5), (get, 8), (feed, 2), (administer, 20)]
)
def test_every_statement_of_a_hot_path_says_where_its_rows_lie(
    house: Any, caught: list[Any], way: Callable[[Any], None], least: int
) -> None:
    way(house)
    assert len({sql(clause) for clause in caught}) >= least
    assert astray(caught) == {}


def test_every_statement_of_a_merge_does_so_too(house: Any, caught: list[Any]) -> None:
    house.filed()
    house.feed("A40", "P2", subsumed="P1")
    assert astray(caught) == {}


def repository_statements() -> Iterable[Any]:
    """What ITI-41 and ITI-43 run; reconciliation, which looks at everything, is not among it."""
    return (
        *(documents._CLAIM.values()),
        documents._CONFIRM,
        documents._UNCLAIM,
        documents._DELETE_UNCLAIMED,
        documents._FIND,
        documents._FIND_ONE,
    )


def test_the_repository_asks_by_unique_id() -> None:
    assert astray(repository_statements()) == {}


PLACED: Placement = {"document_entry": "patient", "attribute_value": "patient", "patient": None}
_DOCUMENT, _VALUE = document_entry.c, attribute_value.c
_JOINED = select(_DOCUMENT.ebrim).join_from(
    patient, document_entry, _DOCUMENT.patient == patient.c.id
)
_ANYONE = select(patient.c.id)
_CHAIN = _ANYONE.where(patient.c.survivor == bindparam("p"))


@pytest.mark.parametrize(
    ("statement", "astray"),
    [
        (select(_DOCUMENT.ebrim), {"document_entry"}),
        (select(_DOCUMENT.ebrim).where(among(_DOCUMENT.entry_uuid, "ids")), {"document_entry"}),
        (select(_DOCUMENT.ebrim).where(_DOCUMENT.patient > bindparam("p")), {"document_entry"}),
        (select(_DOCUMENT.ebrim).where(_DOCUMENT.patient == bindparam("p")), set()),
        (select(_DOCUMENT.ebrim).where(among(_DOCUMENT.patient, "patients")), set()),
        (select(_DOCUMENT.ebrim).where(_DOCUMENT.patient.in_(_CHAIN)), set()),
        (select(_DOCUMENT.ebrim).where(_DOCUMENT.patient.in_(_ANYONE)), {"document_entry"}),
        (_JOINED, {"document_entry"}),
        (_JOINED.where(patient.c.survivor == bindparam("p")), set()),
        (
            select(_DOCUMENT.ebrim).where(
                _DOCUMENT.patient == bindparam("p"),
                select(_VALUE.value)
                .where(_VALUE.entry_uuid == _DOCUMENT.entry_uuid)
                .correlate(document_entry)
                .exists(),
            ),
            {"attribute_value"},
        ),
        (document_entry.update().where(_DOCUMENT.entry_uuid == bindparam("i")), {"document_entry"}),
        (document_entry.delete().where(_DOCUMENT.patient == bindparam("p")), set()),
    ],
)
def test_a_statement_that_does_not_say_so_is_found(statement: Any, astray: set[str]) -> None:
    assert unplaced(statement, PLACED) == astray
