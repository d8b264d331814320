from __future__ import annotations

from pathlib import Path

import pytest
from alembic import command
from sqlalchemy import text

from repository import MIGRATIONS
from repository.schema import METADATA
from storage.database import Database
from storage.migrations import configuration, metadata_differs


def test_the_migrations_make_what_the_code_expects(database_url: str) -> None:
    with Database.open(database_url) as database:
        assert metadata_differs(database, METADATA) != []
        for _ in range(2):  # migrating what is up to date changes nothing
            database.migrate(MIGRATIONS)
            assert metadata_differs(database, METADATA) == []


def test_the_migrations_can_be_printed_as_sql(capsys: pytest.CaptureFixture[str]) -> None:
    config = configuration(MIGRATIONS)
    config.set_main_option("sqlalchemy.url", "postgresql+psycopg://host/name")
    command.upgrade(config, "head", sql=True)
    assert "CREATE TABLE stored_document" in capsys.readouterr().out


def test_documents_to_settle_are_found_by_their_index(tmp_path: Path) -> None:
    query = "SELECT unique_id FROM stored_document WHERE state = 'stored' AND claimed_at <= :time"
    with Database.open(f"sqlite:///{tmp_path / 'repository.db'}") as database:
        database.migrate(MIGRATIONS)
        with database.read() as connection:
            plan = connection.execute(text(f"EXPLAIN QUERY PLAN {query}"), {"time": 0}).all()
    assert "ix_stored_document_unconfirmed" in str(plan)
