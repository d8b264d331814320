"""A repository's database and blobs in the two ways in which a node has them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import psycopg
import pytest
from psycopg.sql import SQL, Identifier
from sqlalchemy import Connection

from repository import MIGRATIONS
from repository.schema import METADATA
from storage.contract import Blobs
from storage.database import Database
from tests.storage.shelves import FileShelf, ObjectShelf, Shelf

_numbers = count(1)

# Files and an embedded database, or an object store and PostgreSQL, each made once for all tests.
EMBEDDED, REGIONAL = "embedded", "regional"


@pytest.fixture(scope="session", params=[EMBEDDED, REGIONAL])
def migrated(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Database]:
    if request.param == EMBEDDED:
        url = f"sqlite:///{tmp_path_factory.mktemp('repository') / 'repository.db'}"
    else:
        server: str = request.getfixturevalue("postgresql_url")
        name = f"repository_{os.getpid()}_{next(_numbers)}"
        with psycopg.connect(server.replace("+psycopg", ""), autocommit=True) as connection:
            connection.execute(SQL("CREATE DATABASE {}").format(Identifier(name)))
        url = server.replace("/postgres?", f"/{name}?")
    with Database.open(url) as database:
        database.migrate(MIGRATIONS)
        yield database


@pytest.fixture
def database(migrated: Database) -> Database:
    """A migrated database without a row."""

    def empty(connection: Connection) -> None:
        for table in METADATA.sorted_tables:
            connection.execute(table.delete())

    migrated.write(empty)
    return migrated


@pytest.fixture
def shelf(request: pytest.FixtureRequest, migrated: Database, tmp_path: Path) -> Shelf:
    """An empty store of blobs, of the kind that goes with the database."""
    if migrated.backend == "sqlite":
        return FileShelf(tmp_path / "blobs")
    found: ObjectShelf = request.getfixturevalue("object_shelf")
    return found


@pytest.fixture
def blobs(shelf: Shelf) -> Blobs:
    return shelf.store
