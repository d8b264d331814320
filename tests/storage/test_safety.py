from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest
from psycopg.sql import SQL, Identifier

from storage import safety
from storage.database import Database
from storage.safety import Unsafe, release, unsafe_settings


def found_in(url: str) -> list[Unsafe]:
    with Database.open(url) as database, database.read() as connection:
        return unsafe_settings(connection)


@contextmanager
def server_setting(url: str, name: str, value: str) -> Iterator[None]:
    """The whole server with another setting, for as long as the block lasts."""
    with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute(SQL("ALTER SYSTEM SET {} = {}").format(Identifier(name), value))
        _reload(connection, url, name, value)
        try:
            yield
        finally:
            connection.execute(SQL("ALTER SYSTEM RESET {}").format(Identifier(name)))
            _reload(connection, url, name, "on")


def _reload(connection: psycopg.Connection, url: str, name: str, value: str) -> None:
    """The server takes the setting over a moment later: ask until new sessions see it."""
    connection.execute("SELECT pg_reload_conf()")
    deadline = time.monotonic() + 20.0
    while time.monotonic() < deadline:
        with psycopg.connect(url.replace("+psycopg", "")) as other:
            if other.execute("SELECT current_setting(%s)", [name]).fetchone() == (value,):
                return
    raise AssertionError(f"{name} did not become {value}")


def test_a_server_as_it_comes_is_safe(database_url: str) -> None:
    assert found_in(database_url) == []


@pytest.mark.parametrize("name", ["fsync", "full_page_writes", "synchronous_commit"])
def test_a_server_that_may_lose_commits_is_found(postgresql_url: str, name: str) -> None:
    with server_setting(postgresql_url, name, "off"):
        assert found_in(postgresql_url) == [Unsafe(name, "off", "on")]
    assert found_in(postgresql_url) == []


def test_what_our_own_database_sets_counts(postgresql_database_url: str) -> None:
    with psycopg.connect(postgresql_database_url.replace("+psycopg", "")) as connection:
        name = Identifier(connection.info.dbname)
        connection.execute(SQL("ALTER DATABASE {} SET synchronous_commit = off").format(name))
    assert found_in(postgresql_database_url) == [Unsafe("synchronous_commit", "off", "on")]


@pytest.mark.parametrize("encoding", ["SQL_ASCII", "LATIN1"])
def test_an_encoding_without_room_for_every_name_is_found(
    postgresql_url: str, encoding: str
) -> None:
    name = f"test_{encoding.lower()}_{os.getpid()}"
    with psycopg.connect(postgresql_url.replace("+psycopg", ""), autocommit=True) as admin:
        form = f"ENCODING '{encoding}' LOCALE 'C' TEMPLATE template0"
        admin.execute(f"CREATE DATABASE {name} {form}")
        try:
            found = found_in(postgresql_url.replace("/postgres?", f"/{name}?"))
        finally:
            admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
    assert found == [Unsafe("server_encoding", encoding, "UTF8")]


def test_a_standby_is_found(postgresql_database_url: str) -> None:
    plain = postgresql_database_url.replace("+psycopg", "")
    with psycopg.connect(plain) as connection:  # a function of ours that says what a standby would
        name = Identifier(connection.info.dbname)
        connection.execute(
            "CREATE FUNCTION pg_is_in_recovery() RETURNS boolean LANGUAGE sql AS 'SELECT true'"
        )
        connection.execute(
            SQL("ALTER DATABASE {} SET search_path = public, pg_catalog").format(name)
        )
    assert found_in(postgresql_database_url) == [Unsafe("pg_is_in_recovery", "on", "off")]


def test_an_old_release_is_found(postgresql_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(safety, "OLDEST_POSTGRESQL", 99)
    [old] = found_in(postgresql_url)
    assert old.setting == "server_version"
    assert old.value.split(".")[0].isdigit()


def test_the_release_is_told_by_name(database_url: str) -> None:
    with Database.open(database_url) as database, database.read() as connection:
        name, number = release(connection).split()
    assert name == {"sqlite": "SQLite", "postgresql": "PostgreSQL"}[database.backend]
    assert number[0].isdigit()
