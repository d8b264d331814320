"""Does a statement say where its rows lie? Told from the statement itself, not from its plan.

A table that a distributed database places by a column is *placed* in a statement if that column is
compared with a value, with a list of values, or with a column of another table that is placed.
A reference table, which every machine has in full, places what it is joined with once one of
its own columns is compared.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from sqlalchemy import Table
from sqlalchemy.sql import Insert, operators, visitors
from sqlalchemy.sql.elements import BinaryExpression, BindParameter, ColumnClause, TextClause
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.sql.selectable import SelectBase

_EQUAL = (operators.eq, operators.in_op)

# The column by which each table is placed; None for a table that every machine has in full.
Placement = Mapping[str, str | None]

# A table in a statement, and a column of it.
Place = tuple[str, str]


def unplaced(statement: Any, placement: Placement) -> set[str]:
    """The tables in ``statement`` of which it does not say where its rows lie."""
    if isinstance(statement, TextClause):
        return set() if statement.text.startswith("INSERT INTO ") else {statement.text}
    if isinstance(statement, Insert):
        return set()  # a new row has every column
    known = _known(statement, placement)
    tables = {table for table in _tables(statement) if placement[table] is not None}
    return {table for table in tables if (table, str(placement[table])) not in known}


def _tables(statement: Any) -> Iterator[str]:
    for element in visitors.iterate(statement):
        table = element if isinstance(element, Table) else getattr(element, "table", None)
        if isinstance(table, Table):  # of a column, or the one that is changed
            yield table.name


def _known(statement: Any, placement: Placement) -> set[Place]:
    """Every column that is compared with a value, at once or by way of others."""
    known: set[Place] = set()
    equal: list[tuple[Place, Place]] = []
    for element in visitors.iterate(statement):
        if isinstance(element, FunctionElement) and element.name == "among":
            column = next(iter(element.clauses))
            known |= {_place(column)}
        elif isinstance(element, BinaryExpression) and element.operator in _EQUAL:
            left, right = element.left, _compared(element.right)
            if isinstance(left, ColumnClause) and _constant(right):
                known.add(_place(left))
            elif isinstance(left, ColumnClause) and isinstance(right, ColumnClause):
                equal.append((_place(left), _place(right)))
    while grown := _reached(known, equal, placement) - known:
        known |= grown
    return known


def _reached(
    known: set[Place], equal: list[tuple[Place, Place]], placement: Placement
) -> set[Place]:
    whole = {table for table, _ in known if placement.get(table, "") is None}
    reached = set()
    for one, other in (*equal, *((b, a) for a, b in equal)):
        if one in known or one[0] in whole:
            reached.add(other)
    return reached


def _compared(right: Any) -> Any:
    """What a column is compared with: of a subquery, the one column that it selects."""
    select = getattr(right, "element", right)
    return next(iter(select.selected_columns)) if isinstance(select, SelectBase) else right


def _constant(right: Any) -> bool:
    """A bound value, or one that stands in the statement's text."""
    written = isinstance(right, ColumnClause) and right.table is None
    return written or isinstance(right, BindParameter)


def _place(column: Any) -> Place:
    table = getattr(column.table, "element", column.table)  # by any other name
    return (table.name, column.name)
