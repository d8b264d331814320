"""How a hot path talks to its database: statements made once, run often.

A query takes some 60 microseconds in SQLite, and executing it through SQLAlchemy half as much
again; a registration runs eight statements. So a statement is compiled once and its text given
to the driver. PostgreSQL answers in its binary form: in the other, an object of 8 KB travels as
16 KB of hexadecimal digits.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from operator import itemgetter
from typing import Any, TypeVar, cast

import psycopg
from psycopg.pq import TransactionStatus
from psycopg.sql import SQL, Identifier
from sqlalchemy import BigInteger, Connection, Integer, LargeBinary, Table, Text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.sql.base import Executable
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.elements import ClauseElement

Parameters = Mapping[str, Any]
T = TypeVar("T")

# Values of one statement: well below SQLite's limit of 32,766.
VALUES_AT_ONCE = 1000

# Rows taken at once from PostgreSQL: some 3 MB of whole objects.
PORTION = 500


class Statement:
    """A statement of SQLAlchemy Core whose every value is a parameter or a constant of its own.

    Results are plain tuples: use it where no result needs a type that drivers do not give. All
    methods raise what SQLAlchemy raises, whichever engine runs the statement.
    """

    __slots__ = ("_prepared", "clause")

    def __init__(self, clause: Executable) -> None:
        self.clause = clause
        self._prepared: dict[str, _OnSQLite | _OnPostgreSQL] = {}

    def rows(self, connection: Connection, parameters: Parameters) -> list[Any]:
        """All rows of the result, each a tuple."""
        return self._on(connection).rows(connection, parameters)

    def many(self, connection: Connection, parameters: Parameters) -> list[Any]:
        """The rows of a statement with ``:limit`` that may bring thousands of whole objects.

        PostgreSQL's driver holds a result as it came beside what is made of it. So only a small
        one is taken at once, in one exchange with the server; a large one is asked for again
        and taken in portions.
        """
        prepared, few = self._on(connection), min(parameters["limit"], PORTION + 1)
        if isinstance(prepared, _OnSQLite) or few == parameters["limit"]:
            return self.rows(connection, parameters)
        found = self.rows(connection, {**parameters, "limit": few})
        return found if len(found) < few else prepared.in_portions(connection, parameters)

    def run(self, connection: Connection, rows: Iterable[Parameters]) -> int:
        """Execute once for each of ``rows``; how many rows of the table were changed in all."""
        return self._on(connection).run(connection, rows)

    def _on(self, connection: Connection) -> _OnSQLite | _OnPostgreSQL:
        name = connection.dialect.name
        if name not in self._prepared:
            prepare = _OnSQLite if name == "sqlite" else _OnPostgreSQL
            self._prepared[name] = prepare(_compiled(self.clause, connection))
        return self._prepared[name]


def in_portions(values: Iterable[T]) -> Iterator[list[T]]:
    """Values as one statement after the other takes them, in an IN or an executemany."""
    rest = iter(values)
    while portion := list(islice(rest, VALUES_AT_ONCE)):
        yield portion


@contextmanager
def one_exchange(connection: Connection) -> Iterator[None]:
    """What is run within waits for no answer but the last one: one way to PostgreSQL and back.

    For statements of which none needs another's result or count. Raises what SQLAlchemy raises,
    at the end at the latest.
    """
    if connection.dialect.name == "sqlite":
        yield
        return
    try:
        with _psycopg(connection).pipeline():
            yield
    except psycopg.Error as error:
        raise _failed("several statements", connection, error) from error


@contextmanager
def one_snapshot(connection: Connection) -> Iterator[None]:
    """A transaction of PostgreSQL in which all statements see one snapshot.

    It is committed, whatever ends it: at a ROLLBACK psycopg forgets every statement that it has
    prepared on the connection, and the server would parse and plan each anew. Raises what
    SQLAlchemy raises.
    """
    driver = _psycopg(connection)
    try:
        driver.execute("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        try:
            yield
        finally:
            if driver.info.transaction_status == TransactionStatus.INTRANS:
                driver.commit()  # what has failed in itself the pool undoes
    except psycopg.Error as error:
        raise _failed("a snapshot", connection, error) from error


# PostgreSQL's names for the types of our columns.
_TYPES = {Text: "text", Integer: "int4", BigInteger: "int8", LargeBinary: "bytea"}


def insert_many(connection: Connection, table: Table, rows: Sequence[Sequence[Any]]) -> None:
    """Insert many rows, each with the values of all columns of ``table`` in their order.

    On PostgreSQL by COPY in its binary form: bytes as they are. Raises what SQLAlchemy raises.
    """
    if not rows:
        return
    if connection.dialect.name == "sqlite":
        _execute_many(connection, table, rows)
    else:
        _copy(connection, table, rows)


def _execute_many(connection: Connection, table: Table, rows: Sequence[Sequence[Any]]) -> None:
    places = ", ".join("?" * len(table.columns))
    sql = f'INSERT INTO "{table.name}" ({", ".join(table.columns.keys())}) VALUES ({places})'
    driver = cast(sqlite3.Connection, connection.connection.driver_connection)
    try:
        driver.executemany(sql, rows)
    except sqlite3.Error as error:
        raise DBAPIError.instance(sql, None, error, sqlite3.Error, hide_parameters=True) from error


def _copy(connection: Connection, table: Table, rows: Sequence[Sequence[Any]]) -> None:
    columns = SQL(", ").join(map(Identifier, table.columns.keys()))
    command = SQL("COPY {} ({}) FROM STDIN (FORMAT BINARY)").format(Identifier(table.name), columns)
    try:
        with _psycopg(connection).cursor() as cursor, cursor.copy(command) as copy:
            copy.set_types([_TYPES[type(column.type)] for column in table.columns])
            for row in rows:
                copy.write_row(row)
    except psycopg.Error as error:
        raise _failed(f"COPY {table.name}", connection, error) from error


class _OnSQLite:
    """A statement as SQLite's driver takes it: text, and a function that puts values in order."""

    __slots__ = ("_sql", "_values")

    def __init__(self, compiled: SQLCompiler) -> None:
        self._sql = str(compiled)
        self._values = _arranging(compiled)

    def rows(self, connection: Connection, parameters: Parameters) -> list[Any]:
        """See ``Statement.rows``."""
        driver = cast(sqlite3.Connection, connection.connection.driver_connection)
        try:
            return driver.execute(self._sql, self._values(parameters)).fetchall()
        except sqlite3.Error as error:
            raise self._failed(error) from error

    def run(self, connection: Connection, rows: Iterable[Parameters]) -> int:
        """See ``Statement.run``."""
        driver = cast(sqlite3.Connection, connection.connection.driver_connection)
        try:
            return driver.executemany(self._sql, map(self._values, rows)).rowcount
        except sqlite3.Error as error:
            raise self._failed(error) from error

    def _failed(self, error: sqlite3.Error) -> BaseException:
        """The error as SQLAlchemy would raise it, without the values: they are health data."""
        return DBAPIError.instance(self._sql, None, error, sqlite3.Error, hide_parameters=True)


class _OnPostgreSQL:
    """A statement as psycopg takes it: text, and a function that completes its values."""

    __slots__ = ("_sql", "_values")

    def __init__(self, compiled: SQLCompiler) -> None:
        self._sql = str(compiled).encode()  # as bytes: no literal, which is what psycopg asks for
        self._values = _completing(compiled)

    def rows(self, connection: Connection, parameters: Parameters) -> list[Any]:
        """See ``Statement.rows``."""
        try:
            with _psycopg(connection).cursor(binary=True) as cursor:
                return cursor.execute(self._sql, self._values(parameters)).fetchall()
        except psycopg.Error as error:
            raise _failed(self._sql.decode(), connection, error) from error

    def in_portions(self, connection: Connection, parameters: Parameters) -> list[Any]:
        """All rows, of which the driver holds a portion at a time."""
        try:
            with _psycopg(connection).cursor(binary=True) as cursor:
                return list(cursor.stream(self._sql, self._values(parameters), size=PORTION))
        except psycopg.Error as error:
            raise _failed(self._sql.decode(), connection, error) from error

    def run(self, connection: Connection, rows: Iterable[Parameters]) -> int:
        """See ``Statement.run``."""
        given = list(map(self._values, rows))
        if not given:
            return 0
        try:
            with _psycopg(connection).cursor() as cursor:
                if len(given) == 1:
                    return cursor.execute(self._sql, given[0]).rowcount
                cursor.executemany(self._sql, given)
                return cursor.rowcount
        except psycopg.Error as error:
            raise _failed(self._sql.decode(), connection, error) from error


def _compiled(clause: Executable, connection: Connection) -> SQLCompiler:
    compiled = cast(ClauseElement, clause).compile(dialect=connection.dialect)
    if not isinstance(compiled, SQLCompiler):
        raise TypeError("only statements that take values are run often")
    return compiled


def _psycopg(connection: Connection) -> psycopg.Connection[Any]:
    return cast("psycopg.Connection[Any]", connection.connection.driver_connection)


def _failed(sql: str, connection: Connection, error: psycopg.Error) -> BaseException:
    """The error as SQLAlchemy would raise it; a connection that broke is not used again."""
    broken = _psycopg(connection).closed
    if broken:
        connection.invalidate(error)
    return DBAPIError.instance(
        sql, None, error, psycopg.Error, hide_parameters=True, connection_invalidated=broken
    )


def _arranging(compiled: SQLCompiler) -> Callable[[Parameters], Sequence[Any]]:
    """A function from parameters by name to values in order."""
    names = compiled.positiontup or []
    constants, converters = _constants(compiled)
    if names and not constants and not converters:  # three times as fast
        return itemgetter(*names) if len(names) > 1 else lambda given: (given[names[0]],)

    def arrange(parameters: Parameters) -> Sequence[Any]:
        given = {**constants, **parameters}
        return [
            converters[name](given[name]) if name in converters else given[name] for name in names
        ]

    return arrange


def _completing(compiled: SQLCompiler) -> Callable[[Parameters], Parameters]:
    """A function from parameters by name to all values by name."""
    constants, converters = _constants(compiled)

    def complete(parameters: Parameters) -> Parameters:
        given = {**constants, **parameters}
        for name, convert in converters.items():
            given[name] = convert(given[name])
        return given

    return complete


def _constants(compiled: SQLCompiler) -> tuple[dict[str, Any], dict[str, Any]]:
    """The values that the statement brings along, and the converters of its parameters' types."""
    constants = {name: value for name, value in compiled.params.items() if value is not None}
    # SQLAlchemy shows no other way to the converters of its types.
    return constants, dict(compiled._bind_processors)
