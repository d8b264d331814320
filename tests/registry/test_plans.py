"""No stored query reads a whole table: every statement of each walks an index, on both engines."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any, cast

import pytest
from sqlalchemy import ClauseElement, Connection, Index, text
from sqlalchemy.sql.compiler import SQLCompiler

from metadata import identifiers as xds
from metadata.affinity_domain import AffinityDomain
from registry import Registry
from registry.schema import METADATA
from storage.statement import Statement
from transactions import stored_query as ask
from transactions.iti_18 import AdhocQueryRequest
from transactions.query_catalogue import MULTI_PATIENT_QUERIES, STORED_QUERIES

# Enough that PostgreSQL prefers a scan of the table where there is no better way.
PATIENTS, EACH = 200, 10

# The first column of every index.
LEADING = {
    str(index.name): next(iter(index.columns)).name
    for table in METADATA.sorted_tables
    for index in cast(list[Index], [*table.indexes, table.primary_key])
}

Ran = list[tuple[Statement, Mapping[str, Any]]]


def requests(house: Any) -> Iterator[AdhocQueryRequest]:
    """The sixteen queries, in the shapes that take different ways."""
    patient, code = house.cx("F1"), house.code
    document, folder = f"urn:uuid:document-{patient}-3", f"urn:uuid:folder-{patient}-3"
    yield ask.find_documents(patient)
    yield ask.find_documents(patient, class_code=[code("class-1")], creation_time_from="2025")
    yield ask.find_documents(patient, event_code_list=[[code("event-1")], [code("event-2")]])
    yield ask.find_documents(patient, author_person=["%Welby%"], document_availability=["x"])
    yield ask.find_documents_by_reference_id(patient, ["reference-3"])
    yield ask.find_documents_by_reference_id(patient, [["reference-%"], ["reference-3"]])
    yield ask.find_submission_sets(patient, source_id=["1.2"], author_person="%")
    yield ask.find_folders(patient, code_list=[code("folder-1")], last_update_time_to="2027")
    yield ask.get_all(patient)
    yield ask.get_documents(entry_uuid=[document])
    yield ask.get_documents(unique_id=["1.2.3"])
    yield ask.get_documents(logical_id=[document])
    yield ask.get_folders(entry_uuid=[folder])
    yield ask.get_folders(logical_id=[folder])
    yield ask.get_associations([document])
    yield ask.get_documents_and_associations(entry_uuid=[document])
    yield ask.get_submission_sets([document, folder])
    yield ask.get_submission_set_and_contents(entry_uuid=f"urn:uuid:set-{patient}-3")
    yield ask.get_folder_and_contents(entry_uuid=folder)
    yield ask.get_folders_for_document(entry_uuid=document)
    yield ask.get_related_documents([xds.RPLC, xds.HAS_MEMBER], entry_uuid=document)
    across = ask.find_documents_for_multiple_patients
    yield across([patient, house.cx("F2")], event_code_list=[code("event-1")])
    yield across(class_code=[code("class-1")], creation_time_from="2025")
    yield across(healthcare_facility_type_code=[code("facility-1")])
    yield across(event_code_list=[code("event-1")])
    yield across(event_code_list=[[code("event-1")], [code("event-2")]], class_code=[code("x")])
    yield ask.find_folders_for_multiple_patients([patient])
    yield ask.find_folders_for_multiple_patients(code_list=[code("folder-1")])


@pytest.fixture
def filled(house: Any, fill: Callable[[str, range], None]) -> Any:
    for number in range(PATIENTS):
        fill(f"F{number}", range(number * EACH, (number + 1) * EACH))
    if house.database.backend == "postgresql":
        house.database.write(lambda connection: connection.execute(text("ANALYZE")).rowcount)
    return house


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> Ran:
    """The statements that the registry runs, with their values.

    Not those of a notifier, which other tests of this process may share all the while.
    """
    noted: Ran = []
    rows = Statement.rows

    def noting(self: Statement, connection: Connection, parameters: Any) -> list[Any]:
        if threading.current_thread().name != "notifier":
            noted.append((self, dict(parameters)))
        return rows(self, connection, parameters)

    monkeypatch.setattr(Statement, "rows", noting)
    return noted


def ask_all(house: Any) -> None:
    domain = AffinityDomain(house.domain.assigning_authority, max_results=100_000)
    registry = Registry(house.database, domain)
    asked = set()
    for request in requests(house):
        across = request.query_id in MULTI_PATIENT_QUERIES
        response = registry.query_patients(request) if across else registry.query(request)
        assert response.status == xds.SUCCESS, response.errors
        asked.add(request.query_id)
    assert asked == STORED_QUERIES.keys() | MULTI_PATIENT_QUERIES.keys()


def test_every_query_takes_a_fixed_number_of_statements(filled: Any, ran: Ran) -> None:
    ask_all(filled)
    for small, large in (
        (ask.get_all(filled.cx("F1")), ask.get_all(filled.cx("F2"))),
        (
            ask.get_submission_sets([f"urn:uuid:document-{filled.cx('F1')}-11"]),
            ask.get_submission_sets(
                [f"urn:uuid:document-{filled.cx('F1')}-{number}" for number in range(10, 20)]
            ),
        ),
    ):
        counts = []
        for request in (small, large):
            ran.clear()
            assert filled.registry.query(request).status == xds.SUCCESS
            counts.append(len(ran))
        assert counts[0] == counts[1] <= 6


def test_no_statement_reads_a_whole_table(filled: Any, ran: Ran) -> None:
    ask_all(filled)
    check = _scans_of_sqlite if filled.database.backend == "sqlite" else _scans_of_postgresql
    with filled.database.read() as connection:
        scans = {
            str(_compiled(connection, statement)): found
            for statement, parameters in list(ran)
            if (found := check(connection, statement, parameters))
        }
    assert not scans


def _compiled(connection: Connection, statement: Statement) -> SQLCompiler:
    compiled = cast(ClauseElement, statement.clause).compile(dialect=connection.dialect)
    assert isinstance(compiled, SQLCompiler)
    return compiled


def _scans_of_sqlite(connection: Connection, statement: Statement, _given: Any) -> list[str]:
    compiled = _compiled(connection, statement)
    values = tuple(None for _ in compiled.positiontup or ())
    plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {compiled}", values).all()
    tables = tuple(f"SCAN {name}" for name in METADATA.tables)
    return [row[3] for row in plan if row[3].startswith(tables)]


def _scans_of_postgresql(
    connection: Connection, statement: Statement, given: Mapping[str, Any]
) -> list[str]:
    compiled = _compiled(connection, statement)
    values = {**compiled.params, **given}
    sql = f"EXPLAIN (FORMAT JSON) {compiled}"
    # Where a table is empty a scan costs nothing: what matters is that there is another way.
    connection.execute(text("SET LOCAL enable_seqscan = off"))
    [(plan,)] = connection.exec_driver_sql(sql, values).all()
    found = plan if isinstance(plan, list) else json.loads(plan)
    return list(_unguided(found[0]["Plan"]))


def _unguided(node: Mapping[str, Any]) -> Iterator[str]:
    """Scans of a table or of an index that no condition on the index's first column leads."""
    kind = node["Node Type"]
    by_index = kind in ("Index Scan", "Index Only Scan", "Bitmap Index Scan")
    if by_index and not re.search(
        rf"\b{LEADING[node['Index Name']]}\b", node.get("Index Cond", "")
    ):
        yield f"{kind} of {node['Index Name']}"
    if kind == "Seq Scan":
        yield f"{kind} of {node['Relation Name']}"
    for child in node.get("Plans", ()):
        yield from _unguided(child)
