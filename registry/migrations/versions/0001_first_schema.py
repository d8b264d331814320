"""The registry's first schema."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    _create_patients()
    _create_places()
    _create_objects()
    _create_relations()


def downgrade() -> None:
    op.drop_table("attribute_value")
    op.drop_table("association")
    op.drop_table("folder")
    op.drop_table("submission_set")
    op.drop_table("document_entry")
    op.drop_table("reach")
    op.drop_table("namesake")
    op.drop_table("identity")
    op.drop_table("object")
    op.drop_table("identity_message")
    op.drop_table("patient_merge")
    op.drop_table("patient")


def _create_patients() -> None:
    op.create_table(
        "patient",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("survivor", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_patient"),
    )
    op.create_index("ix_patient_survivor", "patient", ["survivor"])
    op.create_table(
        "patient_merge",
        sa.Column("subsumed", sa.Text(), nullable=False),
        sa.Column("surviving", sa.Text(), nullable=False),
        sa.Column("merged_at", sa.Text(), nullable=False),
        sa.Column("sender", sa.Text(), nullable=False),
        sa.Column("control_id", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("subsumed", name="pk_patient_merge"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "identity_message",
        sa.Column("sender", sa.Text(), nullable=False),
        sa.Column("control_id", sa.Text(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("received_at", sa.Text(), nullable=False),
        sa.Column("ack_code", sa.Text(), nullable=False),
        sa.Column("error_code", sa.Text(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("sender", "control_id", "digest", name="pk_identity_message"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_identity_message_received_at", "identity_message", ["received_at"])


def _create_places() -> None:
    op.create_table(
        "object",
        sa.Column("entry_uuid", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("patient", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("entry_uuid", name="pk_object"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "identity",
        sa.Column("unique_id", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("patient", sa.Text(), nullable=False),
        sa.Column("entry_uuid", sa.Text(), nullable=False),
        sa.Column("hash", sa.Text(), nullable=True),
        sa.Column("size", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("unique_id", name="pk_identity"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "namesake",
        sa.Column("unique_id", sa.Text(), nullable=False),
        sa.Column("entry_uuid", sa.Text(), nullable=False),
        sa.Column("patient", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("unique_id", "entry_uuid", name="pk_namesake"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "reach",
        sa.Column("entry_uuid", sa.Text(), nullable=False),
        sa.Column("patient", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("entry_uuid", "patient", name="pk_reach"),
        sqlite_with_rowid=False,
    )


def _create_objects() -> None:
    op.create_table(
        "document_entry",
        sa.Column("patient", sa.Text(), nullable=False),
        sa.Column("entry_uuid", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("object_type", sa.Text(), nullable=False),
        sa.Column("class_code", sa.Text(), nullable=True),
        sa.Column("type_code", sa.Text(), nullable=True),
        sa.Column("format_code", sa.Text(), nullable=True),
        sa.Column("healthcare_facility_type_code", sa.Text(), nullable=True),
        sa.Column("practice_setting_code", sa.Text(), nullable=True),
        sa.Column("creation_time", sa.Text(), nullable=True),
        sa.Column("service_start_time", sa.Text(), nullable=True),
        sa.Column("service_stop_time", sa.Text(), nullable=True),
        sa.Column("ebrim", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("patient", "entry_uuid", name="pk_document_entry"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "submission_set",
        sa.Column("patient", sa.Text(), nullable=False),
        sa.Column("entry_uuid", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("source_id", sa.Text(), nullable=False),
        sa.Column("content_type_code", sa.Text(), nullable=True),
        sa.Column("submission_time", sa.Text(), nullable=False),
        sa.Column("ebrim", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("patient", "entry_uuid", name="pk_submission_set"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "folder",
        sa.Column("patient", sa.Text(), nullable=False),
        sa.Column("entry_uuid", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("last_update_time", sa.Text(), nullable=False),
        sa.Column("ebrim", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("patient", "entry_uuid", name="pk_folder"),
        sqlite_with_rowid=False,
    )


def _create_relations() -> None:
    op.create_table(
        "association",
        sa.Column("patient", sa.Text(), nullable=False),
        sa.Column("entry_uuid", sa.Text(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("target", sa.Text(), nullable=False),
        sa.Column("ebrim", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("patient", "entry_uuid", name="pk_association"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_association_patient_source", "association", ["patient", "source"])
    op.create_index("ix_association_patient_target", "association", ["patient", "target"])
    op.create_table(
        "attribute_value",
        sa.Column("patient", sa.Text(), nullable=False),
        sa.Column("entry_uuid", sa.Text(), nullable=False),
        sa.Column("attribute", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint(
            "patient", "entry_uuid", "attribute", "value", name="pk_attribute_value"
        ),
        sqlite_with_rowid=False,
    )
