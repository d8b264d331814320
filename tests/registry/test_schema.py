"""The schema: models and migrations say the same, and the patient leads every key."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from alembic import command
from sqlalchemy import Connection, create_engine, text
from sqlalchemy.schema import CreateTable

from registry import MIGRATIONS
from registry.schema import METADATA
from storage.database import Database
from storage.migrations import configuration, metadata_differs

GLOBAL = {
    "identity",
    "identity_message",
    "link_change",
    "link_change_object",
    "namesake",
    "notification",
    "object",
    "patient",
    "patient_merge",
    "patient_unmerge",
    "pull_point",
    "reach",
    "revision",
}
# What the queries across patients (ITI-51) need, which name no patient, and Unsubscribe
# (ITI-52), which names the subscription; DestroyPullPoint (ITI-69), which names the pull point.
ACROSS_PATIENTS = {
    "ix_subscription_id",
    "ix_subscription_pull_point",
    "ix_attribute_value_code",
    "ix_document_entry_class_code_creation_time",
    "ix_document_entry_healthcare_facility_type_code_creation_time",
}
PATIENT_SCOPED = sorted(set(METADATA.tables) - GLOBAL)


def test_migrations_and_models_agree(migrated: Database) -> None:
    assert metadata_differs(migrated, METADATA) == []


def test_migrating_twice_changes_nothing(migrated: Database) -> None:
    migrated.migrate(MIGRATIONS)
    assert metadata_differs(migrated, METADATA) == []


def test_migrated_tables_are_laid_out_as_the_models_on_sqlite(tmp_path: Path) -> None:
    """Alembic compares columns and indexes, not WITHOUT ROWID."""
    with Database.open(f"sqlite:///{tmp_path / 'migrated.db'}") as database:
        database.migrate(MIGRATIONS)
        with database.read() as connection:
            migrated = _without_rowid(connection)
    with create_engine("sqlite://").connect() as connection:
        for table in METADATA.sorted_tables:
            connection.execute(CreateTable(table))
        assert _without_rowid(connection) == migrated
    assert "document_entry" in migrated


def _without_rowid(connection: Connection) -> set[str]:
    rows = connection.execute(text("SELECT name, sql FROM sqlite_master WHERE type = 'table'"))
    return {row.name for row in rows if re.search(r"WITHOUT ROWID\s*$", row.sql)}


def test_the_first_version_can_be_undone(database_url: str) -> None:
    def downgrade(connection: Connection) -> None:
        config = configuration(MIGRATIONS)
        config.attributes["connection"] = connection
        command.downgrade(config, "base")

    with Database.open(database_url) as database:
        database.migrate(MIGRATIONS)
        database.write(downgrade)
        assert len(metadata_differs(database, METADATA)) >= len(METADATA.tables)


@pytest.mark.parametrize("name", PATIENT_SCOPED)
def test_the_patient_leads_the_key_and_every_index(name: str) -> None:
    table = METADATA.tables[name]
    assert table.primary_key.columns[0].name == "patient"
    for index in table.indexes:
        assert index.columns[0].name == "patient" or index.name in ACROSS_PATIENTS


def test_what_was_registered_before_versions_existed_is_kept(database_url: str) -> None:
    def upgrade_to(version: str, connection: Connection) -> None:
        config = configuration(MIGRATIONS)
        config.attributes["connection"] = connection
        command.upgrade(config, version)

    with Database.open(database_url) as database:
        database.write(lambda connection: upgrade_to("0001", connection))
        database.write(_insert_first_rows)
        database.migrate(MIGRATIONS)
        with database.read() as connection:
            documents = connection.execute(text("SELECT entry_uuid, level FROM document_entry"))
            assert [tuple(row) for row in documents] == [("d", 1)]
            links = connection.execute(text("SELECT entry_uuid, status FROM association"))
            assert [tuple(row) for row in links] == [("a", "Approved")]


def _insert_first_rows(connection: Connection) -> None:
    connection.execute(
        text(
            "INSERT INTO document_entry (patient, entry_uuid, status, object_type, ebrim)"
            " VALUES ('p', 'd', 'Approved', 'Stable', :ebrim)"
        ),
        {"ebrim": b"<d/>"},
    )
    connection.execute(
        text(
            "INSERT INTO association (patient, entry_uuid, type, source, target, ebrim)"
            " VALUES ('p', 'a', 't', 's', 'd', :ebrim)"
        ),
        {"ebrim": b"<a/>"},
    )


def test_objects_are_compressed_by_lz4_on_postgresql(postgresql_database_url: str) -> None:
    columns = text(
        "SELECT attrelid::regclass::text, attcompression FROM pg_attribute WHERE attname = 'ebrim'"
    )
    with Database.open(postgresql_database_url) as database:
        database.migrate(MIGRATIONS)
        with database.read() as connection:
            found = {str(name): str(method) for name, method in connection.execute(columns)}
    assert found == dict.fromkeys(
        ("association", "document_entry", "folder", "submission_set"), "l"
    )
