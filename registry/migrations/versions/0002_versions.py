"""Versions of an object, its level, the status of associations, queries across patients."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_ACROSS_PATIENTS = "attribute IN ('code', 'event')"
_REFERENCES = "attribute = 'reference'"


def upgrade() -> None:
    op.create_table(
        "revision",
        sa.Column("logical_id", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("entry_uuid", sa.Text(), nullable=False),
        sa.Column("patient", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("logical_id", "version", name="pk_revision"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_revision_entry_uuid", "revision", ["entry_uuid"])
    _add("document_entry", _level(), after="service_stop_time")
    _add("folder", _level(), after="last_update_time")
    status = sa.Column("status", sa.Text(), nullable=False, server_default="Approved")
    _add("association", status, after="target")
    op.create_index(
        "ix_document_entry_class_code_creation_time",
        "document_entry",
        ["class_code", "creation_time"],
    )
    op.create_index(
        "ix_document_entry_healthcare_facility_type_code_creation_time",
        "document_entry",
        ["healthcare_facility_type_code", "creation_time"],
    )
    op.create_index(
        "ix_attribute_value_code",
        "attribute_value",
        ["value"],
        sqlite_where=sa.text(_ACROSS_PATIENTS),
        postgresql_where=sa.text(_ACROSS_PATIENTS),
    )
    op.create_index(
        "ix_attribute_value_reference",
        "attribute_value",
        ["patient", "value"],
        sqlite_where=sa.text(_REFERENCES),
        postgresql_where=sa.text(_REFERENCES),
    )


def downgrade() -> None:
    op.drop_index("ix_attribute_value_reference", "attribute_value")
    op.drop_index("ix_attribute_value_code", "attribute_value")
    op.drop_index("ix_document_entry_healthcare_facility_type_code_creation_time", "document_entry")
    op.drop_index("ix_document_entry_class_code_creation_time", "document_entry")
    for table, column in (
        ("association", "status"),
        ("folder", "level"),
        ("document_entry", "level"),
    ):
        with op.batch_alter_table(table, table_kwargs={"sqlite_with_rowid": False}) as changes:
            changes.drop_column(column)
    op.drop_table("revision")


def _level() -> sa.Column[int]:
    return sa.Column("level", sa.Integer(), nullable=False, server_default="1")


def _add(table: str, column: sa.Column[Any], after: str) -> None:
    """Add a column; on SQLite before ``ebrim``, which stays last, so the table is copied."""
    if op.get_context().dialect.name != "sqlite":
        op.add_column(table, column)
        return
    copied: dict[str, Any] = {"recreate": "always", "table_kwargs": {"sqlite_with_rowid": False}}
    with op.batch_alter_table(table, **copied) as changes:
        changes.add_column(column, insert_after=after)
