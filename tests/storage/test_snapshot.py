"""Databases held still together and copied, on both engines, whatever is committed meanwhile."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, closing
from pathlib import Path

import pytest
from psycopg.conninfo import conninfo_to_dict
from sqlalchemy import Connection, text

from storage.database import Database
from storage.errors import DatabaseUnavailable
from storage.snapshot import ATTEMPTS, hold, is_empty, load


class Meddled(Database):
    """A database to which something happens before each reading begins."""

    before: Callable[[], object] = staticmethod(lambda: None)

    def read(self, *, snapshot: bool = True) -> AbstractContextManager[Connection]:
        self.before()
        return super().read(snapshot=snapshot)


@pytest.fixture
def databases(database_url: str) -> Iterator[list[Meddled]]:
    """Two that look at the same place, with a table for each: entries refer to rows."""
    with ExitStack() as stack:
        found = [Meddled.open(database_url), Meddled.open(database_url, read_only=True)]
        for database in found:
            stack.enter_context(database)
        for table in ("entries", "rows"):
            execute(found[0], f"CREATE TABLE {table} (x INTEGER)")
        yield [database for database in found if isinstance(database, Meddled)]


def execute(database: Database, statement: str) -> None:
    database.write(lambda connection: connection.execute(text(statement)).close())


def count(connection: Connection, table: str) -> int:
    found: int = connection.execute(text(f"SELECT count(*) FROM {table}")).scalar_one()
    return found


def register(database: Database) -> None:
    """What a submission does: first the row, then the entry that refers to it."""
    execute(database, "INSERT INTO rows VALUES (1)")
    execute(database, "INSERT INTO entries VALUES (1)")


def test_what_is_held_does_not_see_what_comes_later(databases: list[Meddled]) -> None:
    with hold(databases) as held:
        register(databases[0])
        assert [count(one.connection, "entries") for one in held] == [0, 0]


def test_who_changed_while_the_others_were_begun_is_begun_again(databases: list[Meddled]) -> None:
    tries = []

    def once() -> None:
        tries.append(1)
        if len(tries) == 1:
            register(databases[0])

    databases[1].before = once
    with hold(databases) as held:
        assert [count(one.connection, "entries") for one in held] == [1, 1]
    assert len(tries) == 2


def test_an_entry_never_lacks_its_row_even_when_there_is_no_quiet_moment(
    databases: list[Meddled], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert ATTEMPTS > 3
    monkeypatch.setattr("storage.snapshot.ATTEMPTS", 3)

    def always() -> None:
        register(databases[0])

    for database in databases:
        database.before = always
    with hold(databases) as (first, second):
        assert 0 < count(first.connection, "entries") <= count(second.connection, "rows")


def test_a_copy_is_loaded_where_there_is_nothing(
    databases: list[Meddled], database_url: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    register(databases[0])
    with hold(databases[:1]) as [held]:
        register(databases[0])
        held.copy(tmp_path / "copy")
    target = f"sqlite:///{tmp_path / 'new' / 'loaded.db'}"
    if not database_url.startswith("sqlite"):
        request.getfixturevalue("postgresql_url")
        execute(databases[0], "DROP TABLE entries")
        execute(databases[0], "DROP TABLE rows")
        target = database_url
    assert is_empty(target)
    load(tmp_path / "copy", target)
    assert not is_empty(target)
    with Database.open(target, read_only=True) as loaded, loaded.read() as connection:
        assert count(connection, "entries") == count(connection, "rows") == 1


def test_a_damaged_database_makes_no_copy(tmp_path: Path) -> None:
    file = tmp_path / "a.db"
    with Database.open(f"sqlite:///{file}") as database:
        execute(database, "CREATE TABLE rows (x TEXT)")
        execute(database, "CREATE INDEX ix ON rows (x)")
        for number in range(200):
            execute(database, f"INSERT INTO rows VALUES ('{number:0>200}')")
    with closing(sqlite3.connect(file)) as connection:
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        size = connection.execute("PRAGMA page_size").fetchone()[0]
    with file.open("r+b") as stream:
        stream.seek(size * (pages - 1))
        stream.write(b"\xff" * size)
    with (
        Database.open(f"sqlite:///{file}", read_only=True) as database,
        hold([database]) as [held],
        pytest.raises(DatabaseUnavailable, match="itself is damaged"),
    ):
        held.copy(tmp_path / "copy")


def test_without_the_programs_of_postgresql_the_remedy_is_told(
    postgresql_database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with (
        Database.open(postgresql_database_url, read_only=True) as database,
        hold([database]) as [held],
        pytest.raises(DatabaseUnavailable, match="pg_dump is not on the PATH: install"),
    ):
        held.copy(tmp_path / "copy")


def test_a_password_goes_by_the_environment_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "pg_restore"
    program.write_text('#!/bin/sh\necho "$PGPASSWORD" "$@" > "$(dirname "$0")/called"\n')
    program.chmod(0o700)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    load(tmp_path / "copy", "postgresql://user:s3%40cret@localhost:5433/name?sslmode=require")
    password, *called = (tmp_path / "called").read_text().split()
    assert password == "s3@cret"
    place = " ".join(called).partition("--dbname=")[2]
    assert conninfo_to_dict(place) == {
        "user": "user",
        "host": "localhost",
        "port": "5433",
        "dbname": "name",
        "sslmode": "require",
    }
