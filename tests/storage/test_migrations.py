from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from textwrap import dedent

import pytest
from sqlalchemy import Column, Integer, MetaData, Table, Text, inspect, text

from storage import migrations
from storage.database import Database
from storage.errors import DatabaseBusy, DatabaseUnavailable
from storage.migrations import metadata_differs

METADATA = MetaData()
Table("thing", METADATA, Column("id", Integer, primary_key=True), Column("name", Text))

ENV = """
from sqlalchemy import MetaData
from storage.migration_env import run
run(MetaData(), "test")
"""
FIRST = """
import sqlalchemy as sa
from alembic import op
revision, down_revision, branch_labels, depends_on = "0001", None, None, None
def upgrade():
    op.create_table("thing", sa.Column("id", sa.Integer(), primary_key=True))
"""
SECOND = """
import sqlalchemy as sa
from alembic import op
revision, down_revision, branch_labels, depends_on = "0002", "0001", None, None
def upgrade():
    op.add_column("thing", sa.Column("name", sa.Text()))
"""
BROKEN = SECOND + "    raise RuntimeError('the lights went out')\n"


@pytest.fixture
def scripts(tmp_path: Path) -> Path:
    folder = tmp_path / "100% migrations"  # a sign with a meaning in ini files
    (folder / "versions").mkdir(parents=True)
    (folder / "env.py").write_text(dedent(ENV))
    (folder / "versions" / "0001_first.py").write_text(dedent(FIRST))
    return folder


def tables(database: Database) -> set[str]:
    with database.read() as connection:
        return set(inspect(connection).get_table_names())


def test_each_difference_between_tables_and_models_is_named(
    database_url: str, scripts: Path
) -> None:
    with Database.open(database_url) as database:
        assert "thing" in str(metadata_differs(database, METADATA))
        database.migrate(scripts)
        (difference,) = metadata_differs(database, METADATA)
        assert "add_column" in difference
        assert "name" in difference
        (scripts / "versions" / "0002_second.py").write_text(SECOND)
        database.migrate(scripts)
        assert metadata_differs(database, METADATA) == []
        assert metadata_differs(database, MetaData()) != []


def test_a_migration_that_fails_changes_nothing_and_can_be_tried_again(
    database_url: str, scripts: Path
) -> None:
    second = scripts / "versions" / "0002_second.py"
    second.write_text(BROKEN)
    with Database.open(database_url) as database:
        with pytest.raises(RuntimeError, match="lights"):
            database.migrate(scripts)
        assert tables(database) == set()
        second.write_text(SECOND + "\n")
        database.migrate(scripts)
        assert tables(database) == {"thing", "test_schema_version"}


def test_two_nodes_that_start_together_both_find_the_new_schema(
    database_url: str, scripts: Path
) -> None:
    """On SQLite one writer serves both; on PostgreSQL the second waits for the first."""
    together = threading.Barrier(2)
    with Database.open(database_url) as database:

        def start(_: int) -> set[str]:
            together.wait()
            database.migrate(scripts)
            return tables(database)

        with ThreadPoolExecutor(2) as pool:
            seen = list(pool.map(start, range(2)))
    assert seen == [{"thing", "test_schema_version"}] * 2


def test_a_table_that_is_held_is_left_as_it_is_and_the_remedy_told(
    postgresql_database_url: str, scripts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrations, "LOCK_TIMEOUT", "100ms")
    with Database.open(postgresql_database_url) as database:
        database.migrate(scripts)
        (scripts / "versions" / "0002_second.py").write_text(SECOND)
        with database.read() as reader:
            reader.execute(text("SELECT id FROM thing")).all()
            with pytest.raises(DatabaseBusy, match="in use and were not changed"):
                database.migrate(scripts)
        database.migrate(scripts)
        assert metadata_differs(database, METADATA) == []


def test_a_read_only_database_is_not_migrated(database_url: str, scripts: Path) -> None:
    Database.open(database_url).close()
    with (
        Database.open(database_url, read_only=True) as database,
        pytest.raises(DatabaseUnavailable),
    ):
        database.migrate(scripts)
