"""What the ``env.py`` of every actor's migrations calls.

An actor's ``migrations/env.py`` is no more than::

    from registry.schema import METADATA
    from storage.migration_env import run

    run(METADATA, "registry")
"""

from __future__ import annotations

from alembic import context
from sqlalchemy import Connection, MetaData, create_engine

from storage.migrations import VERSION_TABLE_SUFFIX


def run(metadata: MetaData, actor: str) -> None:
    """Run the migrations that Alembic asks for.

    On the connection that ``storage.migrations.migrate`` hands over; as SQL text in
    Alembic's offline mode; or, when called by the ``alembic`` command of a developer, on
    the configured ``sqlalchemy.url``.
    """
    table = f"{actor}{VERSION_TABLE_SUFFIX}"
    url = context.config.get_main_option("sqlalchemy.url")
    connection = context.config.attributes.get("connection")
    if context.is_offline_mode():
        context.configure(
            url=url, target_metadata=metadata, version_table=table, literal_binds=True
        )
        with context.begin_transaction():
            context.run_migrations()
    elif connection is not None:
        _run_on(connection, metadata, table)
    else:
        with create_engine(url or "sqlite://").begin() as own:
            _run_on(own, metadata, table)


def _run_on(connection: Connection, metadata: MetaData, table: str) -> None:
    context.configure(
        connection=connection,
        target_metadata=metadata,
        version_table=table,
        # SQLite alters a table by copying it.
        render_as_batch=connection.dialect.name == "sqlite",
        transaction_per_migration=False,
    )
    with context.begin_transaction():
        context.run_migrations()
