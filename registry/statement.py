"""The one way in which this room talks to its database: statements made once, run often.

A query takes some 60 microseconds in SQLite, and executing it through SQLAlchemy half as much
again; a registration runs eight statements. So on SQLite a statement is compiled once and its
text given to the driver. On PostgreSQL, where a statement travels to another process,
SQLAlchemy executes it, and translates the driver's errors, which tell collisions apart.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import itemgetter
from typing import Any, cast

import psycopg
from psycopg.sql import SQL, Identifier
from sqlalchemy import BigInteger, Connection, Integer, LargeBinary, Table, Text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.sql.base import Executable
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.elements import ClauseElement

Parameters = Mapping[str, Any]

# Rows taken at once from PostgreSQL: some 3 MB of whole objects, 6 in hexadecimal.
PORTION = 500


class Statement:
    """A statement of SQLAlchemy Core whose every value is a parameter or a constant of its own.

    Results are plain tuples: nothing in this room needs a type that drivers do not give. All
    methods raise what SQLAlchemy raises, whichever engine runs the statement.
    """

    __slots__ = ("_prepared", "clause")

    def __init__(self, clause: Executable) -> None:
        self.clause = clause
        self._prepared: _Prepared | None = None

    def rows(self, connection: Connection, parameters: Parameters) -> list[Any]:
        """All rows of the result, each a tuple."""
        if connection.dialect.name != "sqlite":
            return [tuple(row) for row in connection.execute(self.clause, dict(parameters))]
        prepared = self._prepared or self._prepare(connection)
        try:
            return _driver(connection).execute(prepared.sql, prepared.values(parameters)).fetchall()
        except sqlite3.Error as error:
            raise prepared.failed(error) from error

    def many(self, connection: Connection, parameters: Parameters) -> list[Any]:
        """The rows of a statement with ``:limit`` that may bring thousands of whole objects.

        PostgreSQL's driver holds a result as it came, bytes spelled in hexadecimal digits, beside
        what is made of it. So only a small one is taken at once, in one exchange with the
        server; a large one is asked for again and taken in portions.
        """
        few = min(parameters["limit"], PORTION + 1)
        if connection.dialect.name == "sqlite" or few == parameters["limit"]:
            return self.rows(connection, parameters)
        found = self.rows(connection, {**parameters, "limit": few})
        if len(found) < few:
            return found
        options = {"yield_per": PORTION}
        result = connection.execute(self.clause, dict(parameters), execution_options=options)
        return [tuple(row) for row in result]

    def run(self, connection: Connection, rows: Iterable[Parameters]) -> int:
        """Execute once for each of ``rows``; how many rows of the table were changed in all."""
        if connection.dialect.name != "sqlite":
            given = [dict(row) for row in rows]
            return connection.execute(self.clause, given).rowcount if given else 0
        prepared = self._prepared or self._prepare(connection)
        try:
            return (
                _driver(connection).executemany(prepared.sql, map(prepared.values, rows)).rowcount
            )
        except sqlite3.Error as error:
            raise prepared.failed(error) from error

    def _prepare(self, connection: Connection) -> _Prepared:
        self._prepared = _Prepared(self.clause, connection)
        return self._prepared


# PostgreSQL's names for the types of our columns.
_TYPES = {Text: "text", Integer: "int4", BigInteger: "int8", LargeBinary: "bytea"}


def copy_rows(connection: Connection, table: Table, rows: Sequence[Parameters]) -> None:
    """Insert many rows of one make by PostgreSQL's COPY, in its binary form: bytes as they are.

    Raises what SQLAlchemy raises.
    """
    if not rows:
        return
    names = list(rows[0])
    values = itemgetter(*names)
    columns = SQL(", ").join(map(Identifier, names))
    command = SQL("COPY {} ({}) FROM STDIN (FORMAT BINARY)").format(Identifier(table.name), columns)
    driver = cast("psycopg.Connection[Any]", connection.connection.driver_connection)
    try:
        with driver.cursor() as cursor, cursor.copy(command) as copy:
            copy.set_types([_TYPES[type(table.c[name].type)] for name in names])
            for row in rows:
                copy.write_row(values(row))
    except psycopg.Error as error:
        name = f"COPY {table.name}"
        raise DBAPIError.instance(name, None, error, psycopg.Error, hide_parameters=True) from error


class _Prepared:
    """A statement as SQLite's driver takes it: text, and a function that puts values in order."""

    __slots__ = ("sql", "values")

    def __init__(self, clause: Executable, connection: Connection) -> None:
        compiled = cast(ClauseElement, clause).compile(dialect=connection.dialect)
        if not isinstance(compiled, SQLCompiler):
            raise TypeError("only statements that take values are run often")
        self.sql = str(compiled)
        # SQLAlchemy shows no other way to the converters of its types.
        self.values = _arranging(
            compiled.positiontup or [], dict(compiled.params), dict(compiled._bind_processors)
        )

    def failed(self, error: sqlite3.Error) -> BaseException:
        """The error as SQLAlchemy would raise it, without the values: they are health data."""
        return DBAPIError.instance(self.sql, None, error, sqlite3.Error, hide_parameters=True)


def _arranging(
    names: Sequence[str], defaults: Parameters, converters: Mapping[str, Any]
) -> Callable[[Parameters], Sequence[Any]]:
    """A function from parameters by name to values in order."""
    constants = {name: value for name, value in defaults.items() if value is not None}
    if len(names) > 1 and not constants and not converters:
        return itemgetter(*names)  # inserts: three times as fast

    def arrange(parameters: Parameters) -> Sequence[Any]:
        given = {**constants, **parameters}
        return [
            converters[name](given[name]) if name in converters else given[name] for name in names
        ]

    return arrange


def _driver(connection: Connection) -> sqlite3.Connection:
    return cast(sqlite3.Connection, connection.connection.driver_connection)
