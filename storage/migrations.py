"""Schema migrations with Alembic, without an ini file.

Each actor has a folder with ``env.py`` (two lines, see ``storage.migration_env``) and
``versions/``. Migrating is one durable ``Database.write``: on both engines the whole way
from the old schema to the new one is one transaction, so a crash in the middle changes
nothing and the next start begins again.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, MetaData, text

from storage.errors import DatabaseBusy

if TYPE_CHECKING:
    from storage.database import Database

# Every actor's version table ends so: comparing leaves those tables alone.
VERSION_TABLE_SUFFIX = "_schema_version"

# A migration must not queue behind a long transaction while every other statement queues
# behind it: it gives up after five seconds, and the operator tries again.
LOCK_TIMEOUT = "5s"

# Rewriting a table of a region may take long; beyond this something is wrong.
STATEMENT_TIMEOUT = "30min"

# Any number nobody else uses: two nodes that start together migrate one after the other.
_ADVISORY_LOCK = 0x4B6F736D6F73

# Alembic keeps the migration that runs in a global variable: one at a time in a process.
_one_at_a_time = threading.Lock()


def configuration(script_location: str | Path) -> Config:
    """The Alembic configuration for a folder of migrations."""
    config = Config()
    config.set_main_option("script_location", str(script_location).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config


def migrate(database: Database, script_location: str | Path) -> None:
    """Bring ``database`` to the newest version in ``script_location``; idempotent.

    Raises DatabaseBusy if a lock cannot be had in five seconds (PostgreSQL), and
    DatabaseUnavailable if the database is read-only or away.
    """
    config = configuration(script_location)
    try:
        with _one_at_a_time:
            database.write(lambda connection: _upgrade(connection, config))
    except DatabaseBusy as error:
        raise DatabaseBusy(
            f"{error}: the tables are in use and were not changed; try again, "
            "or look in pg_stat_activity for who holds them"
        ) from error


def _upgrade(connection: Connection, config: Config) -> None:
    if connection.dialect.name == "postgresql":
        connection.execute(text(f"SET LOCAL statement_timeout = '{STATEMENT_TIMEOUT}'"))
        connection.execute(text(f"SELECT pg_advisory_xact_lock({_ADVISORY_LOCK})"))
        connection.execute(text(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


@dataclass(frozen=True, slots=True)
class SchemaVersion:
    """The version a database has, None before its first migration, and the newest there is."""

    present: str | None
    newest: str | None


def schema_version(database: Database, script_location: str | Path, actor: str) -> SchemaVersion:
    """How far the migrations of ``actor`` have gone in ``database``."""
    newest = ScriptDirectory.from_config(configuration(script_location)).get_current_head()
    table = f"{actor}{VERSION_TABLE_SUFFIX}"
    with database.read() as connection:
        context = MigrationContext.configure(connection, opts={"version_table": table})
        return SchemaVersion(context.get_current_revision(), newest)


def metadata_differs(database: Database, metadata: MetaData, *, shared: bool = False) -> list[str]:
    """Each difference between the tables in ``database`` and ``metadata``, in words.

    Empty if the migrations and the models say the same: every actor has a test for it. A
    database that actors ``share`` has tables that are not those of ``metadata``.
    """

    def is_ours(item: Any, name: str | None, kind: str, *_: Any) -> bool:
        if kind != "table":
            return True
        foreign = shared and name not in metadata.tables
        return not (foreign or (name or "").endswith(VERSION_TABLE_SUFFIX))

    with database.read() as connection:
        context = MigrationContext.configure(
            connection, opts={"include_object": is_ours, "compare_server_default": True}
        )
        return [str(difference) for difference in compare_metadata(context, metadata)]
